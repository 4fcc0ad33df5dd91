"""Two customers turn out to be one: everything the one has moves to the other, and can move back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils.translation import gettext as _

from customers.models import Customer
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import book
from loyalty.errors import AlreadyMerged, KeyReused
from loyalty.ledger import belongings
from loyalty.ledger.due import repay, settle
from loyalty.ledger.guard import refuse_frozen
from loyalty.ledger.holds import carry_over, set_down
from loyalty.ledger.terms import checked_reason, moment_of
from loyalty.models import Account, Entry, ExtendedLot, Hold, Lot, LotSpend, Merge


def merge(
    *,
    customer: Customer,
    into: Customer,
    key: str,
    actor: User | None = None,
    reason: str = "",
    effective_at: datetime | None = None,
) -> list[Merge]:
    """Move what ``customer`` has, in every programme, to ``into``: usable and pending points with their ends, open holds,
    debt, and what they have besides (``belongings``): redemptions, vouchers, memberships, friends, the place in a
    household. One ``Merge`` per programme in which they have anything; none of the sum is lost or made.

    Raises ``AlreadyMerged`` when they were merged before and that stands, ``AccountFrozen`` when one of the accounts is
    frozen. The same request again returns what it made (``replayed``).
    """
    if customer.pk == into.pk:
        raise InvalidInput(_("These are the same customer. Choose somebody else."), code="same_customer")
    if not key or len(key) > 200:
        raise InvalidInput(_("A merge needs a key of 1 to 200 characters."), code="invalid_key")
    text = checked_reason(reason)
    moment = moment_of(effective_at)

    def before() -> list[Merge]:
        found = list(Merge.objects.filter(key=key).select_related("from_account", "into_account").order_by("pk"))
        for one in found:
            if (one.from_account.customer_id, one.into_account.customer_id) != (customer.pk, into.pk):
                raise KeyReused(_("This key was used for another merge. Send a new key for a new request."), key=key)
            one.replayed = True
        return found

    try:
        with transaction.atomic():
            if found := before():
                return found
            belongings.open_accounts(customer)
            sources = list(Account.objects.filter(customer=customer).order_by("pk"))
            _open_targets(sources, into)
            targets = {one.programme_id: one for one in Account.objects.filter(customer=into)}
            book.hold_ids([one.pk for one in sources] + [targets[one.programme_id].pk for one in sources])
            if found := before():
                return found
            made = []
            for source in sources:
                target = targets[source.programme_id]
                for one in (source, target):
                    one.refresh_from_db()
                    refuse_frozen(one)
                if Merge.objects.filter(from_account=source, undone_at=None).exists():
                    raise AlreadyMerged(
                        _("The points of %(customer)s were merged already. Undo that merge first.")
                        % {"customer": customer}
                    )
                if _leads_back(target, source):
                    raise AlreadyMerged(
                        _("The points of %(into)s were merged into %(customer)s. Undo that merge first.")
                        % {"customer": customer, "into": into}
                    )
                row = Merge.objects.create(
                    programme_id=source.programme_id, key=key, from_account=source, into_account=target, reason=text,
                    actor=actor,
                )  # fmt: skip
                made.append(_carry(row, source, target, moment))
            return made
    except IntegrityError:
        if found := before():
            return found
        raise


def unmerge(
    *, merge: Merge, actor: User | None = None, reason: str = "", effective_at: datetime | None = None
) -> Merge:
    """Undo a merge: what is left of the moved lots goes back to the lots it came from, holds, debt and belongings with it.

    With nothing done in between, both accounts are as they were. What was spent meanwhile stays spent; the sum of both
    stays the same. Raises ``AlreadyMerged`` when it was undone before.
    """
    text = checked_reason(reason)
    moment = moment_of(effective_at)
    with transaction.atomic():
        source = Account.objects.get(pk=merge.from_account_id)
        target = Account.objects.get(pk=merge.into_account_id)
        book.hold_ids([source.pk, target.pk])
        if Merge.objects.filter(pk=merge.pk, undone_at=None).update(undone_at=clock.now(), undone_by=actor) != 1:
            raise AlreadyMerged(_("This merge was undone already."), code="already_undone")
        for one in (source, target):
            refuse_frozen(one)
        settle([source, target], moment)
        holds = list(
            Hold.objects.filter(account=target, state=Hold.State.OPEN, moved_from__account=source).order_by("pk")
        )
        for hold in holds:
            carry_over(hold, source=target, moment=moment)
        _undo_repayments(merge, target, moment, actor)
        _give_back(merge, source, target, moment, actor, text)
        for hold in holds:
            set_down(hold, target=source, key=f"unmerge:{merge.pk}:{hold.pk}", moment=moment)
        settle([source, target], moment)
        belongings.give_back(merge, source, target)
    merge.refresh_from_db()
    return merge


def follow_due(*, as_of: datetime, low: int, high: int) -> int:
    """Move along what arrived on merged accounts of customers with ids in ``[low, high)`` since; how many accounts.

    A refund of an order from before the merge, or points that were earned under the old number, land on the old account.
    """
    late = (
        Merge.objects.filter(undone_at=None, from_account__customer_id__gte=low, from_account__customer_id__lt=high)
        .filter(Q(from_account__balance__gt=0) | Q(from_account__pending__gt=0) | Q(from_account__debt__gt=0))
        .filter(from_account__frozen_at=None, into_account__frozen_at=None)
        .select_related("from_account", "into_account")
        .order_by("pk")
    )
    count = 0
    for row in late:
        with transaction.atomic():
            book.hold_ids([row.from_account_id, row.into_account_id])
            if Merge.objects.filter(pk=row.pk, undone_at=None).exists():
                _carry(row, row.from_account, row.into_account, as_of)
                count += 1
    return count


def _open_targets(sources: Sequence[Account], into: Customer) -> None:
    Account.objects.bulk_create(
        [Account(programme_id=one.programme_id, customer=into) for one in sources], ignore_conflicts=True
    )


def _leads_back(target: Account, source: Account) -> bool:
    """Following the merges that stand from ``target``, does one come to ``source``?"""
    at: int | None = target.pk
    while at is not None:
        at = Merge.objects.filter(from_account=at, undone_at=None).values_list("into_account", flat=True).first()
        if at == source.pk:
            return True
    return False


def _carry(row: Merge, source: Account, target: Account, moment: datetime) -> Merge:
    """Move everything the source has at this moment; both are held."""
    settle([source, target], moment)
    holds = list(Hold.objects.filter(account=source, state=Hold.State.OPEN).order_by("pk"))
    for hold in holds:
        carry_over(hold, source=source, moment=moment)
    source.refresh_from_db()
    told = {"points": source.balance, "pending": source.pending, "debt": source.debt}
    turn = (
        Entry.objects.filter(account=source, customer_id=source.customer_id).order_by("-pk").values_list("pk").first()
    )
    key = f"merge:{row.pk}:{turn[0] if turn else 0}"
    _carry_lots(row, source, target, key, moment)
    _carry_debt(row, source, target, source.debt, key, moment)
    for hold in holds:
        set_down(hold, target=target, key=f"merge:{row.pk}:{hold.pk}", moment=moment)
    repay(moment)
    belongings.carry(row, source, target)
    held = sum(hold.points for hold in holds)
    told["points"] -= held
    Merge.objects.filter(pk=row.pk).update(held=F("held") + held, **{name: F(name) + n for name, n in told.items()})
    row.refresh_from_db()
    return row


def _move(row: Merge, account: Account, key: str, points: int, moment: datetime, **told: object) -> book.Move:
    other = row.into_account if account.pk == row.from_account_id else row.from_account
    return book.Move(
        key=key,
        kind=Entry.Kind.TRANSFER.value,
        programme_id=account.programme_id,
        account_id=account.pk,
        customer_id=account.customer_id,
        points=points,
        effective_at=moment,
        system="moved",
        reason=row.reason,
        explanation=json.dumps({"rule": "merge", "customer": other.customer_id, **told}),
        source_type="merge",
        source_id=str(row.pk),
        actor_id=row.actor_id,
    )


def _carry_lots(row: Merge, source: Account, target: Account, key: str, moment: datetime) -> None:
    lots = list(Lot.objects.filter(account=source, customer_id=source.customer_id, remaining__gt=0).order_by("pk"))
    if not lots:
        return
    out = _move(row, source, f"{key}:out", -sum(lot.remaining for lot in lots), moment)
    out.pending = -sum(lot.remaining for lot in lots if lot.activated_at is None)
    out.available = out.points - out.pending
    moves = [out]
    for lot in lots:
        move = _move(row, target, f"{key}:in:{lot.pk:012d}", lot.remaining, moment, lot=lot.pk)
        if lot.activated_at is None:
            move.pending = lot.remaining
        else:
            move.available = lot.remaining
        move.lot_amount, move.active_at, move.expires_at = lot.remaining, lot.active_at, lot.expires_at
        moves.append(move)
    book.clear()
    book.stage(moves)
    book.stage_takes((out.key, lot.pk, lot.remaining) for lot in lots)
    book.post()


def _carry_debt(row: Merge, source: Account, target: Account, debt: int, key: str, moment: datetime) -> None:
    """Let ``target`` owe what ``source`` owes."""
    if not debt:
        return
    gone = _move(row, source, f"{key}:debt:out", debt, moment)
    gone.debt = debt
    owed = _move(row, target, f"{key}:debt:in", -debt, moment, debt=debt)
    owed.debt = -debt
    book.clear()
    book.stage([gone, owed])
    book.post()


def _arrived(row: Merge, target: Account) -> list[Entry]:
    """The entries by which points and debts of this merge arrived, in the order they came."""
    return list(
        Entry.objects.filter(account=target, customer_id=target.customer_id, source_type="merge", source_id=str(row.pk))
        .exclude(explanation__has_key="back")
        .select_related("lot")
        .order_by("pk")
    )


def _undo_repayments(row: Merge, target: Account, moment: datetime, actor: User | None) -> None:
    """Debts that moved points repaid, or that moved debts were repaid from, are owed again: up to what the merge brought.

    Only repayments since the merge can be meant, the last first.
    """
    arrived = _arrived(row, target)
    if not arrived:
        return
    moved_debt = -sum(one.points for one in arrived if one.points < 0)
    lots = {one.lot.pk for one in arrived if one.points > 0}
    repaid = list(
        Entry.objects.filter(
            account=target, customer_id=target.customer_id, kind=Entry.Kind.REPAY, pk__gt=arrived[0].pk,
            reversed_by__isnull=True,
        ).order_by("-pk")
    )  # fmt: skip
    for one in repaid:
        took = dict(LotSpend.objects.filter(entry=one).values_list("lot_id", "points"))
        if not lots & set(took) and moved_debt <= 0:
            continue
        moved_debt -= one.points
        move = _move(row, target, f"merge:{row.pk}:repay:{one.pk}", one.points, moment, back=True)
        move.kind, move.system = Entry.Kind.CANCEL.value, ""
        move.available, move.debt, move.reverses_id = one.points, -one.points, one.pk
        move.actor_id = actor.pk if actor else None
        book.clear()
        book.stage([move])
        book.stage_takes((move.key, lot, -points) for lot, points in took.items())
        book.post()


def _keep_extension(lot: Lot, home: int) -> None:
    """What was extended while it was merged stays so where it goes back to."""
    last = ExtendedLot.objects.filter(lot=lot).order_by("-pk").first()
    if last is None or lot.expires_at is None:
        return
    to = Lot.objects.get(pk=home)
    if to.expires_at is None or to.expires_at == lot.expires_at:
        return
    ExtendedLot.objects.create(
        extension_id=last.extension_id, lot=to, customer_id=to.customer_id, points=lot.remaining, was=to.expires_at,
        becomes=lot.expires_at,
    )  # fmt: skip
    Lot.objects.filter(pk=home).update(expires_at=lot.expires_at)


def _give_back(row: Merge, source: Account, target: Account, moment: datetime, actor: User | None, reason: str) -> None:
    """What is left of the moved lots back into the lots they were, and as much of the moved debt as is still owed."""
    arrived = _arrived(row, target)
    homes = {one.lot.pk: int(one.explanation["lot"]) for one in arrived if one.points > 0}
    lots = list(Lot.objects.filter(pk__in=homes, remaining__gt=0).order_by("pk"))
    key = f"unmerge:{row.pk}"
    if lots:
        points = sum(lot.remaining for lot in lots)
        pending = sum(lot.remaining for lot in lots if lot.activated_at is None)
        out = _move(row, target, f"{key}:out", -points, moment, back=True)
        home = _move(row, source, f"{key}:in", points, moment, back=True)
        out.pending, out.available = -pending, pending - points
        home.pending, home.available = pending, points - pending
        for move in (out, home):
            move.actor_id, move.reason = actor.pk if actor else None, reason
        book.clear()
        book.stage([out, home])
        book.stage_takes((out.key, lot.pk, lot.remaining) for lot in lots)
        # A lot can have been carried over twice: what came back into it after the merge followed at night.
        back: Counter[int] = Counter()
        for lot in lots:
            back[homes[lot.pk]] += lot.remaining
        book.stage_takes((home.key, pk, -left) for pk, left in sorted(back.items()))
        book.post()
        for lot in lots:
            if lot.activated_at is not None:
                Lot.objects.filter(pk=homes[lot.pk], activated_at=None).update(activated_at=lot.activated_at)
            _keep_extension(lot, homes[lot.pk])
    target.refresh_from_db()
    owed = -sum(one.points for one in arrived if one.points < 0)
    debt = min(owed, target.debt)
    if debt:
        gone = _move(row, target, f"{key}:debt:out", debt, moment, back=True)
        gone.debt = debt
        again = _move(row, source, f"{key}:debt:in", -debt, moment, back=True)
        again.debt = -debt
        book.clear()
        book.stage([gone, again])
        book.post()

"""What is undone: a redemption goes back to its lots, an earning is taken back, also when it was spent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import Sum
from django.utils.translation import gettext as _

from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import book
from loyalty.errors import KeyReused, NotReversible
from loyalty.ledger.due import settle
from loyalty.ledger.terms import TakeBack, checked_key, checked_reason, footprint, moment_of, positive
from loyalty.models import Account, Entry, Hold, Lot, LotSpend


def cancel_redemption(
    *, entry: Entry, key: str, actor: User | None = None, reason: str = "", effective_at: datetime | None = None
) -> Entry:
    """Give the points of a redemption (or of a deduction by hand) back to the lots they came from, ends unchanged.

    What expired meanwhile comes back expired: the history shows both. Raises ``NotReversible`` for a second time.
    """
    if entry.kind not in (Entry.Kind.SPEND, Entry.Kind.ADJUST) or entry.points > 0:
        raise NotReversible(_("Only a redemption or a deduction can be given back."))
    moment = moment_of(effective_at)
    text = checked_reason(reason)
    checked_key(key)

    def before() -> Entry | None:
        return footprint(entry.programme, key, Entry.Kind.CANCEL, entry.customer_id, -entry.points, text)

    try:
        with transaction.atomic():
            if found := before():
                return found
            book.hold_ids([entry.account_id])
            if found := before():
                return found
            if Entry.objects.filter(reverses=entry).exists():
                raise NotReversible(_("These points were given back already."))
            book.stage(
                [
                    book.Move(
                        key=checked_key(key),
                        kind=Entry.Kind.CANCEL.value,
                        programme_id=entry.programme_id,
                        account_id=entry.account_id,
                        customer_id=entry.customer_id,
                        points=-entry.points,
                        effective_at=moment,
                        available=-entry.points,
                        system="redeemed" if entry.kind == Entry.Kind.SPEND else "adjusted",
                        reason=text,
                        source_type="entry",
                        source_id=str(entry.pk),
                        actor_id=actor.pk if actor else None,
                        reverses_id=entry.pk,
                    )
                ]
            )
            book.stage_takes((key, lot, -points) for lot, points in _taken_from(entry).items())
            book.post()
            settle([Account.objects.get(pk=entry.account_id)], moment)
    except IntegrityError:
        if found := before():
            return found
        raise
    return Entry.objects.get(programme_id=entry.programme_id, key=key)


def _taken_from(entry: Entry) -> dict[int, int]:
    """Points by lot that a redemption took. One that posts a hold took what the hold did, less what was freed of it."""
    hold = Hold.objects.filter(spend=entry).first()
    of = [entry.pk] if hold is None else [pk for pk in (hold.entry_id, hold.release_id) if pk]
    rows = LotSpend.objects.filter(entry__in=of).values_list("lot_id").annotate(Sum("points")).order_by("lot_id")
    return {lot: points for lot, points in rows if points}


def reverse(
    *,
    entry: Entry,
    key: str,
    points: int | None = None,
    actor: User | None = None,
    reason: str = "",
    effective_at: datetime | None = None,
) -> Entry:
    """Take back an earning or a gift by hand, in part (``points``) or all that is left of it.

    From its own lot first, then from the other points to spend; what was spent already becomes a debt. Returns the
    ``reverse`` entry, or the ``debt`` entry if nothing was left to take. What expired is gone and is not taken twice.
    """
    if entry.kind not in (Entry.Kind.EARN, Entry.Kind.ADJUST) or entry.points < 0:
        raise NotReversible(_("Only points that were earned or given can be taken back."))
    if points is not None:
        positive(points)
    moment = moment_of(effective_at)
    with transaction.atomic():
        book.hold_ids([entry.account_id])
        found = Entry.objects.filter(programme_id=entry.programme_id, key=checked_key(key)).first()
        if found is not None:
            # One request may have become two entries (taken back, owed): together they are its points.
            both = Entry.objects.filter(programme_id=entry.programme_id, key__in=[key, f"{key}:debt"])
            sums = both.aggregate(points=Sum("points"))
            same = found.takes_back_id == entry.pk and found.reason == checked_reason(reason)
            if not same or (points is not None and sums["points"] != -points):
                raise KeyReused(
                    _("This key was used for another movement of points. Send a new key for a new request."), key=key
                )
            found.replayed = True
            return found
        taken, limit = _taken_back([entry])[entry.pk]
        left = limit - taken
        if left <= 0:
            raise NotReversible(_("Nothing is left to take back: these points were taken back or have expired."))
        if points is not None and points > left:
            raise InvalidInput(
                _("At most %(left)s points can be taken back here.") % {"left": left}, code="invalid_points", left=left
            )
        reverse_many(
            [
                TakeBack(
                    entry_id=entry.pk,
                    up_to=taken + (points or left),
                    key=key,
                    effective_at=moment,
                    reason=checked_reason(reason),
                    source_type="entry",
                    source_id=str(entry.pk),
                    actor_id=actor.pk if actor else None,
                )
            ]
        )
        return Entry.objects.get(programme_id=entry.programme_id, key=key)


def undo(*, entry: Entry, key: str, points: int | None = None, actor: User | None = None, reason: str = "") -> Entry:
    """What "undo this line" means for its kind: a redemption or deduction is given back, an earning or gift taken back."""
    if entry.points > 0:
        return reverse(entry=entry, key=key, points=points, actor=actor, reason=reason)
    if points is not None and points != -entry.points:
        raise InvalidInput(_("A redemption is given back as a whole. Leave the points out."), code="invalid_points")
    return cancel_redemption(entry=entry, key=key, actor=actor, reason=reason)


def left_to_take_back(entry: Entry) -> int:
    """How many points of an earning or gift can still be taken back; 0 for every other kind."""
    if entry.kind not in (Entry.Kind.EARN, Entry.Kind.ADJUST) or entry.points < 0:
        return 0
    taken, limit = _taken_back([entry])[entry.pk]
    return max(0, limit - taken)


def _taken_back(entries: Sequence[Entry]) -> dict[int, tuple[int, int]]:
    """Per earning: points taken back so far, and the most that can be: what was earned without what expired of it."""
    taken: dict[int, int] = {}
    gone: dict[int, int] = {}
    for part in batches.of([entry.pk for entry in entries], 500):
        back = Entry.objects.filter(takes_back__in=part).values_list("takes_back").annotate(Sum("points")).order_by()
        taken.update((pk, -points) for pk, points in back)
        expired = LotSpend.objects.filter(lot__entry__in=part, entry__kind=Entry.Kind.EXPIRE)
        gone.update(expired.values_list("lot__entry").annotate(Sum("points")).order_by())
    return {entry.pk: (taken.get(entry.pk, 0), entry.points - gone.get(entry.pk, 0)) for entry in entries}


def reverse_many(rows: Sequence[TakeBack]) -> int:
    """Take back parts of many earnings in one transaction; how many rows moved points. A known key is passed over.

    Set-based where an earning's own lot still holds enough, which is nearly always; the others one by one.
    """
    if not rows:
        return 0
    with transaction.atomic():
        ids = sorted({row.entry_id for row in rows})
        entries = {
            entry.pk: entry for part in batches.of(ids, 500) for entry in Entry.objects.filter(pk__in=part).only(
                "pk", "programme_id", "account_id", "customer_id", "points"
            )
        }  # fmt: skip
        book.hold_ids({entry.account_id for entry in entries.values()})
        lots = {lot.entry_id: lot for part in batches.of(ids, 500) for lot in Lot.objects.filter(entry__in=part)}
        programmes = {entry.programme_id for entry in entries.values()}
        known = {
            (programme, key)
            for part in batches.of([row.key for row in rows], 500)
            for programme, key in Entry.objects.filter(programme__in=programmes, key__in=part).values_list(
                "programme_id", "key"
            )
        }
        state = _taken_back(list(entries.values()))
        taken = {pk: one for pk, (one, _limit) in state.items()}
        moves: list[book.Move] = []
        takes: list[tuple[str, int, int]] = []
        hard: list[tuple[book.Move, Lot, int]] = []
        for row in rows:
            entry = entries[row.entry_id]
            points = min(row.up_to, state[entry.pk][1]) - taken[entry.pk]
            if points <= 0 or (entry.programme_id, row.key) in known:
                continue
            known.add((entry.programme_id, row.key))
            taken[entry.pk] += points
            lot = lots[entry.pk]
            own = min(points, lot.remaining)
            lot.remaining -= own
            waits = lot.activated_at is None
            move = book.Move(
                key=row.key,
                kind=Entry.Kind.REVERSE.value,
                programme_id=entry.programme_id,
                account_id=entry.account_id,
                customer_id=entry.customer_id,
                points=-own,
                effective_at=row.effective_at,
                pending=-own if waits else 0,
                available=0 if waits else -own,
                system="reversed",
                reason=row.reason,
                explanation=json.dumps(row.explanation),
                source_type=row.source_type,
                source_id=row.source_id,
                actor_id=row.actor_id,
                takes_back_id=entry.pk,
            )
            if own == points:
                moves.append(move)
                takes.append((row.key, lot.pk, own))
            else:
                hard.append((move, lot, points))
        book.stage(moves)
        book.stage_takes(takes)
        book.post()
        for move, lot, points in hard:
            _take_back_and_owe(move, lot, points)
        return len(moves) + len(hard)


def _take_back_and_owe(move: book.Move, lot: Lot, points: int) -> None:
    """What the own lot lacks comes from the other points to spend, and what those lack becomes a debt."""
    # Read again: the one before may have taken from this very lot.
    lot.refresh_from_db(fields=["remaining", "activated_at"])
    balance = Account.objects.values_list("balance", flat=True).get(pk=move.account_id)
    own = min(points, lot.remaining)
    waits = lot.activated_at is None
    rest = points - own
    other = min(rest, balance if waits else balance - own)
    move.points = -own - other
    move.pending = -own if waits else 0
    move.available = -other if waits else -own - other
    move.burn = other
    book.clear()
    owed = book.Move(
        key=f"{move.key}:debt" if own + other else move.key,
        kind=Entry.Kind.DEBT.value,
        programme_id=move.programme_id,
        account_id=move.account_id,
        customer_id=move.customer_id,
        points=other - rest,
        effective_at=move.effective_at,
        debt=other - rest,
        system="reversed",
        reason=move.reason,
        explanation=move.explanation,
        source_type=move.source_type,
        source_id=move.source_id,
        actor_id=move.actor_id,
        takes_back_id=move.takes_back_id,
    )
    if own + other:
        book.stage([move])
        if own:
            book.stage_takes([(move.key, lot.pk, own)])
    if rest > other:
        book.stage([owed])
    book.post()

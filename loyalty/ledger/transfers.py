"""Points that change hands. They keep their last day and their place in the queue: each lot arrives as a lot of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from customers.models import Customer
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import book
from loyalty.errors import KeyReused
from loyalty.ledger.due import repay, settle
from loyalty.ledger.earnings import open_accounts
from loyalty.ledger.guard import reserve, too_few
from loyalty.ledger.terms import checked_key, checked_reason, moment_of, positive, programme_of
from loyalty.models import Account, Entry, LotSpend, Programme, Transfer


def transfer(
    *,
    customer: Customer,
    to: Customer,
    points: int,
    key: str,
    actor: User | None = None,
    reason: str = "",
    effective_at: datetime | None = None,
    programme: Programme | None = None,
) -> Transfer:
    """Give usable points of one customer to another, those that expire first first, last days unchanged.

    Raises ``InsufficientPoints`` or ``AccountFrozen`` and moves nothing. The same request again returns the transfer it
    made (``replayed``); its key with another request raises ``KeyReused``.
    """
    of = programme_of(programme)
    positive(points)
    text = checked_reason(reason)
    moment = moment_of(effective_at)
    checked_key(key)
    if customer.pk == to.pk:
        raise InvalidInput(
            _("These are the same customer. Choose somebody else to give the points to."), code="same_customer"
        )

    def before() -> Transfer | None:
        found = Transfer.objects.filter(programme=of, key=key).select_related("from_account", "to_account").first()
        if found is None:
            return None
        said = (found.from_account.customer_id, found.to_account.customer_id, found.points, found.reason)
        if said != (customer.pk, to.pk, points, text):
            raise KeyReused(
                _("This key was used for another movement of points. Send a new key for a new request."), key=key
            )
        found.replayed = True
        return found

    try:
        with transaction.atomic():
            if found := before():
                return found
            source = Account.objects.filter(programme=of, customer=customer).first()
            if source is None:
                raise too_few(0, points)
            target = Account.objects.get(pk=open_accounts(of, [to.pk])[to.pk])
            book.hold_ids([source.pk, target.pk])
            if found := before():
                return found
            settle([source, target], moment)
            made = hand_over(
                source, target, points, key=key, kind=Transfer.Kind.GIFT, moment=moment, actor=actor, reason=text
            )
            repay(moment)
            return made
    except IntegrityError:
        if found := before():
            return found
        raise


def hand_over(
    source: Account,
    target: Account,
    points: int,
    *,
    key: str,
    kind: Transfer.Kind,
    moment: datetime,
    actor: User | None,
    reason: str,
) -> Transfer:
    """Move usable points between two accounts that are held and settled."""
    made = Transfer.objects.create(
        programme_id=source.programme_id, key=key, kind=kind, from_account=source, to_account=target, points=points,
        reason=reason, actor=actor, effective_at=moment,
    )  # fmt: skip
    reserve(source, points, "moved")
    book.clear()
    out = _move(made, source, f"{key}:out", -points, actor)
    out.available, out.burn = -points, points
    book.stage([out])
    book.post(with_accounts=False)
    book.clear()
    book.stage(_arrivals(made, target, f"{key}:out", actor))
    book.post()
    return made


def _arrivals(made: Transfer, target: Account, out_key: str, actor: User | None) -> Sequence[book.Move]:
    """For each lot that was drawn on, a lot of the same age and the same end."""
    took = LotSpend.objects.filter(entry__programme=made.programme_id, entry__key=out_key).select_related("lot")
    moves = []
    for spend in took.order_by("lot_id"):
        move = _move(made, target, f"{made.key}:in:{spend.lot_id:012d}", spend.points, actor)
        move.available = move.lot_amount = spend.points
        move.active_at, move.expires_at = spend.lot.active_at, spend.lot.expires_at
        moves.append(move)
    return moves


def _move(made: Transfer, account: Account, key: str, points: int, actor: User | None) -> book.Move:
    other = made.to_account if account.pk == made.from_account_id else made.from_account
    return book.Move(
        key=key,
        kind=Entry.Kind.TRANSFER.value,
        programme_id=account.programme_id,
        account_id=account.pk,
        customer_id=account.customer_id,
        points=points,
        effective_at=made.effective_at,
        system="moved",
        reason=made.reason,
        explanation=json.dumps({"rule": made.kind, "customer": other.customer_id}),
        source_type="transfer",
        source_id=str(made.pk),
        actor_id=actor.pk if actor else None,
    )

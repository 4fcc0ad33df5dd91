"""Points given or taken by hand, with a reason."""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, transaction

from customers.models import Customer
from lifecycle_crm.accounts.models import User
from loyalty import book
from loyalty.ledger.due import repay
from loyalty.ledger.earnings import open_accounts
from loyalty.ledger.spending import burn
from loyalty.ledger.terms import checked_key, checked_reason, expiry, footprint, moment_of, programme_of, whole
from loyalty.models import Entry, Programme


def adjust(
    *,
    customer: Customer,
    points: int,
    key: str,
    actor: User | None,
    reason: str,
    effective_at: datetime | None = None,
    source_type: str = "",
    source_id: str = "",
    programme: Programme | None = None,
) -> Entry:
    """Give (positive) or take (negative) points by hand, with a reason. What is given expires like an order's points."""
    of = programme_of(programme)
    whole(points)
    text = checked_reason(reason, required=True)
    moment = moment_of(effective_at)
    if points < 0:
        return burn(
            kind=Entry.Kind.ADJUST,
            customer=customer,
            points=-points,
            key=checked_key(key),
            actor=actor,
            reason=text,
            moment=moment,
            explanation=None,
            source_type=source_type,
            source_id=source_id,
            programme=of,
        )

    def before() -> Entry | None:
        return footprint(of, key, Entry.Kind.ADJUST, customer.pk, points, text)

    try:
        with transaction.atomic():
            if found := before():
                return found
            account_id = open_accounts(of, [customer.pk])[customer.pk]
            book.hold_ids([account_id])
            if found := before():
                return found
            book.stage(
                [
                    book.Move(
                        key=checked_key(key),
                        kind=Entry.Kind.ADJUST.value,
                        programme_id=of.pk,
                        account_id=account_id,
                        customer_id=customer.pk,
                        points=points,
                        effective_at=moment,
                        available=points,
                        system="adjusted",
                        reason=text,
                        source_type=source_type,
                        source_id=source_id,
                        actor_id=actor.pk if actor else None,
                        lot_amount=points,
                        active_at=moment,
                        expires_at=expiry(moment, of.expiry_months),
                    )
                ]
            )
            book.post()
            repay(moment)
    except IntegrityError:
        if found := before():
            return found
        raise
    return Entry.objects.get(programme=of, key=key)

"""Consent is a ledger of statements; what counts is the last one before the moment you ask about."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db import transaction

from customers import facts
from customers.models import Consent, Customer
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput


def record(
    *,
    customer: Customer,
    purpose: str,
    channel: str,
    is_granted: bool,
    source: str,
    wording: str = "",
    ip: str | None = None,
    language: str = "",
    occurred_at: datetime | None = None,
) -> Consent:
    """Write what a customer said. Saying the same again is written too: it is another proof."""
    if purpose not in Consent.Purpose.values:
        raise InvalidInput(f"Unknown purpose {purpose!r}. Use one of: {', '.join(Consent.Purpose.values)}.")
    if channel not in Consent.Channel.values:
        raise InvalidInput(f"Unknown channel {channel!r}. Use one of: {', '.join(Consent.Channel.values)}.")
    moment = occurred_at or clock.now()
    if moment > clock.now():
        raise InvalidInput("A consent cannot be given in the future. Check the time and its zone.", code="future_date")
    with transaction.atomic():
        row = Consent.objects.create(
            customer=customer,
            purpose=purpose,
            channel=channel,
            is_granted=is_granted,
            source=source,
            wording=wording,
            ip=ip,
            language=language,
            occurred_at=moment,
        )
        facts.mark([customer.pk], occurred_at=moment, is_history=moment < customer.loaded_at)
    return row


def current(
    customers: Collection[int], *, purpose: str, channel: str, as_of: datetime | None = None
) -> dict[int, Consent]:
    """The statement in force per customer id; a customer who never said anything is not in the answer."""
    rows = (
        Consent.objects.filter(
            customer_id__in=customers, purpose=purpose, channel=channel, occurred_at__lte=as_of or clock.now()
        )
        .order_by("occurred_at", "id")
        .iterator(chunk_size=2000)
    )
    return {row.customer_id: row for row in rows}

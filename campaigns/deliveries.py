"""What others say about a message after it left: delivered, bounced, marked as spam. Each notice counts once, however
often it is told."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from campaigns import breaker
from campaigns.models import Channel, DeliveryEvent, Message, Suppression, address_key
from customers import consent
from customers.models import email_key
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.numbers import row_number

Kind = DeliveryEvent.Kind
_STOPS = {
    Kind.HARD_BOUNCE: Suppression.Reason.BOUNCED,
    Kind.COMPLAINT: Suppression.Reason.COMPLAINED,
    Kind.UNSUBSCRIBED: Suppression.Reason.UNSUBSCRIBED,
}


def find(message_id: str) -> Message | None:
    """The message we sent under this Message-ID. Only an exact match counts: part of it cannot be guessed."""
    wanted = message_id.strip()
    wanted = wanted if wanted.startswith("<") else f"<{wanted}>"
    number = row_number(wanted.removeprefix("<message-").partition("-")[0])
    return None if number is None else Message.objects.filter(pk=number, message_id=wanted).first()


def newest_to(address: str) -> Message | None:
    """The last message that went to this address in the last two weeks: for a provider that knows it under a name of its
    own. Only for who has proved to be our provider."""
    since = clock.now() - timedelta(days=14)
    key = email_key(address)
    if not key:
        return None
    gone = Message.objects.filter(
        channel=Channel.EMAIL, customer__email_key=key, state__in=("sent", "in_doubt"), created_at__gt=since
    )
    return gone.order_by("-pk").first()


def refused(*, message_id: int, source: str, diagnostic: str) -> None:
    """A server told us in the conversation itself that the address does not exist: a hard bounce to the breaker."""
    DeliveryEvent.objects.get_or_create(
        source=source,
        source_id=str(message_id),
        defaults={
            "message_id": message_id,
            "kind": Kind.HARD_BOUNCE,
            "occurred_at": clock.now(),
            "diagnostic": diagnostic[:500],
        },
    )


def record(
    *, message: Message, kind: str, occurred_at: datetime, source: str, source_id: str, diagnostic: str = ""
) -> bool:
    """Write down one notice and what follows from it; false when it was told before.

    A hard bounce and a complaint stop the address, a complaint and an unsubscribe take the consent back too. Any notice
    proves that an in-doubt message arrived somewhere, so it is sent.
    """
    now = clock.now()
    with transaction.atomic():
        _row, is_new = DeliveryEvent.objects.get_or_create(
            source=source,
            source_id=source_id[:200],
            defaults={
                "message": message,
                "kind": kind,
                "occurred_at": min(occurred_at, now),
                "diagnostic": diagnostic[:500],
            },
        )
        if not is_new:
            return False
        Message.objects.filter(pk=message.pk, state=Message.State.IN_DOUBT).update(
            state=Message.State.SENT, reason="", sent_at=min(occurred_at, now)
        )
        reason = _STOPS.get(Kind(kind))
        key = address_key(message.channel, message.address)
        if reason and key:
            Suppression.add(channel=message.channel, address_key=key, reason=reason, diagnostic=diagnostic, at=now)
        purpose = message.run.campaign.purpose
        if kind in (Kind.COMPLAINT, Kind.UNSUBSCRIBED) and purpose != "service":
            said = consent.current([message.customer_id], purpose=purpose, channel=message.channel)
            last = said.get(message.customer_id)
            if last is not None and last.is_granted:
                consent.record(
                    customer=message.customer, purpose=purpose, channel=message.channel, is_granted=False, source=kind
                )
    if kind in (Kind.HARD_BOUNCE, Kind.COMPLAINT):
        breaker.check(now)
    return True

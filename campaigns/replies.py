"""What people answer to an SMS. Who says stop is not written to by SMS again, at once and for good."""

from __future__ import annotations

import re
import unicodedata

from django.db import transaction

from campaigns.models import Channel, Reply, Suppression
from customers import consent
from customers.models import Consent, Customer
from lifecycle_crm.lib import clock

SOURCE = "sms_reply"
"""What the consent ledger says of where it was taken back."""
STOP = {
    "stop", "stopall", "end", "cancel", "quit", "unsubscribe", "optout", "revoke",
    "stopp", "avsluta", "sluta", "avanmal", "avregistrera",
    "avslutt", "slutt", "stans", "avmeld",
    "rezygnuje", "rezygnacja", "wypisz", "koniec", "anuluj",
    "odhlasit", "odhlas", "konec", "zrusit",
}  # fmt: skip
"""English and what providers listen for everywhere, Swedish, Norwegian, Polish, Czech; without accents, as many telephones
write them."""
MOST_WORDS = 4
"""A longer answer that begins with such a word is a sentence, and for a person to read."""


def says_stop(text: str) -> bool:
    """Whether an answer asks us to stop: one of the words, perhaps with a please or a thank you behind it."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    words = re.findall(r"[a-z]+", "".join(one for one in plain if not unicodedata.combining(one)))
    return bool(words) and len(words) <= MOST_WORDS and words[0] in STOP


def record(*, source: str, source_id: str, phone: str, text: str, is_stop: bool | None = None) -> Reply | None:
    """Write down one answer and what follows from it; ``None`` when it was told before. ``is_stop`` is the provider's word,
    if it gives one.

    A stop puts the number on the stop list and takes back the consent of everybody who has it: for offers always, for
    questions where it was given. Who agrees again later is written to again.
    """
    stops = says_stop(text) if is_stop is None else is_stop
    with transaction.atomic():
        row, is_new = Reply.objects.get_or_create(
            source=source,
            source_id=source_id[:200],
            defaults={"phone": phone[:20], "text": text[:500], "is_stop": stops},
        )
        if not is_new:
            return None
        if stops:
            _stop(phone, f"reply: {text}")
    return row


def _stop(phone: str, said: str) -> None:
    now = clock.now()
    unwilling = Suppression.Reason.UNSUBSCRIBED
    if not Suppression.add(channel=Channel.SMS, address_key=phone, reason=unwilling, diagnostic=said, at=now):
        # Who had agreed again since says no again.
        Suppression.objects.filter(channel=Channel.SMS, address_key=phone, reason=unwilling).update(created_at=now)
    theirs = list(Customer.objects.filter(phone=phone).order_by("pk"))
    for purpose in Consent.Purpose.values:
        known = consent.current([one.pk for one in theirs], purpose=purpose, channel=Channel.SMS, as_of=now)
        for customer in theirs:
            last = known.get(customer.pk)
            if last.is_granted if last is not None else purpose == Consent.Purpose.MARKETING:
                consent.record(
                    customer=customer, purpose=purpose, channel=Channel.SMS, is_granted=False, source=SOURCE,
                    language=customer.speaks(), occurred_at=now,
                )  # fmt: skip

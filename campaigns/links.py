"""Signed links in messages. A link says who and which message; the signature says that we wrote it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.urls import reverse
from django.utils.translation import gettext as _

from campaigns.models import Channel, Message, Purpose, Suppression, address_key
from customers import consent
from customers.models import Consent, Customer
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Gone

_WAY_OUT = "campaigns.unsubscribe"
_unsubscribe = signing.Signer(salt=_WAY_OUT, sep="~")
# Never expires: a message may lie in somebody's inbox for years, and its way out must still work.

_PURPOSES = {"m": Purpose.MARKETING, "s": Purpose.SURVEY}
_LETTERS = {purpose: letter for letter, purpose in _PURPOSES.items()}


_VISIT = "campaigns.visit"


def _short(salt: str, value: str) -> str:
    """Half a signature: 128 bits, so that a link stays short."""
    proof = hmac.digest(_salted(salt, settings.SECRET_KEY), value.encode(), "sha256")[:16]
    return base64.urlsafe_b64encode(proof).rstrip(b"=").decode()


@lru_cache(maxsize=16)
def _salted(salt: str, secret: str) -> bytes:
    return hashlib.sha256(f"{salt}:{secret}".encode()).digest()


@lru_cache(maxsize=16)
def _before(_urlconf: str, site: str, name: str) -> str:
    return site + reverse(f"campaigns:{name}", args=["TOKEN"]).removesuffix("TOKEN/")


def click_url(*, message_id: int, link_id: int) -> str:
    """The tracked address of a stored link in one message."""
    value = f"{message_id:x}-{link_id:x}"
    return f"{_before(settings.ROOT_URLCONF, settings.SITE_URL, 'click')}{value}~{_short(_VISIT, value)}/"


def open_url(*, message_id: int) -> str:
    """The address of the picture that says that a message was opened."""
    value = f"{message_id:x}-0"
    return f"{_before(settings.ROOT_URLCONF, settings.SITE_URL, 'opened')}{value}~{_short(_VISIT, value)}/"


def unsign_visit(token: str) -> tuple[int, int] | None:
    """(message id, link id or 0) of a token that we wrote; ``None`` for any other."""
    value, _sep, proof = token.partition("~")
    if not hmac.compare_digest(proof.encode(), _short(_VISIT, value).encode()):
        return None
    message_id, _sep, link_id = value.partition("-")
    return int(message_id, 16), int(link_id, 16)


_SHORT = "campaigns.short"
_EXAMPLE = "fffffff-fff-0000000000000"


def short_url(*, message_id: int, link_id: int) -> str:
    """The address of a stored link in one SMS, or (``link_id`` 0) of the way out of it: every character is paid for, and all
    are such as telephones take for a part of an address."""
    value = f"{message_id:x}-{link_id:x}"
    return f"{_before_short(settings.ROOT_URLCONF, settings.SITE_URL)}{value}-{_shortest(value)}"


def short_example() -> str:
    """As long as the address of a stored link, and leads nowhere."""
    return f"{_before_short(settings.ROOT_URLCONF, settings.SITE_URL)}{_EXAMPLE}"


@lru_cache(maxsize=16)
def _before_short(_urlconf: str, site: str) -> str:
    return site + reverse("campaigns:short", args=["TOKEN"]).removesuffix("TOKEN")


def _shortest(value: str) -> str:
    """64 bits of a signature: who wants to guess one has to ask us 2^63 times."""
    proof = hmac.digest(_salted(_SHORT, settings.SECRET_KEY), value.encode(), "sha256")[:8]
    return base64.b32encode(proof).rstrip(b"=").decode().lower()


def unsign_short(token: str) -> tuple[int, int] | None:
    """(message id, link id or 0) of a token that we wrote; ``None`` for any other."""
    value, _sep, proof = token.rpartition("-")
    if not hmac.compare_digest(proof.encode(), _shortest(value).encode()):
        return None
    message_id, _sep, link_id = value.partition("-")
    return int(message_id, 16), int(link_id, 16)


_REPORT = "campaigns.report"


def report_url(*, message_id: int) -> str:
    """Where a provider tells what became of an SMS; "" while it could not reach us."""
    if not settings.SITE_URL.startswith("https://"):
        return ""
    value = f"{message_id:x}"
    address = reverse("campaigns:sms-report", args=[f"{value}~{_short(_REPORT, value)}"])
    return f"{settings.SITE_URL}{address}"


def unsign_report(token: str) -> int | None:
    """The message id of a token that we wrote; ``None`` for any other."""
    value, _sep, proof = token.partition("~")
    return int(value, 16) if hmac.compare_digest(proof.encode(), _short(_REPORT, value).encode()) else None


def place_of(ip: str) -> str:
    """Stands for an address on the network for one day: enough to see a burst, not enough to find a person."""
    return hmac.digest(_salted(f"place:{clock.today()}", settings.SECRET_KEY), ip.encode(), "sha256").hex()[:16]


@dataclass(frozen=True)
class WayOut:
    """What an unsubscribe link names."""

    customer: Customer
    purpose: str
    channel: str
    address: str


@lru_cache(maxsize=4)
def _address(_urlconf: str, site: str) -> str:
    """Everything before the token; worked out once, since every message has one."""
    return site + reverse("campaigns:unsubscribe", args=["TOKEN"]).removesuffix("TOKEN/")


def unsubscribe_url(*, customer_id: int, message_id: int, purpose: str) -> str:
    """The address of the page with the button, which is also what a mail program posts to; "" for a service notice."""
    letter = _LETTERS.get(Purpose(purpose))
    if letter is None:
        return ""
    value = f"{customer_id:x}-{message_id:x}-{letter}"
    return (
        f"{_address(settings.ROOT_URLCONF, settings.SITE_URL)}{value}~{_signature(_key(settings.SECRET_KEY), value)}/"
    )


@lru_cache(maxsize=4)
def _key(_secret: str) -> bytes:
    """The key that ``_unsubscribe`` derives for every signature anew; a run writes hundreds of thousands."""
    return hashlib.sha256(f"{_WAY_OUT}signer{settings.SECRET_KEY}".encode()).digest()


def _signature(key: bytes, value: str) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, value.encode(), "sha256")).rstrip(b"=").decode()


def find(token: str) -> WayOut:
    """What the link names. Raises ``Gone`` for one that we did not write or whose customer is no more."""
    try:
        customer_id, message_id, letter = _unsubscribe.unsign(token).split("-")
        purpose = _PURPOSES[letter]
        customer = Customer.objects.get(pk=int(customer_id, 16))
        message = Message.objects.filter(pk=int(message_id, 16), customer=customer).first()
    except (signing.BadSignature, ValueError, KeyError, OverflowError, Customer.DoesNotExist):
        raise Gone(_("This link is no longer valid. Use the link in the newest message from us.")) from None
    return WayOut(
        customer, purpose, message.channel if message else "email", message.address if message else customer.email
    )


def unsubscribe(*, token: str, ip: str | None = None) -> bool:
    """Take the customer's consent back and stop their address. True for the one request that changed something.

    However often and however many at once: one row on the stop list, one statement in the consent ledger. Who has agreed
    again since can take it back again.
    """
    way = find(token)
    own = way.customer.phone if way.channel == Channel.SMS else way.customer.email_key or ""
    key = address_key(way.channel, way.address) or own or f"customer-{way.customer.pk}"
    with transaction.atomic():
        now = clock.now()
        is_ours = Suppression.add(
            channel=way.channel, address_key=key, reason=Suppression.Reason.UNSUBSCRIBED, diagnostic="link", at=now
        )
        said = consent.current([way.customer.pk], purpose=way.purpose, channel=way.channel, as_of=now)
        last = said.get(way.customer.pk)
        if not is_ours and last is not None and last.is_granted:
            is_ours = bool(
                Suppression.objects.filter(
                    channel=way.channel,
                    address_key=key,
                    reason=Suppression.Reason.UNSUBSCRIBED,
                    created_at__lt=last.occurred_at,
                ).update(created_at=now)
            )
        if not is_ours:
            return False
        consent.record(
            customer=way.customer,
            purpose=way.purpose,
            channel=way.channel,
            is_granted=False,
            source="unsubscribe",
            ip=ip,
            language=way.customer.speaks(),
            occurred_at=now,
        )
    return True


def has_left(way: WayOut) -> bool:
    """Whether the last thing they said is no."""
    said: Consent | None = consent.current([way.customer.pk], purpose=way.purpose, channel=way.channel).get(
        way.customer.pk
    )
    return said is not None and not said.is_granted

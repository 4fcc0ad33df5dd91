"""Webhooks: addresses of the shop's own systems, and the queue of what journeys tell them.

At least once: a delivery is claimed, posted and settled, and one whose sender died is posted again with the same number. A
machine of our own network is refused twice, when the address is saved and when it is used, unless a setting names it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection
from django.db.models import Count, F, Q, QuerySet
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from campaigns import limits
from campaigns.errors import NotNow
from campaigns.models import WebhookDelivery, WebhookTarget
from campaigns.models.hook import new_secret
from customers.models import ExternalId
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, bell, clock, keys, outward, posting
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import from_seconds, seconds

logger = logging.getLogger(__name__)

State = WebhookDelivery.State

WAITS = (60, 300, 1800, 7200, 21_600, 43_200, 86_400)
"""Seconds before each further try; after the last it is given up: about two days."""
LEASE = 300
SECONDS = 10.0
"""For one answer."""
QUIET = 60
"""An address that did not answer is left alone for so many seconds, so that it does not hold up the others."""
BATCH = 20
GONE = 410

FIELDS: dict[str, Any] = {
    "external_ids": gettext_lazy("Ids in other systems"),
    "name": gettext_lazy("Name"),
    "email": gettext_lazy("E-mail"),
    "phone": gettext_lazy("Phone"),
    "language": gettext_lazy("Language"),
    "country": gettext_lazy("Country"),
    "tags": gettext_lazy("Tags"),
    "stage": gettext_lazy("Stage"),
    "tier": gettext_lazy("Tier"),
    "points": gettext_lazy("Points"),
    "orders": gettext_lazy("Orders"),
    "spend_minor": gettext_lazy("Spent"),
    "last_order_at": gettext_lazy("Last order"),
    "nps_score": gettext_lazy("Last NPS answer"),
}
"""What a marketer may let out besides ids."""
_OF_CUSTOMER = ("name", "email", "phone", "language", "country", "tags")


# --- Addresses ------------------------------------------------------------------------------------------------------------


def place_of(url: str) -> outward.Place:
    """Where an address leads, resolved now. Public machines over https; of our own network only what the setting names.

    Raises ``outward.NoAnswer``.
    """
    scheme, name, port, _path = outward.parts_of(url)
    if f"{name.lower()}:{port}" in settings.WEBHOOK_INTERNAL_HOSTS:
        return outward.place_of(url, allowed=lambda _address, _port: True)
    if scheme != "https":
        raise outward.NotPublic("not https")
    return outward.place_of(url)


def check(url: str) -> str:
    """The address when it can be told something. Raises ``InvalidInput``."""
    url = url.strip()
    try:
        if len(url) > 500 or "#" in url:
            raise outward.NoAnswer("no address")
        place_of(url)
    except outward.NotPublic:
        raise InvalidInput(
            _(
                "This address is not https, or leads into your own network. An administrator of the server can allow one "
                "with WEBHOOK_INTERNAL_HOSTS."
            ),
            code="not_public",
        ) from None
    except outward.NoAnswer:
        raise InvalidInput(
            _("Nothing is found at this address. Write it like https://shop.example/hook."), code="no_address"
        ) from None
    return url


def create(*, name: str, url: str, key: str = "", actor: User | None = None) -> WebhookTarget:
    """A new address with a secret of its own. Raises ``InvalidInput``."""
    name = _name(name)
    if key and (slugify(key) != key or len(key) > 60 or WebhookTarget.objects.filter(key=key).exists()):
        raise InvalidInput(_("The key %(key)r is taken or not usable.") % {"key": key}, code="bad_key")
    return WebhookTarget.objects.create(
        key=key or keys.free(WebhookTarget.objects.all(), name, "webhook"), name=name, url=check(url), created_by=actor
    )


def change(*, target: WebhookTarget, name: str, url: str, is_active: bool) -> WebhookTarget:
    """Name, address, and whether it is told anything; what waits goes to the new address. Raises ``InvalidInput``."""
    values = {"name": _name(name), "url": check(url), "is_active": is_active, "quiet_until": None}
    WebhookTarget.objects.filter(pk=target.pk).update(**values)
    target.refresh_from_db()
    bell.ring("campaigns.tasks.post_webhooks")
    return target


def renew(*, target: WebhookTarget) -> WebhookTarget:
    """Another secret, from the next delivery on."""
    WebhookTarget.objects.filter(pk=target.pk).update(secret=new_secret())
    target.refresh_from_db()
    return target


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not name or len(name) > 120:
        raise InvalidInput(_("Give it a name of at most 120 letters; only your team sees it."), code="no_name")
    return name


# --- The queue ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    run: int
    step: str
    customer: int
    target: int
    fields: tuple[str, ...]


def add(wanted: Sequence[Wanted], *, at: datetime) -> set[tuple[int, str]]:
    """Rows of the queue, one per way and step; the (run, step) of those that were there already."""
    if not wanted:
        return set()
    had = set(WebhookDelivery.objects.filter(run_id__in={one.run for one in wanted}).values_list("run_id", "step"))
    WebhookDelivery.objects.bulk_create(
        [
            WebhookDelivery(
                target_id=one.target, run_id=one.run, step=one.step, customer_id=one.customer, fields=list(one.fields),
                due_at=at, created_at=at,
            )
            for one in wanted
            if (one.run, one.step) not in had
        ],
        batch_size=500,
    )  # fmt: skip
    return had & {(one.run, one.step) for one in wanted}


def withdraw(runs: str, params: Sequence[Any]) -> int:
    """What waits for these ways is told nobody; how many. ``runs`` is a SELECT of ours, or a list of ids."""
    return batches.execute(
        "UPDATE campaigns_webhookdelivery SET state = 'withdrawn', due_at = NULL, settled_at = %s, owner = '' "
        f"WHERE state = 'waiting' AND run_id IN ({runs})",
        [seconds(clock.whole_now()), *params],
    )


def send_again(*, deliveries: QuerySet[WebhookDelivery]) -> int:
    """Try those of them that were given up once more, from the first try on; how many. Raises ``NotNow`` for none."""
    count = deliveries.filter(state=State.GAVE_UP).update(
        state=State.WAITING, due_at=clock.whole_now(), settled_at=None, tries=0, owner=""
    )
    if not count:
        raise NotNow(_("Nothing was given up here. Reload the page to see how it stands."))
    bell.ring("campaigns.tasks.post_webhooks")
    return count


def send_due(*, limit: int = 1000, seconds: float = 25) -> Counter[str]:
    """Post what is due, at most so many or for about so many seconds; how many came to which state. Any number may run."""
    told: Counter[str] = Counter()
    deadline = time.monotonic() + seconds
    while sum(told.values()) < limit and time.monotonic() < deadline and limits.standing() is None:
        owner = str(uuid.uuid4())
        if not _claim(owner):
            break
        mine = WebhookDelivery.objects.filter(owner=owner, state=State.SENDING).select_related(
            "target", "customer__facts", "run__journey"
        )
        silent: set[int] = set()
        for one in mine.order_by("pk"):
            if one.target_id in silent or time.monotonic() > deadline:
                _give_back(one, owner)
                continue
            state, is_silent = _deliver(one, owner)
            told[state] += 1
            if is_silent:
                silent.add(one.target_id)
    return told


def _claim(owner: str) -> int:
    """Take some that are due, for so long as a sender may live; those of one that died are due again by then."""
    now = seconds(clock.whole_now())
    lock = "FOR UPDATE OF d SKIP LOCKED" if connection.vendor == "postgresql" else ""
    return batches.execute(
        f"""
        UPDATE campaigns_webhookdelivery SET state = 'sending', owner = %s, due_at = {now + LEASE}, tries = tries + 1
        WHERE id IN (
            SELECT d.id FROM campaigns_webhookdelivery d JOIN campaigns_webhooktarget t ON t.id = d.target_id
            JOIN campaigns_journeyrun r ON r.id = d.run_id JOIN campaigns_journey j ON j.id = r.journey_id
            WHERE d.state IN ('waiting', 'sending') AND d.due_at <= {now} AND t.is_active AND j.state <> 'paused'
              AND (t.quiet_until IS NULL OR t.quiet_until <= {now})
            ORDER BY d.due_at, d.id LIMIT {BATCH} {lock}
        )
        """,
        [owner],
    )


def _mine(one: WebhookDelivery, owner: str) -> QuerySet[WebhookDelivery]:
    return WebhookDelivery.objects.filter(pk=one.pk, state=State.SENDING, owner=owner)


def _give_back(one: WebhookDelivery, owner: str) -> None:
    """It was not begun."""
    _mine(one, owner).update(state=State.WAITING, owner="", due_at=clock.whole_now(), tries=F("tries") - 1)


def _deliver(one: WebhookDelivery, owner: str) -> tuple[str, bool]:
    """Post one; the state it came to, and whether its address did not answer at all."""
    now = clock.whole_now()
    status, error, is_silent = None, "", False
    try:
        answer = posting.post(place_of(one.target.url), **letter(one, at=now), seconds=SECONDS)
    except outward.NoAnswer as problem:
        error, is_silent = str(problem), True
    except Exception as poison:
        # One that cannot be made must not stand in the way of the others.
        logger.exception("Webhook delivery %s could not be made", one.number)
        error = f"{type(poison).__name__}: {poison}"
    else:
        status, error = answer.status, answer.text
    if status is not None and 200 <= status < 300:
        values: dict[str, Any] = {"state": State.DELIVERED, "due_at": None, "settled_at": now, "error": ""}
    elif status == GONE or one.tries > len(WAITS):
        values = {"state": State.GAVE_UP, "due_at": None, "settled_at": now, "error": _short(error)}
    else:
        due = now + timedelta(seconds=WAITS[one.tries - 1])
        values = {"state": State.WAITING, "due_at": due, "error": _short(error)}
    _mine(one, owner).update(owner="", status=status, **values)
    if is_silent:
        WebhookTarget.objects.filter(pk=one.target_id).update(quiet_until=from_seconds(seconds(now) + QUIET))
    return values["state"], is_silent


def _short(text: str) -> str:
    return " ".join("".join(letter for letter in text if letter.isprintable() or letter.isspace()).split())[:200]


# --- What is said ---------------------------------------------------------------------------------------------------------


def letter(one: WebhookDelivery, *, at: datetime) -> dict[str, Any]:
    """``body`` and ``headers`` of a delivery, signed at a moment."""
    body = json.dumps(document(one), ensure_ascii=False, separators=(",", ":")).encode()
    stamp = str(seconds(at))
    return {
        "body": body,
        "headers": {
            "Content-Type": "application/json",
            "User-Agent": "lifecycle-crm webhook",
            "X-Lifecycle-Delivery": str(one.number),
            "X-Lifecycle-Timestamp": stamp,
            "X-Lifecycle-Signature": f"v1={sign(one.target.secret, stamp, body)}",
        },
    }


def sign(secret: str, stamp: str, body: bytes) -> str:
    """HMAC-SHA256, in hexadecimal digits, over the timestamp, a dot and the body."""
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def document(one: WebhookDelivery) -> dict[str, Any]:
    """What an address is told: ids, and of the person what the marketer chose, as it is known now."""
    customer = one.customer
    facts = getattr(customer, "facts", None)
    person: dict[str, Any] = {"id": customer.pk}
    for name in one.fields:
        if name == "external_ids":
            rows = ExternalId.objects.filter(customer=customer).order_by("source", "value")
            person[name] = [{"source": source, "value": value} for source, value in rows.values_list("source", "value")]
        elif name in FIELDS:
            value = getattr(customer if name in _OF_CUSTOMER else facts, name, None)
            person[name] = value.isoformat() if isinstance(value, datetime) else value
    journey = one.run.journey
    return {
        "delivery": str(one.number),
        "happened_at": one.created_at.isoformat(),
        "journey": {"id": journey.pk, "key": journey.key},
        "run": {"id": one.run_id, "number": one.run.number, "cause": one.run.key, "step": one.step},
        "customer": person,
    }


# --- Reads ----------------------------------------------------------------------------------------------------------------


def deliveries(target: WebhookTarget | None = None, *, state: str = "") -> QuerySet[WebhookDelivery]:
    """Newest first, with what a row shows."""
    rows = WebhookDelivery.objects.select_related("customer", "run__journey", "target").order_by("-id")
    rows = rows.filter(target=target) if target else rows
    return rows.filter(state=state) if state else rows


def targets() -> QuerySet[WebhookTarget]:
    """Every address with how many deliveries wait and were given up."""
    return WebhookTarget.objects.annotate(
        waiting=Count("deliveries", filter=Q(deliveries__state__in=[State.WAITING, State.SENDING])),
        gave_up=Count("deliveries", filter=Q(deliveries__state=State.GAVE_UP)),
    ).order_by("name", "id")


def host_of(url: str) -> str:
    """The machine an address names: for who may not read all of it, since it may carry a token."""
    return urlsplit(url).netloc

"""Where a message leads, who went there, and whether that was a person.

A tracked link names a message and a stored address and is signed; what it leads to is never in it. Pressing it writes one
raw row (``Visit``) and nothing else. Whether a person pressed is decided half a minute later, when the burst around the
press is known, by these signs, each of which says "machine":

* it only asked for the headers, or said that it fetches ahead;
* the program names itself as a bot, a scanner, a library or a mail provider's proxy, or does not name itself;
* it came within two seconds of the message being sent;
* it pressed three links of the message, or all of several, within ten seconds;
* links of ten messages were pressed from one place within ten seconds.

What shows none of them and says which languages it reads, as browsers do, is human. The rest is unknown. The raw rows stay,
so a better guess can be made later. Only human presses of links reach the customer's facts; opens never do.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from django.conf import settings
from django.db import transaction
from django.http import Http404
from django.utils.text import slugify

from campaigns import links
from campaigns.models import Campaign, Link, Message, Visit, digest_of
from customers import facts
from customers.sources import WHOSE, Source
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import epoch, parameter

SETTLED = timedelta(seconds=30)
"""So long a visit waits until the burst around it is known."""
BURST = timedelta(seconds=10)
TOO_FAST = timedelta(seconds=2)
LINKS_IN_A_BURST = 3
MESSAGES_IN_A_BURST = 10
BATCH = 2_000
_MACHINES = re.compile(
    r"bot\b|crawl|spider|scan|monitor|preview|prefetch|proxy|curl|wget|python|java/|okhttp|go-http|libwww|httpclient|"
    r"headless|phantom|slurp|barracuda|mimecast|proofpoint|safelinks|symantec|forcepoint|trend ?micro|sophos|fireeye|"
    r"ggpht|facebookexternalhit|whatsapp|skypeuripreview",
    re.IGNORECASE,
)

Kind = Visit.Kind


# --- Addresses --------------------------------------------------------------------------------------------------------


def with_utm(url: str, campaign: Campaign) -> str:
    """The address with the parameters that the shop's own statistics read, unless its author gave some."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    if any(name.lower().startswith("utm_") for name, _value in query):
        return url
    query += [
        ("utm_source", slugify(settings.SHOP_NAME) or "shop"),
        ("utm_medium", str(campaign.channel)),
        ("utm_campaign", campaign.key or slugify(campaign.name) or str(campaign.pk)),
    ]
    return urlunsplit(parts._replace(query=urlencode(query)))


def is_tracked(url: str) -> bool:
    """Our own pages for customers are not: they know who comes, and a survey's answer is not a click."""
    return not url.startswith(f"{settings.SITE_URL}/p/")


def addresses(campaign: Campaign, urls: Iterable[str]) -> dict[str, int]:
    """The id of the stored link for each of these addresses as their author wrote them."""
    final = {url: with_utm(url, campaign) for url in urls if is_tracked(url)}
    if not final:
        return {}
    digests = {url: digest_of(to) for url, to in final.items()}
    Link.objects.bulk_create(
        [Link(campaign=campaign, digest=digests[url], url=to) for url, to in final.items()], ignore_conflicts=True
    )
    known = dict(Link.objects.filter(campaign=campaign, digest__in=digests.values()).values_list("digest", "pk"))
    return {url: known[digest] for url, digest in digests.items()}


def find(token: str) -> tuple[Message, Link | None]:
    """What a tracked link or picture names. Raises ``Http404`` for one that we did not write."""
    return _named(links.unsign_visit(token))


def find_short(token: str) -> tuple[Message, Link | None]:
    """The same of a link in an SMS; no link is the way out."""
    return _named(links.unsign_short(token))


def _named(named: tuple[int, int] | None) -> tuple[Message, Link | None]:
    if named is None:
        raise Http404
    message = Message.objects.filter(pk=named[0]).select_related("run__campaign").first()
    link = Link.objects.filter(pk=named[1]).first() if named[1] else None
    if message is None or (named[1] and link is None):
        raise Http404
    return message, link


# --- Visits -----------------------------------------------------------------------------------------------------------


def visited(
    *, message: Message, link: Link | None, method: str, headers: Mapping[str, str], ip: str | None = None
) -> Visit:
    """Write down a visit as it was asked for. ``link`` is empty for the picture that says "opened"."""
    ahead = headers.get("Sec-Purpose", "") + headers.get("Purpose", "") + headers.get("X-Moz", "")
    return Visit.objects.create(
        message=message,
        link=link,
        occurred_at=clock.now(),
        method="AHEAD" if "prefetch" in ahead.lower() or "preview" in ahead.lower() else method[:8],
        agent=headers.get("User-Agent", "")[:200],
        has_language=bool(headers.get("Accept-Language", "").strip()),
        origin=links.place_of(ip) if ip else "",
    )


def judge(*, now: datetime | None = None) -> int:
    """Say of every visit that has waited long enough who it was; how many. Safe to repeat and to run twice at once."""
    now = now or clock.now()
    done = 0
    while True:
        waiting = list(
            Visit.objects.filter(kind=Kind.WAITING, occurred_at__lte=now - SETTLED)
            .order_by("occurred_at", "pk")
            .select_related("message")[:BATCH]
        )
        if not waiting:
            return done
        _judge(waiting)
        done += len(waiting)


def _judge(waiting: Sequence[Visit]) -> None:
    first, last = waiting[0].occurred_at - BURST, waiting[-1].occurred_at + BURST
    around: dict[int, list[tuple[datetime, int | None]]] = defaultdict(list)
    messages = {one.message_id for one in waiting}
    seen = Visit.objects.filter(message_id__in=messages, occurred_at__range=(first, last))
    for pk, at, link in seen.values_list("message_id", "occurred_at", "link_id"):
        around[pk].append((at, link))
    places: dict[str, list[tuple[datetime, int]]] = defaultdict(list)
    origins = {one.origin for one in waiting if one.origin}
    elsewhere = Visit.objects.filter(origin__in=origins, occurred_at__range=(first, last))
    for origin, at, pk in elsewhere.values_list("origin", "occurred_at", "message_id"):
        places[origin].append((at, pk))
    in_message = dict(
        batches.rows(
            "SELECT message_id, links FROM campaigns_rendering WHERE message_id IN "
            f"({', '.join(str(pk) for pk in messages)})"
        )
    )
    people: list[tuple[int, datetime, bool]] = []
    for one in waiting:
        one.kind, one.why = _kind(one, around[one.message_id], places.get(one.origin, []), in_message)
        if one.kind == Kind.HUMAN and one.link_id:
            people.append((one.message.customer_id, one.occurred_at, False))
    with transaction.atomic():
        Visit.objects.bulk_update(waiting, ["kind", "why"], batch_size=500)
        facts.mark_each(people)


def _kind(
    one: Visit,
    around: Sequence[tuple[datetime, int | None]],
    place: Sequence[tuple[datetime, int]],
    in_message: Mapping[int, int],
) -> tuple[str, str]:
    if one.method == "AHEAD":
        return Kind.MACHINE, "fetched ahead"
    if one.method != "GET":
        return Kind.MACHINE, "asked for the headers only"
    if not one.agent or _MACHINES.search(one.agent):
        return Kind.MACHINE, "the program names itself" if one.agent else "the program does not name itself"
    sent_at = one.message.sent_at
    if sent_at is None or one.occurred_at - sent_at < TOO_FAST:
        return Kind.MACHINE, "faster than a person"
    pressed = {link for at, link in around if link and abs(at - one.occurred_at) <= BURST}
    if len(pressed) >= min(LINKS_IN_A_BURST, max(2, in_message.get(one.message_id, 0))):
        return Kind.MACHINE, "all links at once"
    together = {pk for at, pk in place if abs(at - one.occurred_at) <= BURST}
    if len(together) >= MESSAGES_IN_A_BURST:
        return Kind.MACHINE, "many messages at once"
    if one.agent == "Mozilla/5.0" or not one.has_language:
        return Kind.UNKNOWN, "says too little"
    return Kind.HUMAN, ""


def numbers(as_of: datetime) -> list[Source]:
    """When a person last pressed a link in a message, on its way into the facts."""
    return [
        Source(
            {"clicked_at": "{at}"},
            {"at": epoch("max(v.occurred_at)")},
            rows="campaigns_visit v JOIN campaigns_message m ON m.id = v.message_id "
            f"WHERE v.kind = 'human' AND v.link_id IS NOT NULL AND v.occurred_at < %s AND {WHOSE}",
            key="m.customer_id",
            params=[parameter(as_of)],
        )
    ]


HANDED_FROM = (
    "SELECT m.customer_id, v.occurred_at AS moment FROM campaigns_visit v JOIN campaigns_message m ON m.id = v.message_id "
    "WHERE v.kind = 'human' AND v.link_id IS NOT NULL"
)
"""The rows whose moments the number follows."""

"""The one gate every message passes: sent, held until, or skipped because.

``verdict`` is pure: it takes what is known about a candidate, the limits of the campaign and an instant, and says what
happens and on what evidence. ``candidates`` loads what is known, for a batch, in a fixed number of queries.
``standing_sql`` says the part that does not depend on the hour in SQL, for planning a million; a test holds the two
together.

Everybody is judged twice: when planned, and again just before ``sending``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings

from campaigns.models import Campaign, Channel, Message, Purpose, Suppression, address_key
from customers.models import Customer, Refund
from lifecycle_crm.lib import batches
from lifecycle_crm.lib.moments import moment, parameter

SEND, HELD, SKIPPED = "sent", "held_until", "skipped"

HOLD_LIMIT = timedelta(days=14)
"""So long a message waits for a complaint to close; then its moment has passed."""
DETRACTOR_DAYS = 14
DETRACTOR_SCORE = 6
STALE_AFTER = timedelta(hours=48)
"""A win-back that should have gone out this long ago stays in: nobody wants last week's "we miss you" in one heap."""
RECHECK = timedelta(hours=6)
WEEK = timedelta(days=7)
REFUND_ASKED, REFUND_OVER, DELAYED, DELIVERED = "refund_requested", "refund_declined", "delivery_delayed", "delivered"
TROUBLES = (REFUND_ASKED, REFUND_OVER, DELAYED, DELIVERED)
"""Names of events by which a shop says that something went wrong for a customer, and that it is over. A refund that was
given ends the wait for one too."""
TROUBLE_LASTS = timedelta(days=30)

Reason = Message.Reason
NEVER_MEANT = "('no_address', 'no_phone', 'no_consent', 'unsubscribed', 'bounced', 'complained', 'manual')"
"""Reasons, as SQL, for which somebody is skipped when planned: no message could have reached them, so they tell nothing."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits of one campaign, and whether it is running at all."""

    purpose: str = Purpose.MARKETING
    channel: str = "email"
    is_live: bool = True
    is_reactivation: bool = False
    cap_per_day: int = 1
    cap_per_week: int = 3
    quiet_from: int = 21
    quiet_until: int = 8
    calm_days: int = 0

    @classmethod
    def of(cls, campaign: Campaign, *, is_live: bool = True) -> Policy:
        return cls(
            purpose=campaign.purpose,
            channel=campaign.channel,
            is_live=is_live,
            is_reactivation=campaign.kind == Campaign.Kind.REACTIVATION,
            cap_per_day=campaign.cap_per_day,
            cap_per_week=campaign.cap_per_week,
            quiet_from=campaign.quiet_from,
            quiet_until=campaign.quiet_until,
            calm_days=campaign.calm_days,
        )

    @property
    def is_promotion(self) -> bool:
        return self.purpose == Purpose.MARKETING

    @property
    def no_address(self) -> Reason:
        """Why somebody without an address of this channel is not written to."""
        return Reason.NO_PHONE if self.channel == Channel.SMS else Reason.NO_ADDRESS


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the gate looks at for one customer and channel. Instants are aware; ``slots`` are their recent marketing messages
    on whatever channel; ``address_key`` is what their address is known by on the stop list."""

    customer_id: int
    address: str = ""
    address_key: str | None = None
    time_zone: str = ""
    consent_id: int | None = None
    consent_granted: bool = False
    consent_at: datetime | None = None
    suppressions: tuple[tuple[str, datetime], ...] = ()
    slots: tuple[tuple[date, datetime], ...] = ()
    open_cases: int = 0
    nps_score: int | None = None
    answered_at: datetime | None = None
    stage: str = ""
    last_order_at: datetime | None = None
    refund_since: datetime | None = None
    delayed_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: str
    reason: str = ""
    at: datetime | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"outcome": self.outcome, **self.evidence}
        if self.reason:
            answer["reason"] = self.reason
        if self.at:
            answer["at"] = self.at.isoformat()
        return answer


# --- Hours ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def zone_of(name: str) -> ZoneInfo:
    """The customer's zone, or the shop's: an unknown zone must not mean "any hour will do"."""
    return _zone(name) or ZoneInfo(settings.SHOP_TIME_ZONE)


def is_quiet(moment: datetime, zone: ZoneInfo, quiet_from: int, quiet_until: int) -> bool:
    return is_quiet_hour(moment.astimezone(zone).hour, quiet_from, quiet_until)


def is_quiet_hour(hour: int, quiet_from: int, quiet_until: int) -> bool:
    if quiet_from <= quiet_until:
        return quiet_from <= hour < quiet_until
    return hour >= quiet_from or hour < quiet_until


def end_of_quiet(moment: datetime, zone: ZoneInfo, quiet_from: int, quiet_until: int) -> datetime:
    """The first instant at or after ``moment`` outside the quiet hours, in UTC.

    The hour is resolved on the clock of the place: where the clock skips it, the end is the first minute after the gap;
    where it comes twice, the first of the two.
    """
    if not is_quiet(moment, zone, quiet_from, quiet_until):
        return moment
    local = moment.astimezone(zone)
    day = local.date() + timedelta(days=1 if local.hour >= quiet_until else 0)
    end = datetime.combine(day, time(quiet_until), tzinfo=zone).astimezone(UTC)
    while is_quiet(end, zone, quiet_from, quiet_until) or end < moment:
        end += timedelta(minutes=15)
    return end


def next_hour(moment: datetime, zone: ZoneInfo, hour: int) -> datetime:
    """The first instant at or after ``moment`` when it is that hour at the place, in UTC: within the hour at once. A day on
    which the clock skips the hour is passed over."""
    return end_of_quiet(moment, zone, (hour + 1) % 24, hour)


# --- The verdict ------------------------------------------------------------------------------------------------------


def _suppressed(candidate: Candidate, policy: Policy) -> str:
    """The reason on the stop list that counts, or "". Who agreed again after unsubscribing may be written to again."""
    counting = [
        reason
        for reason, since in candidate.suppressions
        if reason != Suppression.Reason.UNSUBSCRIBED
        or (
            policy.purpose != Purpose.SERVICE
            and not (candidate.consent_granted and candidate.consent_at is not None and candidate.consent_at > since)
        )
    ]
    return min(counting, default="")


def verdict(
    candidate: Candidate,
    policy: Policy,
    as_of: datetime,
    *,
    planned_at: datetime | None = None,
    due_at: datetime | None = None,
) -> Verdict:
    """What happens to this candidate at this instant, why, and on what evidence; of a message, if its times are given."""
    for _check, found in checks(candidate, policy, as_of, planned_at=planned_at, due_at=due_at):
        if found is not None:
            return found
    evidence: dict[str, Any] = {"consent": candidate.consent_id}
    zone = zone_of(candidate.time_zone)
    if policy.is_promotion:
        evidence["day"] = as_of.astimezone(zone).date().isoformat()
    return Verdict(SEND, "", None, {**evidence, "zone": zone.key})


def checks(
    candidate: Candidate,
    policy: Policy,
    as_of: datetime,
    *,
    planned_at: datetime | None = None,
    due_at: datetime | None = None,
) -> Iterator[tuple[str, Verdict | None]]:
    """Everything the gate asks, in order: the reason it asks about, and what that does to the message, or ``None``.

    The first that does something is the verdict. What service state holds back is judged again by itself and lifts when it
    is over; what waits for longer than two weeks has lost its moment.
    """
    evidence: dict[str, Any] = {"consent": candidate.consent_id}

    def skipped(reason: str, **more: Any) -> Verdict:
        return Verdict(SKIPPED, reason, None, {**evidence, **more})

    def held(reason: str, until: datetime, **more: Any) -> Verdict:
        if planned_at is not None and until - planned_at > HOLD_LIMIT + timedelta(days=1):
            return skipped(reason, **more)
        return Verdict(HELD, reason, until, {**evidence, **more})

    yield Reason.INACTIVE, None if policy.is_live else skipped(Reason.INACTIVE)
    yield policy.no_address, None if candidate.address_key else skipped(policy.no_address)
    stopped = _suppressed(candidate, policy)
    yield Reason.UNSUBSCRIBED, skipped(stopped) if stopped else None
    if policy.purpose != Purpose.SERVICE:
        yield Reason.NO_CONSENT, None if candidate.consent_granted else skipped(Reason.NO_CONSENT)
    if policy.is_reactivation:
        came_back = candidate.stage != "dormant"
        yield Reason.CAME_BACK, skipped(Reason.CAME_BACK, stage=candidate.stage) if came_back else None
        is_stale = due_at is not None and as_of - due_at > STALE_AFTER
        yield Reason.STALE, skipped(Reason.STALE, due=due_at.isoformat()) if is_stale and due_at else None

    zone = zone_of(candidate.time_zone)
    if policy.is_promotion:
        cases = candidate.open_cases
        yield Reason.OPEN_CASE, held(Reason.OPEN_CASE, as_of + RECHECK, open_cases=cases) if cases > 0 else None
        yield Reason.DETRACTOR, _after_a_bad_answer(candidate, as_of, held)
        for reason, since in ((Reason.REFUND, candidate.refund_since), (Reason.DELAYED, candidate.delayed_since)):
            yield reason, held(reason, as_of + RECHECK, since=since.isoformat()) if since else None
        calm = candidate.last_order_at and candidate.last_order_at + timedelta(days=policy.calm_days)
        yield Reason.JUST_BOUGHT, held(Reason.JUST_BOUGHT, calm) if calm and as_of < calm else None
    if policy.purpose != Purpose.SERVICE:
        until = None
        if is_quiet(as_of, zone, policy.quiet_from, policy.quiet_until):
            until = end_of_quiet(as_of, zone, policy.quiet_from, policy.quiet_until)
        yield Reason.QUIET_HOURS, held(Reason.QUIET_HOURS, until, zone=zone.key) if until else None
    if policy.is_promotion:
        today = as_of.astimezone(zone).date()
        on_day = sum(day == today for day, _at in candidate.slots)
        in_week = sum(at > as_of - WEEK for _day, at in candidate.slots)
        is_capped = on_day >= policy.cap_per_day or in_week >= policy.cap_per_week
        yield Reason.CAPPED, skipped(Reason.CAPPED, on_day=on_day, in_seven_days=in_week) if is_capped else None


def _after_a_bad_answer(candidate: Candidate, as_of: datetime, held: Callable[..., Verdict]) -> Verdict | None:
    if candidate.nps_score is None or candidate.nps_score > DETRACTOR_SCORE or not candidate.answered_at:
        return None
    calm = candidate.answered_at + timedelta(days=DETRACTOR_DAYS)
    return held(Reason.DETRACTOR, calm, nps_score=candidate.nps_score) if as_of < calm else None


@dataclass(frozen=True, slots=True)
class Answer:
    """One thing the gate asks. ``check`` is the reason it asks about; ``verdict`` is None when it does nothing."""

    check: str
    verdict: Verdict | None


def answers(customer_id: int, campaign: Campaign, as_of: datetime) -> tuple[Verdict, list[Answer]]:
    """What the gate says of one customer and campaign at this instant, and everything it asks, in order."""
    policy = Policy.of(campaign)
    candidate = candidates([customer_id], policy, as_of)[customer_id]
    return verdict(candidate, policy, as_of), [Answer(str(k), found) for k, found in checks(candidate, policy, as_of)]


# --- What is known ----------------------------------------------------------------------------------------------------


Person = tuple[int, str, str | None, str, str, int | None, int | None, datetime | None, str | None, datetime | None]
"""Id, e-mail address, its key, phone, time zone, open cases, last NPS answer, when, stage, last order: the columns of
``PERSON``."""
PERSON = (
    "pk", "email", "email_key", "phone", "time_zone", "facts__open_cases", "facts__nps_score", "facts__answered_at",
    "facts__stage", "facts__last_order_at",
)  # fmt: skip


def candidates(customers: Collection[int], policy: Policy, as_of: datetime) -> dict[int, Candidate]:
    """Candidates by customer id, for a batch of at most a few thousand, in a fixed number of queries."""
    return judgeable(Customer.objects.filter(pk__in=customers).values_list(*PERSON), policy, as_of)


def judgeable(people: Iterable[Person], policy: Policy, as_of: datetime) -> dict[int, Candidate]:
    """The same for people whose own row is at hand, in a fixed number of queries."""
    people = list(people)
    customers = sorted({row[0] for row in people})
    ids = ", ".join(str(pk) for pk in customers) or "NULL"
    statements: dict[int, tuple[int, bool, datetime]] = {}
    if policy.purpose != Purpose.SERVICE:
        said = batches.rows(
            f"SELECT customer_id, id, is_granted, occurred_at FROM customers_consent WHERE customer_id IN ({ids}) "
            "AND purpose = %s AND channel = %s AND occurred_at <= %s ORDER BY occurred_at, id",
            [policy.purpose, policy.channel, parameter(as_of)],
        )
        for pk, consent_id, is_granted, at in said:
            statements[pk] = (consent_id, bool(is_granted), moment(at))
    slots: dict[int, list[tuple[date, datetime]]] = defaultdict(list)
    if policy.is_promotion:
        # A day longer than the week: "today" of a far zone may have begun before the last 24 hours.
        recent = batches.rows(
            f"SELECT customer_id, day, occurred_at FROM campaigns_slot WHERE customer_id IN ({ids}) AND occurred_at > %s",
            [parameter(as_of - WEEK - timedelta(days=1))],
        )
        for pk, day, at in recent:
            slots[pk].append((date.fromisoformat(day) if isinstance(day, str) else day, moment(at)))
    stops: dict[str, list[tuple[str, datetime]]] = defaultdict(list)
    is_sms = policy.channel == Channel.SMS
    reach = {row[0]: (row[3], _phone_key(row[3])) if is_sms else (row[1], row[2]) for row in people}
    keys = [key for _address, key in reach.values() if key]
    stopped = batches.rows(
        "SELECT address_key, reason, created_at FROM campaigns_suppression "
        f"WHERE channel = %s AND address_key IN ({', '.join(['%s'] * len(keys)) or 'NULL'})",
        [policy.channel, *keys],
    )
    for of, reason, since in stopped:
        stops[of].append((reason, moment(since)))
    answer = {}
    troubles = _troubles(ids, as_of) if policy.is_promotion and customers else {}
    for pk, _email, _key, _phone, zone, open_cases, nps_score, answered_at, stage, last_order_at in people:
        address, key = reach[pk]
        refund_since, delayed_since = troubles.get(pk, (None, None))
        consent_id, is_granted, said_at = statements.get(pk, (None, False, None))
        answer[pk] = Candidate(
            customer_id=pk,
            address=address,
            address_key=key,
            time_zone=zone,
            consent_id=consent_id,
            consent_granted=is_granted,
            consent_at=said_at,
            suppressions=tuple(stops.get(key, ())) if key else (),
            slots=tuple(slots.get(pk, ())),
            open_cases=open_cases or 0,
            nps_score=nps_score,
            answered_at=answered_at,
            stage=stage or "",
            last_order_at=last_order_at,
            refund_since=refund_since,
            delayed_since=delayed_since,
        )
    return answer


def _phone_key(phone: str) -> str | None:
    return address_key(Channel.SMS, phone) or None


def _troubles(ids: str, as_of: datetime) -> dict[int, tuple[datetime | None, datetime | None]]:
    """(waiting for a refund since, for a late delivery since) of those who do. Both are over when the shop says so, or
    when it has said nothing for a month."""
    said: dict[int, dict[str, datetime]] = defaultdict(dict)
    rows = batches.rows(
        f"SELECT customer_id, name, max(occurred_at) FROM customers_event WHERE customer_id IN ({ids}) AND name IN "
        f"({', '.join(['%s'] * len(TROUBLES))}) AND occurred_at > %s AND occurred_at <= %s GROUP BY customer_id, name",
        [*TROUBLES, parameter(as_of - TROUBLE_LASTS), parameter(as_of)],
    )
    for pk, name, at in rows:
        said[pk][name] = moment(at)
    asked = sorted(pk for pk, names in said.items() if REFUND_ASKED in names)
    if asked:
        given = Refund.objects.filter(order__customer_id__in=asked, occurred_at__lte=as_of).order_by("occurred_at")
        for pk, at in given.values_list("order__customer_id", "occurred_at"):
            said[pk][REFUND_OVER] = max(at, said[pk].get(REFUND_OVER, at))
    answer = {}
    for pk, names in said.items():
        pairs = ((REFUND_ASKED, REFUND_OVER), (DELAYED, DELIVERED))
        since = [
            names[begun] if begun in names and names.get(over, names[begun] - WEEK) < names[begun] else None
            for begun, over in pairs
        ]
        if any(since):
            answer[pk] = (since[0], since[1])
    return answer


def standing_sql(policy: Policy, as_of: datetime) -> tuple[str, str, list[Any]]:
    """The verdict's part that no hour changes, as SQL over alias ``c`` of ``customers_customer``.

    Returns ``(reason expression, joins, parameters of the joins)``: "" means "may be written to". The joins bring alias
    ``k``, the consent in force.
    """
    if policy.purpose == Purpose.SERVICE:
        joins, params = "LEFT JOIN customers_consent k ON k.id = NULL", []
        counts = "s.reason <> 'unsubscribed'"
        otherwise = "''"
    else:
        joins = (
            "LEFT JOIN customers_consent k ON k.id = (SELECT n.id FROM customers_consent n WHERE n.customer_id = c.id "
            "AND n.purpose = %s AND n.channel = %s AND n.occurred_at <= %s ORDER BY n.occurred_at DESC, n.id DESC LIMIT 1)"
        )
        params = [policy.purpose, policy.channel, parameter(as_of)]
        counts = "(s.reason <> 'unsubscribed' OR NOT (coalesce(k.is_granted, false) AND k.occurred_at > s.created_at))"
        otherwise = f"CASE WHEN coalesce(k.is_granted, false) THEN '' ELSE '{Reason.NO_CONSENT.value}' END"
    key, has_none = (
        ("c.phone", "substr(c.phone, 1, 1) <> '+'")
        if policy.channel == Channel.SMS
        else ("c.email_key", "c.email_key IS NULL")
    )
    stopped = (
        f"SELECT min(s.reason) FROM campaigns_suppression s WHERE s.channel = '{Channel(policy.channel).value}' "
        f"AND s.address_key = {key} AND {counts}"
    )
    reason = f"CASE WHEN {has_none} THEN '{policy.no_address.value}' ELSE coalesce(({stopped}), {otherwise}) END"
    return reason, joins, params


def address_sql(channel: str) -> str:
    """The address of this channel, over alias ``c`` of ``customers_customer``."""
    return "c.phone" if channel == Channel.SMS else "c.email"

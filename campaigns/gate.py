"""The one gate every message passes: sent, held until, or skipped because.

``verdict`` is pure: it takes what is known about a candidate, the limits of the campaign and an instant, and says what
happens and on what evidence. ``candidates`` loads what is known, for a batch, in five queries. ``standing_sql`` says the
part that does not depend on the hour in SQL, for planning a million; a test holds the two together.

Everybody is judged twice: when planned, and again just before ``sending``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings

from campaigns.models import Campaign, Message, Purpose, Slot, Suppression
from customers import consent
from customers.models import Consent, Customer, CustomerFacts
from lifecycle_crm.lib.moments import parameter

SEND, HELD, SKIPPED = "sent", "held_until", "skipped"

HOLD_LIMIT = timedelta(days=14)
"""So long a message waits for a complaint to close; then its moment has passed."""
DETRACTOR_DAYS = 14
DETRACTOR_SCORE = 6
STALE_AFTER = timedelta(hours=48)
"""A win-back that should have gone out this long ago stays in: nobody wants last week's "we miss you" in one heap."""
RECHECK = timedelta(hours=6)
WEEK = timedelta(days=7)

Reason = Message.Reason


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
        )

    @property
    def is_promotion(self) -> bool:
        return self.purpose == Purpose.MARKETING


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the gate looks at for one customer. Instants are aware; ``slots`` are their recent marketing messages."""

    customer_id: int
    address: str = ""
    email_key: str | None = None
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
    planned_at: datetime | None = None
    due_at: datetime | None = None


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
    hour = moment.astimezone(zone).hour
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


def verdict(candidate: Candidate, policy: Policy, as_of: datetime) -> Verdict:
    """What happens to this candidate at this instant, why, and on what evidence."""
    evidence: dict[str, Any] = {"consent": candidate.consent_id}

    def skipped(reason: str, **more: Any) -> Verdict:
        return Verdict(SKIPPED, reason, None, {**evidence, **more})

    def held(reason: str, until: datetime, **more: Any) -> Verdict:
        if candidate.planned_at is not None and until - candidate.planned_at > HOLD_LIMIT + timedelta(days=1):
            return skipped(reason, **more)
        return Verdict(HELD, reason, until, {**evidence, **more})

    if not policy.is_live:
        return skipped(Reason.INACTIVE)
    if not candidate.email_key:
        return skipped(Reason.NO_ADDRESS)
    if reason := _suppressed(candidate, policy):
        return skipped(reason)
    if policy.purpose != Purpose.SERVICE and not candidate.consent_granted:
        return skipped(Reason.NO_CONSENT)
    if policy.is_reactivation:
        if candidate.stage != "dormant":
            return skipped(Reason.CAME_BACK, stage=candidate.stage)
        if candidate.due_at is not None and as_of - candidate.due_at > STALE_AFTER:
            return skipped(Reason.STALE, due=candidate.due_at.isoformat())

    zone = zone_of(candidate.time_zone)
    if policy.is_promotion:
        if candidate.open_cases > 0:
            return held(Reason.OPEN_CASE, as_of + RECHECK, open_cases=candidate.open_cases)
        if candidate.nps_score is not None and candidate.nps_score <= DETRACTOR_SCORE and candidate.answered_at:
            calm = candidate.answered_at + timedelta(days=DETRACTOR_DAYS)
            if as_of < calm:
                return held(Reason.DETRACTOR, calm, nps_score=candidate.nps_score)
    if policy.purpose != Purpose.SERVICE and is_quiet(as_of, zone, policy.quiet_from, policy.quiet_until):
        until = end_of_quiet(as_of, zone, policy.quiet_from, policy.quiet_until)
        return held(Reason.QUIET_HOURS, until, zone=zone.key)
    if policy.is_promotion:
        today = as_of.astimezone(zone).date()
        on_day = sum(day == today for day, _at in candidate.slots)
        in_week = sum(at > as_of - WEEK for _day, at in candidate.slots)
        if on_day >= policy.cap_per_day or in_week >= policy.cap_per_week:
            return skipped(Reason.CAPPED, on_day=on_day, in_seven_days=in_week)
        evidence["day"] = today.isoformat()
    return Verdict(SEND, "", None, {**evidence, "zone": zone.key})


# --- What is known ----------------------------------------------------------------------------------------------------


def candidates(customers: Collection[int], policy: Policy, as_of: datetime) -> dict[int, Candidate]:
    """Candidates by customer id, for a batch of at most a few thousand, in five queries."""
    people = list(Customer.objects.filter(pk__in=customers).values_list("pk", "email", "email_key", "time_zone"))
    known: dict[int, tuple[Any, ...]] = {
        row[0]: row[1:]
        for row in CustomerFacts.objects.filter(pk__in=customers).values_list(
            "pk", "open_cases", "nps_score", "answered_at", "stage"
        )
    }
    statements: dict[int, Consent] = {}
    if policy.purpose != Purpose.SERVICE:
        statements = consent.current(customers, purpose=policy.purpose, channel=policy.channel, as_of=as_of)
    slots: dict[int, list[tuple[date, datetime]]] = defaultdict(list)
    if policy.is_promotion:
        # A day longer than the week: "today" of a far zone may have begun before the last 24 hours.
        recent = Slot.objects.filter(customer_id__in=customers, occurred_at__gt=as_of - WEEK - timedelta(days=1))
        for pk, day, at in recent.values_list("customer_id", "day", "occurred_at"):
            slots[pk].append((day, at))
    stops: dict[str, list[tuple[str, datetime]]] = defaultdict(list)
    keys = [row[2] for row in people if row[2]]
    stopped = Suppression.objects.filter(email_key__in=keys).values_list("email_key", "reason", "created_at")
    for of, reason, since in stopped:
        stops[of].append((reason, since))
    answer = {}
    for pk, email, key, zone in people:
        open_cases, nps_score, answered_at, stage = known.get(pk, (0, None, None, ""))
        statement = statements.get(pk)
        answer[pk] = Candidate(
            customer_id=pk,
            address=email,
            email_key=key,
            time_zone=zone,
            consent_id=statement.pk if statement else None,
            consent_granted=bool(statement and statement.is_granted),
            consent_at=statement.occurred_at if statement else None,
            suppressions=tuple(stops.get(key, ())) if key else (),
            slots=tuple(slots.get(pk, ())),
            open_cases=open_cases,
            nps_score=nps_score,
            answered_at=answered_at,
            stage=stage,
        )
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
    stopped = f"SELECT min(s.reason) FROM campaigns_suppression s WHERE s.email_key = c.email_key AND {counts}"
    reason = (
        f"CASE WHEN c.email_key IS NULL THEN '{Reason.NO_ADDRESS.value}' ELSE coalesce(({stopped}), {otherwise}) END"
    )
    return reason, joins, params

"""What pages and the API show of stages: where everybody stands, who moved, and how nights went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, F, Max, Q, QuerySet, Sum
from django.urls import reverse
from django.utils.translation import gettext as _

from customers.models import CustomerFacts
from lifecycle_crm.lib import clock
from stages.models import Backtest, Chunk, Night, Pin, RuleApproval, RuleSet, Stage, StageKey, StageTransition

NEW = "new"
"""How addresses and tables call "no stage yet"."""

Flows = dict[tuple[str, str], int]
"""Moves by ``(from, to)``; ``from`` is ``new`` for customers who were placed first."""


def people_url(**filters: Any) -> str:
    """The list of customers, filtered. Filters without a value are left out."""
    query = urlencode({key: value for key, value in filters.items() if value not in (None, "")})
    return f"{reverse('customers:list')}?{query}" if query else reverse("customers:list")


def moved_url(source: str | None, target: str | None, since: date, until: date) -> str:
    """The customers who moved from ``source`` to ``target`` on dates from ``since`` to ``until``, both included."""
    return people_url(moved_from=source, moved_to=target, moved_since=since, moved_until=until)


# --- Where everybody stands -------------------------------------------------------------------------------------------


def standing() -> dict[str, int]:
    """Customers per stage now; every stage is a key. Who has no stage yet is under ``new``."""
    counts = dict.fromkeys([*StageKey.values, NEW], 0)
    for stage, count in CustomerFacts.objects.order_by().values_list("stage").annotate(count=Count("pk")):
        counts[stage or NEW] = count
    return counts


def standing_on(day: date) -> dict[str, int]:
    """Customers per stage at the end of a business date, counted from every move up to then."""
    counts: Counter[str] = Counter(dict.fromkeys(StageKey.values, 0))
    for (source, target), moves in _flows(StageTransition.objects.filter(business_date__lte=day)).items():
        counts[target] += moves
        counts[source] -= moves
    return {key: counts[key] for key in StageKey.values}


def flows(since: date, until: date) -> Flows:
    """Moves on business dates from ``since`` to ``until``, both included, without those of undone nights.

    Undone moves are few: they are taken off what the index alone can count.
    """
    moves = StageTransition.objects.filter(business_date__range=(since, until))
    found = Counter(_flows(moves))
    for (source, target), taken_back in _flows(moves.filter(undoes__isnull=False)).items():
        found[source, target] -= taken_back
        found[target or NEW, source] -= taken_back
    return {move: count for move, count in found.items() if count}


def _flows(transitions: QuerySet[StageTransition]) -> Flows:
    grouped = transitions.order_by().values_list("from_stage", "to_stage").annotate(moves=Count("pk"))
    return {(source or NEW, target): moves for source, target, moves in grouped}


@dataclass(frozen=True)
class Turnover:
    """Moves into and out of one stage."""

    entered: int
    left: int

    @property
    def net(self) -> int:
        return self.entered - self.left


def turnover(moves: Mapping[tuple[str, str], int]) -> dict[str, Turnover]:
    entered: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for (source, target), count in moves.items():
        left[source] += count
        entered[target] += count
    return {stage: Turnover(entered[stage], left[stage]) for stage in StageKey.values}


def stages() -> dict[str, Stage]:
    """The rows of the six stages by key: the shop's own words about them."""
    return {stage.key: stage for stage in Stage.objects.all()}


# --- Rules ------------------------------------------------------------------------------------------------------------


def published() -> RuleSet | None:
    return RuleSet.objects.filter(state=RuleSet.State.PUBLISHED).first()


def rule_sets() -> QuerySet[RuleSet]:
    """All versions, the newest first, with how many moves each made."""
    return RuleSet.objects.select_related("created_by").order_by("-version")


def rule_set(version: int) -> RuleSet | None:
    return RuleSet.objects.select_related("created_by", "base", "published_by").filter(version=version).first()


def rule_names() -> dict[str, str]:
    """The name of every rule there ever was, as its newest version calls it, in the active language."""
    found: dict[str, str] = {}
    for rules in RuleSet.objects.order_by("version").values_list("rules", flat=True):
        found.update({rule["key"]: _(rule["name"]) for rule in rules if rule.get("name")})
    return found


def open_draft() -> RuleSet | None:
    return RuleSet.objects.filter(state=RuleSet.State.DRAFT).order_by("-version").first()


def approval(of: RuleSet) -> RuleApproval | None:
    """The open request for a second person."""
    return RuleApproval.objects.select_related("requested_by").filter(rule_set=of, approved_by=None).first()


def backtests(of: RuleSet) -> QuerySet[Backtest]:
    """Replays of a version, the last first."""
    return Backtest.objects.filter(rule_set=of).select_related("against").order_by("-id")


def backtest(pk: int) -> Backtest | None:
    return Backtest.objects.select_related("rule_set", "against").filter(pk=pk).first()


def previous(of: RuleSet) -> RuleSet | None:
    """The version to compare with: the one it was drafted from, else the one before it."""
    return of.base or RuleSet.objects.filter(version__lt=of.version).order_by("-version").first()


# --- Pins -------------------------------------------------------------------------------------------------------------


def pins() -> QuerySet[Pin]:
    """Who is held in a stage now, whose pin ends first first."""
    return Pin.objects.filter(until__gt=clock.now()).select_related("customer", "user").order_by("until", "pk")


# --- Moves ------------------------------------------------------------------------------------------------------------


def transitions() -> QuerySet[StageTransition]:
    """Moves with everything their reason needs, the last first."""
    return StageTransition.objects.select_related("customer", "rule_set", "user").order_by("-id")


# --- Nights -----------------------------------------------------------------------------------------------------------


def nights() -> QuerySet[Night]:
    return Night.objects.select_related("rule_set").order_by("-business_date")


def night(day: date) -> Night | None:
    return nights().filter(business_date=day).first()


def last_night() -> Night | None:
    return nights().first()


def seconds_of(night: Night) -> float | None:
    """How long it took from start to end; ``None`` while it runs."""
    return (night.finished_at - night.started_at).total_seconds() if night.finished_at else None


def missing_nights(last: Night | None) -> int:
    """How many complete business dates have no finished night after the last one."""
    if last is None:
        return 0
    since = last.business_date if last.state == Night.State.DONE else last.business_date - timedelta(days=1)
    return max(0, (clock.last_complete_day() - since).days)


def next_day(last: Night | None) -> date:
    """The business date whose night is to be run next, or went wrong; the last complete day when none is missing."""
    if last is None:
        return clock.last_complete_day()
    return missing_days(last)[0] if missing_nights(last) else clock.last_complete_day()


def missing_days(last: Night | None) -> list[date]:
    """The business dates without a finished night, oldest first."""
    if last is None:
        return []
    count = missing_nights(last)
    return [clock.last_complete_day() - timedelta(days=n) for n in range(count - 1, -1, -1)]


@dataclass(frozen=True)
class StepProgress:
    """The parts of one step. ``seconds`` is the work of all of them together, whoever did it."""

    step: str
    parts: int
    done: int
    running: int
    failed: int
    seconds: float

    @property
    def is_done(self) -> bool:
        return self.done == self.parts


def steps(of: Night) -> list[StepProgress]:
    grouped = (
        of.chunks.order_by()
        .values("step")
        .annotate(
            place=Max("position"),
            parts=Count("pk"),
            done=Count("pk", filter=Q(state=Chunk.State.DONE)),
            running=Count("pk", filter=Q(state=Chunk.State.RUNNING)),
            failed=Count("pk", filter=Q(state=Chunk.State.FAILED)),
            worked=Sum("seconds"),
        )
        .order_by("place")
    )
    return [
        StepProgress(row["step"], row["parts"], row["done"], row["running"], row["failed"], row["worked"] or 0.0)
        for row in grouped
    ]


def retried(of: Night) -> QuerySet[Chunk]:
    """Parts that failed and are being tried again, with what went wrong."""
    return of.chunks.exclude(error="").exclude(state=Chunk.State.FAILED).order_by("position", "low")


@dataclass(frozen=True)
class SetAside:
    """A part of a night that three tries could not do. ``customer`` is its id when it was cornered to a single one."""

    step: str
    customer: int | None
    low: int
    high: int
    error: str


def set_aside(of: Night) -> list[SetAside]:
    failed = of.chunks.filter(state=Chunk.State.FAILED).order_by("position", "low")[:50]
    return [
        SetAside(one.step, one.low if one.high - one.low == 1 else None, one.low, one.high - 1, one.error)
        for one in failed
    ]


def moves_of(night: Night) -> Flows:
    return _flows(StageTransition.objects.filter(night=night))


def moved_in(nights: list[Night]) -> dict[int, int]:
    """Moves by night id, for the nights of one page."""
    rows = StageTransition.objects.filter(night__in=nights).order_by().values_list("night").annotate(moves=Count("pk"))
    return {pk: moves for pk, moves in rows if pk is not None}


def worth_of_entered(stage: str, since: date, until: date) -> tuple[int, int]:
    """Customers who entered ``stage`` on those dates and still stand there, and what they have spent (minor units)."""
    entered = StageTransition.objects.filter(business_date__range=(since, until), to_stage=stage).values("customer")
    found = CustomerFacts.objects.filter(stage=stage, customer__in=entered).aggregate(
        customers=Count("pk"), worth=Sum(F("spend_minor"))
    )
    return found["customers"], found["worth"] or 0

"""What the page of the stage flow and the API read: what the night kept, for any dates, or the moves of a segment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from django.core.cache import cache
from django.db import connection
from django.db.models import Max, Q, Sum

from lifecycle_crm.dashboard import flow_rollups
from lifecycle_crm.dashboard.models import ArrivalDay, FlowPeriod, StageDay
from lifecycle_crm.lib import batches
from stages import durations, flows
from stages.durations import STAY_DAYS, Speed, Stays
from stages.flows import Within
from stages.models import StageKey
from stages.ways import Cell, Passed, Ways, between, came, passed, shares

CACHE_SECONDS = 24 * 3600

_ONE = timedelta(days=1)


def as_of() -> date | None:
    """The newest date whose flow is known; ``None`` before the first night (of this version of the rollups)."""
    newest = StageDay.objects.aggregate(last=Max("business_date"))["last"]
    return newest if newest and flow_rollups.is_current() else None


@dataclass(frozen=True)
class Story:
    """What happened between ``days``: who ``stood`` where at the end of each, the ways of the ``whole`` period and of
    each step between two neighbours, and how many people ``came`` into each stage in the window of the ``stays``."""

    days: Sequence[date]
    stood: Mapping[date, Mapping[str, int]]
    whole: Ways
    steps: Sequence[Ways]
    came: Mapping[str, int]
    stays: Mapping[str, Stays]
    speed: Sequence[Speed]

    def cells(self) -> Counter[tuple[str, str]]:
        """The transition matrix of the whole period."""
        return between(self.stood[self.days[0]], self.whole)

    def step_cells(self) -> list[Counter[tuple[str, str]]]:
        """The same between each two neighbouring dates."""
        return [between(self.stood[day], step) for day, step in zip(self.days, self.steps, strict=False)]

    def passed(self) -> list[Passed]:
        return passed(self.stood[self.days[0]], self.whole)


def story(days: Sequence[date], within: Within | None = None) -> Story:
    """``days`` in order, two at least. ``within`` chooses customers; then the moves themselves are read."""
    first, last = days[0], days[-1]
    began = last - timedelta(days=STAY_DAYS)
    steps = list(pairwise(days))
    found = _ways({(first, last), *steps}, within, if_kept=(began, last))
    return Story(
        days=days,
        stood=_stood(days, within),
        whole=found[first, last],
        steps=[found[step] for step in steps],
        came=came(found[began, last]) if (began, last) in found else _came(began, last, within),
        stays=_stays_within(began, last, within) if within else _stays(began, last),
        speed=durations.speed(_arrived(first, last, within)),
    )


def matrix(since: date, until: date) -> list[Cell]:
    """The transition matrix between the ends of two dates."""
    return shares(between(_stood([since], None)[since], _ways({(since, until)}, None)[since, until]))


def _ways(
    periods: set[tuple[date, date]], within: Within | None, if_kept: tuple[date, date] | None = None
) -> dict[tuple[date, date], Ways]:
    """What the night kept; else what somebody asked for since then; else counted from the moves and remembered.
    ``if_kept`` is one more period, given only if the night kept it."""
    if within:
        return {period: flows.ways(*period, within) for period in periods}
    where = Q()
    for since, until in periods | ({if_kept} if if_kept else set()):
        where |= Q(since=since, until=until)
    found = {(row.since, row.until): flow_rollups.kept(row) for row in FlowPeriod.objects.filter(where)}
    if missing := periods - found.keys():
        mark = flow_rollups.stamp()
        keys = {f"ways:{mark}:{since}:{until}": (since, until) for since, until in missing}
        remembered = cache.get_many(keys)
        for key, period in keys.items():
            if key in remembered:
                people, rules = remembered[key]
                found[period] = Ways(people, rules)
            else:
                found[period] = flow_rollups.ways(*period)
                cache.set(key, (dict(found[period].people), found[period].rules), CACHE_SECONDS)
    return found


def _came(first: date, last: date, within: Within | None) -> Counter[str]:
    """People by the stages they came into, counted from the moves and, for everybody, remembered."""
    if within:
        return flows.came(first, last, within)
    key = f"came:{flow_rollups.stamp()}:{first}:{last}"
    found: Counter[str] | None = cache.get(key)
    if found is None:
        found = flows.came(first, last)
        cache.set(key, found, CACHE_SECONDS)
    return found


def _stood(days: Sequence[date], within: Within | None) -> dict[date, Mapping[str, int]]:
    """Zeros before the first rolled date: then nobody was placed."""
    if within:
        return {day: flows.standing(day, within) for day in days}
    found: dict[date, dict[str, int]] = {day: dict.fromkeys(StageKey.values, 0) for day in days}
    rows = StageDay.objects.filter(business_date__in=days).values_list("business_date", "stage", "customers")
    for day, stage, customers in rows:
        found[day][stage] = customers
    return dict(found)


def _stays(began: date, last: date) -> dict[str, Stays]:
    """Summed up once after each change of the rollups: some hundred thousand rows at most, whatever the shop."""
    key = f"stays:{flow_rollups.stamp()}:{last}"
    found: dict[str, Stays] | None = cache.get(key)
    if found is None:
        found = _sum_stays(began, last)
        cache.set(key, found, CACHE_SECONDS)
    return found


def _sum_stays(began: date, last: date) -> dict[str, Stays]:
    entered = StageDay.objects.filter(business_date__gt=began, business_date__lte=last, entered__gt=0)
    length = "ended - began" if connection.vendor == "postgresql" else "julianday(ended) - julianday(began)"
    kept = "FROM dashboard_stayday WHERE began > %s AND ended <= %s"
    values = [connection.ops.adapt_datefield_value(day) for day in (began, last)]
    left = batches.rows(f"SELECT stage, began, sum(stays) {kept} GROUP BY 1, 2", values)
    lengths = batches.rows(f"SELECT stage, CAST({length} AS integer), sum(stays) {kept} GROUP BY 1, 2", values)
    return durations.stays(
        last,
        Counter({(stage, day): n for stage, day, n in entered.values_list("stage", "business_date", "entered")}),
        Counter({(stage, _as_date(day)): int(n) for stage, day, n in left}),
        Counter({(stage, days): int(n) for stage, days, n in lengths}),
    )


def _as_date(value: date | str) -> date:
    """SQLite gives the dates of raw statements as text."""
    return date.fromisoformat(value) if isinstance(value, str) else value


def _stays_within(began: date, last: date, within: Within) -> dict[str, Stays]:
    entered: Counter[tuple[str, date]] = Counter()
    left: Counter[tuple[str, date]] = Counter()
    lengths: Counter[tuple[str, int]] = Counter()
    for (stage, start, end), stays in flows.stays(began, last, within).items():
        entered[stage, start] += stays
        if end:
            left[stage, start] += stays
            lengths[stage, (end - start).days] += stays
    return durations.stays(last, entered, left, lengths)


def _arrived(first: date, last: date, within: Within | None) -> list[tuple[str, int, int]]:
    if within:
        return [(stage, days, people) for (_d, stage, days), people in flows.arrived(first, last, within).items()]
    rows = ArrivalDay.objects.filter(business_date__gt=first, business_date__lte=last).order_by()
    return list(rows.values_list("stage", "days").annotate(total=Sum("people")))

"""How people went through the stages between two dates: set-based counts, each the size of a list of people.

A customer stands, at the end of a date, where their last move up to it led; who has none by then is ``new``. Counts are of
people, never of moves, so each equals the list that ``customers.trails`` chooses by the same words. A period is given by
the dates at whose ends it begins and ends; its moves are on the dates after the first, up to the last.

Time in a stage is estimated after Kaplan and Meier (*Nonparametric Estimation from Incomplete Observations*, 1958): who is
still there counts as "at least so long" instead of being left out, which would make every stage look shorter than it is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db import connection
from django.urls import reverse

from customers.trails import FORWARD, LONGEST_PATH, Way
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import DAY, epoch, parameter
from stages.models import StageKey
from stages.queries import NEW, standing

TABLE = "stages_stagetransition"
PLACES = ("", *StageKey.values)


def _code(column: str) -> str:
    """SQL: a stage as its place in ``PLACES``."""
    return f"CASE {column} " + " ".join(f"WHEN '{name}' THEN {at}" for at, name in enumerate(PLACES)) + " END"


STAY_DAYS = 365
"""Stays that began on so many dates are looked at for the time in a stage."""
PERCENTILES = (10, 50, 90)


def _date(day: date) -> Any:
    return connection.ops.adapt_datefield_value(day)


def _before_first(after: str) -> str:
    """SQL over one customer's moves: from where the first of those with ``after`` led, as its place in ``PLACES``.

    Ids ascend, so the smallest is the first move; the stage travels in its last three bits and needs no second look-up.
    """
    return f"min(CASE WHEN {after} THEN id * 8 + {_code('from_stage')} END) %% 8"


# --- Where people stood -----------------------------------------------------------------------------------------------


def standings(days: Sequence[date]) -> Counter[tuple[str, ...]]:
    """Customers by the stages they stood in at the ends of ``days`` (ascending); ``new`` before their first placement.

    Who was not placed by the last date is in none. Reads the moves after the first date only: before the first move after
    a date people stood where that move took them from, and who has moved no more stands where the facts say.
    """
    columns = ", ".join(f"{_before_first('business_date > %s')} AS m{i}" for i in range(len(days)))
    stood = ", ".join(f"coalesce(m{i}, {_code('f.stage')}) AS s{i}" for i in range(len(days)))
    names = ", ".join(f"s{i}" for i in range(len(days)))
    rows = batches.rows(
        f"""
        SELECT {names}, is_now, count(*) FROM (
            SELECT {stood}, f.stage AS is_now FROM (
                SELECT customer_id, {columns} FROM {TABLE} WHERE business_date > %s GROUP BY customer_id
            ) AS moved JOIN customers_customerfacts f ON f.customer_id = moved.customer_id
        ) AS trails GROUP BY {names}, is_now
        """,
        [*map(_date, days), _date(days[0])],
    )
    found: Counter[tuple[str, ...]] = Counter()
    stayed = Counter({stage or NEW: people for stage, people in standing().items()})
    for *trail, is_now, people in rows:
        stayed[is_now or NEW] -= people
        found[tuple(PLACES[place] or NEW for place in trail)] += people
    for stage, people in stayed.items():
        found[(stage,) * len(days)] += people
    return Counter({trail: people for trail, people in found.items() if people and trail[-1] != NEW})


def between(stood: Mapping[tuple[str, ...], int], source: int, target: int) -> Counter[tuple[str, str]]:
    """The transition matrix between two of the dates of ``standings``: people by ``(stage then, stage later)``."""
    cells: Counter[tuple[str, str]] = Counter()
    for trail, people in stood.items():
        if trail[target] != NEW:
            cells[trail[source], trail[target]] += people
    return cells


@dataclass(frozen=True)
class Cell:
    """People who stood in ``source`` and later in ``target``; ``share`` is of all who stood in ``source``."""

    source: str
    target: str
    people: int
    share: float


def shares(since: date, until: date) -> list[Cell]:
    """The transition matrix between the ends of two dates, in the order of the stages, cells without people left out."""
    cells = between(standings([since, until]), 0, 1)
    totals: Counter[str] = Counter()
    for (source, _target), people in cells.items():
        totals[source] += people
    order = [NEW, *StageKey.values]
    ranked = sorted(cells.items(), key=lambda item: (order.index(item[0][0]), order.index(item[0][1])))
    return [Cell(source, target, n, round(n / totals[source], 4)) for (source, target), n in ranked]


def stood_url(*stood: tuple[str, date], **more: Any) -> str:
    """The list of customers who stood in each of these stages at the end of each date."""
    return ways_url(*(Way("stood", (stage,), None, day) for stage, day in stood), **more)


def ways_url(*ways: Way, **more: Any) -> str:
    """The list of customers who went all these ways; ``more`` are other filters of the list."""
    return f"{reverse('customers:list')}?{urlencode({'way': [str(way) for way in ways], **more}, doseq=True)}"


def columns(first: date, last: date, count: int) -> list[date]:
    """``first`` and ``last``, and between them the latest month ends, ``count`` dates at most (2 to 6)."""
    ends: list[date] = []
    end = last.replace(day=1) - timedelta(days=1)
    while end > first and len(ends) < count - 2:
        ends.insert(0, end)
        end = end.replace(day=1) - timedelta(days=1)
    return [first, *ends, last]


# --- What people did --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moved:
    """``people`` made the move at least once, ``moves`` times together."""

    source: str
    target: str
    people: int
    moves: int


def moved(first: date, last: date) -> list[Moved]:
    """Direct moves after ``first`` up to ``last``, the most people first."""
    rows = batches.rows(
        f"SELECT from_stage, to_stage, count(DISTINCT customer_id), count(*) FROM {TABLE} "
        "WHERE business_date > %s AND business_date <= %s GROUP BY from_stage, to_stage",
        [_date(first), _date(last)],
    )
    found = [Moved(source or NEW, target, people, moves) for source, target, people, moves in rows]
    return sorted(found, key=lambda one: (-one.people, one.source, one.target))


@dataclass(frozen=True)
class Passed:
    """Of the ``been`` people who were in ``stage`` at some time of the period, ``on`` came into a later stage after it
    and ``gone`` moved straight from it to dormant, all within the period. ``on`` is ``None`` where no stage is later."""

    stage: str
    been: int
    on: int | None
    gone: int

    @property
    def on_share(self) -> float | None:
        return self.on / self.been if self.been and self.on is not None else None

    @property
    def gone_share(self) -> float | None:
        return self.gone / self.been if self.been else None


def passed(first: date, last: date) -> list[Passed]:
    """The six stages in order, for moves after ``first`` up to ``last``."""
    inside = "business_date > %s AND business_date <= %s"
    dates = [_date(first), _date(last)]
    ahead = ", ".join(
        f"max(CASE WHEN to_stage IN ({', '.join(repr(later) for later in FORWARD[rank + 1 :])}) THEN id END) AS a{rank}"
        for rank in range(len(FORWARD) - 1)
    )
    gained = " ".join(f"WHEN '{stage}' THEN a.a{rank}" for rank, stage in enumerate(FORWARD[:-1]))
    start = " ".join(f"WHEN {place} THEN '{name}'" for place, name in enumerate(PLACES) if name)
    rows = batches.rows(
        f"""
        SELECT b.stage, count(*), sum(CASE WHEN b.since = 0 THEN 1 ELSE 0 END),
               sum(CASE WHEN CASE b.stage {gained} END > b.since THEN 1 ELSE 0 END), sum(b.gone)
        FROM (
            SELECT customer_id, stage, min(since) AS since, max(gone) AS gone FROM (
                SELECT customer_id, CASE place {start} END AS stage, 0 AS since, 0 AS gone FROM (
                    SELECT customer_id, {_before_first(inside)} AS place FROM {TABLE} WHERE {inside} GROUP BY customer_id
                ) AS stood WHERE place > 0
                UNION ALL
                SELECT customer_id, to_stage, min(id), 0 FROM {TABLE} WHERE {inside} GROUP BY customer_id, to_stage
                UNION ALL
                SELECT customer_id, from_stage, {2**62}, 1 FROM {TABLE}
                WHERE {inside} AND to_stage = 'dormant' AND from_stage <> '' GROUP BY customer_id, from_stage
            ) AS visits GROUP BY customer_id, stage
        ) AS b
        LEFT JOIN (
            SELECT customer_id, {ahead} FROM {TABLE} WHERE {inside} GROUP BY customer_id
        ) AS a ON a.customer_id = b.customer_id
        GROUP BY b.stage
        """,
        dates * 5,
    )
    # Those who did not move in the period were where they stood when it began.
    stood = {trail[0]: people for trail, people in standings([first]).items()}
    found = {stage: (visited - started, on, gone) for stage, visited, started, on, gone in rows}
    return [
        Passed(stage, stood.get(stage, 0) + came, on if stage in FORWARD[:-1] else None, gone)
        for stage in StageKey.values
        for came, on, gone in [found.get(stage, (0, 0, 0))]
    ]


def paths(first: date, last: date, most: int = 10) -> list[tuple[tuple[str, ...], int]]:
    """The ways most people went after ``first`` up to ``last``: the stage before their first move, then each they came
    into. Ways of more than ``LONGEST_PATH`` moves are left out."""
    steps = ", ".join(
        f"coalesce(max(CASE WHEN place = {n} THEN to_stage END), '') AS s{n}" for n in range(1, LONGEST_PATH + 1)
    )
    names = ", ".join(["s0", *(f"s{n}" for n in range(1, LONGEST_PATH + 1))])
    rows = batches.rows(
        f"""
        SELECT {names}, count(*) AS people FROM (
            SELECT customer_id, max(CASE WHEN place = 1 THEN from_stage END) AS s0, {steps} FROM (
                SELECT customer_id, from_stage, to_stage,
                       row_number() OVER (PARTITION BY customer_id ORDER BY id) AS place
                FROM {TABLE} WHERE business_date > %s AND business_date <= %s
            ) AS moves GROUP BY customer_id HAVING max(place) <= {LONGEST_PATH}
        ) AS ways GROUP BY {names} ORDER BY people DESC, {names} LIMIT %s
        """,
        [_date(first), _date(last), most],
    )
    return [((row[0] or NEW, *(stage for stage in row[1:-1] if stage)), row[-1]) for row in rows]


# --- How long it takes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stays:
    """Stays in ``stage`` that began in the window: ``ended`` of ``stays`` are over. ``days`` holds the days after which
    10, 50 and 90 per cent have left, ``None`` where fewer have by now; ``longest`` is the longest anyone was watched."""

    stage: str
    people: int
    stays: int
    ended: int
    days: tuple[int | None, ...]
    longest: int


def left_after(
    observed: Iterable[tuple[int, bool, int]], shares: Sequence[int] = PERCENTILES
) -> tuple[int | None, ...]:
    """Kaplan–Meier: the first day by which so many per cent have left.

    ``observed`` holds ``(days, has left, how many)``; who has not left was watched for so many days and counts as being
    at risk up to then. ``None`` where the curve does not come so far.
    """
    left: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    for days, has_left, count in observed:
        seen[days] += count
        if has_left:
            left[days] += count
    at_risk, staying = sum(seen.values()), 1.0
    found: list[int | None] = [None] * len(shares)
    for days in sorted(seen):
        if left[days]:
            staying *= 1 - left[days] / at_risk
        for place, share in enumerate(shares):
            if found[place] is None and 1 - staying >= share / 100 - 1e-9:
                found[place] = days
        at_risk -= seen[days]
    return tuple(found)


def stays(last: date, days: int = STAY_DAYS) -> dict[str, Stays]:
    """Stays that began on the ``days`` dates up to ``last``, as known at its end, by stage."""
    began, end = last - timedelta(days=days), "business_date <= %s"
    length = f"(({epoch('coalesce(ended_at, %s)')} - {epoch('occurred_at')}) + {DAY // 2}) / {DAY}"
    rows = batches.rows(
        f"""
        SELECT to_stage, {length} AS days, CASE WHEN ended_at IS NULL THEN 0 ELSE 1 END AS is_over, count(*)
        FROM (
            SELECT to_stage, occurred_at,
                   lead(occurred_at) OVER (PARTITION BY customer_id ORDER BY id) AS ended_at
            FROM {TABLE} WHERE business_date > %s AND {end}
        ) AS stays GROUP BY 1, 2, 3
        """,
        [parameter(clock.day_end(last)), _date(began), _date(last)],
    )
    people = dict(
        batches.rows(
            f"SELECT to_stage, count(DISTINCT customer_id) FROM {TABLE} WHERE business_date > %s AND {end} "
            "GROUP BY to_stage",
            [_date(began), _date(last)],
        )
    )
    observed: dict[str, list[tuple[int, bool, int]]] = defaultdict(list)
    for stage, length_of, is_over, count in rows:
        observed[stage].append((max(0, int(length_of)), bool(is_over), count))
    return {
        stage: Stays(
            stage,
            people.get(stage, 0),
            sum(count for _d, _o, count in observed[stage]),
            sum(count for _d, over, count in observed[stage] if over),
            left_after(observed[stage]),
            max((length for length, _o, _c in observed[stage]), default=0),
        )
        for stage in StageKey.values
    }


@dataclass(frozen=True)
class Speed:
    """Median days from the first order to the first move ever into ``stage``, of the ``people`` who got there in the
    period and have ordered; ``None`` without any."""

    stage: str
    people: int
    days: int | None


def speed(first: date, last: date, targets: Sequence[str]) -> list[Speed]:
    """How soon after their first order people came into each of ``targets``, for those who first did so after ``first``
    up to ``last``."""
    names = ", ".join(f"'{StageKey(target)}'" for target in targets)
    rows = batches.rows(
        f"""
        SELECT t.to_stage, ({epoch("t.occurred_at")} - f.first_order_at) / {DAY} AS days, count(*)
        FROM (
            SELECT min(id) AS id FROM {TABLE} WHERE to_stage IN ({names}) GROUP BY customer_id, to_stage
        ) AS came
        JOIN {TABLE} t ON t.id = came.id
        JOIN customers_customerfacts f ON f.customer_id = t.customer_id
        WHERE t.business_date > %s AND t.business_date <= %s AND f.orders > 0
        GROUP BY 1, 2
        """,
        [_date(first), _date(last)],
    )
    counted: dict[str, Counter[int]] = defaultdict(Counter)
    for stage, days, count in rows:
        counted[stage][max(0, int(days))] += count
    return [Speed(target, sum(counted[target].values()), _median(counted[target])) for target in targets]


def _median(counted: Counter[int]) -> int | None:
    """The lower median of counted values."""
    half, seen = (sum(counted.values()) + 1) // 2, 0
    for value in sorted(counted):
        seen += counted[value]
        if seen >= half:
            return value
    return None

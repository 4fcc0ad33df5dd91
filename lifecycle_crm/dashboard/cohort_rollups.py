"""What the night keeps of cohorts, so that the page of retention reads a few thousand rows however many orders there are.

Each person belongs to one cohort for ever: that of the month (week) of their first counted order. ``roll`` writes whole
dates anew from orders and moves; a first order that turns up late names every date on which its customer did something.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Sum
from django.db.models.functions import TruncMonth, TruncWeek

from lifecycle_crm.dashboard.models import CohortDay
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter
from stages import flows

HORIZON = 24
"""Periods after the first one that are kept of a cohort."""
FEW_DAYS = 40
"""Up to so many dates are counted one by one, by probing the index of each customer; more as a whole, by reading all orders."""
MEASURES = ("newcomers", "buyers", "again", "revenue_minor", "lapsed")
Unit = CohortDay.Unit
_ONE = timedelta(days=1)
_BATCH = 1000

Key = tuple[str, date, date]


def begins(unit: str, day: date) -> date:
    """The first day of the month, or the Monday, of ``day``."""
    return clock.month(day) if unit == Unit.MONTH else day - timedelta(days=day.weekday())


def later(unit: str, first: date, periods: int) -> date:
    """The first day of the period so many after (before) the one that begins with ``first``."""
    return clock.month(first, periods) if unit == Unit.MONTH else first + timedelta(weeks=periods)


def between(unit: str, first: date, second: date) -> int:
    """Periods from the one that begins with ``first`` to the one that begins with ``second``."""
    if unit == Unit.WEEK:
        return (second - first).days // 7
    return (second.year - first.year) * 12 + second.month - first.month


# --- Writing ----------------------------------------------------------------------------------------------------------


def roll(days: Collection[date]) -> None:
    """Write the cohorts of these dates anew."""
    runs = [(first, last) for first, last in _runs(days) if (last - first).days >= FEW_DAYS]
    runs += [
        (day, day) for first, last in _runs(days) if (last - first).days < FEW_DAYS for day in clock.days(first, last)
    ]
    for first, last in runs:
        CohortDay.objects.filter(business_date__range=(first, last)).delete()
        CohortDay.objects.bulk_create(
            (
                CohortDay(unit=unit, cohort=cohort, business_date=day, **dict(zip(MEASURES, values, strict=True)))
                for (unit, cohort, day), values in sorted(count(first, last).items())
            ),
            batch_size=_BATCH,
        )


def _runs(days: Collection[date]) -> Iterator[tuple[date, date]]:
    """Ranges of neighbouring dates."""
    ordered = sorted(days)
    starts = [day for at, day in enumerate(ordered) if not at or ordered[at - 1] != day - _ONE]
    ends = [day for at, day in enumerate(ordered) if at + 1 == len(ordered) or ordered[at + 1] != day + _ONE]
    return zip(starts, ends, strict=True)


def count(first: date, last: date) -> dict[Key, list[int]]:
    """``MEASURES`` by unit, cohort and business date, counted from every order and move of these dates."""
    found: dict[Key, list[int]] = {}

    def add(day: date, began: date, by_unit: dict[str, tuple[int, ...]]) -> None:
        for unit, values in by_unit.items():
            cohort = begins(unit, began)
            if between(unit, cohort, begins(unit, day)) <= HORIZON:
                sums = found.setdefault((unit, cohort, day), [0] * len(MEASURES))
                for at, value in enumerate(values):
                    sums[at] += value

    orders = _orders_of(first) if first == last else _orders(first, last)
    for day, began, newcomers, in_month, in_week, again, revenue in orders:
        add(day, began, {Unit.MONTH: (newcomers, in_month, again, revenue, 0),
                         Unit.WEEK: (newcomers, in_week, again, revenue, 0)})  # fmt: skip
    for day, began, lapsed in _lapsed(first, last):
        add(day, began, dict.fromkeys((Unit.MONTH, Unit.WEEK), (0, 0, 0, 0, lapsed)))
    return found


def _counted(alias: str) -> str:
    return f"{alias}.is_counted" if connection.vendor == "postgresql" else f"{alias}.is_counted = 1"


def _local(expression: str) -> tuple[str, list[Any]]:
    """SQL for the business date of a moment."""
    sql, params = connection.ops.datetime_cast_date_sql(expression, (), settings.SHOP_TIME_ZONE)
    return sql, list(params)


def _same(unit: str, one: str, other: str) -> str:
    """SQL: both dates lie in the same month (week)."""
    if connection.vendor == "postgresql":
        return f"date_trunc('{unit}', {one}) = date_trunc('{unit}', {other})"
    if unit == Unit.MONTH:
        return f"substr({one}, 1, 7) = substr({other}, 1, 7)"
    return f"date({one}, '-6 days', 'weekday 1') = date({other}, '-6 days', 'weekday 1')"


Told = Iterator[tuple[date, date, int, int, int, int, int]]
"""By date and date of the first order: newcomers, first in the month, first in the week, second orders, revenue."""


def _orders(first: date, last: date) -> Told:
    local, zone = _local("o.placed_at")
    yield from _read(
        f"""
        WITH bought AS (
            SELECT o.customer_id, {local} AS day, count(*) AS orders, sum(o.base_minor) AS revenue
            FROM customers_order o WHERE {_counted("o")} AND o.placed_at < %s GROUP BY 1, 2
        ), told AS (
            SELECT b.day, b.orders, b.revenue, min(b.day) OVER mine AS began, lag(b.day) OVER mine AS before,
                   sum(b.orders) OVER mine - b.orders AS earlier
            FROM bought b WINDOW mine AS (PARTITION BY b.customer_id ORDER BY b.day)
        )
        SELECT t.day, t.began, sum(CASE WHEN t.before IS NULL THEN 1 ELSE 0 END),
               sum(CASE WHEN t.before IS NULL OR NOT {_same("month", "t.before", "t.day")} THEN 1 ELSE 0 END),
               sum(CASE WHEN t.before IS NULL OR NOT {_same("week", "t.before", "t.day")} THEN 1 ELSE 0 END),
               sum(CASE WHEN t.earlier <= 1 AND t.earlier + t.orders >= 2 THEN 1 ELSE 0 END), sum(t.revenue)
        FROM told t WHERE t.day >= %s GROUP BY t.day, t.began
        """,
        [*zone, parameter(clock.day_end(last)), connection.ops.adapt_datefield_value(first)],
    )


def _orders_of(day: date) -> Told:
    """The same of one date, from three looks into the orders of each customer who ordered on it."""
    local, zone = _local("t.first_at")
    start, end = parameter(clock.day_start(day)), parameter(clock.day_end(day))
    mine = f"FROM customers_order e WHERE e.customer_id = d.customer_id AND {_counted('e')}"
    since = [parameter(clock.day_start(begins(unit, day))) for unit in (Unit.MONTH, Unit.WEEK)]
    with batches.by_index():
        yield from _read(
            f"""
            WITH d AS (
                SELECT o.customer_id, count(*) AS orders, sum(o.base_minor) AS revenue FROM customers_order o
                WHERE {_counted("o")} AND o.placed_at >= %s AND o.placed_at < %s GROUP BY o.customer_id
            ), t AS MATERIALIZED (  -- else each look is taken as often as its answer is read
                SELECT d.orders, d.revenue, (SELECT min(e.placed_at) {mine}) AS first_at,
                       (SELECT max(e.placed_at) {mine} AND e.placed_at < %s) AS before,
                       (SELECT e.placed_at {mine} AND e.placed_at < %s ORDER BY e.placed_at LIMIT 1 OFFSET 1) AS second
                FROM d
            )
            SELECT %s, {local} AS began, sum(CASE WHEN t.before IS NULL THEN 1 ELSE 0 END),
                   sum(CASE WHEN t.before IS NULL OR t.before < %s THEN 1 ELSE 0 END),
                   sum(CASE WHEN t.before IS NULL OR t.before < %s THEN 1 ELSE 0 END),
                   sum(CASE WHEN t.before IS NULL AND t.orders >= 2 OR t.before IS NOT NULL AND t.second IS NULL
                            THEN 1 ELSE 0 END), sum(t.revenue)
            FROM t
            GROUP BY 2
            """,
            [start, end, start, start, day.isoformat(), *zone, *since],
        )


def _read(sql: str, params: list[Any]) -> Told:
    for day, began, *numbers in batches.rows(sql, params):
        newcomers, in_month, in_week, again, revenue = map(int, numbers)
        yield _date(day), _date(began), newcomers, in_month, in_week, again, revenue


def _lapsed(first: date, last: date) -> Iterator[tuple[date, date, int]]:
    """By date and date of the first order: who went dormant for the first time since that order."""
    local, zone = _local("t.first_at")
    rows = batches.rows(
        f"""
        SELECT t.business_date, {local} AS began, count(*) FROM (
            SELECT m.customer_id, m.id, m.business_date, (
                SELECT min(o.placed_at) FROM customers_order o
                WHERE o.customer_id = m.customer_id AND {_counted("o")} AND o.placed_at <= m.occurred_at
            ) AS first_at
            FROM {flows.TABLE} m
            WHERE m.business_date >= %s AND m.business_date <= %s AND m.to_stage = 'dormant' AND {flows.counts("m")}
        ) t
        WHERE t.first_at IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM {flows.TABLE} p WHERE p.customer_id = t.customer_id AND p.id < t.id AND p.to_stage = 'dormant'
                AND p.occurred_at >= t.first_at AND {flows.counts("p")}
        )
        GROUP BY 1, 2
        """,
        [*zone, *(connection.ops.adapt_datefield_value(day) for day in (first, last))],
    )
    for day, began, people in rows:
        yield _date(day), _date(began), people


def _date(found: date | str) -> date:
    return date.fromisoformat(found) if isinstance(found, str) else found


# --- Reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sums:
    """What a cohort did in one period."""

    newcomers: int = 0
    buyers: int = 0
    again: int = 0
    revenue_minor: int = 0
    lapsed: int = 0


def by_period(unit: str, first: date, last: date) -> dict[tuple[date, int], Sums]:
    """The sums of cohorts from ``first`` to ``last`` by cohort and period: 0 is the one of the first order."""
    trunc = TruncMonth if unit == Unit.MONTH else TruncWeek
    rows = (
        CohortDay.objects.filter(unit=unit, cohort__range=(first, last))
        .annotate(period=trunc("business_date"))
        .order_by()
        .values_list("cohort", "period")
        .annotate(*(Sum(name) for name in MEASURES))
    )
    return {
        (cohort, between(unit, cohort, period)): Sums(**dict(zip(MEASURES, values, strict=True)))
        for cohort, period, *values in rows
    }


def first_cohort(unit: str) -> date | None:
    """The oldest cohort there is."""
    return CohortDay.objects.filter(unit=unit).order_by("cohort").values_list("cohort", flat=True).first()


# --- Proof ------------------------------------------------------------------------------------------------------------


def problems(first: date, last: date) -> list[str]:
    """Every way in which what is kept of the dates from ``first`` to ``last`` disagrees with orders and moves."""
    kept = {
        (row.unit, row.cohort, row.business_date): [getattr(row, name) for name in MEASURES]
        for row in CohortDay.objects.filter(business_date__range=(first, last)).iterator(chunk_size=5000)
    }
    real = count(first, last)
    none = [0] * len(MEASURES)
    return [
        f"Rollup of {day}: the {unit} of {cohort} has {dict(zip(MEASURES, kept.get(key, none), strict=True))}, but orders and "
        f"moves make {dict(zip(MEASURES, real.get(key, none), strict=True))}."
        for key in sorted(kept.keys() | real.keys())
        if kept.get(key, none) != real.get(key, none)
        for unit, cohort, day in [key]
    ]

"""What the night keeps of people over a whole period, which daily rows cannot tell: who bought again, who went dormant.

The newest date is counted from the facts, which know each customer's first and last order: only who bought both lately
and long ago has to be looked up among the orders. Any other date is counted from the orders themselves.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime, timedelta

from django.db import connection

from lifecycle_crm.dashboard.models import RetentionDay
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter, seconds
from stages import flows

PERIODS = (7, 30, 90, 365)
"""The periods home offers, in days."""


def retention(business_date: date, days: int) -> RetentionDay:
    """The stored row, or one counted now and not stored (a date that was not the newest when it was rolled)."""
    row = RetentionDay.objects.filter(business_date=business_date, days=days).first()
    return row or count(business_date, days)


def roll(business_date: date, changed: Collection[date]) -> None:
    """Write the periods that end with the newest date, and those before them that are missing or hold a date of
    ``changed``: their nights have counted all others."""
    for days in PERIODS:
        _store(count_newest(business_date, days))
        before = business_date - timedelta(days=days)
        is_kept = RetentionDay.objects.filter(business_date=before, days=days).exists()
        since = before - timedelta(days=2 * days)
        if not is_kept or any(since < day <= before for day in changed):
            _store(count(before, days))


def _store(row: RetentionDay) -> None:
    RetentionDay.objects.update_or_create(
        business_date=row.business_date,
        days=row.days,
        defaults={"buyers_before": row.buyers_before, "came_back": row.came_back, "lost": row.lost},
    )


def _ends(business_date: date, days: int) -> tuple[datetime, datetime, datetime]:
    """When the period before begins, where the two meet, and when the period ends."""
    back = timedelta(days=days)
    return clock.day_end(business_date - 2 * back), clock.day_end(business_date - back), clock.day_end(business_date)


def _counted(alias: str) -> str:
    return f"{alias}.is_counted" if connection.vendor == "postgresql" else f"{alias}.is_counted = 1"


def count(business_date: date, days: int) -> RetentionDay:
    """From all orders of both periods."""
    start, middle, end = map(parameter, _ends(business_date, days))
    [(before, back)] = batches.rows(
        f"""
        SELECT count(*), coalesce(sum(CASE WHEN EXISTS (
            SELECT 1 FROM customers_order a
            WHERE {_counted("a")} AND a.customer_id = b.customer_id AND a.placed_at >= %s AND a.placed_at < %s
        ) THEN 1 ELSE 0 END), 0)
        FROM (
            SELECT DISTINCT o.customer_id FROM customers_order o
            WHERE {_counted("o")} AND o.placed_at >= %s AND o.placed_at < %s
        ) b
        """,
        [middle, end, start, middle],
    )
    return _row(business_date, days, before, back)


def count_newest(business_date: date, days: int) -> RetentionDay:
    """The same of the newest date. Orders from after it may be in the facts: who has one is looked up."""
    start, middle, end = _ends(business_date, days)
    ordered = (
        f"EXISTS (SELECT 1 FROM customers_order o WHERE {_counted('o')} AND o.customer_id = f.customer_id "
        "AND o.placed_at >= %s AND o.placed_at < %s)"
    )
    at = {"start": seconds(start), "middle": seconds(middle), "end": seconds(end)}
    with batches.by_index():
        [(before, back)] = batches.rows(
            f"""
            WITH people AS MATERIALIZED (  -- else each look is taken as often as its answer is read
                SELECT CASE WHEN f.last_order_at < {at["middle"]} THEN 1 WHEN f.first_order_at >= {at["middle"]} THEN 0
                            WHEN f.first_order_at >= {at["start"]} OR {ordered} THEN 1 ELSE 0 END AS before,
                       CASE WHEN f.last_order_at < {at["middle"]} OR f.first_order_at >= {at["middle"]} THEN 0
                            WHEN f.last_order_at < {at["end"]} OR {ordered} THEN 1 ELSE 0 END AS lately
                FROM customers_customerfacts f WHERE f.last_order_at >= {at["start"]} AND f.first_order_at < {at["end"]}
            )
            SELECT coalesce(sum(before), 0), coalesce(sum(before * lately), 0) FROM people
            """,
            [*map(parameter, (start, middle)), *map(parameter, (middle, end))],
        )
    return _row(business_date, days, before, back)


def _row(business_date: date, days: int, before: int, back: int) -> RetentionDay:
    """With who went dormant in the period and had stood elsewhere when it began: their first move of it tells where."""
    since, until = (
        connection.ops.adapt_datefield_value(day) for day in (business_date - timedelta(days=days), business_date)
    )
    inside = "{0}.business_date > %s AND {0}.business_date <= %s"
    with batches.by_index():
        [(lost,)] = batches.rows(
            f"""
            SELECT count(*) FROM (
                SELECT DISTINCT m.customer_id FROM {flows.TABLE} m
                WHERE {inside.format("m")} AND m.to_stage = 'dormant' AND m.from_stage <> ''
                    AND {flows.counts("m")}
            ) fell
            WHERE (
                SELECT t.from_stage FROM {flows.TABLE} t
                WHERE t.customer_id = fell.customer_id AND {inside.format("t")} AND {flows.counts("t")}
                ORDER BY t.id LIMIT 1
            ) NOT IN ('', 'dormant')
            """,
            [since, until, since, until],
        )
    return RetentionDay(
        business_date=business_date, days=days, buyers_before=int(before), came_back=int(back), lost=lost
    )

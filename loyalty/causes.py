"""What earns, as rows of two working tables: the causes themselves, and the days on which they happened.

A cause is an order, an event, an answer, a birthday, a stage that was entered; ``tally`` works out what each is worth.
SQLite has no time zones, so which day, week and month of the shop's calendar a moment belongs to is told by ``tally_days``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import connection

from customers.models import Order
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter
from lifecycle_crm.lib.money import digits
from loyalty.ledger import expiry
from loyalty.models import Programme

CAUSES, DAYS = "tally_causes", "tally_days"


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that earns and is no row of ours: ``kind`` is ``event``, ``survey``, ``stage`` or ``birthday``."""

    key: str
    kind: str
    customer_id: int
    at: datetime
    subject: str = ""
    source_type: str = ""
    source_id: int | None = None


def moment_type() -> str:
    return "timestamptz" if connection.vendor == "postgresql" else "text"


def begin() -> None:
    """Empty working tables, private to this transaction."""
    batches.scratch(
        CAUSES,
        "cause text PRIMARY KEY, kind text NOT NULL, subject text NOT NULL, source_type text NOT NULL, source_id bigint, "
        f"customer_id bigint NOT NULL, at {moment_type()} NOT NULL, base bigint, amount bigint, day integer",
    )
    day_type = "date" if connection.vendor == "postgresql" else "text"
    batches.scratch(
        DAYS,
        f"starts {moment_type()} PRIMARY KEY, day integer NOT NULL, week integer NOT NULL, month integer NOT NULL, "
        f"year integer NOT NULL, weekday integer NOT NULL, date {day_type} NOT NULL, month_day text NOT NULL, "
        f"expires_at {moment_type()}",
    )


def add_orders(ids: Sequence[int]) -> int:
    """Counted orders with an amount, each worth what it came to before any refund.

    A refund or cancellation that nothing has followed from yet comes by itself, as of its own date: until then the order
    counts. So a night that is caught up late gives and takes like one in time, however soon a worker looks.
    """
    return add_orders_where(f"o.id IN ({', '.join(str(int(pk)) for pk in ids) or 'NULL'})", ())


def add_orders_where(where: str, params: Sequence[Any]) -> int:
    """``add_orders`` for the orders ``o`` that a condition of ours picks."""
    count = batches.execute(
        f"""
        INSERT INTO {CAUSES} (cause, kind, subject, source_type, source_id, customer_id, at, base, amount)
        SELECT 'order:' || o.id, 'order', '', 'order', o.id, o.customer_id, o.placed_at,
               CASE WHEN o.refunded_minor = 0 THEN o.base_minor
                    WHEN o.currency = %s AND o.rate = 1 THEN o.amount_minor ELSE -1 END,
               o.amount_minor
        FROM customers_order o WHERE {where} AND ({_still_counts("o")} OR {is_given_back_later("o")})
        """,
        [settings.SHOP_CURRENCY, *params],
    )
    foreign = [pk for (pk,) in batches.rows(f"SELECT source_id FROM {CAUSES} WHERE base < 0")]
    for some in batches.of(foreign, 500):
        for order in Order.objects.filter(pk__in=some).only("amount_minor", "rate", "currency"):
            batches.execute(
                f"UPDATE {CAUSES} SET base = %s WHERE cause = %s", [gross_minor(order), f"order:{order.pk}"]
            )
    _settle(count)
    return count


def _still_counts(alias: str) -> str:
    counted = f"{alias}.is_counted" if connection.vendor == "postgresql" else f"{alias}.is_counted = 1"
    return f"({counted} AND {alias}.base_minor > 0)"


def is_given_back_later(alias: str) -> str:
    """SQL: money went back for it, all of it maybe, and nothing has followed from that yet."""
    cancels, counted = "r.is_cancellation", f"{alias}.is_counted"
    if connection.vendor != "postgresql":
        cancels, counted = f"{cancels} = 1", f"{counted} = 1"
    return (
        f"({alias}.amount_minor > 0 AND EXISTS (SELECT 1 FROM customers_refund r "
        f"WHERE r.order_id = {alias}.id AND r.reacted_at IS NULL AND ({cancels} OR {counted})))"
    )


def gross_minor(order: Order) -> int:
    """What an order came to before any refund, in minor units of the reporting currency at the order's own rate.

    Not the stored net amount: a refund that is already known is taken back by its own entry, not silently left out.
    """
    exact = Decimal(order.amount_minor) * order.rate
    scaled = exact.scaleb(digits(settings.SHOP_CURRENCY) - digits(order.currency))
    return int(scaled.to_integral_value(rounding=ROUND_HALF_EVEN))


def add_events(ids: Sequence[int], names: Iterable[str]) -> int:
    """Those of these events that have one of the names."""
    known = sorted(set(names))
    if not known:
        return 0
    count = batches.execute(
        f"INSERT INTO {CAUSES} (cause, kind, subject, source_type, source_id, customer_id, at) "
        "SELECT 'event:' || e.id, 'event', e.name, 'event', e.id, e.customer_id, e.occurred_at FROM customers_event e "
        f"WHERE e.id IN ({', '.join(str(int(pk)) for pk in ids) or 'NULL'}) "
        f"AND e.name IN ({', '.join(['%s'] * len(known))})",
        known,
    )
    _settle(count)
    return count


def add(causes: Iterable[Cause]) -> int:
    """Causes that a caller names; the same key twice is one cause."""
    count = 0
    for part in batches.of(causes, 200):
        values: list[Any] = []
        for one in part:
            values += [one.key, one.kind, one.subject, one.source_type, one.source_id, one.customer_id]
            values.append(parameter(one.at))
        count += batches.execute(
            f"INSERT INTO {CAUSES} (cause, kind, subject, source_type, source_id, customer_id, at) "
            f"VALUES {', '.join(['(%s, %s, %s, %s, %s, %s, %s)'] * len(part))} ON CONFLICT (cause) DO NOTHING",
            values,
        )
    _settle(count)
    return count


def _settle(count: int) -> None:
    """Give every cause its business day, which SQLite cannot know: it has no time zones."""
    if not count:
        return
    [(low, high)] = batches.rows(f"SELECT min(at), max(at) FROM {CAUSES}")
    batches.execute(f"DELETE FROM {DAYS}")
    first, last = clock.business_date(_aware(low)), clock.business_date(_aware(high))
    zone = settings.SHOP_TIME_ZONE
    for days in batches.of(range(first.toordinal(), last.toordinal() + 1), 200):
        batches.execute(
            f"INSERT INTO {DAYS} (starts, day, week, month, year, weekday, date, month_day) "
            f"VALUES {', '.join(['(%s, %s, %s, %s, %s, %s, %s, %s)'] * len(days))}",
            [value for day in days for value in _day(day, zone)],
        )
    batches.execute(
        f"UPDATE {CAUSES} SET day = (SELECT d.day FROM {DAYS} d WHERE d.starts <= {CAUSES}.at "
        "ORDER BY d.starts DESC LIMIT 1)"
    )
    # The days are asked for by number from here on.
    batches.analyze(CAUSES)
    batches.analyze(DAYS)


def _aware(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    return datetime.fromisoformat(f"{value}+00:00")


@lru_cache(maxsize=20_000)
def _day(ordinal: int, zone: str) -> tuple[Any, ...]:
    """A row of the days. Weeks begin on Monday; all four periods are plain counts."""
    day = date.fromordinal(ordinal)
    return (
        parameter(clock.day_start(day)), ordinal, (ordinal - 1) // 7, day.year * 12 + day.month, day.year,
        day.isoweekday(), day if connection.vendor == "postgresql" else day.isoformat(), f"{day:%m-%d}",
    )  # fmt: skip


@lru_cache(maxsize=20_000)
def _end(ordinal: int, zone: str, months: int) -> Any:
    end = expiry(clock.day_start(date.fromordinal(ordinal)), months)
    assert end is not None
    return parameter(end)


def set_ends(programme: Programme) -> None:
    """When points of each day expire under a programme: a day of the shop's calendar, so again not SQL's to say."""
    if programme.expiry_months is None:
        batches.execute(f"UPDATE {DAYS} SET expires_at = NULL")
        return
    zone, months = settings.SHOP_TIME_ZONE, programme.expiry_months
    days = [day for (day,) in batches.rows(f"SELECT DISTINCT day FROM {CAUSES}")]
    for part in batches.of(days, 200):
        moment = "CAST(%s AS timestamptz)" if connection.vendor == "postgresql" else "%s"
        whens = " ".join([f"WHEN %s THEN {moment}"] * len(part))
        batches.execute(
            f"UPDATE {DAYS} SET expires_at = CASE day {whens} END WHERE day IN ({', '.join(map(str, part))})",
            [value for day in part for value in (day, _end(day, zone, months))],
        )

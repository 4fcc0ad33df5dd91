"""One row of facts per customer, refreshed set-based: the same statements serve one customer and a million.

How a batch goes, inside one transaction::

    with facts.batch():
        facts.take_dirty(low, high, as_of=…)       # which customers; their dirty rows are gone when we commit
        facts.refresh(as_of=…, also=[…])           # their own rows, and numbers from higher floors
        facts.score(as_of=…)                       # RFM from stored cut points

Who is taken is locked and copied (``AT_HAND``); everything in between reads and writes the copy, and what came out
different is written once, at the end of the batch (docs/adr/0014).

Only what happened before ``as_of`` counts, so a night that runs late, and a replay, see what their day knew. A row whose
values did not change is not written. A refreshed customer is due for review (``next_review_at = as_of``): that is how the
stages learn who changed.

Scores: Hughes, *Strategic Database Marketing* (1994) for RFM by quintiles; here the quintiles are stored cut points, so
equal customers score equally and a score depends on the customer and the date alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from customers import givebacks, rfm
from customers.models import CustomerFacts, DirtyCustomer, RfmCuts
from customers.sources import WHOSE, Source, gathered
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import DAY, epoch, parameter, seconds

PICKED = "picked_customers"
"""Temporary table ``(customer_id, is_dirty, is_history)`` of the batch at hand; every hand-down joins it."""

AT_HAND = "facts_at_hand"
"""Temporary table with the facts of the batch at hand, every column: read and write these, never the stored ones."""

_range: ContextVar[tuple[int, int]] = ContextVar("range of the batch")

_FACTS = CustomerFacts._meta.db_table
_FIELDS = CustomerFacts._meta.concrete_fields
_COLUMNS = ", ".join(str(field.column) for field in _FIELDS)

CUTS_MAX_AGE_DAYS = 28

AT_ONCE = 0
"""A review that is due as soon as anybody looks, whichever date the next night is of."""


def mark(customers: Iterable[int], *, occurred_at: datetime, is_history: bool = False) -> None:
    """Write that the facts of these customers are behind. Call it in the transaction that made them so."""
    moment = occurred_at
    DirtyCustomer.objects.bulk_create(
        [DirtyCustomer(customer_id=pk, occurred_at=moment, is_history=is_history) for pk in customers], batch_size=2000
    )


def mark_each(rows: Iterable[tuple[int, datetime, bool]]) -> None:
    """``mark`` for rows of ``(customer id, when it happened, is it history)``."""
    DirtyCustomer.objects.bulk_create(
        [DirtyCustomer(customer_id=pk, occurred_at=at, is_history=old) for pk, at, old in rows], batch_size=2000
    )


# --- Which customers --------------------------------------------------------------------------------------------------


def bool_literal(value: bool) -> str:
    """A boolean literal both databases take."""
    if connection.vendor == "postgresql":
        return "true" if value else "false"
    return "1" if value else "0"


def _any(column: str) -> str:
    return f"bool_or({column})" if connection.vendor == "postgresql" else f"max({column})"


@contextmanager
def batch() -> Iterator[None]:
    """An empty batch, private to the transaction we are in. What changed is written when it ends."""
    batches.scratch(PICKED, "customer_id bigint PRIMARY KEY, is_dirty boolean NOT NULL, is_history boolean NOT NULL")
    batches.scratch(
        AT_HAND,
        ", ".join(f"{f.column} {f.db_type(connection)}{' PRIMARY KEY' if f.primary_key else ''}" for f in _FIELDS),
        is_rewritten=True,
    )
    outer = _range.set((0, -1))
    try:
        yield
        _write()
    finally:
        _range.reset(outer)


def in_batch(column: str = "customer_id", only: str = "") -> str:
    """SQL: this customer is of the batch. With its bounds, or a plan may read a whole table for a part of the keys."""
    low, high = _range.get()
    mine = f"SELECT customer_id FROM {PICKED}{f' WHERE {only}' if only else ''}"
    return f"{column} >= {low} AND {column} <= {high} AND {column} IN ({mine})"


def take_dirty(low: int, high: int, *, as_of: datetime) -> int:
    """Put customers with ids in ``[low, high)`` that something happened to before ``as_of`` into the batch.

    Their dirty rows are deleted in the same breath: PostgreSQL deletes exactly the rows it returns, so a row that
    commits meanwhile stays for the next batch; SQLite has one writer, so nothing can come between two statements.
    """
    return _take("customer_id >= %s AND customer_id < %s", [low, high], as_of)


def take_dirty_of(customers: Sequence[int], *, as_of: datetime) -> int:
    """``take_dirty`` for these customers."""
    ids = ", ".join(str(int(pk)) for pk in customers) or "NULL"
    return _take(f"customer_id IN ({ids})", [], as_of)


def _take(where: str, params: list[Any], as_of: datetime) -> int:
    where, params = f"{where} AND occurred_at < %s", [*params, seconds(as_of)]
    rows = f"SELECT customer_id, {bool_literal(True)}, {_any('is_history')}"
    known = "customer_id IN (SELECT id FROM customers_customer) GROUP BY customer_id"
    if connection.vendor == "postgresql":
        count = batches.execute(
            f"WITH gone AS (DELETE FROM customers_dirtycustomer WHERE {where} RETURNING customer_id, is_history) "
            f"INSERT INTO {PICKED} {rows} FROM gone WHERE {known}",
            params,
        )
    else:
        count = batches.execute(
            f"INSERT INTO {PICKED} {rows} FROM customers_dirtycustomer WHERE {where} AND {known}", params
        )
        batches.execute(f"DELETE FROM customers_dirtycustomer WHERE {where}", params)
    _copy(count, is_dirty=True)
    return count


def pick(select: str, params: Sequence[Any] = ()) -> int:
    """Add the customers whose ids a SELECT yields as ``id``; how many that were not in the batch yet."""
    no = bool_literal(False)
    count = batches.execute(
        f"INSERT INTO {PICKED} SELECT x.id, {no}, {no} FROM ({select}) AS x WHERE true "
        "ON CONFLICT (customer_id) DO NOTHING",
        params,
    )
    _copy(count, is_dirty=False)
    return count


def add_everyone(low: int, high: int, *, as_of: datetime) -> int:
    """Add all customers with ids in ``[low, high)`` that were known before ``as_of``."""
    return pick(
        "SELECT id FROM customers_customer WHERE id >= %s AND id < %s AND known_since < %s",
        [low, high, parameter(as_of)],
    )


def add_refreshed(low: int, high: int, *, as_of: datetime) -> int:
    """``add_everyone`` who has facts: not whose facts could not be made and who were set aside for it."""
    return pick(
        f"SELECT c.id FROM customers_customer c JOIN {_FACTS} f ON f.customer_id = c.id "
        "WHERE c.id >= %s AND c.id < %s AND c.known_since < %s",
        [low, high, parameter(as_of)],
    )


def add_due(low: int, high: int, *, as_of: datetime) -> int:
    """Add customers with ids in ``[low, high)`` whose review has come."""
    return pick(
        f"SELECT customer_id AS id FROM {_FACTS} WHERE customer_id >= %s AND customer_id < %s AND next_review_at <= %s",
        [low, high, seconds(as_of)],
    )


def _copy(count: int, *, is_dirty: bool) -> None:
    """Bring the facts of the ``count`` customers who joined the batch just now to hand.

    They are locked in key order, so that two batches cannot wait for each other in a circle. Who has no facts gets a row of
    nothing. Nothing here is joined with what is at hand or stored: in a table that was empty when the planner last
    looked, that would cost the square of the batch.
    """
    if count == 0:
        return
    batches.analyze(PICKED)
    [bounds] = batches.rows(f"SELECT min(customer_id), max(customer_id) FROM {PICKED}")
    _range.set(bounds)
    joined = f"is_dirty = {bool_literal(is_dirty)}"
    copy = (
        f"INSERT INTO {AT_HAND} ({_COLUMNS}) SELECT {_COLUMNS} FROM {_FACTS} f WHERE {in_batch('f.customer_id', joined)} "
        f"ORDER BY f.customer_id{' FOR UPDATE OF f' if connection.vendor == 'postgresql' else ''} "
        "ON CONFLICT (customer_id) DO NOTHING"
    )
    if batches.execute(copy) == count:
        return
    no = bool_literal(False)
    batches.execute(
        f"INSERT INTO {_FACTS} (customer_id, orders, spend_minor, points, open_cases, may_email, is_quiet, rfm_group, tier, "
        f"stage) SELECT p.customer_id, 0, 0, 0, 0, {no}, {no}, '', '', '' FROM {PICKED} p WHERE p.{joined} "
        "ORDER BY p.customer_id ON CONFLICT (customer_id) DO NOTHING"
    )
    batches.execute(copy)


def _write() -> None:
    """Store what the batch came to. A row that did not change is not written."""
    columns = [f.column for f in _FIELDS if not f.primary_key]
    sets = ", ".join(f"{name} = a.{name}" for name in columns)
    stored, ours = (", ".join(f"{table}.{name}" for name in columns) for table in (_FACTS, "a"))
    batches.execute(
        f"UPDATE {_FACTS} SET {sets} FROM {AT_HAND} a "
        f"WHERE {_FACTS}.customer_id = a.customer_id AND {_FACTS}.customer_id >= %s AND {_FACTS}.customer_id <= %s "
        f"AND {differs(f'({stored})', f'({ours})')}",
        _range.get(),
    )


def unwritten() -> list[int]:
    """The customers whose facts at hand differ from the stored ones. The next review, and whether it is quiet, say when
    somebody looks again and are no facts."""
    columns = [f.column for f in _FIELDS if f.column not in ("next_review_at", "is_quiet")]
    stored, ours = (", ".join(f"{table}.{name}" for name in columns) for table in ("f", "a"))
    found = batches.rows(
        f"SELECT a.customer_id FROM {AT_HAND} a JOIN {_FACTS} f ON f.customer_id = a.customer_id "
        f"WHERE {differs(f'({stored})', f'({ours})')} ORDER BY a.customer_id"
    )
    return [pk for (pk,) in found]


# --- Their own rows ---------------------------------------------------------------------------------------------------


def _own(as_of: datetime) -> list[Source]:
    moment = parameter(as_of)
    placed, since = givebacks.orders(as_of, WHOSE, among=in_batch("o.customer_id"))
    return [
        Source(
            {
                "orders": "coalesce({orders}, 0)",
                "first_order_at": "{first}",
                "last_order_at": "{last}",
                "spend_minor": "coalesce({spend}, 0)",
                "gap_seconds": "CASE WHEN {orders} > 1 THEN ({last} - {first}) / ({orders} - 1) END",
            },
            {
                "orders": "sum(placed.orders)",
                "first": epoch("min(placed.placed_at)"),
                "last": epoch("max(placed.placed_at)"),
                "spend": "sum(placed.base_minor)",
            },
            rows=f"({placed}) AS placed",
            key="o.customer_id",
            group="placed.customer_id",
            params=since,
        ),
        Source(
            {"engaged_at": "{at}"},
            {"at": epoch("max(e.occurred_at)")},
            rows=f"customers_event e WHERE e.occurred_at < %s AND {WHOSE}",
            key="e.customer_id",
            params=[moment],
        ),
        Source(
            {"may_email": f"coalesce({{is_granted}}, {bool_literal(False)})"},
            {"is_granted": "c.is_granted"},
            rows="customers_consent c WHERE c.purpose = 'marketing' AND c.channel = 'email' "
            f"AND c.occurred_at < %s AND {WHOSE}",
            key="c.customer_id",
            params=[moment],
            first_by="c.occurred_at DESC, c.id DESC",
        ),
    ]


def differs(left: str, right: str) -> str:
    """SQL: the two differ, where NULL equals NULL."""
    operator = "IS DISTINCT FROM" if connection.vendor == "postgresql" else "IS NOT"
    return f"{left} {operator} {right}"


def refresh(*, as_of: datetime, is_due: bool = True, also: Sequence[Source] = ()) -> int:
    """Recompute the batch's own facts from orders, events and consents before ``as_of``, and those that higher floors
    know (``also``), only where they differ; how many rows were written.

    Who changed is due for review from then on, unless the caller reviews the whole batch itself (``is_due=False``): then a
    customer whose facts came out the same is not written at all. What a higher floor knows may be of a later moment than
    the night: where that changed, review is due ``AT_ONCE``.
    """
    low, high = _range.get()
    [(count,)] = batches.rows(f"SELECT count(*) FROM {PICKED}")
    is_dense = count * 2 > high - low
    own = _own(as_of)
    columns, joins, params = gathered(
        [*own, *also],
        who="p.customer_id",
        # Of the few rows in between that are nobody's of the batch, the join makes nothing.
        whose=lambda key: f"{key} >= {low} AND {key} <= {high}" if is_dense else in_batch(key),
        is_dense=is_dense,
    )

    def changed(sources: Sequence[Source]) -> str:
        names = [name for source in sources for name in source.columns]
        return differs(*(f"({', '.join(f'{table}.{name}' for name in names)})" for table in (AT_HAND, "n")))

    sets = ", ".join(f"{name} = n.{name}" for source in (*own, *also) for name in source.columns)
    yes, no = bool_literal(True), bool_literal(False)
    handed = changed(also) if also else no
    # Dirty means due, whatever came out.
    review, due = (str(seconds(as_of)), f" OR n.is_dirty = {yes}") if is_due else (f"{AT_HAND}.next_review_at", "")
    return batches.execute(
        f"""
        UPDATE {AT_HAND} SET {sets},
               is_quiet = CASE WHEN n.is_history = {yes} THEN {yes} ELSE {AT_HAND}.is_quiet END,
               next_review_at = CASE WHEN {handed} THEN {AT_ONCE} ELSE {review} END
        FROM (SELECT p.customer_id, p.is_dirty, p.is_history, {columns} FROM {PICKED} p {joins}) AS n
        WHERE {AT_HAND}.customer_id = n.customer_id
          AND ({changed([*own, *also])}{due} OR (n.is_history = {yes} AND {AT_HAND}.is_quiet = {no}))
        """,
        params,
    )


def mark_later(*, as_of: datetime) -> int:
    """Mark those of the batch to whom something happened at ``as_of`` or after, for the next batch to see.

    A night that runs late refreshes facts as of its day; what a customer did since must not be forgotten by that. Asked
    per customer: a range of dates would be read again by every batch.
    """
    counted = "is_counted" if connection.vendor == "postgresql" else "is_counted = 1"
    moment = parameter(as_of)
    asked: list[str] = []
    for table, column, only in (
        ("customers_order", "placed_at", counted),
        ("customers_event", "occurred_at", bool_literal(True)),
        ("customers_consent", "occurred_at", bool_literal(True)),
        (givebacks.GIVEN_BACK, "occurred_at", bool_literal(True)),
    ):
        if batches.rows(f"SELECT 1 FROM {table} h WHERE h.{column} >= %s LIMIT 1", [moment]):
            asked.append(
                f"SELECT p.customer_id, (SELECT {epoch(f'max(h.{column})')} FROM {table} h "
                f"WHERE h.customer_id = p.customer_id AND h.{column} >= %s AND {only}) AS at FROM {PICKED} p"
            )
    if not asked:
        return 0
    return batches.execute(
        f"""
        INSERT INTO customers_dirtycustomer (customer_id, occurred_at, is_history)
        SELECT customer_id, max(at), {bool_literal(False)} FROM ({" UNION ALL ".join(asked)}) AS later
        WHERE at IS NOT NULL GROUP BY customer_id
        """,
        [moment] * len(asked),
    )


# --- RFM --------------------------------------------------------------------------------------------------------------


def cuts(on: date) -> RfmCuts | None:
    """The cut points in force on a date."""
    return RfmCuts.objects.filter(computed_on__lte=on).order_by("-computed_on").first()


def renew_cuts(on: date) -> RfmCuts | None:
    """Take new cut points from the buyers of that date if the last are older than four weeks; ``None`` if they are not.

    Quintiles of days since the last order, of orders and of spend over all buyers. Raising a cut that equals the one
    below it keeps the five classes apart when most people have one order.
    """
    if keeps_cuts(on):
        return None
    end = seconds(clock.day_end(on))
    buyers = CustomerFacts.objects.filter(orders__gt=0)
    count = buyers.count()
    if count == 0:
        return None

    def quintiles(column: str) -> list[int]:
        ordered = buyers.order_by(column).values_list(column, flat=True)
        picks = [ordered[min(count - 1, count * fifth // 5)] for fifth in (1, 2, 3, 4)]
        return [seconds(v) if isinstance(v, datetime) else v for v in picks]

    def apart(values: list[int]) -> list[int]:
        for i in range(1, 4):
            values[i] = max(values[i], values[i - 1] + 1)
        return values

    recency = apart(sorted(max(0, (end - at) // DAY) for at in quintiles("last_order_at")))
    return RfmCuts.objects.create(
        computed_on=on,
        recency_days=recency,
        frequency=apart(quintiles("orders")),
        monetary_minor=apart(quintiles("spend_minor")),
        buyers=count,
    )


def keeps_cuts(on: date) -> bool:
    """The cut points in force stay in force on this date: ``renew_cuts`` would do nothing."""
    last = cuts(on)
    return last is not None and (on - last.computed_on).days < CUTS_MAX_AGE_DAYS


def score(*, as_of: datetime) -> int:
    """Write the batch's RFM scores from the stored cuts, and who came into another group by them; how many rows changed.

    Rules may look at scores, so review is due.
    """
    current = cuts(clock.business_date(as_of))
    if current is None:
        return 0
    now = seconds(as_of)
    bounds = [now - (days + 1) * DAY for days in current.recency_days]
    f, m = current.frequency, current.monetary_minor
    recency = (
        "CASE WHEN last_order_at IS NULL THEN NULL "
        + " ".join(f"WHEN last_order_at > {bound} THEN {5 - i}" for i, bound in enumerate(bounds))
        + " ELSE 1 END"
    )
    frequency = (
        "CASE WHEN orders = 0 THEN NULL "
        + " ".join(f"WHEN orders <= {cut} THEN {i + 1}" for i, cut in enumerate(f))
        + " ELSE 5 END"
    )
    monetary = (
        "CASE WHEN orders = 0 THEN NULL "
        + " ".join(f"WHEN spend_minor <= {cut} THEN {i + 1}" for i, cut in enumerate(m))
        + " ELSE 5 END"
    )
    changed = " OR ".join(
        differs(name, f"({sql})")
        for name, sql in (("recency", recency), ("frequency", frequency), ("monetary", monetary))
    )
    scored = batches.execute(
        f"UPDATE {AT_HAND} SET recency = {recency}, frequency = {frequency}, monetary = {monetary}, "
        f"next_review_at = {now} WHERE {changed}"
    )
    if scored:
        # The last second it knows of: a night decides for the first instant of the next day.
        last = clock.business_date(as_of - timedelta(seconds=1))
        rfm.write_changes(AT_HAND, business_date=last, where=f"f.next_review_at = {now}")
    return scored


def next_recency_change(current: RfmCuts | None, as_of: datetime) -> str:
    """SQL over the facts: the first second after ``as_of`` at which the recency score falls, NULL if it is at 1."""
    if current is None:
        return "NULL"
    now = seconds(as_of)
    whens = " ".join(
        f"WHEN last_order_at + {(days + 1) * DAY} > {now} THEN last_order_at + {(days + 1) * DAY}"
        for days in current.recency_days
    )
    return f"CASE {whens} END"


def refresh_now(customers: Sequence[int]) -> None:
    """Bring the own facts of a few customers up to this second."""
    now = clock.whole_now()
    mark(customers, occurred_at=now - timedelta(seconds=1))
    with transaction.atomic(), batch():
        take_dirty_of(customers, as_of=now)
        refresh(as_of=now)
        score(as_of=now)

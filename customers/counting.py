"""How many people a condition describes, and what each of its rows does: exactly if that is quick, else from a sample that
says so."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import OperationalError, connection, transaction
from django.db.models import Max, Min

from customers import conditions
from customers.conditions import All, Any_, Condition
from customers.facts import bool_literal
from customers.models import CustomerFacts
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.intervals import wilson

EXACT_SECONDS = 1.5
"""A count that takes longer is estimated from a sample, and says so."""
PATIENT_SECONDS = 20.0
"""For who asks for the exact number of a count that was estimated."""
SAMPLE = 4_000


@dataclass(frozen=True)
class Count:
    """``value`` people. When it is not exact: estimated from ``n_sampled`` people, 95 % sure to be ``low`` to ``high``."""

    value: int
    is_exact: bool
    n_sampled: int = 0
    low: int = 0
    high: int = 0


@dataclass(frozen=True)
class Measure:
    """Who a condition describes: how many, how many of them may get e-mail, their stages and spend (minor units)."""

    count: Count
    reachable: int
    stages: dict[str, int] = field(default_factory=dict)
    spend_minor: int = 0


class TooLong(Exception):
    """The statement did not answer within the time it was given."""


@contextmanager
def within(limit: float) -> Iterator[None]:
    """Give the statements inside so many seconds together. Raises ``TooLong``; the transaction around stays usable."""
    if connection.vendor == "postgresql":
        try:
            with transaction.atomic():
                [(before,)] = batches.rows("SHOW statement_timeout")
                batches.execute(f"SET LOCAL statement_timeout = {max(1, int(limit * 1000))}")
                yield
                batches.execute("SELECT set_config('statement_timeout', %s, true)", [before])
        except OperationalError as problem:
            if getattr(problem.__cause__, "pgcode", "") == "57014":
                raise TooLong from None
            raise
        return
    connection.ensure_connection()
    raw, deadline = connection.connection, time.monotonic() + limit
    raw.set_progress_handler(lambda: int(time.monotonic() > deadline), 10_000)
    try:
        yield
    except OperationalError as problem:
        if "interrupted" in str(problem):
            raise TooLong from None
        raise
    finally:
        raw.set_progress_handler(None, 0)


def measure(condition: Condition, *, as_of: datetime | None = None, limit: float = EXACT_SECONDS) -> Measure:
    """Count and describe, exactly if that takes no longer than ``limit`` seconds, else from a sample."""
    moment = as_of or clock.whole_now()
    try:
        with within(limit):
            return _exactly(condition, moment)
    except TooLong:
        return _estimate(condition, moment)


_SHAPE = (
    "SELECT f.stage, count(*), coalesce(sum(CASE WHEN f.may_email = {yes} THEN 1 ELSE 0 END), 0), "
    "coalesce(sum(f.spend_minor), 0) FROM {source} f WHERE {where} GROUP BY f.stage"
)


def _exactly(condition: Condition, as_of: datetime) -> Measure:
    sql, params = conditions.to_sql(condition, as_of)
    shape = _SHAPE.format(yes=bool_literal(True), source="customers_customerfacts", where=sql)
    return _measure(batches.rows(shape, params))


def _measure(rows: list[tuple[Any, ...]]) -> Measure:
    total = sum(n for _stage, n, _may, _spend in rows)
    return Measure(
        Count(total, is_exact=True, low=total, high=total),
        reachable=int(sum(may for _stage, _n, may, _spend in rows)),
        stages={stage: n for stage, n, _may, _spend in rows},
        spend_minor=int(sum(spend for *_rest, spend in rows)),
    )


def sample_ids(size: int = SAMPLE) -> list[int]:
    """Ids spread evenly by chance, the same ones every time, so that two estimates can be compared. Gaps stay in."""
    bounds = CustomerFacts.objects.aggregate(low=Min("pk"), high=Max("pk"))
    if bounds["low"] is None:
        return []
    span = range(bounds["low"], bounds["high"] + 1)
    return sorted(random.Random(7).sample(span, min(size, len(span))))


def _picked(ids: list[int]) -> str:
    """A WITH that holds the facts of these customers as ``picked``."""
    listed = ", ".join(map(str, ids)) or "NULL"
    return (
        "WITH picked AS MATERIALIZED (SELECT * FROM customers_customerfacts "
        f"WHERE customer_id IN ({listed}) ORDER BY customer_id)"
    )


def _estimate(condition: Condition, as_of: datetime) -> Measure:
    ids = sample_ids()
    sql, params = conditions.to_sql(condition, as_of)
    picked = _picked(ids)
    [(asked,)] = batches.rows(f"{picked} SELECT count(*) FROM picked")
    everybody = CustomerFacts.objects.count()
    shape = _SHAPE.format(yes=bool_literal(True), source="picked", where=sql)
    found = _measure(batches.rows(f"{picked} {shape}", params))
    return Measure(
        estimated(found.count.value, asked, everybody),
        reachable=_scaled(found.reachable, asked, everybody),
        stages={stage: _scaled(n, asked, everybody) for stage, n in found.stages.items()},
        spend_minor=_scaled(found.spend_minor, asked, everybody),
    )


def _scaled(found: int, asked: int, everybody: int) -> int:
    return round(found * everybody / asked) if asked else 0


def estimated(found: int, asked: int, everybody: int) -> Count:
    """So many of a sample were in: how many of everybody, with Wilson's interval at 95 %."""
    if not asked:
        return Count(0, is_exact=False, high=everybody)
    low, high = wilson(found, asked)
    return Count(
        round(found / asked * everybody),
        is_exact=False,
        n_sampled=asked,
        low=max(found, math.floor(low * everybody)),
        high=min(everybody - (asked - found), math.ceil(high * everybody)),
    )


Path = tuple[int, ...]


def effects(
    condition: Condition, *, as_of: datetime | None = None, limit: float = EXACT_SECONDS
) -> tuple[dict[Path, int], bool]:
    """How many each row removes (below zero: adds), by its place in the tree, and whether that was counted exactly.

    Rows are the parts of the condition and the parts of a group in it: ``(2,)`` is the third row, ``(2, 0)`` the first
    of the group that is the third. Without a ``limit`` above 0 a sample is asked at once.
    """
    moment = as_of or clock.whole_now()
    rows = list(_rows(condition))
    if not rows:
        return {}, True
    leaves = {path: part for path, part in rows if not _is_group(part, path)}
    params: list[Any] = []
    columns: list[str] = []
    names: dict[Path, str] = {}
    for number, (path, part) in enumerate(leaves.items()):
        sql, inner = conditions.to_sql(part, moment)
        columns.append(f"{sql} AS b{number}")
        params += inner
        names[path] = f"b{number}"
    wanted = [None, *(path for path, _part in rows)]
    sums = ", ".join(
        f"coalesce(sum(CASE WHEN {_without(condition, (), names, skip) or bool_literal(True)} THEN 1 ELSE 0 END), 0)"
        for skip in wanted
    )
    # Every row is asked once per customer, and the answers are put together in as many ways as there are rows.
    if not columns:
        return dict.fromkeys((path for path, _part in rows), 0), True
    asked = f"asked AS MATERIALIZED (SELECT {', '.join(columns)} FROM "
    is_exact, everybody, sampled = True, 0, 0
    try:
        if limit <= 0:
            raise TooLong
        with within(limit):
            [found] = batches.rows(f"WITH {asked} customers_customerfacts f) SELECT {sums} FROM asked", params)
    except TooLong:
        is_exact = False
        picked = _picked(sample_ids())
        [found] = batches.rows(f"{picked}, {asked} picked f) SELECT {sums} FROM asked", params)
        [(sampled,)] = batches.rows(f"{picked} SELECT count(*) FROM picked")
        everybody = CustomerFacts.objects.count()
    total, *without = [int(n) if is_exact else _scaled(int(n), sampled, everybody) for n in found]
    return {path: n - total for (path, _part), n in zip(rows, without, strict=True)}, is_exact


def _is_group(part: Condition, path: Path) -> bool:
    return isinstance(part, All | Any_) and len(path) < 2


def _rows(condition: Condition, path: Path = ()) -> Iterator[tuple[Path, Condition]]:
    if path:
        yield path, condition
    if isinstance(condition, All | Any_) and _is_group(condition, path):
        for i, part in enumerate(condition.parts):
            yield from _rows(part, (*path, i))
    elif not path:
        yield (0,), condition


def _without(condition: Condition, path: Path, names: dict[Path, str], skip: Path | None) -> str:
    """SQL of the tree over the answers ``names``, without the row ``skip``; "" when nothing is left of it."""
    if path and path == skip:
        return ""
    if isinstance(condition, All | Any_) and _is_group(condition, path):
        if not condition.parts:
            return bool_literal(isinstance(condition, All))
        parts = [_without(part, (*path, i), names, skip) for i, part in enumerate(condition.parts)]
        word = " AND " if isinstance(condition, All) else " OR "
        kept = [part for part in parts if part]
        return f"({word.join(kept)})" if kept else ""
    place = path or (0,)
    return "" if place == skip else names[place]

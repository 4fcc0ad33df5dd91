"""Work cut into id ranges, and set-based SQL without surprises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from django.db import connection, models

T = TypeVar("T")


def of(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most ``size`` items, in order."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def id_ranges(model: type[models.Model], width: int) -> list[tuple[int, int]]:
    """Half-open primary-key ranges ``[low, high)`` that cover every row now in the table."""
    bounds = model._default_manager.aggregate(low=models.Min("pk"), high=models.Max("pk"))
    if bounds["low"] is None:
        return []
    return [(low, low + width) for low in range(bounds["low"], bounds["high"] + 1, width)]


def execute(sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> int:
    """Run one statement; the number of rows it touched."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.rowcount


def scratch(name: str, columns: str) -> None:
    """An empty working table, private to the transaction we are in.

    PostgreSQL empties it at every commit by cutting the file: deleted rows of a temporary table are never vacuumed, so a
    long-lived worker would come to scan all it ever wrote. It also forgets the statistics, so ``ANALYZE`` it once filled.
    """
    if not connection.in_atomic_block:
        raise RuntimeError(f"{name} needs a transaction: a batch and its effect are one.")
    tail = ""
    if connection.vendor == "postgresql":
        tail = " ON COMMIT DELETE ROWS"
        # A probe of an index per row looks dear to the planner, who then compiles the query for longer than it runs.
        execute("SET LOCAL jit = off")
    execute(f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({columns}){tail}")
    execute(f"DELETE FROM {name}")


def rows(sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()

"""Work cut into id ranges, and set-based SQL without surprises."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from django.db import connection, models, transaction

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


class Statement:
    """A statement that one process runs hundreds of times a second, its placeholders translated once."""

    __slots__ = ("native", "sql")

    def __init__(self, sql: str) -> None:
        self.sql = " ".join(sql.split())
        self.native = self.sql.replace("%s", "?").replace("%%", "%")


def together(*work: tuple[Statement, Sequence[Any]]) -> int:
    """Run statements in order as one commit; the rows the last one touched. With as little around them as there can be:
    one round trip to PostgreSQL, no wrappers around SQLite. Inside a transaction they join it."""
    if connection.in_atomic_block:
        return [execute(statement.sql, params) for statement, params in work][-1]
    if connection.vendor == "postgresql":
        # Sent as one string they are one transaction, whose commit need not wait for the disk: see docs/adr/0009.
        sql = "; ".join(["SET LOCAL synchronous_commit = off", *(statement.sql for statement, _params in work)])
        return execute(sql, [value for _statement, params in work for value in params])
    connection.ensure_connection()
    with connection.wrap_database_errors:
        native = connection.connection
        native.execute("BEGIN IMMEDIATE")
        try:
            count = 0
            for statement, params in work:
                count = native.execute(statement.native, params).rowcount
        except BaseException:
            native.execute("ROLLBACK")
            raise
        native.execute("COMMIT")
        return count


def execute_many(sql: str, params: Sequence[Sequence[Any]]) -> None:
    """Run one INSERT … VALUES (…) for many rows: in one statement of PostgreSQL, in one call of SQLite."""
    if not params:
        return
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            cursor.executemany(sql, params)
            return
        head, values, tail = _VALUES.split(sql, maxsplit=1)
        cursor.execute(f"{head}{', '.join([values] * len(params))}{tail}", [value for row in params for value in row])


_VALUES = re.compile(r"(?<=VALUES )(\([%s, :a-z]+\))")


def durably(sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a statement that returns rows, its commit on the disk when this returns: a power cut does not undo it.

    On SQLite that costs a wait that other commits are spared (``PRAGMA synchronous``). Inside a transaction it is up to
    whoever commits that.
    """
    if connection.in_atomic_block:
        return rows(sql, params)
    if connection.vendor == "postgresql":
        return rows(f"SET LOCAL synchronous_commit = on; {sql}", params)
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous = FULL")
        try:
            cursor.execute(sql, params)
            return cursor.fetchall()
        finally:
            cursor.execute("PRAGMA synchronous = NORMAL")


def scratch(name: str, columns: str, *, is_rewritten: bool = False) -> None:
    """An empty working table, private to the transaction we are in. ``is_rewritten``: most of its rows are updated.

    PostgreSQL empties it at every commit by cutting the file: deleted rows of a temporary table are never vacuumed, so a
    long-lived worker would come to scan all it ever wrote. It also forgets the statistics, so ``ANALYZE`` it once filled.
    """
    scratches({name: columns}, is_rewritten=is_rewritten)


def scratches(tables: Mapping[str, str], *, is_rewritten: bool = False) -> None:
    """Several working tables (columns by name) as ``scratch`` makes one, in one round trip to PostgreSQL."""
    if not connection.in_atomic_block:
        raise RuntimeError(f"{', '.join(tables)} needs a transaction: a batch and its effect are one.")
    is_postgresql = connection.vendor == "postgresql"
    tail = f"{' WITH (fillfactor = 45)' if is_rewritten else ''} ON COMMIT DELETE ROWS" if is_postgresql else ""
    statements = [
        statement
        for name, columns in tables.items()
        for statement in (f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({columns}){tail}", f"DELETE FROM {name}")
    ]
    if is_postgresql:
        # A probe of an index per row looks dear to the planner, who then reads the whole table instead, and compiles the
        # query for longer than it runs.
        execute("; ".join(["SET LOCAL jit = off", "SET LOCAL random_page_cost = 1", *statements]))
        return
    for statement in statements:
        execute(statement)


@contextmanager
def rehearsal() -> Iterator[None]:
    """A transaction that is given up at its end: what it came to can be told, and never was."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@contextmanager
def by_index(wanted: bool = True) -> Iterator[None]:
    """Let PostgreSQL probe an index for few of many rows: by default it thinks that dearer than reading the whole table."""
    if not (wanted and connection.vendor == "postgresql" and connection.in_atomic_block):
        yield
        return
    [(cost, jit)] = rows("SELECT current_setting('random_page_cost'), current_setting('jit')")
    execute("SET LOCAL jit = off; SET LOCAL random_page_cost = 1")
    yield
    execute(f"SET LOCAL jit = {jit}; SET LOCAL random_page_cost = {float(cost)}")


def analyze(table: str) -> None:
    """Tell PostgreSQL's planner how large a working table is: it would guess, and guess wrong both ways."""
    if connection.vendor == "postgresql":
        execute(f"ANALYZE {table}")


def rows(sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()

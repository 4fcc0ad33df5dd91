"""Numbers about customers on their way into the facts, as one statement for a whole batch.

A floor says once where its numbers come from (``Source``); how they are read follows from the batch. Few customers are
asked one by one through an index. Many are summed up together, because then the rows lie side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

WHOSE = "{whose}"


@dataclass(frozen=True)
class Source:
    """Rows, and what they say about one customer.

    ``rows`` is SQL after FROM, with ``{whose}`` where it chooses the customer, whose number is there in the column ``key``
    and, where that is inside of another SELECT, outside in ``group``;
    ``values`` names SQL over these rows: sums of them, values of the first one by ``first_by``, or values of the only one
    (``has_one``). ``columns`` maps columns of the facts to SQL over ``{the values}``, which are NULL for a customer
    without rows.
    """

    columns: Mapping[str, str]
    values: Mapping[str, str]
    rows: str
    key: str
    params: Sequence[Any] = ()
    first_by: str = ""
    has_one: bool = False
    group: str = ""

    @property
    def is_summed(self) -> bool:
        return not (self.first_by or self.has_one)

    def of_one(self, who: str) -> str:
        """The SELECT for the customer whose number is ``who``."""
        return self._select("", f"{self.key} = {who}")

    def of_many(self, whose: str) -> str:
        """The SELECT for all of them, of sums only; ``whose`` is SQL about the key."""
        group = self.group or self.key
        return f"{self._select(f'{group} AS customer_id, ', whose)} GROUP BY {group}"

    def value(self, name: str, who: str) -> str:
        """One value of the customer as SQL by itself."""
        return f"({self._select('', f'{self.key} = {who}', {name: self.values[name]})})"

    def _select(self, before: str, whose: str, named: Mapping[str, str] | None = None) -> str:
        values = ", ".join(f"{sql} AS {name}" for name, sql in (named or self.values).items())
        tail = f" ORDER BY {self.first_by} LIMIT 1" if self.first_by else ""
        return f"SELECT {before}{values} FROM {self.rows.replace(WHOSE, whose)}{tail}"


def gathered(
    sources: Sequence[Source], *, who: str, whose: Callable[[str], str], is_dense: bool
) -> tuple[str, str, list[Any]]:
    """``(columns, joins, params)`` of a SELECT that has the customers' numbers in the column ``who``.

    ``whose`` makes of a key the SQL that it is of the batch; ``is_dense``: most of the keys between its ends are.
    """
    columns, joins = [], []
    chosen: list[Any] = []
    joined: list[Any] = []
    laterally = connection.vendor == "postgresql"
    for place, source in enumerate(sources, 1):
        if not source.is_summed and not laterally:
            # SQLite has no lateral joins, and looks through an outer join without an index from its beginning.
            for column, sql in source.columns.items():
                asked = {name: source.value(name, who) for name in source.values if f"{{{name}}}" in sql}
                columns.append(f"{sql.format(**asked)} AS {column}")
                chosen += [*source.params] * len(asked)
            continue
        alias = f"s{place}"
        named = {name: f"{alias}.{name}" for name in source.values}
        columns += [f"{sql.format(**named)} AS {column}" for column, sql in source.columns.items()]
        if laterally and not (source.is_summed and is_dense):
            joins.append(f"LEFT JOIN LATERAL ({source.of_one(who)}) {alias} ON true")
        else:
            joins.append(f"LEFT JOIN ({source.of_many(whose(source.key))}) {alias} ON {alias}.customer_id = {who}")
        joined += source.params
    return ", ".join(columns), " ".join(joins), [*chosen, *joined]

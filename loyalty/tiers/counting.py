"""What of a customer counts towards a tier, at a moment."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from customers import givebacks
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.moments import parameter
from loyalty import ledger
from loyalty.models import Ladder

MONTH_SECONDS = 365 * 86_400 // 12
"""A month of a rolling window, so that twelve of them are 365 days."""


def window_start(ladder: Ladder, as_of: datetime) -> datetime | None:
    """The moment from which things count at ``as_of``; ``None``: from the beginning."""
    if ladder.window == Ladder.Window.LIFETIME:
        return None
    if ladder.window == Ladder.Window.CALENDAR:
        # The last instant before the moment decides which year it is: midnight of New Year still looks back.
        return clock.day_start(date(clock.business_date(as_of - timedelta(seconds=1)).year, 1, 1))
    return as_of - timedelta(seconds=ladder.window_months * MONTH_SECONDS)


def counted(ladder: Ladder, customers: str, as_of: datetime) -> tuple[str, list[Any]]:
    """A SELECT of ``customer_id, amount, at`` of everything that counts at a moment, and its parameters.

    ``customers`` is a SELECT of ids. Points are those earned, less what was taken back of them whenever it was: a
    refund lowers the year its order counted in. Gifts by hand do not count.
    """
    start = window_start(ladder, as_of)
    until = parameter(as_of)
    bounds = [until] if start is None else [until, parameter(start)]

    def within(column: str) -> str:
        return f"{column} < %s" + ("" if start is None else f" AND {column} >= %s")

    programme = int(ladder.programme_id)
    whose = ledger.one_person(programme, customers)

    def of(alias: str) -> tuple[str, str]:
        """Whom a row counts for, and FROM which rows to take it, as far as its WHERE."""
        if not whose:
            return f"{alias}.customer_id", f"WHERE {alias}.customer_id IN ({customers})"
        return "w.now", f"JOIN ({whose}) w ON w.old = {alias}.customer_id WHERE 1 = 1"

    if ladder.measure == Ladder.Measure.POINTS:
        (who, rows), (whom, returns) = of("e"), of("r")
        return (
            f"SELECT {who} AS customer_id, e.points AS amount, e.effective_at AS at FROM loyalty_entry e "
            f"{rows} AND e.programme_id = {programme} AND e.kind = 'earn' AND {within('e.effective_at')} "
            f"UNION ALL SELECT {whom}, r.points, e.effective_at FROM loyalty_entry r "
            f"JOIN loyalty_entry e ON e.id = r.takes_back_id {returns} "
            f"AND r.programme_id = {programme} AND r.takes_back_id IS NOT NULL AND r.effective_at < %s "
            f"AND e.kind = 'earn' AND {within('e.effective_at')}",
            [*bounds, until, *bounds],
        )
    amount = "base_minor" if ladder.measure == Ladder.Measure.SPEND else "orders"
    asked = f"SELECT w.old FROM ({whose}) w" if whose else customers
    placed, params = givebacks.orders(as_of, f"o.customer_id IN ({asked})")
    who, rows = of("o")
    return (
        f"SELECT {who} AS customer_id, o.{amount} AS amount, o.placed_at AS at FROM ({placed}) AS o "
        f"{rows} AND {within('o.placed_at')}",
        [*params, *bounds],
    )

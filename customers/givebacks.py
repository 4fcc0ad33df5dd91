"""Orders as they stood at a past moment: money given back, and orders cancelled, from then on had not been yet.

An order carries what is left of it today. A refund carries what it took (``base_minor``) and when, so a night that is caught
up late, and a replay, see the order as its own day did.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import connection

from lifecycle_crm.lib import batches
from lifecycle_crm.lib.moments import parameter

GIVEN_BACK = "(SELECT o.customer_id, r.occurred_at FROM customers_refund r JOIN customers_order o ON o.id = r.order_id)"
"""Whom money was given back to, and when."""


def _true(column: str) -> str:
    return column if connection.vendor == "postgresql" else f"{column} = 1"


def bought(where: str, params: list[Any], as_of: datetime) -> tuple[str, list[Any]]:
    """A SELECT of ``customer_id, moment`` of the orders ``o`` that counted at ``as_of`` and are such as ``where`` says.

    Those that were cancelled since are few, and an index finds them by that moment.
    """
    chosen = (
        f"SELECT o.customer_id, o.placed_at AS moment FROM customers_order o WHERE {_true('o.is_counted')} AND {where}"
    )
    undone = (
        "SELECT o.customer_id, o.placed_at AS moment FROM customers_refund r JOIN customers_order o ON o.id = r.order_id "
        f"WHERE {_true('r.is_cancellation')} AND r.occurred_at >= %s AND {where}"
    )
    return f"{chosen} UNION ALL {undone}", [*params, parameter(as_of), *params]


def orders(as_of: datetime, whose: str, *, among: str = "") -> tuple[str, list[Any]]:
    """A SELECT of ``customer_id, placed_at, base_minor, orders`` that sums up to what counted at ``as_of``.

    ``whose`` is SQL over the orders ``o``; where that is of no use by itself, ``among`` is true for all it will be asked
    of. A row of money that came back to nobody yet has ``orders`` 0, or 1 where the order itself was cancelled since. Where
    nothing was given back since, these are the orders themselves.
    """
    then = parameter(as_of)
    mine = f"o.placed_at < %s AND {whose}"
    plain = f"SELECT o.customer_id, o.placed_at, o.base_minor, 1 AS orders FROM customers_order o WHERE {mine}"
    plain += f" AND {_true('o.is_counted')}"
    since = f"FROM customers_refund r JOIN customers_order o ON o.id = r.order_id WHERE r.occurred_at >= %s AND {mine}"
    if not batches.rows(f"SELECT 1 {since.replace(whose, among or whose)} LIMIT 1", [then, then]):
        return plain, [then]
    cancelled_since = (
        "EXISTS (SELECT 1 FROM customers_refund c "
        f"WHERE c.order_id = o.id AND {_true('c.is_cancellation')} AND c.occurred_at >= %s)"
    )
    return (
        f"{plain} UNION ALL SELECT o.customer_id, o.placed_at, r.base_minor, "
        f"CASE WHEN {_true('r.is_cancellation')} THEN 1 ELSE 0 END {since} "
        f"AND ({_true('o.is_counted')} OR {cancelled_since})",
        [then, then, then, then],
    )

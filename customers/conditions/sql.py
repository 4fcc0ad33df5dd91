"""The answer for everybody, as SQL over the facts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import connection

from customers import givebacks
from customers.conditions.tree import (
    FOREVER,
    All,
    Any_,
    Compare,
    Condition,
    Days,
    InSegment,
    Listed,
    Not,
    Since,
    Tagged,
    Times,
    Trait,
)
from customers.facts import bool_literal
from customers.vocabulary import FACTS, Kind
from lifecycle_crm.lib.moments import DAY, epoch, from_seconds, parameter, seconds


def smallest(values: Sequence[str]) -> str:
    """SQL: the least of expressions that are never NULL."""
    if len(values) == 1:
        return values[0]
    return f"{'least' if connection.vendor == 'postgresql' else 'min'}({', '.join(values)})"


def largest(values: Sequence[str]) -> str:
    if len(values) == 1:
        return values[0]
    return f"{'greatest' if connection.vendor == 'postgresql' else 'max'}({', '.join(values)})"


def _length(days: Days) -> str:
    """SQL: ``Days.seconds`` of each customer."""
    if days.gaps_percent == 0:
        return str(days.at_most * DAY)
    low, high = days.at_least * DAY, days.at_most * DAY
    clamped = smallest([largest([f"f.gap_seconds * {days.gaps_percent} / 100", str(low)]), str(high)])
    return f"(CASE WHEN f.gap_seconds IS NULL THEN {high} ELSE {clamped} END)"


def happenings(atom: Times, as_of: datetime) -> tuple[str, list[Any]]:
    """A SELECT of ``customer_id, moment`` (a ``DateTimeField``) for what the atom counts at ``as_of``."""
    if atom.kind == "did":
        return "SELECT customer_id, occurred_at AS moment FROM customers_event WHERE name = %s", [atom.name]
    column = {"category": "p.category", "sku": "p.sku"}[atom.kind]
    holds_it = (
        "EXISTS (SELECT 1 FROM customers_orderline l JOIN customers_product p ON p.id = l.product_id "
        f"WHERE l.order_id = o.id AND {column} = %s)"
    )
    return givebacks.bought(holds_it, [atom.name], as_of)


def to_sql(condition: Condition, as_of: datetime) -> tuple[str, list[Any]]:
    """A boolean SQL expression over the facts under the alias ``f``, never NULL, with its parameters.

    ``SELECT … FROM customers_customerfacts f WHERE <expression>``
    """
    match condition:
        case All(parts) | Any_(parts):
            is_all = isinstance(condition, All)
            if not parts:
                return bool_literal(is_all), []
            sqls, params = zip(*(to_sql(part, as_of) for part in parts), strict=True)
            word = " AND " if is_all else " OR "
            return f"({word.join(sqls)})", [p for ps in params for p in ps]
        case Not(part):
            sql, inner = to_sql(part, as_of)
            return f"(NOT {sql})", inner
        case Compare():
            return _compare_sql(condition)
        case Since(fact, is_past, days):
            sign = "<=" if is_past else ">"
            return f"(f.{fact} IS NOT NULL AND f.{fact} + {_length(days)} {sign} {seconds(as_of)})", []
        case Times():
            count, params_ = count_sql(condition, as_of)
            return f"({count} {'>=' if condition.is_enough else '<'} {condition.times})", params_
        case Trait():
            return _trait_sql(condition)
        case Tagged(tag):
            if connection.vendor == "postgresql":
                return f"({_OF_CUSTOMER} AND c.tags @> %s::jsonb))", [json.dumps([tag])]
            carried = "EXISTS (SELECT 1 FROM json_each(c.tags) t WHERE t.value = %s)"
            return f"({_OF_CUSTOMER} AND {carried}))", [tag]
        case Listed(segment):
            return (
                "(EXISTS (SELECT 1 FROM customers_segmentmember m "
                f"WHERE m.segment_id = {int(segment)} AND m.customer_id = f.customer_id))",
                [],
            )
        case InSegment(_name, part):
            return to_sql(part, as_of)
    raise TypeError(condition)


_OF_CUSTOMER = "EXISTS (SELECT 1 FROM customers_customer c WHERE c.id = f.customer_id"


def _trait_sql(atom: Trait) -> tuple[str, list[Any]]:
    column = f"c.{atom.field}"
    match atom.op:
        case "is_set":
            return f"({_OF_CUSTOMER} AND {column} <> ''))", []
        case "is_not_set":
            return f"({_OF_CUSTOMER} AND {column} = ''))", []
        case "in":
            marks = ", ".join(["%s"] * len(atom.value))
            return f"({_OF_CUSTOMER} AND {column} IN ({marks})))", list(atom.value)
    return f"({_OF_CUSTOMER} AND {column} {_SQL_OPS[atom.op]} %s))", [atom.value]


_SQL_OPS = {"eq": "=", "ne": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def _compare_sql(atom: Compare) -> tuple[str, list[Any]]:
    column, kind = f"f.{atom.fact}", FACTS[atom.fact].kind
    empty = f"({column} IS NULL OR {column} = '')" if kind is Kind.TEXT else f"({column} IS NULL)"
    if atom.op == "is_not_set":
        return empty, []
    if atom.op == "is_set":
        return f"(NOT {empty})", []
    if kind is Kind.FLAG:
        return f"({column} = {bool_literal(atom.value)})", []
    if atom.op == "in":
        marks = ", ".join(["%s"] * len(atom.value))
        return f"({column} IS NOT NULL AND {column} IN ({marks}))", list(atom.value)
    if kind is Kind.TEXT:
        return f"({column} IS NOT NULL AND {column} {_SQL_OPS[atom.op]} %s)", [atom.value]
    return f"({column} IS NOT NULL AND {column} {_SQL_OPS[atom.op]} {int(atom.value)})", []


def count_sql(atom: Times, as_of: datetime) -> tuple[str, list[Any]]:
    """SQL: how often, within the window that ends at ``as_of``."""
    table, params = happenings(atom, as_of)
    sql = f"SELECT count(*) FROM ({table}) h WHERE h.customer_id = f.customer_id AND h.moment < %s"
    params = [*params, parameter(as_of)]
    if atom.days is not None:
        sql += " AND h.moment >= %s"
        params.append(parameter(from_seconds(seconds(as_of) - atom.days * DAY)))
    return f"({sql})", params


def flip_sql(conditions: Iterable[Condition], as_of: datetime) -> tuple[list[str], list[Any]]:
    """SQL expressions over ``f``, one per time-dependent atom: its flip after ``as_of``, or ``FOREVER``. And parameters."""
    now = seconds(as_of)
    expressions: list[str] = []
    params: list[Any] = []
    for atom in dict.fromkeys(atom for condition in conditions for atom in condition.atoms()):
        if isinstance(atom, Since):
            flip = f"f.{atom.fact} + {_length(atom.days)}"
            expressions.append(f"(CASE WHEN {flip} > {now} THEN {flip} ELSE {FOREVER} END)")
        elif isinstance(atom, Times) and atom.days is not None:
            table, inner = happenings(atom, as_of)
            leaves = f"{epoch('h.moment')} + {atom.days * DAY + 1}"
            nth = (
                f"SELECT CASE WHEN {leaves} > {now} THEN {leaves} END FROM ({table}) h "
                f"WHERE h.customer_id = f.customer_id AND h.moment < %s ORDER BY h.moment DESC LIMIT 1 OFFSET {atom.times - 1}"
            )
            expressions.append(f"coalesce(({nth}), {FOREVER})")
            params += [*inner, parameter(as_of)]
    return expressions, params

"""How people went through the stages, counted set-based from their moves.

A customer stands, at the end of a date, where their last move up to it led; who has none by then is ``new``. A period is
given by the dates at whose ends it begins and ends; its moves are on the dates after the first, up to the last. A move of
an undone night counts nowhere, nor does the move that took it back.

These statements read the history. Pages read what the night has kept of it (``lifecycle_crm.dashboard``); who asks for a
segment only, or for dates that no night prepared, is answered from here. ``within`` is a SELECT of customer ids with its
parameters.
"""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db import connection
from django.urls import reverse

from customers.trails import BY_HAND, Way
from lifecycle_crm.lib import batches
from lifecycle_crm.lib.moments import DAY, epoch
from stages.durations import TIMED
from stages.models import RuleSet, StageKey
from stages.ways import LETTERS, PLACES, Ways

TABLE = "stages_stagetransition"
Within = tuple[str, list[Any]]


def counts(alias: str) -> str:
    """SQL: this move is neither undone nor an undoing one."""
    return (
        f"{alias}.undoes_id IS NULL AND {alias}.id NOT IN (SELECT undoes_id FROM {TABLE} WHERE undoes_id IS NOT NULL)"
    )


def _date(day: date) -> Any:
    return connection.ops.adapt_datefield_value(day)


def _code(column: str) -> str:
    """SQL: a stage as its place in ``PLACES``."""
    return f"CASE {column} " + " ".join(f"WHEN '{name}' THEN {at}" for at, name in enumerate(PLACES)) + " END"


def _inside(alias: str, within: Within | None) -> tuple[str, list[Any]]:
    return (f" AND {alias}.customer_id IN ({within[0]})", within[1]) if within else ("", [])


def _as_dates(rows: list[tuple[Any, ...]], *places: int) -> list[tuple[Any, ...]]:
    """SQLite gives dates of raw statements as text."""
    return [
        tuple(date.fromisoformat(v) if at in places and isinstance(v, str) else v for at, v in enumerate(row))
        for row in rows
    ]


# --- Where people stood, and the ways they went -----------------------------------------------------------------------


def standing(day: date, within: Within) -> Counter[str]:
    """Customers of ``within`` by the stage they stood in at the end of ``day``; who was new is left out."""
    chosen, params = within
    rows = batches.rows(
        f"""
        SELECT coalesce(m.place, {_code("f.stage")}) AS place, count(*)
        FROM customers_customerfacts f LEFT JOIN (
            SELECT customer_id, min(id * 8 + {_code("from_stage")}) %% 8 AS place
            FROM {TABLE} WHERE business_date > %s GROUP BY customer_id
        ) m ON m.customer_id = f.customer_id
        WHERE f.customer_id IN ({chosen}) GROUP BY 1
        """,
        [_date(day), *params],
    )
    return Counter({PLACES[place]: people for place, people in rows if place})


def reasons() -> tuple[str, ...]:
    """Why people go dormant: by hand, then every rule that ever led there, the oldest version first. Only grows."""
    found = [BY_HAND]
    for rules in RuleSet.objects.order_by("version").values_list("rules", flat=True):
        for rule in rules:
            if rule["to"] == StageKey.DORMANT and rule["key"] not in found:
                found.append(rule["key"])
    return tuple(found[: len(LETTERS) - 1])


def _sign(rules: tuple[str, ...]) -> str:
    """SQL: what a move adds to a way."""
    whens = f"WHEN kind = 'person' THEN '{LETTERS[0]}' " + " ".join(
        f"WHEN rule = '{key}' THEN '{letter}'" for key, letter in zip(rules[1:], LETTERS[1:], strict=False)
    )
    stage = f"CASE to_stage {' '.join(f'''WHEN '{name}' THEN '{at}' ''' for at, name in enumerate(PLACES))} END"
    return f"{stage} || CASE WHEN to_stage <> 'dormant' THEN '' {whens} ELSE '{LETTERS[-1]}' END"


def ways(first: date, last: date, within: Within | None = None, rules: tuple[str, ...] | None = None) -> Ways:
    """How many people went each way after ``first`` up to ``last``. ``rules`` fixes the letters of the reasons."""
    rules = reasons() if rules is None else rules
    chosen, params = _inside("t", within)
    where = f"t.business_date > %s AND t.business_date <= %s AND {counts('t')}{chosen}"
    values = [_date(first), _date(last), *params]
    start = f"min(id * 8 + {_code('from_stage')}) %% 8"
    if connection.vendor == "postgresql":
        each = f"""
            SELECT {start} AS start, string_agg({_sign(rules)}, '' ORDER BY id) AS steps
            FROM {TABLE} t WHERE {where} GROUP BY customer_id
        """
    else:
        # Only a window promises the order; the whole way stands in the row of the last move.
        each = f"""
            SELECT start, steps FROM (
                SELECT min(id * 8 + {_code("from_stage")}) OVER moves %% 8 AS start,
                       group_concat({_sign(rules)}, '') OVER moves AS steps,
                       row_number() OVER (PARTITION BY customer_id ORDER BY id DESC) AS place
                FROM {TABLE} t WHERE {where} WINDOW moves AS (PARTITION BY customer_id ORDER BY id)
            ) AS moved WHERE place = 1
        """
    rows = batches.rows(f"SELECT start, steps, count(*) FROM ({each}) AS each_one GROUP BY start, steps", values)
    return Ways({f"{start}{steps}": people for start, steps, people in rows}, rules)


def shifted(known: Ways, old: tuple[date, date], new: tuple[date, date]) -> Ways:
    """The ways of the period ``new``, from those of ``old``: only who moved on a date that may be in one of the two and
    not in the other is looked at again. The nearer the two, the fewer those are."""
    touched: Within = (
        f"SELECT c.customer_id FROM {TABLE} c "
        "WHERE (c.business_date > %s AND c.business_date <= %s) OR (c.business_date > %s AND c.business_date <= %s)",
        [_date(end) for pair in zip(old, new, strict=True) for end in sorted(pair)],
    )
    rules = reasons()
    if rules[: len(known.rules)] != known.rules:
        return ways(*new)
    people = Counter(known.people)
    people.subtract(ways(*old, touched, known.rules).people)
    people.update(ways(*new, touched, rules).people)
    return Ways({way: count for way, count in people.items() if count}, rules)


# --- Counts by date, for the night to keep ----------------------------------------------------------------------------


def moves_by_day(first: date, last: date) -> dict[date, Counter[tuple[str, str]]]:
    """Moves by business date and ``(from, to)``, on dates from ``first`` to ``last``, both included."""
    rows = batches.rows(
        f"""
        SELECT business_date, from_stage, to_stage, count(*) FROM {TABLE} t
        WHERE business_date >= %s AND business_date <= %s AND {counts("t")} GROUP BY 1, 2, 3
        """,
        [_date(first), _date(last)],
    )
    found: dict[date, Counter[tuple[str, str]]] = {}
    for day, source, target, moves in _as_dates(rows, 0):
        found.setdefault(day, Counter())[source, target] = moves
    return found


def stays(first: date, last: date, within: Within) -> Counter[tuple[str, date, date | None]]:
    """Stays that began after ``first`` up to ``last``, by ``(stage, began on, ended on)``; no end, or one after ``last``,
    is ``None``."""
    chosen, params = _inside("t", within)
    rows = batches.rows(
        f"""
        SELECT to_stage, business_date, ended, count(*) FROM (
            SELECT to_stage, business_date, lead(business_date) OVER (PARTITION BY customer_id ORDER BY id) AS ended
            FROM {TABLE} t WHERE business_date > %s AND business_date <= %s AND {counts("t")}{chosen}
        ) AS stays GROUP BY 1, 2, 3
        """,
        [_date(first), _date(last), *params],
    )
    return Counter({(stage, began, end): stays for stage, began, end, stays in _as_dates(rows, 1, 2)})


def came(first: date, last: date, within: Within | None = None) -> Counter[str]:
    """People by each stage they came into at least once after ``first`` up to ``last``."""
    chosen, params = _inside("t", within)
    rows = batches.rows(
        f"""
        SELECT to_stage, count(DISTINCT customer_id) FROM {TABLE} t
        WHERE business_date > %s AND business_date <= %s AND {counts("t")}{chosen} GROUP BY 1
        """,
        [_date(first), _date(last), *params],
    )
    return Counter(dict(rows))


def ended(first: date, last: date) -> Counter[tuple[str, date, date]]:
    """Stays that ended after ``first`` up to ``last``, by ``(stage, began on, ended on)``."""
    rows = batches.rows(
        f"""
        SELECT from_stage, began, business_date, count(*) FROM (
            SELECT t.from_stage, t.business_date, (
                SELECT p.business_date FROM {TABLE} p
                WHERE p.customer_id = t.customer_id AND p.id < t.id AND {counts("p")} ORDER BY p.id DESC LIMIT 1
            ) AS began
            FROM {TABLE} t
            WHERE t.business_date > %s AND t.business_date <= %s AND t.from_stage <> '' AND {counts("t")}
        ) AS stays WHERE began IS NOT NULL GROUP BY 1, 2, 3
        """,
        [_date(first), _date(last)],
    )
    return Counter({(stage, began, day): stays for stage, began, day, stays in _as_dates(rows, 1, 2)})


def arrived(first: date, last: date, within: Within | None = None) -> Counter[tuple[date, str, int]]:
    """People who first came into a stage of ``TIMED`` after ``first`` up to ``last`` and have ordered, by ``(business
    date, stage, whole days since their first order)``."""
    chosen, params = _inside("t", within)
    names = ", ".join(f"'{stage}'" for stage in TIMED)
    rows = batches.rows(
        f"""
        SELECT t.business_date, t.to_stage, ({epoch("t.occurred_at")} - f.first_order_at) / {DAY} AS days, count(*)
        FROM {TABLE} t JOIN customers_customerfacts f ON f.customer_id = t.customer_id
        WHERE t.business_date > %s AND t.business_date <= %s AND t.to_stage IN ({names}) AND {counts("t")}{chosen}
          AND f.orders > 0 AND f.first_order_at IS NOT NULL AND NOT EXISTS (
              SELECT 1 FROM {TABLE} p
              WHERE p.customer_id = t.customer_id AND p.id < t.id AND p.to_stage = t.to_stage AND {counts("p")}
          )
        GROUP BY 1, 2, 3
        """,
        [_date(first), _date(last), *params],
    )
    found: Counter[tuple[date, str, int]] = Counter()
    for day, stage, days, people in _as_dates(rows, 0):
        found[day, stage, max(0, int(days))] += people
    return found


# --- Addresses, and dates to look at ----------------------------------------------------------------------------------


def stood_url(*stood: tuple[str, date], **more: Any) -> str:
    """The list of customers who stood in each of these stages at the end of each date."""
    return ways_url(*(Way("stood", (stage,), None, day) for stage, day in stood), **more)


def ways_url(*ways: Way, **more: Any) -> str:
    """The list of customers who went all these ways; ``more`` are other filters of the list."""
    filters = {key: value for key, value in more.items() if value not in (None, "")}
    return f"{reverse('customers:list')}?{urlencode({'way': [str(way) for way in ways], **filters}, doseq=True)}"


def columns(first: date, last: date, count: int) -> list[date]:
    """``first`` and ``last``, and between them the latest month ends, ``count`` dates at most (2 to 6)."""
    ends: list[date] = []
    end = last.replace(day=1) - timedelta(days=1)
    while end > first and len(ends) < count - 2:
        ends.insert(0, end)
        end = end.replace(day=1) - timedelta(days=1)
    return [first, *ends, last]

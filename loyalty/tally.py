"""What causes are worth under a set of rules, worked out in SQL: one order or a hundred thousand by the same statements.

Inside one transaction::

    tally.begin()
    causes.add_orders(ids)                # or add_events, add: the causes, one row each in ``tally_causes``
    tally.count(programme, rules)         # one line per cause and rule that gives something, in ``tally_lines``
    tally.gather(programme, rules)        # who turned out to be one person; ``TOGETHER`` is whom to lock
    …                                     # the caller locks accounts and forgets what it knows already
    tally.limit(programme, rules)         # limits, then multipliers and their limits

A line carries the numbers it was computed from, as the inside of a JSON object (``told``); ``totals`` adds the lines of a
cause up. Everything is decided as of the moment of the cause: the version of the rule, the weekday in the shop's zone,
the tier and the stage by their histories, and the segment as the last night before found it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.db import connection

from lifecycle_crm.lib import batches
from lifecycle_crm.lib.moments import parameter
from loyalty import causes, ledger
from loyalty import programme as programmes
from loyalty.causes import CAUSES, DAYS
from loyalty.ledger import MOST_POINTS
from loyalty.models import EarningRule, Programme
from loyalty.rules import is_about_orders

LINES, PEOPLE = "tally_lines", "tally_people"
TOGETHER = f"SELECT customer_id FROM {LINES} UNION SELECT customer_id FROM {PEOPLE} UNION SELECT person FROM {PEOPLE}"
"""The customers of the lines, and those who are one person with them."""

Kind = EarningRule.Kind
MOST_VALUE = 10**9
"""A larger number in an event's property is a mistake and earns nothing."""


def begin() -> None:
    """Empty working tables, private to this transaction."""
    causes.begin()
    batches.scratch(PEOPLE, "customer_id bigint PRIMARY KEY, person bigint NOT NULL")
    _begin_lines()


def _begin_lines() -> None:
    batches.scratch(
        LINES,
        f"cause text NOT NULL, rule integer NOT NULL, customer_id bigint NOT NULL, at {causes.moment_type()} NOT NULL, "
        "points bigint NOT NULL, asked bigint NOT NULL, told text NOT NULL, PRIMARY KEY (cause, rule)",
    )


# --- The lines --------------------------------------------------------------------------------------------------------


def count(programme: Programme, rules: Sequence[EarningRule]) -> int:
    """A line for each cause and rule (not yet the multipliers) that gives something, before limits; how many lines."""
    _begin_lines()
    lines = 0
    for number, rule in enumerate(rules):
        if rule.kind != Kind.MULTIPLIER:
            lines += _count(programme, number, rule)
    if lines:
        batches.analyze(LINES)
    return lines


def _count(programme: Programme, number: int, rule: EarningRule) -> int:
    of, joined, of_params = _measure(rule)
    where, params = _conditions(programme, rule)
    per = f" / {int(rule.per)}" if rule.per else ""
    points = f"(x.of{per}) * {int(rule.points)}"
    capped = f"CASE WHEN {points} > {MOST_POINTS} THEN {MOST_POINTS} ELSE {points} END"
    return batches.execute(
        f"""
        INSERT INTO {LINES} (cause, rule, customer_id, at, points, asked, told)
        SELECT x.cause, {number}, x.customer_id, x.at, {capped}, {capped}, CAST(%s AS text) || x.of
        FROM (
            SELECT c.cause, c.customer_id, c.at, {of} AS of
            FROM {CAUSES} c JOIN {DAYS} d ON d.day = c.day {joined}
            WHERE {where}
        ) x WHERE {points} > 0
        """,
        [_told(rule), *of_params, *params],
    )


def _told(rule: EarningRule) -> str:
    """The numbers of a rule that an explanation keeps, up to the one that differs by cause."""
    said: dict[str, Any] = {"rule": rule.key, "name": rule.name, "kind": rule.kind}
    if rule.kind == Kind.MULTIPLIER:
        said["percent"] = rule.percent
    else:
        said |= {"each": rule.points, "per": rule.per, "subject": rule.subject, "property": rule.property}
    return json.dumps({k: v for k, v in said.items() if v not in (None, "")})[:-1] + ', "of": '


def _measure(rule: EarningRule) -> tuple[str, str, list[Any]]:
    """What a rule counts of a cause: a whole number in SQL, the join it needs, and parameters."""
    match rule.kind:
        case Kind.AMOUNT:
            return "c.base", "", []
        case Kind.PRODUCT | Kind.CATEGORY:
            column = "sku" if rule.kind == Kind.PRODUCT else "category"
            lines = (
                "customers_orderline l JOIN customers_product p ON p.id = l.product_id "
                f"WHERE l.order_id = c.source_id AND p.{column} = %s"
            )
            if rule.per is None:
                return f"(SELECT coalesce(sum(l.quantity), 0) FROM {lines})", "", [rule.subject]
            # At the rate of the whole order, so that the lines never come to more than it.
            part = (
                "coalesce(sum(CASE WHEN l.unit_minor * l.quantity > l.discount_minor "
                "THEN l.unit_minor * l.quantity - l.discount_minor ELSE 0 END), 0)"
            )
            whole = "c.amount" if connection.vendor == "sqlite" else "CAST(c.amount AS numeric)"
            scaled = f"CAST(floor({part} * c.base / {whole}) AS bigint)"
            if connection.vendor == "sqlite":
                scaled = f"{part} * c.base / {whole}"
            return (
                f"(SELECT CASE WHEN c.base = c.amount THEN CAST({part} AS bigint) WHEN c.amount > 0 THEN {scaled} "
                f"ELSE 0 END FROM {lines})",
                "",
                [rule.subject],
            )
        case Kind.EVENT if rule.property:
            value, params = _property(rule.property)
            return value, "JOIN customers_event e ON e.id = c.source_id AND c.source_type = 'event'", params
    return "1", "", []


def _property(name: str) -> tuple[str, list[Any]]:
    """SQL: an event's property ``e`` as a whole number, rounded down; 0 where it is no number from 0 to ``MOST_VALUE``."""
    if connection.vendor == "postgresql":
        text = "(e.properties ->> %s)"
        number = f"floor(CAST({text} AS numeric))"
        return (
            f"(CASE WHEN {text} ~ '^[0-9]{{1,10}}([.][0-9]+)?$' "
            f"THEN CASE WHEN {number} <= {MOST_VALUE} THEN CAST({number} AS bigint) ELSE 0 END ELSE 0 END)",
            [name, name, name],
        )
    is_text = (
        "j.type = 'text' AND j.value GLOB '[0-9]*' AND j.value NOT GLOB '*[^0-9.]*' AND j.value NOT GLOB '*.*.*' "
        "AND j.value NOT GLOB '*.'"
    )
    return (
        f"coalesce((SELECT CASE WHEN ((j.type IN ('integer', 'real') AND j.value >= 0) OR ({is_text})) "
        f"AND CAST(j.value AS integer) <= {MOST_VALUE} THEN CAST(j.value AS integer) ELSE 0 END "
        "FROM json_each(e.properties) j WHERE j.key = %s), 0)",
        [name],
    )


def event_name(rule: EarningRule) -> str:
    """The name of the events that a rule is about, or an empty text."""
    if rule.kind in (Kind.EVENT, Kind.MULTIPLIER):
        return rule.subject
    return (rule.subject or rule.kind) if rule.kind in (Kind.REFERRAL, Kind.REVIEW) else ""


def _conditions(programme: Programme, rule: EarningRule) -> tuple[str, list[Any]]:
    """Which causes ``c`` (with their day ``d``) a rule is about."""
    parts: list[str] = []
    params: list[Any] = []

    def also(sql: str, *values: Any) -> None:
        parts.append(sql)
        params.extend(values)

    name = event_name(rule)
    if is_about_orders(rule):
        also("c.kind = 'order'")
    elif name:
        also("c.kind = 'event' AND c.subject = %s", name)
    else:
        also("c.kind = %s", rule.kind)
        if rule.subject:
            also("c.subject = %s", rule.subject)
    if rule.kind == Kind.FIRST_ORDER:
        counted = "o.is_counted" if connection.vendor == "postgresql" else "o.is_counted = 1"
        also(
            "NOT EXISTS (SELECT 1 FROM customers_order o WHERE o.customer_id = c.customer_id "
            f"AND ({counted} OR {causes.is_given_back_later('o')}) "
            "AND (o.placed_at < c.at OR (o.placed_at = c.at AND o.id < c.source_id)))"
        )
    if rule.starts_at is not None:
        also("c.at >= %s", parameter(rule.starts_at))
    if rule.ends_at is not None:
        also("c.at < %s", parameter(rule.ends_at))
    if rule.weekdays:
        also(f"d.weekday IN ({', '.join(str(int(one)) for one in rule.weekdays)})")
    if rule.dates:
        full = [one for one in rule.dates if len(one) == 10]
        yearly = [one for one in rule.dates if len(one) == 5]
        either: list[str] = []
        for column, values in (("CAST(d.date AS text)", full), ("d.month_day", yearly)):
            if values:
                either.append(f"{column} IN ({', '.join(['%s'] * len(values))})")
                params.extend(values)
        parts.append(f"({' OR '.join(either)})")
    if rule.segment_id is not None:
        also(
            "(SELECT coalesce(sum(CASE s.kind WHEN 'entered' THEN 1 ELSE -1 END), 0) FROM customers_segmentchange s "
            f"WHERE s.segment_id = {int(rule.segment_id)} AND s.customer_id = c.customer_id "
            "AND s.business_date < d.date) > 0"
        )
    if rule.tiers:
        also(
            "coalesce((SELECT t.to_tier FROM loyalty_tierchange t WHERE t.customer_id = c.customer_id "
            f"AND t.programme_id = {int(programme.pk or 0)} AND t.effective_at <= c.at "
            f"ORDER BY t.effective_at DESC LIMIT 1), '') IN ({', '.join(['%s'] * len(rule.tiers))})",
            *rule.tiers,
        )
    if rule.channels:
        also(
            "c.source_type = 'order' AND (SELECT o.source FROM customers_order o WHERE o.id = c.source_id) "
            f"IN ({', '.join(['%s'] * len(rule.channels))})",
            *rule.channels,
        )
    if rule.stages:
        also(
            "coalesce((SELECT t.to_stage FROM stages_stagetransition t WHERE t.customer_id = c.customer_id "
            f"AND t.occurred_at <= c.at ORDER BY t.id DESC LIMIT 1), '') IN ({', '.join(['%s'] * len(rule.stages))})",
            *rule.stages,
        )
    if programme.joining != Programme.Joining.EVERYBODY:
        also(programmes.inside(programme, "c.customer_id", "c.at"))
    return " AND ".join(parts), params


# --- Limits and multipliers -------------------------------------------------------------------------------------------


def limit_of(rule: EarningRule) -> tuple[int | None, int | None, str]:
    """The most points, the most times, and in which period. A first order is one for ever, a birthday one a year."""
    if rule.limit_per:
        return rule.limit_points, rule.limit_times, rule.limit_per
    if rule.kind == Kind.FIRST_ORDER:
        return None, 1, EarningRule.Per.EVER
    if rule.kind == Kind.BIRTHDAY:
        return None, 1, EarningRule.Per.YEAR
    return None, None, ""


def gather(programme: Programme, rules: Sequence[EarningRule]) -> list[tuple[int, int]]:
    """Find out who of the lines turned out to be one person with somebody, where a rule has a limit: pairs of a customer
    and who they are now. Nothing is moved for it, so an undone merge parts what each used up by itself."""
    batches.execute(f"DELETE FROM {PEOPLE}")
    if not any(limit_of(rule)[2] for rule in rules):
        return []
    number = int(programme.pk or 0)
    same = ledger.one_person(number, ledger.survivors(number, f"SELECT customer_id FROM {LINES}"))
    if not same:
        return []
    batches.execute(
        f"INSERT INTO {PEOPLE} (customer_id, person) SELECT s.old, s.now FROM ({same}) s WHERE s.old <> s.now"
    )
    return batches.rows(f"SELECT customer_id, person FROM {PEOPLE} ORDER BY customer_id")


def limit(programme: Programme, rules: Sequence[EarningRule], *, with_past: bool = True) -> None:
    """Cut the lines to their limits, then add the multipliers' lines and cut those.

    ``with_past``: what earlier causes used up of a limit counts too. Limits count causes in the order in which they are
    told, those of all customers who turned out to be one person together; a refund does not give a limit back.
    """
    is_anybody_one = bool(gather(programme, rules))
    for number, rule in enumerate(rules):
        if rule.kind != Kind.MULTIPLIER:
            _limit(programme, number, rule, with_past, is_anybody_one)
    if any(rule.kind == Kind.MULTIPLIER for rule in rules):
        _multiply(programme, rules)
        for number, rule in enumerate(rules):
            if rule.kind == Kind.MULTIPLIER:
                _limit(programme, number, rule, with_past, is_anybody_one)


def _limit(programme: Programme, number: int, rule: EarningRule, with_past: bool, is_anybody_one: bool) -> None:
    most, times, per = limit_of(rule)
    if not per:
        return

    def who(alias: str) -> tuple[str, str]:
        """Whose limit a row counts in, and the join that tells."""
        if not is_anybody_one:
            return f"{alias}.customer_id", ""
        return (
            f"coalesce({alias}p.person, {alias}.customer_id)",
            f"LEFT JOIN {PEOPLE} {alias}p ON {alias}p.customer_id = {alias}.customer_id",
        )

    period = "0" if per == EarningRule.Per.EVER else f"d.{per}"
    (person, people), (user, users) = who("l"), who("u")
    join, past_points, past_times = "", "0", "0"
    params: list[Any] = []
    if with_past:
        kept = "0" if per == EarningRule.Per.EVER else f"u.{per}"
        asked = TOGETHER if is_anybody_one else f"SELECT customer_id FROM {LINES} WHERE rule = {number}"
        past_points, past_times = "coalesce(past.points, 0)", "coalesce(past.times, 0)"
        join = (
            f"LEFT JOIN (SELECT {user} AS person, {kept} AS period, sum(u.points) AS points, count(*) AS times "
            f"FROM loyalty_ruleuse u {users} WHERE u.programme_id = %s AND u.rule_key = %s "
            f"AND u.customer_id IN ({asked}) GROUP BY 1, 2) past ON past.person = {person} AND past.period = {period}"
        )
        params = [programme.pk, rule.key]
    window = "PARTITION BY w.person, w.period ORDER BY w.at, w.cause"
    left = f"{int(most)} - w.past_points - w.before" if most is not None else "w.points"
    room = f"w.past_times + w.place <= {int(times)}" if times is not None else "1 = 1"
    batches.execute(
        f"""
        UPDATE {LINES} SET points = n.points FROM (
            SELECT w.cause, CASE WHEN NOT ({room}) OR {left} <= 0 THEN 0 WHEN {left} < w.points THEN {left}
                                 ELSE w.points END AS points
            FROM (
                SELECT w.*, sum(w.points) OVER ({window}) - w.points AS before, row_number() OVER ({window}) AS place
                FROM (
                    SELECT l.cause, {person} AS person, l.at, l.points, {period} AS period, {past_points} AS past_points,
                           {past_times} AS past_times
                    FROM {LINES} l JOIN {CAUSES} c ON c.cause = l.cause JOIN {DAYS} d ON d.day = c.day {people} {join}
                    WHERE l.rule = {number}
                ) w
            ) w
        ) n WHERE {LINES}.rule = {number} AND {LINES}.cause = n.cause
        """,
        params,
    )
    batches.execute(f"DELETE FROM {LINES} WHERE rule = {number} AND points <= 0")


def _multiply(programme: Programme, rules: Sequence[EarningRule]) -> None:
    """The largest multiplier of a cause adds its extra; two do not multiply each other."""
    candidates: list[str] = []
    params: list[Any] = []
    for number, rule in enumerate(rules):
        if rule.kind == Kind.MULTIPLIER:
            where, inner = _conditions(programme, rule)
            candidates.append(
                f"SELECT c.cause, {number} AS rule, {int(rule.percent)} AS percent, CAST(%s AS text) AS told "
                f"FROM {CAUSES} c JOIN {DAYS} d ON d.day = c.day WHERE {where}"
            )
            params += [_told(rule), *inner]
    extra = "x.points * (x.percent - 100) / 100"
    batches.execute(
        f"""
        INSERT INTO {LINES} (cause, rule, customer_id, at, points, asked, told)
        SELECT x.cause, x.rule, x.customer_id, x.at, {extra}, {extra}, x.told || x.points
        FROM (
            SELECT m.cause, m.rule, m.percent, m.told, b.customer_id, b.at, b.points,
                   row_number() OVER (PARTITION BY m.cause ORDER BY m.percent DESC, m.rule) AS place
            FROM ({" UNION ALL ".join(candidates)}) m
            JOIN (SELECT cause, customer_id, at, CAST(sum(points) AS bigint) AS points FROM {LINES}
                  GROUP BY cause, customer_id, at) b ON b.cause = m.cause
        ) x WHERE x.place = 1 AND {extra} > 0
        """,
        params,
    )


# --- What comes of it -------------------------------------------------------------------------------------------------


def totals(currency: str) -> tuple[str, list[Any]]:
    """A SELECT of ``cause, points, explanation`` (JSON as text), and its parameters."""
    line = (
        "l.told || CASE WHEN l.asked > l.points THEN ', \"asked\": ' || l.asked ELSE '' END "
        "|| ', \"points\": ' || l.points || '}'"
    )
    joined = (
        f"string_agg({line}, ', ' ORDER BY l.rule)"
        if connection.vendor == "postgresql"
        else f"group_concat({line}, ', ')"
    )
    lines = LINES if connection.vendor == "postgresql" else f"(SELECT * FROM {LINES} ORDER BY cause, rule)"
    return (
        f"SELECT l.cause, CAST(sum(l.points) AS bigint) AS points, "
        f"CAST(%s AS text) || {joined} || ']}}' AS explanation FROM {lines} l GROUP BY l.cause",
        [f'{{"currency": {json.dumps(currency)}, "lines": ['],
    )


def remember(programme: Programme, rules: Sequence[EarningRule]) -> None:
    """Keep what the lines used up of the limits."""
    for number, rule in enumerate(rules):
        if limit_of(rule)[2]:
            batches.execute(
                f"""
                INSERT INTO loyalty_ruleuse (programme_id, rule_key, customer_id, cause, points, day, week, month, year)
                SELECT %s, %s, l.customer_id, l.cause, l.points, d.day, d.week, d.month, d.year
                FROM {LINES} l JOIN {CAUSES} c ON c.cause = l.cause JOIN {DAYS} d ON d.day = c.day WHERE l.rule = {number}
                """,
                [programme.pk, rule.key],
            )

"""One small language behind segments, stage rules, journey branches and earning rules.

A condition is a JSON tree::

    {"all": [c, …]}   {"any": [c, …]}   {"not": c}
    {"fact": "orders", "op": "gte", "value": 2}            eq ne gt gte lt lte in is_set is_not_set
    {"fact": "last_order_at", "op": "days_since_gte", "value": 90}                 or days_since_lt
    {"fact": "last_order_at", "op": "days_since_gte", "value": {"gaps": 2.5, "at_least": 60, "at_most": 240}}
    {"did": "referral", "op": "gte", "times": 1, "days": 365}                 gte or lt; days may be left out
    {"bought": {"category": "jazz"}, "op": "gte", "times": 2, "days": 90}     or {"sku": …}

In a segment three more words are known; stage rules, whose moves keep the facts they were decided by, refuse them::

    {"fact": "country", "op": "eq", "value": "SE"}         a field of the customer: eq ne in is_set is_not_set
    {"tag": "vip"}
    {"segment": "big_spenders"}                            expanded where it is read; never inside itself

``{"gaps": 2.5, …}`` is "2.5 times this customer's usual gap between orders, at least 60 and at most 240 days"; who has no
gap yet gets ``at_most``. "Days" are elapsed 24-hour days. A comparison with a fact that is not set is false.

Four interpreters agree (property tests hold them together): ``to_sql`` for a million customers, ``holds`` for one, ``say``
for a person, and ``next_flip`` (with ``flip_sql``), the first second at which time alone could change an answer. Time
enters only as "days since" and "n times in the last d days", which is why that second is closed-form.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from customers import givebacks
from customers.facts import bool_literal
from customers.vocabulary import FACTS, FIELDS, NUMBER_OPS, TEXT_OPS, Fact, Kind
from lifecycle_crm.lib import batches
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import DAY, epoch, from_seconds, parameter, seconds

MAX_DEPTH = 8
MAX_SEGMENTS_DEEP = 5
MAX_ATOMS = 300
"""Conditions of a tree with its segments expanded: what one statement still answers."""
FOREVER = 2**62


class BadCondition(InvalidInput):
    """The tree names something unknown or is not well formed; the message says where."""

    code = "bad_condition"


# --- The tree ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """Base of all nodes. Nodes are values: equal trees are equal."""

    def atoms(self) -> Iterator[Atom]:
        yield from ()


@dataclass(frozen=True, slots=True)
class All(Condition):
    parts: tuple[Condition, ...]

    def atoms(self) -> Iterator[Atom]:
        for part in self.parts:
            yield from part.atoms()


@dataclass(frozen=True, slots=True)
class Any_(Condition):
    parts: tuple[Condition, ...]

    def atoms(self) -> Iterator[Atom]:
        for part in self.parts:
            yield from part.atoms()


@dataclass(frozen=True, slots=True)
class Not(Condition):
    part: Condition

    def atoms(self) -> Iterator[Atom]:
        yield from self.part.atoms()


@dataclass(frozen=True, slots=True)
class Atom(Condition):
    def atoms(self) -> Iterator[Atom]:
        yield self


@dataclass(frozen=True, slots=True)
class Compare(Atom):
    """A fact against a value, where time plays no part."""

    fact: str
    op: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Days:
    """A length of time: fixed (``at_least == at_most``), or so many usual gaps of the customer within bounds.

    ``gaps`` is in hundredths, so that both databases and Python compute it in whole numbers.
    """

    gaps_percent: int
    at_least: int
    at_most: int

    def seconds(self, gap_seconds: int | None) -> int:
        if self.gaps_percent == 0 or gap_seconds is None:
            return self.at_most * DAY
        return min(max(gap_seconds * self.gaps_percent // 100, self.at_least * DAY), self.at_most * DAY)

    def sql(self) -> str:
        if self.gaps_percent == 0:
            return str(self.at_most * DAY)
        low, high = self.at_least * DAY, self.at_most * DAY
        clamped = smallest([largest([f"f.gap_seconds * {self.gaps_percent} / 100", str(low)]), str(high)])
        return f"(CASE WHEN f.gap_seconds IS NULL THEN {high} ELSE {clamped} END)"


@dataclass(frozen=True, slots=True)
class Since(Atom):
    """At least, or fewer than, so many days since a moment."""

    fact: str
    is_past: bool
    days: Days


@dataclass(frozen=True, slots=True)
class Times(Atom):
    """Did or bought something at least (or fewer than) n times, ever or in the last d days."""

    kind: str  # "did" (an event name), "category" or "sku" (orders with such a line)
    name: str
    is_enough: bool
    times: int
    days: int | None

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.name}:{self.days or 'ever'}"


@dataclass(frozen=True, slots=True)
class Trait(Atom):
    """A text that stands on the customer (``FIELDS``), not in the facts."""

    field: str
    op: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Tagged(Atom):
    tag: str

    @property
    def key(self) -> str:
        return f"tag:{self.tag}"


@dataclass(frozen=True, slots=True)
class Listed(Atom):
    """Put on the list of a static segment by hand; ``segment`` is its id."""

    segment: int

    @property
    def key(self) -> str:
        return f"listed:{self.segment}"


@dataclass(frozen=True, slots=True)
class InSegment(Condition):
    """A segment used inside another: its own condition under its name."""

    name: str
    part: Condition

    def atoms(self) -> Iterator[Atom]:
        yield from self.part.atoms()


# --- Reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """A segment that a tree names: its name, and its tree, or the id of its list when it is static."""

    name: str
    tree: Any
    static_id: int | None = None


Resolver = Callable[[str], Found | None]
"""The segment of a key, ``None`` for one that does not exist."""


@dataclass(slots=True)
class _Reading:
    resolve: Resolver | None
    atoms: int = 0

    def count(self, atom: Condition, where: str) -> Condition:
        self.atoms += 1
        if self.atoms > MAX_ATOMS:
            raise BadCondition(f"{where}: more than {MAX_ATOMS} conditions, counting those of the segments inside.")
        return atom

    def needs_segments(self, what: str, where: str) -> Resolver:
        if self.resolve is None:
            raise BadCondition(f"{where}: {what} can be used in segments only. Use a fact instead.")
        return self.resolve


def parse(
    tree: Any, where: str = "condition", *, resolve: Resolver | None = None, inside: tuple[str, ...] = ()
) -> Condition:
    """The condition of a JSON tree. Raises ``BadCondition`` with the path to the fault.

    ``resolve`` finds the segments it names; without it segments, tags and fields of the customer are refused.
    ``inside`` are the keys of the segments the tree belongs to: naming one of them is a circle.
    """
    return _parse(tree, where, 0, _Reading(resolve), inside)


def named_segments(tree: Any) -> set[str]:
    """The keys of the segments a tree names itself, at any depth; also of a tree that is not well formed."""
    if isinstance(tree, dict):
        own = {tree["segment"]} if isinstance(tree.get("segment"), str) else set()
        return own.union(*(named_segments(part) for part in tree.values()))
    if isinstance(tree, list):
        return set[str]().union(*(named_segments(part) for part in tree))
    return set()


def _parse(tree: Any, where: str, depth: int, reading: _Reading, inside: tuple[str, ...]) -> Condition:
    if depth > MAX_DEPTH:
        raise BadCondition(f"{where}: nested deeper than {MAX_DEPTH} levels. Use a saved segment for the inner part.")
    if not isinstance(tree, dict):
        raise BadCondition(f"{where}: expected an object such as {{'fact': 'orders', …}}, found {tree!r}.")
    heads = {"all", "any", "not", "fact", "did", "bought", "tag", "segment"} & set(tree)
    if len(heads) != 1:
        raise BadCondition(
            f"{where}: needs exactly one of all, any, not, fact, did, bought, tag, segment; found {sorted(map(str, tree))}."
        )
    head = heads.pop()
    if head in ("all", "any"):
        _only(tree, {head}, where)
        if not isinstance(tree[head], list):
            raise BadCondition(f"{where}.{head}: expected a list of conditions.")
        parts = tuple(
            _parse(part, f"{where}.{head}[{i}]", depth + 1, reading, inside) for i, part in enumerate(tree[head])
        )
        return All(parts) if head == "all" else Any_(parts)
    if head == "not":
        _only(tree, {"not"}, where)
        return Not(_parse(tree["not"], f"{where}.not", depth + 1, reading, inside))
    if head == "segment":
        return _parse_segment(tree, where, reading, inside)
    if head == "tag":
        _only(tree, {"tag"}, where)
        reading.needs_segments("a tag", where)
        if not isinstance(tree["tag"], str) or not tree["tag"] or len(tree["tag"]) > 100:
            raise BadCondition(f"{where}.tag: expected a tag, found {tree['tag']!r}.")
        return reading.count(Tagged(tree["tag"]), where)
    if head == "fact":
        if isinstance(tree["fact"], str) and tree["fact"] in FIELDS:
            reading.needs_segments(tree["fact"], where)
            return reading.count(_parse_field(FIELDS[tree["fact"]], tree, where), where)
        return reading.count(_parse_fact(tree, where), where)
    return reading.count(_parse_times(tree, head, where), where)


def _parse_segment(tree: Mapping[str, Any], where: str, reading: _Reading, inside: tuple[str, ...]) -> Condition:
    _only(tree, {"segment"}, where)
    resolve, key = reading.needs_segments("another segment", where), tree["segment"]
    found = resolve(key) if isinstance(key, str) else None
    if found is None:
        raise BadCondition(f"{where}: there is no segment {key!r}. Choose one of the list of segments.")
    if key in inside:
        circle = " → ".join([*inside[inside.index(key) :], key])
        raise BadCondition(f"{where}: a segment cannot be inside itself: {circle}. Remove it here or there.")
    if len(inside) > MAX_SEGMENTS_DEEP:
        path = " → ".join([*inside, key])
        raise BadCondition(f"{where}: segments inside segments go at most {MAX_SEGMENTS_DEEP} deep: {path}.")
    if found.static_id is not None:
        return InSegment(found.name, reading.count(Listed(found.static_id), where))
    return InSegment(found.name, _parse(found.tree, f"{where} ({key})", 0, reading, (*inside, key)))


def _parse_field(field: Fact, tree: Mapping[str, Any], where: str) -> Condition:
    _only(tree, {"fact", "op", "value"}, where)
    op = tree.get("op")
    if op in ("is_set", "is_not_set"):
        _only(tree, {"fact", "op"}, where)
        return Trait(field.name, op)
    return Trait(field.name, *_parse_text(field, op, tree.get("value"), where))


def _only(tree: Mapping[str, Any], allowed: set[str], where: str) -> None:
    if extra := set(tree) - allowed:
        raise BadCondition(f"{where}: does not know {', '.join(sorted(map(repr, extra)))}.")


def _whole(value: Any, where: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadCondition(f"{where}: expected a whole number from {low} to {high}, found {value!r}.")
    return value


def _parse_fact(tree: Mapping[str, Any], where: str) -> Condition:
    _only(tree, {"fact", "op", "value"}, where)
    fact = FACTS.get(tree["fact"]) if isinstance(tree["fact"], str) else None
    if fact is None:
        raise BadCondition(f"{where}: unknown fact {tree['fact']!r}. Known are: {', '.join(sorted(FACTS))}.")
    op, value = tree.get("op"), tree.get("value")
    if op in ("is_set", "is_not_set"):
        _only(tree, {"fact", "op"}, where)
        return Compare(fact.name, op)
    if fact.kind is Kind.MOMENT:
        if op not in ("days_since_gte", "days_since_lt"):
            raise BadCondition(
                f"{where}: {fact.name} is a moment; use days_since_gte, days_since_lt, is_set or is_not_set."
            )
        return Since(fact.name, op == "days_since_gte", _parse_days(value, f"{where}.value"))
    if fact.kind is Kind.FLAG:
        if op != "eq" or not isinstance(value, bool):
            raise BadCondition(f"{where}: {fact.name} is yes or no; use op eq with true or false.")
        return Compare(fact.name, "eq", value)
    if fact.kind is Kind.TEXT:
        return Compare(fact.name, *_parse_text(fact, op, value, where))
    if op not in NUMBER_OPS:
        raise BadCondition(f"{where}: {fact.name} is a number; use {', '.join(NUMBER_OPS)}.")
    return Compare(fact.name, op, _whole(value, f"{where}.value", -(2**60), 2**60))


def _parse_text(fact: Fact, op: Any, value: Any, where: str) -> tuple[str, Any]:
    if op not in TEXT_OPS:
        raise BadCondition(f"{where}: {fact.name} is a text; use {', '.join(TEXT_OPS)}.")
    if op == "in":
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise BadCondition(f"{where}.value: expected a list of texts.")
        _known(fact, value, where)
        return "in", tuple(value)
    if not isinstance(value, str):
        raise BadCondition(f"{where}.value: expected a text, found {value!r}.")
    _known(fact, [value], where)
    return op, value


def _known(fact: Fact, values: Iterable[str], where: str) -> None:
    if fact.values and (unknown := [v for v in values if v not in fact.values]):
        raise BadCondition(f"{where}: {unknown[0]!r} is no {fact.name}. Use one of: {', '.join(fact.values)}.")


def _parse_days(value: Any, where: str) -> Days:
    if isinstance(value, dict):
        _only(value, {"gaps", "at_least", "at_most"}, where)
        gaps = value.get("gaps")
        if isinstance(gaps, bool) or not isinstance(gaps, int | float) or not 0 < gaps <= 100:
            raise BadCondition(f"{where}.gaps: expected a number above 0 and up to 100, found {gaps!r}.")
        low = _whole(value.get("at_least"), f"{where}.at_least", 0, 36_500)
        high = _whole(value.get("at_most"), f"{where}.at_most", 1, 36_500)
        if low > high:
            raise BadCondition(f"{where}: at_least ({low}) is above at_most ({high}).")
        return Days(round(gaps * 100), low, high)
    days = _whole(value, where, 0, 36_500)
    return Days(0, days, days)


def _parse_times(tree: Mapping[str, Any], head: str, where: str) -> Condition:
    _only(tree, {head, "op", "times", "days"}, where)
    if head == "did":
        kind, name = "did", tree["did"]
    else:
        what = tree["bought"]
        if not isinstance(what, dict) or len(what) != 1 or not {"category", "sku"} & set(what):
            raise BadCondition(f"{where}.bought: expected {{'category': …}} or {{'sku': …}}.")
        kind, name = next(iter(what.items()))
    if not isinstance(name, str) or not name or len(name) > 100:
        raise BadCondition(f"{where}.{head}: expected a name, found {name!r}.")
    op = tree.get("op", "gte")
    if op not in ("gte", "lt"):
        raise BadCondition(f"{where}.op: use gte (at least) or lt (fewer than).")
    days = tree.get("days")
    return Times(
        kind,
        name,
        op == "gte",
        _whole(tree.get("times", 1), f"{where}.times", 1, 10_000),
        None if days is None else _whole(days, f"{where}.days", 1, 36_500),
    )


# --- For one: Python --------------------------------------------------------------------------------------------------

Snapshot = Mapping[str, Any]
"""Values of facts as stored (moments and gaps in seconds), and for each ``Times`` its key: either the count at that
moment (evidence) or the descending list of seconds at which it happened."""


def holds(condition: Condition, snapshot: Snapshot, as_of: int) -> bool:
    """Is it true of this customer at this second?"""
    match condition:
        case All(parts):
            return all(holds(part, snapshot, as_of) for part in parts)
        case Any_(parts):
            return any(holds(part, snapshot, as_of) for part in parts)
        case Not(part):
            return not holds(part, snapshot, as_of)
        case Compare(fact, op, value):
            return _compare(snapshot.get(fact), op, value)
        case Since(fact, is_past, days):
            moment = snapshot.get(fact)
            if moment is None:
                return False
            return (moment + days.seconds(snapshot.get("gap_seconds")) <= as_of) is is_past
        case Times():
            return (count_of(condition, snapshot, as_of) >= condition.times) is condition.is_enough
        case Trait(field, op, value):
            return _compare(snapshot.get(field), op, value)
        case Tagged() | Listed():
            return bool(snapshot.get(condition.key, False))
        case InSegment(_name, part):
            return holds(part, snapshot, as_of)
    raise TypeError(condition)


def _compare(actual: Any, op: str, value: Any) -> bool:
    if op == "is_set":
        return actual not in (None, "")
    if op == "is_not_set":
        return actual in (None, "")
    if actual is None:
        return False
    match op:
        case "eq":
            return bool(actual == value)
        case "ne":
            return bool(actual != value)
        case "gt":
            return bool(actual > value)
        case "gte":
            return bool(actual >= value)
        case "lt":
            return bool(actual < value)
        case "lte":
            return bool(actual <= value)
        case "in":
            return actual in value
    raise ValueError(op)


def count_of(atom: Times, snapshot: Snapshot, as_of: int) -> int:
    """How often within the window that ends at ``as_of``."""
    known = snapshot.get(atom.key, ())
    if isinstance(known, int):
        return known
    start = -FOREVER if atom.days is None else as_of - atom.days * DAY
    return sum(start <= moment < as_of for moment in known)


def next_flip(condition: Condition, snapshot: Snapshot, as_of: int) -> int | None:
    """The first second after ``as_of`` at which time alone could change the answer; ``None`` if it never will."""
    flips = [flip for atom in condition.atoms() if (flip := _flip(atom, snapshot, as_of)) is not None]
    return min(flips, default=None)


def _flip(atom: Atom, snapshot: Snapshot, as_of: int) -> int | None:
    if isinstance(atom, Since):
        moment = snapshot.get(atom.fact)
        if moment is None:
            return None
        flip = moment + atom.days.seconds(snapshot.get("gap_seconds"))
        return flip if flip > as_of else None
    if isinstance(atom, Times) and atom.days is not None:
        known = [moment for moment in snapshot.get(atom.key, ()) if moment < as_of]
        if len(known) < atom.times:
            return None
        leaves = sorted(known, reverse=True)[atom.times - 1] + atom.days * DAY + 1
        return leaves if leaves > as_of else None
    return None


def snapshots(customers: Sequence[int], conditions: Iterable[Condition], as_of: datetime) -> dict[int, dict[str, Any]]:
    """What ``holds`` and ``next_flip`` need to know about these customers, from their facts and, for ``Times``, their rows."""
    atoms = {atom for condition in conditions for atom in condition.atoms()}
    names = sorted({a.fact for a in atoms if isinstance(a, Compare | Since)} | {"gap_seconds"})
    ids = ", ".join(str(int(pk)) for pk in customers) or "NULL"
    known: dict[int, dict[str, Any]] = {}
    for pk, *values in batches.rows(
        f"SELECT customer_id, {', '.join(names)} FROM customers_customerfacts WHERE customer_id IN ({ids})"
    ):
        flags = {n: bool(v) for n, v in zip(names, values, strict=True) if n in FACTS and FACTS[n].kind is Kind.FLAG}
        known[pk] = dict(zip(names, values, strict=True)) | flags
    for atom in sorted((a for a in atoms if isinstance(a, Times)), key=lambda a: a.key):
        table, params = _happenings(atom, as_of)
        found: dict[int, list[int]] = {pk: [] for pk in known}
        for pk, moment in batches.rows(
            f"SELECT h.customer_id, {epoch('h.moment')} FROM ({table}) h "
            f"WHERE h.customer_id IN ({ids}) AND h.moment < %s ORDER BY 2 DESC",
            [*params, parameter(as_of)],
        ):
            if pk in found:
                found[pk].append(moment)
        for pk, moments in found.items():
            known[pk][atom.key] = moments
    if any(isinstance(a, Trait | Tagged) for a in atoms):
        tags = [a for a in atoms if isinstance(a, Tagged)]
        for pk, carried, *texts in batches.rows(
            f"SELECT id, tags, {', '.join(FIELDS)} FROM customers_customer WHERE id IN ({ids})"
        ):
            if pk in known:
                has = json.loads(carried) if isinstance(carried, str) else carried
                known[pk] |= dict(zip(FIELDS, texts, strict=True)) | {a.key: a.tag in has for a in tags}
    for listed in [a for a in atoms if isinstance(a, Listed)]:
        on_it = batches.rows(
            f"SELECT customer_id FROM customers_segmentmember WHERE segment_id = %s AND customer_id IN ({ids})",
            [listed.segment],
        )
        for pk in known.keys() & {pk for (pk,) in on_it}:
            known[pk][listed.key] = True
    return known


# --- For a million: SQL -----------------------------------------------------------------------------------------------


def smallest(values: Sequence[str]) -> str:
    """SQL: the least of expressions that are never NULL."""
    if len(values) == 1:
        return values[0]
    return f"{'least' if connection.vendor == 'postgresql' else 'min'}({', '.join(values)})"


def largest(values: Sequence[str]) -> str:
    if len(values) == 1:
        return values[0]
    return f"{'greatest' if connection.vendor == 'postgresql' else 'max'}({', '.join(values)})"


def _happenings(atom: Times, as_of: datetime) -> tuple[str, list[Any]]:
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
            return f"(f.{fact} IS NOT NULL AND f.{fact} + {days.sql()} {sign} {seconds(as_of)})", []
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
    table, params = _happenings(atom, as_of)
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
            flip = f"f.{atom.fact} + {atom.days.sql()}"
            expressions.append(f"(CASE WHEN {flip} > {now} THEN {flip} ELSE {FOREVER} END)")
        elif isinstance(atom, Times) and atom.days is not None:
            table, inner = _happenings(atom, as_of)
            leaves = f"{epoch('h.moment')} + {atom.days * DAY + 1}"
            nth = (
                f"SELECT CASE WHEN {leaves} > {now} THEN {leaves} END FROM ({table}) h "
                f"WHERE h.customer_id = f.customer_id AND h.moment < %s ORDER BY h.moment DESC LIMIT 1 OFFSET {atom.times - 1}"
            )
            expressions.append(f"coalesce(({nth}), {FOREVER})")
            params += [*inner, parameter(as_of)]
    return expressions, params


__all__ = [
    "FOREVER",
    "All",
    "Any_",
    "Atom",
    "BadCondition",
    "Compare",
    "Condition",
    "Days",
    "Found",
    "InSegment",
    "Listed",
    "Not",
    "Resolver",
    "Since",
    "Tagged",
    "Times",
    "Trait",
    "count_of",
    "count_sql",
    "flip_sql",
    "holds",
    "largest",
    "named_segments",
    "next_flip",
    "parse",
    "smallest",
    "snapshots",
    "to_sql",
]

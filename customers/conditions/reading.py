"""From a JSON tree to a condition, or one sentence that says where it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from customers.conditions.tree import (
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
from customers.vocabulary import FACTS, FIELDS, NUMBER_OPS, TEXT_OPS, Fact, Kind
from lifecycle_crm.lib.errors import InvalidInput

MAX_DEPTH = 8
MAX_SEGMENTS_DEEP = 5
MAX_ATOMS = 300
"""Conditions of a tree with its segments expanded: what one statement still answers."""


class BadCondition(InvalidInput):
    """The tree names something unknown or is not well formed; the message says where."""

    code = "bad_condition"


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

"""The answer for one customer, and when time alone could change it: plain values in, plain values out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from customers.conditions.tree import (
    FOREVER,
    All,
    Any_,
    Atom,
    Compare,
    Condition,
    InSegment,
    Listed,
    Not,
    Since,
    Tagged,
    Times,
    Trait,
)
from lifecycle_crm.lib.moments import DAY

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

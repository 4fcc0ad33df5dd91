"""The nodes of a condition. They are values: equal trees are equal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lifecycle_crm.lib.moments import DAY

FOREVER = 2**62
"""A second that never comes."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Base of all nodes."""

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

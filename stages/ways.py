"""What is told by the ways people went in a period: pure sums over "so many people went exactly this way".

A way is a short text, so that thousands of them fit into one row: a digit per stage (its place in ``PLACES``), the first
for where the customer stood before their first move of the period, then one for each stage they came into. After a move to
dormant a letter says why: the rule that decided it, by its place in ``Ways.rules``. Who went ``0346b`` was new, came into
nurture, then into retain, and went dormant by the second rule. Undone moves are in no way.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from heapq import nsmallest

from customers.trails import FORWARD, LONGEST_PATH
from stages.models import StageKey
from stages.queries import NEW

PLACES = ("", *StageKey.values)
OTHER = "other"
LETTERS = string.ascii_letters
"""Of reasons. The last one is for rules beyond so many."""


@dataclass(frozen=True)
class Ways:
    """How many people went each way after the end of one date up to the end of another; ``rules`` are the keys of the
    reasons, in the order of ``LETTERS``."""

    people: Mapping[str, int]
    rules: tuple[str, ...] = ()

    @cached_property
    def plain(self) -> Counter[str]:
        """People by way without the reasons: digits only."""
        found: Counter[str] = Counter()
        for way, people in self.people.items():
            found[way.translate(_NO_LETTERS)] += people
        return found

    @property
    def moves(self) -> int:
        """All moves of all people."""
        return sum((len(way) - 1) * people for way, people in self.plain.items())


_NO_LETTERS = str.maketrans("", "", LETTERS)
_DORMANT = str(PLACES.index(StageKey.DORMANT))
_ON = frozenset(str(PLACES.index(stage)) for stage in FORWARD[:-1])
"""Stages after which a later one may come; the digits of ``FORWARD`` grow in its order."""


def _place(sign: str) -> str:
    return PLACES[int(sign)] or NEW


@dataclass(frozen=True)
class Cell:
    """People who stood in ``source`` and later in ``target``; ``share`` is of all who stood in ``source``."""

    source: str
    target: str
    people: int
    share: float


def between(stood: Mapping[str, int], ways: Ways) -> Counter[tuple[str, str]]:
    """The transition matrix: people by ``(stage then, stage later)``. ``stood`` holds who stood where then, without the
    new; who had no stage later either is in no cell."""
    cells: Counter[tuple[str, str]] = Counter()
    stayed = Counter(stood)
    for way, people in ways.plain.items():
        source = _place(way[0])
        cells[source, _place(way[-1])] += people
        stayed[source] -= people
    for stage in StageKey.values:
        cells[stage, stage] += stayed[stage]
    return Counter({cell: people for cell, people in cells.items() if people})


def shares(cells: Mapping[tuple[str, str], int]) -> list[Cell]:
    """The cells of a matrix in the order of the stages, those without people left out."""
    totals: Counter[str] = Counter()
    for (source, _target), people in cells.items():
        totals[source] += people
    order = [NEW, *StageKey.values]
    ranked = sorted(cells.items(), key=lambda item: (order.index(item[0][0]), order.index(item[0][1])))
    return [Cell(source, target, n, round(n / totals[source], 4)) for (source, target), n in ranked]


@dataclass(frozen=True)
class Passed:
    """Of the ``been`` people who were in ``stage`` at some time of the period, ``on`` came into a later stage after it
    and ``gone`` moved straight from it to dormant, all within the period. ``on`` is ``None`` where no stage is later."""

    stage: str
    been: int
    on: int | None
    gone: int

    @property
    def on_share(self) -> float | None:
        return self.on / self.been if self.been and self.on is not None else None

    @property
    def gone_share(self) -> float | None:
        return self.gone / self.been if self.been else None


def passed(stood: Mapping[str, int], ways: Ways) -> list[Passed]:
    """The six stages in order; ``stood`` holds who stood where when the period began."""
    been: Counter[str] = Counter()
    on: Counter[str] = Counter()
    gone: Counter[str] = Counter()
    for way, people in ways.plain.items():
        for sign in {*way[1:]} - {way[0]}:  # who began there is in ``stood``
            been[sign] += people
        # From the end: the highest stage still to come decides about the first time they were somewhere.
        highest, came_on, left = "", {}, set()
        for place in range(len(way) - 1, -1, -1):
            sign = way[place]
            if sign == _DORMANT:
                if place:
                    left.add(way[place - 1])
                continue
            if sign in _ON:
                came_on[sign] = highest > sign
            highest = max(highest, sign)
        for sign, is_on in came_on.items():
            on[sign] += people * is_on
        for sign in left:
            gone[sign] += people
    return [
        Passed(stage, stood.get(stage, 0) + been[sign], on[sign] if sign in _ON else None, gone[sign])
        for stage in StageKey.values
        for sign in [str(PLACES.index(stage))]
    ]


def paths(ways: Ways, most: int = 10) -> list[tuple[tuple[str, ...], int]]:
    """The ways most people went. Those of more than ``LONGEST_PATH`` moves are left out."""
    found = [(way, people) for way, people in ways.plain.items() if len(way) <= LONGEST_PATH + 1]
    ranked = nsmallest(most, found, key=lambda one: (-one[1], one[0]))
    return [(tuple(map(_place, way)), people) for way, people in ranked]


def came(ways: Ways) -> Counter[str]:
    """People by each stage they came into at least once."""
    found: Counter[str] = Counter()
    for way, people in ways.plain.items():
        for sign in {*way[1:]}:
            found[sign] += people
    return Counter({_place(sign): people for sign, people in found.items()})


@dataclass(frozen=True)
class Leak:
    """``people`` went from ``source`` to dormant because of ``rule`` (``by_hand``: somebody moved them)."""

    source: str
    rule: str
    people: int


def leaks(ways: Ways) -> list[Leak]:
    """Why people went dormant, by the stage they left, in the order of the stages, the most people first."""
    found: Counter[tuple[str, str]] = Counter()
    for way, people in ways.people.items():
        for leak in {*_LEAK.findall(way)}:
            found[leak] += people
    ranked = sorted(found.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    return [Leak(_place(source), _reason(letter, ways.rules), people) for (source, letter), people in ranked]


_LEAK = re.compile(rf"([0-9])[{LETTERS}]?(?={_DORMANT}([{LETTERS}]))")


def _reason(letter: str, rules: tuple[str, ...]) -> str:
    place = LETTERS.index(letter)
    return rules[place] if place < len(rules) else OTHER

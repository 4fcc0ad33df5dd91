"""How long people stay in a stage, and how soon after their first order they come into one.

Lengths of stays are whole days between the business date of the move in and that of the move out. Stays that still run are
not left out, which would make every stage look shorter than it is: they count as "at least so long", after Kaplan and Meier
(*Nonparametric Estimation from Incomplete Observations*, 1958).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from stages.models import StageKey

STAY_DAYS = 365
"""Stays that began on so many dates are looked at."""
PERCENTILES = (10, 50, 90)
TIMED = (StageKey.RETAIN.value, StageKey.ADVOCATE.value, StageKey.DORMANT.value)
"""The stages whose distance from the first order is told."""


@dataclass(frozen=True)
class Stays:
    """Stays in ``stage`` that began in the window: ``ended`` of ``stays`` are over. ``days`` holds the days after which
    10, 50 and 90 per cent have left, ``None`` where fewer have by now; ``longest`` is the longest anyone was watched."""

    stage: str
    stays: int
    ended: int
    days: tuple[int | None, ...]
    longest: int

    @property
    def running(self) -> int:
        return self.stays - self.ended


def stays(
    last: date,
    began: Counter[tuple[str, date]],
    left: Counter[tuple[str, date]],
    lengths: Counter[tuple[str, int]],
) -> dict[str, Stays]:
    """By stage, as known at the end of ``last``: ``began`` counts the stays of the window by ``(stage, first date)``,
    ``left`` those of them that are over in the same way, ``lengths`` these again by ``(stage, days)``."""
    observed: dict[str, list[tuple[int, bool, int]]] = defaultdict(list)
    for (stage, days), count in lengths.items():
        observed[stage].append((days, True, count))
    for (stage, day), count in (began - left).items():
        if count:
            observed[stage].append(((last - day).days, False, count))
    return {
        stage: Stays(
            stage,
            sum(count for _d, _o, count in observed[stage]),
            sum(count for _d, over, count in observed[stage] if over),
            left_after(observed[stage]),
            max((length for length, _o, _c in observed[stage]), default=0),
        )
        for stage in StageKey.values
    }


def left_after(
    observed: Iterable[tuple[int, bool, int]], shares: Sequence[int] = PERCENTILES
) -> tuple[int | None, ...]:
    """Kaplan–Meier: the first day by which so many per cent have left.

    ``observed`` holds ``(days, has left, how many)``; who has not left was watched for so many days and counts as being
    at risk up to then. ``None`` where the curve does not come so far.
    """
    left: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    for days, has_left, count in observed:
        seen[days] += count
        if has_left:
            left[days] += count
    at_risk, staying = sum(seen.values()), 1.0
    found: list[int | None] = [None] * len(shares)
    for days in sorted(seen):
        if left[days]:
            staying *= 1 - left[days] / at_risk
        for place, share in enumerate(shares):
            if found[place] is None and 1 - staying >= share / 100 - 1e-9:
                found[place] = days
        at_risk -= seen[days]
    return tuple(found)


@dataclass(frozen=True)
class Speed:
    """Median days from the first order to the first move ever into ``stage``, of the ``people`` who got there in the
    period and have ordered; ``None`` without any."""

    stage: str
    people: int
    days: int | None


def speed(arrived: Iterable[tuple[str, int, int]]) -> list[Speed]:
    """How soon after their first order people came into each stage of ``TIMED``, from ``(stage, days, people)``."""
    counted: dict[str, Counter[int]] = defaultdict(Counter)
    for stage, days, people in arrived:
        counted[stage][days] += people
    return [Speed(stage, counted[stage].total(), _median(counted[stage])) for stage in TIMED]


def _median(counted: Counter[int]) -> int | None:
    """The lower median of counted values."""
    half, seen = (counted.total() + 1) // 2, 0
    for value in sorted(counted):
        seen += counted[value]
        if counted[value] and seen >= half:
            return value
    return None

"""The one look: from how the versions stand to a verdict, with the numbers it came from. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import sqrt
from typing import Any

from campaigns.experiments import chances
from campaigns.experiments.chances import Amounts, Chances
from campaigns.experiments.counting import Standing
from campaigns.models import Experiment, ExperimentVerdict
from lifecycle_crm.lib.intervals import Z, newcombe

THRESHOLD = 0.975
"""A version is called better from this chance on that it is the best: one look then names a false winner 1 time in 20."""
AT_LEAST = timedelta(days=7)
"""A week has every weekday once; before it is over nothing is said."""
UNEVEN = 0.001
"""Groups less likely than this came of something other than chance."""
BROKEN_SHARE = 0.05
"""When the message of more people than this could not be made, the version was not what people got."""

Kind = ExperimentVerdict.Kind


@dataclass(frozen=True, slots=True)
class Look:
    """A verdict: ``winner`` is a number of a version; ``numbers`` is what ``ExperimentVerdict`` keeps."""

    kind: str
    winner: int | None
    is_yellow: bool
    numbers: dict[str, Any]


def is_due(standings: Sequence[Standing], needed: int, as_of: datetime) -> bool:
    """Whether the planned number of people is there and a week is over since the first of them."""
    firsts = [one.first for one in standings if one.first is not None]
    if not firsts or as_of - min(firsts) < AT_LEAST:
        return False
    return min(one.people for one in standings) >= needed


def look(
    standings: Sequence[Standing], *, measure: str, amounts: Sequence[Amounts] | None = None, seed: int = 0
) -> Look:
    """Judge the versions as they stand. Revenue needs ``amounts`` of each version."""
    if measure == Experiment.Measure.REVENUE:
        found = chances.of_money(amounts or [], seed=seed)
    else:
        found = chances.of_shares([(one.hits(measure), one.people) for one in standings])
    balance = chances.balance([one.joined for one in standings], [one.share for one in standings])
    why = ""
    if balance < UNEVEN:
        why = "uneven"
    elif any(one.failed > BROKEN_SHARE * one.people for one in standings):
        why = "broken"
    winner = found.leader if found.best[found.leader] >= THRESHOLD and not why else None
    kind = Kind.CANNOT_TELL if why else Kind.NO_DIFFERENCE if winner is None else Kind.BETTER
    guards = guard_rails(standings, winner, measure) if winner is not None else []
    return Look(kind, winner, bool(guards), _numbers(standings, found, measure, balance, why, guards))


def guard_rails(standings: Sequence[Standing], winner: int, measure: str) -> list[str]:
    """What the winner makes clearly worse than all others together: ``unsubscribed``, ``complained``, ``revenue``."""
    best = standings[winner]
    rest = [one for number, one in enumerate(standings) if number != winner]
    people = sum(one.people for one in rest)
    found = []
    for name in ("unsubscribed", "complained"):
        low, _high = newcombe(getattr(best, name), best.people, sum(getattr(one, name) for one in rest), people)
        if low > 0:
            found.append(name)
    if measure != Experiment.Measure.REVENUE and _earns_less(best, rest):
        found.append("revenue")
    return found


def _earns_less(best: Standing, rest: Sequence[Standing]) -> bool:
    people = sum(one.people for one in rest)
    spent, squares = sum(one.spent_minor for one in rest), sum(one.spent_squares for one in rest)
    mine = _mean_and_error(best.people, best.spent_minor, best.spent_squares)
    theirs = _mean_and_error(people, spent, squares)
    return mine[0] - theirs[0] + Z * sqrt(mine[1] + theirs[1]) < 0


def _mean_and_error(people: int, spent: float, squares: float) -> tuple[float, float]:
    """A mean, and the variance of it."""
    if people < 2:
        return 0.0, 0.0
    mean = spent / people
    return mean, max(0.0, squares - people * mean * mean) / (people - 1) / people


def value(one: Standing, measure: str) -> float:
    """The measure of a version: a share, or minor units per person."""
    total = one.spent_minor if measure == Experiment.Measure.REVENUE else one.hits(measure)
    return total / one.people if one.people else 0.0


def _numbers(
    standings: Sequence[Standing], found: Chances, measure: str, balance: float, why: str, guards: list[str]
) -> dict[str, Any]:
    return {
        "threshold": THRESHOLD,
        "balance": balance,
        "why": why,
        "guards": guards,
        "leader": standings[found.leader].label,
        "other": standings[found.other].label,
        "gap": value(standings[found.leader], measure) - value(standings[found.other], measure),
        "low": found.low,
        "high": found.high,
        "versions": [
            {
                "label": one.label,
                "joined": one.joined,
                "people": one.people,
                "clicked": one.clicked,
                "ordered": one.ordered,
                "spent_minor": one.spent_minor,
                "unsubscribed": one.unsubscribed,
                "complained": one.complained,
                "failed": one.failed,
                "value": value(one, measure),
                "low": found.ranges[number][0],
                "high": found.ranges[number][1],
                "chance": found.best[number],
                "risk": found.risk[number],
            }
            for number, one in enumerate(standings)
        ],
    }

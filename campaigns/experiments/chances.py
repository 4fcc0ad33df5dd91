"""How likely each version is the best, and what it would cost to be wrong. Pure.

Shares: each version's share is Beta(1 + hits, 1 + misses) distributed, that is, before anything was seen every share is
as likely as any other (Beta(1, 1)). The chance that one is the best of all, and the expected loss of taking it, are
integrals over these densities (A. Gelman and others, "Bayesian Data Analysis", 3rd edition, 2013, chapter 2; the loss as
in C. Stucchio, "Bayesian A/B Testing at VWO", 2015), taken by the trapezoidal rule. The joint chance needs no further
correction for more than two versions: to be the best is to beat all others at once.

Money: the Bayesian bootstrap of the mean (D. B. Rubin, The Annals of Statistics 9, 1981) with a stated seed: every amount
seen gets a random weight, so nothing is assumed about how much people spend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, erfc, exp, lgamma, log, pi, sqrt
from random import Random

from lifecycle_crm.lib.intervals import Z, newcombe, wilson

DRAWS = 2_000
BINS = 60
"""So many different amounts are weighed; more are put together with their neighbours, each group at its mean."""

Amounts = Sequence[tuple[float, int]]
"""(what one person spent, how many people spent just that)."""


@dataclass(frozen=True, slots=True)
class Chances:
    """Of each version, in order: ``best``, the chance that it is the best, and ``risk``, what is lost per person on average
    by taking it. ``leader`` is the likeliest, ``other`` the next; ``low`` and ``high`` hold 95 % of the difference between
    the two, and ``ranges`` of what each is."""

    best: tuple[float, ...]
    risk: tuple[float, ...]
    ranges: tuple[tuple[float, float], ...]
    leader: int
    other: int
    low: float
    high: float


def _order(best: Sequence[float]) -> tuple[int, int]:
    first, second = sorted(range(len(best)), key=lambda n: (-best[n], n))[:2]
    return first, second


def of_shares(seen: Sequence[tuple[int, int]]) -> Chances:
    """From (hits, people) of at least two versions, each with people."""
    best, risk = _integrals(seen)
    leader, other = _order(best)
    low, high = newcombe(*seen[leader], *seen[other])
    return Chances(tuple(best), tuple(risk), tuple(wilson(*one) for one in seen), leader, other, low, high)


def chance_of_best(seen: Sequence[tuple[int, int]]) -> list[float]:
    """The chance that each is the best, alone."""
    return _integrals(seen)[0]


def _integrals(seen: Sequence[tuple[int, int]]) -> tuple[list[float], list[float]]:
    curves = [(1.0 + hits, 1.0 + people - hits) for hits, people in seen]
    means = [a / (a + b) for a, b in curves]
    spreads = [sqrt(m * (1 - m) / (a + b + 1)) for m, (a, b) in zip(means, curves, strict=True)]
    # A share close to 0 or 1 leans away from it, with a tail of about 1 / people.
    tails = [8 * s + 20 / (a + b) for s, (a, b) in zip(spreads, curves, strict=True)]
    low = max(0.0, min(m - t for m, t in zip(means, tails, strict=True)))
    high = min(1.0, max(m + t for m, t in zip(means, tails, strict=True)))
    points = min(20_000, max(200, ceil(10 * (high - low) / min(spreads))))
    width = (high - low) / points
    grid = [low + n * width for n in range(points + 1)]
    densities = [_density(a, b, grid) for a, b in curves]
    below = [_cumulated(one) for one in densities]
    best, risk = [], []
    for number, density in enumerate(densities):
        others = [1.0] * len(grid)
        for one, cumulated in enumerate(below):
            if one != number:
                others = [x * y for x, y in zip(others, cumulated, strict=True)]
        best.append(_sum([x * y for x, y in zip(density, others, strict=True)]) / _sum(density))
        risk.append(width * _sum([x * (1 - y) for x, y in zip(below[number], others, strict=True)]))
    total = sum(best)
    return [one / total for one in best], risk


def _density(a: float, b: float, grid: Sequence[float]) -> list[float]:
    """The density of Beta(a, b) on the grid."""
    scale = lgamma(a + b) - lgamma(a) - lgamma(b)
    answer = []
    for x in grid:
        if 0 < x < 1:
            answer.append(exp(scale + (a - 1) * log(x) + (b - 1) * log(1 - x)))
        else:
            is_open = (x <= 0 and a == 1) or (x >= 1 and b == 1)
            answer.append(exp(scale) if is_open else 0.0)
    return answer


def _sum(values: Sequence[float]) -> float:
    """The trapezoidal sum for steps of one."""
    return sum(values) - (values[0] + values[-1]) / 2


def _cumulated(density: Sequence[float]) -> list[float]:
    answer, so_far = [0.0], 0.0
    for left, right in pairwise(density):
        so_far += (left + right) / 2
        answer.append(so_far)
    return [one / so_far for one in answer]


# --- Money ------------------------------------------------------------------------------------------------------------


def of_money(seen: Sequence[Amounts], *, seed: int, draws: int = DRAWS) -> Chances:
    """From what people of at least two versions spent. The same seed gives the same answer."""
    dice = Random(seed)
    means = [_drawn(_binned(amounts), dice, draws) for amounts in seen]
    wins, losses = [0] * len(seen), [0.0] * len(seen)
    for drawn in zip(*means, strict=True):
        top = max(drawn)
        wins[drawn.index(top)] += 1
        for number, one in enumerate(drawn):
            losses[number] += top - one
    best = [n / draws for n in wins]
    leader, other = _order(best)
    apart = sorted(one - two for one, two in zip(means[leader], means[other], strict=True))
    ranges = tuple(_middle(sorted(one)) for one in means)
    low, high = _middle(apart)
    return Chances(tuple(best), tuple(one / draws for one in losses), ranges, leader, other, low, high)


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of sorted values."""
    last = len(values) - 1
    return values[round(0.025 * last)], values[round(0.975 * last)]


def _binned(amounts: Amounts) -> list[tuple[float, int]]:
    """At most about ``BINS`` amounts, neighbours put together at their mean: 0 stays by itself."""
    kept = [one for one in amounts if one[0] == 0]
    rest = sorted(one for one in amounts if one[0] != 0)
    if len(rest) <= BINS:
        return [*kept, *rest]
    size = sum(n for _value, n in rest) / BINS
    total, people = 0.0, 0
    for value, n in rest:
        total, people = total + value * n, people + n
        if people >= size:
            kept.append((total / people, people))
            total, people = 0.0, 0
    if people:
        kept.append((total / people, people))
    return kept


def _drawn(amounts: Sequence[tuple[float, int]], dice: Random, draws: int) -> list[float]:
    """Means of the amounts under random weights: of people alike together, which is Gamma of their number."""
    answer = []
    for _draw in range(draws):
        weights = [dice.gammavariate(n, 1.0) for _value, n in amounts]
        answer.append(sum(w * value for w, (value, _n) in zip(weights, amounts, strict=True)) / sum(weights))
    return answer


def mean_range(people: int, total: float, squares: float) -> tuple[float, float, float]:
    """A mean, and its normal 95 % range, from a sum and a sum of squares; for the line of days."""
    if people < 2:
        return (total / people if people else 0.0, 0.0, 0.0)
    mean = total / people
    reach = Z * sqrt(max(0.0, squares - people * mean * mean) / (people - 1) / people)
    return mean, mean - reach, mean + reach


# --- Are the groups what chance makes? --------------------------------------------------------------------------------


def balance(joined: Sequence[int], shares: Sequence[int]) -> float:
    """How likely groups at least so uneven come of the shares by chance alone: Pearson's chi-square, of 2 to 4 groups."""
    total = sum(joined)
    if not total:
        return 1.0
    expected = [total * share / sum(shares) for share in shares]
    x = sum((n - e) ** 2 / e for n, e in zip(joined, expected, strict=True))
    match len(joined) - 1:  # degrees of freedom: the tail in closed form
        case 1:
            return erfc(sqrt(x / 2))
        case 2:
            return exp(-x / 2)
        case _:
            return erfc(sqrt(x / 2)) + sqrt(2 * x / pi) * exp(-x / 2)

"""How many people an experiment needs, before it starts. Pure.

Two-sided at 2.5 % on either side (the threshold of 97.5 % for a winner), with 80 % power. For shares the formula of
J. L. Fleiss, "Statistical Methods for Rates and Proportions" (2nd edition, 1981), 3.14, without the correction for
continuity; for means the usual one of two samples with one standard deviation. More than two versions: Bonferroni, each is
asked about at 2.5 % divided by the number of others.
"""

from __future__ import annotations

from math import ceil, sqrt
from statistics import NormalDist

SIDE = 0.025
"""The chance of a false winner on either side when there is no difference."""
POWER = 0.8
MOST_LIFT = 100.0
"""A difference of this many times what it is today is looked for; beyond it nothing is seen."""

_quantile = NormalDist().inv_cdf


def for_shares(base: float, lift: float, versions: int = 2) -> int | None:
    """People per version to see a share go from ``base`` to ``base * (1 + lift)``; ``None`` where that is no share."""
    other = base * (1 + lift)
    if not 0 < base < 1 or not 0 < other < 1 or lift <= 0:
        return None
    middle = (base + other) / 2
    apart = _z(versions) * sqrt(2 * middle * (1 - middle))
    found = _quantile(POWER) * sqrt(base * (1 - base) + other * (1 - other))
    return ceil(((apart + found) / (other - base)) ** 2)


def for_means(mean: float, sd: float, lift: float, versions: int = 2) -> int | None:
    """People per version to see a mean go up by ``lift`` of itself; ``None`` without a mean."""
    if mean <= 0 or lift <= 0:
        return None
    return max(2, ceil(2 * ((_z(versions) + _quantile(POWER)) * sd / (mean * lift)) ** 2))


def _z(versions: int) -> float:
    return _quantile(1 - SIDE / max(1, versions - 1))


def smallest_share_lift(base: float, people: int, versions: int = 2) -> float | None:
    """The smallest lift of a share that so many people per version show; ``None`` when they show none."""
    if not 0 < base < 1:
        return None
    low, high = 0.0, min(MOST_LIFT, 0.999 / base - 1)
    enough = for_shares(base, high, versions)
    if enough is None or enough > people:
        return None
    for _step in range(60):
        lift = (low + high) / 2
        needed = for_shares(base, lift, versions) if lift > 0 else None
        low, high = (low, lift) if needed is not None and needed <= people else (lift, high)
    return high


def smallest_mean_lift(mean: float, sd: float, people: int, versions: int = 2) -> float | None:
    """The same of a mean."""
    if mean <= 0 or people < 2:
        return None
    lift = (_z(versions) + _quantile(POWER)) * sd * sqrt(2 / people) / mean
    return lift if lift <= MOST_LIFT else None

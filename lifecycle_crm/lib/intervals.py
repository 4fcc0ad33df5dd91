"""How sure a share of people is: 95 % intervals that hold for small shares and small groups too.

E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927); R. G. Newcombe, "Interval
estimation for the difference between independent proportions", Statistics in Medicine 17 (1998), method 10.
"""

from __future__ import annotations

from math import sqrt

Z = 1.959964
"""The standard normal quantile of a two-sided 95 % interval."""


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Of a share. ``n`` is above 0; both ends lie within 0 and 1."""
    p, z2 = min(1.0, hits / n), Z * Z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def newcombe(hits: int, n: int, other_hits: int, other_n: int) -> tuple[float, float]:
    """Of the first share less the second. Both ``n`` are above 0."""
    one, other = hits / n, other_hits / other_n
    (low, high), (other_low, other_high) = wilson(hits, n), wilson(other_hits, other_n)
    return (
        one - other - sqrt((one - low) ** 2 + (other_high - other) ** 2),
        one - other + sqrt((high - one) ** 2 + (other - other_low) ** 2),
    )

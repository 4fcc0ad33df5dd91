from __future__ import annotations

import random

import pytest

from lifecycle_crm.lib.intervals import newcombe, wilson


def test_wilsons_interval_is_that_of_the_literature():
    """Newcombe (1998), table I of "Two-sided confidence intervals for the single proportion", method 3."""
    for hits, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(hits, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)


def test_newcombes_interval_is_that_of_the_literature():
    """Newcombe (1998), table II, method 10, for 56/70 - 48/80, 9/10 - 3/10, 10/10 - 0/20 and 5/56 - 0/29."""
    for one, low, high in (
        ((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090),
        ((10, 10, 0, 20), 0.6791, 1.0), ((5, 56, 0, 29), -0.0381, 0.1926),
    ):  # fmt: skip
        assert newcombe(*one) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_nineteen_of_twenty_intervals_hold_the_truth():
    dice = random.Random(7)
    held = 0
    for _ in range(2000):
        hits, other = (sum(dice.random() < p for _ in range(150)) for p in (0.12, 0.07))
        low, high = newcombe(hits, 150, other, 150)
        held += low <= 0.05 <= high
    assert 0.93 <= held / 2000 <= 0.97

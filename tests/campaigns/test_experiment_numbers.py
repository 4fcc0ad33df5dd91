"""The arithmetic of experiments, checked against published numbers and against simulation."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from math import lgamma, log, sqrt
from random import Random
from statistics import NormalDist

import pytest

from campaigns.experiments import chances, deciding, sizes
from campaigns.experiments.counting import Standing

TESTS = 20_000
"""Simulated tests per check. Their share of false winners lies within three standard errors of what it is."""
MARGIN = 3 * sqrt(0.05 * 0.95 / TESTS)


class Hits:
    """Draws of how many of ``n`` people do what each does with chance ``p``."""

    def __init__(self, n: int, p: float, dice: Random) -> None:
        self.dice = dice
        logs = [
            lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log(1 - p) for k in range(n + 1)
        ]
        self.below = list(accumulate(2.718281828459045**one for one in logs))

    def __call__(self) -> int:
        return bisect_left(self.below, self.dice.random() * self.below[-1])


@cache
def least_to_beat(other: int, people: int) -> int:
    """The fewest hits with which a version is called better than one with so many."""
    low, high = other, people
    while low < high:
        middle = (low + high) // 2
        if chances.chance_of_best([(other, people), (middle, people)])[1] >= deciding.THRESHOLD:
            high = middle
        else:
            low = middle + 1
    return low


def winners(n: int, a: Hits, b: Hits) -> tuple[float, float]:
    """Shares of simulated tests in which A and B were called better at the one look."""
    a_wins = b_wins = 0
    for _test in range(TESTS):
        hits_a, hits_b = a(), b()
        a_wins += hits_a >= least_to_beat(hits_b, n)
        b_wins += hits_b >= least_to_beat(hits_a, n)
    return a_wins / TESTS, b_wins / TESTS


# --- Sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base, lift, versions, needed",
    [(0.03, 0.3, 2, 6_455), (0.5, 0.1, 2, 1_565), (0.02, 0.5, 2, 3_826), (0.03, 0.3, 3, 7_817)],
)
def test_the_size_is_that_of_the_formula(base, lift, versions, needed):
    assert sizes.for_shares(base, lift, versions) == needed


def test_the_smallest_difference_is_the_size_read_backwards():
    for people in (50, 400, 6_455, 100_000):
        lift = sizes.smallest_share_lift(0.03, people)
        assert lift is not None
        assert sizes.for_shares(0.03, lift) <= people < sizes.for_shares(0.03, lift * 0.99)
    mean = sizes.smallest_mean_lift(400.0, 3_000.0, 20_000)
    assert mean is not None
    assert abs(sizes.for_means(400.0, 3_000.0, mean) - 20_000) <= 1
    assert sizes.smallest_share_lift(0.9, 2) is None
    assert sizes.smallest_mean_lift(400.0, 3_000.0, 1) is None


@pytest.mark.parametrize("base, lift", [(0.0, 0.2), (1.0, 0.2), (0.6, 0.7), (0.03, 0.0)])
def test_what_is_no_share_has_no_size(base, lift):
    assert sizes.for_shares(base, lift) is None


# --- Chances ----------------------------------------------------------------------------------------------------------


def test_the_numbers_of_the_example_are_those_of_the_page():
    found = chances.of_shares([(194, 6460), (249, 6460)])
    assert round(found.best[1], 3) == 0.996
    assert round(found.risk[1] * 1000, 4) == 0.0039
    assert (round(found.low * 1000), round(found.high * 1000)) == (2, 15)
    assert (found.leader, found.other, sum(found.best)) == (1, 0, pytest.approx(1))


@pytest.mark.parametrize("seen", [[(3, 10), (5, 12)], [(0, 40), (2, 50)], [(40, 40), (37, 40)], [(120, 900), (7, 60)]])
def test_the_integral_is_the_closed_form(seen):
    """P(B > A) for whole numbers, as the sum of E. Miller, "Formulas for Bayesian A/B Testing" (2015)."""
    (hits_a, a_all), (hits_b, b_all) = seen
    a, b, c, d = 1 + hits_a, 1 + a_all - hits_a, 1 + hits_b, 1 + b_all - hits_b

    def beta(x: float, y: float) -> float:
        return lgamma(x) + lgamma(y) - lgamma(x + y)

    exact = sum(2.718281828459045 ** (beta(a + i, b + d) - log(d + i) - beta(1 + i, d) - beta(a, b)) for i in range(c))
    assert chances.of_shares(seen).best[1] == pytest.approx(exact, abs=2e-4)


def test_three_versions_share_the_chance_of_being_best():
    found = chances.of_shares([(50, 1000), (50, 1000), (50, 1000)])
    assert found.best == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    found = chances.of_shares([(50, 1000), (90, 1000), (52, 1000)])
    assert found.best[1] > 0.99
    assert (found.leader, found.other) == (1, 2)


def test_money_is_weighed_with_a_stated_seed_and_agrees_with_the_normal_range():
    dice = Random(4)
    some = [[(0.0, 900), *((dice.lognormvariate(8, 0.6), 1) for _n in range(n))] for n in (100, 180)]
    found = chances.of_money(some, seed=11, draws=800)
    assert found == chances.of_money(some, seed=11, draws=800)
    assert found != chances.of_money(some, seed=12, draws=800)
    assert found.best[1] > 0.99
    for (low, high), amounts in zip(found.ranges, some, strict=True):
        people = sum(n for _value, n in amounts)
        total, squares = sum(v * n for v, n in amounts), sum(v * v * n for v, n in amounts)
        _mean, normal_low, normal_high = chances.mean_range(people, total, squares)
        assert (low, high) == pytest.approx((normal_low, normal_high), rel=0.08)


def test_uneven_groups_are_told_from_chance():
    """Tails of the chi-square distribution at one, two and three degrees of freedom."""
    assert chances.balance([5_000 + 97, 5_000 - 97], [50, 50]) == pytest.approx(0.0524, abs=1e-4)
    assert chances.balance([500, 480, 520], [1, 1, 1]) == pytest.approx(0.4493, abs=1e-4)
    assert chances.balance([500, 480, 520, 560], [25, 25, 25, 25]) == pytest.approx(0.0787, abs=1e-4)
    assert chances.balance([900, 100], [90, 10]) == 1.0
    assert chances.balance([0, 0], [50, 50]) == 1.0


# --- What the promise rests on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("base, n", [(0.03, 6_455), (0.12, 1_400)])
def test_without_a_difference_one_look_names_a_winner_in_at_most_one_test_of_twenty(base, n):
    dice = Random(20261122)
    hits = Hits(n, base, dice)
    a, b = winners(n, hits, hits)
    assert 0.03 < a + b <= 0.05 + MARGIN


def test_three_versions_without_a_difference_name_a_winner_no_oftener():
    dice, n, tests = Random(5), 700, 1_500
    hits = Hits(n, 0.1, dice)
    false = 0
    for _test in range(tests):
        best = chances.chance_of_best([(hits(), n), (hits(), n), (hits(), n)])
        false += max(best) >= deciding.THRESHOLD
    assert 0 < false / tests <= 0.05 + 3 * sqrt(0.05 * 0.95 / tests)


def test_who_looks_every_day_and_stops_at_the_first_winner_is_fooled():
    """The unsafe twin: the same threshold asked each day for thirty days, as some tools do."""
    dice, normal = Random(7), NormalDist()
    hits, each, tests = Hits(200, 0.03, dice), 200, 3_000
    fooled = 0
    for _test in range(tests):
        a = b = people = 0
        for _day in range(30):
            a, b, people = a + hits(), b + hits(), people + each
            p, q = (a + 1) / (people + 2), (b + 1) / (people + 2)
            z = (q - p) / sqrt(p * (1 - p) / people + q * (1 - q) / people)
            if people >= 500 and normal.cdf(abs(z)) >= deciding.THRESHOLD:
                fooled += 1
                break
    assert fooled / tests > 0.15


def test_a_real_difference_of_the_planned_size_is_found_four_times_in_five():
    dice, n = Random(9), sizes.for_shares(0.03, 0.3)
    assert n is not None
    a, b = winners(n, Hits(n, 0.03, dice), Hits(n, 0.039, dice))
    assert 0.78 < b < 0.83
    assert a < 0.001


# --- The look ---------------------------------------------------------------------------------------------------------

NOON = datetime(2026, 11, 20, 11, 0, tzinfo=UTC)


def standing(label: str = "A", **values) -> Standing:
    return Standing(**{"label": label, "share": 50, "joined": 1_000, "people": 1_000, "first": NOON, **values})


def test_nothing_is_due_before_the_planned_number_and_a_week():
    two = [standing("A", people=500), standing("B", people=499)]
    week = NOON + timedelta(days=7)
    assert deciding.is_due(two, 499, week)
    assert not deciding.is_due(two, 500, week)
    assert not deciding.is_due(two, 499, week - timedelta(seconds=1))
    assert not deciding.is_due([standing(first=None, people=0), standing("B", first=None, people=0)], 1, week)


def test_the_five_ways_a_look_can_end():
    def kind(*versions: Standing) -> tuple[str, int | None, bool, str]:
        found = deciding.look(versions, measure="click")
        return found.kind, found.winner, found.is_yellow, found.numbers["why"]

    assert kind(standing(clicked=50), standing("B", clicked=90)) == ("better", 1, False, "")
    assert kind(standing(clicked=90), standing("B", clicked=50)) == ("better", 0, False, "")
    assert kind(standing(clicked=50), standing("B", clicked=55)) == ("no_difference", None, False, "")
    uneven = kind(standing(clicked=50), standing("B", clicked=90, joined=1_200))
    assert uneven == ("cannot_tell", None, False, "uneven")
    assert kind(standing(clicked=50), standing("B", clicked=90, failed=60)) == ("cannot_tell", None, False, "broken")


@pytest.mark.parametrize("name", ["unsubscribed", "complained"])
def test_a_winner_that_drives_people_away_is_yellow(name):
    found = deciding.look([standing(clicked=50), standing("B", clicked=90, **{name: 20})], measure="click")
    assert (found.kind, found.winner, found.is_yellow, found.numbers["guards"]) == ("better", 1, True, [name])


def test_a_winner_that_earns_less_is_yellow():
    rich = standing(clicked=50, spent_minor=5_000_000, spent_squares=5_000_000 * 5_000.0 * 2)
    poor = standing("B", clicked=90, spent_minor=1_000_000, spent_squares=1_000_000 * 5_000.0)
    assert deciding.look([rich, poor], measure="click").numbers["guards"] == ["revenue"]

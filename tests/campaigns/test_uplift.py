"""What we caused: the numbers, checked against published ones and against chance, and the sentence."""

from __future__ import annotations

import random

import pytest

from campaigns import uplift
from campaigns.uplift import Group, Uplift, compare


def bought(people: int, reached: int, each: int = 0) -> Group:
    """So many of whom those who reached it spent ``each``."""
    return Group(people, reached, reached * each, reached * each * each)


def test_it_compares_people_and_money_and_rounds_outwards():
    found = compare(bought(1000, 120, 10_000), bought(200, 12, 10_000))
    assert (found.extra, found.spent_minor) == (60, 600_000)
    assert found.is_clear
    assert (found.low, found.high) == (14, 94)
    assert (found.spent_low_minor, found.spent_high_minor) == (213_373, 986_627)


@pytest.mark.parametrize("treated, held_out", [((99, 5), (5000, 9)), ((5000, 9), (99, 1)), ((0, 0), (0, 0))])
def test_it_says_nothing_of_groups_that_are_too_small(treated, held_out):
    found = compare(bought(*treated), bought(*held_out))
    assert (found.is_enough, found.is_clear, found.is_money_clear, found.extra) == (False, False, False, None)


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_chance_alone_looks_clear_in_at_most_one_comparison_of_twenty(share):
    chance = random.Random(20261122)

    def draw(people: int) -> Group:
        return bought(people, sum(chance.random() < share for _ in range(people)), 500)

    clear = money = 0
    for _ in range(1000):
        found = compare(draw(900), draw(150))
        clear += found.is_clear
        money += found.is_money_clear
    assert clear <= 60
    assert money <= 50


def test_it_finds_what_is_there():
    chance = random.Random(7)
    inside = 0
    for _ in range(300):
        treated = bought(900, sum(chance.random() < 0.15 for _ in range(900)))
        found = compare(treated, bought(300, sum(chance.random() < 0.10 for _ in range(300))))
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 45 <= found.high
    assert inside >= 275


@pytest.mark.parametrize(
    "found, said",
    [
        (
            Uplift(bought(1000, 120), bought(200, 12), 41, 12, 70, 1_830_000, 200_000, 3_400_000),
            "Win-back caused 41 extra customers (between 12 and 70) and US$18,300; it cost US$4,100.",
        ),
        (
            Uplift(bought(1000, 120), bought(200, 12), 1, 1, 3, 1_830_000, -5, 3_400_000),
            "Win-back caused 1 extra customer (between 1 and 3). No clear change in revenue yet. It cost US$4,100.",
        ),
        (
            Uplift(bought(1000, 120), bought(200, 12), 8, -2, 19, 1_830_000, -5, 3_400_000),
            "No clear change yet: between 2 fewer and 19 extra customers (n 1,000, and 200 held out). "
            "No clear change in revenue yet. It cost US$4,100.",
        ),
        (
            Uplift(bought(1000, 120), bought(200, 12), -9, -12, -2, -90_000, -120_000, -10_000),
            "Win-back cost you 9 customers (between 2 and 12). Revenue changed by -US$900 (between -US$1,200 and -US$100). "
            "It cost US$4,100.",
        ),
        (
            compare(bought(812, 90), bought(88, 4)),
            "No clear change yet (n 812, and 88 held out; a comparison needs 100 of each).",
        ),
    ],
)
def test_it_reads_as_one_sentence(found, said):
    assert uplift.sentence("Win-back", found, currency="USD", cost_minor=410_000) == said


def test_without_money_it_tells_of_people_only():
    found = Uplift(bought(1000, 120), bought(200, 12), 41, 12, 70, 0, 0, 0)
    assert uplift.sentence("Win-back", found) == "Win-back caused 41 extra customers (between 12 and 70)."

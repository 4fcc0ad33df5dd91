"""Promise 5: the same facts in any order, as often as you like, end in the tables of each said once and in time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
import time_machine
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st

from customers.models import Event, Order, Refund
from lifecycle_crm import night, reactions
from lifecycle_crm.lib import clock
from tests.chaos import pictures, plan, town

pytestmark = pytest.mark.django_db

PEOPLE, DAYS = (40 if plan.IS_LONG else 12), 20
FIRST = date(2026, 2, 10)
LAST = FIRST + timedelta(days=DAYS - 1)


def say_and_decide(told: list[tuple[str, Any]], *, in_between: bool = False) -> pictures.Picture:
    """Say all of it after the last day, in this order, then the night; ``in_between``: workers react while it is said."""
    with pictures.nothing_stays():
        since = clock.day_start(FIRST)
        town.furnish(since=since)
        town.settle_in(PEOPLE, since=since)
        with time_machine.travel(clock.day_end(LAST) + timedelta(hours=2), tick=False):
            for n, one in enumerate(told):
                town.hear([one])
                if in_between and n % 7 == 3:
                    reactions.drain(as_of=clock.day_end(LAST))
        with time_machine.travel(clock.day_end(LAST) + timedelta(hours=3), tick=False):
            assert night.run(LAST).state == "done"
        return pictures.take() | {
            "told": sorted(
                [(r.source_id, r.status, r.refunded_minor, r.base_minor) for r in Order.objects.all()]
                + [(e.source_id, e.name, str(e.occurred_at), "") for e in Event.objects.all()]
                + [(r.source_id, str(r.occurred_at), r.amount_minor, "") for r in Refund.objects.all()]
            )
        }
    raise AssertionError


def as_told() -> list[tuple[str, Any]]:
    """What was said in time."""
    return town.busy(PEOPLE, first=FIRST, last=LAST, dice=plan.dice("arrivals"))


def shuffled(told: list[tuple[str, Any]], dice: random.Random) -> list[tuple[str, Any]]:
    """In any order, each one to three times; money only goes back for an order that is there.

    A statement of consent said again is another statement, so it is said once.
    """
    again = [one for one in told for _ in range(1 if one[0] == "consents" else dice.randrange(1, 4))]
    dice.shuffle(again)
    is_back = [one[0] == "refunds" for one in again]
    # A shop cannot give money back for an order it has not sent: the API answers 404 and the shop comes again.
    refunds = iter(sorted((one for one in again if one[0] == "refunds"), key=lambda one: told.index(one)))
    orders_first = [one for one, back in zip(again, is_back, strict=True) if not back]
    orders_first += list(refunds)
    return orders_first


def test_facts_in_any_order_and_more_than_once_end_like_facts_in_time(tell: Callable[..., None]) -> None:
    """Shuffled and repeated facts equal sorted ones, told once."""
    told = as_told()
    expected = say_and_decide(told)
    total: Counter[str] = Counter()

    @seed(plan.SEED)
    @settings(
        max_examples=plan.rounds(2), deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(number=st.integers(0, 10**9), in_between=st.booleans())
    def proof(number: int, in_between: bool) -> None:
        again = shuffled(told, random.Random(number))
        found = pictures.differences(expected, say_and_decide(again, in_between=in_between))
        note(str(found))
        assert found == []
        total.update(shuffles=1, facts=len(told), said=len(again))

    proof()
    tell(**total)
    assert total["said"] > total["facts"] * 3 // 2


def test_its_unsafe_twin_whose_repeats_carry_new_numbers_counts_them_again(tell: Callable[..., None]) -> None:
    """Shuffled and repeated, twin: a sender that gives each repetition a number of its own."""
    told = as_told()
    expected = say_and_decide(told)
    renamed: list[tuple[str, Any]] = []
    for kind, what in told:
        renamed.append((kind, what))
        if kind == "orders":
            renamed.append((kind, town.order(f"again-{what.source_id}", 0, what.placed_at, what.amount_minor)))
    found = pictures.differences(expected, say_and_decide(renamed))
    tell(rows_that_differ=len(found))
    assert [row for row in found if row.startswith("facts: ")] != []

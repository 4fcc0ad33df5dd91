"""The sample shop, 18 months of real purchases: ordinary nights and full ones end in the same tables."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import pytest
import time_machine

from customers import segments
from lifecycle_crm import night
from lifecycle_crm.demo import shop
from lifecycle_crm.lib import clock
from stages.models import StageTransition
from tests.chaos import pictures, plan, town

pytestmark = pytest.mark.django_db

PEOPLE = None if plan.ROUNDS >= 100 else 400 if plan.IS_LONG else 50
"""All 2,773 with 100 rounds or more."""


def nights(first: date, last: date) -> list[date]:
    """Every date with 36 rounds or more; with fewer not all of them, in the suite every 36th; and all of the last week."""
    step = max(1, 36 // plan.rounds(1))
    near = last - timedelta(days=7)
    return [day for day in clock.days(first, last) if day > near or (day - first).days % step == step - 1]


def test_eighteen_months_of_ordinary_nights_end_like_full_ones(tell: Callable[..., None]) -> None:
    """Incremental equals full: the sample shop over 18 months."""
    note = shop.build(customers=PEOPLE)
    first, last = date.fromisoformat(note["from"]), date.fromisoformat(note["to"])
    assert (last - first).days > 500
    with time_machine.travel(clock.day_start(first), tick=False):
        for key, condition in town.SEGMENTS.items():
            segments.create(name=key, key=key, condition=condition)
    ends: list[pictures.Picture] = []
    moves = 0
    for is_full in (False, True):
        with pictures.nothing_stays():
            for number, day in enumerate(nights(first, last)):
                if number % 12 == 0:
                    town.as_autovacuum_would()
                assert night.run(day, is_full=is_full, is_quiet=True).state == "done"
            ends.append(pictures.take())
            moves = StageTransition.objects.count()
    tell(customers=note["customers"], orders=note["orders"], nights=len(nights(first, last)), moves=moves)
    assert moves > note["customers"]
    assert pictures.differences(*ends) == []

"""Which rules pay for the same thing to the same people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from loyalty import rules, tiers
from loyalty.models import Programme

pytestmark = pytest.mark.django_db


@pytest.fixture
def points() -> Programme:
    return Programme.objects.get()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, {}, True),
        ({}, {"tiers": ["gold"]}, True),
        ({"tiers": ["silver"]}, {"tiers": ["gold"]}, False),
        ({"tiers": ["silver", "gold"]}, {"tiers": ["gold"]}, True),
        ({"stages": ["nurture"]}, {"stages": ["dormant"]}, False),
        ({"weekdays": "67"}, {"weekdays": "12"}, False),
        ({"weekdays": "67"}, {"dates": ["12-24"]}, True),
        ({"dates": ["12-24"]}, {"dates": ["2026-12-24"]}, True),
        ({"dates": ["12-24"]}, {"dates": ["12-25"]}, False),
        ({"ends_at": datetime(2027, 1, 1, tzinfo=UTC)}, {"starts_at": datetime(2027, 1, 1, tzinfo=UTC)}, False),
        ({"kind": "order"}, {"kind": "amount", "per": 1000}, False),
        ({"kind": "product", "subject": "MUG"}, {"kind": "product", "subject": "CUP"}, False),
        ({"kind": "review"}, {"kind": "review", "subject": "site review"}, True),
        ({"kind": "event", "subject": "flight"}, {"kind": "event", "subject": "flight", "property": "km"}, False),
        ({"kind": "multiplier", "percent": 200}, {"kind": "multiplier", "percent": 300}, False),
    ],
)
def test_rules_that_pay_for_the_same_are_found(
    points: Programme, first: dict[str, Any], second: dict[str, Any], expected: bool
) -> None:
    rules.stop(rule=rules.in_force(points).get())
    tiers.set_ladder(programme=points, steps=[tiers.Step("Silver", 100), tiers.Step("Gold", 500)])
    made = [
        rules.create(**{"programme": points, "kind": "order", "name": name, "points": 5, **values})
        for name, values in (("One", first), ("Two", second))
    ]
    assert rules.overlapping(made[0]) == ([made[1]] if expected else [])
    assert rules.overlapping(made[1]) == ([made[0]] if expected else [])

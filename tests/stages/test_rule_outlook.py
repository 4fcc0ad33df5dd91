"""What a customer's page foretells, held against night after night of nothing happening."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from customers.vocabulary import STAGES
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.moments import DAY, from_seconds, seconds
from stages import evidence, presets, rules
from stages.rules import Rules

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""Four weeks before the clocks change."""
NIGHTS = 1100
"""Nights looked at: longer than any wait of the rules we ship, twice."""

AGO = st.integers(0, 800 * DAY)
MAYBE = st.none() | AGO


@st.composite
def idle_customers(draw: st.DrawFn) -> dict[str, Any]:
    """Facts that could be somebody's, as seconds; the customer will not do anything any more."""
    now = seconds(NOON)

    def moment(ago: int | None) -> int | None:
        return None if ago is None else now - ago - 1

    orders = draw(st.integers(0, 6))
    last = draw(AGO)
    first = last + draw(st.integers(0, 900 * DAY)) if orders > 1 else last
    answered = draw(MAYBE)
    return {
        "orders": orders,
        "first_order_at": moment(first) if orders else None,
        "last_order_at": moment(last) if orders else None,
        "gap_seconds": (first - last) // (orders - 1) if orders > 1 else None,
        "engaged_at": moment(draw(MAYBE)),
        "clicked_at": moment(draw(MAYBE)),
        "answered_at": moment(answered),
        "nps_score": None if answered is None else draw(st.integers(0, 10)),
        "did:referral:365": sorted((now - ago - 1 for ago in draw(st.lists(AGO, max_size=3))), reverse=True),
        "did:review:365": sorted((now - ago - 1 for ago in draw(st.lists(AGO, max_size=3))), reverse=True),
        "stage": draw(st.sampled_from(STAGES)),
        "stage_since": moment(draw(AGO)),
    }


def first_move(known: dict[str, Any], parsed: Rules, pinned_until: datetime | None) -> tuple[Any, str] | None:
    """Night by night, as the engine does it: whoever is pinned is left alone."""
    today = clock.business_date(NOON)
    for n in range(NIGHTS):
        end = clock.day_end(today + timedelta(days=n))
        if pinned_until is not None and pinned_until > end:
            continue
        to = rules.decide(parsed, known, seconds(end)).to
        if to != known["stage"]:
            return today + timedelta(days=n), to
    return None


@pytest.mark.parametrize("kind", presets.PRESETS, ids=lambda one: one.key)
@given(
    rhythm=st.integers(1, 500),
    known=idle_customers(),
    stay=st.sampled_from([0, 0, 1, 30, 400]),
    pin=st.none() | st.integers(1, 300 * DAY),
)
@settings(max_examples=60, deadline=None)
def test_the_moment_it_tells_is_the_night_that_moves_an_idle_customer(
    kind: presets.Preset, rhythm: int, known: dict[str, Any], stay: int, pin: int | None
) -> None:
    data = presets.default_rules(rhythm, kind)
    for rule in data[:2]:
        rule["stay_days"] = stay
    parsed = rules.parse(data)
    until = from_seconds(seconds(NOON) + pin) if pin else None
    told = evidence.outlook(known, parsed, NOON, pinned_until=until).flip
    assert (told and (told.on, told.to)) == first_move(known, parsed, until)
    if told is not None:
        assert told.at == clock.day_end(told.on)
        assert told.rule == rules.decide(parsed, known, seconds(told.at)).rule
        assert told.because

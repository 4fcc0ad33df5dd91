"""The reason of a move as a sentence, and the move that time alone will bring: said beforehand, then lived."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import translation

from customers import conditions, facts
from customers.models import Customer, CustomerFacts, Event, Order, RfmCuts
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.moments import DAY, from_seconds, seconds
from stages import engine, evidence, presets, rules
from stages.models import RuleSet, StageTransition
from tests.factories import UserFactory

NOON = datetime(2026, 5, 10, 12, tzinfo=UTC)
QUIET = {"fact": "last_order_at", "op": "days_since_gte", "value": 90}
RULES = [
    {"key": "quiet", "name": "Goes quiet", "to": "dormant", "when": QUIET},
    {
        "key": "loyal",
        "name": "Buys on their rhythm",
        "to": "retain",
        "when": {"fact": "orders", "op": "gte", "value": 2},
    },
    {"key": "known", "name": "Is known", "to": "reach", "when": {"all": []}},
]


def snapshot(**values: Any) -> dict[str, Any]:
    return {
        "stage": "retain",
        "stage_since": seconds(NOON - timedelta(days=50)),
        "orders": 3,
        "last_order_at": seconds(NOON - timedelta(days=60)),
        "gap_seconds": 30 * DAY,
        **values,
    }


def said(transition: StageTransition) -> str:
    return evidence.reason(transition).replace("\xa0", " ")


# --- What happened ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_move_by_rule_says_its_values_limits_rule_and_version() -> None:
    rule_set = RuleSet.objects.create(version=4, name="Rules", state="published", rules=RULES)
    transition = StageTransition(
        customer=Customer.objects.create(name="Åsa"),
        from_stage="retain",
        to_stage="dormant",
        rule_set=rule_set,
        rule="quiet",
        occurred_at=clock.day_end(date(2026, 5, 10)),
        business_date=date(2026, 5, 10),
        evidence={"last_order_at": seconds(clock.day_end(date(2026, 5, 10))) - 214 * DAY, "stage": "retain"},
    )
    assert said(transition) == (
        "Moved Retain → Dormant on 10 May 2026: no order for 214 days (limit 90). Rule: Goes quiet, version 4."
    )


@pytest.mark.django_db
def test_the_last_rule_says_that_no_other_applied_and_a_first_stage_is_entered() -> None:
    transition = StageTransition(
        customer=Customer.objects.create(name="Åsa"),
        to_stage="reach",
        rule_set=RuleSet.objects.create(version=4, name="Rules", state="published", rules=RULES),
        rule="known",
        occurred_at=NOON,
        business_date=date(2026, 5, 10),
        evidence={},
    )
    assert said(transition) == "Entered Reach on 10 May 2026: no other rule applies. Rule: Is known, version 4."


@pytest.mark.django_db
def test_a_move_by_hand_says_who_and_why() -> None:
    transition = StageTransition(
        customer=Customer.objects.create(name="Åsa"),
        from_stage="dormant",
        to_stage="nurture",
        kind="person",
        user=UserFactory(name="Anna Berg"),
        reason="Called us",
        occurred_at=NOON,
        business_date=date(2026, 5, 10),
    )
    assert said(transition) == "Moved Dormant → Nurture on 10 May 2026 by hand, by Anna Berg: Called us"


# --- What is to come --------------------------------------------------------------------------------------------------


def test_it_names_the_rule_that_decides_and_what_stands_against_those_above() -> None:
    view = evidence.outlook(snapshot(), rules.parse(RULES), NOON)
    assert view.decision.rule.key == "loyal"
    assert view.because == "orders: 3 (at least 2)"
    assert [(one.rule.key, one.against) for one in view.above] == [("quiet", "last order 60 days ago (limit 90)")]


def test_it_names_the_date_of_the_night_that_will_move_them() -> None:
    # 90 days after the last order falls at noon of 9 June in Stockholm; that day's night is the first to see it.
    flip = evidence.outlook(snapshot(), rules.parse(RULES), NOON).flip
    assert flip is not None
    assert (flip.to, flip.rule.key, flip.on) == ("dormant", "quiet", date(2026, 6, 9))
    assert flip.because == "no order for 90 days (limit 90)"
    assert flip.at == clock.day_end(date(2026, 6, 9))


def test_a_moment_of_change_at_midnight_belongs_to_the_day_that_ends() -> None:
    last = seconds(clock.day_end(date(2026, 6, 9))) - 90 * DAY
    flip = evidence.outlook(snapshot(last_order_at=last), rules.parse(RULES), NOON).flip
    assert flip is not None
    assert flip.on == date(2026, 6, 9)


def test_time_alone_may_change_nothing() -> None:
    view = evidence.outlook(
        snapshot(stage="dormant", last_order_at=seconds(NOON) - 400 * DAY), rules.parse(RULES), NOON
    )
    assert view.decision.rule.key == "quiet"
    assert view.flip is None


def test_a_pin_holds_the_move_back_until_it_ends() -> None:
    until = clock.day_end(date(2026, 7, 1))
    flip = evidence.outlook(snapshot(), rules.parse(RULES), NOON, pinned_until=until).flip
    assert flip is not None
    assert flip.on == date(2026, 7, 1)


def test_a_minimum_stay_delays_the_move_and_is_said() -> None:
    data = [{**RULES[0], "stay_days": 30}, *RULES[1:]]
    since = seconds(NOON - timedelta(days=5))
    view = evidence.outlook(
        snapshot(stage_since=since, last_order_at=seconds(NOON) - 100 * DAY), rules.parse(data), NOON
    )
    assert view.decision.waits is True
    assert view.waits_until == from_seconds(since + 30 * DAY)
    assert view.flip is not None
    assert view.flip.on == date(2026, 6, 4)


def test_a_rule_for_other_stages_says_whom_it_asks() -> None:
    data = [{**RULES[0], "from": ["advocate", "new"]}, *RULES[1:]]
    view = evidence.outlook(snapshot(last_order_at=seconds(NOON) - 400 * DAY), rules.parse(data), NOON)
    assert [one.against for one in view.above] == ["asked only of those in: Advocate, new customers"]
    assert view.flip is None


def test_the_recency_score_ages_along() -> None:
    cuts = RfmCuts(recency_days=[30, 60, 90, 120], frequency=[1, 2, 3, 4], monetary_minor=[1, 2, 3, 4], buyers=5)
    data = [
        {"key": "cold", "name": "Cold", "to": "dormant", "when": {"fact": "recency", "op": "lte", "value": 1}},
        *RULES[1:],
    ]
    known = snapshot(recency=3)
    flip = evidence.outlook(known, rules.parse(data), NOON, cuts=cuts).flip
    assert flip is not None
    # The score falls to 1 once 121 whole days have passed since the last order.
    assert flip.on == clock.business_date(NOON + timedelta(days=61))
    assert evidence.outlook(known, rules.parse(data), NOON).flip is None


def test_it_speaks_the_language_of_the_reader() -> None:
    with translation.override("sv"):
        view = evidence.outlook(snapshot(), rules.parse(RULES), NOON)
        assert view.flip is not None
        assert view.because


@pytest.mark.django_db
@pytest.mark.parametrize("gap, orders", [(20, 4), (60, 2), (0, 1)])
def test_what_it_foretells_comes_true_on_that_night_and_not_before(gap: int, orders: int) -> None:
    """The outlook of the evening of day one, against the nights themselves."""
    day_one = date(2026, 1, 15)
    rule_set = RuleSet.objects.create(version=1, name="Rules", state="published", rules=presets.default_rules(40))
    customer = Customer.objects.create(name="Åsa", known_since=clock.day_start(date(2025, 1, 1)))
    last = clock.day_start(day_one) - timedelta(days=3, hours=5)
    for n in range(orders):
        Order.objects.create(
            customer=customer, source="test", source_id=str(n), placed_at=last - timedelta(days=n * gap),
            currency="USD", amount_minor=1000, base_minor=1000,
        )  # fmt: skip
    Event.objects.create(
        customer=customer, name="referral", source="test", source_id="1", occurred_at=last - timedelta(days=200)
    )
    facts.mark([customer.pk], occurred_at=last)

    def night(day: date) -> str:
        as_of = clock.day_end(day)
        with transaction.atomic(), facts.batch():
            facts.take_dirty(0, 10**9, as_of=as_of)
            facts.add_due(0, 10**9, as_of=as_of)
            facts.refresh(as_of=as_of)
            engine.evaluate(rule_set=rule_set, as_of=as_of)
        return CustomerFacts.objects.get().stage

    stage = night(day_one)
    stage = night(day_one + timedelta(days=1))
    as_of = clock.day_end(day_one + timedelta(days=1))
    parsed = evidence.parsed(rule_set)
    known = CustomerFacts.objects.get()
    assert known.stage_since is not None
    values = conditions.snapshots([customer.pk], parsed.conditions(), as_of)[customer.pk]
    values |= {"stage": stage, "stage_since": seconds(known.stage_since)}
    flip = evidence.outlook(values, parsed, as_of).flip
    assert flip is not None

    day = day_one + timedelta(days=2)
    while day < flip.on:
        assert night(day) == stage
        day += timedelta(days=1)
    assert night(flip.on) == flip.to

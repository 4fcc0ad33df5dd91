"""The set-based engine against its pure twin, day by day, and the promises of a move."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from customers import conditions, facts, sentences
from customers.models import Customer, CustomerFacts, Event, Order
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from lifecycle_crm.lib.moments import DAY, seconds
from stages import engine, presets, rules
from stages.models import Pin, RuleSet, StageTransition
from stages.rules import BadRules
from tests.factories import UserFactory

FIRST = date(2026, 1, 1)


def publish(data: list[dict[str, Any]], version: int = 1) -> RuleSet:
    rules.parse(data)
    RuleSet.objects.filter(state="published").update(state="retired")
    return RuleSet.objects.create(version=version, name="Test rules", state="published", rules=data)


def customer(name: str = "Åsa", since: datetime | None = None) -> Customer:
    row = Customer.objects.create(name=name, known_since=since or clock.day_start(FIRST))
    facts.mark([row.pk], occurred_at=row.known_since)
    return row


def order(c: Customer, at: datetime, **fields: Any) -> Order:
    n = Order.objects.count()
    row = Order.objects.create(
        customer=c,
        source="test",
        source_id=str(n),
        placed_at=at,
        currency="USD",
        amount_minor=1000,
        base_minor=1000,
        **fields,
    )
    facts.mark([c.pk], occurred_at=at)
    return row


def night(day: date, rule_set: RuleSet, *, full: bool = False) -> engine.Outcome:
    """What a night does to everybody, without its bookkeeping."""
    as_of = clock.day_end(day)
    with transaction.atomic(), facts.batch():
        facts.take_dirty(0, 10**9, as_of=as_of)
        if full:
            facts.add_everyone(0, 10**9, as_of=as_of)
        facts.refresh(as_of=as_of)
        facts.mark_later(as_of=as_of)
    with transaction.atomic(), facts.batch():
        if full:
            CustomerFacts.objects.update(next_review_at=as_of)
        facts.add_due(0, 10**9, as_of=as_of)
        facts.score(as_of=as_of)
        return engine.evaluate(rule_set=rule_set, as_of=as_of)


SLIDING = [
    {
        "key": "away",
        "to": "dormant",
        "stay_days": 3,
        "when": {"fact": "last_order_at", "op": "days_since_gte", "value": {"gaps": 1.5, "at_least": 4, "at_most": 15}},
    },
    {"key": "visits_often", "to": "advocate", "when": {"did": "visit", "times": 2, "days": 6}},
    {
        "key": "stays_close",
        "to": "advocate",
        "from": ["advocate"],
        "when": {"fact": "stage_since", "op": "days_since_lt", "value": 5},
    },
    {"key": "again", "to": "retain", "stay_days": 2, "when": {"fact": "orders", "op": "gte", "value": 2}},
    {"key": "once", "to": "nurture", "when": {"fact": "orders", "op": "gte", "value": 1}},
    {"key": "seen", "to": "acquire", "when": {"fact": "engaged_at", "op": "days_since_lt", "value": 9}},
    {"key": "rest", "to": "reach", "when": {"all": []}},
]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_stands_every_day_where_the_pure_rules_say(db: None, seed: int) -> None:
    """Forty days of orders, visits, cancellations and late arrivals: the deadline never misses a flip."""
    dice = random.Random(seed)
    rule_set = publish(SLIDING)
    parsed = rules.parse(SLIDING)
    people = [customer(f"C{i}", clock.day_start(FIRST + timedelta(days=dice.randrange(8)))) for i in range(25)]
    placed: dict[int, tuple[str, int | None]] = {}
    looked_at = moved = 0
    for n in range(40):
        day = FIRST + timedelta(days=n)
        for person in people:
            if person.known_since > clock.day_end(day):
                continue
            at = clock.day_start(day) + timedelta(seconds=dice.randrange(DAY), microseconds=dice.choice([0, 250_000]))
            if dice.random() < 0.10:
                order(person, at - timedelta(days=dice.choice([0, 0, 0, 3])))
            if dice.random() < 0.12:
                Event.objects.create(
                    customer=person, name="visit", occurred_at=at, source="test", source_id=f"{person.pk}-{n}"
                )
                facts.mark([person.pk], occurred_at=at)
            if dice.random() < 0.02 and (last := person.orders.filter(is_counted=True).last()):
                Order.objects.filter(pk=last.pk).update(is_counted=False)
                facts.mark([person.pk], occurred_at=at)
        as_of = clock.day_end(day)
        outcome = night(day, rule_set)
        looked_at += outcome.evaluated
        moved += outcome.moved
        known = conditions.snapshots([p.pk for p in people], parsed.conditions(), as_of)
        for pk, snapshot in known.items():
            stage, since = placed.get(pk, ("", None))
            decision = rules.decide(parsed, snapshot | {"stage": stage, "stage_since": since}, seconds(as_of))
            if decision.to != stage:
                placed[pk] = (decision.to, seconds(as_of))
        actual = {f.pk: (f.stage, f.stage_since and seconds(f.stage_since)) for f in CustomerFacts.objects.all()}
        assert actual == placed, day
    assert moved > 100, "the test must see many moves"
    assert looked_at < 0.8 * 40 * len(people), "the deadline must spare work"


def test_it_gives_the_same_moves_by_deadline_and_by_looking_at_everybody(db: None) -> None:
    def run(full: bool) -> list[tuple[Any, ...]]:
        with transaction.atomic():
            rule_set = publish(SLIDING)
            dice = random.Random(5)
            people = [customer(f"C{i}") for i in range(20)]
            for n in range(30):
                day = FIRST + timedelta(days=n)
                for person in people:
                    if dice.random() < 0.1:
                        order(person, clock.day_start(day) + timedelta(hours=9))
                night(day, rule_set, full=full)
            found = list(
                StageTransition.objects.order_by("business_date", "customer__name").values_list(
                    "business_date", "customer__name", "from_stage", "to_stage", "rule"
                )
            )
            transaction.set_rollback(True)
        return found

    by_deadline = run(full=False)
    assert len(by_deadline) > 40
    assert by_deadline == run(full=True)


def test_it_writes_each_move_with_the_facts_that_decided(db: None) -> None:
    rule_set = publish(presets.default_rules(30))
    person = customer()
    order(person, clock.day_start(FIRST) + timedelta(hours=10))
    order(person, clock.day_start(FIRST + timedelta(days=20)) + timedelta(hours=10))
    night(FIRST, rule_set)
    night(FIRST + timedelta(days=20), rule_set)
    night(FIRST + timedelta(days=80), rule_set)
    moves = list(StageTransition.objects.order_by("id"))
    assert [(m.from_stage, m.to_stage, m.rule) for m in moves] == [
        ("", "nurture", "has_started"),
        ("nurture", "retain", "buys_on_rhythm"),
        ("retain", "dormant", "goes_quiet"),
    ]
    last = moves[-1]
    assert last.evidence["orders"] == 2
    assert last.evidence["gap_seconds"] == 20 * DAY
    assert last.evidence["did:referral:365"] == 0
    rule = rules.parse(rule_set.rules).by_key("goes_quiet")
    assert rule is not None
    assert sentences.because(rule.when, last.evidence, seconds(last.occurred_at)) == (
        "no order for 60 days (limit 50), no visit or click yet, no click in a message yet and no answer to a survey yet"
    )
    assert rules.decide(rules.parse(rule_set.rules), last.evidence, seconds(last.occurred_at)).to == "dormant"


def test_it_is_quiet_about_first_placements_and_loaded_history_only(db: None) -> None:
    rule_set = publish(presets.default_rules(30))
    person = customer()
    facts.mark([person.pk], occurred_at=person.known_since, is_history=True)
    night(FIRST, rule_set)
    order(person, clock.day_start(FIRST + timedelta(days=1)))
    night(FIRST + timedelta(days=1), rule_set)
    facts.mark([person.pk], occurred_at=clock.day_start(FIRST + timedelta(days=2)), is_history=True)
    order(person, clock.day_start(FIRST + timedelta(days=2)))
    night(FIRST + timedelta(days=2), rule_set)
    night(FIRST + timedelta(days=300), rule_set)
    assert list(StageTransition.objects.order_by("id").values_list("to_stage", "is_quiet")) == [
        ("reach", True),
        ("nurture", False),
        ("retain", True),
        ("dormant", False),
    ]


def test_it_leaves_a_pinned_customer_alone_until_the_pin_ends(db: None) -> None:
    rule_set = publish(presets.default_rules(30))
    actor = UserFactory()
    person = customer()
    night(FIRST, rule_set)
    until = clock.day_end(clock.today()) + timedelta(days=30)
    move = engine.move_by_hand(
        customer=person, to="retain", reason="Signed a yearly contract", actor=actor, pin_until=until
    )
    assert (move.from_stage, move.to_stage, move.kind) == ("reach", "retain", "person")
    facts.mark([person.pk], occurred_at=clock.now())
    night(clock.today(), rule_set)
    row = CustomerFacts.objects.get(pk=person.pk)
    assert (row.stage, row.next_review_at) == ("retain", until)
    Pin.objects.update(until=clock.now() - timedelta(seconds=1))
    night(clock.business_date(until), rule_set)
    assert CustomerFacts.objects.get(pk=person.pk).stage == "reach"


def test_it_refuses_a_hand_move_without_a_reason_or_to_nowhere(db: None) -> None:
    rule_set = publish(presets.default_rules(30))
    actor = UserFactory()
    person = customer()
    night(FIRST, rule_set)
    for fields, problem in (
        ({"to": "limbo", "reason": "x"}, InvalidInput),
        ({"to": "retain", "reason": " "}, InvalidInput),
        ({"to": "reach", "reason": "already there"}, Conflict),
        ({"to": "retain", "reason": "x", "pin_until": clock.now() - timedelta(days=1)}, InvalidInput),
    ):
        with pytest.raises(problem):
            engine.move_by_hand(customer=person, actor=actor, **fields)
    assert StageTransition.objects.count() == 1
    assert Pin.objects.count() == 0


def test_it_does_not_rewrite_history(db: None) -> None:
    """A customer moved later than the night decides for is left alone by that night."""
    rule_set = publish(presets.default_rules(30))
    person = customer()
    night(FIRST, rule_set)
    order(person, clock.day_start(FIRST + timedelta(days=5)))
    night(FIRST + timedelta(days=5), rule_set)
    Event.objects.create(
        customer=person, name="visit", occurred_at=clock.day_start(FIRST + timedelta(days=2)), source="t", source_id="1"
    )
    facts.mark([person.pk], occurred_at=clock.day_start(FIRST + timedelta(days=2)))
    night(FIRST + timedelta(days=3), rule_set)
    assert list(StageTransition.objects.order_by("id").values_list("to_stage", flat=True)) == ["reach", "nurture"]
    night(FIRST + timedelta(days=6), rule_set)
    row = CustomerFacts.objects.get(pk=person.pk)
    assert (row.stage, row.orders) == ("nurture", 1)


def test_the_database_refuses_to_change_a_move(db: None) -> None:
    rule_set = publish(presets.default_rules(30))
    customer()
    night(FIRST, rule_set)
    for change in (
        lambda: StageTransition.objects.update(to_stage="dormant"),
        lambda: StageTransition.objects.all()._raw_delete("default"),
    ):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            change()
    assert StageTransition.objects.get().to_stage == "reach"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ([], "needs at least one"),
        ({}, "is a list of rules"),
        ([{"key": "a b", "to": "reach", "when": {"all": []}}], "Rule 1: needs a key"),
        ([{"key": "a", "to": "moon", "when": {"all": []}}], "Rule 1 (a): moves to 'moon'"),
        ([{"key": "a", "to": "reach", "when": {"fact": "shoe"}}], "Rule 1 (a), when: unknown fact 'shoe'"),
        ([{"key": "a", "to": "reach", "from": ["moon"], "when": {"all": []}}], "from is ['moon']"),
        ([{"key": "a", "to": "reach", "stay_days": -1, "when": {"all": []}}], "stay_days is -1"),
        ([{"key": "a", "to": "reach", "when": {"fact": "orders", "op": "gte", "value": 1}}], "must catch everybody"),
        (
            [{"key": "a", "to": "reach", "when": {"all": []}}, {"key": "a", "to": "reach", "when": {"all": []}}],
            "another rule has the same key",
        ),
        ([{"key": "a", "to": "reach", "when": {"all": []}, "colour": 1}], "does not know 'colour'"),
    ],
)
def test_it_refuses_bad_rules_in_one_sentence(data: Any, sentence: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        rules.parse(data)
    assert sentence in refusal.value.message
    assert isinstance(refusal.value, BadRules | conditions.BadCondition)

"""What happens to a customer reaches the journeys: at once through the reactions, and in the night."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from campaigns.journeys import engine
from campaigns.models import Journey, JourneyRun, Message
from customers import facts
from customers.models import Event, Order
from lifecycle_crm import celery, night, reactions, verify
from lifecycle_crm.lib import clock
from stages import presets
from tests.campaigns.factories import NOON, VariantFactory, happens, live_journey, person

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def noon():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def journey(trigger, steps=None, **settings) -> Journey:
    message = {"id": "s1", "do": "message", "template": VariantFactory().template.key}
    return live_journey(steps or [message], trigger, **settings)


def buys(customer, at) -> Order:
    order = Order.objects.create(
        customer=customer, source="test", source_id=str(Order.objects.count()), placed_at=at, currency="USD",
        amount_minor=1000, base_minor=1000,
    )  # fmt: skip
    facts.mark([customer.pk], occurred_at=at, is_history=False)
    return order


def test_an_order_starts_one_and_a_new_stage_another_and_the_facts_are_there_before_the_first_step():
    presets.install()
    anna = person(stage="acquire", facts={"is_quiet": False, "stage_since": NOON - timedelta(days=90)})
    has_bought = {"fact": "orders", "op": "gte", "value": 1}
    journey({"on": "first_order"}, [
        {"id": "s1", "do": "split", "branches": [{"when": has_bought, "steps": [{"id": "s2", "do": "wait", "days": 1}]}]},
    ])  # fmt: skip
    journey({"on": "stage_entered", "stage": "nurture"})
    buys(anna, clock.now() - timedelta(minutes=1))
    reactions.drain(as_of=clock.whole_now())
    assert engine.advance_due() == {"behind": 1}
    reactions.settle()
    assert JourneyRun.objects.filter(key__startswith="move:").count() == 1
    with time_machine.travel(NOON + timedelta(seconds=11), tick=False):
        engine.advance_due()
    assert JourneyRun.objects.get(key__startswith="order:").step == "s2"
    assert Message.objects.count() == 1
    assert dict(verify.problems())["every recipient is accounted for"] == []


def test_a_drain_reads_the_tree_of_a_journey_once():
    anna = person()
    journey({"on": "event", "event": "signup"})
    journey({"on": "order"})
    for number in range(3):
        buys(anna, clock.now() - timedelta(minutes=number + 1))
        happens(anna)
    with CaptureQueriesContext(connection) as seen:
        assert reactions.drain(as_of=clock.whole_now()) == {"order": 3, "event": 3}
    trees = [one["sql"] for one in seen.captured_queries if 'FROM "campaigns_journeyversion"' in one["sql"]]
    assert len(trees) == 2
    assert JourneyRun.objects.count() == 2


def test_an_event_that_only_a_journey_knows_is_drained_and_ends_a_wait():
    anna = person()
    journey({"on": "event", "event": "signup"}, [
        {"id": "s1", "do": "until", "event": "visit", "at_most": {"days": 9}},
    ])  # fmt: skip
    for number, name in enumerate(("signup", "visit", "other")):
        Event.objects.create(
            customer=anna,
            name=name,
            occurred_at=clock.now() - timedelta(minutes=3 - number),
            source="t",
            source_id=name,
        )
    reactions.drain(as_of=clock.whole_now())
    assert engine.advance_due() == {"running": 1}
    assert set(Event.objects.filter(reacted_at=None).values_list("name", flat=True)) == {"other"}
    with time_machine.travel(NOON + timedelta(hours=1), tick=False):
        Event.objects.create(
            customer=anna, name="visit", occurred_at=clock.now() - timedelta(minutes=1), source="t", source_id="4"
        )
        facts.mark([anna.pk], occurred_at=clock.now() - timedelta(minutes=1), is_history=False)
        reactions.settle()
        assert engine.advance_due() == {"done": 1}


def test_a_goal_is_noted_when_the_order_comes_and_the_person_goes():
    anna = person()
    journey({"on": "event", "event": "signup"}, [{"id": "s1", "do": "wait", "days": 9}], goal={"order": True})
    Event.objects.create(
        customer=anna, name="signup", occurred_at=clock.now() - timedelta(minutes=1), source="t", source_id="1"
    )
    reactions.drain(as_of=clock.whole_now())
    engine.advance_due()
    with time_machine.travel(NOON + timedelta(hours=1), tick=False):
        buys(anna, clock.now() - timedelta(minutes=1))
        reactions.drain(as_of=clock.whole_now())
        reactions.settle()
        assert engine.advance_due() == {"goal": 1}


def test_a_night_lets_in_whom_it_moved_and_a_quiet_one_nobody():
    presets.install()
    people = [person(stage="") for _ in range(2)]
    facts.mark([one.pk for one in people], occurred_at=NOON - timedelta(days=30), is_history=False)
    journey({"on": "stage_entered", "stage": "nurture"})
    Journey.objects.update(live_since=clock.now() - timedelta(days=9))
    day = clock.last_complete_day()
    for one, ago in zip(people, (2, 1), strict=True):
        buys(one, clock.day_end(day) - timedelta(days=ago - 1, hours=5))
    night.run(day - timedelta(days=1), is_quiet=True)
    assert JourneyRun.objects.count() == 0
    done = night.run(day)
    assert done.counts["journeys_entered"] == 1
    assert (JourneyRun.objects.get().customer_id, JourneyRun.objects.get().night) == (people[1].pk, day)


def test_beat_rings_for_them():
    assert celery.app.conf.beat_schedule["journeys"]["task"] == "campaigns.tasks.advance_journeys"

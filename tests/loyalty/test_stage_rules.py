"""Points for entering a stage, and points only for who stands in one: at night, at once, and not for what was taken back."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine

from customers import facts
from customers.models import Customer
from lifecycle_crm import night, reactions, undo
from lifecycle_crm.lib import clock
from loyalty import earning, ledger, rules
from loyalty.models import EarningRule, Entry, Programme
from stages import engine
from stages.models import StageTransition
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, OrderFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def points() -> Programme:
    programme = Programme.objects.get()
    EarningRule.objects.filter(programme=programme).delete()
    rules.create(programme=programme, kind="stage", name="welcome back", subject="retain", points=25, starts_at=None)
    return programme


@pytest.fixture
def buyer() -> Customer:
    """Bought once ten days ago and stands in nurture since the night before last."""
    someone = CustomerFactory()
    order(someone, clock.now() - timedelta(days=10))
    night.run(clock.last_complete_day() - timedelta(days=1))
    assert StageTransition.objects.get().to_stage == "nurture"
    return someone


def order(customer: Customer, at: object) -> None:
    made = OrderFactory(customer=customer, placed_at=at)
    facts.mark([customer.pk], occurred_at=made.placed_at)


def earned() -> list[tuple[str, int]]:
    return list(Entry.objects.filter(kind="earn").order_by("id").values_list("source_type", "points"))


def test_the_first_look_earns_nothing_and_a_move_at_night_earns_once(points: Programme, buyer: Customer) -> None:
    assert earned() == []
    order(buyer, clock.day_end(clock.last_complete_day()) - timedelta(hours=5))
    done = night.run(clock.last_complete_day())
    move = StageTransition.objects.get(night=done)
    assert (move.from_stage, move.to_stage) == ("nurture", "retain")
    assert earned() == [("stage", 25)]
    entry = Entry.objects.get(kind="earn")
    assert (entry.customer, entry.key, entry.effective_at) == (buyer, f"stage:{move.pk}", move.occurred_at)
    assert earning.award_for_stages("t.id = %s", [move.pk]) == 0  # asked again, the cause has earned already
    assert earned() == [("stage", 25)]


def test_a_move_at_once_earns_at_once(points: Programme, buyer: Customer) -> None:
    night.run(clock.last_complete_day())
    order(buyer, clock.now() - timedelta(minutes=1))
    reactions.run(seconds=20)
    assert StageTransition.objects.latest("id").to_stage == "retain"
    assert earned() == [("stage", 25)]


def test_a_move_that_was_taken_back_earns_nothing_more(points: Programme, buyer: Customer) -> None:
    EarningRule.objects.all().delete()
    order(buyer, clock.day_end(clock.last_complete_day()) - timedelta(hours=5))
    done = night.run(clock.last_complete_day())
    assert earned() == []
    undo.undo(day=done.business_date, actor=UserFactory(role="owner"))
    rules.create(programme=points, kind="stage", name="welcome back again", subject="retain", points=25, starts_at=None)
    assert earning.award_for_stages("t.night_id = %s", [done.pk]) == 0
    assert earned() == []


def test_a_rule_for_a_stage_asks_where_the_customer_stood_at_that_moment(points: Programme, buyer: Customer) -> None:
    EarningRule.objects.filter(programme=points).delete()
    rules.create(programme=points, kind="order", name="friends", points=11, stages=["advocate"], starts_at=None)
    night.run(clock.last_complete_day())
    before = OrderFactory(customer=buyer, placed_at=clock.now() - timedelta(minutes=30))
    with time_machine.travel(clock.now() - timedelta(minutes=10), tick=False):
        engine.move_by_hand(customer=buyer, to="advocate", reason="speaks for us", actor=UserFactory(role="marketer"))
    after = OrderFactory(customer=buyer, placed_at=clock.now() - timedelta(minutes=1))
    earning.award_for_orders([before.pk, after.pk])
    assert list(Entry.objects.filter(kind="earn").values_list("source_id", "points")) == [(str(after.pk), 11)]
    assert ledger.prove() == 0

"""The night as its operators meet it: started twice, killed anywhere, previewed, run late."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command

from campaigns.models import Message
from customers import facts
from customers.models import Customer, CustomerFacts, DirtyCustomer, Event, Order
from lifecycle_crm import night, reactions
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from loyalty.models import Entry
from stages.models import Chunk, Night, StageTransition
from tests.fixtures import wait_until

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parent.parent.parent


def shop(people: int, *, days: int = 200, seed: int = 1) -> date:
    """People with orders and visits over the last ``days`` days, loaded before it all happened; the first day."""
    dice = random.Random(seed)
    first = clock.today() - timedelta(days=days)
    start = clock.day_start(first)
    made = Customer.objects.bulk_create(
        Customer(
            name=f"Customer {n}",
            email=f"c{n}@shop.example",
            email_key=f"c{n}@shop.example",
            known_since=start,
            loaded_at=start,
        )
        for n in range(people)
    )
    orders, events = [], []
    for customer in made:
        for n in range(dice.choice([0, 1, 1, 2, 3, 6])):
            at = start + timedelta(seconds=dice.randrange(days * 86_400))
            cents = dice.randrange(0, 9_000)
            orders.append(
                Order(
                    customer=customer, source="t", source_id=f"{customer.pk}-{n}", placed_at=at, currency="USD",
                    amount_minor=cents, base_minor=cents,
                )
            )  # fmt: skip
        if dice.random() < 0.5:
            at = start + timedelta(seconds=dice.randrange(days * 86_400))
            events.append(
                Event(customer=customer, name="visit", occurred_at=at, source="t", source_id=f"v{customer.pk}")
            )
    Order.objects.bulk_create(orders)
    Event.objects.bulk_create(events)
    facts.mark([c.pk for c in made], occurred_at=start)
    facts.mark_each((row.customer_id, row.placed_at, False) for row in orders)
    facts.mark_each((row.customer_id, row.occurred_at, False) for row in events)
    return first


TABLES = {
    "facts": "SELECT * FROM customers_customerfacts ORDER BY customer_id",
    "moves": "SELECT customer_id, from_stage, to_stage, occurred_at, business_date, rule, is_quiet "
    "FROM stages_stagetransition ORDER BY customer_id, occurred_at",
    "points": "SELECT customer_id, kind, points, effective_at FROM loyalty_entry ORDER BY 1, 4, 2, 3",
    "dirty": "SELECT customer_id, occurred_at FROM customers_dirtycustomer ORDER BY 1, 2",
    "messages": "SELECT customer_id, state FROM campaigns_message ORDER BY customer_id",
    "days": 'SELECT business_date, stage, customers, entered, "left" FROM dashboard_stageday ORDER BY 1, 2',
}


def picture() -> dict[str, list[Any]]:
    return {name: batches.rows(sql) for name, sql in TABLES.items()}


def test_it_runs_a_date_once_and_changes_nothing_the_second_time() -> None:
    shop(40)
    day = clock.last_complete_day()
    done = night.run(day)
    assert (done.state, done.counts["set_aside"]) == (Night.State.DONE, 0)
    assert done.counts["refreshed"] == 40
    assert StageTransition.objects.filter(night=done).count() == 40
    before = picture()
    assert night.run(day).pk == done.pk
    assert picture() == before
    assert Chunk.objects.exclude(state="done").count() == 0


def test_it_refuses_a_night_that_is_not_over_and_one_that_has_passed() -> None:
    shop(3)
    with pytest.raises(InvalidInput, match="is not over yet in Europe/Stockholm"):
        night.run(clock.today())
    with pytest.raises(InvalidInput, match="is not over yet"):
        night.run(clock.today() + timedelta(days=400))
    assert Night.objects.count() == 0
    night.run(clock.last_complete_day())
    with pytest.raises(Conflict, match="history is not rewritten"):
        night.run(clock.last_complete_day() - timedelta(days=1))
    assert Night.objects.count() == 1
    with pytest.raises(CommandError, match="is not over yet"):
        call_command("night", date=clock.today())


def test_a_dry_run_prints_the_diff_and_writes_nothing() -> None:
    shop(30)
    before = picture()
    out = io.StringIO()
    call_command("night", dry_run=True, stdout=out)
    assert "new → " in out.getvalue()
    assert "Nothing was written." in out.getvalue()
    assert picture() == before
    assert Night.objects.count() == 0
    previewed = night.preview(clock.last_complete_day())
    done = night.run(clock.last_complete_day())
    assert sum(previewed.flows.values()) == done.counts["moved"] == 30


@pytest.fixture
def at_noon() -> Iterator[None]:
    """Noon of today: between midnight and the hour of the night, yesterday's is not due yet."""
    with time_machine.travel(clock.day_start(clock.today()) + timedelta(hours=12), tick=True):
        yield


def test_missed_nights_are_caught_up_oldest_first_and_end_like_nights_that_were_not_missed(at_noon: None) -> None:
    with time_machine.travel(clock.now() - timedelta(days=4), tick=False):
        shop(40, days=120)
        night.run(clock.last_complete_day())
    assert (
        night.pending()
        == list(clock.days(clock.today() - timedelta(days=4), clock.last_complete_day()))[-len(night.pending()) :]
    )
    run = night.tick()
    assert [n.business_date for n in run] == sorted(n.business_date for n in run)
    assert [n.state for n in run] == ["done"] * len(run)
    assert len(run) >= 3
    assert night.tick() == []
    assert [n.as_of for n in run] == [clock.day_end(n.business_date) for n in run]


def test_history_is_quiet_and_news_is_not() -> None:
    """Loading an old base and running its first night moves most of it and plans no message to anybody."""
    shop(80, days=500)
    CustomerFacts.objects.all().delete()
    DirtyCustomer.objects.update(is_history=True)
    done = night.run(clock.last_complete_day())
    moved = StageTransition.objects.filter(night=done)
    assert moved.filter(to_stage="dormant").count() > 10
    assert moved.exclude(is_quiet=True).count() == 0
    assert Message.objects.count() == 0


def test_an_order_moves_a_dormant_customer_at_once() -> None:
    shop(1, days=400, seed=3)
    person = Customer.objects.get()
    Order.objects.all().delete()
    Event.objects.all().delete()
    old = clock.now() - timedelta(days=390)
    Order.objects.create(
        customer=person, source="t", source_id="old", placed_at=old, currency="USD", amount_minor=500, base_minor=500
    )
    night.run(clock.last_complete_day())
    assert CustomerFacts.objects.get(pk=person.pk).stage == "dormant"
    Order.objects.create(
        customer=person,
        source="t",
        source_id="new",
        placed_at=clock.now(),
        currency="USD",
        amount_minor=700,
        base_minor=700,
    )
    facts.mark([person.pk], occurred_at=clock.now())
    done = reactions.run()
    assert done["customers"] == 1
    row = CustomerFacts.objects.get(pk=person.pk)
    assert (row.stage, row.orders, row.spend_minor) == ("retain", 2, 1200)
    move = StageTransition.objects.latest("id")
    assert (move.from_stage, move.to_stage, move.night_id, move.is_quiet) == ("dormant", "retain", None, False)
    assert Entry.objects.filter(kind="earn").count() == 2


def test_a_poison_customer_is_set_aside_and_named_and_the_night_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    shop(30)
    poison = Customer.objects.order_by("pk")[17].pk
    honest = reactions.hand_down

    def trips(**how: Any) -> None:
        honest(**how)
        if (poison,) in batches.rows(f"SELECT customer_id FROM {facts.PICKED}"):
            raise ValueError("this customer cannot be read")

    monkeypatch.setattr(reactions, "hand_down", trips)
    done = night.run(clock.last_complete_day())
    assert done.state == Night.State.DONE
    assert done.counts["set_aside"] == 1
    failed = Chunk.objects.get(state="failed")
    assert (failed.step, failed.low, failed.high) == ("facts", poison, poison + 1)
    assert "this customer cannot be read" in failed.error
    assert StageTransition.objects.count() == 29


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_beat_rings_and_a_real_worker_runs_the_night(worker: Callable[..., Any]) -> None:
    shop(20)
    worker()
    from lifecycle_crm.lib import bell

    bell.ring("lifecycle_crm.tasks.night_tick")
    wait_until(lambda: Night.objects.filter(state="done").exists(), seconds=60)
    assert StageTransition.objects.count() == 20

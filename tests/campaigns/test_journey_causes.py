"""Carts that are left behind and deliveries that are late let people in."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse

from campaigns import gate, tasks
from campaigns.journeys import entering, plans, publishing, reading, words
from campaigns.models import Journey, JourneyRun
from lifecycle_crm.celery import app
from tests.campaigns.factories import NOON, buys, happens, live_journey, person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]

STEPS = [{"id": "s1", "do": "wait", "days": 1}]
CART = {"on": "cart_abandoned", "hours": 3}


def fills(customer, hours: float = 0, **more):
    """Their cart, so many hours ago."""
    return happens(customer, entering.CART, at=NOON - timedelta(hours=hours), **more)


def inside() -> list[tuple[int, str]]:
    return list(JourneyRun.objects.order_by("id").values_list("customer", "key"))


def test_a_cart_lets_in_once_when_it_is_left_behind_for_the_hours(noon):
    anna = person()
    live_journey(STEPS, CART, again="always")
    cart = fills(anna)
    noon.shift(timedelta(hours=3) - timedelta(seconds=1))
    assert entering.for_carts() == 0
    noon.shift(timedelta(seconds=1))
    assert [entering.for_carts(), entering.for_carts()] == [1, 0]
    assert inside() == [(anna.pk, f"event:{cart.pk}")]
    # The next cart is another cause; it comes when nobody is inside.
    JourneyRun.objects.update(state="done", due_at=None)
    noon.shift(timedelta(hours=1))
    assert entering.for_carts() == 0
    again = happens(anna, entering.CART)
    noon.shift(timedelta(hours=3))
    assert entering.for_carts() == 1
    assert inside()[1:] == [(anna.pk, f"event:{again.pk}")]


def test_who_ordered_who_still_fills_it_and_what_is_old_or_history_lets_nobody_in():
    ordered, filling, early, history, before, left = (person() for _n in range(6))
    made = live_journey(STEPS, CART)
    Journey.objects.update(live_since=NOON - timedelta(days=9))
    fills(ordered, 5)
    buys(ordered, NOON - timedelta(hours=4), is_counted=False)
    fills(filling, 5)
    fills(filling, 2)
    fills(early, 49)
    fills(history, 5, is_history=True)
    buys(left, NOON - timedelta(hours=6))
    cart = fills(left, 5)
    fills(before, 5)
    Journey.objects.filter(pk=made.pk).update(live_since=NOON - timedelta(hours=5))
    JourneyRun.objects.all().delete()
    assert entering.for_carts() == 2
    assert set(inside()) >= {(left.pk, f"event:{cart.pk}")}
    assert {pk for pk, _key in inside()} == {left.pk, before.pk}
    made.refresh_from_db()
    assert made.stale == 0


def test_a_cart_from_before_the_journey_was_live_lets_nobody_in():
    fills(person(), 5)
    live_journey(STEPS, CART)
    Journey.objects.update(live_since=NOON - timedelta(hours=4))
    assert entering.for_carts() == 0


def test_a_late_delivery_lets_in_unless_it_came_meanwhile():
    anna, bo, cleo = person(), person(), person()
    live_journey(STEPS, {"on": "delivery_delayed"})
    assert plans.event_names() == [gate.DELAYED]
    hour = timedelta(hours=1)
    late = [happens(one, gate.DELAYED, at=NOON - hour) for one in (anna, bo, cleo)]
    happens(bo, gate.DELIVERED, at=NOON - hour / 2)
    happens(cleo, gate.DELIVERED, at=NOON - 2 * hour)
    ids = [one.pk for one in late]
    assert [entering.for_events(ids), entering.for_events(ids)] == [2, 0]
    assert inside() == [(anna.pk, f"event:{late[0].pk}"), (cleo.pk, f"event:{late[2].pk}")]


def test_the_worker_looks_for_carts():
    live_journey(STEPS, CART)
    fills(person(), 4)
    assert app.conf.beat_schedule["carts"]["task"] == tasks.find_carts.name
    tasks.find_carts()
    assert JourneyRun.objects.count() == 1


def test_it_says_both_in_words_and_asks_for_the_hours(marketer):
    assert words.trigger(CART) == "Left a cart behind for 3 hours"
    assert words.trigger({"on": "delivery_delayed"}) == "Waits for a delivery that is late"
    for hours in (None, 0, 25, "3"):
        _plan, problems = reading.read({"trigger": {"on": "cart_abandoned", "hours": hours}, "steps": STEPS})
        assert [one.sentence for one in problems] == ["Say after how many hours a cart is left behind: 1 to 24."]
    made = publishing.create(name="Cart", tree={"trigger": {}, "steps": STEPS})
    at = reverse("campaigns:journey-trigger", args=[made.pk])
    marketer.post(at, {"on": "cart_abandoned", "hours": 4, "edits": 0})
    made.refresh_from_db()
    assert made.draft["trigger"] == {"on": "cart_abandoned", "hours": 4}
    assert 'value="4"' in marketer.get(at).content.decode()
    marketer.post(at, {"on": "delivery_delayed", "hours": 4, "edits": 1})
    made.refresh_from_db()
    assert made.draft["trigger"] == {"on": "delivery_delayed"}

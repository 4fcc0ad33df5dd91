"""What a journey caused: who counts in which group, with what, and how it reads on the page and over REST."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse

from campaigns import uplift
from campaigns.journeys import publishing, results
from campaigns.models import Journey, JourneyRun, JourneyStep, JourneyVersion, SendingRules
from campaigns.uplift import Group
from customers.models import Customer, Event, Order
from loyalty.models import Programme
from tests.api.factories import caller
from tests.campaigns.factories import NOON, CampaignFactory, live_journey, people, planned
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]

ENTERED = NOON - timedelta(days=40)


@pytest.fixture
def journey() -> Journey:
    made = live_journey([{"id": "s1", "do": "wait", "days": 2}], goal={"order": True}, goal_days=30)
    Journey.objects.filter(pk=made.pk).update(name="Win-back")
    made.refresh_from_db()
    return made


def entered(journey: Journey, customers: list[Customer], state: str = "done", **more) -> list[JourneyRun]:
    version = JourneyVersion.objects.get(journey=journey)
    return JourneyRun.objects.bulk_create(
        JourneyRun(**{
            "journey": journey, "version": version, "customer": one, "key": "test", "number": 1, "state": state,
            "entered_at": ENTERED, **more,
        })
        for one in customers
    )  # fmt: skip


def bought(customers: list[Customer], minor: int = 10_000, after=timedelta(days=3), **more) -> None:
    start = Order.objects.count()
    Order.objects.bulk_create(
        Order(
            customer=one, source="test", source_id=str(start + n), placed_at=ENTERED + after, currency="USD",
            amount_minor=minor, base_minor=minor, **more,
        )
        for n, one in enumerate(customers)
    )  # fmt: skip


def test_it_compares_everybody_by_their_first_entry_with_who_was_held_out(journey, marketer):
    treated, out, undone = people(300), people(120), people(5)
    entered(journey, treated[:200])
    entered(journey, treated[200:250], "cancelled", reason="removed")
    entered(journey, treated[250:], "running", step="s1", due_at=NOON)
    entered(journey, out, "held_out")
    entered(journey, undone, "cancelled", reason="undone")
    # A second entry in the other group, and orders that do not count: too late, cancelled, from before.
    entered(journey, out[:50], "done", number=2, key="again", entered_at=NOON - timedelta(days=2))
    bought(treated[:60])
    bought(treated[:10], 5_000)
    bought(treated[200:215])
    bought(out[:6])
    bought(undone)
    bought(out[6:30], after=timedelta(days=30))
    bought(out[30:50], is_counted=False)
    bought(out[50:70], after=timedelta(seconds=-1))

    found = results.caused(journey)
    assert found.uplift == uplift.compare(
        Group(300, 75, 10 * 15_000 + 65 * 10_000, 10 * 15_000**2 + 65 * 10_000**2), Group(120, 6, 60_000, 6 * 10_000**2)
    )
    assert (found.uplift.extra, found.uplift.spent_minor) == (60, 650_000)
    assert (found.since, found.until) == (ENTERED, ENTERED)
    low, high = found.uplift.low, found.uplift.high
    sentence = f"Win-back caused 60 extra customers (between {low} and {high}) and US$6,500; it cost US$0."
    assert (results.sentence(journey, found), low > 30, high < 80) == (sentence, True, True)
    page = marketer.get(reverse("campaigns:journey-results", args=[journey.pk])).content.decode()
    assert sentence in page
    assert f"{reverse('campaigns:journey-people', args=[journey.pk])}?state=held_out" in page
    told = caller("campaigns:read").get(f"/api/v1/journeys/{journey.pk}/results/").json()["caused"]
    assert (told["sentence"], told["uplift"]["extra"], told["uplift"]["is_clear"]) == (sentence, 60, True)
    assert (told["currency"], told["since"], told["cost_minor"]) == ("USD", "2026-10-11T11:00:00Z", 0)


def test_a_goal_may_be_an_event_and_money_is_counted_all_the_same(journey):
    Journey.objects.update(goal={"event": "booked"}, goal_days=7)
    journey.refresh_from_db()
    treated, out = people(100), people(100)
    entered(journey, treated)
    entered(journey, out, "held_out")
    bought(treated[:4])
    for n, (who, name, days) in enumerate(
        ((treated[0], "booked", 1), (treated[1], "left", 1), (treated[2], "booked", 7))
    ):
        Event.objects.create(
            customer=who, name=name, occurred_at=ENTERED + timedelta(days=days), source="test", source_id=str(n)
        )
    found = results.caused(journey).uplift
    assert (found.treated.people, found.treated.reached, found.treated.spent_minor) == (100, 1, 40_000)


def test_too_few_people_are_no_result(journey, marketer):
    entered(journey, people(7))
    entered(journey, people(2), "held_out")
    page = marketer.get(reverse("campaigns:journey-results", args=[journey.pk])).content.decode()
    assert "No clear change yet (n 7, and 2 held out; a comparison needs 100 of each)." in page


def test_the_cost_is_that_of_messages_and_points(journey):
    Programme.objects.update(value_minor_per_100=50)
    SendingRules.objects.create(cost_per_thousand_minor=1_500)
    runs = entered(journey, people(3))
    for run, points in zip(runs, (200, 200, 50), strict=True):
        JourneyStep.objects.create(
            run=run, step="s2", at=NOON, outcome="points", data={"points": points, "reason": "x"}
        )
    JourneyStep.objects.create(run=runs[0], step="s3", at=NOON, outcome="no_points", data={"points": 9, "reason": "x"})
    letters = CampaignFactory(kind="journey", journey=journey, step="s1")
    run = planned([one.customer for one in runs], letters)
    run.messages.update(state="sent", sent_at=NOON)
    found = results.caused(journey)
    assert (found.messages, found.messages_minor, found.points, found.points_minor) == (3, 5, 450, 225)
    assert found.cost_minor == 230


def test_a_journey_without_a_goal_or_anybody_says_so(journey, client):
    client.force_login(UserFactory(role="viewer"))
    page = client.get(reverse("campaigns:journey-results", args=[journey.pk])).content.decode()
    assert "No clear change yet (n 0, and 0 held out; a comparison needs 100 of each)." in page
    publishing.set_up(journey=journey, goal={})
    assert results.sentence(journey, results.caused(journey)) == ""
    page = client.get(reverse("campaigns:journey-results", args=[journey.pk])).content.decode()
    assert "This journey has no goal. Set one under Settings." in page

"""Who went dormant in a night gets one win-back, and history gets none."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
import time_machine

from campaigns import audit, outbox, reactivation, runs
from campaigns.errors import NotNow
from campaigns.models import Campaign, Message, Run
from customers.models import CustomerFacts
from stages.models import StageTransition
from tests.campaigns.factories import NOON, CampaignFactory, people, person, went_dormant
from tests.campaigns.factories import night as a_night

pytestmark = pytest.mark.django_db

EVERYBODY = {"low": 0, "high": 2**62}


@pytest.fixture(autouse=True)
def noon():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


@pytest.fixture
def win_back():
    Campaign.objects.filter(kind="reactivation").update(state="ended")
    return CampaignFactory(kind="reactivation", name="Win-back")


@pytest.fixture
def night():
    return a_night(NOON - timedelta(hours=12))


def states(run: Run) -> dict[str, int]:
    return dict(Counter(Message.objects.filter(run=run).values_list("state", flat=True)))


def test_it_installs_an_active_win_back_with_a_holdout_of_a_tenth():
    campaign = Campaign.objects.get(key="win-back")
    assert (campaign.kind, campaign.state, campaign.holdout_percent) == ("reactivation", "active", 10)


def test_it_writes_once_to_who_went_dormant_in_the_night(win_back, night):
    moved, stayed = person(), person()
    went_dormant(moved, night)
    StageTransition.objects.create(
        customer=stayed, from_stage="acquire", to_stage="nurture", occurred_at=night.as_of,
        business_date=night.business_date, rule_set=night.rule_set, night=night,
    )  # fmt: skip
    assert reactivation.plan_night(night_id=night.pk, as_of=night.as_of, **EVERYBODY) == {"entered": 1, "planned": 1}
    run = Run.objects.get(campaign=win_back)
    assert run.key == f"night:{night.business_date}"
    assert outbox.send_due() == {"sent": 1}
    assert reactivation.plan_night(night_id=night.pk, as_of=night.as_of, **EVERYBODY) == {"entered": 1, "planned": 0}
    assert outbox.send_due() == {}
    assert list(Message.objects.values_list("customer_id", "state")) == [(moved.pk, "sent")]
    assert audit.problems() == []


def test_it_plans_in_parts_that_can_be_repeated(win_back, night):
    everybody = people(30)
    for one in everybody:
        went_dormant(one, night)
    middle = everybody[15].pk
    for low, high in ((0, middle), (middle, 2**62), (0, middle)):
        reactivation.plan_night(night_id=night.pk, as_of=night.as_of, low=low, high=high)
    run = Run.objects.get(campaign=win_back)
    assert run.audience == 30
    assert states(run) == {"queued": 30}


def test_it_goes_on_after_a_part_that_was_already_sent(win_back, night):
    first, second = person(), person()
    went_dormant(first, night)
    went_dormant(second, night)
    reactivation.plan_night(night_id=night.pk, as_of=night.as_of, low=0, high=second.pk)
    assert outbox.send_due() == {"sent": 1}
    assert Run.objects.get(campaign=win_back).state == "finished"
    reactivation.plan_night(night_id=night.pk, as_of=night.as_of, low=second.pk, high=2**62)
    assert outbox.send_due() == {"sent": 1}


def test_it_writes_to_nobody_because_of_loaded_history(win_back, night):
    went_dormant(person(), night, is_quiet=True)
    assert reactivation.plan_night(night_id=night.pk, as_of=night.as_of, **EVERYBODY) == {}
    assert Message.objects.count() == 0
    assert Run.objects.count() == 0


def test_it_drops_a_night_of_more_than_two_days_ago_with_a_count(win_back):
    night = a_night(NOON - timedelta(hours=49))
    went_dormant(person(), night)
    assert reactivation.plan_night(night_id=night.pk, as_of=night.as_of, **EVERYBODY) == {"entered": 1, "stale": 1}
    assert Message.objects.count() == 0


def test_it_does_not_say_we_miss_you_to_who_came_back(win_back, night):
    customer = person()
    went_dormant(customer, night)
    reactivation.plan_night(night_id=night.pk, as_of=night.as_of, **EVERYBODY)
    CustomerFacts.objects.filter(pk=customer.pk).update(stage="nurture")
    assert outbox.send_due() == {"skipped": 1}
    assert Message.objects.get().reason == "came_back"


def test_it_writes_nothing_for_a_paused_or_ended_campaign(win_back, night):
    went_dormant(person(), night)
    runs.pause_campaign(campaign=win_back)
    assert reactivation.plan_night(night_id=night.pk, as_of=night.as_of, **EVERYBODY) == {"entered": 1}
    assert Message.objects.count() == 0


def test_it_asks_a_person_before_it_writes_to_a_fifth_of_all_customers(win_back, night):
    everybody = people(100)
    for one in everybody[:60]:
        went_dormant(one, night)
    counts = reactivation.plan_night(night_id=night.pk, as_of=night.as_of, **EVERYBODY)
    assert counts == {"entered": 60, "planned": 60, "waiting": 60}
    run = Run.objects.get(campaign=win_back)
    assert (run.state, run.guard) == ("needs_confirmation", {"people": 60, "customers": 100})
    assert outbox.send_due() == {}
    runs.confirm(run=run)
    assert outbox.send_due() == {"sent": 60}
    with pytest.raises(NotNow):
        runs.confirm(run=run)


def test_it_asks_when_a_night_has_three_times_the_usual(win_back, night):
    everybody = people(400)
    for day in range(1, 11):
        Run.objects.create(
            campaign=win_back, key=f"night:test-{day}", as_of=NOON - timedelta(days=day), state="finished"
        )
        run = Run.objects.get(key=f"night:test-{day}")
        Message.objects.bulk_create(
            [
                Message(run=run, customer=one, channel="email", state="skipped", reason="no_consent", due_at=NOON)
                for one in everybody[:17]
            ]
        )
    Run.objects.filter(campaign=win_back).update(audience=17)
    for one in everybody[:52]:
        went_dormant(one, night)
    reactivation.plan_night(night_id=night.pk, as_of=night.as_of, **EVERYBODY)
    run = Run.objects.get(campaign=win_back, key=f"night:{night.business_date}")
    assert (run.state, run.guard) == ("needs_confirmation", {"people": 52, "customers": 400, "usual": 17})


def test_it_asks_nobody_about_a_handful(win_back, night):
    for one in people(10):
        went_dormant(one, night)
    reactivation.plan_night(night_id=night.pk, as_of=night.as_of, **EVERYBODY)
    assert Run.objects.get(campaign=win_back).state == "sending"


def test_it_calls_off_what_an_undone_night_planned(win_back, night):
    for one in people(3):
        went_dormant(one, night)
    reactivation.plan_night(night_id=night.pk, as_of=night.as_of, **EVERYBODY)
    assert outbox.send_due(limit=1) == {"sent": 1}
    assert reactivation.cancel_night(business_date=night.business_date.isoformat()) == 2
    assert states(Run.objects.get(campaign=win_back)) == {"sent": 1, "cancelled": 2}


def test_it_compares_who_came_back_with_and_without_the_message(win_back, night):
    win_back.holdout_percent = 50
    win_back.save(update_fields=["holdout_percent"])
    everybody = people(40)
    for one in everybody:
        went_dormant(one, night)
    silent = person(agrees=None)
    went_dormant(silent, night)
    reactivation.plan_night(night_id=night.pk, as_of=night.as_of, **EVERYBODY)
    out = set(Message.objects.filter(state="held_out").values_list("customer_id", flat=True))
    back = [one.pk for one in everybody[:10]]
    CustomerFacts.objects.filter(pk__in=back).update(last_order_at=NOON + timedelta(days=1))
    assert reactivation.effect(win_back) == {
        "treated": 40 - len(out),
        "treated_back": len(set(back) - out),
        "held_out": len(out),
        "held_out_back": len(set(back) & out),
    }
    assert 8 <= len(out) <= 32

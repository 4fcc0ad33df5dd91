"""What a draft would do and would have done: equal to what publishing and the nights then really do."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.urls import reverse

from campaigns.journeys import publishing
from campaigns.models import Campaign, Journey, JourneyRun, Message, Run
from customers.models import Customer, CustomerFacts, Event
from lifecycle_crm import night, reactions
from lifecycle_crm.dashboard import effects
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from stages import backtest, presets, queries, rules, rulesets
from stages.models import Backtest, RuleSet, StageKey, StageTransition
from tests.campaigns.factories import CampaignFactory, VariantFactory
from tests.factories import UserFactory
from tests.roof.test_night import picture, shop

pytestmark = pytest.mark.django_db

ALL_BUYERS_LEAVE = [
    {"key": "gone", "name": "Gone", "to": "dormant", "when": {"fact": "orders", "op": "gte", "value": 1}},
    {"key": "is_known", "name": "Is known", "to": "reach", "when": {"all": []}},
]


TRIGGERS = {
    "comes": {"on": "stage_entered", "stage": "dormant"},
    "leaves": {"on": "stage_left", "stage": "nurture"},
    "buys": {"on": "order"},
}


def live_journey(key: str, trigger: dict[str, str]) -> Journey:
    tree = {"trigger": trigger, "steps": [{"id": "s1", "do": "wait", "days": 3}]}
    journey = publishing.create(name=key, key=key, tree=tree, holdout_percent=30)
    publishing.publish(journey=journey)
    return journey


def quick() -> RuleSet:
    return rulesets.draft(based_on=None, rules=presets.default_rules(14, presets.PRESETS[0]), actor=None, name="Quick")


def test_what_if_is_what_publishing_and_the_night_then_do() -> None:
    with time_machine.travel(clock.now() - timedelta(days=1), tick=False):
        shop(120, days=200)
        night.run(clock.last_complete_day())
    made = quick()
    last = clock.last_complete_day()
    told = rulesets.what_if(rules.parse(made.rules), clock.day_end(last))
    assert told.moving > 5
    rulesets.publish(rule_set=made, actor=None)
    CustomerFacts.objects.update(next_review_at=clock.day_end(last))
    done = night.run(last)
    assert queries.moves_of(done) == told.moves
    sampled = {mover.customer.pk: mover for mover in told.sample}
    for move in StageTransition.objects.filter(night=done, customer__in=sampled):
        told_of = sampled[move.customer_id]
        assert (told_of.source, told_of.target) == (move.from_stage, move.to_stage)
        assert told_of.stands
    assert {key: told.after()[key] for key in StageKey.values} == {
        key: n for key, n in queries.standing().items() if key != "new"
    }


def test_it_tells_which_campaigns_a_draft_would_start_as_the_night_then_plans_them() -> None:
    with time_machine.travel(clock.now() - timedelta(days=1), tick=False):
        shop(60, days=60)
        night.run(clock.last_complete_day())
    Campaign.objects.all().delete()  # the one that is shipped
    campaign = CampaignFactory(
        kind=Campaign.Kind.REACTIVATION, template=VariantFactory().template, holdout_percent=30, purpose="service"
    )
    CampaignFactory(state="draft", kind=Campaign.Kind.REACTIVATION, template=VariantFactory().template)
    made = rulesets.draft(based_on=None, rules=ALL_BUYERS_LEAVE, actor=None, name="Bad")
    last = clock.last_complete_day()
    [told] = effects.of_rules(rules.parse(made.rules), clock.day_end(last)).campaigns
    assert told.moved == told.held_out + told.skipped + told.messages > 20
    assert told.held_out > 0
    assert not Run.objects.exists()
    assert not Message.objects.exists()
    rulesets.publish(rule_set=made, actor=None, mode="move")
    CustomerFacts.objects.update(next_review_at=clock.day_end(last), is_quiet=False)
    night.run(last)
    states = list(Message.objects.filter(run__campaign=campaign).values_list("state", flat=True))
    assert (len(states), states.count("held_out"), states.count("queued")) == (
        told.moved, told.held_out, told.messages,
    )  # fmt: skip


def test_it_tells_whom_a_draft_would_let_into_journeys_as_the_night_then_does() -> None:
    with time_machine.travel(clock.now() - timedelta(days=1), tick=False):
        shop(60, days=60)
        night.run(clock.last_complete_day())
        Campaign.objects.all().delete()
        live = {key: live_journey(key, trigger) for key, trigger in TRIGGERS.items()}
    were = list(CustomerFacts.objects.filter(orders__gte=1).exclude(stage="dormant").values_list("pk", flat=True)[:5])
    ended = {"state": "done", "entered_at": 1, "number": 1, "version": live["comes"].versions.get()}
    JourneyRun.objects.bulk_create(
        JourneyRun(journey=live["comes"], customer_id=pk, key=f"old:{pk}", **ended) for pk in were
    )
    made = rulesets.draft(based_on=None, rules=ALL_BUYERS_LEAVE, actor=None, name="Bad")
    last = clock.last_complete_day()
    told = {one.journey.key: one for one in effects.of_rules(rules.parse(made.rules), clock.day_end(last)).journeys}
    assert set(told) == {"comes", "leaves"}
    assert told["comes"].moved == told["comes"].held_out + told["comes"].inside + 5 > 20
    assert told["leaves"].moved == told["leaves"].held_out + told["leaves"].inside > 0
    assert told["comes"].held_out > 0
    assert not any(one.is_stopped for one in told.values())
    assert JourneyRun.objects.count() == 5
    rulesets.publish(rule_set=made, actor=None, mode="move")
    CustomerFacts.objects.update(next_review_at=clock.day_end(last), is_quiet=False)
    night.run(last)
    for key, one in told.items():
        states = list(
            JourneyRun.objects.filter(journey=live[key]).exclude(state="done").values_list("state", flat=True)
        )
        assert (len(states) - states.count("held_out"), states.count("held_out")) == (one.inside, one.held_out)


def test_it_says_which_journey_would_stop_because_too_many_come(client) -> None:
    with time_machine.travel(clock.now() - timedelta(days=1), tick=False):
        shop(120, days=60)
        night.run(clock.last_complete_day())
        live_journey("comes", TRIGGERS["comes"])
    made = rulesets.draft(based_on=None, rules=ALL_BUYERS_LEAVE, actor=None, name="Bad")
    client.force_login(UserFactory(role="viewer"))
    page = client.get(reverse("rules-effects", args=[made.version])).content.decode()
    assert "are more than a night lets into a journey at once: “comes” would stop" in page
    last = clock.last_complete_day()
    rulesets.publish(rule_set=made, actor=None, mode="move")
    CustomerFacts.objects.update(next_review_at=clock.day_end(last), is_quiet=False)
    night.run(last)
    assert Journey.objects.get().state == "paused"
    assert not JourneyRun.objects.exists()


def test_a_quiet_publication_starts_no_campaign() -> None:
    with time_machine.travel(clock.now() - timedelta(days=1), tick=False):
        shop(40, days=60)
        night.run(clock.last_complete_day())
    CampaignFactory(kind=Campaign.Kind.REACTIVATION, template=VariantFactory().template, purpose="service")
    made = rulesets.draft(based_on=None, rules=ALL_BUYERS_LEAVE, actor=None, name="Bad")
    rulesets.publish(rule_set=made, actor=None)
    CustomerFacts.objects.update(next_review_at=clock.day_end(clock.last_complete_day()))
    done = night.run(clock.last_complete_day())
    assert done.counts["moved"] > 10
    assert not Message.objects.exists()


def test_the_effects_stand_on_the_page(client) -> None:
    shop(20, days=60)
    with time_machine.travel(clock.now() + timedelta(days=1), tick=False):
        night.run(clock.last_complete_day())
    made = rulesets.draft(based_on=None, rules=ALL_BUYERS_LEAVE, actor=None, name="Bad")
    Campaign.objects.all().delete()
    client.force_login(UserFactory(role="viewer"))
    url = reverse("rules-effects", args=[made.version])
    assert "No active campaign or journey waits" in client.get(url).content.decode()
    campaign = CampaignFactory(kind=Campaign.Kind.REACTIVATION, template=VariantFactory().template)
    page = client.get(url).content.decode()
    assert campaign.name in page
    assert url in client.get(reverse("stages:rules", args=[made.version])).content.decode()
    assert client.get(reverse("rules-effects", args=[99])).status_code == 404


# --- Replay -----------------------------------------------------------------------------------------------------------


def test_a_replay_ends_where_the_nights_really_ended_and_touches_nothing() -> None:
    first = shop(60, days=120)
    last = clock.last_complete_day()
    night.replay(first, last)
    made = quick()
    before = picture()
    asked = backtest.request(rule_set=made, months=6, actor=None)
    done = backtest.work_due(hand_down=reactions.hand_down, happened=reactions.HANDED_FROM)
    assert done == asked
    assert (done.state, done.error) == ("done", "")
    assert picture() == before
    assert (done.customers, done.base_customers, done.done) == (60, 60, done.nights)
    months = done.result["months"]
    assert months[-1]["day"] == last.isoformat()
    assert months[-1]["old"] == {key: n for key, n in queries.standing().items() if key != "new"}
    assert {row["day"][5:7] for row in months[:-1]} <= {f"{n:02d}" for n in range(1, 13)}
    # And the moves between stages are those of the history, first placements left out.
    really = {pair: n for pair, n in queries.flows(first, last).items() if pair[0] != "new"}
    assert {(s, t): n for s, t, n in done.result["old_moves"]} == really
    then = rulesets.what_if(rules.parse(made.rules), clock.day_end(last)).after()
    assert done.result["differ"] > 0
    assert sum(months[-1]["new"].values()) == sum(then.values()) == 60


def test_a_replay_counts_who_goes_back_and_forth() -> None:
    shop(1, days=60)
    now = clock.now()
    batches.execute("DELETE FROM customers_order")
    batches.execute("DELETE FROM customers_event")
    someone = Customer.objects.get()
    for days in (40, 30):
        Event.objects.create(
            customer=someone, name="visit", occurred_at=now - timedelta(days=days), source="t", source_id=f"v{days}"
        )
    night.start(clock.last_complete_day())
    flapping = [
        {"key": "here", "to": "acquire", "when": {"fact": "engaged_at", "op": "days_since_lt", "value": 5}},
        {"key": "is_known", "to": "reach", "when": {"all": []}},
    ]
    made = rulesets.draft(based_on=None, rules=flapping, actor=None, name="Nervous")
    backtest.request(rule_set=made, months=3, actor=None)
    done = backtest.work_due(hand_down=reactions.hand_down, happened=reactions.HANDED_FROM)
    assert done is not None
    assert (done.state, done.error) == ("done", "")
    assert done.result["new_moves"] == [["acquire", "reach", 2], ["reach", "acquire", 2]]
    assert (done.result["new_flaps"], done.result["new_flapped"]) == (3, 1)
    assert done.result["old_flaps"] == 0
    [told] = done.result["flapped"]
    assert (told["customer"], told["source"], told["target"], told["after"]) == (someone.pk, "acquire", "reach", 5)


def test_a_large_base_is_replayed_as_a_sample_and_says_so(monkeypatch: pytest.MonkeyPatch, client) -> None:
    shop(30, days=40)
    night.run(clock.last_complete_day())
    monkeypatch.setattr(backtest, "WHOLE", 20)
    monkeypatch.setattr(backtest, "SAMPLE", 10)
    monkeypatch.setattr(backtest, "PART", 4)
    made = quick()
    asked = backtest.request(rule_set=made, months=3, actor=None)
    client.force_login(UserFactory(role="marketer"))
    url = reverse("stages:backtest", args=[asked.pk])
    waiting = client.get(url).content.decode()
    assert "No worker is running" in waiting
    assert "nights to replay" in waiting
    with pytest.raises(Conflict, match="under way"):
        backtest.request(rule_set=made, months=3, actor=None)
    done = replayed()
    assert (done.state, done.error, done.base_customers) == ("done", "", 30)
    assert 9 <= done.customers <= 11
    page = client.get(url).content.decode()
    assert f"A sample of {done.customers} of 30 customers" in page
    assert "at 95 % confidence" in page
    assert "It took" in page
    assert backtest.work_due(hand_down=reactions.hand_down, happened=reactions.HANDED_FROM) is None


def replayed() -> Backtest:
    done = backtest.work_due(hand_down=reactions.hand_down, happened=reactions.HANDED_FROM)
    assert done is not None
    return done


def test_it_gives_the_same_in_parts_and_after_its_worker_died(monkeypatch: pytest.MonkeyPatch) -> None:
    shop(50, days=120)
    night.run(clock.last_complete_day())
    made = quick()
    backtest.request(rule_set=made, months=6, actor=None)
    whole = replayed()
    monkeypatch.setattr(backtest, "PART", 9)
    asked = backtest.request(rule_set=made, months=6, actor=None)

    def dies(*, as_of: Any) -> None:
        if Backtest.objects.get(pk=asked.pk).customers == 18:
            raise KeyboardInterrupt  # as when the process is killed: the row stays as the last part left it
        reactions.hand_down(as_of=as_of)

    with pytest.raises(KeyboardInterrupt):
        backtest.work_due(hand_down=dies, happened=reactions.HANDED_FROM)
    asked.refresh_from_db()
    assert (asked.state, asked.customers, asked.result["customers"], asked.error) == ("running", 18, 18, "")
    assert backtest.work_due(hand_down=dies, happened=reactions.HANDED_FROM) is None, "the lease holds"
    Backtest.objects.filter(pk=asked.pk).update(lease_until=clock.now() - timedelta(seconds=1))
    done = replayed()
    assert (done.pk, done.state, done.customers) == (asked.pk, "done", 50)
    # Which of those who flapped are named, and how long it took, may be other ones.
    for name in whole.result.keys() - {"flapped", "seconds"}:
        assert done.result[name] == whole.result[name], name
    assert len(done.result["flapped"]) == len(whole.result["flapped"]) > 0


def test_when_the_time_is_up_it_waits_and_the_next_ring_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    shop(12, days=40)
    night.run(clock.last_complete_day())
    asked = backtest.request(rule_set=quick(), months=3, actor=None)
    monkeypatch.setattr(backtest, "PART", 5)
    rings = 0
    while asked.state != "done":
        [worked] = backtest.work(hand_down=reactions.hand_down, happened=reactions.HANDED_FROM, seconds=0.01)[:1]
        asked.refresh_from_db()
        rings += 1
        assert worked.pk == asked.pk
        assert (asked.state, asked.customers) in [("waiting", 5), ("waiting", 10), ("done", 12)]
    assert rings >= 2
    assert (asked.error, asked.result["months"][-1]["old"]) == (
        "", {key: n for key, n in queries.standing().items() if key != "new"},
    )  # fmt: skip
    assert backtest.work(hand_down=reactions.hand_down, happened=reactions.HANDED_FROM) == []


@pytest.mark.django_db(transaction=True)
def test_the_shop_writes_while_a_replay_works() -> None:
    shop(5, days=40)
    night.run(clock.last_complete_day())
    asked = backtest.request(rule_set=quick(), months=3, actor=None)
    stood = picture()
    done: list[int] = []

    def writes() -> None:
        # Another connection: the rows that are being replayed, and the replay's own.
        done.append(CustomerFacts.objects.update(clicked_at=clock.now()))
        done.append(Backtest.objects.filter(pk=asked.pk, state="running").update(error="still here"))
        connection.close()

    def hand_down(*, as_of: Any) -> None:
        if not done:
            other = threading.Thread(target=writes)
            other.start()
            other.join(timeout=3)
            assert done == [5, 1], "the replay holds a lock that the shop waits for"
        reactions.hand_down(as_of=as_of)

    finished = backtest.work_due(hand_down=hand_down, happened=reactions.HANDED_FROM)
    assert finished is not None
    assert (finished.state, finished.customers) == ("done", 5)
    CustomerFacts.objects.update(clicked_at=None)
    assert picture() == stood


def test_a_person_stops_a_replay_and_what_it_did_is_thrown_away(client) -> None:
    shop(4, days=20)
    night.run(clock.last_complete_day())
    asked = backtest.request(rule_set=quick(), months=3, actor=None)
    url = reverse("stages:backtest-stop", args=[asked.pk])
    client.force_login(UserFactory(role="viewer"))
    assert client.post(url).status_code == 403
    client.force_login(UserFactory(role="marketer", name="Anna"))

    waiting = client.post(url)
    assert waiting.status_code == 302
    asked.refresh_from_db()
    assert asked.state == "failed"
    assert asked.error == "Anna stopped it."
    assert backtest.work_due(hand_down=reactions.hand_down, happened=reactions.HANDED_FROM) is None
    assert "Anna stopped it." in client.get(reverse("stages:backtest", args=[asked.pk])).content.decode()
    with pytest.raises(Conflict, match="over already"):
        backtest.stop(test=asked, actor=None)


def test_revenue_after_moves_carries_its_interval() -> None:
    few = backtest.after_moves({0: 20, 500: 9})
    assert (few.n, few.mean, few.median) == (29, None, None)
    told = backtest.after_moves({0: 60, 1000: 40})
    assert (told.n, told.mean, told.median) == (100, 400.0, 0)
    assert told.mean_low == pytest.approx(400 - 1.96 * 492.366 / 10, rel=1e-4)
    assert (told.median_low, told.median_high) == (0, 1000)
    even = backtest.after_moves(dict.fromkeys(range(1, 101), 1))
    assert (even.median, even.median_low, even.median_high) == (50, 40, 61)


def test_a_replay_that_cannot_go_on_says_why_and_one_that_died_begins_again() -> None:
    shop(3, days=20)
    night.run(clock.last_complete_day())
    made = quick()
    with pytest.raises(InvalidInput, match="7 is none of them"):
        backtest.request(rule_set=made, months=7, actor=None)
    asked = backtest.request(rule_set=made, months=3, actor=None)

    def trips(*, as_of: object) -> None:
        raise ValueError("the facts cannot be read")

    failed = backtest.work_due(hand_down=trips, happened=[])
    assert failed is not None
    assert (failed.state, failed.error) == ("failed", "ValueError: the facts cannot be read")
    Backtest.objects.filter(pk=asked.pk).update(state="running", lease_until=clock.now() - timedelta(seconds=1))
    again = backtest.work_due(hand_down=reactions.hand_down, happened=reactions.HANDED_FROM)
    assert again is not None
    assert (again.state, again.attempts) == ("done", 1)
    Backtest.objects.filter(pk=asked.pk).update(state="running", lease_until=clock.now(), attempts=3)
    with time_machine.travel(clock.now() + timedelta(minutes=1), tick=False):
        assert backtest.work_due(hand_down=reactions.hand_down, happened=reactions.HANDED_FROM) is None
    assert Backtest.objects.get().state == "failed"

"""Who enters a journey, where they go, and that every step happens once."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta

import pytest
from django.db import IntegrityError, transaction

from campaigns import audit, outbox
from campaigns.journeys import engine, entering, goals, plans, publishing
from campaigns.models import Journey, JourneyRun, JourneyStep, Message
from customers.models import CustomerFacts, DirtyCustomer, Segment, SegmentChange, SegmentDay
from lifecycle_crm.lib import clock
from loyalty import ledger
from loyalty.models import Entry, Programme, TierChange
from stages.models import StageTransition
from tests.campaigns.factories import NOON, buys, happens, live_journey, people, person, trail, went_dormant
from tests.campaigns.factories import night as a_night

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


def stands(customer) -> tuple[str, str]:
    return JourneyRun.objects.values_list("state", "step").get(customer=customer)


def test_it_sends_waits_and_sends_again(text, noon):
    anna = person()
    live_journey([
        {"id": "s1", "do": "message", "template": text},
        {"id": "s2", "do": "wait", "days": 3},
        {"id": "s3", "do": "message", "template": text},
    ])  # fmt: skip
    assert entering.for_events([happens(anna).pk]) == 1
    assert engine.advance_due() == {"messages": 1, "running": 1}
    assert outbox.send_due() == {"sent": 1}
    assert stands(anna) == ("running", "s2")
    assert engine.advance_due() == {}
    noon.shift(timedelta(days=3) - timedelta(seconds=1))
    assert engine.advance_due() == {}
    noon.shift(timedelta(seconds=1))
    assert engine.advance_due() == {"messages": 1, "done": 1}
    assert outbox.send_due() == {"sent": 1}
    assert trail(anna) == ["s1:message", "s2:waited", "s3:message", ":left"]
    assert audit.problems() == []


def test_it_sends_the_message_before_a_step_that_ends_the_journey(text):
    anna = person()
    live_journey([{"id": "s1", "do": "message", "template": text}, {"id": "s2", "do": "exit"}])
    entering.for_events([happens(anna).pk])
    assert engine.advance_due() == {"messages": 1, "exited": 1}
    assert outbox.send_due() == {"sent": 1}
    assert audit.problems() == []


def test_it_lets_in_once_per_cause_and_never_again_unless_it_says_so(text, noon):
    anna = person()
    live_journey([{"id": "s1", "do": "message", "template": text}])
    first = happens(anna)
    assert [entering.for_events([first.pk]), entering.for_events([first.pk])] == [1, 0]
    engine.advance_due()
    assert entering.for_events([happens(anna).pk]) == 0
    assert JourneyRun.objects.count() == Message.objects.count() == 1


def test_it_lets_in_again_after_the_days_and_sends_again(text, noon):
    anna = person()
    live_journey([{"id": "s1", "do": "message", "template": text}], again="after", again_days=10)
    entering.for_events([happens(anna).pk])
    engine.advance_due()
    outbox.send_due()
    noon.shift(timedelta(days=9))
    assert entering.for_events([happens(anna).pk]) == 0
    noon.shift(timedelta(days=2))
    assert entering.for_events([happens(anna).pk, happens(anna).pk]) == 1
    engine.advance_due()
    assert outbox.send_due() == {"sent": 1}
    assert list(JourneyRun.objects.order_by("id").values_list("number", flat=True)) == [1, 2]
    assert audit.problems() == []


def test_it_runs_once_per_order_side_by_side(text):
    anna = person()
    live_journey(
        [{"id": "s1", "do": "wait", "days": 2}, {"id": "s2", "do": "message", "template": text}],
        {"on": "order"}, again="always",
    )  # fmt: skip
    orders = [buys(anna).pk, buys(anna).pk]
    assert [entering.for_orders(orders), entering.for_orders(orders)] == [2, 0]
    assert sorted(JourneyRun.objects.values_list("key", "number")) == [
        (f"order:{orders[0]}", 1),
        (f"order:{orders[1]}", 2),
    ]


def test_it_takes_only_the_first_order_for_a_first_order(text):
    anna, bo = person(), person()
    live_journey([{"id": "s1", "do": "message", "template": text}], {"on": "first_order"})
    old = buys(anna, clock.now() - timedelta(days=40))
    new, first = buys(anna), buys(bo)
    assert entering.for_orders([old.pk, new.pk, first.pk]) == 1
    assert JourneyRun.objects.get().customer_id == bo.pk


def test_the_database_lets_nobody_be_inside_twice(text):
    anna = person()
    made = live_journey([{"id": "s1", "do": "wait", "days": 2}], again="always")
    entering.for_events([happens(anna).pk])
    run = JourneyRun.objects.get()
    run.pk, run.key, run.number = None, "event:999", 2
    with pytest.raises(IntegrityError), transaction.atomic():
        run.save()
    assert entering.for_events([happens(anna).pk]) == 0
    assert JourneyRun.objects.filter(journey=made).count() == 1


def test_it_leaves_history_quiet_and_drops_what_is_too_old(text):
    anna, bo, cleo = person(), person(), person()
    made = live_journey([{"id": "s1", "do": "message", "template": text}])
    Journey.objects.update(live_since=clock.now() - timedelta(days=30))
    told = [
        happens(anna, is_history=True),
        happens(bo, at=clock.now() - timedelta(hours=49)),
        happens(cleo, at=clock.now() - timedelta(days=31)),
    ]
    assert entering.for_events([one.pk for one in told]) == 0
    made.refresh_from_db()
    assert (JourneyRun.objects.count(), made.stale) == (0, 1)


def test_it_starts_at_a_move_and_not_at_a_quiet_one(text):
    anna, bo = person(), person()
    live_journey([{"id": "s1", "do": "message", "template": text}], {"on": "stage_entered", "stage": "dormant"})
    night = a_night(NOON - timedelta(hours=12))
    went_dormant(anna, night)
    went_dormant(bo, night, is_quiet=True)
    seen = {"night_id": night.pk, "business_date": night.business_date, "as_of": night.as_of, "low": 0, "high": 2**62}
    assert entering.for_night(**seen) == {"journeys_entered": 1}
    assert entering.for_night(**seen) == {}
    assert entering.for_moves("t.night_id = %s", [night.pk]) == 0
    assert JourneyRun.objects.get().customer_id == anna.pk


def test_it_starts_at_who_left_a_stage_and_at_a_move_by_hand_of_yesterday(text, django_user_model):
    anna = person()
    live_journey([{"id": "s1", "do": "message", "template": text}], {"on": "stage_left", "stage": "retain"})
    night = a_night(NOON - timedelta(hours=12))
    StageTransition.objects.create(
        customer=anna, from_stage="retain", to_stage="advocate", kind="person", occurred_at=NOON - timedelta(hours=20),
        business_date=night.business_date, user=django_user_model.objects.create(email="eva@example.com"),
    )  # fmt: skip
    seen = {"night_id": night.pk, "business_date": night.business_date, "as_of": night.as_of, "low": 0, "high": 2**62}
    assert entering.for_night(**seen) == {"journeys_entered": 1}


def test_it_starts_at_who_entered_a_segment_but_not_at_its_first_count(text):
    anna, bo = person(), person()
    segment = Segment.objects.create(key="big", name="Big", condition={"all": []})
    new = Segment.objects.create(key="new-one", name="New", condition={"all": []})
    night = a_night(NOON - timedelta(hours=12))
    day = night.business_date
    for of, who in ((segment, anna), (new, bo)):
        SegmentChange.objects.create(segment=of, customer=who, kind="entered", business_date=day)
        SegmentDay.objects.create(
            segment=of, business_date=day, version=1, members=1, entered=1, left=0, is_first=of == new
        )
        live_journey([{"id": "s1", "do": "message", "template": text}], {"on": "segment_entered", "segment": of.key})
    seen = {"night_id": night.pk, "business_date": day, "as_of": night.as_of, "low": 0, "high": 2**62}
    assert entering.for_night(**seen) == {"journeys_entered": 1}
    assert JourneyRun.objects.get().customer_id == anna.pk


def test_it_drops_a_night_that_comes_too_late_and_counts_it(text):
    anna = person()
    made = live_journey([{"id": "s1", "do": "message", "template": text}], {"on": "stage_entered", "stage": "dormant"})
    night = a_night(NOON - timedelta(hours=49), days_before=1)
    went_dormant(anna, night)
    seen = {"night_id": night.pk, "business_date": night.business_date, "as_of": night.as_of, "low": 0, "high": 2**62}
    assert entering.for_night(**seen) == {"journeys_stale": 1}
    made.refresh_from_db()
    assert (made.stale, JourneyRun.objects.count()) == (1, 0)


def test_it_stops_before_a_night_that_would_let_in_far_too_many(text):
    everybody = [person() for _ in range(51)]
    made = live_journey([{"id": "s1", "do": "message", "template": text}], {"on": "stage_entered", "stage": "dormant"})
    night = a_night(NOON - timedelta(hours=12))
    for one in everybody:
        went_dormant(one, night)
    seen = {"night_id": night.pk, "business_date": night.business_date, "as_of": night.as_of, "low": 0, "high": 2**62}
    assert entering.for_night(**seen) == {"journeys_stopped": 1}
    made.refresh_from_db()
    assert (made.state, made.guard, JourneyRun.objects.count()) == ("paused", {"people": 51, "customers": 51}, 0)


def test_it_holds_out_the_same_people_as_the_bucket_says(text):
    everybody = [person() for _ in range(40)]
    made = live_journey([{"id": "s1", "do": "message", "template": text}], holdout_percent=50)
    assert entering.for_events([happens(one).pk for one in everybody]) == 40
    out = set(JourneyRun.objects.filter(state="held_out").values_list("customer_id", flat=True))
    assert out == {one.pk for one in everybody if entering.holdout(made, one.pk)}
    assert 5 < len(out) < 35
    engine.advance_due()
    assert set(Message.objects.values_list("customer_id", flat=True)) == {one.pk for one in everybody} - out
    assert audit.problems() == []


def test_it_branches_by_condition_and_the_ways_meet_again(text):
    anna, bo = person(facts={"points": 500}), person()
    live_journey([
        {"id": "s1", "do": "split", "branches": [
            {"when": {"fact": "points", "op": "gte", "value": 100}, "steps": [{"id": "s2", "do": "message", "template": text}]},
        ], "else": []},
        {"id": "s3", "do": "wait", "days": 1},
    ])  # fmt: skip
    entering.for_events([happens(anna).pk, happens(bo).pk])
    engine.advance_due()
    assert trail(anna) == ["s1:branch", "s2:message"]
    assert trail(bo) == ["s1:branch"]
    assert list(JourneyRun.objects.values_list("step", flat=True)) == ["s3", "s3"]
    assert [row.data for row in JourneyStep.objects.filter(outcome="branch").order_by("id")] == [
        {"branch": 0},
        {"branch": -1},
    ]


def test_it_waits_for_an_order_and_is_woken_by_it(text, noon):
    anna, bo = person(), person()
    live_journey([
        {"id": "s1", "do": "until", "order": True, "at_most": {"days": 7}},
        {"id": "s2", "do": "message", "template": text},
    ])  # fmt: skip
    entering.for_events([happens(anna).pk, happens(bo).pk])
    assert engine.advance_due() == {"running": 2}
    noon.shift(timedelta(days=1))
    assert engine.advance_due() == {}
    buys(anna)
    assert engine.wake([anna.pk]) == 1
    assert engine.advance_due() == {"messages": 1, "done": 1}
    assert trail(anna) == ["s1:happened", "s2:message", ":left"]
    noon.shift(timedelta(days=6))
    engine.advance_due()
    assert trail(bo) == ["s1:timed_out", "s2:message", ":left"]


def test_it_decides_on_no_facts_that_are_behind(text, noon):
    anna = person()
    live_journey([{"id": "s1", "do": "message", "template": text}])
    entering.for_events([happens(anna).pk])
    row = DirtyCustomer.objects.create(customer_id=anna.pk, occurred_at=clock.now() - timedelta(minutes=1))
    assert engine.advance_due() == {"behind": 1}
    row.delete()
    noon.shift(timedelta(seconds=10))
    assert engine.advance_due() == {"messages": 1, "done": 1}


def test_it_leaves_early_by_rule_and_calls_off_what_waits(text, noon):
    anna = person()
    rule = {"fact": "open_cases", "op": "gte", "value": 1}
    live_journey([
        {"id": "s1", "do": "message", "template": text},
        {"id": "s2", "do": "wait", "days": 1},
        {"id": "s3", "do": "message", "template": text},
    ], exits=[rule])  # fmt: skip
    entering.for_events([happens(anna).pk])
    engine.advance_due()
    CustomerFacts.objects.filter(pk=anna.pk).update(open_cases=1)
    noon.shift(timedelta(days=1))
    assert engine.advance_due() == {"exited": 1}
    assert list(Message.objects.values_list("state", "reason")) == [("cancelled", "cancelled")]
    assert trail(anna) == ["s1:message", "s2:left"]
    assert JourneyRun.objects.get().reason == "exit_rule"
    assert audit.problems() == []


def test_it_notes_the_goal_of_those_inside_and_held_out_and_lets_go(text, noon):
    people = [person() for _ in range(12)]
    live_journey(
        [{"id": "s1", "do": "message", "template": text}, {"id": "s2", "do": "wait", "days": 9}],
        goal={"order": True}, goal_days=30, holdout_percent=50,
    )  # fmt: skip
    entering.for_events([happens(one).pk for one in people])
    engine.advance_due()
    noon.shift(timedelta(days=2))
    for one in people:
        buys(one)
    assert goals.note([one.pk for one in people]) == 12
    assert goals.note([one.pk for one in people]) == goals.note_range(0, 2**62) == 0
    engine.advance_due()
    states = Counter(JourneyRun.objects.values_list("state", flat=True))
    assert set(states) == {"goal", "held_out"}
    assert sum(states.values()) == JourneyRun.objects.exclude(goal_at=None).count() == 12


def test_a_goal_after_its_days_is_none(text, noon):
    anna = person()
    live_journey([{"id": "s1", "do": "wait", "days": 20}], goal={"event": "review"}, goal_days=5)
    entering.for_events([happens(anna).pk])
    happens(anna, "review", at=clock.now() + timedelta(days=5, seconds=5))
    noon.shift(timedelta(days=6))
    assert goals.note([anna.pk]) == 0


def test_it_sets_aside_who_breaks_a_step_and_moves_the_others(text, noon, monkeypatch):
    anna, bo = person(), person()
    live_journey([{"id": "s1", "do": "message", "template": text}])
    entering.for_events([happens(anna).pk, happens(bo).pk])
    real = engine.advance

    def breaks(plan, at, known, as_of, **more):
        if known.get("points") == 13:
            raise ZeroDivisionError("points")
        return real(plan, at, known, as_of, **more)

    CustomerFacts.objects.filter(pk=anna.pk).update(points=13)
    monkeypatch.setattr(engine, "advance", breaks)
    monkeypatch.setattr(plans.InForce, "asks", lambda one: [_points()])
    assert engine.advance_due() == {"failed": 1, "messages": 1, "done": 1}
    for hours in (2, 3):
        noon.shift(timedelta(hours=hours))
        engine.advance_due()
    row = JourneyRun.objects.get(customer=anna)
    assert (row.state, row.reason, row.error) == ("failed", "stuck", "ZeroDivisionError: points")


def _points():
    from customers import conditions

    return conditions.parse({"fact": "points", "op": "gte", "value": 0})


def test_it_pauses_with_its_messages_and_goes_on(text, noon):
    anna, bo = person(), person()
    made = live_journey([{"id": "s1", "do": "message", "template": text}, {"id": "s2", "do": "wait", "days": 1}])
    entering.for_events([happens(anna).pk])
    engine.advance_due()
    publishing.pause(journey=made)
    assert outbox.send_due() == {}
    assert entering.for_events([happens(bo).pk]) == 0
    noon.shift(timedelta(days=2))
    assert engine.advance_due() == {}
    publishing.resume(journey=made)
    assert engine.advance_due() == {"done": 1}
    assert outbox.send_due() == {"sent": 1}
    assert entering.for_events([happens(bo, at=NOON).pk]) == 0


def test_it_ends_and_takes_everybody_out(text):
    anna = person()
    made = live_journey([{"id": "s1", "do": "message", "template": text}, {"id": "s2", "do": "wait", "days": 1}])
    entering.for_events([happens(anna).pk])
    engine.advance_due()
    assert publishing.end(journey=made) == 1
    assert stands(anna) == ("cancelled", "s2")
    assert Message.objects.get().state == "cancelled"
    assert entering.for_events([happens(person()).pk]) == 0
    assert audit.problems() == []


def test_it_undoes_a_night_for_those_who_got_nothing_yet(text):
    anna, bo = person(), person()
    made = live_journey(
        [{"id": "s1", "do": "message", "template": text}, {"id": "s2", "do": "wait", "days": 1}],
        {"on": "stage_entered", "stage": "dormant"},
    )
    night = a_night(NOON - timedelta(hours=12))
    went_dormant(anna, night)
    seen = {"night_id": night.pk, "business_date": night.business_date, "as_of": night.as_of, "low": 0, "high": 2**62}
    entering.for_night(**seen)
    engine.advance_due()
    outbox.send_due()
    went_dormant(bo, night)
    entering.for_night(**seen)
    engine.advance_due()
    assert publishing.undo_night(business_date=night.business_date) == {"taken_out": 1, "gone_on": 1}
    assert dict(JourneyRun.objects.values_list("customer", "state")) == {anna.pk: "running", bo.pk: "cancelled"}
    assert dict(Message.objects.values_list("customer", "state")) == {anna.pk: "sent", bo.pk: "cancelled"}
    # Who was let in by mistake may come in when it is none.
    StageTransition.objects.filter(customer=bo).count()
    Journey.objects.filter(pk=made.pk).update(state="live")
    later = a_night(NOON + timedelta(hours=12), days_before=0)
    went_dormant(bo, later)
    assert entering.for_moves("t.night_id = %s", [later.pk]) == 1


def test_it_starts_at_a_tier_that_was_reached_and_not_at_one_that_was_lost(text):
    anna, bo = person(), person()
    programme = Programme.objects.create(name="Points", is_active=True)
    rows = [
        TierChange.objects.create(
            programme=programme,
            customer=who,
            kind=kind,
            from_tier=was,
            to_tier="gold",
            counted=9,
            effective_at=clock.now(),
        )
        for who, kind, was in ((anna, "up", "silver"), (bo, "down", "black"))
    ]
    live_journey([{"id": "s1", "do": "message", "template": text}], {"on": "tier", "tier": "gold"})
    assert entering.for_tiers([one.pk for one in rows]) == 1
    assert JourneyRun.objects.get().customer_id == anna.pk


def test_it_starts_some_days_before_points_expire_once_and_gives_points_once(text, noon):
    anna, bo = person(), person()
    night = a_night(NOON - timedelta(hours=12))
    programme = Programme.objects.create(name="Points", is_active=True)
    for who, days in ((anna, 7), (bo, 9)):
        ledger.earn(
            customer=who, points=50, key=f"gift:{who.pk}", programme=programme,
            expires_at=clock.day_end(night.business_date + timedelta(days=days + 1)),
        )  # fmt: skip
    live_journey(
        [{"id": "s1", "do": "points", "points": 20, "reason": "Use them"}], {"on": "points_expiring", "days": 7}
    )
    seen = {"night_id": night.pk, "business_date": night.business_date, "as_of": night.as_of, "low": 0, "high": 2**62}
    assert entering.for_night(**seen) == {"journeys_entered": 1}
    assert entering.for_night(**seen) == {}
    DirtyCustomer.objects.all().delete()
    assert engine.advance_due() == {"points": 1, "done": 1}
    run = JourneyRun.objects.get()
    assert (run.customer_id, trail(anna)) == (anna.pk, ["s1:points", ":left"])
    assert list(Entry.objects.filter(source_type="journey").values_list("points", "key")) == [
        (20, f"journey:{run.pk}:s1")
    ]


# --- Birthdays ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "days, night_of, born, enters",
    [
        (0, date(2026, 11, 19), date(1980, 11, 20), True),
        (0, date(2026, 11, 19), date(1980, 11, 19), False),
        (7, date(2026, 11, 19), date(1980, 11, 27), True),
        (0, date(2026, 2, 27), date(1980, 2, 29), True),
        (0, date(2028, 2, 27), date(1980, 2, 29), False),
        (0, date(2028, 2, 28), date(1980, 2, 29), True),
        (0, date(2026, 12, 31), date(1980, 1, 1), True),
    ],
)
def test_it_starts_on_a_birthday_or_some_days_before(text, noon, days, night_of, born, enters):
    as_of = datetime.combine(night_of + timedelta(days=1), time(1), tzinfo=UTC)
    noon.move_to(as_of)
    anna = person(birth_date=born)
    person()
    live_journey([{"id": "s1", "do": "message", "template": text}], {"on": "birthday", "days": days}, again="after")
    night = {"night_id": 1, "business_date": night_of, "as_of": as_of, "low": 0, "high": 2**62}
    assert entering.for_night(**night) == ({"journeys_entered": 1} if enters else {})
    assert entering.for_night(**night) == {}
    assert list(JourneyRun.objects.values_list("customer_id", flat=True)) == ([anna.pk] if enters else [])


def test_it_says_so_when_more_people_than_can_be_have_their_birthday_on_one_day(noon):
    people(60, birth_date=date(1970, 1, 1))
    noon.move_to(datetime(2027, 1, 1, 1, tzinfo=UTC))
    made = live_journey([{"id": "s1", "do": "wait", "days": 1}], {"on": "birthday", "days": 0})
    night = {"night_id": 1, "business_date": date(2026, 12, 31), "as_of": clock.now(), "low": 0, "high": 2**62}
    assert entering.for_night(**night) == {"journeys_stopped": 1}
    made.refresh_from_db()
    assert (made.state, made.guard, JourneyRun.objects.count()) == ("paused", {"people": 60, "customers": 60}, 0)

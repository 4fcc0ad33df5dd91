"""What the page of the stage flow reads equals a plain recount of the moves: after replayed nights, a late order, a night
and its undoing, for any past dates."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from itertools import pairwise

import pytest
import time_machine
from django.core.cache import cache
from django.db import connection
from django.db.models import Min
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from customers import facts
from customers.models import Customer, CustomerFacts, Order
from customers.trails import FORWARD
from lifecycle_crm import night, reactions, undo
from lifecycle_crm.dashboard import flow_queries, flow_rollups, rollups
from lifecycle_crm.dashboard.models import ArrivalDay, FlowDay, FlowPeriod, StayDay
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.models import Note
from stages import durations, flows, rulesets, ways
from stages.models import StageKey, StageTransition
from stages.queries import NEW
from tests.dashboard.factories import move, noon, order, person
from tests.factories import UserFactory
from tests.roof.test_night import shop

pytestmark = pytest.mark.django_db

TODAY = date(2026, 3, 11)
LAST = TODAY - timedelta(days=1)
QUICK = [
    {
        "key": "goes_quiet", "name": "Goes quiet", "to": "dormant",
        "when": {"fact": "last_order_at", "op": "days_since_gte", "value": 6},
    },
    {"key": "often", "name": "Often", "to": "advocate", "when": {"fact": "orders", "op": "gte", "value": 4}},
    {"key": "again", "name": "Again", "to": "retain", "when": {"fact": "orders", "op": "gte", "value": 2}},
    {"key": "once", "name": "Once", "to": "nurture", "when": {"fact": "orders", "op": "gte", "value": 1}},
    {"key": "is_known", "name": "Is known", "to": "reach", "when": {"all": []}},
]  # fmt: skip


@pytest.fixture(autouse=True)
def hand():
    cache.clear()
    with time_machine.travel(noon(TODAY), tick=False) as hand:
        yield hand


Moves = dict[int, list[tuple[date, str, str, str]]]


def raw() -> Moves:
    """Moves that count, by customer: ``(business date, from, to, why)``."""
    undone = set(StageTransition.objects.filter(kind="undo").values_list("undoes", flat=True))
    found: Moves = {}
    for row in StageTransition.objects.exclude(kind="undo").order_by("id"):
        if row.pk not in undone:
            why = "by_hand" if row.kind == "person" else row.rule
            found.setdefault(row.customer_id, []).append((row.business_date, row.from_stage or NEW, row.to_stage, why))
    return found


def stood(moves: list[tuple[date, str, str, str]], day: date) -> str:
    return next((one[2] for one in reversed(moves) if one[0] <= day), NEW)


def figures(story: flow_queries.Story) -> dict[str, object]:
    """What the page shows, without zeros."""
    return {
        "stood": {day: {stage: n for stage, n in stood.items() if n} for day, stood in story.stood.items()},
        "cells": {cell: n for cell, n in story.cells().items() if n},
        "steps": [{cell: n for cell, n in step.items() if n} for step in story.step_cells()],
        "moves": [way.moves for way in (story.whole, *story.steps)],
        "passed": story.passed(),
        "leaks": ways.leaks(story.whole),
        "came": {stage: n for stage, n in story.came.items() if n},
        "stays": story.stays,
        "speed": story.speed,
    }


def assert_told(days: list[date]) -> flow_queries.Story:
    """Every figure of the story of these dates, recounted with loops over rows; and a segment of everybody tells the same."""
    found, moves = flow_queries.story(days), raw()
    assert figures(flow_queries.story(days, ("SELECT id FROM customers_customer", []))) == figures(found)
    first, last = days[0], days[-1]
    inside = {pk: [one for one in mine if first < one[0] <= last] for pk, mine in moves.items()}
    for day in days:
        expected = Counter(stood(mine, day) for mine in moves.values())
        assert {stage: n for stage, n in found.stood[day].items() if n} == {
            s: n for s, n in expected.items() if s != NEW
        }
    for (since, until), cells in zip(pairwise(days), found.step_cells(), strict=True):
        pairs = Counter((stood(mine, since), stood(mine, until)) for mine in moves.values())
        assert cells == {cell: n for cell, n in pairs.items() if cell[1] != NEW}
    assert found.whole.moves == sum(map(len, inside.values()))
    for row in found.passed():
        later = FORWARD[FORWARD.index(row.stage) + 1 :] if row.stage in FORWARD else []
        been = on = gone = 0
        for pk, mine in inside.items():
            places = [stood(moves[pk], first), *(one[2] for one in mine)]
            been += row.stage in places
            on += row.stage in places and any(p in later for p in places[places.index(row.stage) + 1 :])
            gone += any(one[1:3] == (row.stage, "dormant") for one in mine)
        assert (row.been, row.on or 0, row.gone) == (been, on, gone)
    reasons = Counter(
        pair for mine in inside.values() for pair in {(one[1], one[3]) for one in mine if one[2] == "dormant"}
    )
    assert {(leak.source, leak.rule): leak.people for leak in ways.leaks(found.whole)} == reasons
    began = last - timedelta(days=durations.STAY_DAYS)
    for stage in StageKey.values:
        observed = []
        for mine in moves.values():
            known = [one for one in mine if one[0] <= last]
            for place, one in enumerate(known):
                if one[2] == stage and one[0] > began:
                    end = known[place + 1][0] if place + 1 < len(known) else None
                    observed.append((((end or last) - one[0]).days, end is not None, 1))
        told = found.stays[stage]
        assert (told.stays, told.ended) == (len(observed), sum(over for _d, over, _n in observed))
        assert told.days == durations.left_after(observed)
    for told in found.speed:
        took = []
        for pk, mine in moves.items():
            came = next((one[0] for one in mine if one[2] == told.stage), None)
            bought = Order.objects.filter(customer=pk, is_counted=True).aggregate(first=Min("placed_at"))["first"]
            if came and bought and first < came <= last:
                took.append(max(0, int((clock.day_end(came) - bought).total_seconds() // 86_400)))
        assert told.people == len(took)
        assert told.days == (sorted(took)[(len(took) - 1) // 2] if took else None)
    return found


PERIODS = [
    [LAST - timedelta(days=30), LAST],
    [LAST - timedelta(days=25), LAST - timedelta(days=18), LAST - timedelta(days=9), LAST],
    [LAST - timedelta(days=20), LAST - timedelta(days=7)],
    [LAST - timedelta(days=365), LAST],
    [LAST - timedelta(days=900), LAST - timedelta(days=700)],
]


def test_it_tells_what_a_recount_tells_after_a_replay_a_late_order_and_an_undone_night(hand, client):
    shop(40, days=32)
    rulesets.publish(rule_set=rulesets.draft(based_on=None, rules=QUICK, actor=None, name="Quick"), actor=None)
    night.replay(TODAY - timedelta(days=31), LAST)
    for days in PERIODS:
        assert_told(days)
    assert rollups.problems() == []
    prepared = FlowPeriod.objects.filter(until=LAST).count()
    assert prepared == len(flow_rollups.PERIODS)

    # An order from before the first one turns up: who had come into a stage then took longer to come there.
    arrived = StageTransition.objects.filter(to_stage="dormant").order_by("id").first().customer
    before = list(ArrivalDay.objects.values_list("business_date", "stage", "days", "people"))
    late = order(arrived, TODAY - timedelta(days=45))
    facts.mark([arrived.pk], occurred_at=late.placed_at, is_history=True)
    reactions.drain(as_of=clock.whole_now())
    reactions.settle()
    hand.move_to(noon(TODAY + timedelta(days=1)))
    done = night.run(TODAY)
    assert done.counts["moved"] > 0
    after = list(
        ArrivalDay.objects.filter(business_date__lte=LAST).values_list("business_date", "stage", "days", "people")
    )
    assert after != before
    for days in [*PERIODS, [TODAY - timedelta(days=30), TODAY]]:
        assert_told(days)
    assert rollups.problems() == []

    told = assert_told([LAST, TODAY])
    assert told.whole.moves == done.counts["moved"]
    marketer = UserFactory(role="marketer")
    client.force_login(marketer)
    page = reverse("stages:night", args=[TODAY])
    assert "moved_since=" in client.get(page).content.decode()
    undo.undo(day=TODAY, actor=marketer)
    assert "moved_since=" not in client.get(page).content.decode()  # nobody would be on such a list
    assert assert_told([LAST, TODAY]).whole.moves == 0
    assert not FlowDay.objects.filter(business_date=TODAY).exists()
    for days in [*PERIODS, [TODAY - timedelta(days=30), TODAY]]:
        assert_told(days)
    assert rollups.problems() == []

    hand.move_to(noon(TODAY + timedelta(days=2)))
    night.run(TODAY + timedelta(days=1))
    assert_told([TODAY - timedelta(days=30), TODAY + timedelta(days=1)])
    assert rollups.problems() == []


def test_it_moves_prepared_periods_on_instead_of_counting_them_anew():
    for n in range(12):
        someone = person()
        move(someone, "", "nurture", LAST - timedelta(days=40 - n))
        move(someone, "nurture", "retain", LAST - timedelta(days=n % 3))
    rollups.roll(LAST - timedelta(days=1))
    flow_rollups.prepare(LAST - timedelta(days=1))
    rollups.roll(LAST)
    for row in FlowPeriod.objects.filter(until=LAST):
        assert row.ways == flows.ways(row.since, row.until).people
    assert FlowPeriod.objects.filter(until=LAST).count() == 4
    assert FlowPeriod.objects.filter(until=LAST - timedelta(days=1)).count() == 4
    months = [(row.since, row.until) for row in FlowPeriod.objects.exclude(until__gte=LAST - timedelta(days=1))]
    assert months[:2] == [(date(2026, 1, 31), date(2026, 2, 28)), (date(2025, 12, 31), date(2026, 1, 31))]
    assert len(months) == flow_rollups.MONTHS


def test_it_answers_from_a_near_period_and_lets_old_ones_go():
    for n in range(30):
        someone = person()
        move(someone, "", "nurture", LAST - timedelta(days=4 * n))
        move(someone, "nurture", "dormant", LAST - timedelta(days=n))
    rollups.roll(LAST)
    for shift in (0, 3, 12):  # the last one is nearer to nothing than to a prepared one
        since, until = LAST - timedelta(days=30 + shift), LAST - timedelta(days=shift)
        assert flow_rollups.ways(since, until) == flows.ways(since, until)
    FlowPeriod.objects.create(since=date(2025, 11, 1), until=date(2025, 12, 5))
    FlowPeriod.objects.create(since=date(2025, 10, 1), until=date(2025, 11, 30))
    flow_rollups.prepare(LAST)
    assert not FlowPeriod.objects.filter(until=date(2025, 12, 5)).exists()
    assert FlowPeriod.objects.filter(until=date(2025, 11, 30), since=date(2025, 10, 1)).exists()


def test_it_writes_all_dates_anew_when_the_rows_mean_something_else(client):
    someone = person()
    move(someone, "", "nurture", LAST - timedelta(days=9))
    move(someone, "nurture", "retain", LAST - timedelta(days=4))
    rollups.roll(LAST - timedelta(days=1))
    StayDay.objects.all().delete()
    Note.objects.filter(name=flow_rollups.NOTE).update(value={"version": 1})
    assert rollups.problems() == [
        "The rollups of the stage flow are of an older version. Run a night: it writes them anew."
    ]
    client.force_login(UserFactory(role="marketer"))
    assert "Run a night first" in client.get(reverse("dashboard:flow")).content.decode()
    rollups.roll(LAST)
    assert StayDay.objects.count() == 1
    assert rollups.problems() == []
    assert_told([LAST - timedelta(days=7), LAST])


def test_it_finds_what_is_kept_wrong():
    someone = person()
    move(someone, "", "nurture", LAST - timedelta(days=9))
    move(someone, "nurture", "dormant", LAST - timedelta(days=4))
    order(someone, LAST - timedelta(days=20))
    CustomerFacts.objects.filter(pk=someone.pk).update(
        orders=1, first_order_at=clock.day_end(LAST - timedelta(days=20))
    )
    rollups.roll(LAST)
    assert rollups.problems() == []
    StayDay.objects.update(stays=3)
    ArrivalDay.objects.update(people=5)
    row = FlowPeriod.objects.get(since=LAST - timedelta(days=30), until=LAST)
    FlowPeriod.objects.filter(pk=row.pk).update(ways={"03": 1})
    found = rollups.problems()
    assert len(found) == 3
    assert "3 stays in nurture since 2026-03-01 ended, but the history has 1." in found[0]
    assert "5 people came into dormant 16 days after their first order, but the history has 1." in found[1]
    assert "the ways people went are not those of the history" in found[2]


def test_it_asks_the_same_number_of_questions_for_any_number_of_people_and_none_of_the_moves(client):
    client.force_login(UserFactory(role="marketer"))
    for n in range(8):
        move(person(), "", "nurture", LAST - timedelta(days=3 * n))
    rollups.roll(LAST)
    address = reverse("dashboard:flow")
    client.get(address)
    with CaptureQueriesContext(connection) as few:
        client.get(address)
    for n in range(60):
        someone = person()
        move(someone, "", "nurture", LAST - timedelta(days=40))
        move(someone, "nurture", "retain" if n % 2 else "reach", LAST - timedelta(days=n % 9))
    Note.objects.filter(name=flow_rollups.NOTE).update(value={})
    rollups.roll(LAST)
    client.get(address)
    with CaptureQueriesContext(connection) as many:
        client.get(address)
    assert len(many) == len(few) <= 22
    assert not [query["sql"] for query in many if "stages_stagetransition" in query["sql"]]


def test_it_remembers_a_period_that_somebody_asked_for_until_something_changes():
    someone = person()
    move(someone, "", "nurture", LAST - timedelta(days=9))
    rollups.roll(LAST)
    days = [LAST - timedelta(days=13), LAST - timedelta(days=2)]
    assert flow_queries.story(days).whole.moves == 1
    with CaptureQueriesContext(connection) as again:
        flow_queries.story(days)
    assert not [query["sql"] for query in again if "stages_stagetransition" in query["sql"]]
    move(someone, "nurture", "retain", LAST - timedelta(days=3))
    rollups.roll(LAST - timedelta(days=3))
    assert flow_queries.story(days).whole.moves == 2


def test_it_tells_the_flow_of_a_segment_alone():
    some = [person() for _n in range(6)]
    for n, someone in enumerate(some):
        move(someone, "", "nurture", LAST - timedelta(days=20))
        move(someone, "nurture", "dormant" if n < 4 else "retain", LAST - timedelta(days=5))
    rollups.roll(LAST)
    chosen = Customer.objects.filter(pk__in=[one.pk for one in some[2:]]).order_by("pk")
    within = (f"SELECT id FROM customers_customer WHERE id >= {chosen[0].pk}", [])
    found = flow_queries.story([LAST - timedelta(days=10), LAST], within)
    assert found.cells() == {("nurture", "dormant"): 2, ("nurture", "retain"): 2}
    assert (found.stays["nurture"].stays, found.stays["nurture"].days) == (4, (15, 15, 15))
    everybody = flow_queries.story([LAST - timedelta(days=10), LAST])
    assert everybody.cells() == {("nurture", "dormant"): 4, ("nurture", "retain"): 2}

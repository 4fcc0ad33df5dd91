"""Flows: every count equals the list of people it opens, and a count made by hand, for histories drawn at random."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.http import QueryDict

from customers.filters import CustomerFilter
from customers.models import Customer
from customers.trails import FORWARD, BadWay, Way, parse
from stages import flows
from stages.models import StageKey
from stages.queries import NEW, moved_url
from tests.dashboard.factories import move, order, person

pytestmark = pytest.mark.django_db

START = date(2026, 1, 1)
FIRST, LAST = START + timedelta(days=20), START + timedelta(days=60)
History = dict[int, list[tuple[date, str, str]]]


def listed(url: str) -> int:
    """How many people the customer list shows at this address."""
    return listed_people(urlsplit(url).query).qs.distinct().count()


def listed_people(query: str) -> CustomerFilter:
    chosen = CustomerFilter(QueryDict(query), queryset=Customer.objects.all())
    assert chosen.form.is_valid(), chosen.form.errors
    return chosen


@pytest.fixture
def history() -> History:
    """Thirty people with up to seven moves on random dates; some moves on the same date, some people never placed."""
    chance = random.Random(7)
    found: History = {}
    for _n in range(30):
        someone, stage, day = person(), "", START + timedelta(days=chance.randrange(50))
        found[someone.pk] = []
        for _move in range(chance.randrange(10)):
            target = chance.choice([s for s in StageKey.values if s != stage])
            move(someone, stage, target, day)
            found[someone.pk].append((day, stage or NEW, target))
            stage, day = target, day + timedelta(days=chance.randrange(12))
    return found


def stood_on(moves: list[tuple[date, str, str]], day: date) -> str:
    return next((target for at, _source, target in reversed(moves) if at <= day), NEW)


def test_it_counts_where_people_stood_and_lists_the_same_people(history):
    days = flows.columns(FIRST, LAST, 4)
    assert days == [FIRST, date(2026, 1, 31), date(2026, 2, 28), LAST]
    expected = Counter(
        tuple(stood_on(moves, day) for day in days) for moves in history.values() if stood_on(moves, LAST) != NEW
    )
    assert flows.standings(days) == expected
    matrix = flows.between(expected, 0, 3)
    assert sum(matrix.values()) == sum(expected.values())
    for (source, target), people in matrix.items():
        assert listed(flows.stood_url((source, FIRST), (target, LAST))) == people


def test_it_counts_people_who_moved_not_moves(history):
    inside = [
        (pk, source, target) for pk, moves in history.items() for at, source, target in moves if FIRST < at <= LAST
    ]
    found = flows.moved(FIRST, LAST)
    assert sum(one.moves for one in found) == len(inside)
    assert any(one.moves > one.people for one in found)
    for one in found:
        people = {pk for pk, source, target in inside if (source, target) == (one.source, one.target)}
        assert one.people == len(people)
        assert listed(moved_url(one.source, one.target, FIRST + timedelta(days=1), LAST)) == len(people)


def test_it_counts_who_came_further_and_who_fell_asleep(history):
    since = FIRST + timedelta(days=1)
    for row in flows.passed(FIRST, LAST):
        been, on, gone = set(), set(), set()
        for pk, moves in history.items():
            later = FORWARD[FORWARD.index(row.stage) + 1 :] if row.stage in FORWARD else []
            here = stood_on(moves, FIRST) == row.stage
            for at, source, target in moves:
                if not FIRST < at <= LAST:
                    continue
                if here and target in later:
                    on.add(pk)
                if source == row.stage and target == "dormant":
                    gone.add(pk)
                here = here or target == row.stage
            if here:
                been.add(pk)
        assert (row.been, row.on, row.gone) == (len(been), len(on) if row.on is not None else None, len(gone))
        assert listed(flows.ways_url(Way("been", (row.stage,), since, LAST))) == len(been)
        if row.on is not None:
            assert listed(flows.ways_url(Way("on", (row.stage,), since, LAST))) == len(on)
        assert listed(moved_url(row.stage, "dormant", since, LAST)) == len(gone)
        assert row.gone <= row.been
    assert [row.stage for row in flows.passed(FIRST, LAST) if row.on is None] == ["advocate", "dormant"]


def test_it_counts_whole_ways_and_lists_who_went_them(history):
    ways: Counter[tuple[str, ...]] = Counter()
    for moves in history.values():
        inside = [one for one in moves if FIRST < one[0] <= LAST]
        if 0 < len(inside) <= 6:
            ways[inside[0][1], *(target for _at, _source, target in inside)] += 1
    found = dict(flows.paths(FIRST, LAST, most=1000))
    assert found == ways
    assert [n for _way, n in flows.paths(FIRST, LAST)] == sorted(ways.values(), reverse=True)[:10]
    for way, people in found.items():
        assert listed(flows.ways_url(Way("path", way, FIRST + timedelta(days=1), LAST))) == people


def test_it_estimates_time_in_a_stage_with_those_who_are_still_there():
    # Kaplan and Meier's own way of counting: two of four leave, one is watched for 3 days only.
    observed = [(1, True, 1), (3, False, 1), (5, True, 1), (8, False, 1)]
    # After day 1: 3/4 stay. After day 5, with two at risk: 3/8 stay.
    assert flows.left_after(observed, (10, 25, 50, 62, 90)) == (1, 1, 5, 5, None)
    assert flows.left_after([]) == (None, None, None)


def test_it_measures_stays_that_began_in_the_last_year():
    anna, ben, cleo = person(), person(), person()
    move(anna, "", "nurture", LAST - timedelta(days=400))  # before the window
    move(anna, "nurture", "retain", LAST - timedelta(days=30))
    move(ben, "", "retain", LAST - timedelta(days=50))
    move(ben, "retain", "dormant", LAST - timedelta(days=40))
    move(ben, "dormant", "retain", LAST - timedelta(days=20))
    move(cleo, "", "retain", LAST + timedelta(days=1))  # not known yet
    found = flows.stays(LAST)
    retain = found["retain"]
    assert (retain.people, retain.stays, retain.ended, retain.longest) == (2, 3, 1, 30)
    assert retain.days == (10, None, None)
    assert listed(moved_url(None, "retain", LAST - timedelta(days=364), LAST)) == retain.people
    assert (found["nurture"].stays, found["dormant"].days) == (0, (20, 20, 20))


def test_it_tells_how_soon_people_came_into_a_stage():
    for n, days in enumerate((10, 30, 50)):
        someone = person()
        order(someone, LAST - timedelta(days=5 + days))
        someone.facts.orders, someone.facts.first_order_at = 1, None
        someone.facts.first_order_at = someone.orders.get().placed_at
        someone.facts.save()
        move(someone, "", "retain", LAST - timedelta(days=5))
        if n == 0:  # coming back is not coming for the first time
            move(someone, "retain", "dormant", LAST - timedelta(days=3))
            move(someone, "dormant", "retain", LAST - timedelta(days=2))
    found = {one.stage: one for one in flows.speed(FIRST, LAST, ["retain", "advocate"])}
    assert (found["retain"].people, found["retain"].days) == (3, 30)
    assert (found["advocate"].people, found["advocate"].days) == (0, None)
    way = Way("first", ("retain",), FIRST + timedelta(days=1), LAST)
    assert listed(flows.ways_url(way, orders_min=1)) == 3
    late = flows.speed(LAST - timedelta(days=3), LAST, ["retain"])
    assert late[0].people == 0


@pytest.mark.parametrize(
    "text",
    ["", "stood:retain", "stood:nowhere@2026-01-01", "stood:retain@2026-13-01", "been:retain@2026-02-01..2026-01-01",
     "on:advocate@2026-01-01..2026-02-01", "path:new@2026-01-01..2026-02-01", "path:new-retain-retain@2026-01-01..2026-02-01",
     "rfm:kings@2026-01-01", "stood:retain@2026-01-01..2026-02-01", f"path:new{7 * '-reach-retain'}@2026-01-01..2026-02-01",
     "first:new@2026-01-01..2026-02-01", "been:retain@0001-01-01..2026-01-01"],
)  # fmt: skip
def test_it_refuses_a_way_nobody_went(text):
    with pytest.raises(BadWay, match="is no way that people went"):
        parse(text)
    assert not CustomerFilter({"way": [text]}, queryset=Customer.objects.all()).form.is_valid()


def test_it_writes_a_way_as_it_reads_it():
    for text in ("stood:new@2026-01-31", "path:new-retain-dormant@2026-01-01..2026-01-31", "rfm:none@2026-01-31"):
        assert str(parse(text)) == text
    url = flows.stood_url(("retain", FIRST), ("dormant", LAST))
    assert parse_qs(urlsplit(url).query)["way"] == [f"stood:retain@{FIRST}", f"stood:dormant@{LAST}"]

"""Flows: every count equals the list of people it opens, and a plain recount in Python, for histories drawn at random with
nights that were undone."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest
from django.http import QueryDict

from customers.filters import CustomerFilter
from customers.models import Customer
from customers.trails import FORWARD, BadWay, Way, parse
from stages import durations, flows, ways
from stages.models import RuleSet, StageKey, StageTransition
from stages.queries import NEW, moved_url
from stages.queries import flows as moves_between
from tests.dashboard.factories import move, order, person, rules
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

START = date(2026, 1, 1)
FIRST, LAST = START + timedelta(days=20), START + timedelta(days=60)
SINCE = FIRST + timedelta(days=1)


@dataclass(frozen=True)
class Move:
    day: date
    source: str
    target: str
    why: str


History = dict[int, list[Move]]


def listed(url: str) -> int:
    """How many people the customer list shows at this address."""
    chosen = CustomerFilter(QueryDict(urlsplit(url).query), queryset=Customer.objects.all())
    assert chosen.form.is_valid(), chosen.form.errors
    return chosen.qs.distinct().count()


def undo(of: StageTransition) -> None:
    """As undoing a night does: a move back on the same date."""
    StageTransition.objects.create(
        customer=of.customer,
        from_stage=of.to_stage,
        to_stage=of.from_stage,
        kind="undo",
        undoes=of,
        occurred_at=of.occurred_at + timedelta(hours=9),
        business_date=of.business_date,
        rule_set=of.rule_set,
        rule=of.rule,
        evidence=of.evidence,
    )


@pytest.fixture
def history() -> History:
    """Forty people with up to nine moves on random dates, by two rules and by hand; some moves on the same date, some
    people never placed, some moves undone. What is undone is not in what comes back."""
    chance, user = random.Random(7), UserFactory()
    found: History = {}
    for _n in range(40):
        someone, stage, day = person(), "", START + timedelta(days=chance.randrange(50))
        found[someone.pk] = []
        for _move in range(chance.randrange(10)):
            target = chance.choice([s for s in StageKey.values if s != stage])
            why = chance.choice(["goes_quiet", "interest_fades", "by_hand"])
            fields = {"kind": "person", "user": user, "rule": ""} if why == "by_hand" else {"rule": why}
            made = move(someone, stage, target, day, **fields)
            if chance.random() < 0.25:
                undo(made)
                Customer.objects.get(pk=someone.pk).facts.__class__.objects.filter(pk=someone.pk).update(stage=stage)
            else:
                found[someone.pk].append(Move(day, stage or NEW, target, why))
                stage = target
            day += timedelta(days=chance.randrange(12))
    assert StageTransition.objects.filter(kind="undo").count() > 20
    return found


def stood_on(moves: list[Move], day: date) -> str:
    return next((one.target for one in reversed(moves) if one.day <= day), NEW)


def inside(moves: list[Move], first: date = FIRST, last: date = LAST) -> list[Move]:
    return [one for one in moves if first < one.day <= last]


def standing(history: History, day: date) -> Counter[str]:
    stood = Counter(stood_on(moves, day) for moves in history.values())
    del stood[NEW]
    return stood


def everybody() -> flows.Within:
    return "SELECT id FROM customers_customer", []


def test_it_counts_where_people_stood_and_lists_the_same_people(history):
    days = flows.columns(FIRST, LAST, 4)
    assert days == [FIRST, date(2026, 1, 31), date(2026, 2, 28), LAST]
    for first, last in [*pairwise(days), (FIRST, LAST)]:
        assert flows.standing(first, everybody()) == standing(history, first)
        cells = Counter((stood_on(moves, first), stood_on(moves, last)) for moves in history.values())
        expected = {cell: people for cell, people in cells.items() if cell[1] != NEW}
        assert ways.between(standing(history, first), flows.ways(first, last)) == expected
        for (source, target), people in expected.items():
            assert listed(flows.stood_url((source, first), (target, last))) == people


def test_it_counts_whole_ways_and_lists_who_went_them(history):
    expected: Counter[tuple[str, ...]] = Counter()
    for moves in history.values():
        if mine := inside(moves):
            expected[mine[0].source, *(one.target for one in mine)] += 1
    found = flows.ways(FIRST, LAST)
    assert sum(found.people.values()) == expected.total()
    assert found.moves == sum(len(inside(moves)) for moves in history.values())
    short = {way: people for way, people in expected.items() if len(way) <= 7}
    assert dict(ways.paths(found, most=1000)) == short
    assert [n for _way, n in ways.paths(found)] == sorted(short.values(), reverse=True)[:10]
    for way, people in short.items():
        assert listed(flows.ways_url(Way("path", way, SINCE, LAST))) == people


def test_it_counts_who_came_further_and_who_fell_asleep(history):
    for row in ways.passed(standing(history, FIRST), flows.ways(FIRST, LAST)):
        been, on, gone = set(), set(), set()
        for pk, moves in history.items():
            later = FORWARD[FORWARD.index(row.stage) + 1 :] if row.stage in FORWARD else []
            here = stood_on(moves, FIRST) == row.stage
            for one in inside(moves):
                if here and one.target in later:
                    on.add(pk)
                if one.source == row.stage and one.target == "dormant":
                    gone.add(pk)
                here = here or one.target == row.stage
            if here:
                been.add(pk)
        assert (row.been, row.on, row.gone) == (len(been), len(on) if row.on is not None else None, len(gone))
        assert listed(flows.ways_url(Way("been", (row.stage,), SINCE, LAST))) == len(been)
        if row.on is not None:
            assert listed(flows.ways_url(Way("on", (row.stage,), SINCE, LAST))) == len(on)
        assert listed(moved_url(row.stage, "dormant", SINCE, LAST)) == len(gone)
        assert row.gone <= row.been
    assert [row.stage for row in ways.passed({}, flows.ways(FIRST, LAST)) if row.on is None] == ["advocate", "dormant"]


def test_it_says_why_people_went_dormant_and_lists_them(history):
    expected: dict[tuple[str, str], set[int]] = {}
    for pk, moves in history.items():
        for one in inside(moves):
            if one.target == "dormant":
                expected.setdefault((one.source, one.why), set()).add(pk)
    found = ways.leaks(flows.ways(FIRST, LAST))
    assert {(leak.source, leak.rule): leak.people for leak in found} == {key: len(who) for key, who in expected.items()}
    assert {leak.rule for leak in found} == {"goes_quiet", "interest_fades", "by_hand"}
    for leak in found:
        assert listed(flows.ways_url(Way("gone", (leak.source, leak.rule), SINCE, LAST))) == leak.people


def test_it_calls_a_reason_beyond_its_letters_another_rule():
    someone = person()
    move(someone, "", "dormant", LAST, rule="long_forgotten")
    assert ways.leaks(flows.ways(FIRST, LAST)) == [ways.Leak(NEW, "other", 1)]
    rules()
    RuleSet.objects.create(
        version=2,
        name="Older",
        state="retired",
        rules=[{"key": "long_forgotten", "to": "dormant", "when": {"all": []}}],
    )
    assert ways.leaks(flows.ways(FIRST, LAST)) == [ways.Leak(NEW, "long_forgotten", 1)]


def test_it_counts_moves_without_undone_ones(history):
    expected = Counter(
        (one.source, one.target) for moves in history.values() for one in inside(moves, FIRST - timedelta(days=1))
    )
    assert moves_between(FIRST, LAST) == expected
    by_day = flows.moves_by_day(FIRST, LAST)
    assert sum((Counter({("new" if s == "" else s, t): n for (s, t), n in c.items()}) for c in by_day.values()),
               Counter()) == expected  # fmt: skip
    people = dict.fromkeys(expected, 0)
    for moves in history.values():
        for pair in {(one.source, one.target) for one in inside(moves, FIRST - timedelta(days=1))}:
            people[pair] += 1
    for (source, target), count in people.items():
        assert listed(moved_url(source, target, FIRST, LAST)) == count


@pytest.mark.parametrize("ends", [(1, 1), (7, 7), (60, 60), (-9, 4), (5, -8), (0, 3)])
def test_it_moves_a_period_on_as_if_counted_anew(history, ends):
    old = (FIRST - timedelta(days=3), LAST - timedelta(days=25))
    new = (old[0] + timedelta(days=ends[0]), old[1] + timedelta(days=ends[1]))
    assert flows.shifted(flows.ways(*old), old, new) == flows.ways(*new)


def test_it_counts_the_ways_of_some_people_only(history):
    some = sorted(history)[:15]
    within: flows.Within = (f"SELECT id FROM customers_customer WHERE id <= {some[-1]}", [])
    left = {pk: history[pk] for pk in some}
    assert flows.standing(FIRST, within) == standing(left, FIRST)
    assert flows.ways(FIRST, LAST, within).moves == sum(len(inside(moves)) for moves in left.values())
    stays = Counter(
        (one.target, one.day, after.day if after else None)
        for moves in left.values()
        for one, after in zip(inside(moves), [*inside(moves)[1:], None], strict=False)
    )
    assert flows.stays(FIRST, LAST, within) == stays
    came = Counter(stage for moves in left.values() for stage in {one.target for one in inside(moves)})
    assert flows.came(FIRST, LAST, within) == came
    assert ways.came(flows.ways(FIRST, LAST, within)) == came


def test_it_finds_the_stays_that_ended(history):
    expected = Counter(
        (before.target, before.day, after.day)
        for moves in history.values()
        for before, after in pairwise(moves)
        if FIRST < after.day <= LAST
    )
    assert flows.ended(FIRST, LAST) == expected


def test_it_estimates_time_in_a_stage_with_those_who_are_still_there():
    # Kaplan and Meier's own way of counting: two of four leave, one is watched for 3 days only.
    observed = [(1, True, 1), (3, False, 1), (5, True, 1), (8, False, 1)]
    # After day 1: 3/4 stay. After day 5, with two at risk: 3/8 stay.
    assert durations.left_after(observed, (10, 25, 50, 62, 90)) == (1, 1, 5, 5, None)
    assert durations.left_after([]) == (None, None, None)


def test_it_measures_stays_with_those_that_run():
    began = Counter({("retain", LAST - timedelta(days=30)): 2, ("retain", LAST - timedelta(days=20)): 1})
    left = Counter({("retain", LAST - timedelta(days=30)): 1})
    found = durations.stays(LAST, began, left, Counter({("retain", 10): 1}))["retain"]
    assert (found.stays, found.ended, found.running, found.longest) == (3, 1, 2, 30)
    # One of three left on day 10: 2/3 stay, and nobody left later.
    assert found.days == (10, None, None)
    assert durations.stays(LAST, Counter(), Counter(), Counter())["reach"].days == (None, None, None)


def test_it_tells_how_soon_people_came_into_a_stage():
    for n, days in enumerate((10, 30, 50)):
        someone = person()
        order(someone, LAST - timedelta(days=5 + days))
        someone.facts.orders, someone.facts.first_order_at = 1, someone.orders.get().placed_at
        someone.facts.save()
        if n == 2:  # an undone arrival is none
            undo(move(someone, "", "retain", LAST - timedelta(days=9)))
        move(someone, "", "retain", LAST - timedelta(days=5))
        if n == 0:  # coming back is not coming for the first time
            move(someone, "retain", "dormant", LAST - timedelta(days=3))
            move(someone, "dormant", "retain", LAST - timedelta(days=2))
    arrived = [(stage, days, people) for (_d, stage, days), people in flows.arrived(FIRST, LAST).items()]
    found = {one.stage: one for one in durations.speed(arrived)}
    assert (found["retain"].people, found["retain"].days) == (3, 30)
    assert (found["advocate"].people, found["advocate"].days) == (0, None)
    way = Way("first", ("retain",), SINCE, LAST)
    assert listed(flows.ways_url(way, orders_min=1)) == 3
    assert "retain" not in {stage for _d, stage, _n in flows.arrived(LAST - timedelta(days=3), LAST)}


@pytest.mark.parametrize(
    "text",
    ["", "stood:retain", "stood:nowhere@2026-01-01", "stood:retain@2026-13-01", "been:retain@2026-02-01..2026-01-01",
     "on:advocate@2026-01-01..2026-02-01", "path:new@2026-01-01..2026-02-01", "path:new-retain-retain@2026-01-01..2026-02-01",
     "rfm:kings@2026-01-01", "stood:retain@2026-01-01..2026-02-01", f"path:new{7 * '-reach-retain'}@2026-01-01..2026-02-01",
     "first:new@2026-01-01..2026-02-01", "been:retain@0001-01-01..2026-01-01", "gone:retain@2026-01-01..2026-02-01",
     "gone:dormant-goes_quiet@2026-01-01..2026-02-01", "gone:retain-a b@2026-01-01..2026-02-01",
     "gone:retain-goes_quiet@2026-01-01"],
)  # fmt: skip
def test_it_refuses_a_way_nobody_went(text):
    with pytest.raises(BadWay, match="is no way that people went"):
        parse(text)
    assert not CustomerFilter({"way": [text]}, queryset=Customer.objects.all()).form.is_valid()


def test_it_writes_a_way_as_it_reads_it():
    for text in ("stood:new@2026-01-31", "path:new-retain-dormant@2026-01-01..2026-01-31", "rfm:none@2026-01-31",
                 "gone:retain-by_hand@2026-01-01..2026-01-31"):  # fmt: skip
        assert str(parse(text)) == text
    url = flows.stood_url(("retain", FIRST), ("dormant", LAST), segment="loyal", orders_min=None)
    asked = parse_qs(urlsplit(url).query)
    assert asked == {"way": [f"stood:retain@{FIRST}", f"stood:dormant@{LAST}"], "segment": ["loyal"]}

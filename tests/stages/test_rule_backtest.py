"""The replay of past nights against a plain one in Python that looks at everybody, every night, from the rows themselves."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from customers.models import Consent, Customer, Event, Order, RfmCuts
from feedback import surveys
from lifecycle_crm import reactions
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.moments import DAY, seconds
from stages import replay, rules
from stages.models import RuleSet, StageTransition
from stages.replay import Side
from tests.feedback.factories import SurveyFactory

pytestmark = pytest.mark.django_db

FIRST = date(2026, 3, 10)
NIGHTS = 45
"""Over the change to summer time."""
DAYS = [FIRST + timedelta(days=n) for n in range(NIGHTS)]
REVENUE_DAYS = 10


# --- A shop whose rows are known ----------------------------------------------------------------------------------------


@dataclass
class Person:
    row: Customer
    orders: list[tuple[datetime, int]] = field(default_factory=list)
    visits: list[datetime] = field(default_factory=list)
    said: list[tuple[datetime, bool]] = field(default_factory=list)
    answers: list[tuple[datetime, int]] = field(default_factory=list)
    stood: tuple[str, int] | None = None


def some_moment(dice: random.Random, back: int = 60) -> datetime:
    """From ``back`` days before the first night to a week after the last, often at or beside a midnight of the shop."""
    day = FIRST + timedelta(days=dice.randrange(-back, NIGHTS + 7))
    if dice.random() < 0.2:
        return clock.day_end(day) + timedelta(microseconds=dice.choice([-1, 0, 300_000]))
    return clock.day_start(day) + timedelta(seconds=dice.randrange(DAY))


def small_shop(dice: random.Random) -> list[Person]:
    survey = SurveyFactory(kind="nps")
    before = RuleSet.objects.create(version=1, name="Then", state="retired", rules=[])
    people = []
    for n in range(dice.randrange(1, 14)):
        known = clock.day_start(FIRST - timedelta(days=90)) if dice.random() < 0.7 else some_moment(dice, 0)
        one = Person(Customer.objects.create(name=f"C{n}", known_since=known))
        people.append(one)
        for number in range(dice.choice([0, 0, 1, 2, 4, 8])):
            at, cents = some_moment(dice), dice.choice([0, 900, 2_500, 40_000])
            is_counted = dice.random() < 0.9
            Order.objects.create(
                customer=one.row, source="t", source_id=f"{n}-{number}", placed_at=at, currency="USD",
                amount_minor=cents, base_minor=cents, is_counted=is_counted,
            )  # fmt: skip
            if is_counted:
                one.orders.append((at, cents))
        for number in range(dice.choice([0, 0, 1, 3, 8])):
            at = some_moment(dice)
            Event.objects.create(customer=one.row, name="visit", occurred_at=at, source="t", source_id=f"{n}-{number}")
            one.visits.append(at)
        for _number in range(dice.choice([0, 0, 2])):
            at, yes = some_moment(dice), dice.random() < 0.5
            Consent.objects.create(
                customer=one.row, purpose="marketing", channel="email", is_granted=yes, occurred_at=at, source="form"
            )
            one.said.append((at, yes))
        for number in range(dice.choice([0, 0, 1, 2])):
            at, score = some_moment(dice), dice.randrange(11)
            surveys.record(
                customer=one.row, survey=survey, score=score, answered_at=at, source="t", source_id=f"{n}-{number}"
            )
            one.answers.append((at, score))
        if known < clock.day_start(FIRST) and dice.random() < 0.5:
            at = clock.day_end(FIRST - timedelta(days=dice.randrange(1, 20)))
            stage = dice.choice(["reach", "acquire", "retain", "dormant"])
            StageTransition.objects.create(
                customer=one.row, from_stage="", to_stage=stage, occurred_at=at, rule_set=before,
                business_date=clock.business_date(at - timedelta(seconds=1)), rule="x",
            )  # fmt: skip
            one.stood = (stage, seconds(at))
    for day in {FIRST + timedelta(days=dice.randrange(-5, NIGHTS)) for _n in range(dice.randrange(3))}:
        RfmCuts.objects.create(
            computed_on=day, recency_days=[2, 5, 9, 20], frequency=[1, 2, 3, 4],
            monetary_minor=[0, 1000, 5000, 30_000], buyers=9,
        )  # fmt: skip
    return people


# --- The plain replay -------------------------------------------------------------------------------------------------


def known_then(one: Person, day: date, cuts: list[RfmCuts]) -> dict[str, Any] | None:
    """The facts of one customer at the end of a day, from the rows alone."""
    end = clock.day_end(day)
    if one.row.known_since >= end:
        return None
    now = seconds(end)
    placed = sorted((at, cents) for at, cents in one.orders if at < end)
    seen = sorted((at for at in one.visits if at < end), reverse=True)
    first, last = (seconds(placed[0][0]), seconds(placed[-1][0])) if placed else (None, None)
    said = [yes for at, yes in sorted(one.said) if at < end]
    answered = sorted((at, number, score) for number, (at, score) in enumerate(one.answers) if at < end)
    spend = sum(cents for _at, cents in placed)
    found = {
        "orders": len(placed),
        "first_order_at": first,
        "last_order_at": last,
        "spend_minor": spend,
        "gap_seconds": (last - first) // (len(placed) - 1) if len(placed) > 1 else None,
        "engaged_at": seconds(seen[0]) if seen else None,
        "may_email": said[-1] if said else False,
        "nps_score": answered[-1][2] if answered else None,
        "answered_at": seconds(answered[-1][0]) if answered else None,
        "clicked_at": None,
        "did:visit:14": [seconds(at) for at in seen],
    }
    current = max((c for c in cuts if c.computed_on <= day), key=lambda c: c.computed_on, default=None)
    if current is None or not placed:
        return found | {"recency": None, "frequency": None, "monetary": None}
    return found | {
        "recency": 5 - sum(now >= last + (days + 1) * DAY for days in current.recency_days),
        "frequency": 1 + sum(len(placed) > cut for cut in current.frequency),
        "monetary": 1 + sum(spend > cut for cut in current.monetary_minor),
    }


@dataclass
class Plain:
    stands: dict[int, tuple[str, int]]
    counts: dict[int, Counter[str]] = field(default_factory=dict)
    first: int = 0
    moves: Counter[Any] = field(default_factory=Counter)
    flaps: int = 0
    flapped: set[int] = field(default_factory=set)
    revenue: dict[tuple[str, str], Counter[int]] = field(default_factory=dict)


def plain(people: list[Person], parsed: rules.Rules, counted: frozenset[int]) -> Plain:
    cuts = list(RfmCuts.objects.all())
    run = Plain({one.row.pk: one.stood for one in people if one.stood})
    back: dict[int, tuple[str, int]] = {}
    for night, day in enumerate(DAYS):
        end, now = clock.day_end(day), seconds(clock.day_end(day))
        for one in people:
            snapshot = known_then(one, day, cuts)
            if snapshot is None:
                continue
            for atom in parsed.counts():
                snapshot[atom.key] = snapshot["did:visit:14"]
            stage, since = run.stands.get(one.row.pk, ("", None))
            to = rules.decide(parsed, snapshot | {"stage": stage, "stage_since": since}, now).to
            if to == stage:
                continue
            run.stands[one.row.pk] = (to, now)
            if not stage:
                continue
            if night == 0:
                run.first += 1
                continue
            run.moves[night, (stage, to)] += 1
            left, when = back.get(one.row.pk, ("", 0))
            if left == to and night - when <= 14:
                run.flaps += 1
                run.flapped.add(one.row.pk)
            back[one.row.pk] = (stage, night)
            later = end + timedelta(days=REVENUE_DAYS)
            if later <= clock.day_end(DAYS[-1]):
                bought = sum(c for at, c in one.orders if now <= seconds(at) < now + REVENUE_DAYS * DAY)
                run.revenue.setdefault((stage, to), Counter())[bought] += 1
        if night in counted:
            run.counts[night] = Counter(stage for stage, _since in run.stands.values())
    return run


# --- They agree -------------------------------------------------------------------------------------------------------

ATOMS = st.one_of(
    st.builds(lambda n: {"fact": "orders", "op": "gte", "value": n}, st.integers(1, 4)),
    st.builds(lambda n: {"fact": "spend_minor", "op": "lt", "value": n * 1000}, st.integers(1, 9)),
    st.builds(lambda n: {"fact": "engaged_at", "op": "days_since_lt", "value": n}, st.integers(1, 25)),
    st.builds(lambda n: {"fact": "last_order_at", "op": "days_since_gte", "value": n}, st.integers(1, 40)),
    st.builds(
        lambda gaps, low: {
            "fact": "last_order_at",
            "op": "days_since_gte",
            "value": {"gaps": gaps, "at_least": low, "at_most": low + 10},
        },
        st.sampled_from([0.5, 1, 2.5]),
        st.integers(2, 20),
    ),
    st.builds(lambda n: {"fact": "clicked_at", "op": "days_since_lt", "value": n}, st.integers(2, 20)),
    st.builds(lambda n: {"fact": "answered_at", "op": "days_since_lt", "value": n}, st.integers(2, 30)),
    st.builds(lambda n: {"fact": "nps_score", "op": "gte", "value": n}, st.integers(3, 9)),
    st.builds(lambda n: {"fact": "recency", "op": "gte", "value": n}, st.integers(2, 5)),
    st.builds(lambda n: {"fact": "monetary", "op": "gte", "value": n}, st.integers(2, 5)),
    st.just({"fact": "may_email", "op": "eq", "value": True}),
    st.builds(lambda n: {"fact": "stage_since", "op": "days_since_lt", "value": n}, st.integers(1, 12)),
    st.builds(
        lambda n, days: {"did": "visit", "op": "gte", "times": n, "days": days}, st.integers(1, 3), st.integers(3, 20)
    ),
)
CONDITIONS = st.one_of(
    ATOMS,
    st.builds(lambda a: {"not": a}, ATOMS),
    st.builds(lambda a, b: {"all": [a, b]}, ATOMS, ATOMS),
    st.builds(lambda a, b: {"any": [a, {"not": b}]}, ATOMS, ATOMS),
)
RULES = st.lists(
    st.fixed_dictionaries(
        {"to": st.sampled_from(["acquire", "nurture", "retain", "advocate", "dormant"]), "when": CONDITIONS},
        optional={
            "stay_days": st.integers(1, 9),
            "from": st.lists(
                st.sampled_from(["new", "reach", "acquire", "retain", "dormant"]), min_size=1, unique=True
            ),
        },
    ),
    min_size=1,
    max_size=4,
).map(lambda some: [{**one, "key": f"r{n}"} for n, one in enumerate(some)] + [
    {"key": "rest", "to": "reach", "when": {"all": []}}
])  # fmt: skip


@given(seed=st.integers(0, 10**6), ours=RULES, theirs=RULES)
@settings(
    max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink]
)
def test_it_agrees_with_a_plain_replay_in_python(seed: int, ours: list[Any], theirs: list[Any]) -> None:
    with transaction.atomic():
        people = small_shop(random.Random(seed))
        counted = frozenset({0, 9, NIGHTS - 1})
        sides = (Side("old", rules.parse(theirs)), Side("new", rules.parse(ours)))
        part = replay.run(
            ids=[one.row.pk for one in people], days=DAYS, old=sides[0], new=sides[1],
            hand_down=reactions.hand_down, happened=reactions.HANDED_FROM, counted=counted, revenue_days=REVENUE_DAYS,
        )  # fmt: skip
        expected = [plain(people, side.rules, counted) for side in sides]
        for side, run in zip(sides, expected, strict=True):
            assert side.counts == run.counts
            assert side.first == run.first
            assert side.moves == run.moves
            assert (side.flaps, side.flapped) == (run.flaps, len(run.flapped))
            assert side.revenue == run.revenue
        stands = [{pk: stage for pk, (stage, _since) in run.stands.items()} for run in expected]
        apart = {pk for pk, stage in stands[1].items() if stands[0][pk] != stage}
        assert part.differ == len(apart)
        assert {one["customer"]: (one["old"]["stage"], one["new"]["stage"]) for one in part.examples} == {
            pk: (stands[0][pk], stands[1][pk]) for pk in apart
        }
        assert {one["customer"] for one in part.flapped} == expected[1].flapped
        transaction.set_rollback(True)

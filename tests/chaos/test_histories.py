"""A night that looks only at whom something happened to, or whose time has come, decides like one that looks at everybody.

Random histories: orders, some late, refunds and cancellations, visits and reviews, consents, answers, corrections of the
customer's own row, moves by hand and pins, between nights that are one or many days apart, so that windows slide shut and
the cut points of RFM are renewed. The same history runs twice, and every table must come out equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any
from unittest import mock

import pytest
import time_machine
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st

from customers import conditions, consent, ingest, segments
from customers.ingest import CustomerIn
from customers.models import Customer, Order, RfmCuts, Segment
from feedback import cases
from feedback.models import Case
from lifecycle_crm import night, reactions
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError
from stages import engine
from stages.models import Pin, StageTransition
from tests.chaos import pictures, plan, town
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

PEOPLE = 4
FIRST = date(2026, 2, 26)
DAY = 86_400


# --- What may happen --------------------------------------------------------------------------------------------------

who = st.integers(0, PEOPLE - 1)
second = st.integers(0, DAY - 1)
late = st.sampled_from([0, 0, 0, 1, 3, 8])
"""How many days ago it happened that is told now."""

happenings = st.one_of(
    st.tuples(st.just("order"), who, late, second, st.integers(0, 6000), st.sampled_from(["jazz", "rock"])),
    st.tuples(st.just("order"), who, late, second, st.integers(0, 6000), st.sampled_from(["jazz", "rock"])),
    st.tuples(st.just("refund"), st.integers(0, 9), st.sampled_from([1, 300, None]), second),
    st.tuples(st.just("event"), who, late, second, st.sampled_from(["visit", "visit", "review"]), st.integers(1, 3)),
    st.tuples(st.just("consent"), who, late, second, st.booleans()),
    st.tuples(st.just("answer"), who, late, second, st.integers(0, 10)),
    st.tuples(st.just("close"), st.integers(0, 3)),
    st.tuples(st.just("person"), who, st.sampled_from(["SE", "PL"]), st.sampled_from([(), ("vip",)])),
    st.tuples(st.just("move"), who, st.sampled_from(["reach", "retain", "dormant"]), st.sampled_from([0, 0, 2, 6, 40])),
    st.tuples(st.just("unpin"), who),
    st.tuples(st.just("list"), who, st.booleans()),
)


@dataclass(frozen=True)
class Day:
    """``gap`` days after the one before; ``at_once``: the reactions of the day ran before its night."""

    gap: int
    told: tuple[tuple[Any, ...], ...]
    at_once: bool


days = st.lists(
    st.builds(
        Day,
        gap=st.sampled_from([1, 1, 1, 1, 2, 5, 16, 30]),
        told=st.lists(happenings, max_size=6).map(tuple),
        at_once=st.sampled_from([False, False, True]),
    ),
    min_size=3,
    max_size=7,
)


# --- Rules that nobody would write ------------------------------------------------------------------------------------

limits = st.integers(0, 20)
spans = st.one_of(
    limits,
    st.builds(
        lambda gaps, low, more: {"gaps": gaps, "at_least": low, "at_most": low + more},
        st.sampled_from([0.5, 1, 2.5]),
        limits,
        st.integers(1, 20),
    ),
)
atoms = st.one_of(
    st.builds(
        lambda fact, op, value: {"fact": fact, "op": op, "value": value},
        st.sampled_from(["orders", "recency", "frequency", "monetary", "open_cases", "nps_score"]),
        st.sampled_from(["eq", "gte", "lt"]),
        st.integers(0, 5),
    ),
    st.builds(
        lambda fact, value: {"fact": fact, "op": "gte", "value": value},
        st.sampled_from(["points", "spend_minor"]),
        st.sampled_from([1, 30, 2000]),
    ),
    st.builds(
        lambda fact, op, value: {"fact": fact, "op": op, "value": value},
        st.sampled_from(["first_order_at", "last_order_at", "engaged_at", "answered_at", "stage_since"]),
        st.sampled_from(["days_since_gte", "days_since_lt"]),
        spans,
    ),
    st.builds(lambda value: {"fact": "may_email", "op": "eq", "value": value}, st.booleans()),
    st.builds(
        lambda head, op, times, span: {**head, "op": op, "times": times, **({"days": span} if span else {})},
        st.sampled_from([{"did": "visit"}, {"did": "review"}, {"bought": {"category": "jazz"}}]),
        st.sampled_from(["gte", "lt"]),
        st.integers(1, 3),
        st.one_of(st.none(), st.integers(1, 20)),
    ),
)
trees = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=4,
)
STAGES = ["reach", "acquire", "nurture", "retain", "advocate", "dormant"]
random_rules = st.lists(
    st.tuples(
        st.sampled_from(STAGES), trees, st.none() | st.lists(st.sampled_from([*STAGES, "new"]), min_size=1, max_size=3),
        st.sampled_from([0, 0, 1, 4]),
    ),
    min_size=1,
    max_size=4,
).map(
    lambda some: [
        {
            "key": f"r{n}", "to": to, "when": when, **({"from": source} if source else {}),
            **({"stay_days": stay} if stay else {}),
        }
        for n, (to, when, source, stay) in enumerate(some)
    ]
    + [{"key": "known", "to": "reach", "when": {"all": []}}]
)  # fmt: skip


# --- Living a history -------------------------------------------------------------------------------------------------


@dataclass
class Lived:
    picture: pictures.Picture
    said: Counter[str]


def live(history: list[Day], rules: list[dict[str, Any]], *, is_full: bool) -> Lived:
    """This history from the first day on, with full or ordinary nights; nothing of it stays in the database."""
    with pictures.nothing_stays():
        since = clock.day_start(FIRST)
        town.furnish(since=since, tree=rules)
        town.settle_in(PEOPLE, since=since)
        with time_machine.travel(since, tick=False):
            actor = UserFactory(email="hand@town.example")
        said: Counter[str] = Counter()
        day = FIRST
        for number, each in enumerate(history):
            day += timedelta(days=each.gap)
            with time_machine.travel(clock.day_end(day) - timedelta(seconds=1), tick=False):
                for place, what in enumerate(each.told):
                    said[_tell(what, day, f"{number}-{place}", actor)] += 1
                if each.at_once:
                    said["at once"] += reactions.run()["customers"]
            with time_machine.travel(clock.day_end(day) + timedelta(hours=3), tick=False):
                done = night.run(day, is_full=is_full)
                assert (done.state, done.error) == ("done", "")
        said["moves"] = StageTransition.objects.exclude(from_stage="").count()
        said["cuts"] = RfmCuts.objects.count()
        said["pins"] = Pin.objects.count()
        return Lived(pictures.take(), said)
    raise AssertionError


def _tell(what: tuple[Any, ...], day: date, number: str, actor: Any) -> str:
    """Say one thing to the shop; what it was, or "refused" if the shop would not have it."""

    def moment(ago: int, at: int) -> datetime:
        return min(clock.day_start(day - timedelta(days=ago)) + timedelta(seconds=at), clock.now())

    kind, *rest = what
    try:
        with transaction.atomic():
            match kind:
                case "order":
                    who, ago, at, cents, category = rest
                    row = town.order(f"O-{number}", who, moment(ago, at), cents, category)
                    ingest.record_order(row, source="shop")
                case "refund":
                    which, cents, at = rest
                    rows = list(Order.objects.order_by("source_id"))
                    if not rows:
                        return "refused"
                    of = rows[which % len(rows)]
                    ingest.refund(
                        order=of, amount_minor=cents, source="shop", source_id=f"R-{number}",
                        occurred_at=max(of.placed_at, moment(0, at)), is_cancellation=cents is None,
                    )  # fmt: skip
                case "event":
                    who, ago, at, name, times = rest
                    for n in range(times):
                        ingest.record_event(
                            town.event(f"E-{number}-{n}", who, name, moment(ago, (at + n * 3600) % DAY)), source="shop"
                        )
                case "consent":
                    who, ago, at, is_granted = rest
                    consent.record(
                        customer=_customer(who), purpose="marketing", channel="email", is_granted=is_granted,
                        source="shop", occurred_at=moment(ago, at),
                    )  # fmt: skip
                case "answer":
                    who, ago, at, score = rest
                    town.hear([("answers", (f"A-{number}", who, score, moment(ago, at)))])
                case "close":
                    case = Case.objects.exclude(state="closed").order_by("pk")[rest[0] : rest[0] + 1].first()
                    if case is None:
                        return "refused"
                    cases.close(case=case, outcome="solved", actor=actor)
                case "person":
                    who, country, tags = rest
                    row = CustomerIn(external_id=f"C-{who}", country=country, tags=list(tags))
                    ingest.save_customer(row, source="shop")
                case "move":
                    who, to, length = rest
                    until = clock.now() + timedelta(days=length) if length else None
                    engine.move_by_hand(customer=_customer(who), to=to, reason="By hand", actor=actor, pin_until=until)
                case "unpin":
                    engine.unpin(customer_id=_customer(rest[0]).pk)
                case "list":
                    who, is_on = rest
                    segment = Segment.objects.get(key="listed")
                    if is_on:
                        segments.add_members(segment=segment, customers=[_customer(who).pk])
                    else:
                        segments.remove_members(segment=segment, customers=[_customer(who).pk])
    except DomainError:
        return "refused"
    return str(kind)


def _customer(who: int) -> Customer:
    return Customer.objects.get(email_key=town.email(who))


# --- Ordinary nights and full ones ------------------------------------------------------------------------------------

_HOW = settings(
    max_examples=plan.rounds(4),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
    phases=[Phase.generate, Phase.shrink] if plan.IS_LONG else [Phase.generate],
)


def compare(history: list[Day], rules: list[dict[str, Any]]) -> Counter[str]:
    ordinary = live(history, rules, is_full=False)
    full = live(history, rules, is_full=True)
    difference = pictures.differences(ordinary.picture, full.picture)
    note(f"ordinary (-) and full (+): {difference}")
    assert difference == []
    return ordinary.said


def test_ordinary_nights_end_like_full_ones_under_rules_that_look_at_everything(tell: Callable[..., None]) -> None:
    """Incremental equals full: random histories, the town's rules."""
    total: Counter[str] = Counter()

    @seed(plan.SEED)
    @_HOW
    @given(history=days)
    def proof(history: list[Day]) -> None:
        total.update(compare(history, town.RULES))
        total["examples"] += 1

    proof()
    tell(**total)
    assert total["moves"] >= total["examples"]
    assert min(total[kind] for kind in ("order", "refund", "event", "answer", "move")) > 0


def test_ordinary_nights_end_like_full_ones_under_random_rules(tell: Callable[..., None]) -> None:
    """Incremental equals full: random histories, random rules."""
    total: Counter[str] = Counter()

    @seed(plan.SEED)
    @_HOW
    @given(history=days, rules=random_rules)
    def proof(history: list[Day], rules: list[dict[str, Any]]) -> None:
        total.update(compare(history, rules))
        total["examples"] += 1

    proof()
    tell(**total)
    assert total["moves"] > 0


BROWSING = [rule for rule in town.RULES if rule["key"] in ("browses", "known")]
TIMELESS = [{"key": "buys", "to": "retain", "when": {"fact": "orders", "op": "gte", "value": 1}}, town.RULES[-1]]
SLIDES = [
    Day(1, tuple(("event", 0, 0, at, "visit", 1) for at in (100, 5000, 9000)), at_once=False),
    *[Day(1, (), at_once=False)] * 6,
]
"""Three visits in five days, and then none: the window slides shut and nothing else happens."""


def test_a_window_that_slides_shut_moves_who_did_nothing() -> None:
    lived = live(SLIDES, BROWSING, is_full=False)
    # Placed on the first night, and moved back by the one after the fifth day since the first visit, the first to miss it.
    moves = [(row[4], str(row[7])) for row in lived.picture["moves"] if row[0] == town.email(0)]
    assert moves == [("acquire", str(FIRST + timedelta(days=1))), ("reach", str(FIRST + timedelta(days=6)))]


def test_its_unsafe_twin_that_forgets_that_windows_slide_leaves_them_where_they_were(
    tell: Callable[..., None],
) -> None:
    """Incremental equals full, twin: nobody is reviewed because a window slid."""
    inner = conditions.flip_sql

    def forgets(some: Any, as_of: datetime) -> Any:
        kept = [conditions.All(tuple(a for a in one.atoms() if not isinstance(a, conditions.Times))) for one in some]
        return inner(kept, as_of)

    with mock.patch.object(conditions, "flip_sql", forgets):
        ordinary = live(SLIDES, BROWSING, is_full=False)
        full = live(SLIDES, BROWSING, is_full=True)
    found = pictures.differences(ordinary.picture, full.picture)
    tell(rows_that_differ=len(found))
    assert [row for row in found if row.startswith("moves: +")] != []


def test_who_is_pinned_grows_colder_like_everybody() -> None:
    """A pin holds the stage. The recency score, and with it segments and RFM groups, must not stand still with it."""
    history = [
        Day(1, tuple(("order", who, 0, 100, 1000 * (who + 1), "rock") for who in range(PEOPLE)), at_once=False),
        Day(1, (("move", 0, "advocate", 40),), at_once=False),
        Day(20, (), at_once=False),
    ]
    ordinary, full = live(history, town.RULES, is_full=False), live(history, town.RULES, is_full=True)
    recency = {row[0]: row[8] for row in ordinary.picture["facts"]}
    assert recency == {town.email(who): 1 for who in range(PEOPLE)}
    assert pictures.differences(ordinary.picture, full.picture) == []


def test_rules_that_know_no_time_decide_on_both_databases() -> None:
    """Without a review that time could bring, and before there are cut points that age."""
    history = [Day(1, (), at_once=False), Day(1, (("order", 0, 0, 100, 500, "rock"),), at_once=False)]
    ordinary, full = live(history, TIMELESS, is_full=False), live(history, TIMELESS, is_full=True)
    assert ordinary.said["moves"] == 1
    assert pictures.differences(ordinary.picture, full.picture) == []


def test_the_night_of_every_month_end_is_like_any_other() -> None:
    """On the 30th of a month thirty days are the month: rollups that keep both must not trip over it."""
    ends = [date(2026, 4, 30), date(2026, 5, 31), date(2026, 6, 30), date(2027, 2, 28), date(2028, 2, 29)]
    gaps = [(after - before).days for before, after in pairwise([FIRST, *ends])]
    lived = live(
        [Day(gap, (("order", 0, 0, 100, 500, "rock"),), at_once=False) for gap in gaps], BROWSING, is_full=False
    )
    assert [row[0] for row in lived.picture["nights"]] == ends

"""The interpreters of one language must agree: property tests over random trees and random customers."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import translation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from customers import conditions, sentences
from customers.conditions import BadCondition, Found
from customers.models import Customer, CustomerFacts, Event, Order, OrderLine, Product, Segment, SegmentMember
from customers.vocabulary import FACTS, Kind
from lifecycle_crm.lib import batches
from lifecycle_crm.lib.moments import DAY, seconds

NOW = datetime(2026, 3, 1, tzinfo=UTC)

# --- Random conditions ----------------------------------------------------------------------------------------------------

numbers = st.integers(-1, 12)
day_counts = st.integers(0, 120)
days = st.one_of(
    day_counts,
    st.builds(
        lambda gaps, low, more: {"gaps": gaps, "at_least": low, "at_most": low + more},
        st.sampled_from([0.5, 1, 1.75, 2.5]),
        st.integers(0, 40),
        st.integers(1, 90),
    ),
)
number_facts = [f.name for f in FACTS.values() if f.kind in (Kind.NUMBER, Kind.MONEY)]
moment_facts = [f.name for f in FACTS.values() if f.kind is Kind.MOMENT]
atoms = st.one_of(
    st.builds(
        lambda f, op, v: {"fact": f, "op": op, "value": v},
        st.sampled_from(number_facts),
        st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"]),
        numbers,
    ),
    st.builds(
        lambda f, op, v: {"fact": f, "op": op, "value": v},
        st.sampled_from(moment_facts),
        st.sampled_from(["days_since_gte", "days_since_lt"]),
        days,
    ),
    st.builds(
        lambda f, op: {"fact": f, "op": op}, st.sampled_from(list(FACTS)), st.sampled_from(["is_set", "is_not_set"])
    ),
    st.builds(lambda v: {"fact": "may_email", "op": "eq", "value": v}, st.booleans()),
    st.builds(
        lambda v: {"fact": "stage", "op": "in", "value": v},
        st.lists(st.sampled_from(["reach", "retain", "dormant"]), min_size=1, max_size=3),
    ),
    st.builds(lambda op: {"fact": "tier", "op": op, "value": "gold"}, st.sampled_from(["eq", "ne"])),
    st.builds(
        lambda f, op, v: {"fact": f, "op": op, "value": v},
        st.sampled_from(["country", "language", "acquisition_source"]),
        st.sampled_from(["eq", "ne"]),
        st.sampled_from(["SE", "sv", "fair", ""]),
    ),
    st.builds(lambda op: {"fact": "country", "op": op}, st.sampled_from(["is_set", "is_not_set"])),
    st.builds(
        lambda v: {"fact": "country", "op": "in", "value": v},
        st.lists(st.sampled_from(["SE", "PL", "XX"]), min_size=1, max_size=3),
    ),
    st.builds(lambda tag: {"tag": tag}, st.sampled_from(["vip", 'O\'Neill "q" 100%', "nobody"])),
    st.builds(lambda key: {"segment": key}, st.sampled_from(["loyal", "quiet", "list"])),
    st.builds(
        lambda head, op, n, d: {**head, "op": op, "times": n, **({"days": d} if d else {})},
        st.sampled_from(
            [{"did": "visit"}, {"did": "never"}, {"bought": {"category": "jazz"}}, {"bought": {"sku": "A-1"}}]
        ),
        st.sampled_from(["gte", "lt"]),
        st.integers(1, 4),
        st.one_of(st.none(), st.integers(1, 120)),
    ),
)
trees = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"all": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda parts: {"any": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=6,
)
SEGMENTS = {
    "loyal": Found("Loyal", {"all": [{"fact": "orders", "op": "gte", "value": 5}, {"not": {"segment": "quiet"}}]}),
    "quiet": Found("Quiet", {"fact": "last_order_at", "op": "days_since_gte", "value": 60}),
    "list": Found("By hand", {"all": []}, static_id=1),
}


def parse(tree: Any) -> conditions.Condition:
    return conditions.parse(tree, resolve=SEGMENTS.get)


moments = st.integers(0, 150 * DAY).map(lambda s: NOW - timedelta(days=100) + timedelta(seconds=s))


# --- Random customers -------------------------------------------------------------------------------------------------------


@pytest.fixture
def crowd(db: None) -> list[int]:
    """Forty customers whose facts, events and orders are random, with sub-second times among the events."""
    dice = random.Random(7)
    jazz = Product.objects.create(sku="A-1", name="Blue", category="jazz")
    rock = Product.objects.create(sku="B-1", name="Loud", category="rock")
    customers = Customer.objects.bulk_create(
        Customer(
            name=f"C{i}",
            country=dice.choice(["", "SE", "PL"]),
            language=dice.choice(["", "sv"]),
            acquisition_source=dice.choice(["", "fair"]),
            tags=dice.choice([[], ["vip"], ["vip", 'O\'Neill "q" 100%'], ["vipper"]]),
        )
        for i in range(40)
    )
    static = Segment.objects.create(pk=1, key="list", name="By hand", kind="static")
    SegmentMember.objects.bulk_create(SegmentMember(segment=static, customer=c) for c in customers[::3])

    def moment() -> datetime | None:
        return NOW - timedelta(seconds=dice.randrange(-20 * DAY, 120 * DAY)) if dice.random() < 0.8 else None

    CustomerFacts.objects.bulk_create(
        CustomerFacts(
            customer=c,
            **{name: dice.randrange(0, 12) for name in number_facts if dice.random() < 0.9 or name not in _NULLABLE},
            **{name: moment() for name in moment_facts},
            gap_seconds=dice.choice([None, 5 * DAY, 13 * DAY + 7, 40 * DAY]),
            may_email=dice.random() < 0.5,
            tier=dice.choice(["", "gold", "silver"]),
            stage=dice.choice(["reach", "retain", "dormant"]),
        )
        for c in customers
    )
    Event.objects.bulk_create(
        Event(
            customer=c,
            name=dice.choice(["visit", "cart"]),
            occurred_at=NOW
            - timedelta(seconds=dice.randrange(-20 * DAY, 120 * DAY), microseconds=dice.choice([0, 1, 500_000])),
            source="test",
            source_id=f"{c.pk}-{n}",
        )
        for c in customers
        for n in range(dice.randrange(6))
    )
    for c in customers[:20]:
        for n in range(dice.randrange(4)):
            order = Order.objects.create(
                customer=c,
                source="test",
                source_id=f"{c.pk}-{n}",
                placed_at=NOW - timedelta(seconds=dice.randrange(0, 120 * DAY)),
                currency="USD",
                amount_minor=100,
                base_minor=100,
                rate=Decimal(1),
                is_counted=dice.random() < 0.8,
            )
            OrderLine.objects.create(order=order, product=dice.choice([jazz, rock]), title="x", unit_minor=100)
    return [c.pk for c in customers]


_NULLABLE = {"recency", "frequency", "monetary", "nps_score"}
_HOW = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _matching(condition: conditions.Condition, as_of: datetime) -> set[int]:
    sql, params = conditions.to_sql(condition, as_of)
    return {pk for (pk,) in batches.rows(f"SELECT f.customer_id FROM customers_customerfacts f WHERE {sql}", params)}


@given(tree=trees, as_of=moments)
@_HOW
def test_it_selects_in_sql_exactly_whom_python_selects(crowd: list[int], tree: dict, as_of: datetime) -> None:
    condition = parse(tree)
    known = conditions.snapshots(crowd, [condition], as_of)
    expected = {pk for pk in crowd if conditions.holds(condition, known[pk], seconds(as_of))}
    assert _matching(condition, as_of) == expected


@given(tree=trees, as_of=moments)
@_HOW
def test_it_names_the_same_next_flip_in_sql_and_in_python(crowd: list[int], tree: dict, as_of: datetime) -> None:
    condition = parse(tree)
    known = conditions.snapshots(crowd, [condition], as_of)
    expressions, params = conditions.flip_sql([condition], as_of)
    if not expressions:
        assert all(conditions.next_flip(condition, known[pk], seconds(as_of)) is None for pk in crowd)
        return
    rows = batches.rows(
        f"SELECT f.customer_id, {conditions.smallest(expressions)} FROM customers_customerfacts f", params
    )
    found = {pk: None if flip == conditions.FOREVER else flip for pk, flip in rows}
    assert found == {pk: conditions.next_flip(condition, known[pk], seconds(as_of)) for pk in crowd}


@given(tree=trees, as_of=moments, share=st.floats(0, 1))
@_HOW
def test_it_never_changes_its_answer_before_the_flip(
    crowd: list[int], tree: dict, as_of: datetime, share: float
) -> None:
    """Only time passes: nothing new happens, so rows later than ``as_of`` do not count at any later second."""
    condition = parse(tree)
    start = seconds(as_of)
    for pk, snapshot in conditions.snapshots(crowd, [condition], as_of).items():
        flip = conditions.next_flip(condition, snapshot, start)
        end = start + 400 * DAY if flip is None else flip - 1
        answer = conditions.holds(condition, snapshot, start)
        for moment in {start, end, start + int((end - start) * share)}:
            assert conditions.holds(condition, snapshot, moment) is answer, (pk, moment)


def test_it_flips_at_exactly_the_second_that_was_promised() -> None:
    since = conditions.parse({"fact": "last_order_at", "op": "days_since_gte", "value": 90})
    snapshot = {"last_order_at": 1_000}
    flip = conditions.next_flip(since, snapshot, 2_000)
    assert flip == 1_000 + 90 * DAY
    assert [conditions.holds(since, snapshot, flip + d) for d in (-1, 0)] == [False, True]

    twice = conditions.parse({"did": "visit", "times": 2, "days": 30})
    snapshot = {"did:visit:30": [50_000, 9_000, 100]}
    flip = conditions.next_flip(twice, snapshot, 60_000)
    assert flip == 9_000 + 30 * DAY + 1
    assert [conditions.holds(twice, snapshot, flip + d) for d in (-1, 0)] == [True, False]


def test_it_measures_silence_in_the_customers_own_gaps() -> None:
    quiet = conditions.parse(
        {"fact": "last_order_at", "op": "days_since_gte", "value": {"gaps": 2.5, "at_least": 45, "at_most": 200}}
    )
    for gap_days, limit in ((None, 200), (10, 45), (40, 100), (300, 200)):
        snapshot = {"last_order_at": 0, "gap_seconds": None if gap_days is None else gap_days * DAY}
        assert conditions.next_flip(quiet, snapshot, 0) == limit * DAY


@given(tree=trees)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_it_can_always_be_said(tree: dict) -> None:
    condition = parse(tree)
    for language in ("en", "pl"):
        with translation.override(language):
            assert sentences.say(condition)
            assert "%(" not in sentences.say(condition)
            sentences.because(condition, {"gap_seconds": None}, 0)


def test_it_says_why_with_value_and_limit() -> None:
    rule = conditions.parse(
        {
            "all": [
                {"fact": "orders", "op": "gte", "value": 2},
                {"fact": "last_order_at", "op": "days_since_gte", "value": 180},
                {"not": {"fact": "engaged_at", "op": "days_since_lt", "value": 90}},
            ]
        }
    )
    snapshot = {"orders": 3, "last_order_at": 0, "engaged_at": 118 * DAY}
    assert sentences.because(rule, snapshot, 214 * DAY) == (
        "orders: 3 (at least 2), no order for 214 days (limit 180) and no visit or click for 96 days (limit 90)"
    )
    assert sentences.because(rule, snapshot | {"orders": 1}, 214 * DAY) == "orders: 1 (at least 2)"
    assert sentences.say(rule) == (
        "orders: at least 2, no order for 180 days or more and no visit or click for 90 days or more"
    )


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"fact": "shoe_size", "op": "eq", "value": 1}, "unknown fact 'shoe_size'"),
        ({"fact": "orders", "op": "like", "value": 1}, "is a number; use eq, ne"),
        ({"fact": "orders", "op": "gte", "value": "2"}, "condition.value: expected a whole number"),
        ({"fact": "orders", "op": "gte", "value": True}, "expected a whole number"),
        ({"fact": "last_order_at", "op": "gte", "value": 3}, "is a moment; use days_since_gte"),
        ({"fact": "last_order_at", "op": "days_since_gte", "value": -1}, "from 0 to 36500"),
        ({"fact": "stage", "op": "eq", "value": "limbo"}, "'limbo' is no stage"),
        ({"all": [{"any": [{"not": {"fact": "x"}}]}]}, "condition.all[0].any[0].not: unknown fact 'x'"),
        ({"all": [], "any": []}, "needs exactly one of"),
        ({"all": {}}, "expected a list of conditions"),
        ({"did": "visit", "times": 0}, "condition.times: expected a whole number from 1"),
        ({"bought": {"colour": "red"}}, "expected {'category': …} or {'sku': …}"),
        ({"fact": "orders", "op": "gte", "value": 1, "days": 3}, "does not know 'days'"),
        (["orders"], "expected an object"),
        ({"segment": "loyal"}, "another segment can be used in segments only"),
        ({"tag": "vip"}, "a tag can be used in segments only"),
        ({"fact": "country", "op": "eq", "value": "SE"}, "country can be used in segments only"),
        (
            {"fact": "last_order_at", "op": "days_since_gte", "value": {"gaps": 2, "at_least": 9, "at_most": 3}},
            "at_least (9) is above at_most (3)",
        ),
    ],
)
def test_it_refuses_a_bad_tree_and_says_where(tree: object, sentence: str) -> None:
    with pytest.raises(BadCondition) as refusal:
        conditions.parse(tree)
    assert sentence in refusal.value.message


def test_it_refuses_a_tree_that_is_too_deep() -> None:
    tree: dict = {"fact": "orders", "op": "gte", "value": 1}
    for _ in range(12):
        tree = {"not": tree}
    with pytest.raises(BadCondition, match="nested deeper"):
        conditions.parse(tree)


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"segment": "gone"}, "condition: there is no segment 'gone'"),
        ({"segment": ["loyal"]}, "there is no segment ['loyal']"),
        ({"segment": "loyal", "op": "eq"}, "does not know 'op'"),
        ({"tag": ""}, "expected a tag, found ''"),
        ({"fact": "country", "op": "gte", "value": "SE"}, "country is a text; use eq, ne, in"),
        ({"fact": "country", "op": "in", "value": []}, "condition.value: expected a list of texts"),
        ({"any": [{"segment": "a"}]}, "inside itself: a → b → a. Remove it"),
        ({"segment": "deep0"}, "at most 5 deep: deep0 → deep1 → deep2 → deep3 → deep4 → deep5 → deep6"),
        ({"all": [{"segment": "wide"}, {"segment": "wide"}]}, "more than 300 conditions"),
    ],
)
def test_it_refuses_what_a_segment_cannot_say(tree: object, sentence: str) -> None:
    chain = {f"deep{n}": Found(f"Deep {n}", {"segment": f"deep{n + 1}"}) for n in range(9)}
    known = {
        **SEGMENTS,
        **chain,
        "a": Found("A", {"not": {"segment": "b"}}),
        "b": Found("B", {"all": [{"segment": "a"}]}),
        "wide": Found("Wide", {"all": [{"fact": "orders", "op": "gte", "value": n} for n in range(200)]}),
    }
    with pytest.raises(BadCondition) as refusal:
        conditions.parse(tree, resolve=known.get)
    assert sentence in refusal.value.message


def test_it_says_segments_fields_and_tags() -> None:
    tree = {
        "all": [
            {"segment": "quiet"},
            {"not": {"segment": "list"}},
            {"fact": "country", "op": "eq", "value": "SE"},
            {"not": {"tag": "vip"}},
        ]
    }
    condition = parse(tree)
    assert sentences.say(condition) == (
        "in the segment “Quiet”, not in the segment “By hand”, country: Sweden and without the tag “vip”"
    )
    snapshot = {"last_order_at": 0, "country": "PL", "tag:vip": False}
    assert sentences.because(condition, snapshot, 100 * DAY) == "country: Poland"
    assert sentences.because(condition, snapshot | {"country": "SE", "listed:1": True}, 100 * DAY) == (
        "in the segment “By hand” (on the list)"
    )
    assert sentences.because(parse({"segment": "quiet"}), snapshot, 100 * DAY) == (
        "in the segment “Quiet” (no order for 100 days (limit 60))"
    )

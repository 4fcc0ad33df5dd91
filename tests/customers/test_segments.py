"""Segments: who is in them now and on any past date, counted the same way by every door."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from customers import conditions, counting, facts, membership, segments
from customers.conditions import BadCondition
from customers.filters import CustomerFilter
from customers.models import (
    Customer,
    CustomerFacts,
    Segment,
    SegmentChange,
    SegmentDay,
    SegmentMember,
    SegmentVersion,
)
from customers.queries import people
from lifecycle_crm import night
from lifecycle_crm.demo import shop
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from lifecycle_crm.lib.moments import seconds
from tests.customers.factories import CustomerFactory
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

BUYERS = {"all": [{"fact": "orders", "op": "gte", "value": 2}]}


def person(orders: int = 0, **values: Any) -> Customer:
    known = {name: values.pop(name) for name in ("stage", "may_email", "spend_minor", "monetary") if name in values}
    customer = CustomerFactory(**{"known_since": datetime(2026, 1, 1, tzinfo=UTC), **values})
    CustomerFacts.objects.create(customer=customer, orders=orders, **known)
    return customer


def ids(segment: Segment) -> set[int]:
    sql, params = segments.matching(segments.condition_of(segment))
    return {pk for (pk,) in batches.rows(sql, params)}


# --- Verbs ----------------------------------------------------------------------------------------------------------------


def test_it_makes_a_segment_with_its_first_version_and_its_count() -> None:
    person(3), person(1)
    anna = UserFactory()
    segment = segments.create(name="  Loyal   people ", condition=BUYERS, note="For spring", actor=anna)
    assert (segment.key, segment.name, segment.kind, segment.version) == ("loyal-people", "Loyal people", "live", 1)
    assert (segment.members, segment.is_exact, segment.owner) == (1, True, anna)
    [version] = SegmentVersion.objects.all()
    assert (version.number, version.condition, version.created_by) == (1, BUYERS, anna)
    assert segments.create(name="Loyal people", condition=BUYERS).key == "loyal-people-2"
    assert segments.create(name="New", condition=BUYERS).key == "new-1"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": " "}, "needs a name"),
        ({"name": "x" * 121}, "more than 120"),
        ({"name": "A", "key": "Not a key"}, "is not usable"),
        ({"name": "A", "condition": None}, "expected an object"),
        ({"name": "A", "condition": {"fact": "shoes", "op": "eq", "value": 1}}, "unknown fact 'shoes'"),
        ({"name": "A", "key": "a", "condition": {"segment": "a"}}, "there is no segment 'a'"),
        ({"name": "A", "kind": "moving"}, "Use live or static"),
    ],
)
def test_it_refuses_a_bad_segment_and_saves_nothing(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        segments.create(**{"condition": BUYERS, **values})
    assert sentence in refusal.value.message
    assert not Segment.objects.exists()
    assert not SegmentVersion.objects.exists()


def test_it_refuses_a_key_that_is_taken() -> None:
    segments.create(name="A", key="a", condition=BUYERS)
    with pytest.raises(Conflict, match="There is a segment with the key “a”"):
        segments.create(name="B", key="a", condition=BUYERS)
    assert Segment.objects.count() == 1


def test_it_keeps_every_version_and_refuses_to_change_one() -> None:
    segment = segments.create(name="A", condition=BUYERS)
    tighter = {"all": [{"fact": "orders", "op": "gte", "value": 5}]}
    segments.edit(segment=segment, condition=tighter, version=1)
    segments.edit(segment=segment, name="B")
    assert (segment.version, segment.condition, segment.name) == (2, tighter, "B")
    assert list(SegmentVersion.objects.order_by("number").values_list("number", "condition")) == [
        (1, BUYERS), (2, tighter)
    ]  # fmt: skip
    with pytest.raises(IntegrityError), transaction.atomic():
        SegmentVersion.objects.update(condition={})
    with pytest.raises(Conflict, match="Somebody else saved"):
        segments.edit(segment=segment, condition=BUYERS, version=1)
    segment.refresh_from_db()
    assert (segment.version, segment.condition) == (2, tighter)


def test_it_refuses_a_circle_with_its_path_and_saves_nothing() -> None:
    a = segments.create(name="A", key="a", condition=BUYERS)
    b = segments.create(name="B", key="b", condition={"segment": "a"})
    segments.create(name="C", key="c", condition={"not": {"segment": "b"}})
    for tree, path in (
        ({"segment": "a"}, "a → a"),
        ({"segment": "b"}, "a → b → a"),
        ({"any": [BUYERS, {"segment": "c"}]}, "a → c → b → a"),
    ):
        with pytest.raises(BadCondition) as refusal:
            segments.edit(segment=a, condition=tree)
        assert path in refusal.value.message
    a.refresh_from_db()
    assert (a.condition, a.version) == (BUYERS, 1)
    assert ids(b) == ids(a)


def test_it_refuses_a_change_that_would_make_another_segment_too_deep() -> None:
    segments.create(name="S0", key="s0", condition=BUYERS)
    for n in range(1, 6):
        segments.create(name=f"S{n}", key=f"s{n}", condition={"segment": f"s{n - 1}"})
    segments.create(name="Other", key="other", condition=BUYERS)
    with pytest.raises(BadCondition, match=r"S5.*at most 5 deep: s5 → s4 → s3 → s2 → s1 → s0 → other"):
        segments.edit(segment=segments.get("s0"), condition={"segment": "other"})
    assert segments.get("s0").condition == BUYERS


def test_it_archives_only_what_no_other_segment_uses() -> None:
    a = segments.create(name="A", key="a", condition=BUYERS)
    b = segments.create(name="B", key="b", condition={"all": [{"not": {"segment": "a"}}]})
    with pytest.raises(Conflict) as refusal:
        segments.archive(segment=a)
    assert refusal.value.message == "“A” is used in “B”. Take it out there first."
    assert refusal.value.extra == {"used_in": [{"kind": "Segment", "name": "B", "url": "/segments/b/"}]}
    segments.archive(segment=b)
    segments.archive(segment=a)
    assert not Segment.objects.filter(archived_at=None).exists()
    with pytest.raises(BadCondition, match="no segment 'a'"):
        segments.restore(segment=b)
    segments.restore(segment=a)
    assert segments.restore(segment=b).archived_at is None


def test_it_keeps_a_static_list_by_hand() -> None:
    one, two, three = person(), person(), person()
    chosen = segments.create(name="Chosen", kind="static")
    assert segments.add_members(segment=chosen, customers=[one.pk, two.pk, one.pk]) == 2
    assert segments.add_members(segment=chosen, customers=[two.pk, three.pk]) == 1
    assert segments.remove_members(segment=chosen, customers=[one.pk]) == 1
    assert ids(chosen) == {two.pk, three.pk}
    assert Segment.objects.get().members == 2
    with pytest.raises(InvalidInput, match="no customer #999999"):
        segments.add_members(segment=chosen, customers=[one.pk, 999_999])
    assert ids(chosen) == {two.pk, three.pk}
    copy = segments.duplicate(segment=chosen)
    assert (copy.name, ids(copy)) == ("Chosen, copy", {two.pk, three.pk})
    live = segments.create(name="Live", condition={"not": {"segment": "chosen"}})
    assert ids(live) == {one.pk}
    with pytest.raises(InvalidInput, match="“Live” is live"):
        segments.add_members(segment=live, customers=[one.pk])
    with pytest.raises(InvalidInput, match="has no condition"):
        segments.edit(segment=chosen, condition=BUYERS)
    assert SegmentMember.objects.filter(segment=chosen).count() == 2


# --- Counting -------------------------------------------------------------------------------------------------------------


def test_it_counts_and_describes_whom_it_finds() -> None:
    person(3, stage="retain", may_email=True, spend_minor=500)
    person(2, stage="retain", spend_minor=200)
    person(4, stage="dormant", may_email=True)
    person(1, stage="nurture", may_email=True, spend_minor=9_000)
    found = counting.measure(segments.read(BUYERS))
    assert found.count == counting.Count(3, is_exact=True, low=3, high=3)
    assert (found.reachable, found.stages, found.spend_minor) == (2, {"retain": 2, "dormant": 1}, 700)


def test_it_says_when_a_count_is_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    customers = Customer.objects.bulk_create(Customer(name=f"C{n}") for n in range(300))
    CustomerFacts.objects.bulk_create(CustomerFacts(customer=c, orders=n % 3) for n, c in enumerate(customers))
    monkeypatch.setattr(counting, "SAMPLE", 150)
    monkeypatch.setattr(counting.sample_ids, "__defaults__", (150,))
    condition = segments.read({"all": [{"fact": "orders", "op": "gte", "value": 2}, {"not": {"did": "visit"}}]})
    found = _slow(monkeypatch, lambda: counting.measure(condition))
    assert (found.count.is_exact, found.count.n_sampled) == (False, 150)
    assert 70 < found.count.low < 100 < found.count.high < 135
    assert found.count.low <= found.count.value <= found.count.high
    removed, is_exact = _slow(monkeypatch, lambda: counting.effects(condition))
    assert not is_exact
    assert 150 < removed[(0,)] < 250
    assert removed[(1,)] == 0
    exact = counting.measure(condition)
    assert exact.count == counting.Count(100, is_exact=True, low=100, high=100)


def _slow(monkeypatch: pytest.MonkeyPatch, work: Any) -> Any:
    """The database as slow as a million customers would make it: the time that was given is over at once."""

    class Over:
        def __enter__(self) -> None:
            raise counting.TooLong

        def __exit__(self, *_: object) -> None:
            pass

    with monkeypatch.context() as patched:
        patched.setattr(counting, "within", lambda limit: Over())
        return work()


def test_it_stops_a_statement_that_takes_too_long_and_goes_on() -> None:
    person(2)
    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000000) SELECT count(*) FROM n"
    )
    with pytest.raises(counting.TooLong), counting.within(0.2):
        batches.rows(endless)
    assert counting.measure(segments.read(BUYERS)).count.value == 1
    if connection.vendor == "postgresql":
        with counting.within(5):
            assert batches.rows("SHOW statement_timeout") == [("5s",)]
        assert batches.rows("SHOW statement_timeout") == [("0",)]


@pytest.mark.parametrize(
    ("found", "asked", "everybody", "low", "high"), [(0, 100, 1000, 0, 37), (50, 100, 1000, 403, 597), (4, 4, 4, 4, 4)]
)
def test_it_bounds_an_estimate_by_what_the_sample_allows(
    found: int, asked: int, everybody: int, low: int, high: int
) -> None:
    count = counting.estimated(found, asked, everybody)
    assert (count.value, count.low, count.high) == (found * everybody // asked, low, high)


def test_it_tells_how_many_each_row_removes() -> None:
    person(3, stage="retain", country="SE")
    person(3, stage="retain", country="PL")
    person(1, stage="retain", country="SE")
    person(3, stage="reach")
    tree = {
        "all": [
            {"fact": "orders", "op": "gte", "value": 2},
            {"any": [{"fact": "country", "op": "eq", "value": "SE"}, {"fact": "country", "op": "eq", "value": "PL"}]},
        ]
    }
    removed, is_exact = counting.effects(segments.read(tree))
    # Two match; without the first row three do, without the group three, and each country alone would leave one.
    assert is_exact
    assert removed == {(0,): 1, (1,): 1, (1, 0): -1, (1, 1): -1}
    assert counting.effects(segments.read({"any": tree["all"][1]["any"]}))[0] == {(0,): -2, (1,): -1}
    assert counting.effects(segments.read({"all": []})) == ({}, True)


def test_it_says_why_somebody_is_in_and_why_not() -> None:
    inside, outside = person(3, stage="retain"), person(1, stage="retain")
    segment = segments.create(
        name="A", condition={"all": [*BUYERS["all"], {"fact": "stage", "op": "eq", "value": "retain"}]}
    )
    condition = segments.condition_of(segment)
    told = segments.explain(condition, inside)
    assert (told.is_in, told.because) == (True, "orders: 3 (at least 2) and stage: Retain")
    told = segments.explain(condition, outside)
    assert (told.is_in, told.because) == (False, "orders: 1 (at least 2)")
    told = segments.explain(condition, CustomerFactory())
    assert (told.is_in, told.because) == (False, "their facts are not counted yet; wait a few seconds")


def test_it_samples_in_order_and_goes_on_after_the_last() -> None:
    everybody = [person(2) for _ in range(13)]
    condition = segments.read(BUYERS)
    first = segments.sample(condition)
    assert [c.pk for c in first] == [c.pk for c in everybody[:10]]
    assert [c.pk for c in segments.sample(condition, after=first[-1].pk)] == [c.pk for c in everybody[10:]]


# --- Over time ------------------------------------------------------------------------------------------------------------

DAY_ONE = date(2026, 3, 1)


def _record(day: date) -> dict[str, int]:
    told = membership.record(business_date=day, as_of=clock.day_end(day))
    return {name: told[name] for name in ("segments_entered", "segments_left")}


def _backdate(segment: Segment, moment: datetime) -> None:
    """As if it had been made then: versions are append-only, so the test makes the row anew with its time."""
    SegmentVersion.objects.create(segment=segment, number=0, condition=segment.condition, created_at=moment)


def members(segment: Segment, day: date) -> set[int]:
    sql, params = membership.members_on(segment, day)
    return {pk for (pk,) in batches.rows(sql, params)}


def test_it_records_who_entered_and_left_and_knows_every_past_day() -> None:
    stays, comes, goes = person(2), person(0), person(5)
    segment = segments.create(name="A", condition=BUYERS)
    _backdate(segment, datetime(2026, 2, 1, tzinfo=UTC))
    assert _record(DAY_ONE) == {"segments_entered": 2, "segments_left": 0}
    CustomerFacts.objects.filter(pk=comes.pk).update(orders=2)
    CustomerFacts.objects.filter(pk=goes.pk).update(orders=0)
    day_two = DAY_ONE + timedelta(days=1)
    assert _record(day_two) == {"segments_entered": 1, "segments_left": 1}
    assert _record(day_two) == {"segments_entered": 0, "segments_left": 0}
    CustomerFacts.objects.filter(pk=goes.pk).update(orders=5)
    day_three = DAY_ONE + timedelta(days=2)
    assert _record(day_three) == {"segments_entered": 1, "segments_left": 0}
    assert _record(day_two) == {"segments_entered": 0, "segments_left": 0}  # a passed date is left alone
    assert members(segment, DAY_ONE - timedelta(days=1)) == set()
    assert members(segment, DAY_ONE) == {stays.pk, goes.pk}
    assert members(segment, day_two) == {stays.pk, comes.pk}
    assert members(segment, day_three) == {stays.pk, comes.pk, goes.pk}
    days = SegmentDay.objects.order_by("business_date").values_list("members", "entered", "left", "is_first")
    assert list(days) == [(2, 2, 0, True), (2, 1, 1, False), (3, 1, 0, False)]
    with pytest.raises(IntegrityError), transaction.atomic():
        SegmentChange.objects.all().delete()


def test_it_asks_each_date_with_the_condition_that_was_in_force() -> None:
    few, many = person(2), person(5)
    segment = segments.create(name="A", key="a", condition=BUYERS)
    outer = segments.create(name="B", key="b", condition={"segment": "a"})
    for one in (segment, outer):
        _backdate(one, datetime(2026, 2, 1, tzinfo=UTC))
    assert _record(date(2026, 1, 1)) == {"segments_entered": 0, "segments_left": 0}  # neither was made then
    segments.edit(segment=segment, condition={"all": [{"fact": "orders", "op": "gte", "value": 5}]})
    _record(DAY_ONE)
    assert segments.get("a").members == 1  # the older condition found two
    today = clock.today()
    _record(today)
    for one in (segment, outer):
        assert members(one, DAY_ONE) == {few.pk, many.pk}
        assert members(one, today) == {many.pk}
    assert [day.is_first for day in membership.days_of(segment)] == [True, True]
    assert [day.version for day in membership.days_of(segment)] == [2, 0]


def test_it_leaves_out_a_segment_that_cannot_be_read_and_counts_the_others() -> None:
    person(2)
    good = segments.create(name="A", key="a", condition=BUYERS)
    bad = segments.create(name="B", key="b", condition=BUYERS)
    SegmentVersion.objects.create(segment=bad, number=2, condition={"segment": "gone"})
    assert _record(clock.today())["segments_entered"] == 1
    assert SegmentDay.objects.get().segment == good


def test_every_past_date_of_a_replayed_shop_is_as_it_was_computed_that_day() -> None:
    note = shop.build(customers=60)
    last = date.fromisoformat(note["to"])
    trees = {
        "silent": {"all": [{"fact": "engaged_at", "op": "days_since_gte", "value": 5}]},
        "fresh": {"all": [{"fact": "first_order_at", "op": "days_since_lt", "value": 30}]},
        "stage": {"any": [{"fact": "stage", "op": "in", "value": ["retain", "nurture"]}, {"segment": "fresh"}]},
        "rest": {"not": {"any": [{"segment": "silent"}, {"segment": "stage"}]}},
    }
    made = {}
    for key, tree in trees.items():
        made[key] = segments.create(name=key, key=key, condition=tree)
    for segment in made.values():
        _backdate(segment, clock.day_start(last - timedelta(days=400)))
    expected: dict[tuple[str, date], set[int]] = {}
    for day in [last - timedelta(days=12 * n) for n in reversed(range(12))]:
        night.replay(day, day)
        as_of = clock.day_end(day)
        _record(day)
        everybody = list(CustomerFacts.objects.values_list("pk", flat=True))
        for key, segment in made.items():
            condition = segments.condition_of(segment)
            known = conditions.snapshots(everybody, [condition], as_of)
            expected[key, day] = {pk for pk in everybody if conditions.holds(condition, known[pk], seconds(as_of))}
    assert sum(map(bool, expected.values())) > 20
    assert len({frozenset(found) for found in expected.values()}) > 10
    for (key, day), found in expected.items():
        assert members(made[key], day) == found, (key, day)
        [recorded] = SegmentDay.objects.filter(segment=made[key], business_date=day)
        assert recorded.members == len(found)


# --- The list of customers ------------------------------------------------------------------------------------------------


def test_count_list_and_members_agree_now_and_on_a_past_date() -> None:
    for n in range(12):
        person(n % 4, country="SE" if n % 2 else "PL")
    CustomerFactory()  # nobody counted their facts yet
    segment = segments.create(
        name="A", condition={"all": [*BUYERS["all"], {"fact": "country", "op": "eq", "value": "SE"}]}
    )
    _record(clock.today())
    count = counting.measure(segments.condition_of(segment)).count.value
    now = CustomerFilter({"segment": segment.key}, queryset=people()).qs
    then = CustomerFilter({"segment": segment.key, "segment_on": str(clock.today())}, queryset=people()).qs
    assert count == 3
    assert {c.pk for c in now} == {c.pk for c in then} == ids(segment)
    CustomerFacts.objects.update(orders=0)
    assert now.all().count() == 0
    assert then.all().count() == 3


def test_a_change_of_the_customer_counts_at_once() -> None:
    someone = person(2, country="SE", tags=["vip"])
    segment = segments.create(
        name="A", condition={"all": [{"tag": "vip"}, {"fact": "country", "op": "in", "value": ["SE"]}]}
    )
    assert ids(segment) == {someone.pk}
    someone.tags = []
    someone.save()
    facts.refresh_now([someone.pk])
    assert ids(segment) == set()

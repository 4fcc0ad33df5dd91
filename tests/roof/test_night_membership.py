"""Segments as the night keeps them: only who moved or whose time has come is asked, and nobody is missed by that."""

from __future__ import annotations

import random
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pytest
import time_machine

from customers import conditions, facts, membership, segments
from customers.models import Customer, CustomerFacts, Segment, SegmentDay, SegmentStanding, SegmentVersion
from lifecycle_crm import night, reactions
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.moments import seconds
from stages import engine
from stages.models import Night
from tests.customers.factories import OrderFactory
from tests.factories import UserFactory
from tests.roof.test_night import shop

pytestmark = pytest.mark.django_db

TREES: dict[str, Any] = {
    "silent": {"all": [{"fact": "last_order_at", "op": "days_since_gte", "value": 45}]},
    "fresh": {"all": [{"fact": "first_order_at", "op": "days_since_lt", "value": 30}]},
    "visits": {"all": [{"did": "visit", "op": "gte", "times": 1, "days": 11}]},
    "seldom": {"all": [{"did": "visit", "op": "lt", "times": 1, "days": 17}]},
    "placed": {"all": [{"fact": "stage_since", "op": "days_since_gte", "value": 6}]},
    "keen": {"any": [{"fact": "stage", "op": "in", "value": ["retain", "nurture"]}, {"segment": "fresh"}]},
    "recent": {"all": [{"fact": "recency", "op": "gte", "value": 4}]},
    "rest": {"not": {"any": [{"segment": "silent"}, {"segment": "keen"}]}},
}


def install(first: date) -> None:
    for key, tree in TREES.items():
        segment = segments.create(name=key, key=key, condition=tree)
        SegmentVersion.objects.create(
            segment=segment, number=0, condition=tree, created_at=clock.day_start(first - timedelta(days=9))
        )


def truth(as_of: Any) -> dict[str, set[int]]:
    """Who is in each segment, everybody asked in Python from their rows."""
    everybody = list(CustomerFacts.objects.values_list("pk", flat=True))
    found = {}
    for segment in Segment.objects.all():
        condition = segments.condition_of(segment)
        known = conditions.snapshots(everybody, [condition], as_of)
        found[segment.key] = {pk for pk in everybody if conditions.holds(condition, known[pk], seconds(as_of))}
    return found


def kept() -> dict[str, set[int]]:
    found: dict[str, set[int]] = {key: set() for key in Segment.objects.values_list("key", flat=True)}
    for key, pk in SegmentStanding.objects.values_list("segment__key", "customer_id"):
        found[key].add(pk)
    return found


def live(nights: int, *, busy: bool = True) -> list[tuple[date, dict[str, set[int]], dict[str, set[int]]]]:
    """So many days of a shop with orders at noon and people moved by hand; what was kept and what is true after each."""
    dice = random.Random(7)
    first = shop(50)
    start = clock.today() - timedelta(days=nights)
    actor = UserFactory(role="marketer")
    install(first)
    night.run(start - timedelta(days=1))
    told = []
    for day in clock.days(start, clock.last_complete_day()):
        if busy:
            with time_machine.travel(clock.day_start(day) + timedelta(hours=12), tick=False):
                for customer in dice.sample(list(Customer.objects.order_by("pk")), 2):
                    OrderFactory(customer=customer, placed_at=clock.now() - timedelta(minutes=5))
                    facts.mark([customer.pk], occurred_at=clock.now() - timedelta(minutes=5))
                reactions.run(seconds=10)
                if dice.random() < 0.4:
                    row = dice.choice(list(CustomerFacts.objects.exclude(stage="advocate").order_by("pk")))
                    until = clock.now() + timedelta(days=5) if dice.random() < 0.5 else None
                    engine.move_by_hand(
                        customer=row.customer, to="advocate", reason="met at the fair", actor=actor, pin_until=until
                    )
        done = night.run(day)
        assert done.state == Night.State.DONE
        told.append((day, kept(), truth(done.as_of)))
    return told


def test_it_keeps_every_segment_as_if_everybody_had_been_asked() -> None:
    told = live(14)
    moved: set[str] = set()
    for (_before, was, _), (day, found, true) in pairwise(told):
        assert found == true, day
        moved |= {key for key in found if found[key] != was[key]}
    assert moved == set(TREES)  # each of them had somebody enter or leave, so each could have been wrong
    last = told[-1][0]
    sizes = dict(SegmentDay.objects.filter(business_date=last).values_list("segment__key", "members"))
    assert sizes == {key: len(people) for key, people in told[-1][2].items()}
    watch = membership.watch(business_date=last, as_of=clock.day_end(last), previous=last - timedelta(days=1))
    assert len(watch.steady) == len(TREES)  # and nobody but the due was asked


def test_it_would_miss_people_if_reviews_did_not_know_the_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership.Watch, "conditions", lambda self: ())
    monkeypatch.setattr(membership, "_review_in_time", lambda changed, as_of: None)
    told = live(12, busy=False)
    assert any(found != true for _day, found, true in told)


def test_a_changed_segment_is_asked_of_everybody_once_and_then_watched() -> None:
    first = shop(40)
    install(first)
    days = list(clock.days(clock.today() - timedelta(days=6), clock.last_complete_day()))
    night.run(days[0])
    night.run(days[1])
    with time_machine.travel(clock.day_start(days[2]) + timedelta(hours=9), tick=False):
        fresh = segments.get("fresh")
        tree = {"all": [{"fact": "first_order_at", "op": "days_since_lt", "value": 160}]}
        segments.edit(segment=fresh, condition=tree)
    for day in days[2:]:
        before = {pk for (pk,) in SegmentStanding.objects.filter(segment=fresh).values_list("customer_id")}
        done = night.run(day)
        assert kept() == truth(done.as_of), day
        row = SegmentDay.objects.get(segment=fresh, business_date=day)
        assert row.members == len(kept()["fresh"])
        assert row.entered - row.left == row.members - len(before)
    watch = membership.watch(business_date=days[2], as_of=clock.day_end(days[2]), previous=days[1])
    changed = {one.pk for one in watch.segments if not one.is_steady}
    names = set(Segment.objects.filter(pk__in=changed).values_list("key", flat=True))
    assert names == set()  # recorded for later dates: a passed date is left alone


def test_a_static_list_inside_another_segment_is_never_taken_as_steady() -> None:
    shop(12)
    days = list(clock.days(clock.today() - timedelta(days=3), clock.last_complete_day()))
    people = list(Customer.objects.order_by("pk")[:4])
    listed = segments.create(name="Guests", key="guests", kind=Segment.Kind.STATIC)
    outer = segments.create(name="Others", key="others", condition={"not": {"segment": "guests"}})
    for segment in (listed, outer):
        SegmentVersion.objects.create(
            segment=segment, number=0, condition=segment.condition, created_at=clock.day_start(days[0])
        )
    night.run(days[0])
    segments.add_members(segment=listed, customers=[p.pk for p in people])
    night.run(days[1])
    assert kept()["guests"] == {p.pk for p in people}
    assert kept()["others"].isdisjoint(kept()["guests"])
    segments.remove_members(segment=listed, customers=[people[0].pk])
    night.run(days[2])
    assert kept()["guests"] == {p.pk for p in people[1:]}
    assert people[0].pk in kept()["others"]

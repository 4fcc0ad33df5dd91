from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest

from customers import ingest
from customers.ingest import EventIn, Status
from customers.models import Customer, DirtyCustomer, Event
from lifecycle_crm.lib import clock
from tests.customers.factories import LONG_AGO, ExternalIdFactory, event_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def customer() -> Customer:
    return ExternalIdFactory(value="C-1").customer


def test_it_writes_an_event_once_for_ever(customer: Customer) -> None:
    first, double = ingest.record_events(
        [event_in("1", properties={"page": "Łódź"}), event_in("1")], source="web", id_source="shop"
    )
    [again] = ingest.record_events([event_in("1")], source="web", id_source="shop")
    event = Event.objects.get()
    assert [first.status, double.status, again.status] == ["created", "duplicate", "duplicate"]
    assert first.id == double.id == again.id == event.pk
    assert (event.properties, event.occurred_at, event.is_history) == ({"page": "Łódź"}, LONG_AGO, True)
    assert DirtyCustomer.objects.count() == 1


def test_it_ends_in_the_same_rows_whatever_order_and_how_often_they_come(customer: Customer) -> None:
    rows = [
        event_in(f"E-{n}", name=f"n{n % 7}", occurred_at=LONG_AGO + timedelta(minutes=n * 17 % 901)) for n in range(600)
    ]
    ingest.record_events(rows, source="sorted", id_source="shop")
    dice = random.Random(54)
    sent = rows * 3
    dice.shuffle(sent)
    statuses: list[Status] = []
    for start in range(0, len(sent), 250):
        statuses += [
            result.status
            for result in ingest.record_events(sent[start : start + 250], source="shuffled", id_source="shop")
        ]
    assert (statuses.count(Status.CREATED), statuses.count(Status.DUPLICATE)) == (600, 1200)

    def kept(source: str) -> list[tuple[object, ...]]:
        found = Event.objects.filter(source=source).order_by("source_id")
        return list(found.values_list("source_id", "customer_id", "name", "occurred_at", "is_history", "properties"))

    assert kept("shuffled") == kept("sorted")


def test_it_corrects_a_clock_that_is_three_days_slow(customer: Customer) -> None:
    now = clock.now()
    slow = now - timedelta(days=3)
    event = ingest.record_event(
        event_in("1", occurred_at=slow - timedelta(hours=1), sent_at=slow), source="web", id_source="shop"
    )
    assert abs(event.occurred_at - (now - timedelta(hours=1))) < timedelta(seconds=5)


def test_it_corrects_a_clock_that_is_two_years_fast(customer: Customer) -> None:
    now = clock.now()
    fast = now + timedelta(days=730)
    event = ingest.record_event(event_in("1", occurred_at=fast, sent_at=fast), source="web", id_source="shop")
    assert abs(event.occurred_at - now) < timedelta(seconds=5)


def test_it_takes_what_is_hours_ahead_as_now(customer: Customer) -> None:
    event = ingest.record_event(
        event_in("1", occurred_at=clock.now() + timedelta(hours=20)), source="web", id_source="shop"
    )
    assert event.occurred_at == event.received_at


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (event_in("x", occurred_at=clock.now() + timedelta(days=730)), "future_date"),
        (event_in("x", occurred_at=datetime(2025, 1, 1)), "no_time_zone"),
        (event_in("x", sent_at=datetime(2025, 1, 1)), "no_time_zone"),
        (event_in("x", occurred_at=None), "missing_time"),
        (event_in("x", name=" "), "missing_name"),
        (event_in("", name="visit"), "missing_id"),
        (event_in("x", external_id="C-404"), "unknown_customer"),
        (event_in("x", properties=[1]), "invalid_json"),
        (event_in("x", properties={"a": float("inf")}), "invalid_json"),
        (event_in("x", properties={"a": "\ud800"}), "invalid_json"),
        (event_in("x", properties={"a": "x" * 70_000}), "invalid_json"),
    ],
)
def test_it_refuses_a_bad_event_with_one_sentence_and_keeps_the_good_ones(
    customer: Customer, row: EventIn, code: str
) -> None:
    results = ingest.record_events([event_in("1"), row, event_in("2")], source="web", id_source="shop")
    assert [result.status for result in results] == [Status.CREATED, Status.ERROR, Status.CREATED]
    assert results[1].code == code
    assert results[1].message.endswith(".")
    assert set(Event.objects.values_list("source_id", flat=True)) == {"1", "2"}


def test_it_refuses_properties_nested_too_deep(customer: Customer) -> None:
    deep: dict[str, object] = {}
    for _level in range(10_000):
        deep = {"a": deep}
    [result] = ingest.record_events([event_in("1", properties=deep)], source="web", id_source="shop")
    assert result.code == "invalid_json"
    assert not Event.objects.exists()

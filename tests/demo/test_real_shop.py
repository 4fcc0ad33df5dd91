"""The sample shop as everybody gets it, built once for all tests of this file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from django.db import transaction
from django.db.models import Count, F, Max, Min, Sum

from customers.models import Consent, Customer, CustomerFacts, DirtyCustomer, Event, Order
from feedback.models import Response
from lifecycle_crm.demo import histories, shop
from lifecycle_crm.lib import clock
from stages.models import RuleSet

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("note")]


@pytest.fixture(scope="module")
def note(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, Any]]:
    """The note of a shop that lies under the transactions of the tests and is rolled back after the last one."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield shop.build()
        transaction.set_rollback(True)


def test_it_adds_up_to_the_published_file(note: dict[str, Any]) -> None:
    real = Order.objects.filter(source="cdnow")
    assert real.count() == Order.objects.count() == 6919
    assert real.values("customer").distinct().count() == 2357
    assert real.aggregate(cents=Sum("amount_minor"), net=Sum("base_minor")) == {"cents": 24_409_194, "net": 24_409_194}
    assert (note["customers"], note["buyers"], note["orders"]) == (2773, 2357, 6919)
    assert Customer.objects.filter(is_invented=True).count() == Customer.objects.count() == 2773
    # Lines add up to each order, to the cent and to the disc.
    wrong = Order.objects.annotate(
        paid=Sum(F("lines__unit_minor") * F("lines__quantity") - F("lines__discount_minor")),
        discs=Sum("lines__quantity"),
    ).exclude(paid=F("amount_minor"), discs=F("items"))
    assert not wrong.exists()


def test_it_moves_every_purchase_by_the_same_number_of_days_to_end_yesterday(note: dict[str, Any]) -> None:
    yesterday = clock.last_complete_day()
    ends = Order.objects.aggregate(first=Min("placed_at"), last=Max("placed_at"))
    assert clock.business_date(ends["last"]) == yesterday == date.fromisoformat(note["to"])
    assert clock.business_date(ends["first"]) == date.fromisoformat(note["from"])
    moved = yesterday - date(1998, 6, 30)
    assert note["moved_days"] == moved.days
    days: dict[str, list[date]] = {}
    for number, at in Order.objects.values_list("customer__external_ids__value", "placed_at"):
        days.setdefault(number, []).append(clock.business_date(at))
    for history in histories.read():
        assert sorted(days[history.number]) == [one.day + moved for one in history.purchases]


def test_it_loads_everything_as_history_and_marks_each_day_for_the_nights(note: dict[str, Any]) -> None:
    window = (clock.day_start(date.fromisoformat(note["from"])), clock.day_end(date.fromisoformat(note["to"])))
    assert not Order.objects.filter(is_history=False).exists()
    assert not Event.objects.filter(is_history=False).exists()
    assert not Response.objects.filter(is_history=False).exists()
    assert not DirtyCustomer.objects.filter(is_history=False).exists()
    for model, column in (
        (Customer, "known_since"),
        (Event, "occurred_at"),
        (Consent, "occurred_at"),
        (Response, "answered_at"),
    ):
        assert not model.objects.filter(**{f"{column}__lt": window[0]}).exists()
        assert not model.objects.filter(**{f"{column}__gte": window[1]}).exists()
    marked = set(DirtyCustomer.objects.values_list("customer_id", "occurred_at"))
    for customer, at in Order.objects.values_list("customer_id", "placed_at"):
        assert (customer, at.replace(microsecond=0)) in marked
    assert not Event.objects.filter(occurred_at__lt=F("customer__known_since")).exists()
    assert not CustomerFacts.objects.exists()  # the replay makes them, day by day


def test_it_publishes_rules_with_the_shops_own_rhythm() -> None:
    rules = RuleSet.objects.get()
    assert rules.state == "published"
    repeat = sum(len(history.purchases) > 1 for history in histories.read())
    assert f"from {repeat:,} repeat buyers" in rules.note


def test_it_invents_people_who_cannot_be_reached() -> None:
    hosts = {email.rpartition("@")[2] for email in Customer.objects.values_list("email", flat=True)}
    assert all(
        host.split(".", host.count(".") - 1)[-1] in ("example.com", "example.org", "example.net") for host in hosts
    )
    for phone in Customer.objects.exclude(phone="").values_list("phone", flat=True):
        assert phone.startswith(("+4670174", "+447700900", "+1212555")), phone
    shares = dict(Customer.objects.values_list("language").annotate(n=Count("id")).values_list("language", "n"))
    assert set(shares) == {"sv", "nb", "pl", "cs", "en"}
    assert min(shares.values()) > 250
    agreed = Consent.objects.filter(is_granted=True).values("customer").distinct().count() / Customer.objects.count()
    assert 0.66 < agreed < 0.74
    leads = Customer.objects.filter(orders=None).count() / Customer.objects.count()
    assert round(leads, 2) == 0.15
    assert 220 < Response.objects.filter(source="invented").count() < 340
    assert {"visit", "sign_up", "cart", "review", "referral", "flight"} == set(
        Event.objects.values_list("name", flat=True)
    )

"""The eleven groups: one table, in Python and in SQL; and their history, written set-based."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from django.db import IntegrityError, transaction

from customers import rfm
from customers.filters import CustomerFilter
from customers.models import Customer, CustomerFacts, RfmChange, RfmDay, RfmGroup
from lifecycle_crm.lib import batches, clock

pytestmark = pytest.mark.django_db
DAY = date(2026, 3, 10)


def buyer(recency: int | None, frequency: int | None, minor: int = 1000, known: date = DAY, **facts) -> Customer:
    customer = Customer.objects.create(name=f"{recency}{frequency}", known_since=clock.day_start(known))
    orders = 0 if recency is None else 1
    first = clock.day_start(known) if orders else None
    CustomerFacts.objects.create(
        customer=customer, recency=recency, frequency=frequency, spend_minor=minor, orders=orders, first_order_at=first,
        **facts,
    )  # fmt: skip
    return customer


def score(customer: Customer, recency: int | None, frequency: int | None) -> None:
    first = clock.day_start(DAY) if recency else None
    CustomerFacts.objects.filter(customer=customer).update(recency=recency, frequency=frequency, first_order_at=first)


def record(day: date) -> int:
    return rfm.record(business_date=day, as_of=clock.day_end(day))


def test_it_names_every_cell_once_and_uses_all_eleven_names():
    names = [rfm.group_of(r, f) for r in range(1, 6) for f in range(1, 6)]
    assert set(names) == set(RfmGroup.values)
    assert len(RfmGroup.values) == 11
    assert sum(len(rfm.cells(group)) for group in RfmGroup.values) == 25
    assert [rfm.group_of(5, 5), rfm.group_of(5, 1), rfm.group_of(1, 5), rfm.group_of(1, 1), rfm.group_of(3, 3)] == [
        "champions", "new", "cannot_lose", "lost", "needs_attention",
    ]  # fmt: skip
    assert rfm.group_of(None, None) == ""


def test_it_names_the_same_in_sql_and_in_the_filter():
    for r in (None, *range(1, 6)):
        for f in (None, *range(1, 6)):
            buyer(r, f)
    found = batches.rows(f"SELECT recency, frequency, {rfm.group_sql()} FROM customers_customerfacts f")
    assert len(found) == 36
    assert [group for r, f, group in found if group != rfm.group_of(r, f)] == []
    for group in (*RfmGroup.values, "none"):
        listed = CustomerFilter({"rfm": group}, queryset=Customer.objects.all()).qs.count()
        assert listed == sum(1 for _r, _f, name in found if (name or "none") == group), group


def test_it_records_sizes_and_only_who_changed():
    anna, ben, cleo = buyer(5, 5, 700), buyer(5, 4, 300), buyer(None, None, 0)
    assert record(DAY) == 2
    assert list(RfmChange.objects.order_by("id").values_list("customer", "from_group", "to_group")) == [
        (anna.pk, "", "champions"),
        (ben.pk, "", "champions"),
    ]
    assert rfm.sizes(DAY).groups["champions"] == (2, 1000)
    assert rfm.sizes(DAY).groups["lost"] == (0, 0)
    assert RfmDay.objects.count() == 11

    score(anna, 1, 1)
    score(cleo, 5, 1)
    assert record(DAY + timedelta(days=1)) == 2
    assert record(DAY + timedelta(days=1)) == 0
    assert rfm.sizes(DAY + timedelta(days=5)).day == DAY + timedelta(days=1)
    assert rfm.sizes(DAY).groups["champions"] == (2, 1000)
    assert rfm.sizes(DAY - timedelta(days=1)) is None
    assert rfm.moved(DAY, DAY + timedelta(days=1)) == {("champions", "lost"): 1, ("none", "new"): 1}
    assert rfm.moved(DAY - timedelta(days=1), DAY) == {("none", "champions"): 2}


def test_it_lists_who_was_in_a_group_on_a_date():
    anna, ben = buyer(5, 5), buyer(None, None)
    record(DAY)
    score(anna, 2, 5)
    record(DAY + timedelta(days=3))
    for day, group, people in [
        (DAY - timedelta(days=1), "none", [anna, ben]),
        (DAY, "champions", [anna]),
        (DAY + timedelta(days=2), "champions", [anna]),
        (DAY + timedelta(days=3), "champions", []),
        (DAY + timedelta(days=3), "cannot_lose", [anna]),
        (DAY + timedelta(days=3), "none", [ben]),
    ]:
        found = CustomerFilter({"way": [f"rfm:{group}@{day}"]}, queryset=Customer.objects.order_by("pk"))
        assert list(found.qs) == people, (day, group)


def test_it_knows_only_customers_of_its_day_and_leaves_older_dates_alone():
    buyer(5, 5)
    late = buyer(5, 5, known=DAY + timedelta(days=1))
    assert record(DAY) == 1
    assert rfm.sizes(DAY).groups["champions"][0] == 1
    assert record(DAY + timedelta(days=1)) == 1
    score(late, 1, 1)
    assert record(DAY) == 0
    assert rfm.sizes(DAY).groups["champions"][0] == 1


def test_it_never_rewrites_history():
    buyer(5, 5)
    record(DAY)
    with pytest.raises(IntegrityError), transaction.atomic():
        RfmChange.objects.update(to_group="lost")
    with pytest.raises(IntegrityError), transaction.atomic():
        batches.execute("DELETE FROM customers_rfmchange")
    assert list(RfmChange.objects.values_list("to_group", flat=True)) == ["champions"]


def test_it_counts_the_grid_with_money_and_answers():
    buyer(5, 5, 700, nps_score=10)
    buyer(5, 5, 300, nps_score=3)
    buyer(5, 5, 100)
    buyer(None, None)
    cells = rfm.grid()
    assert len(cells) == 25
    best = cells[5, 5]
    assert (best.customers, best.revenue_minor, best.answers, best.nps) == (3, 1100, 2, 0.0)
    assert (cells[1, 1].customers, cells[1, 1].nps) == (0, None)

"""Orders as they stood at a past moment: what was given back since had not been given back yet."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import transaction

from customers import conditions, facts, givebacks, ingest
from customers.models import Customer, CustomerFacts, DirtyCustomer, Order, Refund
from lifecycle_crm.lib import batches, clock
from loyalty import tiers
from loyalty.models import Ladder, Programme
from tests.customers.factories import OrderFactory

pytestmark = pytest.mark.django_db

NOW = clock.now().replace(microsecond=0)
EVER = NOW - timedelta(days=30)


def ago(days: int) -> datetime:
    return NOW - timedelta(days=days)


@pytest.fixture
def order() -> Order:
    """100.01 crowns of 30 days ago at 0.0953; 30.00 given back 20 days ago and ten, and cancelled five days ago."""
    order = OrderFactory(
        currency="SEK", amount_minor=10_001, rate=Decimal("0.0953"), base_minor=953, placed_at=EVER, source_id="O"
    )
    for number, days in enumerate((20, 10)):
        ingest.refund(order=order, amount_minor=3000, source="shop", source_id=f"R-{number}", occurred_at=ago(days))
    ingest.refund(order=order, is_cancellation=True, source="shop", source_id="C", occurred_at=ago(5))
    return order


def seen(customer: Customer, as_of: datetime) -> tuple[int, int]:
    """Orders and spend by the facts at that moment."""
    with transaction.atomic():
        with facts.batch():
            facts.mark([customer.pk], occurred_at=as_of - timedelta(seconds=1))
            facts.take_dirty_of([customer.pk], as_of=as_of)
            facts.refresh(as_of=as_of)
        row = CustomerFacts.objects.get(pk=customer.pk)
        found = row.orders, row.spend_minor
        transaction.set_rollback(True)
    return found


def test_it_keeps_what_each_refund_took_to_the_last_penny(order: Order) -> None:
    assert list(Refund.objects.order_by("occurred_at").values_list("base_minor", flat=True)) == [286, 286, 381]


@pytest.mark.parametrize(
    ("days", "expected"),
    [(25, (1, 953)), (20, (1, 953)), (19, (1, 667)), (9, (1, 381)), (5, (1, 381)), (4, (0, 0)), (0, (0, 0))],
)
def test_a_past_moment_sees_the_order_as_it_was(order: Order, days: int, expected: tuple[int, int]) -> None:
    OrderFactory(customer=order.customer, placed_at=ago(3), base_minor=500, amount_minor=500)
    more = (1, 500) if days < 3 else (0, 0)
    assert seen(order.customer, ago(days)) == (expected[0] + more[0], expected[1] + more[1])


def test_a_cancellation_told_after_a_later_refund_counts_from_its_own_moment() -> None:
    order = OrderFactory(amount_minor=1000, base_minor=1000, placed_at=EVER)
    ingest.refund(order=order, amount_minor=300, source="shop", source_id="R", occurred_at=ago(5))
    ingest.refund(order=order, is_cancellation=True, source="shop", source_id="C", occurred_at=ago(10))
    assert [seen(order.customer, ago(days)) for days in (11, 9, 4)] == [(1, 1000), (0, 0), (0, 0)]


def test_a_condition_about_purchases_counts_what_was_not_cancelled_yet(order: Order) -> None:
    item = ingest.OrderIn(
        source_id="jazz", external_id="", email=order.customer.email, placed_at=ago(8), amount_minor=100, currency="USD",
        lines=[ingest.LineIn(title="Jazz", unit_minor=100, sku="j", category="jazz")],
    )  # fmt: skip
    placed = Order.objects.get(pk=ingest.record_order(item, source="shop").id)
    ingest.refund(order=placed, is_cancellation=True, source="shop", source_id="CJ", occurred_at=ago(2))
    facts.refresh_now([order.customer_id])
    condition = conditions.parse({"bought": {"category": "jazz"}, "op": "gte", "times": 1})
    found = []
    for days in (9, 7, 2, 1):
        sql, params = conditions.to_sql(condition, ago(days))
        by_sql = batches.rows(
            f"SELECT {sql} FROM customers_customerfacts f WHERE f.customer_id = {order.customer_id}", params
        )
        known = conditions.snapshots([order.customer_id], [condition], ago(days))[order.customer_id]
        assert bool(by_sql[0][0]) is conditions.holds(condition, known, int(ago(days).timestamp()))
        found.append(bool(by_sql[0][0]))
    assert found == [False, True, True, False]


@pytest.mark.parametrize("measure", ["spend", "orders"])
def test_a_tier_counts_what_was_not_given_back_yet(order: Order, measure: str) -> None:
    programme = Programme.current()
    assert programme is not None
    ladder = tiers.set_ladder(programme=programme, steps=[tiers.Step("Silver", 1)], measure=measure, window="lifetime")
    assert ladder.measure == Ladder.Measure(measure)
    amounts = []
    for days in (25, 15, 7, 1):
        sql, params = tiers.counted(ladder, f"SELECT {order.customer_id}", ago(days))
        amounts.append(batches.rows(f"SELECT coalesce(sum(amount), 0) FROM ({sql}) c", params)[0][0])
    assert amounts == ([953, 667, 381, 0] if measure == "spend" else [1, 1, 1, 0])


def test_who_got_money_back_since_is_looked_at_again(order: Order) -> None:
    DirtyCustomer.objects.all().delete()
    with transaction.atomic(), facts.batch():
        facts.mark([order.customer_id], occurred_at=ago(7))
        facts.take_dirty_of([order.customer_id], as_of=ago(6))
        facts.refresh(as_of=ago(6))
        facts.mark_later(as_of=ago(6))
    assert list(DirtyCustomer.objects.values_list("customer_id", "occurred_at")) == [(order.customer_id, ago(5))]


def test_nothing_given_back_since_costs_nothing_more(order: Order) -> None:
    assert "UNION" in givebacks.orders(ago(6), f"o.customer_id = {order.customer_id}")[0]
    assert "UNION" not in givebacks.orders(NOW, f"o.customer_id = {order.customer_id}")[0]
    assert "UNION" not in givebacks.orders(ago(6), f"o.customer_id = {order.customer_id + 1}")[0]

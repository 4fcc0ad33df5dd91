"""Customers with orders and refunds, as small as the tables allow, and dates that read well."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import factory

from customers.models import Customer, Order, Refund
from lifecycle_crm.lib import clock
from loyalty import ledger
from loyalty.models import Entry

SPRING = datetime(2026, 3, 10, 12, tzinfo=UTC)
"""An ordinary noon, long before the tests run."""


class CustomerFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Customer

    name = factory.Sequence(lambda n: f"Ada Example {n}")
    email = factory.Sequence(lambda n: f"ada{n}@shop.example")
    known_since = SPRING - timedelta(days=400)
    loaded_at = SPRING - timedelta(days=400)


class OrderFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Order

    customer = factory.SubFactory(CustomerFactory)
    source = "shop"
    source_id = factory.Sequence(lambda n: f"order-{n}")
    placed_at = SPRING
    currency = "USD"
    amount_minor = 4995
    base_minor = factory.LazyAttribute(lambda one: one.amount_minor)


class RefundFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Refund

    order = factory.SubFactory(OrderFactory)
    source = "shop"
    source_id = factory.Sequence(lambda n: f"refund-{n}")
    occurred_at = SPRING + timedelta(days=2)
    amount_minor = 1000


def give(customer: Customer, points: int, key: str = "", **more: Any) -> Entry:
    """Points that can be spent at once."""
    more.setdefault("effective_at", clock.now() - timedelta(days=1))
    return ledger.earn(customer=customer, points=points, key=key or f"gift:{Entry.objects.count()}", **more)

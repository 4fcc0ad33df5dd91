"""Smallest rows of customers, and what a shop sends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import factory

from customers.ingest import EventIn, OrderIn
from customers.models import Customer, Event, ExternalId, Order
from lifecycle_crm.lib import clock


class CustomerFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Customer

    name = factory.Sequence(lambda n: f"Kim Lind {n}")
    email = factory.Sequence(lambda n: f"kim{n}@example.org")


class ExternalIdFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = ExternalId

    customer = factory.SubFactory(CustomerFactory)
    source = "shop"
    value = factory.Sequence(lambda n: f"C-{n}")


class OrderFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Order

    customer = factory.SubFactory(CustomerFactory)
    source = "shop"
    source_id = factory.Sequence(lambda n: f"O-{n}")
    placed_at = factory.LazyFunction(lambda: clock.now() - timedelta(hours=1))
    currency = "USD"
    amount_minor = 10_000
    base_minor = factory.SelfAttribute("amount_minor")


class EventFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Event

    customer = factory.SubFactory(CustomerFactory)
    name = "visit"
    source = "shop"
    source_id = factory.Sequence(lambda n: f"E-{n}")
    occurred_at = factory.LazyFunction(lambda: clock.now() - timedelta(hours=1))


LONG_AGO = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


def order_in(source_id: str = "O-1", **values: Any) -> OrderIn:
    """An order of customer C-1 over 12.50 USD, long ago."""
    values = {"external_id": "C-1", "placed_at": LONG_AGO, "amount_minor": 1250, "currency": "USD", **values}
    return OrderIn(source_id=source_id, **values)


def event_in(source_id: str = "E-1", **values: Any) -> EventIn:
    """A visit of customer C-1, long ago."""
    return EventIn(**{"source_id": source_id, "name": "visit", "external_id": "C-1", "occurred_at": LONG_AGO, **values})

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection

from customers import ingest
from customers.models import DirtyCustomer, Order, Refund
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Conflict, DomainError, InvalidInput
from tests.customers.factories import OrderFactory

pytestmark = pytest.mark.django_db


def test_it_keeps_the_net_amount_exact_over_parts() -> None:
    order = OrderFactory(currency="SEK", amount_minor=10_001, rate=Decimal("0.0953"), base_minor=953)
    nets = []
    for number in range(3):
        ingest.refund(order=order, amount_minor=3000, source="shop", source_id=f"R-{number}")
        order.refresh_from_db()
        nets.append((order.refunded_minor, order.base_minor))
    assert nets == [(3000, 667), (6000, 381), (9000, 95)]
    assert order.is_counted
    assert DirtyCustomer.objects.count() == 3


def test_it_refuses_more_than_is_left_and_moves_nothing() -> None:
    order = OrderFactory(amount_minor=1000)
    ingest.refund(order=order, amount_minor=700, source="shop", source_id="R-1")
    with pytest.raises(Conflict) as refusal:
        ingest.refund(order=order, amount_minor=301, source="shop", source_id="R-2")
    assert (refusal.value.code, refusal.value.extra["left_minor"]) == ("refund_too_large", 300)
    order.refresh_from_db()
    assert (order.refunded_minor, order.base_minor, Refund.objects.count()) == (700, 300, 1)


def test_it_gives_back_the_rest_and_uncounts_a_cancelled_order() -> None:
    order = OrderFactory(amount_minor=1000)
    ingest.refund(order=order, amount_minor=400, source="shop", source_id="R-1")
    refund = ingest.refund(order=order, source="shop", source_id="R-2", is_cancellation=True)
    order.refresh_from_db()
    assert (refund.amount_minor, order.status, order.is_counted, order.base_minor) == (600, "cancelled", False, 0)
    with pytest.raises(Conflict):
        ingest.refund(order=order, source="shop", source_id="R-3", is_cancellation=True)
    assert Refund.objects.count() == 2


def test_it_answers_the_same_refund_with_the_one_that_is_there() -> None:
    order = OrderFactory(amount_minor=1000)
    first = ingest.refund(order=order, amount_minor=1000, source="shop", source_id="R-1")
    assert ingest.refund(order=order, amount_minor=1000, source="shop", source_id="R-1").pk == first.pk
    with pytest.raises(Conflict) as refusal:
        ingest.refund(order=OrderFactory(), amount_minor=1000, source="shop", source_id="R-1")
    assert refusal.value.code == "refund_id_taken"
    assert Refund.objects.count() == 1


@pytest.mark.parametrize(
    "values",
    [
        {"amount_minor": 0, "source_id": "R"},
        {"amount_minor": -5, "source_id": "R"},
        {"amount_minor": None, "source_id": "R"},
        {"amount_minor": 5, "source_id": ""},
        {"amount_minor": 5, "source_id": "R", "occurred_at": clock.now() + timedelta(hours=1)},
    ],
)
def test_it_refuses_what_makes_no_sense(values: dict[str, object]) -> None:
    order = OrderFactory(amount_minor=1000)
    with pytest.raises(InvalidInput):
        ingest.refund(order=order, source="shop", **values)
    assert not Refund.objects.exists()


def test_it_calls_a_refund_from_before_loading_history() -> None:
    order = OrderFactory()
    then = clock.now() - timedelta(days=2)
    assert ingest.refund(order=order, amount_minor=1, source="s", source_id="1", occurred_at=then).is_history
    assert not ingest.refund(order=order, amount_minor=1, source="s", source_id="2").is_history


@pytest.mark.django_db(transaction=True)
def test_it_never_gives_back_more_than_was_paid_when_many_ask_at_once() -> None:
    order = OrderFactory(amount_minor=1000)
    outcomes: list[str] = []
    start = threading.Barrier(12)

    def ask(number: int) -> None:
        try:
            start.wait()
            # Every refund is asked for twice, under the same number.
            ingest.refund(order=order, amount_minor=250, source="shop", source_id=f"R-{number // 2}")
            outcomes.append("given")
        except DomainError as problem:
            outcomes.append(problem.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    order = Order.objects.get()
    assert (order.refunded_minor, order.base_minor) == (1000, 0)
    assert sorted(Refund.objects.values_list("amount_minor", flat=True)) == [250] * 4
    assert sorted(outcomes) == ["given"] * 8 + ["refund_too_large"] * 4

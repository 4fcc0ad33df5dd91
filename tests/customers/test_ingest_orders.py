from __future__ import annotations

import random
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection

from customers import ingest
from customers.ingest import LineIn, OrderIn, Status
from customers.models import Customer, DirtyCustomer, Order, OrderLine, Product
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import NotFound
from tests.customers.factories import LONG_AGO, CustomerFactory, ExternalIdFactory, order_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def customer() -> Customer:
    return ExternalIdFactory(value="C-1", customer__email="ada@example.org", customer__known_since=LONG_AGO).customer


def test_it_writes_an_order_of_a_customer_named_in_any_way(customer: Customer) -> None:
    now = clock.now()
    results = ingest.record_orders(
        [
            order_in("1", customer_id=customer.pk, external_id=""),
            order_in("2"),
            order_in("3", external_id="", email=" ADA@example.org"),
            order_in("4", placed_at=now),
        ],
        source="shop",
    )
    assert [result.status for result in results] == [Status.CREATED] * 4
    orders = list(Order.objects.order_by("source_id"))
    assert [order.pk for order in orders] == [result.id for result in results]
    assert {order.customer_id for order in orders} == {customer.pk}
    assert [order.is_history for order in orders] == [True, True, True, False]
    assert {(o.amount_minor, o.base_minor, o.refunded_minor, o.currency, o.is_counted) for o in orders} == {
        (1250, 1250, 0, "USD", True)
    }
    assert all(order.reacted_at is None for order in orders)
    assert set(DirtyCustomer.objects.values_list("customer_id", "is_history")) == {
        (customer.pk, True),
        (customer.pk, False),
    }


def test_it_writes_lines_and_makes_products_once(customer: Customer) -> None:
    lines = (LineIn("Blue Stairwell", 500, 2, sku="J-1", category="jazz"), LineIn("Postage", 250))
    ingest.record_orders([order_in("1", lines=lines), order_in("2", lines=lines)], source="shop")
    ingest.record_order(order_in("3", lines=(LineIn("Another name", 100, sku="J-1"),)), source="shop")
    assert list(Product.objects.values_list("sku", "name", "category")) == [("J-1", "Blue Stairwell", "jazz")]
    assert OrderLine.objects.count() == 5
    assert list(Order.objects.order_by("source_id").values_list("items", flat=True)) == [3, 3, 1]


def test_it_keeps_an_order_once_however_often_it_is_sent(customer: Customer) -> None:
    first, second = ingest.record_orders([order_in("1"), order_in("1", amount_minor=99)], source="shop")
    [third] = ingest.record_orders([order_in("1")], source="shop")
    [other] = ingest.record_orders([order_in("1")], source="till", id_source="shop")
    assert [first.status, second.status, third.status, other.status] == ["created", "duplicate", "duplicate", "created"]
    assert first.id == second.id == third.id != other.id
    assert Order.objects.get(source="shop").amount_minor == 1250
    assert DirtyCustomer.objects.count() == 2


def test_it_converts_at_the_rate_that_was_recorded(customer: Customer) -> None:
    order = ingest.record_order(
        order_in("1", currency="sek", amount_minor=19_900, rate=Decimal("0.0953")), source="shop"
    )
    yen = ingest.record_order(order_in("2", currency="JPY", amount_minor=1500, rate=Decimal("0.0065")), source="shop")
    assert (order.currency, order.base_minor, order.rate) == ("SEK", 1896, Decimal("0.0953"))
    assert yen.base_minor == 975


def _bad(**values: object) -> OrderIn:
    return order_in("bad", **values)


BAD = [
    (_bad(external_id="C-404"), "unknown_customer"),
    (_bad(external_id="", email="who@example.org"), "unknown_customer"),
    (_bad(customer_id=999_999_999), "unknown_customer"),
    (_bad(customer_id=10**40), "unknown_customer"),
    (_bad(external_id=""), "missing_customer"),
    (_bad(amount_minor=-1), "negative_amount"),
    (_bad(amount_minor=10**15), "invalid_amount"),
    (_bad(amount_minor=1.5), "invalid_amount"),
    (_bad(placed_at=clock.now() + timedelta(days=1)), "future_date"),
    (_bad(placed_at=datetime(2025, 1, 1)), "no_time_zone"),
    (_bad(placed_at=LONG_AGO.replace(year=1)), "invalid_date"),
    (_bad(currency="XYZ"), "unknown_currency"),
    (_bad(currency=""), "unknown_currency"),
    (_bad(currency="SEK"), "missing_rate"),
    (_bad(currency="SEK", rate=Decimal(0)), "invalid_rate"),
    (_bad(currency="SEK", rate=Decimal("NaN")), "invalid_rate"),
    (replace(_bad(), source_id=" "), "missing_id"),
    (replace(_bad(), source_id="x" * 121), "too_long"),
    (_bad(items=-1), "negative_amount"),
    (_bad(lines=(LineIn("x", 1), LineIn("y", -1, sku="never"))), "negative_amount"),
]


@pytest.mark.parametrize(("row", "code"), BAD, ids=[f"{code}-{n}" for n, (_row, code) in enumerate(BAD)])
def test_it_refuses_a_bad_order_with_one_sentence_and_keeps_the_good_ones(
    customer: Customer, row: OrderIn, code: str
) -> None:
    results = ingest.record_orders([order_in("1"), row, order_in("2")], source="shop")
    assert [result.status for result in results] == [Status.CREATED, Status.ERROR, Status.CREATED]
    assert (results[1].code, results[1].index, results[1].id) == (code, 1, None)
    assert results[1].message.endswith(".")
    assert set(Order.objects.values_list("source_id", flat=True)) == {"1", "2"}
    assert not Product.objects.exists()
    assert not OrderLine.objects.exists()
    assert DirtyCustomer.objects.count() == 1


def test_it_leaves_nothing_behind_of_a_single_bad_order() -> None:
    with pytest.raises(NotFound):
        ingest.record_order(order_in("1"), source="shop")
    assert not Order.objects.exists()
    assert not DirtyCustomer.objects.exists()


def test_it_answers_for_each_of_a_thousand(customer: Customer) -> None:
    good = [order_in(f"O-{n}") for n in range(988)]
    bad = [order_in(f"B-{n}", amount_minor=-n - 1) for n in range(7)]
    again = [replace(good[n]) for n in range(5)]
    rows = [*good, *bad, *again]
    random.Random(7).shuffle(rows)
    results = ingest.record_orders(rows, source="shop")
    assert [result.index for result in results] == list(range(1000))
    assert [result.ref for result in results] == [row.source_id for row in rows]
    count = {status: sum(result.status == status for result in results) for status in Status}
    assert (count["created"], count["error"], count["duplicate"]) == (988, 7, 5)


def test_it_knows_a_customer_since_their_first_order(customer: Customer) -> None:
    early = LONG_AGO - timedelta(days=40)
    ingest.record_orders(
        [order_in("1", placed_at=early), order_in("2", placed_at=early - timedelta(days=1))], source="shop"
    )
    customer.refresh_from_db()
    assert customer.known_since == early - timedelta(days=1)


def test_it_makes_customers_only_when_asked_and_only_for_good_orders() -> None:
    rows = [
        order_in("1", external_id="N-1", customer_name="Eva Strand", placed_at=LONG_AGO),
        order_in("2", external_id="N-1", placed_at=LONG_AGO - timedelta(days=3)),
        order_in("3", external_id="N-2", amount_minor=-5),
        order_in("4", external_id="", email="not an address"),
        order_in("5", external_id="", email="new@example.org"),
    ]
    results = ingest.record_orders(rows, source="shop", make_customers=True)
    assert [(str(r.status), r.is_new_customer, r.code) for r in results] == [
        ("created", True, ""),
        ("created", False, ""),
        ("error", False, "negative_amount"),
        ("error", False, "invalid_email"),
        ("created", True, ""),
    ]
    assert [result.ref for result in results] == ["1", "2", "3", "4", "5"]
    assert Customer.objects.count() == 2
    customer = Customer.objects.get(external_ids__value="N-1")
    assert (customer.name, customer.known_since) == ("Eva Strand", LONG_AGO - timedelta(days=3))
    assert set(Order.objects.values_list("is_history", flat=True)) == {True}


def test_it_refuses_the_double_of_a_refused_order(customer: Customer) -> None:
    results = ingest.record_orders([order_in("1", external_id="?"), order_in("1", external_id="?")], source="shop")
    assert [(result.index, result.code) for result in results] == [(0, "unknown_customer"), (1, "unknown_customer")]


@pytest.mark.django_db(transaction=True)
def test_it_keeps_each_order_once_when_several_send_the_same() -> None:
    CustomerFactory(email="ada@example.org")
    created: list[int] = []
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def send(seed: int) -> None:
        try:
            rows = [order_in(f"O-{n}", external_id="", email="ada@example.org") for n in range(300)]
            random.Random(seed).shuffle(rows)
            start.wait()
            for part in (rows[:200], rows[100:]):
                results = ingest.record_orders(part, source="shop")
                created.append(sum(result.status == Status.CREATED for result in results))
                assert {str(result.status) for result in results} <= {"created", "duplicate"}
        except BaseException as problem:
            errors.append(problem)
        finally:
            connection.close()

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sum(created) == Order.objects.count() == 300

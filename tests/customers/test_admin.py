from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from customers import ingest
from customers.ingest import CustomerIn, LineIn
from customers.models import Customer, DirtyCustomer, Order
from tests.customers.factories import LONG_AGO, CustomerFactory, EventFactory, order_in
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(UserFactory(is_staff=True, is_superuser=True, role="owner"))
    return client


@pytest.fixture
def customer() -> Customer:
    customer = ingest.save_customer(
        CustomerIn(external_id="C-1", email="ada@example.org", name="Ada Berg", may_email=True), source="shop"
    )
    order = ingest.record_order(order_in("O-7", lines=(LineIn("Paper Boats", 1250, sku="P-1"),)), source="shop")
    ingest.refund(order=order, amount_minor=50, source="shop", source_id="R-7")
    EventFactory(customer=customer, source_id="E-7", occurred_at=LONG_AGO)
    return customer


@pytest.mark.parametrize("model", apps.get_app_config("customers").get_models(), ids=lambda model: model.__name__)
def test_it_shows_every_table_and_searches_it(client: Client, customer: Customer, model: Any) -> None:
    assert admin.site.is_registered(model)
    page = reverse(f"admin:customers_{model._meta.model_name}_changelist")
    assert client.get(page).status_code == 200
    for term in ("ada@example.org", "O-7", "9" * 30, "' OR 1=1", "Ł"):
        assert client.get(page, {"q": term}).status_code == 200
    for row in model.objects.all()[:1]:
        assert client.get(reverse(f"admin:customers_{model._meta.model_name}_change", args=[row.pk])).status_code == 200


@pytest.mark.parametrize(
    ("model", "term", "found"),
    [("customer", "ADA@example.org", 1), ("customer", "C-1", 1), ("order", "ada@example.org", 1), ("order", "O-7", 1),
     ("order", "O-8", 0), ("refund", "R-7", 1), ("event", "E-7", 1), ("consent", "ada@example.org", 1)],
)  # fmt: skip
def test_it_finds_by_what_people_have_at_hand(
    client: Client, customer: Customer, model: str, term: str, found: int
) -> None:
    CustomerFactory()
    page = client.get(reverse(f"admin:customers_{model}_changelist"), {"q": term})
    assert page.context["cl"].result_count == found


def test_it_does_not_let_history_be_rewritten(client: Client, customer: Customer) -> None:
    order = Order.objects.get()
    for model, row in (("order", order), ("refund", order.refunds.get()), ("consent", customer.consents.get())):
        assert client.post(reverse(f"admin:customers_{model}_change", args=[row.pk]), {}).status_code == 403
        assert (
            client.post(reverse(f"admin:customers_{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
        )
    assert (
        client.post(reverse("admin:customers_customer_delete", args=[customer.pk]), {"post": "yes"}).status_code == 403
    )
    assert Customer.objects.count() == 1


def _post(client: Client, customer: Customer, **values: Any) -> Any:
    ids = customer.external_ids.get()
    data = {
        "kind": "person", "name": customer.name, "email": customer.email, "tags": "[]", "attributes": "{}",
        "known_since_0": "2025-03-01", "known_since_1": "12:00:00", "external_ids-TOTAL_FORMS": 1,
        "external_ids-INITIAL_FORMS": 1, "external_ids-0-id": ids.pk, "external_ids-0-customer": customer.pk,
        "external_ids-0-source": "shop", "external_ids-0-value": "C-1", **values,
    }  # fmt: skip
    return client.post(reverse("admin:customers_customer_change", args=[customer.pk]), data)


def test_it_puts_a_customer_right_and_marks_them(client: Client, customer: Customer) -> None:
    DirtyCustomer.objects.all().delete()
    assert _post(client, customer, email="Ada@new.example.org", phone="0046 70 123 45 67").status_code == 302
    customer.refresh_from_db()
    assert (customer.email_key, customer.phone) == ("ada@new.example.org", "+46701234567")
    assert list(DirtyCustomer.objects.values_list("customer_id", flat=True)) == [customer.pk]


def test_it_refuses_an_address_that_belongs_to_somebody_else(client: Client, customer: Customer) -> None:
    CustomerFactory(email="bo@example.org")
    answer = _post(client, customer, email="BO@example.org")
    assert answer.status_code == 200
    assert "belongs to another customer" in answer.content.decode()
    customer.refresh_from_db()
    assert customer.email == "ada@example.org"

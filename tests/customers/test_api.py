"""Customers, orders, events, consents and products over REST: the same verbs as the pages, with problem details."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from customers import activity_api, facts, ingest
from customers.ingest import EventIn
from customers.models import Consent, Customer, Event, Order, Product, Refund
from lifecycle_crm import reactions
from lifecycle_crm.accounts.models import ApiKey
from lifecycle_crm.lib import clock
from stages import presets
from tests.customers.factories import CustomerFactory, ExternalIdFactory, OrderFactory
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

ALL = ("customers:*", "orders:*", "events:*", "consents:*", "products:*")


class Machine:
    def __init__(self, *scopes: str) -> None:
        _key, secret = ApiKey.issue(name="Shop", scopes=list(scopes))
        self.client = Client(headers={"Authorization": f"Bearer {secret}"})

    def get(self, path: str, **query: Any) -> tuple[int, Any]:
        answer = self.client.get(f"/api/v1/{path}", query)
        return answer.status_code, answer.json()

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        answer = self.client.post(f"/api/v1/{path}", json.dumps(body), content_type="application/json")
        return answer.status_code, answer.json()

    def patch(self, path: str, body: Any) -> tuple[int, Any]:
        answer = self.client.patch(f"/api/v1/{path}", json.dumps(body), content_type="application/json")
        return answer.status_code, answer.json()


@pytest.fixture
def machine() -> Machine:
    return Machine(*ALL)


def order(source_id: str = "1001", **more: Any) -> dict[str, Any]:
    return {
        "source_id": source_id, "placed_at": "2026-03-01T12:00:00+01:00", "amount_minor": 1250, "currency": "USD",
        "external_id": "C-1", **more,
    }  # fmt: skip


def ids(body: Any) -> list[int]:
    return [row["id"] for row in body["results"]]


# --- Customers --------------------------------------------------------------------------------------------------------


def test_a_customer_is_made_and_then_brought_up_to_date(machine: Machine) -> None:
    status, made = machine.post(
        "customers/", {"external_id": "C-1", "source": "shop", "name": "Åsa", "may_email": True}
    )
    assert status == 201
    assert (made["name"], made["external_ids"]) == ("Åsa", [{"source": "shop", "value": "C-1"}])
    status, same = machine.post("customers/", {"external_id": "C-1", "source": "shop", "email": "asa@example.org"})
    assert (status, same["id"], same["name"], same["email"]) == (200, made["id"], "Åsa", "asa@example.org")
    assert Customer.objects.count() == 1
    assert Consent.objects.get().is_granted is True


def test_a_customer_is_changed_in_part(machine: Machine) -> None:
    customer = CustomerFactory(name="Åsa", city="Malmö")
    status, body = machine.patch(f"customers/{customer.pk}/", {"city": "Lund", "phone": "+46 70 123 45 67"})
    assert (status, body["name"], body["city"], body["phone"]) == (200, "Åsa", "Lund", "+46701234567")
    customer.refresh_from_db()
    assert customer.search_text.endswith("+46701234567 lund")


@pytest.mark.parametrize(
    "body, status, code",
    [
        ({"name": "Nobody"}, 422, "missing_identity"),
        ({"email": "not-an-address"}, 422, "invalid_email"),
        ({"email": "a@example.org", "phone": "070"}, 422, "invalid_phone"),
        ({"email": "a@example.org", "birth_date": "yesterday"}, 400, "invalid"),
        ({"email": "a@example.org", "known_since": "2999-01-01T00:00:00Z"}, 422, "future_date"),
        ([], 400, "invalid"),
    ],
)
def test_a_customer_that_cannot_be_is_refused_with_a_problem(
    machine: Machine, body: Any, status: int, code: str
) -> None:
    answer = machine.client.post("/api/v1/customers/", json.dumps(body), content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer["Content-Type"] == "application/problem+json"
    assert Customer.objects.count() == 0


def test_the_address_of_somebody_else_is_refused_and_nothing_changes(machine: Machine) -> None:
    CustomerFactory(email="taken@example.org")
    customer = CustomerFactory(email="mine@example.org")
    status, body = machine.patch(f"customers/{customer.pk}/", {"email": "taken@example.org"})
    assert (status, body["code"]) == (422, "email_taken")
    customer.refresh_from_db()
    assert customer.email == "mine@example.org"


def test_a_customer_comes_with_facts_stage_and_reason(machine: Machine) -> None:
    presets.install()
    customer = CustomerFactory()
    OrderFactory(customer=customer, placed_at=clock.now() - timedelta(days=2), amount_minor=5000)
    facts.mark([customer.pk], occurred_at=clock.now() - timedelta(days=2))
    reactions.settle()
    status, body = machine.get(f"customers/{customer.pk}/")
    assert status == 200
    assert (body["stage"], body["facts"]["orders"], body["facts"]["spend_minor"]) == ("nurture", 1, 5000)
    assert body["facts"]["last_order_at"].endswith("Z")
    assert body["stage_since"].endswith("Z")
    assert body["stage_reason"].startswith("Entered Nurture on ")
    assert body["stage_reason"].endswith(": orders: 1 (at least 1). Rule: Has started, version 1.")


def test_customers_are_filtered_as_on_the_page_and_read_in_few_queries(machine: Machine) -> None:
    for n in range(30):
        ExternalIdFactory(customer=CustomerFactory(country="SE" if n % 2 else "NO"))

    def asked() -> int:
        with CaptureQueriesContext(connection) as context:
            status, body = machine.get("customers/", country="SE", limit=100)
        assert (status, len(body["results"])) == (200, Customer.objects.filter(country="SE").count())
        return len(context)

    asked()  # the first use of a key is noted
    few = asked()
    for _n in range(30):
        ExternalIdFactory(customer=CustomerFactory(country="SE"))
    assert asked() == few <= 9
    status, body = machine.get("customers/", orders_min="many")
    assert (status, body["code"], list(body["errors"])) == (400, "invalid", ["orders_min"])


def test_pages_by_cursor_show_everybody_once(machine: Machine) -> None:
    made = {CustomerFactory().pk for _n in range(7)}
    shown: list[int] = []
    status, body = machine.get("customers/", limit=3)
    while True:
        shown += ids(body)
        if not body["next"]:
            break
        body = machine.client.get(body["next"]).json()
    assert status == 200
    assert sorted(shown) == sorted(made)


def test_an_analyst_sees_no_addresses_over_the_api_either(client: Client) -> None:
    client.force_login(UserFactory(role="analyst"))
    customer = CustomerFactory(name="Åsa Öberg", email="asa@example.org", attributes={"shoe": "size-38"})
    text = client.get(f"/api/v1/customers/{customer.pk}/").content.decode()
    for secret in ("Öberg", "asa@example.org", "size-38"):
        assert secret not in text
    assert json.loads(text)["name"] == "Å… Ö…"


@pytest.mark.parametrize(("role", "seen"), [("analyst", {}), ("support", {"to": "asa@example.org"})])
def test_what_a_shop_puts_into_an_event_is_for_those_who_see_contacts(client: Client, role: str, seen: Any) -> None:
    client.force_login(UserFactory(role=role))
    made = ingest.record_event(
        EventIn(
            name="quote_sent", occurred_at=clock.now(), source_id="q-1", customer_id=CustomerFactory().pk,
            properties={"to": "asa@example.org"},
        ),
        source="shop",
    )  # fmt: skip
    assert client.get("/api/v1/events/").json()["results"][0]["properties"] == seen
    assert client.get(f"/api/v1/events/{made.pk}/").json()["properties"] == seen


# --- Orders -----------------------------------------------------------------------------------------------------------


def test_an_order_is_written_once(machine: Machine) -> None:
    ExternalIdFactory(source="api", value="C-1")
    lines = [{"title": "Record", "unit_minor": 1250, "sku": "R-1", "category": "jazz"}]
    status, made = machine.post("orders/", order(lines=lines))
    assert (status, made["amount_minor"], made["base_minor"], made["items"]) == (201, 1250, 1250, 1)
    assert made["lines"] == [{"title": "Record", "sku": "R-1", "quantity": 1, "unit_minor": 1250, "discount_minor": 0}]
    status, same = machine.post("orders/", order(lines=lines))
    assert (status, same["id"]) == (200, made["id"])
    assert Order.objects.count() == 1
    assert machine.get("products/", category="jazz")[1]["results"] == [
        {"id": Product.objects.get().pk, "sku": "R-1", "name": "Record", "category": "jazz"}
    ]


def test_a_batch_answers_every_item_in_its_place(machine: Machine) -> None:
    ExternalIdFactory(source="shop", value="C-1")
    status, body = machine.post(
        "orders/batch/",
        {
            "source": "shop",
            "orders": [
                order("1"),
                order("2", amount_minor="12.50"),
                order("1"),
                "nonsense",
                order("3", external_id="C-9"),
                order("4", placed_at="2026-03-01T12:00:00"),
                order("5", colour="red"),
                order("6", currency="XXQ"),
                order("7", amount_minor=-1),
                order("8", placed_at="2999-01-01T00:00:00Z"),
                order("9", lines=[{"title": "x"}]),
            ],
        },
    )
    assert status == 200
    assert [(one["index"], one["status"], one["code"]) for one in body["results"]] == [
        (0, "created", ""),
        (1, "error", "invalid"),
        (2, "duplicate", ""),
        (3, "error", "invalid"),
        (4, "error", "unknown_customer"),
        (5, "error", "no_time_zone"),
        (6, "error", "unknown_field"),
        (7, "error", "unknown_currency"),
        (8, "error", "negative_amount"),
        (9, "error", "future_date"),
        (10, "error", "missing_field"),
    ]
    assert (body["created"], body["duplicate"], body["error"]) == (1, 1, 9)
    assert body["results"][1]["message"] == "amount_minor must be a whole number."
    assert list(Order.objects.values_list("source", "source_id")) == [("shop", "1")]


@pytest.mark.parametrize(
    "body", [[], {}, {"orders": {}}, {"orders": [], "source": ""}, {"orders": [], "source": 7}, None]
)
def test_a_batch_of_another_shape_is_refused(machine: Machine, body: Any) -> None:
    status, problem = machine.post("orders/batch/", body)
    assert (status, problem["code"]) == (422, "invalid")


def test_a_batch_that_is_too_large_is_refused_and_writes_nothing(machine: Machine) -> None:
    ExternalIdFactory(source="api", value="C-1")
    status, problem = machine.post(
        "orders/batch/", {"orders": [order(str(n)) for n in range(activity_api.MOST_ITEMS + 1)]}
    )
    assert (status, problem["code"]) == (413, "batch_too_large")
    assert Order.objects.count() == 0


def test_a_batch_is_written_in_few_statements(machine: Machine) -> None:
    for n in range(200):
        ExternalIdFactory(source="api", value=f"C-{n}x")
    with CaptureQueriesContext(connection) as context:
        status, body = machine.post(
            "orders/batch/", {"orders": [order(str(n), external_id=f"C-{n}x") for n in range(200)]}
        )
    assert (status, body["created"]) == (200, 200)
    assert len(context) <= 20


def test_money_goes_back_once_and_never_more_than_was_paid(machine: Machine) -> None:
    row = OrderFactory(amount_minor=1000)
    path = f"orders/{row.pk}/refund/"
    status, made = machine.post(path, {"source_id": "r1", "amount_minor": 400})
    assert (status, made["amount_minor"]) == (201, 400)
    assert machine.post(path, {"source_id": "r1", "amount_minor": 400})[0] == 200
    status, problem = machine.post(path, {"source_id": "r2", "amount_minor": 601})
    assert (status, problem["code"]) == (409, "refund_too_large")
    status, made = machine.post(path, {"source_id": "r3", "is_cancellation": True})
    assert (status, made["amount_minor"]) == (201, 600)
    row.refresh_from_db()
    assert (row.status, row.refunded_minor, row.is_counted) == ("cancelled", 1000, False)
    assert Refund.objects.count() == 2


def test_orders_are_filtered(machine: Machine) -> None:
    old = OrderFactory(placed_at=clock.now() - timedelta(days=10))
    new = OrderFactory(customer=old.customer)
    OrderFactory()
    assert ids(machine.get("orders/", customer=old.customer_id)[1]) == [new.pk, old.pk]
    since = (clock.now() - timedelta(days=5)).isoformat()
    assert ids(machine.get("orders/", customer=old.customer_id, placed_from=since)[1]) == [new.pk]
    assert ids(machine.get("orders/", source_id=old.source_id)[1]) == [old.pk]


# --- Events, consents -------------------------------------------------------------------------------------------------


def test_events_come_singly_and_in_batches_once_each(machine: Machine) -> None:
    customer = CustomerFactory()
    event = {"name": "visit", "occurred_at": "2026-03-01T12:00:00Z", "source_id": "e1", "customer_id": customer.pk}
    assert machine.post("events/", event)[0] == 201
    assert machine.post("events/", event)[0] == 200
    status, body = machine.post(
        "events/batch/",
        {"events": [event, {**event, "source_id": "e2", "properties": {"page": "/"}}, {**event, "name": None}]},
    )
    assert status == 200
    assert [one["status"] for one in body["results"]] == ["duplicate", "created", "error"]
    assert Event.objects.count() == 2
    assert len(machine.get("events/", name="visit", customer=customer.pk)[1]["results"]) == 2


def test_a_consent_is_recorded_and_an_unknown_customer_refused(machine: Machine) -> None:
    customer = CustomerFactory()
    said = {"customer": customer.pk, "purpose": "marketing", "channel": "email", "is_granted": True, "source": "till"}
    status, made = machine.post("consents/", said)
    assert (status, made["is_granted"], made["source"]) == (201, True, "till")
    assert machine.post("consents/", {**said, "customer": 987654321})[1]["code"] == "unknown_customer"
    assert machine.post("consents/", {**said, "occurred_at": "2999-01-01T00:00:00Z"})[1]["code"] == "future_date"
    assert Consent.objects.count() == 1


# --- Doors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noun", ["customers", "orders", "events", "consents", "products"])
def test_a_key_needs_the_scope_of_the_noun(noun: str) -> None:
    others = Machine(*(scope for scope in ALL if not scope.startswith(noun)))
    assert others.get(f"{noun}/")[0] == 403
    assert Machine(f"{noun}:read").get(f"{noun}/")[0] == 200
    assert Client().get(f"/api/v1/{noun}/").status_code == 401


@pytest.mark.parametrize("path", ["customers/", "orders/", "orders/batch/", "events/", "events/batch/", "consents/"])
def test_a_key_that_may_only_read_writes_nothing(path: str) -> None:
    status, problem = Machine(*(scope.replace("*", "read") for scope in ALL)).post(path, {})
    assert (status, problem["code"]) == (403, "permission_denied")


@pytest.mark.parametrize(
    "path", ["customers/0/", "customers/99999999999999999999/", "orders/x/", "customers/1/refund/"]
)
def test_an_address_of_nothing_is_not_found(machine: Machine, path: str) -> None:
    assert machine.client.get(f"/api/v1/{path}").status_code == 404

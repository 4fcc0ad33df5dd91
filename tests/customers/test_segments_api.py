"""Segments over REST: the verbs of the pages, their counts, and problem details."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from customers import membership, segments
from customers.models import Customer, CustomerFacts, Segment
from lifecycle_crm.lib import clock
from tests.customers.factories import CustomerFactory
from tests.customers.test_api import Machine
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

BUYERS = {"all": [{"fact": "orders", "op": "gte", "value": 2}]}


@pytest.fixture
def machine() -> Machine:
    return Machine("segments:*", "customers:read")


def person(orders: int = 0, **values: Any) -> Customer:
    customer = CustomerFactory()
    CustomerFacts.objects.create(customer=customer, orders=orders, stage="retain", **values)
    return customer


def test_it_makes_reads_and_changes_a_segment(machine: Machine) -> None:
    person(2), person(1)
    code, made = machine.post("segments/", {"name": "Loyal", "condition": BUYERS})
    assert (code, made["key"], made["members"], made["version"], made["owner"]) == (201, "loyal", 1, 1, None)
    code, changed = machine.patch("segments/loyal/", {"condition": {"all": []}, "note": "All of them", "version": 1})
    assert (code, changed["members"], changed["version"], changed["note"]) == (200, 2, 2, "All of them")
    assert machine.get("segments/loyal/")[1] == changed
    assert [one["key"] for one in machine.get("segments/")[1]["results"]] == ["loyal"]
    code, refused = machine.patch("segments/loyal/", {"condition": BUYERS, "version": 1})
    assert (code, refused["code"]) == (409, "conflict")
    assert Segment.objects.get().condition == {"all": []}


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        ({"name": "A", "condition": {"fact": "shoes", "op": "eq", "value": 1}}, "bad_condition", "unknown fact"),
        ({"name": "A"}, "bad_condition", "expected an object"),
        ({"name": "A", "condition": "orders"}, "bad_condition", "expected an object"),
        ({"name": "A", "key": "Ä Ö", "condition": BUYERS}, "invalid", "is not usable"),
        ({"condition": BUYERS}, "invalid", "Some fields"),
        ({"name": "A", "kind": "moving"}, "invalid", "Some fields"),
    ],
)
def test_it_refuses_in_problem_details(machine: Machine, body: dict[str, Any], code: str, word: str) -> None:
    status, answer = machine.post("segments/", body)
    assert status in (400, 422)
    assert answer["code"] == code
    assert word in answer["title"]
    assert not Segment.objects.exists()


def test_every_door_counts_the_same(machine: Machine, client: Client) -> None:
    for n in range(7):
        person(n, may_email=n > 4)
    machine.post("segments/", {"name": "Loyal", "condition": BUYERS})
    code, counted = machine.post("segments/count/", {"condition": {"segment": "loyal"}})
    assert code == 200
    assert (counted["value"], counted["is_exact"], counted["reachable"], counted["stages"]) == (
        5,
        True,
        2,
        {"retain": 5},
    )
    assert counted["sentence"] == "in the segment “Loyal”"
    members = {row["customer"] for row in machine.get("segments/loyal/members/")[1]["results"]}
    listed = {row["id"] for row in machine.get("customers/", segment="loyal")[1]["results"]}
    client.force_login(UserFactory(role="owner"))
    page = client.get("/customers/?segment=loyal")
    assert members == listed == {one.pk for one in page.context["customers"]}
    assert len(members) == page.context["count"].value == segments.get("loyal").members == 5


def test_it_pages_through_members_and_knows_those_of_a_past_date(machine: Machine) -> None:
    everybody = [person(2) for _ in range(3)]
    segments.create(name="Loyal", condition=BUYERS)
    today = clock.today()
    membership.record(business_date=today, as_of=clock.day_end(today))
    CustomerFacts.objects.update(orders=0)
    assert machine.get("segments/loyal/members/")[1]["results"] == []
    first = machine.get("segments/loyal/members/", on=str(today), limit="2")[1]
    assert [row["customer"] for row in first["results"]] == [everybody[2].pk, everybody[1].pk]
    assert first["next"]
    assert machine.get("segments/loyal/members/", on="yesterday")[0] == 422


def test_it_keeps_a_static_list(machine: Machine) -> None:
    one, two = person(), person()
    machine.post("segments/", {"name": "Chosen", "kind": "static"})
    assert machine.post("segments/chosen/members/", {"add": [one.pk, two.pk]}) == (200, {"added": 2, "removed": 0})
    assert machine.post("segments/chosen/members/", {"remove": [one.pk]}) == (200, {"added": 0, "removed": 1})
    code, refused = machine.post("segments/chosen/members/", {"add": [10**9]})
    assert (code, refused["code"]) == (422, "unknown_customer")
    assert [row["customer"] for row in machine.get("segments/chosen/members/")[1]["results"]] == [two.pk]


def test_it_says_why_somebody_is_not_in(machine: Machine) -> None:
    someone = person(1)
    segments.create(name="Loyal", condition=BUYERS)
    assert machine.get("segments/loyal/explain/", customer=someone.pk) == (
        200, {"customer": someone.pk, "is_in": False, "because": "orders: 1 (at least 2)"}
    )  # fmt: skip
    assert machine.get("segments/loyal/explain/", customer="7x")[0] == 404
    assert machine.get("segments/gone/")[0] == machine.get("segments/gone/members/")[0] == 404


def test_it_asks_for_the_scope_and_the_role(client: Client) -> None:
    segments.create(name="Loyal", condition=BUYERS)
    reader = Machine("segments:read")
    assert reader.get("segments/loyal/")[0] == 200
    assert reader.post("segments/", {"name": "A", "condition": BUYERS})[0] == 403
    assert Machine("customers:*").get("segments/")[0] == 403
    client.force_login(UserFactory(role="support"))
    assert client.post("/api/v1/segments/", {"name": "A"}, content_type="application/json").status_code == 403
    assert Segment.objects.count() == 1


def test_a_page_of_members_costs_as_many_queries_as_one_member(machine: Machine) -> None:
    segments.create(name="Loyal", condition=BUYERS)

    def cost(path: str) -> int:
        with CaptureQueriesContext(connection) as seen:
            machine.get(path)
        return len(seen)

    person(2)
    cost("segments/")  # the first call also notes that the key was used
    few = [cost("segments/loyal/members/"), cost("segments/")]
    for n in range(10):
        person(2)
        segments.create(name=f"S{n}", condition=BUYERS, actor=UserFactory())
    assert [cost("segments/loyal/members/"), cost("segments/")] == few

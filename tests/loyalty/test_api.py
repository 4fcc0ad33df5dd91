from __future__ import annotations

import json
import socket
import struct
import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import Client

from customers.models import Customer
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib.models import IdempotencyRecord
from loyalty import ledger
from loyalty.models import Account, Entry, Programme
from tests.factories import UserFactory
from tests.loyalty.factories import SPRING, CustomerFactory, OrderFactory, give

pytestmark = pytest.mark.django_db


@pytest.fixture
def secret() -> str:
    return ApiKey.issue(name="Till", scopes=["points:write"])[1]


def post(secret: str, path: str, body: dict[str, Any], key: str | None = None) -> Any:
    headers = {"Authorization": f"Bearer {secret}", **({"Idempotency-Key": key} if key else {})}
    return Client().post(f"/api/v1/{path}", body, content_type="application/json", headers=headers)


def get(secret: str, path: str) -> Any:
    return Client().get(f"/api/v1/{path}", headers={"Authorization": f"Bearer {secret}"})


@pytest.fixture
def ada() -> Customer:
    customer = CustomerFactory()
    give(customer, 1000)
    return customer


def balance(customer: Customer) -> int:
    return Account.objects.get(customer=customer).balance


def test_it_redeems(secret: str, ada: Customer) -> None:
    answer = post(secret, "points/redeem/", {"customer": ada.pk, "points": 300, "reason": "Mug"}, "a")
    assert answer.status_code == 201
    body = answer.json()
    assert (body["kind"], body["points"], body["customer"], body["why"]) == ("spend", -300, ada.pk, "Mug")
    entry = Entry.objects.get(pk=body["id"])
    assert (entry.source_type, entry.actor) == ("api_key", None)
    assert balance(ada) == 700


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_it_answers_a_repeated_request_with_the_same_movement(secret: str, ada: Customer, is_forgotten: bool) -> None:
    """Also when the stored answer is gone: the ledger's own key remembers for ever."""
    body = {"customer": ada.pk, "points": 300}
    first = post(secret, "points/redeem/", body, "a")
    for _ in range(5):
        if is_forgotten:
            IdempotencyRecord.objects.all().delete()
        again = post(secret, "points/redeem/", body, "a")
        assert again.status_code == (200 if is_forgotten else 201)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json() == first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert balance(ada) == 700


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_it_refuses_another_body_under_the_same_key(secret: str, ada: Customer, is_forgotten: bool) -> None:
    """Fault 30."""
    post(secret, "points/redeem/", {"customer": ada.pk, "points": 300}, "a")
    if is_forgotten:
        IdempotencyRecord.objects.all().delete()
    answer = post(secret, "points/redeem/", {"customer": ada.pk, "points": 301}, "a")
    assert answer.status_code == 422
    assert balance(ada) == 700


@pytest.mark.parametrize("path", ["points/redeem/", "points/adjust/"])
def test_it_refuses_a_movement_without_a_key(secret: str, ada: Customer, path: str) -> None:
    answer = post(secret, path, {"customer": ada.pk, "points": 300, "reason": "x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_required")
    assert balance(ada) == 1000


def test_keys_of_two_senders_do_not_meet(secret: str, ada: Customer) -> None:
    other = ApiKey.issue(name="Web", scopes=["points:*"])[1]
    assert post(secret, "points/redeem/", {"customer": ada.pk, "points": 300}, "a").status_code == 201
    assert post(other, "points/redeem/", {"customer": ada.pk, "points": 200}, "a").status_code == 201
    assert balance(ada) == 500


def test_a_key_cannot_take_the_place_of_an_orders_points(secret: str, ada: Customer) -> None:
    order = OrderFactory(customer=ada)
    from loyalty import earning

    post(secret, "points/adjust/", {"customer": ada.pk, "points": 1, "reason": "x"}, f"order:{order.pk}")
    assert earning.award_for_orders([order.pk]) == 1


def test_a_very_long_key_works(secret: str, ada: Customer) -> None:
    for _ in range(2):
        assert post(secret, "points/redeem/", {"customer": ada.pk, "points": 1}, "k" * 255).status_code == 201
    assert balance(ada) == 999


def test_it_refuses_too_many_points(secret: str, ada: Customer) -> None:
    answer = post(secret, "points/redeem/", {"customer": ada.pk, "points": 1001}, "a")
    assert answer.status_code == 409
    assert answer.json()["code"] == "insufficient_points"
    assert answer.json()["details"] == {"balance": 1000, "points": 1001}
    assert balance(ada) == 1000


@pytest.mark.parametrize(
    "path, body",
    [
        ("points/redeem/", {"points": 0}),
        ("points/redeem/", {"points": -1}),
        ("points/redeem/", {"points": 10**30}),
        ("points/redeem/", {"points": "many"}),
        ("points/redeem/", {"points": 1, "customer": 2**63}),
        ("points/redeem/", {"points": 1, "customer": 987654321}),
        ("points/redeem/", {"points": 1, "reason": "x" * 301}),
        ("points/adjust/", {"points": 5}),
        ("points/adjust/", {"points": 0, "reason": "x"}),
        ("points/adjust/", {"points": 5, "reason": " "}),
    ],
)
def test_it_refuses_bad_input_and_moves_nothing(secret: str, ada: Customer, path: str, body: dict[str, Any]) -> None:
    answer = post(secret, path, {"customer": ada.pk, **body}, "a")
    assert answer.status_code in (400, 404, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert Entry.objects.count() == 1
    assert balance(ada) == 1000


def test_it_adjusts_and_undoes(secret: str, ada: Customer) -> None:
    given = post(secret, "points/adjust/", {"customer": ada.pk, "points": 50, "reason": "Late parcel"}, "a").json()
    assert (given["kind"], given["points"]) == ("adjust", 50)
    spent = post(secret, "points/redeem/", {"customer": ada.pk, "points": 100}, "b").json()
    back = post(secret, f"points/{spent['id']}/undo/", {"reason": "Sold out"}, "c")
    assert (back.status_code, back.json()["kind"], back.json()["reverses"]) == (201, "cancel", spent["id"])
    part = post(secret, f"points/{given['id']}/undo/", {"points": 20, "reason": "Too many"}, "d")
    assert (part.json()["points"], part.json()["takes_back"]) == (-20, given["id"])
    assert balance(ada) == 1030
    again = post(secret, f"points/{spent['id']}/undo/", {"reason": "Sold out"}, "e")
    assert (again.status_code, again.json()["code"]) == (409, "not_reversible")
    assert post(secret, "points/999999/undo/", {}, "f").status_code == 404
    assert post(secret, f"points/{given['id']}/undo/", {}).status_code == 400


def test_it_lists_and_filters_movements(secret: str, ada: Customer) -> None:
    bo = CustomerFactory()
    give(bo, 5, effective_at=SPRING)
    ledger.redeem(customer=ada, points=1, key="r")
    assert [one["kind"] for one in get(secret, "points/").json()["results"]] == ["spend", "earn", "earn"]
    assert [one["points"] for one in get(secret, f"points/?customer={ada.pk}").json()["results"]] == [-1, 1000]
    assert [one["customer"] for one in get(secret, "points/?kind=spend").json()["results"]] == [ada.pk]
    until = (SPRING + timedelta(days=1)).isoformat().replace("+00:00", "Z")
    assert [one["points"] for one in get(secret, f"points/?effective_before={until}").json()["results"]] == [5]
    assert len(get(secret, f"points/?effective_from={until}").json()["results"]) == 2
    assert get(secret, "points/?kind=gift").status_code == 400
    first = get(secret, "points/?limit=2").json()
    assert len(first["results"]) == 2
    assert len(Client().get(first["next"], headers={"Authorization": f"Bearer {secret}"}).json()["results"]) == 1


def test_a_list_costs_the_same_number_of_queries_at_any_length(
    secret: str, ada: Customer, django_assert_max_num_queries: Any
) -> None:
    for n in range(30):
        ledger.redeem(customer=ada, points=1, key=f"r{n}")
    with django_assert_max_num_queries(8):
        assert len(get(secret, "points/").json()["results"]) == 31


def test_it_shows_accounts(secret: str, ada: Customer) -> None:
    bo = CustomerFactory()
    give(bo, 5)
    assert get(secret, f"accounts/{ada.pk}/").json()["balance"] == 1000
    assert [one["customer"] for one in get(secret, "accounts/").json()["results"]] == [bo.pk, ada.pk]
    assert [one["customer"] for one in get(secret, "accounts/?balance_min=6").json()["results"]] == [ada.pk]
    assert get(secret, "accounts/999999/").status_code == 404
    Programme.objects.update(is_active=False)
    assert get(secret, "accounts/").json()["results"] == []
    answer = post(secret, "points/redeem/", {"customer": ada.pk, "points": 1}, "a")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_programme")


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_a_movement_cannot_be_changed_or_deleted(secret: str, ada: Customer, method: str) -> None:
    entry = Entry.objects.get()
    answer = getattr(Client(), method)(f"/api/v1/points/{entry.pk}/", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 405
    assert Entry.objects.count() == 1


def test_a_key_that_may_only_read_moves_nothing(ada: Customer) -> None:
    for scopes in (["points:read"], ["customers:write"], []):
        secret = ApiKey.issue(name="Reader", scopes=scopes)[1]
        assert post(secret, "points/redeem/", {"customer": ada.pk, "points": 1}, "a").status_code == 403
    assert balance(ada) == 1000


def test_a_person_signed_in_is_named_as_the_actor(ada: Customer) -> None:
    ola, viewer = UserFactory(role=Role.SUPPORT), UserFactory(role=Role.VIEWER)
    for user, status in ((viewer, 403), (ola, 201)):
        client = Client()
        client.force_login(user)
        answer = client.post(
            "/api/v1/points/redeem/", {"customer": ada.pk, "points": 1}, "application/json",
            headers={"Idempotency-Key": "a"},
        )  # fmt: skip
        assert answer.status_code == status
    assert Entry.objects.get(kind="spend").actor == ola


@pytest.mark.django_db(transaction=True)
def test_a_redemption_whose_answer_was_cut_off_is_found_again_nineteen_times(live_server: Any) -> None:
    """Fault 29: the till hangs up before the answer and tries again and again."""
    secret = ApiKey.issue(name="Till", scopes=["points:write"])[1]
    customer = CustomerFactory()
    give(customer, 1000)
    body = json.dumps({"customer": customer.pk, "points": 100})
    where = urlsplit(live_server.url)
    assert where.hostname
    assert where.port
    head = (
        f"POST /api/v1/points/redeem/ HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {secret}\r\n"
        f"Idempotency-Key: once\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((where.hostname, where.port), timeout=10) as till:
        till.sendall((head + body).encode())
        till.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # hang up, hard
    deadline = time.monotonic() + 10
    while not Entry.objects.filter(kind="spend").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    spent = Entry.objects.get(kind="spend")
    for _retry in range(19):
        again = post(secret, "points/redeem/", {"customer": customer.pk, "points": 100}, "once")
        while again.status_code == 409 and again.json()["code"] == "in_progress":
            again = post(secret, "points/redeem/", {"customer": customer.pk, "points": 100}, "once")
        assert (again.headers["Idempotency-Replayed"], again.json()["id"]) == ("true", spent.pk)
    assert (Entry.objects.filter(kind="spend").count(), balance(customer)) == (1, 900)

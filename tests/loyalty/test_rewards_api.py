from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from customers.models import Customer
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib.models import IdempotencyRecord
from loyalty import rewards
from loyalty.models import Account, Entry, Programme, Redemption, Reward
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_api import get, post

pytestmark = pytest.mark.django_db


@pytest.fixture
def secret() -> str:
    return ApiKey.issue(name="Till", scopes=["rewards:write"])[1]


@pytest.fixture
def ada() -> Customer:
    customer = CustomerFactory()
    give(customer, 1000)
    return customer


@pytest.fixture
def mug() -> Reward:
    programme = Programme.current()
    assert programme is not None
    return rewards.create(programme=programme, name="Mug", points=300, stock=2, prices={"Gold": 200})


def patch(secret: str, path: str, body: dict[str, Any]) -> Any:
    headers = {"Authorization": f"Bearer {secret}"}
    return Client().patch(f"/api/v1/{path}", body, content_type="application/json", headers=headers)


def test_it_adds_lists_and_changes_rewards(secret: str) -> None:
    programme = Programme.current()
    assert programme is not None
    body = {"programme": programme.key, "name": "Cap", "points": 50, "stock": 3, "prices": {"Gold": 40}}
    made = post(secret, "rewards/", body, "a")
    assert made.status_code == 201
    reward = made.json()
    assert (reward["name"], reward["points"], reward["stock"], reward["prices"]) == ("Cap", 50, 3, {"Gold": 40})
    assert post(secret, "rewards/", body, "a").json() == reward
    assert Reward.objects.count() == 1
    assert [one["name"] for one in get(secret, "rewards/?kind=product&is_active=true").json()["results"]] == ["Cap"]
    assert get(secret, "rewards/?kind=perk").json()["results"] == []
    changed = patch(secret, f"rewards/{reward['id']}/", {"points": 60, "stock": 9, "stock_seen": 3})
    assert (changed.json()["points"], changed.json()["stock"], changed.json()["prices"]) == (60, 9, {"Gold": 40})
    late = patch(secret, f"rewards/{reward['id']}/", {"stock": 5, "stock_seen": 3})
    assert (late.status_code, late.json()["code"], late.json()["details"]) == (409, "wrong_state", {"left": 9})


@pytest.mark.parametrize(
    "body",
    [
        {"points": -1},
        {"points": "many"},
        {"name": ""},
        {"kind": "gift"},
        {"kind": "perk"},
        {"stock": -1},
        {"programme": "none"},
        {"product": "none"},
        {"prices": {"Gold": -1}},
        {"starts_on": "2030-02-01", "ends_on": "2030-01-01"},
        {"points": 10**30},
    ],
)
def test_it_refuses_a_reward_that_makes_no_sense(secret: str, body: dict[str, Any]) -> None:
    programme = Programme.current()
    assert programme is not None
    answer = post(secret, "rewards/", {"programme": programme.key, "name": "Cap", "points": 50, **body}, "a")
    assert answer.status_code in (400, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert not Reward.objects.exists()


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_it_redeems_once_per_key(secret: str, ada: Customer, mug: Reward, is_forgotten: bool) -> None:
    body = {"customer": ada.pk, "points": 300}
    first = post(secret, f"rewards/{mug.pk}/redeem/", body, "a")
    assert first.status_code == 201
    assert (first.json()["state"], first.json()["points"], first.json()["reward_name"]) == ("ordered", 300, "Mug")
    for _ in range(3):
        if is_forgotten:
            IdempotencyRecord.objects.all().delete()
        again = post(secret, f"rewards/{mug.pk}/redeem/", body, "a")
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json() == first.json()
    assert Account.objects.get(customer=ada).balance == 700
    assert Entry.objects.get(kind="spend").source_type == "api_key"
    if is_forgotten:
        IdempotencyRecord.objects.all().delete()
    other = post(secret, f"rewards/{mug.pk}/redeem/", {"customer": CustomerFactory().pk}, "a")
    assert other.status_code == 422
    assert Redemption.objects.count() == 1


def test_it_refuses_without_a_key_and_says_why_not(secret: str, ada: Customer, mug: Reward) -> None:
    path = f"rewards/{mug.pk}/redeem/"
    assert post(secret, path, {"customer": ada.pk}).json()["code"] == "idempotency_key_required"
    assert post(secret, path, {"customer": 987654}, "a").json()["code"] == "unknown_customer"
    assert post(secret, path, {"customer": 2**63}, "a").status_code == 400
    assert post(secret, path, {"customer": ada.pk, "points": 1}, "a").json()["code"] == "price_changed"
    poor = post(secret, path, {"customer": CustomerFactory().pk}, "b")
    assert (poor.status_code, poor.json()["code"]) == (409, "insufficient_points")
    assert post(secret, "rewards/999/redeem/", {"customer": ada.pk}, "c").status_code == 404
    rewards.change(reward=mug, stock=0)
    assert post(secret, path, {"customer": ada.pk}, "d").json()["code"] == "sold_out"
    assert Account.objects.get(customer=ada).balance == 1000
    assert not Redemption.objects.exists()


def test_it_moves_redemptions_on(secret: str, ada: Customer, mug: Reward) -> None:
    one = rewards.redeem(reward=mug, customer=ada, key="a")
    two = rewards.redeem(reward=mug, customer=ada, key="b")
    assert post(secret, f"redemptions/{one.pk}/prepare/", {}).json()["state"] == "prepared"
    assert post(secret, f"redemptions/{one.pk}/hand-out/", {}).json()["state"] == "handed_out"
    late = post(secret, f"redemptions/{one.pk}/cancel/", {"reason": "x"})
    assert (late.status_code, late.json()["code"]) == (409, "wrong_state")
    assert post(secret, f"redemptions/{two.pk}/cancel/", {}).status_code == 400
    assert post(secret, f"redemptions/{two.pk}/cancel/", {"reason": "Broken"}).json()["state"] == "cancelled"
    assert [r["id"] for r in get(secret, f"redemptions/?customer={ada.pk}").json()["results"]] == [two.pk, one.pk]
    assert [r["id"] for r in get(secret, "redemptions/?state=handed_out").json()["results"]] == [one.pk]
    assert get(secret, f"redemptions/{one.pk}/").json()["code"] == one.code
    assert Account.objects.get(customer=ada).balance == 700


def test_it_needs_the_scope_or_the_role(ada: Customer, mug: Reward) -> None:
    for scopes in (["rewards:read"], ["points:write"], []):
        secret = ApiKey.issue(name="Reader", scopes=scopes)[1]
        assert post(secret, f"rewards/{mug.pk}/redeem/", {"customer": ada.pk}, "a").status_code == 403
    client = Client()
    client.force_login(UserFactory(role=Role.SUPPORT))
    changed = client.patch(f"/api/v1/rewards/{mug.pk}/", {"points": 1}, content_type="application/json")
    assert changed.status_code == 403
    mug.refresh_from_db()
    assert (mug.points, Account.objects.get(customer=ada).balance) == (300, 1000)


def test_a_list_costs_the_same_number_of_queries_at_any_length(
    secret: str, ada: Customer, mug: Reward, django_assert_max_num_queries: Any
) -> None:
    rewards.change(reward=mug, points=1, stock=None)
    for n in range(30):
        rewards.redeem(reward=mug, customer=ada, key=f"k{n}")
    with django_assert_max_num_queries(8):
        assert len(get(secret, "redemptions/").json()["results"]) == 30

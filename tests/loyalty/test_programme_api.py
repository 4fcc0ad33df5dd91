from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib import clock
from loyalty import presets, rules
from loyalty.models import EarningRule, Membership, Programme, Tier
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, OrderFactory
from tests.loyalty.test_api import get, post
from tests.loyalty.test_rewards_api import patch

pytestmark = pytest.mark.django_db


@pytest.fixture
def secret() -> str:
    return ApiKey.issue(name="Back office", scopes=["programmes:write"])[1]


def test_it_lists_programmes_with_their_words_and_installs_presets(secret: str) -> None:
    [only] = get(secret, "programmes/").json()["results"]
    assert (only["key"], only["is_main"], only["ladder"], only["tiers"]) == ("points", True, None, [])
    assert only["words"][0] == "1 point for each US$1.00 of an order."
    assert [one["is_installed"] for one in get(secret, "programmes/presets/").json()] == [False] * 4
    made = post(secret, "programmes/install/", {"preset": "airline"}, "a")
    assert made.status_code == 201
    assert [one["key"] for one in made.json()["tiers"]] == ["silver", "gold", "platinum"]
    assert made.json()["ladder"]["window"] == "calendar"
    again = post(secret, "programmes/install/", {"preset": "airline"}, "b")
    assert (again.status_code, again.json()["code"]) == (409, "preset_installed")
    assert post(secret, "programmes/install/", {"preset": "hotel"}, "c").status_code == 404
    assert Programme.objects.count() == 2


def test_it_adds_changes_and_stops_a_programme(secret: str) -> None:
    made = post(
        secret, "programmes/", {"name": "Club", "kind": "membership", "fee_minor": 4900, "term_months": 12}, "a"
    )
    assert (made.status_code, made.json()["key"], made.json()["joining"]) == (201, "club", "asked")
    assert patch(secret, "programmes/club/", {"fee_minor": 0}).json()["fee_minor"] == 0
    bad = patch(secret, "programmes/club/", {"fee_minor": -1})
    assert (bad.status_code, bad.json()["details"]["field"]) == (422, "fee_minor")
    assert post(secret, "programmes/club/stop/", {}, "b").json()["is_active"] is False
    assert post(secret, "programmes/club/start/", {}, "c").json()["is_active"] is True


def test_it_adds_a_rule_changes_it_as_a_new_version_and_stops_it(secret: str) -> None:
    body = {
        "programme": "points",
        "kind": "multiplier",
        "name": "double points on Sundays",
        "percent": 200,
        "weekdays": "7",
    }
    made = post(secret, "earning-rules/", body, "a")
    assert made.status_code == 201
    rule = made.json()
    assert (rule["version"], rule["words"]) == (1, "2 times the points of orders, on Sunday.")
    changed = patch(secret, f"earning-rules/{rule['id']}/", {"percent": 300})
    assert (changed.json()["version"], changed.json()["percent"], changed.json()["key"]) == (2, 300, rule["key"])
    stale = patch(secret, f"earning-rules/{rule['id']}/", {"percent": 400})
    assert (stale.status_code, stale.json()["code"]) == (409, "rule_changed")
    stopped = post(secret, f"earning-rules/{changed.json()['id']}/stop/", {}, "b").json()
    assert stopped["ends_at"] is not None
    listed = get(secret, "earning-rules/?programme=points&is_current=true").json()["results"]
    assert {one["key"] for one in listed} == {"orders", rule["key"]}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "order", "points": -1}, "points"),
        ({"kind": "order", "points": 1, "tiers": ["gold"]}, "tiers"),
        ({"kind": "order", "points": 1, "segment": "nobody"}, "segment"),
        ({"kind": "order", "points": 1, "weekdays": "9"}, "weekdays"),
        ({"kind": "amount", "points": 1, "per": 0}, None),
    ],
)
def test_a_rule_that_makes_no_sense_is_a_problem_and_nothing_is_saved(
    secret: str, fields: dict[str, Any], field: str | None
) -> None:
    answer = post(secret, "earning-rules/", {"programme": "points", "name": "A rule", **fields}, "a")
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_rule")
    assert answer.json().get("details", {}).get("field") in (field, "per")
    assert EarningRule.objects.count() == 1


def test_it_sets_tiers_at_once_and_refuses_those_that_overlap(secret: str) -> None:
    body = {"tiers": [{"name": "Silver", "threshold": 100, "benefits": ["Tea"]}, {"name": "Gold", "threshold": 500}]}
    made = post(secret, "programmes/points/tiers/", body, "a").json()
    assert [(one["key"], one["threshold"]) for one in made["tiers"]] == [("silver", 100), ("gold", 500)]
    bad = post(secret, "programmes/points/tiers/", {"tiers": [{"name": n, "threshold": 5} for n in "AB"]}, "b")
    assert (bad.status_code, bad.json()["code"]) == (422, "bad_tiers")
    assert Tier.objects.count() == 2


def test_it_tells_the_last_year_again_and_writes_nothing(secret: str) -> None:
    OrderFactory(amount_minor=10_000, placed_at=clock.now() - timedelta(days=5))
    rule = rules.in_force(Programme.objects.get()).get()
    body = {"rule": rule.pk, "values": {"points": 4}, "ladder": {"tiers": [{"name": "Gold", "threshold": 300}]}}
    answer = post(secret, "programmes/points/what-if/", body, "a")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["today"]["points"], found["draft"]["points"], found["draft"]["per_tier"]) == (100, 400, {"Gold": 1})
    assert (found["up"], found["down"], found["is_sample"]) == (1, 0, False)
    added = post(
        secret, "programmes/points/what-if/", {"kind": "order", "values": {"name": "x", "points": 7}}, "b"
    ).json()
    assert added["draft"]["points"] == 107
    bad = post(secret, "programmes/points/what-if/", {"rule": rule.pk, "values": {"points": -4}}, "c")
    assert bad.status_code == 422
    assert (EarningRule.objects.count(), Tier.objects.count()) == (1, 0)


def test_a_customer_joins_once_renews_and_leaves(secret: str) -> None:
    presets.install(preset=presets.get("plus"))
    customer = CustomerFactory()
    body = {"programme": "plus", "customer": customer.pk, "paid_minor": 4900}
    made = post(secret, "memberships/", body, "a")
    assert made.status_code == 201
    assert len(made.json()["number"]) == 13
    assert post(secret, "memberships/", body, "a").json()["id"] == made.json()["id"]
    twice = post(secret, "memberships/", body, "b")
    assert (twice.status_code, twice.json()["code"]) == (409, "already_in_programme")
    poor = post(secret, f"memberships/{made.json()['id']}/renew/", {"paid_minor": 1}, "c")
    assert (poor.status_code, poor.json()["code"]) == (422, "fee_not_paid")
    renewed = post(secret, f"memberships/{made.json()['id']}/renew/", {"paid_minor": 4900}, "d").json()
    assert (renewed["renewals"], renewed["paid_minor"]) == (1, 9800)
    assert post(secret, f"memberships/{made.json()['id']}/leave/", {}, "e").json()["left_at"] is not None
    assert get(secret, f"memberships/?programme=plus&customer={customer.pk}").json()["results"][0]["left_at"]
    assert Membership.objects.count() == 1


def test_who_may_only_read_changes_nothing(client: Client) -> None:
    reader = ApiKey.issue(name="Reader", scopes=["programmes:read"])[1]
    assert get(reader, "programmes/").status_code == 200
    assert post(reader, "programmes/install/", {"preset": "card"}, "a").status_code == 403
    client.force_login(UserFactory(role=Role.SUPPORT))
    refused = client.post("/api/v1/programmes/install/", {"preset": "card"}, content_type="application/json")
    assert refused.status_code == 403
    assert Programme.objects.count() == 1

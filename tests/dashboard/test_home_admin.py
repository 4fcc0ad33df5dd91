"""The admin knows every table, stays quick, and shows a key's secret once."""

from __future__ import annotations

import re
from datetime import date

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from lifecycle_crm.accounts.models import ApiKey, User
from stages.models import RuleSet
from tests.dashboard.factories import move, noon, order, person, rules
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db

OURS = ("ground", "accounts", "customers", "stages", "loyalty", "feedback", "campaigns", "dashboard")
MODELS = [model for label in OURS for model in apps.get_app_config(label).get_models()]


@pytest.fixture
def owner(client):
    client.force_login(UserFactory(role="owner", is_staff=True, is_superuser=True))
    return client


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_it_lists_and_searches_every_table(owner, model):
    assert model in admin.site._registry
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    assert owner.get(address).status_code == 200
    if admin.site._registry[model].search_fields:
        assert owner.get(address, {"q": "12"}).status_code == 200
        assert owner.get(address, {"q": "kim@example.org"}).status_code == 200
    assert admin.site._registry[model].show_full_result_count is False


def test_it_signs_in_with_an_email_address(client):
    UserFactory(email="owner@shop.example", is_staff=True)
    page = client.get("/admin/login/").content.decode()
    assert 'type="email"' in page
    answer = client.post("/admin/login/?next=/admin/", {"username": "owner@shop.example", "password": PASSWORD})
    assert answer.url == "/admin/"


def test_it_shows_the_secret_of_a_new_key_once(owner):
    answer = owner.post(
        reverse("admin:accounts_apikey_add"), {"name": "Shop", "scopes": "stages:read, orders:write", "expires_at": ""}
    )
    [secret] = set(re.findall(r"lc_[\w-]{43}", answer.content.decode()))
    key = ApiKey.objects.get()
    assert (key.scopes, key.digest) == (["orders:write", "stages:read"], ApiKey.digest_of(secret))
    assert "no-store" in answer["Cache-Control"]
    assert owner.get("/api/v1/nights/", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    page = owner.get(reverse("admin:accounts_apikey_change", args=[key.pk])).content.decode()
    assert secret not in page
    assert key.digest not in page


def test_it_refuses_a_scope_that_is_none(owner):
    answer = owner.post(reverse("admin:accounts_apikey_add"), {"name": "Shop", "scopes": "everything"})
    assert "everything is no scope." in answer.content.decode()
    assert not ApiKey.objects.exists()


def test_it_revokes_keys(owner, client):
    key, secret = ApiKey.issue(name="Shop", scopes=["*"])
    owner.post(reverse("admin:accounts_apikey_changelist"), {"action": "revoke", "_selected_action": [key.pk]})
    key.refresh_from_db()
    assert key.revoked_at is not None
    client.logout()
    assert client.get("/api/v1/stages/", headers={"Authorization": f"Bearer {secret}"}).status_code == 401


def test_it_makes_people_with_lower_case_addresses(owner):
    owner.post(
        reverse("admin:accounts_user_add"),
        {
            "email": "Anna@Shop.Example",
            "name": "Anna",
            "role": "marketer",
            "usable_password": "true",
            "password1": "long enough words",
            "password2": "long enough words",
        },
    )
    anna = User.objects.get(email="anna@shop.example")
    assert (anna.role, anna.is_staff, anna.check_password("long enough words")) == ("marketer", False, True)


def test_it_changes_no_history(owner):
    day = date(2026, 3, 1)
    moved = move(person(), "", "reach", day)
    bought = order(person(), day)
    assert noon(day) == bought.placed_at
    for app, model, row in (
        ("stages", "stagetransition", moved),
        ("stages", "ruleset", rules()),
        ("customers", "order", bought),
    ):
        assert owner.post(reverse(f"admin:{app}_{model}_change", args=[row.pk]), {}).status_code == 403
        assert owner.post(reverse(f"admin:{app}_{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    assert RuleSet.objects.count() == 1


def test_it_asks_no_more_questions_for_more_moves(owner):
    address = reverse("admin:stages_stagetransition_changelist")

    def cost(people: int) -> int:
        for _n in range(people):
            move(person(), "", "reach", date(2026, 3, 1))
        with CaptureQueriesContext(connection) as asked:
            owner.get(address)
        return len(asked)

    owner.get(address)
    assert cost(3) == cost(30)

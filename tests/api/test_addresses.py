"""The addresses that belong to no app, and what a visitor sees when something is wrong."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(client):
    client.force_login(UserFactory(role="owner"))
    return client


def test_it_keeps_search_engines_out(client):
    assert client.get("/robots.txt").content == b"User-agent: *\nDisallow: /\n"


def test_it_sends_browsers_to_the_icon(client):
    assert client.get("/favicon.ico").url == "/static/crm/favicon.svg"


def test_it_is_well(client):
    assert client.get("/health/").json()["status"] in ("ok", "degraded")


def test_it_shows_the_style_guide_to_admins_only(client, owner):
    assert owner.get("/styleguide/").status_code == 200
    owner.force_login(UserFactory(role="marketer"))
    refused = owner.get("/styleguide/")
    assert refused.status_code == 403
    assert "You may not open this page" in refused.content.decode()
    assert Client().get("/styleguide/").url == "/sign-in/?next=%2Fstyleguide%2F"


def test_it_says_that_there_is_no_such_page(owner):
    answer = owner.get("/nowhere/")
    assert answer.status_code == 404
    assert "This page does not exist" in answer.content.decode()


def test_it_says_when_a_form_lost_its_token():
    strict = Client(enforce_csrf_checks=True)
    UserFactory(email="a@shop.example", role="owner")
    answer = strict.post("/sign-in/", {"username": "a@shop.example", "password": PASSWORD})
    assert answer.status_code == 403
    assert "the page was open for too long" in answer.content.decode()


def test_it_changes_the_language(owner):
    answer = owner.post(reverse("set_language"), {"language": "sv", "next": "/stages/"})
    assert answer.url == "/stages/"
    assert '<html lang="sv"' in owner.get("/stages/").content.decode()


def test_it_answers_a_wrong_address_of_the_api_with_json_refusals(client):
    answer = client.get("/api/v1/customers/abc/", headers={"Authorization": "Bearer lc_wrong"})
    assert (answer.status_code, answer.json()["code"]) == (401, "authentication_failed")


def test_it_has_nothing_under_a_number_that_no_column_can_hold(owner):
    assert owner.get("/api/v1/transitions/?customer=1e400").status_code == 400
    answer = owner.get("/api/v1/messages/?customer=99999999999999999999999")
    # SQLite refuses the number, PostgreSQL compares with it.
    assert answer.status_code == 400 or answer.json()["results"] == []

"""The OpenAPI document: made without a warning, committed, and shown by a page that keeps the strict policy."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from django.core.management import call_command
from django.urls import reverse

from tests.api.factories import caller

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "openapi.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("schema") / "openapi.yaml"
    call_command("spectacular", "--fail-on-warn", "--validate", "--file", str(path))
    return path.read_text(encoding="utf-8")


def test_it_is_made_without_a_warning_and_is_the_committed_one(made):
    assert made == DOCUMENT.read_text(encoding="utf-8"), (
        "docs/openapi.yaml is behind the code: run python manage.py spectacular --file docs/openapi.yaml"
    )


def test_it_describes_keys_and_refusals_of_every_operation(made):
    document = yaml.safe_load(made)
    assert document["openapi"].startswith("3.")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["responses"]["default"]["content"], path
            named = {p["name"] for p in operation.get("parameters", [])}
            assert ("Idempotency-Key" in named) is (method == "post"), (path, method)


def test_it_is_read_by_anybody_but_the_data_is_not(client, db):
    assert client.get(reverse("api-schema")).status_code == 200
    assert client.get(reverse("api-docs")).status_code == 200
    answer = client.get("/api/v1/transitions/")
    assert (answer.status_code, answer.headers["Content-Type"]) == (401, "application/problem+json")
    assert answer.json()["code"] == "not_authenticated"


def test_it_lists_nothing_for_a_key_without_the_scope(db):
    assert caller("orders:*").get("/api/v1/nights/").status_code == 403
    assert caller("stages:read").get("/api/v1/nights/").status_code == 200


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_it_draws_the_documentation_under_the_strict_policy(chromium):
    answer = chromium.goto("/api/docs/")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "'unsafe-inline'" not in answer.headers["content-security-policy"].split("style-src")[0]
    chromium.locator(".opblock-tag", has_text="stages").click()
    chromium.get_by_text("/api/v1/transitions/", exact=True).first.wait_for()
    # The same policy, not loosened, everywhere else.
    assert "unsafe" not in chromium.request.get("/sign-in/").headers["content-security-policy"]

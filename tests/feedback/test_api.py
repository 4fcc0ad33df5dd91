"""Surveys, responses and cases over REST."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from feedback import audit, cases, surveys
from feedback.models import Answer, Case, CaseNote, Response
from lifecycle_crm.accounts.models import ApiKey
from lifecycle_crm.lib import clock
from tests.feedback.factories import CustomerFactory, invite, nps

RESPONSES, CASES, SURVEYS = "/api/v1/responses/", "/api/v1/cases/", "/api/v1/surveys/"


class Machine:
    def __init__(self, *scopes: str) -> None:
        _key, secret = ApiKey.issue(name="Shop", scopes=list(scopes))
        self.client = Client(headers={"Authorization": f"Bearer {secret}"})

    def get(self, path: str, **query: Any) -> tuple[int, Any]:
        answer = self.client.get(path, query)
        return answer.status_code, answer.json()

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        answer = self.client.post(path, json.dumps(body), content_type="application/json")
        return answer.status_code, answer.json()


@pytest.fixture
def machine(db: None) -> Machine:
    nps()
    return Machine("feedback:write")


def body(customer: int, **more: Any) -> dict[str, Any]:
    return {
        "customer": customer,
        "score": 3,
        "comment": "Slow",
        "answered_at": (clock.now() - timedelta(days=1)).isoformat(),
        "source": "shop",
        "source_id": "1",
        **more,
    }


def test_it_records_an_answer_once(machine: Machine) -> None:
    customer = CustomerFactory(language="sv")

    status, made = machine.post(RESPONSES, body(customer.pk))
    assert status == 201
    assert (made["customer"], made["survey"], made["score"], made["mood"], made["comment"]) == (
        customer.pk,
        "nps",
        3,
        "detractor",
        "Slow",
    )
    assert (made["language"], made["is_history"], made["answer_count"], made["case"]) == ("sv", False, 1, None)

    status, again = machine.post(RESPONSES, body(customer.pk))
    assert (status, again["id"]) == (200, made["id"])
    status, problem = machine.post(RESPONSES, body(customer.pk, score=9))
    assert (status, problem["code"]) == (409, "already_recorded")
    assert list(Answer.objects.values_list("score", flat=True)) == [3]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"score": 11}, 422, "score_off_scale"),
        ({"score": -1}, 422, "score_off_scale"),
        ({"score": "nine"}, 400, "invalid"),
        ({"customer": 10**30}, 400, "invalid"),
        ({"score": 10**30}, 400, "invalid"),
        ({"customer": 987654}, 404, "unknown_customer"),
        ({"survey": "csat"}, 404, "unknown_survey"),
        ({"answered_at": "2999-01-01T00:00:00Z"}, 422, "future_date"),
        ({"answered_at": "yesterday"}, 400, "invalid"),
        ({"source": ""}, 400, "invalid"),
        ({"source": "link"}, 422, "invalid_source"),
        ({"source_id": "x" * 121}, 400, "invalid"),
        ({"comment": "x" * 4001}, 400, "invalid"),
    ],
)
def test_it_refuses_a_bad_answer_with_a_problem(
    machine: Machine, change: dict[str, Any], status: int, code: str
) -> None:
    found, problem = machine.post(RESPONSES, body(CustomerFactory().pk) | change)

    assert (found, problem["code"]) == (status, code)
    assert Response.objects.count() == 0


def test_it_lists_and_filters_answers(machine: Machine) -> None:
    anna, bo = CustomerFactory(), CustomerFactory()
    now = clock.now()
    for number, (who, score, days) in enumerate([(anna, 2, 30), (anna, 9, 20), (bo, 10, 10)]):
        machine.post(
            RESPONSES,
            body(who.pk, score=score, source_id=str(number), answered_at=(now - timedelta(days=days)).isoformat()),
        )

    def scores(**query: Any) -> list[int]:
        status, page = machine.get(RESPONSES, **query)
        assert status == 200
        return [row["score"] for row in page["results"]]

    assert scores() == [10, 9, 2]
    assert scores(customer=anna.pk) == [9, 2]
    assert scores(score_max=6) == [2]
    assert scores(score_min=9, customer=anna.pk) == [9]
    assert scores(answered_from=(now - timedelta(days=20)).isoformat()) == [10, 9]
    assert scores(answered_before=(now - timedelta(days=20)).isoformat()) == [2]
    assert scores(survey="nps", kind="nps") == [10, 9, 2]
    assert scores(limit=1) == [10]
    assert machine.get(RESPONSES, kind="x")[0] == 400
    assert machine.get(RESPONSES, customer=10**30)[0] == 400
    assert machine.get(CASES, assignee=-1)[0] == 400
    assert scores(score_min=10**30) == []


def test_it_lists_and_closes_cases(machine: Machine) -> None:
    response = surveys.answer(invitation=invite(), score=1)
    cases.open_for_responses([response.pk])
    case = Case.objects.get()

    status, page = machine.get(CASES, state="open")
    assert (status, [row["id"] for row in page["results"]]) == (200, [case.pk])
    assert page["results"][0]["is_late"] is False

    assert machine.post(f"{CASES}{case.pk}/close/", {"outcome": "happy"})[0] == 400
    status, closed = machine.post(f"{CASES}{case.pk}/close/", {"outcome": "solved", "text": "Refunded."})
    assert (status, closed["state"], closed["outcome"]) == (200, "closed", "solved")
    assert CaseNote.objects.get(state="closed").text == "Refunded."
    status, problem = machine.post(f"{CASES}{case.pk}/close/", {"outcome": "solved"})
    assert (status, problem["code"]) == (409, "case_moved")
    assert machine.get(CASES, state="open")[1]["results"] == []
    assert machine.get(f"{RESPONSES}{response.pk}/")[1]["case"] == case.pk
    assert machine.post(f"{CASES}999/close/", {"outcome": "solved"})[0] == 404
    assert audit.problems() == []


def test_it_lists_surveys(machine: Machine) -> None:
    status, page = machine.get(SURVEYS)

    survey = next(row for row in page["results"] if row["key"] == "nps")
    assert (status, survey["kind"], survey["lowest"], survey["highest"]) == (200, "nps", 0, 10)
    assert survey["texts"]["sv"]["thanks"] == "Tack för ditt svar"


def test_it_asks_for_the_scope(machine: Machine) -> None:
    reader, other = Machine("feedback:read"), Machine("orders:write")
    customer = CustomerFactory()

    assert reader.get(RESPONSES)[0] == 200
    assert reader.post(RESPONSES, body(customer.pk))[0] == 403
    for path in (RESPONSES, CASES, SURVEYS):
        assert other.get(path)[0] == 403
        assert Client().get(path).status_code in (401, 403)
    assert Response.objects.count() == 0


def test_it_hands_out_no_link(machine: Machine, admin_client: Client) -> None:
    link = invite()
    surveys.answer(invitation=link, score=9)

    for path in (RESPONSES, SURVEYS):
        assert link.nonce not in json.dumps(machine.get(path)[1])
    assert link.nonce not in admin_client.get(reverse("feedback:overview")).content.decode()

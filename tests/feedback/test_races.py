"""Many at once, on both databases: what is promised is promised by the database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from feedback import audit, cases, links, surveys
from feedback.errors import CaseMoved
from feedback.models import Answer, Case, CaseNote, Invitation, Response
from lifecycle_crm.lib import clock
from tests.feedback.factories import CustomerFactory, invite, nps


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What ``work(0)`` … ``work(count - 1)`` gave or raised, each in a thread and a connection of its own."""
    gate = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        try:
            gate.wait(30)
            results[number] = work(number)
        except Exception as problem:
            results[number] = problem
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.django_db(transaction=True)
def test_it_keeps_one_response_of_twenty_equal_posts() -> None:
    path = links.survey_path(invite())

    found = at_once(20, lambda number: Client().post(path, {"score": "4", "comment": "Slow"}).status_code)

    assert found == [302] * 20
    assert Response.objects.count() == 1
    assert Answer.objects.count() == 1
    assert audit.problems() == []


@pytest.mark.django_db(transaction=True)
def test_it_keeps_one_response_of_twenty_different_posts() -> None:
    path = links.survey_path(invite())

    found = at_once(
        20, lambda number: Client().post(path, {"score": str(number % 11), "comment": str(number)}).status_code
    )

    assert found == [302] * 20
    response = Response.objects.get()
    answers = list(response.answers.order_by("number"))
    assert [one.number for one in answers] == list(range(1, 21))
    assert sorted(int(one.comment) for one in answers) == list(range(20))
    assert response.comment == answers[-1].comment
    assert [one.answered_at for one in answers] == sorted(one.answered_at for one in answers)
    assert audit.problems() == []


@pytest.mark.django_db(transaction=True)
def test_it_invites_once_however_many_ask() -> None:
    survey, customer = nps(), CustomerFactory()

    found = at_once(12, lambda _: surveys.invite(customer=customer, survey=survey, key="order:1").pk)

    assert len(set(found)) == 1
    assert Invitation.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_it_opens_one_case_per_response_however_many_work() -> None:
    people = [CustomerFactory() for _ in range(30)]
    responses = [surveys.answer(invitation=invite(one), score=3).pk for one in people]

    found = at_once(8, lambda _: cases.open_for_responses(responses))

    assert sum(found) == 30
    assert Case.objects.count() == 30
    assert CaseNote.objects.filter(state="open").count() == 30
    assert audit.problems() == []


@pytest.mark.django_db(transaction=True)
def test_it_closes_a_case_once() -> None:
    response = surveys.answer(invitation=invite(), score=3)
    cases.open_for_responses([response.pk])
    case = Case.objects.get()

    found = at_once(
        8, lambda number: cases.close(case=Case.objects.get(pk=case.pk), outcome="solved", text=str(number))
    )

    assert sum(isinstance(one, CaseMoved) for one in found) == 7
    assert sum(isinstance(one, CaseNote) for one in found) == 1
    assert CaseNote.objects.filter(state="closed").count() == 1
    assert audit.problems() == []


@pytest.mark.django_db(transaction=True)
def test_it_records_an_answer_from_elsewhere_once_however_often_it_comes() -> None:
    survey, customer = nps(), CustomerFactory()
    moment = clock.now() - timedelta(days=1)

    found = at_once(
        8,
        lambda _: (
            surveys.record(
                customer=customer, survey=survey, score=7, answered_at=moment, source="shop", source_id="1"
            ).pk
        ),
    )

    assert len(set(found)) == 1
    assert Response.objects.count() == 1
    assert Answer.objects.count() == 1

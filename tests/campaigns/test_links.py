"""The way out: one press, no login, at once; and no scanner can press it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test import Client

from campaigns import links, outbox
from campaigns.models import Message, Suppression
from customers import consent
from customers.models import Consent
from lifecycle_crm.lib import clock
from tests.campaigns.factories import person, planned

pytestmark = pytest.mark.usefixtures("noon")


def url_of(message: Message) -> str:
    url = links.unsubscribe_url(customer_id=message.customer_id, message_id=message.pk, purpose="marketing")
    return url.removeprefix("http://127.0.0.1:8000")


@pytest.fixture
def message(db) -> Message:
    return Message.objects.get(run=planned([person()]))


def test_it_takes_one_click_from_a_mail_program_that_brings_no_cookie(message):
    client = Client(enforce_csrf_checks=True)
    answer = client.post(url_of(message), {"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 200
    assert "set-cookie" not in {name.lower() for name in answer.headers}
    said = consent.current([message.customer_id], purpose="marketing", channel="email")[message.customer_id]
    assert (said.is_granted, said.source) == (False, "unsubscribe")
    assert Suppression.objects.get().address_key == message.customer.email_key
    assert outbox.send_due() == {"skipped": 1}


def test_it_changes_nothing_when_a_link_is_only_opened(client, message):
    before = Consent.objects.count()
    url = url_of(message)
    for _ in range(20):
        assert client.get(url).status_code == 200
        assert client.head(url).status_code == 200
    assert Consent.objects.count() == before
    assert Suppression.objects.count() == 0
    assert "Unsubscribe" in client.get(url).content.decode()


def test_it_answers_a_second_press_the_same_and_writes_one_statement(client, message):
    before = Consent.objects.count()
    first = client.post(url_of(message))
    second = client.post(url_of(message))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.content == second.content
    assert Consent.objects.count() == before + 1
    assert Suppression.objects.count() == 1


def test_it_lets_somebody_leave_again_who_came_back(client, message, noon):
    client.post(url_of(message))
    noon.shift(60)
    consent.record(customer=message.customer, purpose="marketing", channel="email", is_granted=True, source="shop")
    again = Message.objects.get(run=planned([message.customer], key="test:2"))
    assert again.state == "queued"
    noon.shift(60)
    client.post(url_of(again))
    said = consent.current([message.customer_id], purpose="marketing", channel="email")[message.customer_id]
    assert said.is_granted is False
    assert Message.objects.get(run=planned([message.customer], key="test:3")).reason == "unsubscribed"


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: "1" + token,
        lambda token: token.replace("-m~", "-s~"),
        lambda token: token.split("~")[0],
        lambda token: "preview",
        lambda token: "x" * 500,
        lambda token: "0-0-m~" + token.split("~")[1],
        lambda token: "~",
    ],
)
def test_it_gives_a_forged_link_the_same_answer_as_an_old_one(client, message, change):
    before = Consent.objects.count()
    token = re.search(r"/p/u/([^/]+)/", url_of(message)).group(1)
    for method in (client.get, client.post):
        answer = method(f"/p/u/{change(token)}/")
        assert answer.status_code == 410
        assert "no longer valid" in answer.content.decode()
    assert Consent.objects.count() == before
    assert Suppression.objects.count() == 0


def test_it_speaks_the_customers_language(client, db):
    message = Message.objects.get(run=planned([person(language="cs")]))
    assert '<html lang="cs">' in client.get(url_of(message)).content.decode()


@pytest.mark.django_db(transaction=True)
def test_it_makes_one_statement_of_fifty_presses_at_once():
    message = Message.objects.get(run=planned([person()]))
    before = Consent.objects.count()
    url = url_of(message)

    def press(_n: int) -> int:
        try:
            return Client().post(url, {"List-Unsubscribe": "One-Click"}).status_code
        finally:
            connection.close()

    start = clock.now()
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(press, range(50)))
    assert answers == [200] * 50
    assert Consent.objects.count() == before + 1
    assert Suppression.objects.count() == 1
    assert (clock.now() - start).total_seconds() < 30

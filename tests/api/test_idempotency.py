"""A POST with ``Idempotency-Key`` happens once, however often and however fast it is sent."""

from __future__ import annotations

from datetime import timedelta
from threading import Barrier, Thread

import pytest
from django.db import connection
from rest_framework.test import APIClient

from lifecycle_crm.accounts.models import ApiKey
from lifecycle_crm.api import idempotency
from lifecycle_crm.lib import clock, leases
from lifecycle_crm.lib.models import IdempotencyRecord, Lease
from stages import presets
from stages.models import RuleSet
from tests.api.factories import caller

URL = "/api/v1/rule-sets/"
BODY = {"name": "Tighter", "rules": presets.default_rules(60)}
OTHER = {"name": "Looser", "rules": presets.default_rules(90)}


@pytest.fixture
def api(db):
    return caller("stages:write")


def send(api, body=BODY, key="k-1"):
    return api.post(URL, body, format="json", headers={"Idempotency-Key": key})


def test_it_answers_a_repeated_request_from_the_store(api):
    first = send(api)
    again = send(api)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert RuleSet.objects.count() == 1
    assert not Lease.objects.filter(name__startswith="once:").exists()


def test_it_does_every_request_without_a_key(api):
    for _n in range(2):
        assert api.post(URL, BODY, format="json").status_code == 201
    assert RuleSet.objects.count() == 2
    assert not IdempotencyRecord.objects.exists()


def test_it_refuses_a_key_that_was_used_for_another_request(api):
    send(api)
    refused = send(api, OTHER)
    assert (refused.status_code, refused.json()["code"]) == (422, "key_reused")
    assert RuleSet.objects.count() == 1


def test_it_keeps_the_keys_of_two_callers_apart(api):
    send(api)
    assert send(caller("stages:write")).status_code == 201
    assert RuleSet.objects.count() == 2


def test_it_does_not_store_a_refusal(api):
    bad = {"name": "Bad", "rules": []}
    assert send(api, bad).status_code == 422
    assert not IdempotencyRecord.objects.exists()
    assert send(api).status_code == 201


def test_it_makes_a_second_request_wait_while_the_first_is_running(api):
    key = ApiKey.objects.get()
    name = f"once:{__import__('hashlib').sha256(f'key:{key.pk} k-1'.encode()).hexdigest()[:40]}"
    leases.take(name, "somebody:else", 60)
    busy = send(api)
    assert (busy.status_code, busy.json()["code"], busy.headers["Retry-After"]) == (409, "in_progress", "1")
    assert not RuleSet.objects.exists()


@pytest.mark.parametrize("key", ["", "   ", "x" * 256])
def test_it_refuses_a_key_that_is_none(api, key):
    refused = send(api, key=key)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_key")
    assert not RuleSet.objects.exists()


def test_it_asks_who_calls_before_it_looks_at_the_key(db):
    assert send(APIClient()).status_code == 401
    assert send(caller("stages:read")).status_code == 403
    assert not IdempotencyRecord.objects.exists()


def test_it_forgets_old_answers(api):
    send(api)
    now = clock.now()
    assert idempotency.forget(before=now - timedelta(days=1)) == 0
    assert idempotency.forget(before=now + timedelta(seconds=1)) == 1


@pytest.mark.django_db(transaction=True)
def test_it_happens_once_when_eight_send_it_at_the_same_moment():
    _key, secret = ApiKey.issue(name="test", scopes=["stages:write"])
    start, statuses = Barrier(8), []

    def run() -> None:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
        start.wait()
        try:
            statuses.append(send(client).status_code)
        finally:
            connection.close()

    threads = [Thread(target=run) for _n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert RuleSet.objects.count() == 1
    assert set(statuses) <= {201, 409}
    assert 201 in statuses
    assert IdempotencyRecord.objects.count() == 1

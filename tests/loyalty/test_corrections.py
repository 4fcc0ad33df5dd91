"""Several movements undone with one reason, through the page and over REST."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from customers.models import Customer
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import audit, corrections, ledger, rewards
from loyalty.errors import KeyReused
from loyalty.models import Account, Entry, Programme
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_api import post
from tests.loyalty.test_pages import text

pytestmark = pytest.mark.django_db

REASON = "Told twice by the till"


@pytest.fixture
def two() -> list[Customer]:
    return [CustomerFactory(name="Ada Example"), CustomerFactory(name="Bo Example")]


def stands(customer: Customer) -> tuple[int, int]:
    account = Account.objects.get(customer=customer)
    return account.balance, account.debt


def mixed(two: list[Customer]) -> list[Entry]:
    """Ada: 100 earned, 80 of it spent; Bo: 50 given, 20 taken, and 10 that ended."""
    ada, bo = two
    earned = give(ada, 100)
    ledger.redeem(customer=ada, points=80, key="s")
    gift = ledger.adjust(customer=bo, points=50, key="g", actor=None, reason="Sorry")
    taken = ledger.adjust(customer=bo, points=-20, key="t", actor=None, reason="Mistake")
    yesterday = clock.now() - timedelta(days=1)
    gone = give(bo, 10, effective_at=yesterday - timedelta(days=9), expires_at=yesterday)
    ledger.expire_due(as_of=clock.now(), low=0, high=2**40)
    return [earned, gift, taken, gone]


def test_what_can_be_undone_is_and_the_rest_is_named(two: list[Customer]) -> None:
    chosen, actor = mixed(two), UserFactory()
    done = corrections.undo_many(entries=chosen, key="k", actor=actor, reason=REASON)
    assert [(one.kind, one.points, one.reason, one.actor) for one in done.done] == [
        ("cancel", 20, REASON, actor),
        ("reverse", -50, REASON, actor),
        ("reverse", -20, REASON, actor),
        ("debt", -80, REASON, actor),
    ]
    assert [(one.entry.pk, one.why[:28]) for one in done.left] == [(chosen[3].pk, "Nothing is left to take back")]
    assert done.points == -130
    assert (stands(two[0]), stands(two[1])) == ((0, 80), (0, 0))
    assert audit.problems() == []


def test_the_same_request_again_changes_nothing_and_its_key_with_another_reason_is_refused(two: list[Customer]) -> None:
    chosen = mixed(two)[:3]
    first = corrections.undo_many(entries=chosen, key="k", actor=None, reason=REASON)
    before = Entry.objects.count()
    again = corrections.undo_many(entries=chosen, key="k", actor=None, reason=REASON)
    assert (again.replayed, first.replayed, Entry.objects.count()) == (True, False, before)
    assert [one.pk for one in again.done] == [one.pk for one in first.done]
    with pytest.raises(KeyReused):
        corrections.undo_many(entries=chosen, key="k", actor=None, reason="Another")
    other = corrections.undo_many(entries=chosen, key="k2", actor=None, reason=REASON)
    assert (len(other.done), len(other.left), Entry.objects.count()) == (0, 3, before)


def test_none_too_many_and_no_reason_are_refused(two: list[Customer]) -> None:
    chosen = mixed(two)
    before = Entry.objects.count()
    for entries, reason in (([], REASON), (chosen, " "), (chosen, "x" * 301)):
        with pytest.raises(InvalidInput):
            corrections.undo_many(entries=entries, key="k", actor=None, reason=reason)
    assert Entry.objects.count() == before


def test_points_of_a_reward_stay_with_it(two: list[Customer]) -> None:
    programme = Programme.objects.get()
    give(two[0], 100)
    mug = rewards.create(programme=programme, name="Mug", points=30)
    paid = rewards.redeem(reward=mug, customer=two[0], key="r").entry
    assert paid is not None
    [left] = corrections.undo_many(entries=[paid], key="k", actor=None, reason=REASON).left
    assert "Cancel the redemption instead" in left.why
    assert stands(two[0]) == (70, 0)


def test_many_earnings_are_taken_back_in_as_many_statements_as_few(two: list[Customer]) -> None:
    def cost(number: int, key: str) -> int:
        some = [give(two[0], 5, key=f"order:{key}:{n}") for n in range(number)]
        with CaptureQueriesContext(connection) as found:
            corrections.undo_many(entries=some, key=key, actor=None, reason=REASON)
        return len(found)

    few = cost(2, "a")
    # What stands beside each movement, "can it be undone?", is asked one by one.
    assert cost(12, "b") <= few + 10 * 3
    assert stands(two[0]) == (0, 0)


def test_a_marketer_ticks_movements_in_the_ledger_and_undoes_them(two: list[Customer]) -> None:
    chosen = mixed(two)
    staff = Client()
    staff.force_login(UserFactory(role=Role.MARKETER))
    page = staff.get(reverse("loyalty:ledger")).content.decode()
    assert page.count('type="checkbox" name="entry"') == 5
    url = f"{reverse('loyalty:ledger-undo')}?{urlencode({'entry': [one.pk for one in chosen]}, doseq=True)}"
    shown = text(staff.get(url))
    assert "Undo 3 movements" in shown
    assert "Nothing is left to take back" in shown
    assert staff.post(url, {"key": "k" * 20, "reason": ""}).status_code == 422
    for _press in range(2):
        said = text(staff.post(url, {"key": "k" * 20, "reason": REASON}, follow=True))
        assert "3 movements undone. 1 stayed as it was." in said
    assert (stands(two[0]), stands(two[1])) == ((0, 80), (0, 0))
    assert f"Corrected by #{Entry.objects.get(reverses=chosen[2]).pk}" in text(staff.get(reverse("loyalty:ledger")))
    assert "Nothing is chosen" in text(staff.get(f"{reverse('loyalty:ledger-undo')}?entry=x"))


def test_those_who_serve_undo_one_by_one(two: list[Customer]) -> None:
    chosen = mixed(two)
    client = Client()
    client.force_login(UserFactory(role=Role.SUPPORT))
    assert 'name="entry"' not in client.get(reverse("loyalty:ledger")).content.decode()
    url = f"{reverse('loyalty:ledger-undo')}?entry={chosen[0].pk}"
    assert client.get(url).status_code == 403
    assert client.post(url, {"key": "k" * 20, "reason": REASON}).status_code == 403
    assert stands(two[0]) == (20, 0)


def test_rest_undoes_once_and_names_what_it_left(two: list[Customer]) -> None:
    chosen = mixed(two)
    secret = ApiKey.issue(name="Till", scopes=["points:write"])[1]
    body = {"entries": [one.pk for one in chosen], "reason": REASON}
    first = post(secret, "points/undo-many/", body, "a")
    assert first.status_code == 201, first.content
    assert first.json()["points"] == -130
    assert [one["entry"] for one in first.json()["left"]] == [chosen[3].pk]
    again = post(secret, "points/undo-many/", body, "a")
    assert (again.headers["Idempotency-Replayed"], again.json()) == ("true", first.json())
    before = Entry.objects.count()
    for told, key, status in (
        ({"reason": "Another"}, "a", 422),
        ({"entries": [10**9]}, "b", 404),
        ({"entries": []}, "c", 400),
        ({"reason": ""}, "d", 400),
    ):
        answer = post(secret, "points/undo-many/", body | told, key)
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert Entry.objects.count() == before

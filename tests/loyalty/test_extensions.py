"""Points that may be used longer: their lots, the pages, the API, what a past date says, and how it is taken back."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import DatabaseError, transaction
from django.test import Client
from django.urls import reverse

from customers.models import Customer
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import audit, ledger, liability, statements, wallet
from loyalty.errors import KeyReused, NothingToExtend, NotReversible
from loyalty.models import Entry, ExtendedLot, Extension, Lot, Programme
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_api import post
from tests.loyalty.test_pages import text

pytestmark = pytest.mark.django_db

REASON = "The shop was closed"


def end(days: int) -> datetime:
    """The end of the day so many days from today."""
    return clock.day_end(clock.today() + timedelta(days=days))


@pytest.fixture
def ada() -> Customer:
    """100 points that end in 5 days, 50 in 60, 30 never, 20 that ended yesterday."""
    customer = CustomerFactory(name="Ada Example")
    long_ago = clock.now() - timedelta(days=90)
    for points, ends in ((100, end(5)), (50, end(60)), (30, None), (20, end(-1))):
        give(customer, points, expires_at=ends, effective_at=long_ago)
    return customer


def ends(customer: Customer) -> list[datetime | None]:
    return list(Lot.objects.filter(customer=customer).order_by("pk").values_list("expires_at", flat=True))


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(UserFactory(role=Role.MARKETER))
    return client


def test_it_lets_what_is_alive_and_would_end_earlier_live_longer(ada: Customer) -> None:
    entries = Entry.objects.count()
    actor = UserFactory()
    made = ledger.extend(expires_at=end(30), key="e", actor=actor, reason=REASON)
    assert (made.points, made.customers, made.actor, made.until) == (100, 1, actor, clock.today() + timedelta(days=30))
    assert ends(ada) == [end(30), end(60), None, end(-1)], "what is over stays over, what ends later keeps its day"
    row = ExtendedLot.objects.get()
    assert (row.points, row.was, row.becomes) == (100, end(5), end(30))
    again = ledger.extend(expires_at=end(30), key="e", actor=actor, reason=REASON)
    assert (again.pk, again.replayed, Extension.objects.count()) == (made.pk, True, 1)
    assert Entry.objects.count() == entries, "no point moves"
    assert ledger.expire_due(as_of=end(6), low=ada.pk, high=ada.pk + 1) == 1, "only what was over before"
    assert audit.problems() == []


def test_only_some_customers_and_some_last_days(ada: Customer) -> None:
    bo = CustomerFactory()
    give(bo, 70, expires_at=end(5))
    made = ledger.extend(expires_at=end(90), key="a", actor=None, reason=REASON, customers=[bo])
    assert (made.points, ends(bo), ends(ada)[0]) == (70, [end(90)], end(5))
    made = ledger.extend(
        expires_at=end(100), key="b", actor=None, reason=REASON, ends_from=end(5), ends_before=end(60)
    )  # fmt: skip
    assert (made.points, ends(ada)[:2], ends(bo)) == (50, [end(5), end(100)], [end(90)])


def test_it_refuses_what_makes_no_sense_and_nothing_is_written(ada: Customer) -> None:
    ledger.extend(expires_at=end(30), key="e", actor=None, reason=REASON)
    before = (Extension.objects.count(), ExtendedLot.objects.count(), ends(ada))
    for told, problem in (
        ({"expires_at": end(30)}, NothingToExtend),
        ({"expires_at": end(-1)}, InvalidInput),
        ({"expires_at": end(4000)}, InvalidInput),
        ({"reason": " "}, InvalidInput),
        ({"key": "e", "expires_at": end(31)}, KeyReused),
    ):
        given: Any = {"expires_at": end(40), "key": "f", "actor": None, "reason": REASON} | told
        with pytest.raises(problem):
            ledger.extend(**given)
    assert (Extension.objects.count(), ExtendedLot.objects.count(), ends(ada)) == before


def test_it_is_taken_back_once_where_the_old_day_has_not_passed(ada: Customer) -> None:
    bo, cy = CustomerFactory(), CustomerFactory()
    give(bo, 10, expires_at=end(0))
    give(cy, 10, expires_at=end(8))
    made = ledger.extend(expires_at=end(30), key="e", actor=None, reason=REASON)
    assert made.points == 120
    ledger.extend(expires_at=end(40), key="again", actor=None, reason="For Cy", customers=[cy])
    with time_machine.travel(end(1), tick=True):
        back = ledger.take_back_extension(extension=made, key="b", actor=None, reason="A mistake")
    assert (back.points, back.customers, back.undoes) == (100, 1, made)
    assert (ends(ada)[0], ends(bo), ends(cy)) == (end(5), [end(30)], [end(40)])
    for key in ("b2", "b3"):
        with pytest.raises(NotReversible, match="taken back already"):
            ledger.take_back_extension(extension=made, key=key, actor=None, reason="Again")
    with pytest.raises(NotReversible, match="only took an extension back"):
        ledger.take_back_extension(extension=back, key="c", actor=None, reason="Again")
    assert audit.problems() == []


def test_a_past_date_says_what_held_then(ada: Customer) -> None:
    programme = Programme.objects.get()
    before = liability.calendar(programme, clock.today() - timedelta(days=2))
    with time_machine.travel(clock.now() + timedelta(seconds=5), tick=True):
        ledger.extend(expires_at=end(200), key="e", actor=None, reason=REASON)
        now = liability.calendar(programme, clock.today())
        assert liability.calendar(programme, clock.today() - timedelta(days=2)) == before
    assert {one.first: one.points for one in now}[clock.month(clock.today() + timedelta(days=200))] == 150


def test_a_refund_and_a_cancellation_find_the_same_lots(ada: Customer) -> None:
    earned, spent = Entry.objects.order_by("pk").first(), ledger.redeem(customer=ada, points=60, key="r")
    ledger.extend(expires_at=end(30), key="e", actor=None, reason=REASON)
    ledger.cancel_redemption(entry=spent, key="c")
    assert Lot.objects.get(entry=earned).remaining == 100
    assert earned is not None
    ledger.reverse(entry=earned, key="back")
    assert Lot.objects.get(entry=earned).remaining == 0
    assert audit.problems() == []


def test_an_undone_merge_keeps_what_was_extended_meanwhile(ada: Customer) -> None:
    bo = CustomerFactory()
    [merge] = ledger.merge(customer=ada, into=bo, key="m", actor=None, reason="Same person")
    ledger.extend(expires_at=end(30), key="e", actor=None, reason=REASON)
    ledger.unmerge(merge=merge)
    assert ends(ada)[0] == end(30)
    assert statements.account(ada).next_last_day == clock.today() + timedelta(days=30)
    assert audit.problems() == []


def test_decisions_are_never_rewritten_and_verify_compares_ends(ada: Customer) -> None:
    ledger.extend(expires_at=end(30), key="e", actor=None, reason=REASON)
    for rows in (Extension.objects, ExtendedLot.objects):
        with pytest.raises(DatabaseError), transaction.atomic():
            rows.update(points=1)
    Lot.objects.filter(customer=ada, amount=100).update(expires_at=end(99))
    [said] = audit.problems()
    assert said.startswith("Lots of points that end on another day than they were extended to: #")


# --- Pages ------------------------------------------------------------------------------------------------------------


def test_a_marketer_extends_a_month_once_and_takes_it_back(staff: Client, ada: Customer) -> None:
    bo = CustomerFactory()
    month = clock.month(clock.today() + timedelta(days=150))
    give(bo, 40, expires_at=clock.day_end(month))
    people = reverse("loyalty:liability-people", args=[month.isoformat()])
    page = text(staff.get(people, {"as_of": clock.today().isoformat()}))
    assert "Let points be used longer" in page
    url = f"{reverse('loyalty:extend')}?month={month:%Y-%m}"
    assert "40" in text(staff.get(url))
    form = {"key": "k" * 20, "until": (month + timedelta(days=90)).isoformat(), "reason": REASON}
    for _press in range(2):
        assert staff.post(url, form).status_code == 302
    made = Extension.objects.get()
    assert (made.points, made.actor.role) == (40, Role.MARKETER)
    listed = text(staff.get(reverse("loyalty:extensions")))
    assert REASON in listed
    assert "Take back" in listed
    assert "40 points: last day" in text(staff.get(reverse("loyalty:account", args=[bo.pk])))
    undo = reverse("loyalty:extension-undo", args=[made.pk])
    assert staff.get(undo).status_code == 200
    assert staff.post(undo, {"key": "u" * 20, "reason": ""}).status_code == 422
    assert staff.post(undo, {"key": "u" * 20, "reason": "A mistake"}).status_code == 302
    assert ends(bo) == [clock.day_end(month)]
    assert "taken back already" in text(staff.get(undo))
    assert staff.post(undo, {"key": "v" * 20, "reason": "A mistake"}).status_code == 409


def test_a_customer_s_points_are_extended_and_the_wallet_says_so(staff: Client, ada: Customer) -> None:
    url = f"{reverse('loyalty:extend')}?customer={ada.pk}"
    assert url in staff.get(reverse("loyalty:account", args=[ada.pk])).content.decode()
    for told, status in (({"until": "yesterday"}, 422), ({"until": end(-2).date().isoformat()}, 422)):
        answer = staff.post(url, {"key": "k" * 20, "until": "", "reason": REASON} | told)
        assert answer.status_code == status
    until = date(clock.today().year + 1, 12, 24)
    assert staff.post(url, {"key": "k" * 20, "until": until.isoformat(), "reason": REASON}).status_code == 302
    shown = text(Client().get(wallet.path(wallet.card(ada))))
    assert f"150 points last day {until.day} Dec {until.year}" in " ".join(shown.split())


def test_those_who_may_not_set_up_extend_nothing(ada: Customer) -> None:
    client = Client()
    client.force_login(UserFactory(role=Role.SUPPORT))
    url = f"{reverse('loyalty:extend')}?customer={ada.pk}"
    assert client.get(url).status_code == 403
    assert client.post(url, {"key": "k" * 20, "until": "2027-12-24", "reason": REASON}).status_code == 403
    assert reverse("loyalty:extend") not in client.get(reverse("loyalty:account", args=[ada.pk])).content.decode()
    assert Extension.objects.count() == 0


@pytest.mark.parametrize("query", ["?month=2026-13", "?month=x", "?customer=999999", "?customer=1&programme=0"])
def test_an_address_that_names_nothing_is_not_found(staff: Client, query: str) -> None:
    assert staff.get(reverse("loyalty:extend") + query).status_code == 404


# --- REST -------------------------------------------------------------------------------------------------------------


def test_rest_extends_once_lists_and_takes_back(ada: Customer) -> None:
    secret = ApiKey.issue(name="Till", scopes=["points:write", "points:read"])[1]
    until = clock.today() + timedelta(days=30)
    body = {"until": until.isoformat(), "reason": REASON, "customers": [ada.pk]}
    first = post(secret, "extensions/", body, "a")
    assert first.status_code == 201, first.content
    assert (first.json()["points"], first.json()["until"]) == (100, until.isoformat())
    again = post(secret, "extensions/", body, "a")
    assert again.headers["Idempotency-Replayed"] == "true"
    for told, key, code in (
        ({"reason": "Another"}, "a", "key_reused"),
        ({}, "b", "nothing_to_extend"),
        ({"until": "2001-01-01"}, "c", "invalid_date"),
        ({"programme": "no-such"}, "d", "unknown_programme"),
    ):
        assert post(secret, "extensions/", body | told, key).json()["code"] == code
    assert Extension.objects.count() == 1
    undone = post(secret, f"extensions/{first.json()['id']}/undo/", {"reason": "A mistake"}, "u")
    assert (undone.status_code, undone.json()["undoes"]) == (201, first.json()["id"])
    assert ends(ada)[0] == end(5)
    listed = Client().get("/api/v1/extensions/", headers={"Authorization": f"Bearer {secret}"}).json()["results"]
    assert [one["id"] for one in listed] == [undone.json()["id"], first.json()["id"]]

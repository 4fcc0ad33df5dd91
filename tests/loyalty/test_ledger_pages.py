"""The ledger as staff read it: every movement, narrowed by programme, kind, days and customer."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.test import Client
from django.urls import reverse

from customers.models import Customer
from lifecycle_crm.accounts.models import Role
from lifecycle_crm.lib import clock
from loyalty import ledger
from loyalty.models import Account, Programme
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, give

pytestmark = pytest.mark.django_db

LEDGER = reverse("loyalty:ledger")


@pytest.fixture
def ola(client: Client) -> Client:
    client.force_login(UserFactory(role=Role.MARKETER))
    return client


@pytest.fixture
def ada() -> Customer:
    """Earned, redeemed and was given back, and earned miles."""
    ada = CustomerFactory(name="Ada Example", email="ada@shop.example")
    give(ada, 100)
    give(ada, 7, key="old", effective_at=clock.now() - timedelta(days=40))
    spent = ledger.redeem(customer=ada, points=60, key="r", reason="Mug")
    ledger.cancel_redemption(entry=spent, key="c", reason="Broken")
    give(ada, 500, key="m", programme=Programme.objects.create(name="Miles", key="miles", position=200))
    return ada


def moved(page: Any) -> list[str]:
    """The points of the rows, in their order."""
    assert page.status_code == 200
    return re.findall(r'<td role="cell" class="num" data-label="Points">([^<]*)</td>', page.content.decode())


def test_it_shows_the_last_thirty_days_of_the_main_programme(ola: Client, ada: Customer) -> None:
    page = ola.get(LEDGER)
    assert moved(page) == ["+60", "−60", "+100"]
    words = page.content.decode()
    for said in ("Ada Example", "Mug", "Given back", f"Corrects #{ada.points_entries.get(kind='spend').pk}"):
        assert said in words


def test_it_is_narrowed_by_what_is_asked(ola: Client, ada: Customer) -> None:
    give(CustomerFactory(email="bo@shop.example"), 3, key="bo")
    since = (clock.today() - timedelta(days=50)).isoformat()
    until = (clock.today() - timedelta(days=30)).isoformat()
    miles = Programme.objects.get(key="miles").pk
    assert moved(ola.get(LEDGER, {"kind": "earn"})) in (["+100", "+3"], ["+3", "+100"])
    assert moved(ola.get(LEDGER, {"kind": "earn", "customer": f"#{ada.pk}"})) == ["+100"]
    assert moved(ola.get(LEDGER, {"customer": "bo@shop.example"})) == ["+3"]
    assert moved(ola.get(LEDGER, {"since": since, "until": until})) == ["+7"]
    assert moved(ola.get(LEDGER, {"programme": miles})) == ["+500"]
    assert "No points moved like this" in ola.get(LEDGER, {"kind": "expire"}).content.decode()


@pytest.mark.parametrize(
    "asked, said",
    [
        ({"kind": "stolen"}, "Select a valid choice"),
        ({"programme": "x"}, "Select a valid choice"),
        ({"customer": "nobody@shop.example"}, "No customer has this address or number."),
        ({"since": "2026-05-02", "until": "2026-05-01"}, "the last is not before the first"),
        ({"since": "2024-01-01", "until": "2026-01-01"}, "Ask for at most a year at once."),
        ({"since": "yesterday"}, "Enter a valid date"),
    ],
)
def test_what_makes_no_sense_is_said_at_the_form(ola: Client, asked: dict[str, str], said: str) -> None:
    page = ola.get(LEDGER, asked)
    assert page.status_code == 422
    assert said in page.content.decode()


def test_it_is_read_in_pages_without_gaps_and_at_the_same_cost(ola: Client, django_assert_max_num_queries: Any) -> None:
    customer = CustomerFactory()
    when = clock.now() - timedelta(days=2)
    ledger.earn_many([ledger.Earning(customer.pk, n, f"n{n}", when, when) for n in range(1, 121)])
    seen: list[str] = []
    address = LEDGER
    for _page in range(3):
        with django_assert_max_num_queries(16):
            page = ola.get(address)
        seen += moved(page)
        found = re.search(r'href="(\?[^"]*before=[^"]*)">Next page', page.content.decode())
        address = LEDGER + found.group(1).replace("&amp;", "&") if found else ""
    assert address == ""
    assert sorted(int(one) for one in seen) == list(range(1, 121))
    assert ola.get(LEDGER, {"before": "forged"}, headers={"referer": f"http://testserver{LEDGER}"}).status_code in (
        302,
        422,
    )


def test_who_may_not_see_names_sees_initials(client: Client, ada: Customer) -> None:
    client.force_login(UserFactory(role=Role.VIEWER))
    for address in (LEDGER, reverse("loyalty:overview"), reverse("loyalty:account", args=[ada.pk])):
        page = client.get(address).content.decode()
        assert "Ada" not in page
        assert "A… E…" in page


def test_it_says_when_it_was_proved_and_when_something_disagrees(ola: Client, ada: Customer) -> None:
    assert "proved in the night" not in ola.get(LEDGER).content.decode()
    ledger.prove(day=clock.today())
    for address in (LEDGER, reverse("loyalty:overview")):
        assert "Ledger and balances agree, proved in the night of" in ola.get(address).content.decode()
    Account.objects.filter(customer=ada, programme__key="points").update(
        balance=F("balance") + 1, earned=F("earned") + 1
    )
    ledger.prove(day=clock.today() + timedelta(days=1))
    for address in (LEDGER, reverse("loyalty:overview")):
        page = ola.get(address).content.decode()
        assert "Entries and balances of some accounts disagree" in page
        assert "Ledger and balances agree" not in page

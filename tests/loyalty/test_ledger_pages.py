"""The ledger as staff read it: every movement, narrowed by programme, kind, days and customer."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db.models import F
from django.test import Client
from django.urls import reverse

from customers.models import Customer
from lifecycle_crm.accounts.models import Role
from lifecycle_crm.lib import clock
from lifecycle_crm.templatetags.crm import day
from loyalty import earning, journal, ledger, queries
from loyalty.models import Account, EarningRule, Programme
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, OrderFactory, RefundFactory, give

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
        with django_assert_max_num_queries(22):
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


# --- All columns --------------------------------------------------------------------------------------------------------


def columns(page: Any) -> list[tuple[str, ...]]:
    """Points, usable points after, rule, order and last day of the rows, in their order."""
    assert page.status_code == 200
    labels = ("Points", "Usable after", "Rule", "Order", "Last day")
    cells = [
        re.findall(rf'<td role="cell"[^>]* data-label="{label}">(.*?)</td>', page.content.decode(), re.S)
        for label in labels
    ]
    return [tuple(re.sub(r"<[^>]+>", " ", cell).strip() for cell in row) for row in zip(*cells, strict=True)]


def test_each_line_says_rule_order_last_day_and_what_was_left(ola: Client) -> None:
    bo = CustomerFactory()
    bought = OrderFactory(customer=bo, source_id="A-17", placed_at=clock.now() - timedelta(days=20))
    assert earning.award_for_orders([bought.pk]) == 1
    back = RefundFactory(order=bought, amount_minor=1000, occurred_at=clock.now() - timedelta(days=19))
    earning.reverse_for_refunds([back.pk])
    ledger.activate_due(as_of=clock.now(), low=bo.pk, high=bo.pk + 1)
    rule = EarningRule.objects.get()
    earned = bo.points_entries.get(kind="earn")
    ends = day(queries.last_day(earned.lot.expires_at)) if earned.lot.expires_at else "–"
    said = re.sub(r"\s+", " ", f"{rule.name} version 1")
    found = [tuple(re.sub(r"\s+", " ", cell) for cell in row) for row in columns(ola.get(LEDGER))]
    assert found == [
        ("+40", "40", "–", "–", "–"),
        ("−9", "0", "–", "A-17", "–"),
        ("+49", "0", said, "A-17", ends),
    ]


def test_it_is_narrowed_by_every_column(ola: Client) -> None:
    bo, eva = CustomerFactory(), UserFactory(name="Eva")
    bought = OrderFactory(customer=bo, source_id="A-17", source="web", placed_at=clock.now() - timedelta(days=3))
    OrderFactory(customer=bo, source_id="A-18", placed_at=clock.now() - timedelta(days=3))
    earning.award_for_orders([bought.pk])
    ends = clock.day_end(clock.today() + timedelta(days=5))
    give(bo, 8, expires_at=ends)
    ledger.adjust(customer=bo, points=25, key="by-eva", actor=eva, reason="A lost parcel")
    rule = EarningRule.objects.get()
    last = clock.today() + timedelta(days=5)
    for asked, expected in (
        ({"order": "A-17"}, ["+49"]),
        ({"order": "A-18"}, []),
        ({"order": "A-99"}, []),
        ({"by": eva.pk}, ["+25"]),
        ({"by": "machine"}, ["+8", "+49"]),
        ({"reason": "PARCEL"}, ["+25"]),
        ({"least": 20, "most": 30}, ["+25"]),
        ({"rule": f"rule:{rule.key}"}, ["+49"]),
        ({"ends_from": last, "ends_to": last}, ["+8"]),
        ({"ends_to": last - timedelta(days=1)}, []),
    ):
        assert moved(ola.get(LEDGER, asked)) == expected, asked
    for asked in (
        {"least": 5, "most": 4},
        {"rule": "rule:nope"},
        {"by": 0},
        {"ends_from": last, "ends_to": clock.today()},
    ):
        assert ola.get(LEDGER, asked).status_code == 422


def test_a_version_of_a_rule_is_what_held_at_the_time(ola: Client) -> None:
    rule = EarningRule.objects.get()
    bo = CustomerFactory()
    bought = OrderFactory(customer=bo, placed_at=clock.now() - timedelta(days=3))
    earning.award_for_orders([bought.pk])
    EarningRule.objects.filter(pk=rule.pk).update(is_current=False, ends_at=clock.now())
    values = {**EarningRule.objects.filter(pk=rule.pk).values().get(), "id": None, "version": 2, "is_current": True}
    second = EarningRule.objects.create(**{**values, "starts_at": clock.now(), "ends_at": None})
    page = ola.get(LEDGER, {"rule": f"version:{rule.pk}"})
    assert moved(page) == ["+49"]
    assert f'href="{reverse("loyalty:rule", args=[rule.pk])}"' in page.content.decode()
    assert moved(ola.get(LEDGER, {"rule": f"version:{second.pk}"})) == []


def test_it_adds_up_and_says_that_ledger_and_balances_agree(ola: Client, ada: Customer) -> None:
    cache.clear()
    page = ola.get(LEDGER).content.decode()
    assert "3 movements on all pages" in page
    assert '<td role="cell" class="num" data-label="Points together">+100</td>' in page
    assert re.search(r"Ledger and balances agree, checked .*\d:\d\d.*: both come to 107 points\.", page)
    held = Account.objects.get(customer=ada, programme__key="points")
    assert held.balance + held.pending + held.held - held.debt == 107
    Account.objects.filter(pk=held.pk).update(balance=F("balance") + 1, earned=F("earned") + 1)
    cache.clear()
    page = ola.get(LEDGER).content.decode()
    assert "the ledger comes to 107 points, the balances to 108" in page
    assert "Ledger and balances agree" not in page


def test_the_file_has_what_the_page_has(ola: Client, ada: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "AT_ONCE", 2)
    answer = ola.get(reverse("loyalty:ledger-csv"), {"customer": f"#{ada.pk}"})
    assert answer["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(b"".join(answer).decode())))
    assert [(row["points"], row["usable_after"], row["kind"], row["customer"]) for row in rows] == [
        ("60", "107", "cancel", str(ada.pk)), ("-60", "47", "spend", str(ada.pk)), ("100", "100", "earn", str(ada.pk)),
    ]  # fmt: skip
    assert rows[0]["corrects"] == rows[1]["id"]
    assert "Ada" not in str(rows)
    assert ola.get(reverse("loyalty:ledger-csv"), {"kind": "stolen"}).status_code == 422

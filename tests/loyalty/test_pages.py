from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from customers.models import Customer
from lifecycle_crm.accounts.models import Role
from lifecycle_crm.lib import clock
from loyalty import earning, ledger, queries, statements
from loyalty.models import Account, Entry, Lot, Posting, Programme
from tests.factories import UserFactory
from tests.loyalty.factories import SPRING, CustomerFactory, OrderFactory, RefundFactory, give

pytestmark = pytest.mark.django_db


@pytest.fixture
def ola() -> Client:
    client = Client()
    client.force_login(UserFactory(role=Role.SUPPORT, name="Ola"))
    return client


@pytest.fixture
def ada() -> Customer:
    customer = CustomerFactory(name="Ada Example")
    give(customer, 100, expires_at=clock.day_end(clock.today() + timedelta(days=20)))
    return customer


def address(customer: Customer, verb: str = "", entry: Entry | None = None) -> str:
    if verb == "undo":
        assert entry is not None
        return reverse("loyalty:points-undo", args=[customer.pk, entry.pk])
    return reverse(f"loyalty:points-{verb}" if verb else "loyalty:account", args=[customer.pk])


def key_of(page: Any, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', page.content.decode())
    assert found is not None
    return found[1]


def text(page: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.content.decode()).split())


def held(customer: Customer) -> Account:
    return Account.objects.get(customer=customer)


# --- The programme ----------------------------------------------------------------------------------------------------


def test_the_overview_says_what_is_owed_and_adds_up(ola: Client, ada: Customer) -> None:
    bo = CustomerFactory()
    earning.award_for_orders(
        [OrderFactory(customer=bo, amount_minor=5050, placed_at=clock.now() - timedelta(days=2)).pk]
    )
    ledger.redeem(customer=ada, points=25, key="r")
    found = queries.overview()
    assert (found.members, found.holders, found.outstanding, found.balance, found.pending) == (2, 2, 125, 75, 50)
    assert (found.liability_minor, found.redeemed_share, found.expiring_soon) == (125, 25 / 150, 75)
    assert sum(points for _ledger, points in found.trial) == 0
    assert sum(one.points for one in found.months) == 125
    page = ola.get(reverse("loyalty:overview"))
    assert page.status_code == 200
    for words in (
        "Points outstanding 125",
        "US$1.25",
        "17%",
        "1 point for each US$1.00 of an order",
        "Ada Example",
        "Trial balance",
        "2 of them earned or redeemed in 90 days",
        "Nothing was redeemed in the last 90 days.",
    ):
        assert words in text(page)


def test_months_are_those_of_the_last_usable_day() -> None:
    ada = CustomerFactory()
    year = clock.today().year + 1
    give(ada, 5, "jan", expires_at=clock.day_end(clock.today().replace(year=year, month=1, day=31)))
    give(ada, 7, "feb", expires_at=clock.day_end(clock.today().replace(year=year, month=2, day=1)))
    give(ada, 9, "never")
    assert [(one.first.month if one.first else None, one.points) for one in queries.overview().months] == [
        (1, 5), (2, 7), (None, 9)
    ]  # fmt: skip


def test_the_overview_of_an_empty_shop_says_what_to_expect(ola: Client) -> None:
    page = ola.get(reverse("loyalty:overview"))
    assert "No points have moved yet" in text(page)
    Programme.objects.update(is_active=False)
    assert "No programme is active" in text(ola.get(reverse("loyalty:overview")))


def test_the_overview_costs_the_same_number_of_queries_at_any_size(
    ola: Client, django_assert_max_num_queries: Any
) -> None:
    ola.get(reverse("loyalty:overview"))
    for _ in range(25):
        give(CustomerFactory(), 10)
    with django_assert_max_num_queries(14):
        ola.get(reverse("loyalty:overview"))


@pytest.mark.parametrize("words", ["{0.email}", "#{0.pk}", "{0.pk}", " {0.email} "])
def test_an_account_is_found_by_address_or_number(ola: Client, ada: Customer, words: str) -> None:
    page = ola.get(reverse("loyalty:overview"), {"customer": words.format(ada)})
    assert page.status_code == 302
    assert page.headers["Location"] == address(ada)


@pytest.mark.parametrize("words", ["nobody@shop.example", "#99999999999999999999", "²", ""])
def test_somebody_unknown_is_said_to_be_unknown(ola: Client, words: str) -> None:
    assert ola.get(reverse("loyalty:overview"), {"customer": words}).status_code == 422


# --- One account ------------------------------------------------------------------------------------------------------


def test_the_account_shows_every_movement_with_its_reason_and_what_was_left(ola: Client) -> None:
    ada = CustomerFactory()
    order = OrderFactory(customer=ada, amount_minor=4995)
    earning.award_for_orders([order.pk])
    ledger.activate_due(as_of=SPRING + timedelta(days=15), low=0, high=2**40)
    ledger.redeem(customer=ada, points=40, key="r", reason="Mug", effective_at=SPRING + timedelta(days=16))
    refund = RefundFactory(order=order, amount_minor=4995, is_cancellation=True)
    earning.reverse_for_refunds([refund.pk])
    lines, following = statements.lines(held(ada))
    assert following is None
    assert [(line.entry.kind, line.entry.points, line.change, line.balance) for line in lines] == [
        ("debt", -40, 0, 0),
        ("reverse", -9, -9, 0),
        ("spend", -40, -40, 9),
        ("activate", 49, 49, 49),
        ("earn", 49, 0, 0),
    ]
    page = text(ola.get(address(ada)))
    for words in (
        "49 points: 1 point for each US$1.00 of US$49.95.",
        "The waiting time was over.",
        "Mug",
        "The order was cancelled.",
        "These points had been spent already.",
        "Owed 40",
    ):
        assert words in page


def test_the_account_is_read_in_pages_and_the_balances_go_on(ola: Client, ada: Customer) -> None:
    for n in range(45):
        ledger.redeem(customer=ada, points=1, key=f"r{n}")
    first, before = statements.lines(held(ada))
    second, end = statements.lines(held(ada), before=before)
    assert [line.balance for line in first + second] == [*range(55, 101)]
    assert end is None
    assert "Earlier movements" in text(ola.get(address(ada)))
    assert "The last movements" in text(ola.get(address(ada), {"before": before}))
    assert ola.get(address(ada), {"before": "x'"}).status_code == 200


def test_what_is_over_does_not_count_even_before_the_night_came() -> None:
    ada = CustomerFactory()
    give(ada, 10, effective_at=SPRING, expires_at=SPRING + timedelta(days=5))
    give(ada, 3, effective_at=SPRING, active_at=SPRING + timedelta(days=14))
    assert (held(ada).balance, statements.account(ada).spendable) == (10, 3)


def test_somebody_who_never_earned_has_an_empty_account(ola: Client) -> None:
    ada = CustomerFactory()
    page = ola.get(address(ada))
    assert "No points have moved yet" in text(page)
    assert not Account.objects.exists()


@pytest.mark.parametrize("number", [999999, 10**30])
def test_an_unknown_customer_is_not_found(ola: Client, number: int) -> None:
    assert ola.get(f"/loyalty/accounts/{number}/").status_code == 404
    assert ola.post(f"/loyalty/accounts/{number}/redeem/").status_code == 404


# --- Moving points ----------------------------------------------------------------------------------------------------


def test_it_redeems_once_however_often_the_button_is_pressed(ola: Client, ada: Customer) -> None:
    form = {"redeem-key": key_of(ola.get(address(ada)), "redeem-key"), "redeem-points": 30, "redeem-reason": "Mug"}
    for _ in range(3):
        assert ola.post(address(ada, "redeem"), form).headers["Location"] == address(ada)
    assert held(ada).balance == 70
    entry = Entry.objects.get(kind="spend")
    assert (entry.reason, str(entry.actor)) == ("Mug", "Ola")
    assert "30 points redeemed." in text(ola.get(address(ada)))


def test_it_says_at_the_form_when_there_are_too_few(ola: Client, ada: Customer) -> None:
    form = {"redeem-key": key_of(ola.get(address(ada)), "redeem-key"), "redeem-points": 101}
    page = ola.post(address(ada, "redeem"), form)
    assert page.status_code == 409
    assert "There are 100 points to spend, 101 were asked for." in text(page)
    assert held(ada).balance == 100


@pytest.mark.parametrize(
    "fields", [{"points": "0"}, {"points": "-5"}, {"points": "x"}, {"points": ""}, {"points": "5", "key": "x"}]
)
def test_it_refuses_a_redemption_it_cannot_read(ola: Client, ada: Customer, fields: dict[str, str]) -> None:
    form = {"redeem-key": "k" * 24, **{f"redeem-{name}": value for name, value in fields.items()}}
    assert ola.post(address(ada, "redeem"), form).status_code == 422
    assert held(ada).balance == 100


@pytest.mark.parametrize("points, balance", [(50, 150), (-50, 50)])
def test_it_adjusts_with_a_reason(ola: Client, ada: Customer, points: int, balance: int) -> None:
    form = {"adjust-key": "k" * 24, "adjust-points": points, "adjust-reason": "Late parcel"}
    assert ola.post(address(ada, "adjust"), form).status_code == 302
    assert held(ada).balance == balance


@pytest.mark.parametrize("points, reason", [(50, ""), (50, "  "), (0, "x"), (-101, "x")])
def test_it_refuses_an_adjustment_that_makes_no_sense(ola: Client, ada: Customer, points: int, reason: str) -> None:
    form = {"adjust-key": "k" * 24, "adjust-points": points, "adjust-reason": reason}
    assert ola.post(address(ada, "adjust"), form).status_code in (409, 422)
    assert held(ada).balance == 100


def test_it_gives_a_redemption_back(ola: Client, ada: Customer) -> None:
    spend = ledger.redeem(customer=ada, points=30, key="r")
    page = ola.get(address(ada, "undo", spend))
    assert "Give points back" in text(page)
    assert 'name="points"' not in page.content.decode()
    form = {"key": key_of(page, "key"), "reason": "Sold out"}
    for _ in range(2):
        assert ola.post(address(ada, "undo", spend), form).status_code == 302
    assert held(ada).balance == 100
    page = ola.get(address(ada, "undo", spend))
    assert "Nothing is left to undo here" in text(page)
    assert ola.post(address(ada, "undo", spend), {"key": "z" * 24, "reason": "x"}).status_code == 409


def test_it_takes_an_earning_back_in_part(ola: Client, ada: Customer) -> None:
    earned = Entry.objects.get()
    page = ola.get(address(ada, "undo", earned))
    form = {"key": key_of(page, "key"), "points": 40, "reason": "Mistake"}
    assert ola.post(address(ada, "undo", earned), form).status_code == 302
    assert held(ada).balance == 60
    assert ola.post(address(ada, "undo", earned), {**form, "key": "z" * 24, "points": 61}).status_code == 422
    assert ola.get(reverse("loyalty:points-undo", args=[CustomerFactory().pk, earned.pk])).status_code == 404


def test_those_who_only_look_see_no_forms_and_move_nothing(ada: Customer) -> None:
    client = Client()
    client.force_login(UserFactory(role=Role.VIEWER))
    page = client.get(address(ada))
    assert page.status_code == 200
    assert '<form class="form" method="post"' not in page.content.decode()
    for verb in ("redeem", "adjust"):
        assert client.post(address(ada, verb), {f"{verb}-points": 1, f"{verb}-key": "k" * 24}).status_code == 403
    assert client.get(address(ada, "undo", Entry.objects.get())).status_code == 403
    assert held(ada).balance == 100


def test_nobody_looks_without_signing_in(ada: Customer) -> None:
    for path in (reverse("loyalty:overview"), address(ada)):
        assert Client().get(path).headers["Location"].startswith(reverse("accounts:sign-in"))


# --- Admin ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Programme, Account, Entry, Posting, Lot])
def test_the_admin_shows_the_ledger_and_changes_none_of_it(ada: Customer, model: Any) -> None:
    client = Client()
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    name = model._meta.model_name
    assert client.get(reverse(f"admin:loyalty_{name}_changelist")).status_code == 200
    one = model.objects.first()
    assert client.get(reverse(f"admin:loyalty_{name}_change", args=[one.pk])).status_code == 200
    assert client.post(reverse(f"admin:loyalty_{name}_delete", args=[one.pk]), {"post": "yes"}).status_code == 403
    if model is not Programme:
        assert client.get(reverse(f"admin:loyalty_{name}_add")).status_code == 403
        assert client.post(reverse(f"admin:loyalty_{name}_change", args=[one.pk]), {}).status_code == 403
    assert model.objects.filter(pk=one.pk).exists()

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core import signing
from django.test import Client
from django.urls import reverse

from customers.models import Customer, Product
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Gone
from loyalty import audit, codes, ledger, marks, rewards, rules, tiers, vouchers, wallet
from loyalty import programme as programmes
from loyalty.models import Account, Entry, Programme, Redemption, Reward, Voucher, WalletCard
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_api import get, post
from tests.loyalty.test_pages import key_of, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> Customer:
    customer = CustomerFactory(name="Ada Example", language="en")
    give(customer, 400, "soon", expires_at=clock.day_end(clock.today() + timedelta(days=20)))
    give(customer, 600, "later", expires_at=clock.day_end(clock.today() + timedelta(days=200)))
    give(customer, 50, "waits", active_at=clock.now() + timedelta(days=3))
    return customer


@pytest.fixture
def mug() -> Reward:
    programme = Programme.current()
    assert programme is not None
    return rewards.create(programme=programme, name="Mug", description="Blue.", points=300, stock=1)


def address(customer: Customer, name: str = "", *more: Any) -> str:
    token = wallet.token(wallet.card(customer))
    return reverse(f"loyalty:wallet-{name}" if name else "loyalty:wallet", args=[token, *more])


# --- The link ---------------------------------------------------------------------------------------------------------


def test_the_link_opens_the_wallet_and_shows_what_there_is(ada: Customer, mug: Reward) -> None:
    page = Client().get(address(ada))
    assert page.status_code == 200
    shown = text(page)
    for words in (
        "Hello Ada",
        "1,000 points to spend",
        "worth US$10.00",
        "50 points are waiting.",
        "400 points last day",
        "600 points last day",
        "Mug",
        "300 points",
        "1 left",
        "What happened",
        "Good to know",
    ):
        assert words in shown, words
    html = page.content.decode()
    assert 'class="qr"' in html
    assert 'class="barcode"' in html
    assert "style=" not in html
    assert "<script" not in html
    assert len(page.content) < 30_000
    assert page.headers["X-Robots-Tag"] == "noindex, nofollow"
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert "no-store" in page.headers["Cache-Control"]
    assert not page.cookies


@pytest.mark.parametrize("language, words", [("sv", "sv"), ("nb", "nb"), ("pl", "pl"), ("cs", "cs"), ("xx", "en")])
def test_it_speaks_the_language_asked_for(ada: Customer, language: str, words: str) -> None:
    page = Client().get(address(ada), {"lang": language})
    assert page.headers["Content-Language"] == words
    assert f'<html lang="{words}"' in page.content.decode()


def test_a_forged_a_foreign_and_an_old_link_are_one_kind_page(ada: Customer) -> None:
    good = wallet.token(wallet.card(ada))
    bo = wallet.card(CustomerFactory())
    changed = good.replace(f"{ada.pk:x}-", f"{bo.customer_id:x}-", 1)
    other = signing.TimestampSigner(salt="campaigns.unsubscribe", sep="~").sign(f"{ada.pk:x}-1")
    pages = [
        Client().get(reverse("loyalty:wallet", args=[token]))
        for token in (good + "x", good[:-1], changed, other, "x", "~" * 20, "1-1~a~b", "-~-~-", "9" * 300)
    ]
    with time_machine.travel(clock.now() + timedelta(days=wallet.LINK_DAYS, minutes=1)):
        pages.append(Client().get(reverse("loyalty:wallet", args=[good])))
    assert {page.status_code for page in pages} == {410}
    assert {text(page) for page in pages} == {text(pages[0])}
    assert "ask us for a new one" in text(pages[0])
    assert "Ada" not in text(pages[0])


def test_a_new_link_makes_the_old_ones_dead(ada: Customer) -> None:
    old = address(ada)
    number = wallet.card(ada).number
    wallet.renew_links(customer=ada)
    assert Client().get(old).status_code == 410
    assert Client().get(address(ada)).status_code == 200
    assert wallet.card(ada).number == number
    with pytest.raises(Gone):
        wallet.find(old.split("/")[3])


def test_a_card_is_made_once_and_a_get_decides_nothing(ada: Customer, mug: Reward) -> None:
    wallet.card(ada)
    before = (Entry.objects.count(), WalletCard.objects.count())
    client = Client()
    for path in (address(ada), address(ada, "redeem", mug.pk), address(ada) + "?done=1&undone=1&before=9"):
        for _ in range(2):
            assert client.get(path).status_code == 200
            assert client.head(path).status_code == 200
    assert (Entry.objects.count(), WalletCard.objects.count()) == before
    assert not Redemption.objects.exists()
    assert client.get(address(ada, "undo", 1)).status_code == 405


# --- Redeeming --------------------------------------------------------------------------------------------------------


def test_it_redeems_with_a_confirmation_once_however_often_it_is_pressed(ada: Customer, mug: Reward) -> None:
    client = Client(enforce_csrf_checks=True)
    page = client.get(address(ada, "redeem", mug.pk))
    assert "Redeem it for 300 points?" in text(page)
    assert "You have 1,000; 700 points will be left." in text(page)
    form = {"key": key_of(page, "key"), "points": "300", "lang": "en"}
    answers = [client.post(address(ada, "redeem", mug.pk), form) for _ in range(3)]
    done = Redemption.objects.get()
    assert [one.status_code for one in answers] == [302] * 3
    shown = text(client.get(answers[0].headers["Location"]))
    assert "Mug is yours." in shown
    assert codes.shown(done.code) in shown
    assert "700 points to spend" in shown
    assert Account.objects.get(customer=ada).balance == 700
    assert Entry.objects.get(kind="spend").source_type == "wallet"


def test_a_household_s_points_are_shown_and_redeem_what_the_own_ones_cannot(ada: Customer, mug: Reward) -> None:
    """In the wallet, at the counter and over the API: the sum that redeeming finds is the sum that is shown."""
    bo, cy = CustomerFactory(), CustomerFactory()
    give(bo, 40)
    give(cy, 500)
    ledger.freeze(accounts=[Account.objects.get(customer=cy).pk])
    ledger.found_household(name="Elm Street 4", customers=[ada, bo, cy], actor=None)
    shown = text(Client().get(address(bo)))
    assert "40 points to spend" in shown
    assert "Your household Elm Street 4 has 1,000 more points that you can use. Your own are used first." in shown
    staff = Client()
    staff.force_login(UserFactory(role=Role.SUPPORT))
    for page in ("loyalty:counter", "loyalty:account"):
        assert "1,000 more in the household Elm Street 4" in text(staff.get(reverse(page, args=[bo.pk])))
    secret = ApiKey.issue(name="Shop", scopes=["wallets:read"])[1]
    told = Client().get(f"/api/v1/wallets/{bo.pk}/", headers={"Authorization": f"Bearer {secret}"}).json()
    assert (told["spendable"], told["shared"]) == (40, 1000)
    page = Client().get(address(bo, "redeem", mug.pk))
    assert "You have 1,040; 740 points will be left." in text(page)
    form = {"key": key_of(page, "key"), "points": "300", "lang": "en"}
    assert Client().post(address(bo, "redeem", mug.pk), form).status_code == 302
    assert (Account.objects.get(customer=bo).balance, Account.objects.get(customer=ada).balance) == (0, 740)
    assert "has 740 more points" in text(Client().get(address(bo)))
    assert audit.problems() == []


@pytest.mark.parametrize(
    "form", [{}, {"key": "x", "points": "300"}, {"key": "k" * 20}, {"key": "k" * 20, "points": "-1"}]
)
def test_it_refuses_a_form_it_cannot_read(ada: Customer, mug: Reward, form: dict[str, str]) -> None:
    assert Client().post(address(ada, "redeem", mug.pk), form).status_code == 422
    assert not Redemption.objects.exists()


def test_it_says_when_somebody_else_was_faster_or_the_price_changed(ada: Customer, mug: Reward) -> None:
    form = {"key": "k" * 20, "points": "300"}
    rewards.change(reward=mug, points=350)
    page = Client().post(address(ada, "redeem", mug.pk), form)
    assert page.status_code == 409
    assert "costs 350 points now" in text(page)
    bo = CustomerFactory()
    give(bo, 1000, "bo")
    rewards.redeem(reward=mug, customer=bo, key="bo")
    page = Client().post(address(ada, "redeem", mug.pk), {**form, "points": "350"})
    assert page.status_code == 409
    assert "“Mug” is sold out." in text(page)
    assert Account.objects.get(customer=ada).balance == 1000


def test_nobody_redeems_what_is_not_offered_or_for_somebody_else(ada: Customer, mug: Reward) -> None:
    form = {"key": "k" * 20, "points": "300"}
    other = CustomerFactory()
    assert Client().post(address(other, "redeem", mug.pk), form).status_code == 409
    rewards.change(reward=mug, is_active=False)
    for number in (mug.pk, 99999, 10**30):
        assert Client().post(address(ada, "redeem", number), form).status_code == 404
    assert Client().post(address(ada, "redeem", mug.pk).replace("/w/", "/w/x"), form).status_code == 410
    assert not Redemption.objects.exists()


def test_the_customer_undoes_it_for_ten_minutes(ada: Customer, mug: Reward) -> None:
    done = rewards.redeem(reward=mug, customer=ada, key="a")
    other = CustomerFactory()
    assert Client().post(address(other, "undo", done.pk)).status_code == 404
    answer = Client().post(address(ada, "undo", done.pk))
    assert "Your points are back" in text(Client().get(answer.headers["Location"]))
    assert Account.objects.get(customer=ada).balance == 1000
    late = rewards.redeem(reward=mug, customer=ada, key="b")
    with time_machine.travel(clock.now() + timedelta(minutes=10, seconds=1)):
        assert "within 10 minutes" not in text(Client().get(address(ada)))
        assert Client().post(address(ada, "undo", late.pk)).status_code == 409
    rewards.prepare(redemption=late, actor=None)
    assert Client().post(address(ada, "undo", late.pk)).status_code == 409
    assert Account.objects.get(customer=ada).balance == 700


def test_a_discount_shows_its_code_until_it_is_used(ada: Customer) -> None:
    programme = Programme.current()
    assert programme is not None
    series = vouchers.create(name="Ten", worth="percent", percent=10, valid_days=30)
    off = rewards.create(programme=programme, name="Ten off", kind="discount", points=100, series=series)
    rewards.redeem(reward=off, customer=ada, key="a")
    voucher = Voucher.objects.get()
    page = text(Client().get(address(ada)))
    assert codes.shown(voucher.code) in page
    assert "Ten off · 10%" in page
    vouchers.use(code=voucher.code, key="t")
    page = text(Client().get(address(ada)))
    assert "was used on" in page
    assert "within 10 minutes" not in page


# --- What it shows ----------------------------------------------------------------------------------------------------


def test_what_staff_wrote_for_one_another_is_not_shown(ada: Customer) -> None:
    ola = UserFactory()
    ledger.adjust(customer=ada, points=5, key="adj", actor=ola, reason="Rude on the phone")
    spend = ledger.redeem(customer=ada, points=5, key="sp", reason="Mug at the fair")
    ledger.cancel_redemption(entry=spend, key="c", actor=ola, reason="Suspicious")
    page = text(Client().get(address(ada)))
    assert "Given by us." in page
    assert "Mug at the fair" in page
    for words in ("Rude", "Suspicious"):
        assert words not in page


def test_rules_are_said_from_the_programme_and_those_for_a_segment_are_not() -> None:
    programme = Programme.current()
    assert programme is not None
    programmes.edit(programme=programme, pending_days=7, expiry_months=12)
    rules.create(programme=programme, name="Sundays", kind="multiplier", percent=200, weekdays="7")
    rules.create(programme=programme, name="Secret", kind="order", points=5, stages=["dormant"])
    tiers.set_ladder(programme=programme, steps=[tiers.Step("Gold", 1000, ["Free delivery"])])
    page = text(Client().get(reverse("loyalty:programme-public", args=[programme.key])))
    for words in (
        "2 times the points of orders, on Sunday.",
        "Points can be used 7 days after they were earned.",
        "Points expire 12 months after they were earned",
        "Gold from 1,000 points in 12 months",
        "Free delivery",
    ):
        assert words in page, words
    assert "Dormant" not in page
    programmes.stop(programme=programme)
    assert Client().get(reverse("loyalty:programme-public", args=[programme.key])).status_code == 404
    assert Client().get(reverse("loyalty:programme-public", args=["nothing"])).status_code == 404


@pytest.mark.parametrize(
    "language, words",
    [
        ("en", "By distance: 1 point for each km. Each flight: 250 points each time. Silver flies on: 1.25 times the "
               "points, for the tier Silver. 3 points for each piece of the product Green tea."),
        ("sv", "By distance: 1 poäng per km. Each flight: 250 poäng varje gång. Silver flies on: 1,25 gånger poängen, "
               "för nivån Silver."),
        ("nb", "By distance: 1 poeng per km. Each flight: 250 poeng hver gang. Silver flies on: 1,25 ganger poengene"),
        ("pl", "By distance: 1 punkt za każdą jednostkę km. Each flight: 250 punktów za każdym razem."),
        ("cs", "By distance: 1 bod za každou jednotku km. Each flight: 250 bodů pokaždé."),
    ],
)  # fmt: skip
def test_rules_about_events_and_products_are_said_to_customers_without_our_systems_names(
    language: str, words: str
) -> None:
    air = programmes.create(name="Air", key="air", kind="points")
    tiers.set_ladder(programme=air, steps=[tiers.Step("Silver", 1000, key="silver")])
    Product.objects.create(sku="T-1", name="Green tea")
    for values in (
        {"kind": "event", "name": "By distance", "points": 1, "subject": "flight_done", "property": "km"},
        {"kind": "event", "name": "Each flight", "points": 250, "subject": "flight_done"},
        {
            "kind": "multiplier",
            "name": "Silver flies on",
            "percent": 125,
            "subject": "flight_done",
            "tiers": ["silver"],
        },
        {"kind": "product", "name": "Tea", "points": 3, "subject": "T-1"},
    ):
        rules.create(programme=air, **values)
    page = text(Client().get(reverse("loyalty:programme-public", args=["air"]), {"lang": language}))
    assert words in page
    assert "flight_done" not in page
    assert "T-1" not in page


def test_it_shows_the_way_to_the_next_tier(ada: Customer) -> None:
    programme = Programme.current()
    assert programme is not None
    tiers.set_ladder(programme=programme, steps=[tiers.Step("Gold", 2000, ["Free delivery"])])
    page = text(Client().get(address(ada)))
    assert "to Gold." in page
    assert "On the way to Gold" in page


def test_several_programmes_stand_side_by_side(ada: Customer) -> None:
    club = programmes.create(name="Club", kind="membership", about="For friends.", term_months=12)
    other = programmes.create(name="Miles", key="miles")
    ledger.earn(customer=ada, points=70, key="m", programme=other)
    programmes.join(programme=club, customer=ada)
    page = text(Client().get(address(ada)))
    assert "Club" in page
    assert "Miles" in page
    assert "1,000 points to spend" in page
    assert "70 points to spend" in text(Client().get(address(ada), {"programme": "miles"}))
    assert "For friends." in text(Client().get(address(ada), {"programme": club.key}))
    assert "1,000 points to spend" in text(Client().get(address(ada), {"programme": "nothing"}))


def test_somebody_who_never_earned_sees_zero_and_without_a_programme_a_sentence() -> None:
    bo = CustomerFactory(name="")
    assert "0 points to spend" in text(Client().get(address(bo)))
    Programme.objects.update(is_active=False)
    assert "There is no programme at the moment." in text(Client().get(address(bo)))


def test_long_histories_have_pages_and_cost_no_more_queries(ada: Customer, django_assert_max_num_queries: Any) -> None:
    for n in range(45):
        ledger.redeem(customer=ada, points=1, key=f"r{n}", reason=f"Sweet {n}")
    wallet.card(ada)
    with django_assert_max_num_queries(30):
        page = Client().get(address(ada))
    assert "Sweet 44" in text(page)
    assert "Sweet 10" not in text(page)
    view = wallet.view(ada)
    assert view.earlier is not None
    assert "Sweet 20" in text(Client().get(address(ada), {"before": view.earlier}))
    assert Client().get(address(ada), {"before": "x" * 40}).status_code == 200


@pytest.mark.parametrize(
    "number, modules",
    [
        # Read off with python-barcode 0.16.1, another hand's encoder.
        (
            "2900000000001",
            "10100010110001101010011101001110001101010011101010111001011100101110010111001011100101100110101",
        ),
        (
            "4006381333931",
            "10100011010100111010111101111010001001011001101010100001010000101000010111010010000101100110101",
        ),
    ],
)
def test_the_bars_are_those_of_the_standard(number: str, modules: str) -> None:
    assert marks.ean13(number) == modules


def test_the_barcode_is_an_ean_13_and_both_marks_are_plain_svg() -> None:
    number = programmes.new_number()
    bars = marks.barcode(number, "Barcode")
    assert bars.count("M") == 1 + 30
    assert 'aria-label="Barcode"' in bars
    code = marks.qr(number, "QR <b>")
    assert "QR &lt;b&gt;" in code
    for one in (bars, code):
        assert "style" not in one


# --- API --------------------------------------------------------------------------------------------------------------


def test_the_api_gives_the_link_and_makes_old_ones_dead(ada: Customer) -> None:
    secret = ApiKey.issue(name="Shop", scopes=["wallets:write"])[1]
    found = get(secret, f"wallets/{ada.pk}/").json()
    assert (found["spendable"], found["pending"], found["value_minor"], found["debt"]) == (1000, 50, 1000, 0)
    assert [one["points"] for one in found["endings"]] == [400, 600]
    path = found["wallet_url"].removeprefix("http://127.0.0.1:8000")
    assert "Hello Ada" in text(Client().get(path))
    renewed = post(secret, f"wallets/{ada.pk}/renew-link/", {}).json()
    assert renewed["card_number"] == found["card_number"]
    assert Client().get(path).status_code == 410
    assert get(secret, "wallets/999999/").status_code == 404
    reader = ApiKey.issue(name="Reader", scopes=["points:read"])[1]
    assert get(reader, f"wallets/{ada.pk}/").status_code == 403

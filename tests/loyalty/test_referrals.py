from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from django.urls import reverse

from customers.ingest import refunds
from customers.models import Consent, Customer, Event, Order
from lifecycle_crm import reactions
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import audit, referrals, statements, wallet
from loyalty.errors import NoReferrals, UnknownCode, WrongState
from loyalty.models import Account, EarningRule, Entry, Programme, Referral, ReferralCode, ReferralOffer
from tests.loyalty.factories import CustomerFactory, OrderFactory
from tests.loyalty.test_api import get, post
from tests.loyalty.test_pages import text
from tests.loyalty.test_races import at_once
from tests.loyalty.test_rewards_pages import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def offer() -> ReferralOffer:
    programme = Programme.current()
    assert programme is not None
    EarningRule.objects.all().delete()
    return referrals.set_offer(programme=programme, advocate_points=100, friend_points=50, min_order_minor=1000)


@pytest.fixture
def ada(offer: ReferralOffer) -> Customer:
    return CustomerFactory(name="Ada Example", email="ada@shop.example", phone="+46701740601")


def brought(advocate: Customer, email: str = "bo@shop.example", days_ago: int = 3, **more: Any) -> Referral:
    return referrals.claim(
        code=referrals.code(advocate).code, email=email, claimed_at=clock.now() - timedelta(days=days_ago), **more
    )


def ordered(email: str = "bo@shop.example", days_ago: float = 1, amount: int = 4995, **more: Any) -> Order:
    """The friend's first order, and what follows from it."""
    at = clock.now() - timedelta(days=days_ago)
    friend = CustomerFactory(email=email, known_since=at, loaded_at=at, **more)
    order = OrderFactory(customer=friend, placed_at=at, amount_minor=amount)
    referrals.reward_for_orders([order.pk])
    return order


def points(customer: Customer) -> int:
    held = Account.objects.filter(customer=customer).first()
    return held.balance + held.pending if held else 0


# --- The reward -------------------------------------------------------------------------------------------------------


def test_both_get_their_points_after_the_first_order(ada: Customer) -> None:
    referral = brought(ada)
    order = ordered()
    referral.refresh_from_db()
    assert (referral.state, referral.friend, referral.order, referral.doubts) == ("rewarded", order.customer, order, [])
    assert (points(ada), points(order.customer)) == (100, 50)
    entry = Entry.objects.get(key=f"referral:{referral.pk}:advocate")
    assert (entry.source_type, entry.effective_at) == ("referral", order.placed_at)
    assert statements.explain(entry) == "A friend you recommended us to has ordered."
    assert Account.objects.get(customer=ada).pending == 100
    event = Event.objects.get(name="referral")
    assert (event.customer, event.occurred_at) == (ada, order.placed_at)
    assert audit.problems() == []


def test_telling_it_again_changes_nothing(ada: Customer) -> None:
    brought(ada)
    order = ordered()
    for _ in range(3):
        assert referrals.reward_for_orders([order.pk]) == 0
    second = OrderFactory(customer=order.customer, placed_at=clock.now())
    assert referrals.reward_for_orders([second.pk]) == 0
    assert (points(ada), points(order.customer), Event.objects.filter(name="referral").count()) == (100, 50, 1)


def test_it_follows_from_the_order_by_itself(ada: Customer) -> None:
    referral = brought(ada)
    at = clock.now() - timedelta(hours=1)
    OrderFactory(customer=CustomerFactory(email="bo@shop.example", known_since=at, loaded_at=at), placed_at=at)
    reactions.drain(as_of=clock.whole_now())
    referral.refresh_from_db()
    assert (referral.state, points(ada)) == ("rewarded", 100)


def test_nothing_happens_before_the_order_and_for_others(ada: Customer) -> None:
    referral = brought(ada)
    ordered("somebody@shop.example")
    referral.refresh_from_db()
    assert (referral.state, points(ada)) == ("waiting", 0)


@pytest.mark.parametrize(
    "order, reason",
    [({"amount": 999}, "The first order was too small."), ({"days_ago": 5}, "They had ordered before.")],
)
def test_an_order_that_does_not_count_gives_nothing(ada: Customer, order: dict[str, Any], reason: str) -> None:
    referral = brought(ada)
    ordered(**order)
    referral.refresh_from_db()
    assert (referral.state, referral.reason) == ("refused", reason)
    assert not Entry.objects.exists()


def test_a_returned_first_order_takes_both_rewards_back(ada: Customer) -> None:
    referral = brought(ada)
    order = ordered()
    refund = refunds.refund(order=order, source="shop", source_id="r1", occurred_at=clock.now(), is_cancellation=True)
    for times in (1, 0):
        assert referrals.take_back_for_refunds([refund.pk]) == times
    referral.refresh_from_db()
    assert (referral.state, points(ada), points(order.customer)) == ("returned", 0, 0)
    assert audit.problems() == []


def test_a_part_of_it_returned_takes_nothing_back(ada: Customer) -> None:
    referral = brought(ada)
    order = ordered()
    refund = refunds.refund(order=order, source="shop", source_id="r1", occurred_at=clock.now(), amount_minor=1000)
    assert referrals.take_back_for_refunds([refund.pk]) == 0
    referral.refresh_from_db()
    assert (referral.state, points(ada)) == ("rewarded", 100)


# --- The five checks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claim, friend, doubt",
    [
        ({"email": "ada+two@shop.example"}, {}, "self"),
        ({"phone": "+46701740601"}, {}, "self"),
        ({}, {"phone": "+46701740601"}, "self"),
        ({}, {"attributes": {"address": "storgatan 1"}, "city": "Malmo"}, "self"),
        ({"email": "bo@mailinator.com"}, {}, "address"),
        ({"email": "bo+shop@shop.example"}, {}, "address"),
        ({"ip": "192.0.2.7"}, {}, "device"),
        ({"device": "phone-1"}, {}, "device"),
        ({}, {"known": 30}, "existing"),
    ],
)
def test_what_is_odd_waits_for_a_person(
    ada: Customer, claim: dict[str, Any], friend: dict[str, Any], doubt: str
) -> None:
    ada.attributes, ada.city = {"address": "Storgatan 1"}, "Malmö"
    ada.save()
    Consent.objects.create(
        customer=ada, purpose="marketing", channel="email", is_granted=True, source="t", ip="192.0.2.7"
    )
    brought(ada, "earlier@shop.example", 40, device="phone-1", ip="198.51.100.1")
    claim = {"email": "bo@shop.example", **claim}
    referral = brought(ada, **claim)
    known = friend.pop("known", None)
    order = ordered(claim["email"], **friend)
    if known:
        Referral.objects.filter(pk=referral.pk).update(state="waiting", decided_at=None, order=None)
        Customer.objects.filter(pk=order.customer_id).update(known_since=clock.now() - timedelta(days=known))
        referrals.reward_for_orders([order.pk])
    referral.refresh_from_db()
    assert referral.state == "review"
    assert doubt in referral.doubts
    assert referrals.said(referral)
    if not known:
        assert not Entry.objects.exists()


def test_very_many_in_a_day_or_a_month_wait_for_a_person(ada: Customer, offer: ReferralOffer) -> None:
    for n in range(6):
        brought(ada, f"friend{n}@shop.example", 2)
    for n in (0, 5):
        ordered(f"friend{n}@shop.example")
    assert list(Referral.objects.order_by("pk").values_list("state", flat=True)) == [
        "rewarded", "waiting", "waiting", "waiting", "waiting", "review",
    ]  # fmt: skip
    assert Referral.objects.get(state="review").doubts == ["velocity"]
    ReferralOffer.objects.update(most_per_month=2)
    cy = CustomerFactory(email="cy@shop.example")
    for n, days in enumerate((20, 15, 10)):
        brought(cy, f"other{n}@shop.example", days)
    ordered("other2@shop.example")
    assert Referral.objects.get(email="other2@shop.example").doubts == ["velocity"]


def test_nobody_recommends_us_to_themselves(ada: Customer) -> None:
    referral = brought(ada, "ada@shop.example")
    order = OrderFactory(customer=ada, placed_at=clock.now())
    referrals.reward_for_orders([order.pk])
    referral.refresh_from_db()
    assert (referral.state, referral.doubts) == ("refused", ["self"])
    assert points(ada) == 0


@pytest.mark.parametrize(
    "one, other",
    [
        ("Ada@Shop.example", "ada+x@shop.example"),
        ("a.d.a@gmail.com", "ada+shop@googlemail.com"),
    ],
)
def test_two_spellings_of_a_mailbox_are_one(one: str, other: str) -> None:
    assert referrals.box(one) == referrals.box(other)
    assert referrals.box("a.da@shop.example") != referrals.box("ada@shop.example")


# --- The claim --------------------------------------------------------------------------------------------------------


def test_an_address_belongs_to_who_brought_it_first(ada: Customer) -> None:
    first = brought(ada)
    again = brought(CustomerFactory(), " BO@shop.example ")
    assert (again.pk, again.advocate) == (first.pk, ada)
    assert Referral.objects.count() == 1


def test_a_claim_is_refused_without_code_offer_or_address(ada: Customer, offer: ReferralOffer) -> None:
    of = referrals.code(ada).code
    for email in ("", "bo", "@x", "x@", "a@b@c", "x" * 260 + "@y.example"):
        with pytest.raises(InvalidInput):
            referrals.claim(code=of, email=email)
    with pytest.raises(UnknownCode):
        referrals.claim(code="NOSUCH", email="bo@shop.example")
    ReferralOffer.objects.update(is_active=False)
    with pytest.raises(NoReferrals):
        referrals.claim(code=of, email="bo@shop.example")
    assert not Referral.objects.exists()


def test_an_ip_is_kept_as_a_digest_only(ada: Customer) -> None:
    referral = brought(ada, ip="192.0.2.7", device="phone-1")
    stored = Referral.objects.filter(pk=referral.pk).values()[0]
    assert "192.0.2.7" not in str(stored)
    assert "phone-1" not in str(stored)


@pytest.mark.parametrize("numbers", [(0, 0), (-1, 5), (5, -1), (10**10, 1)])
def test_it_refuses_an_offer_that_makes_no_sense(numbers: tuple[int, int]) -> None:
    programme = Programme.current()
    assert programme is not None
    with pytest.raises(InvalidInput):
        referrals.set_offer(programme=programme, advocate_points=numbers[0], friend_points=numbers[1])
    assert not ReferralOffer.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_told_by_many_workers_at_once_it_is_rewarded_once(ada: Customer) -> None:
    brought(ada)
    at = clock.now() - timedelta(days=1)
    friend = CustomerFactory(email="bo@shop.example", known_since=at)
    order = OrderFactory(customer=friend, placed_at=at)
    assert at_once(8, lambda n: referrals.reward_for_orders([order.pk])) == {"done": 8}
    assert (points(ada), points(friend), Event.objects.filter(name="referral").count()) == (100, 50, 1)


@pytest.mark.django_db(transaction=True)
def test_it_is_approved_or_refused_and_never_both(ada: Customer) -> None:
    referral = brought(ada, "bo@mailinator.com")
    ordered("bo@mailinator.com")

    def work(n: int) -> None:
        mine = referrals.listed().get(pk=referral.pk)
        if n % 2:
            referrals.approve(referral=mine, actor=None)
        else:
            referrals.refuse(referral=mine, actor=None, reason="Odd")

    assert at_once(8, work) == {"done": 1, "wrong_state": 7}
    referral.refresh_from_db()
    assert points(ada) == (100 if referral.state == "rewarded" else 0)


# --- Pages and API ----------------------------------------------------------------------------------------------------


def test_the_friends_page_writes_down_and_tells_nobody_whom_we_know(ada: Customer) -> None:
    of = referrals.code(ada)
    address = reverse("loyalty:referral-public", args=[of.code])
    client = Client(enforce_csrf_checks=True)
    page = client.get(address)
    assert "Ada recommends us to you" in text(page)
    assert "You get 50 points for your first order." in text(page)
    assert not Referral.objects.exists()
    ordered("known@shop.example")
    said = {text(client.post(address, {"email": email})) for email in ("bo@shop.example", "known@shop.example")}
    assert len(said) == 1
    assert "both of you get your points" in said.pop()
    assert Referral.objects.count() == 2
    assert client.post(address, {"email": "nobody"}).status_code == 422
    assert client.get(address, {"lang": "sv"}).headers["Content-Language"] == "sv"
    for code in ("NOSUCH", "x" * 300):
        assert client.get(reverse("loyalty:referral-public", args=[code])).status_code == 410
    ReferralOffer.objects.update(is_active=False)
    assert client.get(address).status_code == 410


def test_the_wallet_has_the_link_to_pass_on(ada: Customer) -> None:
    page = Client().get(wallet.path(wallet.card(ada)))
    link, shown = referrals.url(referrals.code(ada)), page.content.decode()
    assert link in shown
    assert f'href="mailto:?subject=Have%20a%20look%20at%20Test%20shop&amp;body={quote(link, safe="")}"' in shown
    assert 'aria-label="QR code of your link"' in shown
    assert "You get 100 points after a friend's first order. Your friend gets 50 points." in text(page).replace(
        "&#x27;", "'"
    )
    assert ReferralCode.objects.count() == 1


def test_staff_approve_and_refuse_with_a_reason(ada: Customer) -> None:
    ola = signed_in(Role.SUPPORT)
    one, two = brought(ada, "bo@mailinator.com"), brought(ada, "cy@mailinator.com")
    for email in ("bo@mailinator.com", "cy@mailinator.com"):
        ordered(email)
    page = ola.get(reverse("loyalty:referrals"))
    assert "throw-away address" in text(page)
    assert ola.post(reverse("loyalty:referral-approve", args=[one.pk])).status_code == 302
    refuse = reverse("loyalty:referral-refuse", args=[two.pk])
    assert "What is odd" in text(ola.get(refuse))
    assert ola.post(refuse, {"reason": " "}).status_code == 422
    assert ola.post(refuse, {"reason": "The same person"}).status_code == 302
    assert ola.post(refuse, {"reason": "Again"}).status_code == 409
    one.refresh_from_db()
    two.refresh_from_db()
    assert (one.state, two.state, two.reason, str(two.decided_by)) == ("rewarded", "refused", "The same person", "Ola")
    assert points(ada) == 100
    assert ola.get(reverse("loyalty:referrals"), {"state": "all"}).status_code == 200
    viewer = signed_in(Role.VIEWER)
    assert viewer.post(refuse, {"reason": "x"}).status_code == 403
    assert viewer.get(reverse("loyalty:referrals")).status_code == 200
    assert Client().get(reverse("loyalty:referrals")).status_code == 302
    with pytest.raises(WrongState):
        referrals.approve(referral=two, actor=None)


def test_marketers_say_what_both_get() -> None:
    programme = Programme.current()
    assert programme is not None
    form = {
        "programme": programme.pk, "advocate_points": "200", "friend_points": "0", "min_order_minor": "0",
        "most_per_month": "5", "is_active": "on",
    }  # fmt: skip
    address = reverse("loyalty:referral-offer")
    assert signed_in(Role.SUPPORT).post(address, form).status_code == 403
    ola = signed_in()
    assert ola.post(address, {**form, "advocate_points": "0"}).status_code == 422
    assert ola.post(address, form).status_code == 302
    held = ReferralOffer.objects.get()
    assert (held.advocate_points, held.friend_points, held.most_per_month) == (200, 0, 5)
    assert 'value="200"' in ola.get(address).content.decode()


def test_the_api_claims_lists_and_decides(ada: Customer) -> None:
    secret = ApiKey.issue(name="Shop", scopes=["referrals:write"])[1]
    of = get(secret, f"referral-codes/{ada.pk}/").json()
    assert of["url"].endswith(f"/p/r/{of['code']}/")
    body = {"code": of["code"], "email": "bo@mailinator.com", "ip": "192.0.2.9", "device": "d1"}
    made = post(secret, "referrals/", body, "a")
    assert (made.status_code, made.json()["state"]) == (201, "waiting")
    assert post(secret, "referrals/", body, "a").json() == made.json()
    for wrong in ({"code": "NOSUCH"}, {"email": "nobody"}, {"ip": "x"}):
        assert post(secret, "referrals/", {**body, **wrong}).status_code in (400, 404, 422)
    Referral.objects.update(created_at=clock.now() - timedelta(days=3))
    ordered("bo@mailinator.com")
    [found] = get(secret, f"referrals/?advocate={ada.pk}&state=review").json()["results"]
    assert found["doubts"] == ["address"]
    assert post(secret, f"referrals/{found['id']}/refuse/", {}).status_code == 400
    assert post(secret, f"referrals/{found['id']}/approve/", {}).json()["state"] == "rewarded"
    late = post(secret, f"referrals/{found['id']}/refuse/", {"reason": "Odd"})
    assert (late.status_code, late.json()["code"]) == (409, "wrong_state")
    reader = ApiKey.issue(name="Reader", scopes=["referrals:read"])[1]
    assert post(reader, "referrals/", body).status_code == 403
    assert points(ada) == 100


def test_a_batch_of_orders_costs_few_queries_where_nobody_was_brought(
    ada: Customer, django_assert_max_num_queries: Any
) -> None:
    ids = [OrderFactory().pk for _ in range(50)]
    with django_assert_max_num_queries(2):
        assert referrals.reward_for_orders(ids) == 0

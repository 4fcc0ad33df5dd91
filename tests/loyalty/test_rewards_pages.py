from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from customers.models import Customer
from lifecycle_crm.accounts.models import Role
from lifecycle_crm.lib import clock
from loyalty import codes, rewards
from loyalty.models import Account, Programme, Redemption, Reward
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_pages import key_of, text

pytestmark = pytest.mark.django_db

FORM = {"name": "Mug", "kind": "product", "points": "300", "stock": "5", "is_active": "on"}


def signed_in(role: str = Role.MARKETER) -> Client:
    client = Client()
    client.force_login(UserFactory(role=role, name="Ola"))
    return client


@pytest.fixture
def ada() -> Customer:
    customer = CustomerFactory(name="Ada Example")
    give(customer, 1000)
    return customer


@pytest.fixture
def mug() -> Reward:
    programme = Programme.current()
    assert programme is not None
    return rewards.create(programme=programme, name="Mug", points=300, stock=5, prices={"Gold": 200})


def test_an_empty_catalogue_says_what_to_do() -> None:
    page = signed_in().get(reverse("loyalty:rewards"))
    assert "No rewards yet" in text(page)
    assert reverse("loyalty:reward-new") in page.content.decode()


def test_it_makes_a_reward() -> None:
    programme = Programme.current()
    assert programme is not None
    ola = signed_in()
    made = ola.post(reverse("loyalty:reward-new"), {**FORM, "programme": programme.pk, "ends_on": "2030-01-31"})
    reward = Reward.objects.get()
    assert made.headers["Location"] == reverse("loyalty:reward", args=[reward.pk])
    assert (reward.name, reward.points, reward.stock, str(reward.ends_on)) == ("Mug", 300, 5, "2030-01-31")
    page = ola.get(reverse("loyalty:rewards"))
    assert "Mug" in text(page)
    assert "until 31 Jan 2030" in text(page)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"points": "-1"}, "Price in points:"),
        ({"name": ""}, "Name: This field is required."),
        ({"kind": "perk"}, "Choose which perk it is."),
        ({"starts_on": "2030-02-01", "ends_on": "2030-01-31"}, "The last day is before the first day."),
        ({"sku": "nothing"}, "No product has this number."),
    ],
)
def test_it_refuses_a_reward_at_its_form(wrong: dict[str, str], words: str) -> None:
    programme = Programme.current()
    assert programme is not None
    page = signed_in().post(reverse("loyalty:reward-new"), {**FORM, "programme": programme.pk, **wrong})
    assert page.status_code == 422
    assert words in text(page)
    assert not Reward.objects.exists()


def test_it_changes_a_reward_and_keeps_the_count_of_those_redeemed_meanwhile(mug: Reward, ada: Customer) -> None:
    ola = signed_in()
    address = reverse("loyalty:reward", args=[mug.pk])
    page = ola.get(address)
    assert key_of(page, "stock_seen") == "5" if 'name="stock_seen" value=' in page.content.decode() else True
    form = {**FORM, "points": "250", "stock_seen": "5", "tier_0": "150"}
    assert ola.post(address, form).status_code == 302
    mug.refresh_from_db()
    assert (mug.points, mug.stock, [one.points for one in mug.prices.all()]) == (250, 5, [150])
    rewards.redeem(reward=mug, customer=ada, key="a")
    page = ola.post(address, {**form, "stock": "9"})
    assert page.status_code == 409
    assert "4 are left now" in text(page)
    mug.refresh_from_db()
    assert mug.stock == 4
    assert "Ada Example" in text(ola.get(address))


def test_those_who_hand_out_look_at_rewards_and_do_not_change_them(mug: Reward) -> None:
    bo = signed_in(Role.SUPPORT)
    page = bo.get(reverse("loyalty:reward", args=[mug.pk]))
    assert "<textarea" not in page.content.decode()
    assert bo.post(reverse("loyalty:reward", args=[mug.pk]), FORM).status_code == 403
    assert bo.get(reverse("loyalty:reward-new")).status_code == 403
    mug.refresh_from_db()
    assert mug.points == 300


def test_it_redeems_at_the_counter_once_however_often_the_button_is_pressed(mug: Reward, ada: Customer) -> None:
    bo = signed_in(Role.SUPPORT)
    address = reverse("loyalty:counter", args=[ada.pk])
    page = bo.get(address)
    assert "1,000 points to spend" in text(page)
    form = {"key": key_of(page, "key"), "points": "300"}
    for _ in range(3):
        assert bo.post(reverse("loyalty:counter-redeem", args=[ada.pk, mug.pk]), form).headers["Location"] == address
    done = Redemption.objects.get()
    assert Account.objects.get(customer=ada).balance == 700
    assert f"The code is {codes.shown(done.code)}." in text(bo.get(address))
    gone = bo.post(reverse("loyalty:counter-redeem", args=[ada.pk, mug.pk]), {"key": "k" * 20, "points": "200"})
    assert gone.status_code == 409
    assert "costs 300 points now" in text(gone)
    assert bo.post(reverse("loyalty:counter-redeem", args=[ada.pk, 99]), form).status_code == 404
    assert bo.post(reverse("loyalty:counter-redeem", args=[ada.pk, mug.pk]), {}).status_code == 422
    assert Redemption.objects.count() == 1


def test_the_queue_hands_out_and_gives_back(mug: Reward, ada: Customer) -> None:
    bo = signed_in(Role.SUPPORT)
    one = rewards.redeem(reward=mug, customer=ada, key="a")
    two = rewards.redeem(reward=mug, customer=ada, key="b")
    queue = reverse("loyalty:redemptions")
    assert codes.shown(one.code) in text(bo.get(queue))
    assert bo.post(reverse("loyalty:redemption-prepare", args=[one.pk])).headers["Location"] == queue
    assert bo.post(reverse("loyalty:redemption-hand-out", args=[one.pk]), {"next": queue}).status_code == 302
    page = bo.get(reverse("loyalty:redemption-cancel", args=[two.pk]))
    assert "The points go back to where they came from" in text(page)
    assert bo.post(reverse("loyalty:redemption-cancel", args=[two.pk]), {"reason": ""}).status_code == 422
    assert bo.post(reverse("loyalty:redemption-cancel", args=[two.pk]), {"reason": "Broken"}).status_code == 302
    assert "300 points are given back." in text(bo.get(queue))
    assert "Nobody waits" in text(bo.get(queue))
    assert list(Redemption.objects.order_by("pk").values_list("state", flat=True)) == ["handed_out", "cancelled"]
    assert Account.objects.get().balance == 700
    assert "It was handed out or cancelled already." in text(
        bo.get(reverse("loyalty:redemption-cancel", args=[one.pk]))
    )
    again = bo.post(reverse("loyalty:redemption-cancel", args=[one.pk]), {"reason": "x"})
    assert again.status_code == 409


def test_the_queue_finds_by_code_and_by_customer(mug: Reward, ada: Customer) -> None:
    bo = signed_in(Role.SUPPORT)
    done = rewards.redeem(reward=mug, customer=ada, key="a")
    queue = reverse("loyalty:redemptions")
    for words in (done.code, codes.shown(done.code).lower(), f"#{ada.pk}", str(ada.pk)):
        assert "Ada Example" in text(bo.get(queue, {"q": words})), words
    for words in ("ZZZZZZZZ", "#999999", "%", "9" * 40, "\x00"):
        assert "Nothing has this code" in text(bo.get(queue, {"q": words})), words
    for state in ("ordered", "all", "nonsense"):
        assert bo.get(queue, {"state": state, "page": "x"}).status_code == 200
    assert "None in this state" in text(bo.get(queue, {"state": "prepared"}))


def test_those_who_only_look_move_nothing(mug: Reward, ada: Customer) -> None:
    done = rewards.redeem(reward=mug, customer=ada, key="a")
    viewer = signed_in(Role.VIEWER)
    for name, arguments in (
        ("redemption-prepare", [done.pk]),
        ("redemption-hand-out", [done.pk]),
        ("redemption-cancel", [done.pk]),
        ("counter-redeem", [ada.pk, mug.pk]),
    ):
        assert viewer.post(reverse(f"loyalty:{name}", args=arguments), {"reason": "x"}).status_code == 403
    for name, arguments in (("redemptions", []), ("rewards", []), ("counter", [ada.pk])):
        assert viewer.get(reverse(f"loyalty:{name}", args=arguments)).status_code == 200
    done.refresh_from_db()
    assert done.state == "ordered"


@pytest.mark.parametrize("name, arguments", [("rewards", []), ("redemptions", []), ("counter", [1]), ("reward", [1])])
def test_nobody_looks_without_signing_in(name: str, arguments: list[Any]) -> None:
    answer = Client().get(reverse(f"loyalty:{name}", args=arguments))
    assert answer.headers["Location"].startswith(reverse("accounts:sign-in"))


def test_unknown_numbers_are_not_found() -> None:
    ola = signed_in()
    for name in ("reward", "redemption-cancel", "counter"):
        for number in (999999, 10**30):
            assert ola.get(reverse(f"loyalty:{name}", args=[number])).status_code == 404


def test_a_long_catalogue_costs_no_more_queries(mug: Reward, ada: Customer, django_assert_max_num_queries: Any) -> None:
    programme = Programme.current()
    assert programme is not None
    for n in range(20):
        one = rewards.create(programme=programme, name=f"R{n}", points=n, ends_on=clock.today())
        rewards.redeem(reward=one, customer=ada, key=f"k{n}")
    ola = signed_in()
    for name, arguments in (("rewards", []), ("redemptions", []), ("counter", [ada.pk])):
        with django_assert_max_num_queries(20):
            assert ola.get(reverse(f"loyalty:{name}", args=arguments)).status_code == 200

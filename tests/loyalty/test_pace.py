"""Public doors let a person in as often as they like, and a machine only so often (fault 77)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import time_machine
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from customers.models import Customer
from lifecycle_crm.lib import pace
from lifecycle_crm.lib.errors import TooMany
from loyalty import referral_pages, referrals, wallet, wallet_pages
from loyalty.models import Programme, Referral
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_pages import text

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def a_minute() -> Iterator[Any]:
    """The tests do not depend on where in a minute they begin, nor on who knocked before."""
    cache.clear()
    with time_machine.travel("2026-11-20 12:00:05+00:00") as now:
        yield now
    cache.clear()


@pytest.fixture
def ada() -> Customer:
    customer = CustomerFactory(name="Ada Example", language="en")
    give(customer, 100)
    return customer


def test_each_minute_and_each_who_counts_by_itself(a_minute: Any) -> None:
    for _ in range(3):
        pace.take("door", "ada", most=3)
    with pytest.raises(TooMany):
        pace.take("door", "ada", most=3)
    pace.take("door", "bo", most=3)
    pace.take("window", "ada", most=3)
    a_minute.shift(60)
    pace.take("door", "ada", most=3)


def test_nobody_is_shut_out_by_a_cache_that_does_not_answer(settings: Any) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    }
    for _ in range(3):
        pace.take("door", "ada", most=1)


def test_a_thousand_guessed_links_get_thirty_answers_and_the_right_link_still_opens(ada: Customer) -> None:
    bot = Client()
    answers = [bot.get(reverse("loyalty:wallet", args=[f"1-1~{n:x}~forged"])).status_code for n in range(200)]
    assert answers == [410] * wallet_pages.GUESSES + [429] * (200 - wallet_pages.GUESSES)
    assert bot.get(wallet.path(wallet.card(ada))).status_code == 200


def test_a_wallet_opened_too_often_says_so_in_one_sentence(ada: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wallet_pages, "LOOKS", 3)
    path = wallet.path(wallet.card(ada))
    pages = [Client().get(path) for _ in range(5)]
    assert [page.status_code for page in pages] == [200, 200, 200, 429, 429]
    assert pages[-1]["Retry-After"] == "60"
    assert "Too many tries" in text(pages[-1])
    assert "Wait a minute, then try again." in text(pages[-1])
    assert "<script" not in pages[-1].content.decode().partition("<main")[2]


def test_a_button_pressed_too_often_is_refused_and_moves_nothing(ada: Customer) -> None:
    path = reverse("loyalty:wallet-undo", args=[wallet.token(wallet.card(ada)), 1])
    answers = [Client().post(path).status_code for _ in range(wallet_pages.PRESSES + 2)]
    assert answers == [404] * wallet_pages.PRESSES + [429] * 2


def test_friends_are_claimed_ten_times_a_minute_from_one_computer(ada: Customer) -> None:
    programme = Programme.current()
    assert programme is not None
    referrals.set_offer(programme=programme, advocate_points=10, friend_points=10)
    path = reverse("loyalty:referral-public", args=[referrals.code(ada).code])
    answers = [Client().post(path, {"email": f"f{n}@x.example"}).status_code for n in range(15)]
    assert answers == [200] * referral_pages.CLAIMS + [429] * 5
    assert Referral.objects.count() == referral_pages.CLAIMS
    codes = [Client().get(reverse("loyalty:referral-public", args=[f"ZZZZZZ{n}"])).status_code for n in range(40)]
    assert codes == [410] * referral_pages.GUESSES + [429] * 10


def test_the_page_of_a_programme_has_a_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wallet_pages, "READERS", 2)
    programme = Programme.current()
    assert programme is not None
    path = reverse("loyalty:programme-public", args=[programme.key])
    assert [Client().get(path).status_code for _ in range(3)] == [200, 200, 429]

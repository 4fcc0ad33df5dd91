"""A coffee chain's programme and an airline's, side by side, as somebody sets them up and a customer uses them."""

from __future__ import annotations

from typing import Any

import pytest

from customers.models import Event
from lifecycle_crm import reactions
from lifecycle_crm.accounts.models import Role
from lifecycle_crm.lib import clock
from loyalty import wallet
from loyalty.models import Account, Membership, Programme, Redemption
from tests.factories import PASSWORD, UserFactory
from tests.loyalty.factories import CustomerFactory, OrderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_both_presets_are_installed_earned_in_and_spent_from(chromium: Any) -> None:
    UserFactory(email="owner@shop.example", role=Role.OWNER)
    ada = CustomerFactory(name="Ada Example", language="en")
    Programme.objects.update(is_active=False)
    page = chromium
    page.goto("/sign-in/")
    page.get_by_label("E-mail").fill("owner@shop.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()

    for name in ("Coffee club", "Frequent flyer"):
        page.goto("/loyalty/programmes/")
        page.get_by_role("button", name=f"Install {name}").click()
        assert page.get_by_role("heading", level=1).inner_text() == name
        page.goto(f"/loyalty/accounts/{ada.pk}/memberships/")
        page.get_by_label("Programme", exact=True).select_option(label=name)
        page.get_by_role("button", name="Join").click()
        page.get_by_role("row", name=name).wait_for()
    assert Membership.objects.filter(customer=ada).count() == 2

    now = clock.now()
    OrderFactory(customer=ada, amount_minor=5000, placed_at=now)
    Event.objects.create(
        customer=ada, name="flight", occurred_at=now, source="airport", source_id="AB812", properties={"km": 12_345}
    )
    with_monday = 2 if clock.business_date(now).isoweekday() == 1 else 1
    while clock.whole_now() <= now:
        page.wait_for_timeout(100)
    reactions.run(seconds=20)
    coffee = (50 * 2 + 5 + 50) * with_monday
    assert Account.objects.get(customer=ada, programme__key="coffee").balance == coffee
    assert Account.objects.get(customer=ada, programme__key="airline").pending == 12_345 + 250

    page.goto(wallet.path(wallet.card(ada)))
    assert f"{coffee} points to spend" in page.locator("main").inner_text()
    number = Membership.objects.get(customer=ada, programme__key="coffee").number
    assert "".join(page.locator(".wallet-number").inner_text().split()) == number
    assert page.locator(".qr").count() == page.locator(".barcode").count() == 1
    page.get_by_role("link", name="Redeem A free drink").click()
    page.get_by_role("button", name="Yes, redeem it").click()
    done = Redemption.objects.get()
    assert (done.points, done.reward.name) == (150, "A free drink")
    assert "A free drink is yours." in page.get_by_role("status").inner_text()
    page.get_by_role("link", name="Frequent flyer").click()
    flyer = page.locator("main").inner_text()
    for words in ("12,595 points are waiting.", "You are Silver", "Free choice of seats", "12,405 points to Gold"):
        assert words in flyer, words
    page.goto(f"/loyalty/accounts/{ada.pk}/")
    assert "Silver" in page.locator("main").inner_text()

"""The wallet in a real browser: on the smallest phone, without scripts, in every language, and what a scanner sees."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from lifecycle_crm.lib import clock
from loyalty import ledger, rewards, tiers, vouchers, wallet
from loyalty.models import Account, Programme, Redemption
from tests.loyalty.factories import CustomerFactory, give
from tests.readable import faults

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LANGUAGES = ("en", "sv", "nb", "pl", "cs")


@pytest.fixture
def opened() -> str:
    """A wallet with something of everything; its address."""
    programme = Programme.current()
    assert programme is not None
    ada = CustomerFactory(name="Ada Example", language="en")
    give(ada, 700, "soon", expires_at=clock.day_end(clock.today() + timedelta(days=20)))
    give(ada, 600, "later")
    give(ada, 50, "waits", active_at=clock.now() + timedelta(days=3))
    tiers.set_ladder(programme=programme, steps=[tiers.Step("Gold", 2000, ["Free delivery"])])
    series = vouchers.create(name="Ten", worth="percent", percent=10, valid_days=30)
    off = rewards.create(programme=programme, name="Ten off", kind="discount", points=100, series=series)
    rewards.create(
        programme=programme,
        name="Mug",
        description="Blue, for coffee and for tea.",
        points=300,
        stock=4,
        per_customer=1,
    )
    rewards.create(programme=programme, name="Bicycle " + "w" * 80, points=90_000)
    rewards.create(programme=programme, name="Cap", points=5, stock=0)
    rewards.redeem(reward=off, customer=ada, key="a")
    ledger.redeem(customer=ada, points=5, key="s", reason="<script>alert(1)</script>")
    return wallet.path(wallet.card(ada))


@pytest.fixture
def phone(browser: Any, live_server: Any) -> Any:
    """The smallest phone, with scripts turned off."""
    context = browser.new_context(
        base_url=live_server.url, viewport={"width": 320, "height": 640}, java_script_enabled=False
    )
    page = context.new_page()
    yield page
    context.close()


def test_it_redeems_and_undoes_without_scripts_on_a_small_phone(phone: Any, opened: str) -> None:
    phone.goto(opened)
    assert phone.get_by_role("heading", level=1).inner_text() == "Hello Ada"
    phone.get_by_role("link", name="Redeem Mug").click()
    assert not Redemption.objects.filter(reward__name="Mug").exists()
    phone.get_by_role("button", name="Yes, redeem it").click()
    done = Redemption.objects.get(reward__name="Mug")
    assert done.points == 300
    assert "Mug is yours." in phone.get_by_role("status").inner_text()
    assert Account.objects.get().balance == 1300 - 100 - 5 - 300
    phone.get_by_role("button", name="Undo Mug").click()
    done.refresh_from_db()
    assert done.state == "cancelled"
    assert Account.objects.get().balance == 1300 - 100 - 5


def test_it_fits_the_smallest_phone_in_every_language_without_a_violation(chromium: Any, opened: str) -> None:
    dialogs: list[str] = []
    chromium.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    chromium.set_viewport_size({"width": 320, "height": 640})
    programme = Programme.current()
    assert programme is not None
    mug = programme.rewards.get(name="Mug")
    found: list[str] = []
    for scheme in ("light", "dark"):
        chromium.emulate_media(color_scheme=scheme)
        for language in LANGUAGES if scheme == "light" else LANGUAGES[:1]:
            for path in (opened, f"{opened}rewards/{mug.pk}/", f"/p/programmes/{programme.key}/"):
                answer = chromium.goto(f"{path}?lang={language}")
                assert answer.status == 200
                assert chromium.locator("h1").count() == 1
                found += [f"{language} {scheme} {path}: {fault}" for fault in faults(chromium)]
    assert found == []
    assert dialogs == []


def test_the_marks_keep_their_size_and_stay_black_on_white_in_the_dark(chromium: Any, opened: str) -> None:
    chromium.set_viewport_size({"width": 320, "height": 640})
    chromium.emulate_media(color_scheme="dark")
    chromium.goto(opened)
    for name, smallest in ((".qr", 120), (".barcode", 200)):
        box = chromium.locator(name).bounding_box()
        assert box["width"] >= smallest
        fills = chromium.locator(f"{name} path").evaluate_all("all => all.map(one => getComputedStyle(one).fill)")
        assert fills == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]


def test_a_link_that_ended_is_a_kind_page(chromium: Any, problems: list[str], opened: str) -> None:
    answer = chromium.goto(opened[:-2] + "x/")
    assert answer.status == 410
    assert "ask us for a new one" in chromium.locator("main").inner_text()
    assert faults(chromium) == []
    problems.clear()  # The browser notes the 410 itself.

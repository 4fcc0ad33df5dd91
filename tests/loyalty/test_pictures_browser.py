"""A reward's picture in a real browser: chosen from a file, seen where it should be, replaced and taken away."""

from __future__ import annotations

from typing import Any

import pytest

from lifecycle_crm.accounts.models import Role
from loyalty import rewards, wallet
from loyalty.models import Programme, RewardPicture
from tests.drawings import BLUE, file
from tests.factories import PASSWORD, UserFactory
from tests.loyalty.factories import CustomerFactory, give
from tests.readable import faults

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LOADED = "all => all.map(one => one.complete && one.naturalWidth > 0)"


def test_it_is_uploaded_seen_replaced_and_removed(chromium: Any, problems: list[str]) -> None:
    UserFactory(email="ola@shop.example", role=Role.MARKETER)
    programme = Programme.current()
    assert programme is not None
    ada = CustomerFactory(name="Ada Example", language="en")
    give(ada, 700)
    mug = rewards.create(programme=programme, name="Mug", description="For coffee and for tea.", points=300)
    rewards.create(programme=programme, name="Bicycle " + "w" * 60, points=90_000)
    page = chromium
    page.goto("/sign-in/")
    page.get_by_label("E-mail").fill("ola@shop.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")
    page.wait_for_load_state("networkidle")
    address = f"/loyalty/rewards/{mug.pk}/"

    page.goto(address)
    page.locator("input[type=file]").set_input_files(
        {"name": "notes.png", "mimeType": "image/png", "buffer": b"only words"}
    )
    page.get_by_label("What it shows").fill("A red mug")
    page.get_by_role("button", name="Save the picture").click()
    page.get_by_role("alert").wait_for()
    assert "The file is not a picture, whatever its name says." in page.get_by_role("alert").inner_text()
    assert faults(page) == []
    problems.clear()  # The browser notes the 422 itself.

    for data, words in ((file("JPEG", (900, 600)), "A red mug"), (file("PNG", (600, 900), BLUE), "A tall blue mug")):
        page.goto(address)
        page.locator("input[type=file]").set_input_files({"name": "mug", "mimeType": "image/png", "buffer": data})
        page.get_by_label("What it shows").fill(words)
        page.get_by_role("button", name="Save the picture").click()
        page.get_by_role("img", name=words, exact=True).wait_for()
        page.wait_for_load_state("load")
        assert RewardPicture.objects.get().alt == words
        page.goto("/loyalty/rewards/")
        page.wait_for_load_state("networkidle")
        assert page.locator("img.thumb").evaluate_all(LOADED) == [True]
    assert faults(page) == []

    home = wallet.path(wallet.card(ada))
    page.set_viewport_size({"width": 320, "height": 640})
    for path, scheme in (
        (home, "light"),
        (f"{home}rewards/{mug.pk}/", "dark"),
        (f"/p/programmes/{programme.key}/", "dark"),
    ):
        page.emulate_media(color_scheme=scheme)
        page.goto(path)
        shown = page.get_by_role("img", name="A tall blue mug")
        shown.scroll_into_view_if_needed()
        page.wait_for_load_state("networkidle")
        assert shown.evaluate_all(LOADED) == [True]
        assert path.startswith("/p/programmes/") or faults(page) == []

    page.goto(address)
    page.get_by_role("button", name="Remove the picture").click()
    page.get_by_text("“Mug” has no picture now.").wait_for()
    page.wait_for_load_state("load")
    assert page.locator(".picture").count() == 0
    page.goto(home)
    assert page.locator(".thumb").count() == 0
    assert problems == []

"""The customer's page in a real browser: on a small phone, without scripts, with hostile words."""

from __future__ import annotations

from typing import Any

import pytest

from feedback import links
from feedback.models import Answer, Response
from tests.feedback.factories import invite

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def phone(browser: Any, live_server: Any) -> Any:
    """The smallest phone, with scripts turned off."""
    context = browser.new_context(
        base_url=live_server.url, viewport={"width": 320, "height": 640}, java_script_enabled=False
    )
    page = context.new_page()
    yield page
    context.close()


def test_it_can_be_answered_and_changed_without_scripts_on_a_small_phone(phone: Any) -> None:
    link = invite(language="sv")
    phone.goto(f"{links.survey_path(link)}?score=9")
    assert Response.objects.count() == 0
    assert phone.get_by_role("radio", checked=True).get_attribute("value") == "9"

    phone.get_by_label("3", exact=True).check()
    phone.get_by_label("Vad är den främsta anledningen").fill("Sen leverans")
    phone.get_by_role("button").click()
    assert phone.get_by_role("heading", level=1).inner_text() == "Tack för ditt svar"

    phone.get_by_role("link", name="Ändra mitt svar").click()
    assert phone.get_by_role("radio", checked=True).get_attribute("value") == "3"
    phone.get_by_label("8", exact=True).check()
    phone.get_by_role("button").click()

    assert list(Answer.objects.order_by("number").values_list("score", "comment")) == [
        (3, "Sen leverans"),
        (8, "Sen leverans"),
    ]
    assert Response.objects.get().language == "sv"


def test_it_fits_a_small_phone_in_every_language_and_runs_no_hostile_words(chromium: Any) -> None:
    link = invite()
    dialogs: list[str] = []
    chromium.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    chromium.set_viewport_size({"width": 320, "height": 640})
    hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>" + "w" * 300

    for language in ("en", "sv", "nb", "pl", "cs"):
        for address in (f"?lang={language}&change", f"?lang={language}"):
            chromium.goto(links.survey_path(link) + address)
            wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert chromium.evaluate(wider) == 0, f"{language} {address}"
            if "change" in address:
                chromium.locator("textarea").fill(hostile + language)
                chromium.locator('[name="score"][value="2"]').check()
                with chromium.expect_navigation(wait_until="networkidle"):
                    chromium.locator('button[type="submit"]').click()

    assert dialogs == []
    assert Response.objects.get().comment == f"{hostile}cs"

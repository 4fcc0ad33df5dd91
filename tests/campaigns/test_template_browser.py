"""The template editor in a real browser: by keyboard, with and without scripts, and clean for axe where a form is open."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from campaigns import texts
from tests.campaigns.factories import VariantFactory, person
from tests.factories import UserFactory
from tests.readable import faults

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def enter(page: Any, control: Any) -> None:
    """Press what leads to another page, and wait for that page: on one that still loads, a key may meet nothing."""
    with page.expect_navigation(wait_until="networkidle"):
        control.press("Enter")


def test_it_is_written_by_keyboard_and_shows_the_message_at_once(
    chromium: Any, context: Any, live_server: Any, client: Any, problems: list[str]
) -> None:
    person(given_name="Ada", facts={"points": 5, "may_email": True})
    template = VariantFactory(
        template__name="Win-back: we have missed you",
        blocks=[{"type": "heading", "text": "Hello"}, {"type": "text", "text": "One."}],
    ).template
    client.force_login(UserFactory(role="marketer"))
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    chromium.goto(reverse("campaigns:template", args=[template.key, "en"]))
    chromium.frame_locator("iframe").get_by_text("One.").wait_for()

    enter(chromium, chromium.get_by_role("link", name="Edit block 2"))
    field = chromium.get_by_role("textbox", name="Text", exact=True)
    expect(field).to_be_focused()
    assert faults(chromium) == []
    field.press("Home")
    chromium.keyboard.type("Dear ")
    chromium.get_by_label("Insert a value").select_option(label="first name")
    chromium.get_by_label("For people without one").fill("friend")
    chromium.get_by_role("button", name="Insert", exact=True).press("Enter")
    assert field.input_value() == "Dear {{ customer.given_name | default: 'friend' }}One."
    chromium.keyboard.type(": ")
    enter(chromium, chromium.get_by_role("button", name="Keep the change"))
    chromium.frame_locator("iframe").get_by_text("Dear Ada: One.").wait_for()

    enter(chromium, chromium.get_by_role("button", name="Move block 2 up"))
    chromium.get_by_role("heading", name="1. Text").wait_for()
    enter(chromium, chromium.get_by_role("button", name="Remove block 2"))
    chromium.get_by_text("The block is removed.").wait_for()
    enter(chromium, chromium.get_by_role("button", name="Undo"))
    chromium.get_by_role("heading", name="2. Heading").wait_for()
    chromium.get_by_text("Add a block after block 2").press("Enter")
    enter(chromium, chromium.get_by_role("link", name="Points balance").last)
    chromium.get_by_label("Words under the number").fill("points")
    enter(chromium, chromium.get_by_label("Words under the number"))
    chromium.get_by_role("link", name="Edit block 3").wait_for()
    enter(chromium, chromium.get_by_role("button", name="Save as next version"))
    chromium.get_by_text("Saved as version 2.").wait_for()
    assert [one["type"] for one in texts.newest(template, "en").blocks] == ["text", "heading", "points"]
    size = (
        chromium.frame_locator("iframe").get_by_text("5", exact=True).evaluate("one => getComputedStyle(one).fontSize")
    )
    assert size == "32px"  # the new kinds' own styles are allowed in the frame
    chromium.goto(f"{reverse('campaigns:template-versions', args=[template.key, 'en'])}?show=1")
    chromium.frame_locator("iframe").get_by_text("One.").wait_for()
    for width in (1280, 390):
        chromium.set_viewport_size({"width": width, "height": 900})
        assert faults(chromium) == []
    assert problems == []

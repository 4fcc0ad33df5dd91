"""SMS in a real browser: its parts are counted while it is typed, and every page it is on is clean for axe."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from campaigns import audience, outbox
from campaigns.models import Message, Outage
from tests.campaigns.factories import TemplateFactory, reachable, sms_campaign
from tests.factories import UserFactory
from tests.readable import faults

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("texts")]


def test_it_counts_while_one_types_and_is_readable_everywhere(
    chromium: Any, context: Any, live_server: Any, client: Any, problems: list[str]
) -> None:
    reachable(2)
    template = TemplateFactory(channel="sms", name="Flash sale", key="flash-sale")
    sent = sms_campaign("Hi {{ customer.given_name }}: 20 % off today at https://shop.example/sale", state="draft")
    draft = sms_campaign("Hi", state="draft", name="Not yet")
    audience.send(campaign=sent)
    outbox.send_due()
    Outage.seen("sms", "The provider lets us send nothing: 403 Not enough credits")
    client.force_login(UserFactory(role="owner"))
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])

    editor = reverse("campaigns:template", args=[template.key, "en"])
    chromium.goto(editor)
    field, said = chromium.get_by_label("Text", exact=True), chromium.locator("#sms-parts")
    field.fill("a" * 159 + "€")
    expect(said).to_have_text("As typed, without values: 2 × SMS, 161 places (GSM-7).")
    field.fill("Kč")
    expect(said).to_have_text("As typed, without values: 1 × SMS, 2 places (UCS-2). Not in the alphabet of SMS: č")
    field.fill("Hi {{ customer.given_name | default: 'friend' }}")
    expect(said).to_have_text("As typed, without values: 1 × SMS, 2 places (GSM-7).")
    assert faults(chromium) == []
    with chromium.expect_navigation(wait_until="networkidle"):
        chromium.get_by_role("button", name="Keep the change").press("Enter")
    chromium.get_by_role("link", name="Edit the text").wait_for()
    expect(chromium.locator(".sms-words")).to_contain_text("Stop: ")

    message = Message.objects.filter(run__campaign=sent).first()
    pages = [
        editor,
        reverse("campaigns:template-versions", args=[sent.template.key, "en"]),
        reverse("campaigns:detail", args=[sent.pk]),
        reverse("campaigns:detail", args=[draft.pk]),
        reverse("campaigns:message", args=[message.pk]),
        reverse("campaigns:outbox"),
    ]
    for width in (1280, 390):
        chromium.set_viewport_size({"width": width, "height": 900})
        for address in pages:
            chromium.goto(address)
            assert faults(chromium) == [], (width, address)
    assert problems == []

"""An experiment in a real browser, by keyboard alone: set up, started, and its verdict read first."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from campaigns.experiments import counting, deciding
from campaigns.models import Experiment, ExperimentVerdict
from tests.campaigns.factories import CampaignFactory, VariantFactory
from tests.factories import UserFactory
from tests.readable import faults

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def enter(page: Any, control: Any) -> None:
    with page.expect_navigation(wait_until="load"):
        control.press("Enter")


def test_it_is_set_up_started_and_decided_by_keyboard(
    chromium: Any, context: Any, live_server: Any, client: Any, problems: list[str]
) -> None:
    campaign = CampaignFactory(kind="reactivation", name="Come back")
    VariantFactory(template__name="Shorter words", template__key="shorter")
    client.force_login(UserFactory(role="marketer"))
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    chromium.goto(reverse("campaigns:experiments"))
    enter(chromium, chromium.get_by_role("link", name="New experiment").first)
    chromium.get_by_label("Name").fill("Which words")
    chromium.get_by_label("Where").select_option(str(campaign.pk))
    chromium.get_by_label("Share of people who do it today, per cent").fill("30")
    chromium.locator("summary", has_text="Version C").press("Enter")
    expect(chromium.locator("#id_share_c")).to_be_visible()
    chromium.locator("#id_template_b").select_option("shorter")
    enter(chromium, chromium.get_by_role("button", name="How many people does it need?"))
    chromium.get_by_text("You need 963 people per version to see a change from 30.0% to 36.0%.").wait_for()
    assert faults(chromium) == []
    enter(chromium, chromium.get_by_role("button", name="Start", exact=True))
    chromium.get_by_role("heading", name="Still collecting (0% of planned)").wait_for()

    made = Experiment.objects.get()
    told = [counting.Standing(label, 50, people=963, joined=963, clicked=n) for label, n in (("A", 290), ("B", 390))]
    found = deciding.look(told, measure="click")
    ExperimentVerdict.objects.create(
        experiment=made, business_date="2026-11-20", kind=found.kind, winner=made.versions.get(label="B"),
        numbers=found.numbers,
    )  # fmt: skip
    with chromium.expect_navigation(wait_until="load"):
        chromium.reload()
    first = chromium.locator("main h2").first
    expect(first).to_have_text("B is better")
    enter(chromium, chromium.get_by_role("button", name="Use B for everyone"))
    chromium.get_by_text("B was taken for everyone.").wait_for()
    assert campaign.template.variants.count() == 2

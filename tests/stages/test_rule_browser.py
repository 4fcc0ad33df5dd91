"""A marketer in a real browser: edit a number, see who would move and what that sets off, publish, run the night, read the
reason, undo it, and the messages that were not sent yet go with it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse

from campaigns.models import Campaign, Message
from customers.models import CustomerFacts
from lifecycle_crm import night
from lifecycle_crm.lib import clock
from stages import presets
from stages.models import RuleSet, StageTransition
from tests.campaigns.factories import CampaignFactory, VariantFactory
from tests.factories import PASSWORD, UserFactory
from tests.roof.test_night import shop

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_from_a_number_to_a_night_and_back(chromium: Any) -> None:
    shop(40, days=160)
    last = clock.last_complete_day()
    presets.install()
    night.run(last - timedelta(days=1))
    Campaign.objects.all().delete()  # the one that is shipped
    campaign = CampaignFactory(
        name="We miss you", kind=Campaign.Kind.REACTIVATION, template=VariantFactory().template, purpose="service"
    )
    stood = list(CustomerFacts.objects.order_by("pk").values_list("pk", "stage", "stage_since"))
    UserFactory(email="anna@shop.example", role="marketer")
    page = chromium
    page.goto("/sign-in/")
    page.fill("[name=username]", "anna@shop.example")
    page.fill("[name=password]", PASSWORD)
    page.press("[name=password]", "Enter")
    page.wait_for_url("**/")

    # Edit: who is quiet after ten days instead of months.
    page.goto(reverse("stages:overview"))
    page.get_by_role("button", name="Change the rules").click()
    page.wait_for_load_state("networkidle")
    assert "0 customers of 40 would move" in page.inner_text("main")
    for name, days in (("at_least", 10), ("at_most", 10)):
        page.fill(f"[name=n-0-when-all-0-value-{name}]", str(days))
    for number in (1, 2, 3):
        page.fill(f"[name=n-0-when-all-{number}-not-value]", "10")
    page.get_by_role("button", name="Save draft").first.click()
    page.wait_for_load_state("networkidle")

    # What if: people with their old reason and their new one, and what it sets off.
    draft = RuleSet.objects.get(state="draft")
    verdict = page.inner_text("#what-if-title + .verdict")
    moving = int(verdict.split()[0])
    assert moving > 3
    page.wait_for_selector("#effects table")
    told = page.locator("#effects tbody tr").inner_text().split("\t")
    assert told[0] == "We miss you"
    dormant, held_out, not_written_to, to_write = (int(cell) for cell in told[1:])
    assert dormant == held_out + not_written_to + to_write
    assert to_write > 3
    assert "limit 10" in page.inner_text(".movers")
    assert "Now:" in page.inner_text(".movers")

    # Publish: the brake wants the number. Campaigns may start.
    page.get_by_label("Move people and let campaigns start").check()
    page.get_by_label("Type ").fill(str(moving))
    page.get_by_role("button", name="Publish", exact=True).click()
    page.wait_for_url("**/stages/")
    assert "is in force. The next night moves people, and campaigns may start." in page.inner_text("body")
    draft.refresh_from_db()
    assert draft.state == "published"

    # The night, as beat would run it; its page tells who moved.
    CustomerFacts.objects.update(next_review_at=clock.day_end(last))
    run = night.run(last)
    moved = StageTransition.objects.filter(night=run)
    assert moved.count() > 3
    page.goto(reverse("stages:night", args=[last.isoformat()]))
    assert f"{moved.count()} moves" in page.inner_text("main")
    messages = Message.objects.filter(run__campaign=campaign)
    states = Counter(messages.values_list("state", flat=True))
    assert (states["queued"], states["held_out"]) == (to_write, held_out)

    # The reason on the customer's page.
    someone = moved.filter(to_stage="dormant").first()
    page.goto(reverse("dashboard:customer-stages", args=[someone.customer_id]))
    assert "(limit 10)" in page.inner_text("main")

    # And back.
    page.goto(reverse("stages:night", args=[last.isoformat()]))
    page.get_by_role("link", name="Undo this night").click()
    page.wait_for_load_state("networkidle")
    assert f"{to_write} messages that wait are called off." in page.inner_text("main")
    page.get_by_role("button", name="Undo this night").click()
    page.wait_for_load_state("networkidle")
    assert "Undone on" in page.inner_text("main")
    assert f"Messages called off: {to_write}." in page.inner_text("main")
    states = Counter(messages.values_list("state", flat=True))
    assert (states["queued"], states["cancelled"]) == (0, to_write)
    assert list(CustomerFacts.objects.order_by("pk").values_list("pk", "stage", "stage_since")) == stood
    page.goto(reverse("dashboard:customer-stages", args=[someone.customer_id]))
    assert "Undone: back to" in page.inner_text("main")

"""A segment built by keyboard in a real browser: the count follows the typing, the focus stays, and the form is plain."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import expect

from customers import membership, segments
from customers.models import CustomerFacts, Segment
from lifecycle_crm.lib import clock
from tests.customers.factories import CustomerFactory
from tests.factories import UserFactory
from tests.readable import faults

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def signed_in(chromium: Any, live_server: Any, client: Client) -> Any:
    client.force_login(UserFactory(role="marketer"))
    cookie = client.cookies["sessionid"]
    chromium.context.add_cookies([{"name": "sessionid", "value": cookie.value, "url": live_server.url}])
    return chromium


@pytest.fixture
def crowd() -> None:
    for n in range(20):
        customer = CustomerFactory(name=f"Kim Lind {n}", country="SE" if n % 2 else "PL")
        CustomerFacts.objects.create(customer=customer, orders=n, stage="retain", may_email=n > 15)


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.id || document.activeElement.innerText"))


def test_a_segment_is_built_by_keyboard(signed_in: Any, crowd: None, problems: list[str]) -> None:
    page = signed_in
    page.goto("/segments/new/")
    count = page.locator("#panel .count-line")
    expect(count).to_have_text("20 people")
    page.locator("#seg-name").focus()
    page.keyboard.type("Many orders")
    press(page, "Tab", "Tab", "Tab")
    assert focused(page) == "r0-field"
    page.keyboard.type("Number of o")
    expect(page.locator("#r0-value")).to_be_visible()
    assert focused(page) == "r0-field"
    press(page, "Tab", "Tab")
    assert focused(page) == "r0-value"
    page.keyboard.type("15")
    expect(count).to_have_text("5 people")
    expect(page.locator("#effect-0")).to_have_text("−15")
    assert focused(page) == "r0-value"
    assert page.locator("#r0-value").input_value() == "15"

    page.get_by_role("button", name="Add a condition").focus()
    press(page, "Enter")
    expect(page.locator("#r1-field")).to_be_focused()
    page.keyboard.type("Country")
    expect(page.locator("#r1-value")).to_be_visible()
    press(page, "Tab", "Tab")
    assert focused(page) == "r1-value"
    page.keyboard.type("Swed")
    expect(count).to_have_text("3 people")
    expect(page.locator("#effect-1")).to_have_text("−2")
    page.get_by_role("button", name="Move row 2 up").focus()
    press(page, "Enter")
    expect(page.locator("#r0-field")).to_have_value("country")
    expect(page.locator("#r1-value")).to_have_value("15")

    page.locator("#seg-person").focus()
    page.keyboard.type("kim lind 16")
    expect(page.locator("#verdict")).to_contain_text("Not in")
    expect(page.locator("#verdict")).to_contain_text("country: Poland")
    assert focused(page) == "seg-person"
    assert faults(page) == []

    page.get_by_role("button", name="Save segment").focus()
    press(page, "Enter")
    page.wait_for_url("**/segments/many-orders/")
    expect(page.locator(".count-line")).to_have_text("3 people")
    assert Segment.objects.get().condition == {
        "all": [{"fact": "country", "op": "eq", "value": "SE"}, {"fact": "orders", "op": "gte", "value": 15}]
    }
    page.locator(".count-line a").click()
    page.wait_for_url("**/customers/?segment=many-orders")
    expect(page.locator("#customer-rows tr")).to_have_count(3)
    assert problems == []


def test_a_segment_is_built_without_javascript(browser: Any, live_server: Any, client: Client, crowd: None) -> None:
    client.force_login(UserFactory(role="marketer"))
    context = browser.new_context(java_script_enabled=False, base_url=live_server.url)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    page = context.new_page()
    page.goto("/segments/new/")
    page.select_option("#r0-field", "orders")
    page.get_by_role("button", name="Count again").last.click()
    page.fill("#r0-value", "15")
    page.get_by_role("button", name="Add a condition").click()
    assert page.locator(".count-line").inner_text() == "5 people"
    page.get_by_role("button", name="Remove row 2").click()
    page.get_by_role("button", name="Save segment").click()
    assert "A segment needs a name." in page.locator(".error-summary").inner_text()
    page.fill("#seg-name", "Plain")
    page.get_by_role("button", name="Save segment").click()
    page.wait_for_url("**/segments/plain/")
    context.close()
    assert Segment.objects.get().members == 5


@pytest.mark.parametrize("theme, width", [("light", 1280), ("dark", 390)])
def test_every_page_is_readable_by_everybody(signed_in: Any, crowd: None, theme: str, width: int) -> None:
    tree = {
        "all": [
            {"fact": "orders", "op": "gte", "value": 2},
            {"any": [{"tag": "vip"}, {"fact": "stage", "op": "in", "value": ["retain"]}, {"did": "visit", "days": 3}]},
        ]
    }
    segments.create(name="Loyal", condition=tree)
    segments.create(name="Odd", condition={"not": {"any": [{"segment": "loyal"}]}})
    chosen = segments.create(name="Chosen", kind="static")
    segments.add_members(segment=chosen, customers=CustomerFacts.objects.values_list("pk", flat=True)[:5])
    today = clock.today()
    membership.record(business_date=today, as_of=clock.day_end(today))
    signed_in.emulate_media(color_scheme=theme, reduced_motion="reduce")
    signed_in.set_viewport_size({"width": width, "height": 900})
    told = {}
    for path in (
        "/segments/", "/segments/?archived=1", "/segments/new/", "/segments/new/?kind=static", "/segments/loyal/edit/",
        f"/segments/loyal/?on={today}&person=kim", "/segments/odd/edit/", "/segments/chosen/", "/segments/chosen/edit/",
        f"/customers/?segment=loyal&segment_on={today}",
    ):  # fmt: skip
        signed_in.goto(path)
        signed_in.evaluate("document.querySelectorAll('main details').forEach((one) => { one.open = true })")
        assert signed_in.locator("h1").count() == 1
        told[path] = faults(signed_in)
    assert {path: found for path, found in told.items() if found} == {}

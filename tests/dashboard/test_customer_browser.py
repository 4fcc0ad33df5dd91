"""The list, a customer and an import in a real browser: readable by everybody, at two widths, in both themes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import expect

from customers import ingest, queries
from customers.models import Customer, CustomerFacts, ImportRun
from lifecycle_crm import reactions
from lifecycle_crm.lib import clock
from stages import presets
from tests.customers.factories import CustomerFactory
from tests.factories import UserFactory
from tests.readable import faults

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def signed_in(chromium: Any, live_server: Any, client: Client) -> Any:
    client.force_login(UserFactory(role="owner"))
    cookie = client.cookies["sessionid"]
    chromium.context.add_cookies([{"name": "sessionid", "value": cookie.value, "url": live_server.url}])
    return chromium


@pytest.fixture
def someone() -> Customer:
    presets.install()
    customer = CustomerFactory(name="Åsa Öberg", country="SE")
    for n in range(50):
        ingest.record_order(
            ingest.OrderIn(
                source_id=str(n), placed_at=clock.now() - timedelta(days=n + 1), amount_minor=5000, currency="USD",
                customer_id=customer.pk, lines=[ingest.LineIn(title="Record", unit_minor=5000)],
            ),
            source="shop",
        )  # fmt: skip
    reactions.settle()
    return customer


@pytest.mark.parametrize("theme, width", [("light", 1280), ("dark", 390)])
def test_every_page_is_readable_by_everybody(signed_in: Any, someone: Customer, theme: str, width: int) -> None:
    run = ImportRun.objects.create(
        kind="customers", file_name="people.csv", path="imports/people.csv", state="queued", options={"lines": 10}
    )
    signed_in.emulate_media(color_scheme=theme, reduced_motion="reduce")
    signed_in.set_viewport_size({"width": width, "height": 900})
    tabs = ("", "stages/", "orders/", "feedback/", "messages/", "points/", "consents/", "data/")
    paths = [
        "/customers/", "/customers/?stage=retain&country=SE", "/customers/?q=nobody", "/imports/", "/imports/new/",
        f"/imports/{run.pk}/", *(f"/customers/{someone.pk}/{tab}" for tab in tabs),
    ]  # fmt: skip
    told = {}
    for path in paths:
        signed_in.goto(path)
        signed_in.evaluate("document.querySelectorAll('main details').forEach((one) => { one.open = true })")
        assert signed_in.locator("h1").count() == 1
        if found := faults(signed_in):
            told[path] = found
    assert told == {}


def test_more_customers_are_added_below_and_the_focus_goes_to_the_first_of_them(signed_in: Any) -> None:
    for n in range(queries.PAGE_SIZE * 2 + 5):
        CustomerFacts.objects.create(customer=CustomerFactory(name=f"Name {n:03}"), orders=n)
    signed_in.goto("/customers/?sort=name")
    rows = signed_in.locator("#customer-rows > tr")
    expect(rows).to_have_count(50)

    signed_in.get_by_role("link", name="Load 50 more").click()
    expect(rows).to_have_count(100)
    expect(signed_in.get_by_text("100 of 105 shown")).to_be_visible()
    expect(signed_in.get_by_role("link", name="Name 050")).to_be_focused()

    signed_in.get_by_role("link", name="Load 50 more").click()
    expect(rows).to_have_count(105)
    expect(signed_in.get_by_role("link", name="Load 50 more")).to_have_count(0)
    assert rows.locator("a").all_inner_texts() == [f"Name {n:03}" for n in range(105)]


def test_older_lines_are_added_below(signed_in: Any, someone: Customer) -> None:
    signed_in.goto(f"/customers/{someone.pk}/?kind=order")
    lines = signed_in.locator("#customer-timeline > .event")
    expect(lines).to_have_count(40)
    signed_in.get_by_role("link", name="Load older").click()
    expect(lines).to_have_count(50)
    expect(signed_in.get_by_text("That is the beginning.")).to_be_visible()


def test_a_filter_and_a_move_work_by_keyboard(signed_in: Any, someone: Customer) -> None:
    CustomerFactory(name="Kim Lind")
    signed_in.goto("/customers/")
    signed_in.get_by_label("Name, e-mail, phone, city or #number").focus()
    signed_in.keyboard.type("oberg")
    with signed_in.expect_navigation(url="**/?q=oberg", wait_until="networkidle"):
        signed_in.keyboard.press("Enter")
    with signed_in.expect_navigation(url=f"**/customers/{someone.pk}/", wait_until="networkidle"):
        signed_in.get_by_role("link", name="Åsa Öberg").press("Enter")
    signed_in.get_by_text("Move to another stage").press("Enter")
    signed_in.get_by_label("To", exact=True).select_option("advocate")
    signed_in.locator("#move_reason").fill("Speaks at our fair")
    with signed_in.expect_navigation(url=f"**/customers/{someone.pk}/", wait_until="networkidle"):
        signed_in.keyboard.press("Enter")
    expect(signed_in.get_by_text("Moved to Advocate.")).to_be_visible()
    assert CustomerFacts.objects.get(pk=someone.pk).stage == "advocate"


def test_the_progress_of_an_import_reaches_its_end_by_itself(signed_in: Any) -> None:
    run = ImportRun.objects.create(
        kind="customers", file_name="people.csv", path="imports/people.csv", state="queued",
        options={"lines": 10, "delimiter": ",", "columns": []},
    )  # fmt: skip
    signed_in.goto(f"/imports/{run.pk}/")
    expect(signed_in.get_by_text("Waiting for a worker")).to_be_visible()
    ImportRun.objects.filter(pk=run.pk).update(state="done", rows=8, created=8)
    expect(signed_in.get_by_text("8 customers would be new.")).to_be_visible(timeout=15_000)

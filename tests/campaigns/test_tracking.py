"""Links that say who pressed them, and scanners that press them all."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client

from campaigns import links, outbox, queries, tracking
from campaigns.models import Link, Message, Visit
from customers.models import CustomerFacts, DirtyCustomer, Order
from lifecycle_crm import reactions
from lifecycle_crm.lib import clock
from tests.campaigns.factories import NOON, CampaignFactory, VariantFactory, people, person, planned

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]

BROWSER = {
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "HTTP_ACCEPT_LANGUAGE": "sv-SE,sv;q=0.9",
}
BLOCKS = [
    {
        "type": "text",
        "text": 'Look at <a href="https://shop.example/a?x=1&amp;y=2">this</a>, {{ customer.given_name }}.',
    },
    {"type": "button", "text": "Or this", "url": "https://shop.example/b?utm_source=mine"},
    {"type": "button", "text": "Or that", "url": "{{ shop.url }}/c"},
]


def campaign(**fields):
    template = VariantFactory(blocks=BLOCKS).template
    return CampaignFactory(template=template, quiet_from=0, quiet_until=0, name="Spring sale", **fields)


def sent_to(smtp, customers, one=None, key="test:1"):
    run = planned(customers, one or campaign(), key=key)
    outbox.send_due()
    return run


def urls_in(received) -> list[str]:
    page = received.message.get_body(("html",)).get_content()
    return re.findall(r'http://127\.0\.0\.1:8000(/p/[co]/[^"]+)', page)


def test_it_leads_every_link_through_a_signed_address_and_adds_utm(smtp, client):
    customer = person()
    sent_to(smtp, [customer])
    [received] = smtp.messages
    *clicks, picture = urls_in(received)
    assert len(clicks) == 3
    assert picture.startswith("/p/o/")
    text = received.message.get_body(("plain",)).get_content()
    assert [f"http://127.0.0.1:8000{url}" in text for url in clicks] == [True] * 3
    assert "shop.example/a" not in text
    there = [client.get(url, **BROWSER).headers["Location"] for url in clicks]
    assert there == [
        "https://shop.example/a?x=1&y=2&utm_source=test-shop&utm_medium=email&utm_campaign=spring-sale",
        "https://shop.example/b?utm_source=mine",
        "http://127.0.0.1:8000/c?utm_source=test-shop&utm_medium=email&utm_campaign=spring-sale",
    ]
    answer = client.get(picture, **BROWSER)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/gif")
    assert Link.objects.count() == 3
    # What they saw is kept with the addresses their author wrote.
    assert "https://shop.example/b?utm_source=mine" in Message.objects.get().rendering.html


def test_it_shares_the_stored_links_of_a_campaign(smtp):
    one = campaign()
    sent_to(smtp, people(5), one)
    sent_to(smtp, people(5), one, key="test:2")
    assert Link.objects.count() == 3


def test_it_does_not_track_a_service_notice(smtp):
    template = VariantFactory(blocks=BLOCKS).template
    template.purpose = "service"
    template.save(update_fields=["purpose"])
    sent_to(smtp, [person()], CampaignFactory(template=template, purpose="service"))
    assert urls_in(smtp.messages[0]) == []
    assert Link.objects.count() == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: "1" + token,
        lambda token: token.replace("-", "-1", 1),
        lambda token: token.partition("~")[0],
        lambda token: token.partition("~")[0] + "~",
        lambda token: "~",
        lambda token: "-~",
        lambda token: "https:evil.example",
        lambda token: "javascript:alert(1)",
        lambda token: "x" * 500,
        lambda token: "é~é",
    ],
)
def test_it_leads_nowhere_with_a_token_it_did_not_write(smtp, client, change):
    sent_to(smtp, [person()])
    token = urls_in(smtp.messages[0])[0].removeprefix("/p/c/").rstrip("/")
    for what in ("c", "o"):
        answer = client.get(f"/p/{what}/{change(token)}/", {"url": "https://evil.example", "next": "//evil.example"})
        assert answer.status_code == 404
        assert "Location" not in answer.headers
    assert Visit.objects.count() == 0


def test_it_takes_no_address_from_the_one_who_asks(smtp, client):
    sent_to(smtp, [person()])
    url = urls_in(smtp.messages[0])[0]
    answer = client.get(url, {"url": "https://evil.example", "to": "//evil.example"}, **BROWSER)
    assert answer.headers["Location"].startswith("https://shop.example/a?")
    assert client.post(url).status_code == 405


def press(url: str, noon, after: float, method: str = "get", **headers) -> None:
    noon.move_to(NOON + timedelta(seconds=after))
    getattr(Client(), method)(url, **{**BROWSER, **headers})


@pytest.mark.parametrize(
    ("after", "method", "headers", "kind", "why"),
    [
        (60, "get", {}, "human", ""),
        (60, "head", {}, "machine", "asked for the headers only"),
        (1, "get", {}, "machine", "faster than a person"),
        (60, "get", {"HTTP_USER_AGENT": "Barracuda Sentinel (EE)"}, "machine", "the program names itself"),
        (60, "get", {"HTTP_USER_AGENT": "python-requests/2.31"}, "machine", "the program names itself"),
        (60, "get", {"HTTP_USER_AGENT": ""}, "machine", "the program does not name itself"),
        (60, "get", {"HTTP_SEC_PURPOSE": "prefetch;prerender"}, "machine", "fetched ahead"),
        (60, "get", {"HTTP_ACCEPT_LANGUAGE": ""}, "unknown", "says too little"),
    ],
)
def test_it_tells_people_from_machines(smtp, noon, after, method, headers, kind, why):
    sent_to(smtp, [person()])
    press(urls_in(smtp.messages[0])[0], noon, after, method, **headers)
    assert tracking.judge() == 0  # the burst around it is not known yet
    noon.move_to(NOON + timedelta(seconds=after + 31))
    assert tracking.judge() == 1
    visit = Visit.objects.get()
    assert (visit.kind, visit.why) == (kind, why)
    assert tracking.judge() == 0


def test_it_believes_a_person_who_comes_back_to_another_link_later(smtp, noon):
    sent_to(smtp, [person()])
    for n, url in enumerate(urls_in(smtp.messages[0])[:3]):
        press(url, noon, 60 + 20 * n)
    noon.move_to(NOON + timedelta(minutes=5))
    assert tracking.judge() == 3
    assert set(Visit.objects.values_list("kind", flat=True)) == {"human"}


def test_it_hands_the_last_human_press_down_and_no_machine_and_no_open(smtp, noon):
    human, scanned, opened = (person() for _ in range(3))
    sent_to(smtp, [human, scanned, opened])
    by = {one.recipients[0]: urls_in(one) for one in smtp.messages}
    DirtyCustomer.objects.all().delete()
    for url in by[scanned.email][:3]:
        press(url, noon, 100)
    press(by[opened.email][-1], noon, 200)
    press(by[human.email][0], noon, 300)
    noon.move_to(NOON + timedelta(minutes=10))
    tracking.judge()
    assert list(DirtyCustomer.objects.values_list("customer_id", flat=True)) == [human.pk]
    reactions.settle()
    clicked = dict(CustomerFacts.objects.values_list("customer_id", "clicked_at"))
    assert clicked == {human.pk: NOON + timedelta(seconds=300), scanned.pk: None, opened.pk: None}


def order(customer, number: int, after: timedelta, minor: int = 10_000, **more) -> None:
    Order.objects.create(
        customer=customer, source="t", source_id=str(number), placed_at=NOON + after, currency="USD", amount_minor=minor,
        base_minor=minor, **more,
    )  # fmt: skip


def test_it_credits_orders_within_the_days_of_the_campaign_once(smtp, noon):
    one = campaign(credit_days=7, cap_per_day=5, cap_per_week=5)
    buys, late, early, silent = (person() for _ in range(4))
    sent_to(smtp, [buys, late, early], one)
    noon.move_to(NOON + timedelta(days=1))
    sent_to(smtp, [buys], one, key="test:2")
    order(buys, 1, timedelta(days=2))
    order(buys, 2, timedelta(days=3), minor=2_000)
    order(buys, 3, timedelta(days=4), is_counted=False)
    order(late, 4, timedelta(days=7, seconds=1))
    order(early, 5, timedelta(seconds=-1))
    order(silent, 6, timedelta(days=1))
    assert queries.orders_after(one) == {"people": 1, "orders": 2, "revenue_minor": 12_000}


def test_it_signs_for_one_use_only():
    url = links.click_url(message_id=1, link_id=2)
    token = url.removesuffix("/").rpartition("/")[2]
    assert links.unsign_visit(token) == (1, 2)
    assert links.unsign_visit(links._unsubscribe.sign("1-2")) is None
    assert clock.now() == NOON

"""One customer from all sides: every tab through the door, its reads counted, its actions tried and refused."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import escape

from campaigns.models import Campaign, Journey, JourneyRun, JourneyVersion, Message, Run, Template
from customers import ingest
from customers.models import Consent, Customer, CustomerFacts, Event, Order, Refund
from customers.timeline import Cursor, merge
from feedback import surveys
from feedback.models import Invitation
from lifecycle_crm import reactions
from lifecycle_crm.dashboard.timeline import SOURCES
from lifecycle_crm.lib import clock
from loyalty import ledger
from loyalty.models import Entry, Programme
from stages import presets
from stages.models import Pin, StageTransition
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

TABS = ("", "stages/", "orders/", "feedback/", "messages/", "points/", "consents/", "data/")


@pytest.fixture
def owner(client: Client) -> Client:
    client.force_login(UserFactory(role="owner", name="Anna Berg"))
    return client


@pytest.fixture
def someone() -> Customer:
    """Loaded a year ago, placed by the default rules."""
    presets.install()
    customer = Customer.objects.create(
        name="Åsa Öberg",
        email="asa@example.org",
        country="SE",
        known_since=clock.now() - timedelta(days=365),
        loaded_at=clock.now() - timedelta(days=365),
    )
    live_through(customer, 1)
    reactions.settle()
    return customer


def live_through(customer: Customer, times: int) -> None:
    """So many of everything that the page shows."""
    base = Order.objects.filter(customer=customer).count()
    campaign = Campaign.objects.filter(key="news").first() or Campaign.objects.create(
        key="news", name="News", template=Template.objects.create(key="news", name="News")
    )
    for n in range(base, base + times):
        at = clock.now() - timedelta(days=100 + n, hours=1)
        order = ingest.record_order(
            ingest.OrderIn(
                source_id=f"{customer.pk}-{n}", placed_at=at, amount_minor=5000, currency="USD",
                customer_id=customer.pk, lines=[ingest.LineIn(title=f"Record {n}", unit_minor=5000, sku=f"R{n}")],
            ),
            source="shop",
        )  # fmt: skip
        ingest.refund(order=order, amount_minor=100, source="shop", source_id=f"r{customer.pk}-{n}", occurred_at=at)
        ingest.record_event(
            ingest.EventIn(name="visit", occurred_at=at, source_id=f"{customer.pk}-{n}", customer_id=customer.pk),
            source="web",
        )
        Consent.objects.create(
            customer=customer, purpose="marketing", channel="email", is_granted=True, source="shop", occurred_at=at
        )
        ledger.adjust(customer=customer, points=10, key=f"t{customer.pk}-{n}", actor=None, reason="Welcome")
        link = surveys.invite(customer=customer, survey=surveys.install(), key=f"order:{n}")
        surveys.answer(invitation=link, score=n % 11, comment="Fine")
        surveys.invite(customer=customer, survey=surveys.install(), key=f"open:{n}")
        run = Run.objects.create(campaign=campaign, key=f"{customer.pk}-{n}", as_of=at)
        Message.objects.create(
            run=run, customer=customer, channel="email", due_at=at, state="skipped", reason="no_consent", created_at=at
        )
        StageTransition.objects.create(
            customer=customer, from_stage="reach", to_stage="acquire", kind="person", user=UserFactory(name="Anna Berg"),
            reason="Called us", occurred_at=at, business_date=clock.business_date(at),
        )  # fmt: skip


def page_of(client: Client, customer: Customer, tab: str = "", **more: Any) -> str:
    response = client.get(f"/customers/{customer.pk}/{tab}", **more)
    assert response.status_code == 200
    return response.content.decode().replace("\xa0", " ")


# --- What it shows ----------------------------------------------------------------------------------------------------


def test_it_says_why_they_stand_where_they_stand(owner: Client) -> None:
    presets.install()
    customer = Customer.objects.create(name="Åsa Öberg", known_since=clock.now() - timedelta(days=400))
    for n in (300, 280):
        ingest.record_order(
            ingest.OrderIn(
                source_id=str(n), placed_at=clock.now() - timedelta(days=n), amount_minor=5000, currency="USD",
                customer_id=customer.pk,
            ),
            source="shop",
        )  # fmt: skip
    reactions.settle()
    today = clock.business_date(StageTransition.objects.get().occurred_at - timedelta(seconds=1))
    page = page_of(owner, customer)
    assert (
        f"Entered Dormant on {today.day} {today:%b} {today.year}: no order for 280 days (limit 90), no visit or click yet, "
        "no click in a message yet and no answer to a survey yet. Rule: Goes quiet, version 1."
    ) in page.replace(f"{today:%b}t ", f"{today:%b} ")
    assert "Stays in Dormant until they do something: time alone changes nothing." in page
    assert escape("RFM") in page


def test_it_says_what_comes_next_and_which_rules_were_asked(owner: Client, someone: Customer) -> None:
    page = page_of(owner, someone)
    facts = CustomerFacts.objects.get(pk=someone.pk)
    assert facts.stage == "nurture"
    assert re.search(r"Becomes Dormant on \d+ \w+ \d{4} if nothing happens\.", page)
    assert "Has started" in page
    assert "last order 100 days ago (limit 180)" in page


@pytest.mark.parametrize("tab", TABS)
def test_a_tab_asks_as_much_for_many_rows_as_for_few(owner: Client, someone: Customer, tab: str) -> None:
    def asked() -> list[str]:
        with CaptureQueriesContext(connection) as context:
            page_of(owner, someone, tab)
        return [query["sql"] for query in context.captured_queries]

    few = asked()
    live_through(someone, 8)
    many = asked()
    assert len(many) == len(few), "\n".join(many)
    assert len(many) <= 40


def test_a_customer_who_was_loaded_a_moment_ago_has_a_page_on_every_tab(owner: Client) -> None:
    customer = Customer.objects.create(email="new@example.org")
    for tab in TABS:
        page = page_of(owner, customer, tab)
        assert "<h1>new@example.org</h1>" in page
        assert "Nothing decided yet." in page


def test_an_unknown_customer_is_told_in_one_sentence(owner: Client) -> None:
    response = owner.get("/customers/987654321/")
    assert response.status_code == 404
    assert "There is no customer #987654321." in response.content.decode()


@pytest.mark.parametrize("role", ["analyst", "viewer"])
def test_names_and_addresses_are_hidden_on_every_tab(client: Client, someone: Customer, role: str) -> None:
    client.force_login(UserFactory(role=role))
    Customer.objects.filter(pk=someone.pk).update(phone="+46701234567", attributes={"shoe": "size-38"})
    Event.objects.create(
        customer=someone, name="visit", occurred_at=clock.now(), source="web", source_id="1",
        properties={"typed": "asa@example.org"},
    )  # fmt: skip
    for tab in TABS:
        page = page_of(client, someone, tab)
        for secret in ("Öberg", "asa@example.org", "46701234567", "size-38", "/p/s/"):
            assert secret not in page, tab
        assert "<h1>Å… Ö…</h1>" in page
        assert 'method="post" action="/customers/' not in page


# --- The time line ----------------------------------------------------------------------------------------------------


def everything(customer: Customer) -> set[tuple[str, int]]:
    return {(source.kind, row.pk) for source in SOURCES for row in source.rows(customer.pk)}


@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_time_line_shows_everything_once_newest_first(someone: Customer, size: int) -> None:
    live_through(someone, 3)
    at = clock.now() - timedelta(days=50)
    for n in range(5):  # the same instant in several tables
        Event.objects.create(customer=someone, name="visit", occurred_at=at, source="x", source_id=str(n))
        Consent.objects.create(
            customer=someone, purpose="survey", channel="email", is_granted=True, source="shop", occurred_at=at
        )
        entered(someone, number=n + 1, at=at, state="done")
    shown: list[Any] = []
    cursor: Cursor | None = None
    for _page in range(200):
        page = merge(someone.pk, SOURCES, cursor=cursor, size=size)
        shown += page.items
        if page.next is None:
            break
        cursor = Cursor.decode(page.next.encode())
    assert len(shown) == len(everything(someone))
    assert {(item.kind, item.pk) for item in shown} == everything(someone)
    times = [item.order for item in shown]
    assert times == sorted(times, reverse=True)


def entered(someone: Customer, **values: Any) -> JourneyRun:
    journey, _made = Journey.objects.get_or_create(key="welcome", defaults={"name": "Welcome"})
    version, _made = JourneyVersion.objects.get_or_create(journey=journey, number=1, defaults={"tree": {}})
    at = values.pop("at")
    return JourneyRun.objects.create(
        journey=journey,
        version=version,
        customer=someone,
        key=str(values["number"]),
        entered_at=at,
        ended_at=at,
        **values,
    )


def test_the_time_line_says_which_journeys_let_them_in_and_what_became_of_it(owner: Client, someone: Customer) -> None:
    entered(someone, number=1, at=clock.now() - timedelta(days=9), state="held_out")
    entered(someone, number=2, at=clock.now() - timedelta(days=5), state="exited", reason="exit_rule")
    last = entered(someone, number=3, at=clock.now(), state="running", due_at=clock.now())
    page = page_of(owner, someone, "?kind=journey")
    titles = re.findall(r'<div class="what">\s*<p><(?:strong|a[^>]*)>(.*?)</', page)
    assert titles == [
        "Entered the journey “Welcome”", "Entered the journey “Welcome”", "Held out of the journey “Welcome”"
    ]  # fmt: skip
    assert "Left early: a rule for leaving early held" in page
    assert f'href="/journeys/{last.journey_id}/people/{last.pk}/"' in page


def test_the_time_line_can_be_limited_to_kinds(owner: Client, someone: Customer) -> None:
    page = page_of(owner, someone, "?kind=message&kind=refund")
    titles = re.findall(r'<div class="what">\s*<p><(?:strong|a[^>]*)>(.*?)</', page)
    assert titles == ["Refund for order " + Order.objects.get().source_id, "Message “News”"]
    assert "Not sent: has not agreed to this" in page


def test_points_of_another_programme_than_the_main_one_are_said_to_be_of_it(owner: Client, someone: Customer) -> None:
    ledger.earn(customer=someone, points=7, key="m", programme=Programme.objects.create(name="Miles", key="miles"))
    page = page_of(owner, someone, "?kind=points")
    assert page.count("Miles") == 1
    assert "Earned +7" in page


def test_older_lines_come_as_a_fragment(owner: Client, someone: Customer) -> None:
    live_through(someone, 6)
    page = page_of(owner, someone)
    link = re.search(r'hx-get="(\?page=[^"]+)"', page)
    assert link is not None
    more = page_of(owner, someone, link[1], headers={"HX-Request": "true", "HX-Target": "ol#customer-timeline"})
    assert "<html" not in more
    assert more.lstrip().startswith("<li")
    assert 'id="customer-timeline-more"' in more


def test_a_page_of_the_time_line_that_we_did_not_make_is_refused(owner: Client, someone: Customer) -> None:
    response = owner.get(f"/customers/{someone.pk}/?page=bm9uc2Vuc2U")
    assert response.status_code == 422


# --- What can be done -------------------------------------------------------------------------------------------------


def test_a_person_moves_and_holds_a_customer(owner: Client, someone: Customer) -> None:
    until = clock.today() + timedelta(days=30)
    owner.post(
        f"/customers/{someone.pk}/move/", {"to": "advocate", "reason": "Speaks at our fair", "pin_until": str(until)}
    )
    move = StageTransition.objects.latest("id")
    assert (move.from_stage, move.to_stage, move.kind, move.reason) == (
        "nurture", "advocate", "person", "Speaks at our fair",
    )  # fmt: skip
    assert move.user is not None
    assert move.user.name == "Anna Berg"
    assert Pin.objects.get().until == clock.day_end(until)
    page = page_of(owner, someone)
    assert "by hand, by Anna Berg: Speaks at our fair" in page
    assert "Held in Advocate by hand until" in page


@pytest.mark.parametrize(
    "body, sentence",
    [
        ({"to": "advocate", "reason": ""}, "This field is required."),
        ({"to": "retired", "reason": "Because"}, "Select a valid choice."),
        ({"to": "nurture", "reason": "Because"}, "already stands in this stage"),
        ({"to": "advocate", "reason": "Because", "pin_until": "2020-01-01"}, "The pin ends in the past."),
    ],
)
def test_a_move_that_cannot_be_is_refused_and_nothing_moves(
    owner: Client, someone: Customer, body: dict[str, str], sentence: str
) -> None:
    before = StageTransition.objects.count()
    page = owner.post(f"/customers/{someone.pk}/move/", body, follow=True).content.decode()
    assert sentence in page
    assert StageTransition.objects.count() == before
    assert CustomerFacts.objects.get(pk=someone.pk).stage == "nurture"


@pytest.mark.parametrize(
    "role, path",
    [
        *(("analyst", path) for path in ("move", "consents/record", "feedback/link", "points/give", "data/edit")),
        *(("viewer", path) for path in ("move", "consents/record", "feedback/link", "points/give", "data/edit")),
        ("support", "move"),
    ],
)
def test_a_role_that_may_not_is_refused_and_nothing_changes(
    client: Client, someone: Customer, role: str, path: str
) -> None:
    client.force_login(UserFactory(role=role))
    before = (
        StageTransition.objects.count(),
        Consent.objects.count(),
        Invitation.objects.count(),
        Entry.objects.count(),
    )
    body = {
        "to": "advocate", "reason": "x", "purpose": "survey", "channel": "sms", "is_granted": "no", "source": "x",
        "survey": "nps", "points": "5", "name": "Changed",
    }  # fmt: skip
    assert client.post(f"/customers/{someone.pk}/{path}/", body).status_code == 403
    after = (
        StageTransition.objects.count(),
        Consent.objects.count(),
        Invitation.objects.count(),
        Entry.objects.count(),
    )
    assert after == before
    assert Customer.objects.get(pk=someone.pk).name == "Åsa Öberg"


def test_looking_changes_nothing(owner: Client, someone: Customer) -> None:
    assert owner.get(f"/customers/{someone.pk}/move/").status_code == 405
    assert owner.get(f"/customers/{someone.pk}/data/edit/").status_code == 405


def test_consent_is_recorded_with_its_proof(owner: Client, someone: Customer) -> None:
    owner.post(
        f"/customers/{someone.pk}/consents/record/",
        {"purpose": "marketing", "channel": "email", "is_granted": "no", "source": "phone"},
    )
    row = Consent.objects.latest("id")
    assert (row.customer_id, row.purpose, row.channel, row.is_granted, row.source) == (
        someone.pk, "marketing", "email", False, "phone",
    )  # fmt: skip
    reactions.settle()
    assert CustomerFacts.objects.get(pk=someone.pk).may_email is False


def test_points_are_given_once_however_often_the_form_is_sent(owner: Client, someone: Customer) -> None:
    before = ledger_balance(someone)
    for _time in range(2):
        owner.post(f"/customers/{someone.pk}/points/give/", {"points": "25", "reason": "Sorry", "key": "one-form"})
    assert ledger_balance(someone) == before + 25
    entry = Entry.objects.latest("id")
    assert (entry.points, entry.reason, entry.actor.name if entry.actor else "") == (25, "Sorry", "Anna Berg")


def test_support_may_give_points_up_to_a_limit(client: Client, someone: Customer) -> None:
    client.force_login(UserFactory(role="support"))
    before = ledger_balance(someone)
    page = client.post(
        f"/customers/{someone.pk}/points/give/", {"points": "501", "reason": "Sorry", "key": "a"}, follow=True
    ).content.decode()
    assert "Your role may give or take up to 500 points at once." in page
    assert ledger_balance(someone) == before
    client.post(f"/customers/{someone.pk}/points/give/", {"points": "500", "reason": "Sorry", "key": "b"})
    assert ledger_balance(someone) == before + 500


def ledger_balance(customer: Customer) -> int:
    return sum(Entry.objects.filter(customer=customer).values_list("points", flat=True))


def test_a_survey_link_is_made_once_a_day_and_shown(owner: Client, someone: Customer) -> None:
    before = Invitation.objects.count()
    for _time in range(2):
        page = owner.post(f"/customers/{someone.pk}/feedback/link/", {"survey": "nps"}, follow=True).content.decode()
    assert Invitation.objects.count() == before + 1
    assert "/p/s/" in page


def test_basic_data_is_edited_and_the_phone_number_is_read_as_it_is_dialled(owner: Client, someone: Customer) -> None:
    body = {
        "name": "Åsa Lind", "email": "Asa.Lind@example.org", "phone": "070-123 45 67", "country": "SE", "language": "sv",
        "city": "Malmö", "time_zone": "Europe/Stockholm",
    }  # fmt: skip
    response = owner.post(f"/customers/{someone.pk}/data/edit/", body)
    assert response.status_code == 302
    row = Customer.objects.get(pk=someone.pk)
    assert (row.name, row.email, row.email_key, row.phone, row.language, row.city, row.time_zone) == (
        "Åsa Lind", "Asa.Lind@example.org", "asa.lind@example.org", "+46701234567", "sv", "Malmö", "Europe/Stockholm",
    )  # fmt: skip
    assert row.search_text == "asa lind asa.lind@example.org +46701234567 malmo"


@pytest.mark.parametrize(
    "body, sentence",
    [
        ({"email": "not-an-address"}, "Enter a valid email address."),
        ({"email": "taken@example.org"}, "The address taken@example.org belongs to another customer."),
        ({"phone": "12"}, "12 is not a phone number we can read."),
        ({"time_zone": "Mars/Olympus"}, "is not a time zone"),
        ({"language": "klingon"}, "Select a valid choice."),
    ],
)
def test_basic_data_that_cannot_be_is_said_at_its_field_and_nothing_changes(
    owner: Client, someone: Customer, body: dict[str, str], sentence: str
) -> None:
    Customer.objects.create(name="Other", email="taken@example.org")
    response = owner.post(
        f"/customers/{someone.pk}/data/edit/", {"name": "Changed", "email": "asa@example.org", "country": "SE", **body}
    )
    assert response.status_code == 400
    assert sentence in response.content.decode()
    row = Customer.objects.get(pk=someone.pk)
    assert (row.name, row.email, row.phone) == ("Åsa Öberg", "asa@example.org", "")


def test_what_people_wrote_is_shown_as_text(owner: Client, someone: Customer) -> None:
    bad = "<script>alert(1)</script>"
    Customer.objects.filter(pk=someone.pk).update(name=bad, city=bad, tags=[bad], attributes={bad: bad})
    Event.objects.create(
        customer=someone, name=bad, occurred_at=clock.now(), source=bad, source_id="1", properties={bad: bad}
    )
    for tab in TABS:
        page = page_of(owner, someone, tab)
        assert bad not in page
    assert Refund.objects.count() == 1

"""The pages of segments: the builder's round trip through a plain form, the live panel, and who may do what."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext

from customers import builder, counting, membership, segments
from customers.builder import Builder, CannotShow, Group, Row
from customers.models import Customer, CustomerFacts, Segment, SegmentMember
from lifecycle_crm.lib import clock
from tests.customers.factories import CustomerFactory, EventFactory
from tests.factories import UserFactory

BUYERS = {"all": [{"fact": "orders", "op": "gte", "value": 2}]}
EVERY_ROW = [
    {"fact": "orders", "op": "gte", "value": 2},
    {"fact": "spend_minor", "op": "lt", "value": 125_050},
    {"fact": "gap_seconds", "op": "lte", "value": 30 * 86_400},
    {"fact": "nps_score", "op": "is_not_set"},
    {"fact": "last_order_at", "op": "days_since_gte", "value": 90},
    {"fact": "last_order_at", "op": "days_since_lt", "value": 30},
    {"not": {"fact": "engaged_at", "op": "days_since_lt", "value": 30}},
    {"fact": "clicked_at", "op": "is_set"},
    {"fact": "stage", "op": "eq", "value": "retain"},
    {"fact": "stage", "op": "in", "value": ["retain", "advocate"]},
    {"fact": "tier", "op": "in", "value": ["gold", "silver"]},
    {"fact": "country", "op": "ne", "value": "SE"},
    {"fact": "may_email", "op": "eq", "value": False},
    {"tag": "vip"},
    {"not": {"tag": "vip"}},
    {"segment": "loyal"},
    {"not": {"segment": "loyal"}},
    {"did": "visit", "op": "lt", "times": 3, "days": 30},
    {"bought": {"category": "jazz"}, "op": "gte", "times": 1},
    {"bought": {"sku": "A-1"}, "op": "gte", "times": 2, "days": 365},
]


def posted(rows: Builder) -> QueryDict:
    """What a browser sends for these rows."""
    data = QueryDict(mutable=True)
    data["match"] = rows.match
    for n, item in enumerate(rows.items):
        inside = (
            [(f"r{n}.{m}", row) for m, row in enumerate(item.rows)] if isinstance(item, Group) else [(f"r{n}", item)]
        )
        if isinstance(item, Group):
            data[f"r{n}-match"] = item.match
        for place, row in inside:
            for part in ("field", "op", "times", "days"):
                data[f"{place}-{part}"] = getattr(row, part)
            data.setlist(f"{place}-value", list(row.values) if row.wants == "stage_list" else [row.value])
    return data


# --- Rows and trees -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaf", EVERY_ROW, ids=lambda leaf: json.dumps(leaf)[:50])
def test_every_row_goes_through_the_form_and_back(leaf: dict[str, Any]) -> None:
    for tree in ({"all": [leaf]}, {"any": [leaf, {"all": [leaf, *EVERY_ROW[:2]]}, leaf]}):
        again, told = builder.to_tree(builder.read(posted(builder.of_tree(tree))))
        assert told.faults == ()
        assert again == tree


def test_it_drops_nothing_of_a_segment_that_is_longer_than_usual() -> None:
    many = {"all": [{"fact": "orders", "op": "gte", "value": n} for n in range(60)]}
    long = {"fact": "acquisition_source", "op": "in", "value": [f"partner-{n}" for n in range(40)]}
    for tree in (many, {"any": [BUYERS["all"][0], {"all": many["all"]}]}, {"all": [long]}):
        again, told = builder.to_tree(builder.read(posted(builder.of_tree(tree))))
        assert told.faults == ()
        assert again == tree


def test_no_row_at_all_is_everybody() -> None:
    assert builder.of_tree({"all": []}) == Builder("all", ())
    assert builder.to_tree(Builder("any", ()))[0] == {"all": []}


@pytest.mark.parametrize(
    "tree",
    [
        {"not": {"all": [EVERY_ROW[0]]}},
        {"all": [{"any": [{"all": [EVERY_ROW[0]]}]}]},
        {"all": [{"any": []}]},
        {"any": []},
        {"not": {"fact": "orders", "op": "gte", "value": 2}},
        {"fact": "last_order_at", "op": "days_since_gte", "value": {"gaps": 2, "at_least": 3, "at_most": 9}},
        {"fact": "tier", "op": "in", "value": ["gold, old"]},
        {"fact": "gap_seconds", "op": "gte", "value": 100},
        {"fact": "orders", "op": "gte", "value": -1},
        {"not": {"did": "visit"}},
        ["orders"],
    ],
)
def test_it_refuses_to_open_what_rows_cannot_show(tree: Any) -> None:
    with pytest.raises((CannotShow, segments.InvalidInput)):
        builder.of_tree(tree)


def test_every_example_can_be_opened_and_asked(db: None) -> None:
    for start in builder.STARTS:
        assert builder.to_tree(builder.of_tree(start.tree))[0] == start.tree
        counting.measure(segments.read(start.tree))


def test_rows_are_added_removed_and_moved() -> None:
    a, b, c = (
        Row("orders", "gte", "1"),
        Row("points", "gte", "2"),
        Group("any", (Row("tier", "eq", "x"), Row("nps_score"))),
    )
    rows = Builder("all", (a, b, c))
    assert builder.change(rows, "add") == (Builder("all", (a, b, c, Row())), "3")
    assert builder.change(rows, "group") == (Builder("all", (a, b, c, Group("any", (Row(),)))), "3.0")
    assert builder.change(rows, "up:1") == (Builder("all", (b, a, c)), "0")
    assert builder.change(rows, "down:1") == (Builder("all", (a, c, b)), "2")
    assert builder.change(rows, "up:0") == (rows, "0")
    assert builder.change(rows, "remove:1") == (Builder("all", (a, c)), "1.0")
    assert builder.change(rows, "add:2")[0].items[2].rows == (*c.rows, Row())
    assert builder.change(rows, "down:2.0") == (Builder("all", (a, b, Group("any", c.rows[::-1]))), "2.1")
    once, focus = builder.change(rows, "remove:2.1")
    assert (once.items[2].rows, focus) == (c.rows[:1], "2.0")
    assert builder.change(once, "remove:2.0")[0] == Builder("all", (a, b))
    for nonsense in ("remove:9", "up:x", "down:2.7", "fly:1", "up:-1"):
        assert builder.change(rows, nonsense)[0] == rows


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (Row(), "choose what it is about"),
        (Row("orders", "gte", "many"), "enter a whole number from 0"),
        (Row("spend_minor", "gte", "1,2,3"), "enter an amount in USD"),
        (Row("last_order_at", "since", "99999"), "from 0 to 36500"),
        (Row("tier", "eq", ""), "enter a value"),
        (Row("stage", "in"), "enter one value or several"),
        (Row("did", "gte", "", times="1"), "say what they did"),
        (Row("did", "gte", "visit", times="0"), "from 1 to 10000"),
        (Row("tag", "has", ""), "name a tag"),
        (Row("segment", "in", ""), "choose a segment"),
    ],
)
def test_a_row_that_is_not_complete_says_what_is_missing(row: Row, sentence: str) -> None:
    tree, told = builder.to_tree(Builder("all", (Row("orders", "gte", "1"), row)))
    assert tree == {"all": [{"fact": "orders", "op": "gte", "value": 1}]}
    assert len(told.faults) == 1
    assert told.faults[0].startswith("Row 2: ")
    assert sentence in told.faults[0]
    assert told.items[1].fault


# --- Pages ----------------------------------------------------------------------------------------------------------------


def person(orders: int = 0, **values: Any) -> Customer:
    customer = CustomerFactory(**values)
    CustomerFacts.objects.create(customer=customer, orders=orders, stage="retain", may_email=orders > 2)
    return customer


@pytest.fixture
def marketer(client: Client, db: None) -> Client:
    client.force_login(UserFactory(role="marketer"))
    return client


def text(answer: Any) -> str:
    return answer.content.decode()


FORM = {"name": "Loyal", "note": "", "match": "all", "r0-field": "orders", "r0-op": "gte", "r0-value": "2"}


def test_it_builds_counts_and_saves_through_a_plain_form(marketer: Client) -> None:
    for orders in (1, 2, 3):
        person(orders)
    shown = marketer.get("/segments/new/")
    assert shown.status_code == 200
    assert "3 people" in text(shown)
    grown = marketer.post("/segments/new/", {**FORM, "act": "add"})
    assert 'name="r1-field"' in text(grown)
    assert "2 people" in text(grown)
    assert "1 row is not complete yet" in text(grown)
    assert not Segment.objects.exists()
    refused = marketer.post("/segments/new/", {**FORM, "r1-field": "", "act": "save"})
    assert refused.status_code == 422
    assert "Row 2: choose what it is about." in text(refused)
    assert not Segment.objects.exists()
    saved = marketer.post("/segments/new/", {**FORM, "act": "save"})
    assert saved["Location"] == "/segments/loyal/"
    assert Segment.objects.get().condition == BUYERS
    page = marketer.get("/segments/loyal/")
    assert 'href="/customers/?segment=loyal">2 people</a>' in text(page)
    assert "orders: at least 2" in text(page)
    assert page.context["measure"].count.value == marketer.get("/customers/?segment=loyal").context["count"].value == 2


def test_it_edits_what_it_opens_and_tells_the_difference(marketer: Client) -> None:
    segments.create(name="Loyal", condition=BUYERS)
    shown = text(marketer.get("/segments/loyal/edit/"))
    assert '<option value="orders" selected>' in shown
    marketer.post("/segments/loyal/edit/", {**FORM, "r0-value": "5", "version": "1", "act": "save"})
    assert Segment.objects.get().condition["all"][0]["value"] == 5
    page = text(marketer.get("/segments/loyal/"))
    assert "orders: at least 5</li>" in page
    assert "<del>orders: at least 2</del>" in page
    late = marketer.post("/segments/loyal/edit/", {**FORM, "r0-value": "9", "version": "1", "act": "save"})
    assert late.status_code == 422
    assert "Somebody else saved this segment meanwhile" in text(late)
    assert Segment.objects.get().condition["all"][0]["value"] == 5


def test_it_offers_json_for_what_rows_cannot_show(marketer: Client) -> None:
    tree = {"not": {"all": [BUYERS["all"][0]]}}
    segments.create(name="Loyal", condition=tree)
    shown = text(marketer.get("/segments/loyal/edit/"))
    assert "The builder cannot show this segment" in shown
    assert "&quot;not&quot;" in shown
    assert 'name="r0-field"' not in shown
    broken = marketer.post("/segments/loyal/edit/", {"name": "Loyal", "json": "{", "version": "1", "act": "save"})
    assert broken.status_code == 422
    assert "This is no JSON" in text(broken)
    marketer.post("/segments/loyal/edit/", {"name": "Loyal", "json": json.dumps(BUYERS), "version": "1", "act": "save"})
    assert Segment.objects.get().condition == BUYERS


def test_the_panel_answers_while_somebody_types(marketer: Client) -> None:
    someone = person(3, name="Åsa Öberg")
    person(1)
    answer = marketer.post(
        "/segments/panel/",
        {**FORM, "person": "oberg"},
        headers={"HX-Request": "true", "HX-Target": "div#panel"},
    )
    told = text(answer)
    assert "<html" not in told
    assert "1 person" in told
    assert '<output class="seg-effect" id="effect-0" hx-swap-oob="true">−1</output>' in told
    assert f'<a class="strong" href="/customers/{someone.pk}/">Åsa Öberg</a>' in told
    assert "orders: 3 (at least 2)." in told
    circle = segments.create(name="A", key="a", condition=BUYERS)
    refused = marketer.post(
        "/segments/panel/", {"key": circle.key, "r0-field": "segment", "r0-op": "in", "r0-value": "a", "match": "all"}
    )
    assert "a segment cannot be inside itself: a → a" in text(refused)


def test_it_counts_exactly_when_somebody_waits_for_it(marketer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for orders in (1, 2, 3):
        person(orders)
    segments.create(name="Loyal", condition=BUYERS)
    given = counting.within

    def impatient(limit: float) -> Any:
        if limit <= counting.EXACT_SECONDS:
            raise counting.TooLong
        return given(limit)

    monkeypatch.setattr(counting, "within", impatient)
    guess = text(marketer.post("/segments/panel/", FORM))
    assert "About 2 people: 2 to 2, estimated from a sample of 3" in guess
    assert ">Count exactly</button>" in guess
    assert '<p class="count-line" role="status">2 people</p>' in text(
        marketer.post("/segments/panel/", {**FORM, "act": "exact"})
    )
    assert '<a href="?exact=1">Count exactly</a>' in text(marketer.get("/segments/loyal/"))
    assert "About" not in text(marketer.get("/segments/loyal/?exact=1"))


def test_it_shows_each_kind_of_row(marketer: Client) -> None:
    segments.create(name="Loyal", key="loyal", condition=BUYERS)
    person(2, country="SE")
    EventFactory(customer=Customer.objects.get(), name="visit")
    segments.create(name="Wide", condition={"all": [*EVERY_ROW, {"any": EVERY_ROW}]})
    shown = text(marketer.get("/segments/wide/edit/"))
    assert shown.count("<fieldset") == 2 * len(EVERY_ROW) + 1
    assert '<option value="visit">' in shown
    assert '<option value="loyal" selected>Loyal</option>' in shown
    assert 'value="1250.5"' in shown


def test_it_keeps_a_static_list_on_its_page(marketer: Client) -> None:
    one, two = person(name="Åsa Öberg"), person(email="kim@example.org")
    marketer.post("/segments/new/", {"name": "Chosen", "kind": "static", "act": "save"})
    chosen = Segment.objects.get()
    assert chosen.kind == "static"
    page = marketer.post("/segments/chosen/members/", {"people": f"#{one.pk}\nkim@example.org\n"}, follow=True)
    assert "2 people were added." in text(page)
    assert "Åsa Öberg" in text(page)
    for people, refused in (
        (f"#{one.pk}\nnobody@example.org", "there is no “nobody@example.org”. Correct the line."),
        ("#1\n" * 501, "these are 501 lines, and at most 500 fit at once. Add them in parts."),
    ):
        page = marketer.post("/segments/chosen/members/", {"people": people})
        assert page.status_code == 422
        assert f"Nobody was added: {refused}" in text(page)
        assert people.strip() in page.content.decode()  # What was typed is still there.
        assert SegmentMember.objects.count() == 2
    marketer.post("/segments/chosen/members/", {"remove": str(two.pk)})
    assert SegmentMember.objects.get().customer == one
    marketer.post("/segments/chosen/edit/", {"name": "Picked", "note": "x", "version": "1", "act": "save"})
    chosen.refresh_from_db()
    assert (chosen.name, chosen.note, chosen.kind) == ("Picked", "x", "static")


def test_it_archives_restores_and_duplicates(marketer: Client) -> None:
    segments.create(name="A", key="a", condition=BUYERS)
    segments.create(name="B", key="b", condition={"segment": "a"})
    refused = marketer.post("/segments/a/archive/", headers={"Referer": "http://testserver/segments/a/"}, follow=True)
    assert "“A” is used in “B”" in text(refused)
    assert segments.get("a").archived_at is None
    marketer.post("/segments/b/archive/")
    assert segments.get("b").archived_at is not None
    assert [one.key for one in marketer.get("/segments/").context["segments"]] == ["a"]
    assert [one.key for one in marketer.get("/segments/?archived=1").context["segments"]] == ["b"]
    marketer.post("/segments/b/archive/")
    assert segments.get("b").archived_at is None
    assert marketer.post("/segments/a/duplicate/")["Location"] == "/segments/a-copy/edit/"


def test_it_tells_who_was_in_it_on_a_past_date(marketer: Client) -> None:
    person(2)
    segments.create(name="Loyal", condition=BUYERS)
    today = clock.today()
    assert "No night has counted this segment yet." in text(marketer.get(f"/segments/loyal/?on={today}"))
    membership.record(business_date=today, as_of=clock.day_end(today))
    page = text(marketer.get(f"/segments/loyal/?on={today}"))
    assert f'href="/customers/?segment=loyal&amp;segment_on={today}"' in page
    assert "first count of version 1" in page
    assert "only since" in text(marketer.get(f"/segments/loyal/?on={today - timedelta(days=3)}"))
    assert "This is no date." in text(marketer.get("/segments/loyal/?on=2026-02-31"))


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("analyst", 403), ("support", 403), ("marketer", 200)])
def test_only_marketers_and_above_change_segments(client: Client, db: None, role: str, status: int) -> None:
    person(2, name="Åsa Öberg")
    segments.create(name="Loyal", condition=BUYERS)
    client.force_login(UserFactory(role=role))
    assert client.get("/segments/").status_code == client.get("/segments/loyal/").status_code == 200
    assert client.get("/segments/new/").status_code == client.get("/segments/loyal/edit/").status_code == status
    if status == 403:
        assert client.post("/segments/loyal/archive/").status_code == 403
        assert client.post("/segments/loyal/members/", {"people": "1"}).status_code == 403
        assert segments.get("loyal").archived_at is None


def test_names_stay_hidden_from_who_may_not_see_them(client: Client, db: None) -> None:
    someone = person(2, name="Åsa Öberg")
    segments.create(name="Loyal", condition=BUYERS)
    client.force_login(UserFactory(role="analyst"))
    by_name = text(client.get("/segments/loyal/?person=oberg"))
    assert "Enter a customer&#x27;s number" in by_name
    by_number = text(client.get(f"/segments/loyal/?person=%23{someone.pk}"))
    assert "Å… Ö…" in by_number
    assert "Åsa" not in by_name + by_number


def test_an_unknown_segment_is_no_page_and_no_filter(marketer: Client) -> None:
    assert marketer.get("/segments/gone/").status_code == 404
    assert marketer.get("/customers/?segment=gone").status_code == 400


def test_pages_cost_as_many_queries_for_many_rows_as_for_one(marketer: Client) -> None:
    def cost(path: str) -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            assert marketer.get(path).status_code == 200
        return len(seen)

    segments.create(name="Loyal", key="loyal", condition=BUYERS)
    person(2)
    segments.create(name="A", key="a", condition={"segment": "loyal"})
    chosen = segments.create(name="Chosen", key="chosen", kind="static")
    segments.add_members(segment=chosen, customers=Customer.objects.values_list("pk", flat=True))
    paths = ("/segments/", "/segments/loyal/", "/segments/chosen/", "/segments/loyal/edit/", "/segments/a/edit/")
    few = {path: cost(path) for path in paths}
    for n in range(12):
        person(2)
        segments.create(name=f"S{n}", condition={"segment": "loyal"}, actor=UserFactory())
    segments.add_members(segment=chosen, customers=Customer.objects.values_list("pk", flat=True))
    assert {path: cost(path) for path in paths} == few
    assert max(few.values()) <= 30

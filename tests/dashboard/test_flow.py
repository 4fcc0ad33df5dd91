"""The page of the stage flow through its door: its numbers open lists of exactly so many people."""

from __future__ import annotations

import re
from datetime import date, timedelta
from html import unescape

import pytest
import time_machine
from django.db import connection
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from customers import segments
from lifecycle_crm.dashboard import rollups
from lifecycle_crm.dashboard.models import StageDay
from tests.api.factories import caller
from tests.dashboard.factories import move, noon, order, person
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

TODAY = date(2026, 3, 11)
LAST = TODAY - timedelta(days=1)


@pytest.fixture(autouse=True)
def _noon():
    with time_machine.travel(noon(TODAY), tick=False):
        yield


@pytest.fixture
def staff(client):
    client.force_login(UserFactory(role="marketer"))
    return client


def a_shop(people: int = 40) -> None:
    """Placed two months ago in Nurture; of every ten one goes dormant, one comes to Retain, one falls asleep and
    returns, and one is new."""
    for n in range(people):
        someone = person()
        move(someone, "", "nurture", LAST - timedelta(days=0 if n % 10 == 9 else 60))
        if n % 10 == 0:
            move(someone, "nurture", "dormant", LAST - timedelta(days=3), rule="goes_quiet")
        if n % 10 == 1:
            order(someone, LAST - timedelta(days=60))
            someone.facts.orders, someone.facts.first_order_at = 1, noon(LAST - timedelta(days=60))
            someone.facts.save(update_fields=["orders", "first_order_at"])
            move(someone, "nurture", "retain", LAST - timedelta(days=5))
        if n % 10 == 2:
            move(someone, "nurture", "dormant", LAST - timedelta(days=20), rule="goes_quiet")
            move(someone, "dormant", "nurture", LAST - timedelta(days=2))
    rollups.roll(LAST)


def links(html: str) -> list[tuple[str, str]]:
    """Every link of the page's content to a list of people: its address and its text."""
    main = html.partition('id="main"')[2]
    found = re.findall(r'<a href="(/customers/\?[^"]+)"[^>]*>(.*?)</a>', main, re.DOTALL)
    return [(unescape(url), re.sub(r"<[^>]+>", " ", text)) for url, text in found]


def test_it_opens_exactly_the_people_behind_every_number(staff):
    a_shop()
    answer = staff.get(reverse("dashboard:flow"))
    assert answer.status_code == 200
    found = links(answer.content.decode())
    assert len({url for url, _text in found}) > 20
    for url, text in found:
        number = re.search(r"\d+", text)
        if number is None:  # a bar of the ranked list, whose number stands beside it
            continue
        listed = staff.get(url)
        assert listed.status_code == 200, url
        assert listed.context["count"].value == int(number[0]), (url, text)


def test_it_tells_the_matrix_the_leak_and_the_ways(staff):
    a_shop()
    answer = staff.get(reverse("dashboard:flow"))
    matrix = {row["stage"] or "new": row for row in answer.context["matrix"]["rows"]}
    assert matrix["nurture"]["total"] == "36"
    # Reach, acquire, nurture, retain, advocate, dormant.
    assert [cell["text"] for cell in matrix["nurture"]["cells"]] == ["–", "–", "28", "4", "–", "4"]
    assert [cell.get("share") for cell in matrix["nurture"]["cells"]] == [None, None, "78%", "11%", None, "11%"]
    assert [cell["text"] for cell in matrix["new"]["cells"]] == ["–", "–", "4", "–", "–", "–"]
    standing = dict(StageDay.objects.filter(business_date=LAST).values_list("stage", "customers"))
    sums = [int(one["text"]) for one in answer.context["matrix"]["sums"]]
    assert sums == [standing[stage] for stage in ("reach", "acquire", "nurture", "retain", "advocate", "dormant")]
    assert answer.context["bottleneck"] == (
        "For its size, Nurture loses most: 8 of the 40 people who were there went dormant (20.0%). "
        "Stages with fewer than 30 people are not compared."
    )
    assert [line["text"] for line in answer.context["paths"]] == [
        "4 new people came into Nurture.",
        "4 people went from Nurture to Retain.",
        "4 people went from Nurture to Dormant.",
        "4 people went from Nurture to Dormant to Nurture.",
    ]
    assert [line["text"] for line in answer.context["speed"]] == [
        "4 people first came into Retain, half of them within 55 days of the first order."
    ]
    assert answer.context["chart"]["note"].startswith("20 moves,")


def test_it_draws_month_ends_between_the_dates(staff):
    a_shop()
    answer = staff.get(reverse("dashboard:flow"), {"since": "2026-01-05", "until": "2026-03-10", "columns": 4})
    assert answer.context["of"].days == [date(2026, 1, 5), date(2026, 1, 31), date(2026, 2, 28), date(2026, 3, 10)]
    assert {node["column"] for node in answer.context["chart"]["data"]["nodes"]} <= {0, 1, 2, 3}
    assert answer.context["chart"]["columns"][1]["label"] == "Between"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"until": "2026-03-11"}, "No night has been run for 11 Mar 2026 yet. Choose a date up to 10 Mar 2026."),
        ({"since": "2026-03-10"}, "Choose a date before 10 Mar 2026."),
        ({"since": "yesterday"}, "Enter a valid date."),
        ({"columns": "12"}, "Select a valid choice."),
    ],
)
def test_it_says_what_is_wrong_with_a_period(staff, asked, sentence):
    a_shop(10)
    answer = staff.get(reverse("dashboard:flow"), asked)
    assert answer.status_code == 400
    assert sentence in unescape(answer.content.decode())
    assert staff.get(reverse("dashboard:flow-csv", args=["matrix"]), asked).status_code == 404


def test_it_says_that_nothing_was_rolled_up_yet(staff):
    answer = staff.get(reverse("dashboard:flow"))
    assert answer.status_code == 200
    assert "Run a night first" in answer.content.decode()
    assert staff.get(reverse("dashboard:flow-csv", args=["matrix"])).status_code == 404


def test_it_names_no_bottleneck_among_few_people(staff):
    a_shop(10)
    assert "none can be called the bottleneck" in staff.get(reverse("dashboard:flow")).context["bottleneck"]


def test_it_asks_the_same_number_of_questions_for_any_number_of_people(staff):
    a_shop(10)
    staff.get(reverse("dashboard:flow"))
    with CaptureQueriesContext(connection) as few:
        staff.get(reverse("dashboard:flow"))
    StageDay.objects.all().delete()
    a_shop(60)
    staff.get(reverse("dashboard:flow"))
    with CaptureQueriesContext(connection) as many:
        staff.get(reverse("dashboard:flow"))
    assert len(many) == len(few) <= 20


def test_it_gives_the_same_matrix_to_a_spreadsheet_and_to_a_program(staff):
    a_shop()
    lines = staff.get(reverse("dashboard:flow-csv", args=["matrix"])).content.decode().splitlines()
    assert lines[0] == "since,until,from,to,people,share"
    assert "2026-02-08,2026-03-10,nurture,dormant,4,0.1111" in lines
    answer = caller("stages:read").get("/api/v1/flows/?since=2026-02-08&until=2026-03-10")
    assert answer.status_code == 200
    cells = answer.json()["cells"]
    assert len(cells) == len(lines) - 1
    assert {"source": "nurture", "target": "dormant", "people": 4, "share": 0.1111} in cells
    assert (
        sum(cell["people"] for cell in cells)
        == StageDay.objects.filter(business_date=LAST).aggregate(n=Sum("customers"))["n"]
        == 40
    )


@pytest.mark.parametrize(
    "query", ["since=2026-03-10&until=2026-02-01", "since=x", "until=2026-03-11", "since=2026-03-10"]
)
def test_it_refuses_a_program_that_asks_for_no_period(db, query):
    a_shop(10)
    assert caller("stages:read").get(f"/api/v1/flows/?{query}").status_code == 400
    assert caller("orders:read").get("/api/v1/flows/").status_code == 403


def test_it_says_why_people_left_and_how_long_they_stayed(staff):
    a_shop()
    answer = staff.get(reverse("dashboard:flow"))
    [leak] = answer.context["leaks"]
    assert (leak["stage"], [(row["label"], row["value"]) for row in leak["rows"]]) == ("nurture", [("Goes quiet", "8")])
    assert staff.get(leak["rows"][0]["url"]).context["count"].value == 8
    stays = {row["stage"]: row for row in answer.context["stays"]}
    # Of 44 stays 12 ended: 4 after 40 days, 4 after 55, 4 after 57; the others still run.
    assert (stays["nurture"]["stays"], stays["nurture"]["running"]) == ("44", "32")
    assert stays["nurture"]["days"] == ["40 days", "more than 60 days", "more than 60 days"]
    assert stays["nurture"]["strip"] == {"low": "131.3", "middle": "", "high": "194.0", "open": "open"}
    assert stays["reach"]["strip"] is None
    assert 'class="strip"' in answer.content.decode()


@pytest.mark.parametrize(
    ("panel", "line"),
    [
        ("matrix", "2026-02-08,2026-03-10,nurture,dormant,4,0.1111"),
        ("steps", "2026-02-28,2026-03-10,dormant,nurture,4,1.0"),
        ("funnel", "2026-02-08,2026-03-10,nurture,40,4,8"),
        ("reasons", "2026-02-08,2026-03-10,nurture,goes_quiet,8"),
        ("stays", "2026-03-10,dormant,18,18,18,18,8,8,4"),
        ("speed", "2026-02-08,2026-03-10,retain,4,55"),
        ("ways", "2026-02-08,2026-03-10,nurture > dormant > nurture,4"),
    ],
)
def test_it_gives_every_panel_to_a_spreadsheet(staff, panel, line):
    a_shop()
    asked = {"columns": 3} if panel == "steps" else {}
    lines = staff.get(reverse("dashboard:flow-csv", args=[panel]), asked).content.decode().splitlines()
    assert line in lines
    page = staff.get(reverse("dashboard:flow")).content.decode()
    assert f'href="{reverse("dashboard:flow-csv", args=[panel])}"' in page
    assert staff.get(reverse("dashboard:flow-csv", args=["else"])).status_code == 404


def test_it_tells_the_flow_of_a_segment_and_lists_its_people(staff):
    a_shop()
    condition = {"all": [{"fact": "orders", "op": "gte", "value": 1}]}
    segments.create(name="Buyers", condition=condition)
    answer = staff.get(reverse("dashboard:flow"), {"segment": "buyers"})
    assert answer.context["segment"] == "Buyers"
    matrix = {row["stage"]: row for row in answer.context["matrix"]["rows"]}
    assert [cell["text"] for cell in matrix["nurture"]["cells"]] == ["–", "–", "–", "4", "–", "–"]
    found = links(answer.content.decode())
    assert len(found) > 5
    for url, text in found:
        assert "segment=buyers" in url
        if number := re.search(r"\d+", text):
            assert staff.get(url).context["count"].value == int(number[0]), (url, text)
    assert staff.get(reverse("dashboard:flow"), {"segment": "nobody"}).status_code == 400

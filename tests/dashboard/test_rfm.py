"""The RFM page through its door: every cell, group and move opens exactly its people."""

from __future__ import annotations

from datetime import date, timedelta
from html import unescape

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from customers import rfm
from customers.models import CustomerFacts, RfmCuts, Segment
from lifecycle_crm.lib import clock
from tests.api.factories import caller
from tests.dashboard.factories import noon, person
from tests.dashboard.test_flow import links
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

TODAY = date(2026, 3, 11)
LAST = TODAY - timedelta(days=1)


@pytest.fixture(autouse=True)
def _noon():
    with time_machine.travel(noon(TODAY - timedelta(days=80)), tick=False) as clock_hand:
        yield clock_hand


@pytest.fixture
def staff(client, _noon):
    _noon.move_to(noon(TODAY))
    client.force_login(UserFactory(role="marketer"))
    _noon.move_to(noon(TODAY - timedelta(days=80)))
    return client


def buyers(score: tuple[int, int], count: int, minor: int = 1000, **facts) -> list[int]:
    made = [person().pk for _n in range(count)]
    CustomerFacts.objects.filter(pk__in=made).update(
        recency=score[0], frequency=score[1], monetary=3, orders=score[1], spend_minor=minor,
        first_order_at=clock.now() - timedelta(days=200), **facts,
    )  # fmt: skip
    return made


def record(day: date) -> None:
    rfm.record(business_date=day, as_of=clock.day_end(day))


@pytest.fixture
def shop(_noon) -> None:
    """Six champions of whom two cool down in the last month, three new buyers, a lost one, and one without an order."""
    RfmCuts.objects.create(
        computed_on=LAST, recency_days=[10, 30, 60, 120], frequency=[1, 2, 3, 5], monetary_minor=[1, 2, 3, 4], buyers=40
    )
    best = buyers((5, 5), 6, 5000, nps_score=10)
    buyers((1, 1), 1)
    fresh = buyers((5, 1), 3)
    CustomerFacts.objects.filter(pk__in=fresh).update(recency=None, frequency=None, orders=0)
    person()
    record(LAST - timedelta(days=40))
    CustomerFacts.objects.filter(pk__in=best[:2]).update(recency=2)
    CustomerFacts.objects.filter(pk__in=fresh).update(recency=5, frequency=1, orders=1)
    record(LAST)
    _noon.move_to(noon(TODAY))


def test_it_opens_exactly_the_people_behind_every_number(staff, shop):
    for layer in ("customers", "revenue"):
        answer = staff.get(reverse("dashboard:rfm"), {"layer": layer})
        cells = [cell for row in answer.context["grid"] for cell in row["cells"]]
        assert len(cells) == 25
        for cell in cells:
            if cell["url"]:
                people = int(cell["text" if layer == "customers" else "second"])
                assert staff.get(cell["url"]).context["count"].value == people
    answer = staff.get(reverse("dashboard:rfm"))
    groups = {group["name"]: group for group in answer.context["groups"]}
    assert {name: group["people"] for name, group in groups.items() if group["url"]} == {
        "Champions": "4", "New": "3", "Cannot lose": "2", "Lost": "1",
    }  # fmt: skip
    found = [link for link in links(answer.content.decode()) if link[1].split(",")[0].strip().isdigit()]
    assert len(found) > 10
    for url, text in found:
        assert staff.get(url).context["count"].value == int(text.split(",")[0]), url


def test_it_tells_who_changed_groups(staff, shop):
    moved = staff.get(reverse("dashboard:rfm")).context["moved"]
    assert (moved["since"], moved["until"], moved["total"]) == (LAST - timedelta(days=30), LAST, 5)
    # What cooled down comes first, with what these people have spent so far.
    rows = [(row[0]["text"], row[0]["sub"], row[1]["text"], row[2]["text"]) for row in moved["rows"]]
    assert rows == [
        ("Champions → Cannot lose", "cooled down", "2", "US$100"),
        ("No order yet → New", "first order", "3", "US$30"),
    ]
    assert moved["sentence"] == "2 people who have spent US$100 cooled down, 0 people warmed up."


def test_it_compares_any_two_recorded_dates(staff, shop):
    record(LAST - timedelta(days=20))  # an older date than the newest is left alone
    asked = {"since": str(LAST - timedelta(days=12)), "on": str(LAST)}
    answer = staff.get(reverse("dashboard:rfm"), asked)
    assert (answer.context["moved"]["since"], answer.context["moved"]["total"]) == (LAST - timedelta(days=12), 5)
    assert "The change is against the end of 26 Feb 2026." in answer.content.decode()
    nobody = staff.get(reverse("dashboard:rfm"), {"since": str(LAST), "on": str(LAST)})
    assert nobody.context["moved"]["total"] == 0
    refused = staff.get(reverse("dashboard:rfm"), {"since": str(LAST), "on": str(LAST - timedelta(days=1))})
    assert refused.status_code == 400
    assert "Choose a date up to 9 Mar 2026." in unescape(refused.content.decode())
    assert staff.get(reverse("dashboard:rfm-csv", args=["moves"]), {"on": "2031-01-01"}).status_code == 404


def test_it_opens_a_cell_with_where_its_group_came_from(staff, shop):
    answer = staff.get(reverse("dashboard:rfm"), {"cell": "2-5"})
    panel = answer.context["panel"]
    assert (panel["group"], panel["people"], panel["spend"]) == ("Cannot lose", "2", "US$100")
    assert [(one["label"], one["value"]) for one in panel["came"]] == [("Champions", "2")]
    assert (panel["went"], panel["went_sum"]) == ([], "0")
    assert staff.get(panel["came"][0]["url"]).context["count"].value == 2
    assert staff.get(panel["people_url"]).context["count"].value == 2
    assert 'id="cell"' in answer.content.decode()
    assert staff.get(reverse("dashboard:rfm"), {"cell": "6-1"}).context["panel"] is None
    left = staff.get(reverse("dashboard:rfm"), {"cell": "5-5"}).context["panel"]
    assert [(one["label"], one["value"]) for one in left["went"]] == [("Cannot lose", "2")]


def test_it_shows_whom_it_can_reach_and_which_groups_grow(staff, shop):
    CustomerFacts.objects.filter(recency=5, frequency=5).update(may_email=True)
    one = CustomerFacts.objects.filter(recency=5, frequency=1).first()
    CustomerFacts.objects.filter(pk=one.pk).update(may_email=True)
    grid = staff.get(reverse("dashboard:rfm"), {"layer": "reach"}).context["grid"]
    assert [cell["text"] for cell in grid[0]["cells"]] == ["33%", "–", "–", "–", "100%"]
    panel = staff.get(reverse("dashboard:rfm"), {"cell": "5-1"}).context["panel"]
    assert (panel["reachable"], panel["reachable_share"]) == ("1", "33%")
    assert staff.get(panel["reachable_url"]).context["count"].value == 1
    net = staff.get(reverse("dashboard:rfm"), {"layer": "net"}).context["grid"]
    # New: three came. Champions (both cells of the group): two left.
    assert [(cell["text"], cell["css"]) for cell in net[0]["cells"]] == [
        ("+3", "net-up-3"), ("±0", "faint"), ("±0", "faint"), ("−2", "net-down-2"), ("−2", "net-down-2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "lines"),
    [
        ("grid", {"recency,frequency,group,customers,spend,currency,nps,answers,reachable",
                  "5,5,champions,4,200.00,USD,100.0,4,0", "1,1,lost,1,10.00,USD,,0,0"}),
        ("sizes", {"2026-03-10,champions,4,200.00,USD", "2026-02-08,champions,6,300.00,USD"}),
        ("groups", {"champions,4,200.00,USD,100.0,4,0", "lost,1,10.00,USD,,0,0", "loyal,0,0.00,USD,,0,0"}),
        ("scores", {"5,10,,,USD", "4,30,5,0.04,USD", "1,,1,0.01,USD"}),
        ("moves", {"2026-02-08,2026-03-10,champions,cannot_lose,2,100.00,USD", "2026-02-08,2026-03-10,none,new,3,30.00,USD"}),
    ],
)  # fmt: skip
def test_it_gives_its_tables_to_a_spreadsheet(staff, shop, table, lines):
    answer = staff.get(reverse("dashboard:rfm-csv", args=[table]))
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert lines <= set(answer.content.decode().splitlines())
    assert staff.get(reverse("dashboard:rfm-csv", args=["else"])).status_code == 404


def test_it_saves_a_cell_or_its_group_as_a_segment(staff, client, shop):
    answer = staff.post(reverse("dashboard:rfm-segment"), {"cell": "5-5", "do": "group"})
    made = Segment.objects.get(name="Champions")
    assert answer.url == reverse("customers:segment", args=[made.key])
    listed = staff.get(reverse("customers:list"), {"segment": made.key}).context["count"].value
    assert listed == 4
    staff.post(reverse("dashboard:rfm-segment"), {"cell": "2-5"})
    cell = Segment.objects.get(name="Cannot lose, recency 2, frequency 5")
    assert staff.get(reverse("customers:list"), {"segment": cell.key}).context["count"].value == 2
    assert staff.post(reverse("dashboard:rfm-segment"), {"cell": "9-9"}).status_code == 404
    client.force_login(UserFactory(role="viewer"))
    assert client.post(reverse("dashboard:rfm-segment"), {"cell": "5-5"}).status_code == 403
    assert Segment.objects.count() == 2


def test_it_knows_no_move_into_the_first_recorded_date(staff, shop):
    answer = staff.get(reverse("dashboard:rfm"), {"on": str(LAST - timedelta(days=40))})
    assert answer.context["moved"]["total"] == 0
    assert "Nobody changed groups since 29 Jan 2026" in answer.content.decode()


def test_it_shows_the_groups_of_any_past_date(staff, shop):
    now = staff.get(reverse("dashboard:rfm")).context["past"]["rows"]
    assert (now[0][0], now[0][1]["text"], now[0][2]["text"], now[0][3]["text"]) == ("Champions", "4", "−2", "US$200")
    then = staff.get(reverse("dashboard:rfm"), {"on": str(LAST - timedelta(days=5))}).context["past"]["rows"]
    assert (then[0][1]["text"], then[0][2]["text"]) == ("6", "±0")
    refused = staff.get(reverse("dashboard:rfm"), {"on": str(TODAY)})
    assert refused.status_code == 400
    assert "Groups are known from 29 Jan 2026 to 10 Mar 2026." in unescape(refused.content.decode())


def test_it_says_when_the_cut_points_come_from_few_buyers(staff, shop):
    page = staff.get(reverse("dashboard:rfm")).content.decode()
    assert "The cut points come from 40 buyers. Below 100 buyers the groups are mostly chance" in page
    assert "up to 10 days" in page
    assert "more than 120 days" in page
    RfmCuts.objects.update(buyers=100)
    assert "mostly chance" not in staff.get(reverse("dashboard:rfm")).content.decode()


def test_it_shows_answers_in_the_grid(staff, shop):
    grid = staff.get(reverse("dashboard:rfm"), {"layer": "nps"}).context["grid"]
    assert grid[0]["cells"][4]["text"] == "+100 (4 answers)"
    assert grid[4]["cells"][0]["text"] == "–"


def test_it_says_that_nobody_has_scores_yet(staff):
    assert "Nobody has scores yet" in staff.get(reverse("dashboard:rfm")).content.decode()


def test_it_waits_for_a_night_to_tell_about_the_past(staff):
    RfmCuts.objects.create(
        computed_on=LAST, recency_days=[1, 2, 3, 4], frequency=[1, 2, 3, 4], monetary_minor=[1, 2, 3, 4], buyers=400
    )
    buyers((3, 3), 1)
    page = staff.get(reverse("dashboard:rfm"))
    assert page.context["past"] is None
    assert "appear after the next night" in page.content.decode()


def test_it_gives_the_groups_to_a_program(shop):
    answer = caller("customers:read").get(f"/api/v1/rfm/?on={LAST - timedelta(days=1)}")
    assert answer.json()["business_date"] == str(LAST - timedelta(days=40))
    assert answer.json()["groups"][0] == {"group": "champions", "customers": 6, "revenue_minor": 30000}
    assert len(answer.json()["groups"]) == 11
    assert caller("customers:read").get("/api/v1/rfm/?on=2020-01-01").status_code == 404
    assert caller("customers:read").get("/api/v1/rfm/?on=soon").status_code == 400
    assert caller("stages:read").get("/api/v1/rfm/").status_code == 403


def test_it_asks_the_same_number_of_questions_for_any_number_of_people(staff, shop):
    asked = {"layer": "net", "cell": "5-5"}
    staff.get(reverse("dashboard:rfm"), asked)
    with CaptureQueriesContext(connection) as few:
        staff.get(reverse("dashboard:rfm"), asked)
    for score in ((4, 4), (3, 3), (2, 2)):
        buyers(score, 30)
    with CaptureQueriesContext(connection) as many:
        answer = staff.get(reverse("dashboard:rfm"), asked)
    assert answer.context["buyers"] == 100
    assert len(many) == len(few) <= 18

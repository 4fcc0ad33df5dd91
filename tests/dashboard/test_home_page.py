"""Home through its door: the same numbers as the rows, and the same number of queries for any number of customers."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from customers.models import ImportRun
from feedback.scores import nps as nps_of
from lifecycle_crm import night
from lifecycle_crm.dashboard import metrics, period_rollups, queries, rollups
from lifecycle_crm.dashboard.metrics import Share
from lifecycle_crm.dashboard.models import FlowDay, StageDay, TradeDay
from lifecycle_crm.dashboard.queries import Cohort, period
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.models import Note
from stages.models import Night
from tests.dashboard.factories import move, noon, order, person, rules
from tests.factories import UserFactory
from tests.readable import faults

pytestmark = pytest.mark.django_db

TODAY = date(2026, 3, 11)
LAST = TODAY - timedelta(days=1)
MOST_QUERIES = 20


@pytest.fixture(autouse=True)
def _noon():
    with time_machine.travel(noon(TODAY), tick=False):
        yield


@pytest.fixture
def staff(client):
    client.force_login(UserFactory(role="marketer"))
    return client


def a_night(day: date = LAST, **fields) -> Night:
    return Night.objects.create(
        **{
            "business_date": day,
            "as_of": clock.day_end(day),
            "rule_set": rules(),
            "state": "done",
            "counts": {"evaluated": 40, "moved": 3, "planned": 0},
            "started_at": clock.now(),
            "finished_at": clock.now() + timedelta(seconds=1.5),
            **fields,
        }
    )


def a_shop(people: int) -> None:
    """People who came two months ago, bought, and of whom a fifth went dormant in the last 30 days."""
    for model in (StageDay, FlowDay, TradeDay):
        model.objects.all().delete()
    for n in range(people):
        someone = person(spend_minor=2000)
        move(someone, "", "nurture", LAST - timedelta(days=60))
        order(someone, LAST - timedelta(days=60))
        if n % 2 == 0:
            order(someone, LAST - timedelta(days=n % 29), 2000)
        if n % 5 == 0:
            move(someone, "nurture", "dormant", LAST - timedelta(days=3))
        if n % 10 == 0:
            move(someone, "dormant", "retain", LAST - timedelta(days=1))
    rollups.roll(LAST)


def cards(answer) -> dict[str, dict]:
    return {card["key"]: card for card in answer.context["metrics"]}


def test_it_leads_the_first_steps_of_an_empty_shop(staff):
    page = staff.get("/").content.decode()
    assert "No customers yet" in page
    person()
    page = staff.get("/").content.decode()
    assert "One step to your first stages" in page
    assert reverse("night-run") in page


def test_it_shows_stages_moves_and_numbers_of_the_period(staff):
    a_shop(20)
    a_night()
    answer = staff.get("/")
    page = answer.content.decode()
    tiles = {tile["stage"]: tile for tile in answer.context["tiles"]}
    assert (tiles["nurture"]["count"], tiles["dormant"]["count"], tiles["retain"]["count"]) == ("16", "2", "2")
    assert tiles["dormant"]["change"] == "+2: 4 in, 2 out"
    assert tiles["nurture"]["share"] == "80% of everyone"
    assert "The largest leak is Nurture → Dormant with 4 moves." in page
    assert "The largest recovery is Dormant → Retain with 2 moves." in page
    assert "moved_from=nurture&amp;moved_to=dormant&amp;moved_since=2026-02-09&amp;moved_until=2026-03-10" in page
    assert "9 Feb 2026 to 10 Mar 2026" in page
    found = cards(answer)
    assert found["orders"]["value"] == "10"
    assert found["revenue"]["value"] == "US$200"
    assert found["churn"]["value"] is None
    assert (found["churn"]["have"], found["churn"]["need"]) == (20, 100)
    assert "Not enough data yet (20 of 100)" in page
    assert "Not enough data yet (0 of 50)" in page
    assert reverse("stages:night", args=["2026-03-10"]) in page[page.index("Last night") :]


def test_it_asks_at_most_twenty_questions_and_as_many_for_two_hundred_people_as_for_twenty(staff):
    a_night()

    def cost() -> int:
        staff.get("/")
        with CaptureQueriesContext(connection) as asked:
            assert staff.get("/").status_code == 200
        return len(asked)

    a_shop(20)
    few = cost()
    a_shop(200)
    assert cost() == few
    assert few <= MOST_QUERIES


def test_it_keeps_period_and_comparison_in_the_address(staff):
    a_shop(20)
    answer = staff.get("/", {"days": "7", "compare": "none"})
    assert "4 Mar 2026 to 10 Mar 2026" in answer.content.decode()
    assert all(card["delta"] is None for card in answer.context["metrics"])
    links = {option["label"]: option["url"] for option in answer.context["periods"]}
    assert links["90 days"] == "?days=90&compare=none"
    assert [o["label"] for o in answer.context["periods"] if o["active"]] == ["7 days"]
    assert staff.get("/", {"days": "8; drop table", "compare": "mars"}).context["period"].days == 30


def test_it_compares_with_nothing_when_the_time_before_is_not_all_known(staff):
    a_shop(20)
    assert cards(staff.get("/"))["revenue"]["delta"]["text"] == "up US$200"
    assert cards(staff.get("/", {"days": "90"}))["revenue"]["delta"] is None


def test_it_says_that_nothing_needs_you(staff):
    move(person(), "", "reach", LAST - timedelta(days=9))
    rollups.roll(LAST)
    a_night()
    assert "Nothing needs you today." in staff.get("/").content.decode()


def test_it_lists_what_needs_somebody_today_with_its_link(staff):
    a_shop(20)
    a_night(state="failed", error="boom")
    run = ImportRun.objects.create(
        kind="orders", file_name="nov.csv", path="x", state="done", is_dry_run=False, refused=18
    )
    lines = staff.get("/").context["today"]
    assert [(line.kind, line.text) for line in lines] == [
        ("bad", "The night of 10 Mar 2026 stopped. Stages may be behind."),
        ("info", "2 customers went dormant this week. Together they have spent US$40 with us."),
        ("warn", "The import of nov.csv refused 18 rows."),
    ]
    assert lines[2].url == reverse("customers:import-detail", args=[run.pk])
    assert "moved_to=dormant" in lines[1].url


def test_it_says_when_nights_are_missing(staff):
    a_shop(2)
    a_night(LAST - timedelta(days=2))
    [line, *_rest] = staff.get("/").context["today"]
    assert line.text == "2 nights have not been run, so these numbers are behind."


def test_it_downloads_the_numbers_of_a_panel(staff):
    a_shop(20)
    answer = staff.get(reverse("dashboard:home-csv", args=["flow"]))
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.content.decode().splitlines() == ["from,to,moves", "dormant,retain,2", "nurture,dormant,4"]
    lines = staff.get(reverse("dashboard:home-csv", args=["revenue"]), {"days": "7"}).content.decode().splitlines()
    assert lines[0] == "date,orders,revenue,revenue_first_buyers,revenue_regulars,currency"
    assert len(lines) == 8
    assert lines[-1] == "2026-03-10,1,20.00,0.00,0.00,USD"
    assert staff.get(reverse("dashboard:home-csv", args=["salaries"])).status_code == 404


def test_it_says_that_the_shop_is_a_sample(staff):
    words = "Sample shop: real purchases from 1997–98"
    assert words not in staff.get("/").content.decode()
    Note.objects.create(name="sample_shop")
    assert words in staff.get("/").content.decode()


def test_it_asks_for_a_sign_in(client):
    assert client.get("/").url == "/sign-in/?next=%2F"


# --- Numbers ----------------------------------------------------------------------------------------------------------


def test_it_calls_only_clear_changes_better_or_worse():
    def churn(hits: int, n: int = 1000) -> dict[str, str]:
        return metrics.churn(Share(hits, n, 50, 1000), LAST, "", ()).delta

    assert churn(55) == {"text": "no clear change", "direction": "flat", "verdict": "same"}
    assert churn(90) == {"text": "up 4.0 points", "direction": "up", "verdict": "worse"}
    assert churn(20) == {"text": "down 3.0 points", "direction": "down", "verdict": "better"}
    assert metrics.churn(Share(30, 100), LAST, "", ()).delta is None
    assert metrics.churn(Share(9, 99, 50, 1000), LAST, "", ()).shown is None


def test_it_shows_nps_with_its_interval_once_there_are_fifty_answers():
    few = metrics.nps(nps_of({10: 30, 0: 19}), None, LAST, "/feedback/")
    assert (few.shown, few.card("")["have"], few.card("")["need"]) == (None, 49, 50)
    enough = metrics.nps(nps_of({10: 30, 0: 20}), None, LAST, "/feedback/")
    assert enough.shown == "+20"
    assert enough.range == "95% certain: −7 to +47"


def test_it_counts_repurchase_over_a_longer_time_when_the_period_has_too_few():
    def first_buyers(day: date, buyers: int, returned: int) -> None:
        TradeDay.objects.create(
            business_date=day,
            orders=buyers,
            revenue_minor=0,
            buyers=buyers,
            first_buyers=buyers,
            first_revenue_minor=0,
            regular_revenue_minor=0,
            returned=returned,
        )

    ripe = LAST - timedelta(days=90)
    first_buyers(ripe, 40, 10)
    first_buyers(ripe - timedelta(days=100), 80, 20)
    of = period(LAST, 30, "previous")
    assert queries.cohorts(of) == (Cohort(ripe - timedelta(days=100), ripe, 120, 30), Cohort())
    first_buyers(ripe - timedelta(days=1), 100, 50)
    assert queries.cohorts(of)[0] == Cohort(ripe - timedelta(days=1), ripe, 140, 60)
    metric = metrics.repurchase(*queries.cohorts(of), LAST)
    assert metric.shown == "42.9%"
    assert metric.sample == "140 first buyers, 9 Dec 2025 to 10 Dec 2025"


def test_it_counts_each_customer_who_went_dormant_once_and_only_those_who_were_there(staff):
    start = LAST - timedelta(days=40)
    twice, new, asleep = person(), person(), person()
    move(twice, "", "retain", start)
    move(asleep, "", "dormant", start)
    for offset in (10, 2):
        move(twice, "retain", "dormant", LAST - timedelta(days=offset))
        if offset == 10:
            move(twice, "dormant", "retain", LAST - timedelta(days=5))
    move(new, "", "reach", LAST - timedelta(days=9))
    move(new, "reach", "dormant", LAST - timedelta(days=1))
    move(asleep, "dormant", "retain", LAST - timedelta(days=8))
    move(asleep, "retain", "dormant", LAST - timedelta(days=1))
    rollups.roll(LAST)
    row = period_rollups.retention(LAST, 30)
    assert row.lost == 1
    assert cards(staff.get("/"))["churn"]["sample"] == "1 of 1"


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("width", [1280, 320])
def test_it_draws_home_without_a_complaint(chromium, live_server, width):
    a_shop(20)
    a_night()
    user = UserFactory(role="owner")
    client = Client()
    client.force_login(user)
    chromium.context.add_cookies(
        [{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}]
    )
    chromium.set_viewport_size({"width": width, "height": 900})
    for address in ("/", "/stages/", "/stages/nights/", "/stages/nights/2026-03-10/", "/stages/rules/1/"):
        chromium.goto(address)
        if address == "/" and width == 1280:
            chromium.locator("figure[data-drawn]").first.wait_for()
        assert faults(chromium) == [], address


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_it_follows_a_night_until_it_is_done(chromium, live_server):
    person()
    client = Client()
    client.force_login(UserFactory(role="marketer"))
    chromium.context.add_cookies(
        [{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}]
    )
    chromium.goto("/")
    chromium.get_by_role("button", name="Run the first night").click()
    chromium.get_by_role("heading", name="Night of 10 Mar 2026").wait_for()
    chromium.get_by_text("No worker is running").wait_for()
    assert night.run(LAST).state == "done"
    chromium.get_by_text("seconds from start to end").wait_for()
    assert "Done" in chromium.locator(".page-head").inner_text()
    chromium.goto("/")
    chromium.get_by_role("heading", name="Who moved between stages?").wait_for()

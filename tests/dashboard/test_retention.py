"""Retention: what the nights keep of cohorts equals a plain recount, every number opens the people it counts, and the page
says what it does not know."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import time_machine
from django.core.cache import cache
from django.http import QueryDict
from django.urls import reverse

from customers import facts, trails
from customers.filters import CustomerFilter
from customers.models import Customer, Order
from lifecycle_crm import night, reactions, undo
from lifecycle_crm.dashboard import cohort_rollups, retention_panels, rollups
from lifecycle_crm.dashboard.cohort_rollups import HORIZON, Sums, begins, between, later
from lifecycle_crm.dashboard.models import CohortDay, LateDay
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.intervals import newcombe
from lifecycle_crm.lib.models import Note
from stages import rulesets
from stages.models import StageTransition
from tests.dashboard.factories import move, noon, order, person
from tests.dashboard.test_flow_rollups import QUICK
from tests.factories import UserFactory
from tests.roof.test_night import shop

pytestmark = pytest.mark.django_db
TODAY = date(2026, 3, 11)
LAST = TODAY - timedelta(days=1)
ONE = timedelta(days=1)


@pytest.fixture(autouse=True)
def hand():
    cache.clear()
    with time_machine.travel(noon(TODAY), tick=False) as hand:
        yield hand


def recount(unit: str, last: date) -> dict[tuple[date, int], Sums]:
    """Every cohort and period by going through every person."""
    found: dict[tuple[date, int], dict[str, int]] = defaultdict(lambda: dict.fromkeys(cohort_rollups.MEASURES, 0))
    undone = set(StageTransition.objects.filter(kind="undo").values_list("undoes", flat=True))
    for who in Customer.objects.all():
        orders = list(who.orders.filter(is_counted=True, placed_at__lt=clock.day_end(last)).order_by("placed_at", "id"))
        if not orders:
            continue
        days = [clock.business_date(one.placed_at) for one in orders]
        cohort = begins(unit, days[0])
        told: dict[int, dict[str, int]] = defaultdict(lambda: dict.fromkeys(cohort_rollups.MEASURES, 0))
        for number, (day, one) in enumerate(zip(days, orders, strict=True)):
            period = told[between(unit, cohort, begins(unit, day))]
            period["buyers"] = 1
            period["revenue_minor"] += one.base_minor
            period["newcomers"] += number == 0
            period["again"] += number == 1
        for one in who.transitions.exclude(kind="undo").exclude(pk__in=undone).order_by("id"):
            if one.to_stage == "dormant" and one.occurred_at >= orders[0].placed_at and one.business_date <= last:
                told[between(unit, cohort, begins(unit, one.business_date))]["lapsed"] += 1
                break
        for number, values in told.items():
            if number <= HORIZON:
                for name, value in values.items():
                    found[cohort, number][name] += value
    return {key: Sums(**values) for key, values in found.items()}


def assert_told(last: date) -> None:
    for unit in ("month", "week"):
        assert cohort_rollups.by_period(unit, date(2024, 1, 1), last) == recount(unit, last)
    assert rollups.problems() == []


def test_it_keeps_what_a_recount_counts_after_nights_late_news_and_an_undone_night(hand):
    shop(40, days=46)
    rulesets.publish(rule_set=rulesets.draft(based_on=None, rules=QUICK, actor=None, name="Quick"), actor=None)
    night.replay(TODAY - timedelta(days=45), LAST)
    assert_told(LAST)
    assert CohortDay.objects.filter(lapsed__gt=0).exists()
    assert CohortDay.objects.filter(again__gt=0).exists()

    # Somebody's first order turns up late, from another month; somebody else's first order is cancelled.
    fell = StageTransition.objects.filter(to_stage="dormant").order_by("id").first().customer
    before = list(CohortDay.objects.order_by("pk").values_list("unit", "cohort", "business_date", "again"))
    late = order(fell, TODAY - timedelta(days=100))
    gone = Order.objects.exclude(customer=fell).order_by("placed_at").first()
    Order.objects.filter(pk=gone.pk).update(is_counted=False, status="cancelled")
    for one in (late, gone):
        facts.mark([one.customer_id], occurred_at=one.placed_at, is_history=True)
    reactions.drain(as_of=clock.whole_now())
    rollups.late_orders([late.pk, gone.pk])
    reactions.settle()
    hand.move_to(noon(TODAY + ONE))
    night.run(TODAY)
    assert not LateDay.objects.exists()
    assert_told(TODAY)
    assert before != list(CohortDay.objects.order_by("pk").values_list("unit", "cohort", "business_date", "again"))

    undo.undo(day=TODAY, actor=None)
    assert_told(TODAY)

    # A shop whose rows are from an older version gets all of them anew, in one statement, to the same numbers.
    rows = list(CohortDay.objects.order_by("business_date", "unit", "cohort").values_list(*ROW))
    CohortDay.objects.all().delete()
    Note.objects.filter(name="rollups").update(value={"version": 2})
    rollups.roll(TODAY)
    assert list(CohortDay.objects.order_by("business_date", "unit", "cohort").values_list(*ROW)) == rows


ROW = ("business_date", "unit", "cohort", *cohort_rollups.MEASURES)


def test_periods_follow_the_calendar():
    assert (begins("month", date(2026, 3, 31)), begins("week", date(2026, 3, 8))) == (
        date(2026, 3, 1),
        date(2026, 3, 2),
    )
    assert later("month", date(2025, 11, 1), 3) == date(2026, 2, 1)
    assert later("month", date(2026, 1, 1), -1) == date(2025, 12, 1)
    assert later("week", date(2025, 12, 29), 1) == date(2026, 1, 5)
    assert between("month", date(2025, 11, 1), date(2026, 2, 1)) == 3
    assert between("week", date(2025, 12, 29), date(2026, 1, 5)) == 1


def story() -> None:
    """Four people of December and two of January, a year ago two others; stages are known since December."""
    people = [person() for _ in range(4)]
    for who in people:
        order(who, date(2025, 12, 10))
    order(people[0], date(2025, 12, 20))
    order(people[1], date(2026, 1, 5), minor=3000)
    order(people[1], date(2026, 2, 5))
    order(people[2], date(2026, 3, 2))
    order(people[3], date(2026, 1, 7), is_counted=False, status="cancelled")
    for who in people:
        move(who, "", "nurture", date(2025, 12, 1))
    move(people[3], "nurture", "dormant", date(2026, 2, 20))
    new = [person() for _ in range(2)]
    for who in new:
        order(who, date(2026, 1, 31))
    order(new[0], date(2026, 2, 1))
    year_before = [person() for _ in range(2)]
    for who in year_before:
        order(who, date(2024, 12, 24))
        order(who, date(2025, 1, 24))
    rollups.roll(LAST)


def cells(page: Any) -> dict[str, list[str]]:
    return {row["name"]: [cell.get("text", "") for cell in row["cells"]] for row in page.context["table"]["rows"]}


@pytest.fixture
def staff(client):
    client.force_login(UserFactory(role="viewer"))
    return client


URL = "/insights/retention/"


def test_it_shows_each_measure_with_what_goes_on_and_what_has_not_come(staff):
    story()
    page = staff.get(URL, {"periods": 6})
    assert cells(page) == {
        "Jan 2026": ["0%", "50%", "50%", "", "", "", ""],
        "Dec 2025": ["25%", "50%", "50%", "75%", "", "", ""],
        "Dec 2024": ["0%", "100%", "100%", "100%", "100%", "100%", "100%"],
    }
    january, december, old = page.context["table"]["rows"]
    assert [cell.get("css", "") for cell in december["cells"]][3] == "running"
    assert (january["size"], december["size"], old["size"]) == ("2", "4", "2")
    # The running cells are no part of it: 1 of 2 and 2 of 4 and 2 of 2, after one month.
    assert [cell.get("text", "") for cell in page.context["table"]["average"]] == [
        "12%", "62%", "67%", "100%", "100%", "100%", "100%",
    ]  # fmt: skip
    assert cells(staff.get(URL, {"periods": 6, "measure": "in"}))["Dec 2025"] == [
        "100%",
        "25%",
        "25%",
        "25%",
        "",
        "",
        "",
    ]
    assert cells(staff.get(URL, {"periods": 6, "measure": "revenue"}))["Dec 2025"] == [
        "US$12", "US$20", "US$22", "US$25", "", "", "",
    ]  # fmt: skip
    awake = cells(staff.get(URL, {"periods": 6, "measure": "awake"}))
    assert awake["Dec 2025"] == ["100%", "100%", "75%", "75%", "", "", ""]
    assert awake["Dec 2024"] == ["?"] * 7


def test_it_compares_with_the_same_cohorts_a_year_before(staff):
    story()
    page = staff.get(URL, {"periods": 6, "compare": "on"})
    assert cells(page)["Dec 2025"] == ["+25.0", "−50.0", "−50.0", "–", "", "", ""]
    assert "50%, a year before 100%" in page.content.decode()


def test_every_number_opens_the_people_it_counts(staff):
    story()
    for measure in ("by", "in", "revenue", "awake"):
        table = staff.get(URL, {"periods": 12, "measure": measure}).context["table"]
        for row, first in zip(table["rows"], (date(2026, 1, 1), date(2025, 12, 1), date(2024, 12, 1)), strict=True):
            assert opened(row["url"]) == int(row["size"])
            of = retention_panels.asked(
                "month", measure, 12, is_compared=False, last=LAST, known_since=date(2025, 12, 1)
            ).cohort(first)
            for cell, told in zip(row["cells"], of.cells, strict=False):
                if cell.get("url"):
                    assert opened(cell["url"]) == (of.size if measure == "revenue" else told.hits)
                else:
                    assert not told.hits


def opened(url: str) -> int:
    found = CustomerFilter(QueryDict(urlsplit(url).query), Customer.objects.all())
    assert found.is_valid()
    assert found.chips("/", QueryDict())
    return found.qs.count()


def test_the_list_says_the_way_in_words(staff):
    story()
    row = staff.get(URL, {"periods": 6}).context["table"]["rows"][1]
    shown = staff.get(row["cells"][1]["url"]).content.decode()
    assert "first order between 1 Dec 2025 and 31 Dec 2025" in shown
    assert "second order between 1 Dec 2025 and 31 Jan 2026" in shown


def test_it_says_whether_the_newer_ones_come_back_more(staff):
    people = [[person() for _ in range(n)] for n in (120, 150)]
    for first, some, back in ((date(2025, 10, 5), people[0], 60), (date(2024, 10, 5), people[1], 30)):
        for number, who in enumerate(some):
            order(who, first)
            if number < back:
                order(who, first + timedelta(days=40))
    rollups.roll(LAST)
    told = staff.get(URL).context["sentence"]
    assert told == (
        "Of 120 people whose first order was in Oct 2025, 50% bought again by the end of the 3 months after. A year before it "
        "was 20% of 150. The newer ones come back more: by +18.7 to +40.4 points, 95% certain."
    )
    low, high = newcombe(60, 120, 30, 150)
    assert (round(low, 3), round(high, 3)) == (0.187, 0.404)
    weekly = staff.get(URL, {"unit": "week"}).context["sentence"]
    assert "the end of the 8 weeks after" in weekly


def test_it_says_when_it_is_too_few_or_nothing_is_older(staff):
    story()
    assert staff.get(URL).context["sentence"] == "There are no older cohorts to compare with yet."
    who = person()
    order(who, date(2024, 11, 5))
    rollups.roll(LAST)
    cohort_rollups.roll([date(2024, 11, 5)])
    told = staff.get(URL).context["sentence"]
    assert told.endswith("Of those in Nov 2024 it was 0% of 1. That is too few people to say more.")


def test_it_asks_for_two_whole_periods_first(staff):
    assert "Nothing to compare yet" in staff.get(URL).content.decode()
    order(person(), date(2026, 2, 10))
    rollups.roll(LAST)
    assert "Nothing to compare yet" in staff.get(URL).content.decode()
    assert staff.get(reverse("dashboard:retention-csv")).status_code == 200


def test_it_names_what_it_does_not_understand_and_shows_the_usual(staff):
    story()
    for query in ({"unit": "century"}, {"periods": "7"}, {"measure": "luck"}, {"periods": "²"}):
        page = staff.get(URL, query)
        assert page.status_code == 400
        assert "Dec 2025" in cells(page)
    assert staff.get(URL, {"unit": "century"}).context["form"].errors["unit"]


def test_it_gives_every_measure_to_a_spreadsheet(staff):
    story()
    rows = list(csv.DictReader(io.StringIO(staff.get(reverse("dashboard:retention-csv")).content.decode())))
    [row] = [one for one in rows if (one["cohort"], one["period"]) == ("2025-12-01", "2")]
    assert row == {
        "unit": "month", "cohort": "2025-12-01", "customers": "4", "period": "2", "since": "2026-02-01",
        "until": "2026-02-28", "is_complete": "yes", "bought_in_period": "1", "bought_again_by_then": "2",
        "revenue_so_far": "90.00", "currency": "USD", "never_dormant_so_far": "3",
    }  # fmt: skip
    assert [one["never_dormant_so_far"] for one in rows if one["cohort"] == "2024-12-01"][:2] == ["", ""]


def test_the_page_costs_the_same_however_many_people_there_are(staff, django_assert_max_num_queries):
    story()
    with django_assert_max_num_queries(12):
        staff.get(URL, {"periods": 24, "compare": "on"})


def test_ways_by_orders_are_read_as_they_are_written():
    for place in trails.ORDERED:
        way = trails.Way("orders", (place,), date(2026, 1, 1), date(2026, 1, 31))
        assert trails.parse(str(way)) == way
    for text in (
        "orders:third@2026-01-01..2026-01-31",
        "orders:first@2026-01-01",
        "orders:first@2026-02-01..2026-01-01",
    ):
        with pytest.raises(trails.BadWay):
            trails.parse(text)

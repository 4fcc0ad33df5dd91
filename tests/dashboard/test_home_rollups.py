"""Rollups against a count of the rows they are made from."""

from __future__ import annotations

import random
from datetime import date, timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from customers import facts
from customers.models import Customer, Order, Refund
from lifecycle_crm import night
from lifecycle_crm.dashboard import flow_rollups, period_rollups, rollups
from lifecycle_crm.dashboard.models import FlowDay, LateDay, ReportDay, RetentionDay, StageDay, TradeDay
from lifecycle_crm.lib import clock
from stages.models import StageKey
from tests.dashboard.factories import move, noon, order, person
from tests.roof.test_night import shop

pytestmark = pytest.mark.django_db

DAY = date(2026, 3, 10)


def days(n: int) -> timedelta:
    return timedelta(days=n)


def rows() -> list[tuple]:
    found = [
        *StageDay.objects.order_by("pk").values_list(),
        *FlowDay.objects.order_by("pk").values_list(),
        *TradeDay.objects.order_by("pk").values_list(),
    ]
    return [tuple(row) for row in found]


def standing(day: date) -> dict[str, int]:
    return dict(StageDay.objects.filter(business_date=day).values_list("stage", "customers"))


def test_it_counts_who_stands_where_and_who_moved_on_a_first_date():
    for _n in range(3):
        move(person(), "", "reach", DAY - days(2))
    buyer = person()
    move(buyer, "", "acquire", DAY - days(1))
    move(buyer, "acquire", "nurture", DAY)

    rollups.roll(DAY)

    assert standing(DAY) == {"reach": 3, "acquire": 0, "nurture": 1, "retain": 0, "advocate": 0, "dormant": 0}
    assert standing(DAY - days(1))["acquire"] == 1
    moves = FlowDay.objects.filter(business_date=DAY).values_list("from_stage", "to_stage", "moves")
    assert list(moves) == [("acquire", "nurture", 1)]
    row = StageDay.objects.get(business_date=DAY, stage="acquire")
    assert (row.entered, row.left) == (0, 1)


def test_it_writes_the_same_rows_when_a_date_is_rolled_again():
    someone = person()
    move(someone, "", "nurture", DAY)
    order(someone, DAY, 2500)
    rollups.roll(DAY)
    first = rows()
    rollups.roll(DAY)
    assert rows() == first


def test_it_agrees_with_a_count_of_all_moves_on_every_date():
    chance = random.Random(7)
    people = [(person(), "") for _n in range(30)]
    for offset in range(25):
        day = DAY + days(offset)
        for i, (who, stage) in enumerate(people):
            target = chance.choice(StageKey.values)
            if chance.random() < 0.2 and target != stage:
                move(who, stage, target, day)
                people[i] = (who, target)
        if offset % 3 != 1:  # a night that was missed is filled in by the next
            rollups.roll(day)
    last = DAY + days(24)
    rollups.roll(last)
    for day in clock.days(DAY, last):
        assert standing(day) == rollups.standing_from_moves(day)
    assert rollups.problems() == []


def test_it_shifts_later_dates_when_a_move_comes_late():
    one, other = person(), person()
    move(one, "", "reach", DAY)
    rollups.roll(DAY)
    rollups.roll(DAY + days(1))
    move(other, "", "retain", DAY)
    assert rollups.problems() != []
    rollups.roll(DAY)
    assert standing(DAY)["retain"] == 1
    assert standing(DAY + days(1))["retain"] == 1
    assert rollups.problems() == []


def test_it_rolls_a_date_before_the_first_one():
    move(person(), "", "reach", DAY - days(5))
    move(person(), "", "reach", DAY)
    StageDay.objects.bulk_create(
        StageDay(business_date=DAY, stage=s, customers=2 * (s == "reach"), entered=int(s == "reach"), left=0)
        for s in StageKey.values
    )
    flow_rollups.sign()
    rollups.roll(DAY - days(3))
    assert standing(DAY - days(3))["reach"] == 1
    assert standing(DAY)["reach"] == 2
    assert StageDay.objects.values("business_date").distinct().count() == 4


def test_it_sums_the_orders_of_a_business_date():
    regular, fresh = person(), person()
    for offset in (200, 100, 0):
        order(regular, DAY - days(offset), 1000)
    order(fresh, DAY, 300)
    order(fresh, DAY, 400)
    order(fresh, DAY, 9000, is_counted=False)
    order(person(), DAY + days(1), 5000)
    rollups.roll(DAY)
    row = TradeDay.objects.get(business_date=DAY)
    assert (row.orders, row.revenue_minor, row.buyers) == (3, 1700, 2)
    assert (row.first_buyers, row.first_revenue_minor) == (1, 700)
    assert row.regular_revenue_minor == 1000
    assert row.returned is None
    assert not TradeDay.objects.filter(business_date__gt=DAY).exists()


def test_it_takes_the_business_date_from_the_zone_of_the_shop():
    late = order(person(), DAY)
    Order.objects.filter(pk=late.pk).update(placed_at=clock.day_end(DAY))
    rollups.roll(DAY + days(1))
    assert TradeDay.objects.get(business_date=DAY + days(1)).orders == 1
    assert not TradeDay.objects.filter(business_date=DAY, orders__gt=0).exists()


def test_it_counts_who_came_back_only_when_their_ninety_days_are_over():
    back, same_day, too_late = person(), person(), person()
    for who in (back, same_day, too_late):
        order(who, DAY)
    order(same_day, DAY)
    order(back, DAY + days(90))
    order(too_late, DAY + days(91))
    rollups.roll(DAY + days(89))
    assert TradeDay.objects.get(business_date=DAY).returned is None
    rollups.roll(DAY + days(90))
    assert TradeDay.objects.get(business_date=DAY).returned == 1
    # An older night that is run again does not forget it.
    rollups.roll(DAY)
    assert TradeDay.objects.get(business_date=DAY).returned == 1


def test_it_counts_dates_again_that_an_order_came_to_late():
    someone = person()
    order(someone, DAY)
    rollups.roll(DAY)
    earlier = order(someone, DAY - days(3), 700)
    # Nobody has said so yet: the order of the day stands in the cohort of the month, and of the wrong week, as a first one.
    assert [problem.partition(": ")[0] for problem in rollups.problems()] == [f"Rollup of {DAY}"] * 3
    assert rollups.mark_late(customers=[someone.pk], earliest=earlier.placed_at) == 2
    rollups.roll(DAY + days(1))
    first, second = TradeDay.objects.get(business_date=DAY - days(3)), TradeDay.objects.get(business_date=DAY)
    assert (first.orders, first.first_buyers, first.revenue_minor) == (1, 1, 700)
    assert (second.orders, second.first_buyers) == (1, 0)
    assert not LateDay.objects.exists()
    assert rollups.problems() == []


def test_it_marks_nothing_for_orders_after_the_last_rolled_date():
    someone = person()
    assert rollups.mark_late(customers=[someone.pk], earliest=noon(DAY)) == 0
    order(someone, DAY)
    rollups.roll(DAY)
    assert rollups.mark_late(customers=[someone.pk], earliest=noon(DAY + days(1))) == 0
    assert not LateDay.objects.exists()


def test_it_names_what_disagrees():
    move(person(), "", "reach", DAY)
    order(person(), DAY)
    rollups.roll(DAY)
    FlowDay.objects.update(moves=5)
    StageDay.objects.filter(stage="reach").update(customers=9)
    TradeDay.objects.update(orders=3)
    assert len(rollups.problems()) == 3
    rollups.roll(DAY)
    assert rollups.problems() == []


def test_the_newest_date_is_counted_from_facts_as_from_all_orders():
    """Over a year of orders, and with some of today, which the facts know already."""
    with time_machine.travel(noon(DAY + days(1)), tick=False):
        shop(80, days=500)
        night.run(DAY)
        buyers = Customer.objects.filter(orders__isnull=False).distinct().order_by("pk")
        for who in buyers[:25]:
            order(who, DAY + days(1))
        facts.refresh_now([who.pk for who in buyers[:25]])
        order(buyers[30], DAY - days(40), is_counted=False, status="cancelled")
        for length in (*period_rollups.PERIODS, 180):
            told, plain = (one(DAY, length) for one in (period_rollups.count_newest, period_rollups.count))
            assert (told.buyers_before, told.came_back, told.lost) == (plain.buyers_before, plain.came_back, plain.lost)
            bought = {False: set(), True: set()}
            for pk, at in Order.objects.filter(is_counted=True).values_list("customer_id", "placed_at"):
                back = (DAY - clock.business_date(at)).days
                if 0 <= back < 2 * length:
                    bought[back < length].add(pk)
            assert (told.buyers_before, told.came_back) == (len(bought[False]), len(bought[False] & bought[True]))
        assert told.came_back > 10


def test_it_counts_an_earlier_period_again_only_when_something_came_to_it_late():
    someone = person()
    with time_machine.travel(noon(DAY + days(1)), tick=False):
        order(someone, DAY - days(50))
        order(someone, DAY - days(40))
        rollups.roll(DAY)
        assert RetentionDay.objects.get(business_date=DAY - days(30), days=30).came_back == 0
        earlier = order(someone, DAY - days(70))
        rollups.roll(DAY)
        assert RetentionDay.objects.get(business_date=DAY - days(30), days=30).came_back == 0
        rollups.mark_late(customers=[someone.pk], earliest=earlier.placed_at)
        rollups.roll(DAY)
        assert RetentionDay.objects.get(business_date=DAY - days(30), days=30).came_back == 1


def test_it_counts_retention_and_reports_only_for_the_newest_date():
    kept, lost = person(), person()
    with time_machine.travel(noon(DAY + days(1)), tick=False):
        for who in (kept, lost):
            order(who, DAY - days(40))
        order(kept, DAY)
        rollups.roll(DAY - days(1))
        assert not RetentionDay.objects.exists()
        assert not ReportDay.objects.exists()
        facts.refresh_now([kept.pk, lost.pk])
        rollups.roll(DAY)
    row = RetentionDay.objects.get(business_date=DAY, days=30)
    assert (row.buyers_before, row.came_back) == (2, 1)
    assert RetentionDay.objects.count() == 8
    assert period_rollups.retention(DAY, 365).buyers_before == 0
    assert ReportDay.objects.get().business_date == DAY


def test_it_asks_the_same_number_of_questions_for_ten_people_and_for_a_hundred():
    def cost(people: int, day: date) -> int:
        for _n in range(people):
            who = person()
            move(who, "", "reach", day)
            order(who, day)
        with CaptureQueriesContext(
            connection,
        ) as asked:
            rollups.roll(day)
        return len(asked)

    rollups.roll(DAY - days(1))
    assert cost(10, DAY) == cost(100, DAY + days(1))


def test_it_learns_of_late_orders_and_refunds_by_their_ids():
    someone = person()
    bought = order(someone, DAY)
    assert rollups.late_orders([bought.pk]) == 0
    rollups.roll(DAY)
    assert rollups.late_orders([bought.pk]) == 1
    LateDay.objects.all().delete()
    today = order(person(), DAY + days(1))
    assert rollups.late_orders([today.pk]) == 0
    refund = Refund.objects.create(
        order=bought, source="test", source_id="r", occurred_at=noon(DAY + days(2)), amount_minor=400
    )
    Order.objects.filter(pk=bought.pk).update(base_minor=600, refunded_minor=400)
    assert rollups.late_refunds([refund.pk]) == 1
    rollups.roll(DAY + days(2))
    assert TradeDay.objects.get(business_date=DAY).revenue_minor == 600

"""What the programme owes, as of any past date, and what it costs."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from customers.models import Customer
from lifecycle_crm.accounts.models import Role
from lifecycle_crm.lib import clock
from loyalty import effect, ledger, liability, tiers
from loyalty.models import Programme, TierChange
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, OrderFactory, give
from tests.loyalty.test_pages import text

pytestmark = pytest.mark.django_db

MARCH = clock.day_start(date(2026, 3, 10)) + timedelta(hours=12)


@pytest.fixture
def points() -> Programme:
    Programme.objects.update(value_minor_per_100=50)
    return Programme.objects.get()


def at(month: int, day: int, hour: int = 12) -> datetime:
    return clock.day_start(date(2026, month, day)) + timedelta(hours=hour)


def test_a_past_date_is_added_up_from_what_held_then(points: Programme) -> None:
    ada, bo = CustomerFactory(), CustomerFactory()
    give(ada, 1000, effective_at=at(1, 10), active_at=at(1, 24), expires_at=clock.day_end(date(2026, 6, 30)))
    give(bo, 300, effective_at=at(2, 5))
    ledger.activate_due(as_of=at(3, 1), low=0, high=2**40)
    ledger.redeem(customer=ada, points=400, key="r", effective_at=at(3, 5))
    ledger.authorise(customer=bo, points=50, key="h", effective_at=at(3, 6), expires_at=at(3, 8))
    ledger.release_due(as_of=at(3, 9), low=0, high=2**40)
    ledger.expire_due(as_of=at(7, 1), low=0, high=2**40)

    def stood(month: int, day: int) -> tuple[int, int, int, int, int]:
        found = liability.outstanding(points, date(2026, month, day))
        assert found.liability_minor == found.points // 2
        return found.pending, found.available, found.held, found.points, found.holders

    assert stood(1, 9) == (0, 0, 0, 0, 0)
    assert stood(1, 10) == (1000, 0, 0, 1000, 1)
    assert stood(1, 24) == (0, 1000, 0, 1000, 1)
    assert stood(2, 5) == (0, 1300, 0, 1300, 2)
    assert stood(3, 5) == (0, 900, 0, 900, 2)
    assert stood(3, 7) == (0, 850, 50, 900, 2)
    assert stood(3, 8) == (0, 900, 0, 900, 2)
    assert stood(6, 30) == (0, 900, 0, 900, 2), "the last day is included"
    assert stood(7, 1) == (0, 300, 0, 300, 1)


def test_what_was_recorded_later_is_told(points: Programme) -> None:
    give(CustomerFactory(), 80, effective_at=at(2, 5))
    found = liability.outstanding(points, date(2026, 2, 5))
    assert (found.points, found.recorded_later) == (80, 80)
    assert liability.outstanding(points, clock.today()).recorded_later == 0


def test_debt_is_told_beside_and_not_taken_off(points: Programme) -> None:
    ada = CustomerFactory()
    earned = give(ada, 100, key="e", effective_at=at(2, 1))
    ledger.redeem(customer=ada, points=100, key="r", effective_at=at(2, 2))
    ledger.reverse(entry=earned, key="v", effective_at=at(2, 3))
    give(CustomerFactory(), 30, effective_at=at(2, 3))
    found = liability.outstanding(points, date(2026, 2, 3))
    assert (found.points, found.debt) == (30, 100)


def test_a_cancelled_redemption_of_points_that_had_ended_never_makes_a_day_negative(points: Programme) -> None:
    ada = CustomerFactory()
    give(ada, 100, effective_at=at(2, 1), expires_at=clock.day_end(date(2026, 2, 10)))
    spend = ledger.redeem(customer=ada, points=100, key="r", effective_at=at(2, 2))
    ledger.cancel_redemption(entry=spend, key="c", effective_at=at(2, 20))
    assert [liability.outstanding(points, date(2026, 2, n)).points for n in (1, 2, 11, 19, 20)] == [100, 0, 0, 0, 0]


def test_the_calendar_names_months_people_and_worth_and_adds_up(points: Programme) -> None:
    ada, bo = CustomerFactory(), CustomerFactory()
    give(ada, 100, effective_at=at(1, 10), expires_at=clock.day_end(date(2026, 6, 30)))
    give(bo, 200, effective_at=at(1, 10), expires_at=clock.day_end(date(2026, 7, 1)))
    give(ada, 50, effective_at=at(1, 11), expires_at=clock.day_end(date(2026, 7, 31)))
    give(bo, 7, effective_at=at(1, 11))
    ledger.redeem(customer=ada, points=120, key="r", effective_at=at(2, 2))
    day = date(2026, 2, 1)
    rows = [(one.first, one.points, one.people, one.worth_minor) for one in liability.calendar(points, day)]
    assert rows == [(date(2026, 6, 1), 100, 1, 50), (date(2026, 7, 1), 250, 2, 125), (None, 7, 1, 3)]
    assert sum(row[1] for row in rows) == liability.outstanding(points, day).points
    after = [(one.first, one.points) for one in liability.calendar(points, date(2026, 2, 2))]
    assert after == [(date(2026, 7, 1), 230), (None, 7)]
    july = liability.people_of_month(points, day, date(2026, 7, 1))
    assert [(one.customer_id, one.points) for one in july] == [(bo.pk, 200), (ada.pk, 50)]
    assert [one.customer_id for one in liability.people_of_month(points, day, None)] == [bo.pk]


def test_what_is_owed_by_tier_is_that_of_the_tier_held_then(points: Programme) -> None:
    assert liability.by_tier(points, date(2026, 3, 1)) == [], "no tiers, no table"
    tiers.set_ladder(programme=points, steps=[tiers.Step("Silver", 100), tiers.Step("Gold", 500)])
    ada, bo, cy = CustomerFactory(), CustomerFactory(), CustomerFactory()
    for customer, number in ((ada, 600), (bo, 150), (cy, 40)):
        give(customer, number, effective_at=at(1, 10))
    for customer, before, after, moment in (
        (ada, "", "silver", at(2, 1)),
        (ada, "silver", "gold", at(3, 1)),
        (bo, "", "silver", at(2, 1)),
    ):
        TierChange.objects.create(
            programme=points, customer=customer, kind="up", from_tier=before, to_tier=after, counted=1,
            effective_at=moment,
        )  # fmt: skip
    ledger.redeem(customer=bo, points=150, key="r", effective_at=at(3, 5))

    def stood(month: int, day: int) -> list[tuple[str, int, int, int]]:
        found = liability.by_tier(points, date(2026, month, day))
        assert sum(one.points for one in found) == liability.outstanding(points, date(2026, month, day)).points
        return [(one.name, one.people, one.points, one.worth_minor) for one in found]

    assert stood(1, 20) == [("Gold", 0, 0, 0), ("Silver", 0, 0, 0), ("", 3, 790, 395)]
    assert stood(2, 1) == [("Gold", 0, 0, 0), ("Silver", 2, 750, 375), ("", 1, 40, 20)]
    assert stood(3, 5) == [("Gold", 1, 600, 300), ("Silver", 0, 0, 0), ("", 1, 40, 20)]
    tiers.set_ladder(programme=points, steps=[tiers.Step("Silver", 100)])
    assert stood(3, 5)[:2] == [("Silver", 0, 0, 0), ("gold", 1, 600, 300)], "a tier that is no more is named by its key"
    january, february, march = tiers.by_month(points, date(2026, 3, 31), count=3)
    assert (january.first, january.members, january.moves) == (date(2026, 1, 1), {}, {})
    assert (february.members, february.moves) == ({"silver": 2}, {("", "silver"): 2})
    assert (march.members, march.moves) == ({"silver": 1, "gold": 1}, {("silver", "gold"): 1})
    assert [one.members for one in tiers.by_month(points, date(2026, 3, 31), count=2)] == [
        february.members,
        march.members,
    ]


def test_months_tell_what_moved_and_what_was_left(points: Programme) -> None:
    ada = CustomerFactory()
    give(ada, 1000, key="e", effective_at=at(1, 10), expires_at=clock.day_end(date(2026, 3, 31)))
    spend = ledger.redeem(customer=ada, points=300, key="r", effective_at=at(2, 2))
    ledger.redeem(customer=ada, points=100, key="r2", effective_at=at(2, 3))
    ledger.cancel_redemption(entry=spend, key="c", effective_at=at(3, 2))
    ledger.adjust(customer=ada, points=40, key="a", actor=None, reason="Sorry", effective_at=at(3, 3))
    ledger.adjust(customer=ada, points=-10, key="b", actor=None, reason="Too much", effective_at=at(3, 4))
    ledger.expire_due(as_of=at(4, 1), low=0, high=2**40)
    rows = liability.months(points, date(2026, 4, 30), count=4)
    told = [(one.first.month, one.given, one.redeemed, one.expired, one.taken_back, one.outstanding) for one in rows]
    assert told == [
        (1, 1000, 0, 0, 0, 1000),
        (2, 0, 400, 0, 0, 600),
        (3, 40, -300, 0, 10, 930),
        (4, 0, 0, 890, 0, 40),
    ]
    assert [one.cost_minor for one in rows] == [0, 200, -150, 0]
    assert rows[-1].owed_minor == 20


# --- Breakage ---------------------------------------------------------------------------------------------------------


def lives(people: int, spenders: int) -> list[Customer]:
    """So many customers with a lot of 100 that ended in March, of whom some spent 100 after half of its life, and one that
    is half-way through its life in June."""
    found = [CustomerFactory() for _ in range(people)]
    rows = []
    for one in found:
        rows.append(ledger.Earning(one.pk, 100, f"a{one.pk}", at(1, 1), at(1, 1), at(3, 1)))
        rows.append(ledger.Earning(one.pk, 50, f"b{one.pk}", at(5, 1), at(5, 1), at(7, 1)))
    ledger.earn_many(rows)
    for one in found[:spenders]:
        ledger.redeem(customer=one, points=100, key=f"r{one.pk}", effective_at=at(2, 5))
    ledger.expire_due(as_of=at(3, 2), low=0, high=2**40)
    return found


def test_breakage_is_learnt_from_lots_at_the_same_share_of_their_life(points: Programme) -> None:
    lives(120, 65)
    early = liability.breakage(points, date(2026, 5, 5))
    assert (early.people, early.points_over, early.share_over) == (120, 12000, 5500 / 12000)
    assert early.points == 2750
    assert early.low < 2750 < early.high
    late = liability.breakage(points, date(2026, 6, 20))
    assert (late.points, late.low, late.high) == (6000, 5850, 6000), "whoever had not spent by then never did"
    assert late.worth_minor == 3000


def test_breakage_says_when_there_is_not_enough_data(points: Programme) -> None:
    lives(99, 10)
    found = liability.breakage(points, date(2026, 5, 5))
    assert (found.people, found.points, found.low, found.worth_minor) == (99, None, None, None)


# --- Effect -----------------------------------------------------------------------------------------------------------


def bought(customer: Customer, when: datetime, amount: int) -> None:
    OrderFactory(customer=customer, placed_at=when, amount_minor=amount, base_minor=amount)


def test_the_effect_compares_members_with_others_who_were_alike_before(points: Programme) -> None:
    until = date(2026, 10, 31)
    start = clock.day_end(until) - timedelta(days=180)
    joined, before = start - timedelta(days=30), start - timedelta(days=200)
    for n in range(240):
        one = CustomerFactory()
        bought(one, before, 1000 if n % 4 < 2 else 9000)
        is_member = n % 2 == 0
        if is_member:
            give(one, 10, key=f"j{n}", effective_at=joined)
        if n % 8 != 1:  # a quarter of the others does not come back
            bought(one, start + timedelta(days=10), 5000 + (700 if is_member else 0) + n % 8)
    found = effect.effect(points, until)
    assert (found.members, found.others, found.matched, found.compared, found.strata) == (120, 120, 120, 120, 2)
    assert found.difference_minor is not None
    assert (found.members_again, found.others_again, found.difference_again) == (1.0, 0.75, 0.25)
    assert found.low_again < 0.25 < found.high_again
    assert 0.1 < found.high_again - found.low_again < 0.2
    assert abs(found.difference_minor - (700 + 5000 // 4)) <= 5
    assert found.low_minor < 700 + 1250 < found.high_minor
    staff = Client()
    staff.force_login(UserFactory(role=Role.MARKETER))
    page = text(staff.get(reverse("loyalty:liability"), {"as_of": until.isoformat()}))
    assert "25.0 percentage points 95% between" in page
    assert "This is not proof" in page


def test_the_effect_says_when_nobody_can_be_compared(points: Programme) -> None:
    for n in range(12):
        give(CustomerFactory(), 10, key=f"j{n}", effective_at=at(4, 10))
    found = effect.effect(points, date(2026, 10, 31))
    assert (found.is_enough, found.difference_minor, found.others, found.matched) == (False, None, 0, 0)

"""Holds, transfers and merges by many at once. Each race has a twin without the guard that must fail."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db.models import Sum

from lifecycle_crm.lib import clock
from loyalty import audit, earning, ledger, rules
from loyalty.errors import HoldResolved
from loyalty.models import Account, EarningRule, Entry, Hold, Merge, Programme
from tests.loyalty.factories import SPRING, CustomerFactory, OrderFactory, give
from tests.loyalty.test_races import at_once, loaded

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_hold_is_posted_or_voided_by_many_at_once_and_never_both() -> None:
    customer = loaded(1000)
    hold = ledger.authorise(customer=customer, points=300, key="cart")

    def work(n: int) -> None:
        if n % 2:
            ledger.post_hold(hold=hold, points=100 + n)
        else:
            ledger.void_hold(hold=hold)

    ends = at_once(12, work)
    hold.refresh_from_db()
    won = 6 if hold.state == "voided" else 1  # voiding it again answers with the same hold
    assert ends == {"done": won, "hold_resolved": 12 - won}
    account = Account.objects.get()
    assert account.held == 0
    assert account.balance + account.spent == 1000
    assert Entry.objects.filter(kind="spend").count() == (hold.state == "posted")
    assert audit.problems() == []


def test_without_the_guard_a_hold_ends_twice() -> None:
    """The twin: look first, write afterwards, without comparing the state in the write."""
    hold = ledger.authorise(customer=loaded(1000), points=300, key="cart")
    everybody_looked = threading.Barrier(6)

    def work(n: int) -> None:
        assert Hold.objects.get(pk=hold.pk).state == "open"
        everybody_looked.wait(30)
        Hold.objects.filter(pk=hold.pk).update(state="voided", resolved_at=clock.now())

    assert at_once(6, work)["done"] > 1


def test_holds_at_once_never_set_aside_more_than_there_is() -> None:
    customer = loaded(1000)
    ends = at_once(20, lambda n: ledger.authorise(customer=customer, points=150, key=f"cart:{n}"))
    assert ends == {"done": 6, "insufficient_points": 14}
    account = Account.objects.get()
    assert (account.balance, account.held) == (100, 900)
    assert audit.problems() == []


def test_a_hold_runs_out_or_is_posted_and_never_both() -> None:
    end = clock.now() + timedelta(hours=1)
    customers = [CustomerFactory() for _ in range(20)]
    holds = []
    for n, customer in enumerate(customers):
        give(customer, 10, key=f"gift:{n}")
        holds.append(ledger.authorise(customer=customer, points=10, key=f"cart:{n}", expires_at=end))
    low = customers[0].pk

    def work(n: int) -> None:
        for turn, hold in enumerate(holds):
            if n:
                ledger.release_due(as_of=end, low=low + turn, high=low + turn + 1)
            else:
                try:
                    ledger.post_hold(hold=hold)
                except HoldResolved:
                    continue

    assert at_once(3, work) == {"done": 3}
    for account in Account.objects.all():
        assert (account.held, account.balance + account.spent) == (0, 10)
    assert audit.problems() == []


def test_gifts_in_both_directions_at_once_do_not_wait_for_each_other_for_ever() -> None:
    ada, bo = CustomerFactory(), CustomerFactory()
    give(ada, 100, key="a")
    give(bo, 100, key="b")

    def work(n: int) -> None:
        one, other = (ada, bo) if n % 2 else (bo, ada)
        ledger.transfer(customer=one, to=other, points=7, key=f"t{n}")

    assert at_once(10, work) == {"done": 10}
    assert sorted(Account.objects.values_list("balance", "moved")) == [(100, 0), (100, 0)]
    assert audit.problems() == []


def test_a_household_spends_each_point_once() -> None:
    people = [CustomerFactory() for _ in range(4)]
    for n, one in enumerate(people):
        give(one, 50, key=f"gift:{n}")
    ledger.found_household(name="Elm Street 4", customers=people, actor=None)
    ends = at_once(12, lambda n: ledger.redeem(customer=people[n % 4], points=30, key=f"r{n}"))
    assert ends == {"done": 6, "insufficient_points": 6}
    sums = Account.objects.aggregate(left=Sum("balance"), spent=Sum("spent"), moved=Sum("moved"))
    assert sums == {"left": 20, "spent": 180, "moved": 0}
    assert audit.problems() == []


def test_a_merge_and_redemptions_at_once_lose_nothing() -> None:
    ada, bo = CustomerFactory(), CustomerFactory()
    give(ada, 100, key="a")
    give(bo, 100, key="b")

    def work(n: int) -> None:
        if n < 3:
            ledger.merge(customer=ada, into=bo, key=f"m{n}")
        else:
            ledger.redeem(customer=(ada, bo)[n % 2], points=10, key=f"r{n}")

    ends = at_once(9, work)
    assert ends["already_merged"] == 2
    assert ends["done"] + ends["insufficient_points"] == 7
    assert Merge.objects.count() == 1
    sums = Account.objects.aggregate(left=Sum("balance"), spent=Sum("spent"))
    assert sums["left"] + sums["spent"] == 200
    assert audit.problems() == []


def test_two_who_are_one_person_use_up_a_limit_once() -> None:
    """Both accounts are locked for either's order: a limit of ten a day gives ten, whoever of them buys first."""
    main = Programme.objects.get()
    EarningRule.objects.filter(programme=main).delete()
    rules.create(
        programme=main, kind="order", name="Visit", points=10, limit_points=10, limit_per="day", starts_at=None
    )
    both = loaded(10), CustomerFactory()
    ledger.merge(customer=both[0], into=both[1], key="m")
    orders = [
        [OrderFactory(customer=both[n % 2], placed_at=SPRING + timedelta(days=day, minutes=n)).pk for n in range(6)]
        for day in range(5)
    ]
    for day in orders:
        assert at_once(6, lambda n, day=day: earning.award_for_orders([day[n]])) == {"done": 6}
    earned = Entry.objects.filter(kind="earn", source_type="order")
    assert [one.points for one in earned] == [10] * 5
    assert audit.problems() == []

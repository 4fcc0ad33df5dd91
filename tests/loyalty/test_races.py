"""Many at once, on real threads with connections of their own. Each race has a twin without the guard that must fail."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.models import F, Sum

from customers.models import Customer
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError
from loyalty import audit, earning, ledger
from loyalty.models import Account, Entry, Lot, LotSpend, Posting, Programme
from tests.loyalty.factories import SPRING, CustomerFactory, OrderFactory, give

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(workers: int, work: Callable[[int], Any]) -> Counter[str]:
    """Run ``work(n)`` in that many threads, all let go together; how often each ended well or with which refusal."""
    barrier = threading.Barrier(workers)
    ends: list[str] = []

    def run(n: int) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(30)
            work(n)
        except DomainError as refusal:
            ends.append(refusal.code)
        except Exception as problem:
            ends.append(repr(problem))
        else:
            ends.append("done")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return Counter(ends)


def loaded(points: int) -> Customer:
    """A customer with so many points, in ten lots."""
    customer = CustomerFactory()
    for n in range(10):
        give(customer, points // 10, key=f"lot:{n}", effective_at=clock.now() - timedelta(days=20 - n))
    return customer


@pytest.mark.parametrize("price, balance", [(1, 10), (100, 1000)])
def test_fifty_redemptions_at_once_on_points_for_ten_accept_exactly_ten(price: int, balance: int) -> None:
    """Fault 28."""
    customer = loaded(balance)
    ends = at_once(50, lambda n: ledger.redeem(customer=customer, points=price, key=f"r{n}"))
    assert ends == {"done": 10, "insufficient_points": 40}
    account = Account.objects.get()
    assert (account.balance, account.spent) == (0, balance)
    assert Entry.objects.filter(kind="spend").count() == 10
    assert audit.problems() == []


def test_without_the_guard_the_same_race_accepts_too_many() -> None:
    """The twin of fault 28: look at the balance first, write afterwards. If this passed, the race above proves nothing."""
    customer = loaded(1000)
    account = Account.objects.get()
    everybody_looked = threading.Barrier(50)

    def redeem(n: int) -> None:
        balance = Posting.objects.filter(account=account, ledger="available").aggregate(points=Sum("points"))["points"]
        everybody_looked.wait(30)
        assert balance >= 100
        with transaction.atomic():
            entry = Entry.objects.create(
                programme=account.programme, account=account, customer=customer, key=f"r{n}", kind="spend", points=-100,
                effective_at=clock.now(),
            )  # fmt: skip
            Posting.objects.create(entry=entry, account=account, ledger="available", points=-100)
            Posting.objects.create(entry=entry, account=account, ledger="redeemed", points=100)

    assert at_once(50, redeem)["done"] > 10
    left = Posting.objects.filter(account=account, ledger="available").aggregate(points=Sum("points"))["points"]
    assert left == -4000
    assert audit.broken_accounts() == [(account.pk, customer.pk, "balance")]


def test_a_write_that_forgets_the_condition_is_stopped_by_the_table() -> None:
    customer = loaded(10)

    def redeem(n: int) -> None:
        Account.objects.filter(customer=customer).update(balance=F("balance") - 1, spent=F("spent") + 1)

    ends = at_once(20, redeem)
    assert ends["done"] == 10
    assert Account.objects.get().balance == 0


def test_the_same_redemption_twenty_times_at_once_is_one() -> None:
    """Fault 29."""
    customer = loaded(1000)
    entries: list[Entry] = []
    ends = at_once(20, lambda n: entries.append(ledger.redeem(customer=customer, points=100, key="r", reason="Mug")))
    assert ends == {"done": 20}
    assert len({entry.pk for entry in entries}) == 1
    assert Counter(entry.replayed for entry in entries) == {False: 1, True: 19}
    assert Account.objects.get().balance == 900


def test_one_key_under_two_customers_at_once_goes_to_one_of_them() -> None:
    customers = [CustomerFactory(), CustomerFactory()]
    for n, customer in enumerate(customers):
        give(customer, 100, key=f"gift:{n}")
    ends = at_once(8, lambda n: ledger.redeem(customer=customers[n % 2], points=10, key="r"))
    assert ends == {"done": 4, "idempotency_key_reused": 4}
    assert Account.objects.aggregate(points=Sum("balance"))["points"] == 190
    assert audit.problems() == []


def test_a_redemption_is_cancelled_once_by_many_at_once() -> None:
    customer = loaded(1000)
    spend = ledger.redeem(customer=customer, points=300, key="r")
    ends = at_once(8, lambda n: ledger.cancel_redemption(entry=spend, key=f"c{n}"))
    assert ends == {"done": 1, "not_reversible": 7}
    assert Account.objects.get().balance == 1000
    assert audit.problems() == []


def test_points_on_their_last_second_are_spent_or_expired_and_never_both() -> None:
    """Fault 35: redemptions and the night's expiry at the same moment."""
    end = clock.now() + timedelta(hours=1)
    customers = [CustomerFactory() for _ in range(30)]
    for n, customer in enumerate(customers):
        give(customer, 10, key=f"gift:{n}", expires_at=end)
    low, high = customers[0].pk, customers[-1].pk + 1

    def work(n: int) -> None:
        for turn, customer in enumerate(customers):
            if n < 3:
                try:
                    ledger.redeem(customer=customer, points=4, key=f"r{n}:{turn}")
                except DomainError:
                    continue
            else:
                ledger.expire_due(as_of=end, low=low + turn, high=low + turn + 1)
        if n >= 3:
            ledger.expire_due(as_of=end, low=low, high=high)

    assert at_once(5, work) == {"done": 5}
    for account in Account.objects.all():
        assert account.spent + account.expired == 10
        assert account.balance == 0
        assert account.spent in (0, 4, 8)
    assert audit.problems() == []


def test_workers_that_are_told_the_same_orders_earn_them_once() -> None:
    customers = [CustomerFactory() for _ in range(5)]
    orders = [OrderFactory(customer=customers[n % 5], placed_at=SPRING + timedelta(hours=n)) for n in range(60)]
    ids = [order.pk for order in orders]
    ends = at_once(4, lambda n: earning.award_for_orders(ids if n % 2 else ids[::-1]))
    assert ends == {"done": 4}
    assert Entry.objects.filter(kind="earn").count() == 60
    assert audit.problems() == []


def test_workers_of_one_night_share_ranges_without_doing_anything_twice() -> None:
    customers = [CustomerFactory() for _ in range(12)]
    earning.award_for_orders([OrderFactory(customer=one, amount_minor=5000).pk for one in customers])
    low, high = customers[0].pk, customers[-1].pk + 1
    night = SPRING + timedelta(days=500)

    def work(n: int) -> None:
        ledger.activate_due(as_of=night, low=low, high=high)
        ledger.expire_due(as_of=night, low=low, high=high)

    assert at_once(4, work) == {"done": 4}
    assert Entry.objects.filter(kind="activate").count() == 12
    assert Entry.objects.filter(kind="expire").count() == 12
    assert audit.problems() == []


def test_an_expiry_killed_half_way_ends_each_lot_once() -> None:
    """Fault 36: ten kills at the last step before the commit, in ten places, and then an undisturbed run."""
    end = SPRING + timedelta(days=30)
    customers = [CustomerFactory() for _ in range(40)]
    programme = Programme.current()
    ledger.earn_many(
        [ledger.Earning(one.pk, 5, f"k{one.pk}:{n}", SPRING, SPRING, end) for one in customers for n in range(5)],
        programme=programme,
    )
    low = customers[0].pk
    before = Entry.objects.count()

    @transaction.atomic
    def killed_before_commit() -> None:
        assert ledger.expire_due(as_of=end, low=low, high=low + 40) > 0
        raise SystemExit

    for n in range(10):
        ledger.expire_due(as_of=end, low=low + 2 * n, high=low + 2 * n + 1)
        with pytest.raises(SystemExit):
            killed_before_commit()
    ledger.expire_due(as_of=end, low=low, high=low + 40)
    assert ledger.expire_due(as_of=end, low=low, high=low + 40) == 0
    assert Entry.objects.count() - before == 200
    assert LotSpend.objects.count() == 200
    assert not Lot.objects.filter(remaining__gt=0).exists()
    assert audit.problems() == []

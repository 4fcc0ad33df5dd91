from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from customers.models import Order, Refund
from lifecycle_crm.lib import clock
from loyalty import audit, earning, ledger, rules, statements
from loyalty.models import Account, Entry, Programme
from tests.loyalty.factories import SPRING, CustomerFactory, OrderFactory, RefundFactory

pytestmark = pytest.mark.django_db


def held(order: Order) -> int:
    account = Account.objects.get(customer=order.customer)
    return account.balance + account.pending - account.debt


def refund(order: Order, amount_minor: int, **more: object) -> Refund:
    """A refund with its order's sums brought along, as the intake does."""
    row = RefundFactory(order=order, amount_minor=amount_minor, **more)
    order.refunded_minor += amount_minor
    order.base_minor = order.amount_minor - order.refunded_minor
    order.is_counted = order.is_counted and not row.is_cancellation
    order.save()
    return row


def told(refunds: list[Refund]) -> int:
    """As the reactions tell them: the verb, then the mark, together."""
    ids = [one.pk for one in refunds]
    moved = earning.reverse_for_refunds(ids)
    Refund.objects.filter(pk__in=ids).update(reacted_at=clock.now())
    return moved


def test_an_order_earns_a_point_for_each_whole_unit() -> None:
    order = OrderFactory(amount_minor=4995)
    assert earning.award_for_orders([order.pk]) == 1
    entry = Entry.objects.get()
    assert (entry.kind, entry.points, entry.key) == ("earn", 49, f"order:{order.pk}")
    assert entry.effective_at == order.placed_at
    assert entry.explanation == {
        "currency": "USD",
        "lines": [
            {
                "rule": "orders", "name": "Points on orders", "kind": "amount", "each": 1, "per": 100, "of": 4995,
                "points": 49,
            }
        ],
    }  # fmt: skip
    assert statements.explain(entry) == "49 points: 1 point for each US$1.00 of US$49.95."
    assert entry.lot.active_at == order.placed_at + timedelta(days=14)
    # 10 March 2026, so the last day is 10 March 2027, which ends at 23:00 UTC in Stockholm's winter.
    assert entry.lot.expires_at == datetime(2027, 3, 10, 23, tzinfo=UTC)
    assert (entry.account.pending, entry.account.balance) == (49, 0)


def test_an_order_earns_once_however_often_it_is_told() -> None:
    orders = [OrderFactory(amount_minor=1000 * n) for n in (1, 2, 3)]
    ids = [order.pk for order in orders]
    assert earning.award_for_orders(ids) == 3
    assert earning.award_for_orders(ids + ids) == 0
    assert Account.objects.count() == 3
    assert audit.problems() == []


@pytest.mark.parametrize(
    "fields", [{"amount_minor": 99}, {"amount_minor": 0}, {"is_counted": False, "status": "cancelled"}]
)
def test_an_order_without_a_whole_unit_or_cancelled_earns_nothing(fields: dict[str, object]) -> None:
    assert earning.award_for_orders([OrderFactory(**fields).pk]) == 0
    assert not Account.objects.exists()


def test_nothing_is_earned_without_an_active_programme() -> None:
    Programme.objects.update(is_active=False)
    assert earning.award_for_orders([OrderFactory().pk]) == 0
    assert not Entry.objects.exists()


def test_an_order_in_another_currency_earns_by_its_recorded_rate() -> None:
    order = OrderFactory(currency="JPY", amount_minor=10_000, rate=Decimal("0.0067"), base_minor=6700)
    earning.award_for_orders([order.pk])
    assert Entry.objects.get().points == 67
    refunded = OrderFactory(
        currency="JPY", amount_minor=10_000, rate=Decimal("0.0067"), base_minor=3350, refunded_minor=5000
    )
    earning.award_for_orders([refunded.pk])
    assert Entry.objects.get(source_id=str(refunded.pk)).points == 67


def test_history_earns_and_becomes_usable_as_of_its_dates() -> None:
    old = OrderFactory(placed_at=SPRING - timedelta(days=800), is_history=True)
    earning.award_for_orders([old.pk])
    ledger.activate_due(as_of=clock.now(), low=0, high=2**40)
    ledger.expire_due(as_of=clock.now(), low=0, high=2**40)
    rows = list(Entry.objects.order_by("id").values_list("kind", "effective_at"))
    assert rows[0] == ("earn", old.placed_at)
    assert rows[1] == ("activate", old.placed_at + timedelta(days=14))
    assert rows[2][0] == "expire"
    assert rows[2][1] < SPRING
    assert held(old) == 0


def test_the_rule_in_force_when_the_order_earned_is_the_one_that_is_undone() -> None:
    """Fault 33: the rule changes between the order and its return."""
    order = OrderFactory(amount_minor=5000)
    earning.award_for_orders([order.pk])
    rules.edit(rule=rules.in_force(Programme.objects.get()).get(), points=2)
    told([refund(order, 5000, is_cancellation=True)])
    assert held(order) == 0
    assert Account.objects.get().reversed == 50


def test_seven_partial_refunds_take_back_exactly_what_the_order_gave() -> None:
    """Fault 32."""
    order = OrderFactory(amount_minor=4995)
    earning.award_for_orders([order.pk])
    taken = []
    for n in range(7):
        told([refund(order, 713 if n < 6 else 4995 - 6 * 713, occurred_at=SPRING + timedelta(days=n))])
        taken.append(49 - held(order))
    assert taken == [49 * 713 * n // 4995 for n in range(1, 7)] + [49]
    assert audit.problems() == []


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    total=st.integers(min_value=100, max_value=50_000),
    cuts=st.lists(st.integers(min_value=1, max_value=49_999), max_size=6),
    seed=st.randoms(use_true_random=False),
)
def test_any_split_of_a_refund_takes_back_exactly_what_the_order_gave(
    total: int, cuts: list[int], seed: random.Random
) -> None:
    """Fault 32, for any split, told in any order and in any batches, some of it twice."""
    order = OrderFactory(amount_minor=total)
    earning.award_for_orders([order.pk])
    marks = sorted({0, total, *(cut for cut in cuts if cut < total)})
    parts = [after - before for before, after in pairwise(marks)]
    rows = [refund(order, amount, occurred_at=SPRING + timedelta(days=n)) for n, amount in enumerate(parts)]
    seed.shuffle(rows)
    while rows:
        size = seed.randint(1, len(rows))
        told(rows[:size])
        if seed.random() < 0.3:
            told(rows[:size])
        rows = rows[size:]
    account = Account.objects.get(customer=order.customer)
    assert (account.pending, account.reversed) == (0, total // 100)


def test_a_cancellation_takes_back_all_that_is_left() -> None:
    order = OrderFactory(amount_minor=4995)
    earning.award_for_orders([order.pk])
    told([refund(order, 1000)])
    last = refund(order, 3995, is_cancellation=True, occurred_at=SPRING + timedelta(days=3))
    assert told([last]) == 1
    entry = Entry.objects.get(key=f"refund:{last.pk}")
    assert (entry.points, entry.effective_at, entry.explanation["rule"]) == (-40, last.occurred_at, "cancelled")
    assert held(order) == 0


def test_a_refund_of_what_earned_nothing_changes_nothing() -> None:
    order = OrderFactory(amount_minor=99)
    assert told([refund(order, 99)]) == 0
    assert not Entry.objects.exists()


def test_refunds_and_orders_in_any_order_and_repeated_give_the_same_points() -> None:
    """Fault 34: a refund before its order, or twice."""
    chance = random.Random(34)

    def shop() -> list[Order]:
        orders = []
        for n in range(60):
            order = OrderFactory(amount_minor=1000 + 137 * n, placed_at=SPRING + timedelta(hours=n))
            refund(order, 300 + 11 * n, occurred_at=SPRING + timedelta(days=5, hours=n))
            if n % 3 == 0:
                refund(order, 400, occurred_at=SPRING + timedelta(days=6, hours=n))
            orders.append(order)
        return orders

    sorted_shop, shuffled_shop = shop(), shop()
    earning.award_for_orders([order.pk for order in sorted_shop])
    told(list(Refund.objects.filter(order__in=sorted_shop).order_by("occurred_at")))

    news: list[Order | Refund] = [*shuffled_shop, *Refund.objects.filter(order__in=shuffled_shop)]
    news += chance.sample(news, len(news) * 3 // 10)
    chance.shuffle(news)
    for one in news:
        if isinstance(one, Order):
            earning.award_for_orders([one.pk])
        else:
            told([one])

    assert [held(order) for order in shuffled_shop] == [held(order) for order in sorted_shop]
    assert [held(order) for order in sorted_shop] == [
        order.amount_minor // 100 - order.amount_minor // 100 * order.refunded_minor // order.amount_minor
        for order in sorted_shop
    ]
    assert audit.problems() == []


def test_a_refund_told_later_is_taken_back_as_of_its_own_date() -> None:
    """A replay tells the order of one night, and the refund of another night only when that night comes."""
    order = OrderFactory(amount_minor=5000)
    later = refund(order, 2500, occurred_at=SPRING + timedelta(days=40))
    earning.award_for_orders([order.pk])
    assert held(order) == 50
    ledger.activate_due(as_of=SPRING + timedelta(days=20), low=0, high=2**40)
    told([later])
    assert held(order) == 25
    assert Entry.objects.get(kind="reverse").effective_at == later.occurred_at


def test_a_refund_after_the_points_were_spent_becomes_a_debt_that_the_next_order_repays() -> None:
    """Fault 31, through orders."""
    customer = CustomerFactory()
    first = OrderFactory(customer=customer, amount_minor=7000)
    earning.award_for_orders([first.pk])
    ledger.redeem(customer=customer, points=50, key="r", effective_at=SPRING + timedelta(days=20))
    told([refund(first, 7000, is_cancellation=True, occurred_at=SPRING + timedelta(days=30))])
    account = Account.objects.get()
    assert (account.balance, account.pending, account.debt) == (0, 0, 50)
    assert list(Entry.objects.filter(kind__in=["reverse", "debt"]).order_by("id").values_list("points", flat=True)) == [
        -20,
        -50,
    ]
    second = OrderFactory(customer=customer, amount_minor=6000, placed_at=SPRING + timedelta(days=40))
    earning.award_for_orders([second.pk])
    ledger.activate_due(as_of=SPRING + timedelta(days=60), low=0, high=2**40)
    account.refresh_from_db()
    assert (account.balance, account.pending, account.debt) == (10, 0, 0)
    assert audit.problems() == []


def test_many_returns_of_one_customer_in_one_batch_share_what_is_left_and_owe_the_rest() -> None:
    customer = CustomerFactory()
    orders = [
        OrderFactory(customer=customer, amount_minor=amount, placed_at=SPRING + timedelta(hours=n))
        for n, amount in enumerate((3000, 2000, 4000))
    ]
    earning.award_for_orders([order.pk for order in orders])
    ledger.redeem(customer=customer, points=45, key="r", effective_at=SPRING + timedelta(days=20))
    rows = [refund(order, order.amount_minor, occurred_at=SPRING + timedelta(days=25)) for order in orders]
    told(rows[:2])
    account = Account.objects.get()
    assert (account.balance, account.debt, account.reversed) == (0, 5, 50)
    told(rows)
    account.refresh_from_db()
    assert (account.balance, account.debt, account.reversed) == (0, 45, 90)
    assert audit.problems() == []


def test_two_hard_returns_in_one_batch_do_not_take_the_same_points_twice() -> None:
    """The first return lacks points and takes some of the second one's lot; the second then owes them."""
    customer = CustomerFactory()
    first, second = (
        OrderFactory(customer=customer, amount_minor=1000, placed_at=SPRING + timedelta(hours=n)) for n in range(2)
    )
    earning.award_for_orders([first.pk, second.pk])
    ledger.redeem(customer=customer, points=12, key="r", effective_at=SPRING + timedelta(days=20))
    assert told([refund(one, 1000, occurred_at=SPRING + timedelta(days=25)) for one in (first, second)]) == 2
    account = Account.objects.get()
    assert (account.balance, account.debt, account.reversed) == (0, 12, 20)
    assert audit.problems() == []


def test_a_batch_of_orders_costs_the_same_number_of_queries_as_one(django_assert_max_num_queries: object) -> None:
    customers = [CustomerFactory() for _ in range(5)]
    ids = [OrderFactory(customer=customers[n % 5], placed_at=SPRING + timedelta(hours=n)).pk for n in range(180)]
    with django_assert_max_num_queries(70):  # type: ignore[operator]
        assert earning.award_for_orders(ids) == 180

"""Many at once on the last item, with a twin without the guard, which must fail."""

from __future__ import annotations

import threading

import pytest
from django.db import transaction
from django.db.models import F

from lifecycle_crm.lib import clock
from loyalty import audit, ledger, rewards
from loyalty.models import Account, Entry, Programme, Redemption, Reward, RewardUse
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def reward(**more: object) -> Reward:
    programme = Programme.current()
    assert programme is not None
    return rewards.create(programme=programme, **{"name": "Mug", "points": 10, **more})


def crowd(number: int, points: int = 100) -> list:
    people = [CustomerFactory() for _ in range(number)]
    for n, one in enumerate(people):
        give(one, points, key=f"gift:{n}")
    return people


@pytest.mark.parametrize("left", [1, 7])
def test_fifty_at_once_on_the_last_ones_redeem_exactly_those(left: int) -> None:
    mug, people = reward(stock=left), crowd(50)
    ends = at_once(50, lambda n: rewards.redeem(reward=mug, customer=people[n], key=f"r{n}"))
    assert ends == {"done": left, "sold_out": 50 - left}
    assert Reward.objects.get().stock == 0
    assert Redemption.objects.count() == Entry.objects.filter(kind="spend").count() == left
    assert sorted(Account.objects.values_list("balance", flat=True)) == [90] * left + [100] * (50 - left)
    assert RewardUse.objects.filter(count=1).count() == RewardUse.objects.count() == left
    assert audit.problems() == []


def test_without_the_condition_in_the_write_the_same_race_gives_the_last_one_away_many_times() -> None:
    """The twin: look at the stock first, write afterwards. If this passed, the race above proves nothing."""
    mug, people = reward(stock=1), crowd(50)
    everybody_looked = threading.Barrier(50)

    def redeem(n: int) -> None:
        left = Reward.objects.values_list("stock", flat=True).get(pk=mug.pk)
        everybody_looked.wait(60)
        assert left == 1
        with transaction.atomic():
            entry = ledger.redeem(customer=people[n], points=10, key=f"r{n}")
            Redemption.objects.create(
                reward=mug, customer=people[n], entry=entry, key=f"r{n}", code=f"CODE{n}", points=10,
                ordered_at=clock.now(),
            )  # fmt: skip
            Reward.objects.filter(pk=mug.pk).update(stock=left - 1)

    assert at_once(50, redeem)["done"] > 1
    assert Redemption.objects.count() > 1


def test_a_write_that_forgets_the_condition_is_stopped_by_the_table() -> None:
    mug = reward(stock=3)
    ends = at_once(12, lambda n: Reward.objects.filter(pk=mug.pk).update(stock=F("stock") - 1))
    assert ends["done"] == 3
    assert Reward.objects.get().stock == 0


def test_one_customer_pressing_everywhere_at_once_stays_within_the_limit() -> None:
    mug = reward(per_customer=2, points=1)
    [ada] = crowd(1)
    ends = at_once(20, lambda n: rewards.redeem(reward=mug, customer=ada, key=f"r{n}"))
    assert ends == {"done": 2, "limit_reached": 18}
    assert (Account.objects.get().balance, RewardUse.objects.get().count) == (98, 2)


def test_a_free_reward_stays_within_the_limit_too() -> None:
    mug = reward(per_customer=1, points=0, stock=5)
    [ada] = crowd(1)
    ends = at_once(20, lambda n: rewards.redeem(reward=mug, customer=ada, key=f"r{n}"))
    assert ends == {"done": 1, "limit_reached": 19}
    assert Reward.objects.get().stock == 4


@pytest.mark.parametrize("points", [10, 0])
def test_the_same_request_twenty_times_at_once_is_one_redemption(points: int) -> None:
    mug = reward(stock=5, points=points)
    [ada] = crowd(1)
    made: list[Redemption] = []
    ends = at_once(20, lambda n: made.append(rewards.redeem(reward=mug, customer=ada, key="r")))
    assert ends == {"done": 20}
    assert len({one.pk for one in made}) == 1
    assert sum(not one.replayed for one in made) == 1
    assert (Reward.objects.get().stock, Account.objects.get().balance) == (4, 100 - points)


def test_it_is_handed_out_or_cancelled_and_never_both() -> None:
    mug, people = reward(stock=10), crowd(10)
    made = [rewards.redeem(reward=mug, customer=one, key=f"r{n}") for n, one in enumerate(people)]

    def work(n: int) -> None:
        mine = Redemption.objects.select_related("entry").get(pk=made[n % 10].pk)
        if n < 10:
            rewards.hand_out(redemption=mine, actor=None)
        else:
            rewards.cancel(redemption=mine, actor=None, reason="Race")

    assert at_once(20, work) == {"done": 10, "wrong_state": 10}
    cancelled = Redemption.objects.filter(state="cancelled").count()
    assert Reward.objects.get().stock == cancelled
    assert Entry.objects.filter(kind="cancel").count() == cancelled
    assert Account.objects.filter(balance=100).count() == cancelled
    assert audit.problems() == []


def test_orders_and_cancellations_of_everybody_at_once_neither_block_nor_lose_one() -> None:
    mug, people = reward(stock=6), crowd(6)
    first = [rewards.redeem(reward=mug, customer=one, key=f"a{n}") for n, one in enumerate(people)]

    def work(n: int) -> None:
        one = people[n % 6]
        if n < 6:
            rewards.cancel(redemption=first[n], actor=None, reason="Race")
        else:
            rewards.redeem(reward=mug, customer=one, key=f"b{n}")

    ends = at_once(18, work)
    assert set(ends) <= {"done", "sold_out"}
    taken = Redemption.objects.exclude(state="cancelled").count()
    assert taken + Reward.objects.values_list("stock", flat=True).get() == 6
    assert audit.problems() == []

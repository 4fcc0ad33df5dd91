from __future__ import annotations

from datetime import timedelta

import pytest

from customers.models import Order
from lifecycle_crm.lib import clock
from loyalty import earning, ledger, rules, tiers, whatif
from loyalty.models import Account, EarningRule, Entry, Programme, RuleUse
from tests.loyalty.factories import CustomerFactory, OrderFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def points() -> Programme:
    return Programme.objects.get()


@pytest.fixture
def year(points: Programme) -> list[Order]:
    """Four customers with one to four orders of 100.00 each in the last year, and one order before it."""
    made = []
    for n in range(1, 5):
        customer = CustomerFactory()
        for m in range(n):
            placed = clock.now() - timedelta(days=300 - 40 * m)
            made.append(OrderFactory(customer=customer, amount_minor=10_000, placed_at=placed))
    made.append(OrderFactory(amount_minor=99_000, placed_at=clock.now() - timedelta(days=500)))
    return made


def draft_of(of: Programme, **values: object) -> EarningRule:
    rule = rules.in_force(of).get()
    for name, value in values.items():
        setattr(rule, name, value)
    return rule


def test_double_points_would_give_twice_as_many_and_lift_who_is_near(points: Programme, year: list[Order]) -> None:
    tiers.set_ladder(programme=points, steps=[tiers.Step("Silver", 200), tiers.Step("Gold", 400)])
    earning.award_for_orders([one.pk for one in year])
    before = (Entry.objects.count(), Account.objects.count(), EarningRule.objects.count(), RuleUse.objects.count())
    found = whatif.ask(programme=points, draft=whatif.Draft(rules=[draft_of(points, points=2)]))
    assert (found.today.points, found.draft.points) == (1000, 2000)
    assert (found.today.liability_minor, found.draft.liability_minor) == (1000, 2000)
    assert (found.today.earners, found.draft.earners) == (4, 4)
    assert found.today.per_tier == {"Silver": 2, "Gold": 1}
    assert found.draft.per_tier == {"Silver": 1, "Gold": 3}
    assert (found.up, found.down, list(found.fallen)) == (3, 0, [])
    assert (found.asked, found.everybody, found.is_sample) == (5, 5, False)
    assert before == (
        Entry.objects.count(), Account.objects.count(), EarningRule.objects.count(), RuleUse.objects.count(),
    )  # fmt: skip


def test_higher_thresholds_would_downgrade_and_say_whom(points: Programme, year: list[Order]) -> None:
    tiers.set_ladder(programme=points, steps=[tiers.Step("Silver", 200), tiers.Step("Gold", 400)])
    steps = [tiers.Step("Silver", 300, (), "silver"), tiers.Step("Gold", 500, (), "gold")]
    found = whatif.ask(programme=points, draft=whatif.Draft(steps=steps))
    assert (found.up, found.down) == (0, 2)
    assert sorted(found.fallen) == sorted({year[1].customer_id, year[6].customer_id})
    assert found.today.points == found.draft.points
    assert found.draft.per_tier == {"Silver": 2, "Gold": 0}


def test_what_was_refunded_counts_on_neither_side_and_limits_are_kept(points: Programme, year: list[Order]) -> None:
    last = year[0]
    Order.objects.filter(pk=last.pk).update(refunded_minor=5_000, base_minor=5_000)
    capped = draft_of(points, limit_points=150, limit_per="ever")
    found = whatif.ask(programme=points, draft=whatif.Draft(rules=[capped]))
    assert found.today.points == 950
    assert found.draft.points == 50 + 3 * 150


def test_the_cost_follows_the_share_that_is_redeemed(points: Programme, year: list[Order]) -> None:
    ada = CustomerFactory()
    ledger.earn(customer=ada, points=100, key="a", expires_at=clock.now() - timedelta(hours=1),
                effective_at=clock.now() - timedelta(days=2))  # fmt: skip
    ledger.redeem(customer=ada, points=25, key="b", effective_at=clock.now() - timedelta(days=1))
    ledger.expire_due(as_of=clock.now(), low=0, high=2**40)
    found = whatif.ask(programme=points, draft=whatif.Draft(value_minor_per_100=200))
    assert found.redeemed_share == 0.25
    assert (found.today.cost_minor, found.draft.cost_minor) == (250, 500)


def test_a_draft_that_makes_no_sense_is_refused(points: Programme) -> None:
    with pytest.raises(rules.BadRule, match="Points must be"):
        whatif.ask(programme=points, draft=whatif.Draft(rules=[draft_of(points, points=-2)]))


def test_a_large_shop_is_asked_by_a_sample_and_says_so(
    points: Programme, year: list[Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whatif, "MOST_CUSTOMERS", 3)
    found = whatif.ask(programme=points, draft=whatif.Draft())
    assert found.is_sample
    assert found.asked in (2, 3)
    assert found.everybody == 5

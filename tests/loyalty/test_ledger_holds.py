"""Holds: set aside, then redeemed or freed, once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from customers.models import Customer
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import audit, ledger
from loyalty.errors import AccountFrozen, HoldResolved, InsufficientPoints, KeyReused
from loyalty.models import Account, Entry, Hold, Lot
from tests.loyalty.factories import CustomerFactory, give

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> Customer:
    customer = CustomerFactory()
    give(customer, 60, key="a", expires_at=clock.now() + timedelta(days=5))
    give(customer, 40, key="b", expires_at=clock.now() + timedelta(days=50))
    return customer


def stand(customer: Customer) -> tuple[int, int, int]:
    held = Account.objects.get(customer=customer)
    assert audit.problems() == []
    return held.balance, held.held, held.spent


def left(customer: Customer) -> list[int]:
    return list(Lot.objects.filter(customer=customer).order_by("pk").values_list("remaining", flat=True))


def test_held_points_cannot_be_spent_twice(ada: Customer) -> None:
    hold = ledger.authorise(customer=ada, points=70, key="cart:1", reason="Cart 1")
    assert (hold.state, stand(ada), left(ada)) == ("open", (30, 70, 0), [0, 30])
    with pytest.raises(InsufficientPoints):
        ledger.redeem(customer=ada, points=31, key="r")
    with pytest.raises(InsufficientPoints):
        ledger.authorise(customer=ada, points=31, key="cart:2")
    assert stand(ada) == (30, 70, 0)


def test_a_hold_is_posted_whole(ada: Customer) -> None:
    hold = ledger.authorise(customer=ada, points=70, key="cart:1", reason="Cart 1")
    spend = ledger.post_hold(hold=hold)
    assert (spend.kind, spend.points, spend.reason) == ("spend", -70, "Cart 1")
    assert (stand(ada), left(ada)) == ((30, 0, 70), [0, 30])
    hold.refresh_from_db()
    assert (hold.state, hold.spend, hold.release) == ("posted", spend, None)


def test_what_is_not_posted_goes_back_to_the_lots_that_were_drawn_on_last(ada: Customer) -> None:
    hold = ledger.authorise(customer=ada, points=70, key="cart:1")
    ledger.post_hold(hold=hold, points=50)
    assert (stand(ada), left(ada)) == ((50, 0, 50), [10, 40])


def test_a_posted_hold_can_be_given_back_to_its_lots(ada: Customer) -> None:
    spend = ledger.post_hold(hold=ledger.authorise(customer=ada, points=70, key="cart:1"), points=65)
    assert left(ada) == [0, 35]
    ledger.cancel_redemption(entry=spend, key="c")
    assert (stand(ada), left(ada)) == ((100, 0, 0), [60, 40])


def test_a_voided_hold_frees_its_points(ada: Customer) -> None:
    hold = ledger.authorise(customer=ada, points=70, key="cart:1")
    assert ledger.void_hold(hold=hold).state == "voided"
    assert (stand(ada), left(ada)) == ((100, 0, 0), [60, 40])
    assert ledger.void_hold(hold=hold).replayed
    assert Entry.objects.filter(kind="release").count() == 1


def test_it_resolves_at_most_once(ada: Customer) -> None:
    posted, voided = (ledger.authorise(customer=ada, points=10, key=f"cart:{n}") for n in range(2))
    spend = ledger.post_hold(hold=posted, points=4)
    again = ledger.post_hold(hold=posted, points=4)
    assert (again.pk, again.replayed) == (spend.pk, True)
    ledger.void_hold(hold=voided)
    before = Entry.objects.count()
    for refused in (
        lambda: ledger.post_hold(hold=posted),
        lambda: ledger.void_hold(hold=posted),
        lambda: ledger.post_hold(hold=voided),
    ):
        with pytest.raises(HoldResolved):
            refused()
    assert (stand(ada), Entry.objects.count()) == ((96, 0, 4), before)


def test_the_same_request_holds_once_and_another_under_its_key_is_refused(ada: Customer) -> None:
    first = ledger.authorise(customer=ada, points=10, key="cart:1")
    again = ledger.authorise(customer=ada, points=10, key="cart:1")
    assert (again.pk, again.replayed, first.replayed) == (first.pk, True, False)
    with pytest.raises(KeyReused):
        ledger.authorise(customer=ada, points=11, key="cart:1")
    assert stand(ada) == (90, 10, 0)


def test_a_hold_runs_out_by_itself_at_night(ada: Customer) -> None:
    hold = ledger.authorise(customer=ada, points=70, key="cart:1", expires_at=clock.now() + timedelta(hours=2))
    night = clock.now() + timedelta(hours=3)
    assert ledger.release_due(as_of=clock.now(), low=0, high=2**40) == 0
    assert ledger.release_due(as_of=night, low=ada.pk, high=ada.pk + 1) == 1
    assert ledger.release_due(as_of=night, low=ada.pk, high=ada.pk + 1) == 0
    hold.refresh_from_db()
    assert (hold.state, hold.resolved_at, hold.release.points) == ("expired", hold.expires_at, 70)
    assert (stand(ada), left(ada)) == ((100, 0, 0), [60, 40])


def test_a_redemption_does_not_wait_for_the_night_to_use_what_ran_out(ada: Customer) -> None:
    start = clock.now() - timedelta(hours=5)
    ledger.authorise(customer=ada, points=90, key="cart:1", effective_at=start, expires_at=start + timedelta(hours=1))
    ledger.redeem(customer=ada, points=100, key="r")
    assert stand(ada) == (0, 0, 100)


def test_points_do_not_end_while_they_are_held_and_end_when_they_come_back(ada: Customer) -> None:
    hold = ledger.authorise(customer=ada, points=60, key="cart:1", expires_at=clock.now() + timedelta(days=30))
    later = clock.now() + timedelta(days=10)
    assert ledger.expire_due(as_of=later, low=0, high=2**40) == 0
    assert stand(ada) == (40, 60, 0)
    assert ledger.release_due(as_of=later + timedelta(days=30), low=0, high=2**40) == 1
    assert stand(ada) == (40, 0, 0)
    gone = Entry.objects.get(kind="expire")
    assert (gone.points, gone.effective_at) == (-60, hold.expires_at)


def test_a_frozen_account_holds_and_posts_nothing_and_can_void(ada: Customer) -> None:
    hold = ledger.authorise(customer=ada, points=10, key="cart:1")
    ledger.freeze(accounts=[Account.objects.get().pk])
    with pytest.raises(AccountFrozen):
        ledger.authorise(customer=ada, points=10, key="cart:2")
    with pytest.raises(AccountFrozen):
        ledger.post_hold(hold=hold)
    hold.refresh_from_db()
    assert (hold.state, stand(ada)) == ("open", (90, 10, 0))
    ledger.void_hold(hold=hold)
    assert stand(ada) == (100, 0, 0)


def test_a_refund_while_points_are_held_becomes_a_debt_that_freed_points_repay() -> None:
    bo = CustomerFactory()
    earned = give(bo, 50)
    hold = ledger.authorise(customer=bo, points=50, key="cart")
    ledger.reverse(entry=earned, key="refund")
    assert Account.objects.get(customer=bo).debt == 50
    ledger.void_hold(hold=hold)
    account = Account.objects.get(customer=bo)
    assert (account.balance, account.held, account.debt, account.reversed) == (0, 0, 0, 50)
    assert audit.problems() == []


def test_more_than_the_hold_is_refused(ada: Customer) -> None:
    hold = ledger.authorise(customer=ada, points=10, key="cart:1")
    with pytest.raises(InvalidInput):
        ledger.post_hold(hold=hold, points=11)
    assert (Hold.objects.get().state, stand(ada)) == ("open", (90, 10, 0))

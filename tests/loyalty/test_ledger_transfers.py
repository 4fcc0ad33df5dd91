"""Points that change hands: gifts, households, merges and their undoing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import Sum

from customers.models import Customer
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from loyalty import audit, ledger
from loyalty.errors import AccountFrozen, AlreadyMerged, InsufficientPoints, KeyReused
from loyalty.models import Account, Entry, Hold, Household, Lot, Merge, Programme, Transfer
from tests.loyalty.factories import SPRING, CustomerFactory, give

pytestmark = pytest.mark.django_db

SOON = clock.now() + timedelta(days=5)
LATER = clock.now() + timedelta(days=50)


@pytest.fixture
def ada() -> Customer:
    customer = CustomerFactory(name="Ada Example")
    give(customer, 60, key="a", expires_at=SOON)
    give(customer, 40, key="b", expires_at=LATER)
    return customer


@pytest.fixture
def bo() -> Customer:
    return CustomerFactory(name="Bo Example")


def held(customer: Customer) -> Account:
    assert audit.problems() == []
    return Account.objects.get(customer=customer)


def lots(customer: Customer) -> list[tuple[int, object]]:
    found = Lot.objects.filter(customer=customer, remaining__gt=0).order_by("expires_at", "pk")
    return list(found.values_list("remaining", "expires_at"))


# --- Transfers --------------------------------------------------------------------------------------------------------


def test_given_points_keep_their_last_day(ada: Customer, bo: Customer) -> None:
    made = ledger.transfer(customer=ada, to=bo, points=70, key="t", reason="Birthday")
    assert (made.points, made.kind) == (70, "gift")
    assert (held(ada).balance, held(ada).moved, held(bo).balance, held(bo).moved) == (30, -70, 70, 70)
    assert (lots(ada), lots(bo)) == ([(30, LATER)], [(60, SOON), (10, LATER)])
    said = Entry.objects.filter(kind="transfer").order_by("pk").values_list("customer_id", "points")
    assert list(said) == [(ada.pk, -70), (bo.pk, 60), (bo.pk, 10)]


def test_a_transfer_is_made_once(ada: Customer, bo: Customer) -> None:
    first = ledger.transfer(customer=ada, to=bo, points=10, key="t")
    again = ledger.transfer(customer=ada, to=bo, points=10, key="t")
    assert (again.pk, again.replayed) == (first.pk, True)
    with pytest.raises(KeyReused):
        ledger.transfer(customer=ada, to=bo, points=11, key="t")
    assert (held(ada).balance, held(bo).balance) == (90, 10)


def test_what_is_not_there_or_frozen_does_not_move(ada: Customer, bo: Customer) -> None:
    with pytest.raises(InsufficientPoints):
        ledger.transfer(customer=ada, to=bo, points=101, key="t")
    with pytest.raises(InsufficientPoints):
        ledger.transfer(customer=CustomerFactory(), to=bo, points=1, key="t")
    with pytest.raises(InvalidInput):
        ledger.transfer(customer=ada, to=ada, points=1, key="t")
    ledger.freeze(accounts=[held(ada).pk])
    with pytest.raises(AccountFrozen):
        ledger.transfer(customer=ada, to=bo, points=1, key="t")
    assert (held(ada).balance, Transfer.objects.count(), Lot.objects.filter(customer=bo).count()) == (100, 0, 0)


def test_given_points_repay_the_debt_of_who_gets_them(ada: Customer, bo: Customer) -> None:
    earned = give(bo, 20, key="c")
    ledger.redeem(customer=bo, points=20, key="r")
    ledger.reverse(entry=earned, key="v")
    assert held(bo).debt == 20
    ledger.transfer(customer=ada, to=bo, points=50, key="t")
    assert (held(bo).balance, held(bo).debt) == (30, 0)


# --- Households -------------------------------------------------------------------------------------------------------


def test_a_household_spends_the_own_points_first_and_then_what_ends_soonest(ada: Customer, bo: Customer) -> None:
    cy = CustomerFactory()
    give(bo, 30, key="own")
    give(cy, 50, key="cy", expires_at=SOON + timedelta(days=1))
    ledger.found_household(name="Elm Street 4", customers=[ada, bo, cy], actor=None)
    spend = ledger.redeem(customer=bo, points=100, key="r", reason="Kettle")
    assert (spend.points, held(bo).balance, held(bo).spent) == (-100, 0, 100)
    assert (held(ada).balance, held(cy).balance) == (40, 40)
    assert set(Transfer.objects.values_list("kind", "points")) == {("pool", 60), ("pool", 10)}
    with pytest.raises(InsufficientPoints) as refusal:
        ledger.redeem(customer=bo, points=81, key="r2")
    assert refusal.value.extra["balance"] == 80
    assert (held(ada).balance, held(cy).balance, Transfer.objects.count()) == (40, 40, 2)


def test_who_has_no_account_yet_can_spend_the_household_s_points(ada: Customer, bo: Customer) -> None:
    ledger.found_household(name="Elm Street 4", customers=[ada, bo], actor=None)
    ledger.redeem(customer=bo, points=10, key="r")
    assert (held(ada).balance, held(bo).spent) == (90, 10)


def test_a_frozen_member_s_points_stay_out_of_the_pool(ada: Customer, bo: Customer) -> None:
    give(bo, 5, key="own")
    ledger.found_household(name="Elm Street 4", customers=[ada, bo], actor=None)
    ledger.freeze(accounts=[held(ada).pk])
    with pytest.raises(InsufficientPoints):
        ledger.redeem(customer=bo, points=6, key="r")
    assert (held(ada).balance, held(bo).balance) == (100, 5)


def test_who_left_shares_no_more_and_may_join_elsewhere(ada: Customer, bo: Customer) -> None:
    give(bo, 5, key="own")
    household = ledger.found_household(name="Elm Street 4", customers=[ada, bo], actor=None)
    with pytest.raises(Conflict):
        ledger.join_household(household=household, customer=ada)
    ledger.leave_household(customer=ada)
    with pytest.raises(InsufficientPoints):
        ledger.redeem(customer=bo, points=6, key="r")
    with pytest.raises(Conflict):
        ledger.leave_household(customer=ada)
    ledger.join_household(household=household, customer=ada)
    assert ledger.redeem(customer=bo, points=6, key="r").points == -6


def test_a_household_needs_a_name_and_two(ada: Customer, bo: Customer) -> None:
    for name, people in ((" ", [ada, bo]), ("Elm", [ada]), ("Elm", [ada, ada])):
        with pytest.raises(InvalidInput):
            ledger.found_household(name=name, customers=people, actor=None)
    assert not Household.objects.exists()


# --- Merges -----------------------------------------------------------------------------------------------------------


def everything(*customers: Customer) -> dict[str, int]:
    names = ("balance", "pending", "held", "debt")
    return Account.objects.filter(customer__in=customers).aggregate(**{name: Sum(name) for name in names})


def test_a_merge_moves_points_waiting_points_holds_and_debt_and_undoing_it_restores_them(
    ada: Customer, bo: Customer
) -> None:
    """Fault 41."""
    give(ada, 25, key="waits", active_at=clock.now() + timedelta(days=3), expires_at=LATER)
    hold = ledger.authorise(customer=ada, points=30, key="cart", expires_at=LATER)
    earned = give(bo, 20, key="c")
    ledger.redeem(customer=bo, points=20, key="r")
    ledger.reverse(entry=earned, key="v")
    before = everything(ada, bo)
    assert before == {"balance": 70, "pending": 25, "held": 30, "debt": 20}
    lots_before = lots(ada)

    [row] = ledger.merge(customer=ada, into=bo, key="m", reason="Same person")
    assert (row.points, row.pending, row.held, row.debt) == (70, 25, 30, 0)
    assert everything(ada) == {"balance": 0, "pending": 0, "held": 0, "debt": 0}
    assert everything(bo) == {"balance": 50, "pending": 25, "held": 30, "debt": 0}
    hold.refresh_from_db()
    assert (hold.state, hold.moved_to.account.customer, hold.moved_to.expires_at) == ("moved", bo, LATER)
    assert audit.problems() == []

    ledger.unmerge(merge=row)
    assert everything(ada) == {"balance": 70, "pending": 25, "held": 30, "debt": 0}
    assert everything(bo) == {"balance": 0, "pending": 0, "held": 0, "debt": 20}
    assert lots(ada) == lots_before
    assert audit.problems() == []
    with pytest.raises(AlreadyMerged):
        ledger.unmerge(merge=row)


def test_a_merged_debt_is_repaid_and_undoing_the_merge_owes_it_again(ada: Customer, bo: Customer) -> None:
    earned = give(bo, 20, key="c")
    ledger.redeem(customer=bo, points=20, key="r")
    ledger.reverse(entry=earned, key="v")
    [row] = ledger.merge(customer=bo, into=ada, key="m")
    assert (held(ada).balance, held(ada).debt, held(bo).debt) == (80, 0, 0)
    ledger.unmerge(merge=row)
    assert (held(ada).balance, held(ada).debt, held(bo).debt) == (100, 0, 20)
    assert lots(ada) == [(60, SOON), (40, LATER)]


def test_a_lot_that_was_carried_over_twice_goes_home_whole(ada: Customer, bo: Customer) -> None:
    """A redemption from before the merge is cancelled after it: its points follow at night, out of the very same lot."""
    spend = ledger.redeem(customer=ada, points=40, key="r")
    [merge] = ledger.merge(customer=ada, into=bo, key="m", actor=None, reason="Same person")
    ledger.cancel_redemption(entry=spend, key="c")
    assert (held(ada).balance, held(bo).balance) == (40, 60)
    assert ledger.follow_due(as_of=clock.now(), low=0, high=2**40) == 1
    assert (held(ada).balance, held(bo).balance) == (0, 100)
    ledger.extend(expires_at=clock.now() + timedelta(days=900), key="e", actor=None, reason="A storm")
    ledger.unmerge(merge=merge)
    assert (held(ada).balance, held(bo).balance) == (100, 0)
    assert list(Lot.objects.filter(customer=ada).order_by("pk").values_list("remaining", flat=True)) == [60, 40]
    assert audit.problems() == []


def test_what_was_spent_meanwhile_stays_spent(ada: Customer, bo: Customer) -> None:
    give(bo, 10, key="own", expires_at=LATER)
    [row] = ledger.merge(customer=ada, into=bo, key="m")
    ledger.redeem(customer=bo, points=75, key="r")
    ledger.unmerge(merge=row)
    assert held(ada).balance + held(bo).balance == 35
    assert held(ada).moved == -held(bo).moved


def test_a_hold_can_be_redeemed_under_its_old_name_after_a_merge(ada: Customer, bo: Customer) -> None:
    hold = ledger.authorise(customer=ada, points=30, key="cart")
    ledger.merge(customer=ada, into=bo, key="m")
    spend = ledger.post_hold(hold=hold)
    assert (spend.customer, held(bo).spent, held(bo).balance) == (bo, 30, 70)
    assert Hold.objects.filter(state="open").count() == 0


def test_what_arrives_on_a_merged_account_follows_at_night(ada: Customer, bo: Customer) -> None:
    earned = give(ada, 10, key="late refund")
    [row] = ledger.merge(customer=ada, into=bo, key="m")
    give(ada, 7, key="late order")
    ledger.reverse(entry=earned, key="v")
    assert (held(ada).balance, held(ada).debt) == (0, 3)
    assert ledger.follow_due(as_of=clock.now(), low=0, high=2**40) == 1
    assert ledger.follow_due(as_of=clock.now(), low=0, high=2**40) == 0
    assert (held(ada).debt, held(bo).balance, held(bo).debt) == (0, 107, 0)
    row.refresh_from_db()
    assert (row.points, row.debt) == (110, 3)
    ledger.unmerge(merge=row)
    assert (held(ada).balance - held(ada).debt, held(bo).balance) == (107, 0)


def test_a_merge_is_made_once_and_never_in_a_circle(ada: Customer, bo: Customer) -> None:
    cy = CustomerFactory()
    [row] = ledger.merge(customer=ada, into=bo, key="m")
    [again] = ledger.merge(customer=ada, into=bo, key="m")
    assert (again.pk, again.replayed) == (row.pk, True)
    with pytest.raises(KeyReused):
        ledger.merge(customer=bo, into=cy, key="m")
    with pytest.raises(AlreadyMerged):
        ledger.merge(customer=ada, into=cy, key="m2")
    ledger.merge(customer=bo, into=cy, key="m3")
    with pytest.raises(AlreadyMerged):
        ledger.merge(customer=cy, into=ada, key="m4")
    assert (Merge.objects.count(), held(cy).balance) == (2, 100)


def test_every_programme_is_merged(ada: Customer, bo: Customer) -> None:
    miles = Programme.objects.create(name="Miles", key="miles")
    give(ada, 9, key="km", programme=miles)
    assert len(ledger.merge(customer=ada, into=bo, key="m")) == 2
    assert set(Account.objects.filter(customer=bo).values_list("programme__name", "balance")) == {
        ("Points", 100),
        ("Miles", 9),
    }
    assert audit.problems() == []


def test_a_frozen_account_is_not_merged(ada: Customer, bo: Customer) -> None:
    ledger.freeze(accounts=[held(ada).pk])
    with pytest.raises(AccountFrozen):
        ledger.merge(customer=ada, into=bo, key="m")
    assert (held(ada).balance, Merge.objects.count()) == (100, 0)


def test_points_expire_after_a_merge_on_their_old_day(ada: Customer, bo: Customer) -> None:
    ledger.merge(customer=ada, into=bo, key="m")
    assert ledger.expire_due(as_of=SOON, low=bo.pk, high=bo.pk + 1) == 1
    assert (held(bo).balance, held(bo).expired) == (40, 60)
    assert SPRING < SOON

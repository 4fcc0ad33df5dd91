from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction

from customers.models import Customer, DirtyCustomer
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import audit, ledger
from loyalty.errors import AccountFrozen, InsufficientPoints, KeyReused, NotReversible
from loyalty.models import Account, Entry, Lot, LotSpend, Posting, Programme
from tests.factories import UserFactory
from tests.loyalty.factories import SPRING, CustomerFactory, give

pytestmark = pytest.mark.django_db


def account(customer: Customer) -> Account:
    return Account.objects.get(customer=customer)


def kinds(customer: Customer) -> list[tuple[str, int]]:
    return list(Entry.objects.filter(customer=customer).order_by("id").values_list("kind", "points"))


def everything() -> tuple[int, ...]:
    return tuple(model.objects.count() for model in (Account, Entry, Posting, Lot, LotSpend, DirtyCustomer))


# --- Earning and waiting ----------------------------------------------------------------------------------------------


def test_it_credits_points_that_can_be_spent_at_once() -> None:
    ada = CustomerFactory()
    entry = give(ada, 70, key="k")
    assert (entry.kind, entry.points, entry.replayed) == ("earn", 70, False)
    assert sorted(entry.postings.values_list("ledger", "points")) == [("available", 70), ("issued", -70)]
    assert (account(ada).balance, account(ada).pending, account(ada).earned) == (70, 0, 70)
    assert audit.problems() == []


def test_it_earns_once_for_a_key_however_often_it_is_told() -> None:
    ada = CustomerFactory()
    first = give(ada, 70, key="k")
    again = give(ada, 70, key="k")
    assert (again.pk, again.replayed) == (first.pk, True)
    assert account(ada).balance == 70


def test_it_refuses_a_key_that_earned_other_points() -> None:
    ada = CustomerFactory()
    give(ada, 70, key="k")
    before = everything()
    with pytest.raises(KeyReused):
        give(ada, 71, key="k")
    assert everything() == before


def test_it_takes_a_batch_and_passes_over_what_it_knows() -> None:
    ada, bo = CustomerFactory(), CustomerFactory()
    rows = [
        ledger.Earning(customer_id=one.pk, points=n, key=f"k{n}", effective_at=SPRING, active_at=SPRING)
        for n, one in enumerate([ada, bo, ada], start=1)
    ]
    assert ledger.earn_many([*rows, rows[0]]) == 3
    assert ledger.earn_many(rows) == 0
    assert (account(ada).balance, account(bo).balance) == (4, 2)
    assert audit.problems() == []


def test_it_keeps_pending_points_until_their_moment() -> None:
    ada = CustomerFactory()
    give(ada, 10, effective_at=SPRING, active_at=SPRING + timedelta(days=14))
    assert (account(ada).balance, account(ada).pending) == (0, 10)
    assert ledger.activate_due(as_of=SPRING + timedelta(days=13), low=0, high=2**40) == 0
    assert ledger.activate_due(as_of=SPRING + timedelta(days=14), low=ada.pk + 1, high=2**40) == 0
    assert ledger.activate_due(as_of=SPRING + timedelta(days=14), low=0, high=2**40) == 1
    assert (account(ada).balance, account(ada).pending) == (10, 0)
    assert ledger.activate_due(as_of=SPRING + timedelta(days=14), low=0, high=2**40) == 0
    assert kinds(ada) == [("earn", 10), ("activate", 10)]
    assert Entry.objects.get(kind="activate").effective_at == SPRING + timedelta(days=14)
    assert audit.problems() == []


def test_it_spends_points_whose_wait_ended_before_the_night_came() -> None:
    ada = CustomerFactory()
    give(ada, 10, effective_at=SPRING, active_at=SPRING + timedelta(days=14))
    ledger.redeem(customer=ada, points=4, key="r")
    assert kinds(ada) == [("earn", 10), ("activate", 10), ("spend", -4)]
    assert account(ada).balance == 6


@pytest.mark.parametrize(
    "points, complaint",
    [
        (0, "between 1 and"),
        (-5, "greater than zero"),
        (10**9 + 1, "between 1 and"),
        (True, "whole numbers"),
        (1.5, "whole numbers"),
    ],
)
def test_it_refuses_a_number_that_is_no_points(points: object, complaint: str) -> None:
    before = everything()
    with pytest.raises(InvalidInput, match=complaint):
        ledger.earn(customer=CustomerFactory(), points=points, key="k")  # type: ignore[arg-type]
    assert everything() == before


def test_it_refuses_points_from_the_future() -> None:
    with pytest.raises(InvalidInput, match="in the future"):
        give(CustomerFactory(), 1, effective_at=clock.now() + timedelta(minutes=1))


# --- Spending ---------------------------------------------------------------------------------------------------------


def test_it_spends_what_ends_first_first_and_what_never_ends_last() -> None:
    ada = CustomerFactory()
    now = clock.now()
    never = give(ada, 10, "never", effective_at=now - timedelta(days=9))
    late = give(ada, 10, "late", expires_at=now + timedelta(days=90), effective_at=now - timedelta(days=8))
    soon = give(ada, 10, "soon", expires_at=now + timedelta(days=9), effective_at=now - timedelta(days=7))
    spend = ledger.redeem(customer=ada, points=25, key="r")
    assert [(one.lot.entry_id, one.points) for one in spend.lot_spends.order_by("pk")] != []
    left = dict(Lot.objects.values_list("entry_id", "remaining"))
    assert left == {soon.pk: 0, late.pk: 0, never.pk: 5}
    assert dict(spend.lot_spends.values_list("lot__entry", "points")) == {soon.pk: 10, late.pk: 10, never.pk: 5}
    assert audit.problems() == []


def test_it_refuses_to_redeem_more_than_the_balance() -> None:
    ada = CustomerFactory()
    give(ada, 10)
    before = everything()
    with pytest.raises(InsufficientPoints) as refused:
        ledger.redeem(customer=ada, points=11, key="r")
    assert refused.value.extra == {"balance": 10, "points": 11}
    assert everything() == before
    assert account(ada).balance == 10


def test_it_refuses_somebody_without_points() -> None:
    before = everything()
    with pytest.raises(InsufficientPoints):
        ledger.redeem(customer=CustomerFactory(), points=1, key="r")
    assert everything() == before


def test_it_answers_a_repeated_redemption_with_the_same_entry() -> None:
    ada = CustomerFactory()
    give(ada, 10)
    first = ledger.redeem(customer=ada, points=6, key="r", reason="Mug")
    again = ledger.redeem(customer=ada, points=6, key="r", reason="Mug")
    assert (again.pk, first.replayed, again.replayed) == (first.pk, False, True)
    assert account(ada).balance == 4


def test_it_refuses_another_amount_under_the_same_key() -> None:
    ada, bo = CustomerFactory(), CustomerFactory()
    give(ada, 10)
    give(bo, 10)
    ledger.redeem(customer=ada, points=6, key="r")
    before = everything()
    for customer, points in ((ada, 5), (bo, 6)):
        with pytest.raises(KeyReused) as refused:
            ledger.redeem(customer=customer, points=points, key="r")
        assert refused.value.status == 422
    assert everything() == before


def test_it_refuses_to_redeem_from_a_frozen_account_only() -> None:
    ada, bo = CustomerFactory(), CustomerFactory()
    give(ada, 10)
    give(bo, 10)
    assert ledger.freeze(accounts=[account(ada).pk]) == 1
    assert ledger.freeze(accounts=[account(ada).pk]) == 0
    with pytest.raises(AccountFrozen):
        ledger.redeem(customer=ada, points=1, key="r")
    assert account(ada).balance == 10
    ledger.redeem(customer=bo, points=1, key="r")
    ledger.unfreeze(account=account(ada), actor=UserFactory(), reason="Looked at it")
    ledger.redeem(customer=ada, points=1, key="r2")


# --- Ending -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "day, months, last",
    [
        (date(2025, 1, 31), 1, date(2025, 2, 28)),
        (date(2024, 1, 31), 1, date(2024, 2, 29)),
        (date(2024, 2, 29), 12, date(2025, 2, 28)),
        (date(2025, 11, 30), 3, date(2026, 2, 28)),
        (date(2025, 12, 15), 1, date(2026, 1, 15)),
        (date(2025, 12, 31), 12, date(2026, 12, 31)),
    ],
)
def test_it_adds_months_to_the_same_day_or_the_last_one(day: date, months: int, last: date) -> None:
    assert ledger.add_months(day, months) == last


def test_it_lets_points_end_with_their_last_day_in_the_zone_of_the_shop() -> None:
    # 23:30 in Stockholm on 31 January is 22:30 UTC; the last day is 28 February, which ends at 23:00 UTC.
    assert ledger.expiry(datetime(2025, 1, 31, 22, 30, tzinfo=UTC), 1) == datetime(2025, 2, 28, 23, tzinfo=UTC)
    # Half an hour into 1 February there, still January in UTC.
    assert ledger.expiry(datetime(2025, 1, 31, 23, 30, tzinfo=UTC), 1) == datetime(2025, 3, 1, 23, tzinfo=UTC)
    # In summer the day ends at 22:00 UTC.
    assert ledger.expiry(datetime(2025, 1, 31, 12, tzinfo=UTC), 6) == datetime(2025, 7, 31, 22, tzinfo=UTC)
    assert ledger.expiry(SPRING, None) is None


def test_it_ends_what_is_over_and_only_once() -> None:
    ada = CustomerFactory()
    end = SPRING + timedelta(days=30)
    give(ada, 10, effective_at=SPRING, expires_at=end)
    give(ada, 5, effective_at=SPRING)
    assert ledger.expire_due(as_of=end - timedelta(seconds=1), low=0, high=2**40) == 0
    assert ledger.expire_due(as_of=end, low=ada.pk + 1, high=2**40) == 0
    assert ledger.expire_due(as_of=end, low=0, high=2**40) == 1
    assert ledger.expire_due(as_of=end, low=0, high=2**40) == 0
    assert (account(ada).balance, account(ada).expired) == (5, 10)
    entry = Entry.objects.get(kind="expire")
    assert (entry.points, entry.effective_at) == (-10, end)
    assert audit.problems() == []


def test_it_spends_on_the_last_day_and_not_after_it() -> None:
    ada = CustomerFactory()
    last_day = SPRING.date()
    give(ada, 10, effective_at=SPRING - timedelta(days=31), expires_at=clock.day_end(last_day))
    ledger.redeem(customer=ada, points=4, key="r1", effective_at=clock.day_end(last_day) - timedelta(seconds=1))
    with pytest.raises(InsufficientPoints):
        ledger.redeem(customer=ada, points=4, key="r2", effective_at=clock.day_end(last_day))
    assert account(ada).balance == 6
    assert ledger.expire_due(as_of=clock.day_end(last_day), low=0, high=2**40) == 1
    assert (account(ada).balance, account(ada).expired, account(ada).spent) == (0, 6, 4)


def test_it_hands_what_a_night_expires_down_in_that_night() -> None:
    ada = CustomerFactory()
    night = clock.day_end(SPRING.date())
    give(ada, 10, effective_at=SPRING - timedelta(days=31), expires_at=night)
    DirtyCustomer.objects.all().delete()
    ledger.expire_due(as_of=night, low=0, high=2**40)
    assert DirtyCustomer.objects.filter(customer_id=ada.pk, occurred_at__lt=night, is_history=False).count() == 1


def test_it_marks_what_lies_before_a_customer_was_loaded_as_history() -> None:
    ada = CustomerFactory(loaded_at=SPRING)
    give(ada, 10, effective_at=SPRING - timedelta(days=1))
    give(ada, 10, effective_at=SPRING + timedelta(days=1))
    marks = DirtyCustomer.objects.filter(customer_id=ada.pk).order_by("id")
    assert list(marks.values_list("is_history", flat=True)) == [True, False]


# --- Giving back ------------------------------------------------------------------------------------------------------


def test_it_gives_a_cancelled_redemption_back_to_the_lots_it_came_from() -> None:
    ada = CustomerFactory()
    now = clock.now()
    give(ada, 10, "a", expires_at=now + timedelta(days=9))
    give(ada, 10, "b", expires_at=now + timedelta(days=90))
    spend = ledger.redeem(customer=ada, points=15, key="r")
    back = ledger.cancel_redemption(entry=spend, key="c")
    assert (back.kind, back.points, back.reverses_id) == ("cancel", 15, spend.pk)
    assert sorted(Lot.objects.values_list("remaining", flat=True)) == [10, 10]
    assert (account(ada).balance, account(ada).spent) == (20, 0)
    assert ledger.cancel_redemption(entry=spend, key="c").replayed
    before = everything()
    with pytest.raises(NotReversible, match="already"):
        ledger.cancel_redemption(entry=spend, key="c2")
    assert everything() == before
    assert audit.problems() == []


def test_it_gives_back_as_expired_what_expired_meanwhile() -> None:
    ada = CustomerFactory()
    give(ada, 10, "short", effective_at=SPRING, expires_at=SPRING + timedelta(days=5))
    give(ada, 10, "long", effective_at=SPRING, expires_at=clock.now() + timedelta(days=5))
    spend = ledger.redeem(customer=ada, points=15, key="r", effective_at=SPRING + timedelta(days=1))
    ledger.cancel_redemption(entry=spend, key="c", effective_at=SPRING + timedelta(days=9))
    assert account(ada).balance == 10
    assert kinds(ada)[-2:] == [("cancel", 15), ("expire", -10)]
    assert audit.problems() == []


def test_it_refuses_to_give_back_an_earning() -> None:
    with pytest.raises(NotReversible):
        ledger.cancel_redemption(entry=give(CustomerFactory(), 10), key="c")


# --- Taking back ------------------------------------------------------------------------------------------------------


def test_it_owes_what_was_spent_and_repays_it_from_later_points() -> None:
    """Fault 31: earn 70, spend 50, refund all; then earn 60."""
    ada = CustomerFactory()
    earned = give(ada, 70)
    ledger.redeem(customer=ada, points=50, key="r")
    back = ledger.reverse(entry=earned, key="back", reason="Returned")
    assert (back.kind, back.points) == ("reverse", -20)
    assert kinds(ada)[-2:] == [("reverse", -20), ("debt", -50)]
    assert (account(ada).balance, account(ada).debt) == (0, 50)
    assert audit.problems() == []
    give(ada, 60)
    assert (account(ada).balance, account(ada).debt) == (10, 0)
    assert kinds(ada)[-2:] == [("earn", 60), ("repay", 50)]
    assert audit.problems() == []


def test_it_repays_a_debt_when_pending_points_become_usable() -> None:
    ada = CustomerFactory()
    earned = give(ada, 70)
    ledger.redeem(customer=ada, points=70, key="r")
    assert ledger.reverse(entry=earned, key="back").kind == "debt"
    give(ada, 100, effective_at=SPRING, active_at=SPRING + timedelta(days=14))
    assert (account(ada).balance, account(ada).pending, account(ada).debt) == (0, 100, 70)
    ledger.activate_due(as_of=SPRING + timedelta(days=14), low=0, high=2**40)
    assert (account(ada).balance, account(ada).pending, account(ada).debt) == (30, 0, 0)
    assert audit.problems() == []


def test_it_takes_back_from_the_own_lot_then_from_others_then_owes() -> None:
    ada = CustomerFactory()
    now = clock.now()
    returned = give(ada, 50, "returned", expires_at=now + timedelta(days=5))
    give(ada, 30, "kept", expires_at=now + timedelta(days=50))
    ledger.redeem(customer=ada, points=40, key="r")
    back = ledger.reverse(entry=returned, key="back")
    assert back.points == -40  # 10 of its own lot, 30 of the other
    assert (account(ada).balance, account(ada).debt) == (0, 10)
    assert audit.problems() == []


def test_it_takes_back_pending_points_as_pending() -> None:
    ada = CustomerFactory()
    earned = give(ada, 50, effective_at=SPRING, active_at=clock.now() + timedelta(days=1))
    ledger.reverse(entry=earned, key="back", points=20)
    assert (account(ada).balance, account(ada).pending, account(ada).debt) == (0, 30, 0)
    assert audit.problems() == []


def test_it_does_not_take_back_what_expired() -> None:
    ada = CustomerFactory()
    earned = give(ada, 50, effective_at=SPRING, expires_at=SPRING + timedelta(days=5))
    give(ada, 50, "other")
    ledger.expire_due(as_of=SPRING + timedelta(days=5), low=0, high=2**40)
    before = everything()
    with pytest.raises(NotReversible, match="expired"):
        ledger.reverse(entry=earned, key="back")
    assert everything() == before
    assert (account(ada).balance, account(ada).debt) == (50, 0)


def test_it_takes_back_no_more_than_was_given() -> None:
    ada = CustomerFactory()
    earned = give(ada, 50)
    first = ledger.reverse(entry=earned, key="b1", points=30)
    assert ledger.reverse(entry=earned, key="b1", points=30).pk == first.pk
    with pytest.raises(InvalidInput, match="At most 20"):
        ledger.reverse(entry=earned, key="b2", points=21)
    with pytest.raises(KeyReused):
        ledger.reverse(entry=earned, key="b1", points=20)
    ledger.reverse(entry=earned, key="b3")
    with pytest.raises(NotReversible):
        ledger.reverse(entry=earned, key="b4")
    assert (account(ada).balance, account(ada).reversed) == (0, 50)


def test_it_refuses_to_take_back_a_redemption() -> None:
    ada = CustomerFactory()
    give(ada, 10)
    with pytest.raises(NotReversible):
        ledger.reverse(entry=ledger.redeem(customer=ada, points=1, key="r"), key="b")


# --- By hand ----------------------------------------------------------------------------------------------------------


def test_it_adjusts_by_hand_with_a_reason_and_a_name() -> None:
    ada, ola = CustomerFactory(), UserFactory()
    given = ledger.adjust(customer=ada, points=100, key="a1", actor=ola, reason="Late parcel")
    assert (given.actor, given.reason, given.points) == (ola, "Late parcel", 100)
    assert given.lot.expires_at == ledger.expiry(given.effective_at, 12)
    taken = ledger.adjust(customer=ada, points=-30, key="a2", actor=ola, reason="Typing mistake")
    assert (account(ada).balance, account(ada).adjusted) == (70, 70)
    ledger.cancel_redemption(entry=taken, key="c", actor=ola)
    ledger.reverse(entry=given, key="b", actor=ola)
    assert (account(ada).balance, account(ada).adjusted, account(ada).reversed) == (0, 100, 100)
    assert audit.problems() == []


@pytest.mark.parametrize("reason", ["", "   "])
def test_it_refuses_an_adjustment_without_a_reason(reason: str) -> None:
    before = everything()
    with pytest.raises(InvalidInput, match="Say why"):
        ledger.adjust(customer=CustomerFactory(), points=5, key="a", actor=None, reason=reason)
    assert everything() == before


def test_it_refuses_a_deduction_beyond_the_balance() -> None:
    ada = CustomerFactory()
    give(ada, 10)
    before = everything()
    with pytest.raises(InsufficientPoints):
        ledger.adjust(customer=ada, points=-11, key="a", actor=None, reason="No")
    assert everything() == before


# --- What the database refuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE loyalty_entry SET points = points + 1",
        "DELETE FROM loyalty_entry",
        "UPDATE loyalty_posting SET points = points + 1",
        "DELETE FROM loyalty_posting",
        "UPDATE loyalty_lotspend SET points = points + 1",
        "DELETE FROM loyalty_lotspend",
        "UPDATE loyalty_account SET balance = -1",
        "UPDATE loyalty_account SET balance = balance + 1",
        "UPDATE loyalty_account SET pending = -1, earned = earned - 1",
        "UPDATE loyalty_account SET debt = -1",
        "UPDATE loyalty_lot SET remaining = amount + 1",
        "UPDATE loyalty_lot SET remaining = -1",
    ],
)
def test_the_database_refuses_to_rewrite_points(statement: str) -> None:
    """Fault 38: by raw SQL, past all our code."""
    ada = CustomerFactory()
    give(ada, 10)
    ledger.redeem(customer=ada, points=3, key="r")
    rows = [list(model.objects.order_by("pk").values_list()) for model in (Entry, Posting, LotSpend, Account, Lot)]
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert rows == [
        list(model.objects.order_by("pk").values_list()) for model in (Entry, Posting, LotSpend, Account, Lot)
    ]


def test_one_programme_is_there_from_the_start() -> None:
    programme = Programme.objects.get()
    assert (programme.pending_days, programme.expiry_months) == (14, 12)
    assert Programme.current() == programme

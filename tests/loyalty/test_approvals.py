"""Four eyes above the limit, and goodwill within a budget."""

from __future__ import annotations

import threading
from datetime import date

import pytest
from django.db import IntegrityError, transaction

from customers.models import Customer
from lifecycle_crm.accounts.models import Role, User
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import approvals, audit, goodwill, ledger
from loyalty.errors import AlreadyDecided, ApprovalRequired, BudgetSpent, FourEyes, InsufficientPoints, KeyReused
from loyalty.models import Account, Approval, Entry, GoodwillMonth, Limits, Programme
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_races import at_once

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> Customer:
    Limits.objects.create(programme=Programme.current(), approve_above=100)
    return CustomerFactory()


@pytest.fixture
def ola() -> User:
    return UserFactory(role=Role.MARKETER)


@pytest.fixture
def boss() -> User:
    return UserFactory(role=Role.OWNER)


def ask(customer: Customer, actor: User | None, points: int = 101, key: str = "k") -> Approval:
    made = approvals.adjust(customer=customer, points=points, key=key, actor=actor, reason="Lost parcel")
    assert isinstance(made, Approval)
    return made


def test_up_to_the_limit_one_person_is_enough(ada: Customer, ola: User) -> None:
    made = approvals.adjust(customer=ada, points=100, key="k", actor=ola, reason="Lost parcel")
    assert isinstance(made, Entry)
    assert (made.points, Approval.objects.count()) == (100, 0)


def test_above_it_nothing_moves_until_somebody_else_says_yes(ada: Customer, ola: User, boss: User) -> None:
    asked = ask(ada, ola)
    assert (asked.state, Entry.objects.count()) == ("waiting", 0)
    done = approvals.approve(approval=asked, actor=boss, note="Seen the photo")
    assert (done.state, done.decided_by, done.note) == ("approved", boss, "Seen the photo")
    assert (done.entry.points, done.entry.actor, done.entry.reason) == (101, ola, "Lost parcel")
    assert done.entry.explanation == {"asked_by": ola.pk, "approved_by": boss.pk}
    assert Account.objects.get(customer=ada).balance == 101
    assert audit.problems() == []


def test_the_limit_cannot_be_walked_around_through_the_ledger(ada: Customer, ola: User) -> None:
    for points in (101, -101):
        with pytest.raises(ApprovalRequired):
            ledger.adjust(customer=ada, points=points, key="k", actor=ola, reason="Lost parcel")
    assert not Entry.objects.exists()


def test_who_asked_cannot_decide_nor_can_a_role_that_may_not(ada: Customer, ola: User, boss: User) -> None:
    own = ask(ada, boss)
    other = ask(ada, ola, key="k2")
    with pytest.raises(FourEyes):
        approvals.approve(approval=own, actor=boss)
    with pytest.raises(FourEyes):
        approvals.refuse(approval=own, actor=boss)
    with pytest.raises(FourEyes):
        approvals.approve(approval=other, actor=UserFactory(role=Role.SUPPORT))
    assert set(Approval.objects.values_list("state", flat=True)) == {"waiting"}
    assert not Entry.objects.exists()


def test_the_table_itself_refuses_one_pair_of_eyes(ada: Customer, boss: User) -> None:
    own = ask(ada, boss)
    with pytest.raises(IntegrityError), transaction.atomic():
        Approval.objects.filter(pk=own.pk).update(state="approved", decided_by=boss)


def test_it_is_decided_once(ada: Customer, ola: User, boss: User) -> None:
    asked = ask(ada, ola)
    approvals.refuse(approval=asked, actor=boss, note="No photo")
    with pytest.raises(AlreadyDecided):
        approvals.approve(approval=asked, actor=UserFactory(role=Role.ADMIN))
    asked.refresh_from_db()
    assert (asked.state, asked.decided_by, Entry.objects.count()) == ("refused", boss, 0)


def test_a_yes_to_points_that_are_not_there_leaves_it_waiting(ada: Customer, ola: User, boss: User) -> None:
    give(ada, 50)
    asked = ask(ada, ola, points=-200)
    with pytest.raises(InsufficientPoints):
        approvals.approve(approval=asked, actor=boss)
    asked.refresh_from_db()
    assert (asked.state, asked.decided_by, Account.objects.get().balance) == ("waiting", None, 50)


def test_the_same_request_asks_once(ada: Customer, ola: User, boss: User) -> None:
    first, again = ask(ada, ola), ask(ada, ola)
    assert (again.pk, again.replayed) == (first.pk, True)
    with pytest.raises(KeyReused):
        ask(ada, ola, points=102)
    approvals.approve(approval=first, actor=boss)
    after = ask(ada, ola)
    assert (after.pk, after.state, Entry.objects.count()) == (first.pk, "approved", 1)


def test_a_machine_s_request_needs_one_person(ada: Customer, boss: User) -> None:
    asked = ask(ada, None)
    assert approvals.approve(approval=asked, actor=boss).entry.points == 101


@pytest.mark.parametrize("reason", ["", " ", "x" * 301])
def test_a_request_needs_a_reason(ada: Customer, ola: User, reason: str) -> None:
    with pytest.raises(InvalidInput):
        approvals.adjust(customer=ada, points=101, key="k", actor=ola, reason=reason)
    assert not Approval.objects.exists()


# --- Goodwill ---------------------------------------------------------------------------------------------------------


def gift(customer: Customer, actor: User, points: int, key: str) -> Entry:
    return goodwill.give(customer=customer, points=points, key=key, actor=actor, reason="Late parcel")


def test_goodwill_comes_out_of_the_month_s_budget_and_stops_at_it(ada: Customer) -> None:
    sam = UserFactory(role=Role.SUPPORT)
    goodwill.allow(role=Role.SUPPORT, points=100)
    entry = gift(ada, sam, 60, "a")
    assert (entry.kind, entry.points, entry.source_type, entry.actor) == ("adjust", 60, "goodwill", sam)
    assert (goodwill.budget(sam).used, goodwill.budget(sam).left) == (60, 40)
    with pytest.raises(BudgetSpent) as refusal:
        gift(ada, sam, 41, "b")
    assert refusal.value.extra == {"left": 40, "points": 41}
    gift(ada, sam, 40, "c")
    assert (goodwill.budget(sam).left, Account.objects.get().balance) == (0, 100)
    assert goodwill.budget(UserFactory(role=Role.SUPPORT)).left == 100


def test_a_person_s_own_allowance_comes_before_the_role_s(ada: Customer) -> None:
    sam = UserFactory(role=Role.SUPPORT)
    goodwill.allow(role=Role.SUPPORT, points=100)
    goodwill.allow(user=sam, points=10)
    with pytest.raises(BudgetSpent):
        gift(ada, sam, 11, "a")
    goodwill.allow(user=sam, points=20)
    gift(ada, sam, 11, "a")
    assert goodwill.budget(sam).left == 9


def test_without_a_budget_or_a_reason_nothing_is_given(ada: Customer) -> None:
    sam = UserFactory(role=Role.SUPPORT)
    with pytest.raises(BudgetSpent):
        gift(ada, sam, 1, "a")
    goodwill.allow(role=Role.SUPPORT, points=100)
    with pytest.raises(InvalidInput):
        goodwill.give(customer=ada, points=5, key="b", actor=sam, reason=" ")
    for points in (0, -5):
        with pytest.raises(InvalidInput):
            gift(ada, sam, points, "c")
    assert (Entry.objects.count(), goodwill.budget(sam).left) == (0, 100)


def test_the_same_gift_twice_takes_from_the_budget_once(ada: Customer) -> None:
    sam = UserFactory(role=Role.SUPPORT)
    goodwill.allow(role=Role.SUPPORT, points=100)
    first, again = gift(ada, sam, 60, "a"), gift(ada, sam, 60, "a")
    assert (again.pk, again.replayed, goodwill.budget(sam).left) == (first.pk, True, 40)
    with pytest.raises(KeyReused):
        gift(ada, sam, 61, "a")


def test_a_new_month_is_a_new_budget() -> None:
    sam = UserFactory(role=Role.SUPPORT)
    goodwill.allow(role=Role.SUPPORT, points=100)
    GoodwillMonth.objects.create(user=sam, month=date(2026, 1, 1), points=100, used=100)
    assert goodwill.budget(sam, day=date(2026, 1, 31)).left == 0
    assert goodwill.budget(sam, day=date(2026, 2, 1)).left == 100


def test_an_allowance_is_for_a_role_or_for_a_person() -> None:
    for told in ({"role": "", "user": None}, {"role": "king"}, {"role": "support", "user": UserFactory()}):
        with pytest.raises(InvalidInput):
            goodwill.allow(points=5, **told)
    with pytest.raises(InvalidInput):
        goodwill.allow(role=Role.SUPPORT, points=-1)


# --- At once ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_gifts_at_once_never_exceed_the_budget(ada: Customer) -> None:
    sam = UserFactory(role=Role.SUPPORT)
    goodwill.allow(role=Role.SUPPORT, points=100)
    ends = at_once(12, lambda n: gift(ada, sam, 15, f"g{n}"))
    assert ends == {"done": 6, "budget_spent": 6}
    assert (goodwill.budget(sam).used, Account.objects.get().balance) == (90, 90)


@pytest.mark.django_db(transaction=True)
def test_without_the_guard_the_budget_is_given_twice(ada: Customer) -> None:
    """The twin: look at the budget first, write what was seen afterwards."""
    sam = UserFactory(role=Role.SUPPORT)
    month = GoodwillMonth.objects.create(user=sam, month=date(2026, 1, 1), points=100)
    everybody_looked = threading.Barrier(6)

    def work(n: int) -> None:
        used = GoodwillMonth.objects.get(pk=month.pk).used
        everybody_looked.wait(30)
        ledger.adjust(customer=ada, points=30, key=f"g{n}", actor=sam, reason="Late parcel")
        GoodwillMonth.objects.filter(pk=month.pk).update(used=used + 30)

    assert at_once(6, work) == {"done": 6}
    month.refresh_from_db()
    assert (month.used, Account.objects.get().balance) == (30, 180)


@pytest.mark.django_db(transaction=True)
def test_the_same_gift_many_times_at_once_is_one(ada: Customer) -> None:
    sam = UserFactory(role=Role.SUPPORT)
    goodwill.allow(role=Role.SUPPORT, points=100)
    assert at_once(8, lambda n: gift(ada, sam, 15, "g")) == {"done": 8}
    assert (goodwill.budget(sam).used, Account.objects.get().balance) == (15, 15)


@pytest.mark.django_db(transaction=True)
def test_two_who_say_yes_at_once_move_the_points_once(ada: Customer) -> None:
    asked = ask(ada, UserFactory(role=Role.MARKETER))
    deciders = [UserFactory(role=Role.ADMIN) for _ in range(6)]
    ends = at_once(6, lambda n: approvals.approve(approval=asked, actor=deciders[n]))
    assert ends == {"done": 1, "already_decided": 5}
    assert Account.objects.get().balance == 101

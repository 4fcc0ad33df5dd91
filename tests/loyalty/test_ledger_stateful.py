"""The ledger against a model that knows nothing of databases: any sequence of movements leaves both with the same points."""

from __future__ import annotations

import copy
import os
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from loyalty import audit, ledger
from loyalty.errors import AlreadyMerged, HoldResolved, InsufficientPoints, NothingToExtend, NotReversible
from loyalty.models import Account, Entry, Hold, Lot, Merge
from tests.loyalty.factories import SPRING, CustomerFactory


@dataclass(eq=False)
class ModelLot:
    amount: int
    left: int
    active_at: datetime
    expires_at: datetime | None
    is_active: bool
    taken_back: int = 0
    expired: int = 0


@dataclass(eq=False)
class ModelHold:
    points: int
    took: list[tuple[ModelLot, int]]
    expires_at: datetime
    is_open: bool = True
    moved_to: ModelHold | None = None


@dataclass(eq=False)
class Person:
    """What the ledger promises one customer, in the plainest words there are."""

    lots: list[ModelLot] = field(default_factory=list)
    holds: list[ModelHold] = field(default_factory=list)
    debt: int = 0
    spent: int = 0
    expired: int = 0
    reversed: int = 0
    moved: int = 0

    @property
    def balance(self) -> int:
        return sum(lot.left for lot in self.lots if lot.is_active)

    @property
    def pending(self) -> int:
        return sum(lot.left for lot in self.lots if not lot.is_active)

    @property
    def held(self) -> int:
        return sum(hold.points for hold in self.holds if hold.is_open)

    @property
    def worth(self) -> int:
        return self.balance + self.pending + self.held - self.debt

    def burn(self, points: int) -> list[tuple[ModelLot, int]]:
        far = datetime.max.replace(tzinfo=SPRING.tzinfo)
        took = []
        for lot in sorted(self.lots, key=lambda one: (one.expires_at or far, one.active_at, self.lots.index(one))):
            part = min(points, lot.left) if lot.is_active else 0
            if part:
                lot.left -= part
                points -= part
                took.append((lot, part))
        assert points == 0
        return took

    def hold(self, points: int, ends: datetime) -> ModelHold:
        made = ModelHold(points, self.burn(points), ends)
        self.holds.append(made)
        return made

    def free(self, hold: ModelHold, points: int) -> list[tuple[ModelLot, int]]:
        """Give so many back, the lots drawn on last first; what it keeps."""
        hold.is_open = False
        kept = []
        for lot, part in hold.took[::-1]:
            back = min(part, points)
            lot.left += back
            points -= back
            kept.append((lot, part - back))
        return kept

    def free_due(self, now: datetime) -> bool:
        due = [hold for hold in self.holds if hold.is_open and hold.expires_at <= now]
        for hold in due:
            self.free(hold, hold.points)
        return bool(due)

    def activate(self, now: datetime) -> None:
        for lot in self.lots:
            lot.is_active = lot.is_active or (lot.left > 0 and lot.active_at <= now)

    def expire(self, now: datetime) -> None:
        for lot in self.lots:
            if lot.is_active and lot.expires_at and lot.expires_at <= now:
                self.expired += lot.left
                lot.expired += lot.left
                lot.left = 0

    def repay(self) -> None:
        points = min(self.debt, self.balance)
        self.burn(points)
        self.debt -= points

    def settle(self, now: datetime) -> None:
        self.free_due(now)
        self.activate(now)
        self.expire(now)
        self.repay()

    def can_spend(self, points: int, now: datetime) -> bool:
        trial = copy.deepcopy(self)
        trial.settle(now)
        return trial.balance >= points

    def give(self, other: Person, points: int) -> None:
        for lot, part in sorted(self.burn(points), key=lambda pair: self.lots.index(pair[0])):
            other.lots.append(ModelLot(part, part, lot.active_at, lot.expires_at, is_active=True))
        self.moved -= points
        other.moved += points

    def pour_into(self, other: Person, now: datetime) -> None:
        """Everything: what a merge moves."""
        self.settle(now)
        other.settle(now)
        holds = [hold for hold in self.holds if hold.is_open]
        for hold in holds:
            self.free(hold, hold.points)
        for lot in [one for one in self.lots if one.left]:
            other.lots.append(ModelLot(lot.left, lot.left, lot.active_at, lot.expires_at, lot.is_active))
            self.moved, other.moved = self.moved - lot.left, other.moved + lot.left
            lot.left = 0
        self.moved, other.moved = self.moved + self.debt, other.moved - self.debt
        other.debt, self.debt = other.debt + self.debt, 0
        for hold in holds:
            hold.moved_to = other.hold(hold.points, hold.expires_at)
        self.repay()
        other.repay()


WHO = st.sampled_from([0, 1])
Earned = tuple[Entry, ModelLot, int]
Spent = tuple[Entry, list[tuple[ModelLot, int]], int]


class Ledger(RuleBasedStateMachine):
    earned = Bundle("earned")
    spends = Bundle("spends")
    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.customers = [CustomerFactory(), CustomerFactory()]
        self.people = [Person(), Person()]
        self.merge: Merge | None = None
        self.handles: dict[int, ModelHold] = {}
        self.now = SPRING
        self.turn = 0

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    def key(self) -> str:
        self.turn += 1
        return f"step:{self.turn}"

    def where(self, hold: Hold) -> ModelHold:
        """What the model knows of a hold, wherever merges have taken it."""
        found = self.handles[hold.pk]
        while found.moved_to:
            found = found.moved_to
        return found

    def whose(self, hold: ModelHold) -> Person:
        return next(one for one in self.people if hold in one.holds)

    @rule(
        target=earned,
        who=WHO,
        points=st.integers(1, 60),
        wait=st.sampled_from([0, 0, 3]),
        life=st.sampled_from([None, 2, 9]),
    )
    def earn(self, who: int, points: int, wait: int, life: int | None) -> Earned:
        active_at = self.now + timedelta(days=wait)
        ends = None if life is None else self.now + timedelta(days=life)
        entry = ledger.earn(
            customer=self.customers[who], points=points, key=self.key(), effective_at=self.now, active_at=active_at,
            expires_at=ends,
        )  # fmt: skip
        lot = ModelLot(points, points, active_at, ends, is_active=wait == 0)
        self.people[who].lots.append(lot)
        if wait == 0:
            self.people[who].repay()
        return entry, lot, who

    @rule(target=spends, who=WHO, points=st.integers(1, 90))
    def redeem(self, who: int, points: int) -> object:
        customer, person, key = self.customers[who], self.people[who], self.key()
        if not person.can_spend(points, self.now):
            with pytest.raises(InsufficientPoints):
                ledger.redeem(customer=customer, points=points, key=key, effective_at=self.now)
            return multiple()
        entry = ledger.redeem(customer=customer, points=points, key=key, effective_at=self.now)
        assert ledger.redeem(customer=customer, points=points, key=key, effective_at=self.now).pk == entry.pk
        person.settle(self.now)
        person.spent += points
        return entry, person.burn(points), who

    @rule(spend=consumes(spends))
    def cancel(self, spend: Spent) -> None:
        entry, took, who = spend
        ledger.cancel_redemption(entry=entry, key=self.key(), effective_at=self.now)
        for lot, points in took:
            lot.left += points
            self.people[who].spent -= points
        self.people[who].settle(self.now)

    @rule(one=earned, share=st.sampled_from([1, 2, 3]))
    def refund(self, one: Earned, share: int) -> None:
        entry, lot, who = one
        person = self.people[who]
        left = lot.amount - lot.expired - lot.taken_back
        if left <= 0:
            with pytest.raises(NotReversible):
                ledger.reverse(entry=entry, key=self.key(), effective_at=self.now)
            return
        points = max(1, left // share)
        ledger.reverse(entry=entry, key=self.key(), points=points, effective_at=self.now)
        own = min(points, lot.left)
        lot.left -= own
        other = min(points - own, person.balance)
        person.burn(other)
        person.debt += points - own - other
        lot.taken_back += points
        person.reversed += points

    @rule(target=holds, who=WHO, points=st.integers(1, 60), days=st.integers(1, 6))
    def authorise(self, who: int, points: int, days: int) -> object:
        customer, person, key = self.customers[who], self.people[who], self.key()
        ends = self.now + timedelta(days=days)
        told = {"customer": customer, "points": points, "key": key, "effective_at": self.now, "expires_at": ends}
        if not person.can_spend(points, self.now):
            with pytest.raises(InsufficientPoints):
                ledger.authorise(**told)
            return multiple()
        hold = ledger.authorise(**told)
        assert ledger.authorise(**told).pk == hold.pk
        person.settle(self.now)
        self.handles[hold.pk] = person.hold(points, ends)
        return hold

    @rule(target=spends, row=holds, share=st.sampled_from([1, 1, 2]))
    def post(self, row: Hold, share: int) -> object:
        hold = self.where(row)
        points = max(1, hold.points // share)
        if not hold.is_open or hold.expires_at <= self.now:
            before = Entry.objects.count()
            with suppress(HoldResolved):  # the very same post again answers with what it did
                assert ledger.post_hold(hold=row, points=points, effective_at=self.now).replayed
            assert Entry.objects.count() == before
            return multiple()
        person = self.whose(hold)
        entry = ledger.post_hold(hold=row, points=points, effective_at=self.now)
        took = person.free(hold, hold.points - points)
        person.spent += points
        person.settle(self.now)
        return entry, took, self.people.index(person)

    @rule(row=holds)
    def void(self, row: Hold) -> None:
        hold = self.where(row)
        if not hold.is_open or hold.expires_at <= self.now:
            before = Entry.objects.count()
            with suppress(HoldResolved):
                assert ledger.void_hold(hold=row, effective_at=self.now).replayed
            assert Entry.objects.count() == before
            return
        person = self.whose(hold)
        ledger.void_hold(hold=row, effective_at=self.now)
        person.free(hold, hold.points)
        person.settle(self.now)

    @rule(who=WHO, points=st.integers(1, 60))
    def transfer(self, who: int, points: int) -> None:
        person, other = self.people[who], self.people[1 - who]
        told = {
            "customer": self.customers[who], "to": self.customers[1 - who], "points": points, "key": self.key(),
            "effective_at": self.now,
        }  # fmt: skip
        if not person.can_spend(points, self.now):
            with pytest.raises(InsufficientPoints):
                ledger.transfer(**told)
            return
        ledger.transfer(**told)
        person.settle(self.now)
        other.settle(self.now)
        person.give(other, points)
        person.repay()
        other.repay()

    @rule()
    def merge_them(self) -> None:
        told = {"customer": self.customers[0], "into": self.customers[1], "key": self.key(), "effective_at": self.now}
        if self.merge is not None:
            with pytest.raises(AlreadyMerged):
                ledger.merge(**told)
            return
        if not Account.objects.filter(customer=self.customers[0]).exists():
            assert ledger.merge(**told) == []
            return
        [self.merge] = ledger.merge(**told)
        self.people[0].pour_into(self.people[1], self.now)

    @rule()
    def unmerge_them(self) -> None:
        """What comes back depends on what was done since; that nothing is lost or made does not."""
        if self.merge is None:
            return
        for one in self.people:
            one.settle(self.now)
        worth = sum(one.worth + one.expired for one in self.people)
        ledger.unmerge(merge=self.merge, effective_at=self.now)
        self.merge = None
        self.adopt()
        assert sum(one.worth + one.expired for one in self.people) == worth

    def adopt(self) -> None:
        for customer, person in zip(self.customers, self.people, strict=True):
            held = Account.objects.filter(customer=customer).first() or Account()
            rows = Lot.objects.filter(customer=customer).order_by("pk")
            for lot, row in zip(person.lots, rows, strict=True):
                gone = sum(one.points for one in row.spends.filter(entry__kind="expire"))
                lot.left, lot.is_active, lot.expired = row.remaining, row.activated_at is not None, gone
                lot.expires_at = row.expires_at
            person.debt, person.moved, person.expired = held.debt, held.moved, held.expired
            by_pk = dict(zip(rows.values_list("pk", flat=True), person.lots, strict=True))
            for hold in person.holds:
                hold.is_open = False
            for row in Hold.objects.filter(customer=customer, state="open").order_by("pk"):
                took = [(by_pk[one.lot_id], one.points) for one in row.entry.lot_spends.order_by("pk")]
                new = ModelHold(row.points, sorted(took, key=lambda pair: _order(person, pair[0])), row.expires_at)
                person.holds.append(new)
                while hasattr(row, "moved_from"):
                    row = row.moved_from
                self.handles[row.pk] = new

    @rule(who=st.sampled_from([0, 1, None]), days=st.integers(1, 8))
    def extend(self, who: int | None, days: int) -> None:
        """Nothing moves; what is alive and would end earlier ends later, as long as it is not all held."""
        ends = self.now + timedelta(days=days)
        people = self.people if who is None else [self.people[who]]
        found = [
            lot
            for person in people
            for lot in person.lots
            if lot.left > 0 and lot.expires_at is not None and self.now < lot.expires_at < ends
        ]
        told = {
            "customers": None if who is None else [self.customers[who]], "expires_at": ends, "key": self.key(),
            "actor": None, "reason": "A storm", "effective_at": self.now,
        }  # fmt: skip
        if not found:
            with pytest.raises(NothingToExtend):
                ledger.extend(**told)
            return
        made = ledger.extend(**told)
        assert ledger.extend(**told).pk == made.pk
        assert made.points == sum(lot.left for lot in found)
        for lot in found:
            lot.expires_at = ends

    @rule(days=st.integers(1, 4))
    def wait(self, days: int) -> None:
        self.now += timedelta(days=days)

    @rule()
    def night(self) -> None:
        pks = [one.pk for one in self.customers]
        span = {"as_of": self.now, "low": min(pks), "high": max(pks) + 1}
        ledger.release_due(**span)
        ledger.activate_due(**span)
        ledger.expire_due(**span)
        ledger.follow_due(**span)
        for person in self.people:
            if person.free_due(self.now):
                person.expire(self.now)
                person.repay()
            due = any(not lot.is_active and lot.left > 0 and lot.active_at <= self.now for lot in person.lots)
            person.activate(self.now)
            if due:
                person.repay()
            person.expire(self.now)
        ada, bo = self.people
        if self.merge is not None and (ada.balance or ada.pending or ada.debt):
            ada.pour_into(bo, self.now)

    @invariant()
    def both_agree(self) -> None:
        for customer, person in zip(self.customers, self.people, strict=True):
            held = Account.objects.filter(customer=customer).first() or Account()
            names = ("balance", "pending", "held", "debt", "spent", "expired", "reversed", "moved")
            assert {name: getattr(held, name) for name in names} == {name: getattr(person, name) for name in names}
            assert held.balance == 0 or held.debt == 0
            lots = Lot.objects.filter(customer=customer).order_by("pk").values_list("remaining", "expires_at")
            assert list(lots) == [(lot.left, lot.expires_at) for lot in person.lots]
        assert audit.problems() == []


EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "40"))


def _order(person: Person, lot: ModelLot) -> tuple[datetime, datetime, int]:
    far = datetime.max.replace(tzinfo=SPRING.tzinfo)
    return lot.expires_at or far, lot.active_at, person.lots.index(lot)


@pytest.mark.django_db
def test_any_sequence_of_movements_leaves_the_ledger_as_the_model() -> None:
    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

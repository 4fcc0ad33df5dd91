"""The ledger against a model that knows nothing of databases: any sequence of movements leaves both with the same points."""

from __future__ import annotations

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
from loyalty.errors import InsufficientPoints, NotReversible
from loyalty.models import Account, Entry, Lot
from tests.loyalty.factories import SPRING, CustomerFactory


@dataclass
class ModelLot:
    number: int
    amount: int
    left: int
    active_at: datetime
    expires_at: datetime | None
    is_active: bool
    taken_back: int = 0
    expired: int = 0


@dataclass
class Model:
    """What the ledger promises, in the plainest words there are."""

    lots: list[ModelLot] = field(default_factory=list)
    debt: int = 0
    spent: int = 0
    expired: int = 0
    reversed: int = 0

    @property
    def balance(self) -> int:
        return sum(lot.left for lot in self.lots if lot.is_active)

    @property
    def pending(self) -> int:
        return sum(lot.left for lot in self.lots if not lot.is_active)

    def burn(self, points: int) -> list[tuple[ModelLot, int]]:
        far = datetime.max.replace(tzinfo=SPRING.tzinfo)
        took = []
        for lot in sorted(self.lots, key=lambda one: (one.expires_at or far, one.active_at, one.number)):
            part = min(points, lot.left) if lot.is_active else 0
            if part:
                lot.left -= part
                points -= part
                took.append((lot, part))
        assert points == 0
        return took

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
        self.activate(now)
        self.expire(now)
        self.repay()

    def can_spend(self, points: int, now: datetime) -> bool:
        alive = [
            lot.left
            for lot in self.lots
            if (lot.is_active or lot.active_at <= now) and not (lot.expires_at and lot.expires_at <= now)
        ]
        return sum(alive) - self.debt >= points


class Ledger(RuleBasedStateMachine):
    earned = Bundle("earned")
    spends = Bundle("spends")

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.customer = CustomerFactory()
        self.model = Model()
        self.now = SPRING
        self.turn = 0

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    def key(self) -> str:
        self.turn += 1
        return f"step:{self.turn}"

    @rule(target=earned, points=st.integers(1, 60), wait=st.sampled_from([0, 0, 3]), life=st.sampled_from([None, 2, 9]))
    def earn(self, points: int, wait: int, life: int | None) -> tuple[Entry, ModelLot]:
        active_at = self.now + timedelta(days=wait)
        ends = None if life is None else self.now + timedelta(days=life)
        entry = ledger.earn(
            customer=self.customer, points=points, key=self.key(), effective_at=self.now, active_at=active_at,
            expires_at=ends,
        )  # fmt: skip
        lot = ModelLot(len(self.model.lots), points, points, active_at, ends, is_active=wait == 0)
        self.model.lots.append(lot)
        if wait == 0:
            self.model.repay()
        return entry, lot

    @rule(target=spends, points=st.integers(1, 90))
    def redeem(self, points: int) -> object:
        if not self.model.can_spend(points, self.now):
            with pytest.raises(InsufficientPoints):
                ledger.redeem(customer=self.customer, points=points, key=self.key(), effective_at=self.now)
            return multiple()
        key = self.key()
        entry = ledger.redeem(customer=self.customer, points=points, key=key, effective_at=self.now)
        assert ledger.redeem(customer=self.customer, points=points, key=key, effective_at=self.now).pk == entry.pk
        self.model.settle(self.now)
        self.model.spent += points
        return entry, self.model.burn(points)

    @rule(spend=consumes(spends))
    def cancel(self, spend: tuple[Entry, list[tuple[ModelLot, int]]]) -> None:
        entry, took = spend
        ledger.cancel_redemption(entry=entry, key=self.key(), effective_at=self.now)
        for lot, points in took:
            lot.left += points
            self.model.spent -= points
        self.model.settle(self.now)

    @rule(one=earned, share=st.sampled_from([1, 2, 3]))
    def reverse(self, one: tuple[Entry, ModelLot], share: int) -> None:
        entry, lot = one
        left = lot.amount - lot.expired - lot.taken_back
        if left <= 0:
            with pytest.raises(NotReversible):
                ledger.reverse(entry=entry, key=self.key(), effective_at=self.now)
            return
        points = max(1, left // share)
        ledger.reverse(entry=entry, key=self.key(), points=points, effective_at=self.now)
        own = min(points, lot.left)
        lot.left -= own
        other = min(points - own, self.model.balance)
        self.model.burn(other)
        self.model.debt += points - own - other
        lot.taken_back += points
        self.model.reversed += points

    @rule(days=st.integers(1, 4))
    def wait(self, days: int) -> None:
        self.now += timedelta(days=days)

    @rule()
    def night(self) -> None:
        low, high = self.customer.pk, self.customer.pk + 1
        ledger.activate_due(as_of=self.now, low=low, high=high)
        ledger.expire_due(as_of=self.now, low=low, high=high)
        due = any(not lot.is_active and lot.left > 0 and lot.active_at <= self.now for lot in self.model.lots)
        self.model.activate(self.now)
        if due:
            self.model.repay()
        self.model.expire(self.now)

    @invariant()
    def both_agree(self) -> None:
        held = Account.objects.filter(customer=self.customer).first() or Account()
        assert (held.balance, held.pending, held.debt, held.spent, held.expired, held.reversed) == (
            self.model.balance, self.model.pending, self.model.debt, self.model.spent, self.model.expired,
            self.model.reversed,
        )  # fmt: skip
        assert held.balance == 0 or held.debt == 0
        lots = Lot.objects.filter(customer=self.customer).order_by("pk").values_list("remaining", flat=True)
        assert list(lots) == [lot.left for lot in self.model.lots]
        assert audit.problems() == []


@pytest.mark.django_db
def test_any_sequence_of_movements_leaves_the_ledger_as_the_model() -> None:
    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=30, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )

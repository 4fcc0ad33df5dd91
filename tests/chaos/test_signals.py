"""Fault 52: whatever ends a process in the middle of a commit, all that should follow from a committed row follows."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from customers.models import Customer, CustomerFacts, DirtyCustomer, Order
from lifecycle_crm import reactions
from lifecycle_crm.lib import clock
from loyalty.models import Account, Entry
from stages.models import StageTransition
from tests.chaos import plan, town
from tests.chaos.actors import CAUGHT, Stage

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

PEOPLE = 5


@dataclass
class Hits:
    by_signal: Counter[str] = field(default_factory=Counter)
    by_role: Counter[str] = field(default_factory=Counter)


def ended_in_commits(stage: Stage, *, signals: int, of: str, **order: object) -> Hits:
    """So many processes that tell orders, and others that work on what follows, each hit while it commits."""
    since = clock.day_start(clock.last_complete_day())
    town.furnish(since=since)
    town.settle_in(PEOPLE, since=since)
    dice, found = plan.dice(of), Hits()
    for n in range(4 * signals):
        if found.by_role.total() == signals:
            break
        name, is_caught = dice.choice(["SIGTERM", "SIGQUIT"]), dice.random() < 0.5
        role = "tell" if "unsafe" in order or found.by_role["tell"] <= 2 * found.by_role["react"] else "react"
        # Who works on facts commits for each kind of them, and then for the customers they are about.
        at = 1 if "unsafe" in order else dice.randrange(1, 12 if role == "tell" else 4)
        hit = {"name": name, "at": at, "after": dice.random() * 0.002, "is_caught": is_caught}
        ended = stage.wait(stage.start(role, name=f"P{n}", people=PEOPLE, signal=hit, **order))
        if role == "react" and ended == 0:
            stage.wait(stage.start("tell", name=f"Q{n}", people=PEOPLE, signal={**hit, "at": 3}, **order))
            continue  # it had done all there was before its turn came
        assert ended == (CAUGHT if is_caught else -getattr(signal, name)), stage.said.read_text()[-3000:]
        found.by_signal[f"{name} {'caught' if is_caught else 'not caught'}"] += 1
        found.by_role[role] += 1
    return found


def without_what_follows() -> Counter[str]:
    """Committed orders from which something did not follow."""
    lost: Counter[str] = Counter()
    keys = set(Entry.objects.values_list("key", flat=True))
    bought: Counter[int] = Counter()
    for order in Order.objects.all():
        bought[order.customer_id] += 1
        lost["points"] += f"order:{order.pk}" not in keys
        lost["reaction"] += order.reacted_at is None
    for row in CustomerFacts.objects.all():
        lost["facts"] += row.orders != bought[row.pk]
        moves = StageTransition.objects.filter(customer=row.pk).order_by("-pk").values_list("to_stage", flat=True)
        lost["stages"] += (moves[0] if moves else "") != row.stage
    lost["marks"] += DirtyCustomer.objects.count()
    return +lost


def test_all_that_should_follow_from_a_committed_row_follows(stage: Stage, tell: Callable[..., None]) -> None:
    """52: SIGTERM and SIGQUIT in the middle of commits of who tells facts and of who works on them."""
    signals = 20 * plan.ROUNDS or 12
    hit = ended_in_commits(stage, signals=signals, of="signals")
    reactions.run(seconds=60)
    tell(signals=dict(sorted(hit.by_signal.items())), hit=dict(hit.by_role), orders=Order.objects.count())
    assert hit.by_role.total() == signals
    assert min(hit.by_role["tell"], hit.by_role["react"]) > signals // 5
    assert Order.objects.count() > signals
    assert without_what_follows() == Counter()
    assert Entry.objects.filter(key__startswith="order:").count() == Order.objects.count()
    assert Account.objects.count() == CustomerFacts.objects.exclude(orders=0).count() == Customer.objects.count()


def test_its_unsafe_twin_that_remembers_what_follows_in_the_process_loses_it(
    stage: Stage, tell: Callable[..., None]
) -> None:
    """52, twin: what follows hangs on a hook after the commit, not on a row."""
    ended_in_commits(stage, signals=20 * plan.ROUNDS or 8, of="signals", unsafe="no_rows")
    reactions.run(seconds=60)
    lost = without_what_follows()
    tell(orders=Order.objects.count(), **lost)
    assert lost["points"] > 0, (lost, Order.objects.count())

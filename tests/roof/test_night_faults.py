"""The night under ugly conditions: an outage while facts arrive, and a worker that was stopped longer than its lease."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine

from customers import facts
from customers.models import Customer, Event, Order
from lifecycle_crm import night, reactions
from lifecycle_crm.lib import clock
from stages.models import Chunk, Night, StageTransition
from tests.fixtures import wait_until
from tests.roof.test_night import _start_again, at_noon, picture, shop  # noqa: F401 (a fixture)

ROOT = Path(__file__).resolve().parent.parent.parent


def _arrive(days_ago: int) -> None:
    """An order, a visit and the facts they make dirty, on a day of the outage."""
    at = clock.now() - timedelta(days=days_ago)
    for n, customer in enumerate(Customer.objects.order_by("pk")[days_ago : days_ago + 8]):
        Order.objects.create(
            customer=customer, source="t", source_id=f"late-{days_ago}-{n}", placed_at=at, currency="USD",
            amount_minor=700, base_minor=700,
        )  # fmt: skip
        Event.objects.create(
            customer=customer, name="visit", occurred_at=at, source="t", source_id=f"late-{days_ago}-{n}"
        )
        facts.mark([customer.pk], occurred_at=at)


@pytest.mark.django_db(transaction=True)
def test_three_days_away_while_orders_arrive_end_like_three_days_at_work(at_noon: None) -> None:  # noqa: F811
    """The nights are late, the facts are not: what was written meanwhile counts for the night of its own date."""
    shop(50, days=100)
    last = clock.last_complete_day()
    first = last - timedelta(days=20)
    away = [clock.day_end(last) - timedelta(days=2, hours=12), clock.day_end(last) - timedelta(hours=12)]
    night.replay(first, last - timedelta(days=3))
    for days in (3, 2, 1):
        _arrive(days)
    late = night.tick()
    assert [n.business_date for n in late] == [last - timedelta(days=2), last - timedelta(days=1), last]
    assert [n.as_of for n in late] == [clock.day_end(n.business_date) for n in late]
    reactions.run()
    caught_up = picture()
    messages = caught_up.pop("messages")
    assert away[0] < away[1]

    _start_again()
    night.replay(first, last - timedelta(days=3))
    for day in (last - timedelta(days=2), last - timedelta(days=1), last):
        with time_machine.travel(clock.day_end(day) + timedelta(hours=3), tick=False):
            night.run(day)
    reactions.run()
    at_work = picture()
    at_work.pop("messages")
    assert {k: v for k, v in caught_up.items() if k != "moves"} == {k: v for k, v in at_work.items() if k != "moves"}
    # Only what was shut out of a night that had passed may differ, and nothing has.
    assert [row[:6] for row in caught_up["moves"]] == [row[:6] for row in at_work["moves"]]
    assert len(messages) <= len(caught_up["moves"])


ZOMBIE = """
import sys, time, django
django.setup()
from datetime import date
from pathlib import Path
from lifecycle_crm import night
night.LEASE_SECONDS = 2
night.WIDTH = 1000
inner = night._do
def slow(run, chunk, owner):
    if chunk.step == "facts":
        Path(sys.argv[2]).write_text("in")
        time.sleep(1.0)  # stopped in here: the chunk is claimed, its transaction has not begun
    inner(run, chunk, owner)
night._do = slow
night.run(date.fromisoformat(sys.argv[1]))
"""


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_a_worker_stopped_longer_than_its_lease_writes_nothing_when_it_wakes(
    environment: Callable[..., dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(60)
    day = clock.last_complete_day()
    monkeypatch.setattr(night, "LEASE_SECONDS", 2)
    monkeypatch.setattr(night, "WIDTH", 1000)
    mark = tmp_path / "in"
    zombie = subprocess.Popen(
        [sys.executable, "-c", ZOMBIE, day.isoformat(), str(mark)], cwd=ROOT, env=environment(), stderr=subprocess.PIPE
    )
    try:
        wait_until(mark.exists, seconds=60)
        os.kill(zombie.pid, signal.SIGSTOP)
        held = Chunk.objects.get(step="facts", state="running")
        wait_until(lambda: held.lease_until < clock.now() - timedelta(seconds=4), seconds=30)
        done = night.run(day)
        assert (done.state, done.counts["moved"]) == ("done", 60)
        before, chunks = picture(), _chunks()
    finally:
        os.kill(zombie.pid, signal.SIGCONT)
    _out, said = zombie.communicate(timeout=60)
    assert b"lost the lease" in said
    assert picture() == before
    assert _chunks() == chunks
    assert Night.objects.get().state == "done"
    assert StageTransition.objects.count() == 60


def _chunks() -> list[tuple[object, ...]]:
    return list(
        Chunk.objects.order_by("pk").values_list("pk", "step", "state", "owner", "attempts", "lease_until", "result")
    )

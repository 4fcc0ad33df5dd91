"""Workers killed while they give points to many, and take them back: everybody has them once, and nobody is forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from customers.models import Customer
from loyalty import audit, grants
from loyalty.models import Account, Entry, Grant, GrantPerson
from tests.fixtures import ROOT, wait_until
from tests.loyalty.factories import CustomerFactory

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

SIZE = 400

Start = Callable[[str], subprocess.Popen]


@pytest.fixture
def giver(environment: Callable[..., dict[str, str]]) -> Iterator[Start]:
    started: list[subprocess.Popen] = []

    def start(mode: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.loyalty.grant_process", mode], cwd=ROOT, env=environment(LOG_LEVEL="ERROR")
        )
        started.append(process)
        return process

    yield start
    for process in started:
        kill(process)


def kill(process: subprocess.Popen) -> None:
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()


def crowd() -> Grant:
    people = Customer.objects.bulk_create(CustomerFactory.build_batch(SIZE))
    return grants.ask(
        whom=grants.of_list(one.pk for one in people), points=10, key="k", actor=None, reason="The shop was closed"
    )


def killed_in_the_middle(giver: Start, state: str) -> int:
    """Two givers, both killed while they work; how many of the kills found a set half done."""
    running, hits = [giver("safe"), giver("safe")], 0
    for part, victim in enumerate(running, start=1):
        wait_until(lambda then=part: GrantPerson.objects.filter(state=state).count() >= 30 * then, seconds=60)
        kill(victim)
        hits += GrantPerson.objects.filter(state=state).count() < SIZE
        giver("safe")
    return hits


def test_everybody_has_them_once_when_workers_are_killed(giver: Start) -> None:
    made = crowd()
    hits = killed_in_the_middle(giver, "given")
    wait_until(lambda: Grant.objects.get().state == "done", seconds=90)
    assert hits, "The kills found nobody at work, so this test proves nothing."
    assert Counter(Entry.objects.values_list("points", flat=True)) == {10: SIZE}
    assert Counter(Account.objects.values_list("balance", flat=True)) == {10: SIZE}

    grants.undo(grant=made, key="u", actor=None, reason="Wrong segment")
    wait_until(lambda: Grant.objects.get().state == "taken", seconds=90)
    assert Counter(Entry.objects.values_list("points", flat=True)) == {10: SIZE, -10: SIZE}
    assert Counter(GrantPerson.objects.values_list("state", flat=True)) == {"taken": SIZE}
    assert audit.problems() == []


def test_its_unsafe_twin_that_says_so_after_giving_does_give_twice(giver: Start) -> None:
    crowd()
    victim = giver("unsafe")
    for _ in range(2):
        before = Entry.objects.count()
        # In the middle of a batch of twenty.
        wait_until(lambda then=before: Entry.objects.count() >= then + 25, seconds=60)
        kill(victim)
        victim = giver("unsafe")
    wait_until(lambda: not GrantPerson.objects.filter(state="waiting").exists(), seconds=60)
    assert sum(n - 1 for n in Counter(Entry.objects.values_list("customer_id", flat=True)).values()) > 0

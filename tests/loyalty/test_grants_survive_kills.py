"""Workers killed while they give points to many, and take them back: everybody has them once, and nobody is forgotten."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from customers.models import Customer
from loyalty import audit, grants
from loyalty.models import Account, Entry, Grant, GrantPerson
from tests.fixtures import kill, wait_until
from tests.loyalty.factories import CustomerFactory

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

SIZE = 400

Start = Callable[[str], subprocess.Popen]


@pytest.fixture
def giver(beside: Callable[[str, str], subprocess.Popen]) -> Start:
    return partial(beside, "tests.loyalty.grant_process")


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

"""Movers of journeys killed in the middle of a batch: every step happens once, and nobody is forgotten."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from campaigns import audit
from campaigns.journeys import entering
from campaigns.models import JourneyRun, JourneyStep, Message, StaffTask
from customers.models import Event
from lifecycle_crm.lib import clock
from tests.campaigns.factories import VariantFactory, live_journey, people
from tests.fixtures import kill, wait_until

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

SIZE = 160


Start = Callable[[str], subprocess.Popen]


@pytest.fixture
def mover(beside: Callable[[str, str], subprocess.Popen]) -> Start:
    return partial(beside, "tests.campaigns.journey_process")


def crowd() -> None:
    """So many people at the beginning of message, wait, message, task."""
    text = VariantFactory().template.key
    live_journey([
        {"id": "s1", "do": "message", "template": text},
        {"id": "s2", "do": "wait", "hours": 1},
        {"id": "s3", "do": "message", "template": text},
        {"id": "s4", "do": "task", "kind": "call", "what": "Ask how it went", "days": 2},
    ])  # fmt: skip
    at = clock.now() - timedelta(minutes=1)
    told = Event.objects.bulk_create(
        Event(customer=one, name="signup", occurred_at=at, source="test", source_id=str(one.pk)) for one in people(SIZE)
    )
    assert entering.for_events([one.pk for one in told]) == SIZE


def test_it_does_every_step_once_when_movers_are_killed(mover):
    crowd()
    first, second = mover("safe"), mover("safe")
    wait_until(lambda: JourneyRun.objects.filter(step="s2").count() >= 20, seconds=60)
    hits = 0
    for victim in (first, second):
        hits += JourneyRun.objects.filter(step="").exists()
        kill(victim)
        mover("safe")
    wait_until(lambda: JourneyRun.objects.filter(step="s2").count() == SIZE, seconds=90)
    # Their hour is over.
    JourneyRun.objects.update(since=clock.now() - timedelta(hours=2), due_at=clock.now() - timedelta(hours=1))
    wait_until(lambda: JourneyRun.objects.filter(state="done").count() == SIZE, seconds=90)

    assert hits, "The kills found nobody at work, so this test proves nothing."
    steps = Counter(JourneyStep.objects.values_list("step", "outcome"))
    assert steps == {
        ("s1", "message"): SIZE, ("s2", "waited"): SIZE, ("s3", "message"): SIZE, ("s4", "task"): SIZE, ("", "left"): SIZE,
    }  # fmt: skip
    assert StaffTask.objects.count() == SIZE
    sent = Counter(Message.objects.values_list("customer_id", "run__campaign_id"))
    assert (len(sent), set(sent.values())) == (2 * SIZE, {1})
    assert audit.problems() == []


def test_its_unsafe_twin_that_moves_people_after_the_message_does_send_twice(mover):
    crowd()
    victim = mover("unsafe")
    for _ in range(2):
        before = Message.objects.count()
        # In the middle of a batch of twenty.
        wait_until(lambda then=before: Message.objects.count() >= then + 25, seconds=60)
        kill(victim)
        victim = mover("unsafe")
    wait_until(lambda: not JourneyRun.objects.filter(step="").exists(), seconds=60)
    sent = Counter(Message.objects.values_list("customer_id", flat=True))
    assert sum(n - 1 for n in sent.values()) > 0

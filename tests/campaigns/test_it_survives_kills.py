"""Senders killed in the middle of their work. A kill counts only when the worker it hit had sent something."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from campaigns import audit, outbox
from campaigns.models import Message
from lifecycle_crm.lib import clock
from tests.campaigns.factories import CampaignFactory, people, planned
from tests.fixtures import ROOT, MailServer, wait_until

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

SENT_BEFORE_KILL = 10


@pytest.fixture
def sender(environment: Callable[..., dict[str, str]], smtp: MailServer) -> Iterator[Callable[[str], subprocess.Popen]]:
    started: list[subprocess.Popen] = []

    def start(mode: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaigns.sender_process", mode],
            cwd=ROOT,
            env=environment(EMAIL_URL=smtp.url, LOG_LEVEL="ERROR"),
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


def slow(_received: object) -> None:
    """Long enough for a kill to find somebody at work."""
    time.sleep(0.004)


def sent_by(process: subprocess.Popen) -> int:
    return Message.objects.filter(state="sent", owner__contains=f":{process.pid}:").count()


def test_it_sends_nothing_twice_and_forgets_nobody_when_senders_are_killed(sender, smtp):
    smtp.on_data = slow
    size, kills = 600, 4
    run = planned(people(size), CampaignFactory(quiet_from=0, quiet_until=0))
    workers = [sender("safe"), sender("safe")]
    effective = 0
    for _ in range(kills):
        victim = workers.pop(0)
        wait_until(lambda one=victim: sent_by(one) >= SENT_BEFORE_KILL, seconds=60)
        is_at_work = Message.objects.filter(
            owner__contains=f":{victim.pid}:", state__in=("claimed", "sending")
        ).exists()
        kill(victim)
        effective += is_at_work
        # Its lease runs out.
        Message.objects.filter(owner__contains=f":{victim.pid}:", lease_until__isnull=False).update(
            lease_until=clock.now() - timedelta(seconds=1)
        )
        workers.append(sender("safe"))
    wait_until(lambda: not Message.objects.filter(run=run, state__in=Message.OPEN).exists(), seconds=90)

    states = Counter(Message.objects.filter(run=run).values_list("state", flat=True))
    arrived = Counter(recipient for one in smtp.messages for recipient in one.recipients)
    assert effective >= 2, "The kills found nobody at work, so this test proves nothing."
    assert [address for address, n in arrived.items() if n > 1] == []
    assert states["in_doubt"] <= kills
    assert states["sent"] + states["in_doubt"] == size == sum(states.values())
    sent = set(Message.objects.filter(run=run, state="sent").values_list("address", flat=True))
    assert sent <= set(arrived)
    assert audit.problems() == []
    assert outbox.send_due() == {}


def test_its_unsafe_twin_that_marks_after_sending_does_send_twice(sender, smtp):
    smtp.on_data = slow
    planned(people(120), CampaignFactory(quiet_from=0, quiet_until=0))
    victim = sender("unsafe")
    wait_until(lambda: len(smtp.messages) >= 50 + SENT_BEFORE_KILL, seconds=60)
    kill(victim)
    sender("unsafe")
    wait_until(lambda: not Message.objects.filter(state="queued").exists(), seconds=60)
    arrived = Counter(recipient for one in smtp.messages for recipient in one.recipients)
    assert sum(n - 1 for n in arrived.values()) >= SENT_BEFORE_KILL

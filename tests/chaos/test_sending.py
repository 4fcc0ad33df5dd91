"""Faults 1 to 7: senders, brokers and the database itself are killed while a run goes out. Nobody gets it twice, nobody
is forgotten. A kill counts only when it hit somebody at work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis

from campaigns import audit, outbox, queries
from campaigns.models import Message, Run
from lifecycle_crm.lib import bell, clock
from tests import servers
from tests.campaigns.factories import CampaignFactory, people, planned, reachable, sms_campaign
from tests.chaos import plan
from tests.chaos.actors import Stage
from tests.fixtures import MailServer, wait_until
from tests.sms_provider import Provider

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

SENT_BEFORE_KILL = 30 if plan.IS_LONG else 10
CHUNK = 50


def slow(seconds: float) -> Callable[[object], None]:
    """Long enough for a kill to find somebody at work."""
    return lambda _received: time.sleep(seconds)


def a_run(size: int, key: str = "test:1") -> Run:
    return planned(people(size), CampaignFactory(quiet_from=0, quiet_until=0), key=key)


def arrived(smtp: MailServer) -> Counter[str]:
    return Counter(recipient for one in smtp.messages for recipient in one.recipients)


def twice(smtp: MailServer) -> list[str]:
    return [address for address, n in arrived(smtp).items() if n > 1]


def states(run: Run) -> Counter[str]:
    return Counter(Message.objects.filter(run=run).values_list("state", flat=True))


def sent_by(pid: int) -> int:
    return Message.objects.filter(state="sent", owner__contains=f":{pid}:").count()


def is_open(run: Run) -> bool:
    return Message.objects.filter(run=run, state__in=Message.OPEN).exists()


# --- Senders ----------------------------------------------------------------------------------------------------------


def test_senders_that_are_killed_send_nothing_twice_and_forget_nobody(
    stage: Stage, smtp: MailServer, tell: Callable[..., None]
) -> None:
    """1: senders killed in the middle of their work; who is in doubt is shown, and never sent again."""
    smtp.on_data = slow(0.004)
    kills = plan.rounds(4)
    size, workers = (800 * kills, 4) if plan.IS_LONG else (150 * kills, 2)
    run = a_run(size)
    pids = [stage.start("send", email=smtp.options, at_once=CHUNK) for _ in range(workers)]
    effective = 0
    for _ in range(kills):
        victim = pids.pop(0)
        wait_until(lambda pid=victim: sent_by(pid) >= SENT_BEFORE_KILL, seconds=120)
        mine = Message.objects.filter(owner__contains=f":{victim}:")
        is_at_work = mine.filter(state__in=("claimed", "sending")).exists()
        stage.kill(victim)
        effective += is_at_work
        # Its lease runs out.
        mine.filter(lease_until__isnull=False).update(lease_until=clock.now() - timedelta(seconds=1))
        pids.append(stage.start("send", email=smtp.options, at_once=CHUNK))
    wait_until(lambda: not is_open(run), seconds=600)

    found = states(run)
    tell(messages=size, workers=workers, kills=effective, in_doubt=found["in_doubt"])
    assert effective >= kills // 2, "The kills found nobody at work, so this run proves nothing."
    assert twice(smtp) == []
    assert found["in_doubt"] <= kills
    assert found["sent"] + found["in_doubt"] == size == found.total()
    assert set(Message.objects.filter(run=run, state="sent").values_list("address", flat=True)) <= set(arrived(smtp))
    assert audit.problems() == []
    assert outbox.send_due() == {}


def test_its_unsafe_twin_that_marks_after_sending_does_send_twice(
    stage: Stage, smtp: MailServer, tell: Callable[..., None]
) -> None:
    """2: the same with senders that mark a part of the run when it has left."""
    part, at_least = (400, 150) if plan.IS_LONG else (CHUNK, SENT_BEFORE_KILL)
    smtp.on_data = slow(0.004)
    a_run(3 * part)
    victim = stage.start("send", email=smtp.options, at_once=part, unsafe="mark_after")
    wait_until(lambda: len(smtp.messages) >= part + at_least, seconds=60)
    stage.kill(victim)
    again = stage.start("send", email=smtp.options, at_once=part, unsafe="mark_after")
    assert stage.wait(again) == 0
    too_many = sum(n - 1 for n in arrived(smtp).values())
    tell(sent_twice=too_many)
    assert too_many >= at_least


@pytest.mark.parametrize("unsafe", ["", "mark_after"])
def test_senders_of_sms_that_are_killed_are_no_different(
    stage: Stage, texts: Provider, tell: Callable[..., None], unsafe: str
) -> None:
    """1 and 2 by SMS: at most one in doubt for each kill, and nobody asked for twice; its unsafe twin asks again."""
    texts.slow = 0.004
    size, part = 60, 20
    run = planned(reachable(size), sms_campaign())
    order = {"sms": texts.options, "at_once": part, "unsafe": unsafe}
    victim = stage.start("send", **order)
    wait_until(lambda: len(texts.messages) >= part + SENT_BEFORE_KILL, seconds=60)
    stage.kill(victim)
    left = Message.objects.filter(run=run, owner__contains=f":{victim}:", lease_until__isnull=False)
    left.update(lease_until=clock.now() - timedelta(seconds=1))
    assert stage.wait(stage.start("send", **order)) == 0
    asked = Counter(one.to for one in texts.messages)
    too_many = sum(n - 1 for n in asked.values())
    found = states(run)
    tell(messages=size, sent_twice=too_many, in_doubt=found["in_doubt"])
    if unsafe:
        assert too_many >= SENT_BEFORE_KILL
        return
    assert too_many == 0
    assert found["in_doubt"] <= 1
    assert found["sent"] + found["in_doubt"] == size == found.total()
    assert audit.problems() == []


def test_eight_senders_share_a_run_and_send_each_message_once(
    stage: Stage, smtp: MailServer, tell: Callable[..., None]
) -> None:
    """3: eight processes claim from the same rows without any delay."""
    size = 10_000 if plan.IS_LONG else 160
    run = a_run(size)
    eight = [stage.start("send", email=smtp.options, at_once=20) for _ in range(8)]
    assert [stage.wait(pid) for pid in eight] == [0] * 8, stage.said.read_text()[-3000:]
    shares = [sent_by(pid) for pid in eight]
    tell(messages=size, shares=sorted(shares))
    assert states(run) == {"sent": size}
    assert sum(1 for share in shares if share) >= 2, "One process did it all: this run proves nothing."
    assert len(smtp.messages) == size
    assert twice(smtp) == []


# --- The broker -------------------------------------------------------------------------------------------------------


def test_a_task_that_is_delivered_again_while_it_runs_finds_nothing_to_send(
    worker: Callable[..., Any], redis_url: str, smtp: MailServer, tmp_path: Path, tell: Callable[..., None]
) -> None:
    """4: Redis gives a task that takes longer than its visibility timeout to a second worker as well."""
    smtp.on_data = slow(0.03)
    bodies = tmp_path / "bodies"
    order = {"app": "tests.chaos.impatient", "broker": redis_url, "EMAIL_URL": smtp.url, "CHAOS_BODIES": str(bodies)}
    worker(**order)
    run = a_run(250)
    bell.ring("campaigns.tasks.send_due")
    wait_until(lambda: len(smtp.messages) >= SENT_BEFORE_KILL, seconds=60)
    time.sleep(2.5)  # the timeout passes; who starts anew looks for what is overdue
    worker(**order)
    wait_until(lambda: not is_open(run), seconds=60)
    begun = Counter(line.split()[1] for line in bodies.read_text().splitlines() if line.startswith("begins"))
    tell(messages=250, same_task_begun=max(begun.values()))
    assert max(begun.values()) >= 2, "Nothing was delivered again: this run proves nothing."
    assert states(run) == {"sent": 250}
    assert len(smtp.messages) == 250
    assert twice(smtp) == []


def test_a_broker_that_forgets_everything_or_dies_delays_a_run_and_loses_nobody(
    worker: Callable[..., Any], smtp: MailServer, tell: Callable[..., None]
) -> None:
    """5 and 6: Redis is emptied and then killed while a run goes out, and comes back with nothing in it."""
    server = servers.own_redis()
    smtp.on_data = slow(0.02)
    try:
        worker("--beat", broker=server.url, EMAIL_URL=smtp.url)
        size, deaths, hits, slowest = 300, min(plan.rounds(1), 10), 0, 0.0
        for number in range(deaths):
            run = a_run(size, key=f"test:{number}")
            sent = len(smtp.messages)
            wait_until(lambda n=sent: len(smtp.messages) >= n + SENT_BEFORE_KILL, seconds=60)
            with redis.Redis.from_url(server.url) as client:
                client.flushall()
            wait_until(lambda n=sent: len(smtp.messages) >= n + 3 * SENT_BEFORE_KILL, seconds=60)
            server.kill()
            hits += is_open(run)
            time.sleep(1)
            server.restart()
            began, oldest = time.monotonic(), 0.0
            later = a_run(20, key=f"later:{number}")  # nobody has heard of this one yet
            while is_open(run) or is_open(later):
                oldest = max(oldest, queries.oldest_due_seconds() or 0)
                assert time.monotonic() < began + 120, f"The worker does not come back: {states(run)}, {states(later)}"
                time.sleep(0.2)
            slowest = max(slowest, time.monotonic() - began)
            assert (states(run), states(later)) == ({"sent": size}, {"sent": 20})
            assert oldest < 60
        tell(deaths=deaths, hits=hits, done_again_after_seconds=round(slowest, 1))
        assert hits == deaths, "Nothing was on its way when Redis died: this run proves nothing."
        assert twice(smtp) == []
        assert audit.problems() == []
    finally:
        server.stop()


# --- The database -----------------------------------------------------------------------------------------------------


@pytest.mark.postgresql
def test_a_database_that_is_killed_while_a_run_goes_out_says_sent_of_nothing_that_did_not_leave(
    environment: Callable[..., dict[str, str]], tmp_path: Path, smtp: MailServer, tell: Callable[..., None]
) -> None:
    """7: kill -9 of the whole PostgreSQL; the senders live on and tell it what they know when it is back."""
    server = servers.own_postgresql(synchronous_commit="on")
    values = {"CELERY_BROKER_URL": "memory://", "EMAIL_URL": smtp.url, "DATABASE_URL": server.url}
    stage = Stage(environment(LOG_LEVEL="ERROR", **values), tmp_path)
    smtp.on_data = slow(0.004)
    kills, workers = (min(plan.rounds(1), 25), 2)
    size = 1000 * kills if plan.IS_LONG else 400
    try:
        assert stage.wait(stage.start("migrate")) == 0, stage.said.read_text()[-3000:]
        assert stage.wait(stage.start("plan", people=size)) == 0, stage.said.read_text()[-3000:]
        senders = [stage.start("send", at_once=200) for _ in range(workers)]
        hits = 0
        for _ in range(kills):
            sent = len(smtp.messages)
            wait_until(lambda n=sent: len(smtp.messages) >= n + 2 * SENT_BEFORE_KILL, seconds=120)
            server.kill()
            hits += len(smtp.messages) < size
            server.restart()
        assert [stage.wait(pid) for pid in senders] == [0] * workers, stage.said.read_text()[-3000:]
        with psycopg2.connect(server.url) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT state, count(*) FROM campaigns_message GROUP BY state")
            found: Counter[str] = Counter(dict(cursor.fetchall()))
            cursor.execute("SELECT address FROM campaigns_message WHERE state = 'sent'")
            addresses = {address for (address,) in cursor.fetchall()}
    finally:
        stage.stop()
        server.stop()
    tell(messages=size, kills=hits, in_doubt=found["in_doubt"])
    assert hits == kills, "The run was over before the database died: this run proves nothing."
    assert twice(smtp) == []
    assert addresses <= set(arrived(smtp))
    assert found["sent"] + found["in_doubt"] == size == found.total()
    assert found["in_doubt"] <= kills * workers

from __future__ import annotations

import logging
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.db import transaction

from lifecycle_crm.lib import bell
from lifecycle_crm.lib.models import Note
from tests.fixtures import Worker, wait_until
from tests.servers import free_port

TASK = "lifecycle_crm.celery.tidy_broker"
pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.fixture(params=["embedded", "redis"])
def broker(request: pytest.FixtureRequest, settings: Any) -> Iterator[str]:
    """The same promises on both brokers."""
    name = "broker_url" if request.param == "embedded" else "redis_url"
    settings.CELERY_BROKER_URL = request.getfixturevalue(name)
    bell.reset()
    yield settings.CELERY_BROKER_URL
    bell.reset()


def rows(url: str, where: str = "1 = 1") -> int:
    with sqlite3.connect(urlsplit(url).path[1:]) as connection:
        return int(connection.execute(f"SELECT count(*) FROM kombu_message WHERE {where}").fetchone()[0])


def rings_waiting(url: str) -> int:
    if bell.is_embedded(url):
        return rows(url, "visible")
    return int(redis.Redis.from_url(url).llen("celery"))


def test_a_thousand_rings_in_one_transaction_become_one(broker: str) -> None:
    with transaction.atomic():
        for _ in range(1000):
            bell.ring(TASK)
    assert bell.flush(10)
    assert rings_waiting(broker) == 1


def test_a_busy_minute_does_not_drown_the_broker(broker: str) -> None:
    """Rings of many short transactions: the first at once, then no more than one in two seconds, and the last is kept."""
    started = time.monotonic()
    while time.monotonic() - started < 3:
        bell.ring(TASK)
        time.sleep(0.01)
    assert bell.flush(10)
    assert 2 <= rings_waiting(broker) <= 3


def test_rings_with_different_arguments_stay_apart(broker: str) -> None:
    with transaction.atomic():
        for number in (1, 2, 1):
            bell.ring(TASK, number)
    assert bell.flush(10)
    assert rings_waiting(broker) == 2


def test_a_transaction_that_fails_rings_nobody(broker: str) -> None:
    bell.ring("warm.up")
    assert bell.flush(10)
    with transaction.atomic():
        bell.ring(TASK)
        transaction.set_rollback(True)
    assert bell.flush(10)
    assert rings_waiting(broker) == 1


def test_a_ring_reaches_a_real_worker(broker: str, worker: Callable[..., Worker], tmp_path: Path) -> None:
    one = worker(broker=broker)
    heartbeat = tmp_path / "worker_heartbeat"
    client = redis.Redis.from_url(broker) if broker.startswith("redis") else None

    def forget() -> None:
        heartbeat.unlink(missing_ok=True)
        if client is not None:
            client.delete(*client.keys("*worker_heartbeat"))

    def answered() -> bool:
        return bool(client.keys("*worker_heartbeat")) if client is not None else heartbeat.exists()

    wait_until(answered)
    forget()
    with transaction.atomic():
        bell.ring(TASK)
    wait_until(answered)
    assert one.process.poll() is None


def is_saved_although_the_broker_is_away(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), transaction.atomic():
        started = time.monotonic()
        Note.objects.create(name="kept")
        bell.ring(TASK)
    assert time.monotonic() - started < 0.5
    assert bell.flush(10)
    assert Note.objects.filter(name="kept").exists()
    assert "The broker cannot be reached, so lifecycle_crm.celery.tidy_broker waits for the next sweep" in caplog.text


def test_a_broker_that_refuses_costs_nothing_but_a_line(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{free_port()}/0"
    bell.reset()
    is_saved_although_the_broker_is_away(caplog)
    assert bell.reachable() is False


def test_a_broker_that_never_answers_is_given_up(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        bell.reset()
        is_saved_although_the_broker_is_away(caplog)


def test_a_broker_file_that_cannot_be_written_costs_nothing_but_a_line(
    settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CELERY_BROKER_URL = f"sqla+sqlite:///{tmp_path / 'no' / 'such' / 'folder' / 'broker.sqlite3'}"
    bell.reset()
    is_saved_although_the_broker_is_away(caplog)
    assert bell.reachable() is False


def test_both_brokers_say_they_are_reachable(broker: str) -> None:
    assert bell.reachable() is True


def test_what_the_embedded_broker_delivered_is_tidied_away(
    worker: Callable[..., Worker], broker_url: str, settings: Any
) -> None:
    worker()
    for number in range(3):
        bell.ring("nobody.listens", number)
        assert bell.flush(10)
    wait_until(lambda: rows(broker_url, "visible") == 0 and rows(broker_url) >= 3)
    assert bell.purge_delivered() >= 3
    assert rows(broker_url) == 0

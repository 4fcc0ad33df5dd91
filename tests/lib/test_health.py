from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test import RequestFactory

from lifecycle_crm.lib import bell, health
from tests.servers import free_port

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.VAR_DIR = tmp_path
    settings.CELERY_BROKER_URL = f"sqla+sqlite:///{tmp_path / 'broker.sqlite3'}"
    monkeypatch.setattr(health, "_queues", {})
    bell.reset()
    yield
    bell.reset()


def ask(query: str = "") -> tuple[int, dict[str, Any]]:
    response = health.health(RequestFactory().get(f"/health/{query}"))
    return response.status_code, json.loads(response.content)


def test_it_is_ok_when_everything_answers() -> None:
    health.beat()
    status, answer = ask("?strict=1")
    assert status == 200
    assert answer["status"] == "ok"
    assert answer["database"] == {"ok": True, "vendor": connection.vendor}
    assert answer["migrations"] == {"ok": True}
    assert answer["broker"] == {"ok": True}
    assert answer["worker"]["age_seconds"] < 60


def test_without_a_worker_it_is_degraded_but_serves() -> None:
    status, answer = ask()
    assert (status, answer["status"]) == (200, "degraded")
    assert answer["worker"] == {"ok": False, "age_seconds": None}
    assert ask("?strict=1")[0] == 503


def test_a_queue_that_is_late_is_named_with_its_age() -> None:
    health.beat()
    health.register("outbox", lambda: 301.04, limit_seconds=300)
    health.register("imports", lambda: None, limit_seconds=60)
    status, answer = ask()
    assert (status, answer["status"]) == (200, "degraded")
    assert answer["queues"] == {
        "imports": {"ok": True, "oldest_due_seconds": None, "limit_seconds": 60},
        "outbox": {"ok": False, "oldest_due_seconds": 301.0, "limit_seconds": 300},
    }


def test_a_queue_that_cannot_say_does_not_take_the_page_down() -> None:
    def broken() -> float:
        raise DatabaseError("no such table")

    health.beat()
    health.register("outbox", broken, limit_seconds=300)
    status, answer = ask()
    assert (status, answer["status"]) == (200, "degraded")
    assert answer["queues"]["outbox"] == {"ok": False, "problem": "DatabaseError"}


def test_a_broker_that_is_away_is_degraded(settings: Any) -> None:
    settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{free_port()}/0"
    bell.reset()
    status, answer = ask()
    assert (status, answer["status"], answer["broker"]) == (200, "degraded", {"ok": False})


@pytest.mark.worker
def test_the_heartbeat_is_shared_through_redis(settings: Any, redis_url: str) -> None:
    settings.REDIS_URL = redis_url
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis_url}}
    assert health.worker_age() is None
    health.beat()
    age = health.worker_age()
    assert age is not None
    assert age < 60


def test_missing_migrations_are_down_and_say_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_migrated", False)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'sessions'")
    status, answer = ask()
    assert (status, answer["status"]) == (503, "down")
    assert answer["migrations"] == {"ok": False, "missing": 1, "remedy": "python manage.py migrate"}

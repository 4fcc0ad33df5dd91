"""Is the installation well? One page for a load balancer, a monitor and a person.

An app that owns a queue registers, in ``AppConfig.ready``, how old its oldest due row is::

    health.register("outbox", queries.oldest_due_seconds, limit_seconds=300)

``/health/`` answers 503 when pages cannot be served (database, migrations). Everything else (broker, worker, a queue
that is late) makes it ``degraded`` with 200, because taking the web server away would not mend it;
``/health/?strict=1`` answers 503 for those too, which is what an alarm wants.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache

from lifecycle_crm.lib import bell

logger = logging.getLogger(__name__)

WORKER_LIMIT_SECONDS = 120
"""Beat rings every five seconds, so a worker that finished nothing for two minutes is stuck, gone or badly behind."""
_KEY = "worker_heartbeat"


@dataclass(frozen=True)
class Queue:
    age: Callable[[], float | None]
    limit_seconds: float


_queues: dict[str, Queue] = {}
_migrated = False


def register(name: str, age: Callable[[], float | None], limit_seconds: float) -> None:
    """``age`` returns how many seconds ago the oldest due row became due, ``None`` when nothing is due."""
    _queues[name] = Queue(age, limit_seconds)


def beat() -> None:
    """A worker is alive. Shared through Redis where there is one, else through a file: one machine, one ``var/``."""
    try:
        if settings.REDIS_URL:
            cache.set(_KEY, time.time(), timeout=None)
        else:
            (settings.VAR_DIR / _KEY).touch()
    except Exception as problem:
        # A heartbeat must not fail the task it follows.
        logger.warning("The heartbeat could not be kept: %s", problem)


def worker_age() -> float | None:
    """Seconds since a worker last finished a task; ``None`` when none ever did."""
    try:
        then = cache.get(_KEY) if settings.REDIS_URL else (settings.VAR_DIR / _KEY).stat().st_mtime
    except Exception:
        return None
    return None if then is None else max(0.0, time.time() - then)


def worker_is_well() -> bool:
    return _is_well(worker_age())


def _is_well(age: float | None) -> bool:
    return age is not None and age <= WORKER_LIMIT_SECONDS


def _database() -> dict[str, Any]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception as problem:
        logger.exception("The database does not answer")
        return {"ok": False, "problem": type(problem).__name__}
    return {"ok": True, "vendor": connection.vendor}


def _migrations() -> dict[str, Any]:
    global _migrated
    if not _migrated:
        try:
            executor = MigrationExecutor(connection)
            missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        except Exception as problem:
            return {"ok": False, "problem": type(problem).__name__}
        if missing:
            return {"ok": False, "missing": len(missing), "remedy": "python manage.py migrate"}
        # New migrations arrive with new code, and new code means a new process: ask until yes, then remember.
        _migrated = True
    return {"ok": True}


def _worker() -> dict[str, Any]:
    age = worker_age()
    return {
        "ok": _is_well(age),
        "age_seconds": None if age is None else round(age, 1),
    }


def _queue(queue: Queue) -> dict[str, Any]:
    try:
        age = queue.age()
    except Exception as problem:
        logger.exception("A queue could not say how late it is")
        return {"ok": False, "problem": type(problem).__name__}
    return {
        "ok": age is None or age <= queue.limit_seconds,
        "oldest_due_seconds": None if age is None else round(age, 1),
        "limit_seconds": queue.limit_seconds,
    }


def report() -> dict[str, Any]:
    database = _database()
    answer: dict[str, Any] = {"status": "ok", "database": database}
    if database["ok"]:
        answer["migrations"] = _migrations()
    if not database["ok"] or not answer["migrations"]["ok"]:
        answer["status"] = "down"
        return answer
    answer["broker"] = {"ok": bell.reachable()}
    answer["worker"] = _worker()
    answer["queues"] = {name: _queue(queue) for name, queue in sorted(_queues.items())}
    parts = [answer["broker"], answer["worker"], *answer["queues"].values()]
    if not all(part["ok"] for part in parts):
        answer["status"] = "degraded"
    return answer


@never_cache
def health(request: HttpRequest) -> JsonResponse:
    answer = report()
    fine = ("ok",) if request.GET.get("strict") else ("ok", "degraded")
    return JsonResponse(answer, status=200 if answer["status"] in fine else 503)

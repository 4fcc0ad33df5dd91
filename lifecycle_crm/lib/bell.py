"""Ring for a worker. The work is a row already; a ring only makes it happen sooner, so it may get lost but never hurt.

``ring`` returns at once. After the transaction commits, a small thread of this process gathers what was rung in the
next moment and publishes each distinct ring once: a thousand rings become one, no request waits for a broker, and with
the broker away a line is logged and the sweep of the next seconds finds the row (``lifecycle_crm/celery.py``).
"""

from __future__ import annotations

import atexit
import logging
import os
import sqlite3
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)

GATHER_SECONDS = 0.1
"""How long rings are gathered before they are published: long enough for a burst, too short for a person to notice."""
APART_SECONDS = 2.0
"""The same ring is not repeated sooner. The embedded broker carries three rings a second and a busy API would drown it."""
QUIET_SECONDS = 5.0
"""After a failure the broker is left alone for so long, and what is rung meanwhile is left to the sweep."""

Ring = tuple[str, tuple[Any, ...]]


def is_embedded(url: str) -> bool:
    """True for the broker that is a SQLite file of its own and needs nothing installed."""
    return url.startswith("sqla+sqlite:")


def transport_options(url: str, *, patience: float = 30) -> dict[str, Any]:
    """What kombu's transport for ``url`` understands. The embedded one hands all of it to SQLAlchemy."""
    if is_embedded(url):
        return {"connect_args": {"timeout": patience}}
    if urlsplit(url).scheme in ("redis", "rediss"):
        options: dict[str, Any] = {"visibility_timeout": 3600, "socket_keepalive": True}
        if patience < 30:
            # Not for a worker: its blocking read is supposed to wait.
            options |= {"socket_connect_timeout": patience, "socket_timeout": patience}
        return options
    return {}


class _Ringer:
    """One thread with a set. Started by the first ring, so processes that never ring never have it."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.waiting: dict[Ring, None] = {}
        self.published: dict[Ring, float] = {}
        self.publishing = False
        self.thread: threading.Thread | None = None
        self.quiet_until = 0.0
        self.app: Celery | None = None

    def add(self, ring: Ring) -> None:
        with self.lock:
            self.waiting[ring] = None
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, name="bell", daemon=True)
                self.thread.start()
            self.lock.notify_all()

    def run(self) -> None:
        while True:
            with self.lock:
                while not self.waiting:
                    self.lock.wait()
            time.sleep(GATHER_SECONDS)
            with self.lock:
                early = time.monotonic() - APART_SECONDS
                self.published = {ring: when for ring, when in self.published.items() if when > early}
                due = [ring for ring in self.waiting if ring not in self.published]
                for ring in due:
                    del self.waiting[ring]
                self.publishing = True
            try:
                for ring in due:
                    self.publish(ring)
            finally:
                with self.lock:
                    self.publishing = False
                    self.lock.notify_all()

    def publish(self, ring: Ring) -> None:
        if time.monotonic() < self.quiet_until:
            return
        name, args = ring
        self.published[ring] = time.monotonic()
        try:
            self.producer().send_task(name, args=args, expires=60, retry=False)
        except Exception as problem:
            # Whatever the broker's client raises, the caller's work is safe in the database.
            self.quiet_until = time.monotonic() + QUIET_SECONDS
            logger.warning("The broker cannot be reached, so %s waits for the next sweep: %s", name, problem)

    def producer(self) -> Celery:
        if self.app is None:
            app = Celery("bell", set_as_current=False)
            app.config_from_object("django.conf:settings", namespace="CELERY")
            app.conf.broker_transport_options = transport_options(settings.CELERY_BROKER_URL, patience=1)
            app.conf.broker_connection_timeout = 1
            # Said outright, because Celery prefers the environment's CELERY_BROKER_URL to the settings it was given.
            app.conf.broker_write_url = settings.CELERY_BROKER_URL
            self.app = app
        return self.app

    def flush(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        with self.lock:
            while self.waiting or self.publishing:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self.lock.wait(left)
        return True


_ringer = _Ringer()


def ring(task_name: str, *args: Any) -> None:
    """Ask a worker to run ``task_name`` soon, once the current transaction has committed. Never raises, never waits."""
    transaction.on_commit(lambda: _ringer.add((task_name, args)), robust=True)


def flush(seconds: float = 5) -> bool:
    """Wait until what was rung is published (or given up). A short-lived process does this by itself when it ends."""
    return _ringer.flush(seconds)


def reset() -> None:
    """Forget connection and thread: in a forked child, which may not use its parent's, and when the URL changes."""
    global _ringer
    _ringer = _Ringer()


_parents: list[Any] = []


def _forked() -> None:
    reset()
    transport = sys.modules.get("kombu.transport.sqlalchemy")
    if transport is not None:
        # A SQLite connection may not cross a fork, and kombu caches engines. Kept, not closed: closing is use.
        _parents.append(transport.Channel._engines)
        transport.Channel._engines = {}


def reachable() -> bool:
    """Can the broker be spoken to, within about a second?"""
    try:
        with _ringer.producer().connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=1)
            connection.default_channel.queue_declare("celery", durable=True, auto_delete=False)
    except Exception as problem:
        logger.warning("The broker cannot be reached: %s", problem)
        return False
    return True


def purge_delivered() -> int:
    """Delete what the embedded broker has delivered but kept. Returns the number of rows."""
    path = urlsplit(settings.CELERY_BROKER_URL).path[1:]
    if not is_embedded(settings.CELERY_BROKER_URL) or not os.path.exists(path):
        return 0
    connection = sqlite3.connect(path, timeout=30)
    try:
        with connection:
            return connection.execute("DELETE FROM kombu_message WHERE visible = 0").rowcount
    except sqlite3.OperationalError as problem:
        logger.warning("The broker file %s could not be tidied: %s", path, problem)
        return 0
    finally:
        connection.close()


os.register_at_fork(after_in_child=_forked)
atexit.register(flush, 1)

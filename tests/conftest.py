"""What every test stands on: a known environment, a closed network, and real servers.

``pytest`` alone runs on SQLite; ``TEST_DATABASE=postgresql pytest`` on PostgreSQL; ``make test`` on both at once, a
process each and one for the browser (``--dist=each``). The variables read here:

``TEST_DATABASE``   ``sqlite`` (default) or ``postgresql``
``TEST_ELSEWHERE``  markers that another process of this run takes: ``gate``, ``browser``
``TEST_ONLY``       markers that this process takes alone
``TEST_EXPECT``     databases and markers of which at least one test must have passed; with it a skip is a failure too
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.utils import translation

from tests import network, servers

pytest_plugins = ["tests.fixtures", "tests.sms_provider"]

DATABASE = os.environ.get("TEST_DATABASE", "sqlite")
if DATABASE not in ("sqlite", "postgresql"):
    raise pytest.UsageError(f"TEST_DATABASE={DATABASE!r} is unknown. Use sqlite or postgresql.")
ELSEWHERE = {word for word in os.environ.get("TEST_ELSEWHERE", "").split(",") if word}
ONLY = {word for word in os.environ.get("TEST_ONLY", "").split(",") if word}
EXPECT = {word for word in os.environ.get("TEST_EXPECT", "").split(",") if word}
IS_XDIST_WORKER = "PYTEST_XDIST_WORKER" in os.environ

NEVER_FLUSHED = ("contenttypes.contenttype", "auth.permission")

_var = Path(tempfile.mkdtemp(prefix="crm-tests-"))
_ran: Counter[str] = Counter()
_servers: list[servers.Server] = []
_found: list[str] = []

# A developer's .env must not leak into the tests (an EMAIL_URL there would send real mail), and the tests must not
# touch a developer's var/. What is set here wins over .env; Django reads it later, in pytest_configure below.
GIVEN = {name: os.environ.get(name, "") for name in ("DATABASE_URL", "REDIS_URL")}
os.environ.update(
    DJANGO_SETTINGS_MODULE="lifecycle_crm.settings",
    # The synchronous Playwright runs an event loop in the thread of the test, which Django would take for async code.
    DJANGO_ALLOW_ASYNC_UNSAFE="true",
    ENVIRONMENT="local",
    DEBUG="0",
    VAR_DIR=str(_var),
    SECRET_KEY="only-for-tests-" + "x" * 40,
    SITE_URL="http://127.0.0.1:8000",
    ALLOWED_HOSTS="127.0.0.1,localhost,testserver",
    REDIS_URL="",
    CELERY_BROKER_URL=f"sqla+sqlite:///{_var / 'broker.sqlite3'}",
    EMAIL_URL="local:",
    EMAIL_FROM="Test shop <hello@shop.example>",
    SMS_URL="",
    SMS_WEBHOOK_SECRET="",
    CSRF_TRUSTED_ORIGINS="http://127.0.0.1:8000",
    NIGHT_HOUR="2",
    SHOP_NAME="Test shop",
    SHOP_CURRENCY="USD",
    SHOP_TIME_ZONE="Europe/Stockholm",
    SHOP_ADDRESS="1 Test Street, 111 11 Stockholm",
    SHOP_LANGUAGE="en",
    LOG_LEVEL="WARNING",
)


def _runs_postgresql(config: pytest.Config) -> bool:
    return DATABASE == "postgresql" or any("postgresql" in spec for spec in config.getoption("tx", default=None) or [])


def _find_servers(config: pytest.Config) -> None:
    if _runs_postgresql(config):
        if GIVEN["DATABASE_URL"]:
            os.environ["TEST_DATABASE_URL"] = GIVEN["DATABASE_URL"]
        server = servers.postgresql()
        _servers.append(server)
        os.environ["TEST_DATABASE_URL"] = server.url
        _found.append(f"PostgreSQL: {server.how}")
    if GIVEN["REDIS_URL"]:
        os.environ["TEST_REDIS_URL"] = GIVEN["REDIS_URL"]
    if EXPECT:
        # A run of everything needs both: find (or install) them before the first test and say which it took.
        server = servers.redis()
        _servers.append(server)
        os.environ["TEST_REDIS_URL"] = server.url
        _found.append(f"Redis: {server.how}")
        _found.append(f"Browser: {servers.browser().how}")
        pooler = servers.pgbouncer_program()
        _found.append(f"PgBouncer: {pooler or 'not on this machine, so the tests behind a pooler are left out'}")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "browser: drives a real Chromium",
        "worker: starts real worker processes or servers of its own",
        "gate: checks the source (lint, types, imports, migrations)",
        "postgresql: only means something on PostgreSQL",
        "pooler: needs PgBouncer, and is left out (and said so) on a machine without it",
        "sqlite: only means something on SQLite",
    ):
        config.addinivalue_line("markers", line)
    network.close_all_but_loopback()
    if not IS_XDIST_WORKER and not config.option.collectonly and not config.option.help:
        try:
            _find_servers(config)
        except servers.NoServer as problem:
            raise pytest.UsageError(str(problem)) from None
    if DATABASE == "postgresql" and not config.option.collectonly and not config.option.help:
        os.environ["DATABASE_URL"] = os.environ["TEST_DATABASE_URL"]
    else:
        os.environ["DATABASE_URL"] = f"sqlite:///{_var / 'crm.sqlite3'}"
    if settings.configured:
        raise pytest.UsageError("Django's settings were read before the tests chose their database.")
    django.setup()
    if not IS_XDIST_WORKER and config.getoption("tx", default=None):
        # A worker inherits our environment. Finding settings named there, pytest-django would read them before the
        # worker's own conftest has chosen its database, and both lanes would run on ours.
        del os.environ["DJANGO_SETTINGS_MODULE"]
    _flush_append_only_tables()
    _flush_what_is_there()
    # Served from the source folders: tests of pages must not depend on what was collected last (tests/roof/test_run.py
    # collects for real, with the manifest).
    settings.STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"
    # Each client of a test makes the middleware anew, and WhiteNoise would read a folder of five hundred files for it.
    settings.WHITENOISE_AUTOREFRESH = True


def pytest_report_header() -> list[str]:
    return _found


def pytest_unconfigure() -> None:
    for server in reversed(_servers):
        server.stop()
    shutil.rmtree(_var, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    other = "postgresql" if DATABASE == "sqlite" else "sqlite"
    not_here = {other, *ELSEWHERE}
    here, away = [], []
    for item in items:
        item.user_properties.append(("database", settings.DATABASES["default"]["ENGINE"].rpartition(".")[2]))
        _keep_installed_rows(item)
        marks = {mark.name for mark in item.iter_markers()}
        (away if not_here & marks or (ONLY and not ONLY & marks) else here).append(item)
    if away:
        config.hook.pytest_deselected(items=away)
        items[:] = here


def pytest_collection_finish() -> None:
    """What is loaded now stays until the end: not looked through again for garbage, which took 11 % of the CPU
    of 373 tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def _keep_installed_rows(item: pytest.Item) -> None:
    """What migrations install (stages, a programme, a survey, templates) stays after a test that empties the tables."""
    marker = item.get_closest_marker("django_db")
    is_transactional = marker is not None and marker.kwargs.get("transaction", False)
    if is_transactional or {"transactional_db", "live_server"} & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.django_db(transaction=True, serialized_rollback=True), append=False)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> None:
    """Every connection of this process knows what migrations installed, not only the one that made the database.

    The browser's event loop gives a test another connection object than the tests before it had.
    """
    from django.db import connections

    made = connections["default"]
    # Absent where Django keeps no copy: when none of the chosen tests will ask for it.
    contents = getattr(made, "_test_serialized_contents", None)
    if contents is not None:
        rows = [row for row in json.loads(contents) if row["model"] not in NEVER_FLUSHED]
        type(made)._test_serialized_contents = json.dumps(rows)  # type: ignore[attr-defined]
        del made._test_serialized_contents


def _flush_what_is_there() -> None:
    """Empty only tables that hold something: a flush of a hundred empty ones takes longer than most tests.

    Kinds of rows and permissions are the same before and after every test, and are left alone.
    """
    from django.apps import apps
    from django.db import connection

    plain = connection.ops.__class__.sql_flush
    kept = {apps.get_model(name)._meta.db_table for name in NEVER_FLUSHED}

    def sql_flush(
        self: Any, style: Any, tables: list[str], *, reset_sequences: bool = False, allow_cascade: bool = False
    ) -> list[str]:
        names = sorted(set(tables) - kept)
        asked = " UNION ALL ".join(
            f"SELECT {n} WHERE EXISTS (SELECT 1 FROM {self.quote_name(name)})" for n, name in enumerate(names)
        )
        with self.connection.cursor() as cursor:
            cursor.execute(asked)
            filled = [names[n] for (n,) in cursor.fetchall()]
        # What refers to them and is not among them is empty.
        return list(plain(self, style, filled, reset_sequences=reset_sequences, allow_cascade=True)) if filled else []

    connection.ops.__class__.sql_flush = sql_flush  # type: ignore[method-assign]


def _flush_append_only_tables() -> None:
    """Let a test empty append-only tables on SQLite, where a flush is a DELETE: the triggers are lifted for as long.

    On PostgreSQL a flush is a TRUNCATE, which no row trigger sees. Only here, never in the product.
    """
    # The module "base" first: "operations" and it import each other, and only this way round works.
    from django.db.backends.sqlite3.base import DatabaseOperations

    plain = DatabaseOperations.execute_sql_flush

    def execute_sql_flush(self: DatabaseOperations, sql_list: list[str]) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
            triggers = cursor.fetchall()
        drop = [f'DROP TRIGGER "{name}"' for name, _sql in triggers]
        plain(self, [*drop, *sql_list, *(sql for _name, sql in triggers)])

    DatabaseOperations.execute_sql_flush = execute_sql_flush


def pytest_runtest_setup() -> None:
    """Nobody has asked for a language yet: a page leaves that of its reader behind in the thread."""
    translation.deactivate()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Counted where the run is led: which database and which kinds of test really ran."""
    if not EXPECT or IS_XDIST_WORKER:
        return
    if report.skipped:
        _ran["skipped"] += 1
    if report.when == "call" and report.passed:
        # By the database it was connected to, not by the name of its lane.
        _ran[str(dict(report.user_properties)["database"]).removesuffix("3")] += 1
        _ran.update(set(report.keywords) & {"browser", "worker", "gate"})


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if EXPECT and not IS_XDIST_WORKER and (_missing() or _ran["skipped"]) and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _missing() -> list[str]:
    return sorted(word for word in EXPECT if not _ran[word])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not EXPECT or IS_XDIST_WORKER:
        return
    counts = ", ".join(f"{word} {_ran[word]}" for word in sorted(EXPECT))
    terminalreporter.write_line(f"Passed by lane: {counts}.")
    for word in _missing():
        terminalreporter.write_line(f"FAILED: no test of the lane {word!r} passed.", red=True)
    if _ran["skipped"]:
        terminalreporter.write_line(f"FAILED: {_ran['skipped']} tests were skipped; here nothing may be.", red=True)

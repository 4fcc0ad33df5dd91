"""What every proof may ask for, and how a long run learns what each of them did."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.chaos import plan
from tests.chaos.actors import Stage
from tests.fixtures import database_url


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """``tell(kills=20)``: numbers that stand in the table of ``make chaos``."""

    def say(**numbers: Any) -> None:
        for name, value in numbers.items():
            record_property(name, value)

    return say


@pytest.fixture(scope="session")
def _theatre(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Loading the product takes two seconds, so one process does it for all tests. It touches no database itself."""
    folder = tmp_path_factory.mktemp("stage")
    values = {"DATABASE_URL": database_url(), "VAR_DIR": str(folder), "LOG_LEVEL": "ERROR"}
    one = Stage({**os.environ, **values, "CELERY_BROKER_URL": "memory://"}, folder)
    yield one
    one.stop()


@pytest.fixture
def stage(_theatre: Stage) -> Iterator[Stage]:
    """Processes of their own on the test's database: ``stage.start(…)``, ``stage.wait(…)``."""
    yield _theatre
    _theatre.clear()


@pytest.fixture
def pooled_stage(environment: Callable[..., dict[str, str]], tmp_path: Path) -> Iterator[Stage]:
    """``stage`` behind a PgBouncer that lends its three connections by transaction."""
    pooler = servers.pgbouncer(database_url(), connections=3)
    values = {"DATABASE_URL": pooler.url, "DATABASE_POOLED": "1"}
    one = Stage(environment(LOG_LEVEL="ERROR", CELERY_BROKER_URL="memory://", **values), tmp_path)
    yield one
    one.stop()
    pooler.stop()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if servers.pgbouncer_program() is None:
        behind = [item for item in items if item.get_closest_marker("pooler")]
        config.hook.pytest_deselected(items=behind)
        items[:] = [item for item in items if item not in behind]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One line for each proof that has run."""
    is_outcome = report.when == "call" or (report.when == "setup" and report.outcome != "passed")
    if not plan.OUT or not is_outcome:
        return
    line = {
        "test": report.nodeid,
        "outcome": report.outcome,
        "seconds": round(report.duration, 1),
        "told": dict(report.user_properties),
    }
    with Path(plan.OUT).open("a", encoding="utf-8") as out:
        out.write(json.dumps(line, default=str) + "\n")

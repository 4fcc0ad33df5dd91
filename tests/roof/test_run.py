"""``make run``: real processes, watched, and gone when asked."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures import wait_until
from tests.servers import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
# The embedded default is SQLite, so that is where it is tried.
pytestmark = [pytest.mark.worker, pytest.mark.sqlite]


class Installation:
    """One start of ``manage.py run`` on a folder of its own."""

    def __init__(self, var: Path, port: int) -> None:
        self.var, self.port = var, port
        self.output = var / "terminal"
        environment = {**os.environ, "VAR_DIR": str(var), "DATABASE_URL": f"sqlite:///{var / 'crm.sqlite3'}"}
        for name in ("CELERY_BROKER_URL", "SITE_URL", "CSRF_TRUSTED_ORIGINS"):
            environment.pop(name, None)
        self.started = time.monotonic()
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "run", "--empty", "--port", str(port)],
                cwd=ROOT,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def children(self) -> list[int]:
        with contextlib.suppress(OSError, ValueError):
            return [int(pid) for pid in json.loads((self.var / "run.lock").read_text())]
        return []

    def wait_until_ready(self) -> None:
        wait_until(lambda: "is ready" in self.said() or self.process.poll() is not None, seconds=90)
        assert "is ready" in self.said(), self.said()

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=30)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


def is_alive(group: int) -> bool:
    """Does the process group have a member that still runs? (What nobody has reaped yet does not run.)"""
    if Path("/proc/self/stat").exists():
        states = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, pgid = entry.read_text().rpartition(")")[2].split()[:3]
                states.append((int(pgid), state))
    else:
        done = subprocess.run(["ps", "-axo", "pgid=,stat="], capture_output=True, text=True, check=True)
        states = [(int(line.split()[0]), line.split()[1]) for line in done.stdout.splitlines()]
    return any(pgid == group and not state.startswith("Z") for pgid, state in states)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    started: list[Installation] = []

    def begin(port: int | None = None) -> Installation:
        one = Installation(tmp_path, port or free_port())
        started.append(one)
        return one

    yield begin
    for one in started:
        groups = one.children()
        one.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.process.wait(30)
        for group in [*groups, one.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def test_it_starts_three_processes_restarts_a_dead_one_and_stops_all(start: Callable[..., Installation]) -> None:
    run = start()
    run.wait_until_ready()
    assert run.answers()
    first = run.children()
    assert len(first) == 3
    assert all(is_alive(group) for group in first)
    assert f"http://127.0.0.1:{run.port}/" in run.said()

    # Beat rings, the broker carries, the worker answers.
    wait_until((run.var / "worker_heartbeat").exists)
    (run.var / "worker_heartbeat").unlink()
    wait_until((run.var / "worker_heartbeat").exists, seconds=30)

    web, worker, beat = first
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: len(run.children()) == 3 and worker not in run.children())
    assert "worker was killed by signal 9; starting it again in 1 s" in run.said()
    assert {web, beat} < set(run.children())
    assert not is_alive(worker)

    groups = run.children()
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(40) == 0
    assert [group for group in groups if is_alive(group)] == []
    assert "everything is stopped" in run.said()

    # The second start finds all prepared.
    again = start(run.port)
    again.wait_until_ready()
    assert time.monotonic() - again.started < 10
    assert "static files" not in again.said()


def test_a_start_after_a_power_cut_ends_what_was_left_over(start: Callable[..., Installation]) -> None:
    run = start()
    run.wait_until_ready()
    left = run.children()
    run.process.kill()
    run.process.wait()
    assert all(is_alive(group) for group in left)
    again = start(run.port)
    again.wait_until_ready()
    assert [group for group in left if is_alive(group)] == []
    assert len(again.children()) == 3


def test_a_port_that_is_taken_gets_one_sentence(start: Callable[..., Installation]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = start(port)
        assert run.process.wait(30) == 1
    said = run.said().strip()
    assert said.startswith(f"CommandError: Port {port} on 127.0.0.1 cannot be used")
    assert said.endswith(f"make run PORT={port + 1}.")
    assert len(said.splitlines()) == 1


def test_a_second_start_on_the_same_data_is_refused(start: Callable[..., Installation], tmp_path: Path) -> None:
    first = start()
    first.wait_until_ready()
    groups = first.children()
    (tmp_path / "terminal").rename(tmp_path / "terminal-of-the-first")
    second = start()
    assert second.process.wait(30) == 1
    assert "Lifecycle CRM already runs on" in second.said()
    assert all(is_alive(group) for group in groups)

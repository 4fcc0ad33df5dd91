"""Starts processes, watches them, and takes all of them along when it stops. Used by ``manage.py run``; knows no Django.

Each child leads its own process group: a Ctrl-C in the terminal reaches only the supervisor, which then stops the children
in order, and what a child leaves behind goes with its group.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

STEADY_SECONDS = 60
"""A child that lived this long was well; its next death starts the back-off anew."""
LONGEST_PAUSE = 30.0
GRACE_SECONDS = 15
"""What a child may take to finish; afterwards it is killed, which is safe because every piece of work is a leased row."""
LARGEST_LOG = 5_000_000


class AlreadyRunning(Exception):
    """Another supervisor holds this ``var/`` folder."""


@dataclass
class Child:
    name: str
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    restart_at: float | None = None

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def last_lines(self, count: int = 4) -> list[str]:
        with contextlib.suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace")[-4000:].splitlines()
            return [line for line in lines if line.strip()][-count:]
        return []


class Lock:
    """One supervisor per ``var/`` folder. The file also remembers the children, for the start after a power cut."""

    WIDTH = 200
    """Characters, spaces at the end: more than so many children ever take."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+", encoding="utf-8")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.file.close()
            raise AlreadyRunning from None

    def remembered(self) -> list[int]:
        self.file.seek(0)
        try:
            return [int(pid) for pid in json.loads(self.file.read() or "[]")]
        except (ValueError, TypeError):
            return []

    def remember(self, pids: Sequence[int]) -> None:
        """One write over what was there: whoever reads, or a power cut, finds the old ones or the new ones."""
        self.file.seek(0)
        self.file.write(json.dumps(list(pids)).ljust(self.WIDTH))
        self.file.flush()

    def release(self) -> None:
        self.remember([])
        self.file.close()


def command_of(pid: int) -> str:
    """The command line of a process, empty when there is none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    with contextlib.suppress(OSError):
        done = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return done.stdout
    return ""


@dataclass
class Supervisor:
    children: list[Child]
    lock: Lock
    say: Callable[[str], None]
    environment: dict[str, str]
    folder: Path
    mark: str
    """A word in every child's command line: how a left-over process is recognised as ours."""
    stop_asked: int = field(default=0, init=False)

    def run(self, is_ready: Callable[[], bool], when_ready: Callable[[], None]) -> None:
        """Returns after a signal asked to stop and every child is gone."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._asked)
        ready = False
        try:
            for child in self.children:
                self.start(child)
            while not self.stop_asked:
                self.watch()
                if not ready and is_ready():
                    ready = True
                    when_ready()
                time.sleep(0.2)
        finally:
            self.stop()

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self.stop_asked += 1

    def start(self, child: Child) -> None:
        child.log.parent.mkdir(parents=True, exist_ok=True)
        if child.log.exists() and child.log.stat().st_size > LARGEST_LOG:
            child.log.replace(child.log.with_suffix(".log.1"))
        with child.log.open("ab") as out:
            child.process = subprocess.Popen(
                child.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        child.started_at = time.monotonic()
        child.restart_at = None
        self.lock.remember([one.process.pid for one in self.children if one.process is not None])
        self.say(f"{child.name} started (process {child.process.pid})")

    def watch(self) -> None:
        for child in self.children:
            now = time.monotonic()
            if child.restart_at is not None:
                if now >= child.restart_at:
                    self.start(child)
            elif child.process is not None and not child.is_alive:
                self._died(child, now)

    def _died(self, child: Child, now: float) -> None:
        assert child.process is not None
        self._kill_group(child.process.pid)
        child.failures = 0 if now - child.started_at > STEADY_SECONDS else child.failures + 1
        pause = min(LONGEST_PAUSE, 2.0 ** max(0, child.failures - 1))
        child.restart_at = now + pause
        code = child.process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        self.say(f"{child.name} {how}; starting it again in {pause:.0f} s. Its last lines ({child.log}):")
        for line in child.last_lines():
            self.say(f"    {line}")

    def stop(self) -> None:
        alive = [child for child in self.children if child.is_alive]
        # The newest first: beat stops ringing, the worker finishes, the pages stay until the end.
        for child in reversed(alive):
            assert child.process is not None
            with contextlib.suppress(ProcessLookupError):
                child.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        asked = self.stop_asked
        while (
            any(child.is_alive for child in alive) and time.monotonic() < deadline and self.stop_asked <= max(1, asked)
        ):
            time.sleep(0.05)
        for child in self.children:
            if child.process is not None:
                self._kill_group(child.process.pid)
                child.process.wait()
        self.lock.release()

    @staticmethod
    def _kill_group(group: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)

    def sweep_leftovers(self) -> None:
        """After a supervisor was killed outright its children live on. They would answer twice, so they go first."""
        left = [pid for pid in self.lock.remembered() if self.mark in command_of(pid)]
        for pid in left:
            self.say(f"stopping process {pid}, left over from a start that was cut off")
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while any(self.mark in command_of(pid) for pid in left) and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid in left:
            self._kill_group(pid)

"""Two clocks: the one on the wall, and the CPU that we, the database and our server used. On a machine with other work only
the second says something about us."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import connection

from lifecycle_crm.lib import batches


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def cpu() -> float:
    """Seconds of CPU so far: this process and, where the server is on this machine, its process that serves us.

    On a machine with other work this says more than the clock. ``PGOPTIONS`` keeps PostgreSQL to that one process.
    """
    own = time.process_time()
    if connection.vendor != "postgresql":
        return own
    [(pid,)] = batches.rows("SELECT pg_backend_pid()")
    return own + _seconds(pid, 11, 12)


def counted(work: Callable[[], Any]) -> tuple[float, float]:
    """``(seconds by the clock, seconds of CPU)`` of work."""
    before = cpu()
    took = timed(work)
    return took, cpu() - before


def cpu_of_servers(pid: int) -> float:
    """Seconds of CPU so far of a process and its children, and of the whole of PostgreSQL where that is on this machine."""
    found = _family(pid)
    if connection.vendor == "postgresql":
        [(ours,)] = batches.rows("SELECT pg_backend_pid()")
        if fields := _fields(ours):
            found += _family(int(fields[1]))
    return found


def _family(pid: int) -> float:
    """Of a process, the children it has, and those that are gone."""
    children = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]
    children = [one for one in children if (fields := _fields(one)) and int(fields[1]) == pid]
    return sum(_seconds(one, 11, 12, 13, 14) for one in [pid, *children])


def _fields(pid: int) -> list[str]:
    """The fields of a process after its name (state, parent, …), none where it is gone or elsewhere."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _seconds(pid: int, *places: int) -> float:
    fields = _fields(pid)
    return sum(int(fields[place]) for place in places) / os.sysconf("SC_CLK_TCK") if fields else 0.0

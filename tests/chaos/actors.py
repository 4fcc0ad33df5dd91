"""Real processes that work on a night or send, and may be killed: one loads the product, and forks a worker for each order.

``python -m tests.chaos.actors`` reads one JSON object a line: ``{"do": "start", …}`` answers ``{"pid": …}``, and
``{"do": "poll", "pid": …}`` answers ``{"status": null}`` while it lives. A worker's own order:

``role``      ``night`` (run the night of ``day``), ``tick`` (what beat does, until nothing is due), ``join``,
              ``tell`` (orders of customer 0, 1, … until something ends it), ``react`` (what follows from facts),
              ``send`` (what is due, ``at_once`` messages at a time, until every message has its end), ``migrate``,
              ``plan`` (``people`` who agreed, and a run to all of them)
``width``, ``lease``, ``tries``   in place of the product's
``is_full``
``die_at``    SIGKILL itself before its n-th statement: a crash at a place that a seed can name
``hold``      in this step, once the chunk is claimed: write the file ``mark`` and wait until ``go`` exists
``nap``       seconds to wait before each part: work that takes a while
``poison``    a customer whose facts end the process (``os._exit``), as one that eats all memory would
``eats``      bytes that its work needs for each customer of a part; with ``limit``, bytes it may have more than at its
              start before SIGKILL, or ``cgroup``, a folder of the kernel's in which it has its own limit
``notes``     a file that gets a line with the memory it has after each part
``signal``    ``{"name": "SIGTERM", "at": 3, "after": 0.0001, "is_caught": true}``: so long after its n-th commit began;
              caught, it raises, as a server's worker does, and exits with ``CAUGHT``; else it ends the process
``email``     in place of ``settings.EMAIL``: the mail server of a test
``sms``       in place of ``settings.SMS``: the SMS provider of a test
``unsafe``    which guard to take away (``UNSAFE``)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
CAUGHT = 7


# --- In the test ------------------------------------------------------------------------------------------------------


class Stage:
    """The test's end of the process that forks workers."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.folder = folder
        self.pids: set[int] = set()
        self.ended: dict[int, int] = {}
        self.said = folder / "actors.log"
        with self.said.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.actors"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def _ask(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.said.read_text(errors="replace")[-3000:]
        return dict(json.loads(line))

    def start(self, role: str, **order: Any) -> int:
        pid = int(self._ask(do="start", role=role, **order)["pid"])
        self.pids.add(pid)
        return pid

    def status(self, pid: int) -> int | None:
        """``None`` while it lives, the exit code, or minus the signal that ended it."""
        if pid not in self.ended and (found := self._ask(do="poll", pid=pid)["status"]) is not None:
            self.ended[pid] = int(found)
            self.pids.discard(pid)
        return self.ended.get(pid)

    def wait(self, pid: int, seconds: float = 900) -> int:
        """Its exit code. The limit is for a worker that hangs, not for a slow machine: what a night costs is no proof of it."""
        deadline = time.monotonic() + seconds
        while (found := self.status(pid)) is None:
            assert time.monotonic() < deadline, f"Worker {pid} did not end within {seconds:g} s."
            time.sleep(0.005)
        return found

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.wait(pid)

    def clear(self) -> None:
        """End whoever is left."""
        for pid in list(self.pids):
            if self.status(pid) is None:
                self.kill(pid)

    def stop(self) -> None:
        self.clear()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


# --- In the processes -------------------------------------------------------------------------------------------------


def main() -> None:
    import django

    django.setup()
    from lifecycle_crm import celery, night, tasks  # noqa: F401  loaded once, so that a fork is at work at once

    for line in sys.stdin:
        order = json.loads(line)
        if order.pop("do") == "start":
            pid = os.fork()
            if pid == 0:
                _be(order)
            answer = {"pid": pid}
        else:
            pid, status = os.waitpid(order["pid"], os.WNOHANG)
            answer = {"status": os.waitstatus_to_exitcode(status) if pid else None}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _be(order: dict[str, Any]) -> None:
    code = 1
    try:
        os.close(0)
        _work(order)
        code = 0
    except BaseException as problem:
        found: BaseException | None = problem
        while found is not None:  # what went wrong on the way out of a signal is still the signal's doing
            code = CAUGHT if isinstance(found, _Caught) else code
            found = found.__context__
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _work(order: dict[str, Any]) -> None:
    from datetime import date

    from django.conf import settings
    from django.db import connection

    from lifecycle_crm import night
    from stages.models import Night

    night.WIDTH = order.get("width", night.WIDTH)
    night.LEASE_SECONDS = order.get("lease", night.LEASE_SECONDS)
    night.TRIES = order.get("tries", night.TRIES)
    if email := order.get("email"):
        settings.EMAIL = email
    if provider := order.get("sms"):
        settings.SMS = provider
    if unsafe := order.get("unsafe"):
        UNSAFE[unsafe]()
    if seconds := order.get("nap"):
        _nap(seconds)
    if held := order.get("hold"):
        _hold(held, Path(order["mark"]), Path(order["go"]))
    if poison := order.get("poison"):
        _poison(poison)
    if order.get("eats"):
        _eat(order["eats"], order.get("limit", 0), order.get("cgroup", ""))
    if notes := order.get("notes"):
        _note_memory(Path(notes))
    if told := order.get("signal"):
        _signalled(**told)
    if count := order.get("die_at"):
        connection.execute_wrappers.append(_Death(count))
    if order["role"] == "tell":
        _tell(order["name"], order["people"], order.get("unsafe") == "no_rows")
        return
    if order["role"] == "migrate":
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        return
    if order["role"] == "plan":
        from tests.campaigns.factories import CampaignFactory, people, planned

        planned(people(order["people"]), CampaignFactory(quiet_from=0, quiet_until=0))
        return
    if order["role"] == "send":
        _send(order["at_once"])
        return
    if order["role"] == "react":
        from lifecycle_crm import reactions

        reactions.run(seconds=30)
        return
    if order["role"] == "tick":
        while night.pending():
            night.tick(seconds=60)
        return
    day = date.fromisoformat(order["day"])
    if order["role"] == "join":
        night.work(Night.objects.get(business_date=day))
    else:
        night.run(day, is_full=order.get("is_full", False))


class _Death:
    """Before the n-th statement: everything up to the one before it has happened, committed or not."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self, execute: Callable[..., Any], *statement: Any) -> Any:
        self.left -= 1
        if self.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(*statement)


def _nap(seconds: float) -> None:
    from lifecycle_crm import night

    inner = night._do

    def slow(run: Any, chunk: Any, owner: str) -> None:
        time.sleep(seconds)
        inner(run, chunk, owner)

    night._do = slow


def _hold(step: str, mark: Path, go: Path) -> None:
    from lifecycle_crm import night

    inner = night._do

    def slow(run: Any, chunk: Any, owner: str) -> None:
        if chunk.step == step and not mark.exists():
            mark.write_text(str(chunk.pk))
            while not go.exists():
                time.sleep(0.01)
        inner(run, chunk, owner)

    night._do = slow


def _poison(customer: int) -> None:
    from customers import facts
    from lifecycle_crm import reactions
    from lifecycle_crm.lib import batches

    inner = reactions.hand_down

    def trips(**order: Any) -> None:
        if (customer,) in batches.rows(f"SELECT customer_id FROM {facts.PICKED}"):
            os._exit(9)
        inner(**order)

    reactions.hand_down = trips


def memory() -> int:
    """Bytes this process has in memory; where that is not told, the most it ever had."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def _eat(each: int, limit: int, cgroup: str) -> None:
    from customers import facts
    from lifecycle_crm import reactions
    from lifecycle_crm.lib import batches

    inner, before = reactions.hand_down, memory()
    if cgroup:
        (Path(cgroup) / "cgroup.procs").write_text(str(os.getpid()))

    def hungry(**order: Any) -> None:
        count = batches.rows(f"SELECT count(*) FROM {facts.PICKED}")[0][0]
        eaten = b"x" * (each * count)
        if limit and memory() - before > limit:
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does
        inner(**order)
        del eaten

    reactions.hand_down = hungry


def _note_memory(notes: Path) -> None:
    from lifecycle_crm import night

    inner = night._do

    def noted(run: Any, chunk: Any, owner: str) -> None:
        inner(run, chunk, owner)
        with notes.open("a") as out:
            out.write(f"{chunk.step} {memory()}\n")

    night._do = noted


class _Caught(BaseException):
    """A signal that a handler turned into an exception, wherever the process was."""


def _signalled(name: str, at: int, after: float, is_caught: bool) -> None:
    from django.db import connection

    def raises(*_frame: Any) -> None:
        raise _Caught

    number = getattr(signal, name)
    signal.signal(number, raises if is_caught else signal.SIG_DFL)
    inner, left = connection._commit, at

    def commit() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            threading.Timer(after, os.kill, (os.getpid(), number)).start()
        inner()

    connection._commit = commit


def _send(at_once: int) -> None:
    """As rings of the bell would: what a ring cannot do because the database is away, a later one does."""
    from django.db import InterfaceError, OperationalError, connection

    from campaigns import outbox
    from campaigns.models import Message

    while True:
        try:
            if not outbox.send_due(limit=at_once, seconds=60):
                if not Message.objects.filter(state__in=Message.OPEN).exists():
                    return
                time.sleep(0.05)
        except (OperationalError, InterfaceError):
            connection.close()
            time.sleep(0.2)


def _mark_after() -> None:
    """A message is called sent when its part of the run has left, as many systems do."""
    from django.conf import settings

    from campaigns import outbox
    from campaigns.channels import sms
    from campaigns.models import Message
    from lifecycle_crm.lib import clock

    def send_due(*, limit: int, seconds: float) -> int:
        import smtplib

        rows = list(Message.objects.filter(state="queued").order_by("pk").values_list("pk", flat=True)[:limit])
        if rows and settings.SMS["kind"]:
            session = sms.open_session()
            for pk in rows:
                session.address("Shop", "+46700000000")
                session.deliver(sms.form(to=f"+4670{pk:07d}", text="x"))
        elif rows:
            with smtplib.SMTP(settings.EMAIL["host"], settings.EMAIL["port"]) as server:
                for pk in rows:
                    server.sendmail("shop@shop.example", [f"{pk}@example.com"], "Subject: x\r\n\r\nx\r\n")
        Message.objects.filter(pk__in=rows).update(state="sent", sent_at=clock.now())
        return len(rows)

    outbox.send_due = send_due


def _tell(name: str, people: int, without_rows: bool) -> None:
    from django.db import transaction

    from customers import facts, ingest
    from customers.models import DirtyCustomer, Order
    from lifecycle_crm.lib import clock
    from loyalty import earning
    from tests.chaos import town

    for n in range(1000):
        row = town.order(f"{name}-{n}", n % people, clock.now(), 1000 + n)
        if not without_rows:
            ingest.record_order(row, source="shop")
            continue
        # What follows is remembered by this process alone, as a queue in memory or a hook after the commit does.
        with transaction.atomic():
            pk = ingest.record_order(row, source="shop").id
            Order.objects.filter(pk=pk).update(reacted_at=clock.now())
            who = Order.objects.values_list("customer", flat=True).get(pk=pk)
            DirtyCustomer.objects.filter(customer_id=who).delete()
            transaction.on_commit(lambda pk=pk, who=who: (earning.award_for_orders([pk]), facts.refresh_now([who])))


# --- Guards that can be taken away ------------------------------------------------------------------------------------


def _done_before_work() -> None:
    """A part is called done in one transaction and worked in the next, as a queue does that acknowledges early."""
    from django.db import transaction

    from lifecycle_crm import night
    from stages.models import Chunk

    def early(run: Any, chunk: Any, owner: str) -> None:
        Chunk.objects.filter(pk=chunk.pk).update(state=Chunk.State.DONE)
        with transaction.atomic():
            result = night._BY_NAME[chunk.step].work(run, chunk.low, chunk.high)
            Chunk.objects.filter(pk=chunk.pk).update(result=result)

    night._do = early


def _no_fence() -> None:
    """What was worked counts, whoever has the part by now."""
    from django.db import transaction

    from lifecycle_crm import night
    from stages.models import Chunk

    def careless(run: Any, chunk: Any, owner: str) -> None:
        with transaction.atomic():
            result = night._BY_NAME[chunk.step].work(run, chunk.low, chunk.high)
            Chunk.objects.filter(pk=chunk.pk).update(state=Chunk.State.DONE, result=result)

    night._do = careless


def _no_claim() -> None:
    """The first open part is taken without asking whether somebody has it."""
    from lifecycle_crm import night
    from stages.models import Chunk

    def take(chunks: list[Any], owner: str) -> Any:
        from django.db.models import F

        chunk = chunks[0]
        Chunk.objects.filter(pk=chunk.pk).update(state=Chunk.State.RUNNING, owner=owner, attempts=F("attempts") + 1)
        return chunk

    night._claim = take
    _no_fence()


def _no_rows() -> None:
    """What follows from a fact is no row: see ``_tell``."""


UNSAFE: dict[str, Callable[[], None]] = {
    "mark_after": _mark_after,
    "no_rows": _no_rows,
    "done_before_work": _done_before_work,
    "no_fence": _no_fence,
    "no_claim": _no_claim,
}


if __name__ == "__main__":
    main()

"""Redemptions by fifty clients at once over HTTP, and the proof of the ledger over many entries, with its growth.

Ten entries per customer are proved, a quarter of them first; ``--only proof --sizes 10000000`` proves so many.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from customers.models import Customer
from lifecycle_crm.accounts.models import ApiKey
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter
from loyalty import audit, ledger, wallet
from loyalty.models import Account, Entry, Programme
from tests.bench.clocks import counted, cpu_of_servers, timed

CLIENTS = 50
EACH = 10
WORKERS = 4


def row(
    what: str, seconds: list[float], ratio: float | None, note: str, cpu_ratio: float | None = None
) -> dict[str, Any]:
    return {
        "what": what, "median_s": statistics.median(seconds), "min_s": min(seconds), "max_s": max(seconds),
        "ratio": ratio, "cpu_ratio": cpu_ratio, "note": note,
    }  # fmt: skip


# --- Redemptions ------------------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def redemptions() -> list[dict[str, Any]]:
    """Each client redeems for a customer of its own; then all of them for the same one. Answers other than 201 fail."""
    people = list(Customer.objects.order_by("pk")[:CLIENTS])
    ledger.earn_many(
        [
            ledger.Earning(
                one.pk, 10**6, f"bench:{one.pk}", clock.now() - timedelta(days=1), clock.now() - timedelta(days=1)
            )
            for one in people
        ]
    )
    secret = ApiKey.issue(name="Bench", scopes=["points:write"])[1]
    by_itself = [
        counted(lambda n=n: ledger.redeem(customer=people[0], points=1, key=f"bench:alone:{n}")) for n in range(200)
    ]
    alone = [clock_s for clock_s, _cpu_s in by_itself]
    alone_cpu = sum(cpu_s for _clock_s, cpu_s in by_itself) / len(by_itself)
    with _served() as (port, server):
        found = []
        for name, whose in (
            ("a customer each", lambda n: people[n].pk),
            ("all the same customer", lambda n: people[0].pk),
        ):
            took: list[float] = []
            codes: set[int] = set()
            before = cpu_of_servers(server)
            wall = timed(
                lambda whose=whose, took=took, codes=codes, name=name: _storm(port, secret, whose, took, codes, name)
            )
            assert codes == {201}, codes
            ordered = sorted(took)
            each = (cpu_of_servers(server) - before) / len(ordered)
            found.append(
                row(
                    f"redeem over HTTP, {CLIENTS} clients, {name}",
                    ordered,
                    statistics.median(ordered) / statistics.median(alone),
                    f"{len(ordered) / wall:,.0f}/s, p95 {ordered[int(len(ordered) * 0.95)] * 1000:,.0f} ms, n = {len(ordered)}, "
                    f"{WORKERS} workers; {each * 1000:.1f} ms of CPU each; ratios to the verb alone "
                    f"({statistics.median(alone) * 1000:.1f} ms, {alone_cpu * 1000:.1f} ms of CPU)",
                    each / alone_cpu,
                )
            )
        return found


@contextmanager
def _served() -> Iterator[tuple[int, int]]:
    """Our server with its workers: its port and its process."""
    port = _free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "lifecycle_crm.wsgi", "-b", f"127.0.0.1:{port}", "-w", str(WORKERS)],
        env=os.environ | {"SITE_URL": f"http://127.0.0.1:{port}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port)
        yield port, server.pid
    finally:
        server.terminate()
        server.wait(20)


def _wait(port: int) -> None:
    for _try in range(150):
        try:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            client.request("GET", "/health/")
            client.getresponse().read()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("The server did not come up.")


def _storm(port: int, secret: str, whose: Any, took: list[float], codes: set[int], name: str) -> None:
    start = threading.Barrier(CLIENTS)

    def run(n: int) -> None:
        start.wait(60)
        for turn in range(EACH):
            body = json.dumps({"customer": whose(n), "points": 1})
            headers = {
                "Authorization": f"Bearer {secret}",
                "Idempotency-Key": f"{name}:{n}:{turn}",
                "Content-Type": "application/json",
            }
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            began = time.perf_counter()
            client.request("POST", "/api/v1/points/redeem/", body, headers)
            answer = client.getresponse()
            answer.read()
            took.append(time.perf_counter() - began)
            codes.add(answer.status)
            client.close()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(CLIENTS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


# --- The proof --------------------------------------------------------------------------------------------------------


def grow(count: int, turn: int) -> None:
    """So many more earnings of one point, with postings and lots, spread over all accounts, set-based."""
    programme = Programme.current()
    assert programme is not None
    accounts = Account.objects.filter(programme=programme).count()
    if accounts < count // 10:
        _open_accounts(programme)
        accounts = Account.objects.filter(programme=programme).count()
    each = max(1, count // accounts)
    now = parameter(clock.now())
    newest = Entry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    with transaction.atomic():
        document = "'{}'::jsonb" if connection.vendor == "postgresql" else "'{}'"
        batches.execute(
            f"""
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %s)
            INSERT INTO loyalty_entry (programme_id, account_id, customer_id, key, kind, points, effective_at, recorded_at,
                                       reason, explanation, source_type, source_id)
            SELECT a.programme_id, a.id, a.customer_id, 'bench:' || a.id || ':' || {int(turn)} || ':' || n.i, 'earn', 1, %s, %s,
                   '', {document}, '', ''
            FROM loyalty_account a CROSS JOIN n WHERE a.programme_id = %s
            """,
            [each, now, now, programme.pk],
        )
        batches.execute(
            "INSERT INTO loyalty_posting (entry_id, account_id, ledger, points) "
            "SELECT id, account_id, 'available', 1 FROM loyalty_entry WHERE id > %s "
            "UNION ALL SELECT id, account_id, 'issued', -1 FROM loyalty_entry WHERE id > %s",
            [newest, newest],
        )
        batches.execute(
            "INSERT INTO loyalty_lot (entry_id, account_id, customer_id, amount, remaining, active_at, activated_at) "
            "SELECT id, account_id, customer_id, 1, 1, effective_at, effective_at FROM loyalty_entry WHERE id > %s",
            [newest],
        )
        batches.execute(
            "UPDATE loyalty_account SET balance = balance + %s, earned = earned + %s WHERE programme_id = %s",
            [each, each, programme.pk],
        )


def _open_accounts(programme: Programme) -> None:
    """An account for everybody who has none, with the values of a new one."""
    new = {field.column: field.get_default() for field in Account._meta.concrete_fields if not field.primary_key}
    new = {name: value for name, value in new.items() if name != "customer_id"} | {"programme_id": programme.pk}
    values = [parameter(one) if isinstance(one, datetime) else one for one in new.values()]
    batches.execute(
        f"INSERT INTO loyalty_account (customer_id, {', '.join(new)}) SELECT c.id, {', '.join(['%s'] * len(new))} "
        "FROM customers_customer c WHERE NOT EXISTS "
        "(SELECT 1 FROM loyalty_account a WHERE a.customer_id = c.id AND a.programme_id = %s)",
        [*values, programme.pk],
    )


def proof(size: int) -> list[dict[str, Any]]:
    """``verify`` of the ledger and the nightly proof; the ratio is to reading each posting once."""
    goal = size * 10
    found, before = [], 0.0
    for turn, target in enumerate((goal // 4, goal)):
        grow(max(target - Entry.objects.count(), 1), turn)
        batches.execute("ANALYZE" if connection.vendor == "sqlite" else "VACUUM ANALYZE")
        entries = Entry.objects.count()
        floors = [
            counted(
                lambda: batches.rows("SELECT account_id, sum(points) FROM loyalty_posting GROUP BY account_id LIMIT 1")
            )
            for _time in range(2)
        ]
        floor, floor_cpu = (min(one[place] for one in floors) for place in (0, 1))
        nightly = timed(lambda: ledger.prove())
        turned = timed(lambda turn=turn: ledger.prove(day=clock.today() + timedelta(days=turn + 1)))
        said: list[str] = []
        proofs = [counted(lambda said=said: said.extend(audit.problems())) for _time in range(2)]
        assert said == [], said[:3]
        whole = [clock_s for clock_s, _cpu_s in proofs]
        in_cpu = min(cpu_s for _clock_s, cpu_s in proofs)
        each = in_cpu / entries * 1e6
        growth = f", {each / before:.2f} times that of a quarter" if before else ""
        before = each
        found.append(
            row(
                f"verify the ledger, {entries:,} entries",
                whole,
                min(whole) / floor,
                f"{each:.2f} µs of CPU per entry{growth}; a night's proof {nightly:.1f} s where every account moved, "
                f"{turned:.1f} s where none did",
                in_cpu / floor_cpu,
            )
        )
    return found


# --- The wallet -------------------------------------------------------------------------------------------------------


def wallets(looks: int = 300) -> list[dict[str, Any]]:
    """The public wallet over HTTP, one customer after another: what a customer waits for, without the network."""
    held = Account.objects.filter(balance__gt=0).select_related("customer").order_by("-earned")[:looks]
    paths = [wallet.path(wallet.card(one.customer)) for one in held]
    entries, took, before = Entry.objects.count(), [], 0.0
    with _served() as (port, server):
        for place, path in enumerate([*paths[: WORKERS * 3], *paths]):
            if place == WORKERS * 3:
                before = cpu_of_servers(server)
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            began = time.perf_counter()
            client.request("GET", path)
            answer = client.getresponse()
            answer.read()
            took.append(time.perf_counter() - began)
            assert answer.status == 200, answer.status
            client.close()
        each = (cpu_of_servers(server) - before) / len(paths)
    ordered = sorted(took[WORKERS * 3 :])
    return [
        row(
            "wallet over HTTP, one at a time",
            ordered,
            None,
            f"p95 {ordered[int(len(ordered) * 0.95)] * 1000:,.0f} ms, {each * 1000:.1f} ms of CPU each, n = {len(ordered)}, "
            f"{entries:,} entries, {WORKERS} workers",
        )
    ]


def rows(size: int) -> list[dict[str, Any]]:
    return redemptions() + wallets() + proof(size)

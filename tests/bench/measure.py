"""One database, one size: load the sample shop at that size, then time the floor and our work on the same rows in turn."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.db.models import Count, Max, Min, Sum  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import setup_test_environment  # noqa: E402

from customers import facts, segments  # noqa: E402
from customers.models import Customer, CustomerFacts, DirtyCustomer, Event, Order, SegmentVersion  # noqa: E402
from lifecycle_crm import night, reactions  # noqa: E402
from lifecycle_crm.accounts.models import User  # noqa: E402
from lifecycle_crm.demo import shop  # noqa: E402
from lifecycle_crm.lib import batches, clock  # noqa: E402
from stages.models import Chunk  # noqa: E402
from tests.bench import grow, ledger, points, sending  # noqa: E402
from tests.bench.clocks import counted, timed  # noqa: E402

GROWN_FROM = 10_000
LARGEST_LOADED = 100_000
"""A larger shop is ``GROWN_FROM`` people copied, with four times the orders and twice the events."""


def floor() -> None:
    """The least the data allows: each raw table that feeds the facts, aggregated by customer."""
    real = "is_counted" if connection.vendor == "postgresql" else "is_counted = 1"
    for inner in (
        "SELECT customer_id, count(*) AS n, min(placed_at), max(placed_at), sum(base_minor) FROM customers_order "
        f"WHERE {real} GROUP BY customer_id",
        "SELECT customer_id, max(occurred_at) AS n FROM customers_event GROUP BY customer_id",
        "SELECT customer_id, max(occurred_at) AS n FROM customers_consent GROUP BY customer_id",
    ):
        batches.rows(f"SELECT count(*), max(n) FROM ({inner}) t")


class _Undo(Exception):
    pass


def undone(work: Callable[[], Any]) -> tuple[float, float]:
    """``counted`` for work inside a transaction that is rolled back afterwards, so that it can be repeated."""
    took = (0.0, 0.0)
    try:
        with transaction.atomic():
            took = counted(work)
            raise _Undo
    except _Undo:
        return took


def rebuild() -> None:
    """Everybody's facts from nothing: what a first night does, without stages."""
    CustomerFacts.objects.all()._raw_delete("default")
    for low, high in batches.id_ranges(Customer, night.WIDTH):
        with facts.batch():
            facts.add_everyone(low, high, as_of=clock.whole_now())
            reactions.hand_down(as_of=clock.whole_now())


def naive(people: list[int]) -> None:
    """The loop everybody writes first."""
    for pk in people:
        row = Order.objects.filter(customer_id=pk, is_counted=True).aggregate(
            n=Count("id"), first=Min("placed_at"), last=Max("placed_at"), spend=Sum("base_minor")
        )
        seen = Event.objects.filter(customer_id=pk).aggregate(last=Max("occurred_at"))
        known = CustomerFacts.objects.get(pk=pk)
        known.orders, known.first_order_at, known.last_order_at = row["n"], row["first"], row["last"]
        known.spend_minor, known.engaged_at = row["spend"] or 0, seen["last"]
        known.save()


def a_night(share: float, *, is_full: bool = False) -> tuple[tuple[float, float], dict[str, int]]:
    """The next night, in which this share of the customers did something. The night stays, its date moves on."""
    day = night.Night.objects.latest("business_date").business_date + timedelta(days=1)
    moment = clock.day_start(day) + timedelta(hours=12)
    if share:
        chosen = list(Customer.objects.order_by("pk").values_list("pk", flat=True)[:: max(1, round(1 / share))])
        Event.objects.bulk_create(
            (
                Event(customer_id=pk, name="visit", occurred_at=moment, source="bench", source_id=f"{day}-{pk}")
                for pk in chosen
            ),
            batch_size=5000,
        )
        facts.mark(chosen, occurred_at=moment)
    if connection.vendor == "postgresql":
        batches.execute("ANALYZE")
    holder: list[Any] = []
    took = counted(lambda: holder.append(night.run(day, is_full=is_full, is_quiet=True)))
    return took, holder[0].counts


def shared_night(workers: int) -> tuple[float, float]:
    """The next night for everybody by so many processes: seconds by the clock, and the largest memory of one in MB."""
    day = night.Night.objects.latest("business_date").business_date + timedelta(days=1)
    command = [sys.executable, "manage.py", "night", "--date", day.isoformat(), "--full", "--workers", str(workers)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    row = night.Night.objects.get(business_date=day)
    assert row.finished_at is not None
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return (row.finished_at - row.started_at).total_seconds(), memory


def tidy() -> None:
    batches.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


def segment() -> None:
    """Three segments, so that a night has memberships to keep."""
    for key, tree in (
        ("bench-silent", {"all": [{"fact": "last_order_at", "op": "days_since_gte", "value": 200}]}),
        ("bench-worth", {"all": [{"fact": "spend_minor", "op": "gte", "value": 20_000}]}),
        ("bench-started", {"all": [{"fact": "stage", "op": "in", "value": ["nurture", "acquire"]}]}),
    ):
        made = segments.create(name=key, key=key, condition=tree)
        SegmentVersion.objects.create(
            segment=made, number=0, condition=tree, created_at=clock.now() - timedelta(days=30)
        )


def main(size: int, out: Path) -> None:
    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    rows: list[dict[str, Any]] = []
    is_grown = size > LARGEST_LOADED
    load = timed(lambda: shop.build(customers=GROWN_FROM if is_grown else size))
    if is_grown:
        grow.thicken(orders=3, events=1)
    segment()
    tidy()

    def row(what: str, took: list[tuple[float, float]], note: str = "") -> None:
        seconds = [clock_s for clock_s, _cpu_s in took]
        median = statistics.median(seconds)
        rows.append(
            {
                "what": what,
                "median_s": median,
                "min_s": min(seconds),
                "max_s": max(seconds),
                "ratio": median / floor_s,
                "cpu_ratio": statistics.median(cpu_s for _clock_s, cpu_s in took) / floor_cpu_s,
                "note": note,
            }
        )

    # Eight nights follow each other, and the last of them is last night's: home shows it from its rollups.
    first_day = clock.last_complete_day() - timedelta(days=7)
    first = counted(lambda: night.run(first_day, is_quiet=True))
    by_step = _steps()
    if is_grown:
        load += timed(lambda: grow.times(size // GROWN_FROM))
    tidy()
    floors, rebuilds = [], []
    for _ in range(3):
        floors.append(counted(floor))
        rebuilds.append(undone(rebuild))
    floor_s = statistics.median(clock_s for clock_s, _cpu_s in floors)
    floor_cpu_s = statistics.median(cpu_s for _clock_s, cpu_s in floors)
    if not is_grown:
        row("first night, everybody, all steps", [first], by_step)
    row("facts of everybody, from nothing", rebuilds)
    # A customer who moved is looked at again the next night: let two pass before an ordinary one is measured.
    for _ in range(2):
        a_night(0.04 if is_grown else 0.001)
    sample = list(CustomerFacts.objects.values_list("pk", flat=True)[:500])
    loops = [undone(lambda: naive(sample)) for _ in range(3)]
    whole = [(clock_s / len(sample) * size, cpu_s / len(sample) * size) for clock_s, cpu_s in loops]
    row("the same by a loop per customer", whole, f"n = {len(sample)}, scaled to {size:,}")
    for share, name in ((0.04, "ordinary"), (0.02, "quiet")):
        took, counts = a_night(share)
        each = took[1] / max(counts["evaluated"], 1) * 1e6
        told = f"{counts['evaluated']:,} looked at, {counts.get('moved', 0):,} moved, {each:,.0f} µs of CPU each; {_steps()}"
        row(f"{name} night, {share:.0%} touched", [took], told)
    took, counts = a_night(0, is_full=True)
    row("full night, everybody decided again", [took], f"{counts['evaluated']:,} looked at; {_steps()}")
    alone, memory = shared_night(1)
    together, most = shared_night(2)
    told = f"one {alone:.1f} s, speed-up {alone / together:.2f}; largest process {max(memory, most):,.0f} MB"
    row("full night, two processes", [(together, 0.0)], told)
    rows[-1]["cpu_ratio"] = None
    DirtyCustomer.objects.all().delete()
    rows += sending.rows() + pages() + points.rows(max(size, 100_000))
    rows += ledger.rows(size)
    result = {
        "orders": Order.objects.count(),
        "events": Event.objects.count(),
        "floor_s": floor_s,
        "floor_cpu_s": floor_cpu_s,
        "load_s": load,
        "is_grown": is_grown,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rows": rows,
    }
    out.write_text(json.dumps(result), encoding="utf-8")


def _steps() -> str:
    """What took longest in the last night."""
    of = night.Night.objects.latest("business_date")
    by_step = Chunk.objects.filter(night=of).values_list("step").annotate(s=Sum("seconds")).order_by("-s")
    return "of which " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in by_step[:4])


def pages() -> list[dict[str, Any]]:
    """Server time of the pages, signed in as owner, after one warm-up each."""
    setup_test_environment()
    user = User.objects.create_superuser("bench@shop.example", "x" * 20)
    client = Client()
    client.force_login(user)
    one = CustomerFacts.objects.order_by("-orders").values_list("pk", flat=True).first()
    found: list[dict[str, Any]] = []
    for name, path in (
        ("page: home", "/"),
        ("page: customers", "/customers/"),
        ("page: customers, filtered and sorted", "/customers/?stage=dormant&sort=-spend"),
        ("page: customers, search", "/customers/?q=anna"),
        ("page: one customer", f"/customers/{one}/"),
    ):
        client.get(path)
        count = [0]

        def one_more(execute: Any, *rest: Any, count: list[int] = count) -> Any:
            count[0] += 1
            return execute(*rest)

        with connection.execute_wrapper(one_more):
            answer = client.get(path)
        assert answer.status_code == 200, (path, answer.status_code)
        times = [timed(lambda path=path: client.get(path)) for _ in range(9)]
        found.append(
            {
                "what": name,
                "median_s": statistics.median(times),
                "min_s": min(times),
                "max_s": max(times),
                "note": f"{count[0]} queries, {len(answer.content) / 1024:,.0f} kB, n = 9",
            }
        )
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

"""Awarding points for orders, as a ratio to inserting the very same orders: what a first night does before anything else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import connection

from customers.models import Customer, Order
from lifecycle_crm.lib import batches, clock
from loyalty import earning
from loyalty.models import Entry
from tests.bench.clocks import counted

YEARS = 3
PER_CUSTOMER = 4
BATCH = 2000
SLICE = 50_000


def people(count: int) -> list[int]:
    """So many customers; their ids."""
    known, now = Customer.objects.count(), clock.now()
    made: list[int] = []
    for part in batches.of(range(count), SLICE):
        found = Customer.objects.bulk_create(
            (
                Customer(name=f"Bench {n}", email=f"b{known}-{n}@bench.example", known_since=now - timedelta(days=1200))
                for n in part
            ),
            batch_size=2000,
        )
        made += [one.pk for one in found]
    return made


def orders(count: int) -> Iterator[list[Order]]:
    """A shop's history: each customer buys four times, and the moments lie evenly over three years. In slices, so that a
    million of them need no more memory than a few."""
    known = Entry.objects.count() + Order.objects.count()
    now = clock.now()
    who = people(count // PER_CUSTOMER)
    step = timedelta(days=365 * YEARS) / count
    for part in batches.of(range(count), SLICE):
        yield [
            Order(
                customer_id=who[n * 31 % len(who)],
                source="bench",
                source_id=f"{known}-{n}",
                placed_at=now - timedelta(days=365 * YEARS) + step * n,
                currency="USD",
                amount_minor=500 + n * 7919 % 40_000,
                base_minor=500 + n * 7919 % 40_000,
                is_history=True,
            )
            for n in part
        ]


def measure(count: int) -> dict[str, float]:
    """Seconds to insert so many orders and to award their points, a commit per batch as the reactions do.

    A rollback would not do: working tables are cut at a commit, so one long transaction would measure their dead rows.
    The orders are deleted afterwards; entries stay, for the ledger is append-only.
    """
    found: dict[str, float] = {"insert_s": 0.0, "insert_cpu_s": 0.0}
    ids: list[int] = []
    for made in orders(count):
        took = counted(lambda made=made: [Order.objects.bulk_create(part) for part in batches.of(made, BATCH)])
        found["insert_s"] += took[0]
        found["insert_cpu_s"] += took[1]
        ids += [one.pk for one in made]
    if connection.vendor == "postgresql":
        batches.execute("VACUUM ANALYZE")
    before = Entry.objects.count()
    found["award_s"], found["award_cpu_s"] = counted(
        lambda: [earning.award_for_orders(part) for part in batches.of(ids, BATCH)]
    )
    found["entries"] = Entry.objects.count() - before
    Order.objects.filter(source="bench")._raw_delete("default")
    return found


def rows(count: int, times: int = 2) -> list[dict[str, Any]]:
    """The row of the table: ``ratio`` is to inserting the same orders, not to the floor."""
    found = [measure(count) for _time in range(times)]
    best = min(found, key=lambda one: one["award_s"])
    return [
        {
            "what": f"points for {count:,} orders, ratio to inserting",
            "median_s": best["award_s"],
            "min_s": best["award_s"],
            "max_s": max(one["award_s"] for one in found),
            "ratio": best["award_s"] / best["insert_s"],
            "cpu_ratio": best["award_cpu_s"] / best["insert_cpu_s"],
            "note": f"{best['entries'] / best['award_s']:,.0f} orders/s, {best['entries'] / best['award_cpu_s']:,.0f} per CPU "
            f"second; inserting them {best['insert_s']:.1f} s, {best['insert_cpu_s']:.1f} s of CPU",
        }
    ]

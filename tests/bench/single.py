"""One measurement of points by itself, in a database that holds nothing else: ``make bench ONLY=points SIZES=1000000``.

The size is what the measurement is about: ``points`` orders, ``proof`` entries, ``redemptions``, ``wallet`` and
``journeys`` customers.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import django

django.setup()

from django.core.management import call_command  # noqa: E402

from customers.models import Event, Order  # noqa: E402
from tests.bench import grow, journeys, ledger, points  # noqa: E402

PER_CUSTOMER = 10
"""Entries of a customer where the size counts entries."""
BY_HAND = 1000
"""So many customers are made; larger crowds are copies of them."""


def _points(size: int) -> list[dict[str, Any]]:
    return points.rows(size, times=1)


def _proof(size: int) -> list[dict[str, Any]]:
    crowd = size // PER_CUSTOMER
    grow.people(max(1, crowd // len(points.people(min(crowd, BY_HAND)))))
    return ledger.proof(crowd)


def _redemptions(size: int) -> list[dict[str, Any]]:
    points.people(max(size, ledger.CLIENTS))
    return ledger.redemptions()


def _wallet(size: int) -> list[dict[str, Any]]:
    points.people(size)
    ledger.grow(size * PER_CUSTOMER, 0)
    return ledger.wallets()


ONLY = {
    "points": _points, "proof": _proof, "redemptions": _redemptions, "wallet": _wallet, "journeys": journeys.rows,
}  # fmt: skip


def main(name: str, size: int, out: Path) -> None:
    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    began = time.perf_counter()
    rows = ONLY[name](size)
    result = {
        "only": name,
        "orders": Order.objects.count(),
        "events": Event.objects.count(),
        "load_s": time.perf_counter() - began - sum(one["median_s"] for one in rows),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rows": rows,
    }
    out.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))

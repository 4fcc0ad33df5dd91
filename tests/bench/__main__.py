"""``make bench``: the night, the facts and the pages, as ratios to the plain scan of the same rows in the same run.

Each database and size is measured in a process and a database of its own. Absolute times belong to the machine; the ratios
are what we promise. Prints a table and writes ``bench.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests import servers

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000], help="customers")
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument(
        "--only", choices=["points", "proof", "redemptions", "wallet", "journeys"],
        help="this measurement alone; sizes are then orders, entries or customers",
    )  # fmt: skip
    parser.add_argument("--out", default="bench.json")
    options = parser.parse_args()

    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="crm-bench-") as folder:
        server = servers.postgresql() if "postgresql" in options.databases else None
        try:
            for database in options.databases:
                for size in options.sizes:
                    url = f"sqlite:///{folder}/{size}.sqlite3"
                    if database == "postgresql":
                        assert server is not None
                        url = _fresh(server.url, f"bench_{size}")
                    results.append(_measure(database, size, url, folder, options.only))
                    _print(results[-1])
        finally:
            if server is not None:
                server.stop()
    if not options.only:
        _growth(results)
    Path(options.out).write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(f"Written to {options.out}.")
    return 0


def _fresh(url: str, name: str) -> str:
    import psycopg2

    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    return f"{url.rpartition('/')[0]}/{name}"


def _measure(database: str, size: int, url: str, folder: str, only: str | None) -> dict[str, Any]:
    out = Path(folder) / f"{database}-{size}.json"
    environment = os.environ | {
        "DATABASE_URL": url,
        "VAR_DIR": folder,
        "DJANGO_SETTINGS_MODULE": "lifecycle_crm.settings",
        "LOG_LEVEL": "ERROR",
        "EMAIL_URL": "local:",
        "REDIS_URL": "",
        "ENVIRONMENT": "local",
        # One process per query, so that its CPU can be counted and the floor gets no help that the night does not get.
        "PGOPTIONS": "-c max_parallel_workers_per_gather=0",
    }
    command = [sys.executable, "-m", "tests.bench.measure", str(size), str(out)]
    if only:
        command = [sys.executable, "-m", "tests.bench.single", only, str(size), str(out)]
    subprocess.run(command, env=environment, cwd=ROOT, check=True)
    return {"database": database, "customers": size, **json.loads(out.read_text(encoding="utf-8"))}


def _print(result: dict[str, Any]) -> None:
    if "only" in result:
        print(
            f"\n{result['database']}, {result['only']} at {result['customers']:,}; {result['peak_memory_mb']:,.0f} MB"
        )
        _print_rows(result)
        return
    how = "copied from 10,000" if result["is_grown"] else "resampled"
    print(
        f"\n{result['database']}, {result['customers']:,} customers ({how}), {result['orders']:,} orders, "
        f"{result['events']:,} events, loaded in {result['load_s']:,.0f} s; floor (GROUP BY of orders, events and consents): "
        f"{result['floor_s'] * 1000:,.0f} ms, {result['floor_cpu_s'] * 1000:,.0f} ms of CPU"
    )
    _print_rows(result)


def _print_rows(result: dict[str, Any]) -> None:
    print(f"  {'what':<44}{'median':>12}{'ratio':>14}{'in CPU':>9}  note")
    for row in result["rows"]:
        ratio = f"{row['ratio']:,.2f}" if row.get("ratio") is not None else ""
        in_cpu = f"{row['cpu_ratio']:,.2f}" if row.get("cpu_ratio") is not None else ""
        print(f"  {row['what']:<44}{row['median_s'] * 1000:>9,.1f} ms{ratio:>14}{in_cpu:>9}  {row.get('note', '')}")
    sys.stdout.flush()


def _growth(results: list[dict[str, Any]]) -> None:
    """How cost grows with customers: the exponent between the smallest and the largest size, 1 being in proportion."""
    for database in dict.fromkeys(one["database"] for one in results):
        ordered = sorted((r for r in results if r["database"] == database), key=lambda r: r["customers"])
        small, large = ordered[0], ordered[-1]
        if small is large:
            continue
        before = {row["what"]: row["median_s"] for row in small["rows"]}
        print(f"\n{database}, growth from {small['customers']:,} to {large['customers']:,} customers (exponent):")
        for row in large["rows"]:
            if "night" in row["what"] and row["what"] in before:
                power = math.log(row["median_s"] / before[row["what"]]) / math.log(
                    large["customers"] / small["customers"]
                )
                print(f"  {row['what']:<44}{power:>12.2f}")


if __name__ == "__main__":
    sys.exit(main())

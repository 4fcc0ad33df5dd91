"""``make chaos``: the proofs of the night and of sending under faults, long, on both databases.

Every proof runs with the same seed and as many rounds as asked for: kills, random histories, shuffles. At the end stands a
table of what each of them did; ``--write`` keeps it in ``docs/chaos.md``, or in the page it names. The exit code is 1 if a
proof failed.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests import servers

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
PAGE = ROOT / "docs" / "chaos.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=20260301, help="the same seed is the same run")
    parser.add_argument(
        "--rounds", type=int, default=25, help="kills, examples and shuffles of each proof (default 25)"
    )
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--only", default="", help="pytest's -k: which proofs")
    parser.add_argument("--write", nargs="?", type=Path, const=PAGE, help="keep the table in this page")
    options = parser.parse_args()
    say(f"Seed {options.seed}, {options.rounds} rounds.")
    results = {database: run(database, options) for database in options.databases}
    table = render(results, options)
    say(table)
    if options.write:
        options.write.write_text(table + "\n", encoding="utf-8")
        say(f"Written to {options.write}.")
    return int(
        any(line["outcome"] != "passed" for lines in results.values() for line in lines) or not all(results.values())
    )


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run(database: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One line of result per proof."""
    with tempfile.TemporaryDirectory(prefix="crm-chaos-") as folder:
        out = Path(folder) / "results"
        environment = os.environ | {
            "TEST_DATABASE": database,
            "CHAOS_SEED": str(options.seed),
            "CHAOS_ROUNDS": str(options.rounds),
            "CHAOS_OUT": str(out),
        }
        began = time.monotonic()
        command = [sys.executable, "-m", "pytest", str(HERE), "-p", "no:cacheprovider", "-q", "--show-capture=no"]
        if options.only:
            command += ["-k", options.only]
        subprocess.run(command, cwd=ROOT, env=environment, check=False)
        say(f"{database}: {time.monotonic() - began:,.0f} s")
        lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
        return [json.loads(line) for line in lines]


def claims() -> dict[str, str]:
    """What each proof says it proves: the first line of its docstring, or its name."""
    found = {}
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                said = (ast.get_docstring(node) or "").partition("\n")[0]
                found[node.name] = said or node.name.removeprefix("test_").replace("_", " ")
    return found


def render(results: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> str:
    said = claims()
    lines = [
        "# What the faults did",
        "",
        f"`make chaos SEED={options.seed} ROUNDS={options.rounds}` on {datetime.now(UTC):%Y-%m-%d}, "
        f"Python {platform.python_version()}, {os.cpu_count()} processors, {_pooler()}. A kill counts only when the process "
        "it hit had work in hand; a twin is the same scenario with one guard taken away, and passes when it fails to hold.",
        "",
        "| What | Database | Result | Seconds | In numbers |",
        "|---|---|---|---:|---|",
    ]
    for database, proofs in results.items():
        for proof in sorted(proofs, key=lambda one: one["test"]):
            name, _, variant = proof["test"].rpartition("::")[2].partition("[")
            what = said.get(name, name) + (f" ({variant.rstrip(']')})" if variant else "")
            numbers = ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in proof["told"].items())
            lines.append(f"| {what} | {database} | {proof['outcome']} | {proof['seconds']:g} | {numbers} |")
    return "\n".join(lines)


def _pooler() -> str:
    """What the proofs of fault 51 ran behind."""
    program = servers.pgbouncer_program()
    if program is None:
        return "no PgBouncer, so nothing was tried behind a pooler"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return said.partition("\n")[0] or "PgBouncer"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {count}" for key, count in value.items()) + ")"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    sys.exit(main())

"""``.env.example`` is the list of everything that can be configured."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def read_by_the_settings() -> set[str]:
    tree = ast.parse((ROOT / "lifecycle_crm" / "settings.py").read_text(encoding="utf-8"))
    return {
        str(node.args[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "env"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }


def listed() -> dict[str, str]:
    """Variable to the comment above it."""
    found, comment = {}, ""
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        name = line.removeprefix("#").partition("=")[0]
        if "=" in line and name.isidentifier() and name.isupper():
            found[name] = comment
            comment = ""
        elif line.startswith("# "):
            comment += line[2:] + " "
        else:
            comment = ""
    return found


def test_every_variable_is_listed_with_a_sentence() -> None:
    known, names = listed(), read_by_the_settings()
    assert len(names) > 20
    assert names - set(known) == set()
    assert [name for name in sorted(names) if not known[name].strip().endswith(".")] == []


def test_nothing_is_listed_that_nobody_reads() -> None:
    ours = {"POSTGRES_PASSWORD", "WEB_PORT"}  # read by docker-compose.yml
    assert set(listed()) - read_by_the_settings() - ours == set()

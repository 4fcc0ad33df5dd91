"""What keeps the source in shape, run as tests so that one command and one summary tell it all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
APPS = ("customers", "stages", "loyalty", "feedback", "campaigns")
pytestmark = pytest.mark.gate


def run(*command: str, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    tools = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(cwd), **more}
    environment.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def passes(*command: str, **more: str) -> None:
    done = run(*command, **more)
    assert done.returncode == 0, f"{' '.join(command[:4])} …\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"


def test_ruff_finds_nothing() -> None:
    passes("ruff", "check", ".")


def test_the_code_is_formatted() -> None:
    passes("ruff", "format", "--check", ".")


def test_imports_go_down() -> None:
    passes("lint-imports", "--no-logo")


@pytest.mark.parametrize(
    "app, file, line, complaint",
    [
        ("loyalty", "utils.py", "", "utils"),
        ("customers", "facts.py", "import loyalty.models", "customers is not allowed to import loyalty"),
        ("feedback", "queries.py", "import loyalty.models", "feedback is not allowed to import loyalty"),
        ("loyalty", "ledger.py", "import loyalty.tasks", "loyalty.ledger -> loyalty.tasks"),
        ("campaigns", "gate.py", "import lifecycle_crm.dashboard", "lifecycle_crm.dashboard"),
    ],
)
def test_a_planted_breach_of_the_floors_is_caught(
    tmp_path: Path, app: str, file: str, line: str, complaint: str
) -> None:
    house = tmp_path / "house"
    house.mkdir()
    shutil.copy(ROOT / "pyproject.toml", house)
    for package in ("lifecycle_crm", *APPS):
        shutil.copytree(
            ROOT / package, house / package, ignore=shutil.ignore_patterns("__pycache__", "static", "locale")
        )
    for needed in ("loyalty/models.py", "loyalty/tasks.py"):
        if not (house / needed.removesuffix(".py")).is_dir():
            (house / needed).touch()
    with (house / app / file).open("a", encoding="utf-8") as text:
        text.write(f"\n{line}\n")
    done = run("lint-imports", "--no-logo", "--no-cache", cwd=house)
    assert done.returncode != 0
    assert complaint in done.stdout


def test_templates_are_formatted() -> None:
    templates = [str(path) for path in sorted((ROOT / "templates").rglob("*.html"))]
    assert templates
    passes("djade", "--check", "--target-version", "5.2", *templates)


def test_no_migration_is_missing() -> None:
    passes(sys.executable, "manage.py", "makemigrations", "--check", "--dry-run")


def test_the_production_settings_pass_djangos_deploy_check(tmp_path: Path) -> None:
    passes(
        sys.executable,
        "manage.py",
        "check",
        "--deploy",
        "--fail-level=WARNING",
        ENVIRONMENT="production",
        SECRET_KEY="0123456789abcdefghijklmnopqrstuvwxyz" * 2,
        SITE_URL="https://crm.shop.example",
        SECURE_HSTS_PRELOAD="1",
        VAR_DIR=str(tmp_path),
    )


def test_types_hold() -> None:
    passes(sys.executable, "-m", "mypy")

"""A setting that is wrong gets one sentence: which one, what is wrong, how to write it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PRODUCTION = {"ENVIRONMENT": "production", "SECRET_KEY": "k9" * 40, "SITE_URL": "https://crm.shop.example"}


def start(tmp_path: Path, **values: str) -> subprocess.CompletedProcess[str]:
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", "import lifecycle_crm.settings"],
        cwd=ROOT,
        env={**clean, "VAR_DIR": str(tmp_path), "PYTHONPATH": str(ROOT), **values},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"ENVIRONMENT": "prod"}, "ENVIRONMENT='prod' is unknown. Use one of: local, production."),
        ({"DEBUG": "maybe"}, "DEBUG='maybe' is neither true nor false. Use 1 or 0."),
        ({"DEBUG": "1", **PRODUCTION}, "DEBUG=1 shows secrets to visitors."),
        ({**PRODUCTION, "SECRET_KEY": "short"}, "SECRET_KEY is too short or a sample value."),
        ({**PRODUCTION, "SECRET_KEY_FILE": "/no/such/file"}, "SECRET_KEY_FILE names '/no/such/file', which cannot be"),
        ({**PRODUCTION, "SITE_URL": "http://crm.shop.example"}, "SITE_URL must start with https:// in production"),
        ({"SITE_URL": "crm.shop.example"}, "SITE_URL='crm.shop.example' is not an address."),
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL cannot be read"),
        ({"DATABASE_URL": "mysql://a:b@c/d"}, "DATABASE_URL must name SQLite or PostgreSQL"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL='localhost:6379' is not a Redis address."),
        ({"EMAIL_URL": "pigeon://coop"}, "EMAIL_URL='pigeon://coop' is unknown."),
        ({"SHOP_TIME_ZONE": "Mars/Olympus"}, "SHOP_TIME_ZONE='Mars/Olympus' is not a time zone."),
        ({"NIGHT_HOUR": "24"}, "NIGHT_HOUR=24 is outside 0…23."),
        ({"NIGHT_HOUR": "two"}, "NIGHT_HOUR='two' is not a whole number."),
        ({"SHOP_LANGUAGE": "xx"}, "SHOP_LANGUAGE='xx' is unknown."),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL='LOUD' is unknown."),
    ],
)
def test_a_wrong_value_gets_one_sentence(tmp_path: Path, values: dict[str, str], sentence: str) -> None:
    done = start(tmp_path, **values)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"django.core.exceptions.ImproperlyConfigured: {sentence}")


def test_an_empty_value_counts_as_none(tmp_path: Path) -> None:
    told = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    names = {found[1] for line in told if (found := re.match(r"#?([A-Z_]+)=", line))}
    assert len(names) > 20
    done = start(tmp_path, **dict.fromkeys(names - {"VAR_DIR"}, ""))
    assert done.returncode == 0, done.stderr


def test_a_missing_secret_in_production_says_how_to_make_one(tmp_path: Path) -> None:
    values = {name: value for name, value in PRODUCTION.items() if name != "SECRET_KEY"}
    done = start(tmp_path, **values)
    assert "SECRET_KEY is not set. In production set it" in done.stderr.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_local_installation_makes_its_secret_once(tmp_path: Path) -> None:
    assert start(tmp_path).returncode == 0
    first = (tmp_path / "secret_key").read_text()
    assert start(tmp_path).returncode == 0
    assert (tmp_path / "secret_key").read_text() == first
    assert (tmp_path / "secret_key").stat().st_mode & 0o077 == 0


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from-a-file-" + "z" * 50)
    values = {**PRODUCTION, "SECRET_KEY_FILE": str(secret)}
    del values["SECRET_KEY"]
    assert start(tmp_path, **values).returncode == 0

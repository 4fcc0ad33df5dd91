"""``docker-compose.yml`` and ``.env.example`` tell the same story."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.roof.test_env_example import listed

ROOT = Path(__file__).resolve().parent.parent.parent


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8")))


def test_every_setting_reaches_the_containers() -> None:
    # Docker sets these three itself, by other means or not at all.
    elsewhere = {"VAR_DIR", "DEBUG", "CELERY_BROKER_URL", "POSTGRES_PASSWORD", "WEB_PORT"}
    for name in ("migrate", "web", "worker", "beat"):
        assert set(compose()["services"][name]["environment"]) == set(listed()) - elsewhere


def test_every_variable_the_file_asks_for_is_listed() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{([A-Z_]+)", text)) <= set(listed())


def test_nothing_starts_before_what_it_needs_is_well() -> None:
    services = compose()["services"]
    for name in ("web", "worker", "beat"):
        assert {need: how["condition"] for need, how in services[name]["depends_on"].items()} == {
            "migrate": "service_completed_successfully",
            "postgres": "service_healthy",
            "redis": "service_healthy",
        }
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert all("healthcheck" in services[name] for name in ("postgres", "redis", "worker"))


def test_redis_keeps_what_it_has_and_never_evicts() -> None:
    command = " ".join(compose()["services"]["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_image_runs_as_nobody_special_and_carries_no_secret() -> None:
    assert re.search(r"^USER crm$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {".env", "var", ".git"} <= set(ignored)

"""Lifecycle CRM: the roof. ``celery -A lifecycle_crm`` finds ``app`` here."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # Lazy, so that settings, wsgi and every command do not pay for importing Celery.
    if name == "app":
        from lifecycle_crm.celery import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

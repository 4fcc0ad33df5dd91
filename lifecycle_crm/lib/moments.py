"""Instants as whole seconds since 1970, so that one SQL does time arithmetic on both databases.

Raw tables keep ordinary ``DateTimeField``. The narrow facts table keeps ``MomentField``: a bigint in the database, an
aware ``datetime`` in Python. ``last_order_at + 3 * gap_seconds <= :as_of`` is then the same statement on SQLite and on
PostgreSQL, exact to the second.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db import connection, models
from django.db.models.expressions import Combinable

DAY = 86_400
"""Seconds in a day. "Days since" means elapsed 24-hour days, so daylight saving cannot make a day count twice."""


def seconds(moment: datetime) -> int:
    """Whole seconds since 1970, rounded down."""
    return int(moment.timestamp() // 1)


def from_seconds(value: int) -> datetime:
    return datetime.fromtimestamp(value, tz=UTC)


def epoch(expression: str) -> str:
    """SQL that turns a ``DateTimeField`` column into whole seconds since 1970, rounded down.

    The text goes through a cursor with parameters, so the percent sign of SQLite's format is doubled.
    """
    if connection.vendor == "postgresql":
        return f"floor(extract(epoch from {expression}))::bigint"
    # Without the fraction: SQLite keeps three digits of it and would round 23:59:59.9995 up into the next day.
    return f"CAST(strftime('%%s', substr({expression}, 1, 19)) AS INTEGER)"


def parameter(moment: datetime) -> Any:
    """An instant as a raw-SQL parameter that compares with a ``DateTimeField`` column."""
    if connection.vendor == "sqlite" and moment.tzinfo is not None:
        # What Django makes of it, without asking the settings for the zone each time.
        return str(moment.astimezone(UTC).replace(tzinfo=None))
    return connection.ops.adapt_datetimefield_value(moment)


def moment(value: str | datetime) -> datetime:
    """What raw SQL gave for a ``DateTimeField`` column: SQLite stores UTC and does not say so."""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def placeholder() -> str:
    """A placeholder for such a parameter where PostgreSQL cannot tell its type by itself, as in a SELECT list."""
    return "%s::timestamptz" if connection.vendor == "postgresql" else "%s"


class MomentField(models.BigIntegerField):
    """An instant: a bigint of seconds since 1970 in the database, an aware UTC datetime in Python."""

    description = "Instant in whole seconds since 1970"

    # For the type checker, to which our base class is a whole number.
    _pyi_private_set_type: datetime | Combinable  # type: ignore[assignment]
    _pyi_private_get_type: datetime  # type: ignore[assignment]
    _pyi_lookup_exact_type: datetime  # type: ignore[assignment]

    def from_db_value(self, value: int | None, expression: Any, connection: Any) -> datetime | None:
        return None if value is None else from_seconds(value)

    def to_python(self, value: Any) -> Any:
        if value is None or isinstance(value, datetime):
            return value
        if isinstance(value, str) and not value.lstrip("-").isdigit():
            return datetime.fromisoformat(value)
        return from_seconds(int(value))

    def get_prep_value(self, value: Any) -> int | None:
        if value is None:
            return None
        return seconds(value) if isinstance(value, datetime) else int(value)

    def value_to_string(self, obj: models.Model) -> str:
        value = self.value_from_object(obj)
        return "" if value is None else value.isoformat()

    def formfield(self, **kwargs: Any) -> Any:
        from django import forms

        return models.Field.formfield(self, form_class=forms.DateTimeField, **kwargs)

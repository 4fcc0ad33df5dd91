"""What all verbs of ingest share: the answer per item, the checks of a moment, and writing beside other writers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils.translation import gettext as _

from lifecycle_crm.lib import batches
from lifecycle_crm.lib.errors import DomainError, InvalidInput, NotFound

T = TypeVar("T")

REACT = "lifecycle_crm.tasks.react"
CLOCK_SKEW = timedelta(minutes=5)
"""How far ahead of ours a clock may run before we call it the future."""

_TRIES = 10
_INSERT_ROWS = 500
"""Times 20 columns is well below the 32,766 parameters that SQLite takes in one statement."""
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)


class Status(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    DUPLICATE = "duplicate"
    STALE = "stale"
    ERROR = "error"


@dataclass(slots=True)
class Result:
    """The answer to one item: its place in the request, the name the caller gave it, and what came of it.

    ``id`` is our id of the customer, order or event, also for a duplicate; ``None`` for an error. ``code`` and
    ``message`` (one sentence) say why an item was refused, ``field`` which of its values it is about.
    ``is_new_customer`` marks the order for which a customer was made.
    """

    index: int
    ref: str
    status: Status
    code: str = ""
    message: str = ""
    id: int | None = None
    field: str = ""
    is_new_customer: bool = False

    @classmethod
    def refused(cls, index: int, ref: object, problem: DomainError) -> Result:
        return cls(
            index,
            str(ref or "")[:200],
            Status.ERROR,
            problem.code,
            problem.message,
            field=problem.extra.get("field", ""),
        )


def moment(value: object, name: str) -> datetime:
    """An aware instant in UTC between 1900 and any future. Raises ``InvalidInput`` with the field's name."""
    if not isinstance(value, datetime):
        raise InvalidInput(
            _("%(field)s is missing. Send a time with its zone, such as 2026-03-01T12:00:00+01:00.") % {"field": name},
            code="missing_time",
            field=name,
        )
    if value.tzinfo is None:
        raise InvalidInput(
            _("%(field)s has no time zone. Write it as 2026-03-01T12:00:00+01:00 or with a Z.") % {"field": name},
            code="no_time_zone",
            field=name,
        )
    try:
        utc = value.astimezone(UTC)
    except OverflowError:
        utc = _EARLIEST - timedelta(days=1)
    if utc < _EARLIEST:
        raise InvalidInput(
            _("%(field)s lies before 1900. Check the year.") % {"field": name}, code="invalid_date", field=name
        )
    return utc


def not_in_future(value: object, name: str, now: datetime) -> datetime:
    """``moment`` that is at most five minutes ahead of our clock."""
    utc = moment(value, name)
    if utc > now + CLOCK_SKEW:
        raise InvalidInput(
            _("%(field)s %(moment)s lies in the future. Check the date and its time zone.")
            % {"field": name, "moment": utc.isoformat(timespec="minutes")},
            code="future_date",
            field=name,
        )
    return utc


def unknown_customer(customer_id: int | None, external_id: str, email: str, source: str) -> DomainError:
    """The sentence for a reference that nobody answers to."""
    if customer_id is None and not external_id and not email:
        return InvalidInput(_("No customer is named. Send customer_id, external_id or email."), code="missing_customer")
    if customer_id is not None:
        name = _("id %(id)s") % {"id": customer_id}
    elif external_id:
        name = _("external id %(id)s of %(source)s") % {"id": repr(external_id), "source": source}
    else:
        name = repr(email)
    return NotFound(
        _("No customer has %(name)s. Create the customer first, or correct the reference.") % {"name": name},
        code="unknown_customer",
    )


def each(rows: Iterable[T], ref: Callable[[T], object], read: Callable[[int, T], None]) -> dict[int, Result]:
    """Call ``read(index, row)`` for every row; the refusals, by index."""
    refused: dict[int, Result] = {}
    for index, row in enumerate(rows):
        try:
            read(index, row)
        except DomainError as problem:
            refused[index] = Result.refused(index, ref(row), problem)
    return refused


def settled(write: Callable[[], T]) -> T:
    """Run ``write`` in a transaction, and again from the start when another writer was first with one of the keys.

    ``write`` reads what exists before it inserts. On PostgreSQL somebody may insert the same key in between: we wait
    for them, are refused by the unique constraint, roll back, look again and find their row. SQLite has one writer.
    """
    for attempt in range(_TRIES):
        try:
            with transaction.atomic():
                return write()
        except IntegrityError:
            if attempt == _TRIES - 1:
                raise
        except OperationalError as problem:
            deadlock = getattr(problem.__cause__, "sqlstate", "") == "40P01"
            if not deadlock or connection.in_atomic_block or attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def insert(table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert many rows, some hundred per statement. Values are as the driver takes them (``moments.parameter`` for a
    time); a tenth of the time of making model instances first."""
    names = ", ".join(columns)
    one = f"({', '.join(['%s'] * len(columns))})"
    for some in batches.of(rows, _INSERT_ROWS):
        batches.execute(
            f"INSERT INTO {table} ({names}) VALUES {', '.join([one] * len(some))}",
            [value for row in some for value in row],
        )


def in_order(results: dict[int, Result]) -> list[Result]:
    return [results[index] for index in sorted(results)]


def only(results: Sequence[Result]) -> Result:
    """The single answer of a batch of one; its refusal as an exception."""
    result = results[0]
    if result.status == Status.ERROR:
        kind = NotFound if result.code == "unknown_customer" else InvalidInput
        raise kind(result.message, code=result.code)
    return result

"""Events come in, once per ``(source, source_id)`` for ever, in any order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _

from customers import facts, identity
from customers.identity import Known, text
from customers.ingest.items import (
    REACT,
    Result,
    Status,
    each,
    in_order,
    insert,
    moment,
    only,
    settled,
    unknown_customer,
)
from customers.ingest.people import json_value
from customers.models import Event
from lifecycle_crm.lib import batches, bell, clock
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import parameter

SKEW_LIMIT = timedelta(hours=24)
"""A corrected time further ahead than this is refused; one less far ahead is taken as "now"."""


@dataclass(slots=True)
class EventIn:
    """Something a customer did. One of ``customer_id`` (ours), ``external_id`` and ``email`` names them.

    ``sent_at`` is the sender's clock when the event left; with it a wrong clock is corrected:
    ``occurred_at + (received − sent_at)``.
    """

    name: str
    occurred_at: datetime
    source_id: str
    customer_id: int | None = None
    external_id: str = ""
    email: str = ""
    properties: dict[str, Any] = field(default_factory=dict)
    sent_at: datetime | None = None

    def ref(self) -> str:
        """How the answer names this row."""
        return self.source_id


@dataclass(slots=True)
class _Read:
    """A row after its check."""

    index: int
    row: EventIn
    name: str
    source_id: str
    occurred_at: datetime
    properties: str
    external_id: str
    email: str


def record_events(
    rows: Sequence[EventIn], *, source: str, id_source: str = "", is_history: bool | None = None
) -> list[Result]:
    """Write events that are not there yet; one ``Result`` per row, in order.

    ``id_source`` is the system the external ids are from, where that is not ``source``. What happened before the
    customer was loaded is history; ``is_history=True`` says so of all of them.
    """
    now = clock.now()
    source = text(source, "source", 40)
    id_source = text(id_source, "id_source", 40) or source
    good: list[_Read] = []
    results = each(rows, EventIn.ref, lambda index, row: good.append(_read(index, row, now)))
    if good:
        results |= settled(lambda: _write(good, source, id_source, is_history, now))
    return in_order(results)


def record_event(row: EventIn, *, source: str, id_source: str = "", is_history: bool | None = None) -> Event:
    """``record_events`` for one. Raises ``InvalidInput`` or ``NotFound`` where the batch would answer with an error."""
    result = only(record_events([row], source=source, id_source=id_source, is_history=is_history))
    return Event.objects.get(pk=result.id or 0)


def happened(occurred_at: object, sent_at: object, now: datetime) -> datetime:
    """When it happened by our clock. Raises ``InvalidInput`` for more than 24 hours in the future."""
    at = moment(occurred_at, "occurred_at")
    if sent_at is not None:
        try:
            at += now - moment(sent_at, "sent_at")
        except OverflowError:
            raise InvalidInput(
                _("sent_at and occurred_at are too far apart. Check the sender's clock."), code="invalid_date"
            ) from None
    if at > now + SKEW_LIMIT:
        raise InvalidInput(
            _("occurred_at %(moment)s lies more than a day in the future. Check the sender's clock, or send sent_at.")
            % {"moment": at.isoformat(timespec="minutes")},
            code="future_date",
            field="occurred_at",
        )
    return min(moment(at, "occurred_at"), now)


def _read(index: int, row: EventIn, now: datetime) -> _Read:
    source_id = text(row.source_id, "source_id", 120)
    if not source_id:
        raise InvalidInput(
            _("source_id is missing. Send an id that is the same when the event is sent again."),
            code="missing_id",
            field="source_id",
        )
    name = text(row.name, "name", 80)
    if not name:
        raise InvalidInput(_("The event has no name, such as visit or cart."), code="missing_name", field="name")
    if not isinstance(row.properties, dict):
        raise InvalidInput(_("properties must be a JSON object."), code="invalid_json", field="properties")
    return _Read(
        index=index,
        row=row,
        name=name,
        source_id=source_id,
        occurred_at=happened(row.occurred_at, row.sent_at, now),
        properties=json.dumps(json_value(row.properties, "properties"), ensure_ascii=False),
        external_id=text(row.external_id, "external_id", 200),
        email=text(row.email, "email", 254),
    )


_COLUMNS = ("customer_id", "name", "occurred_at", "received_at", "source", "source_id", "properties", "is_history")


def _write(good: list[_Read], source: str, id_source: str, is_history: bool | None, now: datetime) -> dict[int, Result]:
    results: dict[int, Result] = {}
    there = _there(source, [read.source_id for read in good])
    book = identity.look_up(
        source=id_source,
        ids=[read.row.customer_id for read in good if read.row.customer_id is not None],
        external_ids=[read.external_id for read in good],
        emails=[read.email for read in good],
    )
    new: dict[str, tuple[_Read, Known, bool]] = {}
    repeated: list[_Read] = []
    for read in good:
        if read.source_id in there:
            results[read.index] = Result(read.index, read.source_id, Status.DUPLICATE, id=there[read.source_id])
            continue
        if read.source_id in new:
            repeated.append(read)
            continue
        owner = book.find(customer_id=read.row.customer_id, external_id=read.external_id, email=read.email)
        if owner is None:
            problem = unknown_customer(read.row.customer_id, read.external_id, read.email, id_source)
            results[read.index] = Result.refused(read.index, read.source_id, problem)
            continue
        new[read.source_id] = (read, owner, bool(is_history) or read.occurred_at < owner.loaded_at)
    rows = [new[source_id] for source_id in sorted(new)]
    received = parameter(now)
    insert(
        Event._meta.db_table,
        _COLUMNS,
        [
            (
                owner.id,
                read.name,
                parameter(read.occurred_at),
                received,
                source,
                read.source_id,
                read.properties,
                is_old,
            )
            for read, owner, is_old in rows
        ],
    )
    ids = _there(source, list(new))
    facts.mark_each(sorted({(owner.id, read.occurred_at, is_old) for read, owner, is_old in rows}))
    for read, _owner, _is_old in rows:
        results[read.index] = Result(read.index, read.source_id, Status.CREATED, id=ids[read.source_id])
    for read in repeated:
        results[read.index] = Result(read.index, read.source_id, Status.DUPLICATE, id=ids[read.source_id])
    if rows:
        bell.ring(REACT)
    return results


def _there(source: str, source_ids: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in batches.of(sorted(set(source_ids)), 2000):
        found.update(Event.objects.filter(source=source, source_id__in=some).values_list("source_id", "id"))
    return found

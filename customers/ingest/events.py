"""Events come in, once per ``(source, source_id)`` for ever, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _

from customers import facts, identity
from customers.identity import text
from customers.ingest.items import REACT, Result, Status, each, in_order, moment, only, settled, unknown_customer
from customers.ingest.people import json_value
from customers.models import Event
from lifecycle_crm.lib import batches, bell, clock
from lifecycle_crm.lib.errors import InvalidInput

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
    index: int
    row: EventIn
    event: Event
    external_id: str
    email: str


def record_events(rows: Sequence[EventIn], *, source: str, is_history: bool | None = None) -> list[Result]:
    """Write events that are not there yet; one ``Result`` per row, in order.

    What happened before the customer was loaded is history; ``is_history=True`` says so of all of them.
    """
    now = clock.now()
    source = text(source, "source", 40)
    good: list[_Read] = []
    results = each(rows, EventIn.ref, lambda index, row: good.append(_read(index, row, source, now)))
    if good:
        results |= settled(lambda: _write(good, source, is_history))
    return in_order(results)


def record_event(row: EventIn, *, source: str, is_history: bool | None = None) -> Event:
    """``record_events`` for one. Raises ``InvalidInput`` or ``NotFound`` where the batch would answer with an error."""
    result = only(record_events([row], source=source, is_history=is_history))
    return Event.objects.get(pk=result.id)


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


def _read(index: int, row: EventIn, source: str, now: datetime) -> _Read:
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
    event = Event(
        name=name,
        occurred_at=happened(row.occurred_at, row.sent_at, now),
        received_at=now,
        source=source,
        source_id=source_id,
        properties=json_value(row.properties, "properties"),
    )
    external_id = text(row.external_id, "external_id", 200)
    return _Read(index, row, event, external_id, text(row.email, "email", 254))


def _write(good: list[_Read], source: str, is_history: bool | None) -> dict[int, Result]:
    results: dict[int, Result] = {}
    there: dict[str, int] = {}
    for some in batches.of(sorted({read.event.source_id for read in good}), 2000):
        there.update(Event.objects.filter(source=source, source_id__in=some).values_list("source_id", "id"))
    book = identity.look_up(
        source=source,
        ids=[read.row.customer_id for read in good if read.row.customer_id is not None],
        external_ids=[read.external_id for read in good],
        emails=[read.email for read in good],
    )
    new: dict[str, _Read] = {}
    repeated: list[_Read] = []
    for read in good:
        event = read.event
        if event.source_id in there:
            results[read.index] = Result(read.index, event.source_id, Status.DUPLICATE, id=there[event.source_id])
            continue
        if event.source_id in new:
            repeated.append(read)
            continue
        owner = book.find(customer_id=read.row.customer_id, external_id=read.external_id, email=read.email)
        if owner is None:
            problem = unknown_customer(read.row.customer_id, read.external_id, read.email, source)
            results[read.index] = Result.refused(read.index, event.source_id, problem)
            continue
        # A second try of this transaction must insert anew, not update what the first one rolled back.
        event.pk = None
        event._state.adding = True
        event.customer_id = owner.id
        event.is_history = bool(is_history) or event.occurred_at < owner.loaded_at
        new[event.source_id] = read
    reads = [new[source_id] for source_id in sorted(new)]
    Event.objects.bulk_create([read.event for read in reads])
    facts.mark_each(sorted({(r.event.customer_id, r.event.occurred_at, r.event.is_history) for r in reads}))
    for read in reads:
        results[read.index] = Result(read.index, read.event.source_id, Status.CREATED, id=read.event.pk)
    for read in repeated:
        first_id = new[read.event.source_id].event.pk
        results[read.index] = Result(read.index, read.event.source_id, Status.DUPLICATE, id=first_id)
    if reads:
        bell.ring(REACT)
    return results

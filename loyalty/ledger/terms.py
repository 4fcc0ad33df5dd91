"""What a caller hands in, and what the ledger asks of it before anything moves."""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from django.utils.translation import gettext as _

from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from loyalty.errors import KeyReused, NoProgramme
from loyalty.models import Entry, Programme

MOST_POINTS = 10**9
"""More in one movement is a typing mistake."""


def add_months(day: date, months: int) -> date:
    """The same day of a later month, or its last day: 31 January and one month is 28 or 29 February."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def expiry(effective_at: datetime, months: int | None) -> datetime | None:
    """The first instant at which points credited at ``effective_at`` are gone: the end, in the shop's zone, of their
    last day, which can still be spent on. ``None`` if they never expire."""
    if months is None:
        return None
    return clock.day_end(add_months(clock.business_date(effective_at), months))


@dataclass(frozen=True, slots=True)
class Earning:
    """Points to credit. Usable from ``active_at``, gone at ``expires_at`` (``None``: never)."""

    customer_id: int
    points: int
    key: str
    effective_at: datetime
    active_at: datetime
    expires_at: datetime | None = None
    reason: str = ""
    explanation: dict[str, Any] = field(default_factory=dict)
    source_type: str = ""
    source_id: str = ""


@dataclass(frozen=True, slots=True)
class TakeBack:
    """An earning to take back until ``up_to`` points of it are taken back in all. Telling it twice changes nothing."""

    entry_id: int
    up_to: int
    key: str
    effective_at: datetime
    reason: str = ""
    explanation: dict[str, Any] = field(default_factory=dict)
    source_type: str = ""
    source_id: str = ""
    actor_id: int | None = None


def programme_of(programme: Programme | None) -> Programme:
    found = programme or Programme.current()
    if found is None:
        raise NoProgramme(_("No points programme is active. Switch one on under Admin, Programmes."))
    return found


def whole(points: int) -> int:
    if isinstance(points, bool) or not isinstance(points, int):
        raise InvalidInput(_("Points are whole numbers."), code="invalid_points")
    if not 0 < abs(points) <= MOST_POINTS:
        raise InvalidInput(
            _("The number of points must be between 1 and %(most)s.") % {"most": MOST_POINTS}, code="invalid_points"
        )
    return points


def positive(points: int) -> int:
    if whole(points) < 0:
        raise InvalidInput(_("The number of points must be greater than zero."), code="invalid_points")
    return points


def moment_of(effective_at: datetime | None) -> datetime:
    now = clock.now()
    if effective_at is not None and effective_at > now:
        raise InvalidInput(_("Points cannot move in the future. Check the time and its zone."), code="future_date")
    return effective_at or now


def checked_key(key: str) -> str:
    if not key or len(key) > 240:
        raise InvalidInput(_("A movement of points needs a key of 1 to 240 characters."), code="invalid_key")
    return key


def checked_reason(reason: str, *, required: bool = False) -> str:
    text = reason.strip()
    if required and not text:
        raise InvalidInput(_("Say why: the reason stays in the customer's history."), code="reason_required")
    if len(text) > 300:
        raise InvalidInput(_("The reason is longer than 300 characters."), code="invalid_reason")
    return text


def footprint(programme: Programme, key: str, kind: str, customer_id: int, points: int, reason: str) -> Entry | None:
    """The entry this request wrote before, or ``None``. Raises ``KeyReused`` if the key belongs to another request."""
    entry = Entry.objects.filter(programme=programme, key=key).first()
    if entry is None:
        return None
    if (entry.kind, entry.customer_id, entry.points, entry.reason) != (kind, customer_id, points, reason):
        raise KeyReused(
            _("This key was used for another movement of points. Send a new key for a new request."), key=key
        )
    entry.replayed = True
    return entry

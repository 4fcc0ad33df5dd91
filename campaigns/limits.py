"""How fast: a speed limit per provider, kept in rows so that it holds for all senders; and the stop of all sending."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from campaigns.errors import NotNow
from campaigns.models import Hold, Throttle
from lifecycle_crm.lib import bell, clock

MINUTE = timedelta(minutes=1)
EVERYBODY_ELSE = "*"


def by_domain() -> dict[str, Throttle]:
    """The limit each domain falls under; the key ``*`` is for every domain that is not named."""
    return {str(domain).lower(): one for one in Throttle.objects.all() for domain in one.domains}


def take(*, throttle: Throttle, booked: Sequence[int], fresh: Sequence[int], now: datetime) -> dict[int, datetime]:
    """Let some of these messages go now; the others and when their turn is. Counted per calendar minute, in one row.

    ``booked`` are messages whose turn was said to be now, and go first. ``fresh`` ones go now only where nobody waits, so
    that a queue keeps its order. Who has to wait gets a time of their own behind everybody who waits already.
    """
    minute = now.replace(second=0, microsecond=0)
    while True:
        row = Throttle.objects.get(pk=throttle.pk)
        used = row.used if row.minute == minute else 0
        is_queue = row.booked_until is not None and row.booked_until > now
        wanted = list(booked) if is_queue else [*booked, *fresh]
        free = max(0, row.per_minute - used)
        waiting = [pk for pk in (*booked, *fresh) if pk not in set(wanted[:free])]
        apart = MINUTE / row.per_minute
        begin = max(row.booked_until or minute, minute + MINUTE)
        turns = {pk: begin + number * apart for number, pk in enumerate(waiting)}
        taken = Throttle.objects.filter(pk=row.pk, minute=row.minute, used=row.used, booked_until=row.booked_until)
        granted = len(booked) + len(fresh) - len(waiting)
        until = begin + len(waiting) * apart if waiting else row.booked_until
        if taken.update(minute=minute, used=used + granted, booked_until=until) == 1:
            return turns


def forget_turns() -> None:
    """After a pause the times that were given out mean nothing: whoever is due asks again."""
    Throttle.objects.filter(booked_until__isnull=False).update(booked_until=None)


# --- The stop of all sending ------------------------------------------------------------------------------------------


def standing() -> Hold | None:
    """The stop that is in force, if any."""
    return Hold.objects.filter(lifted_at=None).order_by("pk").first()


def hold(*, reason: str) -> Hold:
    """From now on nothing leaves, until a person lifts it. One stop at a time: a second call returns the first."""
    with transaction.atomic():
        return standing() or Hold.objects.create(reason=reason[:300])


def lift(*, user: Any = None) -> Hold:
    """A person looked and says go on. Raises ``NotNow`` when nothing is stopped."""
    now = clock.now()
    found = standing()
    if found is None or Hold.objects.filter(pk=found.pk, lifted_at=None).update(lifted_at=now, lifted_by=user) != 1:
        raise NotNow("Nothing is stopped, so there is nothing to lift. Reload the page to see how it stands.")
    found.refresh_from_db()
    bell.ring("campaigns.tasks.send_due")
    return found

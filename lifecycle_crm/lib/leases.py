"""Exclusive work by a lease row: conditional updates only, so it holds on SQLite and behind a connection pooler."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import F

from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.models import Lease
from lifecycle_crm.lib.moments import parameter

_ours: set[str] = set()


def new_owner() -> str:
    """A name for this worker that no other process, past or present, shares."""
    owner = f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    _ours.add(owner)
    return owner


def is_gone(owner: str) -> bool:
    """Is this owner a process of this machine that no longer lives? Then nobody has to wait for its lease to run out.

    "No" when in doubt: a process elsewhere, or a process id that somebody else has now, keeps its lease.
    """
    host, _, rest = owner.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname()[:40] or not pid.isdigit():
        return False
    if int(pid) == os.getpid():
        return owner not in _ours
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def take(name: str, owner: str, seconds: int) -> int | None:
    """Take or renew the lease; the fencing token if it is ours now, ``None`` if somebody else holds it."""
    now = clock.now()
    until = now + timedelta(seconds=seconds)
    mine = Lease.objects.filter(name=name, owner=owner)
    if mine.filter(until__gt=now).update(until=until) == 1:
        return mine.values_list("token", flat=True).get()
    if Lease.objects.filter(name=name, until__lte=now).update(owner=owner, until=until, token=F("token") + 1) == 1:
        return Lease.objects.values_list("token", flat=True).get(name=name)
    held_by = Lease.objects.filter(name=name).values_list("owner", flat=True).first()
    if held_by is not None:
        theirs = Lease.objects.filter(name=name, owner=held_by)
        if not is_gone(held_by) or theirs.update(owner=owner, until=until, token=F("token") + 1) != 1:
            return None
        return Lease.objects.values_list("token", flat=True).get(name=name)
    try:
        with transaction.atomic():
            Lease.objects.create(name=name, owner=owner, token=1, until=until)
    except IntegrityError:  # somebody created it between the two statements
        return None
    return 1


def take_new(name: str, owner: str, seconds: int) -> int | None:
    """``take`` for a name that nearly always is new, such as one request's: one statement then, and one wait for the writer."""
    made = batches.execute(
        f"INSERT INTO {Lease._meta.db_table} (name, owner, token, until) VALUES (%s, %s, 1, %s) ON CONFLICT DO NOTHING",
        [name, owner, parameter(clock.now() + timedelta(seconds=seconds))],
    )
    return 1 if made else take(name, owner, seconds)


def release(name: str, owner: str) -> None:
    Lease.objects.filter(name=name, owner=owner).update(until=clock.now())


@contextmanager
def only_one(name: str, seconds: int) -> Iterator[str | None]:
    """``with only_one("night", 600) as owner``: ``owner`` is our name if we hold it, ``None`` if we must not work."""
    owner = new_owner()
    if take(name, owner, seconds) is None:
        yield None
        return
    try:
        yield owner
    finally:
        release(name, owner)

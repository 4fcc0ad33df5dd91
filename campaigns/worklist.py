"""Tasks as they are read: whose they are, in pages by key, and how many wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db.models import Count, Q, QuerySet

from campaigns.models import Journey, StaffTask, StaffTaskChange
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.moments import from_seconds, seconds
from lifecycle_crm.lib.numbers import row_number

PAGE = 50
VIEWS = ("mine", "all", "late", "done")

_OPEN = Q(state=StaffTask.State.OPEN)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list shows: one of ``VIEWS``, of one kind and one journey when they are given."""

    view: str = "all"
    user: User | None = None
    kind: str = ""
    journey: int | None = None


def tasks() -> QuerySet[StaffTask]:
    """With what a row shows."""
    return StaffTask.objects.select_related("customer", "assignee", "run__journey")


def of_user(user: User) -> Q:
    """Whose they are: those of this person, and those that nobody has of their role or of the whole team."""
    return Q(assignee=user) | Q(assignee=None, role__in=["", user.role])


def found(asked: Asked) -> QuerySet[StaffTask]:
    """Open ones by their day, the earliest first; settled ones newest first."""
    rows = tasks()
    if asked.kind:
        rows = rows.filter(kind=asked.kind)
    if asked.journey is not None:
        rows = rows.filter(run__journey=asked.journey)
    if asked.view == "done":
        return rows.exclude(_OPEN).order_by("-settled_at", "-id")
    if asked.view == "mine" and asked.user is not None:
        rows = rows.filter(of_user(asked.user))
    elif asked.view == "late":
        rows = rows.filter(due_on__lt=clock.today())
    return rows.filter(_OPEN).order_by("due_on", "id")


def page(asked: Asked, *, after: str = "", size: int = PAGE) -> tuple[list[StaffTask], str]:
    """One page after the key ``after``, and the key of the next one; empty at the end."""
    rows = found(asked)
    word, _sep, text = after.partition("_")
    number, place = row_number(text), row_number(word)
    if number is not None and place is not None:
        if asked.view == "done":
            at = from_seconds(min(place, 253_402_300_799))
            rows = rows.filter(Q(settled_at__lt=at) | Q(settled_at=at, id__lt=number))
        else:
            day = date.fromordinal(min(max(place, 1), date.max.toordinal()))
            rows = rows.filter(Q(due_on__gt=day) | Q(due_on=day, id__gt=number))
    shown = list(rows[: size + 1])
    return shown[:size], _key(shown[size - 1]) if len(shown) > size else ""


def _key(last: StaffTask) -> str:
    place = last.due_on.toordinal() if last.settled_at is None else seconds(last.settled_at)
    return f"{place}_{last.pk}"


def pages(asked: Asked) -> Iterator[list[StaffTask]]:
    """All of it, a page at a time."""
    after = ""
    while True:
        rows, after = page(asked, after=after, size=500)
        yield rows
        if not after:
            return


@dataclass(frozen=True, slots=True)
class Waiting:
    """Open tasks of one person: due today or before, and those of them whose day is over."""

    due: int
    late: int


def waiting(user: User) -> Waiting:
    today = clock.today()
    rows = StaffTask.objects.filter(_OPEN, of_user(user), due_on__lte=today)
    counts: dict[str, Any] = rows.aggregate(due=Count("pk"), late=Count("pk", filter=Q(due_on__lt=today)))
    return Waiting(**counts)


def of_customer(customer_id: int) -> QuerySet[StaffTask]:
    """Open tasks of one customer, the most urgent first."""
    return tasks().filter(_OPEN, customer_id=customer_id).order_by("due_on", "id")


def changes(task: StaffTask) -> QuerySet[StaffTaskChange]:
    """What was done about a task, the first thing first."""
    return task.changes.select_related("by", "assignee").order_by("id")


def journeys() -> QuerySet[Journey]:
    """Those that ever gave a task."""
    return Journey.objects.filter(pk__in=StaffTask.objects.values("run__journey")).order_by("name")

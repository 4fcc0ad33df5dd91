"""Tasks for people of the shop: given by journeys, done, not done, passed on, put off, withdrawn.

Each verb is one conditional update and one row of the history. ``edits`` is the count that a form was made from: of two people
who press at once one wins, and the other is told who did. Whoever waits in a journey for a task goes on at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from campaigns.errors import NotNow
from campaigns.models import JourneyRun, StaffTask, StaffTaskChange
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, bell, clock
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import seconds

State, What = StaffTask.State, StaffTaskChange.What

WHY_MAX = 300
LONGEST_DAYS = 365


class TaskMoved(NotNow):
    """Somebody else was quicker, or it is settled."""

    code = "task_moved"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a journey asks for. ``person`` is the id of a user, 0 for none."""

    run: int
    step: str
    customer: int
    kind: str
    what: str
    days: int
    role: str = ""
    person: int = 0


# --- What journeys do -----------------------------------------------------------------------------------------------------


def ask(wanted: Sequence[Wanted], *, at: datetime) -> set[tuple[int, str]]:
    """Make these tasks, one per way and step; the (run, step) of those that were there already.

    A person who works here no longer is asked nothing: their task is for the role, or for whoever serves.
    """
    if not wanted:
        return set()
    runs = sorted({one.run for one in wanted})
    had = set(StaffTask.objects.filter(run_id__in=runs).values_list("run_id", "step"))
    known = set(User.objects.filter(pk__in={one.person for one in wanted}, is_active=True).values_list("pk", flat=True))
    today = clock.business_date(at)
    StaffTask.objects.bulk_create(
        [
            StaffTask(
                run_id=one.run,
                step=one.step,
                customer_id=one.customer,
                kind=one.kind,
                what=one.what,
                role=one.role,
                assignee_id=one.person if one.person in known else None,
                due_on=today + timedelta(days=one.days),
                created_at=at,
            )
            for one in wanted
            if (one.run, one.step) not in had
        ],
        batch_size=500,
    )
    return had & {(one.run, one.step) for one in wanted}


def states(runs: Iterable[int]) -> dict[int, dict[str, str]]:
    """Where the tasks of these ways stand: state by step, per run."""
    found: dict[int, dict[str, str]] = {}
    for run, step, state in StaffTask.objects.filter(run_id__in=list(runs)).values_list("run_id", "step", "state"):
        found.setdefault(run, {})[step] = state
    return found


def withdraw(runs: str, params: Sequence[Any], reason: str) -> int:
    """Nobody has to do the open tasks of these ways any more; how many. ``runs`` is a SELECT of ours, or a list of ids."""
    now = seconds(clock.whole_now())
    count = batches.execute(
        "UPDATE campaigns_stafftask SET state = 'withdrawn', withdrawn = %s, settled_at = %s, edits = edits + 1 "
        f"WHERE state = 'open' AND run_id IN ({runs})",
        [reason, now, *params],
    )
    if count:
        batches.execute(
            "INSERT INTO campaigns_stafftaskchange (task_id, what, at, why, role) "
            f"SELECT t.id, 'withdrawn', t.settled_at, '', '' FROM campaigns_stafftask t WHERE t.run_id IN ({runs}) "
            "AND t.state = 'withdrawn' AND NOT EXISTS "
            "(SELECT 1 FROM campaigns_stafftaskchange c WHERE c.task_id = t.id AND c.what = 'withdrawn') ORDER BY t.id",
            list(params),
        )
    return count


# --- What people do -------------------------------------------------------------------------------------------------------


def done(*, task: StaffTask, actor: User | None, why: str = "", edits: int | None = None) -> StaffTask:
    """It is done; ``why`` is what came of it. Raises ``TaskMoved``."""
    return _settle(task, State.DONE, edits, what=What.DONE, by=actor, why=_why(why))


def not_done(*, task: StaffTask, actor: User | None, why: str, edits: int | None = None) -> StaffTask:
    """Nobody will do it, with a reason. Raises ``TaskMoved``, ``InvalidInput``."""
    return _settle(task, State.NOT_DONE, edits, what=What.NOT_DONE, by=actor, why=_why(why, is_needed=True))


def pass_on(
    *,
    task: StaffTask,
    actor: User | None,
    assignee: User | None = None,
    role: str = "",
    why: str = "",
    edits: int | None = None,
) -> StaffTask:
    """Give it to somebody, to everybody of a role, or with neither to whoever serves. Raises ``TaskMoved``, ``InvalidInput``."""
    if assignee is not None and (not assignee.is_active or not assignee.may_serve()):
        raise InvalidInput(
            _("%(name)s does not work with customers. Choose somebody else.") % {"name": assignee},
            code="wrong_assignee",
        )
    if role and role not in StaffTask.ROLES:
        raise InvalidInput(_("Choose a role that works with customers."), code="wrong_role")
    if assignee is not None and role:
        raise InvalidInput(_("Choose a person or a role, not both."), code="two_assignees")
    values: dict[str, Any] = {"assignee": assignee, "role": role}
    return _change(task, edits, values, what=What.PASSED_ON, by=actor, why=_why(why), **values)


def put_off(*, task: StaffTask, actor: User | None, until: date, why: str = "", edits: int | None = None) -> StaffTask:
    """Due on another day, today or later. Raises ``TaskMoved``, ``InvalidInput``."""
    today = clock.today()
    if not today <= until <= today + timedelta(days=LONGEST_DAYS):
        raise InvalidInput(_("Choose a day from today on, within a year."), code="wrong_day")
    return _change(task, edits, {"due_on": until}, what=What.PUT_OFF, by=actor, why=_why(why), due_on=until)


def _settle(task: StaffTask, state: str, edits: int | None, **said: Any) -> StaffTask:
    now = clock.whole_now()
    with transaction.atomic():
        # The way first, as who moves people does: either they saw what we write, or we see that they wait for it.
        ways = JourneyRun.objects.filter(pk=task.run_id, state=JourneyRun.State.RUNNING)
        list(ways.select_for_update().values_list("pk"))
        _change(task, edits, {"state": state, "settled_at": now}, **said)
        if ways.filter(listens=True, due_at__gt=now).update(due_at=now):
            bell.ring("campaigns.tasks.advance_journeys")
    return task


def _change(task: StaffTask, edits: int | None, values: dict[str, Any], **said: Any) -> StaffTask:
    mine = StaffTask.objects.filter(pk=task.pk, state=State.OPEN, edits=task.edits if edits is None else edits)
    with transaction.atomic():
        if mine.update(**values, edits=F("edits") + 1) != 1:
            raise TaskMoved(_moved(task))
        StaffTaskChange.objects.create(task=task, at=clock.whole_now(), **said)
    task.refresh_from_db()
    return task


def _moved(task: StaffTask) -> str:
    last = StaffTaskChange.objects.filter(task=task).select_related("by").order_by("-pk").first()
    if last is None:
        return _("This task changed in between. Reload the page to see it.")
    named = {"what": last.get_what_display(), "who": last.by}
    if last.by is None:
        return _("This task changed in between: %(what)s. Nothing of yours was written.") % named
    return _("%(who)s was quicker: %(what)s. Nothing of yours was written.") % named


def _why(text: str, *, is_needed: bool = False) -> str:
    why = " ".join(text.replace("\x00", "").split())
    if is_needed and not why:
        raise InvalidInput(_("Say why it is not done."), code="no_reason")
    if len(why) > WHY_MAX:
        raise InvalidInput(
            _("The text is too long. Shorten it to %(count)d characters.") % {"count": WHY_MAX}, code="text_too_long"
        )
    return why

"""The pages of tasks for the team: what waits, what was done, and what to do about one: parse, call, render."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from campaigns import stafftasks, worklist
from campaigns.journeys import reading, words
from campaigns.models import StaffTask
from campaigns.task_forms import FORMS, TaskForm
from customers.importing import guarded
from customers.queries import shown_name
from lifecycle_crm.accounts.callers import may, only, person, sees_contacts, signed_in
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock, http
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.lib.numbers import row_number

VIEWS = {
    "mine": gettext_lazy("Mine"),
    "all": gettext_lazy("All"),
    "late": gettext_lazy("Overdue"),
    "done": gettext_lazy("Settled"),
}
VERBS: dict[str, tuple[Any, Any]] = {
    # verb of a button: what it calls, what it says afterwards
    "done": (stafftasks.done, gettext_lazy("Done.")),
    "not-done": (stafftasks.not_done, gettext_lazy("Noted: it was not done.")),
    "pass-on": (stafftasks.pass_on, gettext_lazy("Passed on.")),
    "put-off": (stafftasks.put_off, gettext_lazy("Put off.")),
}
HEAD = (
    "id", "due", "state", "withdrawn", "kind", "what", "role", "assignee", "customer", "journey", "step", "made", "settled",
)  # fmt: skip


def _asked(request: HttpRequest) -> worklist.Asked:
    """What the address asks for; what is not offered is left out."""
    view, kind = request.GET.get("view", ""), request.GET.get("kind", "")
    return worklist.Asked(
        view if view in VIEWS else "mine",
        signed_in(request),
        kind if kind in StaffTask.Kind.values else "",
        row_number(request.GET.get("journey")),
    )


def _named(request: HttpRequest, rows: list[StaffTask]) -> list[StaffTask]:
    """Each with the name of its customer as this reader may see it, and whom it is for."""
    for one in rows:
        one.who = shown_name(one.customer, request.user)  # type: ignore[attr-defined]
        one.whose = one.assignee or words.task_for(one.role)  # type: ignore[attr-defined]
    return rows


@require_GET
def task_list(request: HttpRequest) -> HttpResponse:
    asked = _asked(request)
    rows, following = worklist.page(asked, after=request.GET.get("after", ""))
    journeys = {"": _("All journeys"), **{str(one.pk): one.name for one in worklist.journeys()}}
    chosen = str(asked.journey) if str(asked.journey) in journeys else ""
    query = request.GET.copy()
    query.pop("after", None)
    context = {
        "rows": _named(request, rows),
        "asked": asked,
        "sees_contacts": sees_contacts(request),
        "views": _chips(request, "view", VIEWS, asked.view),
        "kinds": _chips(request, "kind", {"": _("All kinds"), **dict(StaffTask.Kind.choices)}, asked.kind),
        "journeys": _chips(request, "journey", journeys, chosen) if len(journeys) > 2 or chosen else [],
        "csv_url": f"{reverse('campaigns:tasks-csv')}?{query.urlencode()}",
        "after": following,
        "is_narrow": bool(asked.kind or asked.journey),
    }
    return http.page(request, "campaigns/tasks.html", context)


def _chips(request: HttpRequest, name: str, labels: dict[str, Any], active: str) -> list[dict[str, Any]]:
    """Another choice begins on the first page."""
    return http.choices(request, name, labels, active, without="after")


class _Echo:
    """What ``csv`` writes is what it answers."""

    def write(self, line: str) -> str:
        return line


@require_GET
def tasks_csv(request: HttpRequest) -> HttpResponseBase:
    """All tasks that the address asks for as CSV, streamed; customers by their numbers."""
    writer = csv.writer(_Echo())
    asked = _asked(request)

    def lines() -> Iterator[str]:
        yield writer.writerow(HEAD)
        for part in worklist.pages(asked):
            for one in part:
                cells = [
                    one.pk, one.due_on, one.state, one.withdrawn, one.kind, guarded(one.what), one.role,
                    guarded(str(one.assignee or "")), one.customer_id, guarded(one.run.journey.name), one.step,
                    one.created_at.isoformat(), one.settled_at.isoformat() if one.settled_at else "",
                ]  # fmt: skip
                yield writer.writerow(cells)

    answer = StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="tasks-{clock.today()}.csv"'
    return answer


def _task(pk: int) -> StaffTask:
    task = worklist.tasks().select_related("run__version", "customer__facts").filter(pk=pk).first()
    if task is None:
        raise NotFound(_("There is no such task. Choose one from the list."))
    return task


@require_GET
def task(request: HttpRequest, pk: int) -> HttpResponse:
    return _page(request, _task(pk))


def _page(request: HttpRequest, found: StaffTask, status: int = 200, **bound: TaskForm) -> HttpResponse:
    _named(request, [found])
    tree = found.run.version.tree
    steps = {step.get("id"): step for step in reading.steps_of(tree)}
    first = {"edits": found.edits, "until": found.due_on.isoformat()}
    if found.assignee is not None:
        first["whom"] = f"person:{found.assignee.email}"
    elif found.role:
        first["whom"] = f"role:{found.role}"
    context = {
        "task": found,
        "sees_contacts": sees_contacts(request),
        "may_act": may(request, User.may_serve),
        "trigger": words.trigger(tree.get("trigger")),
        "sentence": words.step(steps[found.step]) if found.step in steps else "",
        "changes": [{"row": one, "whose": one.assignee or words.task_for(one.role)} for one in worklist.changes(found)],
        "forms": {
            name.replace("-", "_"): bound.get(name.replace("-", "_")) or form(prefix=name, initial=first)
            for name, form in FORMS.items()
        },
        "crumbs": [{"label": _("Tasks"), "url": reverse("campaigns:tasks")}, {"label": found.get_kind_display()}],
    }
    return http.page(request, "campaigns/task.html", context, status=status)


@require_POST
@only(User.may_serve)
def act(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """One button. Who was not the first is told on the page of the task, as it is now."""
    found = _task(pk)
    form = FORMS[verb](request.POST, prefix=verb)
    name = verb.replace("-", "_")
    if not form.is_valid():
        return _page(request, found, 422, **{name: form})
    call, said = VERBS[verb]
    try:
        call(task=found, actor=person(request), **form.said())
    except stafftasks.TaskMoved as problem:
        messages.error(request, problem.message)
        return redirect("campaigns:task", pk)
    except DomainError as problem:
        form.add_error(None, problem.message)
        return _page(request, found, problem.status, **{name: form})
    messages.success(request, str(said))
    return redirect("campaigns:task", pk)

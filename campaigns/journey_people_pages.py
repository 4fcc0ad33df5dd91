"""The pages about people in a journey: who is inside, their way, what came of it, and a try with one customer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from campaigns import gate, journey_map
from campaigns.journey_frame import (
    PAGE,
    frame,
    journey_of,
    lines_in_force,
    nested_in_force,
    sentences,
    share,
    tree_in_force,
)
from campaigns.journeys import publishing, reading, results, trying, words
from campaigns.journeys.deciding import Outcome
from campaigns.models import Journey, JourneyRun, JourneyStep, Message
from customers import finding
from customers.models import Customer
from customers.queries import initials
from lifecycle_crm.accounts.callers import need, only, person, sees_contacts
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.errors import DomainError
from lifecycle_crm.lib.http import page
from lifecycle_crm.lib.numbers import row_number


@require_GET
def people(request: HttpRequest, pk: int) -> HttpResponse:
    """Who is or was inside, newest first; a person who is looked for, with the reason when they are not."""
    journey = journey_of(pk)
    state, at = request.GET.get("state", JourneyRun.State.RUNNING), request.GET.get("step", "")
    found = results.people(journey, state=state, step=at)
    if before := row_number(request.GET.get("before")):
        found = found.filter(pk__lt=before)
    rows: list[Any] = list(found[: PAGE + 1])
    more = rows[PAGE - 1].pk if len(rows) > PAGE else None
    asked = request.GET.get("who", "").strip()[:100]
    names = sentences(journey)
    for row in rows[:PAGE]:
        _hide(request, row.customer)
        row.where = names.get(row.step, row.step)
    context = frame(request, journey, "journey-people") | {
        "rows": rows[:PAGE],
        "more": more,
        "state": state,
        "states": [("all", _("Everybody")), *JourneyRun.State.choices],
        "asked": asked,
        "answer": _standing(request, journey, asked) if asked else "",
    }
    return page(request, "campaigns/journey_people.html", context)


def _hide(request: HttpRequest, customer: Customer) -> None:
    if not sees_contacts(request):
        customer.name, customer.email, customer.phone = initials(customer), "", ""


def _standing(request: HttpRequest, journey: Journey, asked: str) -> str:
    """Whether somebody is inside, or why not."""
    found = finding.person(asked) if sees_contacts(request) else finding.numbered(asked)
    if found is None:
        return _("There is no customer “%(who)s”.") % {"who": asked}
    _hide(request, found)
    named = {"who": str(found)}
    last = JourneyRun.objects.filter(journey=journey, customer=found).order_by("-id").first()
    if last is None:
        return _("%(who)s is not inside: nothing let them in yet.") % named
    if last.state == JourneyRun.State.RUNNING:
        return _("%(who)s is inside.") % named
    reason = last.get_reason_display() if last.reason else last.get_state_display()
    return _("%(who)s is not inside, because: %(reason)s.") % {**named, "reason": reason}


@require_GET
def way(request: HttpRequest, pk: int, run: int) -> HttpResponse:
    """One person's way: every step, when, and what came of it."""
    journey = journey_of(pk)
    found = get_object_or_404(JourneyRun.objects.select_related("customer", "version"), pk=run, journey=journey)
    _hide(request, found.customer)
    lines = lines_in_force(journey)
    names = {line["id"]: line["sentence"] for line in lines}
    trees = {one["id"]: one for one in _steps(found.version.tree)}
    steps = [
        {
            "at": one.at,
            "what": names.get(one.step, one.step),
            "outcome": one.get_outcome_display(),
            "more": _more(one, journey, trees.get(one.step, {}), names),
        }
        for one in found.steps.order_by("id")
    ]
    context = frame(request, journey, "journey-people") | {
        "run": found, "steps": steps, "where": names.get(found.step, found.step),
        "places": [(line["id"], f"{line['number']} {line['sentence']}") for line in lines],
    }  # fmt: skip
    return page(request, "campaigns/journey_way.html", context)


def _steps(tree: Any) -> list[dict[str, Any]]:
    """The steps of a stored tree that have an id."""
    return [step for step in reading.steps_of(tree) if "id" in step]


def _more(one: JourneyStep, journey: Journey, tree: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What there is to say of a step besides its outcome."""
    if one.outcome == Outcome.BRANCH:
        return words.branch(tree, one.data.get("branch", -1))
    if one.outcome == Outcome.LEFT and "why" not in one.data:
        return words.left(journey, one.data)
    if one.outcome == Outcome.PLACED:
        to = names.get(one.data["to"], one.data["to"])
        return f"{to} ({one.data['why']})"
    return str(one.data.get("why", ""))


@only(User.may_steer)
@require_POST
def move(request: HttpRequest, pk: int, run: int) -> HttpResponse:
    found = get_object_or_404(JourneyRun.objects.select_related("journey"), pk=run, journey_id=pk)
    publishing.move(run=found, to=request.POST.get("to", ""), actor=person(request), why=request.POST.get("why", ""))
    messages.success(request, _("Moved. They go on from there at once."))
    return redirect("campaigns:journey-way", pk, run)


@only(User.may_steer)
@require_POST
def remove(request: HttpRequest, pk: int, run: int) -> HttpResponse:
    found = get_object_or_404(JourneyRun.objects.select_related("journey"), pk=run, journey_id=pk)
    publishing.remove(run=found, actor=person(request), why=request.POST.get("why", ""))
    messages.success(request, _("Taken out. What has left already cannot be called back."))
    return redirect("campaigns:journey-way", pk, run)


# --- Map ------------------------------------------------------------------------------------------------------------------


@require_GET
def drawing(request: HttpRequest, pk: int) -> HttpResponse:
    """The journey drawn, with the people in each step, and the same in words."""
    journey = journey_of(pk)
    lines = nested_in_force(journey)
    trigger = words.trigger(tree_in_force(journey).get("trigger"))
    context = frame(request, journey, "journey-map") | {
        "map": journey_map.drawn(trigger, lines), "trigger": trigger, "lines": lines,
    }  # fmt: skip
    return page(request, "campaigns/journey_map.html", context)


# --- Results and trying ---------------------------------------------------------------------------------------------------


@require_GET
def outcome(request: HttpRequest, pk: int) -> HttpResponse:
    journey = journey_of(pk)
    seen = results.of(journey)
    found = results.caused(journey)
    by_step, tasks = results.messages_by_step(journey), results.tasks_by_step(journey)
    told = results.webhooks_by_step(journey)
    lines = lines_in_force(journey)
    people = reverse("campaigns:journey-people", args=[pk])
    groups = (
        (_("Were let in"), found.uplift.treated, f"{people}?state=all"),
        (_("Held out"), found.uplift.held_out, f"{people}?state={JourneyRun.State.HELD_OUT}"),
    )
    context = frame(request, journey, "journey-results") | {
        "seen": seen,
        "goal": words.goal(journey),
        "said": results.sentence(journey, found),
        "found": found,
        "currency": settings.SHOP_CURRENCY,
        "groups": [
            {
                "label": label,
                "url": url,
                "group": group,
                "share": share(group.reached, group.people) or "–",
                "each": round(group.spent_minor / group.people) if group.people else None,
            }
            for label, group, url in groups
        ],
        "lines": [
            {
                **line,
                "sent": by_step.get(line["id"], {}).get(Message.State.SENT, 0),
                "tasks": tasks.get(line["id"]),
                "told": told.get(line["id"]),
                "share": round(100 * line["passed"] / seen["entered"]) if seen["entered"] else 0,
            }
            for line in lines
        ],
        "states": [(label, seen["states"].get(state, 0)) for state, label in JourneyRun.State.choices],
    }
    return page(request, "campaigns/journey_results.html", context)


@require_GET
def attempt(request: HttpRequest, pk: int) -> HttpResponse:
    """The draft walked by one customer. Nothing is written."""
    journey = journey_of(pk)
    asked = request.GET.get("who", "").strip()[:100]
    sees = sees_contacts(request)
    customer = finding.person(asked) if sees else finding.numbered(asked)
    context = frame(request, journey, "journey-try") | {"asked": asked, "sees": sees}
    if asked and customer is None:
        context["problem"] = _("There is no customer “%(who)s”.") % {"who": asked}
    elif customer is not None:
        need(request, User.may_steer)
        try:
            trial = trying.attempt(journey=journey, customer=customer)
        except DomainError as problem:
            context["problem"] = problem.message
        else:
            _hide(request, customer)
            context |= {
                "customer": customer,
                "trial": trial,
                "steps": [_tried(one, journey, sees) for one in trial.steps],
            }
    return page(request, "campaigns/journey_try.html", context)


def _tried(one: trying.Tried, journey: Journey, sees: bool) -> dict[str, Any]:
    verdicts = {gate.SEND: _("Would be sent"), gate.HELD: _("Would wait"), gate.SKIPPED: _("Would be skipped")}
    reasons = dict(Message.Reason.choices)
    verdict = one.verdict
    return {
        "at": one.at,
        "what": words.step(one.tree) if one.tree else "",
        "outcome": dict(JourneyStep.Outcome.choices).get(one.outcome, ""),
        "branch": words.branch(one.tree, one.data["branch"]) if "branch" in one.data else "",
        "left": words.left(journey, one.data) if one.outcome == Outcome.LEFT else "",
        "asked": [{"what": words.branch(one.tree, n), "holds": holds, "why": why} for n, holds, why in one.asked],
        "subject": one.subject if sees else "",
        "text": one.text if sees else "",
        "problem": one.problem,
        "verdict": verdicts[verdict.outcome] if verdict else "",
        "reason": reasons.get(verdict.reason, "") if verdict else "",
        "mark": {gate.SEND: "ok", gate.HELD: "warn"}.get(verdict.outcome, "bad") if verdict else "",
    }

"""The pages of journeys: parse, call, render."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from campaigns import gate
from campaigns.journey_forms import KINDS, STEPS, NameForm, SettingsForm, TriggerForm
from campaigns.journeys import editing, engine, publishing, reading, results, starts, trying, words
from campaigns.journeys.deciding import Outcome
from campaigns.models import Campaign, Journey, JourneyRun, JourneyStep, Message, Template
from customers import finding
from customers.models import Customer
from customers.queries import initials
from lifecycle_crm.accounts.callers import may, need, only, person, sees_contacts
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.lib.http import page
from lifecycle_crm.lib.numbers import row_number
from lifecycle_crm.templatetags.crm import num, pct

PAGE = 50
ENOUGH = 100
"""People per group before a comparison is shown."""


def _get(pk: int) -> Journey:
    journey = Journey.objects.filter(pk=pk).first()
    if journey is None:
        raise NotFound(_("There is no such journey."))
    return journey


def _crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    first = {"label": _("Journeys"), "url": reverse("campaigns:journeys")}
    return [first, *({"label": label, "url": url} if url else {"label": label} for label, url in more)]


def _frame(request: HttpRequest, journey: Journey, here: str) -> dict[str, Any]:
    """What every tab of a journey has."""
    tabs = (
        ("journey", _("Build")),
        ("journey-people", _("People")),
        ("journey-results", _("Results")),
        ("journey-versions", _("Versions")),
        ("journey-settings", _("Settings")),
        ("journey-try", _("Try")),
    )
    return {
        "journey": journey,
        "tabs": [
            {"label": label, "url": reverse(f"campaigns:{name}", args=[journey.pk]), "active": name == here}
            for name, label in tabs
        ],
        "crumbs": _crumbs((journey.name, "")),
        "may_steer": may(request, User.may_steer),
        "stopped": _stopped(journey),
        "quiet_steps": engine.campaigns_of(journey).filter(state=Campaign.State.PAUSED)
        if journey.state == Journey.State.LIVE
        else [],
    }


def _stopped(journey: Journey) -> str:
    """Why it stopped by itself, as a sentence."""
    why = journey.guard
    if journey.state != Journey.State.PAUSED or not why:
        return ""
    if "problem" in why:
        return str(why["problem"])
    return _("A night would have let in %(people)s of %(all)s customers, far more than usual. Nobody was let in.") % {
        "people": num(why["people"]),
        "all": num(why["customers"]),
    }


@require_GET
def journey_list(request: HttpRequest) -> HttpResponse:
    found: list[Any] = list(results.journeys()[:PAGE])
    rows = [
        {"journey": one, "trigger": words.trigger(one.draft.get("trigger")), "goal": _share(one.reached, one.entered)}
        for one in found
    ]
    may_steer = may(request, User.may_steer)
    return page(request, "campaigns/journeys.html", {"rows": rows, "starts": starts.STARTS, "may_steer": may_steer})


def _share(part: int, whole: int) -> str:
    return pct(part / whole, 1) if whole else ""


@only(User.may_steer)
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    chosen = starts.start(request.GET.get("from", ""))
    form = NameForm(request.POST or None, initial={"name": chosen.name if chosen else ""})
    if request.method == "POST" and form.is_valid():
        made = publishing.create(
            name=form.cleaned_data["name"],
            tree={"trigger": chosen.trigger, "steps": chosen.steps} if chosen else None,
            actor=person(request),
            **(chosen.settings if chosen else {}),
        )
        return redirect("campaigns:journey", made.pk)
    context = {"form": form, "start": chosen, "crumbs": _crumbs((_("New journey"), ""))}
    return page(request, "campaigns/journey_new.html", context, status=422 if form.errors else 200)


# --- Build ----------------------------------------------------------------------------------------------------------------


@require_GET
def build(request: HttpRequest, pk: int) -> HttpResponse:
    journey = _get(pk)
    problems = publishing.problems(journey)
    found = {one.step: one.sentence for one in reversed(problems)}
    of_steps = _Lines(journey, found)
    context = _frame(request, journey, "journey") | {
        "trigger": words.trigger(journey.draft.get("trigger")),
        "trigger_problem": found.get("", ""),
        "goal": words.goal(journey),
        "lines": of_steps.lines(journey.draft.get("steps", []), ""),
        "problems": problems,
        "kinds": KINDS,
        "is_changed": _is_changed(journey),
        "is_open": journey.state != Journey.State.ENDED,
    }
    return page(request, "campaigns/journey.html", context)


def _is_changed(journey: Journey) -> bool:
    newest = journey.versions.order_by("-number").values_list("tree", flat=True).first()
    return newest != journey.draft


class _Lines:
    """The steps as the page shows them: sentence, number, who waits, what is wrong, the ways of a split."""

    def __init__(self, journey: Journey, problems: Mapping[str, str]) -> None:
        self.inside = publishing.inside_by_step(journey) if journey.version else {}
        self.passed = results.steps_taken(journey) if journey.version else {}
        self.texts = dict(Template.objects.values_list("key", "name"))
        self.problems = problems

    def lines(self, steps: Any, number: str) -> list[dict[str, Any]]:
        return [
            self.line(step, f"{number}{n}", n, len(steps)) for n, step in enumerate(steps, 1) if isinstance(step, dict)
        ]

    def line(self, step: Mapping[str, Any], number: str, at: int, of: int) -> dict[str, Any]:
        pk = step.get("id", "")
        ways = []
        if step.get("do") in ("split", "share"):
            branches = step.get("branches", [])
            for n in (*range(len(branches)), -1):
                letter = chr(ord("a") + (n if n >= 0 else len(branches)) % 26)
                way = branches[n].get("steps", []) if n >= 0 else step.get("else", [])
                ways.append(
                    {"number": n, "name": words.branch(step, n), "lines": self.lines(way, f"{number}{letter}"),
                     "place": f"in:{pk}:{n}", "can_go": n >= 0 and len(branches) > 1}
                )  # fmt: skip
        return {
            "id": pk,
            "number": number,
            "kind": dict(KINDS).get(str(step.get("do")), ""),
            "sentence": words.step(step, self.texts),
            "problem": self.problems.get(pk, ""),
            "inside": self.inside.get(pk, 0),
            "passed": self.passed.get(pk, 0),
            "ways": ways,
            "place": f"after:{pk}",
            "can_edit": step.get("do") in STEPS,
            "is_first": at == 1,
            "is_last": at == of,
        }


def _edits(request: HttpRequest) -> int | None:
    text = request.POST.get("edits", "")
    return int(text) if text.isdecimal() and len(text) < 9 else None


def _known(journey: Journey) -> set[str]:
    return editing.ids_of(list(journey.versions.values_list("tree", flat=True)))


@only(User.may_steer)
@require_POST
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """One change of the draft by a button: ``act`` names it and the step."""
    journey = _get(pk)
    verb, _sep, rest = request.POST.get("act", "").partition(":")
    tree, focus = journey.draft, rest
    match verb:
        case "add":
            tree, focus = editing.add(tree, rest, request.POST.get("kind", ""), _known(journey))
        case "up" | "down":
            tree = editing.move(tree, rest, -1 if verb == "up" else 1)
        case "duplicate":
            tree, focus = editing.duplicate(tree, rest, _known(journey))
        case "delete":
            tree, focus = editing.delete(tree, rest), ""
        case "branch":
            tree = editing.add_branch(tree, rest)
        case "unbranch":
            step, _sep, number = rest.partition(":")
            tree, focus = editing.remove_branch(tree, step, int(number) if number.isdecimal() else -1), step
        case _:
            raise NotFound(_("There is no such button."))
    publishing.save(journey=journey, tree=tree, edits=_edits(request))
    if verb == "add" and request.POST.get("kind") in STEPS:
        return redirect("campaigns:journey-step", pk, focus)
    place = f"#step-{focus}" if focus else ""
    return redirect(f"{reverse('campaigns:journey', args=[pk])}{place}")


@only(User.may_steer)
@require_http_methods(["GET", "POST"])
def step(request: HttpRequest, pk: int, step: str) -> HttpResponse:
    journey = _get(pk)
    found = editing.find(journey.draft, step)
    if found.get("do") not in STEPS:
        raise NotFound(_("This step has nothing to fill in."))
    kind = STEPS[found["do"]]
    form = kind(found, request.POST or None, initial=kind.initial_of(found))
    if request.method == "POST" and form.is_valid():
        tree = editing.change(journey.draft, step, form.values())
        publishing.save(journey=journey, tree=tree, edits=_edits(request))
        return redirect(f"{reverse('campaigns:journey', args=[pk])}#step-{step}")
    title = str(dict(KINDS)[found["do"]])
    context = {
        "journey": journey,
        "form": form,
        "title": title,
        "crumbs": _crumbs((journey.name, reverse("campaigns:journey", args=[pk])), (title, "")),
    }
    return page(request, "campaigns/journey_form.html", context, status=422 if form.errors else 200)


@only(User.may_steer)
@require_http_methods(["GET", "POST"])
def trigger(request: HttpRequest, pk: int) -> HttpResponse:
    journey = _get(pk)
    form = TriggerForm(request.POST or None, initial=journey.draft.get("trigger"))
    if request.method == "POST" and form.is_valid():
        publishing.save(journey=journey, tree={**journey.draft, "trigger": form.tree()}, edits=_edits(request))
        return redirect("campaigns:journey", pk)
    title = _("What lets people in")
    context = {
        "journey": journey,
        "form": form,
        "title": title,
        "crumbs": _crumbs((journey.name, reverse("campaigns:journey", args=[pk])), (title, "")),
    }
    return page(request, "campaigns/journey_form.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
def settings(request: HttpRequest, pk: int) -> HttpResponse:
    journey = _get(pk)
    if request.method == "POST":
        need(request, User.may_steer)
    form = SettingsForm(request.POST) if request.method == "POST" else SettingsForm.of(journey)
    if request.method == "POST" and form.is_valid():
        try:
            publishing.set_up(journey=journey, **form.values(journey))
        except DomainError as problem:
            form.add_error(None, problem.message)
        else:
            messages.success(request, _("Saved. It holds from now on."))
            return redirect("campaigns:journey-settings", pk)
    own = [words.condition(tree) for tree in journey.exits]
    context = _frame(request, journey, "journey-settings") | {
        "form": form, "exits": own, "again": words.again(journey), "goal": words.goal(journey),
    }  # fmt: skip
    return page(request, "campaigns/journey_settings.html", context, status=422 if form.errors else 200)


# --- Versions -------------------------------------------------------------------------------------------------------------


@require_GET
def versions(request: HttpRequest, pk: int) -> HttpResponse:
    """What publishing would do, and what was published."""
    journey = _get(pk)
    problems = publishing.problems(journey)
    context = _frame(request, journey, "journey-versions") | {
        "problems": problems,
        "effects": [words.effect(one) for one in publishing.effects(journey)] if not problems else [],
        "is_changed": _is_changed(journey),
        "inside": sum(publishing.inside_by_step(journey).values()),
        "versions": journey.versions.select_related("published_by").order_by("-number")[:PAGE],
        "is_open": journey.state != Journey.State.ENDED,
    }
    return page(request, "campaigns/journey_versions.html", context)


@only(User.may_steer)
@require_POST
def publish(request: HttpRequest, pk: int) -> HttpResponse:
    journey = _get(pk)
    version = publishing.publish(
        journey=journey, actor=person(request), note=request.POST.get("note", ""), edits=_edits(request)
    )
    messages.success(request, _("Version %(n)d is in force.") % {"n": version.number})
    return redirect("campaigns:journey", pk)


@only(User.may_steer)
@require_POST
def take_up(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """Make the draft what an older version was; publishing it goes back."""
    journey = _get(pk)
    version = get_object_or_404(journey.versions, number=number)
    publishing.save(journey=journey, tree=version.tree, edits=_edits(request))
    messages.success(request, _("The draft is version %(n)d now. Publish it to go back.") % {"n": number})
    return redirect("campaigns:journey-versions", pk)


@only(User.may_steer)
@require_POST
def switch(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    journey = _get(pk)
    if verb == "end":
        gone = publishing.end(journey=journey)
        said = ngettext("%(n)s person was taken out.", "%(n)s people were taken out.", gone)
        messages.success(request, said % {"n": num(gone)})
    else:
        {"pause": publishing.pause, "resume": publishing.resume}[verb](journey=journey)
    return redirect("campaigns:journey", pk)


# --- People ---------------------------------------------------------------------------------------------------------------


@require_GET
def people(request: HttpRequest, pk: int) -> HttpResponse:
    """Who is or was inside, newest first; a person who is looked for, with the reason when they are not."""
    journey = _get(pk)
    state, at = request.GET.get("state", JourneyRun.State.RUNNING), request.GET.get("step", "")
    found = results.people(journey, state=state, step=at)
    if before := row_number(request.GET.get("before")):
        found = found.filter(pk__lt=before)
    rows: list[Any] = list(found[: PAGE + 1])
    more = rows[PAGE - 1].pk if len(rows) > PAGE else None
    asked = request.GET.get("who", "").strip()[:100]
    names = {one["id"]: one["sentence"] for one in _flat(_Lines(journey, {}).lines(_tree(journey), ""))}
    for row in rows[:PAGE]:
        _hide(request, row.customer)
        row.where = names.get(row.step, row.step)
    context = _frame(request, journey, "journey-people") | {
        "rows": rows[:PAGE],
        "more": more,
        "state": state,
        "states": [("all", _("Everybody")), *JourneyRun.State.choices],
        "asked": asked,
        "answer": _standing(request, journey, asked) if asked else "",
    }
    return page(request, "campaigns/journey_people.html", context)


def _tree(journey: Journey) -> Any:
    newest = journey.versions.order_by("-number").values_list("tree", flat=True).first()
    return (newest or journey.draft).get("steps", [])


def _flat(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for line in lines for one in (line, *(x for way in line["ways"] for x in _flat(way["lines"])))]


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
    journey = _get(pk)
    found = get_object_or_404(JourneyRun.objects.select_related("customer", "version"), pk=run, journey=journey)
    _hide(request, found.customer)
    names = {one["id"]: one["sentence"] for one in _flat(_Lines(journey, {}).lines(_tree(journey), ""))}
    trees = {one["id"]: one for one in _steps(found.version.tree)}
    steps = [
        {
            "at": one.at,
            "what": names.get(one.step, one.step),
            "outcome": one.get_outcome_display(),
            "more": _more(one, trees.get(one.step, {})),
        }
        for one in found.steps.order_by("id")
    ]
    context = _frame(request, journey, "journey-people") | {
        "run": found, "steps": steps, "where": names.get(found.step, found.step),
    }  # fmt: skip
    return page(request, "campaigns/journey_way.html", context)


def _steps(tree: Any) -> list[dict[str, Any]]:
    """The steps of a stored tree that have an id."""
    return [step for step in reading.steps_of(tree) if "id" in step]


def _more(one: JourneyStep, tree: Mapping[str, Any]) -> str:
    if one.outcome == Outcome.BRANCH:
        return words.branch(tree, one.data.get("branch", -1))
    return str(one.data.get("why", ""))


@only(User.may_steer)
@require_POST
def remove(request: HttpRequest, pk: int, run: int) -> HttpResponse:
    found = get_object_or_404(JourneyRun.objects.select_related("journey"), pk=run, journey_id=pk)
    publishing.remove(run=found, actor=person(request), why=request.POST.get("why", ""))
    messages.success(request, _("Taken out. What has left already cannot be called back."))
    return redirect("campaigns:journey-way", pk, run)


# --- Results and trying ---------------------------------------------------------------------------------------------------


@require_GET
def outcome(request: HttpRequest, pk: int) -> HttpResponse:
    journey = _get(pk)
    seen = results.of(journey)
    by_step = results.messages_by_step(journey)
    lines = _flat(_Lines(journey, {}).lines(_tree(journey), ""))
    have = min(seen["entered"], seen["held_out"])
    groups = (("entered", "reached", _("Entered")), ("held_out", "held_out_reached", _("Held out")))
    context = _frame(request, journey, "journey-results") | {
        "seen": seen,
        "goal": words.goal(journey),
        "shares": [
            {"label": label, "people": seen[key], "back": seen[back], "share": _share(seen[back], seen[key]) or "–"}
            for key, back, label in groups
        ],
        "have": have,
        "need": ENOUGH,
        "is_enough": have >= ENOUGH,
        "lines": [
            {
                **line,
                "sent": by_step.get(line["id"], {}).get(Message.State.SENT, 0),
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
    journey = _get(pk)
    asked = request.GET.get("who", "").strip()[:100]
    sees = sees_contacts(request)
    customer = finding.person(asked) if sees else finding.numbered(asked)
    context = _frame(request, journey, "journey-try") | {"asked": asked, "sees": sees}
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
            context |= {"customer": customer, "trial": trial, "steps": [_tried(one, sees) for one in trial.steps]}
    return page(request, "campaigns/journey_try.html", context)


def _tried(one: trying.Tried, sees: bool) -> dict[str, Any]:
    verdicts = {gate.SEND: _("Would be sent"), gate.HELD: _("Would wait"), gate.SKIPPED: _("Would be skipped")}
    reasons = dict(Message.Reason.choices)
    verdict = one.verdict
    return {
        "at": one.at,
        "what": words.step(one.tree) if one.tree else "",
        "outcome": dict(JourneyStep.Outcome.choices).get(one.outcome, ""),
        "branch": words.branch(one.tree, one.data["branch"]) if "branch" in one.data else "",
        "asked": [{"what": words.branch(one.tree, n), "holds": holds, "why": why} for n, holds, why in one.asked],
        "subject": one.subject if sees else "",
        "text": one.text if sees else "",
        "problem": one.problem,
        "verdict": verdicts[verdict.outcome] if verdict else "",
        "reason": reasons.get(verdict.reason, "") if verdict else "",
        "mark": {gate.SEND: "ok", gate.HELD: "warn"}.get(verdict.outcome, "bad") if verdict else "",
    }

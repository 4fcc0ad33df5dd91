"""The pages on which a journey is made, published and steered: parse, call, render."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from campaigns import playbooks
from campaigns.journey_forms import KINDS, NameForm, SettingsForm, TriggerForm
from campaigns.journey_frame import PAGE, Lines, crumbs, frame, journey_of, share
from campaigns.journey_step_forms import STEPS
from campaigns.journeys import editing, publishing, results, words
from campaigns.models import Journey
from lifecycle_crm.accounts.callers import may, need, only, person
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.lib.http import page
from lifecycle_crm.lib.numbers import row_number
from lifecycle_crm.templatetags.crm import num


@require_GET
def journey_list(request: HttpRequest) -> HttpResponse:
    found: list[Any] = list(results.journeys()[:PAGE])
    rows = [
        {"journey": one, "trigger": words.trigger(one.draft.get("trigger")), "goal": share(one.reached, one.entered)}
        for one in found
    ]
    may_steer = may(request, User.may_steer)
    context = {"rows": rows, "playbooks": playbooks.listed(), "may_steer": may_steer}
    return page(request, "campaigns/journeys.html", context)


@only(User.may_steer)
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    form = NameForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        made = publishing.create(name=form.cleaned_data["name"], actor=person(request))
        return redirect("campaigns:journey", made.pk)
    context = {"form": form, "crumbs": crumbs((_("New journey"), ""))}
    return page(request, "campaigns/journey_new.html", context, status=422 if form.errors else 200)


@only(User.may_steer)
@require_POST
def install(request: HttpRequest, playbook: str) -> HttpResponse:
    """A playbook with one press: its journey as a draft, its texts in every language."""
    made = playbooks.install(key=playbook, actor=person(request))
    messages.success(request, _("Installed as a draft. Adjust it, try it with a customer, and publish it."))
    return redirect("campaigns:journey", made.pk)


# --- Build ----------------------------------------------------------------------------------------------------------------


@require_GET
def build(request: HttpRequest, pk: int) -> HttpResponse:
    journey = journey_of(pk)
    problems = publishing.problems(journey)
    found = {one.step: one.sentence for one in reversed(problems)}
    of_steps = Lines(journey, found)
    context = frame(request, journey, "journey") | {
        "trigger": words.trigger(journey.draft.get("trigger")),
        "trigger_problem": found.get("", ""),
        "goal": words.goal(journey),
        "again": words.again(journey),
        "exits": words.exits(journey),
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


def _edits(request: HttpRequest) -> int | None:
    """The count of edits that the form was made from."""
    return row_number(request.POST.get("edits"))


def _known(journey: Journey) -> set[str]:
    return editing.ids_of(list(journey.versions.values_list("tree", flat=True)))


@only(User.may_steer)
@require_POST
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """One change of the draft by a button: ``act`` names it and the step."""
    journey = journey_of(pk)
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
            step, _sep, text = rest.partition(":")
            number = row_number(text)
            tree, focus = editing.remove_branch(tree, step, -1 if number is None else number), step
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
    journey = journey_of(pk)
    found = editing.find(journey.draft, step)
    if found.get("do") not in STEPS:
        raise NotFound(_("This step has nothing to fill in."))
    kind = STEPS[found["do"]]
    form = kind(found, request.POST or None, initial=kind.initial_of(found), tree=journey.draft)
    title = str(dict(KINDS)[found["do"]])
    return _form_page(
        request, journey, form, title, lambda: editing.change(journey.draft, step, form.values()), f"#step-{step}"
    )


@only(User.may_steer)
@require_http_methods(["GET", "POST"])
def trigger(request: HttpRequest, pk: int) -> HttpResponse:
    journey = journey_of(pk)
    form = TriggerForm(request.POST or None, initial=journey.draft.get("trigger"))
    return _form_page(
        request, journey, form, _("What lets people in"), lambda: {**journey.draft, "trigger": form.tree()}
    )


def _form_page(
    request: HttpRequest, journey: Journey, form: Form, title: str, tree: Callable[[], Any], place: str = ""
) -> HttpResponse:
    """A form for one part of the draft; ``tree`` is the whole with what was filled in."""
    build = reverse("campaigns:journey", args=[journey.pk])
    if request.method == "POST" and form.is_valid():
        publishing.save(journey=journey, tree=tree(), edits=_edits(request))
        return redirect(f"{build}{place}")
    context = {"journey": journey, "form": form, "title": title, "crumbs": crumbs((journey.name, build), (title, ""))}
    return page(request, "campaigns/journey_form.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
def settings(request: HttpRequest, pk: int) -> HttpResponse:
    journey = journey_of(pk)
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
    own = words.exits(journey)
    context = frame(request, journey, "journey-settings") | {
        "form": form, "exits": own, "again": words.again(journey), "goal": words.goal(journey),
    }  # fmt: skip
    return page(request, "campaigns/journey_settings.html", context, status=422 if form.errors else 200)


# --- Versions -------------------------------------------------------------------------------------------------------------


@require_GET
def versions(request: HttpRequest, pk: int) -> HttpResponse:
    """What publishing would do, and what was published."""
    journey = journey_of(pk)
    problems = publishing.problems(journey)
    context = frame(request, journey, "journey-versions") | {
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
    journey = journey_of(pk)
    version = publishing.publish(
        journey=journey, actor=person(request), note=request.POST.get("note", ""), edits=_edits(request)
    )
    messages.success(request, _("Version %(n)d is in force.") % {"n": version.number})
    return redirect("campaigns:journey", pk)


@only(User.may_steer)
@require_POST
def take_up(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """Make the draft what an older version was; publishing it goes back."""
    journey = journey_of(pk)
    version = get_object_or_404(journey.versions, number=number)
    publishing.save(journey=journey, tree=version.tree, edits=_edits(request))
    messages.success(request, _("The draft is version %(n)d now. Publish it to go back.") % {"n": number})
    return redirect("campaigns:journey-versions", pk)


@only(User.may_steer)
@require_POST
def switch(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    journey = journey_of(pk)
    if verb == "end":
        gone = publishing.end(journey=journey)
        said = ngettext("%(n)s person was taken out.", "%(n)s people were taken out.", gone)
        messages.success(request, said % {"n": num(gone)})
    else:
        {"pause": publishing.pause, "resume": publishing.resume}[verb](journey=journey)
    return redirect("campaigns:journey", pk)

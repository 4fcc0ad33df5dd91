"""The pages of stages: what decides where a customer is, what a change would do, and how the nights went."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from functools import wraps
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from customers.conditions import All
from customers.queries import shown_name
from customers.sentences import say
from lifecycle_crm.lib import clock, health, http
from lifecycle_crm.lib.errors import Conflict, DomainError, NotFound
from lifecycle_crm.templatetags.crm import num, pct, signed, stage_name
from stages import playbook, presets, queries, rulesets
from stages import rules as rulebook
from stages.forms import RulesForm
from stages.models import Night, RuleSet, StageKey
from stages.queries import NEW
from stages.rules import Rule, Rules
from stages.rulesets import may_publish

WEEK, MONTH = 7, 30
PAGE = 30
BRAKE_SHARE, BRAKE_PEOPLE = 0.05, 1000
"""Above either, publishing asks for the number of people to be typed."""

STEP_NAMES = {
    "reactions": gettext_lazy("What happened since"),
    "points": gettext_lazy("Points that become usable or expire"),
    "facts": gettext_lazy("Facts of customers something happened to"),
    "scores": gettext_lazy("Cut points of the scores"),
    "stages": gettext_lazy("Stages of customers who are due"),
    "winback": gettext_lazy("Win-back of those who went quiet"),
    "rollups": gettext_lazy("Numbers for home"),
}
COUNT_NAMES = {
    "refreshed": gettext_lazy("Facts renewed"),
    "evaluated": gettext_lazy("Customers looked at"),
    "moved": gettext_lazy("Moved"),
    "activated": gettext_lazy("Points made usable"),
    "expired": gettext_lazy("Points expired"),
    "planned": gettext_lazy("Messages planned"),
    "held_out": gettext_lazy("Held out to compare"),
    "skipped": gettext_lazy("Not written to"),
    "order": gettext_lazy("Orders"),
    "refund": gettext_lazy("Refunds"),
    "response": gettext_lazy("Answers to surveys"),
    "cuts_renewed": gettext_lazy("Cut points renewed"),
    "set_aside": gettext_lazy("Parts set aside"),
}


def _for_publishers(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not may_publish(request.user):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return checked


# --- Parts of pages ---------------------------------------------------------------------------------------------------


def _label(stage: str) -> str:
    return _("New customers") if stage == NEW else stage_name(stage)


def matrix(
    moves: Mapping[tuple[str, str], int], url: Callable[[str, str], str] | None = None, *, stays: bool = False
) -> list[dict[str, Any]]:
    """Rows from "new" and the six stages to the six stages, each cell with its number, link and shade (0 to 7)."""
    most = max((n for (source, target), n in moves.items() if source != target), default=0)

    def cell(source: str, target: str) -> dict[str, Any]:
        count = moves.get((source, target), 0)
        if source == target and not stays:
            return {"text": "·", "heat": 0}
        if not count:
            return {"text": "–", "heat": 0}
        heat = 0 if source == target else 1 + round(6 * (count / most) ** 0.5)
        return {"text": num(count), "heat": min(heat, 7), "url": url(source, target) if url else "", "stays": stays}

    return [
        {
            "stage": "" if source == NEW else source,
            "label": _label(source),
            "cells": [cell(source, target) for target in StageKey.values],
            "total": num(sum(n for (s, t), n in moves.items() if s == source and (stays or s != t))),
        }
        for source in [NEW, *StageKey.values]
    ]


def _told(rule: Rule) -> dict[str, Any]:
    """A rule in words: its name, its condition, and in which stages and after which stay it applies."""
    sources = ", ".join(_label(source) for source in rule.sources or ())
    return {
        "key": rule.key,
        "name": rule.title(),
        "to": rule.to,
        "sentence": _("everybody else") if rule.when == All(()) else say(rule.when),
        "sources": _("Only for those in: %(stages)s.") % {"stages": sources} if sources else "",
        "stay": ngettext(
            "Moves after at least %(n)d day there.", "Moves after at least %(n)d days there.", rule.stay_days
        )
        % {"n": rule.stay_days}
        if rule.stay_days
        else "",
    }


def _crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    return [{"label": _("Stages"), "url": reverse("stages:overview")}, *({"label": t, "url": u} for t, u in more)]


# --- Overview ---------------------------------------------------------------------------------------------------------


@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    today = clock.today()
    week, month = today - timedelta(days=WEEK - 1), today - timedelta(days=MONTH - 1)
    standing = queries.standing()
    placed = sum(count for stage, count in standing.items() if stage != NEW)
    turnover = queries.turnover(queries.flows(week, today))
    moves = queries.flows(month, today)
    rule_set = queries.published()
    rules = rulebook.parse(rule_set.rules) if rule_set else None
    own = queries.stages()
    stages = [
        {
            "key": key,
            "goal": playbook.goal(key, own.get(key)),
            "activities": playbook.activities(key, own.get(key)),
            "rules": [_told(rule) for rule in rules or () if rule.to == key],
            "count": num(standing[key]),
            "share": pct(standing[key] / placed, 1) if placed else "",
            "url": queries.people_url(stage=key),
            "entered": num(turnover[key].entered),
            "left": num(turnover[key].left),
            "net": signed(turnover[key].net),
        }
        for key in StageKey.values
    ]
    return http.page(
        request,
        "stages/overview.html",
        {
            "stages": stages,
            "placed": placed,
            "unplaced": standing[NEW],
            "rule_set": rule_set,
            "rhythm_note": rule_set.note if rule_set else "",
            "matrix": matrix(moves, lambda s, t: queries.moved_url(s, t, month, today)),
            "moves": sum(moves.values()),
            "first": month,
            "last": today,
            "versions": queries.rule_sets()[:10],
            "draft": queries.open_draft(),
            "may_publish": may_publish(request.user),
        },
    )


# --- Rules ------------------------------------------------------------------------------------------------------------


def _rule_set(version: int) -> RuleSet:
    found = queries.rule_set(version)
    if found is None:
        raise NotFound(_("There is no version %(version)d of the rules.") % {"version": version})
    return found


@require_POST
@_for_publishers
def install(request: HttpRequest) -> HttpResponse:
    rule_set = presets.install()
    messages.success(request, _("%(name)s is in force.") % {"name": rule_set})
    return redirect("stages:overview")


@require_POST
@_for_publishers
def make_draft(request: HttpRequest) -> HttpResponse:
    base = queries.published()
    if base is None:
        raise Conflict(_("Install the default rules first; a draft starts from them."))
    made = rulesets.draft(based_on=base, rules=None, actor=request.user)  # type: ignore[arg-type]
    return redirect("stages:rules", version=made.version)


def _shown(rule_set: RuleSet) -> dict[str, Any]:
    return {
        "name": rule_set.name,
        "note": rule_set.note,
        "rules": json.dumps(rule_set.rules, indent=2, ensure_ascii=False),
    }


@require_http_methods(["GET", "HEAD", "POST"])
def rules(request: HttpRequest, version: int) -> HttpResponse:
    """One version: its rules in words and, for a draft, the form and what it would do."""
    rule_set = _rule_set(version)
    is_draft = rule_set.state == RuleSet.State.DRAFT
    may = may_publish(request.user)
    form = RulesForm(initial=_shown(rule_set))
    if request.method == "POST":
        if not may:
            raise PermissionDenied
        if not is_draft:
            raise Conflict(
                _("Version %(version)d is no draft, so it stays as it is. Make a new draft.") % {"version": version}
            )
        form = RulesForm(request.POST)
        if form.is_valid():
            try:
                rulesets.edit(rule_set=rule_set, **form.cleaned_data)
            except DomainError as problem:
                form.add_error(None, problem.message)
            else:
                messages.success(request, _("Draft saved. Look below at what it would do."))
                return redirect("stages:rules", version=version)
    parsed = rulebook.parse(rule_set.rules)
    context: dict[str, Any] = {
        "crumbs": _crumbs((_("Version %(version)d") % {"version": version}, "")),
        "rule_set": rule_set,
        "rules": [_told(rule) for rule in parsed],
        "form": form,
        "is_draft": is_draft,
        "is_retired": rule_set.state == RuleSet.State.RETIRED,
        "may_publish": may,
    }
    if is_draft:
        context |= _preview(parsed, request.user)
    return http.page(request, "stages/rules.html", context, status=422 if form.errors else 200)


def _preview(rules: Rules, user: Any) -> dict[str, Any]:
    now = clock.whole_now()
    then = rulesets.what_if(rules, now)
    current = queries.published()
    tonight = rulesets.what_if(rulebook.parse(current.rules), now, sample=0).moving if current else 0
    before, after = then.before(), then.after()
    return {
        "what_if": then,
        "sample": [{"mover": mover, "name": shown_name(mover.customer, user)} for mover in then.sample],
        "share": pct(then.moving / then.total, 1) if then.total else "",
        "tonight": tonight,
        "brake": _needs_typing(then),
        "matrix": matrix(then.standing, stays=True),
        "counts": [
            {
                "stage": stage,
                "before": num(before[stage]),
                "after": num(after[stage]),
                "change": signed(after[stage] - before[stage]),
            }
            for stage in StageKey.values
        ],
    }


def _needs_typing(then: rulesets.WhatIf) -> bool:
    return then.moving > BRAKE_PEOPLE or (then.total > 0 and then.moving > BRAKE_SHARE * then.total)


@require_POST
@_for_publishers
def publish(request: HttpRequest, version: int) -> HttpResponse:
    rule_set = _rule_set(version)
    then = rulesets.what_if(rulebook.parse(rule_set.rules), clock.whole_now(), sample=0)
    if _needs_typing(then) and request.POST.get("confirm", "").strip() != str(then.moving):
        raise Conflict(
            ngettext(
                "%(n)d customer would move. Type that number to publish.",
                "%(n)d customers would move. Type that number to publish.",
                then.moving,
            )
            % {"n": then.moving}
        )
    rulesets.publish(rule_set=rule_set, actor=request.user)  # type: ignore[arg-type]
    messages.success(
        request, _("Version %(version)d is in force. The next night moves people quietly.") % {"version": version}
    )
    return redirect("stages:overview")


@require_POST
@_for_publishers
def discard(request: HttpRequest, version: int) -> HttpResponse:
    rulesets.discard(rule_set=_rule_set(version))
    messages.success(request, _("Draft %(version)d is gone.") % {"version": version})
    return redirect("stages:overview")


@require_POST
@_for_publishers
def restore(request: HttpRequest, version: int) -> HttpResponse:
    again = rulesets.roll_back(to=_rule_set(version), actor=request.user)  # type: ignore[arg-type]
    messages.success(
        request,
        _("Version %(new)d is in force, with the rules of version %(old)d.") % {"new": again.version, "old": version},
    )
    return redirect("stages:overview")


# --- Nights -----------------------------------------------------------------------------------------------------------


def _run_url() -> str:
    """Where "Run now" posts to; the night itself lives above this app."""
    try:
        return reverse("night-run")
    except NoReverseMatch:
        return ""


def _line(night: Night, moves: Mapping[int, int]) -> dict[str, Any]:
    return {
        "night": night,
        "evaluated": night.counts.get("evaluated"),
        "moved": moves.get(night.pk, 0),
        "planned": night.counts.get("planned"),
        "seconds": queries.seconds_of(night),
        "status": STATE_KINDS[night.state],
    }


STATE_KINDS: dict[str, str] = {Night.State.DONE: "ok", Night.State.RUNNING: "waiting", Night.State.FAILED: "bad"}


@require_GET
def nights(request: HttpRequest) -> HttpResponse:
    page = Paginator(queries.nights(), PAGE).get_page(request.GET.get("page"))
    shown = list(page.object_list)
    moves = queries.moved_in(shown)
    last = queries.last_night()
    return http.page(
        request,
        "stages/nights.html",
        {
            "crumbs": _crumbs((_("Nights"), "")),
            "page": page,
            "lines": [_line(night, moves) for night in shown],
            "last": last,
            "missing": queries.missing_nights(last),
            "day": clock.last_complete_day(),
            "run_url": _run_url(),
            "may_run": may_publish(request.user),
        },
    )


@require_GET
def night(request: HttpRequest, day: str) -> HttpResponse:
    try:
        found = queries.night(date.fromisoformat(day))
    except ValueError:
        raise NotFound(_("%(day)s is not a date. Write it as 2026-11-20.") % {"day": day}) from None
    if found is None:
        raise NotFound(_("No night was run for %(day)s.") % {"day": day})
    is_running = found.state == Night.State.RUNNING
    steps = queries.steps(found)
    parts, done = sum(step.parts for step in steps), sum(step.done + step.failed for step in steps)
    moves = queries.moves_of(found)
    on = found.business_date
    worker_age = health.worker_age() if is_running else None
    context = {
        "crumbs": _crumbs((_("Nights"), reverse("stages:night-list")), (day, "")),
        "night": found,
        "status": STATE_KINDS[found.state],
        "is_running": is_running,
        "no_worker": is_running and (worker_age is None or worker_age > health.WORKER_LIMIT_SECONDS),
        "seconds": queries.seconds_of(found),
        "counts": [
            {"label": COUNT_NAMES.get(name, name.replace("_", " ").capitalize()), "value": num(count)}
            for name, count in found.counts.items()
            if isinstance(count, int) and (count or name in ("evaluated", "moved"))
        ],
        "steps": [
            {
                "name": STEP_NAMES.get(step.step, step.step),
                "step": step,
                "kind": "bad" if step.failed else "ok" if step.is_done else "waiting",
            }
            for step in steps
        ],
        "parts": parts,
        "done": done,
        "matrix": matrix(moves, lambda s, t: queries.moved_url(s, t, on, on)),
        "moves": sum(moves.values()),
        "troubled": queries.troubled(found)[:50],
        "run_url": _run_url() if found.state != Night.State.DONE else "",
        "may_run": may_publish(request.user),
    }
    answer = http.page(request, "stages/night.html", context)
    if getattr(request, "htmx", None) and not is_running:
        # The progress that was being watched is over: show the whole page with its result.
        answer["HX-Refresh"] = "true"
    return answer

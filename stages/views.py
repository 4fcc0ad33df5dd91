"""The pages of stages: what decides where a customer is, what a change would do, and how the nights went."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
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
from customers.models import Customer
from customers.queries import shown_name
from customers.sentences import say
from lifecycle_crm.lib import bell, clock, health, http
from lifecycle_crm.lib.errors import Conflict, DomainError, NotFound
from lifecycle_crm.templatetags.crm import day, num, pct, signed, stage_name
from stages import backtest, checks, engine, playbook, presets, queries, rulesets, thresholds
from stages import rules as rulebook
from stages.forms import RulesForm, ThresholdForm
from stages.models import Backtest, Night, RuleSet, StageKey
from stages.queries import NEW
from stages.rules import Rule, Rules
from stages.rulesets import may_publish

WEEK, MONTH = 7, 30
PAGE = 30
PINS = 50
MISSING = 14

STEP_NAMES = {
    "reactions": gettext_lazy("What happened since"),
    "points": gettext_lazy("Points that become usable or expire"),
    "facts": gettext_lazy("Facts of customers something happened to"),
    "scores": gettext_lazy("Cut points of the scores"),
    "stages": gettext_lazy("Stages of customers who are due"),
    "groups": gettext_lazy("Segments and RFM groups"),
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
    "segments_entered": gettext_lazy("Entered a segment"),
    "segments_left": gettext_lazy("Left a segment"),
    "rfm_changed": gettext_lazy("Changed their RFM group"),
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
            "pins": [{"pin": pin, "name": shown_name(pin.customer, request.user)} for pin in queries.pins()[:PINS]],
            "review": _review(rule_set),
            "may_publish": may_publish(request.user),
        },
    )


def _review(rule_set: RuleSet | None) -> dict[str, Any] | None:
    """The yearly review of the rules in force, in words."""
    found = rulesets.review_due(rule_set, presets.rhythm_days) if rule_set else None
    if found is None:
        return None
    return {
        "days": found.days,
        "rhythm_then": found.rhythm_then,
        "rhythm_now": found.rhythm_now,
        "shares": [
            {"stage": key, "then": pct(found.shares_then[key], 1), "now": pct(found.shares_now[key], 1)}
            for key in StageKey.values
        ],
    }


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


@require_GET
def preset_list(request: HttpRequest) -> HttpResponse:
    """The kinds of shop, each with what its rules would do here."""
    rhythm, repeaters = presets.rhythm_days()
    now = clock.whole_now()
    current = queries.published()
    return http.page(
        request,
        "stages/presets.html",
        {
            "crumbs": _crumbs((_("Kinds of shop"), "")),
            "presets": [_preset(one, rhythm, now) for one in presets.PRESETS],
            "rhythm": rhythm,
            "repeaters": repeaters,
            "is_guess": repeaters < presets.ENOUGH_REPEATERS,
            "rule_set": current,
            "may_publish": may_publish(request.user),
        },
    )


def _preset(one: presets.Preset, rhythm: int, now: datetime) -> dict[str, Any]:
    parsed = rulebook.parse(presets.default_rules(rhythm, one))
    then = rulesets.what_if(parsed, now, sample=0)
    before, after = then.before(), then.after()
    return {
        "key": one.key,
        "name": _(one.name),
        "text": _(one.text),
        "quiet": say(parsed.rules[0].when),
        "moving": then.moving,
        "total": then.total,
        "share": pct(then.moving / then.total, 1) if then.total else "",
        "counts": [
            {"stage": stage, "after": num(after[stage]), "change": signed(after[stage] - before[stage])}
            for stage in StageKey.values
        ],
    }


@require_POST
@_for_publishers
def draft_preset(request: HttpRequest, key: str) -> HttpResponse:
    chosen = presets.preset(key)
    if chosen is None:
        raise NotFound(_("There is no such kind of shop."))
    rhythm, repeaters = presets.rhythm_days()
    made = rulesets.draft(
        based_on=None,
        rules=presets.default_rules(rhythm, chosen),
        actor=request.user,  # type: ignore[arg-type]
        name=_(chosen.name),
        note=_("Usual gap between orders: %(rhythm)d days, from %(n)d repeat buyers.")
        % {"rhythm": rhythm, "n": repeaters},
    )
    return redirect("stages:rules", version=made.version)


def _shown(rule_set: RuleSet) -> dict[str, Any]:
    return {
        "name": rule_set.name,
        "note": rule_set.note,
        "rules": json.dumps(rule_set.rules, indent=2, ensure_ascii=False),
    }


@require_http_methods(["GET", "HEAD", "POST"])
def rules(request: HttpRequest, version: int) -> HttpResponse:
    """One version: its rules in words and, for a draft, its numbers and what it would do. POST takes the whole as JSON."""
    rule_set = _rule_set(version)
    form = RulesForm(initial=_shown(rule_set))
    if request.method == "POST":
        _only_drafts(request, rule_set)
        form = RulesForm(request.POST)
        if form.is_valid():
            try:
                rulesets.edit(rule_set=rule_set, **form.cleaned_data)
            except DomainError as problem:
                form.add_error(None, problem.message)
            else:
                messages.success(request, _("Draft saved. Look below at what it would do."))
                return redirect("stages:rules", version=version)
    return _rules_page(request, rule_set, form, ThresholdForm(rule_set=rule_set))


@require_POST
def numbers(request: HttpRequest, version: int) -> HttpResponse:
    """Save the numbers of a draft; ``do`` may also move, remove or add a rule."""
    rule_set = _rule_set(version)
    _only_drafts(request, rule_set)
    form = ThresholdForm(request.POST, rule_set=rule_set)
    if form.is_valid():
        try:
            data = _done(request.POST.get("do", ""), form.rules())
            rulesets.edit(rule_set=rule_set, rules=data, name=form.cleaned_data["name"], note=form.cleaned_data["note"])
        except DomainError as problem:
            form.add_error(None, problem.message)
        else:
            messages.success(request, _("Draft saved. Look below at what it would do."))
            return redirect("stages:rules", version=version)
    return _rules_page(request, rule_set, RulesForm(initial=_shown(rule_set)), form)


def _done(do: str, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``up:KEY``, ``down:KEY``, ``remove:KEY``, ``add:PRESET:KEY``; anything else changes nothing."""
    act, _colon, what = do.partition(":")
    if act in ("up", "down"):
        return thresholds.move(data, what, -1 if act == "up" else 1)
    if act == "remove":
        return thresholds.remove(data, what)
    if act == "add":
        kind, _colon, key = what.partition(":")
        chosen = presets.preset(kind)
        known = presets.default_rules(presets.rhythm_days()[0], chosen) if chosen else []
        rule = next((one for one in known if one["key"] == key), None)
        if rule is None:
            raise NotFound(_("There is no such rule to add."))
        return thresholds.add(data, rule, order=[one["key"] for one in known])
    return data


def _only_drafts(request: HttpRequest, rule_set: RuleSet) -> None:
    if not may_publish(request.user):
        raise PermissionDenied
    if rule_set.state != RuleSet.State.DRAFT:
        raise Conflict(
            _("Version %(version)d is no draft, so it stays as it is. Make a new draft.")
            % {"version": rule_set.version}
        )


def _rules_page(request: HttpRequest, rule_set: RuleSet, form: RulesForm, edit: ThresholdForm) -> HttpResponse:
    parsed = rulebook.parse(rule_set.rules)
    is_draft = rule_set.state == RuleSet.State.DRAFT
    previous = queries.previous(rule_set)
    told = [_told(rule) for rule in parsed]
    context: dict[str, Any] = {
        "crumbs": _crumbs((_("Version %(version)d") % {"version": rule_set.version}, "")),
        "rule_set": rule_set,
        "rules": told,
        "form": form,
        "is_draft": is_draft,
        "is_retired": rule_set.state == RuleSet.State.RETIRED,
        "may_publish": may_publish(request.user),
        "previous": previous,
        "changes": rulesets.differences(rulebook.parse(previous.rules), parsed) if previous else [],
    }
    if is_draft:
        edit_groups = edit.groups()
        last = len(told) - 1
        here = {rule.key for rule in parsed}
        context |= _preview(parsed, request.user) | {
            "edit": edit,
            "edit_rules": [
                {**one, "lines": edit_groups[i], "first": i == 0, "last": i == last, "lowest": i == last - 1}
                for i, one in enumerate(told)
            ],
            "to_add": [
                {"key": f"add:{presets.PRESETS[1].key}:{rule['key']}", "name": _(rule["name"])}
                for rule in presets.default_rules(presets.rhythm_days()[0])
                if rule["key"] not in here
            ],
            "warnings": list(checks.loops(parsed, clock.whole_now())),
            "overtaken": rulesets.overtaken_by(rule_set),
            "approval": queries.approval(rule_set),
            "modes": RuleSet.Mode.choices,
            "effects_url": _roof_url("rules-effects", rule_set.version),
            "backtests": [_test_line(test) for test in queries.backtests(rule_set)[:3]],
            "months": backtest.MONTHS,
        }
    errors = bool(form.errors or edit.errors)
    return http.page(request, "stages/rules.html", context, status=422 if errors else 200)


def _roof_url(name: str, *args: Any) -> str:
    """An address that lives above this app; empty where the app stands alone."""
    try:
        return reverse(name, args=args)
    except NoReverseMatch:
        return ""


def _test_line(test: Backtest) -> dict[str, Any]:
    return {
        "test": test,
        "status": "ok"
        if test.state == Backtest.State.DONE
        else "bad"
        if test.state == Backtest.State.FAILED
        else "waiting",
        "months": ngettext("%(n)d month", "%(n)d months", test.months) % {"n": test.months},
    }


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
        "brake": rulesets.needs_brake(then),
        "matrix": matrix(then.standing, stays=True),
        "counts": [
            {
                "stage": stage,
                "url": queries.people_url(stage=stage),
                "before": num(before[stage]),
                "after": num(after[stage]),
                "change": signed(after[stage] - before[stage]),
            }
            for stage in StageKey.values
        ],
    }


@require_GET
def changes(request: HttpRequest, version: int) -> HttpResponse:
    """What differs between a version and another one (``against``; without it the version before), in words."""
    rule_set = _rule_set(version)
    text = request.GET.get("against", "")
    other = _rule_set(int(text)) if text.isdigit() and len(text) < 9 else queries.previous(rule_set)
    return http.page(
        request,
        "stages/changes.html",
        {
            "crumbs": _crumbs(
                (_("Version %(version)d") % {"version": version}, reverse("stages:rules", args=[version])),
                (_("What differs"), ""),
            ),
            "rule_set": rule_set,
            "other": other,
            "changes": rulesets.differences(rulebook.parse(other.rules), rulebook.parse(rule_set.rules))
            if other
            else [],
            "versions": [one for one in queries.rule_sets()[:50] if one.pk != rule_set.pk],
            "follow": rulesets.overtaken_by(rule_set) if rule_set.state == RuleSet.State.DRAFT else None,
            "may_publish": may_publish(request.user),
        },
    )


@require_POST
@_for_publishers
def publish(request: HttpRequest, version: int) -> HttpResponse:
    rule_set = _rule_set(version)
    mode = request.POST.get("mode", RuleSet.Mode.QUIET)
    if request.POST.get("do") == "ask":
        rulesets.request_approval(rule_set=rule_set, actor=request.user, mode=mode)  # type: ignore[arg-type]
        messages.success(request, _("Somebody else can publish this version now. Send them the address of this page."))
        return redirect("stages:rules", version=version)
    rulesets.release(
        rule_set=rule_set,
        actor=request.user,  # type: ignore[arg-type]
        mode=mode,
        confirm=request.POST.get("confirm", ""),
    )
    _say_published(request, version, mode)
    return redirect("stages:overview")


@require_POST
@_for_publishers
def approve(request: HttpRequest, version: int) -> HttpResponse:
    done = rulesets.approve(rule_set=_rule_set(version), actor=request.user)  # type: ignore[arg-type]
    _say_published(request, version, done.mode)
    return redirect("stages:overview")


def _say_published(request: HttpRequest, version: int, mode: str) -> None:
    said = {
        RuleSet.Mode.QUIET.value: _("Version %(version)d is in force. The next night moves people quietly."),
        RuleSet.Mode.MOVE.value: _(
            "Version %(version)d is in force. The next night moves people, and campaigns may start."
        ),
        RuleSet.Mode.LATER.value: _("Version %(version)d is in force for people who change from now on."),
    }
    messages.success(request, said[mode] % {"version": version})


@require_POST
@_for_publishers
def follow(request: HttpRequest, version: int) -> HttpResponse:
    rulesets.rebase(rule_set=_rule_set(version))
    messages.success(request, _("The draft follows the version in force now."))
    return redirect("stages:rules", version=version)


@require_POST
@_for_publishers
def start_backtest(request: HttpRequest, version: int) -> HttpResponse:
    months = request.POST.get("months", "")
    made = backtest.request(
        rule_set=_rule_set(version),
        months=int(months) if months.isdigit() and len(months) < 4 else 0,
        actor=request.user,  # type: ignore[arg-type]
    )
    bell.ring("lifecycle_crm.tasks.replay_rules")
    return redirect("stages:backtest", pk=made.pk)


@require_GET
def backtest_page(request: HttpRequest, pk: int) -> HttpResponse:
    test = queries.backtest(pk)
    if test is None:
        raise NotFound(_("There is no such replay."))
    is_open = test.state in (Backtest.State.WAITING, Backtest.State.RUNNING)
    version = test.rule_set.version
    context = {
        "crumbs": _crumbs(
            (_("Version %(version)d") % {"version": version}, reverse("stages:rules", args=[version])),
            (_("Replay"), ""),
        ),
        "test": test,
        "is_open": is_open,
        "every": _every(test.created_at),
        "no_worker": is_open and _is_without_worker(),
        "is_stale": test.rules != test.rule_set.rules,
        **(_test_result(test) if test.state == Backtest.State.DONE else {}),
    }
    answer = http.page(request, "stages/backtest.html", context)
    if getattr(request, "htmx", None) and not is_open:
        answer["HX-Refresh"] = "true"
    return answer


def _test_result(test: Backtest) -> dict[str, Any]:
    found, most = test.result, max(1, test.customers)
    labels = [day(date.fromisoformat(row["day"])) for row in found["months"]]
    charts = []
    for stage in StageKey.values:
        old, new = ([row[which][stage] for row in found["months"]] for which in ("old", "new"))
        if old == new:
            continue  # the same line twice says nothing
        top = max(1, *old, *new)
        charts.append(
            {
                "id": f"replay-{stage}",
                "kind": "line",
                "title": stage_name(stage),
                "sentence": _("At the end: %(new)s by the draft, %(old)s by the rules in force.")
                % {"new": num(new[-1]), "old": num(old[-1])},
                "data": {
                    "x": {"labels": labels},
                    "y": {
                        "ticks": [{"value": at, "text": num(at)} for at in sorted({0, (top + 1) // 2, top})],
                        "title": "",
                    },
                    "series": [
                        {"name": _("Rules in force"), "values": old, "texts": [num(n) for n in old]},
                        {"name": _("Draft"), "values": new, "texts": [num(n) for n in new]},
                    ],
                },
                "columns": [
                    {"label": _("Month")},
                    {"label": _("Rules in force"), "num": True},
                    {"label": _("Draft"), "num": True},
                ],
                "rows": [
                    [label, {"text": num(a), "num": True}, {"text": num(b), "num": True}]
                    for label, a, b in zip(labels, old, new, strict=True)
                ],
                "note": ngettext("%(n)s customer", "%(n)s customers", test.customers) % {"n": num(test.customers)},
            }
        )
    old_moves, new_moves = ({(s, t): n for s, t, n in found[name]} for name in ("old_moves", "new_moves"))
    people = Customer.objects.in_bulk(found["flapped"])
    return {
        "charts": charts,
        "result": found,
        "differ_share": pct(found["differ"] / most, 1),
        "flows": [
            {
                "source": source,
                "target": target,
                "old": num(old_moves.get((source, target), 0)),
                "new": num(new_moves.get((source, target), 0)),
                "change": signed(new_moves.get((source, target), 0) - old_moves.get((source, target), 0)),
            }
            for source, target in sorted(
                old_moves.keys() | new_moves.keys(),
                key=lambda pair: -max(old_moves.get(pair, 0), new_moves.get(pair, 0)),
            )
        ],
        "old_sum": num(sum(old_moves.values())),
        "new_sum": num(sum(new_moves.values())),
        "flapped": [people[pk] for pk in found["flapped"] if pk in people],
    }


@require_POST
@_for_publishers
def unpin(request: HttpRequest, customer_id: int) -> HttpResponse:
    engine.unpin(customer_id=customer_id)
    messages.success(request, _("The pin is gone. The next night decides."))
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
    return _roof_url("night-run")


def _every(since: datetime) -> int:
    """Seconds until a page that watches work asks again: often at first, seldom when it takes long."""
    age = (clock.now() - since).total_seconds()
    return 2 if age < 60 else 5 if age < 600 else 15


def _is_without_worker() -> bool:
    age = health.worker_age()
    return age is None or age > health.WORKER_LIMIT_SECONDS


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
            "missing_days": queries.missing_days(last)[:MISSING],
            "day": clock.last_complete_day(),
            "preview_url": _roof_url("night-preview", queries.next_day(last).isoformat()),
            "run_url": _run_url(),
            "may_run": may_publish(request.user),
        },
    )


def _may_undo(found: Night) -> bool:
    """A hint for the page; the verb at the roof decides."""
    is_last = queries.last_night() == found
    return found.state == Night.State.DONE and found.undone_at is None and is_last and _is_fresh(found)


def _is_fresh(found: Night) -> bool:
    return found.finished_at is not None and clock.now() - found.finished_at < timedelta(hours=24)


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
    context = {
        "crumbs": _crumbs((_("Nights"), reverse("stages:night-list")), (day, "")),
        "night": found,
        "status": STATE_KINDS[found.state],
        "is_running": is_running,
        "every": _every(found.started_at),
        "no_worker": is_running and _is_without_worker(),
        "undo_url": _roof_url("night-undo", day) if _may_undo(found) else "",
        "undone": found.undo if found.undone_at else None,
        "guard_url": _roof_url("campaigns:outbox") if found.counts.get("waiting") else "",
        "stale": found.counts.get("stale", 0),
        "set_aside": queries.set_aside(found),
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
        "troubled": queries.retried(found)[:50],
        "run_url": _run_url() if found.state != Night.State.DONE else "",
        "may_run": may_publish(request.user),
    }
    answer = http.page(request, "stages/night.html", context)
    if getattr(request, "htmx", None) and not is_running:
        # The progress that was being watched is over: show the whole page with its result.
        answer["HX-Refresh"] = "true"
    return answer

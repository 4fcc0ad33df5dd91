"""The versions of the rules: kinds of shop, drafts and what they would do, publishing and going back."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from customers.queries import shown_name
from customers.sentences import say
from lifecycle_crm.accounts.callers import may, need, only, person, signed_in
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock, http
from lifecycle_crm.lib.errors import Conflict, DomainError, InvalidInput, NotFound
from lifecycle_crm.lib.numbers import row_number
from lifecycle_crm.templatetags.crm import num, pct, signed
from stages import backtest, checks, presets, queries, rulesets, thresholds
from stages import rules as rulebook
from stages.forms import RulesForm, ThresholdForm
from stages.models import Backtest, RuleSet, StageKey
from stages.queries import NEW
from stages.rules import Rules
from stages.rulesets import Mover
from stages.views.parts import crumbs, matrix, roof_url, told

MOVERS = 50
"""People on one page of those who would move."""


def get_rule_set(version: int) -> RuleSet:
    found = queries.rule_set(version)
    if found is None:
        raise NotFound(_("There is no version %(version)d of the rules.") % {"version": version})
    return found


# --- Kinds of shop ----------------------------------------------------------------------------------------------------


@require_POST
@only(User.may_steer)
def install(request: HttpRequest) -> HttpResponse:
    rule_set = presets.install()
    messages.success(request, _("%(name)s is in force.") % {"name": rule_set})
    return redirect("stages:overview")


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
            "crumbs": crumbs((_("Kinds of shop"), "")),
            "presets": [_preset(one, rhythm, now) for one in presets.PRESETS],
            "rhythm": rhythm,
            "repeaters": repeaters,
            "is_guess": repeaters < presets.ENOUGH_REPEATERS,
            "rule_set": current,
            "may_publish": may(request, User.may_steer),
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
@only(User.may_steer)
def draft_preset(request: HttpRequest, key: str) -> HttpResponse:
    chosen = presets.preset(key)
    if chosen is None:
        raise NotFound(_("There is no such kind of shop."))
    rhythm, repeaters = presets.rhythm_days()
    made = rulesets.draft(
        based_on=None,
        rules=presets.default_rules(rhythm, chosen),
        actor=person(request),
        name=_(chosen.name),
        note=presets.rhythm_note(rhythm, repeaters),
    )
    return redirect("stages:rules", version=made.version)


# --- One version ------------------------------------------------------------------------------------------------------


@require_POST
@only(User.may_steer)
def make_draft(request: HttpRequest) -> HttpResponse:
    base = queries.published()
    if base is None:
        raise Conflict(_("Install the default rules first; a draft starts from them."))
    made = rulesets.draft(based_on=base, rules=None, actor=person(request))
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
    rule_set = get_rule_set(version)
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
    rule_set = get_rule_set(version)
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
    need(request, User.may_steer)
    if rule_set.state != RuleSet.State.DRAFT:
        raise Conflict(
            _("Version %(version)d is no draft, so it stays as it is. Make a new draft.")
            % {"version": rule_set.version}
        )


def _rules_page(request: HttpRequest, rule_set: RuleSet, form: RulesForm, edit: ThresholdForm) -> HttpResponse:
    parsed = rulebook.parse(rule_set.rules)
    is_draft = rule_set.state == RuleSet.State.DRAFT
    previous = queries.previous(rule_set)
    in_words = [told(rule) for rule in parsed]
    context: dict[str, Any] = {
        "crumbs": crumbs((_("Version %(version)d") % {"version": rule_set.version}, "")),
        "rule_set": rule_set,
        "rules": in_words,
        "form": form,
        "is_draft": is_draft,
        "is_retired": rule_set.state == RuleSet.State.RETIRED,
        "may_publish": may(request, User.may_steer),
        "previous": previous,
        "changes": rulesets.differences(rulebook.parse(previous.rules), parsed) if previous else [],
    }
    if is_draft:
        edit_groups = edit.groups()
        last = len(in_words) - 1
        here = {rule.key for rule in parsed}
        context |= _preview(rule_set.version, parsed, request.user) | {
            "edit": edit,
            "edit_rules": [
                {**one, "lines": edit_groups[i], "first": i == 0, "last": i == last, "lowest": i == last - 1}
                for i, one in enumerate(in_words)
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
            "effects_url": roof_url("rules-effects", rule_set.version),
            "backtests": [_test_line(test) for test in queries.backtests(rule_set)[:3]],
            "months": backtest.MONTHS,
        }
    errors = bool(form.errors or edit.errors)
    return http.page(request, "stages/rules.html", context, status=422 if errors else 200)


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


def _preview(version: int, rules: Rules, user: Any) -> dict[str, Any]:
    def movers_url(source: str, target: str) -> str:
        if source == target:
            return queries.people_url(stage=source)
        return f"{reverse('stages:rules-movers', args=[version])}?{urlencode({'from': source, 'to': target})}"

    now = clock.whole_now()
    then = rulesets.what_if(rules, now)
    current = queries.published()
    tonight = rulesets.what_if(rulebook.parse(current.rules), now, sample=0).moving if current else 0
    before, after = then.before(), then.after()
    return {
        "what_if": then,
        "sample": _named(then.sample, user),
        "share": pct(then.moving / then.total, 1) if then.total else "",
        "tonight": tonight,
        "brake": rulesets.needs_brake(then),
        "matrix": matrix(then.standing, movers_url, stays=True),
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


def _named(movers: list[Mover], user: Any) -> list[dict[str, Any]]:
    return [{"mover": mover, "name": shown_name(mover.customer, user)} for mover in movers]


@require_GET
def movers(request: HttpRequest, version: int) -> HttpResponse:
    """Everybody behind a number of the what-if, with both reasons: all movers, or those ``from`` one stage ``to`` another."""
    rule_set = get_rule_set(version)
    source, target = request.GET.get("from", ""), request.GET.get("to", "")
    pair = (source, target) if source or target else None
    if pair is not None and (source not in (NEW, *StageKey.values) or target not in StageKey.values):
        raise InvalidInput(_("Say between which two stages, such as ?from=retain&to=dormant."))
    parsed, now = rulebook.parse(rule_set.rules), clock.whole_now()
    then = rulesets.what_if(parsed, now, sample=0)
    count = then.moves.get(pair, 0) if pair else then.moving
    page = Paginator(range(count), MOVERS).get_page(request.GET.get("page"))
    found = rulesets.movers(parsed, now, pair=pair, limit=MOVERS, offset=MOVERS * (page.number - 1))
    return http.page(
        request,
        "stages/movers.html",
        {
            "crumbs": crumbs(
                (_("Version %(version)d") % {"version": version}, reverse("stages:rules", args=[version])),
                (_("Who would move"), ""),
            ),
            "rule_set": rule_set,
            "source": source,
            "target": target,
            "page": page,
            "count": count,
            "sample": _named(found, request.user),
        },
    )


@require_GET
def changes(request: HttpRequest, version: int) -> HttpResponse:
    """What differs between a version and another one (``against``; without it the version before), in words."""
    rule_set = get_rule_set(version)
    against = row_number(request.GET.get("against"))
    other = queries.previous(rule_set) if against is None else get_rule_set(against)
    return http.page(
        request,
        "stages/changes.html",
        {
            "crumbs": crumbs(
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
            "may_publish": may(request, User.may_steer),
        },
    )


# --- In force ---------------------------------------------------------------------------------------------------------


@require_POST
@only(User.may_steer)
def publish(request: HttpRequest, version: int) -> HttpResponse:
    rule_set = get_rule_set(version)
    mode = request.POST.get("mode", RuleSet.Mode.QUIET)
    if request.POST.get("do") == "ask":
        rulesets.request_approval(rule_set=rule_set, actor=signed_in(request), mode=mode)
        messages.success(request, _("Somebody else can publish this version now. Send them the address of this page."))
        return redirect("stages:rules", version=version)
    rulesets.release(
        rule_set=rule_set,
        actor=person(request),
        mode=mode,
        confirm=request.POST.get("confirm", ""),
    )
    _say_published(request, version, mode)
    return redirect("stages:overview")


@require_POST
@only(User.may_steer)
def approve(request: HttpRequest, version: int) -> HttpResponse:
    done = rulesets.approve(rule_set=get_rule_set(version), actor=signed_in(request))
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
@only(User.may_steer)
def follow(request: HttpRequest, version: int) -> HttpResponse:
    rulesets.rebase(rule_set=get_rule_set(version))
    messages.success(request, _("The draft follows the version in force now."))
    return redirect("stages:rules", version=version)


@require_POST
@only(User.may_steer)
def discard(request: HttpRequest, version: int) -> HttpResponse:
    rulesets.discard(rule_set=get_rule_set(version))
    messages.success(request, _("Draft %(version)d is gone.") % {"version": version})
    return redirect("stages:overview")


@require_POST
@only(User.may_steer)
def restore(request: HttpRequest, version: int) -> HttpResponse:
    again = rulesets.roll_back(to=get_rule_set(version), actor=person(request))
    messages.success(
        request,
        _("Version %(new)d is in force, with the rules of version %(old)d.") % {"new": again.version, "old": version},
    )
    return redirect("stages:overview")

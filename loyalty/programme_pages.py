"""The staff's pages of programmes: all of them side by side, one with its rules and tiers, and the editors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db.models import F, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from customers.models import Customer
from customers.queries import shown_name
from lifecycle_crm.lib import clock, http
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.templatetags.crm import money, num
from loyalty import callers, presets, rules, sentences, tiers, trial, whatif
from loyalty import programme as programmes
from loyalty.models import Account, EarningRule, Ladder, Programme
from loyalty.programme_forms import LadderForm, ProgrammeForm, RuleForm, TrialForm


def _crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    first = [(_("Loyalty"), reverse("loyalty:overview")), (_("Programmes"), reverse("loyalty:programmes"))]
    return [{"label": label, "url": url} for label, url in (*first, *more)]


def _at(programme: Programme) -> tuple[str, str]:
    return programme.name, reverse("loyalty:programme", args=[programme.key])


# --- All of them ------------------------------------------------------------------------------------------------------


@require_GET
def programme_list(request: HttpRequest) -> HttpResponse:
    """All programmes side by side, and the presets that are not installed yet."""
    main = Programme.current()
    now = clock.now()
    owed = dict(Account.objects.values_list("programme").annotate(owed=Sum(F("balance") + F("pending"))).order_by())
    found = [
        {
            "programme": one,
            "is_main": one == main,
            "members": _members(one),
            "rules": rules.in_force(one, now).count(),
            "tiers": _tiers(one),
            "outstanding": owed.get(one.pk, 0),
        }
        for one in Programme.objects.all()
    ]
    context = {
        "found": found,
        "presets": [one for one in presets.PRESETS if not one.is_installed],
        "may_set_up": callers.may_set_up(request),
        "crumbs": _crumbs()[:1],
    }
    return http.page(request, "loyalty/programmes.html", context)


def _tiers(programme: Programme) -> list[tuple[str, int]]:
    """Names of the tiers, and how many people hold each."""
    people = tiers.members_per_tier(programme)
    return [(step.name, people.get(step.key, 0)) for step in programme.tiers.order_by("threshold")]


def _members(programme: Programme) -> int:
    """Who is in it: those who joined, or in a programme for everybody those who ever earned."""
    if programme.joining == Programme.Joining.ASKED:
        return programmes.members(programme, clock.now()).count()
    return Account.objects.filter(programme=programme).count()


@require_GET
@callers.for_those_who_set_up
def preset(request: HttpRequest, key: str) -> HttpResponse:
    """A preset before it is installed: what it says, and what it would have been on last year's orders and events."""
    one = presets.get(key)
    if one.is_installed:
        return redirect("loyalty:programme", one.key)
    found = whatif.of_preset(one)
    currency = settings.SHOP_CURRENCY
    year = found.answer.draft
    rows = [(_("Members in %(tier)s") % {"tier": name}, num(people)) for name, people in year.per_tier.items()]
    if found.rules:
        rows = [
            (_("Points given, less what refunds took back"), num(year.points)),
            (_("People who would have earned"), num(year.earners)),
            (_("Liability, if every point were redeemed"), money(year.liability_minor, currency)),
            (_("Cost, by the share that is redeemed here"), money(year.cost_minor, currency)),
            *rows,
        ]
    context = {"preset": one, "found": found, "rows": rows, "crumbs": _crumbs((str(one.name), ""))}
    return http.page(request, "loyalty/preset.html", context)


@require_POST
@callers.for_those_who_set_up
def preset_install(request: HttpRequest, key: str) -> HttpResponse:
    """One click: the programme with its tiers, rules and rewards."""
    made = presets.install(preset=presets.get(key), actor=callers.person(request))
    messages.success(request, _("“%(name)s” is installed and runs from now on.") % {"name": made.name})
    return redirect("loyalty:programme", made.key)


@require_http_methods(["GET", "HEAD", "POST"])
@callers.for_those_who_set_up
def programme_new(request: HttpRequest) -> HttpResponse:
    """A programme of one's own."""
    form = ProgrammeForm(request.POST if request.method == "POST" else None)
    return _edit_programme(request, form, None)


@require_http_methods(["GET", "HEAD", "POST"])
@callers.for_those_who_set_up
def programme_edit(request: HttpRequest, key: str) -> HttpResponse:
    """The programme's own fields."""
    programme = programmes.get(key)
    form = ProgrammeForm(request.POST if request.method == "POST" else None, programme=programme)
    return _edit_programme(request, form, programme)


def _edit_programme(request: HttpRequest, form: ProgrammeForm, programme: Programme | None) -> HttpResponse:
    status = 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                values = form.cleaned_data
                saved = programmes.edit(programme=programme, **values) if programme else programmes.create(**values)
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                messages.success(request, _("“%(name)s” is saved.") % {"name": saved.name})
                return redirect("loyalty:programme", saved.key)
    crumbs = _crumbs(_at(programme), (_("Change"), "")) if programme else _crumbs((_("New programme"), ""))
    return http.page(
        request,
        "loyalty/programme_edit.html",
        {"form": form, "programme": programme, "crumbs": crumbs},
        status=status,
    )


@require_POST
@callers.for_those_who_set_up
def programme_switch(request: HttpRequest, key: str) -> HttpResponse:
    """Stop a programme, or let it go on."""
    programme = programmes.get(key)
    if programme.is_active:
        programmes.stop(programme=programme)
        messages.success(request, _("“%(name)s” is stopped. What people have stays theirs.") % {"name": programme.name})
    else:
        programmes.start(programme=programme)
        messages.success(request, _("“%(name)s” goes on.") % {"name": programme.name})
    return redirect("loyalty:programme", programme.key)


# --- One of them ------------------------------------------------------------------------------------------------------


@require_GET
def programme(request: HttpRequest, key: str) -> HttpResponse:
    """One programme: how it works in plain words, its rules, its tiers and who holds them."""
    one = programmes.get(key)
    names = tiers.names(one)
    held = tiers.members_per_tier(one)
    ladder = Ladder.objects.filter(programme=one).first()
    now = clock.now()
    held_now = list(rules.in_force(one, now))
    past = one.rules.filter(ends_at__lte=now).select_related("segment").order_by("-ends_at")[:20]
    context = {
        "programme": one,
        "is_main": one == Programme.current(),
        "members": _members(one),
        "sentences": sentences.programme(one),
        "rules": [
            (rule, sentences.rule(rule, names), _doubled(rules.overlapping(rule, held_now))) for rule in held_now
        ],
        "past": [(rule, sentences.rule(rule, names)) for rule in past],
        "kinds": EarningRule.Kind.choices,
        "ladder": ladder,
        "ladder_words": sentences.ladder(ladder) if ladder and names else [],
        "tiers": [
            (tier, _amount(ladder, tier.threshold), held.get(tier.key, 0)) for tier in one.tiers.order_by("threshold")
        ],
        "tier_months": _tier_months(one, names),
        "rewards": list(one.rewards.filter(is_active=True).order_by("points", "name")[:12]),
        "has_points": one.kind == Programme.Kind.POINTS,
        "may_set_up": callers.may_set_up(request),
        "crumbs": _crumbs((one.name, "")),
    }
    return http.page(request, "loyalty/programme.html", context)


def _doubled(others: Sequence[EarningRule]) -> str:
    """Which other rules pay for the same, as a sentence; empty where none does."""
    if not others:
        return ""
    names = sentences.listed([f"“{one.name}”" for one in others])
    return _("Some people get points for the same by %(names)s, too: both are given.") % {"names": names}


def _tier_months(programme: Programme, names: Mapping[str, str]) -> list[tuple[date, list[int], list[tuple[str, int]]]]:
    """Per month, the last first: how many hold each tier at its end, and who went where within it, in words."""
    if not names:
        return []
    nobody = _("no tier")
    order = list(names)
    return [
        (
            one.first,
            [one.members.get(key, 0) for key in order],
            [
                (f"{names.get(before, before) or nobody} → {names.get(after, after) or nobody}", number)
                for (before, after), number in sorted(one.moves.items(), key=lambda move: (-move[1], move[0]))
            ],
        )
        for one in reversed(tiers.by_month(programme, clock.today()))
    ]


def _amount(ladder: Ladder | None, number: int) -> str:
    if ladder is not None and ladder.measure == Ladder.Measure.SPEND:
        return money(number, settings.SHOP_CURRENCY)
    return num(number)


# --- Rules ------------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
@callers.for_those_who_set_up
def rule_new(request: HttpRequest, key: str, kind: str) -> HttpResponse:
    """A rule of one kind: preview it in words, see what last year would have been, then add it."""
    of = programmes.get(key)
    if kind not in EarningRule.Kind.values:
        raise NotFound(_("There is no such kind of rule. Choose one from the programme's page."))
    form = RuleForm(request.POST if request.method == "POST" else None, kind=kind, programme=of)
    return _edit_rule(request, of, kind, form, None)


@require_http_methods(["GET", "HEAD", "POST"])
@callers.for_those_who_set_up
def rule_edit(request: HttpRequest, pk: int) -> HttpResponse:
    """A change is a new version: what was earned stays as it was."""
    rule = rules.get(pk)
    of = rule.programme
    form = RuleForm(
        request.POST if request.method == "POST" else None, kind=rule.kind, programme=of, rule=rule
    )  # fmt: skip
    return _edit_rule(request, of, rule.kind, form, rule)


def _edit_rule(
    request: HttpRequest, of: Programme, kind: str, form: RuleForm, rule: EarningRule | None
) -> HttpResponse:
    status, preview, doubled, answer, outcome = 200, "", "", None, None
    is_tried = "try" in request.POST
    tried = TrialForm(request.POST if is_tried else None, kind=kind, prefix="try")
    if form.is_bound:
        status = 422
        if form.is_valid() and (not is_tried or tried.is_valid()):
            try:
                draft = rules.drafted(of, kind, form.verb(), rule)
                preview, doubled = sentences.rule(draft), _doubled(rules.overlapping(draft))
                if "ask" in request.POST:
                    answer = whatif.ask(programme=of, draft=whatif.Draft(rules=whatif.rules_with(of, draft)))
                    status = 200
                elif is_tried:
                    outcome = trial.ask(programme=of, rule=draft, **tried.verb())
                    status = 200
                elif "preview" in request.POST:
                    status = 200
                else:
                    _save(of, kind, form.verb(), rule, request)
                    messages.success(request, _("The rule holds: %(sentence)s") % {"sentence": preview})
                    if doubled:
                        messages.warning(request, doubled)
                    return redirect("loyalty:programme", of.key)
            except DomainError as problem:
                field = problem.extra.get("field")
                form.add_error(field if field in form.fields else None, problem.message)
                status = problem.status
    context = {
        "programme": of,
        "rule": rule,
        "kind": EarningRule.Kind(kind).label,
        "form": form,
        "tried": tried,
        "outcome": outcome,
        "preview": preview,
        "doubled": doubled,
        "today": sentences.rule(rule) if rule else "",
        "comparison": _comparison(answer, request) if answer else None,
        "crumbs": _crumbs(_at(of), (rule.name if rule else _("New rule"), "")),
    }
    return http.page(request, "loyalty/rule.html", context, status=status)


def _save(of: Programme, kind: str, values: dict[str, Any], rule: EarningRule | None, request: HttpRequest) -> None:
    actor = callers.person(request)
    if rule is not None:
        rules.edit(rule=rule, actor=actor, **values)
    else:
        rules.create(programme=of, kind=kind, actor=actor, **values)


@require_POST
@callers.for_those_who_set_up
def rule_stop(request: HttpRequest, pk: int) -> HttpResponse:
    """Nothing is earned by it from now on."""
    rule = rules.stop(rule=rules.get(pk))
    messages.success(request, _("“%(name)s” is stopped. What was earned stays.") % {"name": rule.name})
    return redirect("loyalty:programme", rule.programme.key)


# --- Tiers ------------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
@callers.for_those_who_set_up
def tier_edit(request: HttpRequest, key: str) -> HttpResponse:
    """All tiers of a programme at once: see who would move, then save."""
    of = programmes.get(key)
    form = LadderForm(request.POST if request.method == "POST" else None, programme=of)
    status, answer = 200, None
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                if "ask" in request.POST:
                    tiers.check(programme=of, **form.verb())
                    how = {name: value for name, value in form.verb().items() if name != "steps"}
                    draft = whatif.Draft(steps=form.verb()["steps"], ladder=Ladder(programme=of, **how))
                    answer = whatif.ask(programme=of, draft=draft)
                    status = 200
                else:
                    tiers.set_ladder(programme=of, **form.verb())
                    messages.success(request, _("The tiers are saved. Everybody is looked at again."))
                    return redirect("loyalty:programme", of.key)
            except DomainError as problem:
                field = problem.extra.get("field")
                form.add_error(field if field in form.fields else None, problem.message)
                status = problem.status
    context = {
        "programme": of,
        "form": form,
        "comparison": _comparison(answer, request) if answer else None,
        "crumbs": _crumbs(_at(of), (_("Tiers"), "")),
    }
    return http.page(request, "loyalty/tiers.html", context, status=status)


def _comparison(answer: whatif.Answer, request: HttpRequest) -> dict[str, Any]:
    """The answer as the page draws it: a row per number, today beside the draft."""
    currency = settings.SHOP_CURRENCY
    today, draft = answer.today, answer.draft
    rows = [
        (_("Points given, less what refunds took back"), num(today.points), num(draft.points)),
        (_("People who would have earned"), num(today.earners), num(draft.earners)),
        (_("Liability, if every point were redeemed"), money(today.liability_minor, currency),
         money(draft.liability_minor, currency)),
        (_("Cost, by the share that is redeemed here"), money(today.cost_minor, currency),
         money(draft.cost_minor, currency)),
    ]  # fmt: skip
    for name in [*today.per_tier, *(one for one in draft.per_tier if one not in today.per_tier)]:
        before, after = today.per_tier.get(name), draft.per_tier.get(name)
        rows.append(
            (
                _("Members in %(tier)s") % {"tier": name},
                "–" if before is None else num(before),
                "–" if after is None else num(after),
            )
        )
    people = Customer.objects.in_bulk(list(answer.fallen))
    return {
        "answer": answer,
        "rows": rows,
        "fallen": [
            (pk, shown_name(people[pk], request.user)) for pk in answer.fallen if pk in people
        ],
    }  # fmt: skip

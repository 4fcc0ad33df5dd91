"""The pages of experiments: the list, the set-up, and the result with the verdict first."""

from __future__ import annotations

import csv
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from campaigns import texts
from campaigns.experiment_chart import drawn
from campaigns.experiment_forms import ExperimentForm
from campaigns.experiments import asking, chances, deciding, life, reading, words
from campaigns.models import Campaign, Experiment, ExperimentDay, ExperimentVerdict
from lifecycle_crm.accounts.callers import may, only, person
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.lib.http import page
from lifecycle_crm.lib.intervals import wilson
from lifecycle_crm.lib.money import from_minor
from lifecycle_crm.lib.numbers import row_number
from lifecycle_crm.templatetags.crm import day, money, num, pct

PAGE = 50
DAYS_SHOWN = 14
"""All are in the CSV."""


def _experiment(pk: int) -> Experiment:
    found = reading.experiments().filter(pk=pk).first()
    if found is None:
        raise NotFound(_("There is no such experiment. The list names them all."))
    return found


def _crumbs(here: str) -> list[dict[str, str]]:
    return [{"label": _("Experiments"), "url": reverse("campaigns:experiments")}, {"label": here}]


@require_GET
def experiment_list(request: HttpRequest) -> HttpResponse:
    found = reading.experiments()
    if before := row_number(request.GET.get("before")):
        found = found.filter(pk__lt=before)
    rows = list(found[: PAGE + 1])
    days = reading.days_of(one.pk for one in rows)
    lines = []
    for one in rows[:PAGE]:
        stands = reading.progress(one, days.get(one.pk, []))
        lines.append(
            {"experiment": one, "mark": words.mark(one), "status": words.status(one, stands), "people": stands.whole,
             "chance": words.chance(words.verdict_of(one))}
        )  # fmt: skip
    context = {
        "lines": lines,
        "next_before": rows[PAGE - 1].pk if len(rows) > PAGE else None,
        "may_steer": may(request, User.may_steer),
    }
    return page(request, "campaigns/experiments.html", context)


@only(User.may_steer)
@require_http_methods(["GET", "POST"])
def experiment_new(request: HttpRequest) -> HttpResponse:
    form = ExperimentForm(request.POST or None, initial={"campaign": request.GET.get("campaign", "")})
    if request.method == "POST" and form.is_valid():
        try:
            made = asking.create(**form.wanted(), actor=person(request))
        except DomainError as problem:
            field = str(problem.extra.get("field", ""))
            form.add_error(field if field in form.fields else None, problem.message)
        else:
            return redirect("campaigns:experiment", made.pk)
    context = {"form": form, "crumbs": _crumbs(_("New experiment"))}
    return page(request, "campaigns/experiment_new.html", context, status=422 if form.errors else 200)


@require_GET
def experiment(request: HttpRequest, pk: int) -> HttpResponse:
    """A draft with the answer before the start, or how it stands with the verdict first."""
    one = _experiment(pk)
    is_draft = one.state == Experiment.State.DRAFT
    versions = list(one.versions.select_related("template").order_by("label"))
    context: dict[str, Any] = {
        "experiment": one,
        "crumbs": _crumbs(one.name),
        "versions": [
            {
                "version": version, "words": words.label(version), "share": version.share / 100,
                "people": _people_url(version.pk),
            }
            for version in versions
        ],
        "may_steer": may(request, User.may_steer),
    }  # fmt: skip
    if is_draft:
        found = asking.answer(one)
        context |= {"answer": words.answer(one, found), "can_start": found.problem is None}
        return page(request, "campaigns/experiment_draft.html", context)
    days = reading.days_of([pk]).get(pk, [])
    verdict = words.verdict_of(one)
    stands = reading.progress(one, days)
    last = reading.latest(days) if days else []
    context |= {
        "status": words.status(one, stands),
        "mark": words.mark(one),
        "verdict": verdict,
        "why": words.why(verdict) if verdict else [],
        "numbers": [mark_safe(text) for text in words.numbers(one, verdict, _strong)] if verdict else [],
        "progress": stands,
        "charts": _charts(one, verdict.numbers) if verdict else None,
        "now": _actions(one, verdict, [v.label for v in versions]),
        "also": _also(one),
        "counts": [_counts(one, row) for row in last],
        "guards": [_guards(row) for row in last] if any(row.people for row in last) else [],
        "days": _days(one, days),
        "balance": _balance(last, [v.share for v in versions]),
        "threshold": pct(deciding.THRESHOLD, 1),
        "history": _history(one, verdict),
    }
    return page(request, "campaigns/experiment.html", context)


def _strong(text: str) -> str:
    return format_html("<strong>{}</strong>", conditional_escape(text))


def _people_url(version: int) -> str:
    return f"{reverse('campaigns:outbox')}?version={version}"


def _charts(one: Experiment, numbers: dict[str, Any]) -> dict[str, Any] | None:
    """A row per version with its range, the difference with the line of none, and the table under both."""
    versions = numbers.get("versions", [])
    if not versions:
        return None
    between = _("%(low)s to %(high)s")

    def text(low: float, high: float) -> str:
        return between % {"low": words.value(one, low), "high": words.value(one, high)}

    rows = [(v["label"], words.value(one, v["value"]), v["value"], v["low"], v["high"]) for v in versions]
    pair = f"{numbers['leader']} − {numbers['other']}"
    gap = (pair, words.value(one, numbers["gap"]), numbers["gap"], numbers["low"], numbers["high"])
    table = [
        [name, {"text": shown, "num": True}, {"text": text(low, high), "num": True}]
        for name, shown, _value, low, high in [*rows, gap]
    ]
    return {
        "versions": drawn(rows),
        "gap": drawn([gap], with_zero=True),
        "columns": [
            {"label": _("Version")},
            {"label": one.get_measure_display(), "num": True},
            {"label": _("Likely range (95%)"), "num": True},
        ],
        "rows": table,
    }


def _actions(one: Experiment, verdict: ExperimentVerdict | None, labels: list[str]) -> dict[str, Any]:
    """Which buttons are there now."""
    is_running = one.state == Experiment.State.RUNNING
    is_told = verdict is not None and verdict.kind != ExperimentVerdict.Kind.CANNOT_TELL
    can_use = is_running and is_told and one.campaign.kind != Campaign.Kind.BROADCAST
    first = verdict.winner.label if verdict and verdict.winner else ""
    found = {
        "use": sorted(labels, key=lambda label: (label != first, label)) if can_use else [],
        "winner": first,
        "waits": is_running and verdict is None,
        "stop": is_running,
        "again": (verdict is not None or not is_running) and asking.may_be_asked(one.campaign),
        "once": is_running and is_told and not can_use,
        "chosen": one.chosen.label if one.chosen else "",
    }
    return found if any(found[name] for name in ("stop", "again", "chosen")) else {}


def _also(one: Experiment) -> list[Campaign]:
    """Other campaigns that say the text which taking a version would change."""
    return [campaign for campaign in texts.in_use(one.campaign.template) if campaign.pk != one.campaign_id]


def _measured(one: Experiment, row: ExperimentDay) -> tuple[float, float, float] | None:
    if not row.people:
        return None
    if one.is_money:
        return chances.mean_range(row.people, row.spent_minor, row.spent_squares)
    hits = row.clicked if one.measure == Experiment.Measure.CLICK else row.ordered
    return (hits / row.people, *wilson(hits, row.people))


def _counts(one: Experiment, row: ExperimentDay) -> dict[str, Any]:
    found = _measured(one, row)
    return {
        "row": row,
        "value": words.value(one, found[0] if found else None),
        "spent": money(row.spent_minor, settings.SHOP_CURRENCY),
    }


def _guards(row: ExperimentDay) -> dict[str, Any]:
    def share(n: int) -> str:
        return pct(n / row.people, 2) if row.people else "–"

    each = money(round(row.spent_minor / row.people), settings.SHOP_CURRENCY) if row.people else "–"
    return {
        "label": row.version.label,
        "unsubscribed": share(row.unsubscribed),
        "complained": share(row.complained),
        "each": each,
    }


def _days(one: Experiment, days: list[ExperimentDay]) -> list[dict[str, Any]]:
    """A row per day, the newest first, with the measure of each version in order."""
    found: dict[Any, list[str]] = {}
    for row in days:
        measured = _measured(one, row)
        found.setdefault(row.business_date, []).append(words.value(one, measured[0] if measured else None))
    return [{"day": day, "values": values} for day, values in list(reversed(found.items()))[:DAYS_SHOWN]]


def _balance(last: list[ExperimentDay], shares: list[int]) -> str:
    if not last or not sum(row.joined for row in last):
        return ""
    chance = chances.balance([row.joined for row in last], shares)
    if chance < deciding.UNEVEN:
        return _("Uneven: chance alone makes groups like these less than once in 1,000 times.")
    return _("As even as chance makes them (p = %(p)s).") % {"p": num(chance, 3)}


def _history(one: Experiment, verdict: ExperimentVerdict | None) -> list[str]:
    """What was changed when, and by whom."""

    def said(what: str, at: Any, who: Any) -> str:
        return f"{day(at)}: {what}{f' ({who})' if who else ''}"

    found = [said(_("Made"), one.created_at, one.created_by), said(_("Started"), one.started_at, one.started_by)]
    if verdict is not None:
        found.append(said(_("Verdict"), verdict.business_date, None))
    if one.ended_at is not None:
        what = _("%(version)s for everyone") % {"version": one.chosen.label} if one.chosen else _("Stopped")
        found.append(said(what, one.ended_at, one.ended_by))
    return found


@only(User.may_steer)
@require_POST
def experiment_act(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Start, stop, discard, take a version for everyone, or ask again."""
    one = _experiment(pk)
    actor = person(request)
    if verb == "discard":
        life.discard(experiment=one)
        return redirect("campaigns:experiments")
    if verb == "again":
        return redirect("campaigns:experiment", life.ask_again(experiment=one, actor=actor).pk)
    if verb == "start":
        life.start(experiment=one, actor=actor)
        messages.success(request, _("Started. From now on chance decides who gets which version."))
    elif verb == "stop":
        life.stop(experiment=one, actor=actor)
        messages.success(request, _("Stopped. Everybody gets what the campaign says."))
    else:
        label = request.POST.get("version", "")
        life.use_for_everyone(experiment=one, label=label, actor=actor)
        messages.success(request, _("From now on everybody gets %(version)s.") % {"version": label})
    return redirect("campaigns:experiment", pk)


@require_GET
def experiment_csv(request: HttpRequest, pk: int) -> HttpResponse:
    """What the nights kept, for a machine: comma, point, ISO dates."""
    one = _experiment(pk)
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{one.key}.csv"'
    writer = csv.writer(answer)
    writer.writerow(
        ["date", "version", "joined", "people", "clicked", "ordered", "spent", "currency", "unsubscribed", "complained",
         "failed"]
    )  # fmt: skip
    for row in reading.days_of([pk]).get(pk, []):
        writer.writerow(
            [row.business_date, row.version.label, row.joined, row.people, row.clicked, row.ordered,
             from_minor(row.spent_minor, settings.SHOP_CURRENCY), settings.SHOP_CURRENCY, row.unsubscribed,
             row.complained, row.failed]
        )  # fmt: skip
    return answer

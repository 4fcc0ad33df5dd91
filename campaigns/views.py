"""Parse, call, render. What happens is in ``audience``, ``runs`` and ``links``."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from campaigns import audience, checks, gate, letters, limits, queries, reactivation, runs, uplift
from campaigns.channels import sms
from campaigns.errors import BrokenTemplate
from campaigns.experiments import asking
from campaigns.forms import BroadcastForm
from campaigns.frames import framed
from campaigns.models import Campaign, Channel, Experiment, Message, Rendering, Run
from customers.models import Customer
from customers.queries import initials
from lifecycle_crm.accounts.callers import may, need, only, sees_contacts
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError
from lifecycle_crm.lib.http import page
from lifecycle_crm.lib.numbers import row_number
from lifecycle_crm.templatetags.crm import num, pct, stage_name

PAGE = 50
RUNS_SHOWN = 20
NARROWED_BY = ("reason", "run", "campaign", "customer", "version")
"""What the address of the outbox may name besides a state."""


def _as_seen(request: HttpRequest, *customers: Customer | None) -> None:
    """Put initials in the place of names, for this page only, where the reader may not see who it is."""
    if not sees_contacts(request):
        for one in customers:
            if one is not None:
                one.name, one.email, one.phone = initials(one), "", ""


def _message_as_seen(request: HttpRequest, *rows: Message) -> None:
    _as_seen(request, *(row.customer for row in rows))
    if not sees_contacts(request):
        for row in rows:
            if row.address:
                row.error = row.error.replace(row.address, "…")
            row.address = ""


# --- Staff ------------------------------------------------------------------------------------------------------------


def _run_line(run: Run, states: dict[str, int]) -> dict[str, Any]:
    return {
        "run": run,
        "sums": queries.sums(states),
        "sent": states.get("sent", 0),
        "done": sum(n for state, n in states.items() if state not in Message.OPEN),
        "open": sum(states.get(state, 0) for state in Message.OPEN),
        "in_doubt": states.get("in_doubt", 0),
    }


def _crumbs(here: str) -> list[dict[str, str]]:
    return [{"label": _("Campaigns"), "url": reverse("campaigns:list")}, {"label": here}]


@require_GET
def campaign_list(request: HttpRequest) -> HttpResponse:
    campaigns = list(queries.campaigns().exclude(kind=Campaign.Kind.JOURNEY)[:PAGE])
    totals = queries.states_of_campaigns([one.pk for one in campaigns])
    lines = [
        {
            "campaign": one,
            "states": totals.get(one.pk, {}),
            "sums": queries.sums(totals.get(one.pk, {})),
            "box_url": f"{reverse('campaigns:outbox')}?campaign={one.pk}&",
        }
        for one in campaigns
    ]
    context = {
        "lines": lines,
        "waiting": reactivation.runs_waiting(),
        "hold": limits.standing(),
        "outages": queries.outages(),
        "is_local": settings.EMAIL["kind"] == "local",
        "may_send": may(request, User.may_steer),
    }
    return page(request, "campaigns/list.html", context)


@only(User.may_steer)
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    form = BroadcastForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        try:
            campaign = audience.draft(
                name=values["name"],
                template=values["template"],
                audience=audience.of_stages(values["stages"]),
                holdout_percent=values["holdout_percent"],
                user=request.user,
            )
        except DomainError as problem:
            form.add_error(None, problem.message)
        else:
            return redirect("campaigns:detail", campaign.pk)
    return page(
        request,
        "campaigns/new.html",
        {"form": form, "crumbs": _crumbs(_("New message"))},
        status=422 if form.errors else 200,
    )


@require_GET
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    campaign = get_object_or_404(queries.campaigns(), pk=pk)
    runs = list(campaign.runs.select_related("campaign")[:RUNS_SHOWN])
    states = queries.states_of(run.pk for run in runs)
    is_draft = campaign.state == Campaign.State.DRAFT
    examples = audience.examples(campaign)
    chosen = _chosen(request, examples)
    _as_seen(request, chosen, *examples)
    totals = queries.states_of_campaigns([campaign.pk]).get(campaign.pk, {})
    context = {
        "campaign": campaign,
        "crumbs": _crumbs(campaign.name),
        "box_url": f"{reverse('campaigns:outbox')}?campaign={campaign.pk}&",
        "hold": limits.standing(),
        "alarm": _alarm(campaign),
        "outages": [one for one in queries.outages() if one.channel == campaign.channel],
        "needs_provider": campaign.channel == Channel.SMS and not sms.is_set_up(),
        "parts": queries.parts_of_campaign(campaign) if campaign.channel == Channel.SMS and not is_draft else None,
        "runs": [_run_line(run, states.get(run.pk, {})) for run in runs],
        "sums": queries.sums(totals),
        "total": sum(totals.values()),
        "forecast": _forecast(request, campaign) if is_draft else None,
        "reasons": [
            (state, reason, label, n)
            for state, reason, n in queries.reasons_of_campaign(campaign)
            if (label := dict(Message.Reason.choices).get(reason))
        ],
        "after": None if is_draft else _after(campaign),
        "effect": None if is_draft else _effect(campaign),
        "examples": examples,
        "chosen": chosen,
        "preview": _preview_head(campaign, chosen) if sees_contacts(request) else {"hidden": True},
        "stages": campaign.audience.get("value", []) if campaign.audience.get("fact") == "stage" else [],
        "is_local": campaign.channel == Channel.EMAIL and settings.EMAIL["kind"] == "local",
        "may_send": may(request, User.may_steer),
        "experiments": (found := list(campaign.experiments.order_by("-id")[:3])),
        "may_test": may(request, User.may_steer)
        and asking.may_be_asked(campaign)
        and not any(one.state == Experiment.State.RUNNING for one in found),
    }
    return page(request, "campaigns/detail.html", context)


def _after(campaign: Campaign) -> dict[str, Any]:
    """Who opened and pressed, told apart from machines, and what was ordered in the days of credit."""
    seen = queries.visits_of_campaign(campaign)
    names = {"click": _("Pressed a link")}
    if campaign.channel == Channel.EMAIL:
        names["open"] = _("Opened")
    return {
        "visits": [
            {
                "label": label,
                "human": seen.get((what, "human"), 0),
                "machine": seen.get((what, "machine"), 0),
                "unknown": seen.get((what, "unknown"), 0) + seen.get((what, ""), 0),
            }
            for what, label in names.items()
        ],
        "links": queries.links_of_campaign(campaign),
        "orders": queries.orders_after(campaign),
        "currency": settings.SHOP_CURRENCY,
    }


def _alarm(campaign: Campaign) -> dict[str, Any]:
    """What the circuit breaker saw, as a sentence."""
    seen = campaign.alarm
    if not seen:
        return {}
    share = pct(seen["seen"] / seen["of"], 2)
    numbers = {"n": num(seen["seen"]), "of": num(seen["of"]), "share": share, "hours": seen["hours"]}
    sentences = {
        "complaint": ngettext(
            "Within %(hours)s hour, %(n)s of %(of)s messages were marked as spam (%(share)s).",
            "Within %(hours)s hours, %(n)s of %(of)s messages were marked as spam (%(share)s).",
            seen["hours"],
        ),
        "hard_bounce": ngettext(
            "Within %(hours)s hour, %(n)s of %(of)s messages went to addresses that do not exist (%(share)s).",
            "Within %(hours)s hours, %(n)s of %(of)s messages went to addresses that do not exist (%(share)s).",
            seen["hours"],
        ),
    }
    return {
        "stopped": seen["level"] == "stop" and campaign.state == Campaign.State.PAUSED,
        "sentence": sentences[seen["kind"]] % numbers,
    }


def _chosen(request: HttpRequest, examples: list[Customer]) -> Customer | None:
    if wanted := row_number(request.GET.get("customer")):
        found = Customer.objects.filter(pk=wanted).first()
        if found:
            return found
    return examples[0] if examples else None


def _preview_head(campaign: Campaign, customer: Customer | None) -> dict[str, str]:
    if customer is None:
        return {}
    try:
        made = letters.preview(campaign=campaign, customer=customer)
    except BrokenTemplate as problem:
        return {"problem": problem.message}
    address = reverse("campaigns:preview", args=[campaign.pk])
    takes = checks.said_of(made.measured) if made.measured else ""
    return {"subject": made.subject, "text": made.text, "takes": takes, "url": f"{address}?customer={customer.pk}"}


def _forecast(request: HttpRequest, campaign: Campaign) -> dict[str, Any]:
    seen = audience.forecast(campaign)
    names = dict(Message.Reason.choices)
    words = {gate.SEND: _("Would be sent now"), gate.HELD: _("Would wait"), gate.SKIPPED: _("Would be skipped")}
    people = Customer.objects.in_bulk([pk for pk, _outcome, _reason in seen.samples])
    _as_seen(request, *people.values())
    sample: dict[tuple[str, str], list[Customer]] = {}
    for pk, outcome, reason in seen.samples:
        sample.setdefault((outcome, reason), []).append(people[pk])
    return {
        "audience": seen.audience,
        "looked_at": seen.looked_at,
        "parts": seen.parts,
        "parts_of": seen.parts_of,
        "is_complete": seen.is_complete,
        "to_send": seen.to_send,
        "rows": [
            {
                "words": words.get(outcome, _("Held out")),
                "reason": names.get(reason, ""),
                "n": n,
                "people": sample.get((outcome, reason), []),
            }
            for outcome, reason, n in seen.counts
        ],
    }


def _effect(campaign: Campaign) -> dict[str, Any] | None:
    """Came back, with the message and without. Below the minimum: how many people are missing, and no number."""
    seen = reactivation.effect(campaign)
    if not seen["held_out"]:
        return None
    found = uplift.compare(
        uplift.Group(seen["treated"], seen["treated_back"]), uplift.Group(seen["held_out"], seen["held_out_back"])
    )
    shares = [
        {
            "label": label,
            "people": group.people,
            "back": group.reached,
            "share": "–" if group.share is None else pct(group.share, 1),
        }
        for group, label in ((found.treated, _("Were to get it")), (found.held_out, _("Held out")))
    ]
    return {
        "rows": shares,
        "have": min(seen["treated"], seen["held_out"]),
        "need": uplift.ENOUGH,
        "is_enough": found.is_enough,
        "said": uplift.sentence(campaign.name, found),
    }


@require_GET
def gate_page(request: HttpRequest, pk: int) -> HttpResponse:
    """What the gate would say of one customer now, and everything it asks."""
    campaign = get_object_or_404(Campaign, pk=pk)
    examples = audience.examples(campaign)
    chosen = _chosen(request, examples)
    _as_seen(request, chosen, *examples)
    names = dict(Message.Reason.choices)
    words = {gate.SEND: _("Would be sent now"), gate.HELD: _("Would wait"), gate.SKIPPED: _("Would be skipped")}
    verdict, asked = gate.answers(chosen.pk, campaign, clock.now()) if chosen else (None, [])
    rows = [
        {
            "asks": names.get(one.check, one.check),
            "words": words[one.verdict.outcome] if one.verdict else _("No"),
            "until": one.verdict.at if one.verdict else None,
            "mark": {gate.HELD: "warn", gate.SKIPPED: "bad"}.get(one.verdict.outcome, "ok") if one.verdict else "ok",
            "evidence": _facts(one.verdict.evidence) if one.verdict else [],
        }
        for one in asked
    ]
    crumbs = [*_crumbs(campaign.name)[:1], {"label": campaign.name, "url": reverse("campaigns:detail", args=[pk])}]
    context = {
        "campaign": campaign,
        "crumbs": [*crumbs, {"label": _("The gate")}],
        "examples": examples,
        "chosen": chosen,
        "words": words[verdict.outcome] if verdict else "",
        "reason": names.get(verdict.reason, "") if verdict else "",
        "until": verdict.at if verdict else None,
        "rows": rows,
    }
    return page(request, "campaigns/gate.html", context)


@only(User.may_steer)
@require_POST
def send(request: HttpRequest, pk: int) -> HttpResponse:
    run = audience.send(campaign=get_object_or_404(Campaign, pk=pk))
    said = ngettext("%(n)s person is in this send.", "%(n)s people are in this send.", run.audience)
    messages.success(request, said % {"n": num(run.audience)})
    return redirect("campaigns:detail", pk)


@only(User.may_steer)
@require_POST
def switch(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    campaign = get_object_or_404(Campaign, pk=pk)
    {"pause": runs.pause_campaign, "resume": runs.resume_campaign}[verb](campaign=campaign)
    return redirect("campaigns:detail", pk)


@only(User.may_steer)
@require_POST
def act(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Pause, resume, confirm or cancel one run."""
    run = get_object_or_404(Run, pk=pk)
    if verb == "cancel":
        count = runs.cancel(run=run)
        said = ngettext("%(n)s message was called off.", "%(n)s messages were called off.", count)
        messages.success(request, f"{said % {'n': num(count)}} {_out(run)}")
    elif verb == "confirm":
        runs.confirm(run=run, user=request.user)
    else:
        {"pause": runs.pause, "resume": runs.resume}[verb](run=run)
        if verb == "pause":
            messages.success(request, _out(run))
    return redirect("campaigns:detail", run.campaign_id)


def _out(run: Run) -> str:
    """How many are out already, which nothing calls back."""
    out = queries.out_already(run)
    said = ngettext("%(n)s message is out already.", "%(n)s messages are out already.", out)
    return said % {"n": num(out)}


@only(User.may_steer)
@require_POST
def lift(request: HttpRequest) -> HttpResponse:
    """Go on after everything was stopped."""
    limits.lift(user=request.user)
    messages.success(request, _("Sending goes on."))
    return redirect("campaigns:list")


@require_GET
def outbox_page(request: HttpRequest) -> HttpResponse:
    """Every message, newest first. Pages by the last id seen, so the thousandth costs what the first costs."""
    found = queries.messages()
    state, reason = request.GET.get("state", ""), request.GET.get("reason", "")
    run, before = request.GET.get("run", ""), request.GET.get("before", "")
    campaign, customer = request.GET.get("campaign", ""), request.GET.get("customer", "")
    if state in Message.State.values:
        found = found.filter(state=state)
    if reason in Message.Reason.values:
        found = found.filter(reason=reason)
    for field, value in (
        ("run_id", run),
        ("run__campaign_id", campaign),
        ("customer_id", customer),
        ("version_id", request.GET.get("version", "")),
        ("pk__lt", before),
    ):
        if number := row_number(value):
            found = found.filter(**{field: number})
    rows = list(found[: PAGE + 1])
    _message_as_seen(request, *rows)
    kept = {key: request.GET.get(key, "") for key in NARROWED_BY if request.GET.get(key)}
    counts = queries.outbox_counts()
    context = {
        "rows": rows[:PAGE],
        "next_before": rows[PAGE - 1].pk if len(rows) > PAGE else None,
        "tabs": _tabs(request, counts, state, kept),
        "total": sum(counts.values()),
        "is_narrow": bool(state or kept),
        "hold": limits.standing(),
        "outages": queries.outages(),
        "may_send": may(request, User.may_steer),
        "state": state,
        "is_local": settings.EMAIL["kind"] == "local",
    }
    return page(request, "campaigns/outbox.html", context)


def _tabs(request: HttpRequest, counts: dict[str, int], state: str, kept: dict[str, str]) -> list[dict[str, Any]]:
    def url(chosen: str) -> str:
        query = request.GET.copy()
        query.clear()
        query.update({**({"state": chosen} if chosen else {}), **kept})
        return f"?{query.urlencode()}"

    # With another filter on, counts over everything would be a number that does not match the list.
    tabs = [
        {"label": _("All"), "url": url(""), "active": not state, "count": "" if kept else num(sum(counts.values()))}
    ]
    tabs += [
        {"label": label, "url": url(key), "active": key == state, "count": "" if kept else num(n)}
        for key, label, n in queries.sums(counts)
    ]
    return tabs


@require_GET
def message(request: HttpRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(Message.objects.select_related("customer", "run__campaign", "consent", "rendering"), pk=pk)
    _message_as_seen(request, row)
    crumbs = [
        {"label": _("Outbox"), "url": reverse("campaigns:outbox")},
        {"label": str(row.run.campaign), "url": reverse("campaigns:detail", args=[row.run.campaign_id])},
        {"label": str(row.customer)},
    ]
    context = {
        "crumbs": crumbs,
        "message": row,
        "rendering": getattr(row, "rendering", None),
        "is_hidden": not sees_contacts(request),
        "evidence": _facts(row.verdict),
        "is_local": row.transport == "local"
        or (row.channel == Channel.EMAIL and not row.transport and settings.EMAIL["kind"] == "local"),
    }
    return page(request, "campaigns/message.html", context)


def _facts(verdict: dict[str, Any]) -> list[tuple[str, str]]:
    """What the gate looked at, in words."""
    names = {
        "zone": _("Their time zone"),
        "day": _("Their day"),
        "on_day": _("Messages that day"),
        "in_seven_days": _("Messages in seven days"),
        "open_cases": _("Open complaints"),
        "nps_score": _("Last NPS answer"),
        "stage": _("Stage"),
        "due": _("Was due"),
        "since": _("Since"),
        "provider": _("Mail provider"),
        "per_minute": _("Messages a minute"),
    }
    answer = []
    for key, label in names.items():
        if (value := verdict.get(key)) not in (None, ""):
            answer.append((label, stage_name(value) if key == "stage" else str(value)))
    return answer


# --- The message itself, in a frame that can do nothing ---------------------------------------------------------------


@require_GET
def message_html(request: HttpRequest, pk: int) -> HttpResponse:
    need(request, User.sees_contacts)  # it calls them by their name
    return framed(request, get_object_or_404(Rendering.objects.exclude(html=""), pk=pk).html)


@require_GET
def preview(request: HttpRequest, pk: int) -> HttpResponse:
    need(request, User.sees_contacts)
    by_mail = Campaign.objects.filter(channel=Channel.EMAIL)
    campaign = get_object_or_404(by_mail.select_related("template"), pk=pk)
    customer = get_object_or_404(Customer, pk=row_number(request.GET.get("customer")) or 0)
    return framed(request, letters.preview(campaign=campaign, customer=customer).html)

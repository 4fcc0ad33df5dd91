"""Buttons of a night: run it, look ahead, take it back. The verbs live at the roof, so the root URL conf hands them in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from campaigns.models import Message
from customers.models import Customer
from customers.queries import shown_name
from lifecycle_crm.accounts.callers import need
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import bell, clock, http
from lifecycle_crm.lib.errors import Conflict, NotFound
from lifecycle_crm.templatetags.crm import day, num
from stages import queries
from stages import rules as rulebook
from stages.models import Night
from stages.views.parts import matrix


@require_POST
def run_now(request: HttpRequest, open_night: Callable[[date], Night]) -> HttpResponse:
    """Open the oldest night that is missing, or the one that stopped, and ring for a worker."""
    need(request, User.may_steer)
    last, newest = queries.last_night(), clock.last_complete_day()
    if last is None:
        due = newest
    elif last.state != Night.State.DONE:
        due = last.business_date
    else:
        due = min(last.business_date + timedelta(days=1), newest)
    night = open_night(due)
    bell.ring("lifecycle_crm.tasks.night_tick")
    if night.state == Night.State.DONE:
        messages.info(request, _("The night of %(day)s is done already.") % {"day": day(night.business_date)})
    else:
        messages.success(request, _("The night of %(day)s is on its way.") % {"day": day(night.business_date)})
    return redirect("stages:night", day=night.business_date.isoformat())


NAMED = 50
"""How many movers a preview names."""


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise NotFound(_("%(day)s is not a date. Write it as 2026-11-20.") % {"day": text}) from None


def _crumbs(title: str, on: date) -> list[dict[str, str]]:
    return [
        {"label": _("Stages"), "url": reverse("stages:overview")},
        {"label": _("Nights"), "url": reverse("stages:night-list")},
        {"label": title, "url": ""},
    ]


@require_http_methods(["GET", "HEAD", "POST"])
def preview(request: HttpRequest, day: str, look: Callable[[date], Any]) -> HttpResponse:
    """What the night of ``day`` would do, as the diff between now and then. Worked out on POST, because it takes time."""
    need(request, User.may_steer)
    on = _day(day)
    if on >= clock.today():
        raise Conflict(_("%(day)s is not over yet, so its night cannot be told.") % {"day": on})
    context: dict[str, Any] = {
        "crumbs": _crumbs(_("Preview"), on),
        "on": on,
        "is_done": Night.objects.filter(business_date=on, state=Night.State.DONE).exists(),
    }
    if request.method == "POST" and not context["is_done"]:
        found = look(on)
        moves: list[tuple[int, str, str, str, str]] = found.moves
        current = queries.published()
        titles = rulebook.titles([m[4] for m in moves], rulebook.parse(current.rules)) if current else {}
        people = Customer.objects.in_bulk([m[0] for m in moves[:NAMED]])
        context |= {
            "found": found,
            "moves": len(moves),
            "evaluated": num(found.counts.get("evaluated", 0)),
            "planned": found.counts.get("planned", 0),
            "matrix": matrix({(source or queries.NEW, target): n for (source, target), n in found.flows.items()}),
            "named": [
                {
                    "customer": people[pk],
                    "name": shown_name(people[pk], request.user),
                    "source": source,
                    "target": target,
                    "rule": titles.get(rule, rule),
                }
                for pk, _name, source, target, rule in moves[:NAMED]
                if pk in people
            ],
        }
    return http.page(request, "stages/night_preview.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def take_back(
    request: HttpRequest, day: str, refusal: Callable[[Night], str], undo: Callable[..., Night]
) -> HttpResponse:
    """Say what undoing this night would do, then do it."""
    on = _day(day)
    found = queries.night(on)
    if found is None:
        raise NotFound(_("No night was run for %(day)s.") % {"day": on})
    need(request, User.may_steer)
    if request.method == "POST":
        done = undo(day=on, actor=request.user)
        restored, cancelled = done.undo["restored"], done.undo["cancelled"]
        messages.success(
            request,
            ngettext("%(n)s customer is back", "%(n)s customers are back", restored) % {"n": num(restored)}
            + " · "
            + ngettext("%(n)s message called off", "%(n)s messages called off", cancelled) % {"n": num(cancelled)},
        )
        return redirect("stages:night", day=day)
    moves = queries.moves_of(found)
    messages_of = Message.objects.filter(run__key=f"night:{on.isoformat()}")
    states = Message.State
    return http.page(
        request,
        "stages/night_undo.html",
        {
            "crumbs": _crumbs(_("Undo"), on),
            "night": found,
            "refusal": refusal(found),
            "moves": sum(moves.values()),
            "matrix": matrix({(t, s): n for (s, t), n in moves.items() if s != queries.NEW}),
            "waiting": messages_of.filter(state__in=(states.QUEUED, states.RETRY, states.CLAIMED)).count(),
            "gone_out": messages_of.filter(state__in=(states.SENT, states.SENDING, states.IN_DOUBT)).count(),
        },
    )

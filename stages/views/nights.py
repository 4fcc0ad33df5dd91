"""The nights: how they went, how the running one goes, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET

from lifecycle_crm.accounts.callers import may
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock, health, http
from lifecycle_crm.lib.errors import NotFound
from lifecycle_crm.templatetags.crm import num
from stages import queries
from stages.models import Night
from stages.views.parts import crumbs, every, matrix, roof_url

PAGE = 30
MISSING = 14
STEP_NAMES = {
    "reactions": gettext_lazy("What happened since"),
    "points": gettext_lazy("Points that become usable or expire"),
    "proof": gettext_lazy("Every balance against its entries"),
    "tiers": gettext_lazy("Tiers that time alone may change"),
    "facts": gettext_lazy("Facts of customers something happened to"),
    "scores": gettext_lazy("Cut points of the scores"),
    "stages": gettext_lazy("Stages of customers who are due"),
    "groups": gettext_lazy("Segments and RFM groups"),
    "winback": gettext_lazy("Win-back of those who went quiet"),
    "journeys": gettext_lazy("Journeys that begin by what the night found"),
    "rollups": gettext_lazy("Numbers for home"),
}
COUNT_NAMES = {
    "refreshed": gettext_lazy("Facts renewed"),
    "evaluated": gettext_lazy("Customers looked at"),
    "moved": gettext_lazy("Moved"),
    "released": gettext_lazy("Holds of points that ran out"),
    "activated": gettext_lazy("Points made usable"),
    "expired": gettext_lazy("Points expired"),
    "tiers_due": gettext_lazy("Tiers to look at again"),
    "event": gettext_lazy("Events that something follows from"),
    "followed": gettext_lazy("Merged accounts swept"),
    "frozen": gettext_lazy("Points accounts frozen"),
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
STATE_KINDS: dict[str, str] = {Night.State.DONE: "ok", Night.State.RUNNING: "waiting", Night.State.FAILED: "bad"}


def _run_url() -> str:
    """Where "Run now" posts to; the night itself lives above this app."""
    return roof_url("night-run")


def _line(night: Night, moves: Mapping[int, int]) -> dict[str, Any]:
    return {
        "night": night,
        "evaluated": night.counts.get("evaluated"),
        "moved": moves.get(night.pk, 0),
        "planned": night.counts.get("planned"),
        "seconds": queries.seconds_of(night),
        "status": STATE_KINDS[night.state],
    }


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
            "crumbs": crumbs((_("Nights"), "")),
            "page": page,
            "lines": [_line(night, moves) for night in shown],
            "last": last,
            "missing": queries.missing_nights(last),
            "missing_days": queries.missing_days(last)[:MISSING],
            "day": clock.last_complete_day(),
            "preview_url": roof_url("night-preview", queries.next_day(last).isoformat()),
            "run_url": _run_url(),
            "may_run": may(request, User.may_steer),
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
        "crumbs": crumbs((_("Nights"), reverse("stages:night-list")), (day, "")),
        "night": found,
        "status": STATE_KINDS[found.state],
        "is_running": is_running,
        "every": every(found.started_at),
        "no_worker": is_running and not health.worker_is_well(),
        "undo_url": roof_url("night-undo", day) if _may_undo(found) else "",
        "undone": found.undo if found.undone_at else None,
        "guard_url": roof_url("campaigns:outbox") if found.counts.get("waiting") else "",
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
        # The moves of an undone night count nowhere, so no list of people would hold them.
        "matrix": matrix(moves, None if found.undone_at else lambda s, t: queries.moved_url(s, t, on, on)),
        "moves": sum(moves.values()),
        "troubled": queries.retried(found)[:50],
        "run_url": _run_url() if found.state != Night.State.DONE else "",
        "may_run": may(request, User.may_steer),
    }
    answer = http.page(request, "stages/night.html", context)
    if getattr(request, "htmx", None) and not is_running:
        # The progress that was being watched is over: show the whole page with its result.
        answer["HX-Refresh"] = "true"
    return answer

"""Stage flow: who stood where at the end of two dates, how they got there, and where they got stuck.

Standings and paths are counted from the moves of each customer; the number of moves comes from the rollups. Every number is
of people and opens exactly these people.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET

from customers.trails import FORWARD, Way
from lifecycle_crm.dashboard import queries
from lifecycle_crm.lib import clock, http
from lifecycle_crm.lib.errors import NotFound
from lifecycle_crm.templatetags.crm import day, num, pct, stage_name
from stages import flows
from stages.flows import Passed
from stages.models import StageKey
from stages.queries import NEW, moved_url

DEFAULT_DAYS = 30
PERIODS = (30, 90, 180, 365)
MOST_COLUMNS = 6
FEW = 30
"""Below so many people a share is too shaky to call a stage the bottleneck."""
PLACES = (NEW, *StageKey.values)


class PeriodForm(forms.Form):
    """Two dates at whose ends people are looked at, and how many dates to draw."""

    since = forms.DateField(label=gettext_lazy("From the end of"), widget=forms.DateInput({"type": "date"}))
    until = forms.DateField(label=gettext_lazy("To the end of"), widget=forms.DateInput({"type": "date"}))
    columns = forms.TypedChoiceField(
        label=gettext_lazy("Dates to draw"),
        choices=[(n, str(n)) for n in range(2, MOST_COLUMNS + 1)],
        coerce=int,
    )

    def __init__(self, data: QueryDict, newest: date) -> None:
        self.newest = newest
        filled = {
            "since": data.get("since") or (newest - timedelta(days=DEFAULT_DAYS)).isoformat(),
            "until": data.get("until") or newest.isoformat(),
            "columns": data.get("columns") or "2",
        }
        super().__init__(filled)

    def clean_until(self) -> date:
        until: date = self.cleaned_data["until"]
        if until > self.newest:
            raise forms.ValidationError(
                _("No night has been run for %(day)s yet. Choose a date up to %(newest)s.")
                % {"day": day(until), "newest": day(self.newest)}
            )
        return until

    def clean(self) -> dict[str, Any]:
        asked = super().clean() or {}
        since, until = asked.get("since"), asked.get("until")
        if since and until and since >= until:
            self.add_error("since", _("Choose a date before %(day)s.") % {"day": day(until)})
        return asked


@dataclass(frozen=True)
class Asked:
    """The period: moves on the dates from ``since`` + 1 to ``until``. ``days`` are the dates to look at."""

    since: date
    until: date
    days: list[date]

    @property
    def first(self) -> date:
        """The first date on which a move counts."""
        return self.since + timedelta(days=1)

    def url(self, *ways: Way, **more: Any) -> str:
        return flows.ways_url(*ways, **more)

    def way(self, kind: str, *places: str) -> Way:
        return Way(kind, places, self.first, self.until)

    def moved(self, source: str | None, target: str) -> str:
        return moved_url(source, target, self.first, self.until)


def asked(form: PeriodForm) -> Asked:
    """The period of the form, or the default one when it is refused."""
    if form.is_valid():
        since, until, count = form.cleaned_data["since"], form.cleaned_data["until"], form.cleaned_data["columns"]
    else:
        since, until, count = form.newest - timedelta(days=DEFAULT_DAYS), form.newest, 2
    return Asked(since, until, flows.columns(since, until, count))


@require_GET
def flow(request: HttpRequest) -> HttpResponse:
    newest = queries.as_of()
    if newest is None:
        return http.page(request, "dashboard/flow.html", {"is_empty": True})
    form = PeriodForm(request.GET, newest)
    of = asked(form)
    stood = flows.standings(of.days)
    cells = flows.between(stood, 0, len(of.days) - 1)
    passed = flows.passed(of.since, of.until)
    moves = sum(queries.flows(queries.Period(of.until, (of.until - of.since).days, None)).values())
    return http.page(
        request,
        "dashboard/flow.html",
        {
            "form": form,
            "of": of,
            "periods": _periods(request.GET, of, newest),
            "matrix": _matrix(of, cells),
            "chart": _chart(of, stood, cells, moves, request.GET.urlencode()),
            "bottleneck": _bottleneck(passed),
            "passed": [_passed(of, row) for row in passed],
            "stays": _stays(of),
            "stay_days": flows.STAY_DAYS,
            "speed": _speed(of),
            "paths": _paths(of),
        },
        status=200 if form.is_valid() else 400,
    )


def _periods(query: QueryDict, of: Asked, newest: date) -> list[dict[str, Any]]:
    choices = []
    for days in PERIODS:
        link = query.copy()
        link["since"], link["until"] = (newest - timedelta(days=days)).isoformat(), newest.isoformat()
        choices.append(
            {
                "label": ngettext("%(n)d day", "%(n)d days", days) % {"n": days},
                "url": f"?{link.urlencode()}",
                "active": (of.since, of.until) == (newest - timedelta(days=days), newest),
            }
        )
    return choices


def _name(stage: str) -> str:
    return _("New") if stage == NEW else stage_name(stage)


# --- Who stood where --------------------------------------------------------------------------------------------------


def _matrix(of: Asked, cells: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    """Rows: the stage then. Columns: the stage later. Each cell: people, and their share of the row."""
    rows = []
    for source in PLACES:
        total = sum(cells.get((source, target), 0) for target in StageKey.values)
        if not total and source == NEW:
            continue
        rows.append(
            {
                "stage": "" if source == NEW else source,
                "label": _("New since then") if source == NEW else "",
                "total": num(total),
                "url": _stood_url(of, source, None) if total else "",
                "cells": [_cell(of, cells, source, target, total) for target in StageKey.values],
            }
        )
    sums = []
    for target in StageKey.values:
        count = sum(cells.get((source, target), 0) for source in PLACES)
        sums.append({"text": num(count), "url": flows.stood_url((target, of.until)) if count else ""})
    return {"rows": rows, "stages": StageKey.values, "sums": sums, "total": num(sum(cells.values()))}


def _cell(of: Asked, cells: Mapping[tuple[str, str], int], source: str, target: str, total: int) -> dict[str, Any]:
    count = cells.get((source, target), 0)
    if not count:
        return {"text": "–"}
    share = count / total
    return {
        "text": num(count),
        "share": pct(share, 0 if share >= 0.1 else 1),
        "url": _stood_url(of, source, target),
        "stays": source == target,
        "heat": 0 if source in (target, NEW) else min(7, 1 + round(6 * share**0.5)),
    }


def _stood_url(of: Asked, source: str, target: str | None) -> str:
    """Who stood in ``source`` when the period began and in ``target`` when it ended. Of the new, only who was placed
    by then: ``source`` alone would list people who never were."""
    if target is not None:
        return flows.stood_url((source, of.since), (target, of.until))
    if source == NEW:
        return moved_url(NEW, None, of.first, of.until)
    return flows.stood_url((source, of.since))


def _chart(
    of: Asked, stood: Mapping[tuple[str, ...], int], cells: Mapping[tuple[str, str], int], moves: int, query: str
) -> dict[str, Any]:
    steps = [flows.between(stood, at, at + 1) for at in range(len(of.days) - 1)]
    drawn = [(at, s, t, n) for at, step in enumerate(steps) for (s, t), n in sorted(step.items()) if s != t]
    into: dict[tuple[int, str], int] = {}
    out: dict[tuple[int, str], int] = {}
    for at, source, target, people in drawn:
        out[at, source] = out.get((at, source), 0) + people
        into[at + 1, target] = into.get((at + 1, target), 0) + people
    last = len(of.days) - 1
    places = sorted(into.keys() | out.keys(), key=lambda place: (place[0], PLACES.index(place[1])))
    nodes = [
        {"id": f"{at}-{stage}", "column": at, "stage": stage, "label": _node(stage, at, last, into, out)}
        for at, stage in places
    ]
    links, rows = [], []
    for at, source, target, people in sorted(drawn, key=lambda one: (one[0], -one[3], one[1], one[2])):
        url = flows.stood_url((source, of.days[at]), (target, of.days[at + 1]))
        arrow = f"{_name(source)} → {_name(target)}"
        text = ngettext("%(move)s: %(n)s person", "%(move)s: %(n)s people", people) % {"move": arrow, "n": num(people)}
        links.append(
            {"source": f"{at}-{source}", "target": f"{at + 1}-{target}", "value": people, "label": text, "url": url}
        )
        dates = f"{day(of.days[at])} – {day(of.days[at + 1])}"
        rows.append([arrow, *([dates] if last > 1 else []), {"text": num(people), "url": url, "num": True}])
    moving = sorted(((s, t, n) for (s, t), n in cells.items() if s != t), key=lambda one: (-one[2], one[0], one[1]))
    most = moving[0][2] if moving else 1
    dates_column = [{"label": _("Between")}] if last > 1 else []
    return {
        "id": "flow",
        "kind": "sankey",
        "title": _("Who stands elsewhere than before?"),
        "sentence": _sentence(of, cells, moving),
        "is_empty": not drawn,
        "data": {"nodes": nodes, "links": links},
        "ranked": [
            {
                "label": f"{_name(s)} → {_name(t)}",
                "url": flows.stood_url((s, of.since), (t, of.until)),
                "value": num(n),
                "percent": 100 * n / most,
                "stage": "" if s == NEW else s,
            }
            for s, t, n in moving
        ],
        "columns": [{"label": _("Move")}, *dates_column, {"label": _("People"), "num": True}],
        "rows": rows,
        "note": ngettext(
            "%(n)s move, %(first)s to %(last)s. One person can move more than once.",
            "%(n)s moves, %(first)s to %(last)s. One person can move more than once.",
            moves,
        )
        % {"n": num(moves), "first": day(of.first), "last": day(of.until)},
        "csv_url": f"{reverse('dashboard:flow-csv')}?{query}" if query else reverse("dashboard:flow-csv"),
    }


def _node(
    stage: str, at: int, last: int, into: Mapping[tuple[int, str], int], out: Mapping[tuple[int, str], int]
) -> str:
    """In the first and the last column the people drawn; between them who came and who went on."""
    came, left = into.get((at, stage), 0), out.get((at, stage), 0)
    if at in (0, last):
        return f"{_name(stage)} {num(left if at == 0 else came)}"
    return _("%(stage)s: %(came)s in, %(left)s out") % {"stage": _name(stage), "came": num(came), "left": num(left)}


def _sentence(of: Asked, cells: Mapping[tuple[str, str], int], moving: Sequence[tuple[str, str, int]]) -> str:
    total = sum(n for (source, _target), n in cells.items() if source != NEW)
    elsewhere = sum(n for source, _target, n in moving if source != NEW)
    fresh = sum(n for source, _target, n in moving if source == NEW)
    values = {"n": num(elsewhere), "all": num(total), "since": day(of.since), "until": day(of.until)}
    told = []
    if total:
        told.append(
            ngettext(
                "%(n)s of the %(all)s people placed on %(since)s stands elsewhere on %(until)s.",
                "%(n)s of the %(all)s people placed on %(since)s stand elsewhere on %(until)s.",
                elsewhere,
            )
            % values
        )
    best = next((move for move in moving if move[0] != NEW), None)
    if best:
        told.append(
            ngettext(
                "The most went from %(from)s to %(to)s: %(n)s person.",
                "The most went from %(from)s to %(to)s: %(n)s people.",
                best[2],
            )
            % {"from": _name(best[0]), "to": _name(best[1]), "n": num(best[2])}
        )
    if fresh:
        text = ngettext("%(n)s person is new since then.", "%(n)s people are new since then.", fresh)
        told.append(text % {"n": num(fresh)})
    if moving:
        told.append(_("Who stands where they stood before is not drawn."))
    if len(of.days) > 2:
        told.append(_("Dates drawn: %(days)s.") % {"days": ", ".join(map(day, of.days))})
    return " ".join(told)


# --- Who came further, and who fell asleep ----------------------------------------------------------------------------


def _passed(of: Asked, row: Passed) -> dict[str, Any]:
    following = FORWARD[FORWARD.index(row.stage) + 1] if row.stage in FORWARD[:-1] else ""
    return {
        "stage": row.stage,
        "been": num(row.been),
        "been_url": of.url(of.way("been", row.stage)) if row.been else "",
        "next": stage_name(following) if following else "",
        "on": num(row.on) if row.on is not None else "",
        "on_url": of.url(of.way("on", row.stage)) if row.on else "",
        "on_share": pct(row.on_share) if row.on_share is not None else "",
        "on_percent": 100 * (row.on_share or 0),
        "gone": num(row.gone) if row.stage != StageKey.DORMANT else "",
        "gone_url": of.moved(row.stage, "dormant") if row.gone else "",
        "gone_share": pct(row.gone_share, 1) if row.gone_share is not None and row.stage != StageKey.DORMANT else "",
    }


def _bottleneck(passed: Sequence[Passed]) -> str:
    """The largest leak for its size, or why nobody can say."""
    leaks = [row for row in passed if row.stage != StageKey.DORMANT and row.been >= FEW]
    if not leaks:
        text = ngettext(
            "No stage had %(n)s person in this period, so none can be called the bottleneck.",
            "No stage had %(n)s people in this period, so none can be called the bottleneck.",
            FEW,
        )
        return text % {"n": num(FEW)}
    worst = max(leaks, key=lambda row: row.gone / row.been)
    if not worst.gone:
        return _("Nobody went dormant in this period.")
    text = ngettext(
        "For its size, %(stage)s loses most: %(n)s of the %(been)s people who were there went dormant (%(share)s). "
        "Stages with fewer than %(few)s people are not compared.",
        "For its size, %(stage)s loses most: %(n)s of the %(been)s people who were there went dormant (%(share)s). "
        "Stages with fewer than %(few)s people are not compared.",
        worst.gone,
    )
    return text % {
        "stage": stage_name(worst.stage),
        "n": num(worst.gone),
        "been": num(worst.been),
        "share": pct(worst.gone / worst.been, 1),
        "few": num(FEW),
    }


# --- How long it takes ------------------------------------------------------------------------------------------------


def _stays(of: Asked) -> list[dict[str, Any]]:
    since = of.until - timedelta(days=flows.STAY_DAYS - 1)

    def within(days: int | None, longest: int) -> str:
        if days is None:
            text = ngettext("more than %(n)s day", "more than %(n)s days", longest)
            return text % {"n": num(longest)}
        return ngettext("%(n)s day", "%(n)s days", days) % {"n": num(days)}

    return [
        {
            "stage": row.stage,
            "days": [within(days, row.longest) if row.stays else "–" for days in row.days],
            "people": num(row.people),
            "url": moved_url(None, row.stage, since, of.until) if row.people else "",
            "stays": num(row.stays),
            "running": num(row.stays - row.ended),
        }
        for row in flows.stays(of.until).values()
    ]


def _speed(of: Asked) -> list[dict[str, Any]]:
    """Sentences: how soon after their first order people come into a stage."""
    told = []
    for row in flows.speed(of.since, of.until, ["retain", "advocate", "dormant"]):
        if row.days is None:
            continue
        text = ngettext(
            "%(n)s person first came into %(stage)s, half of them within %(days)s of the first order.",
            "%(n)s people first came into %(stage)s, half of them within %(days)s of the first order.",
            row.people,
        )
        length = ngettext("%(n)s day", "%(n)s days", row.days) % {"n": num(row.days)}
        told.append(
            {
                "text": text % {"n": num(row.people), "stage": stage_name(row.stage), "days": length},
                "url": of.url(of.way("first", row.stage), orders_min=1),
            }
        )
    return told


def _paths(of: Asked) -> list[dict[str, Any]]:
    told = []
    for path, people in flows.paths(of.since, of.until):
        text = (
            ngettext("%(n)s new person came into %(way)s.", "%(n)s new people came into %(way)s.", people)
            if path[0] == NEW
            else ngettext("%(n)s person went from %(way)s.", "%(n)s people went from %(way)s.", people)
        )
        places = [stage_name(stage) for stage in path if stage != NEW]
        told.append(
            {
                "text": text % {"n": num(people), "way": _(" to ").join(places)},
                "url": of.url(of.way("path", *path)),
            }
        )
    return told


# --- For a spreadsheet ------------------------------------------------------------------------------------------------


@require_GET
def flow_csv(request: HttpRequest) -> HttpResponse:
    """The matrix for a machine: keys instead of words, shares of the row between 0 and 1."""
    newest = queries.as_of()
    form = PeriodForm(request.GET, newest or clock.last_complete_day())
    if newest is None or not form.is_valid():
        raise NotFound(_("There are no such numbers. Choose two dates on the page of the stage flow."))
    of = asked(form)
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="flow-{of.since}-{of.until}.csv"'
    writer = csv.writer(answer)
    writer.writerow(["since", "until", "from", "to", "people", "share"])
    for cell in flows.shares(of.since, of.until):
        writer.writerow([of.since, of.until, cell.source, cell.target, cell.people, cell.share])
    return answer

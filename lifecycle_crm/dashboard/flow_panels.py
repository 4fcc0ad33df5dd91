"""The panels of the stage flow: words, links and tables made of a ``Story``, and the same numbers as plain rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from customers.trails import BY_HAND, FORWARD, Way
from lifecycle_crm.dashboard.flow_queries import Story
from lifecycle_crm.templatetags.crm import day, num, pct, stage_name
from stages import flows, queries, ways
from stages.durations import PERCENTILES, STAY_DAYS
from stages.models import StageKey
from stages.queries import NEW, people_url
from stages.ways import OTHER, Passed

FEW = 30
"""Below so many people a share is too shaky to call a stage the bottleneck."""
PLACES = (NEW, *StageKey.values)
STRIP = 200
"""Width of a strip of percentiles, in units of its drawing."""


@dataclass(frozen=True)
class Asked:
    """The period: moves on the dates from ``since`` + 1 to ``until``, of everybody or of a segment. ``days`` are the dates
    to look at."""

    since: date
    until: date
    days: list[date]
    segment: str = ""

    @property
    def first(self) -> date:
        """The first date on which a move counts."""
        return self.since + timedelta(days=1)

    def url(self, *ways: Way, **more: Any) -> str:
        return flows.ways_url(*ways, segment=self.segment, **more)

    def stood(self, *stood: tuple[str, date]) -> str:
        return flows.stood_url(*stood, segment=self.segment)

    def way(self, kind: str, *places: str) -> Way:
        return Way(kind, places, self.first, self.until)

    def moved(self, source: str | None, target: str | None, since: date | None = None) -> str:
        """Who moved so in the period, or on the dates from ``since`` on."""
        return people_url(
            moved_from=source,
            moved_to=target,
            moved_since=since or self.first,
            moved_until=self.until,
            segment=self.segment,
        )


def _name(stage: str) -> str:
    return _("New") if stage == NEW else stage_name(stage)


def csv_url(panel: str, query: str) -> str:
    url = reverse("dashboard:flow-csv", args=[panel])
    return f"{url}?{query}" if query else url


# --- Who stood where --------------------------------------------------------------------------------------------------


def matrix(of: Asked, cells: Mapping[tuple[str, str], int]) -> dict[str, Any]:
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
        sums.append({"text": num(count), "url": of.stood((target, of.until)) if count else ""})
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
        return of.stood((source, of.since), (target, of.until))
    if source == NEW:
        return of.moved(NEW, None)
    return of.stood((source, of.since))


def chart(of: Asked, story: Story, query: str) -> dict[str, Any]:
    """The alluvial between the dates, without those who stayed; the ranked moves of the whole period beside it."""
    cells = story.cells()
    steps = story.step_cells()
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
        url = of.stood((source, of.days[at]), (target, of.days[at + 1]))
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
    moves = story.whole.moves
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
                "url": of.stood((s, of.since), (t, of.until)),
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
        "csv_url": csv_url("steps", query),
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


def passed(of: Asked, row: Passed) -> dict[str, Any]:
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


def bottleneck(passed: Sequence[Passed]) -> str:
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


def leaks(of: Asked, story: Story) -> list[dict[str, Any]]:
    """By the stage people left: why they went dormant, as bars of the same scale."""
    found = ways.leaks(story.whole)
    names = queries.rule_names() if found else {}
    most = max((leak.people for leak in found), default=1)
    groups: dict[str, list[dict[str, Any]]] = {}
    for leak in found:
        known = leak.rule != OTHER
        groups.setdefault(leak.source, []).append(
            {
                "label": _rule_name(leak.rule, names),
                "url": of.url(of.way("gone", leak.source, leak.rule)) if known else "",
                "value": num(leak.people),
                "percent": 100 * leak.people / most,
                "stage": "" if leak.source == NEW else leak.source,
            }
        )
    return [
        {
            "stage": "" if source == NEW else source,
            "name": _name(source),
            "title": _("Why people left %(stage)s for Dormant") % {"stage": _name(source)},
            "rows": rows,
        }
        for source, rows in groups.items()
    ]


def _rule_name(key: str, names: Mapping[str, str]) -> str:
    if key == BY_HAND:
        return _("Moved by hand")
    return _("Another rule") if key == OTHER else names.get(key, key)


# --- How long it takes ------------------------------------------------------------------------------------------------


def stays(of: Asked, story: Story) -> list[dict[str, Any]]:
    """A row per stage with its percentiles in words, and a strip of them drawn on one scale."""
    since = of.until - timedelta(days=STAY_DAYS - 1)
    people = story.came
    scale = max((days or row.longest for row in story.stays.values() for days in row.days), default=0) or 1

    def within(days: int | None, longest: int) -> str:
        if days is None:
            text = ngettext("more than %(n)s day", "more than %(n)s days", longest)
            return text % {"n": num(longest)}
        return ngettext("%(n)s day", "%(n)s days", days) % {"n": num(days)}

    def strip(percentiles: tuple[int | None, ...], longest: int) -> dict[str, str] | None:
        """Places of the marks, as texts of numbers for a machine. Without an end the line is open."""
        low, middle, high = percentiles
        if low is None:
            return None

        def at(days: int) -> str:
            return f"{6 + (STRIP - 12) * days / scale:.1f}"

        return {
            "low": at(low),
            "middle": at(middle) if middle is not None else "",
            "high": at(longest if high is None else high),
            "open": "open" if high is None else "",
        }

    return [
        {
            "stage": row.stage,
            "days": [within(days, row.longest) if row.stays else "–" for days in row.days],
            "strip": strip(row.days, row.longest) if row.stays else None,
            "people": num(people[row.stage]),
            "url": of.moved(None, row.stage, since) if people[row.stage] else "",
            "stays": num(row.stays),
            "running": num(row.running),
        }
        for row in story.stays.values()
    ]


def speed(of: Asked, story: Story) -> list[dict[str, Any]]:
    """Sentences: how soon after their first order people come into a stage."""
    told = []
    for row in story.speed:
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


def paths(of: Asked, story: Story) -> list[dict[str, Any]]:
    """The most common ways as sentences."""
    told = []
    for path, people in ways.paths(story.whole):
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

Rows = Iterator[Sequence[Any]]


def _matrix_rows(of: Asked, story: Story) -> Rows:
    yield "since", "until", "from", "to", "people", "share"
    for cell in ways.shares(story.cells()):
        yield of.since, of.until, cell.source, cell.target, cell.people, cell.share


def _step_rows(of: Asked, story: Story) -> Rows:
    yield "since", "until", "from", "to", "people", "share"
    for (since, until), cells in zip(pairwise(of.days), story.step_cells(), strict=True):
        for cell in ways.shares(cells):
            yield since, until, cell.source, cell.target, cell.people, cell.share


def _funnel_rows(of: Asked, story: Story) -> Rows:
    yield "since", "until", "stage", "were_there", "came_further", "went_dormant"
    for row in story.passed():
        yield of.since, of.until, row.stage, row.been, "" if row.on is None else row.on, row.gone


def _leak_rows(of: Asked, story: Story) -> Rows:
    yield "since", "until", "from", "reason", "people"
    for leak in ways.leaks(story.whole):
        yield of.since, of.until, leak.source, leak.rule, leak.people


def _stay_rows(of: Asked, story: Story) -> Rows:
    yield "until", "stage", *(f"days_p{share}" for share in PERCENTILES), "longest", "people", "stays", "still_there"
    people = story.came
    for row in story.stays.values():
        days = ["" if one is None else one for one in row.days]
        yield of.until, row.stage, *days, row.longest, people[row.stage], row.stays, row.running


def _speed_rows(of: Asked, story: Story) -> Rows:
    yield "since", "until", "stage", "people", "median_days_after_first_order"
    for row in story.speed:
        yield of.since, of.until, row.stage, row.people, "" if row.days is None else row.days


def _way_rows(of: Asked, story: Story) -> Rows:
    yield "since", "until", "way", "people"
    for path, people in ways.paths(story.whole, most=1000):
        yield of.since, of.until, " > ".join(path), people


TABLES: dict[str, Callable[[Asked, Story], Rows]] = {
    "matrix": _matrix_rows,
    "steps": _step_rows,
    "funnel": _funnel_rows,
    "reasons": _leak_rows,
    "stays": _stay_rows,
    "speed": _speed_rows,
    "ways": _way_rows,
}

"""The panels of the RFM page: words, links and tables, and the same numbers as plain rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from customers import rfm as groups
from customers.models import RfmCuts, RfmGroup
from customers.rfm import NONE, Cell, Moved
from customers.trails import Way
from lifecycle_crm.lib.money import from_minor
from lifecycle_crm.templatetags.crm import money_round, num, pct, signed
from stages.flows import ways_url
from stages.queries import people_url

MOVED_DAYS = 30
LAYERS = {
    "customers": gettext_lazy("Customers"),
    "revenue": gettext_lazy("Spend"),
    "nps": gettext_lazy("NPS"),
    "reach": gettext_lazy("Reachable"),
    "net": gettext_lazy("Net movement"),
}
DEEDS = {
    "champions": gettext_lazy("Thank them, show new things first, ask for a review."),
    "loyal": gettext_lazy("Show what goes with what they buy; let points be seen."),
    "potential_loyalists": gettext_lazy("Invite them into the programme; suggest the next order."),
    "new": gettext_lazy("Check in after the delivery; make the second order easy."),
    "promising": gettext_lazy("Tell them what the shop is about, before they forget it."),
    "needs_attention": gettext_lazy("Write with something that fits what they bought."),
    "about_to_sleep": gettext_lazy("Remind them once, with what is popular now."),
    "at_risk": gettext_lazy("Write personally; ask what is missing."),
    "cannot_lose": gettext_lazy("Call or write by hand: they bought a lot and stopped."),
    "hibernating": gettext_lazy("One offer that fits, then leave them in peace."),
    "lost": gettext_lazy("Ask why with one question, then let them go."),
}


def _money(minor: int) -> str:
    return money_round(minor, settings.SHOP_CURRENCY)


@dataclass(frozen=True)
class Shown:
    """What the page shows: the cells of this moment, and who changed groups between the ends of two dates (none before a
    night recorded any)."""

    cells: Mapping[tuple[int, int], Cell]
    moves: Sequence[Moved] = ()
    since: date | None = None
    until: date | None = None

    @property
    def buyers(self) -> int:
        return sum(cell.customers for cell in self.cells.values())

    def net(self, group: str) -> int:
        """People who came into a group, less those who left it."""
        return sum(one.people * ((one.target == group) - (one.source == group)) for one in self.moves)

    def url(self, move: Moved) -> str:
        """The people of a move."""
        if self.since is None or self.until is None:
            return ""
        return ways_url(Way("rfm", (move.source,), None, self.since), Way("rfm", (move.target,), None, self.until))


def group_name(group: str) -> str:
    return _("No order yet") if group == NONE else str(RfmGroup(group).label)


# --- Now --------------------------------------------------------------------------------------------------------------


def grid(
    of: Shown, layer: str, chosen: tuple[int, int] | None, link: Callable[[int, int], str]
) -> list[dict[str, Any]]:
    """Rows of recency, the freshest first; in each cell the layer's number and below it another one. ``link`` gives the
    address of the page with a cell's panel open."""
    sizes = {key: cell.revenue_minor if layer == "revenue" else cell.customers for key, cell in of.cells.items()}
    most = max(sizes.values())
    widest = max((abs(of.net(group)) for group in RfmGroup.values), default=0)
    rows = []
    for recency in sorted(groups.TABLE, reverse=True):
        row = []
        for frequency in range(1, 6):
            cell = of.cells[recency, frequency]
            group = groups.TABLE[recency][frequency - 1]
            size = max(0, sizes[recency, frequency])
            heat = f"heat-{min(7, 1 + round(6 * (size / most) ** 0.5))}" if size and most > 0 else "faint"
            row.append(
                {
                    "group": group.label,
                    "edges": _edges(recency, frequency),
                    "css": _net_css(of.net(group), widest) if layer == "net" else heat,
                    "text": _shown(cell, layer, of),
                    "people": ngettext("%(n)s customer", "%(n)s customers", cell.customers)
                    % {"n": num(cell.customers)},
                    "second": _money(cell.revenue_minor) if layer in ("customers", "nps") else num(cell.customers),
                    "url": cell_url(recency, frequency) if cell.customers else "",
                    "panel": link(recency, frequency),
                    "is_chosen": (recency, frequency) == chosen,
                }
            )
        rows.append({"score": recency, "cells": row})
    return rows


def _net_css(net: int, widest: int) -> str:
    if not net:
        return "faint"
    return f"net-{'up' if net > 0 else 'down'}-{1 + round(2 * abs(net) / widest)}"


def cell_url(recency: int, frequency: int, **more: Any) -> str:
    return people_url(r_min=recency, r_max=recency, f_min=frequency, f_max=frequency, **more)


def _shown(cell: Cell, layer: str, of: Shown) -> str:
    if layer == "revenue":
        return _money(cell.revenue_minor)
    if layer == "net":
        return signed(of.net(groups.TABLE[cell.recency][cell.frequency - 1]))
    if layer == "reach":
        return pct(cell.reachable / cell.customers) if cell.customers else "–"
    if layer == "nps":
        if cell.nps is None:
            return "–"
        return _nps(cell.nps, cell.answers)
    return num(cell.customers)


def panel(of: Shown, place: tuple[int, int]) -> dict[str, Any]:
    """One cell in full, and where the people of its group came from and went to."""
    cell = of.cells[place]
    group = groups.TABLE[place[0]][place[1] - 1]

    def side(moves: Sequence[Moved], end: str) -> list[dict[str, str]]:
        ranked = sorted(moves, key=lambda one: (-one.people, getattr(one, end)))
        return [
            {"label": group_name(getattr(one, end)), "value": num(one.people), "url": of.url(one)} for one in ranked
        ]

    came = [one for one in of.moves if one.target == group]
    went = [one for one in of.moves if one.source == group]
    return {
        "group": group.label,
        "recency": place[0],
        "frequency": place[1],
        "people": num(cell.customers),
        "people_url": cell_url(*place) if cell.customers else "",
        "spend": _money(cell.revenue_minor),
        "nps": _nps(cell.nps, cell.answers) if cell.nps is not None else "–",
        "reachable": num(cell.reachable),
        "reachable_url": cell_url(*place, consent="yes") if cell.reachable else "",
        "reachable_share": pct(cell.reachable / cell.customers) if cell.customers else "",
        "came": side(came, "source"),
        "came_sum": num(sum(one.people for one in came)),
        "went": side(went, "target"),
        "went_sum": num(sum(one.people for one in went)),
        "deed": DEEDS[group],
    }


def condition(places: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """The buyers of these cells in the language of segments."""

    def one(place: tuple[int, int]) -> dict[str, Any]:
        names = ("recency", "frequency")
        return {"all": [{"fact": name, "op": "eq", "value": score} for name, score in zip(names, place, strict=True)]}

    return one(places[0]) if len(places) == 1 else {"any": [one(place) for place in places]}


def _nps(nps: float, answers: int) -> str:
    text = ngettext("%(nps)s (%(n)s answer)", "%(nps)s (%(n)s answers)", answers)
    return text % {"nps": signed(round(nps)), "n": num(answers)}


def _edges(recency: int, frequency: int) -> str:
    """Where the border of a group runs: below this cell, and after it."""
    name = groups.TABLE[recency][frequency - 1]
    below = recency > 1 and groups.TABLE[recency - 1][frequency - 1] != name
    after = frequency < 5 and groups.TABLE[recency][frequency] != name
    return " ".join(edge for edge, is_on in (("edge-below", below), ("edge-after", after)) if is_on)


def eleven(of: Shown) -> list[dict[str, Any]]:
    """The groups as they are at this moment."""
    found = []
    for group in RfmGroup:
        mine = [of.cells[place] for place in groups.cells(group)]
        people, answers = sum(c.customers for c in mine), sum(c.answers for c in mine)
        balance = sum(c.promoters - c.detractors for c in mine)
        found.append(
            {
                "name": group.label,
                "people": num(people),
                "url": people_url(rfm=group.value) if people else "",
                "share": pct(people / of.buyers, 1),
                "percent": 100 * people / of.buyers,
                "spend": _money(sum(c.revenue_minor for c in mine)),
                "nps": _nps(100 * balance / answers, answers) if answers else "–",
                "deed": DEEDS[group],
            }
        )
    return found


def sentence(of: Shown) -> str:
    best = [of.cells[place] for place in groups.cells(RfmGroup.CHAMPIONS)]
    total = sum(cell.revenue_minor for cell in of.cells.values())
    people, spend = sum(c.customers for c in best), sum(c.revenue_minor for c in best)
    if not people or total <= 0:
        return _("Nobody buys both lately and often.")
    text = ngettext(
        "%(n)s Champion (%(share)s of buyers) has spent %(spend)s of all money.",
        "%(n)s Champions (%(share)s of buyers) have spent %(spend)s of all money.",
        people,
    )
    return text % {"n": num(people), "share": pct(people / of.buyers), "spend": pct(spend / total)}


def scores(cuts: RfmCuts) -> list[dict[str, Any]]:
    """What each score from 5 to 1 means, in numbers."""
    lines = []
    for score in range(5, 0, -1):
        days = cuts.recency_days
        recency = (
            _("more than %(n)s days") % {"n": num(days[3])}
            if score == 1
            else ngettext("up to %(n)s day", "up to %(n)s days", days[5 - score]) % {"n": num(days[5 - score])}
        )
        lines.append(
            {
                "score": score,
                "recency": recency,
                "frequency": _bound(cuts.frequency, score, num),
                "monetary": _bound(cuts.monetary_minor, score, _money),
            }
        )
    return lines


def _bound(cuts: list[int], score: int, write: Any) -> str:
    if score == 5:
        return _("more than %(n)s") % {"n": write(cuts[3])}
    return _("up to %(n)s") % {"n": write(cuts[score - 1])}


# --- Any past date ----------------------------------------------------------------------------------------------------


def past(since: date, until: date) -> dict[str, Any]:
    """Sizes at the end of a date, beside those at the end of an earlier one."""
    now, before = groups.sizes(until), groups.sizes(since)
    rows = []
    for group in RfmGroup:
        people, spend = now.groups[group] if now else (0, 0)
        change = signed(people - before.groups[group][0]) if before else "–"
        url = ways_url(Way("rfm", (group.value,), None, until)) if people else ""
        rows.append([group.label, {"text": num(people), "url": url, "num": True}, {"text": change, "num": True},
                     {"text": _money(spend), "num": True}])  # fmt: skip
    return {
        "rows": rows,
        "columns": [
            {"label": _("Group")},
            {"label": _("Customers"), "num": True},
            {"label": _("Change"), "num": True},
            {"label": _("Had spent"), "num": True},
        ],
    }


def moved(of: Shown) -> dict[str, Any]:
    """Who changed groups between the two dates: first those who cooled down, the most money first."""
    rows = [
        [
            {"text": f"{group_name(one.source)} → {group_name(one.target)}", "sub": _way(one)},
            {"text": num(one.people), "url": of.url(one), "num": True},
            {"text": _money(one.spend_minor), "num": True},
        ]
        for one in of.moves
    ]
    return {
        "since": of.since,
        "until": of.until,
        "total": sum(one.people for one in of.moves),
        "rows": rows,
        "columns": [
            {"label": _("Move")},
            {"label": _("People"), "num": True},
            {"label": _("Spent so far"), "num": True},
        ],
        "sentence": _moved_sentence(of.moves),
    }


def _way(move: Moved) -> str:
    if move.source == NONE:
        return _("first order")
    return _("cooled down") if move.is_cooler else _("warmed up")


def _moved_sentence(moves: Sequence[Moved]) -> str:
    """How many cooled down and what they are worth, and how many came back."""
    cooled = [one for one in moves if one.is_cooler]
    warmed = [one for one in moves if not one.is_cooler and one.source != NONE]
    lost, back = sum(one.people for one in cooled), sum(one.people for one in warmed)
    told = [
        ngettext(
            "%(n)s person who has spent %(money)s cooled down",
            "%(n)s people who have spent %(money)s cooled down",
            lost,
        )
        % {"n": num(lost), "money": _money(sum(one.spend_minor for one in cooled))},
        ngettext("%(n)s person warmed up", "%(n)s people warmed up", back) % {"n": num(back)},
    ]
    return _("%(cooled)s, %(warmed)s.") % {"cooled": told[0], "warmed": told[1]}


# --- For a spreadsheet ------------------------------------------------------------------------------------------------

Rows = Iterator[Sequence[Any]]


def csv_url(table: str, query: str) -> str:
    url = reverse("dashboard:rfm-csv", args=[table])
    return f"{url}?{query}" if query else url


def _amount(minor: int) -> Any:
    return from_minor(minor, settings.SHOP_CURRENCY)


def _grid_rows(of: Shown) -> Rows:
    yield "recency", "frequency", "group", "customers", "spend", "currency", "nps", "answers", "reachable"
    for (recency, frequency), cell in sorted(of.cells.items(), reverse=True):
        group = groups.group_of(recency, frequency)
        nps = "" if cell.nps is None else round(cell.nps, 1)
        spend = _amount(cell.revenue_minor)
        yield (recency, frequency, group, cell.customers, spend, settings.SHOP_CURRENCY, nps, cell.answers,
               cell.reachable)  # fmt: skip


def _group_rows(of: Shown) -> Rows:
    yield "group", "customers", "spend", "currency", "nps", "answers", "reachable"
    for group in RfmGroup.values:
        mine = [of.cells[place] for place in groups.cells(group)]
        answers = sum(cell.answers for cell in mine)
        balance = sum(cell.promoters - cell.detractors for cell in mine)
        spend = _amount(sum(cell.revenue_minor for cell in mine))
        yield (group, sum(cell.customers for cell in mine), spend, settings.SHOP_CURRENCY,
               round(100 * balance / answers, 1) if answers else "", answers, sum(cell.reachable for cell in mine))  # fmt: skip


def _score_rows(of: Shown) -> Rows:
    """The highest value that still gets a score; empty where there is no limit."""
    yield "score", "recency_days_up_to", "orders_up_to", "spend_up_to", "currency"
    cuts = groups.cuts()
    if cuts is None:
        return
    for score in range(5, 0, -1):
        days = "" if score == 1 else cuts.recency_days[5 - score]
        orders = "" if score == 5 else cuts.frequency[score - 1]
        spend = "" if score == 5 else _amount(cuts.monetary_minor[score - 1])
        yield score, days, orders, spend, settings.SHOP_CURRENCY


def _size_rows(of: Shown) -> Rows:
    yield "business_date", "group", "customers", "had_spent", "currency"
    for day_of in (of.since, of.until):
        found = groups.sizes(day_of) if day_of else None
        for group, (people, minor) in (found.groups if found else {}).items():
            yield day_of, group, people, _amount(minor), settings.SHOP_CURRENCY


def _move_rows(of: Shown) -> Rows:
    yield "since", "until", "from", "to", "people", "spent_so_far", "currency"
    for one in of.moves:
        yield of.since, of.until, one.source, one.target, one.people, _amount(one.spend_minor), settings.SHOP_CURRENCY


TABLES: dict[str, Callable[[Shown], Rows]] = {
    "grid": _grid_rows,
    "groups": _group_rows,
    "sizes": _size_rows,
    "moves": _move_rows,
    "scores": _score_rows,
}

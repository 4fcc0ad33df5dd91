"""RFM: the 5×5 grid of buyers, its eleven groups, and who moved between them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET

from customers import rfm as groups
from customers.models import RfmCuts, RfmGroup
from customers.rfm import NONE, Cell
from customers.trails import Way
from lifecycle_crm.lib import http
from lifecycle_crm.templatetags.crm import day, money_round, num, pct, signed
from stages.flows import ways_url
from stages.queries import people_url

MOVED_DAYS = 30
LAYERS = {
    "customers": gettext_lazy("Customers"),
    "revenue": gettext_lazy("Spend"),
    "nps": gettext_lazy("NPS"),
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


class DateForm(forms.Form):
    """The date whose group sizes are shown."""

    on = forms.DateField(label=gettext_lazy("Groups at the end of"), widget=forms.DateInput({"type": "date"}))

    def __init__(self, data: QueryDict, first: date, newest: date) -> None:
        self.first, self.newest = first, newest
        super().__init__({"on": data.get("on") or newest.isoformat()})

    def clean_on(self) -> date:
        on: date = self.cleaned_data["on"]
        if not self.first <= on <= self.newest:
            raise forms.ValidationError(
                _("Groups are known from %(first)s to %(newest)s. Choose a date between them.")
                % {"first": day(self.first), "newest": day(self.newest)}
            )
        return on


@require_GET
def rfm(request: HttpRequest) -> HttpResponse:
    cuts, cells = groups.cuts(), groups.grid()
    buyers = sum(cell.customers for cell in cells.values())
    if cuts is None or not buyers:
        return http.page(request, "dashboard/rfm.html", {"is_empty": True})
    text = request.GET.get("layer", "")
    layer = text if text in LAYERS else "customers"
    ends = groups.recorded()
    form = DateForm(request.GET, *ends) if ends else None
    on = None
    if form is not None and ends is not None:
        on = form.cleaned_data["on"] if form.is_valid() else ends[1]
    return http.page(
        request,
        "dashboard/rfm.html",
        {
            "buyers": buyers,
            "layer": layer,
            "layers": _layers(request.GET, layer),
            "grid": _grid(cells, layer, buyers),
            "sentence": _sentence(cells, buyers),
            "groups": _groups(cells, buyers),
            "cuts": _cuts(cuts),
            "cuts_on": cuts.computed_on,
            "cut_buyers": cuts.buyers,
            "is_thin": cuts.buyers < groups.FEW_BUYERS,
            "few": groups.FEW_BUYERS,
            "form": form,
            "past": _past(on) if on else None,
            "moved": _moved(on, ends[0]) if on and ends else None,
        },
        status=200 if form is None or form.is_valid() else 400,
    )


def _layers(query: QueryDict, active: str) -> list[dict[str, Any]]:
    options = []
    for key, label in LAYERS.items():
        link = query.copy()
        link["layer"] = key
        options.append({"label": label, "url": f"?{link.urlencode()}", "active": key == active})
    return options


def _money(minor: int) -> str:
    return money_round(minor, settings.SHOP_CURRENCY)


# --- Now --------------------------------------------------------------------------------------------------------------


def _grid(cells: Mapping[tuple[int, int], Cell], layer: str, buyers: int) -> list[dict[str, Any]]:
    """Rows of recency, the freshest first; in each cell the layer's number and below it another one."""
    sizes = {key: cell.revenue_minor if layer == "revenue" else cell.customers for key, cell in cells.items()}
    most = max(sizes.values())
    rows = []
    for recency in sorted(groups.TABLE, reverse=True):
        row = []
        for frequency in range(1, 6):
            cell = cells[recency, frequency]
            size = max(0, sizes[recency, frequency])
            row.append(
                {
                    "group": groups.TABLE[recency][frequency - 1].label,
                    "edges": _edges(recency, frequency),
                    "heat": min(7, 1 + round(6 * (size / most) ** 0.5)) if size and most > 0 else 0,
                    "text": _shown(cell, layer),
                    "people": ngettext("%(n)s customer", "%(n)s customers", cell.customers)
                    % {"n": num(cell.customers)},
                    "second": num(cell.customers) if layer == "revenue" else _money(cell.revenue_minor),
                    "url": people_url(r_min=recency, r_max=recency, f_min=frequency, f_max=frequency)
                    if cell.customers
                    else "",
                }
            )
        rows.append({"score": recency, "cells": row})
    return rows


def _shown(cell: Cell, layer: str) -> str:
    if layer == "revenue":
        return _money(cell.revenue_minor)
    if layer == "nps":
        if cell.nps is None:
            return "–"
        return _nps(cell.nps, cell.answers)
    return num(cell.customers)


def _nps(nps: float, answers: int) -> str:
    text = ngettext("%(nps)s (%(n)s answer)", "%(nps)s (%(n)s answers)", answers)
    return text % {"nps": signed(round(nps)), "n": num(answers)}


def _edges(recency: int, frequency: int) -> str:
    """Where the border of a group runs: below this cell, and after it."""
    name = groups.TABLE[recency][frequency - 1]
    below = recency > 1 and groups.TABLE[recency - 1][frequency - 1] != name
    after = frequency < 5 and groups.TABLE[recency][frequency] != name
    return " ".join(edge for edge, is_on in (("edge-below", below), ("edge-after", after)) if is_on)


def _groups(cells: Mapping[tuple[int, int], Cell], buyers: int) -> list[dict[str, Any]]:
    found = []
    for group in RfmGroup:
        mine = [cells[place] for place in groups.cells(group)]
        people, answers = sum(c.customers for c in mine), sum(c.answers for c in mine)
        balance = sum(c.promoters - c.detractors for c in mine)
        found.append(
            {
                "name": group.label,
                "people": num(people),
                "url": people_url(rfm=group.value) if people else "",
                "share": pct(people / buyers, 1),
                "percent": 100 * people / buyers,
                "spend": _money(sum(c.revenue_minor for c in mine)),
                "nps": _nps(100 * balance / answers, answers) if answers else "–",
                "deed": DEEDS[group],
            }
        )
    return found


def _sentence(cells: Mapping[tuple[int, int], Cell], buyers: int) -> str:
    best = [cells[place] for place in groups.cells(RfmGroup.CHAMPIONS)]
    total = sum(cell.revenue_minor for cell in cells.values())
    people, spend = sum(c.customers for c in best), sum(c.revenue_minor for c in best)
    if not people or total <= 0:
        return _("Nobody buys both lately and often.")
    text = ngettext(
        "%(n)s Champion (%(share)s of buyers) has spent %(spend)s of all money.",
        "%(n)s Champions (%(share)s of buyers) have spent %(spend)s of all money.",
        people,
    )
    return text % {"n": num(people), "share": pct(people / buyers), "spend": pct(spend / total)}


def _cuts(cuts: RfmCuts) -> list[dict[str, Any]]:
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


def _past(on: date) -> dict[str, Any]:
    """Sizes at the end of a date, beside those of ``MOVED_DAYS`` before."""
    now, before = groups.sizes(on), groups.sizes(on - timedelta(days=MOVED_DAYS))
    rows = []
    for group in RfmGroup:
        people, spend = now.groups[group] if now else (0, 0)
        change = signed(people - before.groups[group][0]) if before else "–"
        url = ways_url(Way("rfm", (group.value,), None, on)) if people else ""
        rows.append([group.label, {"text": num(people), "url": url, "num": True}, {"text": change, "num": True},
                     {"text": _money(spend), "num": True}])  # fmt: skip
    return {
        "rows": rows,
        "columns": [
            {"label": _("Group")},
            {"label": _("Customers"), "num": True},
            {"label": _("Change in 30 days"), "num": True},
            {"label": _("Had spent"), "num": True},
        ],
    }


def _moved(on: date, first: date) -> dict[str, Any]:
    """Moves of the ``MOVED_DAYS`` up to a date. On the first recorded one everybody came from nowhere: no move."""
    since = max(on - timedelta(days=MOVED_DAYS), first)
    found = groups.moved(since, on)
    names = {NONE: _("No order yet"), **dict(RfmGroup.choices)}
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    rows = [
        [
            f"{names[source]} → {names[target]}",
            {
                "text": num(people),
                "url": ways_url(Way("rfm", (source,), None, since), Way("rfm", (target,), None, on)),
                "num": True,
            },
        ]
        for (source, target), people in ordered
    ]
    return {
        "since": since,
        "until": on,
        "total": sum(found.values()),
        "rows": rows,
        "columns": [{"label": _("Move")}, {"label": _("People"), "num": True}],
        "sentence": _moved_sentence(found),
    }


_WARM = {"champions", "loyal", "potential_loyalists", "new", "promising"}


def _moved_sentence(found: Mapping[tuple[str, str], int]) -> str:
    """Good customers who cooled down, and cold ones who came back."""
    cooled = sum(n for (s, t), n in found.items() if s in _WARM and t not in {*_WARM, NONE})
    warmed = sum(n for (s, t), n in found.items() if s not in {*_WARM, NONE} and t in _WARM)
    told = [
        ngettext("%(n)s person cooled down", "%(n)s people cooled down", cooled) % {"n": num(cooled)},
        ngettext("%(n)s person came back to a warm group", "%(n)s people came back to a warm group", warmed)
        % {"n": num(warmed)},
    ]
    return _("%(cooled)s, %(warmed)s.") % {"cooled": told[0], "warmed": told[1]}

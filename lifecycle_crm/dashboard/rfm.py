"""RFM: the 5×5 grid of buyers, its eleven groups, and who moved between them.

Parse, ask ``customers.rfm``, render: the panels are made in ``rfm_panels``.
"""

from __future__ import annotations

import csv
import re
from datetime import date, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from customers import rfm as groups
from customers import segments
from lifecycle_crm.accounts.callers import may, need, person
from lifecycle_crm.accounts.models import User
from lifecycle_crm.dashboard import rfm_panels
from lifecycle_crm.dashboard.rfm_panels import LAYERS, MOVED_DAYS, Shown
from lifecycle_crm.lib import http
from lifecycle_crm.lib.errors import NotFound
from lifecycle_crm.templatetags.crm import day


class DatesForm(forms.Form):
    """The date whose group sizes are shown, and the earlier one they are compared with."""

    since = forms.DateField(label=gettext_lazy("Compared with the end of"), widget=forms.DateInput({"type": "date"}))
    on = forms.DateField(label=gettext_lazy("Groups at the end of"), widget=forms.DateInput({"type": "date"}))

    def __init__(self, data: QueryDict, first: date, newest: date) -> None:
        self.first, self.newest = first, newest
        on = data.get("on") or newest.isoformat()
        super().__init__({"on": on, "since": data.get("since") or self._before(on)})

    def _before(self, on: str) -> str:
        """``MOVED_DAYS`` earlier, as far as the history goes."""
        try:
            return max(date.fromisoformat(on) - timedelta(days=MOVED_DAYS), self.first).isoformat()
        except (ValueError, OverflowError):
            return self.first.isoformat()

    def clean_on(self) -> date:
        return self._known("on")

    def clean_since(self) -> date:
        return self._known("since")

    def _known(self, name: str) -> date:
        on: date = self.cleaned_data[name]
        if not self.first <= on <= self.newest:
            raise forms.ValidationError(
                _("Groups are known from %(first)s to %(newest)s. Choose a date between them.")
                % {"first": day(self.first), "newest": day(self.newest)}
            )
        return on

    def clean(self) -> dict[str, Any]:
        asked = super().clean() or {}
        since, on = asked.get("since"), asked.get("on")
        # On the first date everybody came from nowhere, which is no move.
        if since and on and since > on:
            self.add_error("since", _("Choose a date up to %(day)s.") % {"day": day(on)})
        return asked

    def dates(self) -> tuple[date, date]:
        """The two dates, or the default ones while the form is not valid."""
        if self.is_valid():
            return self.cleaned_data["since"], self.cleaned_data["on"]
        return max(self.newest - timedelta(days=MOVED_DAYS), self.first), self.newest


def _form(request: HttpRequest) -> DatesForm | None:
    ends = groups.recorded()
    return DatesForm(request.GET, *ends) if ends else None


def _shown(form: DatesForm | None) -> Shown:
    cells = groups.grid()
    if form is None:
        return Shown(cells)
    since, until = form.dates()
    return Shown(cells, groups.moves(since, until), since, until)


def _place(text: str) -> tuple[int, int] | None:
    """``5-4`` as recency and frequency."""
    found = re.fullmatch(r"([1-5])-([1-5])", text)
    return (int(found[1]), int(found[2])) if found else None


@require_GET
def rfm(request: HttpRequest) -> HttpResponse:
    cuts, form = groups.cuts(), _form(request)
    of = _shown(form)
    if cuts is None or not of.buyers:
        return http.page(request, "dashboard/rfm.html", {"is_empty": True})
    text = request.GET.get("layer", "")
    layer = text if text in LAYERS else "customers"
    place = _place(request.GET.get("cell", ""))
    query = request.GET.copy()
    query.pop("cell", None)

    def link(recency: int, frequency: int) -> str:
        to = query.copy()
        to["cell"] = f"{recency}-{frequency}"
        return f"?{to.urlencode()}#cell"

    context = {
        "of": of,
        "buyers": of.buyers,
        "layer": layer,
        "layers": http.choices(request, "layer", LAYERS, layer),
        "grid": rfm_panels.grid(of, layer, place, link),
        "panel": rfm_panels.panel(of, place) if place else None,
        "may_edit": may(request, User.may_steer),
        "close_url": f"?{query.urlencode()}",
        "sentence": rfm_panels.sentence(of),
        "groups": rfm_panels.eleven(of),
        "cuts": rfm_panels.scores(cuts),
        "cuts_on": cuts.computed_on,
        "cut_buyers": cuts.buyers,
        "is_thin": cuts.buyers < groups.FEW_BUYERS,
        "few": groups.FEW_BUYERS,
        "form": form,
        "past": rfm_panels.past(of.since, of.until) if of.since and of.until else None,
        "moved": rfm_panels.moved(of) if of.since else None,
        "csv": {table: rfm_panels.csv_url(table, query.urlencode()) for table in rfm_panels.TABLES},
    }
    return http.page(request, "dashboard/rfm.html", context, status=200 if form is None or form.is_valid() else 400)


@require_GET
def rfm_csv(request: HttpRequest, table: str) -> HttpResponse:
    """The numbers of a table for a machine: comma, point, ISO dates, keys instead of words."""
    form, rows = _form(request), rfm_panels.TABLES.get(table)
    if rows is None or (form is not None and not form.is_valid()):
        raise NotFound(_("There are no such numbers. The RFM page names those that can be downloaded."))
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="rfm-{table}.csv"'
    csv.writer(answer).writerows(rows(_shown(form)))
    return answer


@require_POST
def rfm_segment(request: HttpRequest) -> HttpResponse:
    """Save a cell, or the group it belongs to, as a segment that stays up to date."""
    need(request, User.may_steer)
    place = _place(request.POST.get("cell", ""))
    if place is None:
        raise NotFound(_("There is no such cell of the grid. Choose one on the RFM page."))
    group = groups.TABLE[place[0]][place[1] - 1]
    if request.POST.get("do") == "group":
        name, places = str(group.label), groups.cells(group)
    else:
        name = _("%(group)s, recency %(recency)d, frequency %(frequency)d") % {
            "group": group.label, "recency": place[0], "frequency": place[1],
        }  # fmt: skip
        places = [place]
    made = segments.create(name=name, condition=rfm_panels.condition(places), actor=person(request))
    messages.success(request, _("“%(name)s” is a segment now. It follows the scores.") % {"name": made.name})
    return redirect("customers:segment", key=made.key)

"""Stage flow: who stood where at the end of two dates, how they got there, and where they got stuck.

Parse, ask ``flow_queries``, render: the panels are made in ``flow_panels``. Every number is of people and opens exactly these
people.
"""

from __future__ import annotations

import csv
from datetime import date, timedelta
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET

from customers import segments
from customers.models import Segment
from lifecycle_crm.dashboard import flow_panels, flow_queries
from lifecycle_crm.dashboard.flow_panels import Asked
from lifecycle_crm.dashboard.flow_rollups import PERIODS
from lifecycle_crm.lib import clock, http
from lifecycle_crm.lib.errors import NotFound
from lifecycle_crm.templatetags.crm import day
from stages import flows
from stages.durations import STAY_DAYS

DEFAULT_DAYS = 30
MOST_COLUMNS = 6


def _segments() -> list[tuple[str, str]]:
    rows = Segment.objects.filter(archived_at=None).order_by("name").values_list("key", "name")
    return [("", _("Everybody")), *rows]


class PeriodForm(forms.Form):
    """Two dates at whose ends people are looked at, how many dates to draw, and of whom."""

    since = forms.DateField(label=gettext_lazy("From the end of"), widget=forms.DateInput({"type": "date"}))
    until = forms.DateField(label=gettext_lazy("To the end of"), widget=forms.DateInput({"type": "date"}))
    columns = forms.TypedChoiceField(
        label=gettext_lazy("Dates to draw"),
        choices=[(n, str(n)) for n in range(2, MOST_COLUMNS + 1)],
        coerce=int,
    )
    segment = forms.ChoiceField(label=gettext_lazy("Only people now in"), choices=_segments, required=False)

    def __init__(self, data: QueryDict, newest: date) -> None:
        self.newest = newest
        filled = {
            "since": data.get("since") or (newest - timedelta(days=DEFAULT_DAYS)).isoformat(),
            "until": data.get("until") or newest.isoformat(),
            "columns": data.get("columns") or "2",
            "segment": data.get("segment") or "",
        }
        super().__init__(filled)

    def clean_until(self) -> date:
        until: date = self.cleaned_data["until"]
        if until > self.newest:
            raise forms.ValidationError(
                _("No night has been run for %(day)s yet. Choose a date up to %(newest)s.")
                % {"day": day(until), "newest": day(self.newest)}
            )
        if until < date(1900, 1, 1):
            raise forms.ValidationError(_("Choose a date after 1900."))
        return until

    def clean(self) -> dict[str, Any]:
        asked = super().clean() or {}
        since, until = asked.get("since"), asked.get("until")
        if since and until and since >= until:
            self.add_error("since", _("Choose a date before %(day)s.") % {"day": day(until)})
        return asked


def asked(form: PeriodForm) -> Asked:
    """The period of a form, or the default one while it is not valid."""
    since, until, count, segment = form.newest - timedelta(days=DEFAULT_DAYS), form.newest, 2, ""
    if form.is_valid():
        since, until, count, segment = (form.cleaned_data[name] for name in ("since", "until", "columns", "segment"))
    return Asked(since, until, flows.columns(since, until, count), segment)


def _story(of: Asked) -> flow_queries.Story:
    within = segments.matching(segments.condition_of(segments.get(of.segment))) if of.segment else None
    return flow_queries.story(of.days, within)


@require_GET
def flow(request: HttpRequest) -> HttpResponse:
    newest = flow_queries.as_of()
    if newest is None:
        return http.page(request, "dashboard/flow.html", {"is_empty": True})
    form = PeriodForm(request.GET, newest)
    of = asked(form)
    story = _story(of)
    passed = story.passed()
    context = {
        "form": form,
        "of": of,
        "segment": segments.get(of.segment).name if of.segment else "",
        "periods": _periods(request.GET, of, newest),
        "query": request.GET.urlencode(),
        "matrix": flow_panels.matrix(of, story.cells()),
        "chart": flow_panels.chart(of, story, request.GET.urlencode()),
        "bottleneck": flow_panels.bottleneck(passed),
        "passed": [flow_panels.passed(of, row) for row in passed],
        "leaks": flow_panels.leaks(of, story),
        "stays": flow_panels.stays(of, story),
        "stay_days": STAY_DAYS,
        "speed": flow_panels.speed(of, story),
        "paths": flow_panels.paths(of, story),
        "newest": newest,
    }
    return http.page(request, "dashboard/flow.html", context, status=200 if form.is_valid() else 400)


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


@require_GET
def flow_csv(request: HttpRequest, panel: str) -> HttpResponse:
    """The numbers of a panel for a machine: keys instead of words, shares between 0 and 1."""
    newest = flow_queries.as_of()
    form = PeriodForm(request.GET, newest or clock.last_complete_day())
    table = flow_panels.TABLES.get(panel)
    if newest is None or table is None or not form.is_valid():
        raise NotFound(_("There are no such numbers. Choose two dates on the page of the stage flow."))
    of = asked(form)
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="flow-{panel}-{of.since}-{of.until}.csv"'
    csv.writer(answer).writerows(table(of, _story(of)))
    return answer

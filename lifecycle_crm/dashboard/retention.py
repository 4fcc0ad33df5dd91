"""Retention: of those who first bought in the same month or week, how many came back, what they brought, who stayed.

Parse, ask ``cohort_rollups``, render: the panels are made in ``retention_panels``.
"""

from __future__ import annotations

import csv
from typing import Any

from django import forms
from django.db.models import Max, Min
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from lifecycle_crm.dashboard import cohort_rollups, retention_panels
from lifecycle_crm.dashboard.models import StageDay, TradeDay
from lifecycle_crm.dashboard.retention_panels import HORIZONS, MEASURES, UNITS, Asked
from lifecycle_crm.lib import http

DEFAULTS: dict[str, Any] = {"unit": "month", "periods": 12, "measure": "by", "compare": False}


class AskedForm(forms.Form):
    """What to show. Whatever is not understood is the default, said beside the field."""

    unit = forms.ChoiceField(label=_("Cohorts by"), choices=[("month", _("Month")), ("week", _("Week"))])
    periods = forms.TypedChoiceField(label=_("Periods shown"), choices=[(n, str(n)) for n in HORIZONS], coerce=int)
    measure = forms.ChoiceField(label=_("Measure"), choices=list(MEASURES.items()))
    compare = forms.BooleanField(label=_("Compare with the same cohorts a year before"), required=False)

    def __init__(self, data: QueryDict) -> None:
        super().__init__({name: data.get(name) or value for name, value in DEFAULTS.items()})
        self.full_clean()

    def value(self, name: str) -> Any:
        return self.cleaned_data.get(name, DEFAULTS[name])


def _asked(form: AskedForm) -> Asked | None:
    """``None`` before a night has counted a cohort."""
    last = TradeDay.objects.aggregate(last=Max("business_date"))["last"]
    if last is None or cohort_rollups.first_cohort(form.value("unit")) is None:
        return None
    return retention_panels.asked(
        form.value("unit"), form.value("measure"), form.value("periods"), is_compared=form.value("compare"), last=last,
        known_since=StageDay.objects.aggregate(first=Min("business_date"))["first"],
    )  # fmt: skip


@require_GET
def retention(request: HttpRequest) -> HttpResponse:
    """Do newer customers come back as much as older ones did?"""
    form = AskedForm(request.GET)
    of = _asked(form)
    if of is None or not any(of.cohort(first, "by").whole(1) for first in of.firsts()):
        return http.page(request, "dashboard/retention.html", {"is_empty": True})
    query = request.GET.urlencode()
    context = {
        "form": form,
        "of": of,
        "measures": http.choices(request, "measure", MEASURES, of.measure),
        "measure": MEASURES[of.measure],
        "unit": UNITS[of.unit],
        "sentence": retention_panels.sentence(of),
        "table": retention_panels.table(of),
        "chart": retention_panels.chart(of),
        "csv_url": retention_panels.csv_url(query),
    }
    return http.page(request, "dashboard/retention.html", context, status=400 if form.errors else 200)


@require_GET
def retention_csv(request: HttpRequest) -> HttpResponse:
    """Every measure for a machine: comma, point, ISO dates, keys instead of words."""
    form = AskedForm(request.GET)
    of = _asked(form)
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = 'attachment; filename="retention.csv"'
    csv.writer(answer).writerows(retention_panels.csv_rows(of) if of else ())
    return answer

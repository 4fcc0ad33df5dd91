"""The page that says what works for whom: ages down, stages across, one table for each channel."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET

from campaigns import whom
from campaigns.models import Channel
from campaigns.uplift import ENOUGH
from lifecycle_crm.lib import http
from lifecycle_crm.templatetags.crm import num, signed, stage_name


def _age(key: str) -> str:
    if key == whom.ALL:
        return _("All ages")
    if key == whom.UNKNOWN:
        return _("Age not known")
    low, _dash, high = key.partition("-")
    if not low:
        return _("up to %(age)s") % {"age": num(int(high))}
    if not high:
        return _("%(age)s and older") % {"age": num(int(low))}
    return _("%(low)s to %(high)s") % {"low": num(int(low)), "high": num(int(high))}


def _stage(key: str) -> str:
    if key == whom.ALL:
        return _("All stages")
    return _("In no stage yet") if key == whom.UNKNOWN else stage_name(key)


def _difference(cell: whom.Cell) -> str:
    """How many more of a hundred ordered than of those held out."""
    if cell.gap is None or cell.low is None or cell.high is None:
        return ""
    return _("%(gap)s of 100 (%(low)s to %(high)s)") % {
        "gap": signed(100 * cell.gap, 1),
        "low": signed(100 * cell.low, 1),
        "high": signed(100 * cell.high, 1),
    }


def _mark(cell: whom.Cell) -> str:
    if not cell.is_clear or cell.gap is None:
        return "neutral"
    return "ok" if cell.gap > 0 else "bad"


def _grid(found: whom.Table, channel: str) -> dict[str, Any]:
    """Columns and rows that have somebody in them, first those with everybody."""
    stages = [one for one in (whom.ALL, *whom.STAGE_KEYS) if (channel, whom.ALL, one) in found.cells]
    ages = [one for one in (whom.ALL, *whom.AGE_KEYS) if (channel, one, whom.ALL) in found.cells]
    rows = []
    for age in ages:
        cells = []
        for stage in stages:
            cell = found.cells.get((channel, age, stage))
            cells.append(None if cell is None else {"is": cell, "gap": _difference(cell), "mark": _mark(cell)})
        rows.append({"name": _age(age), "is_all": age == whom.ALL, "cells": cells})
    return {"name": Channel(channel).label, "stages": [_stage(one) for one in stages], "rows": rows}


@require_GET
def whom_page(request: HttpRequest) -> HttpResponse:
    """``?days=``: 90, 180 or 365."""
    asked = request.GET.get("days", "")
    days = int(asked) if asked in map(str, whom.PERIODS) else whom.PERIODS[0]
    found = whom.recent(days=days)
    labels = {str(one): ngettext("%(n)s day", "%(n)s days", one) % {"n": num(one)} for one in whom.PERIODS}
    context = {
        "table": found,
        "grids": [_grid(found, channel) for channel in found.channels],
        "periods": http.choices(request, "days", labels, str(days)),
        "enough": ENOUGH,
        "crumbs": [{"label": _("Campaigns"), "url": reverse("campaigns:list")}, {"label": _("What works for whom")}],
    }
    return http.page(request, "campaigns/whom.html", context)

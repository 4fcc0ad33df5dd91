"""The button that runs a night. The night itself lives at the roof, so the root URL conf hands its verb in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from lifecycle_crm.lib import bell, clock
from lifecycle_crm.templatetags.crm import day
from stages import queries
from stages.models import Night
from stages.rulesets import may_publish


@require_POST
def run_now(request: HttpRequest, open_night: Callable[[date], Night]) -> HttpResponse:
    """Open the oldest night that is missing, or the one that stopped, and ring for a worker."""
    if not may_publish(request.user):
        raise PermissionDenied
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

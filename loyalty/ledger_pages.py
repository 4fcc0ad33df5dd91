"""The ledger as staff read it: every movement of a programme, the newest first."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from customers.queries import shown_name
from customers.timeline import Cursor
from lifecycle_crm.lib import http
from loyalty import queries
from loyalty.forms import LedgerForm


@require_GET
def entries(request: HttpRequest) -> HttpResponse:
    """The movements of ``?programme=``, ``?kind=``, ``?customer=`` from ``?since=`` to ``?until=``, in pages by key."""
    form = LedgerForm(request.GET)
    context: dict[str, Any] = {
        "form": form,
        "crumbs": [{"label": _("Loyalty"), "url": reverse("loyalty:overview")}],
        "proved_on": queries.proved_on(),
        "is_frozen": queries.frozen().exists(),
    }
    if not form.is_valid():
        return http.page(request, "loyalty/ledger.html", context, status=422)
    rows, following = queries.movements(**form.asked(), before=Cursor.decode(request.GET.get("before", "")))
    query = request.GET.copy()
    query["before"] = following.encode() if following else ""
    context |= {
        "rows": [(one, shown_name(one.customer, request.user), queries.explain(one)) for one in rows],
        "next_url": f"?{query.urlencode()}" if following else "",
    }
    return http.page(request, "loyalty/ledger.html", context)

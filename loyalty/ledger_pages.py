"""The ledger as staff read it: every movement of a programme, the newest first."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods

from customers.queries import shown_name
from customers.timeline import Cursor
from lifecycle_crm.lib import http
from lifecycle_crm.lib.errors import DomainError
from lifecycle_crm.lib.numbers import row_number
from lifecycle_crm.templatetags.crm import num
from loyalty import corrections, queries, statements
from loyalty.callers import for_those_who_set_up, may_set_up, person
from loyalty.forms import LedgerForm
from loyalty.models import Entry
from loyalty.movement_forms import TakeBackForm


@require_GET
def entries(request: HttpRequest) -> HttpResponse:
    """The movements of ``?programme=``, ``?kind=``, ``?customer=`` from ``?since=`` to ``?until=``, in pages by key."""
    form = LedgerForm(request.GET)
    context: dict[str, Any] = {
        "form": form,
        "crumbs": [{"label": _("Loyalty"), "url": reverse("loyalty:overview")}],
        "proved_on": queries.proved_on(),
        "is_frozen": queries.frozen().exists(),
        "may_undo": may_set_up(request),
    }
    if not form.is_valid():
        return http.page(request, "loyalty/ledger.html", context, status=422)
    rows, following = queries.movements(**form.asked(), before=Cursor.decode(request.GET.get("before", "")))
    query = request.GET.copy()
    query["before"] = following.encode() if following else ""
    undone = queries.undone_by([one.pk for one in rows])
    context |= {
        "rows": [
            (one, shown_name(one.customer, request.user), statements.explain(one), undone.get(one.pk)) for one in rows
        ],
        "next_url": f"?{query.urlencode()}" if following else "",
    }
    return http.page(request, "loyalty/ledger.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@for_those_who_set_up
def undo_many(request: HttpRequest) -> HttpResponse:
    """Several movements (``?entry=``, repeated) undone with one reason: a GET says which can be, a POST does it."""
    asked = {number for text in request.GET.getlist("entry") if (number := row_number(text)) is not None}
    found = statements.entries().filter(pk__in=sorted(asked)[: corrections.MOST + 1]).select_related("programme")
    chosen = list(found.order_by("-effective_at", "-pk"))
    form, status = TakeBackForm(request.POST if request.method == "POST" else None), 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                done = corrections.undo_many(entries=chosen, actor=person(request), **form.cleaned_data)
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                n = len(chosen) - len(done.left)
                said = ngettext("%(n)s movement undone.", "%(n)s movements undone.", n) % {"n": num(n)}
                if done.left:
                    still = ngettext("%(n)s stayed as it was.", "%(n)s stayed as they were.", len(done.left))
                    said = f"{said} {still % {'n': num(len(done.left))}}"
                messages.success(request, said)
                return redirect("loyalty:ledger")
    rows: list[tuple[Entry, str, str, str]] = [
        (one, shown_name(one.customer, request.user), statements.explain(one), corrections.why_not(one))
        for one in chosen
    ]
    context = {
        "rows": rows,
        "possible": sum(1 for row in rows if not row[3]),
        "most": corrections.MOST,
        "is_too_many": len(chosen) > corrections.MOST,
        "form": form,
        "crumbs": [
            {"label": _("Loyalty"), "url": reverse("loyalty:overview")},
            {"label": _("Ledger"), "url": reverse("loyalty:ledger")},
        ],
    }
    return http.page(request, "loyalty/undo_many.html", context, status=status)

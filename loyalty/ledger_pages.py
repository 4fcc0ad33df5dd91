"""The ledger as staff read it: every movement of a programme, the newest first."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods

from customers.importing import guarded
from customers.queries import shown_name
from customers.timeline import Cursor
from lifecycle_crm.lib import clock, http
from lifecycle_crm.lib.errors import DomainError, InvalidInput
from lifecycle_crm.lib.numbers import row_number
from lifecycle_crm.templatetags.crm import num
from loyalty import corrections, journal, queries, statements
from loyalty.callers import for_those_who_set_up, may_set_up, person
from loyalty.forms import LedgerForm
from loyalty.models import EarningRule, Entry
from loyalty.movement_forms import TakeBackForm


@dataclass(frozen=True)
class Row:
    """A line of the page."""

    entry: Entry
    who: str
    why: str
    undone: int | None
    after: int | None
    rules: Sequence[EarningRule]
    order: str
    last_day: date | None


def _rows(entries: Sequence[Entry], request: HttpRequest) -> list[Row]:
    known, undone = journal.facts_of(entries), journal.undone_by([one.pk for one in entries])
    return [
        Row(
            entry=one,
            who=shown_name(one.customer, request.user),
            why=statements.explain(one),
            undone=undone.get(one.pk),
            after=known.after.get(one.pk),
            rules=known.rules.get(one.pk, ()),
            order=known.orders.get(one.pk, ""),
            last_day=queries.last_day(lot.expires_at)
            if (lot := getattr(one, "lot", None)) and lot.expires_at
            else None,
        )
        for one in entries
    ]


@require_GET
def entries(request: HttpRequest) -> HttpResponse:
    """The movements that the form asks for, in pages by key, with what all of them come to."""
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
    asked = form.asked()
    found, following = journal.page(asked, before=Cursor.decode(request.GET.get("before", "")))
    query = request.GET.copy()
    query.pop("before", None)
    csv_query = query.urlencode()
    query["before"] = following.encode() if following else ""
    context |= {
        "rows": _rows(found, request),
        "sums": journal.sums(asked),
        "agreement": journal.agreement(asked.programme),
        "csv_url": f"{reverse('loyalty:ledger-csv')}?{csv_query}",
        "next_url": f"?{query.urlencode()}" if following else "",
    }
    return http.page(request, "loyalty/ledger.html", context)


HEAD = (
    "id", "time", "recorded", "customer", "kind", "points", "usable_after", "rules", "order", "by", "reason", "last_day",
    "corrects", "corrected_by",
)  # fmt: skip


class _Echo:
    """What ``csv`` writes is what it answers."""

    def write(self, line: str) -> str:
        return line


@require_GET
def entries_csv(request: HttpRequest) -> HttpResponseBase:
    """All movements that the form asks for as CSV, streamed; customers by their numbers."""
    form = LedgerForm(request.GET)
    if not form.is_valid():
        raise InvalidInput(_("These filters make no sense. Correct them on the ledger's page."))
    writer = csv.writer(_Echo())

    def lines() -> Iterator[str]:
        yield writer.writerow(HEAD)
        for part in journal.pages(form.asked()):
            for row in _rows(part, request):
                one = row.entry
                cells: list[Any] = [
                    one.pk, one.effective_at.isoformat(), one.recorded_at.isoformat(), one.customer_id, one.kind, one.points,
                    row.after, " ".join(f"{rule.key}/{rule.version}" for rule in row.rules), row.order, one.actor or "",
                    row.why, row.last_day or "", one.reverses_id or one.takes_back_id or "", row.undone or "",
                ]  # fmt: skip
                yield writer.writerow([guarded(cell) if isinstance(cell, str) else cell for cell in cells])

    answer = StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="points-{clock.today()}.csv"'
    return answer


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

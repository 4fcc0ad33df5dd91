"""The pages of this app: the list of customers with its export, and the imports."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from customers import filters, importing, queries
from customers.forms import ColumnsForm, UploadForm
from customers.models import Customer, ImportRow, ImportRun
from lifecycle_crm.accounts.callers import may, need, person, sees_contacts
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock, health
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.lib.http import page
from lifecycle_crm.lib.money import from_minor
from lifecycle_crm.templatetags.crm import num

# --- The list ---------------------------------------------------------------------------------------------------------


@require_GET
def customer_list(request: HttpRequest) -> HttpResponse:
    if clean := _without_blanks(request):
        return redirect(clean)
    chosen = filters.CustomerFilter(request.GET, queryset=queries.people())
    chips = chosen.chips(request.path, request.GET)
    is_valid = chosen.form.is_valid()
    rows = chosen.qs if is_valid else queries.people().none()
    count = queries.count(rows)
    cursor = request.GET.get("page", "")
    sort = request.GET.get("sort") or queries.DEFAULT_SORT
    part = queries.slice_of(rows, sort=sort, cursor=cursor)
    shown = _whole(request.GET.get("shown"), most=queries.COUNT_LIMIT) + len(part.rows) if cursor else len(part.rows)
    for customer in part.rows:
        customer.shown_name = queries.shown_name(customer, request.user)
        customer.stage_date = queries.stage_date(queries.facts_of(customer))
    scope = filters.in_words(chips)
    how_many = num(count.value) if count.is_exact else _("more than %(n)s") % {"n": num(count.value)}
    by, is_down = queries.read_sort(sort)
    return page(
        request,
        "customers/list.html",
        {
            "filter": chosen,
            "groups": _field_groups(chosen.form),
            "form": chosen.form,
            "chips": [{"label": c.label, "value": c.value, "remove_url": c.remove_url} for c in chips],
            "is_filtered": bool(chips) or not is_valid,
            "is_open": not is_valid,
            "title": " · ".join(part for part in (_("Customers"), scope, how_many) if part),
            "heading": " · ".join(part for part in (_("Customers"), scope) if part),
            "how_many": how_many,
            "count": count,
            "customers": part.rows,
            "shown": shown,
            "next_url": _next_url(request, part.next, shown),
            "is_first": not cursor,
            "start_url": _with(request.GET, page=None, shown=None),
            "export_url": _with(request.GET, page=None, shown=None).removeprefix("?"),
            "columns": _columns(request.GET, by, is_down),
            "hidden": [(name, value) for name, value in request.GET.lists() if name == "sort"],
            "sees_contacts": sees_contacts(request),
            "may_change": may(request, User.may_serve),
            "is_empty": not chips and is_valid and not count.value,
        },
        status=200 if is_valid else 400,
    )


def _field_groups(form: Any) -> list[dict[str, Any]]:
    """The filters behind "More filters", in the groups a person thinks in."""
    groups = (
        (_("Who"), ("segment", "segment_on", "country", "language", "consent", "tag")),
        (_("Orders"), ("last_min", "last_max", "orders_min", "orders_max", "spend_min", "spend_max")),
        (_("Standing"), ("points_min", "nps")),
        (_("RFM"), ("rfm", "r_min", "r_max", "f_min", "f_max", "m_min", "m_max")),
        (_("Moves"), ("moved_from", "moved_to", "moved_days", "moved_since", "moved_until")),
    )
    return [{"label": label, "fields": [form[name] for name in names]} for label, names in groups]


_SORT_HEADS = ("name", "since", "last", "orders", "spend", "points")
"""The heads that sort, in the order of the table."""


def _columns(query: QueryDict, by: queries.Sort, is_down: bool) -> list[dict[str, Any]]:
    """The sortable heads: the address that sorts by each, and the direction that is on."""
    columns = []
    for sort in (queries.SORTS[key] for key in _SORT_HEADS):
        is_on = sort.key == by.key
        goes_down = (not is_down) if is_on else sort.starts_down
        columns.append(
            {
                "key": sort.key,
                "label": sort.label,
                "url": _with(query, sort=f"-{sort.key}" if goes_down else sort.key, page=None, shown=None),
                "direction": ("descending" if is_down else "ascending") if is_on else "none",
            }
        )
    return columns


def _with(query: QueryDict, **changes: str | None) -> str:
    changed = query.copy()
    for name, value in changes.items():
        changed.pop(name, None)
        if value is not None:
            changed[name] = value
    return f"?{changed.urlencode()}"


def _next_url(request: HttpRequest, cursor: str, shown: int) -> str:
    return _with(request.GET, page=cursor, shown=str(shown)) if cursor else ""


def _whole(text: str | None, *, most: int) -> int:
    return min(int(text), most) if text and text.isdecimal() and len(text) < 10 else 0


def _without_blanks(request: HttpRequest) -> str:
    """The same address without the fields a form sends empty; "" when there are none."""
    kept = QueryDict(mutable=True)
    for name, values in request.GET.lists():
        if filled := [value for value in values if value.strip()]:
            kept.setlist(name, filled)
    if sum(map(len, request.GET.lists())) == sum(map(len, kept.lists())) and kept == request.GET:
        return ""
    return f"{request.path}?{kept.urlencode()}" if kept else request.path


# --- The export -------------------------------------------------------------------------------------------------------


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, value: str) -> str:
        return value


_CONTACTS = ("name", "email", "phone")
_EXPORTED = (
    "country", "city", "language", "stage", "stage_since", "last_order_at", "orders", "spend", "currency", "points",
    "tier", "nps_score", "may_email", "recency", "frequency", "monetary",
)  # fmt: skip


@require_GET
def customer_export(request: HttpRequest) -> StreamingHttpResponse:
    """The filtered list as CSV, streamed in the order of the page. Contact details only for who may see them."""
    chosen = filters.CustomerFilter(request.GET, queryset=queries.people())
    rows = chosen.qs if chosen.form.is_valid() else queries.people().none()
    people = queries.in_keyset_order(rows, sort=request.GET.get("sort") or queries.DEFAULT_SORT)
    response = StreamingHttpResponse(
        _csv(people, with_contacts=sees_contacts(request)), content_type="text/csv; charset=utf-8"
    )
    response["Content-Disposition"] = f'attachment; filename="customers-{clock.today():%Y-%m-%d}.csv"'
    return response


def _csv(people: Iterator[Customer], *, with_contacts: bool) -> Iterator[str]:
    writer = csv.writer(_Echo(), lineterminator="\r\n")
    contacts = _CONTACTS if with_contacts else ()
    yield "\ufeff" + writer.writerow(["id", *contacts, *_EXPORTED])
    for customer in people:
        cells = [customer.pk, *(getattr(customer, name) for name in contacts), *_export_values(customer)]
        yield writer.writerow([importing.guarded(_cell(value)) for value in cells])


def _export_values(customer: Customer) -> list[Any]:
    known = queries.facts_of(customer)
    spend = from_minor(known.spend_minor, settings.SHOP_CURRENCY) if known else None
    of_facts = {"spend": spend, "currency": settings.SHOP_CURRENCY}
    return [
        of_facts[name]
        if name in of_facts
        else getattr(customer, name)
        if name in ("country", "city", "language")
        else getattr(known, name, None)
        for name in _EXPORTED
    ]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


# --- Imports ----------------------------------------------------------------------------------------------------------


@require_GET
def import_list(request: HttpRequest) -> HttpResponse:
    runs = ImportRun.objects.select_related("created_by").order_by("-pk")
    before = _whole(request.GET.get("page"), most=2**60)
    if before:
        runs = runs.filter(pk__lt=before)
    found = list(runs[: queries.PAGE_SIZE + 1])
    shown = found[: queries.PAGE_SIZE]
    return page(
        request,
        "customers/import_list.html",
        {
            "runs": shown,
            "next_url": f"?page={shown[-1].pk}" if len(found) > len(shown) else "",
            "may_change": may(request, User.may_serve),
        },
    )


@require_http_methods(["GET", "POST"])
def import_new(request: HttpRequest) -> HttpResponse:
    need(request, User.may_serve)
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        try:
            run = importing.receive(
                kind=form.cleaned_data["kind"],
                file=form.cleaned_data["file"],
                file_name=form.cleaned_data["file"].name,
                source=form.cleaned_data["source"],
                encoding=form.cleaned_data["encoding"],
                actor=person(request),
            )
        except DomainError as problem:
            form.add_error("file", problem.message)
        else:
            return redirect("customers:import-detail", run.pk)
    return page(
        request, "customers/import_new.html", {"form": form}, status=400 if form.is_bound and form.errors else 200
    )


@require_http_methods(["GET", "POST"])
def import_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """Where an import stands: its columns to choose, its progress, or what came of it."""
    run = _run(pk)
    if run.state == ImportRun.State.UPLOADED and run.options.get(importing.WAITS_FOR_COLUMNS):
        return _choose_columns(request, run)
    refusals = list(ImportRow.objects.filter(run=run).order_by("line")[:50])
    is_open = run.state not in (ImportRun.State.DONE, ImportRun.State.FAILED)
    waited = (clock.now() - run.created_at).total_seconds()
    total = _about_rows(run)
    if request.htmx and not is_open:
        # The end also changes the head of the page and brings the refused lines: load it as a whole.
        return HttpResponse(status=204, headers={"HX-Refresh": "true"})
    took = (run.finished_at - run.started_at).total_seconds() if run.finished_at and run.started_at else None
    return page(
        request,
        "customers/import_detail.html",
        {
            "run": run,
            "is_open": is_open,
            "has_no_worker": is_open
            and not health.worker_is_well()
            and (run.state != ImportRun.State.RUNNING or waited > 60),
            "poll_seconds": _poll_seconds(waited),
            "total": total,
            "progress_text": _("%(done)s of about %(total)s") % {"done": num(run.rows), "total": num(total)}
            if total
            else num(run.rows),
            "seconds": took,
            "refusals": refusals,
            "more_refusals": max(0, run.refused - len(refusals)),
            "may_change": may(request, User.may_serve),
            "sees_contacts": sees_contacts(request),
            "sentence": _result_sentence(run),
        },
    )


def _choose_columns(request: HttpRequest, run: ImportRun) -> HttpResponse:
    need(request, User.may_serve)
    preview = importing.preview(run)
    form = ColumnsForm(request.POST or None, run=run, preview=preview)
    if request.method == "POST" and form.is_valid():
        try:
            importing.choose(
                run=run,
                mapping=form.mapping(),
                options=form.options(),
                is_dry_run=request.POST.get("act") != "run",
            )
        except DomainError as problem:
            form.add_error(None, problem.message)
        else:
            return redirect("customers:import-detail", run.pk)
    return page(
        request,
        "customers/import_columns.html",
        {
            "run": run,
            "form": form,
            "preview": preview,
            "encoding": preview.encoding.removesuffix("-sig").upper(),
            "rows": max(len(preview.rows), preview.lines - 2),
        },
        status=400 if form.is_bound and form.errors else 200,
    )


@require_POST
def import_run(request: HttpRequest, pk: int) -> HttpResponse:
    """The real run after its dry run."""
    need(request, User.may_serve)
    again = importing.again(run=_run(pk), actor=person(request), is_dry_run=False)
    return redirect("customers:import-detail", again.pk)


@require_GET
def import_refusals(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The refused lines in the file's own shape, with the reason of each. They hold what people sent us."""
    need(request, User.sees_contacts)
    run = _run(pk)
    response = StreamingHttpResponse(importing.refused_lines(run), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="refused-{run.pk}.csv"'
    return response


def _run(pk: int) -> ImportRun:
    run = ImportRun.objects.select_related("created_by").filter(pk=pk).first()
    if run is None:
        raise NotFound(_("There is no import %(pk)d.") % {"pk": pk})
    return run


def _about_rows(run: ImportRun) -> int:
    """How many rows the file seems to have: its lines without the head and the end; a cell with line breaks counts more."""
    return max(run.rows, int(run.options.get("lines", 0)) - 2)


def _poll_seconds(waited: float) -> int:
    """Ask again soon at first, then less often: 1, 2, 4, 8 seconds."""
    return next((pause for limit, pause in ((5, 1), (15, 2), (60, 4)) if waited < limit), 8)


def _result_sentence(run: ImportRun) -> str:
    """What came of a run in words, or would come of it."""
    n = num(run.created)
    if run.kind == ImportRun.Kind.ORDERS:
        if run.is_dry_run:
            text = ngettext("%(n)s order would be new.", "%(n)s orders would be new.", run.created) % {"n": n}
        else:
            text = ngettext("%(n)s order is new.", "%(n)s orders are new.", run.created) % {"n": n}
    elif run.is_dry_run:
        text = ngettext("%(n)s customer would be new.", "%(n)s customers would be new.", run.created) % {"n": n}
    else:
        text = ngettext("%(n)s customer is new.", "%(n)s customers are new.", run.created) % {"n": n}
    return str(text)

"""The pages that let points be used longer: whose, until when and why; what was extended; and how to take it back."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods

from customers.queries import shown_name
from lifecycle_crm.lib import clock, http
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.lib.numbers import row_number
from lifecycle_crm.templatetags.crm import month as month_name
from lifecycle_crm.templatetags.crm import num
from loyalty import ledger, queries
from loyalty.callers import a_programme, for_those_who_set_up, may_set_up, person
from loyalty.callers import customer as find_customer
from loyalty.models import Extension
from loyalty.movement_forms import ExtendForm, TakeBackForm

PAGE = 30


def _crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    return [{"label": label, "url": url} for label, url in ((_("Loyalty"), reverse("loyalty:overview")), *more)]


@require_GET
def extension_list(request: HttpRequest) -> HttpResponse:
    """Every decision that points may be used longer, and every one that took one back, the last first."""
    page = Paginator(queries.extensions(), PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "may_set_up": may_set_up(request), "crumbs": _crumbs()}
    return http.page(request, "loyalty/extensions.html", context)


def _month(request: HttpRequest) -> date | None:
    wanted = request.GET.get("month", "")
    try:
        return date.fromisoformat(f"{wanted}-01") if wanted else None
    except ValueError:
        raise NotFound(_("There is no such month. Choose one from the calendar.")) from None


@require_http_methods(["GET", "HEAD", "POST"])
@for_those_who_set_up
def extend(request: HttpRequest) -> HttpResponse:
    """Points of ``?customer=``, or of everybody that end in ``?month=`` (2026-12; default: this one), in ``?programme=``:
    until when, and why."""
    programme, month = a_programme(request), _month(request)
    number = row_number(request.GET.get("customer"))
    customer = find_customer(number) if number is not None else None
    if customer is None and month is None:
        month = clock.month(clock.today())
    whose: dict[str, Any] = {"programme": programme, "customers": None if customer is None else [customer]}
    if month is not None:
        whose |= {"ends_from": clock.day_start(month), "ends_before": clock.day_start(clock.month(month, 1))}
    form = ExtendForm(request.POST if request.method == "POST" else None)
    status = 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                done = ledger.extend(actor=person(request), **form.verb(), **whose)
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                said = ngettext(
                    "%(points)s point can be used longer.", "%(points)s points can be used longer.", done.points
                )
                messages.success(request, said % {"points": num(done.points)})
                return redirect("loyalty:extensions")
    points, people = queries.ending(**whose)
    who = shown_name(customer, request.user) if customer else ""
    context = {
        "programme": programme,
        "who": who,
        "month": month_name(month) if month else "",
        "points": points,
        "people": people,
        "form": form,
        "back": reverse("loyalty:account", args=[customer.pk]) if customer else reverse("loyalty:liability"),
        "crumbs": _crumbs((_("Extensions"), reverse("loyalty:extensions")), (_("Let points be used longer"), "")),
    }
    return http.page(request, "loyalty/extend.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@for_those_who_set_up
def take_back(request: HttpRequest, pk: int) -> HttpResponse:
    """A GET says what was extended; a POST lets what is left of it end as it would have."""
    found = queries.extensions().filter(pk=pk, undoes=None).first() if pk < 2**63 else None
    if found is None:
        raise NotFound(_("There is no such extension. Choose one from the list."))
    form, status = TakeBackForm(request.POST if request.method == "POST" else None), 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                done: Extension = ledger.take_back_extension(
                    extension=found, actor=person(request), **form.cleaned_data
                )
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                said = ngettext(
                    "%(points)s point ends as before.", "%(points)s points end as before.", done.points
                )  # fmt: skip
                messages.success(request, said % {"points": num(done.points)})
                return redirect("loyalty:extensions")
    context = {
        "found": found,
        "form": form,
        "crumbs": _crumbs((_("Extensions"), reverse("loyalty:extensions")), (_("Take back"), "")),
    }
    return http.page(request, "loyalty/extension_undo.html", context, status=status)

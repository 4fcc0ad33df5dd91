"""The staff's pages of vouchers: the series, their codes, and one for a customer."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from customers.queries import shown_name
from lifecycle_crm.lib import http
from lifecycle_crm.lib.errors import DomainError, InvalidInput, NotFound
from lifecycle_crm.templatetags.crm import num
from loyalty import callers, codes, vouchers
from loyalty.models import Voucher, VoucherSeries
from loyalty.reward_forms import GenerateForm, IssueForm, SeriesForm, UploadForm, UseVoucherForm


def _crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    first = [
        (_("Loyalty"), reverse("loyalty:overview")),
        (_("Rewards"), reverse("loyalty:rewards")),
        (_("Vouchers"), reverse("loyalty:vouchers")),
    ]
    return [{"label": label, "url": url} for label, url in (*first, *more)]


@require_GET
def series_list(request: HttpRequest) -> HttpResponse:
    """All series with their counts; ``?code=`` looks one code up, as a till would."""
    rows = list(VoucherSeries.objects.all())
    counted = vouchers.counts(rows)
    for one in rows:
        one.said = vouchers.said(one)  # type: ignore[attr-defined]
        one.counts = counted[one.pk]  # type: ignore[attr-defined]
    words = request.GET.get("code", "")
    found, problem = None, ""
    if words:
        try:
            found = vouchers.find(words)
        except DomainError as refused:
            problem = refused.message
    context = {
        "rows": rows,
        "words": words,
        "found": found,
        "problem": problem or (str(vouchers.refusal(found) or "") if found else ""),
        "found_code": codes.shown(found.code) if found else "",
        "found_worth": vouchers.said(found.series) if found else "",
        "found_who": shown_name(found.customer, request.user) if found and found.customer else "",
        "use_form": UseVoucherForm(initial={"code": found.code}) if found and callers.may_act(request) else None,
        "may_set_up": callers.may_set_up(request),
        "crumbs": _crumbs()[:2],
    }
    return http.page(request, "loyalty/vouchers.html", context)


@require_POST
@callers.for_those_who_act
def voucher_use(request: HttpRequest) -> HttpResponse:
    """The code is used up, once however often the button is pressed."""
    form = UseVoucherForm(request.POST)
    if not form.is_valid():
        raise InvalidInput(_("Look the code up and press the button on this page."))
    try:
        done = vouchers.use(**form.cleaned_data)
    except DomainError as problem:
        messages.error(request, problem.message)
    else:
        messages.success(request, _("%(code)s is used: %(worth)s.") % {
            "code": codes.shown(done.code), "worth": vouchers.said(done.series),
        })  # fmt: skip
    return redirect(f"{reverse('loyalty:vouchers')}?{urlencode({'code': form.cleaned_data['code']})}")


@require_http_methods(["GET", "HEAD", "POST"])
@callers.for_those_who_set_up
def series_new(request: HttpRequest) -> HttpResponse:
    """A new series."""
    form = SeriesForm(request.POST if request.method == "POST" else None)
    status = 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                made = vouchers.create(actor=callers.person(request), **form.cleaned_data)
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                messages.success(request, _("“%(name)s” is saved.") % {"name": made.name})
                return redirect("loyalty:voucher-series", made.pk)
    context = {"form": form, "crumbs": _crumbs((_("New vouchers"), ""))}
    return http.page(request, "loyalty/voucher_new.html", context, status=status)


def _series(pk: int) -> VoucherSeries:
    found = VoucherSeries.objects.filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise NotFound(_("There is no such series of vouchers. Choose one from the list."))
    return found


@require_GET
def series_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One series: how many codes are in which state, forms to add codes and to issue one, the last that were issued."""
    return _detail(request, _series(pk))


def _detail(request: HttpRequest, series: VoucherSeries, status: int = 200, **bound: Any) -> HttpResponse:
    counts = vouchers.counts([series])[series.pk]
    last = list(Voucher.objects.filter(series=series).exclude(issued_at=None).select_related("customer")[:20])
    for one in last:
        one.shown_code = codes.shown(one.code)  # type: ignore[attr-defined]
        one.who = shown_name(one.customer, request.user) if one.customer else ""  # type: ignore[attr-defined]
        one.now = one.status()  # type: ignore[attr-defined]
    context = {
        "series": series,
        "said": vouchers.said(series),
        "counts": [(label, counts[state]) for state, label in Voucher.State.choices],
        "last": last,
        "upload_form": UploadForm(prefix="upload"),
        "generate_form": GenerateForm(prefix="generate"),
        "issue_form": IssueForm(prefix="issue"),
        "may_set_up": callers.may_set_up(request),
        "may_act": callers.may_act(request),
        "crumbs": _crumbs((series.name, "")),
        **bound,
    }
    return http.page(request, "loyalty/voucher_series.html", context, status=status)


@require_POST
@callers.for_those_who_set_up
def series_upload(request: HttpRequest, pk: int) -> HttpResponse:
    series = _series(pk)
    form = UploadForm(request.POST, request.FILES, prefix="upload")
    status = 422
    if form.is_valid():
        try:
            _added(request, vouchers.upload(series=series, text=form.cleaned_data["file"]))
        except DomainError as problem:
            form.add_error(None, problem.message)
            status = problem.status
        else:
            return redirect("loyalty:voucher-series", series.pk)
    return _detail(request, series, status, upload_form=form)


@require_POST
@callers.for_those_who_set_up
def series_generate(request: HttpRequest, pk: int) -> HttpResponse:
    series = _series(pk)
    form = GenerateForm(request.POST, prefix="generate")
    if form.is_valid():
        _added(request, vouchers.generate(series=series, count=form.cleaned_data["count"]))
        return redirect("loyalty:voucher-series", series.pk)
    return _detail(request, series, 422, generate_form=form)


def _added(request: HttpRequest, count: int) -> None:
    messages.success(
        request, ngettext("%(n)s code is added.", "%(n)s codes are added.", count) % {"n": num(count)}
    )  # fmt: skip


@require_POST
@callers.for_those_who_act
def series_issue(request: HttpRequest, pk: int) -> HttpResponse:
    series = _series(pk)
    form = IssueForm(request.POST, prefix="issue")
    status = 422
    if form.is_valid():
        try:
            done = vouchers.issue(series=series, **form.cleaned_data)
        except DomainError as problem:
            form.add_error(None, problem.message)
            status = problem.status
        else:
            messages.success(
                request,
                _("The code for %(customer)s is %(code)s.")
                % {"customer": shown_name(form.cleaned_data["customer"], request.user), "code": codes.shown(done.code)},
            )
            return redirect("loyalty:voucher-series", series.pk)
    return _detail(request, series, status, issue_form=form)

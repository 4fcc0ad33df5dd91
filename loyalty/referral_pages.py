"""The pages of referrals: one for the friend, the others for those who look at what is odd."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from customers.queries import shown_name
from lifecycle_crm.accounts.middleware import public
from lifecycle_crm.lib import http, pace
from lifecycle_crm.lib.errors import DomainError, Gone, NotFound
from lifecycle_crm.templatetags.crm import num
from loyalty import callers, referrals
from loyalty.models import Referral
from loyalty.referral_forms import ClaimForm, OfferForm
from loyalty.reward_forms import ReasonForm

PAGE = 25
LOOKS, CLAIMS, GUESSES = 600, 10, 30
"""A minute: looks at one code, which may be on a poster; claims under it, and codes that nobody has, from one computer."""


# --- The friend -------------------------------------------------------------------------------------------------------


@public
@csrf_exempt  # No cookie is needed: a claim promises nothing that an order does not earn.
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def landing(request: HttpRequest, code: str) -> HttpResponse:
    """A GET says what both get; a POST writes down who was brought. The answer never tells whether we knew them."""
    known = dict(settings.LANGUAGES)
    asked = request.POST.get("lang") or request.GET.get("lang") or translation.get_language() or ""
    language = asked if asked in known else settings.LANGUAGE_CODE
    with translation.override(language):
        page = _landing(request, code, language)
    page["Content-Language"] = language
    page["X-Robots-Tag"] = "noindex, nofollow"
    return page


def _landing(request: HttpRequest, code: str, language: str) -> HttpResponse:
    offer = referrals.offer()
    if offer is None:
        raise Gone(_("This recommendation has ended. Have a look at the shop all the same."))
    try:
        of = referrals.find_code(code)
    except NotFound as problem:
        pace.take("code", request.META.get("REMOTE_ADDR"), most=GUESSES)
        raise Gone(problem.message) from None
    pace.take("referral", of.code, most=LOOKS)
    form = ClaimForm(request.POST if request.method == "POST" else None)
    status, is_done = 200, False
    if form.is_bound:
        pace.take("claim", f"{of.code} {request.META.get('REMOTE_ADDR')}", most=CLAIMS)
        status = 422
        if form.is_valid():
            try:
                referrals.claim(
                    code=of.code, email=form.cleaned_data["email"], ip=request.META.get("REMOTE_ADDR") or ""
                )
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                status, is_done = 200, True
    context = {
        "name": of.customer.given_name,
        "offer": offer,
        "form": form,
        "is_done": is_done,
        "language": language,
        "languages": settings.LANGUAGES,
    }
    return render(request, "loyalty/referral_public.html", context, status=status)


# --- Staff ------------------------------------------------------------------------------------------------------------


def _crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    first = [(_("Loyalty"), reverse("loyalty:overview")), (_("Referrals"), reverse("loyalty:referrals"))]
    return [{"label": label, "url": url} for label, url in (*first, *more)]


@require_GET
def referral_list(request: HttpRequest) -> HttpResponse:
    """Who brought whom; those to be looked at first."""
    counts = dict(Referral.objects.order_by().values_list("state").annotate(Count("pk")))
    state = request.GET.get("state") or (Referral.State.REVIEW if counts.get(Referral.State.REVIEW) else "all")
    page = Paginator(referrals.listed(state=state), PAGE).get_page(request.GET.get("page"))
    for one in page.object_list:
        one.advocate_name = shown_name(one.advocate, request.user)
        one.friend_name = shown_name(one.friend, request.user) if one.friend else ""
        one.said = referrals.said(one)
    query = request.GET.copy()
    if page.has_next():
        query["page"] = str(page.next_page_number())
    context = {
        "page": page,
        "offer": referrals.offer(),
        "state": state,
        "options": [
            {"label": f"{label} ({num(counts.get(key, 0))})", "url": f"?state={key}", "active": state == key}
            for key, label in Referral.State.choices
        ]
        + [{"label": _("All"), "url": "?state=all", "active": state == "all"}],
        "next_url": f"{request.path}?{query.urlencode()}" if page.has_next() else "",
        "may_act": callers.may_act(request),
        "may_set_up": callers.may_set_up(request),
        "crumbs": _crumbs()[:1],
    }
    return http.page(request, "loyalty/referrals.html", context)


def _referral(pk: int) -> Referral:
    found = referrals.listed().filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise NotFound(_("There is no such referral. Choose one from the list."))
    return found


@require_POST
@callers.for_those_who_act
def referral_approve(request: HttpRequest, pk: int) -> HttpResponse:
    referrals.approve(referral=_referral(pk), actor=callers.person(request))
    messages.success(request, _("Both get their points."))
    return http.back(request, "loyalty:referrals")


@require_http_methods(["GET", "HEAD", "POST"])
@callers.for_those_who_act
def referral_refuse(request: HttpRequest, pk: int) -> HttpResponse:
    """A GET shows what is odd and asks why; a POST refuses."""
    referral = _referral(pk)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    status = 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                referrals.refuse(referral=referral, actor=callers.person(request), **form.cleaned_data)
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                messages.success(request, _("It is refused; nobody gets points for it."))
                return redirect("loyalty:referrals")
    context = {
        "referral": referral,
        "advocate_name": shown_name(referral.advocate, request.user),
        "friend_name": shown_name(referral.friend, request.user) if referral.friend else "",
        "said": referrals.said(referral),
        "form": form,
        "is_open": referral.state in (Referral.State.REVIEW, Referral.State.WAITING),
        "crumbs": _crumbs((_("Refuse"), "")),
    }
    return http.page(request, "loyalty/referral_refuse.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@callers.for_those_who_set_up
def offer_edit(request: HttpRequest) -> HttpResponse:
    """What both get from now on."""
    holds = referrals.offer()
    first = (
        {
            name: getattr(holds, name)
            for name in ("advocate_points", "friend_points", "min_order_minor", "most_per_month", "is_active")
        }
        | {"programme": holds.programme_id}
        if holds
        else {"min_order_minor": 0, "most_per_month": 10}
    )
    form = OfferForm(request.POST if request.method == "POST" else None, initial=first)
    status = 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                referrals.set_offer(**form.cleaned_data)
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                messages.success(request, _("It holds from now on."))
                return redirect("loyalty:referrals")
    context = {"form": form, "crumbs": _crumbs((_("What both get"), ""))}
    return http.page(request, "loyalty/referral_offer.html", context, status=status)

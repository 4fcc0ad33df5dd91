"""Programmes that one joins, at the counter: let a customer in, renew, end a stay."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from lifecycle_crm.lib import clock, http
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.templatetags.crm import money
from loyalty import callers
from loyalty import programme as programmes
from loyalty.models import Membership
from loyalty.programme_forms import JoinForm, PaidForm


@require_http_methods(["GET", "HEAD", "POST"])
@callers.for_those_who_act
def members(request: HttpRequest, customer_id: int) -> HttpResponse:
    """What a customer has joined, and a form to join another programme."""
    customer = callers.customer(customer_id)
    form, status = JoinForm(request.POST if request.method == "POST" else None), 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                made = programmes.join(customer=customer, actor=callers.person(request), **form.verb())
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                messages.success(request, _("They are in %(name)s now.") % {"name": made.programme.name})
                return redirect("loyalty:memberships", customer.pk)
    stays = Membership.objects.filter(customer=customer).select_related("programme").order_by("-pk")
    now = clock.now()
    context: dict[str, Any] = {
        "customer": customer,
        "form": form,
        "stays": [
            {
                "stay": one,
                "is_running": one.left_at is None and (one.ends_at is None or one.ends_at > now),
                "form": PaidForm(programme=one.programme),
                "fee": money(one.programme.fee_minor, settings.SHOP_CURRENCY) if one.programme.fee_minor else "",
            }
            for one in stays[:50]
        ],
        "crumbs": [
            {"label": _("Loyalty"), "url": reverse("loyalty:overview")},
            {"label": str(customer), "url": reverse("loyalty:account", args=[customer.pk])},
            {"label": _("Memberships"), "url": ""},
        ],
    }
    return http.page(request, "loyalty/memberships.html", context, status=status)


@require_POST
@callers.for_those_who_act
def renew(request: HttpRequest, customer_id: int, pk: int) -> HttpResponse:
    """One more term, for what was paid."""
    stay = _stay(customer_id, pk)
    form = PaidForm(request.POST, programme=stay.programme)
    try:
        if form.is_valid():
            programmes.renew(membership=stay, actor=callers.person(request), **form.verb())
            messages.success(request, _("Renewed: %(name)s.") % {"name": stay.programme.name})
        else:
            messages.error(request, " ".join(str(one) for each in form.errors.values() for one in each))
    except DomainError as problem:
        messages.error(request, problem.message)
    return redirect("loyalty:memberships", customer_id)


@require_POST
@callers.for_those_who_act
def leave(request: HttpRequest, customer_id: int, pk: int) -> HttpResponse:
    """The stay ends now."""
    stay = programmes.leave(membership=_stay(customer_id, pk), actor=callers.person(request))
    messages.success(request, _("They have left %(name)s.") % {"name": stay.programme.name})
    return redirect("loyalty:memberships", customer_id)


def _stay(customer_id: int, pk: int) -> Membership:
    found = (
        Membership.objects.select_related("programme", "customer").filter(pk=pk, customer=customer_id).first()
        if max(pk, customer_id) < 2**63
        else None
    )
    if found is None:
        raise NotFound(_("There is no such membership. Choose one from the list."))
    return found

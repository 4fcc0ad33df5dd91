"""The pages of sign-offs: what was signed, and signing the figures of a date."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from lifecycle_crm.lib import clock, http
from lifecycle_crm.lib.errors import DomainError
from loyalty import liability, signoffs
from loyalty.callers import a_programme, person
from loyalty.movement_forms import SignOffForm

PAGE = 12
"""So few, because each says whether its figures would be the same today."""


def _crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    first = ((_("Loyalty"), reverse("loyalty:overview")), (_("What we owe"), reverse("loyalty:liability")))
    return [{"label": label, "url": url} for label, url in (*first, *more)]


@require_GET
def sign_off_list(request: HttpRequest) -> HttpResponse:
    """The notes of ``?programme=``, the last first, each with how its figures would differ today."""
    programme = a_programme(request)
    page = Paginator(signoffs.rows().filter(programme=programme), PAGE).get_page(request.GET.get("page"))
    rows = [(one, signoffs.drift(one) if getattr(one, "replaced_by", None) is None else None) for one in page]
    context = {"programme": programme, "page": page, "rows": rows, "crumbs": _crumbs()}
    return http.page(request, "loyalty/sign_offs.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def sign_off_new(request: HttpRequest) -> HttpResponse:
    """Sign what ``?programme=`` owed at the end of ``?as_of=``."""
    user = person(request)
    if user is None or not signoffs.may_sign(user):
        raise PermissionDenied
    programme, day = a_programme(request), liability.asked_day(request.GET.get("as_of", ""))
    signed = signoffs.current(programme, day)
    form = SignOffForm(request.POST if request.method == "POST" else None, is_again=signed is not None)
    status = 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                made = signoffs.sign(programme=programme, day=day, actor=user, **form.cleaned_data)
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                messages.success(request, _("The figures of %(day)s are signed.") % {"day": date_format(made.day)})
                return redirect(f"{reverse('loyalty:sign-offs')}?programme={programme.pk}")
    context = {
        "programme": programme,
        "day": day,
        "owed": liability.outstanding(programme, day),
        "signed": signed,
        "form": form,
        "currency": settings.SHOP_CURRENCY,
        "last_day": clock.last_complete_day(),
        "crumbs": _crumbs((_("Sign-offs"), reverse("loyalty:sign-offs")), (_("Sign these figures"), "")),
    }
    return http.page(request, "loyalty/sign_off_new.html", context, status=status)

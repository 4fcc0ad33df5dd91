"""The pages of points for many: what was given to sets of people, a new one with its preview, and how far one is."""

from __future__ import annotations

import hashlib
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from customers.queries import shown_name
from lifecycle_crm.lib import clock, health, http
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.lib.numbers import row_number
from lifecycle_crm.templatetags.crm import num
from loyalty import grants, queries
from loyalty.callers import for_those_who_set_up, may_set_up, person
from loyalty.models import Approval, Grant, GrantPerson
from loyalty.movement_forms import GrantForm, TakeBackForm

PAGE = 30


def _crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    return [{"label": label, "url": url} for label, url in ((_("Loyalty"), reverse("loyalty:overview")), *more)]


def _grants() -> tuple[str, str]:
    return _("Points for many"), reverse("loyalty:grants")


def _found(pk: int) -> Grant:
    found = queries.grants().filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise NotFound(_("There are no such points for many. Choose them from the list."))
    return found


def _reasons(left_out: dict[str, int]) -> list[tuple[str, int]]:
    return [(str(GrantPerson.Why(why).label), n) for why, n in sorted(left_out.items())]


@require_GET
def grant_list(request: HttpRequest) -> HttpResponse:
    """Every set of people that was to get points, the last first."""
    page = Paginator(queries.grants(), PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page, "may_set_up": may_set_up(request), "currency": settings.SHOP_CURRENCY, "crumbs": _crumbs()
    }  # fmt: skip
    return http.page(request, "loyalty/grants.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@for_those_who_set_up
def grant_new(request: HttpRequest) -> HttpResponse:
    """To whom, how many and why. The first press says what it comes to; the second (``give``) asks for just that."""
    first = {"programme": request.GET.get("programme"), "whom": request.GET.get("whom")}
    form, status = GrantForm(request.POST if request.method == "POST" else None, initial=first), 200
    found = None
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                asked = form.asked()
                found = grants.preview(actor=person(request), **asked)
                seen = _seen(asked, form.cleaned_data["reason"], found)
                if "give" in request.POST and form.cleaned_data["seen"] == seen:
                    made = grants.ask(
                        actor=person(request), key=form.cleaned_data["key"], reason=form.cleaned_data["reason"],
                        at_most=found.total, **asked,
                    )  # fmt: skip
                    return redirect("loyalty:grant", made.pk)
                if "give" in request.POST:
                    messages.warning(request, _("What it comes to has changed since you looked. Look at it again."))
                shown = request.POST.copy()
                shown["seen"] = seen
                form.data, status = shown, 200
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
    context = {
        "form": form,
        "found": found if status == 200 else None,
        "left_out": _reasons(found.left_out) if found else [],
        "currency": settings.SHOP_CURRENCY,
        "crumbs": _crumbs(_grants(), (_("Give points to many"), "")),
    }
    return http.page(request, "loyalty/grant_new.html", context, status=status)


def _seen(asked: dict[str, Any], reason: str, found: grants.Preview) -> str:
    """What was looked at, in short: another set, other points or another sum is another thing."""
    whom: grants.Whom = asked["whom"]
    listed = whom.select if whom.kind == Grant.Whom.LIST else ""
    told = (found.programme.pk, whom.kind, whom.key, listed, found.points, found.people, found.needs_second, reason)
    return hashlib.sha256(repr(told).encode()).hexdigest()


@require_GET
def grant(request: HttpRequest, pk: int) -> HttpResponse:
    """How far one set is, who was left out and why, and what came of it."""
    found = _found(pk)
    is_open = found.state in Grant.OPEN
    if getattr(request, "htmx", None) and not is_open:
        # The end also changes the head of the page: load it as a whole.
        return HttpResponse(status=204, headers={"HX-Refresh": "true"})
    told = grants.progress(found)
    after = row_number(request.GET.get("after")) or 0
    persons = list(
        GrantPerson.objects.filter(grant=found, customer_id__gt=after)
        .select_related("customer")
        .order_by("customer_id")[: PAGE + 1]
    )
    waited = (clock.now() - (found.undone_at or found.requested_at)).total_seconds()
    done = told.taken + told.kept if found.state == Grant.State.TAKING else told.got
    aim = told.got if found.state == Grant.State.TAKING else told.got + told.waiting
    context = {
        "found": found,
        "told": told,
        "left_out": _reasons(told.left_out),
        "approval": Approval.objects.filter(grant=found).select_related("decided_by").first(),
        "is_open": is_open,
        "done": done,
        "aim": aim,
        "progress_text": _("%(done)s of %(total)s") % {"done": num(done), "total": num(aim)},
        "has_no_worker": is_open and waited > 10 and not health.worker_is_well(),
        "poll_seconds": 1 if waited < 15 else 4,
        "persons": [(one, shown_name(one.customer, request.user)) for one in persons[:PAGE]],
        "next": persons[PAGE - 1].customer_id if len(persons) > PAGE else None,
        "may_undo": may_set_up(request) and found.state == Grant.State.DONE and told.given > 0,
        "currency": settings.SHOP_CURRENCY,
        "crumbs": _crumbs(_grants(), (f"#{found.pk}", "")),
    }
    return http.page(request, "loyalty/grant.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@for_those_who_set_up
def take_back(request: HttpRequest, pk: int) -> HttpResponse:
    """A GET says what was given; a POST takes it back from everybody."""
    found = _found(pk)
    form, status = TakeBackForm(request.POST if request.method == "POST" else None), 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                grants.undo(grant=found, actor=person(request), **form.cleaned_data)
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                return redirect("loyalty:grant", found.pk)
    context = {
        "found": found,
        "told": grants.progress(found),
        "form": form,
        "crumbs": _crumbs(_grants(), (f"#{found.pk}", reverse("loyalty:grant", args=[found.pk])), (_("Take back"), "")),
    }
    return http.page(request, "loyalty/grant_undo.html", context, status=status)

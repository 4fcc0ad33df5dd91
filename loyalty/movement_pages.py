"""The staff's pages around the ledger: what waits for a second person, budgets, frozen accounts, and moving points."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from customers.models import Customer
from customers.queries import shown_name
from lifecycle_crm.lib import clock, http
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.templatetags.crm import num
from loyalty import approvals, goodwill, ledger, queries, statements
from loyalty.callers import customer as find_customer
from loyalty.callers import for_those_who_act, for_those_who_set_up, may_act, may_set_up, person
from loyalty.models import Account, Allowance, Approval, Freeze, GoodwillMonth, Hold, Merge
from loyalty.movement_forms import AllowanceForm, HouseholdForm, MergeForm, ReasonForm, TransferForm, UnfreezeForm

PAGE = 30


def _crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    return [{"label": label, "url": url} for label, url in ((_("Loyalty"), reverse("loyalty:overview")), *more)]


def _owner(request: HttpRequest) -> Any:
    """An owner or an admin, who decides what others asked. Raises ``PermissionDenied``."""
    user = person(request)
    if not approvals.may_decide(user):
        raise PermissionDenied
    return user


# --- Four eyes --------------------------------------------------------------------------------------------------------


@require_GET
def approval_list(request: HttpRequest) -> HttpResponse:
    """What waits for a second person; ``?shows=decided`` what was decided."""
    is_past = request.GET.get("shows") == "decided"
    found = queries.approvals()
    found = found.exclude(state=Approval.State.WAITING) if is_past else found.filter(state=Approval.State.WAITING)
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    user = person(request)
    for one in page.object_list:
        one.who = shown_name(one.customer, request.user) if one.customer else ""
        one.may_decide = (
            approvals.may_decide(user) and one.requested_by_id != getattr(user, "pk", None) and one.state == "waiting"
        )
    context = {
        "page": page,
        "is_past": is_past,
        "tabs": [
            {"label": _("Waiting"), "url": reverse("loyalty:approvals"), "active": not is_past},
            {"label": _("Decided"), "url": f"{reverse('loyalty:approvals')}?shows=decided", "active": is_past},
        ],
        "crumbs": _crumbs(),
    }
    return http.page(request, "loyalty/approvals.html", context)


@require_POST
def approval_decide(request: HttpRequest, pk: int) -> HttpResponse:
    """Yes or no to what somebody else asked."""
    user = _owner(request)
    found = Approval.objects.filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise NotFound(_("There is no such request. Choose one from the list."))
    is_yes = request.POST.get("answer") == "yes"
    verb = approvals.approve if is_yes else approvals.refuse
    try:
        done = verb(approval=found, actor=user, note=request.POST.get("note", ""))
    except DomainError as problem:
        messages.error(request, problem.message)
    else:
        if is_yes and done.grant_id:
            said = _("Approved: %(points)s points are being given.")
        else:
            said = _("Approved: %(points)s points moved.") if is_yes else _("Refused: %(points)s points did not move.")
        messages.success(request, said % {"points": num(abs(done.points))})
    return redirect("loyalty:approvals")


# --- Goodwill ---------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
def goodwill_page(request: HttpRequest) -> HttpResponse:
    """Who may give how much a month, and what they gave this month; owners and admins set it."""
    form, status = AllowanceForm(request.POST if request.method == "POST" else None), 200
    if request.method == "POST":
        _owner(request)
        status = 422
        if form.is_valid():
            try:
                goodwill.allow(**form.verb())
            except DomainError as problem:
                form.add_error(None, problem.message)
            else:
                messages.success(request, _("The allowance is saved. It holds from now on."))
                return redirect("loyalty:goodwill")
    user = person(request)
    month = clock.today().replace(day=1)
    context = {
        "allowances": Allowance.objects.select_related("user").order_by("role", "user__name"),
        "months": GoodwillMonth.objects.filter(month=month).select_related("user").order_by("-used"),
        "month": month,
        "mine": goodwill.budget(user) if user and goodwill.has_allowance(user) else None,
        "form": form,
        "may_decide": approvals.may_decide(user),
        "crumbs": _crumbs(),
    }
    return http.page(request, "loyalty/goodwill.html", context, status=status)


# --- Frozen accounts --------------------------------------------------------------------------------------------------


def _what(name: str) -> str:
    """In words, which sum disagreed."""
    if name in ("lots", "holds"):
        return _("what is left in the lots") if name == "lots" else _("open holds")
    return str(Account._meta.get_field(name).verbose_name) if name else ""


@require_GET
def frozen_list(request: HttpRequest) -> HttpResponse:
    """Accounts that stand still because the nightly proof failed."""
    rows = list(queries.frozen()[:200])
    for one in rows:
        one.who = shown_name(one.account.customer, request.user)
        one.said = _what(one.what)
    context = {"rows": rows, "may_set_up": may_set_up(request), "crumbs": _crumbs()}
    return http.page(request, "loyalty/frozen.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@for_those_who_set_up
def unfreeze(request: HttpRequest, pk: int) -> HttpResponse:
    """What disagrees, and the form that lets the account go on."""
    found = queries.frozen().filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise NotFound(_("This account is not frozen any more."))
    form, status = UnfreezeForm(request.POST if request.method == "POST" else None), 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                ledger.unfreeze(account=found.account, actor=person(request), **form.cleaned_data)
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                messages.success(request, _("The account is open again."))
                return redirect("loyalty:frozen")
    context = {
        "freeze": found,
        "who": shown_name(found.account.customer, request.user),
        "then": _what(found.what),
        "broken": [_what(what) for _pk, _customer, what in ledger.broken_accounts([found.account_id])],
        "past": Freeze.objects.filter(account=found.account).exclude(ended_at=None).select_related("ended_by"),
        "form": form,
        "crumbs": _crumbs((_("Frozen accounts"), reverse("loyalty:frozen")), (_("Open again"), "")),
    }
    return http.page(request, "loyalty/unfreeze.html", context, status=status)


# --- Holds ------------------------------------------------------------------------------------------------------------


@require_POST
@for_those_who_act
def hold_void(request: HttpRequest, customer_id: int, pk: int) -> HttpResponse:
    """Free the points of a hold."""
    found = Hold.objects.filter(pk=pk, customer=customer_id).first() if pk < 2**63 else None
    if found is None:
        raise NotFound(_("There is no such hold. Choose one from the account."))
    try:
        ledger.void_hold(hold=found, actor=person(request))
    except DomainError as problem:
        messages.error(request, problem.message)
    else:
        n = found.points
        messages.success(
            request, ngettext("%(n)s point is free again.", "%(n)s points are free again.", n) % {"n": num(n)}
        )
    return redirect("loyalty:points-move", customer_id)


# --- Moving points ----------------------------------------------------------------------------------------------------


@require_GET
def move(request: HttpRequest, customer_id: int) -> HttpResponse:
    """Give points to somebody else, share them in a household, merge two customers, and see what is held."""
    return _move_page(request, find_customer(customer_id))


def _move_page(request: HttpRequest, customer: Customer, status: int = 200, **bound: Any) -> HttpResponse:
    member = queries.household(customer)
    shared = queries.members(member.household) if member else []
    merges = list(queries.merges(customer)[:20])
    for row in merges:
        row.whose = shown_name(row.from_account.customer, request.user)
        row.whom = shown_name(row.into_account.customer, request.user)
    context = {
        "customer": customer,
        "who": shown_name(customer, request.user),
        "view": statements.account(customer),
        "holds": queries.holds().filter(customer=customer)[:20],
        "household": member.household if member else None,
        "members": [(one, shown_name(one.customer, request.user), points) for one, points in shared],
        "pooled": sum(points for _member, points in shared),
        "merges": merges,
        "transfer_form": TransferForm(prefix="transfer"),
        "household_form": HouseholdForm(prefix="household", is_new=member is None),
        "merge_form": MergeForm(prefix="merge"),
        "may_act": may_act(request),
        "may_decide": approvals.may_decide(person(request)),
        "crumbs": _crumbs(
            (shown_name(customer, request.user), reverse("loyalty:account", args=[customer.pk])),
            (_("Hold, share and merge"), ""),
        ),
        **bound,
    }
    return http.page(request, "loyalty/move.html", context, status=status)


@require_POST
@for_those_who_act
def transfer(request: HttpRequest, customer_id: int) -> HttpResponse:
    customer = find_customer(customer_id)
    form, status = TransferForm(request.POST, prefix="transfer"), 422
    if form.is_valid():
        try:
            made = ledger.transfer(actor=person(request), **form.verb(customer))
        except DomainError as problem:
            form.add_error(None, problem.message)
            status = problem.status
        else:
            said = ngettext("%(n)s point given on.", "%(n)s points given on.", made.points)
            messages.success(request, said % {"n": num(made.points)})
            return redirect("loyalty:points-move", customer.pk)
    return _move_page(request, customer, status, transfer_form=form)


@require_POST
@for_those_who_act
def household_join(request: HttpRequest, customer_id: int) -> HttpResponse:
    """Start a household with somebody, or bring somebody into the one the customer is in."""
    customer = find_customer(customer_id)
    member = queries.household(customer)
    form, status = HouseholdForm(request.POST, prefix="household", is_new=member is None), 422
    if form.is_valid():
        other = form.cleaned_data["customer"]
        try:
            if member:
                ledger.join_household(household=member.household, customer=other)
            else:
                ledger.found_household(
                    name=form.cleaned_data["name"], customers=[customer, other], actor=person(request)
                )
        except DomainError as problem:
            form.add_error(None, problem.message)
            status = problem.status
        else:
            messages.success(request, _("They share their points from now on."))
            return redirect("loyalty:points-move", customer.pk)
    return _move_page(request, customer, status, household_form=form)


@require_POST
@for_those_who_act
def household_leave(request: HttpRequest, customer_id: int) -> HttpResponse:
    customer = find_customer(customer_id)
    try:
        ledger.leave_household(customer=customer)
    except DomainError as problem:
        messages.error(request, problem.message)
    else:
        messages.success(request, _("They share no points any more. Each keeps what is theirs."))
    return redirect("loyalty:points-move", customer.pk)


@require_POST
def merge(request: HttpRequest, customer_id: int) -> HttpResponse:
    """Move everything this customer has in points to another, who is the same person."""
    user = _owner(request)
    customer = find_customer(customer_id)
    form, status = MergeForm(request.POST, prefix="merge"), 422
    if form.is_valid():
        try:
            ledger.merge(actor=user, **form.verb(customer))
        except DomainError as problem:
            form.add_error(None, problem.message)
            status = problem.status
        else:
            messages.success(request, _("The points are merged. You can undo it here."))
            return redirect("loyalty:points-move", customer.pk)
    return _move_page(request, customer, status, merge_form=form)


@require_POST
def unmerge(request: HttpRequest, customer_id: int, pk: int) -> HttpResponse:
    user = _owner(request)
    form = ReasonForm({"reason": request.POST.get("reason") or _("Undone by hand")})
    found = Merge.objects.filter(pk=pk).first() if pk < 2**63 else None
    if found is None or not form.is_valid():
        raise NotFound(_("There is no such merge. Choose one from the list."))
    try:
        ledger.unmerge(merge=found, actor=user, reason=form.cleaned_data["reason"])
    except DomainError as problem:
        messages.error(request, problem.message)
    else:
        messages.success(request, _("The merge is undone."))
    return redirect("loyalty:points-move", customer_id)

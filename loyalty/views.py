"""The pages of loyalty: the programme in numbers, and one customer's account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from customers.models import Customer
from customers.queries import shown_name
from lifecycle_crm.lib import http
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.lib.numbers import row_number
from lifecycle_crm.templatetags.crm import day, money, month, num, pct
from loyalty import approvals, catalogue, goodwill, ledger, queries, rewards, sentences, statements, tiers
from loyalty import rules as earning_rules
from loyalty.callers import customer as find_customer
from loyalty.callers import for_those_who_act, may_act, may_set_up, person
from loyalty.forms import AdjustForm, FindForm, RedeemForm, UndoForm
from loyalty.models import Approval, Entry, Limits, Posting, Programme

# --- The programme ----------------------------------------------------------------------------------------------------


@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    """What the programme owes, what ends when, and the last movements; ``?customer=`` opens an account."""
    form = FindForm(request.GET if "customer" in request.GET else None)
    if form.is_bound and form.is_valid():
        return redirect("loyalty:account", form.cleaned_data["customer"].pk)
    found = queries.overview()
    context = {
        "found": found,
        "metrics": _metrics(found),
        "bars": _bars(found),
        "trial": [(Posting.Ledger(name).label, points) for name, points in found.trial],
        "trial_sum": sum(points for _name, points in found.trial),
        "latest": [(one, shown_name(one.customer, request.user), why) for one, why in statements.latest()],
        "largest": [(one, shown_name(one.customer, request.user)) for one in statements.largest()],
        "proved_on": queries.proved_on(),
        "most_used": catalogue.most_used(found.programme) if found.programme else [],
        "rules": _rules(found),
        "form": form,
    }
    return http.page(request, "loyalty/overview.html", context, status=422 if form.errors else 200)


def _rules(found: queries.Overview) -> list[str]:
    """The programme in plain words."""
    if found.programme is None:
        return []
    rules = [sentences.rule(one) for one in earning_rules.in_force(found.programme)]
    return [*rules, *sentences.programme(found.programme)]


def _metrics(found: queries.Overview) -> list[dict[str, Any]]:
    if found.programme is None:
        return []
    return [
        {
            "name": _("Points outstanding"),
            "value": num(found.outstanding),
            "sample": _("%(usable)s usable, %(pending)s pending · %(n)s customers")
            % {"usable": num(found.balance), "pending": num(found.pending), "n": num(found.holders)},
            "definition": _("Points that customers can use now or after the waiting time. It does not follow any period."),
            "updated": found.as_of,
        },
        {
            "name": _("Liability"),
            "value": money(found.liability_minor, found.currency),
            "sample": _("100 points are worth %(value)s")
            % {"value": money(found.programme.value_minor_per_100, found.currency)},
            "definition": _("Outstanding points in money, as if every single one were redeemed. Usually fewer are."),
            "updated": found.as_of,
        },
        {
            "name": _("Redeemed"),
            "value": pct(found.redeemed_share) if found.redeemed_share is not None else None,
            "need": 1,
            "sample": _("%(spent)s of %(given)s points")
            % {"spent": num(found.spent), "given": num(max(found.given, 0))},
            "definition": _("Of all points given and not taken back, the share that was redeemed."),
            "updated": found.as_of,
        },
        {
            "name": _("Expire within 30 days"),
            "value": num(found.expiring_soon),
            "sample": _("%(expired)s expired so far") % {"expired": num(found.expired)},
            "definition": _("Points whose last usable day lies in the next 30 days."),
            "updated": found.as_of,
        },
        {
            "name": _("Members"),
            "value": num(found.members),
            "sample": ngettext(
                "%(n)s of them earned or redeemed in 90 days", "%(n)s of them earned or redeemed in 90 days", found.active
            )
            % {"n": num(found.active)},
            "definition": _("Customers who ever earned points. An order makes its customer a member."),
            "updated": found.as_of,
        },
    ]  # fmt: skip


def _bars(found: queries.Overview) -> list[dict[str, Any]]:
    most = max((one.points for one in found.months), default=0) or 1
    return [
        {
            "label": month(one.first) if one.first else _("Never"),
            "value": num(one.points),
            "percent": 100 * one.points / most,
        }
        for one in found.months
    ]


# --- One customer -----------------------------------------------------------------------------------------------------


@require_GET
def account(request: HttpRequest, customer_id: int) -> HttpResponse:
    """What a customer has, every movement with its reason, and the forms to redeem and to adjust."""
    return _account_page(request, find_customer(customer_id))


def _account_page(request: HttpRequest, customer: Customer, status: int = 200, **bound: Any) -> HttpResponse:
    view = statements.account(customer)
    before = row_number(request.GET.get("before"))
    lines, following = statements.lines(view.account, before=before) if view.account.pk else ([], None)
    context = {
        "customer": customer,
        "who": shown_name(customer, request.user),
        "view": view,
        "account": view.account,
        "lines": lines,
        "next_url": f"?before={following}" if following else "",
        "is_later_page": before is not None,
        "metrics": _account_metrics(view),
        "given": _given(customer),
        "extended": queries.extended(customer),
        "may_extend": may_set_up(request) and view.account.balance + view.account.pending > 0,
        "redeem_form": RedeemForm(prefix="redeem"),
        "adjust_form": AdjustForm(prefix="adjust"),
        "may_act": may_act(request),
        **_limits(request),
        "crumbs": [
            {"label": _("Loyalty"), "url": reverse("loyalty:overview")},
            {"label": shown_name(customer, request.user)},
        ],
        **bound,
    }
    return http.page(request, "loyalty/account.html", context, status=status)


def _given(customer: Customer) -> list[dict[str, Any]]:
    """The benefits of their tiers, and in words the rules that only such members have."""
    return [
        {
            "programme": one.programme,
            "tier": one.tier,
            "until": one.until,
            "said": [sentences.rule(rule, {one.tier.key: one.tier.name}) for rule in one.more],
        }
        for one in tiers.given(customer)
    ]


def _limits(request: HttpRequest) -> dict[str, Any]:
    """How far the person before us may go alone."""
    user, programme = person(request), Programme.current()
    return {
        "budget": goodwill.budget(user) if user and goodwill.has_allowance(user) else None,
        "approve_above": Limits.of(programme).approve_above if programme else 0,
    }


def _account_metrics(view: statements.AccountView) -> list[dict[str, Any]]:
    held = view.account
    cards: list[dict[str, Any]] = [
        {
            "name": _("To spend now"),
            "value": num(view.spendable),
            "sample": _("%(earned)s earned, %(spent)s redeemed so far")
            % {"earned": num(held.earned + held.adjusted - held.reversed), "spent": num(held.spent)},
        },
        {
            "name": _("Pending"),
            "value": num(held.pending),
            "sample": _("next on %(day)s") % {"day": day(view.next_active_at)} if view.next_active_at else "",
        },
        {
            "name": _("Expire next"),
            "value": num(view.next_points),
            "sample": _("last day %(day)s") % {"day": day(view.next_last_day)}
            if view.next_last_day
            else _("nothing expires"),
        },
    ]
    if held.held:
        cards.append(
            {
                "name": _("Held"),
                "value": num(held.held),
                "url": reverse("loyalty:points-move", args=[view.customer.pk]),
                "sample": _("for purchases that are not finished"),
            }
        )
    if held.debt:
        cards.append(
            {
                "name": _("Owed"),
                "value": num(held.debt),
                "sample": _("repaid from the next points"),
                "definition": _("Points of returned orders that had been spent already."),
            }
        )
    return cards


def _act(
    request: HttpRequest, customer_id: int, name: str, form: Any, verb: Callable[..., Entry | Approval]
) -> HttpResponse:
    """Parse, call, and back to the account; a refusal is shown at its form."""
    customer = find_customer(customer_id)
    if form.is_valid():
        try:
            entry = verb(customer=customer, actor=person(request), **form.cleaned_data)
        except DomainError as problem:
            form.add_error(None, problem.message)
            return _account_page(request, customer, problem.status, **{f"{name}_form": form})
        messages.success(request, _said(entry))
        return redirect("loyalty:account", customer.pk)
    return _account_page(request, customer, 422, **{f"{name}_form": form})


def _said(entry: Entry | Approval) -> str:
    if isinstance(entry, Approval):
        return _("So many points need a second person. An owner or an admin finds your request under Approvals.")
    points = {"points": num(abs(entry.points))}
    if entry.kind == Entry.Kind.SPEND:
        return ngettext("%(points)s point redeemed.", "%(points)s points redeemed.", abs(entry.points)) % points
    if entry.points > 0:
        return ngettext("%(points)s point given.", "%(points)s points given.", entry.points) % points
    return ngettext("%(points)s point taken.", "%(points)s points taken.", abs(entry.points)) % points


@require_POST
@for_those_who_act
def redeem(request: HttpRequest, customer_id: int) -> HttpResponse:
    return _act(request, customer_id, "redeem", RedeemForm(request.POST, prefix="redeem"), ledger.redeem)


@require_POST
@for_those_who_act
def adjust(request: HttpRequest, customer_id: int) -> HttpResponse:
    return _act(request, customer_id, "adjust", AdjustForm(request.POST, prefix="adjust"), approvals.adjust)


@require_http_methods(["GET", "HEAD", "POST"])
@for_those_who_act
def undo(request: HttpRequest, customer_id: int, entry_id: int) -> HttpResponse:
    """A GET says what would happen; a POST gives a redemption back or takes an earning back."""
    customer = find_customer(customer_id)
    entry = Entry.objects.filter(pk=entry_id, customer=customer).first() if entry_id < 2**63 else None
    if entry is None:
        raise NotFound(_("There is no such movement of points. Choose one from the account."))
    left = ledger.left_to_take_back(entry)
    form = UndoForm(request.POST if request.method == "POST" else None, left=left)
    status = 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                rewards.keep_together(entry)
                done = ledger.undo(entry=entry, actor=person(request), **form.cleaned_data)
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                messages.success(request, _said(done))
                return redirect("loyalty:account", customer.pk)
    context = {
        "customer": customer,
        "entry": entry,
        "why": statements.explain(entry),
        "left": left,
        "is_possible": bool(left)
        or (
            entry.points < 0
            and entry.kind in (Entry.Kind.SPEND, Entry.Kind.ADJUST)
            and not hasattr(entry, "reversed_by")
        ),
        "form": form,
        "crumbs": [
            {"label": _("Loyalty"), "url": reverse("loyalty:overview")},
            {"label": str(customer), "url": reverse("loyalty:account", args=[customer.pk])},
            {"label": _("Undo")},
        ],
    }
    return http.page(request, "loyalty/undo.html", context, status=status)

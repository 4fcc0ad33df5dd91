"""The staff's pages of rewards: the catalogue, its editor, who waits for what, and redeeming for a customer at the counter."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from customers.queries import shown_name
from lifecycle_crm.lib import http
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.templatetags.crm import money, num
from loyalty import callers, catalogue, codes, pictures, rewards, statements
from loyalty.models import Programme, Redemption, Reward, Tier
from loyalty.reward_forms import OrderRewardForm, PictureForm, ReasonForm, RewardForm

PAGE = 25


def _crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    first = [(_("Loyalty"), reverse("loyalty:overview")), (_("Rewards"), reverse("loyalty:rewards"))]
    return [{"label": label, "url": url} for label, url in (*first, *more)]


def _tabs(active: str, waiting: int) -> list[dict[str, Any]]:
    return [
        {"label": _("Catalogue"), "url": reverse("loyalty:rewards"), "active": active == "catalogue"},
        {
            "label": _("Hand out"),
            "url": reverse("loyalty:redemptions"),
            "active": active == "redemptions",
            "count": num(waiting) if waiting else "",
        },
        {"label": _("Vouchers"), "url": reverse("loyalty:vouchers"), "active": False},
    ]


# --- The catalogue ----------------------------------------------------------------------------------------------------


@require_GET
def reward_list(request: HttpRequest) -> HttpResponse:
    """The catalogue with what is left and how often each was redeemed; ``?shows=past`` what is not offered any more."""
    shows_past = request.GET.get("shows") == "past"
    sums = catalogue.sums()
    listed = catalogue.listed(is_active=not shows_past)
    context = {
        "rewards": listed,
        "are_pictured": pictures.shown(listed),
        "shows_past": shows_past,
        "has_past": shows_past or Reward.objects.filter(is_active=False).exists(),
        "metrics": _metrics(sums),
        "tabs": _tabs("catalogue", sums.waiting),
        "may_set_up": callers.may_set_up(request),
        "crumbs": _crumbs()[:1],
    }
    return http.page(request, "loyalty/rewards.html", context)


def _metrics(sums: catalogue.Sums) -> list[dict[str, Any]]:
    days = _("in the last %(days)d days") % {"days": catalogue.DAYS}
    return [
        {
            "name": _("Redemptions"),
            "value": num(sums.count),
            "sample": days,
            "definition": _("Rewards that customers took, without those that were cancelled."),
        },
        {"name": _("Points paid"), "value": num(sums.points), "sample": days},
        {
            "name": _("Cost of rewards"),
            "value": money(sums.cost_minor, settings.SHOP_CURRENCY),
            "sample": days,
            "definition": _("What the redeemed rewards cost the shop, at the cost each has now."),
        },
        {
            "name": _("Waiting for us"),
            "value": num(sums.waiting),
            "url": reverse("loyalty:redemptions"),
            "sample": _("ordered or prepared, not handed out"),
        },
    ]


@require_http_methods(["GET", "HEAD", "POST"])
@callers.for_those_who_set_up
def reward_new(request: HttpRequest) -> HttpResponse:
    """A new reward."""
    form = RewardForm(request.POST if request.method == "POST" else None, tiers=_tiers())
    return _edit(request, form, None)


@require_http_methods(["GET", "HEAD", "POST"])
def reward_edit(request: HttpRequest, pk: int) -> HttpResponse:
    """One reward: its rules, and its last redemptions."""
    reward = _reward(pk)
    if request.method == "POST":
        return callers.for_those_who_set_up(
            lambda request: _edit(request, RewardForm(request.POST, reward=reward, tiers=_tiers()), reward)
        )(request)
    return _edit(request, RewardForm(reward=reward, tiers=_tiers()), reward)


def _reward(pk: int) -> Reward:
    reward = catalogue.rewards().filter(pk=pk).first() if pk < 2**63 else None
    if reward is None:
        raise NotFound(_("There is no such reward. Choose one from the catalogue."))
    return reward


@require_POST
@callers.for_those_who_set_up
def picture_put(request: HttpRequest, pk: int) -> HttpResponse:
    """A picture for the reward in place of the one it has; without a file, other words for that one."""
    reward = _reward(pk)
    picture = getattr(reward, "picture", None)
    form = PictureForm(request.POST, request.FILES, picture=picture, prefix="picture")
    status = 422
    if form.is_valid():
        file, alt, seen = (form.cleaned_data[name] for name in ("file", "alt", "seen"))
        try:
            if file is not None:
                pictures.put(reward=reward, file=file, alt=alt, actor=callers.person(request))
            else:
                pictures.describe(reward=reward, alt=alt, seen=seen, actor=callers.person(request))
        except DomainError as problem:
            about = "alt" if problem.code.startswith("alt_") else None if file is None else "file"
            form.add_error(about, problem.message)
            status = problem.status
        else:
            messages.success(request, _("The picture of “%(name)s” is saved.") % {"name": reward.name})
            return redirect("loyalty:reward", pk)
    return _edit(request, RewardForm(reward=reward, tiers=_tiers()), reward, form, status)


@require_POST
@callers.for_those_who_set_up
def picture_remove(request: HttpRequest, pk: int) -> HttpResponse:
    reward = _reward(pk)
    pictures.remove(reward=reward, seen=request.POST.get("seen", ""))
    messages.success(request, _("“%(name)s” has no picture now.") % {"name": reward.name})
    return redirect("loyalty:reward", pk)


def _tiers() -> dict[str, str]:
    """Key and name of every tier, those of the first programme first."""
    return dict(Tier.objects.order_by("programme__position", "programme", "threshold").values_list("key", "name"))


def _edit(
    request: HttpRequest,
    form: RewardForm,
    reward: Reward | None,
    picture_form: PictureForm | None = None,
    status: int = 200,
) -> HttpResponse:
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                given = form.verb()
                saved = rewards.change(reward=reward, **given) if reward else rewards.create(**given)
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                messages.success(request, _("“%(name)s” is saved.") % {"name": saved.name})
                return redirect("loyalty:reward", saved.pk)
    last = list(catalogue.redemptions().filter(reward=reward)[:10]) if reward else []
    for one in last:
        one.who = shown_name(one.customer, request.user)
    context = {
        "reward": reward,
        "form": form,
        "picture_form": picture_form or PictureForm(picture=getattr(reward, "picture", None), prefix="picture"),
        "last": last,
        "may_set_up": callers.may_set_up(request),
        "crumbs": _crumbs((reward.name if reward else _("New reward"), "")),
    }
    return http.page(request, "loyalty/reward.html", context, status=status)


# --- Who waits for what -----------------------------------------------------------------------------------------------


@require_GET
def redemption_list(request: HttpRequest) -> HttpResponse:
    """Who waits, the longest first; ``?state=`` and ``?q=`` (a code or a customer's number) narrow it."""
    state, words = request.GET.get("state", "waiting"), request.GET.get("q", "")
    found = catalogue.redemptions(state="" if words else state, words=words)
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    for one in page.object_list:
        one.who = shown_name(one.customer, request.user)
        one.shown_code = codes.shown(one.code)
    waiting = catalogue.sums().waiting
    query = request.GET.copy()
    if page.has_next():
        query["page"] = str(page.next_page_number())
    context = {
        "page": page,
        "words": words,
        "state": state,
        "options": [
            {"label": label, "url": f"?state={key}", "active": state == key and not words}
            for key, label in (
                ("waiting", _("Waiting")),
                *Redemption.State.choices,
                ("all", _("All")),
            )
        ],
        "next_url": f"{request.path}?{query.urlencode()}" if page.has_next() else "",
        "tabs": _tabs("redemptions", waiting),
        "may_act": callers.may_act(request),
        "crumbs": _crumbs()[:1],
    }
    return http.page(request, "loyalty/redemptions.html", context)


def _redemption(pk: int) -> Redemption:
    found = (
        Redemption.objects.select_related("reward", "customer", "entry").filter(pk=pk).first() if pk < 2**63 else None
    )
    if found is None:
        raise NotFound(_("There is no such redemption. Choose one from the list."))
    return found


@require_POST
@callers.for_those_who_act
def redemption_prepare(request: HttpRequest, pk: int) -> HttpResponse:
    done = rewards.prepare(redemption=_redemption(pk), actor=callers.person(request))
    messages.success(request, _("“%(name)s” is prepared.") % {"name": done.reward.name})
    return http.back(request, "loyalty:redemptions")


@require_POST
@callers.for_those_who_act
def redemption_hand_out(request: HttpRequest, pk: int) -> HttpResponse:
    done = rewards.hand_out(redemption=_redemption(pk), actor=callers.person(request))
    messages.success(request, _("“%(name)s” is handed out.") % {"name": done.reward.name})
    return http.back(request, "loyalty:redemptions")


@require_http_methods(["GET", "HEAD", "POST"])
@callers.for_those_who_act
def redemption_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """A GET says what would happen; a POST gives the points back."""
    redemption = _redemption(pk)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    status = 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                rewards.cancel(redemption=redemption, actor=callers.person(request), **form.cleaned_data)
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                messages.success(
                    request,
                    ngettext("%(n)s point is given back.", "%(n)s points are given back.", redemption.points)
                    % {"n": num(redemption.points)},
                )
                return redirect("loyalty:redemptions")
    context = {
        "redemption": redemption,
        "who": shown_name(redemption.customer, request.user),
        "code": codes.shown(redemption.code),
        "steps": redemption.steps.select_related("actor").order_by("pk"),
        "form": form,
        "crumbs": _crumbs((_("Hand out"), reverse("loyalty:redemptions")), (_("Cancel"), "")),
    }
    return http.page(request, "loyalty/redemption_cancel.html", context, status=status)


# --- At the counter ---------------------------------------------------------------------------------------------------


@require_GET
def counter(request: HttpRequest, customer_id: int) -> HttpResponse:
    """What a customer can have, with a button for each, and what they took before."""
    return _counter(request, customer_id)


def _counter(request: HttpRequest, customer_id: int, status: int = 200, problem: str = "") -> HttpResponse:
    customer = callers.customer(customer_id)
    programme = Programme.current()
    view = statements.account(customer)
    offers = rewards.offers(customer=customer, programme=programme, spendable=view.together) if programme else []
    who = shown_name(customer, request.user)
    taken = catalogue.of_customer(customer)
    for one in taken:
        one.shown_code = codes.shown(one.code)
    context = {
        "customer": customer,
        "who": who,
        "view": view,
        "offers": [(one, OrderRewardForm(initial={"points": one.points})) for one in offers],
        "are_pictured": pictures.shown(one.reward for one in offers),
        "taken": taken,
        "problem": problem,
        "may_act": callers.may_act(request),
        "crumbs": [
            {"label": _("Loyalty"), "url": reverse("loyalty:overview")},
            {"label": who, "url": reverse("loyalty:account", args=[customer.pk])},
            {"label": _("Rewards"), "url": ""},
        ],
    }
    return http.page(request, "loyalty/counter.html", context, status=status)


@require_POST
@callers.for_those_who_act
def counter_redeem(request: HttpRequest, customer_id: int, pk: int) -> HttpResponse:
    customer = callers.customer(customer_id)
    reward = _reward(pk)
    form = OrderRewardForm(request.POST)
    if not form.is_valid():
        return _counter(request, customer_id, 422, _("Press the button of the reward on this page."))
    try:
        done = rewards.redeem(reward=reward, customer=customer, actor=callers.person(request), **form.cleaned_data)
    except DomainError as problem:
        return _counter(request, customer_id, problem.status, problem.message)
    messages.success(
        request,
        _("“%(name)s” is redeemed. The code is %(code)s.") % {"name": reward.name, "code": codes.shown(done.code)},
    )
    return redirect("loyalty:counter", customer.pk)

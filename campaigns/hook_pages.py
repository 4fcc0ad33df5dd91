"""The pages of webhooks: which systems are told, how it stands, and what could not be told: parse, call, render."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from campaigns import hooks
from campaigns.hook_forms import HookChangeForm, HookForm
from campaigns.models import WebhookDelivery, WebhookTarget
from customers.queries import shown_name
from lifecycle_crm.accounts.callers import may, need, only, person
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import http
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.lib.numbers import row_number
from lifecycle_crm.templatetags.crm import num

PAGE = 50


@require_GET
def hook_list(request: HttpRequest) -> HttpResponse:
    rows = [{"target": one, "host": hooks.host_of(one.url)} for one in hooks.targets()]
    return http.page(request, "campaigns/hooks.html", {"rows": rows, "may_govern": may(request, User.may_govern)})


@only(User.may_govern)
@require_http_methods(["GET", "POST"])
def hook_new(request: HttpRequest) -> HttpResponse:
    form = HookForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = hooks.create(actor=person(request), **form.cleaned_data)
        except DomainError as problem:
            form.add_error("url", problem.message)
        else:
            return redirect("campaigns:hook", made.pk)
    context = {"form": form, "crumbs": _crumbs(_("New webhook"))}
    return http.page(request, "campaigns/hook_new.html", context, status=422 if form.errors else 200)


def _crumbs(label: str) -> list[dict[str, str]]:
    return [{"label": _("Webhooks"), "url": reverse("campaigns:hooks")}, {"label": label}]


def _target(pk: int) -> WebhookTarget:
    target = WebhookTarget.objects.filter(pk=pk).first()
    if target is None:
        raise NotFound(_("There is no such webhook. Choose one from the list."))
    return target


@require_http_methods(["GET", "POST"])
def hook(request: HttpRequest, pk: int) -> HttpResponse:
    """How the deliveries to one address stand; for an administrator also the address and its secret."""
    target = _target(pk)
    first = {"name": target.name, "url": target.url, "is_active": target.is_active}
    form = HookChangeForm(request.POST if request.method == "POST" else None, initial=first)
    if request.method == "POST":
        need(request, User.may_govern)
        if form.is_valid():
            try:
                hooks.change(target=target, **form.cleaned_data)
            except DomainError as problem:
                form.add_error("url", problem.message)
            else:
                messages.success(request, _("Saved. It holds from now on."))
                return redirect("campaigns:hook", pk)
    state = request.GET.get("state", "")
    labels = {"": _("All"), **dict(WebhookDelivery.State.choices)}
    found = hooks.deliveries(target, state=state if state in labels else "")
    if before := row_number(request.GET.get("before")):
        found = found.filter(pk__lt=before)
    rows: list[Any] = list(found[: PAGE + 1])
    for row in rows[:PAGE]:
        row.who = shown_name(row.customer, request.user)
    context = {
        "target": target,
        "host": hooks.host_of(target.url),
        "form": form,
        "rows": rows[:PAGE],
        "more": rows[PAGE - 1].pk if len(rows) > PAGE else None,
        "states": http.choices(request, "state", labels, state if state in labels else "", without="before"),
        "gave_up": target.deliveries.filter(state=WebhookDelivery.State.GAVE_UP).count(),
        "may_govern": may(request, User.may_govern),
        "may_steer": may(request, User.may_steer),
        "crumbs": _crumbs(target.name),
    }
    return http.page(request, "campaigns/hook.html", context, status=422 if form.errors else 200)


@only(User.may_govern)
@require_POST
def hook_renew(request: HttpRequest, pk: int) -> HttpResponse:
    hooks.renew(target=_target(pk))
    messages.success(request, _("The next delivery is signed with the new secret. Give it to the other system now."))
    return redirect("campaigns:hook", pk)


@only(User.may_steer)
@require_POST
def hook_again(request: HttpRequest, pk: int) -> HttpResponse:
    """What was given up is tried once more: one delivery that the form names, or all."""
    found = hooks.deliveries(_target(pk))
    if one := request.POST.get("delivery"):
        found = found.filter(pk=get_object_or_404(found, pk=row_number(one) or 0).pk)
    n = hooks.send_again(deliveries=found.order_by())
    said = ngettext("%(n)s delivery is tried again.", "%(n)s deliveries are tried again.", n)
    messages.success(request, said % {"n": num(n)})
    return redirect("campaigns:hook", pk)

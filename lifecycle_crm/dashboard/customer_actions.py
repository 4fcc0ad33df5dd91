"""The buttons of a customer's page: parse, call the verb, go back."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import wraps

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from customers import consent, ingest
from customers.forms import ConsentForm, CustomerForm
from customers.ingest.items import REACT
from customers.models import Customer
from feedback import surveys
from lifecycle_crm.accounts.callers import Power, need, person
from lifecycle_crm.accounts.models import User
from lifecycle_crm.dashboard import customer as customer_page
from lifecycle_crm.dashboard.customer_forms import MoveForm, PointsForm
from lifecycle_crm.lib import bell, clock
from lifecycle_crm.lib.errors import DomainError, InvalidInput
from lifecycle_crm.templatetags.crm import day, num, stage_name
from loyalty import approvals
from loyalty.models import Approval
from stages import engine

Action = Callable[[HttpRequest, Customer], HttpResponse | None]


def action(may: Power, back: str = "dashboard:customer") -> Callable[[Action], Callable[..., HttpResponse]]:
    """A POST on one customer for those who may. What was done, or one sentence of refusal, is told on the page ``back``;
    an action that shows a page of its own returns it."""

    def wrap(verb: Action) -> Callable[..., HttpResponse]:
        @require_POST
        @wraps(verb)
        def view(request: HttpRequest, pk: int) -> HttpResponse:
            need(request, may)
            customer = customer_page.find(pk)
            shown = None
            try:
                shown = verb(request, customer)
            except DomainError as problem:
                messages.error(request, problem.message)
            return shown or redirect(back, customer.pk)

        return view

    return wrap


def _wrong(form: forms.Form) -> InvalidInput:
    """What is wrong with a form that has no page of its own, as one message."""
    told = [
        f"{form.fields[name].label}: {' '.join(map(str, problems))}"
        if name in form.fields
        else " ".join(map(str, problems))
        for name, problems in form.errors.items()
    ]
    return InvalidInput(" ".join(told))


@action(User.may_steer)
def move(request: HttpRequest, customer: Customer) -> None:
    form = MoveForm(request.POST)
    if not form.is_valid():
        raise _wrong(form)
    until = form.cleaned_data["pin_until"]
    engine.move_by_hand(
        customer=customer,
        to=form.cleaned_data["to"],
        reason=form.cleaned_data["reason"],
        actor=person(request),
        pin_until=clock.day_end(until) if until else None,
    )
    text = _("Moved to %(stage)s.") % {"stage": stage_name(form.cleaned_data["to"])}
    if until:
        text = _("Moved to %(stage)s and held there until %(date)s.") % {
            "stage": stage_name(form.cleaned_data["to"]),
            "date": day(until),
        }
    messages.success(request, text)


@action(User.may_serve, back="dashboard:customer-consents")
def record_consent(request: HttpRequest, customer: Customer) -> None:
    form = ConsentForm(request.POST)
    if not form.is_valid():
        raise _wrong(form)
    consent.record(
        customer=customer,
        purpose=form.cleaned_data["purpose"],
        channel=form.cleaned_data["channel"],
        is_granted=form.cleaned_data["is_granted"],
        source=form.cleaned_data["source"],
    )
    bell.ring(REACT)
    messages.success(request, _("The consent is recorded."))


@action(User.may_serve, back="dashboard:customer-feedback")
def survey_link(request: HttpRequest, customer: Customer) -> None:
    survey = surveys.get(request.POST.get("survey", ""))
    surveys.invite(
        customer=customer,
        survey=survey,
        key=f"hand:{clock.today():%Y-%m-%d}",
        reason=_("Made by hand"),
        actor=person(request),
    )
    messages.success(request, _("The link is made. Copy it below and send it to them."))


@action(User.may_serve, back="dashboard:customer-points")
def give_points(request: HttpRequest, customer: Customer) -> None:
    form = PointsForm(request.POST)
    if not form.is_valid():
        raise _wrong(form)
    amount = form.cleaned_data["points"]
    made = approvals.adjust(
        customer=customer,
        points=amount,
        key=f"hand:{request.POST.get('key', '')[:64] or uuid.uuid4().hex}",
        actor=person(request),
        reason=form.cleaned_data["reason"],
    )
    n = num(abs(amount))
    if isinstance(made, Approval):
        text = _("So many points need a second person. An owner or an admin finds your request under Approvals.")
    elif amount > 0:
        text = ngettext("%(n)s point given.", "%(n)s points given.", amount) % {"n": n}
    else:
        text = ngettext("%(n)s point taken.", "%(n)s points taken.", abs(amount)) % {"n": n}
    messages.success(request, text)


@action(User.may_serve, back="dashboard:customer-data")
def edit(request: HttpRequest, customer: Customer) -> HttpResponse | None:
    form = CustomerForm(request.POST, customer=customer)
    if form.is_valid():
        try:
            if changes := form.changes():
                ingest.save_customer(ingest.CustomerIn(customer_id=customer.pk, **changes), source="page")
        except DomainError as problem:
            form.add_error(problem.extra.get("field"), problem.message)
        else:
            messages.success(request, _("Saved."))
            return None
    return customer_page.show(request, customer, "data", customer_page.data_of(request, customer, form), 400)

"""One customer from all sides: who they are, where they stand and why, what comes next, and everything that happened."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import wraps
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET, require_POST

from campaigns import queries as message_queries
from customers import conditions, consent, ingest
from customers import queries as customer_queries
from customers.filters import country_name, language_name
from customers.forms import ConsentForm, CustomerForm
from customers.ingest.items import REACT
from customers.models import Consent, Customer, CustomerFacts, Order
from customers.timeline import Cursor, Item, merge
from feedback import links, surveys
from feedback import queries as feedback_queries
from feedback.models import Survey
from lifecycle_crm.accounts.callers import Power, need, sees_contacts
from lifecycle_crm.accounts.models import User
from lifecycle_crm.dashboard import timeline as lines
from lifecycle_crm.lib import bell, clock
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.lib.http import page
from lifecycle_crm.lib.moments import DAY, seconds
from lifecycle_crm.templatetags.crm import NOTHING, day, num, stage_name
from loyalty import approvals, tiers
from loyalty import queries as points_queries
from loyalty import wallet as points_wallet
from loyalty.models import Approval
from stages import engine, evidence
from stages.models import Pin, RuleSet, StageKey, StageTransition

PAGE_SIZE = 50
SUPPORT_POINTS = 500
"""The most a person of support may give or take at once; above it, an owner, admin or marketer does it."""

TABS: tuple[tuple[str, Any, str], ...] = (
    ("timeline", gettext_lazy("Timeline"), "dashboard:customer"),
    ("stages", gettext_lazy("Stages"), "dashboard:customer-stages"),
    ("orders", gettext_lazy("Orders"), "dashboard:customer-orders"),
    ("feedback", gettext_lazy("Feedback"), "dashboard:customer-feedback"),
    ("messages", gettext_lazy("Messages"), "dashboard:customer-messages"),
    ("points", gettext_lazy("Points"), "dashboard:customer-points"),
    ("consents", gettext_lazy("Consents"), "dashboard:customer-consents"),
    ("data", gettext_lazy("Data"), "dashboard:customer-data"),
)


def _find(pk: int) -> Customer:
    customer = Customer.objects.select_related("facts", "pin", "owner").filter(pk=pk).first()
    if customer is None:
        raise NotFound(_("There is no customer #%(pk)d. Look for them in the list of customers.") % {"pk": pk})
    return customer


# --- What every tab shows ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """A score of 1 to 5 and the fact it was made from."""

    label: str
    value: int
    fact: str

    @property
    def steps(self) -> list[bool]:
        return [step <= self.value for step in range(1, 6)]


def _scores(known: CustomerFacts | None) -> list[Score]:
    if known is None or known.recency is None or known.last_order_at is None:
        return []
    days = (seconds(clock.now()) - seconds(known.last_order_at)) // DAY
    ordered = ngettext("%(n)s day since the last order", "%(n)s days since the last order", days) % {"n": num(days)}
    orders = ngettext("%(n)s order", "%(n)s orders", known.orders) % {"n": num(known.orders)}
    return [
        Score(_("Recency"), known.recency, ordered),
        Score(_("Frequency"), known.frequency or 0, orders),
        Score(_("Monetary"), known.monetary or 0, ""),
    ]


def _wallet(customer: Customer) -> dict[str, Any] | None:
    """What they have in points and what it is worth; ``None`` for who never had any."""
    view = points_queries.account(customer)
    if view.account.pk is None:
        return None
    programme = view.account.programme
    return {"view": view, "value_minor": view.spendable * programme.value_minor_per_100 // 100}


def _outlook(customer: Customer, known: CustomerFacts | None) -> dict[str, Any] | None:
    """What the rules in force say of this customer, in words; ``None`` before the first evaluation."""
    rule_set = RuleSet.objects.filter(state=RuleSet.State.PUBLISHED).first()
    if known is None or not known.stage or rule_set is None:
        return None
    now = clock.whole_now()
    parsed = evidence.parsed(rule_set)
    snapshot = conditions.snapshots([customer.pk], parsed.conditions(), now).get(customer.pk)
    if snapshot is None:
        return None
    snapshot |= {"stage": known.stage, "stage_since": seconds(known.stage_since) if known.stage_since else None}
    if "recency" in parsed.fact_names():
        snapshot |= {"last_order_at": seconds(known.last_order_at) if known.last_order_at else None}
    pin = _pin(customer)
    view = evidence.outlook(
        snapshot, parsed, now, cuts=customer_queries.rfm_cuts(), pinned_until=pin.until if pin else None
    )
    return {"view": view, "rule_set": rule_set, "sentence": _next_sentence(view)}


def _next_sentence(view: evidence.Outlook) -> str:
    """ "Becomes Dormant on 3 Dec 2026 if nothing happens." """
    if view.flip is None:
        return _("Stays in %(stage)s until they do something: time alone changes nothing.") % {
            "stage": stage_name(view.stage)
        }
    values = {"stage": stage_name(view.flip.to), "date": day(view.flip.on)}
    return _("Becomes %(stage)s on %(date)s if nothing happens.") % values


def _pin(customer: Customer) -> Pin | None:
    """The pin that holds them now, if any."""
    try:
        pin: Pin = customer.pin
    except Pin.DoesNotExist:
        return None
    return pin if pin.until > clock.now() else None


def _consent_words(customer: Customer) -> list[dict[str, Any]]:
    """The statement in force per purpose and channel; "never asked" where there is none."""
    last: dict[tuple[str, str], Consent] = {}
    for said in Consent.objects.filter(customer=customer, occurred_at__lte=clock.now()).order_by("occurred_at", "pk"):
        last[said.purpose, said.channel] = said
    words = []
    for purpose, label in Consent.Purpose.choices:
        for channel, by in Consent.Channel.choices:
            row = last.get((purpose, channel))
            if row is None and channel != Consent.Channel.EMAIL:
                continue
            words.append({"purpose": label, "channel": by, "row": row})
    return words


def _since(customer: Customer) -> str:
    return _("Customer #%(pk)d since %(date)s") % {"pk": customer.pk, "date": day(customer.known_since)}


def _show(
    request: HttpRequest, customer: Customer, tab: str, context: dict[str, Any] | None = None, status: int = 200
) -> HttpResponse:
    """A tab inside the page of the customer: head, cards and actions are the same on all of them."""
    if request.htmx and request.headers.get("HX-Target"):
        return page(request, f"dashboard/customer_{tab}.html", {"customer": customer, **(context or {})}, status)
    known = customer_queries.facts_of(customer)
    last = lines.moves_of(customer.pk).order_by("-pk").first()
    sees = sees_contacts(request)
    name = customer_queries.shown_name(customer, request.user)
    pin = _pin(customer)
    may_change = request.user.may_serve()
    label = next(str(label) for key, label, _name in TABS if key == tab)
    return page(
        request,
        f"dashboard/customer_{tab}.html",
        {
            "customer": customer,
            "name": name,
            "tab_label": label,
            "facts": known,
            "given": tiers.given(customer) if known and known.tier else [],
            "stage_date": customer_queries.stage_date(known),
            "gap_days": known.gap_seconds // DAY if known and known.gap_seconds is not None else None,
            "sees_contacts": sees,
            "since": _since(customer),
            "country": country_name(customer.country) if customer.country else "",
            "language": language_name(customer.language) if customer.language else "",
            "crumbs": [{"label": _("Customers"), "url": reverse("customers:list")}, {"label": name}],
            "tabs": [
                {"label": label, "url": reverse(name, args=[customer.pk]), "active": key == tab}
                for key, label, name in TABS
            ],
            "last_move": last,
            "last_reason": evidence.reason(last) if last else "",
            "pin": pin,
            "consents": _consent_words(customer),
            "scores": _scores(known),
            "wallet": _wallet(customer),
            "wallet_url": points_wallet.url(customer) if may_change else "",
            "outlook": _outlook(customer, known),
            "may_change": may_change,
            "may_move": request.user.may_steer(),
            "move_form": MoveForm(stage=known.stage if known else ""),
            "points_form": PointsForm(),
            "point_key": uuid.uuid4().hex,
            "surveys": list(Survey.objects.filter(state=Survey.State.ACTIVE)) if may_change else [],
            **(context or {}),
        },
        status,
    )


# --- Tabs -------------------------------------------------------------------------------------------------------------


@require_GET
def timeline(request: HttpRequest, pk: int) -> HttpResponse:
    customer = _find(pk)
    known_kinds = [source.kind for source in lines.SOURCES]
    kinds = [kind for kind in request.GET.getlist("kind") if kind in known_kinds]
    cursor = Cursor.decode(request.GET.get("page", ""))
    found = merge(customer.pk, lines.SOURCES, kinds=kinds, cursor=cursor)
    previous = clock.business_date(cursor.at) if cursor and request.htmx else None
    return _show(
        request,
        customer,
        "timeline",
        {
            "days": _by_day(_shown(found.items, request.user), previous),
            "kinds": kinds,
            "kind_chips": _kind_chips(request, kinds),
            "is_first": cursor is None,
            "next_url": _query(kinds, found.next.encode()) if found.next else "",
        },
    )


def _shown(items: Sequence[Item], user: Any) -> list[Item]:
    """What is folded away may hold addresses: the properties of an event, a note on a case."""
    return list(items) if user.sees_contacts() else [replace(item, body="") for item in items]


def _by_day(items: Sequence[Item], previous: date | None) -> list[dict[str, Any]]:
    """Items under the heading of their day; without one where the page before ended in the same day."""
    days: list[dict[str, Any]] = []
    for item in items:
        on = clock.business_date(item.at)
        if not days or days[-1]["on"] != on:
            days.append({"on": on, "title": on if on != previous else None, "items": []})
        days[-1]["items"].append(item)
    return days


def _kind_chips(request: HttpRequest, kinds: list[str]) -> list[dict[str, Any]]:
    """A link per kind that turns it on or off."""
    chips = [{"label": _("Everything"), "url": request.path, "active": not kinds}]
    for source in lines.SOURCES:
        other = [kind for kind in kinds if kind != source.kind] if source.kind in kinds else [*kinds, source.kind]
        chips.append({"label": source.label, "url": f"{request.path}{_query(other)}", "active": source.kind in kinds})
    return chips


def _query(kinds: list[str], cursor: str = "") -> str:
    parts = [f"kind={kind}" for kind in kinds] + ([f"page={cursor}"] if cursor else [])
    return f"?{'&'.join(parts)}" if parts else "?"


@require_GET
def stages(request: HttpRequest, pk: int) -> HttpResponse:
    customer = _find(pk)
    moves, next_url = _page_by_id(request, lines.moves_of(customer.pk))
    rows = [
        {
            "move": move,
            "headline": evidence.headline(move),
            "why": evidence.grounds(move),
            "rule": evidence.rule_title(move),
        }
        for move in moves
    ]
    return _show(request, customer, "stages", {"rows": rows, "next_url": next_url, "stays": _stays(customer)})


@dataclass(frozen=True)
class Stay:
    """A stay in one stage, with its place on a bar of 0 to 100."""

    stage: str
    since: datetime
    until: datetime | None
    days: int
    x: str
    width: str


def _stays(customer: Customer, limit: int = 40) -> list[Stay]:
    """The last stays, the oldest first, as parts of one bar from the first of them to now."""
    moves = list(
        StageTransition.objects.filter(customer=customer).order_by("-pk").values_list("occurred_at", "to_stage")[:limit]
    )[::-1]
    if not moves:
        return []
    start, now = moves[0][0], clock.now()
    whole = max(1.0, (now - start).total_seconds())
    stays = []
    for index, (since, stage) in enumerate(moves):
        until = moves[index + 1][0] if index + 1 < len(moves) else None
        length = ((until or now) - since).total_seconds()
        stays.append(
            Stay(
                stage,
                since,
                until,
                int(length // DAY),
                f"{(since - start).total_seconds() / whole * 100:.3f}",
                f"{length / whole * 100:.3f}",
            )
        )
    return stays


def _page_by_id(request: HttpRequest, rows: Any, size: int = PAGE_SIZE) -> tuple[list[Any], str]:
    """Rows with the highest id first, after ``?page=<id>``; and the address of the next page."""
    before = request.GET.get("page", "")
    if before.isdecimal() and len(before) < 19:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows.order_by("-pk")[: size + 1])
    shown = found[:size]
    return shown, f"?page={shown[-1].pk}" if len(found) > size else ""


@require_GET
def orders(request: HttpRequest, pk: int) -> HttpResponse:
    customer = _find(pk)
    rows = Order.objects.filter(customer=customer).prefetch_related("lines", "refunds").order_by("-placed_at", "-pk")
    cursor = Cursor.decode(request.GET.get("page", ""))
    if cursor:
        rows = rows.filter(placed_at__lte=cursor.at).exclude(placed_at=cursor.at, pk__gte=cursor.pk)
    found = list(rows[: PAGE_SIZE + 1])
    shown = found[:PAGE_SIZE]
    more = Cursor(shown[-1].placed_at, 0, shown[-1].pk).encode() if len(found) > PAGE_SIZE else ""
    return _show(request, customer, "orders", {"orders": shown, "next_url": f"?page={more}" if more else ""})


@require_GET
def feedback(request: HttpRequest, pk: int) -> HttpResponse:
    customer = _find(pk)
    said = feedback_queries.for_customer(customer.pk)
    # Whoever has the link can answer in the customer's name, so it is shown only to those who may make one.
    may_see = request.user.may_serve()
    open_links = [{"row": row, "url": links.survey_url(row)} for row in said.invitations] if may_see else []
    return _show(request, customer, "feedback", {"said": said, "open_links": open_links})


@require_GET
def messages_sent(request: HttpRequest, pk: int) -> HttpResponse:
    customer = _find(pk)
    rows = message_queries.messages().filter(customer=customer)
    shown, next_url = _page_by_id(request, rows)
    for row in shown:
        row.words = lines.message_words(row)
    return _show(request, customer, "messages", {"rows": shown, "next_url": next_url})


@require_GET
def points(request: HttpRequest, pk: int) -> HttpResponse:
    customer = _find(pk)
    view = points_queries.account(customer)
    before = request.GET.get("page", "")
    rows, after = (
        points_queries.lines(view.account, before=int(before) if before.isdecimal() and len(before) < 19 else None)
        if view.account.pk
        else ([], None)
    )
    return _show(request, customer, "points", {"rows": rows, "next_url": f"?page={after}" if after else ""})


@require_GET
def consents(request: HttpRequest, pk: int) -> HttpResponse:
    customer = _find(pk)
    shown, next_url = _page_by_id(request, Consent.objects.filter(customer=customer))
    return _show(request, customer, "consents", {"history": shown, "next_url": next_url, "consent_form": ConsentForm()})


@require_GET
def data(request: HttpRequest, pk: int) -> HttpResponse:
    customer = _find(pk)
    return _show(request, customer, "data", _data(request, customer, CustomerForm(customer=customer)))


def _data(request: HttpRequest, customer: Customer, form: CustomerForm) -> dict[str, Any]:
    sees = sees_contacts(request)
    return {
        "form": form,
        "external_ids": list(customer.external_ids.order_by("source", "value")) if sees else [],
        "attributes": sorted(customer.attributes.items()) if sees and isinstance(customer.attributes, dict) else [],
        "nothing": NOTHING,
    }


# --- Actions: parse, call the verb, go back -----------------------------------------------------------------------------


class MoveForm(forms.Form):
    to = forms.ChoiceField(label=gettext_lazy("To"), choices=StageKey.choices)
    reason = forms.CharField(
        label=gettext_lazy("Why"), max_length=300, help_text=gettext_lazy("It stays in their history.")
    )
    pin_until = forms.DateField(
        label=gettext_lazy("Hold them there until"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text=gettext_lazy("Empty: the rules decide again from tonight."),
    )

    def __init__(self, *args: Any, stage: str = "", **kwargs: Any) -> None:
        super().__init__(*args, auto_id="move_%s", **kwargs)
        self.fields["to"].initial = stage


class PointsForm(forms.Form):
    points = forms.IntegerField(
        label=gettext_lazy("Points"),
        min_value=-1_000_000,
        max_value=1_000_000,
        help_text=gettext_lazy("A minus takes points away."),
    )
    reason = forms.CharField(
        label=gettext_lazy("Why"), max_length=300, help_text=gettext_lazy("It stays in their history.")
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, auto_id="points_%s", **kwargs)


Action = Callable[[HttpRequest, Customer], HttpResponse]


def action(may: Power) -> Callable[[Action], Callable[..., HttpResponse]]:
    """A POST on one customer for those who may; a refusal goes back to the page as one sentence."""

    def wrap(verb: Action) -> Callable[..., HttpResponse]:
        @require_POST
        @wraps(verb)
        def view(request: HttpRequest, pk: int) -> HttpResponse:
            need(request, may)
            customer = _find(pk)
            try:
                return verb(request, customer)
            except DomainError as problem:
                messages.error(request, problem.message)
                return _back(request, customer)

        return view

    return wrap


def _back(request: HttpRequest, customer: Customer, name: str = "dashboard:customer") -> HttpResponse:
    return redirect(name, customer.pk)


def _complain(request: HttpRequest, form: forms.Form) -> None:
    """What is wrong with a form that has no page of its own, as one message."""
    told = [
        f"{form.fields[name].label}: {' '.join(problems)}" if name in form.fields else " ".join(problems)
        for name, problems in form.errors.items()
    ]
    messages.error(request, " ".join(told))


@action(User.may_steer)
def move(request: HttpRequest, customer: Customer) -> HttpResponse:
    form = MoveForm(request.POST)
    if not form.is_valid():
        _complain(request, form)
        return _back(request, customer)
    until = form.cleaned_data["pin_until"]
    engine.move_by_hand(
        customer=customer,
        to=form.cleaned_data["to"],
        reason=form.cleaned_data["reason"],
        actor=request.user,
        pin_until=clock.day_end(until) if until else None,
    )
    text = _("Moved to %(stage)s.") % {"stage": stage_name(form.cleaned_data["to"])}
    if until:
        text = _("Moved to %(stage)s and held there until %(date)s.") % {
            "stage": stage_name(form.cleaned_data["to"]),
            "date": day(until),
        }
    messages.success(request, text)
    return _back(request, customer)


@action(User.may_serve)
def record_consent(request: HttpRequest, customer: Customer) -> HttpResponse:
    form = ConsentForm(request.POST)
    if not form.is_valid():
        _complain(request, form)
        return _back(request, customer, "dashboard:customer-consents")
    consent.record(
        customer=customer,
        purpose=form.cleaned_data["purpose"],
        channel=form.cleaned_data["channel"],
        is_granted=form.cleaned_data["is_granted"],
        source=form.cleaned_data["source"],
    )
    bell.ring(REACT)
    messages.success(request, _("The consent is recorded."))
    return _back(request, customer, "dashboard:customer-consents")


@action(User.may_serve)
def survey_link(request: HttpRequest, customer: Customer) -> HttpResponse:
    survey = surveys.get(request.POST.get("survey", ""))
    surveys.invite(
        customer=customer,
        survey=survey,
        key=f"hand:{clock.today():%Y-%m-%d}",
        reason=_("Made by hand"),
        actor=request.user,
    )
    messages.success(request, _("The link is made. Copy it below and send it to them."))
    return _back(request, customer, "dashboard:customer-feedback")


@action(User.may_serve)
def give_points(request: HttpRequest, customer: Customer) -> HttpResponse:
    form = PointsForm(request.POST)
    if not form.is_valid():
        _complain(request, form)
        return _back(request, customer, "dashboard:customer-points")
    amount = form.cleaned_data["points"]
    if abs(amount) > SUPPORT_POINTS and not request.user.may_steer():
        limit = ngettext("%(n)s point", "%(n)s points", SUPPORT_POINTS) % {"n": num(SUPPORT_POINTS)}
        messages.error(request, _("Your role may give or take up to %(limit)s at once.") % {"limit": limit})
        return _back(request, customer, "dashboard:customer-points")
    made = approvals.adjust(
        customer=customer,
        points=amount,
        key=f"hand:{request.POST.get('key', '')[:64] or uuid.uuid4().hex}",
        actor=request.user,
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
    return _back(request, customer, "dashboard:customer-points")


@action(User.may_serve)
def edit(request: HttpRequest, customer: Customer) -> HttpResponse:
    form = CustomerForm(request.POST, customer=customer)
    if form.is_valid():
        try:
            if changes := form.changes():
                ingest.save_customer(ingest.CustomerIn(customer_id=customer.pk, **changes), source="page")
        except DomainError as problem:
            form.add_error(getattr(problem, "extra", {}).get("field") or None, problem.message)
        else:
            messages.success(request, _("Saved."))
            return _back(request, customer, "dashboard:customer-data")
    return _show(request, customer, "data", _data(request, customer, form), 400)

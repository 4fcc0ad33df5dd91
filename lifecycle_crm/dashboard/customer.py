"""One customer from all sides: who they are, where they stand and why, what comes next, and everything that happened."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET

from campaigns import queries as message_queries
from campaigns import worklist
from customers import queries as customer_queries
from customers.filters import country_name, language_name
from customers.forms import ConsentForm, CustomerForm
from customers.models import Consent, Customer, Order
from customers.timeline import Cursor, Item, merge
from feedback import links
from feedback import queries as feedback_queries
from feedback.models import Survey
from lifecycle_crm.accounts.callers import may, sees_contacts
from lifecycle_crm.accounts.models import User
from lifecycle_crm.dashboard import customer_head as head
from lifecycle_crm.dashboard import timeline as lines
from lifecycle_crm.dashboard.customer_forms import MoveForm, PointsForm
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import NotFound
from lifecycle_crm.lib.http import page
from lifecycle_crm.lib.moments import DAY
from lifecycle_crm.templatetags.crm import NOTHING
from loyalty import statements, tiers
from loyalty import wallet as points_wallet
from stages import evidence
from stages.models import StageTransition

PAGE_SIZE = 50
MOST_TASKS = 10

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


def find(pk: int) -> Customer:
    customer = Customer.objects.select_related("facts", "pin", "owner").filter(pk=pk).first()
    if customer is None:
        raise NotFound(_("There is no customer #%(pk)d. Look for them in the list of customers.") % {"pk": pk})
    return customer


# --- The page around every tab --------------------------------------------------------------------------------------


def show(
    request: HttpRequest, customer: Customer, tab: str, context: dict[str, Any] | None = None, status: int = 200
) -> HttpResponse:
    """A tab inside the page of the customer: head, cards and actions are the same on all of them."""
    if request.htmx and request.headers.get("HX-Target"):
        return page(request, f"dashboard/customer_{tab}.html", {"customer": customer, **(context or {})}, status)
    known = customer_queries.facts_of(customer)
    last = lines.moves_of(customer.pk).order_by("-pk").first()
    sees = sees_contacts(request)
    name = customer_queries.shown_name(customer, request.user)
    may_change = may(request, User.may_serve)
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
            "since": head.since(customer),
            "country": country_name(customer.country) if customer.country else "",
            "language": language_name(customer.language) if customer.language else "",
            "crumbs": [{"label": _("Customers"), "url": reverse("customers:list")}, {"label": name}],
            "tabs": [
                {"label": label, "url": reverse(name, args=[customer.pk]), "active": key == tab}
                for key, label, name in TABS
            ],
            "last_move": last,
            "tasks": list(worklist.of_customer(customer.pk)[:MOST_TASKS]),
            "last_reason": evidence.reason(last) if last else "",
            "pin": head.pin(customer),
            "consents": head.consent_words(customer),
            "scores": head.scores(known),
            "wallet": head.wallet(customer),
            "wallet_url": points_wallet.url(customer) if may_change else "",
            "outlook": head.outlook(customer, known),
            "may_change": may_change,
            "may_move": may(request, User.may_steer),
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
    customer = find(pk)
    known_kinds = [source.kind for source in lines.SOURCES]
    kinds = [kind for kind in request.GET.getlist("kind") if kind in known_kinds]
    cursor = Cursor.decode(request.GET.get("page", ""))
    found = merge(customer.pk, lines.SOURCES, kinds=kinds, cursor=cursor)
    previous = clock.business_date(cursor.at) if cursor and request.htmx else None
    return show(
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
    customer = find(pk)
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
    return show(request, customer, "stages", {"rows": rows, "next_url": next_url, "stays": _stays(customer)})


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
    customer = find(pk)
    rows = Order.objects.filter(customer=customer).prefetch_related("lines", "refunds").order_by("-placed_at", "-pk")
    cursor = Cursor.decode(request.GET.get("page", ""))
    if cursor:
        rows = rows.filter(placed_at__lte=cursor.at).exclude(placed_at=cursor.at, pk__gte=cursor.pk)
    found = list(rows[: PAGE_SIZE + 1])
    shown = found[:PAGE_SIZE]
    more = Cursor(shown[-1].placed_at, 0, shown[-1].pk).encode() if len(found) > PAGE_SIZE else ""
    return show(request, customer, "orders", {"orders": shown, "next_url": f"?page={more}" if more else ""})


@require_GET
def feedback(request: HttpRequest, pk: int) -> HttpResponse:
    customer = find(pk)
    said = feedback_queries.for_customer(customer.pk)
    # Whoever has the link can answer in the customer's name, so it is shown only to those who may make one.
    may_see = may(request, User.may_serve)
    open_links = [{"row": row, "url": links.survey_url(row)} for row in said.invitations] if may_see else []
    return show(request, customer, "feedback", {"said": said, "open_links": open_links})


@require_GET
def messages_sent(request: HttpRequest, pk: int) -> HttpResponse:
    customer = find(pk)
    rows = message_queries.messages().filter(customer=customer)
    shown, next_url = _page_by_id(request, rows)
    for row in shown:
        row.words = lines.message_words(row)
    return show(request, customer, "messages", {"rows": shown, "next_url": next_url})


@require_GET
def points(request: HttpRequest, pk: int) -> HttpResponse:
    customer = find(pk)
    view = statements.account(customer)
    before = request.GET.get("page", "")
    rows, after = (
        statements.lines(view.account, before=int(before) if before.isdecimal() and len(before) < 19 else None)
        if view.account.pk
        else ([], None)
    )
    return show(request, customer, "points", {"rows": rows, "next_url": f"?page={after}" if after else ""})


@require_GET
def consents(request: HttpRequest, pk: int) -> HttpResponse:
    customer = find(pk)
    shown, next_url = _page_by_id(request, Consent.objects.filter(customer=customer))
    return show(request, customer, "consents", {"history": shown, "next_url": next_url, "consent_form": ConsentForm()})


@require_GET
def data(request: HttpRequest, pk: int) -> HttpResponse:
    customer = find(pk)
    return show(request, customer, "data", data_of(request, customer, CustomerForm(customer=customer)))


def data_of(request: HttpRequest, customer: Customer, form: CustomerForm) -> dict[str, Any]:
    sees = sees_contacts(request)
    return {
        "form": form,
        "external_ids": list(customer.external_ids.order_by("source", "value")) if sees else [],
        "attributes": sorted(customer.attributes.items()) if sees and isinstance(customer.attributes, dict) else [],
        "nothing": NOTHING,
    }

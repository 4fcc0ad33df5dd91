"""The pages of what the programme owes and costs: numbers as of a date, by month, as CSV, and whose points they are."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET

from customers.importing import guarded
from customers.models import Customer
from customers.queries import shown_name
from lifecycle_crm.lib import clock, http
from lifecycle_crm.lib.errors import InvalidInput, NotFound
from lifecycle_crm.lib.money import from_minor
from lifecycle_crm.lib.numbers import row_number
from lifecycle_crm.templatetags.crm import money, month, num, pct
from loyalty import effect, liability, signoffs
from loyalty.callers import may_set_up, person
from loyalty.callers import programme as asked_programme
from loyalty.models import Programme

NEVER = "never"


def _crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    return [{"label": label, "url": url} for label, url in ((_("Loyalty"), reverse("loyalty:overview")), *more)]


@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    """What is owed at the end of ``?as_of=``, what will end unused, when points end, and what each month cost."""
    programme = asked_programme(request)
    error, status = "", 200
    on, assumed = clock.last_complete_day(), None
    try:
        on = liability.asked_day(request.GET.get("as_of", ""))
        assumed = _assumed(request.GET.get("redeemed", ""))
    except InvalidInput as problem:
        error, status = problem.message, problem.status
    context: dict[str, Any] = {
        "programme": programme,
        "programmes": list(Programme.objects.filter(kind=Programme.Kind.POINTS).order_by("pk")),
        "day": on,
        "last_day": clock.today(),
        "error": error,
        "crumbs": _crumbs(),
        "currency": settings.SHOP_CURRENCY,
    }
    if programme is not None:
        context |= _numbers(programme, on, assumed)
        signed = signoffs.current(programme, on)
        context |= {
            "signed": signed,
            "drift": signoffs.drift(signed) if signed else None,
            "may_sign": signoffs.may_sign(person(request)) and on <= clock.last_complete_day(),
        }
    return http.page(request, "loyalty/liability.html", context, status=status)


def _numbers(programme: Programme, on: date, assumed: int | None) -> dict[str, Any]:
    currency = settings.SHOP_CURRENCY
    found = liability.report(programme, on)
    owed, unused = found["outstanding"], found["breakage"]
    compared = effect.effect(programme, on)
    months = found["months"]
    return {
        "owed": owed,
        "unused": unused,
        "compared": compared,
        "enough_people": liability.ENOUGH_PEOPLE,
        "enough": effect.ENOUGH,
        "metrics": _metrics(owed, unused, months, currency, assumed),
        "assumed": assumed,
        "measured": None if unused.points is None or not owed.points else 1 - unused.points / owed.points,
        "calendar_columns": [
            {"label": _("Last day in")},
            {"label": _("Points"), "num": True},
            {"label": _("Worth"), "num": True},
            {"label": _("Customers"), "num": True},
        ],
        "calendar_rows": [
            [
                month(one.first) if one.first else _("Never"),
                {"text": num(one.points), "num": True},
                {"text": money(one.worth_minor, currency), "num": True},
                {"text": num(one.people), "num": True, "url": _people_url(programme, on, one.first)},
            ]
            for one in found["calendar"]
        ],
        "calendar_foot": [
            _("All"),
            {"text": num(sum(one.points for one in found["calendar"])), "num": True},
            {"text": money(sum(one.worth_minor for one in found["calendar"]), currency), "num": True},
            "",
        ],
        "tier_columns": [
            {"label": _("Tier")},
            {"label": _("Points"), "num": True},
            {"label": _("Worth"), "num": True},
            {"label": _("Customers"), "num": True},
        ],
        "tier_rows": [
            [
                one.name or _("No tier"),
                {"text": num(one.points), "num": True},
                {"text": money(one.worth_minor, currency), "num": True},
                {"text": num(one.people), "num": True},
            ]
            for one in found["tiers"]
        ],
        "month_columns": [
            {"label": _("Month")},
            {"label": _("Given"), "num": True},
            {"label": _("Redeemed"), "num": True},
            {"label": _("Expired"), "num": True},
            {"label": _("Taken back"), "num": True},
            {"label": _("Left at the end"), "num": True},
            {"label": _("Cost"), "num": True},
            {"label": _("Owed at the end"), "num": True},
        ],
        "month_rows": [
            [
                month(one.first),
                *({"text": num(n), "num": True} for n in (one.given, one.redeemed, one.expired, one.taken_back)),
                {"text": num(one.outstanding), "num": True},
                {"text": money(one.cost_minor, currency), "num": True},
                {"text": money(one.owed_minor, currency), "num": True},
            ]
            for one in reversed(months)
        ],
        "effect_rows": _effect_rows(compared, currency),
    }


def _people_url(programme: Programme, on: date, first: date | None) -> str:
    which = first.isoformat() if first else NEVER
    return f"{reverse('loyalty:liability-people', args=[which])}?as_of={on.isoformat()}&programme={programme.pk}"


def _metrics(owed: Any, unused: Any, months: list[Any], currency: str, assumed: int | None) -> list[dict[str, Any]]:
    year = months[-12:]
    cost = sum(one.cost_minor for one in year)
    cards: list[dict[str, Any]] = [
        {
            "name": _("Owed"),
            "value": money(owed.liability_minor, currency),
            "sample": ngettext(
                "%(points)s points of %(n)s customer", "%(points)s points of %(n)s customers", owed.holders
            )
            % {"points": num(owed.points), "n": num(owed.holders)},
            "definition": _(
                "Points outstanding at the end of the date, as if every one were redeemed, at the value of a point now. "
                "Added up from the entries that held by then."
            ),
        }
    ]
    if unused.points is None:
        cards.append({"name": _("Expected to end unused"), "have": unused.people, "need": liability.ENOUGH_PEOPLE})
    else:
        cards.append(
            {
                "name": _("Expected to end unused"),
                "value": money(unused.worth_minor, currency),
                "sample": _("%(points)s points, 95%% between %(low)s and %(high)s")
                % {"points": num(unused.points), "low": num(unused.low), "high": num(unused.high)},
                "definition": _(
                    "Of points that were still there at the same tenth of their life, the share that ended unused, learnt "
                    "from lots that ended in the two years before. Interval: delete-a-group jackknife over 20 groups of "
                    "customers (Kott 2001); where all did the same, the rule of three."
                ),
            }
        )
    cards.append(_expected(owed, unused, currency, assumed))
    cards.append(
        {
            "name": _("Cost of 12 months"),
            "value": money(cost, currency),
            "sample": ngettext("%(n)s point redeemed", "%(n)s points redeemed", sum(one.redeemed for one in year))
            % {"n": num(sum(one.redeemed for one in year))},
            "definition": _("Redeemed points at the value of a point now, less redemptions that were given back."),
        }
    )
    return cards


def _expected(owed: Any, unused: Any, currency: str, assumed: int | None) -> dict[str, Any]:
    """What of the sum owed will be asked for: by the share somebody assumes, or else by the one that was measured."""
    name = _("Expected to be redeemed")
    if assumed is not None:
        told = _("if %(share)s of the points are redeemed, as assumed") % {"share": pct(assumed / 100)}
        return {"name": name, "value": money(owed.liability_minor * assumed // 100, currency), "sample": told}
    if unused.points is None:
        return {"name": name, "have": unused.people, "need": liability.ENOUGH_PEOPLE}
    share = 1 - unused.points / owed.points if owed.points else 0.0
    return {
        "name": name,
        "value": money(owed.liability_minor - (unused.worth_minor or 0), currency),
        "sample": _("%(share)s of the points owed, as measured") % {"share": pct(share)},
        "definition": _("What is owed less what is expected to end unused. Assume another share above the numbers."),
    }


def _assumed(text: str) -> int | None:
    """The share of points in percent that somebody assumes is redeemed. Raises ``InvalidInput``."""
    if not text.strip():
        return None
    number = row_number(text.strip().removesuffix("%").strip())
    if not number or number > 100:
        raise InvalidInput(_("Write the share as a whole number from 1 to 100."), code="invalid_share")
    return number


def _hundredfold(share: float | None) -> str:
    return num(100 * share, 1) if share is not None else ""


def _effect_rows(found: effect.Effect, currency: str) -> list[list[Any]]:
    if not found.is_enough:
        return []
    return [
        [
            _("Members"),
            {"text": num(found.matched), "num": True},
            {"text": money(found.members_minor, currency), "num": True},
            {"text": pct(found.members_again), "num": True},
        ],
        [
            _("Comparable others"),
            {"text": num(found.compared), "num": True},
            {"text": money(found.others_minor, currency), "num": True},
            {"text": pct(found.others_again), "num": True},
        ],
        [
            _("Difference"),
            "",
            {
                "text": money(found.difference_minor, currency),
                "num": True,
                "sub": _("95%% between %(low)s and %(high)s")
                % {"low": money(found.low_minor, currency), "high": money(found.high_minor, currency)},
            },
            {
                "text": _("%(number)s percentage points") % {"number": _hundredfold(found.difference_again)},
                "num": True,
                "sub": _("95%% between %(low)s and %(high)s")
                % {"low": _hundredfold(found.low_again), "high": _hundredfold(found.high_again)},
            },
        ],
    ]


@require_GET
def people(request: HttpRequest, which: str) -> HttpResponse:
    """Whose points end in a month of the calendar, the most first."""
    programme = asked_programme(request)
    on = liability.asked_day(request.GET.get("as_of", ""))
    first = _first(which)
    if programme is None:
        raise NotFound(_("There is no such programme. Choose one from the list."))
    rows = liability.people_of_month(programme, on, first)
    names = {one.pk: one for one in Customer.objects.filter(pk__in=[row.customer_id for row in rows])}
    title = _("Points that never end") if first is None else _("Points that end in %(month)s") % {"month": month(first)}
    context = {
        "title": title,
        "day": on,
        "limit": len(rows) if len(rows) >= 100 else 0,
        "columns": [{"label": _("Customer")}, {"label": _("Points"), "num": True}, {"label": _("Worth"), "num": True}],
        "rows": [
            [
                {
                    "text": shown_name(names[row.customer_id], request.user),
                    "url": reverse("loyalty:account", args=[row.customer_id]),
                },
                {"text": num(row.points), "num": True},
                {"text": money(row.worth_minor, settings.SHOP_CURRENCY), "num": True},
            ]
            for row in rows
        ],
        "extend_url": _extend_url(request, programme, first) if rows else "",
        "crumbs": _crumbs((_("Liability"), f"{reverse('loyalty:liability')}?as_of={on}"), (title, "")),
    }
    return http.page(request, "loyalty/liability_people.html", context)


def _extend_url(request: HttpRequest, programme: Programme, first: date | None) -> str:
    """Where the points of a month that is not over can be extended, for those who may."""
    if first is None or clock.month(first, 1) <= clock.today() or not may_set_up(request):
        return ""
    return f"{reverse('loyalty:extend')}?programme={programme.pk}&month={first:%Y-%m}"


def _first(which: str) -> date | None:
    if which == NEVER:
        return None
    try:
        return date.fromisoformat(which).replace(day=1)
    except ValueError:
        raise NotFound(_("There is no such month. Choose one from the calendar.")) from None


@require_GET
def table(request: HttpRequest, name: str) -> HttpResponse:
    """A table of the page as CSV, for the accountant: plain numbers, money in units of the shop's currency."""
    programme = asked_programme(request)
    on = liability.asked_day(request.GET.get("as_of", ""))
    if programme is None:
        raise NotFound(_("There is no such programme. Choose one from the list."))

    def value(minor: int) -> str:
        return str(from_minor(minor, settings.SHOP_CURRENCY))

    if name == "calendar":
        head = ["last_day_in", "points", "worth", "customers"]
        rows: list[list[Any]] = [
            [one.first.isoformat()[:7] if one.first else "", one.points, value(one.worth_minor), one.people]
            for one in liability.calendar(programme, on)
        ]
    elif name == "tiers":
        head = ["tier", "name", "points", "worth", "customers"]
        rows = [
            [one.key, one.name, one.points, value(one.worth_minor), one.people]
            for one in liability.by_tier(programme, on)
        ]
    elif name == "months":
        head = ["month", "given", "redeemed", "expired", "taken_back", "outstanding", "cost", "owed", "sign_off"]
        signed = signoffs.numbers(programme)
        rows = [
            [
                one.first.isoformat()[:7], one.given, one.redeemed, one.expired, one.taken_back, one.outstanding,
                value(one.cost_minor), value(one.owed_minor), signed.get(clock.month(one.first, 1) - timedelta(days=1), ""),
            ]
            for one in liability.months(programme, on)
        ]  # fmt: skip
    elif name == "sign-offs":
        head = [
            "number", "day", "points", "pending", "usable", "held", "owed_by_customers", "worth", "currency",
            "value_of_100_points", "expected_redemption_percent", "expected_worth", "note", "signed_by", "signed_at",
            "replaces", "reason", "replaced_by",
        ]  # fmt: skip
        rows = [
            [
                one.pk, one.day, one.points, one.pending, one.available, one.held, one.debt, value(one.liability_minor),
                one.currency, value(one.value_minor_per_100), one.redeemed_percent or "",
                "" if one.expected_minor is None else value(one.expected_minor), guarded(one.note),
                guarded(str(one.signed_by)), one.signed_at.isoformat(), one.replaces_id or "", guarded(one.reason),
                getattr(getattr(one, "replaced_by", None), "pk", ""),
            ]
            for one in signoffs.rows().filter(programme=programme)
        ]  # fmt: skip
    else:
        raise NotFound(_("There is no such table."))
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="points-{name}-{on}.csv"'
    writer = csv.writer(answer)
    writer.writerow(head)
    writer.writerows(rows)
    return answer

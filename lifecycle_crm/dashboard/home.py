"""Home: is the customer base getting healthier? What to do about it today is in ``today``."""

from __future__ import annotations

import csv
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET

from customers.models import Customer
from feedback import queries as feedback_queries
from feedback import scores
from lifecycle_crm.accounts.callers import person
from lifecycle_crm.dashboard import metrics, queries, today
from lifecycle_crm.dashboard.metrics import Metric
from lifecycle_crm.dashboard.models import ReportDay
from lifecycle_crm.dashboard.period_rollups import PERIODS
from lifecycle_crm.dashboard.queries import Period, Standings
from lifecycle_crm.dashboard.shell import address
from lifecycle_crm.lib import clock, http
from lifecycle_crm.lib.errors import NotFound
from lifecycle_crm.lib.money import from_minor
from lifecycle_crm.templatetags.crm import day, money_round, num, pct, signed, stage_name, ticks
from stages import queries as stage_queries
from stages.models import StageKey
from stages.queries import NEW, Flows

DEFAULT_DAYS = 30
COMPARE = {
    "previous": gettext_lazy("Previous period"),
    "year": gettext_lazy("A year ago"),
    "none": gettext_lazy("Nothing"),
}


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    days, compare = _asked(request)
    last = queries.as_of()
    night = stage_queries.last_night()
    if last is None:
        has_customers = Customer.objects.exists()
        return http.page(
            request,
            "dashboard/home_start.html",
            {
                "night": night,
                "has_customers": has_customers,
                "day": clock.last_complete_day(),
                "run_url": address("night-run"),
            },
        )
    of = queries.period(last, days, compare)
    found = queries.standings(of)
    moves = queries.flows(of)
    report, report_before = queries.reports(of)
    trade, trade_before = queries.trade(of)
    basis = _basis(of, compare)
    cards = _cards(of, found, (report, report_before), (trade, trade_before))
    return http.page(
        request,
        "dashboard/home.html",
        {
            "period": of,
            "periods": _choices(request, "days", [(str(n), _period_name(n)) for n in PERIODS], str(days)),
            "compares": _choices(request, "compare", list(COMPARE.items()), compare),
            "today": today.lines(night, report, person(request)),
            "tiles": _tiles(of, found, moves),
            "flow": _flow(of, moves, request.GET.urlencode()),
            "metrics": [card.card(basis) for card in cards],
            "revenue": _revenue(of, trade, request.GET.urlencode()),
            "awake": _awake(of, found),
            "night": night,
            "night_seconds": stage_queries.seconds_of(night) if night else None,
        },
    )


def _asked(request: HttpRequest) -> tuple[int, str]:
    """The period and what to compare with; what is not offered falls back to the default."""
    text = request.GET.get("days", "")
    days = int(text) if text in map(str, PERIODS) else DEFAULT_DAYS
    compare = request.GET.get("compare", "")
    return days, compare if compare in COMPARE else "previous"


def _period_name(days: int) -> str:
    return ngettext("%(n)d day", "%(n)d days", days) % {"n": days}


def _choices(request: HttpRequest, name: str, options: list[tuple[str, Any]], active: str) -> list[dict[str, Any]]:
    choices = []
    for value, label in options:
        query = request.GET.copy()
        query[name] = value
        choices.append({"label": label, "url": f"?{query.urlencode()}", "active": value == active})
    return choices


def _basis(of: Period, compare: str) -> str:
    if compare == "year":
        return _("compared with a year before")
    return ngettext("compared with the %(n)d day before", "compared with the %(n)d days before", of.days) % {
        "n": of.days
    }


# --- Stages -----------------------------------------------------------------------------------------------------------


def _tiles(of: Period, found: Standings, moves: Flows) -> list[dict[str, Any]]:
    now, placed = found.at(of.last), found.placed(of.last)
    turnover = stage_queries.turnover(moves)
    return [
        {
            "stage": stage,
            "url": stage_queries.people_url(stage=stage),
            "count": num(now[stage]),
            "share": _("%(share)s of everyone") % {"share": pct(now[stage] / placed)} if placed else "",
            "change": _("%(net)s: %(entered)s in, %(left)s out")
            % {
                "net": signed(turnover[stage].net),
                "entered": num(turnover[stage].entered),
                "left": num(turnover[stage].left),
            },
            "trend": [found.at(end)[stage] for end in of.ends()],
        }
        for stage in StageKey.values
    ]


def _name(stage: str) -> str:
    return _("New") if stage == NEW else stage_name(stage)


def _flow(of: Period, moves: Flows, query: str) -> dict[str, Any]:
    """The moves of the period as a chart with its sentence, its table and its links."""
    ordered = sorted(
        ((s, t, n) for (s, t), n in moves.items() if s != t), key=lambda move: (-move[2], move[0], move[1])
    )
    total = sum(n for _s, _t, n in ordered)
    sums: dict[tuple[int, str], int] = {}
    for source, target, count in ordered:
        sums[0, source] = sums.get((0, source), 0) + count
        sums[1, target] = sums.get((1, target), 0) + count
    places = [NEW, *StageKey.values]
    nodes = [
        {"id": f"{column}-{stage}", "column": column, "stage": stage, "label": f"{_name(stage)} {num(count)}"}
        for (column, stage), count in sorted(sums.items(), key=lambda item: (item[0][0], places.index(item[0][1])))
    ]
    urls = {(s, t): stage_queries.moved_url(s, t, of.first, of.last) for s, t, _n in ordered}
    arrows = {(s, t): f"{_name(s)} → {_name(t)}" for s, t, _n in ordered}
    most = ordered[0][2] if ordered else 1
    return {
        "id": "flow",
        "kind": "sankey",
        "title": _("Who moved between stages?"),
        "sentence": _flow_sentence(ordered),
        "is_empty": not ordered,
        "data": {
            "nodes": nodes,
            "links": [
                {
                    "source": f"0-{s}",
                    "target": f"1-{t}",
                    "value": n,
                    "label": ngettext("%(move)s: %(n)s move", "%(move)s: %(n)s moves", n)
                    % {"move": arrows[s, t], "n": num(n)},
                    "url": urls[s, t],
                }
                for s, t, n in ordered
            ],
        },
        "ranked": [
            {
                "label": arrows[s, t],
                "url": urls[s, t],
                "value": num(n),
                "percent": 100 * n / most,
                "stage": "" if s == NEW else s,
            }
            for s, t, n in ordered
        ],
        "columns": [
            {"label": _("Move")},
            {"label": _("Moves"), "num": True},
            {"label": _("Share of all moves"), "num": True},
        ],
        "rows": [
            [
                arrows[s, t],
                {"text": num(n), "url": urls[s, t], "num": True},
                {"text": pct(n / total, 1), "num": True},
            ]
            for s, t, n in ordered
        ],
        "note": ngettext("%(n)s move, %(first)s to %(last)s", "%(n)s moves, %(first)s to %(last)s", total)
        % {"n": num(total), "first": day(of.first), "last": day(of.last)},
        "csv_url": _csv_url("flow", query),
    }


def _flow_sentence(ordered: list[tuple[str, str, int]]) -> str:
    """The largest leak and the largest recovery, and what is not drawn."""
    leak = next((move for move in ordered if move[1] == StageKey.DORMANT and move[0] != NEW), None)
    back = next((move for move in ordered if move[0] == StageKey.DORMANT), None)
    told = []
    if leak:
        text = ngettext(
            "The largest leak is %(from)s → %(to)s with %(n)s move.",
            "The largest leak is %(from)s → %(to)s with %(n)s moves.",
            leak[2],
        )
        told.append(text % {"from": _name(leak[0]), "to": _name(leak[1]), "n": num(leak[2])})
    if back:
        text = ngettext(
            "The largest recovery is %(from)s → %(to)s with %(n)s move.",
            "The largest recovery is %(from)s → %(to)s with %(n)s moves.",
            back[2],
        )
        told.append(text % {"from": _name(back[0]), "to": _name(back[1]), "n": num(back[2])})
    elif leak:
        told.append(_("Nobody came back from Dormant."))
    if not told and ordered:
        told.append(_("Nobody went dormant."))
    return " ".join([*told, _("Customers who stayed where they were are not drawn.")])


# --- Numbers ----------------------------------------------------------------------------------------------------------


def _cards(
    of: Period,
    found: Standings,
    report: tuple[ReportDay, ReportDay | None],
    trade: tuple[list[Any], list[Any]],
) -> list[Metric]:
    last, before = of.last, of.before
    end, start = clock.day_end(of.last), clock.day_start(of.first)
    nps = scores.nps(feedback_queries.last_scores(start, end))
    nps_before = (
        scores.nps(feedback_queries.last_scores(clock.day_start(before.first), clock.day_end(before.last)))
        if before
        else None
    )
    kept, kept_before = queries.retention(of)
    now, then = report
    days, days_before = trade
    fell = stage_queries.people_url(moved_to="dormant", moved_since=of.first, moved_until=of.last)
    cards = [
        metrics.revenue(days, days_before, last, tuple(queries.pieces(of, days, "revenue_minor"))),
        metrics.orders(days, days_before, last, tuple(queries.pieces(of, days, "orders"))),
        metrics.retention(kept, kept_before, last),
        metrics.churn(queries.churn(of, found, kept, kept_before), last, fell, ()),
        metrics.nps(nps, nps_before, last, reverse("feedback:overview")),
        metrics.repurchase(*queries.cohorts(of), last),
        metrics.regulars(days, days_before, last),
        metrics.points(
            now.points_outstanding,
            now.points_liability_minor,
            then.points_liability_minor if then else None,
            now.members,
            last,
            reverse("loyalty:overview"),
        ),
    ]
    if now.treated or now.held_out:
        cards.append(
            metrics.winback(
                now.treated, now.treated_back, now.held_out, now.held_out_back, last, address("campaigns:list")
            )
        )
    return cards


def _labels(of: Period) -> list[str]:
    """What each piece of the period is called: its last date."""
    return [day(end) for end in of.ends()]


def _revenue(of: Period, rows: list[Any], query: str) -> dict[str, Any]:
    fresh = queries.pieces(of, rows, "first_revenue_minor")
    again = [a - f for a, f in zip(queries.pieces(of, rows, "revenue_minor"), fresh, strict=True)]
    labels, currency = _labels(of), settings.SHOP_CURRENCY
    total = sum(fresh) + sum(again)

    def texts(values: list[int]) -> list[str]:
        return [money_round(value, currency) for value in values]

    sentence = (
        _("%(share)s of revenue came from people who had bought before.") % {"share": pct(sum(again) / total)}
        if total > 0
        else _("Nothing was sold in this period.")
    )
    return {
        "id": "revenue",
        "kind": "bar",
        "title": _("Who does revenue come from?"),
        "sentence": sentence,
        "is_empty": total <= 0,
        "data": {
            "x": {"labels": labels},
            "y": {
                "ticks": ticks(max(f + a for f, a in zip(fresh, again, strict=True)), "money", currency),
                "title": "",
            },
            "stacked": True,
            "series": [
                {"name": _("Bought before"), "values": again, "texts": texts(again)},
                {"name": _("First buyers"), "values": fresh, "texts": texts(fresh)},
            ],
        },
        "columns": [
            {"label": _("Until")},
            {"label": _("Bought before"), "num": True},
            {"label": _("First buyers"), "num": True},
        ],
        "rows": [
            [label, {"text": old, "num": True}, {"text": new, "num": True}]
            for label, old, new in zip(labels, texts(again), texts(fresh), strict=True)
        ],
        "note": _("Net of refunds, %(currency)s") % {"currency": currency},
        "csv_url": _csv_url("revenue", query),
    }


def _awake(of: Period, found: Standings) -> dict[str, Any]:
    """The share of customers who are not dormant, at the end of each piece of the period."""
    ends = [end for end in of.ends() if found.placed(end)]
    values = [found.awake(end) / found.placed(end) for end in ends]
    labels, texts = [day(end) for end in ends], [pct(value, 1) for value in values]
    sentence = ""
    if len(values) > 1:
        values_named = {"now": texts[-1], "then": texts[0], "day": labels[0]}
        sentence = (
            _("%(now)s of customers are not dormant, after %(then)s on %(day)s.") % values_named
            if texts[0] != texts[-1]
            else _("%(now)s of customers are not dormant, as on %(day)s.") % values_named
        )
    return {
        "id": "awake",
        "kind": "line",
        "title": _("How many customers are not dormant?"),
        "sentence": sentence,
        "is_empty": len(values) < 2,
        "data": {
            "x": {"labels": labels},
            "y": {"ticks": ticks(min(1, 1.1 * max(values, default=1)), "pct"), "title": ""},
            "series": [{"name": _("Not dormant"), "values": values, "texts": texts}],
        },
        "columns": [
            {"label": _("Date")},
            {"label": _("Not dormant"), "num": True},
            {"label": _("Customers"), "num": True},
        ],
        "rows": [
            [label, {"text": text, "num": True}, {"text": num(found.placed(end)), "num": True}]
            for label, text, end in zip(labels, texts, ends, strict=True)
        ],
        "note": ngettext("%(n)s customer", "%(n)s customers", found.placed(of.last))
        % {"n": num(found.placed(of.last))},
    }


# --- For a spreadsheet ------------------------------------------------------------------------------------------------


def _csv_url(panel: str, query: str) -> str:
    url = reverse("dashboard:home-csv", args=[panel])
    return f"{url}?{query}" if query else url


@require_GET
def home_csv(request: HttpRequest, panel: str) -> HttpResponse:
    """The numbers of a panel for a machine: comma, point, ISO dates, keys instead of words."""
    last = queries.as_of()
    if last is None or panel not in ("flow", "revenue"):
        raise NotFound(_("There are no such numbers. Home names those that can be downloaded."))
    of = queries.period(last, *_asked(request))
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{panel}-{of.first}-{of.last}.csv"'
    writer = csv.writer(answer)
    if panel == "flow":
        writer.writerow(["from", "to", "moves"])
        writer.writerows((s, t, n) for (s, t), n in sorted(queries.flows(of).items()))
        return answer
    writer.writerow(["date", "orders", "revenue", "revenue_first_buyers", "revenue_regulars", "currency"])
    for row in queries.trade(of)[0]:
        amounts = (row.revenue_minor, row.first_revenue_minor, row.regular_revenue_minor)
        currency = settings.SHOP_CURRENCY
        writer.writerow(
            [row.business_date, row.orders, *(from_minor(amount, currency) for amount in amounts), currency]
        )
    return answer

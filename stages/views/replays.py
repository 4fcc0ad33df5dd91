"""A draft replayed over past nights."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST

from customers.conditions import All
from customers.models import Customer
from customers.queries import shown_name
from customers.sentences import because
from lifecycle_crm.accounts.callers import may, only, person
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import bell, clock, health, http
from lifecycle_crm.lib.errors import NotFound
from lifecycle_crm.lib.moments import seconds
from lifecycle_crm.lib.numbers import row_number
from lifecycle_crm.templatetags.crm import day, money_round, month, num, pct, signed, stage_name
from stages import backtest, queries
from stages import rules as rulebook
from stages.models import Backtest, StageKey
from stages.rules import Rules
from stages.views.parts import crumbs, every
from stages.views.rules import get_rule_set


@require_POST
@only(User.may_steer)
def start_backtest(request: HttpRequest, version: int) -> HttpResponse:
    made = backtest.request(
        rule_set=get_rule_set(version),
        months=row_number(request.POST.get("months")) or 0,
        actor=person(request),
    )
    bell.ring("lifecycle_crm.tasks.replay_rules")
    return redirect("stages:backtest", pk=made.pk)


@require_POST
@only(User.may_steer)
def stop_backtest(request: HttpRequest, pk: int) -> HttpResponse:
    backtest.stop(test=_backtest(pk), actor=person(request))
    messages.success(request, _("The replay is stopped."))
    return redirect("stages:backtest", pk=pk)


def _backtest(pk: int) -> Backtest:
    test = queries.backtest(pk)
    if test is None:
        raise NotFound(_("There is no such replay."))
    return test


@require_GET
def backtest_page(request: HttpRequest, pk: int) -> HttpResponse:
    test = _backtest(pk)
    is_open = test.state in (Backtest.State.WAITING, Backtest.State.RUNNING)
    version = test.rule_set.version
    context = {
        "crumbs": crumbs(
            (_("Version %(version)d") % {"version": version}, reverse("stages:rules", args=[version])),
            (_("Replay"), ""),
        ),
        "test": test,
        "is_open": is_open,
        "every": every(test.created_at),
        "no_worker": is_open and not health.worker_is_well(),
        "replayed": test.customers,
        "planned": test.result.get("planned", 0) if is_open else 0,
        "may_publish": may(request, User.may_steer),
        "is_stale": test.rules != test.rule_set.rules,
        **(_test_result(test, request.user) if test.state == Backtest.State.DONE else {}),
    }
    answer = http.page(request, "stages/backtest.html", context)
    if getattr(request, "htmx", None) and not is_open:
        answer["HX-Refresh"] = "true"
    return answer


def _test_result(test: Backtest, user: Any) -> dict[str, Any]:
    found = test.result
    old_moves, new_moves = ({(s, t): n for s, t, n in found[name]} for name in ("old_moves", "new_moves"))
    people = Customer.objects.in_bulk([line["customer"] for line in (*found["examples"], *found["flapped"])])
    names = {pk: shown_name(person, user) for pk, person in people.items()}
    ruled = {"old": rulebook.parse(test.against.rules), "new": rulebook.parse(test.rules)}
    end = seconds(clock.day_end(test.last_day))
    return {
        "charts": _charts(test),
        "result": found,
        "differ": _share_of_base(found["differ"], test),
        "months": [
            {
                "month": month(date.fromisoformat(row["day"])),
                "old": num(sum(n for _s, _t, n in row["old_moves"])),
                "new": num(sum(n for _s, _t, n in row["new_moves"])),
            }
            for row in found["months"]
        ],
        "flows": [
            {
                "source": source,
                "target": target,
                "old": num(old_moves.get((source, target), 0)),
                "new": num(new_moves.get((source, target), 0)),
                "change": signed(new_moves.get((source, target), 0) - old_moves.get((source, target), 0)),
            }
            for source, target in sorted(
                old_moves.keys() | new_moves.keys(),
                key=lambda pair: -max(old_moves.get(pair, 0), new_moves.get(pair, 0)),
            )
        ],
        "old_sum": num(sum(old_moves.values())),
        "new_sum": num(sum(new_moves.values())),
        "examples": [
            {
                "pk": line["customer"],
                "name": names[line["customer"]],
                **{
                    which: {"stage": line[which]["stage"], "why": _why(ruled[which], line[which], end)}
                    for which in ("old", "new")
                },
            }
            for line in found["examples"]
            if line["customer"] in names
        ],
        "flapped": [
            {
                "pk": line["customer"],
                "name": names[line["customer"]],
                "source": line["source"],
                "target": line["target"],
                "day": date.fromisoformat(line["day"]),
                "after": line["after"],
                "why": _why(ruled["new"], line, seconds(clock.day_end(date.fromisoformat(line["day"])))),
            }
            for line in found["flapped"]
            if line["customer"] in names
        ],
        "revenue": _revenue(found),
        "enough": backtest.ENOUGH,
        "took": num(found["seconds"], 0 if found["seconds"] >= 10 else 1),
    }


def _why(rules: Rules, line: dict[str, Any], at: int) -> str:
    """The rule that decided and the values it decided by; of a decided move that still waits, that it does."""
    rule = rules.by_key(line["rule"])
    if rule is None:
        return ""
    why = _("no other rule applies") if rule.when == All(()) else because(rule.when, line["evidence"], at)
    said = _("%(rule)s: %(why)s") % {"rule": rule.title(), "why": why}
    if line.get("waits"):
        return _("%(said)s, but the minimum stay is not over") % {"said": said}
    return said


def _share_of_base(count: int, test: Backtest) -> dict[str, Any]:
    """A number of customers with its share; where only a sample was replayed, what it stands for and its interval."""
    share = pct(count / max(1, test.customers), 1)
    most, low, high = backtest.of_base(count, test)
    is_sample = test.customers < test.base_customers
    return {"n": most, "text": num(most), "share": share, "low": num(low), "high": num(high), "is_sample": is_sample}


def _revenue(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Per pair of stages what was bought after its moves, by each rule set; the pairs with most moves first."""
    told = {which: {(r["source"], r["target"]): r for r in found[f"{which}_revenue"]} for which in ("old", "new")}
    rows = []
    for pair in told["old"].keys() | told["new"].keys():
        cells = {which: _amounts(told[which].get(pair)) for which in ("old", "new")}
        rows.append({"source": pair[0], "target": pair[1], **cells, "n": max(one["count"] for one in cells.values())})
    return sorted(rows, key=lambda row: (-row["n"], row["source"], row["target"]))


def _amounts(row: dict[str, Any] | None) -> dict[str, Any]:
    count = row["n"] if row else 0
    if row is None or row["mean"] is None:
        return {"count": count, "n": num(count), "mean": "", "median": ""}

    def minor(amount: float) -> str:
        return money_round(round(amount), settings.SHOP_CURRENCY)

    return {
        "count": count,
        "n": num(count),
        "mean": minor(row["mean"]),
        "mean_range": f"{minor(row['mean_low'])} – {minor(row['mean_high'])}",
        "median": minor(row["median"]),
        "median_range": f"{minor(row['median_low'])} – {minor(row['median_high'])}",
    }


def _charts(test: Backtest) -> list[dict[str, Any]]:
    """A chart per stage in which the two differ: how many stood in it at the end of each month."""
    months = test.result["months"]
    labels = [day(date.fromisoformat(row["day"])) for row in months]
    charts = []
    for stage in StageKey.values:
        old, new = ([row[which][stage] for row in months] for which in ("old", "new"))
        if old == new:
            continue  # the same line twice says nothing
        top = max(1, *old, *new)
        charts.append(
            {
                "id": f"replay-{stage}",
                "kind": "line",
                "title": stage_name(stage),
                "sentence": _("At the end: %(new)s by the draft, %(old)s by the rules in force.")
                % {"new": num(new[-1]), "old": num(old[-1])},
                "data": {
                    "x": {"labels": labels},
                    "y": {
                        "ticks": [{"value": at, "text": num(at)} for at in sorted({0, (top + 1) // 2, top})],
                        "title": "",
                    },
                    "series": [
                        {"name": _("Rules in force"), "values": old, "texts": [num(n) for n in old]},
                        {"name": _("Draft"), "values": new, "texts": [num(n) for n in new]},
                    ],
                },
                "columns": [
                    {"label": _("Month")},
                    {"label": _("Rules in force"), "num": True},
                    {"label": _("Draft"), "num": True},
                ],
                "rows": [
                    [label, {"text": num(a), "num": True}, {"text": num(b), "num": True}]
                    for label, a, b in zip(labels, old, new, strict=True)
                ],
                "note": ngettext("%(n)s customer", "%(n)s customers", test.customers) % {"n": num(test.customers)},
            }
        )
    return charts

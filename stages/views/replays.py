"""A draft replayed over past nights."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST

from customers.models import Customer
from lifecycle_crm.lib import bell, http
from lifecycle_crm.lib.errors import NotFound
from lifecycle_crm.templatetags.crm import day, num, pct, signed, stage_name
from stages import backtest, queries
from stages.models import Backtest, StageKey
from stages.views.parts import crumbs, every, for_publishers, is_without_worker
from stages.views.rules import get_rule_set


@require_POST
@for_publishers
def start_backtest(request: HttpRequest, version: int) -> HttpResponse:
    months = request.POST.get("months", "")
    made = backtest.request(
        rule_set=get_rule_set(version),
        months=int(months) if months.isdigit() and len(months) < 4 else 0,
        actor=request.user,  # type: ignore[arg-type]
    )
    bell.ring("lifecycle_crm.tasks.replay_rules")
    return redirect("stages:backtest", pk=made.pk)


@require_GET
def backtest_page(request: HttpRequest, pk: int) -> HttpResponse:
    test = queries.backtest(pk)
    if test is None:
        raise NotFound(_("There is no such replay."))
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
        "no_worker": is_open and is_without_worker(),
        "is_stale": test.rules != test.rule_set.rules,
        **(_test_result(test) if test.state == Backtest.State.DONE else {}),
    }
    answer = http.page(request, "stages/backtest.html", context)
    if getattr(request, "htmx", None) and not is_open:
        answer["HX-Refresh"] = "true"
    return answer


def _test_result(test: Backtest) -> dict[str, Any]:
    found, most = test.result, max(1, test.customers)
    labels = [day(date.fromisoformat(row["day"])) for row in found["months"]]
    charts = []
    for stage in StageKey.values:
        old, new = ([row[which][stage] for row in found["months"]] for which in ("old", "new"))
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
    old_moves, new_moves = ({(s, t): n for s, t, n in found[name]} for name in ("old_moves", "new_moves"))
    people = Customer.objects.in_bulk(found["flapped"])
    return {
        "charts": charts,
        "result": found,
        "differ_share": pct(found["differ"] / most, 1),
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
        "flapped": [people[pk] for pk in found["flapped"] if pk in people],
    }

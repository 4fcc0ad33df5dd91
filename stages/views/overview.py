"""The first page of stages: who stands where, what decides it, who is held, and when the rules are due for a look."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from customers.queries import shown_name
from lifecycle_crm.accounts.callers import may, only
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock, http
from lifecycle_crm.templatetags.crm import num, pct, signed
from stages import engine, playbook, presets, queries, rulesets
from stages import rules as rulebook
from stages.models import RuleSet, StageKey
from stages.queries import NEW
from stages.views.parts import matrix, told

WEEK, MONTH = 7, 30
PINS = 50


@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    today = clock.today()
    week, month = today - timedelta(days=WEEK - 1), today - timedelta(days=MONTH - 1)
    standing = queries.standing()
    placed = sum(count for stage, count in standing.items() if stage != NEW)
    turnover = queries.turnover(queries.flows(week, today))
    moves = queries.flows(month, today)
    rule_set = queries.published()
    rules = rulebook.parse(rule_set.rules) if rule_set else None
    own = queries.stages()
    stages = [
        {
            "key": key,
            "goal": playbook.goal(key, own.get(key)),
            "activities": playbook.activities(key, own.get(key)),
            "rules": [told(rule) for rule in rules or () if rule.to == key],
            "count": num(standing[key]),
            "share": pct(standing[key] / placed, 1) if placed else "",
            "url": queries.people_url(stage=key),
            "entered": num(turnover[key].entered),
            "left": num(turnover[key].left),
            "net": signed(turnover[key].net),
        }
        for key in StageKey.values
    ]
    return http.page(
        request,
        "stages/overview.html",
        {
            "stages": stages,
            "placed": placed,
            "unplaced": standing[NEW],
            "rule_set": rule_set,
            "rhythm_note": rule_set.note if rule_set else "",
            "matrix": matrix(moves, lambda s, t: queries.moved_url(s, t, month, today)),
            "moves": sum(moves.values()),
            "first": month,
            "last": today,
            "versions": queries.rule_sets()[:10],
            "draft": queries.open_draft(),
            "pins": [{"pin": pin, "name": shown_name(pin.customer, request.user)} for pin in queries.pins()[:PINS]],
            "review": _review(rule_set),
            "may_publish": may(request, User.may_steer),
        },
    )


def _review(rule_set: RuleSet | None) -> dict[str, Any] | None:
    """The yearly review of the rules in force, in words."""
    found = rulesets.review_due(rule_set, presets.rhythm_days) if rule_set else None
    if found is None:
        return None
    return {
        "days": found.days,
        "rhythm_then": found.rhythm_then,
        "rhythm_now": found.rhythm_now,
        "shares": [
            {"stage": key, "then": pct(found.shares_then[key], 1), "now": pct(found.shares_now[key], 1)}
            for key in StageKey.values
        ],
    }


@require_POST
@only(User.may_steer)
def unpin(request: HttpRequest, customer_id: int) -> HttpResponse:
    engine.unpin(customer_id=customer_id)
    messages.success(request, _("The pin is gone. The next night decides."))
    return redirect("stages:overview")

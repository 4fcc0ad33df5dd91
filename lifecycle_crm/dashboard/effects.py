"""What a draft of the rules would set off: which campaigns start, for how many, and how many messages that makes.

Worked out by planning for real inside a transaction that is rolled back, so the page and the night cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from campaigns import planning
from campaigns.models import Campaign, Message
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import DomainError, NotFound
from stages import queries, rulesets
from stages import rules as rulebook
from stages.models import StageKey
from stages.rules import Rules

MOST = 20_000
"""Above so many who enter, the split is taken from the first of them and scaled up."""


@dataclass(frozen=True)
class Effect:
    """One campaign: ``entered`` customers give ``held_out`` + ``skipped`` + ``messages``."""

    campaign: Campaign
    entered: int
    held_out: int
    skipped: int
    messages: int


class _Undo(Exception):
    pass


def of_rules(rules: Rules, as_of: datetime) -> list[Effect]:
    """What each active win-back campaign would plan if these rules were published with campaigns starting."""
    select, params = rulesets.entering(rules, as_of, StageKey.DORMANT)
    entered = batches.rows(f"SELECT count(*) FROM ({select}) n", params)[0][0]
    bounded = (f"SELECT n.customer_id FROM ({select}) n ORDER BY n.customer_id LIMIT {MOST}", params)
    active = Campaign.objects.filter(kind=Campaign.Kind.REACTIVATION, state=Campaign.State.ACTIVE).order_by(
        "name", "pk"
    )
    return [_effect(campaign, entered, bounded, as_of) for campaign in active.select_related("template")]


def _effect(campaign: Campaign, entered: int, audience: tuple[str, list[Any]], as_of: datetime) -> Effect:
    found: dict[str, int] = {}
    try:
        with transaction.atomic():
            run = planning.plan(campaign=campaign, run_key="what-if", audience=audience, as_of=as_of, start=False)
            for state in Message.objects.filter(run=run).values_list("state", flat=True).iterator():
                found[state] = found.get(state, 0) + 1
            raise _Undo
    except (_Undo, DomainError):  # a campaign without a text plans nothing
        pass
    looked = sum(found.values())
    scale = entered / looked if looked else 0

    def scaled(state: str) -> int:
        return round(found.get(state, 0) * scale)

    return Effect(
        campaign,
        entered,
        scaled(Message.State.HELD_OUT),
        scaled(Message.State.SKIPPED),
        scaled(Message.State.QUEUED),
    )


@require_GET
def rule_effects(request: HttpRequest, version: int) -> HttpResponse:
    """The part of a draft's page that needs campaigns, which live above the stages."""
    rule_set = queries.rule_set(version)
    if rule_set is None:
        raise NotFound(_("There is no version %(version)d of the rules.") % {"version": version})
    effects = of_rules(rulebook.parse(rule_set.rules), clock.whole_now())
    entered = max((one.entered for one in effects), default=0)
    return render(
        request,
        "dashboard/rule_effects.html",
        {"campaigns": effects, "is_estimate": entered > MOST, "sampled": MOST},
    )

"""What a draft of the rules would set off: which campaigns and journeys start, for how many, and how many messages that makes.

Worked out by planning and letting in for real inside a transaction that is rolled back, so the page and the night cannot
disagree.
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
from campaigns.journeys import entering, plans
from campaigns.journeys.plans import InForce
from campaigns.models import Campaign, Journey, Message
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import DomainError, NotFound
from stages import queries, rulesets
from stages import rules as rulebook
from stages.models import StageKey
from stages.rules import Rules

MOST = 20_000
"""Above so many who move, the split is taken from the first of them and scaled up."""
_MOVES = {"stage_entered": rulesets.entering, "stage_left": rulesets.leaving}


@dataclass(frozen=True)
class Effect:
    """One campaign: ``moved`` customers give ``held_out`` + ``skipped`` + ``messages``."""

    campaign: Campaign
    moved: int
    held_out: int
    skipped: int
    messages: int


@dataclass(frozen=True)
class Entry:
    """One journey: ``moved`` customers give ``held_out`` + ``before`` (were inside already) + ``inside``. With
    ``is_stopped`` they are more than a night lets in: the journey stops and asks."""

    journey: Journey
    moved: int
    held_out: int
    before: int
    inside: int
    is_stopped: bool


class _Undo(Exception):
    pass


@dataclass(frozen=True)
class _Moving:
    """``moved`` customers who change stage, and the SELECT of the first of them."""

    moved: int
    sql: str
    params: list[Any]

    @classmethod
    def of(cls, select: str, params: list[Any]) -> _Moving:
        moved = batches.rows(f"SELECT count(*) FROM ({select}) n", params)[0][0]
        return cls(moved, f"SELECT n.customer_id FROM ({select}) n ORDER BY n.customer_id LIMIT {MOST}", params)

    def scaled(self, found: int, looked: int) -> int:
        return round(found * self.moved / looked) if looked else 0


def of_rules(rules: Rules, as_of: datetime) -> list[Effect]:
    """What each active win-back campaign would plan if these rules were published with campaigns starting."""
    moving = _Moving.of(*rulesets.entering(rules, as_of, StageKey.DORMANT))
    active = Campaign.objects.filter(kind=Campaign.Kind.REACTIVATION, state=Campaign.State.ACTIVE).order_by(
        "name", "pk"
    )
    return [_effect(campaign, moving, as_of) for campaign in active.select_related("template")]


def _effect(campaign: Campaign, moving: _Moving, as_of: datetime) -> Effect:
    found: dict[str, int] = {}
    try:
        with transaction.atomic():
            audience = (moving.sql, moving.params)
            run = planning.plan(campaign=campaign, run_key="what-if", audience=audience, as_of=as_of, start=False)
            for state in Message.objects.filter(run=run).values_list("state", flat=True).iterator():
                found[state] = found.get(state, 0) + 1
            raise _Undo
    except (_Undo, DomainError):  # a campaign without a text plans nothing
        pass
    looked = sum(found.values())
    states = (Message.State.HELD_OUT, Message.State.SKIPPED, Message.State.QUEUED)
    return Effect(campaign, moving.moved, *(moving.scaled(found.get(state, 0), looked) for state in states))


def entries_of_rules(rules: Rules, as_of: datetime) -> list[Entry]:
    """Whom each live journey that starts by a stage would let in, if these rules were published with messages."""
    live = [one for one in plans.live() if one.plan.trigger.on in _MOVES]
    asked = {(one.plan.trigger.on, one.plan.trigger.subject) for one in live}
    moving = {(on, stage): _Moving.of(*_MOVES[on](rules, as_of, stage)) for on, stage in sorted(asked)}
    return [_entry(one, moving[one.plan.trigger.on, one.plan.trigger.subject]) for one in live]


def _entry(one: InForce, moving: _Moving) -> Entry:
    looked = min(moving.moved, MOST)
    found = entering.rehearse(one, moving.sql, moving.params)
    held_out, inside = (moving.scaled(found[state], looked) for state in ("held_out", "running"))
    is_stopped = bool(entering.outnumbered(moving.moved))
    return Entry(one.journey, moving.moved, held_out, moving.moved - held_out - inside, inside, is_stopped)


@require_GET
def rule_effects(request: HttpRequest, version: int) -> HttpResponse:
    """The part of a draft's page that needs campaigns, which live above the stages."""
    rule_set = queries.rule_set(version)
    if rule_set is None:
        raise NotFound(_("There is no version %(version)d of the rules.") % {"version": version})
    rules, now = rulebook.parse(rule_set.rules), clock.whole_now()
    effects, entries = of_rules(rules, now), entries_of_rules(rules, now)
    moved = max([one.moved for one in effects] + [one.moved for one in entries], default=0)
    return render(
        request,
        "dashboard/rule_effects.html",
        {"campaigns": effects, "journeys": entries, "is_estimate": moved > MOST, "sampled": MOST},
    )

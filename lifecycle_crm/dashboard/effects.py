"""What a draft of the rules would set off: which campaigns and journeys start, for how many, and how many messages that makes.

Worked out by planning and letting in for real inside a transaction that is rolled back, so the page and the night cannot
disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count
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
MOVES = "what_if_moves"
_END = {"stage_entered": "target", "stage_left": "source"}
"""Which end of a move lets people into a journey."""


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


@dataclass(frozen=True)
class Effects:
    campaigns: list[Effect]
    journeys: list[Entry]

    @property
    def moved(self) -> int:
        """The most customers that one of them is about."""
        return max([one.moved for one in self.campaigns] + [one.moved for one in self.journeys], default=0)


@dataclass(frozen=True)
class _Some:
    """``moved`` customers with one end of their move in common, and a SELECT of the first of them."""

    moved: int
    sql: str
    params: list[Any]

    @classmethod
    def of(cls, end: str, stage: str) -> _Some:
        which = f"FROM {MOVES} m WHERE m.{end} = %s"
        moved = batches.rows(f"SELECT count(*) {which}", [stage])[0][0]
        return cls(moved, f"SELECT m.customer_id {which} ORDER BY m.customer_id LIMIT {MOST}", [stage])

    def scaled(self, found: int) -> int:
        looked = min(self.moved, MOST)
        return round(found * self.moved / looked) if looked else 0


def of_rules(rules: Rules, as_of: datetime) -> Effects:
    """What active win-back campaigns would plan, and whom live journeys that start by a stage would let in, if these rules
    were published with messages."""
    active = Campaign.objects.filter(kind=Campaign.Kind.REACTIVATION, state=Campaign.State.ACTIVE)
    with batches.rehearsal():
        _decide(rules, as_of)
        dormant = _Some.of("target", StageKey.DORMANT)
        return Effects(
            [_effect(one, dormant, as_of) for one in active.order_by("name", "pk").select_related("template")],
            [_entry(one) for one in plans.live() if one.plan.trigger.on in _END],
        )


def _decide(rules: Rules, as_of: datetime) -> None:
    """Once for all of them, because it is asked of everybody."""
    batches.scratch(MOVES, "customer_id bigint PRIMARY KEY, source text NOT NULL, target text NOT NULL")
    select, params = rulesets.moving(rules, as_of)
    batches.execute(f"INSERT INTO {MOVES} (customer_id, source, target) {select}", params)
    batches.analyze(MOVES)


def _effect(campaign: Campaign, some: _Some, as_of: datetime) -> Effect:
    found: dict[str, int] = {}
    try:
        with batches.rehearsal():
            audience = (some.sql, some.params)
            run = planning.plan(campaign=campaign, run_key="what-if", audience=audience, as_of=as_of, start=False)
            rows = Message.objects.filter(run=run).order_by()
            found = dict(rows.values_list("state").annotate(n=Count("pk")))
    except DomainError:  # a campaign without a text plans nothing
        return Effect(campaign, some.moved, 0, 0, 0)
    states = (Message.State.HELD_OUT, Message.State.SKIPPED, Message.State.QUEUED)
    return Effect(campaign, some.moved, *(some.scaled(found.get(state, 0)) for state in states))


def _entry(one: InForce) -> Entry:
    some = _Some.of(_END[one.plan.trigger.on], one.plan.trigger.subject)
    found = entering.rehearse(one, some.sql, some.params)
    held_out, inside = (some.scaled(found[state]) for state in ("held_out", "running"))
    is_stopped = bool(entering.outnumbered(some.moved))
    return Entry(one.journey, some.moved, held_out, some.moved - held_out - inside, inside, is_stopped)


@require_GET
def rule_effects(request: HttpRequest, version: int) -> HttpResponse:
    """The part of a draft's page that needs campaigns, which live above the stages."""
    rule_set = queries.rule_set(version)
    if rule_set is None:
        raise NotFound(_("There is no version %(version)d of the rules.") % {"version": version})
    found = of_rules(rulebook.parse(rule_set.rules), clock.whole_now())
    context = {
        "campaigns": found.campaigns, "journeys": found.journeys, "is_estimate": found.moved > MOST, "sampled": MOST,
    }  # fmt: skip
    return render(request, "dashboard/rule_effects.html", context)

"""Broadcasts: a text, the people it is for, and the button that sends it once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from campaigns import gate, planning, runs
from campaigns.errors import NotNow
from campaigns.models import Campaign, Message, Run, Template
from customers import conditions, segments
from customers.models import Customer, CustomerFacts
from customers.vocabulary import STAGES
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import InvalidInput

LOOKED_AT = 2_000
"""So many people the dry run of the gate looks at one by one; beyond that the counts are for these and say so."""


def of_stages(stages: list[str]) -> dict[str, Any]:
    """The condition "stands in one of these stages"."""
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        raise InvalidInput(f"Choose at least one stage of: {', '.join(STAGES)}.", code="unknown_stage")
    return {"fact": "stage", "op": "in", "value": list(stages)}


def select(campaign: Campaign, as_of: datetime) -> tuple[str, list[Any]]:
    """SELECT of ``customer_id`` of everybody the campaign's condition holds for. Raises ``BadCondition``."""
    sql, params = conditions.to_sql(conditions.parse(campaign.audience, resolve=segments.resolver()), as_of)
    return f"SELECT f.customer_id FROM customers_customerfacts f WHERE {sql}", list(params)


def size(campaign: Campaign, as_of: datetime | None = None) -> int:
    sql, params = select(campaign, as_of or clock.now())
    return int(batches.rows(f"SELECT count(*) FROM ({sql}) a", params)[0][0])


def draft(
    *,
    name: str,
    template: Template,
    audience: dict[str, Any],
    holdout_percent: int = 10,
    user: Any = None,
) -> Campaign:
    """A one-off message that has not gone anywhere yet. Raises ``BadCondition`` or ``InvalidInput``."""
    if not name.strip():
        raise InvalidInput("Give the message a name; only your team sees it.", code="no_name")
    if not 0 <= holdout_percent <= 90:
        raise InvalidInput("The holdout is a per cent from 0 to 90.", code="bad_holdout")
    if not template.variants.exists():
        raise InvalidInput(f"The template {template.name} has no text yet.", code="no_text")
    if template.archived_at is not None:
        raise InvalidInput(
            f"The template {template.name} is archived. Use it again, or choose another.", code="archived"
        )
    conditions.parse(audience, resolve=segments.resolver())
    return Campaign.objects.create(
        name=name.strip()[:120],
        kind=Campaign.Kind.BROADCAST,
        purpose=template.purpose,
        template=template,
        audience=audience,
        holdout_percent=holdout_percent,
        created_by=user,
    )


def send(*, campaign: Campaign) -> Run:
    """Freeze the audience as it is now and start sending. Once: a second press raises ``NotNow``."""
    if campaign.kind != Campaign.Kind.BROADCAST:
        raise NotNow("A win-back is sent by the night. It cannot be sent by hand.")
    with transaction.atomic():
        started = Campaign.objects.filter(pk=campaign.pk, state=Campaign.State.DRAFT).update(
            state=Campaign.State.ACTIVE
        )
        if started != 1:
            raise NotNow(f"{campaign.name} was sent already. Make a new message to write again.")
        campaign.refresh_from_db()
        as_of = clock.now()
        run = planning.plan(
            campaign=campaign, run_key="broadcast:1", audience=select(campaign, as_of), as_of=as_of, start=False
        )
        if run.audience == 0:
            raise NotNow("Nobody is in this audience right now, so nothing was sent.")
        if not runs.ask_when_large(run):
            runs.begin(run=run)
    run.refresh_from_db()
    return run


@dataclass(frozen=True)
class Forecast:
    """What the gate would say now. ``counts`` are (outcome, reason, people), largest first; ``samples`` name a few."""

    audience: int
    looked_at: int
    counts: list[tuple[str, str, int]]
    samples: list[tuple[int, str, str]]

    @property
    def is_complete(self) -> bool:
        return self.looked_at >= self.audience

    @property
    def to_send(self) -> int:
        return sum(n for outcome, _reason, n in self.counts if outcome != gate.SKIPPED and outcome != "held_out")


def forecast(campaign: Campaign, as_of: datetime | None = None) -> Forecast:
    """A dry run of planning and gate over the audience as it is now. Nothing is written."""
    as_of = as_of or clock.now()
    sql, params = select(campaign, as_of)
    ids = [row[0] for row in batches.rows(f"{sql} ORDER BY f.customer_id LIMIT {LOOKED_AT}", params)]
    total = len(ids) if len(ids) < LOOKED_AT else size(campaign, as_of)
    policy = gate.Policy.of(campaign)
    counts: Counter[tuple[str, str]] = Counter()
    samples: dict[tuple[str, str], list[int]] = {}
    for some in batches.of(ids, 500):
        for pk, candidate in gate.candidates(some, policy, as_of).items():
            verdict = gate.verdict(candidate, policy, as_of)
            key = (verdict.outcome, str(verdict.reason))
            # A skip that no hour can change comes before the holdout, as in ``planning.plan``.
            may_change = verdict.reason in (Message.Reason.CAPPED, Message.Reason.CAME_BACK, Message.Reason.STALE)
            is_out = planning.holdout_bucket(campaign, pk) < campaign.holdout_percent * 100
            if is_out and (verdict.outcome != gate.SKIPPED or may_change):
                key = ("held_out", Message.Reason.HOLDOUT.value)
            counts[key] += 1
            if len(samples.setdefault(key, [])) < 3:
                samples[key].append(pk)
    return Forecast(
        audience=total,
        looked_at=len(ids),
        counts=sorted(((*key, n) for key, n in counts.items()), key=lambda row: -row[2]),
        samples=[(pk, *key) for key, pks in samples.items() for pk in pks if key[0] != gate.SEND],
    )


def examples(campaign: Campaign, limit: int = 5) -> list[Customer]:
    """A few real people to show the message for: of the audience, or of those who last went dormant."""
    if campaign.kind == Campaign.Kind.BROADCAST:
        sql, params = select(campaign, clock.now())
        ids = [row[0] for row in batches.rows(f"{sql} ORDER BY f.customer_id DESC LIMIT {int(limit)}", params)]
    else:
        dormant = CustomerFacts.objects.filter(stage="dormant").order_by("-pk")
        ids = list(dormant.values_list("pk", flat=True)[:limit])
    return list(Customer.objects.filter(pk__in=ids).order_by("-pk")) or list(Customer.objects.order_by("-pk")[:limit])

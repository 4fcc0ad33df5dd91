"""Broadcasts: a text, the people it is for, and the button that sends it once."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from campaigns import gate, letters, planning, runs
from campaigns.channels import sms
from campaigns.errors import BrokenTemplate, NotNow
from campaigns.models import Campaign, Channel, Message, Run, Template, TemplateVariant
from customers import conditions, segments
from customers.models import Customer, CustomerFacts
from customers.vocabulary import STAGES
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import InvalidInput

WEIGHED = 200
"""So many texts of SMS are made to say how many parts a send takes."""
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
        channel=template.channel,
        template=template,
        audience=audience,
        holdout_percent=holdout_percent,
        created_by=user,
    )


def may_leave(channel: str) -> None:
    """Raises ``NotNow``, saying what to set, when nothing can be sent over a channel at all."""
    if channel == Channel.SMS and not sms.is_set_up():
        raise NotNow(
            _(
                "No SMS provider is set up, so no SMS can be sent. Set SMS_URL to your account with one, then try again."
            ),
            code="no_provider",
        )


def send(*, campaign: Campaign) -> Run:
    """Freeze the audience as it is now and start sending. Once: a second press raises ``NotNow``."""
    if campaign.kind != Campaign.Kind.BROADCAST:
        raise NotNow("A win-back is sent by the night. It cannot be sent by hand.")
    may_leave(campaign.channel)
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
    parts: int | None = None
    """Parts of SMS that ``to_send`` people would take; ``None`` for another channel, or with nobody to look at. Worked out
    from the texts of the first ``parts_of`` of them."""
    parts_of: int = 0

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
    getting: list[int] = []
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
            if key[0] in (gate.SEND, gate.HELD) and len(getting) < WEIGHED:
                getting.append(pk)
            if len(samples.setdefault(key, [])) < 3:
                samples[key].append(pk)
    to_send = sum(n for (outcome, _reason), n in counts.items() if outcome in (gate.SEND, gate.HELD))
    parts, parts_of = _parts(campaign, getting, to_send, as_of)
    return Forecast(
        audience=total,
        looked_at=len(ids),
        parts=parts,
        parts_of=parts_of,
        counts=sorted(((*key, n) for key, n in counts.items()), key=lambda row: -row[2]),
        samples=[(pk, *key) for key, pks in samples.items() for pk in pks if key[0] != gate.SEND],
    )


def _parts(campaign: Campaign, ids: list[int], to_send: int, as_of: datetime) -> tuple[int | None, int]:
    """(parts that so many people take, how many texts that is worked out from). Whose text cannot be made is left out."""
    if campaign.channel != Channel.SMS or not ids:
        return None, 0
    texts = letters.texts_of(campaign)
    variants = TemplateVariant.objects.select_related("template").in_bulk(texts.values())
    found = []
    for known in letters.values_of(ids, as_of).values():
        language = known["customer"]["language"]
        chosen = letters.variant_for(texts, language)
        if chosen is None:
            continue
        values = letters.general(letters.the_shop(), language) if campaign.is_general else known
        with suppress(BrokenTemplate):
            measured = letters.made_of(variants[chosen], values).measured
            found.append(measured.parts if measured else 0)
    return (-(-sum(found) * to_send // len(found)), len(found)) if found else (None, 0)


def examples(campaign: Campaign, limit: int = 5) -> list[Customer]:
    """A few real people to show the message for: of the audience, or of those who last went dormant."""
    if campaign.kind == Campaign.Kind.BROADCAST:
        sql, params = select(campaign, clock.now())
        ids = [row[0] for row in batches.rows(f"{sql} ORDER BY f.customer_id DESC LIMIT {int(limit)}", params)]
    else:
        dormant = CustomerFacts.objects.filter(stage="dormant").order_by("-pk")
        ids = list(dormant.values_list("pk", flat=True)[:limit])
    return list(Customer.objects.filter(pk__in=ids).order_by("-pk")) or list(Customer.objects.order_by("-pk")[:limit])

"""Freezing an audience: one row per recipient before the first message leaves, set-based.

Who cannot be written to at all is ``skipped`` with the reason, the holdout is ``held_out``, the rest is ``queued``: the
states always sum to the audience. Planning the same key again adds who is missing and nobody twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F

from campaigns import gate, letters, rendering, runs
from campaigns.errors import NotNow
from campaigns.models import Campaign, Message, Run
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter, placeholder

Audience = Sequence[int] | tuple[str, Sequence[Any]]

_PRIME = 2_147_483_647


def _salts(name: str) -> tuple[int, int]:
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big") % _PRIME, int.from_bytes(digest[4:8], "big") % _PRIME


def holdout_bucket(campaign: Campaign, customer_id: int) -> int:
    """0–9999, the same for this customer and this campaign for ever; the SQL of ``plan`` says the same."""
    return bucket(f"holdout:{campaign.pk}", customer_id)


def bucket(name: str, customer_id: int) -> int:
    """0–9999, the same for this customer under this name for ever; ``bucket_sql`` says the same."""
    one, two = _salts(name)
    value = (customer_id * 48_271 + one) % _PRIME
    value = (value * value + two) % _PRIME
    return (value * value + one) % _PRIME % 10_000


def bucket_sql(name: str, column: str) -> str:
    """``bucket`` of a column of ids, for a statement with parameters."""
    one, two = _salts(name)
    first = f"(({column} * 48271 + {one}) %% {_PRIME})"
    second = f"(({first} * {first} + {two}) %% {_PRIME})"
    return f"(({second} * {second} + {one}) %% {_PRIME} %% 10000)"


def plan(
    *,
    campaign: Campaign,
    run_key: str,
    audience: Audience,
    as_of: datetime,
    start: bool = True,
    contexts: Mapping[int, Mapping[str, Any]] | None = None,
) -> Run:
    """Freeze an audience into one row per customer and return the run; planning the same key again adds who is missing.

    ``audience`` is a list of customer ids, or ``(SELECT that yields customer_id, parameters)``. Who cannot be written to
    at all is ``skipped`` with the reason, the holdout is ``held_out``, the rest is ``queued``: the states always sum to
    the audience. ``contexts`` are values for single messages. With ``start`` the run begins at once; a run that waits for
    a person, is paused or was cancelled stays so. Raises ``NotNow`` when the campaign has no text.
    """
    variants = letters.texts_of(campaign)
    if not variants:
        raise NotNow(f"The template of {campaign.name} has no text yet. Write one language first.")
    with transaction.atomic():
        run, _created = Run.objects.get_or_create(
            campaign=campaign, key=run_key, defaults={"as_of": as_of, "variants": variants}
        )
        if run.state == Run.State.CANCELLED:
            return run
        added = 0
        if isinstance(audience, tuple):
            added = _freeze(campaign, run, audience[0], list(audience[1]))
        else:
            for ids in batches.of(sorted(set(audience)), 5000):
                added += _freeze(
                    campaign, run, f"SELECT id AS customer_id FROM customers_customer WHERE {_in(ids)}", []
                )
        if contexts:
            _give(run, contexts)
        Run.objects.filter(pk=run.pk).update(audience=F("audience") + added)
        if start:
            runs.begin(run=run)
    run.refresh_from_db()
    return run


def _in(ids: Sequence[int], column: str = "id") -> str:
    return f"{column} IN ({', '.join(str(int(pk)) for pk in ids) or 'NULL'})"


def _freeze(campaign: Campaign, run: Run, select: str, params: list[Any]) -> int:
    policy = gate.Policy.of(campaign)
    now = clock.now()
    reason, joins, join_params = gate.standing_sql(policy, now)
    at, moment = parameter(now), placeholder()
    return batches.execute(
        f"""
        INSERT INTO campaigns_message (run_id, customer_id, channel, state, reason, verdict, consent_id, context, address,
            language, owner, attempt, tries, due_at, transport, message_id, error, created_at)
        SELECT %s, x.id, %s,
            CASE WHEN x.reason <> '' THEN 'skipped' WHEN x.bucket < %s THEN 'held_out' ELSE 'queued' END,
            CASE WHEN x.reason <> '' THEN x.reason WHEN x.bucket < %s THEN 'holdout' ELSE '' END,
            '{{}}', x.consent_id, '{{}}', x.email,
            CASE WHEN x.language <> '' THEN x.language ELSE %s END, '', 0, 0, {moment}, '', '', '', {moment}
        FROM (
            SELECT c.id, c.email, c.language, k.id AS consent_id, {reason} AS reason,
                   {bucket_sql(f"holdout:{campaign.pk}", "c.id")} AS bucket
            FROM ({select}) a JOIN customers_customer c ON c.id = a.customer_id {joins}
            ORDER BY c.id  -- inside, so that PostgreSQL works each reason out once and not wherever it is named
        ) x
        WHERE true
        ON CONFLICT (run_id, customer_id, channel) DO NOTHING
        """,
        [
            run.pk,
            campaign.channel,
            campaign.holdout_percent * 100,
            campaign.holdout_percent * 100,
            settings.LANGUAGE_CODE,
            at,
            at,
            *params,
            *join_params,
        ],
    )


def _give(run: Run, contexts: Mapping[int, Mapping[str, Any]]) -> None:
    for ids in batches.of(sorted(contexts), 1000):
        rows = list(Message.objects.filter(run=run, customer_id__in=ids).only("pk", "customer_id"))
        for row in rows:
            row.context = rendering.plain(contexts[row.customer_id])
        Message.objects.bulk_update(rows, ["context"], batch_size=500)

"""Freezing an audience: one row per recipient before the first message leaves, set-based.

Who cannot be written to at all is ``skipped`` with the reason, the holdout is ``held_out``, the rest is ``queued``: the
states always sum to the audience. Planning the same key again adds who is missing and nobody twice. While an experiment
runs, chance gives each of the queued a version, the same one for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F

from campaigns import gate, letters, rendering, runs
from campaigns.errors import NotNow
from campaigns.models import Campaign, Experiment, ExperimentVersion, Message, Run
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


def versions_of(campaign: Campaign) -> list[ExperimentVersion]:
    """The versions between which chance decides now, in order; none when no experiment runs on the campaign."""
    running = ExperimentVersion.objects.filter(
        experiment__campaign=campaign, experiment__state=Experiment.State.RUNNING
    )
    return list(running.select_related("experiment").order_by("label"))


def version_for(key: str, shares: Sequence[int], customer_id: int) -> int:
    """Which version (0 is the first) this customer gets in the experiment of this key, for ever. ``shares`` are per cents
    that sum to 100; the SQL of ``plan`` says the same."""
    place = bucket(f"experiment:{key}", customer_id)
    return next(number for number, end in enumerate(accumulate(shares)) if place < end * 100)


def version_sql(versions: Sequence[ExperimentVersion], column: str) -> str:
    """The id of ``version_for`` of a column of ids, for a statement with parameters; NULL without an experiment."""
    if not versions:
        return "CAST(NULL AS bigint)"
    place = bucket_sql(f"experiment:{versions[0].experiment.key}", column)
    *others, last = versions
    ends = accumulate(one.share for one in others)
    whens = " ".join(f"WHEN {place} < {end * 100} THEN {one.pk}" for one, end in zip(others, ends, strict=True))
    return f"CASE {whens} ELSE {last.pk} END"


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
    versions = versions_of(campaign)
    added = batches.execute(
        f"""
        INSERT INTO campaigns_message (run_id, customer_id, channel, state, reason, version_id, verdict, consent_id, context,
            address, language, owner, attempt, tries, due_at, transport, message_id, error, created_at)
        SELECT %s, x.id, %s,
            CASE WHEN x.reason <> '' THEN 'skipped' WHEN x.bucket < %s THEN 'held_out' ELSE 'queued' END,
            CASE WHEN x.reason <> '' THEN x.reason WHEN x.bucket < %s THEN 'holdout' ELSE '' END,
            CASE WHEN x.reason = '' AND x.bucket >= %s THEN {version_sql(versions, "x.id")} END,
            '{{}}', x.consent_id, '{{}}', x.address,
            CASE WHEN x.language <> '' THEN x.language ELSE %s END, '', 0, 0, {moment}, '', '', '', {moment}
        FROM (
            SELECT c.id, {gate.address_sql(campaign.channel)} AS address, c.language, k.id AS consent_id, {reason} AS reason,
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
            campaign.holdout_percent * 100,
            settings.LANGUAGE_CODE,
            at,
            at,
            *params,
            *join_params,
        ],
    )
    hours: list[tuple[int | None, int | None]] = [(one.pk, one.hour) for one in versions]
    for version, hour in hours or [(None, campaign.send_hour)]:
        if hour is not None:
            _wait_for_the_hour(run, now, version, hour)
    return added


def _wait_for_the_hour(run: Run, now: datetime, version: int | None, hour: int) -> None:
    """Make those just queued due when it is next that hour where they live; a statement per time zone."""
    mine = Message.objects.filter(run=run, created_at=now, state=Message.State.QUEUED, version=version)
    for name in list(mine.order_by().values_list("customer__time_zone", flat=True).distinct()):
        due_at = gate.next_hour(now, gate.zone_of(name), hour)
        mine.filter(customer__time_zone=name).update(due_at=due_at)


def _give(run: Run, contexts: Mapping[int, Mapping[str, Any]]) -> None:
    for ids in batches.of(sorted(contexts), 1000):
        rows = list(Message.objects.filter(run=run, customer_id__in=ids).only("pk", "customer_id"))
        for row in rows:
            row.context = rendering.plain(contexts[row.customer_id])
        Message.objects.bulk_update(rows, ["context"], batch_size=500)

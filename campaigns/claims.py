"""Whose a message is, and every change of its state while it is somebody's.

Every change asks whether it is still true (id, state, owner, attempt), so a zombie changes nothing.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from campaigns import gate, rendering
from campaigns.models import Campaign, Message, Purpose, Run, Slot, TemplateVariant
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter, placeholder

logger = logging.getLogger(__name__)

CLAIM_SECONDS = 300
"""How long a claimed batch is one sender's; what it has not begun by then goes back."""
SENDING_SECONDS = 600
"""Longer than the slowest answer of a mail server: who is over it is dead."""
BACK_OFF_MINUTES = (1, 5, 15, 60, 240)

State, Reason = Message.State, Message.Reason


@dataclass(slots=True)
class Work:
    """One claimed message with everything needed to send it."""

    pk: int
    attempt: int
    tries: int
    run_id: int
    variant: TemplateVariant | None
    language: str
    context: dict[str, Any]
    candidate: gate.Candidate
    policy: gate.Policy
    values: dict[str, Any]
    list_id: str
    to: str = ""
    way_out: str = ""
    verdict: gate.Verdict | None = None


def claim_due(*, limit: int, owner: str) -> list[int]:
    """Make up to ``limit`` due messages ours until the lease ends, in one statement; their ids, first due first."""
    now = clock.now()
    running = list(
        Run.objects.filter(state=Run.State.SENDING, campaign__state=Campaign.State.ACTIVE).values_list("pk", flat=True)
    )
    if not running:
        return []
    ids = ", ".join(str(pk) for pk in running)
    skip = "FOR UPDATE SKIP LOCKED" if connection.vendor == "postgresql" else ""
    # Materialized: a planner that runs the inner SELECT once per row would take more than the limit.
    taken = batches.rows(
        f"""
        WITH due AS MATERIALIZED (
            SELECT id FROM campaigns_message
            WHERE state IN ('queued', 'retry') AND due_at <= %s AND run_id IN ({ids})
            ORDER BY due_at, id LIMIT %s {skip}
        )
        UPDATE campaigns_message SET state = 'claimed', owner = %s, lease_until = %s, attempt = attempt + 1
        WHERE id IN (SELECT id FROM due) AND state IN ('queued', 'retry')
        RETURNING id
        """,
        [parameter(now), limit, owner, parameter(now + timedelta(seconds=CLAIM_SECONDS))],
    )
    return sorted(row[0] for row in taken)


def sweep() -> dict[str, int]:
    """Look after dead senders: what they had not begun goes back, what was on its way is in doubt."""
    now = clock.now()
    late = Message.objects.filter(lease_until__lt=now)
    doubtful = late.filter(state=State.SENDING).update(
        state=State.IN_DOUBT, reason=Reason.SENDER_DIED, lease_until=None, sent_at=None
    )
    back = late.filter(state=State.CLAIMED).update(state=State.QUEUED, owner="", lease_until=None)
    if doubtful:
        logger.warning("%d messages are in doubt: their sender stopped while they were on their way.", doubtful)
    return {"in_doubt": doubtful, "requeued": back}


def release(owner: str, delay: timedelta = timedelta()) -> int:
    """Give back what we claimed and did not begin."""
    mine = Message.objects.filter(owner=owner, state=State.CLAIMED)
    values: dict[str, Any] = {"state": State.QUEUED, "owner": "", "lease_until": None}
    if delay:
        values["due_at"] = clock.now() + delay
    return mine.update(**values)


def with_times(candidate: gate.Candidate, row: Message) -> gate.Candidate:
    return replace(candidate, planned_at=row.created_at, due_at=row.due_at)


def begin(work: Work, owner: str, transport: str, identity: str) -> str | None:
    """``claimed → sending``, if everything the verdict stood on is still so; asked by the write itself.

    ``None``: it may leave now. Else the state it was put into instead: somebody unsubscribed, paused, cancelled or used
    up the day's place between the verdict and this instant.
    """
    assert work.verdict is not None
    candidate, policy = work.candidate, work.policy
    now = clock.now()
    with transaction.atomic():
        is_free = not policy.is_promotion or _take_slot(work, now)
        began = is_free and batches.execute(*_begin_sql(work, owner, transport, identity, now)) == 1
        if not began:
            transaction.set_rollback(True)
    if began:
        return None
    # Why not? Ask the gate again with what is known now.
    fresh = gate.candidates([candidate.customer_id], policy, now).get(candidate.customer_id)
    row = Message.objects.select_related("run__campaign").get(pk=work.pk)
    if row.state != State.CLAIMED or row.owner != owner or row.attempt != work.attempt:
        return "lost"
    is_paused = row.run.state == Run.State.PAUSED or row.run.campaign.state == Campaign.State.PAUSED
    if is_paused or fresh is None:
        return _back(work, owner, now)
    is_live = row.run.state == Run.State.SENDING and row.run.campaign.state == Campaign.State.ACTIVE
    policy = gate.Policy.of(row.run.campaign, is_live=is_live)
    verdict = gate.verdict(with_times(fresh, row), policy, now)
    if verdict.outcome == gate.SEND:
        # The place was taken a moment ago and given back, or a statement is being written: look again in a minute.
        return _back(work, owner, now + timedelta(minutes=1))
    return put_aside(work, owner, verdict)


def _begin_sql(work: Work, owner: str, transport: str, identity: str, now: datetime) -> tuple[str, list[Any]]:
    assert work.verdict is not None
    candidate, policy = work.candidate, work.policy
    agreed = parameter(candidate.consent_at or now)
    sql = f"""
        UPDATE campaigns_message SET state = 'sending', lease_until = %s, address = %s, verdict = %s, consent_id = %s,
            transport = %s, message_id = %s, reason = '', error = ''
        WHERE id = %s AND state = 'claimed' AND owner = %s AND attempt = %s AND lease_until > %s
          AND EXISTS (SELECT 1 FROM campaigns_run r JOIN campaigns_campaign k ON k.id = r.campaign_id
                      WHERE r.id = campaigns_message.run_id AND r.state = 'sending' AND k.state = 'active')
          AND NOT EXISTS (SELECT 1 FROM campaigns_suppression s WHERE s.email_key = %s
                          AND (s.reason <> 'unsubscribed' OR (s.created_at >= {placeholder()} AND %s)))
    """
    params: list[Any] = [
        parameter(now + timedelta(seconds=SENDING_SECONDS)),
        candidate.address,
        json.dumps(work.verdict.as_json()),
        candidate.consent_id,
        transport,
        identity,
        work.pk,
        owner,
        work.attempt,
        parameter(now),
        candidate.email_key,
        agreed,
        policy.purpose != Purpose.SERVICE,
    ]
    if policy.purpose != Purpose.SERVICE:
        sql += f"""
          AND NOT EXISTS (SELECT 1 FROM customers_consent n WHERE n.customer_id = campaigns_message.customer_id
                          AND n.purpose = %s AND n.channel = %s AND NOT n.is_granted
                          AND (n.occurred_at, n.id) > ({placeholder()}, %s))
        """
        params += [policy.purpose, policy.channel, agreed, candidate.consent_id]
    return sql, params


def _take_slot(work: Work, now: datetime) -> bool:
    """Use up a place of the customer's day. The number is part of the key, so of two senders one gets it."""
    assert work.verdict is not None
    day = date.fromisoformat(work.verdict.evidence["day"])
    customer_id, policy = work.candidate.customer_id, work.policy
    recent = "SELECT count(*) FROM campaigns_slot WHERE customer_id = %s"
    number = f"({recent} AND day = %s)"
    return (
        batches.execute(
            f"""
            INSERT INTO campaigns_slot (customer_id, day, number, message_id, occurred_at)
            SELECT x.customer_id, x.day, x.used + 1, x.message_id, x.occurred_at FROM (
                SELECT {_bigint()} AS customer_id, {_date()} AS day, {number} AS used, {_bigint()} AS message_id,
                       {placeholder()} AS occurred_at, ({recent} AND occurred_at > {placeholder()}) AS in_week
            ) x
            WHERE x.used < %s AND x.in_week < %s
            ON CONFLICT DO NOTHING
            """,
            [
                customer_id,
                day.isoformat(),
                customer_id,
                day.isoformat(),
                work.pk,
                parameter(now),
                customer_id,
                parameter(now - gate.WEEK),
                policy.cap_per_day,
                policy.cap_per_week,
            ],
        )
        == 1
    )


def _bigint() -> str:
    return "%s::bigint" if connection.vendor == "postgresql" else "%s"


def _date() -> str:
    return "%s::date" if connection.vendor == "postgresql" else "%s"


def _back(work: Work, owner: str, due_at: datetime) -> str:
    Message.objects.filter(pk=work.pk, owner=owner, attempt=work.attempt, state=State.CLAIMED).update(
        state=State.QUEUED, owner="", lease_until=None, due_at=due_at
    )
    return State.QUEUED


def put_aside(work: Work, owner: str, verdict: gate.Verdict) -> str:
    """Write down a verdict other than "send". Held: queued until its hour."""
    if verdict.outcome == gate.HELD:
        Message.objects.filter(pk=work.pk, owner=owner, attempt=work.attempt, state=State.CLAIMED).update(
            state=State.QUEUED,
            owner="",
            lease_until=None,
            due_at=verdict.at,
            reason=verdict.reason,
            verdict=verdict.as_json(),
        )
        return "held"
    return settle(work, owner, State.SKIPPED, reason=verdict.reason, verdict=verdict)


def try_again(work: Work, owner: str, error: str) -> str:
    if work.tries >= len(BACK_OFF_MINUTES):
        return settle(work, owner, State.FAILED, reason=Reason.GAVE_UP, error=error)
    wait = timedelta(minutes=BACK_OFF_MINUTES[work.tries])
    return settle(work, owner, State.RETRY, reason=Reason.LATER, error=error, due_at=clock.now() + wait)


def settle(
    work: Work,
    owner: str,
    state: str,
    *,
    reason: str = "",
    error: str = "",
    due_at: datetime | None = None,
    verdict: gate.Verdict | None = None,
) -> str:
    """Write how it ended, if the message is still ours. A sender that was only slow may still say what it knows of a
    message that was taken for doubtful meanwhile."""
    now = clock.now()
    sets = ["state = %s", "reason = %s", "error = %s", "lease_until = NULL"]
    params: list[Any] = [state, reason, rendering.one_line(error)[:500]]
    if state == State.SENT:
        sets.append("sent_at = %s")
        params.append(parameter(now))
    if state == State.RETRY:
        sets += ["due_at = %s", "tries = tries + 1"]
        params.append(parameter(due_at or now))
    if verdict is not None:
        sets.append("verdict = %s")
        params.append(json.dumps(verdict.as_json()))
    sql = (
        f"UPDATE campaigns_message SET {', '.join(sets)} WHERE id = %s AND owner = %s AND attempt = %s "
        "AND state IN ('claimed', 'sending', 'in_doubt')"
    )
    params += [work.pk, owner, work.attempt]
    if state in (State.SENT, State.IN_DOUBT, State.SKIPPED):
        done = batches.execute(sql, params)
    else:
        # Nothing went out, so the place of the day is free again.
        with transaction.atomic():
            done = batches.execute(sql, params)
            if done:
                Slot.objects.filter(message_id=work.pk).delete()
    return state if done else "lost"

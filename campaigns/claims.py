"""Whose a message is, and every change of its state while it is somebody's.

Every change asks whether it is still true (id, state, owner, attempt), so a zombie changes nothing.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

from django.db import InterfaceError, OperationalError, connection, transaction

from campaigns import gate, letters, limits, rendering
from campaigns.models import Campaign, Channel, Message, Purpose, Run, Sender, Slot, this_boot
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter, placeholder

logger = logging.getLogger(__name__)

CLAIM_SECONDS = 300
"""How long a claimed batch is one sender's; what it has not begun by then goes back."""
SENDING_SECONDS = 600
"""Longer than the slowest answer of a server: who is over it is dead."""
BACK_OFF_MINUTES = (1, 5, 15, 60, 240)

State, Reason = Message.State, Message.Reason


@dataclass(slots=True)
class Work:
    """One claimed message with everything needed to send it."""

    pk: int
    attempt: int
    tries: int
    run_id: int
    campaign: Campaign
    prepared: letters.Prepared | None
    language: str
    context: dict[str, Any]
    candidate: gate.Candidate
    policy: gate.Policy
    values: dict[str, Any]
    list_id: str
    planned_at: datetime | None = None
    due_at: datetime | None = None
    reason: str = ""
    to: str = ""
    way_out: str = ""
    links: dict[str, int] = field(default_factory=dict)
    parts: int = 0
    verdict: gate.Verdict | None = None


def is_running(channel: str) -> bool:
    """Whether anything may be sent over this channel now."""
    return bool(_running(channel))


def _running(channel: str) -> list[int]:
    live = Run.objects.filter(state=Run.State.SENDING, campaign__state=Campaign.State.ACTIVE, campaign__channel=channel)
    return list(live.values_list("pk", flat=True))


def claim_due(*, limit: int, owner: str, channel: str = Channel.EMAIL) -> list[int]:
    """Make up to ``limit`` due messages of a channel ours until the lease ends, in one statement; their ids, first due first."""
    now = clock.now()
    if limits.standing():
        return []
    running = _running(channel)
    if not running:
        return []
    ids = ", ".join(str(pk) for pk in running)
    Sender.objects.bulk_create([Sender(owner=owner, boot=this_boot(), since=now)], ignore_conflicts=True)
    skip = "FOR UPDATE SKIP LOCKED" if connection.vendor == "postgresql" else ""
    # Materialized: a planner that runs the inner SELECT once per row would take more than the limit.
    taken = batches.durably(
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
    # Without its witness a claim is all that is left of what may have been sent.
    unsure = late.filter(state=State.CLAIMED).exclude(owner__in=Sender.objects.filter(boot=this_boot()).values("owner"))
    doubtful += unsure.update(state=State.IN_DOUBT, reason=Reason.SENDER_DIED, lease_until=None)
    with transaction.atomic():
        begun_by_nobody = late.filter(state=State.CLAIMED)
        Slot.objects.filter(message__in=begun_by_nobody).delete()
        back = begun_by_nobody.update(state=State.QUEUED, owner="", lease_until=None)
    Sender.objects.filter(since__lt=now - timedelta(days=1)).delete()
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


@dataclass(frozen=True, slots=True)
class Taken:
    """A message the server took: what it said, and when. To be written down with the next thing that is."""

    work: Work
    answer: str
    at: datetime


def begin(work: Work, owner: str, transport: str, identity: str, done: list[Taken] | None = None) -> str | None:
    """``claimed → sending``, if everything the verdict stood on is still so; asked by the write itself.

    ``None``: it may leave now. Else the state it was put into instead: somebody unsubscribed, paused or cancelled between
    the verdict and this instant. What is in ``done`` is settled by the same commit and taken out, so a message costs one
    commit, and a sender that dies leaves one message in doubt.
    """
    now = clock.now()
    settled = [(_SENT, _sent_params(one, owner)) for one in done or ()]
    began = batches.together(*settled, _beginning(work, owner, transport, identity, now)) == 1
    if done:
        done.clear()
    if began:
        return None
    free_slots([work.pk])
    return _judge_again(work, owner, now)


def _judge_again(work: Work, owner: str, now: datetime) -> str:
    """Ask the gate again, with what is known now, about a message it had let pass."""
    candidate, policy = work.candidate, work.policy
    fresh = gate.candidates([candidate.customer_id], policy, now).get(candidate.customer_id)
    row = Message.objects.select_related("run__campaign").get(pk=work.pk)
    if row.state != State.CLAIMED or row.owner != owner or row.attempt != work.attempt:
        return "lost"
    is_paused = row.run.state == Run.State.PAUSED or row.run.campaign.state == Campaign.State.PAUSED
    if is_paused or fresh is None:
        return _back(work, owner, now)
    is_live = row.run.state == Run.State.SENDING and row.run.campaign.state == Campaign.State.ACTIVE
    policy = gate.Policy.of(row.run.campaign, is_live=is_live)
    verdict = gate.verdict(fresh, policy, now, planned_at=row.created_at, due_at=row.due_at)
    if verdict.outcome == gate.SEND:
        # The place was taken a moment ago and given back, or a statement is being written: look again in a minute.
        return _back(work, owner, now + timedelta(minutes=1))
    return put_aside(work, owner, verdict)


def settle_sent(done: list[Taken], owner: str) -> None:
    """Write down what the server took, all in one commit, and empty the list."""
    if done:
        batches.together(*((_SENT, _sent_params(one, owner)) for one in done))
        done.clear()


class NotWritten(OperationalError):
    """What the server took could not be written down: only this sender knew it."""


BACK_SECONDS = 60.0
"""So long a sender waits for a database that went away."""


def _when_it_is_back(work: Callable[[], Any]) -> None:
    end = time.monotonic() + BACK_SECONDS
    while True:
        try:
            work()
        except (OperationalError, InterfaceError):
            if time.monotonic() > end:
                raise
            connection.close()
            time.sleep(0.5)
        else:
            return


def settle_after_all(taken: Sequence[Taken], owner: str) -> None:
    """The database went away in the middle: once it is back, tell it again all that the server took of a batch. It may
    have forgotten the last of it, and nobody but this sender knows. Raises ``NotWritten`` when it does not come back."""
    connection.close()
    try:
        _when_it_is_back(lambda: settle_sent(list(taken), owner))
    except (OperationalError, InterfaceError) as problem:
        raise NotWritten(str(problem)) from problem


def release_after_all(owner: str) -> None:
    """Give back what we did not begin, once the database is there. It may have forgotten its senders when it was away, and
    then nobody else could tell these messages from such as have left."""
    _when_it_is_back(lambda: release(owner))


_SENT = batches.Statement(
    "UPDATE campaigns_message SET state = 'sent', error = %s, lease_until = NULL, sent_at = %s "
    "WHERE id = %s AND owner = %s AND attempt = %s AND state IN ('claimed', 'sending', 'in_doubt')"
)


def _sent_params(one: Taken, owner: str) -> tuple[Any, ...]:
    return rendering.one_line(one.answer)[:500], parameter(one.at), one.work.pk, owner, one.work.attempt


@lru_cache(maxsize=8)
def _begins(_vendor: str, asks: bool) -> batches.Statement:
    """``asks``: whether they must have agreed. Run and customer are given, not looked up from the message: a planner
    without statistics would otherwise join whole tables for one row."""
    sql = f"""
        UPDATE campaigns_message SET state = 'sending', lease_until = %s, address = %s, verdict = %s, consent_id = %s,
            transport = %s, message_id = %s, parts = %s, reason = '', error = ''
        WHERE id = %s AND state = 'claimed' AND owner = %s AND attempt = %s AND lease_until > %s
          AND EXISTS (SELECT 1 FROM campaigns_run r JOIN campaigns_campaign k ON k.id = r.campaign_id
                      WHERE r.id = %s AND r.state = 'sending' AND k.state = 'active')
          AND NOT EXISTS (SELECT 1 FROM campaigns_suppression s WHERE s.channel = %s AND s.address_key = %s
                          AND (s.reason <> 'unsubscribed' OR (s.created_at >= {placeholder()} AND %s)))
    """
    if asks:
        sql += f"""
          AND NOT EXISTS (SELECT 1 FROM customers_consent n WHERE n.customer_id = %s
                          AND n.purpose = %s AND n.channel = %s AND NOT n.is_granted
                          AND (n.occurred_at, n.id) > ({placeholder()}, %s))
        """
    return batches.Statement(sql)


def _beginning(
    work: Work, owner: str, transport: str, identity: str, now: datetime
) -> tuple[batches.Statement, tuple[Any, ...]]:
    assert work.verdict is not None
    candidate, policy = work.candidate, work.policy
    agreed, asks = parameter(candidate.consent_at or now), policy.purpose != Purpose.SERVICE
    params: tuple[Any, ...] = (
        parameter(now + timedelta(seconds=SENDING_SECONDS)),
        candidate.address,
        json.dumps(work.verdict.as_json()),
        candidate.consent_id,
        transport,
        identity,
        work.parts,
        work.pk,
        owner,
        work.attempt,
        parameter(now),
        work.run_id,
        policy.channel,
        candidate.address_key,
        agreed,
        asks,
    )
    if asks:
        params += (candidate.customer_id, policy.purpose, policy.channel, agreed, candidate.consent_id)
    return _begins(connection.vendor, asks), params


def take_slots(works: Sequence[Work], now: datetime) -> set[int]:
    """Use up a place of each customer's day; the ids of the messages that got one.

    The number is part of the key, so of two senders one gets it. Who gets none was judged a moment too late.
    """
    if not works:
        return set()
    is_postgresql = connection.vendor == "postgresql"
    wanted = ", ".join(
        f"({int(one.candidate.customer_id)}, {'DATE ' if is_postgresql else ''}'{_day(one).isoformat()}', {int(one.pk)}, "
        f"{int(one.policy.cap_per_day)}, {int(one.policy.cap_per_week)})"
        for one in works
    )
    recent = "SELECT count(*) FROM campaigns_slot s WHERE s.customer_id = v.customer_id AND"
    taken = batches.rows(
        f"""
        WITH v (customer_id, day, message_id, per_day, per_week) AS (VALUES {wanted})
        INSERT INTO campaigns_slot (customer_id, day, number, message_id, occurred_at)
        SELECT x.customer_id, x.day, x.used + 1, x.message_id, {placeholder()} FROM (
            SELECT v.*, ({recent} s.day = v.day) AS used, ({recent} s.occurred_at > {placeholder()}) AS in_week FROM v
        ) x
        WHERE x.used < x.per_day AND x.in_week < x.per_week
        ORDER BY x.message_id
        ON CONFLICT DO NOTHING RETURNING message_id
        """,
        [parameter(now), parameter(now - gate.WEEK)],
    )
    return {row[0] for row in taken}


def _day(work: Work) -> date:
    assert work.verdict is not None
    return date.fromisoformat(work.verdict.evidence["day"])


def free_slots(ids: Sequence[int]) -> None:
    """Give back the places of messages that did not leave after all."""
    if ids:
        gone = Slot.objects.filter(message_id__in=ids)
        gone.exclude(message__state__in=(State.SENDING, State.SENT, State.IN_DOUBT)).delete()


def look_again(work: Work, owner: str) -> str:
    """A place of the day was gone: what the gate says now that it is."""
    return _judge_again(work, owner, clock.now())


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


def slow_down(work: Work, owner: str, error: str, wait: float) -> str:
    """The server asked for less. That is no fault of the message, so it costs none of its tries."""
    due_at = clock.now() + timedelta(seconds=wait)
    return settle(work, owner, State.RETRY, reason=Reason.LATER, error=error, due_at=due_at, is_try=False)


def settle(
    work: Work,
    owner: str,
    state: str,
    *,
    reason: str = "",
    error: str = "",
    due_at: datetime | None = None,
    is_try: bool = True,
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
        sets += ["due_at = %s", "tries = tries + %s"]
        params += [parameter(due_at or now), int(is_try)]
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

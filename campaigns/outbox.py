"""One row per recipient, frozen before the first message leaves; every row accounted for at every moment.

``planning`` freezes an audience. ``send_due`` works: claim a batch (commit, on the disk) → judge, take the places of the
day, render, keep what they will see (commit) → per message: open the envelope → ``sending`` and what became of the one
before (commit) → the body leaves, outside any transaction. Every change of state asks whether it is still true
(``claims``), so a zombie changes nothing. What each commit costs and promises: docs/adr/0009.

What may be promised: nobody gets a message twice because of us. A sender killed between ``sending`` and settling leaves
one message ``in_doubt``; it is shown, and never sent again by us.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError, transaction

from campaigns import breaker, claims, deliveries, gate, letters, limits, rendering, runs, texting, tracking
from campaigns.carriers import CARRIERS, Carrier, Session, fill
from campaigns.channels import answers, email
from campaigns.claims import Reason, State, Work
from campaigns.errors import BrokenTemplate
from campaigns.layout import Filled as Letter
from campaigns.models import Campaign, Channel, ExperimentVersion, Outage, Run, Suppression, TemplateVariant
from lifecycle_crm.lib import batches, clock, leases
from lifecycle_crm.lib.moments import epoch, from_seconds, seconds

logger = logging.getLogger(__name__)

BATCH = 200
ENOUGH_REFUSALS = 5
"""After so many "later" in a row the server wants fewer: we stop until the next ring."""
PATIENCE = 10
"""Seconds that a sender waits by itself for a server that finds it too fast; a longer pause is left to a later ring."""
ENOUGH_DOUBTS = 3
"""After so many messages in a row of which nobody knows whether they arrived, the rest of them waits."""
DOUBT_REST = timedelta(minutes=15)
"""For so long: a provider that is broken must not get a whole audience into doubt."""

Filled = Letter | texting.Filled


def load(ids: Sequence[int], owner: str, as_of: datetime) -> list[Work]:
    """The claimed messages that are still ours, with what the gate and the text need, in a fixed number of queries."""
    rows = batches.rows(
        f"""
        SELECT m.id, m.attempt, m.tries, m.run_id, m.customer_id, m.language, m.context, {epoch("m.created_at")},
               {epoch("m.due_at")}, c.email_key, c.time_zone, f.open_cases, f.nps_score, f.answered_at, f.stage,
               c.given_name, c.name, c.email, c.city, c.country, c.language, f.orders, f.last_order_at, f.tier, f.points,
               m.reason, m.version_id, c.phone
        FROM campaigns_message m JOIN customers_customer c ON c.id = m.customer_id
        LEFT JOIN customers_customerfacts f ON f.customer_id = m.customer_id
        WHERE m.id IN ({", ".join(str(int(pk)) for pk in ids) or "NULL"}) AND m.owner = %s AND m.state = 'claimed'
        ORDER BY m.due_at, m.id
        """,
        [owner],
    )
    # Runs are few: loaded once each, not once per message.
    runs_at_hand = Run.objects.select_related("campaign").in_bulk({row[3] for row in rows})
    by_campaign: dict[int, list[gate.Person]] = {}
    for row in rows:
        answered_at = None if row[13] is None else from_seconds(row[13])
        bought_at = None if row[22] is None else from_seconds(row[22])
        person = (row[4], row[17], row[9], row[27], row[10], row[11], row[12], answered_at, row[14], bought_at)
        by_campaign.setdefault(runs_at_hand[row[3]].campaign_id, []).append(person)
    versions = ExperimentVersion.objects.in_bulk({row[26] for row in rows if row[26]})
    texts = {(pk, None): run.variants for pk, run in runs_at_hand.items()}
    texts |= {(row[3], row[26]): versions[row[26]].variants for row in rows if row[26]}
    named = {pk for variants in texts.values() for pk in variants.values()}
    variants = TemplateVariant.objects.select_related("template").filter(pk__in=named)
    prepared: dict[int | None, letters.Prepared] = {one.pk: letters.prepared(one) for one in variants}
    campaigns = {run.campaign_id: run.campaign for run in runs_at_hand.values()}
    host, now, shop = email.host(), seconds(as_of), letters.the_shop()
    known = {
        pk: (gate.judgeable(people, gate.Policy.of(campaigns[pk]), as_of), _list_id(campaigns[pk], host))
        for pk, people in by_campaign.items()
    }
    policies = {pk: _policy(run) for pk, run in runs_at_hand.items()}
    return [
        Work(
            pk=row[0],
            attempt=row[1],
            tries=row[2],
            run_id=row[3],
            campaign=runs_at_hand[row[3]].campaign,
            prepared=prepared.get(letters.variant_for(texts[row[3], row[26]], row[5])),
            language=row[5],
            context=json.loads(row[6]) if isinstance(row[6], str) else row[6],
            candidate=known[runs_at_hand[row[3]].campaign_id][0][row[4]],
            policy=policies[row[3]],
            values=(
                letters.general(shop, row[20])
                if (versions[row[26]] if row[26] else runs_at_hand[row[3]].campaign).is_general
                else letters.values(now, shop, *row[15:25])
            ),
            list_id=known[runs_at_hand[row[3]].campaign_id][1],
            planned_at=from_seconds(row[7]),
            due_at=from_seconds(row[8]),
            reason=row[25],
        )
        for row in rows
    ]


def _policy(run: Run) -> gate.Policy:
    is_live = run.state == Run.State.SENDING and run.campaign.state == Campaign.State.ACTIVE
    return gate.Policy.of(run.campaign, is_live=is_live)


def _list_id(campaign: Campaign, host: str) -> str:
    return f"{_words(campaign.name)} <{campaign.purpose}.{host}>"


def _words(text: str) -> str:
    """A name as it may stand in List-Id: plain ASCII words."""
    kept = "".join(c for c in rendering.one_line(text) if c.isascii() and (c.isalnum() or c in " -"))
    return kept.strip()[:40] or "news"


def send_due(*, limit: int = 2_000, seconds: float = 50, owner: str | None = None) -> dict[str, int]:
    """Send what is due over every channel, at most ``limit`` messages each or for about so many seconds together; how many
    ended in which state.

    Any number of senders may run at once, in any number of processes.
    """
    counts: Counter[str] = Counter({name: n for name, n in claims.sweep().items() if n})
    owner = owner or leases.new_owner()
    begun = time.monotonic()
    waiting = [one for one in CARRIERS if claims.is_running(one.channel)]
    # Where nothing is to be sent, nothing keeps it from being sent.
    Outage.objects.exclude(channel__in=[one.channel for one in waiting]).delete()
    for number, carrier in enumerate(waiting):
        # What one channel does not use, the next one may.
        share = (begun + seconds - time.monotonic()) / (len(waiting) - number)
        _send_over(carrier, owner, counts, limit, time.monotonic() + share)
    runs.finish_runs()
    return {str(name): n for name, n in counts.items()}


def _send_over(carrier: Carrier, owner: str, counts: Counter[str], limit: int, end: float) -> None:
    """Send what is due over one channel. What keeps it from sending is written down, and no other channel minds."""
    session: Session | None = None
    taken, is_known = 0, True
    try:
        session = carrier.open_session()
        while taken < limit and time.monotonic() < end:
            breaker.check()
            at_hand = min(BATCH, limit - taken, carrier.pace.worth(end - time.monotonic()))
            ids = claims.claim_due(limit=at_hand, owner=owner, channel=carrier.channel)
            if not ids:
                break
            taken += len(ids)
            sent = counts[State.SENT]
            is_going_on = _send_batch(ids, owner, carrier, session, counts, end)
            if counts[State.SENT] > sent:
                Outage.over(carrier.channel)
            if not is_going_on:
                break
    except answers.Unreachable as problem:
        waits = claims.release(owner, timedelta(minutes=1))
        counts["postponed"] += waits
        Outage.seen(carrier.channel, str(problem))
        logger.error("Nothing can be sent by %s, %d messages wait: %s", carrier.channel, waits, problem)
    except claims.NotWritten:
        # Some of what looks claimed has left. It stays ours until the lease is over, and is in doubt then.
        is_known = False
        raise
    finally:
        if is_known:
            claims.release_after_all(owner)
        if session is not None:
            session.close()


def _send_batch(
    ids: list[int], owner: str, carrier: Carrier, session: Session, counts: Counter[str], end: float
) -> bool:
    """Judge, render and send one batch. False when the server wants us to stop for now."""
    now = clock.now()
    works = load(ids, owner, now)
    ready: list[tuple[Work, Filled]] = []
    aside: list[tuple[Work, gate.Verdict]] = []
    broken: list[tuple[Work, Exception]] = []
    for work in works:
        work.verdict = gate.verdict(work.candidate, work.policy, now, planned_at=work.planned_at, due_at=work.due_at)
        if work.verdict.outcome != gate.SEND:
            aside.append((work, work.verdict))
            continue
        try:
            made = fill(carrier, work)
        except (BrokenTemplate, answers.BadAddress) as problem:
            broken.append((work, problem))
        else:
            ready.append((work, made))
    if carrier.channel == Channel.EMAIL:
        aside += _too_fast(ready, now)
    if aside:
        late_ones = {work.pk for work, _verdict in aside}
        ready = [(work, made) for work, made in ready if work.pk not in late_ones]
    with transaction.atomic():
        for work, verdict in aside:
            counts[claims.put_aside(work, owner, verdict)] += 1
        for work, error in broken:
            reason = Reason.RENDER if isinstance(error, BrokenTemplate) else Reason.ADDRESS
            counts[claims.settle(work, owner, State.FAILED, reason=reason, error=str(error))] += 1
        took = claims.take_slots([work for work, _made in ready if work.policy.is_promotion], now)
        late = [work for work, _made in ready if work.policy.is_promotion and work.pk not in took]
        for work in late:
            counts[claims.look_again(work, owner)] += 1
        if late:
            ready = [(work, made) for work, made in ready if work not in late]
        _lead(ready)
        _keep(ready)
    done: list[claims.Taken] = []
    taken: list[claims.Taken] = []
    try:
        try:
            return _send_ready(ready, owner, carrier, session, counts, end, done, taken)
        finally:
            claims.settle_sent(done, owner)
    except (OperationalError, InterfaceError):
        claims.settle_after_all(taken, owner)
        raise
    finally:
        if len(taken) < len(ready):
            gone = {one.work.pk for one in taken}
            claims.free_slots([work.pk for work, _made in ready if work.pk not in gone])


def _too_fast(ready: list[tuple[Work, Filled]], now: datetime) -> list[tuple[Work, gate.Verdict]]:
    """Those that a provider's speed limit lets wait, each until its turn."""
    limited = limits.by_domain()
    if not limited:
        return []
    of: dict[int, list[Work]] = {}
    for work, _made in ready:
        throttle = limited.get(work.to.rpartition("@")[2].lower()) or limited.get(limits.EVERYBODY_ELSE)
        if throttle is not None:
            of.setdefault(throttle.pk, []).append(work)
    by_pk = {one.pk: one for one in limited.values()}
    answer = []
    for pk, works in of.items():
        turns = limits.take(
            throttle=by_pk[pk],
            booked=[one.pk for one in works if one.reason == Reason.THROTTLED],
            fresh=[one.pk for one in works if one.reason != Reason.THROTTLED],
            now=now,
        )
        evidence = {"provider": by_pk[pk].name, "per_minute": by_pk[pk].per_minute}
        answer += [
            (one, gate.Verdict(gate.HELD, Reason.THROTTLED, turns[one.pk], evidence))
            for one in works
            if one.pk in turns
        ]
    return answer


def _lead(ready: list[tuple[Work, Filled]]) -> None:
    """Give every address in these messages its tracked link. Service notices are not tracked."""
    of: dict[int, list[tuple[Work, Filled]]] = {}
    for work, made in ready:
        if work.way_out:
            of.setdefault(work.campaign.pk, []).append((work, made))
    for some in of.values():
        campaign = some[0][0].campaign
        known = tracking.addresses(campaign, dict.fromkeys(url for _work, made in some for url in made.urls()))
        for work, _made in some:
            work.links = known


def _keep(ready: list[tuple[Work, Filled]]) -> None:
    """What they will see, written before it leaves."""
    batches.execute_many(
        "INSERT INTO campaigns_rendering (message_id, subject, html, text, links) VALUES (%s, %s, %s, %s, %s) "
        "ON CONFLICT (message_id) DO UPDATE SET subject = excluded.subject, html = excluded.html, text = excluded.text, "
        "links = excluded.links",
        [
            (work.pk, made.subject, made.html(), made.text(), sum(url in work.links for url in made.urls()))
            for work, made in ready
        ],
    )


def _send_ready(
    ready: list[tuple[Work, Filled]],
    owner: str,
    carrier: Carrier,
    session: Session,
    counts: Counter[str],
    end: float,
    done: list[claims.Taken],
    taken: list[claims.Taken],
) -> bool:
    """``done`` is what the server took and nobody wrote down yet, ``taken`` all it took of this batch."""
    if not ready:
        return True
    refusals = doubts = 0
    stop_claims_at = time.monotonic() + claims.CLAIM_SECONDS - 30
    sender, pace = carrier.sender(), carrier.pace
    nexts = [(sender, work.to) for work, _made in ready[1:]]
    for (work, made), following in zip(ready, [*nexts, None], strict=True):
        if time.monotonic() > min(stop_claims_at, end + 30):
            return False  # the rest goes back in ``send_due``
        pace.wait()
        state = _send_one(work, made, owner, carrier, session, done, None if pace.is_slow else following)
        counts[state] += 1
        if state == State.SENT:
            taken.append(done[-1])
            pace.took()
        if pace.pause > PATIENCE:
            counts["postponed"] += claims.release(owner, timedelta(seconds=pace.pause))
            logger.warning("The server for %s finds us too fast; sending goes on in %d s.", carrier.channel, pace.pause)
            return False
        refusals = refusals + 1 if state == State.RETRY else 0
        doubts = doubts + 1 if state == State.IN_DOUBT else 0
        if refusals >= ENOUGH_REFUSALS:
            counts["postponed"] += claims.release(owner, timedelta(minutes=1))
            logger.warning("The server for %s asks for later; sending goes on in a minute.", carrier.channel)
            return False
        if doubts >= ENOUGH_DOUBTS:
            counts["postponed"] += claims.release(owner, DOUBT_REST)
            Outage.seen(carrier.channel, f"{doubts} messages in a row got no answer that decides. The others wait.")
            logger.error("The server for %s leaves us in doubt; sending goes on in 15 minutes.", carrier.channel)
            return False
    return True


def _send_one(
    work: Work,
    made: Filled,
    owner: str,
    carrier: Carrier,
    session: Session,
    done: list[claims.Taken],
    following: tuple[str, str] | None,
) -> str:
    """One message through the phases; the state it ended in. Raises ``Unreachable``, with the message as it was."""
    pace, is_begun = carrier.pace, False
    try:
        body = carrier.body(work, made)
        session.address(carrier.sender(), work.to)
        refusal = claims.begin(work, owner, session.transport, carrier.identity(work.pk), done)
        if refusal is not None:
            session.forget()
            return refusal
        is_begun = True
        answer = session.deliver(body, following)
    except answers.Unreachable as problem:
        if is_begun:
            claims.slow_down(work, owner, str(problem), 60)
        raise
    except BrokenTemplate as problem:
        return claims.settle(work, owner, State.FAILED, reason=Reason.RENDER, error=str(problem))
    except answers.BadAddress as problem:
        return claims.settle(work, owner, State.FAILED, reason=Reason.ADDRESS, error=str(problem))
    except answers.Dropped as problem:
        if problem.is_too_fast:
            return claims.slow_down(work, owner, str(problem), pace.too_fast())
        return claims.try_again(work, owner, str(problem))
    except answers.InDoubt as problem:
        return claims.settle(work, owner, State.IN_DOUBT, reason=Reason.NO_ANSWER, error=str(problem))
    except answers.Refused as problem:
        if problem.is_too_fast:
            return claims.slow_down(work, owner, str(problem), pace.too_fast(problem.wait))
        if not problem.is_permanent:
            return claims.try_again(work, owner, str(problem))
        if problem.is_hard and work.candidate.address_key:
            Suppression.add(
                channel=work.policy.channel,
                address_key=work.candidate.address_key,
                reason=Suppression.Reason.BOUNCED,
                diagnostic=str(problem),
            )
            deliveries.refused(message_id=work.pk, source=session.transport, diagnostic=str(problem))
        return claims.settle(work, owner, State.FAILED, reason=Reason.REFUSED, error=str(problem))
    done.append(claims.Taken(work, answer, clock.now()))
    return State.SENT

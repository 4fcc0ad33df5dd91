"""One row per recipient, frozen before the first message leaves; every row accounted for at every moment.

``plan`` freezes an audience set-based. ``send_due`` works: claim (commit) → judge and render → open the envelope →
``sending`` (commit, as late as possible) → the body leaves, outside any transaction → settle (commit). Every change of
state asks whether it is still true (id, state, owner, attempt), so a zombie changes nothing.

What may be promised: nobody gets a message twice because of us. A sender killed between ``sending`` and settling leaves
one message ``in_doubt``; it is shown, and never sent again by us.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F

from campaigns import gate, links, rendering
from campaigns.channels import email
from campaigns.errors import BrokenTemplate, NotNow
from campaigns.models import Campaign, Message, Purpose, Rendering, Run, Slot, Suppression, TemplateVariant
from customers.models import Customer, CustomerFacts
from lifecycle_crm.lib import batches, bell, clock, leases
from lifecycle_crm.lib.moments import DAY, parameter
from lifecycle_crm.lib.moments import seconds as whole_seconds

logger = logging.getLogger(__name__)

BATCH = 100
CLAIM_SECONDS = 300
"""How long a claimed batch is one sender's; what it has not begun by then goes back."""
SENDING_SECONDS = 600
"""Longer than the slowest answer of a mail server: who is over it is dead."""
BACK_OFF_MINUTES = (1, 5, 15, 60, 240)
ENOUGH_REFUSALS = 5
"""After so many "later" in a row the server wants fewer: we stop until the next ring."""

State, Reason = Message.State, Message.Reason
Audience = Sequence[int] | tuple[str, Sequence[Any]]

# --- Planning ---------------------------------------------------------------------------------------------------------

_PRIME = 2_147_483_647


def _salts(campaign: Campaign) -> tuple[int, int]:
    digest = hashlib.sha256(f"holdout:{campaign.pk}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % _PRIME, int.from_bytes(digest[4:8], "big") % _PRIME


def holdout_bucket(campaign: Campaign, customer_id: int) -> int:
    """0–9999, the same for this customer and this campaign for ever; the SQL of ``plan`` says the same."""
    one, two = _salts(campaign)
    value = (customer_id * 48_271 + one) % _PRIME
    value = (value * value + two) % _PRIME
    return (value * value + one) % _PRIME % 10_000


def _holdout_sql(campaign: Campaign, column: str) -> str:
    one, two = _salts(campaign)
    first = f"(({column} * 48271 + {one}) %% {_PRIME})"
    second = f"(({first} * {first} + {two}) %% {_PRIME})"
    return f"(({second} * {second} + {one}) %% {_PRIME} %% 10000)"


def texts_of(campaign: Campaign) -> dict[str, int]:
    """Newest variant id per language of the campaign's template."""
    return dict(campaign.template.variants.order_by("version").values_list("language", "pk"))


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
    variants = texts_of(campaign)
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
            begin(run=run)
    run.refresh_from_db()
    return run


def _in(ids: Sequence[int], column: str = "id") -> str:
    return f"{column} IN ({', '.join(str(int(pk)) for pk in ids) or 'NULL'})"


def _freeze(campaign: Campaign, run: Run, select: str, params: list[Any]) -> int:
    policy = gate.Policy.of(campaign)
    now = clock.now()
    reason, joins, join_params = gate.standing_sql(policy, now)
    at = parameter(now)
    return batches.execute(
        f"""
        INSERT INTO campaigns_message (run_id, customer_id, channel, state, reason, verdict, consent_id, context, address,
            language, owner, attempt, tries, due_at, transport, message_id, error, created_at)
        SELECT %s, x.id, %s,
            CASE WHEN x.reason <> '' THEN 'skipped' WHEN x.bucket < %s THEN 'held_out' ELSE 'queued' END,
            CASE WHEN x.reason <> '' THEN x.reason WHEN x.bucket < %s THEN 'holdout' ELSE '' END,
            '{{}}', x.consent_id, '{{}}', x.email,
            CASE WHEN x.language <> '' THEN x.language ELSE %s END, '', 0, 0, {_moment()}, '', '', '', {_moment()}
        FROM (
            SELECT c.id, c.email, c.language, k.id AS consent_id, {reason} AS reason,
                   {_holdout_sql(campaign, "c.id")} AS bucket
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


def _moment() -> str:
    return "%s::timestamptz" if connection.vendor == "postgresql" else "%s"


def _give(run: Run, contexts: Mapping[int, Mapping[str, Any]]) -> None:
    for ids in batches.of(sorted(contexts), 1000):
        rows = list(Message.objects.filter(run=run, customer_id__in=ids).only("pk", "customer_id"))
        for row in rows:
            row.context = rendering.plain(contexts[row.customer_id])
        Message.objects.bulk_update(rows, ["context"], batch_size=500)


# --- A run's life -----------------------------------------------------------------------------------------------------


def begin(*, run: Run) -> bool:
    """Let a planned run (or a finished one that got more rows) send. False for one that waits, is paused or cancelled."""
    began = Run.objects.filter(pk=run.pk, state__in=(Run.State.PLANNED, Run.State.FINISHED)).update(
        state=Run.State.SENDING, finished_at=None
    )
    bell.ring("campaigns.tasks.send_due")
    return began == 1


def confirm(*, run: Run, user: Any = None) -> Run:
    """A person says yes to a run that the audience guard stopped. Raises ``NotNow`` when it does not wait."""
    with transaction.atomic():
        if (
            Run.objects.filter(pk=run.pk, state=Run.State.NEEDS_CONFIRMATION).update(
                state=Run.State.SENDING, confirmed_by=user
            )
            != 1
        ):
            raise NotNow("This run does not wait for a confirmation. Reload the page to see how it stands.")
        _make_due(run)
    run.refresh_from_db()
    bell.ring("campaigns.tasks.send_due")
    return run


def pause(*, run: Run) -> Run:
    """Stop within one message per sender; ``resume`` goes on where it stopped."""
    if Run.objects.filter(pk=run.pk, state=Run.State.SENDING).update(state=Run.State.PAUSED) != 1:
        raise NotNow("Only a run that is sending can be paused.")
    run.refresh_from_db()
    return run


def resume(*, run: Run) -> Run:
    """Go on. What came due during the pause is due now: the pause was a person's decision, not an outage."""
    with transaction.atomic():
        if Run.objects.filter(pk=run.pk, state=Run.State.PAUSED).update(state=Run.State.SENDING) != 1:
            raise NotNow("Only a paused run can be resumed.")
        _make_due(run)
    run.refresh_from_db()
    bell.ring("campaigns.tasks.send_due")
    return run


def pause_campaign(*, campaign: Campaign) -> Campaign:
    """Nothing of this campaign leaves, and nights plan nothing for it, until it is resumed."""
    if Campaign.objects.filter(pk=campaign.pk, state=Campaign.State.ACTIVE).update(state=Campaign.State.PAUSED) != 1:
        raise NotNow("Only an active campaign can be paused.")
    campaign.refresh_from_db()
    return campaign


def resume_campaign(*, campaign: Campaign) -> Campaign:
    with transaction.atomic():
        paused = Campaign.objects.filter(pk=campaign.pk, state=Campaign.State.PAUSED)
        if paused.update(state=Campaign.State.ACTIVE) != 1:
            raise NotNow("Only a paused campaign can be resumed.")
        for run in campaign.runs.filter(state=Run.State.SENDING):
            _make_due(run)
    campaign.refresh_from_db()
    bell.ring("campaigns.tasks.send_due")
    return campaign


def _make_due(run: Run) -> None:
    now = clock.now()
    Message.objects.filter(run=run, state__in=(State.QUEUED, State.RETRY), due_at__lt=now).update(due_at=now)


def cancel(*, run: Run) -> int:
    """Send nothing more of this run; how many messages were called off. What already left cannot be called back."""
    with transaction.atomic():
        stopped = Run.objects.filter(
            pk=run.pk,
            state__in=(Run.State.PLANNED, Run.State.NEEDS_CONFIRMATION, Run.State.SENDING, Run.State.PAUSED),
        ).update(state=Run.State.CANCELLED, finished_at=clock.now())
        if stopped != 1:
            raise NotNow("This run is over already, so there is nothing to cancel.")
        count = Message.objects.filter(run=run, state__in=(State.QUEUED, State.RETRY, State.CLAIMED)).update(
            state=State.CANCELLED, reason=Reason.CANCELLED, owner="", lease_until=None
        )
    run.refresh_from_db()
    return count


# --- Claiming ---------------------------------------------------------------------------------------------------------


def claim_due(*, limit: int, owner: str) -> list[int]:
    """Make up to ``limit`` due messages ours until the lease ends, in one statement; their ids, first due first."""
    now = clock.now()
    running = list(
        Run.objects.filter(state=Run.State.SENDING, campaign__state=Campaign.State.ACTIVE).values_list("pk", flat=True)
    )
    if not running:
        return []
    skip = "FOR UPDATE SKIP LOCKED" if connection.vendor == "postgresql" else ""
    # Materialized: a planner that runs the inner SELECT once per row would take more than the limit.
    taken = batches.rows(
        f"""
        WITH due AS MATERIALIZED (
            SELECT id FROM campaigns_message
            WHERE state IN ('queued', 'retry') AND due_at <= %s AND {_in(running, "run_id")}
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


def _release(owner: str, delay: timedelta = timedelta()) -> int:
    """Give back what we claimed and did not begin."""
    mine = Message.objects.filter(owner=owner, state=State.CLAIMED)
    values: dict[str, Any] = {"state": State.QUEUED, "owner": "", "lease_until": None}
    if delay:
        values["due_at"] = clock.now() + delay
    return mine.update(**values)


def finish_runs() -> int:
    """Close the runs that have nothing open any more. In doubt is not open: we will not send it."""
    return batches.execute(
        "UPDATE campaigns_run SET state = 'finished', finished_at = %s WHERE state = 'sending' AND NOT EXISTS "
        "(SELECT 1 FROM campaigns_message m WHERE m.run_id = campaigns_run.id AND m.state IN "
        "('queued', 'retry', 'claimed', 'sending'))",
        [parameter(clock.now())],
    )


# --- Sending ----------------------------------------------------------------------------------------------------------


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


@lru_cache(maxsize=256)
def _compiled(language: str, subject: str, blocks: str, has_foot: bool) -> rendering.Prepared:
    return rendering.Prepared(language=language, subject=subject, blocks=json.loads(blocks), has_foot=has_foot)


def prepared(variant: TemplateVariant) -> rendering.Prepared:
    """The compiled text, compiled once per process; known by its content, so no other text can be taken for it."""
    return _compiled(
        variant.language, variant.subject, json.dumps(variant.blocks), variant.template.purpose != Purpose.SERVICE
    )


def variant_for(variants: Mapping[str, int], language: str) -> int | None:
    """Theirs, else the shop's, else English, else the first there is."""
    for wanted in (language, settings.LANGUAGE_CODE, "en"):
        if wanted in variants:
            return variants[wanted]
    return min(variants.values(), default=None)


def values_of(customers: Sequence[int], as_of: datetime) -> dict[int, dict[str, Any]]:
    """What a template may say about each customer: strings and numbers only, every name always there."""
    facts: dict[int, tuple[Any, ...]] = {
        row[0]: row[1:]
        for row in CustomerFacts.objects.filter(pk__in=customers).values_list(
            "pk", "orders", "last_order_at", "tier", "points"
        )
    }
    shop = {"name": settings.SHOP_NAME, "address": settings.SHOP_ADDRESS, "url": settings.SITE_URL}
    answer = {}
    people = Customer.objects.filter(pk__in=customers).values_list(
        "pk", "given_name", "name", "email", "city", "country", "language"
    )
    for pk, given_name, name, address, city, country, language in people:
        orders, last, tier, points = facts.get(pk, (0, None, "", 0))
        answer[pk] = rendering.plain(
            {
                "customer": {
                    "given_name": given_name,
                    "name": name,
                    "email": address,
                    "city": city,
                    "country": country,
                    "language": language or settings.LANGUAGE_CODE,
                    "orders": orders,
                    "days_since_order": (whole_seconds(as_of) - whole_seconds(last)) // DAY if last else None,
                    "tier": tier,
                },
                "points": points,
                "shop": shop,
                "unsubscribe_url": "",
            }
        )
    return answer


def load(ids: Sequence[int], owner: str, as_of: datetime) -> list[Work]:
    """The claimed messages that are still ours, with what the gate and the text need, in a fixed number of queries."""
    rows = list(
        Message.objects.filter(pk__in=ids, owner=owner, state=State.CLAIMED).defer("verdict").order_by("due_at", "pk")
    )
    # Runs are few: loaded once each, not once per message.
    runs = Run.objects.select_related("campaign").in_bulk({row.run_id for row in rows})
    for row in rows:
        row.run = runs[row.run_id]
    by_campaign: dict[int, list[Message]] = {}
    for row in rows:
        by_campaign.setdefault(row.run.campaign_id, []).append(row)
    values = values_of([row.customer_id for row in rows], as_of)
    named = {pk for row in rows for pk in row.run.variants.values()}
    variants: dict[int | None, TemplateVariant] = {
        one.pk: one for one in TemplateVariant.objects.select_related("template").filter(pk__in=named)
    }
    works: dict[int, Work] = {}
    host = email.host()
    for messages in by_campaign.values():
        campaign = messages[0].run.campaign
        policies = {is_live: gate.Policy.of(campaign, is_live=is_live) for is_live in (True, False)}
        candidates = gate.candidates([row.customer_id for row in messages], policies[True], as_of)
        for row in messages:
            is_live = campaign.state == Campaign.State.ACTIVE and row.run.state == Run.State.SENDING
            candidate = candidates[row.customer_id]
            works[row.pk] = Work(
                pk=row.pk,
                attempt=row.attempt,
                tries=row.tries,
                run_id=row.run_id,
                variant=variants.get(variant_for(row.run.variants, row.language)),
                language=row.language,
                context=row.context,
                candidate=_with_times(candidate, row),
                policy=policies[is_live],
                values=values.get(row.customer_id, {}),
                list_id=f"{_words(campaign.name)} <{campaign.purpose}.{host}>",
            )
    return [works[row.pk] for row in rows]


def _words(text: str) -> str:
    """A name as it may stand in List-Id: plain ASCII words."""
    kept = "".join(c for c in rendering.one_line(text) if c.isascii() and (c.isalnum() or c in " -"))
    return kept.strip()[:40] or "news"


def _with_times(candidate: gate.Candidate, row: Message) -> gate.Candidate:
    return replace(candidate, planned_at=row.created_at, due_at=row.due_at)


def send_due(*, limit: int = 2_000, seconds: float = 50, owner: str | None = None) -> dict[str, int]:
    """Send what is due, at most ``limit`` messages or for about so many seconds; how many ended in which state.

    Any number of senders may run at once, in any number of processes.
    """
    counts: Counter[str] = Counter({name: n for name, n in sweep().items() if n})
    owner = owner or leases.new_owner()
    end = time.monotonic() + seconds
    session = email.open_session()
    taken = 0
    try:
        while taken < limit and time.monotonic() < end:
            ids = claim_due(limit=min(BATCH, limit - taken), owner=owner)
            if not ids:
                break
            taken += len(ids)
            if not _send_batch(ids, owner, session, counts, end):
                break
    except email.Unreachable as problem:
        counts["postponed"] += _release(owner, timedelta(minutes=1))
        logger.error("Mail cannot be sent, %d messages wait: %s", counts["postponed"], problem)
    finally:
        _release(owner)
        session.close()
    finish_runs()
    return {str(name): n for name, n in counts.items()}


def _send_batch(ids: list[int], owner: str, session: email.Session, counts: Counter[str], end: float) -> bool:
    """Judge, render and send one batch. False when the server wants us to stop for now."""
    now = clock.now()
    works = load(ids, owner, now)
    ready: list[tuple[Work, rendering.Made]] = []
    aside: list[tuple[Work, gate.Verdict]] = []
    broken: list[tuple[Work, Exception]] = []
    for work in works:
        work.verdict = gate.verdict(work.candidate, work.policy, now)
        if work.verdict.outcome != gate.SEND:
            aside.append((work, work.verdict))
            continue
        try:
            made = _make(work)
        except (BrokenTemplate, email.BadAddress) as problem:
            broken.append((work, problem))
        else:
            ready.append((work, made))
    with transaction.atomic():
        for work, verdict in aside:
            counts[_put_aside(work, owner, verdict)] += 1
        for work, error in broken:
            reason = Reason.RENDER if isinstance(error, BrokenTemplate) else Reason.ADDRESS
            counts[_settle(work, owner, State.FAILED, reason=reason, error=str(error))] += 1
        Rendering.objects.bulk_create(
            [Rendering(message_id=work.pk, subject=m.subject, html=m.html, text=m.text) for work, m in ready],
            update_conflicts=True,
            unique_fields=["message"],
            update_fields=["subject", "html", "text"],
        )
    refusals = 0
    stop_claims_at = time.monotonic() + CLAIM_SECONDS - 30
    for work, made in ready:
        if time.monotonic() > min(stop_claims_at, end + 30):
            return False  # the rest goes back in ``send_due``
        state = _send_one(work, made, owner, session)
        counts[state] += 1
        refusals = refusals + 1 if state == State.RETRY else 0
        if refusals >= ENOUGH_REFUSALS:
            counts["postponed"] += _release(owner, timedelta(minutes=1))
            logger.warning("The mail server asks for later; sending goes on in a minute.")
            return False
    return True


def _make(work: Work) -> rendering.Made:
    """Address and text of one message. Raises ``BrokenTemplate`` or ``BadAddress``."""
    work.to = email.envelope_address(work.candidate.address)
    if work.variant is None:
        raise BrokenTemplate("The template has no text.")
    work.way_out = links.unsubscribe_url(
        customer_id=work.candidate.customer_id, message_id=work.pk, purpose=work.policy.purpose
    )
    return prepared(work.variant).make({**work.values, **work.context, "unsubscribe_url": work.way_out})


def _bytes(work: Work, made: rendering.Made) -> bytes:
    headers = {
        "Feedback-ID": f"{work.run_id}:{work.policy.purpose}:{email.host()}",
        "Auto-Submitted": "auto-generated",
    }
    if work.way_out:
        headers |= {
            "List-Id": work.list_id,
            "List-Unsubscribe": f"<{work.way_out}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        }
    return email.build(
        to=work.to,
        to_name=rendering.one_line(str(work.values.get("customer", {}).get("name", "")))[:60],
        subject=made.subject,
        html=made.html,
        text=made.text,
        message_id=email.message_id(work.pk),
        date=clock.now(),
        headers=headers,
    )


def _send_one(work: Work, made: rendering.Made, owner: str, session: email.Session) -> str:
    """One message through the phases; the state it ended in."""
    try:
        body = _bytes(work, made)
        session.address(email.sender(), work.to)
        refusal = _begin(work, owner, session.transport, email.message_id(work.pk))
        if refusal is not None:
            session.forget()
            return refusal
        answer = session.deliver(body)
    except email.BadAddress as problem:
        return _settle(work, owner, State.FAILED, reason=Reason.ADDRESS, error=str(problem))
    except email.Dropped as problem:
        return _try_again(work, owner, str(problem))
    except email.InDoubt as problem:
        return _settle(work, owner, State.IN_DOUBT, reason=Reason.NO_ANSWER, error=str(problem))
    except email.Refused as problem:
        if not problem.is_permanent:
            return _try_again(work, owner, str(problem))
        if problem.is_hard and work.candidate.email_key:
            Suppression.add(
                email_key=work.candidate.email_key, reason=Suppression.Reason.BOUNCED, diagnostic=str(problem)
            )
        return _settle(work, owner, State.FAILED, reason=Reason.REFUSED, error=str(problem))
    return _settle(work, owner, State.SENT, error=answer)


def _begin(work: Work, owner: str, transport: str, identity: str) -> str | None:
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
    verdict = gate.verdict(_with_times(fresh, row), policy, now)
    if verdict.outcome == gate.SEND:
        # The place was taken a moment ago and given back, or a statement is being written: look again in a minute.
        return _back(work, owner, now + timedelta(minutes=1))
    return _put_aside(work, owner, verdict)


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
                          AND (s.reason <> 'unsubscribed' OR (s.created_at >= {_moment()} AND %s)))
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
                          AND (n.occurred_at, n.id) > ({_moment()}, %s))
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
                       {_moment()} AS occurred_at, ({recent} AND occurred_at > {_moment()}) AS in_week
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


def _put_aside(work: Work, owner: str, verdict: gate.Verdict) -> str:
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
    return _settle(work, owner, State.SKIPPED, reason=verdict.reason, verdict=verdict)


def _try_again(work: Work, owner: str, error: str) -> str:
    if work.tries >= len(BACK_OFF_MINUTES):
        return _settle(work, owner, State.FAILED, reason=Reason.GAVE_UP, error=error)
    wait = timedelta(minutes=BACK_OFF_MINUTES[work.tries])
    return _settle(work, owner, State.RETRY, reason=Reason.LATER, error=error, due_at=clock.now() + wait)


def _settle(
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


# --- Looking ahead ----------------------------------------------------------------------------------------------------


def preview(*, campaign: Campaign, customer: Customer) -> rendering.Made:
    """The message as this customer would get it now, made by the code that sends. Nothing is written; the way out in it
    leads nowhere. Raises ``BrokenTemplate``."""
    now = clock.now()
    texts = texts_of(campaign)
    chosen = variant_for(texts, customer.speaks())
    if chosen is None:
        raise BrokenTemplate("The template has no text yet.")
    variant = TemplateVariant.objects.select_related("template").get(pk=chosen)
    values = values_of([customer.pk], now)[customer.pk]
    return prepared(variant).make({**values, "unsubscribe_url": f"{settings.SITE_URL}/p/u/preview"})

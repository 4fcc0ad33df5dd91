"""One row per recipient, frozen before the first message leaves; every row accounted for at every moment.

``plan`` freezes an audience set-based. ``send_due`` works: claim (commit) → judge and render → open the envelope →
``sending`` (commit, as late as possible) → the body leaves, outside any transaction → settle (commit). Every change of
state asks whether it is still true (id, state, owner, attempt), so a zombie changes nothing.

What may be promised: nobody gets a message twice because of us. A sender killed between ``sending`` and settling leaves
one message ``in_doubt``; it is shown, and never sent again by us.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction

from campaigns import claims, gate, letters, links, rendering, runs
from campaigns.channels import email
from campaigns.claims import Reason, State, Work
from campaigns.errors import BrokenTemplate
from campaigns.models import Campaign, Message, Rendering, Run, Suppression, TemplateVariant
from lifecycle_crm.lib import clock, leases

logger = logging.getLogger(__name__)

BATCH = 100
ENOUGH_REFUSALS = 5
"""After so many "later" in a row the server wants fewer: we stop until the next ring."""


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
    values = letters.values_of([row.customer_id for row in rows], as_of)
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
                variant=variants.get(letters.variant_for(row.run.variants, row.language)),
                language=row.language,
                context=row.context,
                candidate=claims.with_times(candidate, row),
                policy=policies[is_live],
                values=values.get(row.customer_id, {}),
                list_id=f"{_words(campaign.name)} <{campaign.purpose}.{host}>",
            )
    return [works[row.pk] for row in rows]


def _words(text: str) -> str:
    """A name as it may stand in List-Id: plain ASCII words."""
    kept = "".join(c for c in rendering.one_line(text) if c.isascii() and (c.isalnum() or c in " -"))
    return kept.strip()[:40] or "news"


def send_due(*, limit: int = 2_000, seconds: float = 50, owner: str | None = None) -> dict[str, int]:
    """Send what is due, at most ``limit`` messages or for about so many seconds; how many ended in which state.

    Any number of senders may run at once, in any number of processes.
    """
    counts: Counter[str] = Counter({name: n for name, n in claims.sweep().items() if n})
    owner = owner or leases.new_owner()
    end = time.monotonic() + seconds
    session = email.open_session()
    taken = 0
    try:
        while taken < limit and time.monotonic() < end:
            ids = claims.claim_due(limit=min(BATCH, limit - taken), owner=owner)
            if not ids:
                break
            taken += len(ids)
            if not _send_batch(ids, owner, session, counts, end):
                break
    except email.Unreachable as problem:
        counts["postponed"] += claims.release(owner, timedelta(minutes=1))
        logger.error("Mail cannot be sent, %d messages wait: %s", counts["postponed"], problem)
    finally:
        claims.release(owner)
        session.close()
    runs.finish_runs()
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
            counts[claims.put_aside(work, owner, verdict)] += 1
        for work, error in broken:
            reason = Reason.RENDER if isinstance(error, BrokenTemplate) else Reason.ADDRESS
            counts[claims.settle(work, owner, State.FAILED, reason=reason, error=str(error))] += 1
        Rendering.objects.bulk_create(
            [Rendering(message_id=work.pk, subject=m.subject, html=m.html, text=m.text) for work, m in ready],
            update_conflicts=True,
            unique_fields=["message"],
            update_fields=["subject", "html", "text"],
        )
    refusals = 0
    stop_claims_at = time.monotonic() + claims.CLAIM_SECONDS - 30
    for work, made in ready:
        if time.monotonic() > min(stop_claims_at, end + 30):
            return False  # the rest goes back in ``send_due``
        state = _send_one(work, made, owner, session)
        counts[state] += 1
        refusals = refusals + 1 if state == State.RETRY else 0
        if refusals >= ENOUGH_REFUSALS:
            counts["postponed"] += claims.release(owner, timedelta(minutes=1))
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
    return letters.prepared(work.variant).make({**work.values, **work.context, "unsubscribe_url": work.way_out})


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
        refusal = claims.begin(work, owner, session.transport, email.message_id(work.pk))
        if refusal is not None:
            session.forget()
            return refusal
        answer = session.deliver(body)
    except email.BadAddress as problem:
        return claims.settle(work, owner, State.FAILED, reason=Reason.ADDRESS, error=str(problem))
    except email.Dropped as problem:
        return claims.try_again(work, owner, str(problem))
    except email.InDoubt as problem:
        return claims.settle(work, owner, State.IN_DOUBT, reason=Reason.NO_ANSWER, error=str(problem))
    except email.Refused as problem:
        if not problem.is_permanent:
            return claims.try_again(work, owner, str(problem))
        if problem.is_hard and work.candidate.email_key:
            Suppression.add(
                email_key=work.candidate.email_key, reason=Suppression.Reason.BOUNCED, diagnostic=str(problem)
            )
        return claims.settle(work, owner, State.FAILED, reason=Reason.REFUSED, error=str(problem))
    return claims.settle(work, owner, State.SENT, error=answer)

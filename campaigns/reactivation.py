"""Win-back: who went dormant in a night is planned into the active win-back campaigns, and the gate decides the rest.

Only a move that a night made and that is not quiet counts: loaded history, replays and quiet rule changes write to
nobody. The audience guard stops a night that would write to far more people than nights do, and asks a person.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from django.db import connection, transaction

from campaigns import gate, planning, runs
from campaigns.models import Campaign, Run
from customers.models import Customer
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import epoch
from stages.models import Night, StageKey, StageTransition

GUARD_FLOOR = 50
"""Up to so many people nobody is asked: three times a median of two would stop every small shop."""
GUARD_SHARE_PERCENT = 20
GUARD_TIMES_MEDIAN = 3
GUARD_DAYS = 28
GUARD_MIN_RUNS = 7
"""Fewer nights make no median worth trusting; then only the share counts."""


def plan_night(*, night_id: int, as_of: datetime, low: int, high: int) -> dict[str, int]:
    """Plan those with ids in ``[low, high)`` who went dormant in this night. Safe to repeat; returns counts.

    ``entered``: moves that count; ``planned``: rows there now by this call; ``stale``: dropped, because the night is of
    long ago (more than 48 hours) and a late "we miss you" is worse than none; ``waiting``: planned, but the guard asks.
    """
    entered = _entered(night_id).filter(customer_id__gte=low, customer_id__lt=high).count()
    if not entered:
        return {}
    if clock.now() - as_of > gate.STALE_AFTER:
        return {"entered": entered, "stale": entered}
    night = Night.objects.get(pk=night_id)
    counts: Counter[str] = Counter(entered=entered)
    for campaign in Campaign.objects.filter(
        kind=Campaign.Kind.REACTIVATION, state=Campaign.State.ACTIVE
    ).select_related("template"):
        quiet = "NOT t.is_quiet" if connection.vendor == "postgresql" else "t.is_quiet = 0"
        select = (
            "SELECT t.customer_id FROM stages_stagetransition t WHERE t.night_id = %s AND t.to_stage = %s "
            f"AND {quiet} AND t.customer_id >= %s AND t.customer_id < %s"
        )
        with transaction.atomic():
            key = f"night:{night.business_date.isoformat()}"
            before = Run.objects.filter(campaign=campaign, key=key).values_list("audience", flat=True).first() or 0
            run = planning.plan(
                campaign=campaign,
                run_key=key,
                audience=(select, [night_id, StageKey.DORMANT.value, low, high]),
                as_of=as_of,
                start=False,
            )
            counts["planned"] += run.audience - before
            _start_or_ask(campaign, run, night_id)
            run.refresh_from_db(fields=["state"])
            if run.state == Run.State.NEEDS_CONFIRMATION:
                counts["waiting"] += run.audience - before
    return dict(counts)


def _entered(night_id: int) -> Any:
    return StageTransition.objects.filter(night_id=night_id, to_stage=StageKey.DORMANT, is_quiet=False)


def _start_or_ask(campaign: Campaign, run: Run, night_id: int) -> None:
    if run.state not in (Run.State.PLANNED, Run.State.FINISHED):
        return
    # The whole night decides, not the part at hand: every part comes to the same answer.
    reason = guard(campaign, run, _entered(night_id).count()) if not run.confirmed_by_id else {}
    if reason:
        Run.objects.filter(pk=run.pk, state__in=(Run.State.PLANNED, Run.State.FINISHED)).update(
            state=Run.State.NEEDS_CONFIRMATION, guard=reason
        )
    else:
        runs.begin(run=run)


def guard(campaign: Campaign, run: Run, people: int) -> dict[str, int | float]:
    """Empty when the night may go out by itself; else the numbers that say why a person should look first."""
    if people <= GUARD_FLOOR:
        return {}
    everybody = Customer.objects.count()
    earlier = list(
        Run.objects.filter(
            campaign=campaign,
            key__startswith="night:",
            as_of__gte=run.as_of - timedelta(days=GUARD_DAYS),
            as_of__lt=run.as_of,
        ).values_list("audience", flat=True)
    )
    usual = median(earlier) if len(earlier) >= GUARD_MIN_RUNS else None
    if people * 100 > everybody * GUARD_SHARE_PERCENT or (usual is not None and people > GUARD_TIMES_MEDIAN * usual):
        return {"people": people, "customers": everybody, **({} if usual is None else {"usual": usual})}
    return {}


def cancel_night(*, business_date: str) -> int:
    """Call off what a night planned and has not sent yet (the night was undone); how many messages that were."""
    count = 0
    for run in Run.objects.filter(key=f"night:{business_date}", campaign__kind=Campaign.Kind.REACTIVATION):
        if run.state not in (Run.State.FINISHED, Run.State.CANCELLED):
            count += runs.cancel(run=run)
    return count


def runs_waiting() -> list[Run]:
    """Runs that the guard stopped and a person has to look at."""
    return list(Run.objects.filter(state=Run.State.NEEDS_CONFIRMATION).select_related("campaign"))


def effect(campaign: Campaign) -> dict[str, int]:
    """Who came back since their message was planned: ``treated``, ``treated_back``, ``held_out``, ``held_out_back``.

    Everybody who was eligible when planned counts as treated, whether or not the message got through: comparing only
    those it reached would compare different people.
    """
    rows = batches.rows(
        f"""
        SELECT CASE WHEN m.state = 'held_out' THEN 1 ELSE 0 END AS out, count(*),
               sum(CASE WHEN f.last_order_at >= {epoch("m.created_at")} THEN 1 ELSE 0 END)
        FROM campaigns_message m JOIN campaigns_run r ON r.id = m.run_id
        LEFT JOIN customers_customerfacts f ON f.customer_id = m.customer_id
        WHERE r.campaign_id = %s AND r.state <> 'cancelled'
              AND NOT (m.state = 'skipped' AND m.reason IN {gate.NEVER_MEANT})
        GROUP BY CASE WHEN m.state = 'held_out' THEN 1 ELSE 0 END
        """,
        [campaign.pk],
    )
    answer = {"treated": 0, "treated_back": 0, "held_out": 0, "held_out_back": 0}
    for out, people, back in rows:
        group = "held_out" if out else "treated"
        answer[group], answer[f"{group}_back"] = int(people), int(back or 0)
    return answer

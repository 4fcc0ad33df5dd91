"""What happens after a fact is written. Read this file second, after the README.

A fact (an order, a refund, an answer) is a row with ``reacted_at``. ``drain`` takes two thousand at a time, oldest first,
calls the set-based verbs listed in ``AFTER`` and marks the rows in the same transaction. It is at-least-once, so every verb
is keyed. ``settle`` then brings the customers that anything happened to up to date: facts, numbers from every floor, stage.

Celery only makes this sooner; what a lost ring left behind, the sweep or the night finds.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import models, transaction

from campaigns import tracking
from campaigns.journeys import engine as journeys
from campaigns.journeys import entering, goals, plans
from customers import facts
from customers.models import Customer, DirtyCustomer, Event, Order, Refund
from customers.sources import Source
from feedback import cases, scores
from feedback.models import Response
from lifecycle_crm import notices
from lifecycle_crm.dashboard import rollups
from lifecycle_crm.lib import clock, leases
from lifecycle_crm.lib.models import SetAside
from lifecycle_crm.lib.moments import parameter
from loyalty import causes, earning, referrals, tiers
from loyalty import standing as points_standing
from loyalty.models import CodeMail, TierChange
from stages import engine, presets

logger = logging.getLogger(__name__)

Verb = Callable[[Sequence[int]], Any]


def _reward_answers(ids: Sequence[int]) -> None:
    """Siblings meet only here: loyalty learns that somebody answered a survey, never what they said."""
    answers = Response.objects.filter(pk__in=ids).values_list("pk", "customer_id", "answered_at", "survey__key")
    earning.award_for(
        [causes.Cause(f"response:{pk}", "survey", who, at, survey, "response", pk) for pk, who, at, survey in answers]
    )


def _journeys_of_orders(ids: Sequence[int]) -> None:
    goals.note(list(Order.objects.filter(pk__in=ids).values_list("customer_id", flat=True)))
    entering.for_orders(ids)


def _journeys_of_events(ids: Sequence[int]) -> None:
    goals.note(list(Event.objects.filter(pk__in=ids).values_list("customer_id", flat=True)))
    entering.for_events(ids)


def _names_of_events() -> models.Q | None:
    names = {*earning.event_names(), *plans.event_names()}
    return models.Q(name__in=sorted(names)) if names else None


AFTER: dict[type[models.Model], tuple[str, list[Verb]]] = {
    # fact: (when it happened, what follows). In this order: a refund follows the order it gives back.
    Order: (
        "placed_at",
        [earning.award_for_orders, referrals.reward_for_orders, rollups.late_orders, _journeys_of_orders],
    ),
    Refund: ("occurred_at", [earning.reverse_for_refunds, referrals.take_back_for_refunds, rollups.late_refunds]),
    Event: ("occurred_at", [earning.award_for_events, _journeys_of_events]),
    TierChange: ("effective_at", [entering.for_tiers]),
    CodeMail: ("requested_at", [notices.mail_codes]),
    Response: ("answered_at", [cases.open_for_responses, _reward_answers, entering.for_answers]),
}

ONLY: dict[type[models.Model], Callable[[], models.Q | None]] = {
    # A visit is no news to anybody: of events only those are drained that something follows from. ``None``: of none.
    Event: _names_of_events,
    # Nobody else reacts to a tier.
    TierChange: lambda: models.Q(kind=TierChange.Kind.UP) if plans.starts_by("tier") else None,
}

NUMBERS: list[Callable[[datetime], list[Source]]] = [points_standing.numbers, scores.numbers, tracking.numbers]
"""Numbers of the higher floors on their way into the customer's facts."""

HANDED_FROM: list[str] = [
    "SELECT customer_id, answered_at AS moment FROM feedback_answer",
    "SELECT customer_id, created_at AS moment FROM feedback_casenote",
    tracking.HANDED_FROM,
]
"""The rows whose moments those numbers follow: who was touched on a past date. Points are known as of now only."""

BATCH = 2000
TRIES = 3


def drain(*, as_of: datetime) -> Counter[str]:
    """React to every fact from before ``as_of`` that nobody reacted to yet; how many of each kind."""
    done: Counter[str] = Counter()
    with plans.read_once():
        for model, (moment, verbs) in AFTER.items():
            while count := _drain_batch(model, moment, verbs, as_of):
                done[model._meta.model_name or ""] += count
    return done


def _drain_batch(model: type[models.Model], moment: str, verbs: list[Verb], as_of: datetime) -> int:
    kind = model._meta.label_lower
    wanted = ONLY[model]() if model in ONLY else models.Q()
    if wanted is None:
        return 0
    given_up = SetAside.objects.filter(kind=kind, attempts__gte=TRIES).values("object_id")
    waiting = (
        model._default_manager.filter(wanted, **{"reacted_at": None, f"{moment}__lt": as_of})
        .exclude(pk__in=given_up)
        .order_by(moment, "pk")
    )
    ids = list(waiting.values_list("pk", flat=True)[:BATCH])
    if not ids:
        return 0
    try:
        _react(model, verbs, ids)
    except Exception as problem:
        if len(ids) == 1:
            _set_aside(model, ids[0], problem)
        else:
            # One of them is poison: find it by taking them one at a time, so that the others go on.
            for pk in ids:
                try:
                    _react(model, verbs, [pk])
                except Exception as poison:
                    _set_aside(model, pk, poison)
    return len(ids)


def _react(model: type[models.Model], verbs: list[Verb], ids: list[int]) -> None:
    with transaction.atomic():
        for verb in verbs:
            verb(ids)
        model._default_manager.filter(pk__in=ids, reacted_at=None).update(reacted_at=clock.now())


def _set_aside(model: type[models.Model], pk: int, problem: Exception) -> None:
    kind = model._meta.label_lower
    logger.error("Reacting to %s #%s failed", kind, pk, exc_info=problem)
    row, _created = SetAside.objects.get_or_create(kind=kind, object_id=pk)
    SetAside.objects.filter(pk=row.pk).update(
        attempts=models.F("attempts") + 1, error=f"{type(problem).__name__}: {problem}"[:500], updated_at=clock.now()
    )


def hand_down(*, as_of: datetime, is_due: bool = True) -> None:
    """Bring the batch's facts up to ``as_of``: their own rows, and what each higher floor knows of them.

    ``is_due=False`` where the caller reviews the whole batch in the same breath (``facts.refresh``).
    """
    tiers.evaluate(as_of=as_of)
    facts.refresh(as_of=as_of, is_due=is_due, also=[source for numbers in NUMBERS for source in numbers(as_of)])


def settle(*, limit: int = BATCH) -> int:
    """Refresh and place up to ``limit`` customers that something happened to; how many.

    Who makes it fail three times is left to the night for a day, so that the others do not wait behind them.
    """
    now = clock.whole_now()
    kind = Customer._meta.label_lower
    given_up = SetAside.objects.filter(kind=kind, attempts__gte=TRIES, updated_at__gt=now - timedelta(days=1))
    marked = (
        DirtyCustomer.objects.filter(occurred_at__lt=now)
        .exclude(customer_id__in=given_up.values("object_id"))
        .order_by("occurred_at", "id")
    )
    customers = sorted(set(marked.values_list("customer_id", flat=True)[:limit]))
    if not customers:
        return 0
    try:
        _settle(customers, now)
    except Exception as problem:
        if len(customers) == 1:
            _set_aside(Customer, customers[0], problem)
        else:
            for pk in customers:
                try:
                    _settle([pk], now)
                except Exception as poison:
                    _set_aside(Customer, pk, poison)
    return len(customers)


def _settle(customers: Sequence[int], now: datetime) -> None:
    with transaction.atomic():
        moved = 0
        with facts.batch():
            if facts.take_dirty_of(customers, as_of=now):
                hand_down(as_of=now, is_due=False)
                facts.score(as_of=now)
                # Tonight looks at them once more, for the groups and segments of the day.
                tonight = clock.day_end(clock.today())
                outcome = engine.evaluate(rule_set=presets.install(), as_of=now, is_full=True, look_again_at=tonight)
                moved = outcome.moved
        if moved:
            ids = ", ".join(map(str, customers))
            of_now = f"t.customer_id IN ({ids}) AND t.occurred_at = %s"
            earning.award_for_stages(of_now, [parameter(now)])
            entering.for_moves(of_now, [parameter(now)])
        journeys.wake(customers)
        # Whoever failed before and does not any more is named no longer.
        SetAside.objects.filter(kind=Customer._meta.label_lower, object_id__in=customers).delete()


def run(*, seconds: float = 60) -> Counter[str]:
    """React and settle until nothing waits or the time is up. One process at a time."""
    done: Counter[str] = Counter()
    deadline = time.monotonic() + seconds
    with leases.only_one("reactions", 120) as owner:
        if owner is None:
            return done
        while time.monotonic() < deadline:
            reacted = drain(as_of=clock.whole_now())
            settled = settle()
            done += reacted
            done["customers"] += settled
            if not settled and not reacted:
                break
            if leases.take("reactions", owner, 120) is None:
                break  # somebody else has it: we were away for longer than it holds
    return +done

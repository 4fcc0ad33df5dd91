"""What became of everybody who entered: reads that the page and the endpoint share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Coalesce

from campaigns import uplift
from campaigns.journeys import reading
from campaigns.models import (
    Channel,
    Journey,
    JourneyRun,
    JourneyStep,
    Message,
    SendingRules,
    StaffTask,
    WebhookDelivery,
)
from campaigns.uplift import Group, Uplift
from customers.facts import bool_literal
from lifecycle_crm.lib import batches
from lifecycle_crm.lib.moments import DAY, epoch, from_seconds
from loyalty.models import Programme


def journeys() -> QuerySet[Journey]:
    """Every journey with how many are inside, entered, are held out, and reached the goal."""
    held = Q(runs__state=JourneyRun.State.HELD_OUT)
    counted = ~Q(runs__state=JourneyRun.State.CANCELLED)
    return Journey.objects.annotate(
        inside=Count("runs", filter=Q(runs__state=JourneyRun.State.RUNNING)),
        entered=Count("runs", filter=counted & ~held),
        held_out=Count("runs", filter=held),
        reached=Count("runs", filter=counted & ~held & Q(runs__goal_at__isnull=False)),
        held_out_reached=Count("runs", filter=held & Q(runs__goal_at__isnull=False)),
    ).order_by("-id")


def of(journey: Journey) -> dict[str, Any]:
    """``entered``, ``held_out``, those of each who reached the goal (``reached``, ``held_out_reached``), and ``states``."""
    rows = JourneyRun.objects.filter(journey=journey).order_by().values_list("state")
    states: dict[str, tuple[int, int]] = {
        state: (n, reached)
        for state, n, reached in rows.annotate(n=Count("pk"), reached=Count("goal_at")).values_list(
            "state", "n", "reached"
        )
    }
    out = states.get(JourneyRun.State.HELD_OUT, (0, 0))
    # Who was taken out by hand or by an undone night was not to have it; the rest were, whether or not it reached them.
    treated = [
        counts
        for state, counts in states.items()
        if state not in (JourneyRun.State.HELD_OUT, JourneyRun.State.CANCELLED)
    ]
    return {
        "entered": sum(n for n, _reached in treated),
        "reached": sum(reached for _n, reached in treated),
        "held_out": out[0],
        "held_out_reached": out[1],
        "states": {state: n for state, (n, _reached) in states.items()},
    }


@dataclass(frozen=True, slots=True)
class Caused:
    """What a journey caused, ``uplift``, and what it cost, in minor units of the shop's currency.

    ``since`` and ``until`` are the first and the last entry that was counted; ``None`` before anybody entered.
    """

    uplift: Uplift
    messages: int
    messages_minor: int
    points: int
    points_minor: int
    since: datetime | None
    until: datetime | None

    @property
    def cost_minor(self) -> int:
        return self.messages_minor + self.points_minor


def caused(journey: Journey) -> Caused:
    """Everybody whom something let in, by their first entry, against those of them who were held out.

    A person counts in the group of their first entry, whatever became of them on the way: who was taken out, left early or
    never got a message would have had to be taken from both groups, and in the other nobody knows who that is. Reached is
    the goal, and spent are counted orders net of refunds, within the days of the goal from that entry. Only entries of a
    night that was undone count for neither.
    """
    kind, name = reading.goal_of(journey.goal)
    placed, happened = epoch("o.placed_at"), epoch("h.occurred_at")
    until = f"r.entered_at + {journey.goal_days * DAY}"
    reached = {
        "order": "count(o.id) > 0",
        "event": "EXISTS (SELECT 1 FROM customers_event h WHERE h.customer_id = r.customer_id AND h.name = %s "
        f"AND {happened} >= r.entered_at AND {happened} < {until})",
        "": "1 = 0",
    }[kind]
    rows = batches.rows(
        f"""
        SELECT is_out, count(*), sum(reached), sum(spent), sum(spent * 1.0 * spent), min(entered_at), max(entered_at)
        FROM (
            SELECT CASE WHEN r.state = 'held_out' THEN 1 ELSE 0 END AS is_out,
                   CASE WHEN {reached} THEN 1 ELSE 0 END AS reached, coalesce(sum(o.base_minor), 0) AS spent, r.entered_at
            FROM campaigns_journeyrun r JOIN (
                SELECT min(id) AS id FROM campaigns_journeyrun WHERE journey_id = %s AND reason <> 'undone'
                GROUP BY customer_id
            ) f ON f.id = r.id
            LEFT JOIN customers_order o ON o.customer_id = r.customer_id AND o.is_counted = {bool_literal(True)}
                 AND {placed} >= r.entered_at AND {placed} < {until}
            GROUP BY r.id, r.customer_id, r.state, r.entered_at
        ) p GROUP BY is_out
        """,
        [*([name] if kind == "event" else []), journey.pk],
    )
    groups = {
        is_out: Group(int(n), int(reached), int(spent), float(squares))
        for is_out, n, reached, spent, squares, *_t in rows
    }
    entered = [moment for *_numbers, first, last in rows for moment in (first, last)]
    sent = Message.objects.filter(run__campaign__journey=journey, state=Message.State.SENT)
    by_mail = Count("id", filter=Q(channel=Channel.EMAIL))
    told = sent.aggregate(messages=Count("id"), by_mail=by_mail, parts=Coalesce(Sum("parts"), 0))
    points = _points(journey)
    programme = Programme.current()
    return Caused(
        uplift.compare(groups.get(0, Group()), groups.get(1, Group())),
        told["messages"],
        SendingRules.current().cost_of(told["by_mail"], parts=told["parts"]),
        points,
        points * programme.value_minor_per_100 // 100 if programme else 0,
        from_seconds(min(entered)) if entered else None,
        from_seconds(max(entered)) if entered else None,
    )


def sentence(journey: Journey, found: Caused) -> str:
    """What it caused and cost, in one sentence; empty for a journey without a goal."""
    if not journey.goal:
        return ""
    return uplift.sentence(journey.name, found.uplift, currency=settings.SHOP_CURRENCY, cost_minor=found.cost_minor)


def _points(journey: Journey) -> int:
    """Points that its steps gave."""
    rows = JourneyStep.objects.filter(run__journey=journey, outcome=JourneyStep.Outcome.POINTS).order_by()
    return sum(
        int(each) * n for each, n in rows.annotate(each=KT("data__points")).values_list("each").annotate(n=Count("pk"))
    )


def steps_taken(journey: Journey) -> dict[str, int]:
    """How many entries passed each step."""
    rows = JourneyStep.objects.filter(run__journey=journey).exclude(step="").order_by().values_list("step")
    return dict(rows.exclude(outcome=JourneyStep.Outcome.LEFT).annotate(n=Count("run", distinct=True)))


def messages_by_step(journey: Journey) -> dict[str, dict[str, int]]:
    """Messages per state per message step."""
    answer: dict[str, dict[str, int]] = {}
    rows = Message.objects.filter(run__campaign__journey=journey).order_by()
    for step, state, n in rows.values_list("run__campaign__step", "state").annotate(n=Count("pk")):
        of_step = answer.setdefault(step, {})
        of_step[state] = of_step.get(state, 0) + n
    return answer


def tasks_by_step(journey: Journey) -> dict[str, dict[str, int]]:
    """Tasks per state per step that gives one."""
    answer: dict[str, dict[str, int]] = {}
    rows = StaffTask.objects.filter(run__journey=journey).order_by()
    for step, state, n in rows.values_list("step", "state").annotate(n=Count("pk")):
        answer.setdefault(step, {})[state] = n
    return answer


def webhooks_by_step(journey: Journey) -> dict[str, dict[str, int]]:
    """Deliveries to other systems per state per step that makes one."""
    answer: dict[str, dict[str, int]] = {}
    rows = WebhookDelivery.objects.filter(run__journey=journey).order_by()
    for step, state, n in rows.values_list("step", "state").annotate(n=Count("pk")):
        answer.setdefault(step, {})[state] = n
    return answer


def people(journey: Journey, *, state: str = "", step: str = "") -> QuerySet[JourneyRun]:
    """Who is or was inside, newest first, with what a row of a list shows."""
    found = JourneyRun.objects.filter(journey=journey).select_related("customer", "journey").order_by("-id")
    if state in JourneyRun.State.values:
        found = found.filter(state=state)
    return found.filter(step=step, state=JourneyRun.State.RUNNING) if step else found

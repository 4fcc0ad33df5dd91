"""Who reached the goal, and when: read from orders and events, for those inside, through and held out alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from campaigns.journeys import reading
from campaigns.models import Journey
from customers.facts import bool_literal
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import DAY, epoch, seconds


def note(customers: Sequence[int]) -> int:
    """Write down the goals these people reached; how many. Who is inside is looked at again at once."""
    ids = ", ".join(str(int(pk)) for pk in customers)
    return sum(_note(one, f"r.customer_id IN ({ids})", []) for one in _with_goal()) if ids else 0


def note_range(low: int, high: int) -> int:
    """The same for everybody with ids in ``[low, high)`` who may still reach one: what a lost ring left behind."""
    return sum(_note(one, "r.customer_id >= %s AND r.customer_id < %s", [low, high]) for one in _with_goal())


def _with_goal() -> list[Journey]:
    return list(Journey.objects.exclude(goal={}).exclude(state=Journey.State.DRAFT))


def _note(journey: Journey, who: str, params: list[Any]) -> int:
    kind, name = reading.goal_of(journey.goal)
    table, moment, only = {
        "order": ("customers_order", "placed_at", f"h.is_counted = {bool_literal(True)}"),
        "event": ("customers_event", "occurred_at", "h.name = %s"),
    }[kind]
    at = epoch(f"h.{moment}")
    now = seconds(clock.whole_now())
    # Who entered longer ago than the window cannot reach it any more; a day of slack for rows that came late.
    oldest = now - (journey.goal_days + 1) * DAY
    return batches.execute(
        f"""
        UPDATE campaigns_journeyrun SET goal_at = g.at,
               due_at = CASE WHEN state = 'running' THEN {now} ELSE due_at END
        FROM (
            SELECT r.id, min({at}) AS at FROM campaigns_journeyrun r
            JOIN {table} h ON h.customer_id = r.customer_id AND {only} AND {at} >= r.entered_at
                 AND {at} < r.entered_at + {journey.goal_days * DAY}
            WHERE r.journey_id = {journey.pk} AND {who} AND r.goal_at IS NULL AND r.entered_at > {oldest}
                  AND r.state <> 'cancelled'
            GROUP BY r.id
        ) AS g WHERE campaigns_journeyrun.id = g.id
        """,
        [*([name] if kind == "event" else []), *params],
    )

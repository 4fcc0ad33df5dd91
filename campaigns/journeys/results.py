"""What became of everybody who entered: reads that the page and the endpoint share."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q, QuerySet

from campaigns.models import Journey, JourneyRun, JourneyStep, Message


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


def people(journey: Journey, *, state: str = "", step: str = "") -> QuerySet[JourneyRun]:
    """Who is or was inside, newest first, with what a row of a list shows."""
    found = JourneyRun.objects.filter(journey=journey).select_related("customer", "journey").order_by("-id")
    if state in JourneyRun.State.values:
        found = found.filter(state=state)
    return found.filter(step=step, state=JourneyRun.State.RUNNING) if step else found

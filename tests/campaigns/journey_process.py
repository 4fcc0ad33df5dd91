"""A mover of journeys as a process of its own, to be killed: ``python -m tests.campaigns.journey_process safe|unsafe|hooks``.

``unsafe`` is the negative control: it hands the message to the outbox and only then, in a commit of its own, moves the
person on, as many systems do; a kill between the two sends twice.
"""

from __future__ import annotations

import sys
import time
import uuid

import django


def safe() -> None:
    from campaigns.journeys import engine

    engine.BATCH = 20
    while True:
        if not engine.advance_due(limit=20, seconds=60):
            time.sleep(0.05)


def unsafe() -> None:
    from campaigns import planning
    from campaigns.journeys import engine, plans
    from campaigns.models import JourneyRun
    from lifecycle_crm.lib import clock

    while True:
        rows = list(JourneyRun.objects.filter(state="running", step="").order_by("pk")[:20])
        if not rows:
            time.sleep(0.05)
            continue
        one = next(plans.live())
        campaign = engine.campaign_of(one.journey, one.plan.at["s1"])
        for row in rows:
            planning.plan(
                campaign=campaign, run_key=f"try:{uuid.uuid4()}", audience=[row.customer_id], as_of=clock.now()
            )
        JourneyRun.objects.filter(pk__in=[row.pk for row in rows]).update(step="s2", since=clock.now())


def hooks() -> None:
    """A sender of webhooks."""
    from campaigns import hooks

    while True:
        if not hooks.send_due(seconds=60):
            time.sleep(0.05)


if __name__ == "__main__":
    django.setup()
    {"safe": safe, "unsafe": unsafe, "hooks": hooks}[sys.argv[1]]()

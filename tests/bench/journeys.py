"""Moving people who are due in a journey, as a ratio to writing the same rows in batches of the same size, a commit each.

Everybody is asked one condition, and half of them get a message into the outbox. Nobody due, with as many waiting, is
measured beside it: that is what the half-minute tick costs.
"""

from __future__ import annotations

import time
from typing import Any

from django.db import connection, transaction

from campaigns.journeys import engine, publishing
from campaigns.models import JourneyRun, Message, Template, TemplateVariant
from customers.models import Consent, CustomerFacts
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import seconds
from tests.bench import points

HOUR = 3600


def _grow(count: int) -> None:
    """So many people inside, an hour after they began to wait an hour; every other one has points."""
    who = points.people(count)
    now = clock.now()
    CustomerFacts.objects.bulk_create(
        (CustomerFacts(customer_id=pk, stage="retain", points=pk % 2 * 100) for pk in who), batch_size=2000
    )
    Consent.objects.bulk_create(
        (
            Consent(
                customer_id=pk, purpose="marketing", channel="email", is_granted=True, source="bench", occurred_at=now
            )
            for pk in who
        ),
        batch_size=2000,
    )
    template = Template.objects.create(key="bench-journey", name="Bench")
    TemplateVariant.objects.create(
        template=template, language="en", subject="Hello", blocks=[{"type": "text", "text": "Hello."}]
    )
    rich = {"fact": "points", "op": "gte", "value": 100}
    journey = publishing.create(
        name="Bench",
        tree={
            "trigger": {"on": "event", "event": "signup"},
            "steps": [
                {"id": "s1", "do": "wait", "hours": 1},
                {
                    "id": "s2",
                    "do": "split",
                    "branches": [{"when": rich, "steps": [{"id": "s3", "do": "message", "template": template.key}]}],
                },
                {"id": "s4", "do": "wait", "days": 30},
            ],
        },
    )
    version = publishing.publish(journey=journey)
    then = clock.whole_now()
    JourneyRun.objects.bulk_create(
        (
            JourneyRun(
                journey=journey, version=version, customer_id=pk, key="bench", number=1, step="s1", since=then,
                entered_at=then, due_at=then,
            )
            for pk in who
        ),
        batch_size=2000,
    )  # fmt: skip
    JourneyRun.objects.update(since=seconds(then) - HOUR)
    if connection.vendor == "postgresql":
        batches.execute("VACUUM ANALYZE")


def _floor() -> float:
    """Seconds to write the same rows, a batch and a commit at a time, each found by the index of the due."""
    ids = list(JourneyRun.objects.order_by("due_at", "id").values_list("pk", flat=True))
    began = time.perf_counter()
    for part in batches.of(ids, engine.BATCH):
        with transaction.atomic():
            batches.execute(
                "UPDATE campaigns_journeyrun SET due_at = due_at - 1, step = step "
                f"WHERE id IN ({', '.join(map(str, part))})"
            )
    return time.perf_counter() - began


def rows(count: int) -> list[dict[str, Any]]:
    """Two rows of the table."""
    _grow(count)
    floor = _floor()
    began = time.perf_counter()
    moved = engine.advance_due(limit=count, seconds=3600)
    took = time.perf_counter() - began
    assert (moved["running"], moved["messages"], Message.objects.count()) == (count, count // 2, count // 2)
    ticks = []
    for _time in range(5):
        began = time.perf_counter()
        assert engine.advance_due() == {}
        ticks.append(time.perf_counter() - began)
    return [
        {
            "what": f"moving {count:,} due people, ratio to writing their rows",
            "median_s": took,
            "min_s": took,
            "max_s": took,
            "ratio": took / floor,
            "note": f"{count / took:,.0f} people/s; writing the rows {floor:.1f} s",
        },
        {
            "what": f"a tick with nobody due and {count:,} waiting, ratio to writing their rows",
            "median_s": sorted(ticks)[2],
            "min_s": min(ticks),
            "max_s": max(ticks),
            "ratio": sorted(ticks)[2] / floor,
            "note": f"{sorted(ticks)[2] * 1000:.1f} ms",
        },
    ]

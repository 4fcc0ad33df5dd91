"""Programmes beside the shop's own in the sample shop: a coffee club, an airline's, a paid membership, a card. All invented.

They are the presets, installed as anybody would, with some of the people in them, so that each has members, tiers and
something to show. Flights are invented events; the nights do the rest.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

from customers import facts
from customers.models import Customer, Event
from lifecycle_crm.lib import batches
from loyalty import ledger, presets
from loyalty import programme as programmes
from loyalty.models import Membership, Programme

SHARES = {"coffee": 0.20, "airline": 0.10, "plus": 0.08, "card": 0.25}
"""Of all people, so many are in each."""
MOST = 2000
"""At any size of the shop: they are there to be seen, not to be counted."""
SOURCE = "invented"


def install(*, seed: int, opens: datetime, ends: datetime) -> int:
    """Install the presets, let some people join, and let the frequent flyers fly; how many joined. Once."""
    if presets.get("coffee").is_installed:
        return 0
    rng = Random(seed + 7)
    # By address, so that the same seed makes the same members whatever our ids are.
    people = list(Customer.objects.order_by("email", "name").only("pk", "known_since", "loaded_at")[: 4 * MOST])
    joined = 0
    for preset in presets.PRESETS:
        made = presets.install(preset=preset, since_ever=True)
        some = [one for one in people if rng.random() < SHARES[preset.key]][:MOST]
        joined += _join(made, some, opens, ends, rng)
        if preset.key == "airline":
            _fly(some, opens, ends, rng)
    return joined


def _join(made: Programme, some: list[Customer], opens: datetime, ends: datetime, rng: Random) -> int:
    rows: list[Membership] = []
    for one in some:
        first = max(one.known_since, opens)
        if made.term_months is not None:
            first = max(first, ends - timedelta(days=330))
        joined = min(first + timedelta(minutes=rng.randint(1, 60 * 24 * 20)), ends - timedelta(hours=1))
        rows.append(
            Membership(
                programme=made,
                customer=one,
                number=programmes.new_number(),
                joined_at=joined,
                ends_at=ledger.expiry(joined, made.term_months),
                paid_minor=made.fee_minor,
                key="sample",
            )
        )
    Membership.objects.bulk_create(rows, batch_size=500)
    return len(rows)


def _fly(some: list[Customer], opens: datetime, ends: datetime, rng: Random) -> None:
    """A few fly every week, most a few times a year."""
    rows: list[Event] = []
    for place, one in enumerate(some):
        first = max(one.known_since, opens) + timedelta(days=21)
        days = max(1, (ends - first).days)
        for flight in range(min(60, int(rng.paretovariate(0.9)))):
            at = first + timedelta(minutes=rng.randint(1, days * 24 * 60))
            if at < ends:
                rows.append(
                    Event(
                        customer=one, name="flight", occurred_at=at, source=SOURCE, source_id=f"flight-{place}-{flight}",
                        properties={"km": int(min(9_500, 280 + rng.expovariate(1 / 1_100)))}, is_history=True,
                    )
                )  # fmt: skip
    for part in batches.of(rows, 500):
        Event.objects.bulk_create(part)
    facts.mark_each((row.customer_id, row.occurred_at, True) for row in rows)

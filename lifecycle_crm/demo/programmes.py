"""Programmes beside the shop's own in the sample shop: a coffee club, an airline's, a paid membership, a card. All invented.

They are the presets, installed as anybody would, with some of the people in them, so that each has members, tiers and
something to show. Flights are invented events; the nights do the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random

from django.db.models import Count

from customers import facts
from customers.models import Customer, Event
from lifecycle_crm.lib import batches
from loyalty import ledger, presets
from loyalty import programme as programmes
from loyalty.models import Membership, Programme

SHARES = {"coffee": 0.26, "airline": 0.10, "plus": 0.08, "card": 0.25}
"""About so many of all people are in each."""
MOST = 2000
"""At any size of the shop: they are there to be seen, not to be counted."""
SOURCE = "invented"


def install(*, seed: int, opens: datetime, ends: datetime) -> int:
    """Install the presets, let some people join, and let the frequent flyers fly; how many joined. Once."""
    if presets.get("coffee").is_installed:
        return 0
    rng = Random(seed + 7)
    # By address, so that the same seed makes the same members whatever our ids are.
    everybody = Customer.objects.annotate(bought=Count("orders")).order_by("email", "name")
    people = list(everybody.only("pk", "known_since", "loaded_at")[: 4 * MOST])
    joined = 0
    for preset in presets.PRESETS:
        made = presets.install(preset=preset, since_ever=True)
        some = [one for one in people if rng.random() < _share(preset.key, one.bought)][:MOST]
        joined += _join(made, some, opens, ends, rng)
        if preset.key == "airline":
            _fly(some, opens, ends, rng)
    return joined


def _share(key: str, bought: int) -> float:
    """Who buys more often is likelier to join, but for the flyers, who are not ours."""
    if key == "airline":
        return SHARES[key]
    return SHARES[key] * (0.4 if bought == 0 else 0.8 if bought == 1 else 1.4 if bought < 4 else 2.0)


def _join(made: Programme, some: Sequence[Customer], opens: datetime, ends: datetime, rng: Random) -> int:
    """Half of a free programme's members join early, half when it is advertised in the last year, so that they can be
    compared with those who did not. A paid one runs out for some, and is renewed by most."""
    rows: list[Membership] = []
    for one in some:
        early = max(one.known_since, opens) + timedelta(minutes=rng.randint(1, 60 * 24 * 20))
        late = ends - timedelta(minutes=rng.randint(60 * 24 * 140, 60 * 24 * 300))
        is_early = made.key == "airline" or rng.random() < 0.5
        joined = min(early if is_early else max(early, late), ends - timedelta(hours=1))
        stay = Membership(
            programme=made, customer=one, number=programmes.new_number(), joined_at=joined,
            ends_at=ledger.expiry(joined, made.term_months), paid_minor=made.fee_minor, key="sample",
        )  # fmt: skip
        if stay.ends_at is not None and stay.ends_at < ends and rng.random() < 0.75:
            stay.ends_at = ledger.expiry(joined, 2 * (made.term_months or 0))
            stay.renewals, stay.paid_minor = 1, 2 * made.fee_minor
        rows.append(stay)
    Membership.objects.bulk_create(rows, batch_size=500)
    return len(rows)


def _fly(some: Sequence[Customer], opens: datetime, ends: datetime, rng: Random) -> None:
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

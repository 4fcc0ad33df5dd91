"""Loyalty's numbers on their way down into the customer's facts."""

from __future__ import annotations

from datetime import datetime

from customers.sources import WHOSE, Source
from loyalty import tiers
from loyalty.models import Programme


def numbers(as_of: datetime) -> list[Source]:
    """Spendable points and tier, as they are now: the night has brought both to ``as_of`` before it asks.

    Points are the balance in the main programme (points of two programmes are never added up). The tier is the key of the
    one held in the first programme that has tiers.
    """
    points, tier = Programme.current(), tiers.main()
    return [
        Source(
            {"points": "coalesce({balance}, 0)"},
            {"balance": "a.balance"},
            rows=f"loyalty_account a WHERE a.programme_id = {points.pk if points else 0} AND {WHOSE}",
            key="a.customer_id",
            has_one=True,
        ),
        Source(
            {"tier": "coalesce({tier}, '')"},
            {"tier": "t.tier"},
            rows=f"loyalty_tierstanding t WHERE t.programme_id = {tier.pk if tier else 0} AND {WHOSE}",
            key="t.customer_id",
            has_one=True,
        ),
    ]

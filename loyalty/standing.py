"""Loyalty's numbers on their way down into the customer's facts."""

from __future__ import annotations

from datetime import datetime

from customers import facts
from loyalty import tiers
from loyalty.models import Programme


def hand_down(*, as_of: datetime) -> int:
    """Decide tiers, then write spendable points and tier into the facts of the batch at hand; how many rows changed.

    Points are the balance in the main programme (points of two programmes are never added up), which the night has
    brought to ``as_of`` before it calls this. The tier is the key of the one held in the first programme that has tiers.
    """
    tiers.evaluate(as_of=as_of)
    points, tier = Programme.current(), tiers.main()
    return facts.hand_down(
        {"points": "coalesce(s.balance, 0)", "tier": "coalesce(s.tier, '')"},
        f"""
        SELECT w.customer_id, a.balance, t.tier FROM (
            SELECT customer_id FROM loyalty_account WHERE programme_id = {points.pk if points else 0}
            AND customer_id IN (SELECT customer_id FROM {facts.PICKED})
            UNION SELECT customer_id FROM loyalty_tierstanding WHERE programme_id = {tier.pk if tier else 0}
            AND customer_id IN (SELECT customer_id FROM {facts.PICKED})
        ) w
        LEFT JOIN loyalty_account a ON a.customer_id = w.customer_id AND a.programme_id = {points.pk if points else 0}
        LEFT JOIN loyalty_tierstanding t ON t.customer_id = w.customer_id AND t.programme_id = {tier.pk if tier else 0}
        """,
    )

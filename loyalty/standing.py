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
    of = "WHERE customer_id = q.customer_id AND programme_id"
    # By two probes per customer: outer joins in here are scanned once per customer by SQLite.
    return facts.hand_down(
        {"points": "coalesce(s.balance, 0)", "tier": "coalesce(s.tier, '')"},
        f"""
        SELECT q.customer_id,
               (SELECT balance FROM loyalty_account {of} = {points.pk if points else 0}) AS balance,
               (SELECT tier FROM loyalty_tierstanding {of} = {tier.pk if tier else 0}) AS tier
        FROM {facts.PICKED} q
        """,
    )

"""Loyalty's numbers on their way down into the customer's facts."""

from __future__ import annotations

from datetime import datetime

from customers import facts
from loyalty.models import Programme


def hand_down(*, as_of: datetime) -> int:
    """Write spendable points and tier into the facts of the batch at hand; how many rows changed.

    The balance is the account's own, which the night has brought to ``as_of`` before it calls this. There are no tiers
    yet, so the tier is empty.
    """
    programme = Programme.current()
    return facts.hand_down(
        {"points": "coalesce(s.balance, 0)", "tier": "coalesce(s.tier, '')"},
        f"SELECT customer_id, balance, '' AS tier FROM loyalty_account "
        f"WHERE programme_id = {programme.pk if programme else 0} "
        f"AND customer_id IN (SELECT customer_id FROM {facts.PICKED})",
    )

"""The rows of loyalty: ``programme`` (the rules) and ``ledger`` (the points, which only ``loyalty.ledger`` writes)."""

from loyalty.models.ledger import Account, Entry, Lot, LotSpend, Posting
from loyalty.models.programme import Membership, Programme
from loyalty.models.reward import Redemption, RedemptionStep, Reward, RewardPrice, RewardUse

__all__ = [
    "Account",
    "Entry",
    "Lot",
    "LotSpend",
    "Membership",
    "Posting",
    "Programme",
    "Redemption",
    "RedemptionStep",
    "Reward",
    "RewardPrice",
    "RewardUse",
]

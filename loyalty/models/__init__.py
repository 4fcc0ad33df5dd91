"""The rows of loyalty: ``programme`` (the rules) and ``ledger`` (the points, which only ``loyalty.ledger`` writes)."""

from loyalty.models.approval import Allowance, Approval, GoodwillMonth, Limits
from loyalty.models.freeze import Freeze
from loyalty.models.hold import Hold
from loyalty.models.ledger import Account, Entry, Lot, LotSpend, Posting
from loyalty.models.programme import Membership, Programme
from loyalty.models.reward import Redemption, RedemptionStep, Reward, RewardPrice, RewardUse
from loyalty.models.transfer import Household, HouseholdMember, Merge, Transfer

__all__ = [
    "Account",
    "Allowance",
    "Approval",
    "Entry",
    "Freeze",
    "GoodwillMonth",
    "Hold",
    "Household",
    "HouseholdMember",
    "Limits",
    "Lot",
    "LotSpend",
    "Membership",
    "Merge",
    "Posting",
    "Programme",
    "Redemption",
    "RedemptionStep",
    "Reward",
    "RewardPrice",
    "RewardUse",
    "Transfer",
]

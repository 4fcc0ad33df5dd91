"""The rows of loyalty: ``programme`` (the rules) and ``ledger`` (the points, which only ``loyalty.ledger`` writes)."""

from loyalty.models.approval import Allowance, Approval, GoodwillMonth, Limits
from loyalty.models.card import WalletCard
from loyalty.models.codemail import CodeMail
from loyalty.models.extension import ExtendedLot, Extension
from loyalty.models.freeze import Freeze
from loyalty.models.grant import Grant, GrantPerson
from loyalty.models.hold import Hold
from loyalty.models.ledger import Account, Entry, Lot, LotSpend, Posting
from loyalty.models.merging import MergedThing
from loyalty.models.picture import RewardPicture
from loyalty.models.programme import Membership, Programme
from loyalty.models.proof import Proof
from loyalty.models.referral import Referral, ReferralCode, ReferralOffer
from loyalty.models.reward import Redemption, RedemptionStep, Reward, RewardPrice, RewardUse
from loyalty.models.rules import EarningRule, RuleUse
from loyalty.models.signoff import SignOff
from loyalty.models.tier import Ladder, Tier, TierChange, TierStanding
from loyalty.models.transfer import Household, HouseholdMember, Merge, Transfer
from loyalty.models.voucher import Voucher, VoucherSeries

__all__ = [
    "Account",
    "Allowance",
    "Approval",
    "CodeMail",
    "EarningRule",
    "Entry",
    "ExtendedLot",
    "Extension",
    "Freeze",
    "GoodwillMonth",
    "Grant",
    "GrantPerson",
    "Hold",
    "Household",
    "HouseholdMember",
    "Ladder",
    "Limits",
    "Lot",
    "LotSpend",
    "Membership",
    "Merge",
    "MergedThing",
    "Posting",
    "Programme",
    "Proof",
    "Redemption",
    "RedemptionStep",
    "Referral",
    "ReferralCode",
    "ReferralOffer",
    "Reward",
    "RewardPicture",
    "RewardPrice",
    "RewardUse",
    "RuleUse",
    "SignOff",
    "Tier",
    "TierChange",
    "TierStanding",
    "Transfer",
    "Voucher",
    "VoucherSeries",
    "WalletCard",
]

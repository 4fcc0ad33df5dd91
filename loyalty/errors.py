"""What the ledger refuses. Each sentence says what, where and how to fix."""

from __future__ import annotations

from lifecycle_crm.lib.errors import Conflict, InvalidInput, NotFound


class NoProgramme(Conflict):
    code = "no_programme"


class NotAMember(NotFound):
    code = "not_a_member"


class InsufficientPoints(Conflict):
    code = "insufficient_points"


class AccountFrozen(Conflict):
    code = "account_frozen"


class NotReversible(Conflict):
    code = "not_reversible"


class NothingToExtend(Conflict):
    """No points would live longer by it."""

    code = "nothing_to_extend"


class NobodyToGive(Conflict):
    """A set of people in which nobody can get points."""

    code = "nobody_to_give"


class GrantChanged(Conflict):
    """More people are in the set than whoever asks has agreed to."""

    code = "grant_changed"


class SignedAlready(Conflict):
    """A date has a sign-off that holds."""

    code = "signed_already"


class CannotMail(Conflict):
    """A code that is not mailed: no address, not usable, or mailed often enough."""

    code = "cannot_mail"


class KeyReused(InvalidInput):
    """The key belongs to another movement: a client sent two different requests under one ``Idempotency-Key``."""

    code = "idempotency_key_reused"


class HoldResolved(Conflict):
    """A hold ends once: it was posted, voided or ran out before."""

    code = "hold_resolved"


class AlreadyMerged(Conflict):
    code = "already_merged"


class ApprovalRequired(Conflict):
    """So many points need a second person."""

    code = "approval_required"


class AboveRole(Conflict):
    """Not for the role of whoever asks."""

    code = "above_role"
    status = 403


class AlreadyDecided(Conflict):
    code = "already_decided"


class FourEyes(Conflict):
    """Who asked may not decide."""

    code = "four_eyes"
    status = 403


class BudgetSpent(Conflict):
    code = "budget_spent"


class StillBroken(Conflict):
    """The account's entries and its balance still disagree."""

    code = "still_broken"


class LedgerBroken(RuntimeError):
    """Our own arithmetic does not close. Never a user's fault: the transaction is given up and nothing is written."""


class RewardNotAvailable(Conflict):
    """Not offered, not yet, no longer, or not to somebody in this tier."""

    code = "reward_not_available"


class SoldOut(Conflict):
    code = "sold_out"


class LimitReached(Conflict):
    code = "limit_reached"


class PriceChanged(Conflict):
    code = "price_changed"


class WrongState(Conflict):
    """Somebody moved it on meanwhile."""

    code = "wrong_state"


class UnknownVoucher(NotFound):
    code = "unknown_voucher"


class VoucherNotUsable(Conflict):
    """Used, expired, void or not issued; ``code`` says which."""

    code = "voucher_not_usable"


class DuplicateCodes(InvalidInput):
    code = "duplicate_codes"


class UnknownCode(NotFound):
    code = "unknown_referral_code"


class NoReferrals(Conflict):
    """The shop offers nothing for friends now."""

    code = "no_referrals"

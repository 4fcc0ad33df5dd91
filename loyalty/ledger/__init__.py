"""The ledger: the only package that moves points. Callers say ``from loyalty import ledger`` and ``ledger.redeem(...)``.

What keeps it true:

* every verb first locks the accounts it touches, in the order of their ids (``book.hold``). PostgreSQL locks the rows;
  SQLite has one writer at a time, because a transaction there begins IMMEDIATE;
* a limit is part of the write (``spending.reserve``) and of the table (CHECK), never only of a read before it;
* an entry has a key that names its cause, so a cause moves points once, however often it is told;
* entries, postings and uses of lots are append-only by trigger.
"""

from loyalty.ledger.adjustments import adjust, give_selected, needs_approval
from loyalty.ledger.belongings import merged_into, one_person, survivor, survivors
from loyalty.ledger.due import activate_due, expire_due, release_due
from loyalty.ledger.earnings import earn, earn_many, earn_selected, hold_for
from loyalty.ledger.extensions import extend
from loyalty.ledger.extensions import take_back as take_back_extension
from loyalty.ledger.freezing import freeze, prove, unfreeze
from loyalty.ledger.holds import authorise, post_hold, void_hold
from loyalty.ledger.households import found_household, join_household, leave_household
from loyalty.ledger.merges import follow_due, merge, unmerge
from loyalty.ledger.proof import broken_accounts
from loyalty.ledger.returns import cancel_redemption, left_to_take_back, reverse, reverse_many, undo
from loyalty.ledger.spending import redeem
from loyalty.ledger.terms import MOST_POINTS, Earning, TakeBack, add_months, checked_key, checked_reason, expiry
from loyalty.ledger.transfers import transfer

__all__ = [
    "MOST_POINTS",
    "Earning",
    "TakeBack",
    "activate_due",
    "add_months",
    "adjust",
    "authorise",
    "broken_accounts",
    "cancel_redemption",
    "checked_key",
    "checked_reason",
    "earn",
    "earn_many",
    "earn_selected",
    "expire_due",
    "expiry",
    "extend",
    "follow_due",
    "found_household",
    "freeze",
    "give_selected",
    "hold_for",
    "join_household",
    "leave_household",
    "left_to_take_back",
    "merge",
    "merged_into",
    "needs_approval",
    "one_person",
    "post_hold",
    "prove",
    "redeem",
    "release_due",
    "reverse",
    "reverse_many",
    "survivor",
    "survivors",
    "take_back_extension",
    "transfer",
    "undo",
    "unfreeze",
    "unmerge",
    "void_hold",
]

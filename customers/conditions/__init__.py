"""One small language behind segments, stage rules, journey branches and earning rules.

A condition is a JSON tree::

    {"all": [c, …]}   {"any": [c, …]}   {"not": c}
    {"fact": "orders", "op": "gte", "value": 2}            eq ne gt gte lt lte in is_set is_not_set
    {"fact": "last_order_at", "op": "days_since_gte", "value": 90}                 or days_since_lt
    {"fact": "last_order_at", "op": "days_since_gte", "value": {"gaps": 2.5, "at_least": 60, "at_most": 240}}
    {"did": "referral", "op": "gte", "times": 1, "days": 365}                 gte or lt; days may be left out
    {"bought": {"category": "jazz"}, "op": "gte", "times": 2, "days": 90}     or {"sku": …}

In a segment three more words are known; stage rules, whose moves keep the facts they were decided by, refuse them::

    {"fact": "country", "op": "eq", "value": "SE"}         a field of the customer: eq ne in is_set is_not_set
    {"tag": "vip"}
    {"segment": "big_spenders"}                            expanded where it is read; never inside itself

``{"gaps": 2.5, …}`` is "2.5 times this customer's usual gap between orders, at least 60 and at most 240 days"; who has no
gap yet gets ``at_most``. "Days" are elapsed 24-hour days. A comparison with a fact that is not set is false.

Four interpreters agree (property tests hold them together): ``to_sql`` for a million customers, ``holds`` for one, ``say``
for a person, and ``next_flip`` (with ``flip_sql``), the first second at which time alone could change an answer. Time
enters only as "days since" and "n times in the last d days", which is why that second is closed-form.
"""

from customers.conditions.answers import Snapshot, count_of, holds, next_flip
from customers.conditions.known import snapshots
from customers.conditions.reading import BadCondition, Found, Resolver, named_segments, parse
from customers.conditions.sql import count_sql, flip_sql, largest, smallest, to_sql
from customers.conditions.tree import (
    FOREVER,
    All,
    Any_,
    Atom,
    Compare,
    Condition,
    Days,
    InSegment,
    Listed,
    Not,
    Since,
    Tagged,
    Times,
    Trait,
)

__all__ = [
    "FOREVER",
    "All",
    "Any_",
    "Atom",
    "BadCondition",
    "Compare",
    "Condition",
    "Days",
    "Found",
    "InSegment",
    "Listed",
    "Not",
    "Resolver",
    "Since",
    "Snapshot",
    "Tagged",
    "Times",
    "Trait",
    "count_of",
    "count_sql",
    "flip_sql",
    "holds",
    "largest",
    "named_segments",
    "next_flip",
    "parse",
    "smallest",
    "snapshots",
    "to_sql",
]

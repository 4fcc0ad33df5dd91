"""The proof that no point is lost or made up: what accounts and lots say, recomputed from the entries.

It names what breaks and mends nothing. ``broken_accounts`` are those to freeze with ``ledger.freeze``.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _

from lifecycle_crm.lib import batches

NAMED = 50
"""So many are named per kind; the rest is counted."""

_SUMS = """
    SELECT account_id, sum(points) AS total,
           sum(CASE WHEN ledger = 'available' THEN points ELSE 0 END) AS balance,
           sum(CASE WHEN ledger = 'pending' THEN points ELSE 0 END) AS pending,
           sum(CASE WHEN ledger = 'held' THEN points ELSE 0 END) AS held,
           sum(CASE WHEN ledger = 'debt' THEN -points ELSE 0 END) AS debt,
           sum(CASE WHEN ledger = 'issued' THEN -points ELSE 0 END) AS earned,
           sum(CASE WHEN ledger = 'adjusted' THEN -points ELSE 0 END) AS adjusted,
           sum(CASE WHEN ledger = 'redeemed' THEN points ELSE 0 END) AS spent,
           sum(CASE WHEN ledger = 'expired' THEN points ELSE 0 END) AS expired,
           sum(CASE WHEN ledger = 'reversed' THEN points ELSE 0 END) AS reversed,
           sum(CASE WHEN ledger = 'moved' THEN -points ELSE 0 END) AS moved
    FROM loyalty_posting GROUP BY account_id
"""
_CACHED = ("balance", "pending", "held", "debt", "earned", "adjusted", "spent", "expired", "reversed", "moved")


def broken_accounts() -> list[tuple[int, int, str]]:
    """Accounts that disagree with their entries or their lots: ``(account id, customer id, what)``, once per account."""
    wrong = " OR ".join(f"a.{name} <> coalesce(s.{name}, 0)" for name in _CACHED)
    first = "CASE " + " ".join(
        f"WHEN a.{name} <> coalesce(s.{name}, 0) THEN '{name}'" for name in _CACHED
    ) + " END"  # fmt: skip
    found = {
        account: (customer, column)
        for account, customer, column in batches.rows(
            f"SELECT a.id, a.customer_id, {first} FROM loyalty_account a LEFT JOIN ({_SUMS}) s ON s.account_id = a.id "
            f"WHERE {wrong}"
        )
    }
    for account, customer in batches.rows(
        """
        SELECT a.id, a.customer_id
        FROM loyalty_account a
        LEFT JOIN (
            SELECT account_id, sum(CASE WHEN activated_at IS NULL THEN remaining ELSE 0 END) AS pending,
                   sum(CASE WHEN activated_at IS NULL THEN 0 ELSE remaining END) AS balance
            FROM loyalty_lot WHERE remaining > 0 GROUP BY account_id
        ) l ON l.account_id = a.id
        WHERE a.balance <> coalesce(l.balance, 0) OR a.pending <> coalesce(l.pending, 0)
        """
    ):
        found.setdefault(account, (customer, "lots"))
    for account, customer in batches.rows(
        """
        SELECT DISTINCT l.account_id, l.customer_id
        FROM loyalty_lot l
        LEFT JOIN (SELECT lot_id, sum(points) AS points FROM loyalty_lotspend GROUP BY lot_id) s ON s.lot_id = l.id
        WHERE l.remaining <> l.amount - coalesce(s.points, 0)
        """
    ):
        found.setdefault(account, (customer, "lots"))
    for account, customer in batches.rows(
        """
        SELECT a.id, a.customer_id
        FROM loyalty_account a
        LEFT JOIN (
            SELECT account_id, sum(points) AS points FROM loyalty_hold WHERE state = 'open' GROUP BY account_id
        ) h ON h.account_id = a.id
        WHERE a.held <> coalesce(h.points, 0)
        """
    ):
        found.setdefault(account, (customer, "holds"))
    return sorted((account, customer, what) for account, (customer, what) in found.items())


def problems() -> list[str]:
    """A sentence for each broken promise of the ledger, naming accounts and entries; empty when all is well."""
    return [*_accounts(), *_entries(), *_programmes()]


def _accounts() -> Iterator[str]:
    broken = broken_accounts()
    for account, customer, what in broken[:NAMED]:
        yield _("Points account %(account)s of customer #%(customer)s: %(what)s does not equal its entries.") % {
            "account": account, "customer": customer, "what": what
        }  # fmt: skip
    if len(broken) > NAMED:
        yield _("%(count)s more points accounts do not equal their entries.") % {"count": len(broken) - NAMED}


def _entries() -> Iterator[str]:
    crooked = batches.rows("SELECT entry_id FROM loyalty_posting GROUP BY entry_id HAVING sum(points) <> 0 ORDER BY 1")
    bare = batches.rows(
        "SELECT e.id FROM loyalty_entry e LEFT JOIN loyalty_posting p ON p.entry_id = e.id WHERE p.id IS NULL ORDER BY 1"
    )
    for rows, sentence in (
        (crooked, _("Points entries whose postings do not sum to zero: %(names)s.")),
        (bare, _("Points entries without postings: %(names)s.")),
    ):
        if rows:
            names = ", ".join(f"#{pk}" for (pk,) in rows[:NAMED])
            yield sentence % {"names": names if len(rows) <= NAMED else f"{names} …"}


def _programmes() -> Iterator[str]:
    """Per programme: issued and adjusted = spent + expired + taken back + outstanding, and what moved between customers
    left one as it reached another."""
    for programme, issued, gone, moved, left in batches.rows(
        """
        SELECT a.programme_id,
               coalesce(sum(CASE WHEN p.ledger IN ('issued', 'adjusted') THEN -p.points ELSE 0 END), 0),
               coalesce(sum(CASE WHEN p.ledger IN ('redeemed', 'expired', 'reversed') THEN p.points ELSE 0 END), 0),
               coalesce(sum(CASE WHEN p.ledger = 'moved' THEN p.points ELSE 0 END), 0),
               (SELECT sum(b.balance + b.pending + b.held - b.debt) FROM loyalty_account b WHERE b.programme_id = a.programme_id)
        FROM loyalty_account a LEFT JOIN loyalty_posting p ON p.account_id = a.id
        GROUP BY a.programme_id ORDER BY a.programme_id
        """
    ):
        if issued != gone + left:
            yield _(
                "Programme %(programme)s: %(issued)s points were issued, but %(gone)s gone and %(left)s outstanding "
                "make %(sum)s."
            ) % {"programme": programme, "issued": issued, "gone": gone, "left": left, "sum": gone + left}
        if moved:
            yield _("Programme %(programme)s: %(moved)s points left one customer and reached no other.") % {
                "programme": programme, "moved": moved
            }  # fmt: skip

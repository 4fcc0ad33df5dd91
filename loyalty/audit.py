"""The proof that no point is lost or made up: what accounts and lots say, recomputed from the entries.

It names what breaks and mends nothing. The night freezes the accounts that are named here (``ledger.prove``).
"""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _

from lifecycle_crm.lib import batches
from loyalty.ledger import broken_accounts

NAMED = 50
"""So many are named per kind; the rest is counted."""


def problems() -> list[str]:
    """A sentence for each broken promise of the ledger, naming accounts and entries; empty when all is well."""
    return [*_accounts(), *_entries(), *_programmes(), *_extensions(), *_grants()]


def _accounts() -> Iterator[str]:
    broken = broken_accounts()
    for account, customer, what in broken[:NAMED]:
        yield _("Points account %(account)s of customer #%(customer)s: %(what)s does not equal its entries.") % {
            "account": account, "customer": customer, "what": what
        }  # fmt: skip
    if len(broken) > NAMED:
        yield _("%(count)s more points accounts do not equal their entries.") % {"count": len(broken) - NAMED}


def _entries() -> Iterator[str]:
    """Each entry has postings that sum to zero, and says the points that its customer's own postings say: their sum, or
    where they only moved between the customer's accounts, the number moved (of a hold: negative)."""
    wrong = batches.rows(
        """
        SELECT e.id, p.entry_id, p.total
        FROM loyalty_entry e
        LEFT JOIN (
            SELECT entry_id, sum(points) AS total,
                   sum(CASE WHEN ledger IN ('pending', 'available', 'held', 'debt') THEN points ELSE 0 END) AS net,
                   sum(CASE WHEN ledger IN ('pending', 'available', 'held', 'debt') AND points > 0 THEN points ELSE 0 END)
                   AS up
            FROM loyalty_posting GROUP BY entry_id
        ) p ON p.entry_id = e.id
        WHERE p.entry_id IS NULL OR p.total <> 0
              OR e.points <> CASE WHEN p.net <> 0 THEN p.net WHEN e.kind = 'hold' THEN -p.up ELSE p.up END
        ORDER BY e.id
        """
    )
    bare = [pk for pk, entry, _total in wrong if entry is None]
    crooked = [pk for pk, entry, total in wrong if entry is not None and total != 0]
    changed = [pk for pk, entry, total in wrong if entry is not None and total == 0]
    for found, sentence in (
        (crooked, _("Points entries whose postings do not sum to zero: %(names)s.")),
        (bare, _("Points entries without postings: %(names)s.")),
        (changed, _("Points entries that say other points than their postings: %(names)s.")),
    ):
        if found:
            names = ", ".join(f"#{pk}" for pk in found[:NAMED])
            yield sentence % {"names": names if len(found) <= NAMED else f"{names} …"}


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


def _extensions() -> Iterator[str]:
    """A lot ends when the last decision about its end says."""
    wrong = batches.rows(
        """
        SELECT l.id FROM loyalty_lot l
        JOIN (SELECT lot_id, max(id) AS id FROM loyalty_extendedlot GROUP BY lot_id) t ON t.lot_id = l.id
        JOIN loyalty_extendedlot x ON x.id = t.id
        WHERE l.expires_at IS NULL OR l.expires_at <> x.becomes
        ORDER BY l.id
        """
    )
    if wrong:
        names = ", ".join(f"#{pk}" for (pk,) in wrong[:NAMED])
        yield _("Lots of points that end on another day than they were extended to: %(names)s.") % {
            "names": names if len(wrong) <= NAMED else f"{names} …"
        }


def _grants() -> Iterator[str]:
    """Who of a set was given points has an entry, and nobody else of it."""
    wrong = batches.rows(
        """
        SELECT p.grant_id, count(*) FROM loyalty_grantperson p JOIN loyalty_grant g ON g.id = p.grant_id
        LEFT JOIN loyalty_entry e ON e.programme_id = g.programme_id AND e.key = 'set:' || g.id || ':' || p.customer_id
        WHERE (CASE WHEN p.state IN ('given', 'taken', 'kept') THEN 1 ELSE 0 END)
              <> (CASE WHEN e.id IS NULL THEN 0 ELSE 1 END)
        GROUP BY p.grant_id ORDER BY p.grant_id
        """
    )
    for grant, people in wrong:
        yield _("Points for many #%(grant)s: of %(people)s people its list and their entries disagree.") % {
            "grant": grant, "people": people
        }  # fmt: skip

"""The proof that an account is what its entries, lots and holds add up to.

``broken_accounts`` reads everything, or a few accounts. ``prove_part`` reads those that are ``due``: a night proves every
account that says anything else than at its last proof, that has entries since, or that is frozen, and of all others those
whose proof is the oldest, so many that within ``NIGHTS`` nights each account is read from its entries.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

from lifecycle_crm.lib import batches

SUMS = """
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
    FROM loyalty_posting
"""
CACHED = ("balance", "pending", "held", "debt", "earned", "adjusted", "spent", "expired", "reversed", "moved")


NIGHTS = 28
"""Within so many nights every account is proved from its entries, even if nothing happened to it: reading the entries of
all of them is the dearest thing that a night could do."""
PART = "proof_part"
_SAYS = " || '/' || ".join(f"a.{name}" for name in CACHED)

Broken = tuple[int, int, str]


def broken_accounts(accounts: Collection[int] | None = None) -> list[Broken]:
    """Accounts that disagree with their entries, lots or holds: ``(account id, customer id, what)``, once per account.

    Of these ``accounts`` (a few), or of all.
    """
    return _broken(None if accounts is None else ", ".join(str(int(pk)) for pk in accounts) or "NULL")


def due() -> list[int]:
    """Ids of the accounts that a night has to prove."""
    [(known, through)] = batches.rows("SELECT count(*), coalesce(max(through), 0) FROM loyalty_proof")
    found = batches.rows(
        f"""
        SELECT a.id FROM loyalty_account a LEFT JOIN loyalty_proof p ON p.account_id = a.id
        WHERE p.account_id IS NULL OR a.frozen_at IS NOT NULL OR p.sums <> {_SAYS}
        UNION SELECT e.account_id FROM loyalty_entry e WHERE e.id > %s
        UNION SELECT o.account_id FROM (
            SELECT account_id FROM loyalty_proof ORDER BY proved_on, account_id LIMIT %s
        ) o
        """,
        [through, -(-known // NIGHTS)],
    )
    return sorted(pk for (pk,) in found)


def prove_part(accounts: Sequence[int], *, day: date) -> list[Broken]:
    """Prove these accounts in the night of ``day`` and remember that; those that disagree. Inside a transaction.

    What they say is written down before it is compared: who moves meanwhile says something else tomorrow.
    """
    batches.scratch(PART, "account_id bigint PRIMARY KEY, sums text NOT NULL, through bigint NOT NULL")
    ids = ", ".join(str(int(pk)) for pk in accounts) or "NULL"
    batches.execute(
        f"INSERT INTO {PART} (account_id, sums, through) "
        f"SELECT a.id, {_SAYS}, (SELECT coalesce(max(id), 0) FROM loyalty_entry) "
        f"FROM loyalty_account a WHERE a.id IN ({ids})"
    )
    batches.analyze(PART)
    found = _broken(f"SELECT account_id FROM {PART}")
    batches.execute(
        f"""
        INSERT INTO loyalty_proof (account_id, proved_on, sums, through)
        SELECT account_id, %s, sums, through FROM {PART} WHERE true
        ON CONFLICT (account_id) DO UPDATE SET
            proved_on = excluded.proved_on, sums = excluded.sums, through = excluded.through
        """,
        [day],
    )
    return found


def _broken(ids: str | None) -> list[Broken]:
    """``broken_accounts`` of the ids that a list or a SELECT names."""
    of_a = "" if ids is None else f" AND a.id IN ({ids})"
    of_postings = "" if ids is None else _of(ids)
    of_holds = "" if ids is None else f" AND account_id IN ({ids})"
    of_lots = (
        ""
        if ids is None
        else f" AND account_id IN ({ids}) AND customer_id IN (SELECT customer_id FROM loyalty_account WHERE id IN ({ids}))"
    )
    sums = f"{SUMS} {of_postings} GROUP BY account_id"
    wrong = " OR ".join(f"a.{name} <> coalesce(s.{name}, 0)" for name in CACHED)
    first = "CASE " + " ".join(
        f"WHEN a.{name} <> coalesce(s.{name}, 0) THEN '{name}'" for name in CACHED
    ) + " END"  # fmt: skip
    found = {
        account: (customer, column)
        for account, customer, column in batches.rows(
            f"SELECT a.id, a.customer_id, {first} FROM loyalty_account a LEFT JOIN ({sums}) s ON s.account_id = a.id "
            f"WHERE ({wrong}){of_a}"
        )
    }
    for account, customer in batches.rows(
        f"""
        SELECT a.id, a.customer_id
        FROM loyalty_account a
        LEFT JOIN (
            SELECT account_id, sum(CASE WHEN activated_at IS NULL THEN remaining ELSE 0 END) AS pending,
                   sum(CASE WHEN activated_at IS NULL THEN 0 ELSE remaining END) AS balance
            FROM loyalty_lot WHERE remaining > 0{of_lots} GROUP BY account_id
        ) l ON l.account_id = a.id
        WHERE (a.balance <> coalesce(l.balance, 0) OR a.pending <> coalesce(l.pending, 0)){of_a}
        """
    ):
        found.setdefault(account, (customer, "lots"))
    spends = "" if ids is None else f"WHERE lot_id IN (SELECT id FROM loyalty_lot WHERE 1 = 1{of_lots})"
    for account, customer in batches.rows(
        f"""
        SELECT DISTINCT a.account_id, a.customer_id
        FROM (SELECT id, account_id, customer_id, amount, remaining FROM loyalty_lot WHERE 1 = 1{of_lots}) a
        LEFT JOIN (SELECT lot_id, sum(points) AS points FROM loyalty_lotspend {spends} GROUP BY lot_id) s ON s.lot_id = a.id
        WHERE a.remaining <> a.amount - coalesce(s.points, 0)
        """
    ):
        found.setdefault(account, (customer, "lots"))
    for account, customer in batches.rows(
        f"""
        SELECT a.id, a.customer_id
        FROM loyalty_account a
        LEFT JOIN (
            SELECT account_id, sum(points) AS points FROM loyalty_hold WHERE state = 'open'{of_holds} GROUP BY account_id
        ) h ON h.account_id = a.id
        WHERE a.held <> coalesce(h.points, 0){of_a}
        """
    ):
        found.setdefault(account, (customer, "holds"))
    return sorted((account, customer, what) for account, (customer, what) in found.items())


def _of(ids: str) -> str:
    """The postings of a few accounts: they have no index by account, but their entries have one by customer."""
    return (
        "WHERE entry_id IN (SELECT e.id FROM loyalty_entry e JOIN loyalty_account a ON a.customer_id = e.customer_id "
        f"WHERE a.id IN ({ids}) AND e.account_id = a.id)"
    )


def rebuild(account: int) -> None:
    """Write into one account, which is held, what its entries say, and into its lots what their uses say."""
    columns = ", ".join(f"{name} = coalesce(s.{name}, 0)" for name in CACHED)
    batches.execute(
        f"""
        UPDATE loyalty_account SET {columns}
        FROM (SELECT a.id, t.* FROM loyalty_account a LEFT JOIN ({SUMS} {_of(str(int(account)))} GROUP BY account_id) t
              ON t.account_id = a.id WHERE a.id = %s) s
        WHERE loyalty_account.id = s.id
        """,
        [account],
    )
    batches.execute(
        """
        UPDATE loyalty_lot
        SET remaining = amount - coalesce((SELECT sum(s.points) FROM loyalty_lotspend s WHERE s.lot_id = loyalty_lot.id), 0)
        WHERE account_id = %s
        """,
        [account],
    )

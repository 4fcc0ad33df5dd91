"""What time alone does: points become usable, points end, debts are repaid."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from lifecycle_crm.lib import batches
from lifecycle_crm.lib.moments import parameter
from loyalty import book
from loyalty.models import Account


def activate(as_of: datetime) -> int:
    """Make the due lots of the held accounts usable."""
    book.clear()
    count = batches.execute(
        """
        INSERT INTO ledger_moves (key, kind, programme_id, account_id, customer_id, points, effective_at, pending,
                                  available, source_type, source_id, lot_id)
        SELECT 'activate:' || l.id, 'activate', a.programme_id, l.account_id, l.customer_id, l.remaining, l.active_at,
               -l.remaining, l.remaining, 'lot', CAST(l.id AS text), l.id
        FROM loyalty_lot l JOIN loyalty_account a ON a.id = l.account_id
        WHERE l.account_id IN (SELECT account_id FROM ledger_accounts)
          AND l.customer_id IN (SELECT customer_id FROM loyalty_account
                                WHERE id IN (SELECT account_id FROM ledger_accounts))
          AND l.activated_at IS NULL AND l.remaining > 0 AND l.active_at <= %s
        """,
        [parameter(as_of)],
    )
    if count:
        book.post()
        batches.execute("UPDATE loyalty_lot SET activated_at = active_at WHERE id IN (SELECT lot_id FROM ledger_moves)")
    return count


def expire(as_of: datetime) -> int:
    """End the due lots of the held accounts."""
    book.clear()
    count = batches.execute(
        """
        INSERT INTO ledger_moves (key, kind, programme_id, account_id, customer_id, points, effective_at, available,
                                  system, source_type, source_id, lot_id)
        SELECT 'expire:' || l.id || ':' || (SELECT count(*) FROM loyalty_lotspend s WHERE s.lot_id = l.id), 'expire',
               a.programme_id, l.account_id, l.customer_id, -l.remaining, l.expires_at, -l.remaining, 'expired', 'lot',
               CAST(l.id AS text), l.id
        FROM loyalty_lot l JOIN loyalty_account a ON a.id = l.account_id
        WHERE l.account_id IN (SELECT account_id FROM ledger_accounts)
          AND l.customer_id IN (SELECT customer_id FROM loyalty_account
                                WHERE id IN (SELECT account_id FROM ledger_accounts))
          AND l.activated_at IS NOT NULL AND l.remaining > 0 AND l.expires_at <= %s
        """,
        [parameter(as_of)],
    )
    if count:
        batches.execute("INSERT INTO ledger_takes (key, lot_id, points) SELECT key, lot_id, -points FROM ledger_moves")
        book.post()
    return count


def repay(as_of: datetime) -> int:
    """Where a held account has both a debt and something to spend, the debt is repaid first."""
    book.clear()
    count = batches.execute(
        """
        INSERT INTO ledger_moves (key, kind, programme_id, account_id, customer_id, points, effective_at, available, debt,
                                  burn)
        SELECT 'repay:' || d.id || ':' || (SELECT max(e.id) FROM loyalty_entry e WHERE e.customer_id = d.customer_id),
               'repay', d.programme_id, d.id, d.customer_id, d.points, %s, -d.points, d.points, d.points
        FROM (
            SELECT id, programme_id, customer_id, CASE WHEN debt < balance THEN debt ELSE balance END AS points
            FROM loyalty_account
            WHERE id IN (SELECT account_id FROM ledger_accounts) AND debt > 0 AND balance > 0
        ) d
        """,
        [parameter(as_of)],
    )
    if count:
        book.post()
    return count


def activate_due(*, as_of: datetime, low: int, high: int) -> int:
    """Make points of customers with ids in ``[low, high)`` usable whose waiting ended by ``as_of``; how many lots.

    Debts are repaid from them at once. Safe to run again and to be killed: it is one transaction that finds its work
    by the state of the lots.
    """
    with transaction.atomic():
        held = book.hold(
            "SELECT DISTINCT account_id FROM loyalty_lot WHERE activated_at IS NULL AND remaining > 0 "
            "AND active_at <= %s AND customer_id >= %s AND customer_id < %s",
            [parameter(as_of), low, high],
        )
        if not held:
            return 0
        count = activate(as_of)
        repay(as_of)
        return count


def expire_due(*, as_of: datetime, low: int, high: int) -> int:
    """End the points of customers with ids in ``[low, high)`` whose last day was over by ``as_of``; how many lots."""
    with transaction.atomic():
        held = book.hold(
            "SELECT DISTINCT account_id FROM loyalty_lot WHERE activated_at IS NOT NULL AND remaining > 0 "
            "AND expires_at <= %s AND customer_id >= %s AND customer_id < %s",
            [parameter(as_of), low, high],
        )
        return expire(as_of) if held else 0


def settle(account: Account, as_of: datetime) -> None:
    """Bring one held account up to the second: what is due becomes usable, what is over ends, debts are repaid."""
    due = parameter(as_of)
    [(waiting, ending)] = batches.rows(
        "SELECT coalesce(sum(CASE WHEN activated_at IS NULL AND active_at <= %s THEN 1 ELSE 0 END), 0), "
        "coalesce(sum(CASE WHEN expires_at <= %s THEN 1 ELSE 0 END), 0) "
        "FROM loyalty_lot WHERE customer_id = %s AND account_id = %s AND remaining > 0",
        [due, due, account.customer_id, account.pk],
    )
    if waiting:
        activate(as_of)
    if ending:
        expire(as_of)
    repay(as_of)

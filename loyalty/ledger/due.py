"""What time alone does: holds run out, points become usable, points end, debts are repaid."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db import transaction

from lifecycle_crm.lib import batches
from lifecycle_crm.lib.moments import parameter
from loyalty import book
from loyalty.errors import LedgerBroken
from loyalty.models import Account


def release(as_of: datetime) -> int:
    """Free the points of the held accounts' open holds that ran out by ``as_of``: back to the lots they came from."""
    book.clear()
    count = batches.execute(
        """
        INSERT INTO ledger_moves (key, kind, programme_id, account_id, customer_id, points, effective_at, held,
                                  available, source_type, source_id, hold_id)
        SELECT 'release:' || h.id, 'release', h.programme_id, h.account_id, h.customer_id, h.points, h.expires_at,
               -h.points, h.points, 'hold', CAST(h.id AS text), h.id
        FROM loyalty_hold h
        WHERE h.account_id IN (SELECT account_id FROM ledger_accounts) AND h.state = 'open' AND h.expires_at <= %s
        """,
        [parameter(as_of)],
    )
    if count:
        batches.execute(
            "INSERT INTO ledger_takes (key, lot_id, points) SELECT m.key, s.lot_id, -s.points FROM ledger_moves m "
            "JOIN loyalty_hold h ON h.id = m.hold_id JOIN loyalty_lotspend s ON s.entry_id = h.entry_id"
        )
        book.post()
        ended = batches.execute(
            """
            UPDATE loyalty_hold SET state = 'expired', resolved_at = expires_at,
                release_id = (SELECT m.entry_id FROM ledger_moves m WHERE m.hold_id = loyalty_hold.id)
            WHERE state = 'open' AND id IN (SELECT hold_id FROM ledger_moves)
            """
        )
        if ended != count:
            raise LedgerBroken(f"{count} holds ran out, but {ended} were open.")
    return count


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
    """End the due lots of the held accounts.

    As of the end itself, or of the moment when points came back to a lot that was over by then, so that no past day ever
    saw them expire before they returned.
    """
    book.clear()
    count = batches.execute(
        """
        INSERT INTO ledger_moves (key, kind, programme_id, account_id, customer_id, points, effective_at, available,
                                  system, source_type, source_id, lot_id)
        SELECT 'expire:' || l.id || ':' || (SELECT count(*) FROM loyalty_lotspend s WHERE s.lot_id = l.id), 'expire',
               a.programme_id, l.account_id, l.customer_id, -l.remaining,
               coalesce((SELECT max(e.effective_at) FROM loyalty_lotspend s JOIN loyalty_entry e ON e.id = s.entry_id
                         WHERE s.lot_id = l.id AND s.points < 0 AND e.effective_at > l.expires_at), l.expires_at),
               -l.remaining, 'expired', 'lot', CAST(l.id AS text), l.id
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


def release_due(*, as_of: datetime, low: int, high: int) -> int:
    """Free the points of customers with ids in ``[low, high)`` whose holds ran out by ``as_of``; how many holds."""
    with transaction.atomic():
        held = book.hold(
            "SELECT DISTINCT account_id FROM loyalty_hold WHERE state = 'open' AND expires_at <= %s "
            "AND customer_id >= %s AND customer_id < %s",
            [parameter(as_of), low, high],
        )
        if not held:
            return 0
        count = release(as_of)
        expire(as_of)
        repay(as_of)
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


def settle(accounts: Collection[Account], as_of: datetime) -> None:
    """Bring held accounts up to the second: holds that ran out are freed, what is due becomes usable, what is over ends,
    debts are repaid. Where nothing was due it only looks, and leaves the working tables alone; otherwise they are empty."""
    due = parameter(as_of)
    ids = ", ".join(str(int(one.pk)) for one in accounts)
    customers = ", ".join(str(int(one.customer_id)) for one in accounts)
    [(waiting, ending, freed, owing)] = batches.rows(
        "SELECT coalesce(sum(CASE WHEN activated_at IS NULL AND active_at <= %s THEN 1 ELSE 0 END), 0), "
        "coalesce(sum(CASE WHEN expires_at <= %s THEN 1 ELSE 0 END), 0), "
        f"(SELECT count(*) FROM loyalty_hold WHERE account_id IN ({ids}) AND state = 'open' AND expires_at <= %s), "
        f"(SELECT count(*) FROM loyalty_account WHERE id IN ({ids}) AND debt > 0) "
        f"FROM loyalty_lot WHERE customer_id IN ({customers}) AND account_id IN ({ids}) AND remaining > 0",
        [due, due, due],
    )
    if freed:
        release(as_of)
    if waiting:
        activate(as_of)
    if ending or freed:
        expire(as_of)
    if owing:
        repay(as_of)
    if waiting or ending or freed or owing:
        book.clear()

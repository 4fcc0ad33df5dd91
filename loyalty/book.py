"""How points are written: everything a verb of the ledger moves goes through here, one movement or ten thousand.

A verb locks the accounts it touches (``hold``), gathers what shall move in two tables of the transaction, ``ledger_moves``
(one row per entry to be) and ``ledger_takes`` (what it takes from which lot), and ``post`` writes all of it set-based.
Only ``loyalty.ledger`` may call this.

Signs: a posting into a customer's ledger accounts (pending, available, held, debt) is positive, the other side negative. Debt
stands as a negative sum: what the customer owes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from customers import facts
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import epoch, from_seconds, parameter
from loyalty.errors import LedgerBroken


@dataclass(slots=True)
class Move:
    """An entry to be, with its four changes of the customer's accounts; ``system`` takes the other side."""

    key: str
    kind: str
    programme_id: int
    account_id: int
    customer_id: int
    points: int
    effective_at: Any
    pending: int = 0
    available: int = 0
    held: int = 0
    debt: int = 0
    system: str = ""
    reason: str = ""
    explanation: Any = "{}"
    source_type: str = ""
    source_id: str = ""
    actor_id: int | None = None
    takes_back_id: int | None = None
    reverses_id: int | None = None
    lot_amount: int = 0
    active_at: Any = None
    expires_at: Any = None
    burn: int = 0


_COLUMNS = tuple(f.name for f in fields(Move))


def begin() -> None:
    """Empty working tables, private to this transaction."""
    postgresql = connection.vendor == "postgresql"
    moment, document = ("timestamptz", "jsonb") if postgresql else ("text", "text")
    batches.scratches(
        {
            "ledger_accounts": "account_id bigint PRIMARY KEY",
            "ledger_moves": "key text PRIMARY KEY, kind text NOT NULL, programme_id bigint NOT NULL, account_id bigint "
            f"NOT NULL, customer_id bigint NOT NULL, points bigint NOT NULL, effective_at {moment} NOT NULL, "
            "pending bigint NOT NULL DEFAULT 0, available bigint NOT NULL DEFAULT 0, held bigint NOT NULL DEFAULT 0, "
            f"debt bigint NOT NULL DEFAULT 0, system text NOT NULL DEFAULT '', "
            f"reason text NOT NULL DEFAULT '', explanation {document} NOT NULL "
            "DEFAULT '{}', source_type text NOT NULL DEFAULT '', source_id text NOT NULL DEFAULT '', actor_id bigint, "
            "takes_back_id bigint, reverses_id bigint, lot_amount bigint NOT NULL DEFAULT 0, "
            f"active_at {moment}, expires_at {moment}, burn bigint NOT NULL DEFAULT 0, lot_id bigint, hold_id bigint, "
            "entry_id bigint",
            "ledger_takes": "key text, lot_id bigint, points bigint NOT NULL, PRIMARY KEY (key, lot_id)",
        }
    )


def clear() -> None:
    batches.execute("DELETE FROM ledger_moves")
    batches.execute("DELETE FROM ledger_takes")


def hold(select: str, params: Sequence[Any] = ()) -> int:
    """Lock the accounts that ``select`` yields the ids of, in the order of their ids, and keep who they are."""
    begin()
    count = batches.execute(f"INSERT INTO ledger_accounts (account_id) {select}", params)
    if count and connection.vendor == "postgresql":
        batches.rows(
            "SELECT 1 FROM loyalty_account WHERE id IN (SELECT account_id FROM ledger_accounts) ORDER BY id FOR UPDATE"
        )
        batches.analyze("ledger_accounts")
    return count


def hold_ids(accounts: Collection[int]) -> int:
    ids = ", ".join(str(int(pk)) for pk in accounts) or "NULL"
    return hold(f"SELECT id FROM loyalty_account WHERE id IN ({ids})")


def stage(moves: Iterable[Move]) -> None:
    line = f"({', '.join(['%s'] * len(_COLUMNS))})"
    for part in batches.of(moves, 200):
        values: list[Any] = []
        for move in part:
            values.extend(parameter(v) if isinstance(v, datetime) else v for v in astuple(move))
        batches.execute(
            f"INSERT INTO ledger_moves ({', '.join(_COLUMNS)}) VALUES {', '.join([line] * len(part))}", values
        )


def stage_takes(takes: Iterable[tuple[str, int, int]]) -> None:
    for part in batches.of(takes, 500):
        batches.execute(
            f"INSERT INTO ledger_takes (key, lot_id, points) VALUES {', '.join(['(%s, %s, %s)'] * len(part))}",
            [value for take in part for value in take],
        )


def _choose_lots() -> None:
    """Spread each ``burn`` over the account's usable lots: earliest end first, then oldest; lots without end last."""
    batches.execute(
        """
        INSERT INTO ledger_takes (key, lot_id, points)
        SELECT m.key, l.id, CASE WHEN l.remaining < m.burn - l.before THEN l.remaining ELSE m.burn - l.before END
        FROM ledger_moves m
        JOIN (
            SELECT id, account_id, remaining,
                   sum(remaining) OVER (PARTITION BY account_id ORDER BY expires_at NULLS LAST, active_at, id)
                   - remaining AS before
            FROM loyalty_lot
            WHERE account_id IN (SELECT account_id FROM ledger_moves WHERE burn > 0)
              AND customer_id IN (SELECT customer_id FROM ledger_moves WHERE burn > 0)
              AND remaining > 0 AND activated_at IS NOT NULL AND id NOT IN (SELECT lot_id FROM ledger_takes)
        ) l ON l.account_id = m.account_id AND l.before < m.burn
        WHERE m.burn > 0
        """
    )
    short = batches.rows(
        "SELECT m.key FROM ledger_moves m WHERE m.burn > 0 AND -m.pending - m.available <> "
        "(SELECT coalesce(sum(t.points), 0) FROM ledger_takes t WHERE t.key = m.key)"
    )
    if short:
        raise LedgerBroken(f"The lots hold fewer points than the balance promises: {short[:5]}.")


def post(*, with_accounts: bool = True) -> int:
    """Write everything staged: entries, postings, lots, uses of lots, account sums, dirty customers. How many entries."""
    [(count, burns, lots)] = batches.rows(
        "SELECT count(*), coalesce(sum(burn), 0), coalesce(sum(lot_amount), 0) FROM ledger_moves"
    )
    if not count:
        return 0
    batches.analyze("ledger_moves")
    if burns:
        _choose_lots()
    batches.analyze("ledger_takes")
    same = (
        "programme_id, account_id, customer_id, key, kind, points, effective_at, actor_id, reason, explanation, "
        "source_type, source_id, takes_back_id, reverses_id"
    )
    batches.execute(
        f"INSERT INTO loyalty_entry ({same}, recorded_at) SELECT {same}, %s FROM ledger_moves "
        "ORDER BY effective_at, key",
        [parameter(clock.now())],
    )
    batches.execute(
        "UPDATE ledger_moves SET entry_id = (SELECT e.id FROM loyalty_entry e "
        "WHERE e.programme_id = ledger_moves.programme_id AND e.key = ledger_moves.key)"
    )
    batches.execute(
        """
        INSERT INTO loyalty_posting (entry_id, account_id, ledger, points)
        SELECT entry_id, account_id, 'pending', pending FROM ledger_moves WHERE pending <> 0
        UNION ALL SELECT entry_id, account_id, 'available', available FROM ledger_moves WHERE available <> 0
        UNION ALL SELECT entry_id, account_id, 'held', held FROM ledger_moves WHERE held <> 0
        UNION ALL SELECT entry_id, account_id, 'debt', debt FROM ledger_moves WHERE debt <> 0
        UNION ALL SELECT entry_id, account_id, system, -pending - available - held - debt FROM ledger_moves WHERE system <> ''
        """
    )
    if lots:
        batches.execute(
            """
            INSERT INTO loyalty_lot
                (entry_id, account_id, customer_id, amount, remaining, active_at, expires_at, activated_at)
            SELECT entry_id, account_id, customer_id, lot_amount, lot_amount, active_at, expires_at,
                   CASE WHEN pending = 0 THEN active_at END
            FROM ledger_moves WHERE lot_amount > 0 ORDER BY entry_id
            """
        )
    batches.execute(
        "INSERT INTO loyalty_lotspend (entry_id, lot_id, points) "
        "SELECT m.entry_id, t.lot_id, t.points FROM ledger_takes t JOIN ledger_moves m ON m.key = t.key"
    )
    batches.execute(
        "UPDATE loyalty_lot SET remaining = loyalty_lot.remaining - t.points "
        "FROM (SELECT lot_id, sum(points) AS points FROM ledger_takes GROUP BY lot_id) t WHERE loyalty_lot.id = t.lot_id"
    )
    if with_accounts:
        batches.execute(
            """
            UPDATE loyalty_account SET
                balance = balance + m.available, pending = loyalty_account.pending + m.pending,
                held = loyalty_account.held + m.held, debt = loyalty_account.debt - m.debt,
                earned = earned + m.issued, adjusted = loyalty_account.adjusted
                + m.adjusted, spent = spent - m.redeemed, expired = loyalty_account.expired - m.expired,
                reversed = loyalty_account.reversed - m.reversed, moved = loyalty_account.moved + m.moved
            FROM (
                SELECT account_id, sum(available) AS available, sum(pending) AS pending, sum(debt) AS debt,
                       sum(held) AS held,
                       sum(CASE WHEN system = 'issued' THEN pending + available + held + debt ELSE 0 END) AS issued,
                       sum(CASE WHEN system = 'adjusted' THEN pending + available + held + debt ELSE 0 END) AS adjusted,
                       sum(CASE WHEN system = 'redeemed' THEN pending + available + held + debt ELSE 0 END) AS redeemed,
                       sum(CASE WHEN system = 'expired' THEN pending + available + held + debt ELSE 0 END) AS expired,
                       sum(CASE WHEN system = 'reversed' THEN pending + available + held + debt ELSE 0 END) AS reversed,
                       sum(CASE WHEN system = 'moved' THEN pending + available + held + debt ELSE 0 END) AS moved
                FROM ledger_moves GROUP BY account_id
            ) m WHERE loyalty_account.id = m.account_id
            """
        )
    _mark()
    return int(count)


def _mark() -> None:
    """The facts of those whose spendable points changed are behind.

    A second before the movement itself, so that what a night expires at the end of its day is handed down that night.
    """
    changed = batches.rows(
        f"""
        SELECT m.customer_id, {epoch("max(m.effective_at)")}, max(m.effective_at) < max(c.loaded_at)
        FROM ledger_moves m JOIN customers_customer c ON c.id = m.customer_id
        WHERE m.available <> 0 GROUP BY m.customer_id
        """,
        (),
    )
    facts.mark_each((pk, from_seconds(at) - timedelta(seconds=1), bool(old)) for pk, at, old in changed)

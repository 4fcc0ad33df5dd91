"""Points credited, one or ten thousand at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils.translation import gettext as _

from customers.models import Customer
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter
from loyalty import book
from loyalty.errors import KeyReused
from loyalty.ledger.due import repay
from loyalty.ledger.terms import Earning, checked_key, checked_reason, moment_of, positive, programme_of
from loyalty.models import Account, Entry, Programme


def earn(
    *,
    customer: Customer,
    points: int,
    key: str,
    effective_at: datetime | None = None,
    active_at: datetime | None = None,
    expires_at: datetime | None = None,
    reason: str = "",
    explanation: dict[str, Any] | None = None,
    source_type: str = "",
    source_id: str = "",
    programme: Programme | None = None,
) -> Entry:
    """Credit points to a customer. Usable from ``active_at`` (default: at once), gone at ``expires_at`` (default: never).

    The same key again returns the entry it wrote; with another customer or other points it raises ``KeyReused``.
    """
    of = programme_of(programme)
    moment = moment_of(effective_at)
    row = Earning(
        customer_id=customer.pk,
        points=positive(points),
        key=checked_key(key),
        effective_at=moment,
        active_at=active_at or moment,
        expires_at=expires_at,
        reason=checked_reason(reason),
        explanation=explanation or {},
        source_type=source_type,
        source_id=source_id,
    )
    written = earn_many([row], programme=of)
    entry = Entry.objects.get(programme=of, key=key)
    if (entry.kind, entry.customer_id, entry.points) != (Entry.Kind.EARN, customer.pk, points):
        raise KeyReused(
            _("This key was used for another movement of points. Send a new key for a new request."), key=key
        )
    entry.replayed = not written
    return entry


def earn_many(rows: Sequence[Earning], *, programme: Programme | None = None) -> int:
    """Credit thousands of earnings in one transaction; how many were new. A key that is known already is passed over."""
    of = programme_of(programme)
    wanted: dict[str, Earning] = {}
    for row in rows:
        positive(row.points)
        wanted.setdefault(checked_key(row.key), row)
    if not wanted:
        return 0
    with transaction.atomic():
        accounts = open_accounts(of, sorted({row.customer_id for row in wanted.values()}))
        book.hold_ids(accounts.values())
        for part in batches.of(list(wanted), 500):
            for key in Entry.objects.filter(programme=of, key__in=part).values_list("key", flat=True):
                del wanted[key]
        book.stage(
            book.Move(
                key=row.key,
                kind=Entry.Kind.EARN.value,
                programme_id=of.pk,
                account_id=accounts[row.customer_id],
                customer_id=row.customer_id,
                points=row.points,
                effective_at=row.effective_at,
                pending=row.points if row.active_at > row.effective_at else 0,
                available=0 if row.active_at > row.effective_at else row.points,
                system="issued",
                reason=row.reason,
                explanation=json.dumps(row.explanation),
                source_type=row.source_type,
                source_id=row.source_id,
                lot_amount=row.points,
                active_at=row.active_at,
                expires_at=row.expires_at,
            )
            for row in wanted.values()
        )
        book.post()
        if any(row.active_at <= row.effective_at for row in wanted.values()):
            repay(max(row.effective_at for row in wanted.values()))
    return len(wanted)


def open_accounts(programme: Programme, customers: Sequence[int]) -> dict[int, int]:
    """The account ids of these customers, opened where there is none yet."""

    def known() -> dict[int, int]:
        return {
            customer: pk
            for part in batches.of(customers, 500)
            for customer, pk in Account.objects.filter(programme=programme, customer_id__in=part).values_list(
                "customer_id", "pk"
            )
        }

    found = known()
    missing = [pk for pk in customers if pk not in found]
    if missing:
        Account.objects.bulk_create(
            [Account(programme=programme, customer_id=pk) for pk in missing], ignore_conflicts=True, batch_size=500
        )
        found = known()
    return found


def hold_for(programme: Programme, select: str, params: Sequence[Any] = ()) -> int:
    """Open accounts for the customers whose ids ``select`` yields, where there is none, and lock them; how many."""
    batches.execute(
        f"""
        INSERT INTO loyalty_account (programme_id, customer_id, balance, pending, debt, earned, adjusted, spent, expired,
                                     reversed, opened_at)
        SELECT %s, w.customer_id, 0, 0, 0, 0, 0, 0, 0, 0, %s
        FROM (SELECT DISTINCT customer_id FROM ({select}) s) w
        WHERE NOT EXISTS (SELECT 1 FROM loyalty_account a
                          WHERE a.programme_id = %s AND a.customer_id = w.customer_id)
        ORDER BY w.customer_id
        ON CONFLICT (programme_id, customer_id) DO NOTHING
        """,
        [programme.pk, parameter(clock.now()), *params, programme.pk],
    )
    return book.hold(
        f"SELECT a.id FROM loyalty_account a WHERE a.programme_id = %s AND a.customer_id IN ({select})",
        [programme.pk, *params],
    )


def earn_selected(programme: Programme, select: str, params: Sequence[Any] = ()) -> int:
    """Credit what ``select`` yields, after ``hold_for`` their customers and without keys that are known; how many.

    Columns, in this order: key, customer_id, points, effective_at, active_at, expires_at, explanation (JSON as text),
    source_type, source_id (text). One set of statements, however many there are.
    """
    document = "CAST(s.explanation AS jsonb)" if connection.vendor == "postgresql" else "s.explanation"
    count = batches.execute(
        f"""
        INSERT INTO ledger_moves (key, kind, programme_id, account_id, customer_id, points, effective_at, pending,
                                  available, system, explanation, source_type, source_id, lot_amount, active_at, expires_at)
        SELECT s.key, 'earn', a.programme_id, a.id, s.customer_id, s.points, s.effective_at,
               CASE WHEN s.active_at > s.effective_at THEN s.points ELSE 0 END,
               CASE WHEN s.active_at > s.effective_at THEN 0 ELSE s.points END,
               'issued', {document}, s.source_type, s.source_id, s.points, s.active_at, s.expires_at
        FROM ({select}) s JOIN loyalty_account a ON a.programme_id = %s AND a.customer_id = s.customer_id
        """,
        [*params, programme.pk],
    )
    if not count:
        return 0
    [(usable, latest)] = batches.rows(
        "SELECT sum(CASE WHEN available > 0 THEN 1 ELSE 0 END), max(effective_at) FROM ledger_moves"
    )
    book.post()
    if usable:
        repay(latest if isinstance(latest, datetime) else datetime.fromisoformat(f"{latest}+00:00"))
    return count

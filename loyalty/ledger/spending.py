"""Points spent, those that expire first first; the limit is part of the write."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from customers.models import Customer
from lifecycle_crm.accounts.models import User
from loyalty import book
from loyalty.ledger.due import settle
from loyalty.ledger.earnings import open_accounts
from loyalty.ledger.guard import reserve, too_few
from loyalty.ledger.households import family, fetch
from loyalty.ledger.terms import checked_key, checked_reason, footprint, moment_of, positive, programme_of
from loyalty.models import Account, Entry, Programme


def redeem(
    *,
    customer: Customer,
    points: int,
    key: str,
    actor: User | None = None,
    reason: str = "",
    effective_at: datetime | None = None,
    explanation: dict[str, Any] | None = None,
    source_type: str = "",
    source_id: str = "",
    programme: Programme | None = None,
) -> Entry:
    """Spend points, those that expire first first. Raises ``InsufficientPoints`` and writes nothing if there are too few.

    Where the customer's own do not suffice, their household's are used, again those that expire first first.

    The same request again returns the entry it wrote (``entry.replayed``); its key with another request raises
    ``KeyReused``; a frozen account raises ``AccountFrozen``.
    """
    return burn(
        kind=Entry.Kind.SPEND,
        customer=customer,
        points=positive(points),
        key=checked_key(key),
        actor=actor,
        reason=checked_reason(reason),
        moment=moment_of(effective_at),
        explanation=explanation,
        source_type=source_type,
        source_id=source_id,
        programme=programme_of(programme),
    )


def burn(
    *,
    kind: Entry.Kind,
    customer: Customer,
    points: int,
    key: str,
    actor: User | None,
    reason: str,
    moment: datetime,
    explanation: dict[str, Any] | None,
    source_type: str,
    source_id: str,
    programme: Programme,
) -> Entry:
    def before() -> Entry | None:
        return footprint(programme, key, kind, customer.pk, -points, reason)

    try:
        with transaction.atomic():
            if found := before():
                return found
            account = Account.objects.filter(programme=programme, customer=customer).first()
            others = family(programme, customer) if kind == Entry.Kind.SPEND else []
            if account is None and others:
                account = Account.objects.get(pk=open_accounts(programme, [customer.pk])[customer.pk])
            if account is None:
                raise too_few(0, points)
            book.hold_ids([account.pk, *(one.pk for one in others)])
            if found := before():  # written while we waited for the account
                return found
            settle([account, *others], moment)
            if others and fetch(account, others, points, key=key, moment=moment, actor=actor, reason=reason):
                book.clear()
            reserve(account, points, "spent" if kind == Entry.Kind.SPEND else "adjusted")
            book.stage(
                [
                    book.Move(
                        key=key,
                        kind=kind.value,
                        programme_id=programme.pk,
                        account_id=account.pk,
                        customer_id=customer.pk,
                        points=-points,
                        effective_at=moment,
                        available=-points,
                        system="redeemed" if kind == Entry.Kind.SPEND else "adjusted",
                        reason=reason,
                        explanation=json.dumps(explanation or {}),
                        source_type=source_type,
                        source_id=source_id,
                        actor_id=actor.pk if actor else None,
                        burn=points,
                    )
                ]
            )
            book.post(with_accounts=False)
    except IntegrityError:
        # The same key under two customers at once: the second one learns what the key belongs to.
        if found := before():
            return found
        raise
    return Entry.objects.get(programme=programme, key=key)

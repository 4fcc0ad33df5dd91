"""Points given or taken by hand, with a reason."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.utils.translation import gettext as _

from customers.models import Customer
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches
from lifecycle_crm.lib.moments import parameter
from loyalty import book
from loyalty.errors import ApprovalRequired
from loyalty.ledger.due import repay
from loyalty.ledger.earnings import open_accounts
from loyalty.ledger.spending import burn
from loyalty.ledger.terms import checked_key, checked_reason, expiry, footprint, moment_of, programme_of, whole
from loyalty.models import Approval, Entry, Limits, Programme


def needs_approval(programme: Programme, points: int) -> bool:
    """Whether so many points by hand need a second person."""
    return abs(points) > Limits.of(programme).approve_above


def adjust(
    *,
    customer: Customer,
    points: int,
    key: str,
    actor: User | None,
    reason: str,
    effective_at: datetime | None = None,
    source_type: str = "",
    source_id: str = "",
    programme: Programme | None = None,
    approval: Approval | None = None,
) -> Entry:
    """Give (positive) or take (negative) points by hand, with a reason. What is given expires like an order's points.

    Above the programme's limit it raises ``ApprovalRequired``: ``approvals.adjust`` asks a second person, whose yes is
    the ``approval``.
    """
    of = programme_of(programme)
    whole(points)
    text = checked_reason(reason, required=True)
    moment = moment_of(effective_at)
    if approval is None and needs_approval(of, points) and not Entry.objects.filter(programme=of, key=key).exists():
        raise ApprovalRequired(
            _("More than %(limit)s points at once need a second person. Ask for it on the customer's points page.")
            % {"limit": Limits.of(of).approve_above},
            limit=Limits.of(of).approve_above,
        )
    told = {"asked_by": approval.requested_by_id, "approved_by": approval.decided_by_id} if approval else {}
    if points < 0:
        return burn(
            kind=Entry.Kind.ADJUST,
            customer=customer,
            points=-points,
            key=checked_key(key),
            actor=actor,
            reason=text,
            moment=moment,
            explanation=told,
            source_type=source_type,
            source_id=source_id,
            programme=of,
        )

    def before() -> Entry | None:
        return footprint(of, key, Entry.Kind.ADJUST, customer.pk, points, text)

    try:
        with transaction.atomic():
            if found := before():
                return found
            account_id = open_accounts(of, [customer.pk])[customer.pk]
            book.hold_ids([account_id])
            if found := before():
                return found
            book.stage(
                [
                    book.Move(
                        key=checked_key(key),
                        kind=Entry.Kind.ADJUST.value,
                        programme_id=of.pk,
                        account_id=account_id,
                        customer_id=customer.pk,
                        points=points,
                        effective_at=moment,
                        available=points,
                        system="adjusted",
                        reason=text,
                        explanation=json.dumps(told),
                        source_type=source_type,
                        source_id=source_id,
                        actor_id=actor.pk if actor else None,
                        lot_amount=points,
                        active_at=moment,
                        expires_at=expiry(moment, of.expiry_months),
                    )
                ]
            )
            book.post()
            repay(moment)
    except IntegrityError:
        if found := before():
            return found
        raise
    return Entry.objects.get(programme=of, key=key)


def give_selected(
    programme: Programme,
    select: str,
    params: Sequence[Any] = (),
    *,
    points: int,
    moment: datetime,
    actor_id: int | None,
    reason: str,
    explanation: Mapping[str, Any],
    source_type: str,
    source_id: str,
) -> int:
    """``adjust`` for all whom ``select`` yields (``key, customer_id``), by one set of statements; how many.

    After ``hold_for`` these customers, and without keys that are known. Whether a second person agreed is for the caller
    to know.
    """
    document = "CAST(%s AS jsonb)" if connection.vendor == "postgresql" else "%s"
    is_new = batches.execute(
        f"""
        INSERT INTO ledger_moves (key, kind, programme_id, account_id, customer_id, points, effective_at, available,
                                  system, reason, explanation, source_type, source_id, actor_id, lot_amount, active_at,
                                  expires_at)
        SELECT s.key, 'adjust', a.programme_id, a.id, s.customer_id, %s, %s, %s, 'adjusted', %s, {document}, %s, %s,
               CAST(%s AS bigint), %s, %s, {"CAST(%s AS timestamptz)" if connection.vendor == "postgresql" else "%s"}
        FROM ({select}) s JOIN loyalty_account a ON a.programme_id = %s AND a.customer_id = s.customer_id
        """,
        [
            points, parameter(moment), points, checked_reason(reason, required=True), json.dumps(explanation), source_type,
            source_id, actor_id, points, parameter(moment),
            parameter(ends) if (ends := expiry(moment, programme.expiry_months)) else None, *params, programme.pk,
        ],
    )  # fmt: skip
    if is_new:
        book.post()
        repay(moment)
    return is_new

"""Points that may be used longer. Nothing moves: only the end of lots is written, with who decided it and what held before.

A lot keeps who it is, so that a refund still finds the points its order gave, and a cancelled redemption its way home.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import IntegrityError, connection, transaction
from django.utils.translation import gettext as _

from customers.models import Customer
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import parameter
from loyalty import book
from loyalty.errors import KeyReused, NothingToExtend, NotReversible
from loyalty.ledger.terms import checked_key, checked_reason, moment_of, programme_of
from loyalty.models import Extension, Programme

MOST_YEARS = 10
LOTS = "extension_lots"


def extend(
    *,
    expires_at: datetime,
    key: str,
    actor: User | None,
    reason: str,
    customers: Sequence[Customer] | None = None,
    ends_from: datetime | None = None,
    ends_before: datetime | None = None,
    effective_at: datetime | None = None,
    programme: Programme | None = None,
) -> Extension:
    """Let points live until ``expires_at`` (the first instant at which they are gone) that would end earlier: those of
    everybody or of ``customers``, whose end lies in (``ends_from``, ``ends_before``]. What is over stays over.

    The same request again returns what it made (``replayed``); its key with another request raises ``KeyReused``; where
    no points would live longer it raises ``NothingToExtend``.
    """
    of = programme_of(programme)
    text = checked_reason(reason, required=True)
    now = moment_of(effective_at)
    if not now < expires_at <= now + timedelta(days=366 * MOST_YEARS):
        raise InvalidInput(
            _("Choose a last day from today on, within %(years)s years.") % {"years": MOST_YEARS}, code="invalid_date"
        )
    where, params = "l.expires_at > %s AND l.expires_at < %s", [parameter(now), parameter(expires_at)]
    if ends_from is not None:
        where, params = f"{where} AND l.expires_at > %s", [*params, parameter(ends_from)]
    if ends_before is not None:
        where, params = f"{where} AND l.expires_at <= %s", [*params, parameter(ends_before)]
    if customers is not None:
        where = f"{where} AND l.customer_id IN ({', '.join(str(int(one.pk)) for one in customers) or 'NULL'})"

    def before() -> Extension | None:
        return _footprint(of, key, expires_at, text, None)

    try:
        with transaction.atomic():
            if found := before():
                return found
            found_lots = f"""
                FROM loyalty_lot l JOIN loyalty_account a ON a.id = l.account_id
                WHERE a.programme_id = {int(of.pk)} AND l.remaining > 0 AND {where}
            """
            book.hold(f"SELECT DISTINCT l.account_id {found_lots}", params)
            if found := before():
                return found
            _gather(
                f"SELECT l.id, l.customer_id, l.remaining, l.expires_at, CAST(%s AS {_moment()}) {found_lots} "
                "AND l.account_id IN (SELECT account_id FROM ledger_accounts)",
                [parameter(expires_at), *params],
            )
            return _write(of, checked_key(key), expires_at, text, actor, now, None)
    except IntegrityError:
        if found := before():
            return found
        raise


def take_back(*, extension: Extension, key: str, actor: User | None, reason: str) -> Extension:
    """Let the points of an extension end as they would have, except those whose old end has passed or that were extended
    again since. Raises ``NotReversible`` for a second time and where no such points are left."""
    if extension.undoes_id is not None:
        raise NotReversible(_("This only took an extension back. Extend the points again instead."))
    text = checked_reason(reason, required=True)
    of, now = extension.programme, clock.now()

    def before() -> Extension | None:
        return _footprint(of, key, extension.expires_at, text, extension)

    try:
        with transaction.atomic():
            if found := before():
                return found
            book.hold(
                "SELECT DISTINCT l.account_id FROM loyalty_extendedlot x JOIN loyalty_lot l ON l.id = x.lot_id "
                "WHERE x.extension_id = %s",
                [extension.pk],
            )
            if found := before():
                return found
            if Extension.objects.filter(undoes=extension).exists():
                raise NotReversible(_("This extension was taken back already."))
            _gather(
                "SELECT l.id, l.customer_id, l.remaining, l.expires_at, x.was FROM loyalty_extendedlot x "
                "JOIN loyalty_lot l ON l.id = x.lot_id WHERE x.extension_id = %s AND l.remaining > 0 "
                "AND l.expires_at = x.becomes AND x.was > %s",
                [extension.pk, parameter(now)],
            )
            try:
                return _write(of, checked_key(key), extension.expires_at, text, actor, now, extension)
            except NothingToExtend:
                raise NotReversible(
                    _("Nothing is left to take back: the points were used, or their old last day has passed.")
                ) from None
    except IntegrityError:
        if found := before():
            return found
        raise


def _moment() -> str:
    return "timestamptz" if connection.vendor == "postgresql" else "text"


def _gather(select: str, params: Sequence[object]) -> None:
    batches.scratch(
        LOTS,
        "lot_id bigint PRIMARY KEY, customer_id bigint NOT NULL, points bigint NOT NULL, "
        f"was {_moment()} NOT NULL, becomes {_moment()} NOT NULL",
    )
    batches.execute(f"INSERT INTO {LOTS} (lot_id, customer_id, points, was, becomes) {select}", params)
    batches.analyze(LOTS)


def _write(
    programme: Programme,
    key: str,
    expires_at: datetime,
    reason: str,
    actor: User | None,
    now: datetime,
    undoes: Extension | None,
) -> Extension:
    [(points, customers)] = batches.rows(f"SELECT coalesce(sum(points), 0), count(DISTINCT customer_id) FROM {LOTS}")
    if not points:
        raise NothingToExtend(_("No points end before this day that could be used longer. Choose a later last day."))
    made = Extension.objects.create(
        programme=programme, key=key, expires_at=expires_at, reason=reason, actor=actor, points=int(points),
        customers=customers, undoes=undoes, recorded_at=now,
    )  # fmt: skip
    batches.execute(
        "INSERT INTO loyalty_extendedlot (extension_id, lot_id, customer_id, points, was, becomes) "
        f"SELECT %s, lot_id, customer_id, points, was, becomes FROM {LOTS} ORDER BY lot_id",
        [made.pk],
    )
    batches.execute(f"UPDATE loyalty_lot SET expires_at = x.becomes FROM {LOTS} x WHERE loyalty_lot.id = x.lot_id", ())
    return made


def _footprint(
    programme: Programme, key: str, expires_at: datetime, reason: str, undoes: Extension | None
) -> Extension | None:
    found = Extension.objects.filter(programme=programme, key=key).first()
    if found is None:
        return None
    if (found.expires_at, found.reason, found.undoes_id) != (expires_at, reason, undoes.pk if undoes else None):
        raise KeyReused(_("This key was used for another request. Send a new key for a new request."), key=key)
    found.replayed = True
    return found

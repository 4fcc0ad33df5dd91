"""When the proof fails: the one account stops, all others go on, and a person lets it go on again."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from datetime import date

from django.db import transaction
from django.utils.translation import gettext as _

from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import Conflict
from loyalty import book
from loyalty.errors import StillBroken
from loyalty.ledger.proof import broken_accounts, due, prove_part, rebuild
from loyalty.ledger.terms import checked_reason
from loyalty.models import Account, Freeze

logger = logging.getLogger(__name__)


AT_ONCE = 5000
"""Accounts per transaction of the proof: on SQLite, how long others wait who want to write."""


def prove(*, day: date | None = None) -> int:
    """Compare the accounts that are due in the night of ``day`` (``proof.due``) with their entries, and freeze those that
    disagree; how many were not frozen before. ``manage.py verify`` reads them all.

    Nothing is mended: a sum that is wrong is evidence, and a person looks at it.
    """
    frozen = 0
    for part in batches.of(due(), AT_ONCE):
        with transaction.atomic():
            broken = prove_part(part, day=day or clock.today())
            frozen += freeze(accounts=[one[0] for one in broken], what={one[0]: one[2] for one in broken})
        for pk, customer, what in broken:
            logger.error("Points account %s of customer #%s: %s does not equal its entries", pk, customer, what)
    return frozen


def freeze(*, accounts: Collection[int], what: Mapping[int, str] | None = None) -> int:
    """Stop redemptions of these accounts, whose entries and balance disagree; how many were not frozen before."""
    count = 0
    now = clock.now()
    for part in batches.of(sorted(accounts), 500):
        with transaction.atomic():
            book.hold_ids(part)
            fresh = list(Account.objects.filter(pk__in=part, frozen_at=None).values_list("pk", flat=True))
            Freeze.objects.bulk_create(
                Freeze(account_id=pk, what=(what or {}).get(pk, ""), frozen_at=now) for pk in fresh
            )
            count += Account.objects.filter(pk__in=fresh).update(frozen_at=now)
    return count


def unfreeze(*, account: Account, actor: User | None, reason: str, is_rebuilt: bool = False) -> Freeze:
    """Let an account redeem again, after somebody looked. Who and why stays on record.

    ``is_rebuilt`` first writes into the account what its entries say. Raises ``StillBroken`` while they disagree, and
    ``Conflict`` when it is not frozen.
    """
    text = checked_reason(reason, required=True)
    with transaction.atomic():
        book.hold_ids([account.pk])
        if Account.objects.filter(pk=account.pk).exclude(frozen_at=None).update(frozen_at=None) != 1:
            raise Conflict(_("This account is not frozen."), code="not_frozen")
        if is_rebuilt:
            rebuild(account.pk)
        if broken := broken_accounts([account.pk]):
            raise StillBroken(
                _("The account still disagrees with its entries (%(what)s). Rebuild it from its entries first.")
                % {"what": broken[0][2]}
            )
        row = Freeze.objects.filter(account=account, ended_at=None).first() or Freeze(account=account)
        row.ended_at, row.ended_by, row.reason = clock.now(), actor, text
        row.save()
    account.refresh_from_db()
    return row

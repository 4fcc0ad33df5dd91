"""When the proof fails: the one account stops, all others go on."""

from __future__ import annotations

from collections.abc import Collection

from lifecycle_crm.lib import batches, clock
from loyalty.models import Account


def freeze(*, accounts: Collection[int]) -> int:
    """Stop redemptions of these accounts, whose entries and balance disagree; how many were not frozen before."""
    return sum(
        Account.objects.filter(pk__in=part, frozen_at=None).update(frozen_at=clock.now())
        for part in batches.of(sorted(accounts), 500)
    )


def unfreeze(*, account: Account) -> None:
    """Let an account redeem again, after somebody looked."""
    Account.objects.filter(pk=account.pk).update(frozen_at=None)

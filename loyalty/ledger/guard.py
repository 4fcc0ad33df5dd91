"""The limit of every way out of a balance: one conditional write."""

from __future__ import annotations

from django.db.models import F
from django.utils.translation import gettext as _

from loyalty.errors import AccountFrozen, InsufficientPoints
from loyalty.models import Account

_SIGN = {"spent": 1, "held": 1, "moved": -1, "adjusted": -1}


def reserve(account: Account, points: int, column: str) -> None:
    """Take ``points`` off the balance and book them under ``column``. Raises when there are not enough, or it is frozen.

    A frozen account can still be corrected by hand (``adjusted``); everything else waits.
    """
    open_to = Account.objects.filter(pk=account.pk, balance__gte=points)
    if column != "adjusted":
        open_to = open_to.filter(frozen_at=None)
    change = F(column) + _SIGN[column] * points
    if open_to.update(balance=F("balance") - points, **{column: change}) == 1:
        return
    account.refresh_from_db()
    if column != "adjusted":
        refuse_frozen(account)
    raise too_few(account.balance, points)


def refuse_frozen(account: Account) -> None:
    if account.frozen_at is not None:
        raise AccountFrozen(
            _("This account is frozen because its entries and its balance disagree. Check it before redeeming.")
        )


def too_few(balance: int, points: int) -> InsufficientPoints:
    return InsufficientPoints(
        _("There are %(balance)s points to spend, %(points)s were asked for.") % {"balance": balance, "points": points},
        balance=balance,
        points=points,
    )

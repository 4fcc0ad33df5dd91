"""When an account was stopped because the proof failed, and who let it go on."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from lifecycle_crm.lib import clock
from loyalty.models.ledger import Account


class Freeze(models.Model):
    """Redemptions of one account stopped, and why. Ended by a person, with a reason, once the proof holds again."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="freezes", db_index=False)
    what = models.CharField(_("what disagrees"), max_length=40, blank=True)
    frozen_at = models.DateTimeField(_("frozen"), default=clock.now)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    ended_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    reason = models.CharField(_("reason"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("freeze of an account")
        verbose_name_plural = _("freezes of accounts")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account"], condition=Q(ended_at__isnull=True), name="loyalty_freeze_once_at_a_time"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["account", "id"], name="loyalty_freeze_account")]

    def __str__(self) -> str:
        return f"freeze of #{self.account_id}"

"""The card that stands for a customer at a till and opens their wallet."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from customers.models import Customer
from lifecycle_crm.lib import clock


class WalletCard(models.Model):
    """One per customer. ``generation`` is part of every link to the wallet: one more, and all earlier links are dead."""

    customer = models.OneToOneField(Customer, on_delete=models.PROTECT, related_name="wallet_card")
    number = models.CharField(_("card number"), max_length=13, unique=True)
    generation = models.PositiveIntegerField(_("generation of its links"), default=1)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("wallet card")
        verbose_name_plural = _("wallet cards")
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return self.number

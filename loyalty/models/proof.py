"""When an account was last proved to be what its entries say, and what it said then."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from loyalty.models.ledger import Account


class Proof(models.Model):
    """The last proof of an account. ``sums`` are its cached sums as they were read just before; an account that says
    anything else was moved, or tampered with, and is proved again in the next night.
    """

    account = models.OneToOneField(Account, primary_key=True, on_delete=models.PROTECT, related_name="proof")
    proved_on = models.DateField(_("proved in the night of"))
    sums = models.CharField(_("sums"), max_length=250)
    through = models.BigIntegerField(_("last entry of the ledger then"))

    class Meta:
        verbose_name = _("proof of an account")
        verbose_name_plural = _("proofs of accounts")
        indexes: ClassVar = [models.Index(fields=["proved_on", "account"], name="loyalty_proof_oldest")]

    def __str__(self) -> str:
        return f"#{self.account_id}: {self.proved_on}"

"""A customer who asked in the wallet for the code of something they redeemed, by e-mail."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from customers.models import Customer
from lifecycle_crm.lib import clock
from loyalty.models.reward import Redemption

MOST_MAILS = 3


class CodeMail(models.Model):
    """One press, and so one message. It is written at the roof, which sees both floors, and goes to the address on file."""

    redemption = models.ForeignKey(Redemption, on_delete=models.PROTECT, related_name="code_mails")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    key = models.CharField(_("key"), max_length=255, unique=True)
    number = models.PositiveSmallIntegerField(_("number"))
    requested_at = models.DateTimeField(_("asked"), default=clock.now, editable=False)
    reacted_at = models.DateTimeField(null=True, blank=True, editable=False)

    replayed = False
    """True on one that a verb found under its key instead of making it."""

    class Meta:
        verbose_name = _("code by e-mail")
        verbose_name_plural = _("codes by e-mail")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["redemption", "number"], name="loyalty_code_mail_number_once"),
            models.CheckConstraint(
                condition=Q(number__gte=1, number__lte=MOST_MAILS), name="loyalty_code_mail_few_times"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["requested_at"], condition=Q(reacted_at=None), name="loyalty_code_mail_to_react")
        ]

    def __str__(self) -> str:
        return f"#{self.redemption_id}, {self.number}"

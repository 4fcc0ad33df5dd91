"""Codes that are worth something at the till. ``loyalty.vouchers`` is the only writer."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from customers.models import Customer
from lifecycle_crm.lib import clock
from loyalty.models.reward import Redemption


class VoucherSeries(models.Model):
    """Vouchers that are worth the same. ``is_endless``: a code is made when it is needed; else they come from a stock of
    generated or uploaded codes."""

    class Worth(models.TextChoices):
        AMOUNT = "amount", _("An amount")
        PERCENT = "percent", _("A percentage")
        OTHER = "other", _("Something else")

    name = models.CharField(_("name"), max_length=120)
    worth = models.CharField(_("worth"), max_length=7, choices=Worth.choices)
    amount_minor = models.PositiveBigIntegerField(_("amount"), null=True, blank=True)
    percent = models.PositiveSmallIntegerField(_("per cent"), null=True, blank=True)
    words = models.CharField(_("in words"), max_length=200, blank=True)
    valid_days = models.PositiveIntegerField(
        _("days"), null=True, blank=True, help_text=_("How many days after it was issued it can be used.")
    )
    ends_on = models.DateField(_("last day"), null=True, blank=True, help_text=_("Of all its codes; it is included."))
    is_endless = models.BooleanField(_("codes are made as needed"), default=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("series of vouchers")
        verbose_name_plural = _("series of vouchers")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=(
                    Q(worth="amount", amount_minor__gt=0, percent=None)
                    | Q(worth="percent", percent__gt=0, percent__lte=100, amount_minor=None)
                    | (Q(worth="other", percent=None, amount_minor=None) & ~Q(words=""))
                ),
                name="loyalty_voucher_series_is_worth_something",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Voucher(models.Model):
    """One code: free, then issued to one customer once, then used once; or void. ``code`` is kept in its plain spelling."""

    class State(models.TextChoices):
        FREE = "free", pgettext_lazy("voucher", "Free")
        ISSUED = "issued", pgettext_lazy("voucher", "Issued")
        USED = "used", pgettext_lazy("voucher", "Used")
        VOID = "void", pgettext_lazy("voucher", "Void")

    EXPIRED = "expired"
    """Not a state that is stored: an issued voucher after its last moment."""

    replayed = False
    """True on a voucher that a verb found under its key instead of changing it."""

    series = models.ForeignKey(VoucherSeries, on_delete=models.PROTECT, related_name="vouchers", db_index=False)
    code = models.CharField(_("code"), max_length=64, unique=True)
    state = models.CharField(_("state"), max_length=6, choices=State.choices, default=State.FREE)
    customer = models.ForeignKey(
        Customer, null=True, blank=True, on_delete=models.PROTECT, related_name="vouchers", db_index=False
    )
    redemption = models.OneToOneField(
        Redemption, null=True, blank=True, on_delete=models.PROTECT, related_name="voucher"
    )
    issue_key = models.CharField(max_length=255, null=True, blank=True, unique=True, editable=False)
    issued_at = models.DateTimeField(_("issued"), null=True, blank=True)
    expires_at = models.DateTimeField(
        _("expires"), null=True, blank=True, help_text=_("The first instant at which it is gone.")
    )
    use_key = models.CharField(max_length=255, null=True, blank=True, unique=True, editable=False)
    used_at = models.DateTimeField(_("used"), null=True, blank=True)
    reference = models.CharField(_("used for"), max_length=120, blank=True, help_text=_("Such as the order's number."))

    class Meta:
        verbose_name = _("voucher")
        verbose_name_plural = _("vouchers")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(state__in=["free", "void"]) | Q(customer__isnull=False, issued_at__isnull=False),
                name="loyalty_voucher_issued_to_somebody",
            ),
            models.CheckConstraint(
                condition=Q(state="used", used_at__isnull=False) | (~Q(state="used") & Q(used_at=None)),
                name="loyalty_voucher_used_at_a_moment",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["series", "id"], condition=Q(state="free"), name="loyalty_voucher_free"),
            models.Index(fields=["series", "state"], name="loyalty_voucher_states"),
            models.Index(
                fields=["customer", "-id"], condition=Q(customer__isnull=False), name="loyalty_voucher_customer"
            ),
        ]

    def __str__(self) -> str:
        return self.code

    def status(self, as_of: datetime | None = None) -> str:
        """Its state at a moment, ``expired`` included."""
        if self.state == self.State.ISSUED and self.expires_at and self.expires_at <= (as_of or clock.now()):
            return self.EXPIRED
        return self.state

"""Points that may be used longer than their rule said: who decided it, for which lots, and what held before."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from customers.models import Customer
from lifecycle_crm.lib import clock
from loyalty.models.ledger import Lot
from loyalty.models.programme import Programme


class Extension(models.Model):
    """One decision, or (``undoes``) that it was taken back. Append-only; the sums are those of the moment it was made."""

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="extensions")
    key = models.CharField(_("key"), max_length=255)
    expires_at = models.DateTimeField(_("expires"), help_text=_("The first instant at which the points are gone."))
    reason = models.CharField(_("reason"), max_length=300)
    customers = models.PositiveIntegerField(_("customers"))
    points = models.BigIntegerField(_("points"))
    undoes = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="undone_by", verbose_name=_("undoes")
    )
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    recorded_at = models.DateTimeField(_("recorded"), default=clock.now, editable=False)

    replayed = False
    """True on one that a verb found under its key instead of making it."""

    class Meta:
        verbose_name = _("extension")
        verbose_name_plural = _("extensions")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["programme", "key"], name="loyalty_extension_key_once"),
            models.CheckConstraint(condition=Q(points__gt=0) & Q(customers__gt=0), name="loyalty_extension_extends"),
        ]

    def __str__(self) -> str:
        return f"#{self.pk}: {self.points}"

    @property
    def until(self) -> date:
        """The last usable day, in the shop's zone."""
        return _day(self.expires_at)


class ExtendedLot(models.Model):
    """A lot in a decision: what was left of it then, when it would have ended, and when it does."""

    extension = models.ForeignKey(Extension, on_delete=models.PROTECT, related_name="lots", db_index=False)
    lot = models.ForeignKey(Lot, on_delete=models.PROTECT, related_name="extended")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    points = models.BigIntegerField(_("left"))
    was = models.DateTimeField(_("would have expired"))
    becomes = models.DateTimeField(_("expires"))

    class Meta:
        verbose_name = _("extended lot")
        verbose_name_plural = _("extended lots")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["extension", "lot"], name="loyalty_extended_lot_once"),
            models.CheckConstraint(condition=~Q(was=F("becomes")), name="loyalty_extended_lot_moves"),
        ]

    def __str__(self) -> str:
        return f"{self.points} of lot #{self.lot_id}"

    @property
    def was_day(self) -> date:
        return _day(self.was)

    @property
    def becomes_day(self) -> date:
        return _day(self.becomes)


def _day(end: datetime) -> date:
    return clock.business_date(end - timedelta(seconds=1))

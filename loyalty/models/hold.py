"""Points set aside for a purchase that is not finished yet."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from customers.models import Customer
from lifecycle_crm.lib import clock
from loyalty.models.ledger import Account, Entry
from loyalty.models.programme import Programme


class Hold(models.Model):
    """Points nobody else can spend meanwhile. It ends once: posted (redeemed), voided, run out, or moved by a merge."""

    class State(models.TextChoices):
        OPEN = "open", pgettext_lazy("hold", "Open")
        POSTED = "posted", pgettext_lazy("hold", "Redeemed")
        VOIDED = "voided", pgettext_lazy("hold", "Voided")
        EXPIRED = "expired", pgettext_lazy("hold", "Ran out")
        MOVED = "moved", pgettext_lazy("hold", "Moved to another customer")

    replayed = False
    """True on a hold that a verb found under its key instead of writing it."""

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="+", db_index=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="holds")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="points_holds", db_index=False)
    key = models.CharField(_("key"), max_length=255)
    points = models.BigIntegerField(_("points"))
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.OPEN)
    reason = models.CharField(_("reason"), max_length=300, blank=True)
    expires_at = models.DateTimeField(_("runs out"), help_text=_("From here on the points are free again."))
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)
    resolved_at = models.DateTimeField(_("ended"), null=True, blank=True)
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, related_name="opens_hold")
    spend = models.OneToOneField(Entry, null=True, blank=True, on_delete=models.PROTECT, related_name="posts_hold")
    release = models.OneToOneField(Entry, null=True, blank=True, on_delete=models.PROTECT, related_name="frees_hold")
    moved_to = models.OneToOneField(
        "self",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="moved_from",
        help_text=_("After a merge."),
    )

    class Meta:
        verbose_name = _("hold of points")
        verbose_name_plural = _("holds of points")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["programme", "key"], name="loyalty_hold_key_once"),
            models.CheckConstraint(condition=Q(points__gt=0), name="loyalty_hold_holds_points"),
            models.CheckConstraint(
                condition=Q(state="open", resolved_at__isnull=True) | (~Q(state="open") & Q(resolved_at__isnull=False)),
                name="loyalty_hold_ends_once",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], condition=Q(state="open"), name="loyalty_hold_due"),
            models.Index(fields=["customer", "id"], name="loyalty_hold_customer"),
        ]

    def __str__(self) -> str:
        return f"{self.points} held for #{self.customer_id}"

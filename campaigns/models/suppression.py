"""Addresses we do not write to."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from customers.models import email_key
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter


class Suppression(models.Model):
    """An address we do not write to, and why. One row per reason: "does not want" and "cannot receive" are different
    things that can both be true, and lifting one must not lift the other."""

    class Reason(models.TextChoices):
        UNSUBSCRIBED = "unsubscribed", _("Unsubscribed")
        BOUNCED = "bounced", _("Cannot receive")
        COMPLAINED = "complained", _("Marked as spam")
        MANUAL = "manual", _("By hand")

    email_key = models.CharField(_("address"), max_length=254)
    reason = models.CharField(_("reason"), max_length=12, choices=Reason.choices)
    diagnostic = models.CharField(_("what was said"), max_length=500, blank=True)
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name = _("address on the stop list")
        verbose_name_plural = _("stop list")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["email_key", "reason"], name="campaigns_suppression_once_per_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.email_key}: {self.reason}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.email_key = email_key(self.email_key)
        super().save(*args, **kwargs)

    @classmethod
    def add(cls, *, email_key: str, reason: str, diagnostic: str = "", at: datetime | None = None) -> bool:
        """Put an address on the list; true for the one caller, of however many at once, who put it there."""
        return bool(
            batches.execute(
                "INSERT INTO campaigns_suppression (email_key, reason, diagnostic, created_at) VALUES (%s, %s, %s, %s) "
                "ON CONFLICT (email_key, reason) DO NOTHING",
                [email_key, reason, diagnostic[:500], parameter(at or clock.now())],
            )
        )

    @property
    def is_unwilling(self) -> bool:
        """They do not want it (they may change their mind), as opposed to: they cannot receive it."""
        return self.reason in (self.Reason.UNSUBSCRIBED, self.Reason.COMPLAINED)

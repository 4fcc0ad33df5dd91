"""Addresses we do not write to."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from campaigns.models.template import Channel
from customers.models import email_key
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter


def address_key(channel: str, address: str) -> str:
    """What an address is known by on the stop list: an e-mail address as ``email_key`` makes it, a phone number as it is
    stored (E.164); "" for what is no address of this channel."""
    if channel == Channel.SMS:
        return address if address.startswith("+") else ""
    return email_key(address)


class Suppression(models.Model):
    """An address of one channel that we do not write to, and why. One row per reason: "does not want" and "cannot receive"
    are different things that can both be true, and lifting one must not lift the other."""

    class Reason(models.TextChoices):
        UNSUBSCRIBED = "unsubscribed", _("Unsubscribed")
        BOUNCED = "bounced", _("Cannot receive")
        COMPLAINED = "complained", _("Marked as spam")
        MANUAL = "manual", _("By hand")

    channel = models.CharField(_("channel"), max_length=8, choices=Channel.choices, default=Channel.EMAIL)
    address_key = models.CharField(
        _("address"), max_length=254, help_text=_("An e-mail address, or a phone number such as +46701234567.")
    )
    reason = models.CharField(_("reason"), max_length=12, choices=Reason.choices)
    diagnostic = models.CharField(_("what was said"), max_length=500, blank=True)
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name = _("address on the stop list")
        verbose_name_plural = _("stop list")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["channel", "address_key", "reason"], name="campaigns_suppression_once_per_reason"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.address_key}: {self.reason}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.address_key = address_key(self.channel, self.address_key) or self.address_key
        super().save(*args, **kwargs)

    @classmethod
    def add(
        cls, *, channel: str, address_key: str, reason: str, diagnostic: str = "", at: datetime | None = None
    ) -> bool:
        """Put an address on the list; true for the one caller, of however many at once, who put it there."""
        return bool(
            batches.execute(
                "INSERT INTO campaigns_suppression (channel, address_key, reason, diagnostic, created_at) "
                "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (channel, address_key, reason) DO NOTHING",
                [channel, address_key, reason, diagnostic[:500], parameter(at or clock.now())],
            )
        )

    @property
    def is_unwilling(self) -> bool:
        """They do not want it (they may change their mind), as opposed to: they cannot receive it."""
        return self.reason in (self.Reason.UNSUBSCRIBED, self.Reason.COMPLAINED)

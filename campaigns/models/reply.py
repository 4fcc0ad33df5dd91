"""What people answer to an SMS."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from lifecycle_crm.lib import clock


class Reply(models.Model):
    """An SMS that came in. The provider's number of it makes it count once, however often it is told."""

    source = models.CharField(_("told by"), max_length=30)
    source_id = models.CharField(_("number at the source"), max_length=200)
    phone = models.CharField(_("phone"), max_length=20)
    text = models.CharField(_("text"), max_length=500, blank=True)
    is_stop = models.BooleanField(_("asks us to stop"))
    received_at = models.DateTimeField(_("received"), default=clock.now, editable=False)

    class Meta:
        verbose_name = _("reply by SMS")
        verbose_name_plural = _("replies by SMS")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source", "source_id"], name="campaigns_reply_once_per_source"),
        ]

    def __str__(self) -> str:
        return f"{self.phone}: {self.text[:40]}"

"""Where messages lead, and who went there."""

from __future__ import annotations

import hashlib
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from campaigns.models.campaign import Campaign
from campaigns.models.message import Message


def digest_of(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


class Link(models.Model):
    """An address that messages of a campaign lead to. A tracked link names this row, so no address travels in the open."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="links", db_index=False)
    digest = models.CharField(max_length=64)
    url = models.TextField(_("address"))

    class Meta:
        verbose_name = _("link")
        verbose_name_plural = _("links")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["campaign", "digest"], name="campaigns_link_once"),
        ]

    def __str__(self) -> str:
        return self.url[:80]


class Visit(models.Model):
    """A press of a link or the loading of the picture in a message, as it was asked for: raw, and judged apart.

    ``kind`` is decided when the burst around it is known (``tracking.judge``); until then it is waiting. Only a human
    press of a link is handed down to the customer's facts; opens never are.
    """

    class Kind(models.TextChoices):
        WAITING = "", _("Not judged yet")
        HUMAN = "human", _("Human")
        MACHINE = "machine", _("Machine")
        UNKNOWN = "unknown", _("Unknown")

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="visits", db_index=False)
    link = models.ForeignKey(
        Link, null=True, blank=True, on_delete=models.CASCADE, related_name="visits", help_text=_("Empty: an open.")
    )
    occurred_at = models.DateTimeField(_("when"))
    kind = models.CharField(_("who"), max_length=7, choices=Kind.choices, blank=True)
    why = models.CharField(_("why we think so"), max_length=60, blank=True)
    method = models.CharField(max_length=8)
    agent = models.CharField(_("program"), max_length=200, blank=True)
    origin = models.CharField(max_length=16, blank=True, help_text=_("Stands for where it came from; says not where."))
    has_language = models.BooleanField(default=False, help_text=_("It said which languages it reads, as browsers do."))

    class Meta:
        verbose_name = _("visit")
        verbose_name_plural = _("visits")
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["message", "occurred_at"], name="campaigns_visit_message"),
            models.Index(fields=["occurred_at"], condition=Q(kind=""), name="campaigns_visit_waiting"),
            models.Index(fields=["origin", "occurred_at"], name="campaigns_visit_origin"),
        ]

    def __str__(self) -> str:
        return f"{self.kind or 'waiting'} #{self.message_id}"

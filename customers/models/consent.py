from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from customers.models.customer import Customer
from lifecycle_crm.lib import clock


class Consent(models.Model):
    """One statement of one customer about one purpose on one channel. Append-only: the last row counts."""

    class Purpose(models.TextChoices):
        MARKETING = "marketing", _("Offers and news")
        SURVEY = "survey", _("Questions about your experience")

    class Channel(models.TextChoices):
        EMAIL = "email", _("E-mail")
        SMS = "sms", _("SMS")

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="consents")
    purpose = models.CharField(_("purpose"), max_length=12, choices=Purpose.choices)
    channel = models.CharField(_("channel"), max_length=8, choices=Channel.choices)
    is_granted = models.BooleanField(_("granted"))
    wording = models.CharField(_("wording version"), max_length=40, blank=True)
    source = models.CharField(_("source"), max_length=40)
    ip = models.GenericIPAddressField(null=True, blank=True)
    language = models.CharField(_("language"), max_length=5, blank=True)
    occurred_at = models.DateTimeField(_("given"), default=clock.now)
    recorded_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("consent")
        verbose_name_plural = _("consents")
        indexes: ClassVar = [
            models.Index(fields=["customer", "purpose", "channel", "occurred_at"], name="customers_consent_last"),
        ]

    def __str__(self) -> str:
        return f"{self.purpose}/{self.channel}: {'yes' if self.is_granted else 'no'}"

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from customers.models.customer import Customer
from lifecycle_crm.lib import clock


class Event(models.Model):
    """Something a customer did, under its own name and with its own time: ``visit``, ``cart``, ``referral``, ``review``."""

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="events")
    name = models.CharField(_("name"), max_length=80)
    occurred_at = models.DateTimeField(_("happened"))
    received_at = models.DateTimeField(default=clock.now, editable=False)
    source = models.CharField(_("source"), max_length=40)
    source_id = models.CharField(_("id at the source"), max_length=120)
    properties = models.JSONField(_("properties"), default=dict, blank=True)
    is_history = models.BooleanField(default=False)
    reacted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source", "source_id"], name="customers_event_once_per_source"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["customer", "name", "occurred_at"], name="customers_event_facts"),
            # Carts that were left behind are looked for every minute, by time.
            models.Index(fields=["occurred_at", "id"], condition=Q(name="cart"), name="customers_event_cart"),
            # Of most names nothing follows, so only some are ever drained: the name comes first.
            models.Index(
                fields=["name", "occurred_at", "id"], condition=Q(reacted_at=None), name="customers_event_to_react"
            ),
        ]

    def __str__(self) -> str:
        return self.name

"""Addresses of the shop's own systems that journeys tell something, and one row for everything they were ever to be told."""

from __future__ import annotations

import secrets
import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from campaigns.models.journey import JourneyRun
from customers.models import Customer
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.moments import MomentField

_MARKS = {"delivered": "ok", "gave_up": "bad", "waiting": "waiting", "sending": "info"}


def new_secret() -> str:
    return secrets.token_urlsafe(32)


class WebhookTarget(models.Model):
    """Where to POST, and the secret that both sides sign with. Journeys name it by ``key``."""

    key = models.SlugField(_("key"), max_length=60, unique=True)
    name = models.CharField(_("name"), max_length=120)
    url = models.CharField(_("address"), max_length=500)
    secret = models.CharField(_("secret"), max_length=64, default=new_secret, editable=False)
    is_active = models.BooleanField(_("is told"), default=True)
    quiet_until = MomentField(
        _("left alone until"), null=True, blank=True, editable=False, help_text=_("After it did not answer.")
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("webhook")
        verbose_name_plural = _("webhooks")
        ordering: ClassVar = ["name", "id"]

    def __str__(self) -> str:
        return self.name


class WebhookDelivery(models.Model):
    """One thing to tell one address about one person: the queue itself. ``fields`` is what the marketer chose.

    What is said is made when it is sent, so nothing of the person is kept here. ``number`` goes along in a header: an
    address may hear it twice, and drops the second.
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("Waits")
        SENDING = "sending", _("On its way")
        DELIVERED = "delivered", _("Delivered")
        GAVE_UP = "gave_up", _("Gave up")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    number = models.UUIDField(_("number"), default=uuid.uuid4, unique=True, editable=False)
    target = models.ForeignKey(WebhookTarget, on_delete=models.PROTECT, related_name="deliveries", db_index=False)
    run = models.ForeignKey(JourneyRun, on_delete=models.PROTECT, related_name="webhooks", db_index=False)
    step = models.CharField(_("step"), max_length=20)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+", db_index=False)
    fields = models.JSONField(_("what is told"), default=list, blank=True)
    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.WAITING)
    due_at = MomentField(_("next try"), null=True, blank=True)
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    owner = models.CharField(max_length=36, blank=True, editable=False)
    status = models.PositiveSmallIntegerField(_("last answer"), null=True, blank=True)
    error = models.CharField(_("what went wrong"), max_length=200, blank=True)
    created_at = MomentField(_("made"))
    settled_at = MomentField(_("settled"), null=True, blank=True)

    class Meta:
        verbose_name = _("delivery of a webhook")
        verbose_name_plural = _("deliveries of webhooks")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "step"], name="campaigns_hook_once"),
            models.CheckConstraint(
                condition=Q(state__in=["waiting", "sending"], due_at__isnull=False, settled_at=None)
                | (~Q(state__in=["waiting", "sending"]) & Q(due_at=None, settled_at__isnull=False)),
                name="campaigns_hook_waits_or_is_settled",
            ),
        ]
        indexes: ClassVar = [
            # What is on its way is due again when its sender has been silent for too long.
            models.Index(
                fields=["due_at", "id"], condition=Q(state__in=["waiting", "sending"]), name="campaigns_hook_due"
            ),
            models.Index(fields=["owner"], condition=Q(state="sending"), name="campaigns_hook_owner"),
            models.Index(fields=["target", "state", "id"], name="campaigns_hook_target"),
            models.Index(fields=["customer", "id"], name="campaigns_hook_customer"),
        ]

    def __str__(self) -> str:
        return str(self.number)

    @property
    def mark(self) -> str:
        """The kind of mark a page sets beside the state."""
        return _MARKS.get(self.state, "neutral")

"""How fast we may go, and when we must not go at all."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from campaigns.models.template import Channel
from lifecycle_crm.lib import clock


class Throttle(models.Model):
    """So many messages a minute to the domains of one provider. The count of this minute is a column, so it holds for all
    senders together; ``booked_until`` is how far ahead messages that were too many have been given their time."""

    name = models.CharField(_("provider"), max_length=60, unique=True)
    domains = models.JSONField(
        _("domains"),
        default=list,
        help_text=_('A list such as ["gmail.com", "googlemail.com"]. "*" is everybody else.'),
    )
    per_minute = models.PositiveIntegerField(_("messages a minute"))
    minute = models.DateTimeField(null=True, blank=True, editable=False)
    used = models.PositiveIntegerField(default=0, editable=False)
    booked_until = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("speed limit")
        verbose_name_plural = _("speed limits")
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(per_minute__gte=1), name="campaigns_throttle_lets_one_through"),
        ]

    def __str__(self) -> str:
        return self.name


class Hold(models.Model):
    """While an open one stands, nothing leaves: a backup was restored, or a person stopped everything. Lifted by a person."""

    reason = models.CharField(_("reason"), max_length=300)
    since = models.DateTimeField(_("since"), default=clock.now)
    lifted_at = models.DateTimeField(_("lifted"), null=True, blank=True)
    lifted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        verbose_name = _("stop of all sending")
        verbose_name_plural = _("stops of all sending")
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=Q(lifted_at=None), name="campaigns_hold_open"),
        ]

    def __str__(self) -> str:
        return self.reason


class Outage(models.Model):
    """Why nothing leaves over a channel just now: its server cannot be reached, or lets us send nothing. The row goes when
    something is sent again."""

    channel = models.CharField(_("channel"), max_length=8, choices=Channel.choices, primary_key=True)
    said = models.CharField(_("what was said"), max_length=500)
    since = models.DateTimeField(_("since"), default=clock.now)

    class Meta:
        verbose_name = _("outage of a channel")
        verbose_name_plural = _("outages of channels")

    def __str__(self) -> str:
        return f"{self.channel}: {self.said}"

    @classmethod
    def seen(cls, channel: str, said: str) -> None:
        """Nothing can be sent; since when it has been so is kept."""
        cls.objects.update_or_create(channel=channel, defaults={"said": " ".join(said.split())[:500]})

    @classmethod
    def over(cls, channel: str) -> None:
        """Something was sent."""
        cls.objects.filter(channel=channel).delete()


class SendingRules(models.Model):
    """What holds for every send of the shop. One row."""

    approve_above = models.PositiveIntegerField(
        _("a second person from"),
        null=True,
        blank=True,
        help_text=_("A send to more people than this waits until somebody other than its author says yes."),
    )
    cost_per_thousand_minor = models.PositiveIntegerField(
        _("what 1,000 messages cost"),
        default=0,
        help_text=_(
            "In hundredths (minor units) of the shop's currency. Counted as cost where we say what was caused."
        ),
    )

    cost_per_thousand_parts_minor = models.PositiveIntegerField(
        _("what 1,000 parts of SMS cost"),
        default=0,
        help_text=_("In hundredths (minor units) of the shop's currency. A long SMS is sent, and paid, in parts."),
    )

    class Meta:
        verbose_name = _("rules of sending")
        verbose_name_plural = _("rules of sending")

    def __str__(self) -> str:
        return str(_("Rules of sending"))

    @classmethod
    def current(cls) -> SendingRules:
        return cls.objects.order_by("pk").first() or cls()

    def cost_of(self, messages: int, *, parts: int = 0) -> int:
        """What so many e-mail messages and so many parts of SMS cost, in minor units, rounded up."""
        return -(-(messages * self.cost_per_thousand_minor + parts * self.cost_per_thousand_parts_minor) // 1000)


class DeliveryEvent(models.Model):
    """What somebody else said about a message after it left: a mail server, a provider, a mailbox."""

    class Kind(models.TextChoices):
        DELIVERED = "delivered", _("Delivered")
        HARD_BOUNCE = "hard_bounce", _("Address cannot receive")
        SOFT_BOUNCE = "soft_bounce", _("Could not be delivered for now")
        COMPLAINT = "complaint", _("Marked as spam")
        UNSUBSCRIBED = "unsubscribed", _("Unsubscribed at the provider")

    message = models.ForeignKey("campaigns.Message", on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(_("what"), max_length=12, choices=Kind.choices)
    occurred_at = models.DateTimeField(_("happened"))
    source = models.CharField(_("told by"), max_length=30)
    source_id = models.CharField(_("number at the source"), max_length=200)
    diagnostic = models.CharField(_("what was said"), max_length=500, blank=True)
    received_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("delivery notice")
        verbose_name_plural = _("delivery notices")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source", "source_id"], name="campaigns_event_once_per_source"),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["occurred_at"],
                condition=Q(kind__in=["hard_bounce", "complaint"]),
                name="campaigns_event_alarming",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} #{self.message_id}"

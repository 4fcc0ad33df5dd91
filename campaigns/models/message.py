"""One row for every message anybody was ever meant to get, and what they saw."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from campaigns.models.campaign import Run
from campaigns.models.template import Channel
from customers.models import Consent, Customer
from lifecycle_crm.lib import clock

_MESSAGE_MARKS = {
    "sent": "ok", "failed": "bad", "in_doubt": "warn", "retry": "waiting", "queued": "waiting", "claimed": "info",
    "sending": "info",
}  # fmt: skip


class Message(models.Model):
    """One message to one customer: a row of the outbox, from the moment they were picked to the last answer.

    ``queued → claimed → sending → sent | retry | failed | in_doubt | skipped | cancelled``; ``held_out`` from the
    start for those who get nothing on purpose. ``sending`` is committed just before the body leaves; what dies in it is
    ``in_doubt`` and never sent again by us. ``attempt`` counts claims and fences a zombie out, ``tries`` counts refusals.
    """

    class State(models.TextChoices):
        QUEUED = "queued", _("Queued")
        CLAIMED = "claimed", _("Taken by a sender")
        SENDING = "sending", _("On its way")
        SENT = "sent", _("Sent")
        RETRY = "retry", _("Will be tried again")
        FAILED = "failed", _("Failed")
        IN_DOUBT = "in_doubt", _("In doubt")
        SKIPPED = "skipped", _("Skipped")
        HELD_OUT = "held_out", _("Held out")
        CANCELLED = "cancelled", _("Cancelled")

    class Reason(models.TextChoices):
        NO_ADDRESS = "no_address", _("has no e-mail address")
        NO_PHONE = "no_phone", _("has no phone number")
        NO_CONSENT = "no_consent", _("has not agreed to this")
        UNSUBSCRIBED = "unsubscribed", _("has unsubscribed")
        BOUNCED = "bounced", _("address cannot receive")
        COMPLAINED = "complained", _("marked a message as spam")
        MANUAL = "manual", _("was put on the stop list by hand")
        QUIET_HOURS = "quiet_hours", _("waits for the morning where they live")
        CAPPED = "capped", _("had enough messages lately")
        OPEN_CASE = "open_case", _("has a complaint that is being handled")
        DETRACTOR = "recent_detractor", _("was unhappy with us lately")
        REFUND = "pending_refund", _("is waiting for a refund")
        DELAYED = "late_delivery", _("is waiting for a late delivery")
        JUST_BOUGHT = "just_bought", _("bought something a few days ago")
        THROTTLED = "throttled", _("waits for its turn with this mail provider")
        CAME_BACK = "came_back", _("came back before it was sent")
        STALE = "stale", _("the occasion is too long ago")
        INACTIVE = "inactive", _("the campaign was stopped")
        RENDER = "render", _("the text could not be made")
        ADDRESS = "bad_address", _("address cannot be written on an envelope")
        REFUSED = "refused", _("the server refused it")
        LATER = "later", _("the server asked for later")
        GAVE_UP = "gave_up", _("still refused after the last try")
        NO_ANSWER = "no_answer", _("handed over, but the answer got lost")
        SENDER_DIED = "sender_died", _("the sender stopped while it was on its way")
        CANCELLED = "cancelled", _("the run was cancelled")
        HOLDOUT = "holdout", _("gets nothing on purpose, to measure the effect")

    OPEN = ("queued", "retry", "claimed", "sending")
    """States in which something is still to happen; a run without them is finished."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="messages", db_index=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="messages", db_index=False)
    channel = models.CharField(_("channel"), max_length=8, choices=Channel.choices)
    version = models.ForeignKey(
        "campaigns.ExperimentVersion", null=True, blank=True, on_delete=models.PROTECT, related_name="messages",
        db_index=False, help_text=_("Given by chance when it was planned, in an experiment; it never changes."),
    )  # fmt: skip
    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.QUEUED)
    reason = models.CharField(_("reason"), max_length=20, choices=Reason.choices, blank=True)
    verdict = models.JSONField(_("verdict"), default=dict, help_text=_("What the gate looked at when it last decided."))
    consent = models.ForeignKey(
        Consent, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    context = models.JSONField(default=dict, blank=True, help_text=_("Values for this message alone."))
    address = models.CharField(_("address"), max_length=254, blank=True)
    language = models.CharField(_("language"), max_length=5, blank=True)
    owner = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    due_at = models.DateTimeField(_("due"))
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    transport = models.CharField(_("sent by"), max_length=8, blank=True)
    parts = models.PositiveSmallIntegerField(
        _("parts"), default=0, db_default=0, help_text=_("Of an SMS: how many short messages are paid for.")
    )
    message_id = models.CharField(_("message id"), max_length=120, blank=True)
    error = models.CharField(_("answer of the server"), max_length=500, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["run", "customer", "channel"], name="campaigns_message_once_per_run_customer_channel"
            ),
            models.CheckConstraint(
                condition=~Q(state="sent") | Q(sent_at__isnull=False), name="campaigns_message_sent_has_a_time"
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["skipped", "failed", "in_doubt"]) | ~Q(reason=""),
                name="campaigns_message_says_why",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["run", "due_at", "id"],
                condition=Q(state__in=["queued", "retry"]),
                name="campaigns_message_due",
            ),
            models.Index(
                fields=["lease_until"], condition=Q(state__in=["claimed", "sending"]), name="campaigns_message_leased"
            ),
            models.Index(fields=["customer", "id"], name="campaigns_message_customer"),
            models.Index(fields=["run", "state"], name="campaigns_message_run_state"),
            models.Index(
                fields=["version", "customer"], condition=Q(version__isnull=False), name="campaigns_message_version"
            ),
            # Only what somebody looks for: a message on its way through changes no entry of it.
            models.Index(
                fields=["state", "id"],
                condition=Q(state__in=["failed", "in_doubt", "skipped", "held_out", "cancelled"]),
                name="campaigns_message_aside",
            ),
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.state}"

    @property
    def mark(self) -> str:
        """The kind of mark a page sets beside the state."""
        return _MESSAGE_MARKS.get(self.state, "neutral")


class Rendering(models.Model):
    """What they saw: the message as it was made for this one person."""

    message = models.OneToOneField(Message, primary_key=True, on_delete=models.CASCADE, related_name="rendering")
    subject = models.CharField(_("subject"), max_length=400)
    html = models.TextField()
    text = models.TextField()
    links = models.PositiveSmallIntegerField(_("tracked links"), default=0)

    class Meta:
        verbose_name = _("rendered message")
        verbose_name_plural = _("rendered messages")

    def __str__(self) -> str:
        return self.subject


class Slot(models.Model):
    """A marketing message used up one place of a customer's day. The unique key is what makes the cap hold: two senders
    at the same second want the same number, and one gets it."""

    customer_id = models.BigIntegerField()
    day = models.DateField(help_text=_("Calendar day where the customer lives."))
    number = models.PositiveSmallIntegerField()
    message = models.OneToOneField(Message, on_delete=models.CASCADE, related_name="slot")
    occurred_at = models.DateTimeField()

    class Meta:
        verbose_name = _("used place of a day")
        verbose_name_plural = _("used places of a day")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["customer_id", "day", "number"], name="campaigns_slot_once"),
        ]

    def __str__(self) -> str:
        return f"#{self.customer_id} {self.day} {self.number}"

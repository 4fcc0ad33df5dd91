"""Something we want to say, and one going-out of it."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from campaigns.models.template import Channel, Purpose, Template
from lifecycle_crm.lib import clock
from lifecycle_crm.templatetags.crm import day

_RUN_MARKS = {"sending": "info", "needs_confirmation": "warn", "paused": "warn", "finished": "ok", "planned": "waiting"}


class Campaign(models.Model):
    """Something we want to say, to whom, and within which limits."""

    class Kind(models.TextChoices):
        BROADCAST = "broadcast", _("One-off message")
        REACTIVATION = "reactivation", _("Win-back")
        JOURNEY = "journey", _("Step of a journey")

    class State(models.TextChoices):
        DRAFT = "draft", _("Draft")
        ACTIVE = "active", _("Active")
        PAUSED = "paused", _("Paused")
        ENDED = "ended", _("Ended")

    key = models.SlugField(_("key"), max_length=60, unique=True, null=True, blank=True)
    name = models.CharField(_("name"), max_length=120)
    kind = models.CharField(_("kind"), max_length=14, choices=Kind.choices, default=Kind.BROADCAST)
    purpose = models.CharField(_("purpose"), max_length=12, choices=Purpose.choices, default=Purpose.MARKETING)
    channel = models.CharField(_("channel"), max_length=8, choices=Channel.choices, default=Channel.EMAIL)
    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="campaigns")
    journey = models.ForeignKey(
        "campaigns.Journey", null=True, blank=True, editable=False, on_delete=models.PROTECT, related_name="campaigns",
        help_text=_("Whose step it sends."),
    )  # fmt: skip
    step = models.CharField(_("step"), max_length=20, blank=True, editable=False)
    audience = models.JSONField(
        _("audience"), default=dict, blank=True, help_text=_("A condition over the facts; a win-back finds its own.")
    )
    holdout_percent = models.PositiveSmallIntegerField(
        _("holdout"), default=10, help_text=_("Per cent of the audience that gets nothing, so that the effect shows.")
    )
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.DRAFT)
    cap_per_day = models.PositiveSmallIntegerField(
        _("messages a day"), default=1, help_text=_("Not sent to somebody who had so many offers on their day.")
    )
    cap_per_week = models.PositiveSmallIntegerField(_("messages in seven days"), default=3)
    quiet_from = models.PositiveSmallIntegerField(_("quiet from"), default=21, help_text=_("Hour where they live."))
    quiet_until = models.PositiveSmallIntegerField(_("quiet until"), default=8)
    calm_days = models.PositiveSmallIntegerField(
        _("days without offers after a purchase"),
        default=2,
        help_text=_("Who just bought is left in peace for so many days; then the message goes out by itself."),
    )
    credit_days = models.PositiveSmallIntegerField(
        _("days in which an order is credited"), default=7, help_text=_("Counted from the hour the message was sent.")
    )
    send_hour = models.PositiveSmallIntegerField(
        _("sent at"), null=True, blank=True, help_text=_("Hour where they live; empty: as soon as it may leave.")
    )
    is_general = models.BooleanField(
        _("without personal values"), default=False, help_text=_("As it reads for somebody of whom nothing is known.")
    )
    alarm = models.JSONField(
        default=dict, blank=True, editable=False, help_text=_("What the circuit breaker saw, in numbers.")
    )
    fresh_from = models.DateTimeField(
        null=True, blank=True, editable=False, help_text=_("The breaker counts from here: a person looked and went on.")
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("campaign")
        verbose_name_plural = _("campaigns")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(holdout_percent__lte=90), name="campaigns_holdout_leaves_somebody"),
            models.CheckConstraint(
                condition=Q(kind="journey", journey__isnull=False) & ~Q(step="")
                | ~Q(kind="journey") & Q(journey__isnull=True, step=""),
                name="campaigns_step_is_of_a_journey",
            ),
            models.UniqueConstraint(
                fields=["journey", "step", "template"],
                condition=Q(journey__isnull=False),
                name="campaigns_step_says_a_text_once",
            ),
            models.CheckConstraint(
                condition=Q(cap_per_day__gte=1) & Q(cap_per_week__gte=1), name="campaigns_caps_allow_one"
            ),
            models.CheckConstraint(
                condition=Q(send_hour__isnull=True) | Q(send_hour__lte=23), name="campaigns_send_hour_is_an_hour"
            ),
            models.CheckConstraint(
                condition=Q(quiet_from__lte=23) & Q(quiet_until__lte=23), name="campaigns_quiet_hours_are_hours"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def mark(self) -> str:
        """The kind of mark a page sets beside the state."""
        return {"active": "ok", "paused": "warn", "draft": "info"}.get(self.state, "neutral")


class Run(models.Model):
    """One going-out of a campaign, with its audience frozen into messages. Its key makes planning re-runnable."""

    class State(models.TextChoices):
        PLANNED = "planned", _("Planned")
        NEEDS_CONFIRMATION = "needs_confirmation", _("Waits for your word")
        SENDING = "sending", _("Sending")
        PAUSED = "paused", _("Paused")
        FINISHED = "finished", _("Finished")
        CANCELLED = "cancelled", _("Cancelled")

    campaign = models.ForeignKey(Campaign, on_delete=models.PROTECT, related_name="runs", db_index=False)
    key = models.CharField(_("key"), max_length=80)
    state = models.CharField(_("state"), max_length=20, choices=State.choices, default=State.PLANNED)
    as_of = models.DateTimeField(_("as of"), help_text=_("The instant the audience was decided for."))
    audience = models.PositiveBigIntegerField(_("audience"), default=0)
    variants = models.JSONField(
        default=dict, help_text=_("Language to text, as they were when planned: a later edit does not reach this run.")
    )
    guard = models.JSONField(default=dict, blank=True, help_text=_("Why this run waits for a person, in numbers."))
    confirmed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["campaign", "key"], name="campaigns_run_once_per_key"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=Q(state="sending"), name="campaigns_run_sending"),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def mark(self) -> str:
        """The kind of mark a page sets beside the state."""
        return _RUN_MARKS.get(self.state, "neutral")

    @property
    def label(self) -> str:
        """The run's name for people: the night or the send it is."""
        kind, _sep, rest = self.key.partition(":")
        if kind == "night":
            try:
                night = date.fromisoformat(rest)
            except ValueError:
                return self.key
            return gettext("Night of %(day)s") % {"day": day(night)}
        if kind == "broadcast":
            return gettext("Send %(number)s") % {"number": rest}
        return self.key

    @property
    def can_be_stopped(self) -> bool:
        return self.state not in (self.State.FINISHED, self.State.CANCELLED)

"""A question put to chance: two to four versions of one campaign's message, what came of each, and the one verdict."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from campaigns.models.campaign import Campaign
from campaigns.models.template import Template
from lifecycle_crm.lib import clock

LABELS = ("A", "B", "C", "D")
"""Versions by the letter people call them; A is what the campaign says today."""

_MARKS = {"draft": "info", "running": "waiting", "ended": "neutral"}


class Experiment(models.Model):
    """Which version of a campaign's message does better, by one measure, asked once.

    Everything the answer depends on is fixed when it starts: versions and their words, shares, the people it ``needed``
    per version, and ``base``, what was measured or stated of today: ``{"share": 0.03}`` or ``{"mean_minor": 412.5,
    "sd_minor": 3100.0}``. A person's version follows from ``key`` and their number, so it never changes.
    """

    class State(models.TextChoices):
        DRAFT = "draft", _("Draft")
        RUNNING = "running", _("Running")
        ENDED = "ended", _("Ended")

    class Measure(models.TextChoices):
        CLICK = "click", _("Pressed a link")
        ORDER = "order", _("Ordered")
        REVENUE = "revenue", _("Revenue per person")

    key = models.SlugField(_("key"), max_length=60, unique=True)
    name = models.CharField(_("name"), max_length=120)
    campaign = models.ForeignKey(Campaign, on_delete=models.PROTECT, related_name="experiments")
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.DRAFT)
    measure = models.CharField(_("main measure"), max_length=8, choices=Measure.choices, default=Measure.CLICK)
    lift_percent = models.PositiveSmallIntegerField(
        _("smallest difference worth having"), default=20, help_text=_("In per cent of what it is today.")
    )
    window_days = models.PositiveSmallIntegerField(
        _("days counted"), default=7, help_text=_("So long after their message what a person does is counted.")
    )
    stated_percent = models.FloatField(
        _("share today, stated"), null=True, blank=True, help_text=_("In per cent; empty where it can be measured.")
    )
    base = models.JSONField(_("today"), default=dict, blank=True, editable=False)
    needed = models.PositiveIntegerField(_("people needed per version"), default=0, editable=False)
    chosen = models.ForeignKey(
        "campaigns.ExperimentVersion", null=True, blank=True, editable=False, on_delete=models.PROTECT, related_name="+",
        help_text=_("The version that was taken for everyone."),
    )  # fmt: skip
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    started_at = models.DateTimeField(_("started"), null=True, blank=True, editable=False)
    ended_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("experiment")
        verbose_name_plural = _("experiments")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["campaign"], condition=Q(state="running"), name="campaigns_experiment_alone_in_its_campaign"
            ),
            models.CheckConstraint(
                condition=Q(state="draft") | Q(started_at__isnull=False, needed__gte=1),
                name="campaigns_experiment_started_knows_its_size",
            ),
            models.CheckConstraint(
                condition=Q(lift_percent__gte=1, lift_percent__lte=500) & Q(window_days__gte=1, window_days__lte=60),
                name="campaigns_experiment_asks_something",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def mark(self) -> str:
        """The kind of mark a page sets beside the state."""
        return _MARKS.get(self.state, "neutral")

    @property
    def is_money(self) -> bool:
        return self.measure == self.Measure.REVENUE


class ExperimentVersion(models.Model):
    """One of the versions. ``variants`` are its words by language (ids), frozen at the start: an edit of the text during
    the experiment reaches nobody in it."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="versions", db_index=False)
    label = models.CharField(_("version"), max_length=1)
    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="+")
    hour = models.PositiveSmallIntegerField(
        _("sent at"), null=True, blank=True, help_text=_("Hour where they live; empty: as soon as it may leave.")
    )
    is_general = models.BooleanField(
        _("without personal values"), default=False, help_text=_("As it reads for somebody of whom nothing is known.")
    )
    share = models.PositiveSmallIntegerField(_("share"), help_text=_("Per cent of the people in the experiment."))
    variants = models.JSONField(default=dict, blank=True, editable=False)

    class Meta:
        verbose_name = _("version in an experiment")
        verbose_name_plural = _("versions in experiments")
        ordering: ClassVar = ["experiment", "label"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["experiment", "label"], name="campaigns_experiment_version_once"),
            models.CheckConstraint(
                condition=Q(share__gte=1, share__lte=99), name="campaigns_experiment_share_is_a_part"
            ),
            models.CheckConstraint(
                condition=Q(hour__isnull=True) | Q(hour__lte=23), name="campaigns_experiment_hour_is_an_hour"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.label}: {self.template}"


class ExperimentDay(models.Model):
    """How a version stood at the end of a day, as the night counted it.

    ``joined`` are all who were given the version; ``people`` those of them whose days are over, and only of them the rest
    is counted: whoever pressed a link, ordered, unsubscribed, complained, or whose message failed, and what they spent.
    """

    version = models.ForeignKey(ExperimentVersion, on_delete=models.PROTECT, related_name="days", db_index=False)
    business_date = models.DateField(_("day"))
    joined = models.PositiveIntegerField(_("in the version"), default=0)
    people = models.PositiveIntegerField(_("people"), default=0)
    clicked = models.PositiveIntegerField(_("pressed a link"), default=0)
    ordered = models.PositiveIntegerField(_("ordered"), default=0)
    spent_minor = models.BigIntegerField(_("spent"), default=0)
    spent_squares = models.FloatField(default=0.0)
    unsubscribed = models.PositiveIntegerField(_("unsubscribed"), default=0)
    complained = models.PositiveIntegerField(_("marked as spam"), default=0)
    failed = models.PositiveIntegerField(_("could not be sent"), default=0)

    class Meta:
        verbose_name = _("day of an experiment")
        verbose_name_plural = _("days of experiments")
        ordering: ClassVar = ["version", "-business_date"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["version", "business_date"], name="campaigns_experiment_day_once"),
        ]

    def __str__(self) -> str:
        return f"{self.business_date}: {self.people}"


class ExperimentVerdict(models.Model):
    """The one look at the planned number of people: what it said, and the numbers as they were then. Append-only."""

    class Kind(models.TextChoices):
        BETTER = "better", _("One version is better")
        NO_DIFFERENCE = "no_difference", _("No clear difference")
        CANNOT_TELL = "cannot_tell", _("Cannot tell")

    experiment = models.OneToOneField(Experiment, on_delete=models.PROTECT, related_name="verdict")
    business_date = models.DateField(_("day"))
    kind = models.CharField(_("verdict"), max_length=13, choices=Kind.choices)
    winner = models.ForeignKey(
        ExperimentVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    is_yellow = models.BooleanField(
        _("with a warning"), default=False, help_text=_("More people unsubscribed or complained.")
    )
    numbers = models.JSONField(_("numbers"))
    made_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("verdict of an experiment")
        verbose_name_plural = _("verdicts of experiments")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(kind="better", winner__isnull=False) | ~Q(kind="better") & Q(winner__isnull=True),
                name="campaigns_verdict_names_the_better_one",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.experiment_id}: {self.kind}"

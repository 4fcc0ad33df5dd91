"""A journey, its published versions, who is inside, and every step anybody took."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from customers.models import Customer
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.moments import MomentField

_JOURNEY_MARKS = {"live": "ok", "paused": "warn", "draft": "info"}
_RUN_MARKS = {"running": "info", "goal": "ok", "done": "ok", "failed": "bad"}


class Journey(models.Model):
    """What happens to whom, when. ``draft`` is the tree being edited; what is in force is the newest version."""

    class State(models.TextChoices):
        DRAFT = "draft", _("Draft")
        LIVE = "live", _("Live")
        PAUSED = "paused", _("Paused")
        ENDED = "ended", _("Ended")

    class Again(models.TextChoices):
        """Whether somebody may enter a second time."""

        NEVER = "never", _("never again")
        AFTER = "after", _("again after some days")
        ALWAYS = "always", _("every time")

    key = models.SlugField(_("key"), max_length=60, unique=True)
    name = models.CharField(_("name"), max_length=120)
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.DRAFT)
    again = models.CharField(_("a person may enter"), max_length=6, choices=Again.choices, default=Again.NEVER)
    again_days = models.PositiveSmallIntegerField(_("days before entering again"), default=90)
    holdout_percent = models.PositiveSmallIntegerField(
        _("holdout"), default=10, help_text=_("Per cent who get nothing on purpose, so that the effect shows.")
    )
    exits = models.JSONField(
        _("leaves early when"), default=list, blank=True, help_text=_("Conditions, asked before each step.")
    )
    goal = models.JSONField(
        _("goal"), default=dict, blank=True, help_text=_('{"order": true}, {"event": "its name"}, or empty.')
    )
    goal_days = models.PositiveSmallIntegerField(_("days for the goal"), default=30)
    draft = models.JSONField(_("draft"), default=dict, blank=True)
    edits = models.PositiveIntegerField(default=0, editable=False)
    version = models.PositiveIntegerField(_("version"), default=0, editable=False)
    live_since = models.DateTimeField(
        _("takes people in since"), null=True, blank=True, editable=False, help_text=_("Nothing earlier starts it.")
    )
    stale = models.PositiveIntegerField(
        _("dropped as too old"), default=0, editable=False, help_text=_("Reasons to enter from more than 48 hours ago.")
    )
    guard = models.JSONField(
        default=dict, blank=True, editable=False, help_text=_("Why it stopped by itself, in numbers.")
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("journey")
        verbose_name_plural = _("journeys")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(holdout_percent__lte=90), name="campaigns_journey_holdout_leaves_somebody"
            ),
            models.CheckConstraint(
                condition=Q(again_days__gte=1) & Q(goal_days__gte=1), name="campaigns_journey_counts_whole_days"
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["live", "paused"]) | Q(version__gte=1),
                name="campaigns_journey_live_has_a_version",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def mark(self) -> str:
        """The kind of mark a page sets beside the state."""
        return _JOURNEY_MARKS.get(self.state, "neutral")


class JourneyVersion(models.Model):
    """A tree as it was published. Append-only: a change is the next version."""

    journey = models.ForeignKey(Journey, on_delete=models.PROTECT, related_name="versions", db_index=False)
    number = models.PositiveIntegerField(_("version"))
    tree = models.JSONField(_("tree"))
    note = models.CharField(_("note"), max_length=300, blank=True)
    published_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    published_at = models.DateTimeField(_("published"), default=clock.now, editable=False)

    class Meta:
        verbose_name = _("version of a journey")
        verbose_name_plural = _("versions of journeys")
        ordering: ClassVar = ["journey", "-number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["journey", "number"], name="campaigns_journey_version_once"),
        ]

    def __str__(self) -> str:
        return f"{self.journey_id}, version {self.number}"


class JourneyRun(models.Model):
    """One person's way through a journey, from the cause that let them in.

    ``step`` is where they stand, empty before the first; ``since`` is when they began to wait in it, empty while they
    are still on their way to it. ``due_at`` is when somebody looks next. ``number`` counts this person's entries.
    """

    class State(models.TextChoices):
        RUNNING = "running", _("Inside")
        DONE = "done", _("Went all the way")
        GOAL = "goal", _("Reached the goal")
        EXITED = "exited", _("Left early")
        HELD_OUT = "held_out", _("Held out")
        CANCELLED = "cancelled", _("Taken out")
        FAILED = "failed", _("Set aside")

    class Reason(models.TextChoices):
        EXIT_RULE = "exit_rule", _("a rule for leaving early held")
        EXIT_STEP = "exit_step", _("the journey ends at this step")
        REMOVED = "removed", _("somebody took them out")
        UNDONE = "undone", _("the night that let them in was undone")
        ENDED = "ended", _("the journey was ended")
        STUCK = "stuck", _("a step could not be done, three times")

    journey = models.ForeignKey(Journey, on_delete=models.PROTECT, related_name="runs", db_index=False)
    version = models.ForeignKey(JourneyVersion, on_delete=models.PROTECT, related_name="+", db_index=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="journeys", db_index=False)
    key = models.CharField(_("cause"), max_length=80)
    number = models.PositiveIntegerField(_("entry"))
    is_single = models.BooleanField(default=True)
    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.RUNNING)
    reason = models.CharField(_("reason"), max_length=12, choices=Reason.choices, blank=True)
    step = models.CharField(_("step"), max_length=20, blank=True)
    since = MomentField(_("there since"), null=True, blank=True)
    due_at = MomentField(_("next look"), null=True, blank=True)
    listens = models.BooleanField(default=False, help_text=_("News of this person may end the wait."))
    entered_at = MomentField(_("entered"))
    ended_at = MomentField(_("ended"), null=True, blank=True)
    goal_at = MomentField(_("reached the goal"), null=True, blank=True)
    night = models.DateField(_("let in by the night of"), null=True, blank=True)
    tries = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(_("what went wrong"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("way through a journey")
        verbose_name_plural = _("ways through journeys")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["journey", "customer", "key"], name="campaigns_journey_once_per_cause"),
            models.UniqueConstraint(fields=["journey", "customer", "number"], name="campaigns_journey_entry_once"),
            models.UniqueConstraint(
                fields=["journey", "customer"],
                condition=Q(state="running", is_single=True),
                name="campaigns_journey_inside_once",
            ),
            models.CheckConstraint(
                condition=~Q(state="running") | Q(due_at__isnull=False), name="campaigns_journey_wait_has_an_end"
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["exited", "cancelled", "failed"]) | ~Q(reason=""),
                name="campaigns_journey_left_says_why",
            ),
        ]
        indexes: ClassVar = [
            # By journey first: the due ones of a paused journey must not stand in the way of the others.
            models.Index(
                fields=["journey", "due_at", "id"], condition=Q(state="running"), name="campaigns_journey_due"
            ),
            models.Index(fields=["customer"], condition=Q(state="running"), name="campaigns_journey_inside"),
            models.Index(fields=["customer", "id"], name="campaigns_journey_customer"),
            models.Index(fields=["journey", "entered_at"], name="campaigns_journey_entered"),
            models.Index(fields=["night"], condition=Q(night__isnull=False), name="campaigns_journey_night"),
        ]

    def __str__(self) -> str:
        return f"#{self.customer_id} in {self.journey_id}: {self.state}"

    @property
    def mark(self) -> str:
        """The kind of mark a page sets beside the state."""
        return _RUN_MARKS.get(self.state, "neutral")


class JourneyStep(models.Model):
    """A step that somebody took, as data: the sentence is made when a person reads it. Append-only."""

    class Outcome(models.TextChoices):
        WAITED = "waited", _("waited")
        HAPPENED = "happened", _("what was waited for happened")
        TIMED_OUT = "timed_out", _("waited in vain")
        MESSAGE = "message", _("message handed to the outbox")
        REPEATED = "repeated", _("had this message already")
        BRANCH = "branch", _("took a branch")
        POINTS = "points", _("points given")
        NO_POINTS = "no_points", _("points could not be given")
        VOUCHER = "voucher", _("voucher given")
        SOLD_OUT = "sold_out", _("no voucher was left")
        TAGGED = "tagged", _("tag changed")
        TASK = "task", _("task given to the team")
        TASK_HAD = "task_had", _("the team had this task already")
        WEBHOOK = "webhook", _("told another system")
        HOOK_HAD = "hook_had", _("the other system was told this already")
        MOVED = "moved", _("the step was removed, went on")
        PLACED = "placed", _("moved by a person to")
        LEFT = "left", _("left")

    run = models.ForeignKey(JourneyRun, on_delete=models.PROTECT, related_name="steps", db_index=False)
    step = models.CharField(_("step"), max_length=20, blank=True)
    at = MomentField(_("when"))
    outcome = models.CharField(_("outcome"), max_length=9, choices=Outcome.choices)
    data = models.JSONField(default=dict, blank=True)

    class Meta:
        verbose_name = _("step taken")
        verbose_name_plural = _("steps taken")
        constraints: ClassVar = [
            # Whatever a later version does to the order of steps, nobody gets a step's message twice on one way.
            models.UniqueConstraint(
                fields=["run", "step"], condition=Q(outcome="message"), name="campaigns_journey_message_once"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["run", "id"], name="campaigns_journey_step_run")]

    def __str__(self) -> str:
        return f"{self.step}: {self.outcome}"

"""Something for a person of the shop to do for one customer, and everything that was done about it."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from campaigns.models.journey import JourneyRun
from customers.models import Customer
from lifecycle_crm.accounts.models import Role
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.moments import MomentField

_MARKS = {"open": "waiting", "done": "ok", "not_done": "warn"}


class StaffTask(models.Model):
    """A step of a journey that a person does. One per way and step; ``edits`` counts what was done about it.

    It is for ``assignee``, else for everybody of ``role``, else for whoever works with customers.
    """

    class Kind(models.TextChoices):
        CALL = "call", _("Call them")
        SOCIAL = "social", _("Answer on social media")
        OTHER = "other", _("Something else")

    class State(models.TextChoices):
        OPEN = "open", _("Open")
        DONE = "done", _("Done")
        NOT_DONE = "not_done", _("Not done")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    class Withdrawn(models.TextChoices):
        """Why nobody has to do it any more."""

        GOAL = "goal", _("they reached the goal of the journey")
        EXIT_RULE = "exit_rule", _("they left the journey early")
        REMOVED = "removed", _("somebody took them out of the journey")
        UNDONE = "undone", _("the night that let them in was undone")
        ENDED = "ended", _("the journey was ended")

    ROLES = (Role.SUPPORT, Role.MARKETER, Role.ADMIN, Role.OWNER)
    """Those who may work with single customers."""

    run = models.ForeignKey(JourneyRun, on_delete=models.PROTECT, related_name="tasks", db_index=False)
    step = models.CharField(_("step"), max_length=20)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="tasks", db_index=False)
    kind = models.CharField(_("kind"), max_length=6, choices=Kind.choices)
    what = models.CharField(_("what to do"), max_length=200)
    role = models.CharField(_("for the role"), max_length=12, choices=Role.choices, blank=True)
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="tasks",
        verbose_name=_("assigned to"),
        db_index=False,
    )
    due_on = models.DateField(_("due"))
    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.OPEN)
    withdrawn = models.CharField(_("withdrawn because"), max_length=9, choices=Withdrawn.choices, blank=True)
    created_at = MomentField(_("made"))
    settled_at = MomentField(_("settled"), null=True, blank=True)
    edits = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            # Whoever moves people, and however often: nobody is asked twice for one step of one way.
            models.UniqueConstraint(fields=["run", "step"], name="campaigns_stafftask_once"),
            models.CheckConstraint(
                condition=(Q(state="open") & Q(settled_at=None)) | (~Q(state="open") & Q(settled_at__isnull=False)),
                name="campaigns_stafftask_settled_has_a_moment",
            ),
            models.CheckConstraint(
                condition=(Q(state="withdrawn") & ~Q(withdrawn="")) | (~Q(state="withdrawn") & Q(withdrawn="")),
                name="campaigns_stafftask_withdrawn_says_why",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["due_on", "id"], condition=Q(state="open"), name="campaigns_stafftask_open"),
            models.Index(
                fields=["assignee", "due_on", "id"], condition=Q(state="open"), name="campaigns_stafftask_mine"
            ),
            models.Index(fields=["settled_at", "id"], condition=~Q(state="open"), name="campaigns_stafftask_settled"),
            models.Index(fields=["customer", "id"], name="campaigns_stafftask_customer"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.what}"

    @property
    def is_open(self) -> bool:
        return self.state == self.State.OPEN

    @property
    def is_late(self) -> bool:
        """Its day is over and nobody did it."""
        return self.is_open and self.due_on < clock.today()

    @property
    def mark(self) -> str:
        """The kind of mark a page sets beside the state."""
        return "bad" if self.is_late else _MARKS.get(self.state, "neutral")


class StaffTaskChange(models.Model):
    """What somebody did about a task, or that it was withdrawn. Append-only; the reason may be blanked, and only that."""

    class What(models.TextChoices):
        DONE = "done", _("Done")
        NOT_DONE = "not_done", _("Not done")
        PASSED_ON = "passed_on", _("Passed on")
        PUT_OFF = "put_off", _("Put off")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    task = models.ForeignKey(StaffTask, on_delete=models.PROTECT, related_name="changes")
    what = models.CharField(_("what"), max_length=9, choices=What.choices)
    at = MomentField(_("when"))
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    why = models.CharField(_("reason"), max_length=300, blank=True)
    role = models.CharField(_("for the role"), max_length=12, choices=Role.choices, blank=True)
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    due_on = models.DateField(_("due"), null=True, blank=True)

    class Meta:
        verbose_name = _("change of a task")
        verbose_name_plural = _("changes of tasks")

    def __str__(self) -> str:
        return f"#{self.task_id}: {self.what}"

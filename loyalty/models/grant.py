"""Points given to a set of people: what was asked, for whom, and what became of each of them."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from customers.models import Customer
from lifecycle_crm.lib import clock
from loyalty.models.programme import Programme


class Grant(models.Model):
    """So many points for each of a set of people. Who is in the set is fixed when it is asked for (``GrantPerson``).

    What was asked never changes. Where it stands does: it waits for a second person, is being given, is given, is being
    taken back, or is taken back; people who wait in it are the queue of the worker.
    """

    class Whom(models.TextChoices):
        SEGMENT = "segment", pgettext_lazy("grant", "A segment")
        TIER = "tier", pgettext_lazy("grant", "A tier")
        LIST = "list", pgettext_lazy("grant", "A list of people")

    class State(models.TextChoices):
        WAITING = "waiting", pgettext_lazy("grant", "Waits for a second person")
        REFUSED = "refused", pgettext_lazy("grant", "Refused")
        GIVING = "giving", pgettext_lazy("grant", "Being given")
        DONE = "done", pgettext_lazy("grant", "Given")
        TAKING = "taking", pgettext_lazy("grant", "Being taken back")
        TAKEN = "taken", pgettext_lazy("grant", "Taken back")

    OPEN = (State.GIVING, State.TAKING)

    replayed = False
    """True on one that a verb found under its key instead of making it."""

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="grants", db_index=False)
    key = models.CharField(_("key"), max_length=255)
    points = models.PositiveBigIntegerField(_("points each"))
    reason = models.CharField(_("reason"), max_length=300)
    whom = models.CharField(_("to whom"), max_length=8, choices=Whom.choices)
    whom_key = models.CharField(_("segment or tier"), max_length=60, blank=True)
    whom_name = models.CharField(_("name then"), max_length=120, blank=True)
    people = models.PositiveIntegerField(_("people"), help_text=_("Who were to get points when it was asked for."))
    source_type = models.CharField(max_length=40, blank=True)
    source_id = models.CharField(max_length=120, blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        verbose_name=_("asked by"),
        help_text=_("Empty: a machine asked, with an API key."),
    )
    requested_at = models.DateTimeField(_("asked"), default=clock.now, editable=False)
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.WAITING)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    undo_key = models.CharField(max_length=255, blank=True)
    undo_reason = models.CharField(_("taken back because"), max_length=300, blank=True)
    undone_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        verbose_name=_("taken back by"),
    )
    undone_at = models.DateTimeField(_("taken back"), null=True, blank=True)

    class Meta:
        verbose_name = _("points for many")
        verbose_name_plural = _("points for many")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["programme", "key"], name="loyalty_grant_key_once"),
            models.CheckConstraint(condition=Q(points__gt=0) & Q(people__gt=0), name="loyalty_grant_gives"),
            models.CheckConstraint(
                condition=Q(state__in=["taking", "taken"], undone_at__isnull=False)
                | (~Q(state__in=["taking", "taken"]) & Q(undone_at=None)),
                name="loyalty_grant_undone_when_taken",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=Q(state__in=["giving", "taking"]), name="loyalty_grant_open")
        ]

    def __str__(self) -> str:
        return f"#{self.pk}: {self.points} × {self.people}"

    @property
    def total(self) -> int:
        """What it came to when it was asked for."""
        return self.points * self.people

    @property
    def worth_minor(self) -> int:
        """That total at the programme's value of a point, in minor units of the shop's currency."""
        return self.total * self.programme.value_minor_per_100 // 100


class GrantPerson(models.Model):
    """A customer in a set: whether they got their points, or why not. Rows are made when it is asked for and stay."""

    class State(models.TextChoices):
        WAITING = "waiting", pgettext_lazy("grant person", "Waiting")
        GIVEN = "given", pgettext_lazy("grant person", "Given")
        LEFT_OUT = "left_out", pgettext_lazy("grant person", "Left out")
        TAKEN = "taken", pgettext_lazy("grant person", "Taken back")
        KEPT = "kept", pgettext_lazy("grant person", "Nothing left to take back")

    class Why(models.TextChoices):
        NONE = "", "–"
        STRANGER = "stranger", pgettext_lazy("left out", "Not a member of the programme")
        FROZEN = "frozen", pgettext_lazy("left out", "Their account is frozen")
        MERGED = "merged", pgettext_lazy("left out", "Merged into another customer")

    grant = models.ForeignKey(Grant, on_delete=models.PROTECT, related_name="persons", db_index=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="grants")
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.WAITING)
    why = models.CharField(_("why"), max_length=8, choices=Why.choices, blank=True)

    class Meta:
        verbose_name = _("person of points for many")
        verbose_name_plural = _("people of points for many")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["grant", "customer"], name="loyalty_grant_person_once"),
            models.CheckConstraint(
                condition=Q(state="left_out") & ~Q(why="") | ~Q(state="left_out") & Q(why=""),
                name="loyalty_grant_left_out_says_why",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["grant", "state", "customer"], name="loyalty_grant_queue")]

    def __str__(self) -> str:
        return f"#{self.customer_id}: {self.state}"

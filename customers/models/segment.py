from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from customers.models.customer import Customer
from lifecycle_crm.lib import clock


class Segment(models.Model):
    """A group of people: by a condition over the facts (live), or by a list somebody keeps (static).

    ``condition`` is the one in force; what it was before is in the versions. ``members`` is the last count, so that a
    list of segments costs one read.
    """

    class Kind(models.TextChoices):
        LIVE = "live", _("Live")
        STATIC = "static", _("Static list")

    key = models.SlugField(_("key"), max_length=60, unique=True)
    name = models.CharField(_("name"), max_length=120)
    kind = models.CharField(_("kind"), max_length=6, choices=Kind.choices, default=Kind.LIVE)
    condition = models.JSONField(_("condition"), default=dict, blank=True)
    version = models.PositiveIntegerField(_("version"), default=1)
    note = models.CharField(_("note"), max_length=500, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="segments"
    )
    members = models.PositiveIntegerField(_("people"), null=True, blank=True)
    is_exact = models.BooleanField(_("counted exactly"), default=True)
    counted_at = models.DateTimeField(_("counted"), null=True, blank=True)
    archived_at = models.DateTimeField(_("archived"), null=True, blank=True)
    created_at = models.DateTimeField(_("made"), default=clock.now, editable=False)

    class Meta:
        verbose_name = _("segment")
        verbose_name_plural = _("segments")
        ordering: ClassVar = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_static(self) -> bool:
        return self.kind == self.Kind.STATIC


class SegmentVersion(models.Model):
    """What a segment's condition was from a moment on. Append-only: membership of a past date asks for it."""

    segment = models.ForeignKey(Segment, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField(_("version"))
    condition = models.JSONField(_("condition"), default=dict)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(_("in force from"), default=clock.now)

    class Meta:
        verbose_name = _("version of a segment")
        verbose_name_plural = _("versions of segments")
        ordering: ClassVar = ["segment", "-number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["segment", "number"], name="customers_segment_version_once"),
        ]

    def __str__(self) -> str:
        return f"{self.segment_id}, version {self.number}"


class SegmentMember(models.Model):
    """A customer on the list of a static segment."""

    segment = models.ForeignKey(Segment, on_delete=models.CASCADE, related_name="listed")
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="+")
    added_at = models.DateTimeField(default=clock.now)
    added_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        verbose_name = _("person on a list")
        verbose_name_plural = _("people on lists")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["segment", "customer"], name="customers_segment_member_once"),
        ]

    def __str__(self) -> str:
        return f"#{self.customer_id} on {self.segment_id}"


class SegmentStanding(models.Model):
    """Who the last night found in a segment. Derived from the changes; it saves the night from reading them all."""

    segment = models.ForeignKey(Segment, on_delete=models.CASCADE, related_name="+")
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="+")

    class Meta:
        verbose_name = _("last known member")
        verbose_name_plural = _("last known members")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["segment", "customer"], name="customers_segment_standing_once"),
        ]

    def __str__(self) -> str:
        return f"#{self.customer_id} in {self.segment_id}"


class SegmentChange(models.Model):
    """Somebody entered or left a segment, as a night found it. Append-only.

    Entering and leaving alternate per customer and segment, so the balance of a person's changes up to a date is 1 for
    a member and 0 for everybody else.
    """

    class Kind(models.TextChoices):
        ENTERED = "entered", _("Entered")
        LEFT = "left", _("Left")

    segment = models.ForeignKey(Segment, on_delete=models.PROTECT, related_name="changes")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(_("change"), max_length=7, choices=Kind.choices)
    business_date = models.DateField(_("business date"))
    recorded_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("change of a segment")
        verbose_name_plural = _("changes of segments")
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["segment", "business_date"], name="customers_segment_change_day"),
            models.Index(fields=["customer", "id"], name="customers_segment_change_who"),
        ]

    def __str__(self) -> str:
        return f"#{self.customer_id} {self.kind} {self.segment_id}"


class SegmentDay(models.Model):
    """How many were in a segment at the end of a date, and how many had entered and left that day.

    ``is_first``: the first count of a version; who is in then did not enter that day.
    """

    segment = models.ForeignKey(Segment, on_delete=models.CASCADE, related_name="days")
    business_date = models.DateField(_("business date"))
    version = models.PositiveIntegerField(_("version"))
    members = models.PositiveIntegerField(_("people"))
    entered = models.PositiveIntegerField(_("entered"))
    left = models.PositiveIntegerField(_("left"))
    is_first = models.BooleanField(default=False)
    digest = models.CharField(
        max_length=64,
        blank=True,
        help_text=_(
            "Of the condition with everything it names; while it is the same, only "
            "customers whose facts moved are asked again."
        ),
    )

    class Meta:
        verbose_name = _("day of a segment")
        verbose_name_plural = _("days of segments")
        ordering: ClassVar = ["-business_date"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["segment", "business_date"], name="customers_segment_day_once"),
            models.CheckConstraint(condition=Q(members__gte=0), name="customers_segment_day_counts"),
        ]

    def __str__(self) -> str:
        return f"{self.segment_id} on {self.business_date}: {self.members}"

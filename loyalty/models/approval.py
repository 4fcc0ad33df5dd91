"""What one person may not do alone: adjustments above the limit, and gifts from a budget."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from customers.models import Customer
from lifecycle_crm.accounts.models import Role
from lifecycle_crm.lib import clock
from loyalty.models.grant import Grant
from loyalty.models.ledger import Entry
from loyalty.models.programme import Programme

APPROVE_ABOVE = 10_000
HOLD_HOURS = 24


class Limits(models.Model):
    """How far one person may go in a programme. A programme without a row has the defaults."""

    programme = models.OneToOneField(Programme, on_delete=models.CASCADE, related_name="limits")
    approve_above = models.PositiveBigIntegerField(
        _("approval above"),
        default=APPROVE_ABOVE,
        help_text=_("Giving or taking more points than this by hand needs a second person."),
    )
    hold_hours = models.PositiveIntegerField(
        _("hours a hold lasts"), default=HOLD_HOURS, help_text=_("Then the points are free again.")
    )

    class Meta:
        verbose_name = _("limits of a programme")
        verbose_name_plural = _("limits of programmes")

    def __str__(self) -> str:
        return f"limits of {self.programme_id}"

    @classmethod
    def of(cls, programme: Programme) -> Limits:
        return cls.objects.filter(programme=programme).first() or cls(programme=programme)


class Approval(models.Model):
    """What waits for a second person: points for one customer, or for a set of people (``grant``; then ``points`` is their
    total). Nothing moves until somebody else than the one who asked says yes."""

    class State(models.TextChoices):
        WAITING = "waiting", pgettext_lazy("approval", "Waiting")
        APPROVED = "approved", pgettext_lazy("approval", "Approved")
        REFUSED = "refused", pgettext_lazy("approval", "Refused")

    replayed = False

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="+", db_index=False)
    customer = models.ForeignKey(
        Customer, null=True, blank=True, on_delete=models.PROTECT, related_name="points_approvals"
    )
    grant = models.OneToOneField(Grant, null=True, blank=True, on_delete=models.PROTECT, related_name="approval")
    key = models.CharField(_("key"), max_length=255)
    points = models.BigIntegerField(_("points"))
    reason = models.CharField(_("reason"), max_length=300)
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
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        verbose_name=_("decided by"),
    )
    decided_at = models.DateTimeField(_("decided"), null=True, blank=True)
    note = models.CharField(_("note"), max_length=300, blank=True)
    entry = models.OneToOneField(Entry, null=True, blank=True, on_delete=models.PROTECT, related_name="approval")

    class Meta:
        verbose_name = _("approval")
        verbose_name_plural = _("approvals")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["programme", "key"], name="loyalty_approval_key_once"),
            models.CheckConstraint(condition=~Q(points=0), name="loyalty_approval_moves_points"),
            models.CheckConstraint(
                condition=Q(customer__isnull=False, grant=None) | Q(customer=None, grant__isnull=False, entry=None),
                name="loyalty_approval_of_one_or_a_set",
            ),
            models.CheckConstraint(
                condition=Q(state="waiting", decided_by__isnull=True)
                | (~Q(state="waiting") & Q(decided_by__isnull=False)),
                name="loyalty_approval_by_a_person",
            ),
            models.CheckConstraint(
                condition=Q(requested_by__isnull=True) | Q(decided_by__isnull=True) | ~Q(decided_by=F("requested_by")),
                name="loyalty_approval_four_eyes",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["state", "id"], name="loyalty_approval_state")]

    def __str__(self) -> str:
        return f"{self.points:+d} for {f'the set #{self.grant_id}' if self.grant_id else f'#{self.customer_id}'}"


class Allowance(models.Model):
    """Points a month that each person of a role, or one person, may give away as goodwill. A person's own comes first."""

    role = models.CharField(_("role"), max_length=12, choices=Role.choices, blank=True)
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="goodwill_allowance"
    )
    points = models.PositiveBigIntegerField(_("points a month"))

    class Meta:
        verbose_name = _("goodwill allowance")
        verbose_name_plural = _("goodwill allowances")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["role"], condition=~Q(role=""), name="loyalty_allowance_once_per_role"),
            models.CheckConstraint(
                condition=Q(role="", user__isnull=False) | (~Q(role="") & Q(user__isnull=True)),
                name="loyalty_allowance_role_or_person",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.points} for {self.role or self.user_id}"


class GoodwillMonth(models.Model):
    """What one person has given as goodwill in one month of the shop's calendar, and how much they may."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="goodwill_months")
    month = models.DateField(_("month"), help_text=_("Its first day."))
    points = models.PositiveBigIntegerField(_("allowed"))
    used = models.PositiveBigIntegerField(_("given"), default=0)

    class Meta:
        verbose_name = _("goodwill of a month")
        verbose_name_plural = _("goodwill by month")
        ordering: ClassVar = ["-month", "user_id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "month"], name="loyalty_goodwill_month_once"),
            models.CheckConstraint(condition=Q(used__lte=F("points")), name="loyalty_goodwill_within_budget"),
        ]

    def __str__(self) -> str:
        return f"#{self.user_id} {self.month}: {self.used} of {self.points}"

"""Rollups: a few rows per day, so that home costs the same for a thousand customers and a million.

Only ``dashboard.rollups`` writes them, and every row can be computed again from moves and orders.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from stages.models import StageKey


class StageDay(models.Model):
    """How many customers stood in a stage at the end of a date, and how many moves led into it and out of it that day."""

    business_date = models.DateField(_("business date"))
    stage = models.CharField(_("stage"), max_length=12, choices=StageKey.choices)
    customers = models.PositiveIntegerField(_("customers"))
    entered = models.PositiveIntegerField(_("moved in"))
    left = models.PositiveIntegerField(_("moved out"))

    class Meta:
        verbose_name = _("stage on a day")
        verbose_name_plural = _("stages by day")
        ordering: ClassVar = ["-business_date", "stage"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["business_date", "stage"], name="dashboard_stage_day_once"),
        ]

    def __str__(self) -> str:
        return f"{self.stage} on {self.business_date}: {self.customers}"


class FlowDay(models.Model):
    """How many moves led from one stage to another on a date. ``from_stage`` is empty for customers placed first."""

    business_date = models.DateField(_("business date"))
    from_stage = models.CharField(_("from"), max_length=12, choices=StageKey.choices, blank=True)
    to_stage = models.CharField(_("to"), max_length=12, choices=StageKey.choices)
    moves = models.PositiveIntegerField(_("moves"))

    class Meta:
        verbose_name = _("moves on a day")
        verbose_name_plural = _("moves by day")
        ordering: ClassVar = ["-business_date", "from_stage", "to_stage"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["business_date", "from_stage", "to_stage"], name="dashboard_flow_day_once"),
        ]

    def __str__(self) -> str:
        return f"{self.from_stage or '–'} → {self.to_stage} on {self.business_date}: {self.moves}"


class TradeDay(models.Model):
    """The orders of a date. Amounts are net, in minor units of the reporting currency; cancelled orders do not count.

    A first buyer has no order on an earlier date. A regular has at least three orders in the 365 days that end with the
    date. ``returned`` is the number of the date's first buyers who bought again on one of the next 90 dates, and NULL
    until those are over.
    """

    business_date = models.DateField(_("business date"), unique=True)
    orders = models.PositiveIntegerField(_("orders"))
    revenue_minor = models.BigIntegerField(_("revenue"))
    buyers = models.PositiveIntegerField(_("buyers"))
    first_buyers = models.PositiveIntegerField(_("first buyers"))
    first_revenue_minor = models.BigIntegerField(_("revenue from first buyers"))
    regular_revenue_minor = models.BigIntegerField(_("revenue from regulars"))
    returned = models.PositiveIntegerField(_("came back within 90 days"), null=True, blank=True)

    class Meta:
        verbose_name = _("orders of a day")
        verbose_name_plural = _("orders by day")
        ordering: ClassVar = ["-business_date"]

    def __str__(self) -> str:
        return f"{self.orders} orders on {self.business_date}"


class RetentionDay(models.Model):
    """People counted over the ``days`` dates that end with the date.

    ``came_back`` of the ``buyers_before`` (buyers of as many dates before those) bought again in them. ``lost`` were
    placed and not dormant before them and went dormant in them. People over a period cannot be counted from daily rows,
    so the night counts them for its own date, and only for the newest one.
    """

    business_date = models.DateField(_("business date"))
    days = models.PositiveSmallIntegerField(_("days"))
    buyers_before = models.PositiveIntegerField(_("buyers before"))
    came_back = models.PositiveIntegerField(_("bought again"))
    lost = models.PositiveIntegerField(_("went dormant"))

    class Meta:
        verbose_name = _("retention on a day")
        verbose_name_plural = _("retention by day")
        ordering: ClassVar = ["-business_date", "days"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["business_date", "days"], name="dashboard_retention_day_once"),
        ]

    def __str__(self) -> str:
        return f"{self.came_back} of {self.buyers_before} within {self.days} days of {self.business_date}"


class ReportDay(models.Model):
    """Sums that are taken of all accounts and messages as they stand when the newest date is rolled up."""

    business_date = models.DateField(_("business date"), unique=True)
    points_outstanding = models.BigIntegerField(_("points outstanding"))
    points_liability_minor = models.BigIntegerField(_("worth of points outstanding"))
    points_expiring = models.BigIntegerField(_("points that expire in 30 days"))
    members = models.PositiveIntegerField(_("members of the programme"))
    treated = models.PositiveIntegerField(_("got a win-back message"))
    treated_back = models.PositiveIntegerField(_("of them came back"))
    held_out = models.PositiveIntegerField(_("held out of win-back"))
    held_out_back = models.PositiveIntegerField(_("of them came back"))

    class Meta:
        verbose_name = _("report of a day")
        verbose_name_plural = _("reports by day")
        ordering: ClassVar = ["-business_date"]

    def __str__(self) -> str:
        return f"Report of {self.business_date}"


class LateDay(models.Model):
    """A date whose orders changed after it was rolled up: the next night counts it again."""

    business_date = models.DateField(_("business date"), primary_key=True)

    class Meta:
        verbose_name = _("day to count again")
        verbose_name_plural = _("days to count again")

    def __str__(self) -> str:
        return str(self.business_date)

"""What the night keeps of cohorts: people whose first order lies in the same month or week."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class CohortDay(models.Model):
    """What the people of a cohort did on a date. Days add up: nobody is counted twice within a period of the unit.

    ``newcomers`` placed their first order on the date. ``buyers`` ordered, and for the first time in the month (week) of
    the date. ``again`` placed their second order. ``lapsed`` went dormant for the first time since their first order.
    """

    class Unit(models.TextChoices):
        MONTH = "month", _("Month")
        WEEK = "week", _("Week")

    unit = models.CharField(_("unit"), max_length=5, choices=Unit.choices)
    cohort = models.DateField(_("cohort"), help_text=_("The first day of the month or week of the first order."))
    business_date = models.DateField(_("business date"))
    newcomers = models.PositiveIntegerField(_("newcomers"), default=0)
    buyers = models.PositiveIntegerField(_("buyers"), default=0)
    again = models.PositiveIntegerField(_("second orders"), default=0)
    revenue_minor = models.BigIntegerField(_("revenue"), default=0)
    lapsed = models.PositiveIntegerField(_("went dormant"), default=0)

    class Meta:
        verbose_name = _("cohort on a day")
        verbose_name_plural = _("cohorts by day")
        ordering: ClassVar = ["-business_date", "unit", "-cohort"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["business_date", "unit", "cohort"], name="dashboard_cohort_day_once"),
        ]
        indexes: ClassVar = [models.Index(fields=["unit", "cohort"], name="dashboard_cohort_of_unit")]

    def __str__(self) -> str:
        return f"{self.unit} of {self.cohort} on {self.business_date}"

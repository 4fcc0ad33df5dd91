"""What the night keeps of the ways people go through the stages."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from lifecycle_crm.lib import clock
from stages.durations import TIMED
from stages.models import StageKey


class StayDay(models.Model):
    """How many stays in a stage that began on one date ended on another. At most as many rows as pairs of dates, however
    many customers there are; stays that still run are what ``StageDay.entered`` has more."""

    stage = models.CharField(_("stage"), max_length=12, choices=StageKey.choices)
    began = models.DateField(_("began"))
    ended = models.DateField(_("ended"))
    stays = models.PositiveIntegerField(_("stays"))

    class Meta:
        verbose_name = _("stays that ended on a day")
        verbose_name_plural = _("stays by day")
        ordering: ClassVar = ["-ended", "stage", "-began"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["ended", "stage", "began"], name="dashboard_stay_day_once"),
        ]

    def __str__(self) -> str:
        return f"{self.stage} from {self.began} to {self.ended}: {self.stays}"


class ArrivalDay(models.Model):
    """How many customers with orders first came into a stage on a date, by whole days since their first order."""

    business_date = models.DateField(_("business date"))
    stage = models.CharField(_("stage"), max_length=12, choices=[(key, StageKey(key).label) for key in TIMED])
    days = models.PositiveIntegerField(_("days since the first order"))
    people = models.PositiveIntegerField(_("people"))

    class Meta:
        verbose_name = _("first arrivals on a day")
        verbose_name_plural = _("first arrivals by day")
        ordering: ClassVar = ["-business_date", "stage", "days"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["business_date", "stage", "days"], name="dashboard_arrival_day_once"),
        ]

    def __str__(self) -> str:
        return f"{self.stage} on {self.business_date}, {self.days} days after the first order: {self.people}"


class FlowPeriod(models.Model):
    """How many people went which way through the stages in a period (see ``stages.ways``): the periods that the page of
    the stage flow offers, for the date of each night."""

    since = models.DateField(_("from the end of"))
    until = models.DateField(_("to the end of"))
    ways = models.JSONField(_("people by way"), default=dict)
    rules = models.JSONField(_("rules"), default=list)
    made_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("ways of a period")
        verbose_name_plural = _("ways by period")
        ordering: ClassVar = ["-until", "-since"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["until", "since"], name="dashboard_flow_period_once"),
        ]

    def __str__(self) -> str:
        return f"{self.since} – {self.until}"

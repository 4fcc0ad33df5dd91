"""Earning rules as data: what gives how many points, when, for whom and how often."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from customers.models import Customer, Segment
from lifecycle_crm.lib import clock
from loyalty.models.programme import Programme


class EarningRule(models.Model):
    """One version of one rule of a programme. Versions share a ``key``; what a version says never changes.

    A cause earns by the version that held at its own moment, so an order of last spring keeps the rule of last spring.
    Only the end of a version is ever written, when the next one begins or the rule is stopped.
    """

    class Kind(models.TextChoices):
        AMOUNT = "amount", _("For the amount of an order")
        ORDER = "order", _("For each order")
        PRODUCT = "product", _("For a product")
        CATEGORY = "category", _("For a category")
        EVENT = "event", _("For an event")
        FIRST_ORDER = "first_order", _("For the first order")
        BIRTHDAY = "birthday", _("For a birthday")
        REFERRAL = "referral", _("For a referral")
        REVIEW = "review", _("For a review")
        SURVEY = "survey", _("For an answered survey")
        STAGE = "stage", _("For entering a stage")
        MULTIPLIER = "multiplier", _("Points times")

    class Per(models.TextChoices):
        DAY = "day", pgettext_lazy("limit", "a day")
        WEEK = "week", pgettext_lazy("limit", "a week")
        MONTH = "month", pgettext_lazy("limit", "a month")
        YEAR = "year", pgettext_lazy("limit", "a year")
        EVER = "ever", pgettext_lazy("limit", "in all")

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="rules")
    key = models.SlugField(_("key"), max_length=60)
    version = models.PositiveIntegerField(_("version"), default=1)
    name = models.CharField(
        _("name"), max_length=80, help_text=_("Said to customers, such as: double points on Sundays.")
    )
    kind = models.CharField(_("kind"), max_length=12, choices=Kind.choices)
    subject = models.CharField(
        _("of what"), max_length=120, blank=True, help_text=_("A SKU, a category, an event name or a stage.")
    )
    property = models.CharField(
        _("property of the event"), max_length=80, blank=True, help_text=_("Points are counted by this number.")
    )
    points = models.PositiveIntegerField(_("points"), default=0)
    per = models.PositiveBigIntegerField(
        _("for each"),
        null=True,
        blank=True,
        help_text=_("Minor units of the shop's currency, or units of the event's property. Empty: for each one."),
    )
    percent = models.PositiveIntegerField(
        _("percent"), default=100, help_text=_("Of a multiplier: 200 doubles what the other rules give.")
    )
    weekdays = models.CharField(_("weekdays"), max_length=7, blank=True, help_text=_("1 is Monday, 7 is Sunday."))
    dates = models.JSONField(_("dates"), default=list, blank=True, help_text=_("2026-12-24, or 12-24 for every year."))
    segment = models.ForeignKey(
        Segment, null=True, blank=True, on_delete=models.PROTECT, related_name="+", verbose_name=_("segment")
    )
    tiers = models.JSONField(_("tiers"), default=list, blank=True)
    stages = models.JSONField(_("stages"), default=list, blank=True)
    channels = models.JSONField(
        _("channels"), default=list, blank=True, help_text=_("Sources of orders, such as web or till. Empty: all.")
    )
    limit_points = models.PositiveIntegerField(_("at most so many points"), null=True, blank=True)
    limit_times = models.PositiveIntegerField(_("at most so many times"), null=True, blank=True)
    limit_per = models.CharField(_("in"), max_length=5, choices=Per.choices, blank=True)
    starts_at = models.DateTimeField(_("holds from"), null=True, blank=True)
    ends_at = models.DateTimeField(_("holds until"), null=True, blank=True)
    is_current = models.BooleanField(_("current version"), default=True)
    position = models.PositiveSmallIntegerField(_("order"), default=100)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("earning rule")
        verbose_name_plural = _("earning rules")
        ordering: ClassVar = ["programme", "position", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["programme", "key", "version"], name="loyalty_rule_version_once"),
            models.UniqueConstraint(
                fields=["programme", "key"], condition=Q(is_current=True), name="loyalty_rule_one_current_version"
            ),
            models.CheckConstraint(
                condition=(Q(kind="multiplier") & Q(percent__gt=100)) | (~Q(kind="multiplier") & Q(points__gt=0)),
                name="loyalty_rule_gives_something",
            ),
            models.CheckConstraint(condition=Q(per=None) | Q(per__gt=0), name="loyalty_rule_steps_forward"),
            models.CheckConstraint(
                condition=Q(ends_at=None) | Q(starts_at=None) | Q(ends_at__gte=F("starts_at")),
                name="loyalty_rule_ends_after_it_began",
            ),
            models.CheckConstraint(
                condition=(Q(limit_per="") & Q(limit_points=None) & Q(limit_times=None))
                | (~Q(limit_per="") & (Q(limit_points__isnull=False) | Q(limit_times__isnull=False))),
                name="loyalty_rule_limit_has_a_period",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class RuleUse(models.Model):
    """A cause that earned by a rule with a limit: what the limit counts. The four periods are those of the cause's day."""

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="+", db_index=False)
    rule_key = models.CharField(max_length=60)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+", db_index=False)
    cause = models.CharField(max_length=255)
    points = models.PositiveIntegerField()
    day = models.IntegerField(help_text=_("Days since 0001-01-01."))
    week = models.IntegerField()
    month = models.IntegerField()
    year = models.IntegerField()

    class Meta:
        verbose_name = _("use of a limited rule")
        verbose_name_plural = _("uses of limited rules")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["customer", "programme", "rule_key", "cause"], name="loyalty_rule_use_once_per_cause"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rule_key}: {self.points}"

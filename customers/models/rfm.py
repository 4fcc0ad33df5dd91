from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from customers.models.customer import Customer


class RfmGroup(models.TextChoices):
    """The eleven groups of buyers, from the warmest to the coldest. Who has not bought is in none."""

    CHAMPIONS = "champions", pgettext_lazy("RFM group", "Champions")
    LOYAL = "loyal", pgettext_lazy("RFM group", "Loyal")
    POTENTIAL_LOYALISTS = "potential_loyalists", pgettext_lazy("RFM group", "Potential loyalists")
    NEW = "new", pgettext_lazy("RFM group", "New")
    PROMISING = "promising", pgettext_lazy("RFM group", "Promising")
    NEEDS_ATTENTION = "needs_attention", pgettext_lazy("RFM group", "Needs attention")
    ABOUT_TO_SLEEP = "about_to_sleep", pgettext_lazy("RFM group", "About to sleep")
    AT_RISK = "at_risk", pgettext_lazy("RFM group", "At risk")
    CANNOT_LOSE = "cannot_lose", pgettext_lazy("RFM group", "Cannot lose")
    HIBERNATING = "hibernating", pgettext_lazy("RFM group", "Hibernating")
    LOST = "lost", pgettext_lazy("RFM group", "Lost")


class RfmDay(models.Model):
    """How many buyers were in a group at the end of a date, and what they had spent with us by then."""

    business_date = models.DateField(_("business date"))
    group = models.CharField(_("group"), max_length=20, choices=RfmGroup.choices)
    customers = models.PositiveIntegerField(_("customers"))
    revenue_minor = models.BigIntegerField(_("spend"))

    class Meta:
        verbose_name = _("RFM group on a day")
        verbose_name_plural = _("RFM groups by day")
        ordering: ClassVar = ["-business_date", "group"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["business_date", "group"], name="customers_rfm_day_once"),
        ]

    def __str__(self) -> str:
        return f"{self.group} on {self.business_date}: {self.customers}"


class RfmChange(models.Model):
    """One customer came into another group. Empty stands for "in none". Append-only."""

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="rfm_changes")
    from_group = models.CharField(_("from"), max_length=20, choices=RfmGroup.choices, blank=True)
    to_group = models.CharField(_("to"), max_length=20, choices=RfmGroup.choices, blank=True)
    business_date = models.DateField(_("business date"))

    class Meta:
        verbose_name = _("move between RFM groups")
        verbose_name_plural = _("moves between RFM groups")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(from_group=F("to_group")), name="customers_rfm_change_moves"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["customer", "id"], name="customers_rfm_change_customer"),
            models.Index(fields=["business_date", "from_group", "to_group"], name="customers_rfm_change_flow"),
        ]

    def __str__(self) -> str:
        return f"{self.from_group or '–'} → {self.to_group or '–'}"

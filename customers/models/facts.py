from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from customers.models.customer import Customer
from lifecycle_crm.lib.moments import MomentField


class CustomerFacts(models.Model):
    """What follows from a customer's rows: one narrow row each, derived data only.

    Absolute instants and counts, never "days since": a row that did not change is not written. Higher floors hand
    their numbers down into it (points, tier, score, cases, click, stage); segments and stage rules read nothing else.
    """

    customer = models.OneToOneField(Customer, primary_key=True, on_delete=models.CASCADE, related_name="facts")
    # From the customer's own rows (customers.facts).
    orders = models.PositiveIntegerField(_("orders"), default=0)
    first_order_at = MomentField(_("first order"), null=True, blank=True)
    last_order_at = MomentField(_("last order"), null=True, blank=True)
    spend_minor = models.BigIntegerField(_("spend"), default=0)
    gap_seconds = models.BigIntegerField(_("usual gap between orders"), null=True, blank=True)
    engaged_at = MomentField(_("last visit, click or other sign of life"), null=True, blank=True)
    may_email = models.BooleanField(_("agreed to offers by e-mail"), default=False)
    recency = models.PositiveSmallIntegerField(_("recency score"), null=True, blank=True)
    frequency = models.PositiveSmallIntegerField(_("frequency score"), null=True, blank=True)
    monetary = models.PositiveSmallIntegerField(_("monetary score"), null=True, blank=True)
    rfm_group = models.CharField(
        _("RFM group"), max_length=20, blank=True, db_default="", help_text=_("The group that its history was told.")
    )
    # Handed down by loyalty, feedback and campaigns.
    points = models.BigIntegerField(_("points"), default=0)
    tier = models.CharField(_("tier"), max_length=40, blank=True)
    nps_score = models.PositiveSmallIntegerField(_("last NPS answer"), null=True, blank=True)
    answered_at = MomentField(_("last answer"), null=True, blank=True)
    open_cases = models.PositiveIntegerField(_("open cases"), default=0)
    clicked_at = MomentField(_("last click in a message"), null=True, blank=True)
    # Handed down by stages.
    stage = models.CharField(_("stage"), max_length=12, blank=True)
    stage_since = MomentField(_("in this stage since"), null=True, blank=True)
    next_review_at = MomentField(
        _("next review"), null=True, blank=True, help_text=_("From here on the stage may change by time alone.")
    )
    is_quiet = models.BooleanField(
        default=True, help_text=_("The next move follows from loaded history, so it starts no message.")
    )

    class Meta:
        verbose_name = _("facts")
        verbose_name_plural = _("facts")
        # None on the next review: it changes with nearly every write, and an update that changes no indexed column stays in
        # its page on PostgreSQL. Whoever looks for the due reads a range of keys, and rows are narrow.
        indexes: ClassVar = [
            models.Index(fields=["stage", "customer"], name="customers_facts_stage"),
            models.Index(fields=["last_order_at", "customer"], name="customers_facts_last_order"),
            models.Index(fields=["spend_minor", "customer"], name="customers_facts_spend"),
        ]

    def __str__(self) -> str:
        return f"facts of #{self.pk}"


class DirtyCustomer(models.Model):
    """ "This customer's facts are behind", written in the same transaction as the row that made them so.

    A plain insert, never an upsert, so writers never wait for each other; a reader deletes exactly the ids it read.
    ``occurred_at`` lets a night that runs late take only what its day knew.
    """

    customer_id = models.BigIntegerField()
    occurred_at = MomentField()
    is_history = models.BooleanField(default=False)

    class Meta:
        verbose_name = _("customer to refresh")
        verbose_name_plural = _("customers to refresh")
        indexes: ClassVar = [models.Index(fields=["occurred_at", "customer_id"], name="customers_dirty_when")]

    def __str__(self) -> str:
        return f"#{self.customer_id}"


class RfmCuts(models.Model):
    """Stored cut points of RFM, so that a customer's scores depend on their own facts and the date alone.

    Each list holds four ascending numbers. Recency: whole days since the last order, at most the first cut scores 5.
    Frequency (orders) and monetary (minor units): more than the last cut scores 5.
    """

    computed_on = models.DateField(unique=True)
    recency_days = models.JSONField()
    frequency = models.JSONField()
    monetary_minor = models.JSONField()
    buyers = models.PositiveIntegerField(help_text=_("How many buyers the cuts were taken from."))

    class Meta:
        verbose_name = _("RFM cut points")
        verbose_name_plural = _("RFM cut points")
        ordering: ClassVar = ["-computed_on"]

    def __str__(self) -> str:
        return f"RFM cuts of {self.computed_on}"

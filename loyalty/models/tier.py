"""Tiers: what a programme's members can reach, where each stands, and every change of it."""

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
from loyalty.models.reward import Reward


class Ladder(models.Model):
    """How a programme decides tiers: what is counted, over which time, and what happens to who has too little of it."""

    class Measure(models.TextChoices):
        POINTS = "points", _("Points earned")
        SPEND = "spend", _("Money spent")
        ORDERS = "orders", _("Orders")

    class Window(models.TextChoices):
        ROLLING = "rolling", _("The last months")
        CALENDAR = "calendar", _("The calendar year")
        LIFETIME = "lifetime", _("Since the beginning")

    class StepDown(models.TextChoices):
        ONE = "one", _("One tier at a time")
        BALANCE = "balance", _("To the tier they still reach")

    programme = models.OneToOneField(Programme, on_delete=models.PROTECT, related_name="ladder")
    measure = models.CharField(_("what counts"), max_length=6, choices=Measure.choices, default=Measure.POINTS)
    window = models.CharField(_("over"), max_length=8, choices=Window.choices, default=Window.ROLLING)
    window_months = models.PositiveSmallIntegerField(_("months"), default=12)
    grace_days = models.PositiveSmallIntegerField(
        _("days of grace"), default=0, help_text=_("Who has too little keeps the tier for so many days.")
    )
    step_down = models.CharField(_("step down"), max_length=7, choices=StepDown.choices, default=StepDown.BALANCE)
    changed_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("tier rules")
        verbose_name_plural = _("tier rules")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=~Q(step_down="one") | Q(grace_days__gt=0), name="loyalty_ladder_steps_have_time_between"
            ),
            models.CheckConstraint(condition=Q(window_months__gt=0), name="loyalty_ladder_window_has_length"),
        ]

    def __str__(self) -> str:
        return f"{self.programme}"


class Tier(models.Model):
    """A step of a ladder, reached with ``threshold`` of what it counts (points, minor units or orders)."""

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="tiers")
    key = models.SlugField(_("key"), max_length=40)
    name = models.CharField(_("name"), max_length=60)
    threshold = models.PositiveBigIntegerField(_("from"))
    benefits = models.JSONField(_("benefits"), default=list, blank=True, help_text=_("One sentence each."))
    perks = models.JSONField(_("perks"), default=list, blank=True, help_text=_("Keys that the shop's systems act on."))

    class Meta:
        verbose_name = _("tier")
        verbose_name_plural = _("tiers")
        ordering: ClassVar = ["programme", "threshold"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["programme", "key"], name="loyalty_tier_key_once"),
            models.UniqueConstraint(fields=["programme", "threshold"], name="loyalty_tier_threshold_once"),
            models.CheckConstraint(condition=Q(threshold__gt=0), name="loyalty_tier_is_reached_by_something"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def promised(self) -> list[str]:
        """What its members get, as they read it: the perks, then the shop's own sentences."""
        return [str(Reward.Perk(key).label) for key in self.perks if key in Reward.Perk.values] + list(self.benefits)


class TierStanding(models.Model):
    """Where a customer stands in a programme: derived from the changes, and what the next look needs to know.

    ``tier`` is a key, empty for none. ``grace_until``: they have too little and keep the tier until then.
    ``check_at``: the first moment at which time alone could change anything.
    """

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="+", db_index=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="tier_standings")
    tier = models.CharField(_("tier"), max_length=40, blank=True)
    since = models.DateTimeField(_("since"))
    counted = models.BigIntegerField(_("counted"), default=0)
    grace_until = models.DateTimeField(_("grace until"), null=True, blank=True)
    check_at = models.DateTimeField(_("next look"), null=True, blank=True)

    class Meta:
        verbose_name = _("standing in a programme")
        verbose_name_plural = _("standings in programmes")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["programme", "customer"], name="loyalty_standing_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["check_at"], condition=Q(check_at__isnull=False), name="loyalty_standing_due"),
            models.Index(fields=["programme", "tier"], name="loyalty_standing_tier"),
        ]

    def __str__(self) -> str:
        return f"#{self.customer_id}: {self.tier}"


class TierChange(models.Model):
    """Somebody reached or lost a tier. Append-only; ``counted`` is what they had when it was decided."""

    class Kind(models.TextChoices):
        UP = "up", pgettext_lazy("tier", "Reached")
        DOWN = "down", pgettext_lazy("tier", "Lost")

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="+", db_index=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="tier_changes", db_index=False)
    kind = models.CharField(_("change"), max_length=4, choices=Kind.choices)
    from_tier = models.CharField(_("from"), max_length=40, blank=True)
    to_tier = models.CharField(_("to"), max_length=40, blank=True)
    counted = models.BigIntegerField(_("counted"))
    effective_at = models.DateTimeField(_("holds from"))
    recorded_at = models.DateTimeField(default=clock.now, editable=False)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    is_history = models.BooleanField(default=False)
    reacted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("change of tier")
        verbose_name_plural = _("changes of tier")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["programme", "customer", "effective_at"], name="loyalty_tier_change_once_at_a_moment"
            ),
            models.CheckConstraint(condition=~Q(from_tier=models.F("to_tier")), name="loyalty_tier_change_changes"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["customer", "programme", "effective_at"], name="loyalty_tier_change_customer"),
            models.Index(fields=["id"], condition=Q(reacted_at=None), name="loyalty_tier_change_to_react"),
        ]

    def __str__(self) -> str:
        return f"#{self.customer_id}: {self.from_tier} → {self.to_tier}"

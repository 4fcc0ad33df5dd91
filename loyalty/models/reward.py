"""What points buy: the catalogue, what it costs in each tier, and each redemption on its way to the customer.

``loyalty.rewards`` is the only writer.
"""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from customers.models import Customer, Product
from lifecycle_crm.lib import clock
from loyalty.models.ledger import Entry
from loyalty.models.programme import Programme


class Reward(models.Model):
    """Something of the catalogue. ``stock`` is how many are left; the database refuses to give one more."""

    class Kind(models.TextChoices):
        PRODUCT = "product", pgettext_lazy("reward", "Product")
        DISCOUNT = "discount", pgettext_lazy("reward", "Discount")
        VOUCHER = "voucher", pgettext_lazy("reward", "Voucher")
        PERK = "perk", pgettext_lazy("reward", "Perk")

    class Perk(models.TextChoices):
        WARRANTY = "warranty", _("Extended warranty")
        DELIVERY = "delivery", _("Free delivery")
        PRIORITY = "priority", _("Priority service")
        PACKAGING = "packaging", _("Special packaging")
        UPGRADE = "upgrade", _("Upgrade")

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="rewards")
    name = models.CharField(_("name"), max_length=120)
    description = models.CharField(_("description"), max_length=500, blank=True)
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices, default=Kind.PRODUCT)
    perk = models.CharField(_("perk"), max_length=9, choices=Perk.choices, blank=True)
    product = models.ForeignKey(Product, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    series = models.ForeignKey(
        "loyalty.VoucherSeries",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="rewards",
        verbose_name=_("voucher that is given"),
    )
    points = models.PositiveIntegerField(
        _("price in points"), help_text=_("For everybody without a price of their tier.")
    )
    cost_minor = models.PositiveBigIntegerField(
        _("cost"), default=0, help_text=_("What one costs the shop, in hundredths (minor units) of its currency.")
    )
    stock = models.PositiveIntegerField(
        _("left"), null=True, blank=True, help_text=_("Empty: as many as are asked for.")
    )
    per_customer = models.PositiveIntegerField(
        _("most per customer"), null=True, blank=True, help_text=_("Empty: any number.")
    )
    starts_on = models.DateField(_("first day"), null=True, blank=True)
    ends_on = models.DateField(_("last day"), null=True, blank=True, help_text=_("It is included."))
    only_tiers = models.BooleanField(
        _("only for tiers with a price"), default=False, help_text=_("Others see it and cannot redeem it.")
    )
    is_active = models.BooleanField(_("offered"), default=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("reward")
        verbose_name_plural = _("rewards")
        ordering: ClassVar = ["points", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(stock=None) | Q(stock__gte=0), name="loyalty_reward_stock_never_negative"
            ),
            models.CheckConstraint(
                condition=Q(starts_on=None) | Q(ends_on=None) | Q(ends_on__gte=F("starts_on")),
                name="loyalty_reward_ends_after_start",
            ),
            models.CheckConstraint(
                condition=Q(per_customer=None) | Q(per_customer__gt=0), name="loyalty_reward_limit_positive"
            ),
            models.CheckConstraint(
                condition=(Q(kind="perk") & ~Q(perk="")) | (~Q(kind="perk") & Q(perk="")),
                name="loyalty_reward_perk_named",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["programme", "points", "id"], name="loyalty_reward_catalogue")]

    def __str__(self) -> str:
        return self.name

    @property
    def is_handed_out_by_people(self) -> bool:
        """Whether somebody has to do something; a code is given at once."""
        return self.kind in (self.Kind.PRODUCT, self.Kind.PERK)

    def is_open_on(self, day: date) -> bool:
        """Whether it can be redeemed on that business date, as far as the calendar goes."""
        return (self.starts_on is None or self.starts_on <= day) and (self.ends_on is None or day <= self.ends_on)


class RewardPrice(models.Model):
    """What a reward costs somebody in a tier; 0: it is theirs for nothing."""

    reward = models.ForeignKey(Reward, on_delete=models.CASCADE, related_name="prices")
    tier = models.CharField(_("tier"), max_length=80, help_text=_("Its key."))
    points = models.PositiveIntegerField(_("price in points"))

    class Meta:
        verbose_name = _("price of a tier")
        verbose_name_plural = _("prices of tiers")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["reward", "tier"], name="loyalty_reward_price_once_per_tier"),
        ]

    def __str__(self) -> str:
        return f"{self.tier}: {self.points}"


class RewardUse(models.Model):
    """How many of a reward a customer has, not counting cancelled ones. The limit is part of the write to it."""

    reward = models.ForeignKey(Reward, on_delete=models.PROTECT, related_name="uses")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    count = models.PositiveIntegerField(_("redeemed"), default=0)

    class Meta:
        verbose_name = _("use of a reward")
        verbose_name_plural = _("uses of rewards")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["reward", "customer"], name="loyalty_reward_use_once_per_customer"),
        ]

    def __str__(self) -> str:
        return f"{self.count} of #{self.reward_id} by #{self.customer_id}"


class Redemption(models.Model):
    """One reward for one customer, on its way: ordered, prepared, handed out; or cancelled, with the points given back.

    ``entry`` is the movement that paid for it, ``None`` where it cost nothing. ``code`` is what the customer shows.
    """

    class State(models.TextChoices):
        ORDERED = "ordered", pgettext_lazy("redemption", "Ordered")
        PREPARED = "prepared", pgettext_lazy("redemption", "Prepared")
        HANDED_OUT = "handed_out", pgettext_lazy("redemption", "Handed out")
        CANCELLED = "cancelled", pgettext_lazy("redemption", "Cancelled")

    replayed = False
    """True on a redemption that the verb found under its key instead of making it."""

    reward = models.ForeignKey(Reward, on_delete=models.PROTECT, related_name="redemptions", db_index=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="redemptions", db_index=False)
    entry = models.OneToOneField(Entry, null=True, blank=True, on_delete=models.PROTECT, related_name="redemption")
    key = models.CharField(_("key"), max_length=255, unique=True)
    code = models.CharField(_("code"), max_length=16, unique=True)
    points = models.PositiveIntegerField(_("paid in points"))
    tier = models.CharField(_("tier"), max_length=80, blank=True)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.ORDERED)
    ordered_at = models.DateTimeField(_("ordered"), default=clock.now)
    state_at = models.DateTimeField(_("in this state since"), default=clock.now)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )

    class Meta:
        verbose_name = _("redemption")
        verbose_name_plural = _("redemptions")
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["customer", "-id"], name="loyalty_redemption_customer"),
            models.Index(fields=["reward", "-id"], name="loyalty_redemption_reward"),
            # The queue of those who hand out never reads what is done.
            models.Index(
                fields=["state", "id"],
                condition=Q(state__in=["ordered", "prepared"]),
                name="loyalty_redemption_queue",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.code}: {self.get_state_display()}"

    @property
    def is_waiting(self) -> bool:
        return self.state in (self.State.ORDERED, self.State.PREPARED)


class RedemptionStep(models.Model):
    """A state a redemption reached: when, by whom, and why. Append-only."""

    redemption = models.ForeignKey(Redemption, on_delete=models.PROTECT, related_name="steps")
    state = models.CharField(_("state"), max_length=10, choices=Redemption.State.choices)
    at = models.DateTimeField(_("when"), default=clock.now)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    reason = models.CharField(_("reason"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("step of a redemption")
        verbose_name_plural = _("steps of redemptions")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["redemption", "state"], name="loyalty_redemption_step_once"),
        ]

    def __str__(self) -> str:
        return f"{self.get_state_display()} {self.at:%Y-%m-%d}"

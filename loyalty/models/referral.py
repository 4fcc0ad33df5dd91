"""Friends brought by customers: what the shop offers for them, who brought whom, and what was thought of it."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from customers.models import Customer, Order
from lifecycle_crm.lib import clock
from loyalty.models.programme import Programme


class ReferralOffer(models.Model):
    """What both get, in points of the programme, once the friend's first order is there."""

    programme = models.OneToOneField(Programme, on_delete=models.PROTECT, related_name="referral_offer")
    advocate_points = models.PositiveIntegerField(_("points for who recommends us"))
    friend_points = models.PositiveIntegerField(_("points for the friend"))
    min_order_minor = models.PositiveBigIntegerField(
        _("smallest first order"), default=0, help_text=_("In hundredths (minor units) of the shop's currency.")
    )
    most_per_month = models.PositiveIntegerField(
        _("friends in 30 days"), default=10, help_text=_("More of one customer wait for somebody to look at them.")
    )
    is_active = models.BooleanField(_("offered"), default=True)
    changed_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("referral offer")
        verbose_name_plural = _("referral offers")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(advocate_points__gt=0) | Q(friend_points__gt=0),
                name="loyalty_referral_offer_gives_something",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.programme}"


class ReferralCode(models.Model):
    """The code that a customer passes on."""

    customer = models.OneToOneField(Customer, on_delete=models.PROTECT, related_name="referral_code")
    code = models.CharField(_("code"), max_length=12, unique=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("referral code")
        verbose_name_plural = _("referral codes")

    def __str__(self) -> str:
        return self.code


class Referral(models.Model):
    """One friend of one customer. An address is brought once per programme, by whoever was first.

    IP and device are kept as keyed digests: equal ones can be told, the address cannot be read back.
    """

    class State(models.TextChoices):
        WAITING = "waiting", pgettext_lazy("referral", "Waits for the first order")
        REVIEW = "review", pgettext_lazy("referral", "To be looked at")
        REWARDED = "rewarded", pgettext_lazy("referral", "Rewarded")
        REFUSED = "refused", pgettext_lazy("referral", "Refused")
        RETURNED = "returned", pgettext_lazy("referral", "Order returned")

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="referrals", db_index=False)
    advocate = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="referrals", db_index=False)
    friend = models.ForeignKey(
        Customer, null=True, blank=True, on_delete=models.PROTECT, related_name="referred_by", db_index=False
    )
    email = models.EmailField(_("e-mail of the friend"))
    email_key = models.CharField(max_length=254, editable=False)
    phone = models.CharField(_("phone of the friend"), max_length=20, blank=True)
    ip_digest = models.CharField(max_length=32, blank=True, editable=False)
    device_digest = models.CharField(max_length=32, blank=True, editable=False)
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.WAITING)
    doubts = models.JSONField(_("doubts"), default=list, blank=True)
    order = models.OneToOneField(
        Order, null=True, blank=True, on_delete=models.PROTECT, related_name="referral", verbose_name=_("first order")
    )
    reason = models.CharField(_("reason"), max_length=300, blank=True)
    created_at = models.DateTimeField(_("recommended"), default=clock.now)
    decided_at = models.DateTimeField(_("decided"), null=True, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )

    class Meta:
        verbose_name = _("referral")
        verbose_name_plural = _("referrals")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["programme", "email_key"], name="loyalty_referral_friend_once"),
            models.CheckConstraint(
                condition=Q(friend=None) | ~Q(friend=F("advocate")) | Q(state="refused"),
                name="loyalty_referral_not_of_oneself",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["email_key"], condition=Q(state="waiting"), name="loyalty_referral_waiting"),
            models.Index(fields=["advocate", "created_at"], name="loyalty_referral_advocate"),
            models.Index(fields=["state", "id"], name="loyalty_referral_state"),
            models.Index(fields=["friend"], condition=Q(friend__isnull=False), name="loyalty_referral_friend"),
        ]

    def __str__(self) -> str:
        return f"#{self.advocate_id} → {self.email}"

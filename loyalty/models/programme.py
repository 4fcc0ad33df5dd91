"""The programmes that customers collect and belong in, several side by side, and who belongs to those one has to join."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from customers.models import Customer
from lifecycle_crm.lib import clock


class Programme(models.Model):
    """One way to reward customers. Any number may be active; a change holds from then on, recorded entries keep theirs.

    A points programme keeps accounts in the ledger. Points of two programmes are two currencies: they are never added
    up, so ``CustomerFacts.points`` is the balance in the *main* one, the first active points programme (``position``,
    then age). A membership has a fee (0: free) and a term, a card a number; neither needs points.
    """

    class Kind(models.TextChoices):
        POINTS = "points", _("Points")
        MEMBERSHIP = "membership", _("Membership")
        CARD = "card", _("Card")

    class Joining(models.TextChoices):
        EVERYBODY = "everybody", _("Everybody is in it")
        ASKED = "asked", _("Customers join")

    key = models.SlugField(_("key"), max_length=60, unique=True)
    name = models.CharField(_("name"), max_length=80)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices, default=Kind.POINTS)
    joining = models.CharField(_("who is in it"), max_length=10, choices=Joining.choices, default=Joining.EVERYBODY)
    fee_minor = models.PositiveIntegerField(
        _("fee"), default=0, help_text=_("What joining or renewing costs, in minor units. 0: free.")
    )
    term_months = models.PositiveSmallIntegerField(
        _("months a membership runs"), null=True, blank=True, help_text=_("Empty: until the customer leaves.")
    )
    about = models.CharField(_("in one sentence"), max_length=300, blank=True)
    position = models.PositiveSmallIntegerField(
        _("order"), default=100, help_text=_("The active points programme that comes first is the main one.")
    )
    pending_days = models.PositiveIntegerField(
        _("pending days"), default=14, help_text=_("Points can be used this many days after the order.")
    )
    expiry_months = models.PositiveIntegerField(
        _("months until expiry"),
        null=True,
        blank=True,
        help_text=_("Counted from the order; the last day is included. Empty: points never expire."),
    )
    value_minor_per_100 = models.PositiveIntegerField(
        _("value of 100 points"), default=100, help_text=_("In hundredths (minor units) of the shop's currency.")
    )
    is_active = models.BooleanField(_("active"), default=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("programme")
        verbose_name_plural = _("programmes")
        ordering: ClassVar = ["position", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(kind="points") | Q(joining="asked"), name="loyalty_membership_and_card_are_joined"
            ),
            models.CheckConstraint(
                condition=Q(fee_minor=0) | Q(joining="asked"), name="loyalty_fee_only_where_one_joins"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def current(cls) -> Programme | None:
        """The main points programme: the first active one, or ``None``."""
        return cls.earning().first()

    @classmethod
    def earning(cls) -> models.QuerySet[Programme]:
        """The active points programmes, the main one first."""
        return cls.objects.filter(is_active=True, kind=cls.Kind.POINTS).order_by("position", "pk")


class Membership(models.Model):
    """A customer in a programme that one joins, from ``joined_at`` until before ``ends_at`` (``None``: open) or ``left_at``.

    Renewing moves ``ends_at``; joining again after the end is a row of its own. At most one row of a customer and
    programme has not been left. ``number`` is what their card shows.
    """

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="memberships")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="memberships")
    number = models.CharField(_("card number"), max_length=40)
    joined_at = models.DateTimeField(_("joined"))
    ends_at = models.DateTimeField(_("ends"), null=True, blank=True)
    left_at = models.DateTimeField(_("left"), null=True, blank=True)
    paid_minor = models.PositiveIntegerField(_("paid so far"), default=0)
    renewals = models.PositiveSmallIntegerField(_("renewed"), default=0)
    key = models.CharField(_("key of the last payment"), max_length=255, blank=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    recorded_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["programme", "customer"], condition=Q(left_at=None), name="loyalty_membership_once_at_a_time"
            ),
            models.UniqueConstraint(fields=["programme", "number"], name="loyalty_membership_number_once"),
            models.CheckConstraint(
                condition=Q(ends_at=None) | Q(ends_at__gt=F("joined_at")), name="loyalty_membership_ends_after_it_began"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["customer", "programme"], name="loyalty_membership_customer")]

    def __str__(self) -> str:
        return self.number

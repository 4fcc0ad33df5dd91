"""Points that change hands: a gift from one customer to another, a household's pool, two customers who are one."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from customers.models import Customer
from lifecycle_crm.lib import clock
from loyalty.models.ledger import Account
from loyalty.models.programme import Programme


class Transfer(models.Model):
    """So many usable points from one account to another, each with its own last day."""

    class Kind(models.TextChoices):
        GIFT = "gift", pgettext_lazy("transfer", "Given to another customer")
        POOL = "pool", pgettext_lazy("transfer", "Used by the household")

    replayed = False

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="+", db_index=False)
    key = models.CharField(_("key"), max_length=255)
    kind = models.CharField(_("kind"), max_length=4, choices=Kind.choices, default=Kind.GIFT)
    from_account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="transfers_out")
    to_account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="transfers_in")
    points = models.BigIntegerField(_("points"))
    reason = models.CharField(_("reason"), max_length=300, blank=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    effective_at = models.DateTimeField(_("holds from"))
    recorded_at = models.DateTimeField(_("recorded"), default=clock.now, editable=False)

    class Meta:
        verbose_name = _("transfer of points")
        verbose_name_plural = _("transfers of points")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["programme", "key"], name="loyalty_transfer_key_once"),
            models.CheckConstraint(condition=Q(points__gt=0), name="loyalty_transfer_moves_points"),
            models.CheckConstraint(condition=~Q(from_account=F("to_account")), name="loyalty_transfer_between_two"),
        ]

    def __str__(self) -> str:
        return f"{self.points} from #{self.from_account_id} to #{self.to_account_id}"


class Household(models.Model):
    """Customers who spend each other's points: a redemption takes the redeemer's own first, then what ends soonest."""

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="households")
    name = models.CharField(_("name"), max_length=80)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )

    class Meta:
        verbose_name = _("household")
        verbose_name_plural = _("households")

    def __str__(self) -> str:
        return self.name


class HouseholdMember(models.Model):
    """Somebody in a household, from when until when. In one programme a customer is in one household at a time."""

    household = models.ForeignKey(Household, on_delete=models.PROTECT, related_name="members")
    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="+", db_index=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="households")
    joined_at = models.DateTimeField(_("joined"), default=clock.now)
    left_at = models.DateTimeField(_("left"), null=True, blank=True)

    class Meta:
        verbose_name = _("member of a household")
        verbose_name_plural = _("members of households")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["programme", "customer"],
                condition=Q(left_at__isnull=True),
                name="loyalty_household_one_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"#{self.customer_id} in {self.household_id}"


class Merge(models.Model):
    """One customer turned out to be another: all their points, waiting points, holds and debt moved over.

    While it stands, what still arrives on the old account follows at night. Undone, what is left of the moved lots goes
    back to the lots it came from.
    """

    replayed = False

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="+", db_index=False)
    key = models.CharField(_("key"), max_length=200)
    from_account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="merged_into", db_index=False)
    into_account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="merged_from")
    points = models.BigIntegerField(_("usable points"), default=0)
    pending = models.BigIntegerField(_("pending"), default=0)
    held = models.BigIntegerField(_("held"), default=0)
    debt = models.BigIntegerField(_("debt"), default=0)
    reason = models.CharField(_("reason"), max_length=300, blank=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    recorded_at = models.DateTimeField(_("recorded"), default=clock.now, editable=False)
    undone_at = models.DateTimeField(_("undone"), null=True, blank=True)
    undone_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )

    class Meta:
        verbose_name = _("merge of points")
        verbose_name_plural = _("merges of points")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["programme", "key"], name="loyalty_merge_key_once"),
            models.UniqueConstraint(
                fields=["from_account"], condition=Q(undone_at__isnull=True), name="loyalty_merge_into_one"
            ),
            models.CheckConstraint(condition=~Q(from_account=F("into_account")), name="loyalty_merge_of_two"),
        ]

    def __str__(self) -> str:
        return f"#{self.from_account_id} into #{self.into_account_id}"

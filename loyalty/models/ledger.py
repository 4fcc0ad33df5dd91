"""Points as double entry: entries and postings only grow, accounts and lots are what they add up to.

``loyalty.ledger`` is the only writer. A movement is one ``Entry`` with two or more ``Posting`` rows that sum to zero;
``Account`` caches the sums per customer, and ``Lot`` says which earned points are left, from when and until when.
"""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from customers.models import Customer
from lifecycle_crm.lib import clock
from loyalty.models.programme import Programme


class Account(models.Model):
    """What one customer has in one programme: cached sums of their postings, never negative.

    ``balance`` can be spent, ``pending`` not yet, ``held`` waits for a purchase to be finished, ``debt`` is owed because
    points of a returned order were spent. The others are life-long totals; ``moved`` is what came from other customers
    less what went to them. The database itself refuses a row that does not add up.
    """

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="accounts")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="points_accounts")
    balance = models.BigIntegerField(_("balance"), default=0)
    pending = models.BigIntegerField(_("pending"), default=0)
    held = models.BigIntegerField(_("held"), default=0, db_default=0)
    debt = models.BigIntegerField(_("debt"), default=0)
    earned = models.BigIntegerField(_("earned"), default=0)
    adjusted = models.BigIntegerField(_("adjusted"), default=0)
    spent = models.BigIntegerField(_("spent"), default=0)
    expired = models.BigIntegerField(_("expired"), default=0)
    reversed = models.BigIntegerField(_("taken back"), default=0)
    moved = models.BigIntegerField(_("moved in from others"), default=0, db_default=0)
    frozen_at = models.DateTimeField(
        _("frozen"), null=True, blank=True, help_text=_("The nightly proof failed: nothing can be redeemed.")
    )
    opened_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("points account")
        verbose_name_plural = _("points accounts")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["programme", "customer"], name="loyalty_account_once_per_customer"),
            models.CheckConstraint(condition=Q(balance__gte=0), name="loyalty_balance_never_negative"),
            models.CheckConstraint(condition=Q(pending__gte=0), name="loyalty_pending_never_negative"),
            models.CheckConstraint(condition=Q(held__gte=0), name="loyalty_held_never_negative"),
            models.CheckConstraint(condition=Q(debt__gte=0), name="loyalty_debt_never_negative"),
            models.CheckConstraint(
                condition=Q(
                    balance=F("earned") + F("adjusted") + F("moved") - F("spent") - F("expired") - F("reversed")
                    - F("pending") - F("held") + F("debt")
                ),
                name="loyalty_account_adds_up",
            ),
        ]  # fmt: skip
        indexes: ClassVar = [models.Index(fields=["balance", "id"], name="loyalty_account_by_balance")]

    def __str__(self) -> str:
        return f"points of #{self.customer_id}"


class Entry(models.Model):
    """One movement of points. Append-only: a mistake is corrected by another entry.

    ``points`` is the change of what the customer has (pending + balance + held - debt), as a signed number; for
    ``activate``, ``hold``, ``release`` and ``repay``, which only move points between the customer's own accounts, the
    number moved; of a hold it is negative, because they cannot be spent meanwhile.
    """

    class Kind(models.TextChoices):
        EARN = "earn", pgettext_lazy("points", "Earned")
        ACTIVATE = "activate", pgettext_lazy("points", "Became usable")
        SPEND = "spend", pgettext_lazy("points", "Redeemed")
        CANCEL = "cancel", pgettext_lazy("points", "Given back")
        EXPIRE = "expire", pgettext_lazy("points", "Expired")
        REVERSE = "reverse", pgettext_lazy("points", "Taken back")
        DEBT = "debt", pgettext_lazy("points", "Owed")
        REPAY = "repay", pgettext_lazy("points", "Debt repaid")
        ADJUST = "adjust", pgettext_lazy("points", "Adjusted")
        HOLD = "hold", pgettext_lazy("points", "Held")
        RELEASE = "release", pgettext_lazy("points", "Released")
        TRANSFER = "transfer", pgettext_lazy("points", "Transferred")

    replayed = False
    """True on an entry that a verb found under its key instead of writing it: nothing moved this time."""

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="entries", db_index=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="entries", db_index=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="points_entries", db_index=False)
    key = models.CharField(_("key"), max_length=255, help_text=_("Names the cause; a cause moves points once."))
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices)
    points = models.BigIntegerField(_("points"))
    effective_at = models.DateTimeField(_("holds from"))
    recorded_at = models.DateTimeField(_("recorded"), default=clock.now, editable=False)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    reason = models.CharField(_("reason"), max_length=300, blank=True)
    explanation = models.JSONField(
        _("explanation"), default=dict, help_text=_("The numbers the points were computed from.")
    )
    source_type = models.CharField(max_length=40, blank=True)
    source_id = models.CharField(max_length=120, blank=True)
    takes_back = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="taken_back_by",
        db_index=False,
        help_text=_("The earning that this entry takes back, in part or whole."),
    )
    reverses = models.OneToOneField(
        "self",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="reversed_by",
        help_text=_("The entry that this one undoes as a whole, which can happen once."),
    )

    class Meta:
        verbose_name = _("points entry")
        verbose_name_plural = _("points entries")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["programme", "key"], name="loyalty_entry_key_once"),
            models.CheckConstraint(condition=~Q(points=0), name="loyalty_entry_moves_points"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["customer", "id"], name="loyalty_entry_customer"),
            models.Index(fields=["effective_at"], name="loyalty_entry_effective"),
            models.Index(fields=["actor", "effective_at"], condition=Q(actor__isnull=False), name="loyalty_entry_by"),
            models.Index(fields=["takes_back"], condition=Q(takes_back__isnull=False), name="loyalty_entry_takes_back"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.points:+d}"


class Posting(models.Model):
    """One line of an entry: so many points into a ledger account (negative: out of it). An entry's lines sum to zero."""

    class Ledger(models.TextChoices):
        PENDING = "pending", pgettext_lazy("ledger account", "Customers: pending")
        AVAILABLE = "available", pgettext_lazy("ledger account", "Customers: usable")
        HELD = "held", pgettext_lazy("ledger account", "Customers: held")
        DEBT = "debt", pgettext_lazy("ledger account", "Customers: owed to us")
        ISSUED = "issued", pgettext_lazy("ledger account", "Issued")
        REDEEMED = "redeemed", pgettext_lazy("ledger account", "Redeemed")
        EXPIRED = "expired", pgettext_lazy("ledger account", "Expired")
        REVERSED = "reversed", pgettext_lazy("ledger account", "Taken back")
        ADJUSTED = "adjusted", pgettext_lazy("ledger account", "Adjusted by hand")
        MOVED = "moved", pgettext_lazy("ledger account", "Moved between customers")

    entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="postings", db_index=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="postings", db_index=False)
    ledger = models.CharField(_("ledger account"), max_length=10, choices=Ledger.choices)
    points = models.BigIntegerField(_("points"))

    class Meta:
        verbose_name = _("posting")
        verbose_name_plural = _("postings")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["entry", "ledger"], name="loyalty_posting_once_per_ledger"),
            models.CheckConstraint(condition=~Q(points=0), name="loyalty_posting_moves_points"),
        ]

    def __str__(self) -> str:
        return f"{self.ledger} {self.points:+d}"


class Lot(models.Model):
    """Points that were credited together and end together. ``remaining`` is what is left after its ``LotSpend`` rows."""

    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, related_name="lot")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="lots", db_index=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+", db_index=False)
    amount = models.BigIntegerField(_("amount"))
    remaining = models.BigIntegerField(_("left"))
    active_at = models.DateTimeField(_("usable from"))
    expires_at = models.DateTimeField(
        _("expires"), null=True, blank=True, help_text=_("The first instant at which it is gone.")
    )
    activated_at = models.DateTimeField(_("made usable"), null=True, blank=True)

    class Meta:
        verbose_name = _("lot of points")
        verbose_name_plural = _("lots of points")
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="loyalty_lot_holds_points"),
            models.CheckConstraint(
                condition=Q(remaining__gte=0) & Q(remaining__lte=F("amount")),
                name="loyalty_lot_remaining_within_amount",
            ),
        ]
        indexes: ClassVar = [
            # Partial, so the night and a redemption never read lots that are used up.
            models.Index(fields=["customer"], condition=Q(remaining__gt=0), name="loyalty_lot_left_of_customer"),
            models.Index(fields=["expires_at", "remaining"], condition=Q(remaining__gt=0), name="loyalty_lot_expires"),
            models.Index(
                fields=["active_at"],
                condition=Q(remaining__gt=0, activated_at__isnull=True),
                name="loyalty_lot_to_activate",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.remaining} of {self.amount}"


class LotSpend(models.Model):
    """What an entry took out of a lot (negative: gave back to it). Append-only; so a cancelled redemption finds home."""

    entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="lot_spends", db_index=False)
    lot = models.ForeignKey(Lot, on_delete=models.PROTECT, related_name="spends")
    points = models.BigIntegerField(_("points"))

    class Meta:
        verbose_name = _("use of a lot")
        verbose_name_plural = _("uses of lots")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["entry", "lot"], name="loyalty_lot_spend_once_per_entry"),
            models.CheckConstraint(condition=~Q(points=0), name="loyalty_lot_spend_moves_points"),
        ]

    def __str__(self) -> str:
        return f"{self.points} of lot #{self.lot_id}"

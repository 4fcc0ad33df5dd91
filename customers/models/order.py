from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from customers.models.customer import Customer
from lifecycle_crm.lib import clock


class Product(models.Model):
    sku = models.CharField(_("SKU"), max_length=80, unique=True)
    name = models.CharField(_("name"), max_length=200)
    category = models.CharField(_("category"), max_length=100, blank=True, db_index=True)

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """A purchase. Amounts are integer minor units; ``base_minor`` is the net amount in the reporting currency.

    ``is_counted`` is false once an order is cancelled: it stays in the history and leaves every sum.
    """

    class Status(models.TextChoices):
        PLACED = "placed", _("Placed")
        CANCELLED = "cancelled", _("Cancelled")

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="orders")
    source = models.CharField(_("source"), max_length=40)
    source_id = models.CharField(_("number at the source"), max_length=120)
    placed_at = models.DateTimeField(_("placed"))
    status = models.CharField(_("status"), max_length=10, choices=Status.choices, default=Status.PLACED)
    currency = models.CharField(_("currency"), max_length=3)
    amount_minor = models.BigIntegerField(_("amount"))
    refunded_minor = models.BigIntegerField(_("refunded"), default=0)
    rate = models.DecimalField(_("rate to the reporting currency"), max_digits=18, decimal_places=8, default=Decimal(1))
    base_minor = models.BigIntegerField(_("net amount in the reporting currency"))
    items = models.PositiveIntegerField(_("items"), default=0)
    is_counted = models.BooleanField(default=True)
    is_history = models.BooleanField(
        default=False, help_text=_("Placed before the customer was loaded: earns points, starts no message.")
    )
    received_at = models.DateTimeField(default=clock.now, editable=False)
    reacted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source", "source_id"], name="customers_order_once_per_source"),
            models.CheckConstraint(condition=Q(amount_minor__gte=0), name="customers_order_amount_not_negative"),
            models.CheckConstraint(
                condition=Q(refunded_minor__gte=0) & Q(refunded_minor__lte=F("amount_minor")),
                name="customers_order_refund_within_amount",
            ),
        ]
        indexes: ClassVar = [
            # Serves the facts by itself: the columns after customer are read from the index, never from the table.
            models.Index(
                fields=["customer", "placed_at", "base_minor"],
                condition=Q(is_counted=True),
                name="customers_order_facts",
            ),
            models.Index(fields=["placed_at"], name="customers_order_placed"),
            models.Index(fields=["placed_at", "id"], condition=Q(reacted_at=None), name="customers_order_to_react"),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.source_id}"


class OrderLine(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, null=True, blank=True, on_delete=models.PROTECT, related_name="lines")
    title = models.CharField(_("title"), max_length=200)
    quantity = models.PositiveIntegerField(_("quantity"), default=1)
    unit_minor = models.BigIntegerField(_("unit price"))
    discount_minor = models.BigIntegerField(_("discount"), default=0)

    class Meta:
        verbose_name = _("order line")
        verbose_name_plural = _("order lines")

    def __str__(self) -> str:
        return f"{self.quantity} × {self.title}"


class Refund(models.Model):
    """Money given back for an order, in part or whole; a cancellation is a refund of all that is left."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="refunds")
    source = models.CharField(_("source"), max_length=40)
    source_id = models.CharField(_("number at the source"), max_length=120)
    occurred_at = models.DateTimeField(_("happened"))
    amount_minor = models.BigIntegerField(_("amount"))
    base_minor = models.BigIntegerField(
        _("taken from the net amount in the reporting currency"),
        default=0,
        help_text=_("What the order lost by it; so the order can be seen as it was before."),
    )
    is_cancellation = models.BooleanField(_("cancels the order"), default=False)
    is_history = models.BooleanField(default=False)
    reacted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("refund")
        verbose_name_plural = _("refunds")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source", "source_id"], name="customers_refund_once_per_source"),
            models.CheckConstraint(condition=Q(amount_minor__gte=0), name="customers_refund_amount_not_negative"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["occurred_at", "id"], condition=Q(reacted_at=None), name="customers_refund_react"),
            models.Index(fields=["occurred_at"], name="customers_refund_occurred"),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.source_id}"

"""Money goes back: never more than was paid, whoever asks at the same time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from customers import facts
from customers.identity import text
from customers.ingest.items import REACT, not_in_future
from customers.ingest.orders import net_in_base
from customers.models import Customer, Order, Refund
from lifecycle_crm.lib import bell, clock, money
from lifecycle_crm.lib.errors import Conflict, InvalidInput

_TRIES = 20


def refund(
    *,
    order: Order,
    amount_minor: int | None = None,
    source: str,
    source_id: str,
    occurred_at: datetime | None = None,
    is_cancellation: bool = False,
) -> Refund:
    """Give back ``amount_minor`` of an order (minor units of its currency), or cancel it: give back all that is left.

    The same ``(source, source_id)`` again answers with the refund that is there. Raises ``InvalidInput`` for an amount
    that is not positive or a future date, ``Conflict`` for more than is left, an order already cancelled, or an id
    that was used for another refund.
    """
    now = clock.now()
    source, source_id = text(source, "source", 40), text(source_id, "source_id", 120)
    if not source_id:
        raise InvalidInput(_("source_id is missing. Send the refund's number."), code="missing_id")
    if not is_cancellation and (amount_minor is None or amount_minor <= 0):
        raise InvalidInput(
            _("A refund must be more than zero; %(amount)s is not.") % {"amount": amount_minor}, code="negative_amount"
        )
    at = not_in_future(occurred_at or now, "occurred_at", now)
    try:
        with transaction.atomic():
            return _write(order, amount_minor, source, source_id, at, is_cancellation)
    except IntegrityError:
        # The same refund arrived twice at once and the other one was first.
        known = _known(order, source, source_id, amount_minor, is_cancellation)
        if known is None:
            raise
        return known


def _known(order: Order, source: str, source_id: str, amount_minor: int | None, is_cancellation: bool) -> Refund | None:
    row = Refund.objects.filter(source=source, source_id=source_id).first()
    if row is None:
        return None
    is_same = row.order_id == order.pk and row.is_cancellation == is_cancellation
    if not is_same or (not is_cancellation and row.amount_minor != amount_minor):
        raise Conflict(
            _("Refund %(id)s of %(source)s is already there with other values. Use a new number.")
            % {"id": repr(source_id), "source": source},
            code="refund_id_taken",
        )
    return row


def _write(
    order: Order, amount_minor: int | None, source: str, source_id: str, at: datetime, is_cancellation: bool
) -> Refund:
    for _attempt in range(_TRIES):
        if known := _known(order, source, source_id, amount_minor, is_cancellation):
            return known
        order = Order.objects.get(pk=order.pk)
        left = order.amount_minor - order.refunded_minor
        if order.status == Order.Status.CANCELLED:
            raise Conflict(_("Order %(order)s is already cancelled.") % {"order": order}, code="already_cancelled")
        amount = left if is_cancellation else amount_minor or 0
        if amount > left:
            raise Conflict(
                _("Only %(left)s %(currency)s of order %(order)s are left to refund.")
                % {"left": money.from_minor(left, order.currency), "currency": order.currency, "order": order},
                code="refund_too_large",
                left_minor=left,
            )
        changes: dict[str, Any] = {
            "refunded_minor": order.refunded_minor + amount,
            "base_minor": net_in_base(left - amount, order.currency, order.rate),
        }
        if is_cancellation:
            changes |= {"status": Order.Status.CANCELLED, "is_counted": False}
        # True only if nobody gave money back since we looked; the net amount was computed from what we saw.
        same = Order.objects.filter(pk=order.pk, refunded_minor=order.refunded_minor, status=order.status)
        if same.update(**changes) == 1:
            break
    else:
        raise Conflict(_("Order %(id)d is being refunded by others. Try again.") % {"id": order.pk}, code="busy")
    loaded_at = Customer.objects.values_list("loaded_at", flat=True).get(pk=order.customer_id)
    row = Refund.objects.create(
        order=order,
        source=source,
        source_id=source_id,
        occurred_at=at,
        amount_minor=amount,
        base_minor=order.base_minor - changes["base_minor"],
        is_cancellation=is_cancellation,
        is_history=at < loaded_at,
    )
    facts.mark([order.customer_id], occurred_at=at, is_history=row.is_history)
    bell.ring(REACT)
    return row

"""What earns points: orders, by their amount. Refunds take back what their order gave.

Both are told in batches, in any order and as often as anybody likes: an order earns under its own key, and a refund takes
back up to where all refunds of its order together lead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import transaction

from customers.models import Order, Refund
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.money import digits
from loyalty import ledger
from loyalty.models import Entry, Programme

BATCH = 2000


def points_for(base_minor: int, programme: Programme, currency: str) -> int:
    """Points for an amount in minor units of ``currency``: a number per whole unit of it, so 49.95 earns as 49 do."""
    unit: int = 10 ** digits(currency)
    return base_minor // unit * programme.points_per_unit


def gross_minor(order: Mapping[str, Any], currency: str) -> int:
    """What the order came to before any refund, in minor units of the reporting ``currency`` at the order's own rate.

    Not the stored net amount: a refund that is already known is taken back by its own entry, not silently left out.
    """
    if order["refunded_minor"] == 0:
        return int(order["base_minor"])
    exact = Decimal(order["amount_minor"]) * order["rate"]
    scaled = exact.scaleb(digits(currency) - digits(order["currency"]))
    return int(scaled.to_integral_value(rounding=ROUND_HALF_EVEN))


def award_for_orders(order_ids: Sequence[int]) -> int:
    """Earn points for these orders in each active points programme, as of the moments they were placed.

    Counted orders with an amount earn once each; the points wait as long as the programme says. A refund that was told
    before its order, and found nothing to take back, is taken back in the same transaction; one that is still to be told
    comes by itself, as of its own date. Returns how many earnings were new; without an active programme none is.
    """
    return sum(_award_in(programme, order_ids) for programme in Programme.earning())


def _award_in(programme: Programme, order_ids: Sequence[int]) -> int:
    currency = settings.SHOP_CURRENCY
    wait = timedelta(days=programme.pending_days)

    @lru_cache(maxsize=4096)
    def expiry_of(day: Any) -> Any:
        return ledger.expiry(clock.day_start(day), programme.expiry_months)

    earned = 0
    for part in batches.of(order_ids, BATCH):
        rows: list[ledger.Earning] = []
        for ids in batches.of(part, 500):
            orders = Order.objects.filter(pk__in=ids, is_counted=True, base_minor__gt=0).values(
                "pk", "customer_id", "placed_at", "currency", "amount_minor", "refunded_minor", "rate", "base_minor"
            )
            for order in orders.order_by("placed_at", "pk"):
                base = gross_minor(order, currency)
                points = points_for(base, programme, currency)
                if points <= 0:
                    continue
                placed = order["placed_at"]
                rows.append(
                    ledger.Earning(
                        customer_id=order["customer_id"],
                        points=points,
                        key=f"order:{order['pk']}",
                        effective_at=placed,
                        active_at=placed + wait,
                        expires_at=expiry_of(clock.business_date(placed)),
                        explanation={
                            "rule": "per_unit",
                            "base_minor": base,
                            "currency": currency,
                            "points_per_unit": programme.points_per_unit,
                        },
                        source_type="order",
                        source_id=str(order["pk"]),
                    )
                )
        with transaction.atomic():
            earned += ledger.earn_many(rows, programme=programme)
            for ids in batches.of(part, 500):
                told = Refund.objects.filter(order__in=ids, reacted_at__isnull=False)
                reverse_for_refunds(list(told.values_list("pk", flat=True)))
    return earned


def reverse_for_refunds(refund_ids: Sequence[int]) -> int:
    """Take back what the orders of these refunds gave, in proportion to the money returned; how many movements.

    ``floor(earned x refunded so far / order total)`` less what was taken back so far, so that any number of parts comes to
    exactly the whole; a cancellation takes back all that is left. It reverses the recorded entry, whatever the rules say
    today. A refund whose order has earned nothing (yet) changes nothing; the order's own award looks for it.
    """
    moved = 0
    for part in batches.of(refund_ids, BATCH):
        wanted = set(part)
        orders = {
            order for ids in batches.of(part, 500) for order in Refund.objects.filter(pk__in=ids).values_list(
                "order_id", flat=True
            )
        }  # fmt: skip
        with transaction.atomic():
            for programme in _programmes():
                rows: list[ledger.TakeBack] = []
                for ids in batches.of(sorted(orders), 500):
                    rows += _take_backs(programme, ids, wanted)
                moved += ledger.reverse_many(rows)
    return moved


def _take_backs(programme: int, orders: Sequence[int], wanted: set[int]) -> list[ledger.TakeBack]:
    keys = [f"order:{pk}" for pk in orders]
    earned = {
        int(entry.source_id): entry
        for entry in Entry.objects.filter(programme=programme, key__in=keys, kind=Entry.Kind.EARN).only(
            "pk", "points", "source_id"
        )
    }
    refunds: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    found = (
        Refund.objects.filter(order__in=list(earned))
        .order_by("occurred_at", "pk")
        .values(
            "pk", "order_id", "occurred_at", "amount_minor", "is_cancellation", "reacted_at",
            "order__amount_minor", "order__currency",
        )
    )  # fmt: skip
    for one in found:
        refunds[one["order_id"]].append(one)
    told = _told(programme, [one["pk"] for one in found])
    rows: list[ledger.TakeBack] = []
    for order, all_of_it in refunds.items():
        entry = earned[order]
        last = max((n for n, one in enumerate(all_of_it) if one["pk"] in wanted), default=-1)
        # Money returned so far: what was told before, in whatever order, and what happened before the batch's last one.
        before = [
            one
            for n, one in enumerate(all_of_it)
            if one["pk"] not in wanted and (n < last or one["reacted_at"] is not None or one["pk"] in told)
        ]
        back = sum(one["amount_minor"] for one in before)
        is_cancelled = any(one["is_cancellation"] for one in before)
        for refund in all_of_it:
            if refund["pk"] not in wanted:
                continue
            back += refund["amount_minor"]
            is_cancelled = is_cancelled or refund["is_cancellation"]
            total = refund["order__amount_minor"]
            whole = is_cancelled or total == 0 or back >= total
            rows.append(
                ledger.TakeBack(
                    entry_id=entry.pk,
                    up_to=entry.points if whole else entry.points * back // total,
                    key=f"refund:{refund['pk']}",
                    effective_at=refund["occurred_at"],
                    explanation={
                        "rule": "cancelled" if is_cancelled else "refunded",
                        "earned": entry.points,
                        "refunded_minor": min(back, total),
                        "total_minor": total,
                        "currency": refund["order__currency"],
                    },
                    source_type="refund",
                    source_id=str(refund["pk"]),
                )
            )
    return rows


def _programmes() -> list[int]:
    """All of them: a key is looked up within its programme, and an order may have earned in one that ended."""
    return list(Programme.objects.values_list("pk", flat=True))


def _told(programme: int, refunds: Sequence[int]) -> set[int]:
    """Those of these refunds that have taken points back already in a programme."""
    return {
        int(pk) for ids in batches.of(refunds, 500) for pk in Entry.objects.filter(
            programme=programme, key__in=[f"refund:{pk}" for pk in ids]
        ).values_list("source_id", flat=True)
    }  # fmt: skip

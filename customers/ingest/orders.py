"""Orders come in, once per ``(source, source_id)`` for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

from django.conf import settings
from django.utils.translation import gettext as _

from customers import facts, identity
from customers.identity import Known, text
from customers.ingest.items import REACT, Result, Status, each, in_order, not_in_future, only, settled, unknown_customer
from customers.models import Customer, Order, OrderLine, Product
from lifecycle_crm.lib import batches, bell, clock, money
from lifecycle_crm.lib.errors import InvalidInput

BIGGEST_MINOR = 10**15
BIGGEST_QUANTITY = 10**9


@dataclass(slots=True)
class LineIn:
    """One line. ``unit_minor`` and ``discount_minor`` (of the whole line) in minor units of the order's currency."""

    title: str
    unit_minor: int
    quantity: int = 1
    discount_minor: int = 0
    sku: str = ""
    category: str = ""


@dataclass(slots=True)
class OrderIn:
    """An order as a shop sends it. One of ``customer_id`` (ours), ``external_id`` and ``email`` names the customer.

    ``rate`` is the price of one unit of ``currency`` in the reporting currency; it may be left out where they are the
    same. ``items`` is how many things were bought; left out, it is the sum of the lines' quantities.
    """

    source_id: str
    placed_at: datetime
    amount_minor: int
    currency: str
    customer_id: int | None = None
    external_id: str = ""
    email: str = ""
    items: int | None = None
    rate: Decimal | None = None
    lines: Sequence[LineIn] = ()

    def ref(self) -> str:
        """How the answer names this row."""
        return self.source_id


def net_in_base(minor: int, currency: str, rate: Decimal) -> int:
    """Minor units of ``currency`` → minor units of the reporting currency at ``rate``, half to even."""
    if currency == settings.SHOP_CURRENCY and rate == 1:
        return minor
    shift = money.digits(settings.SHOP_CURRENCY) - money.digits(currency)
    return int((Decimal(minor) * rate).scaleb(shift).to_integral_value(rounding=ROUND_HALF_EVEN))


@dataclass(slots=True)
class _Read:
    index: int
    row: OrderIn
    order: Order
    external_id: str
    email: str
    lines: list[LineIn]


def record_orders(rows: Sequence[OrderIn], *, source: str, is_history: bool | None = None) -> list[Result]:
    """Write orders that are not there yet; one ``Result`` per row, in order.

    An order placed before its customer was loaded is history: it earns points as of its date and starts no message.
    ``is_history=True`` says so of all of them.
    """
    now = clock.now()
    source = text(source, "source", 40)
    good: list[_Read] = []
    results = each(rows, OrderIn.ref, lambda index, row: good.append(_read(index, row, source, now)))
    if good:
        results |= settled(lambda: _write(good, source, is_history))
    return in_order(results)


def record_order(row: OrderIn, *, source: str, is_history: bool | None = None) -> Order:
    """``record_orders`` for one. Raises ``InvalidInput`` or ``NotFound`` where the batch would answer with an error."""
    result = only(record_orders([row], source=source, is_history=is_history))
    return Order.objects.get(pk=result.id)


def _whole(value: object, name: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(
            _("%(field)s must be a whole number, not %(value)s.") % {"field": name, "value": repr(value)[:60]},
            code="invalid_amount",
            field=name,
        )
    if value < 0:
        raise InvalidInput(
            _("%(field)s %(value)d is negative. Send zero or more; money given back is a refund.")
            % {"field": name, "value": value},
            code="negative_amount",
            field=name,
        )
    if value >= most:
        raise InvalidInput(
            _("%(field)s %(value)s is larger than an order can be.") % {"field": name, "value": str(value)[:30]},
            code="invalid_amount",
            field=name,
        )
    return value


def _rate(row: OrderIn, currency: str) -> Decimal:
    if row.rate is None:
        if currency == settings.SHOP_CURRENCY:
            return Decimal(1)
        raise InvalidInput(
            _("The order is in %(currency)s and the shop counts in %(base)s. Send the rate between them.")
            % {"currency": currency, "base": settings.SHOP_CURRENCY},
            code="missing_rate",
            field="rate",
        )
    try:
        rate = Decimal(row.rate)
    except (InvalidOperation, TypeError, ValueError):
        rate = Decimal("NaN")
    if not rate.is_finite() or not 0 < rate < 10**8:
        raise InvalidInput(
            _("The rate %(rate)s is not a positive number.") % {"rate": repr(str(row.rate))[:60]},
            code="invalid_rate",
            field="rate",
        )
    return rate.quantize(Decimal("1e-8"))


def _read(index: int, row: OrderIn, source: str, now: datetime) -> _Read:
    source_id = text(row.source_id, "source_id", 120)
    if not source_id:
        raise InvalidInput(_("source_id is missing. Send the order's number."), code="missing_id", field="source_id")
    currency = money.check_currency(row.currency)
    amount = _whole(row.amount_minor, "amount", BIGGEST_MINOR)
    rate = _rate(row, currency)
    placed_at = not_in_future(row.placed_at, "placed_at", now)
    lines = [_line(line) for line in row.lines]
    items = sum(line.quantity for line in lines) if row.items is None else row.items
    order = Order(
        source=source,
        source_id=source_id,
        placed_at=placed_at,
        currency=currency,
        amount_minor=amount,
        rate=rate,
        base_minor=net_in_base(amount, currency, rate),
        items=_whole(items, "items", BIGGEST_QUANTITY),
        received_at=now,
    )
    external_id = text(row.external_id, "external_id", 200)
    return _Read(index, row, order, external_id, text(row.email, "email", 254), lines)


def _line(line: LineIn) -> LineIn:
    return LineIn(
        title=text(line.title, "title", 200) or text(line.sku, "sku", 80),
        unit_minor=_whole(line.unit_minor, "unit_minor", BIGGEST_MINOR),
        quantity=_whole(line.quantity, "quantity", BIGGEST_QUANTITY),
        discount_minor=_whole(line.discount_minor, "discount_minor", BIGGEST_MINOR),
        sku=text(line.sku, "sku", 80),
        category=text(line.category, "category", 100),
    )


def _write(good: list[_Read], source: str, is_history: bool | None) -> dict[int, Result]:
    results: dict[int, Result] = {}
    there = _there(source, [read.order.source_id for read in good])
    book = identity.look_up(
        source=source,
        ids=[read.row.customer_id for read in good if read.row.customer_id is not None],
        external_ids=[read.external_id for read in good],
        emails=[read.email for read in good],
    )
    new: dict[str, _Read] = {}
    repeated: list[_Read] = []
    owners: dict[int, tuple[Known, datetime]] = {}
    for read in good:
        order = read.order
        if order.source_id in there:
            results[read.index] = Result(read.index, order.source_id, Status.DUPLICATE, id=there[order.source_id])
            continue
        if order.source_id in new:
            repeated.append(read)
            continue
        owner = book.find(customer_id=read.row.customer_id, external_id=read.external_id, email=read.email)
        if owner is None:
            problem = unknown_customer(read.row.customer_id, read.external_id, read.email, source)
            results[read.index] = Result.refused(read.index, order.source_id, problem)
            continue
        # A second try of this transaction must insert anew, not update what the first one rolled back.
        order.pk = None
        order._state.adding = True
        order.customer_id = owner.id
        order.is_history = bool(is_history) or order.placed_at < owner.loaded_at
        new[order.source_id] = read
        first = owners[owner.id][1] if owner.id in owners else owner.known_since
        owners[owner.id] = (owner, min(first, order.placed_at))
    reads = [new[source_id] for source_id in sorted(new)]
    Order.objects.bulk_create([read.order for read in reads])
    _write_lines(reads)
    _begin_earlier(owners)
    facts.mark_each(sorted({(r.order.customer_id, r.order.placed_at, r.order.is_history) for r in reads}))
    for read in reads:
        results[read.index] = Result(read.index, read.order.source_id, Status.CREATED, id=read.order.pk)
    for read in repeated:
        first_id = new[read.order.source_id].order.pk
        results[read.index] = Result(read.index, read.order.source_id, Status.DUPLICATE, id=first_id)
    if reads:
        bell.ring(REACT)
    return results


def _there(source: str, source_ids: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in batches.of(sorted(set(source_ids)), 2000):
        found.update(Order.objects.filter(source=source, source_id__in=some).values_list("source_id", "id"))
    return found


def _write_lines(reads: list[_Read]) -> None:
    with_lines = [read for read in reads if read.lines]
    if not with_lines:
        return
    products = ensure_products({line.sku: line for read in with_lines for line in read.lines if line.sku})
    OrderLine.objects.bulk_create(
        [
            OrderLine(
                order=read.order,
                product_id=products.get(line.sku),
                title=line.title,
                quantity=line.quantity,
                unit_minor=line.unit_minor,
                discount_minor=line.discount_minor,
            )
            for read in with_lines
            for line in read.lines
        ]
    )


def ensure_products(lines: dict[str, LineIn]) -> dict[str, int]:
    """SKU → product id, making the products that are missing. What the shop called a known one stays."""
    if not lines:
        return {}
    skus = sorted(lines)
    known = _ids(skus)
    Product.objects.bulk_create(
        [Product(sku=sku, name=lines[sku].title, category=lines[sku].category) for sku in skus if sku not in known],
        ignore_conflicts=True,
    )
    return _ids(skus)


def _ids(skus: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in batches.of(skus, 2000):
        found.update(Product.objects.filter(sku__in=some).values_list("sku", "id"))
    return found


def _begin_earlier(owners: dict[int, tuple[Known, datetime]]) -> None:
    """A customer who bought was known by then: move ``known_since`` back to the earliest order."""
    earlier = [
        Customer(pk=pk, known_since=first) for pk, (known, first) in sorted(owners.items()) if first < known.known_since
    ]
    if earlier:
        Customer.objects.bulk_update(earlier, ["known_since"], batch_size=200)

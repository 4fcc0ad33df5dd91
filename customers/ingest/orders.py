"""Orders come in, once per ``(source, source_id)`` for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _

from customers import facts, identity
from customers.identity import Known, text
from customers.ingest.items import (
    REACT,
    Result,
    Status,
    each,
    in_order,
    insert,
    not_in_future,
    only,
    settled,
    unknown_customer,
)
from customers.ingest.people import CustomerIn, save_customers
from customers.models import Customer, Order, OrderLine, Product, email_key
from lifecycle_crm.lib import batches, bell, clock, money
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import parameter

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
    ``customer_name`` is for a customer who has to be made.
    """

    source_id: str
    placed_at: datetime
    amount_minor: int
    currency: str
    customer_id: int | None = None
    external_id: str = ""
    email: str = ""
    customer_name: str = ""
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
    """A row after its check."""

    index: int
    row: OrderIn
    source_id: str
    placed_at: datetime
    currency: str
    amount: int
    rate: Decimal
    items: int
    external_id: str
    email: str
    lines: list[LineIn]


def record_orders(
    rows: Sequence[OrderIn],
    *,
    source: str,
    id_source: str = "",
    is_history: bool | None = None,
    make_customers: bool = False,
) -> list[Result]:
    """Write orders that are not there yet; one ``Result`` per row, in order.

    ``id_source`` is the system the external ids are from, where that is not ``source``. An order placed before its
    customer was loaded is history: it earns points as of its date and starts no message; ``is_history=True`` says so of
    all of them. With ``make_customers`` a customer only the orders know is made: known
    since their first order here, loaded now, so that these orders are history.
    """
    now = clock.now()
    source = text(source, "source", 40)
    id_source = text(id_source, "id_source", 40) or source
    good: list[_Read] = []
    results = each(rows, OrderIn.ref, lambda index, row: good.append(_read(index, row, now)))
    if good:
        results |= settled(lambda: _write(good, source, id_source, is_history, make_customers, now))
    return in_order(results)


def record_order(row: OrderIn, *, source: str, id_source: str = "", is_history: bool | None = None) -> Order:
    """``record_orders`` for one. Raises ``InvalidInput`` or ``NotFound`` where the batch would answer with an error."""
    result = only(record_orders([row], source=source, id_source=id_source, is_history=is_history))
    return Order.objects.get(pk=result.id or 0)


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


def _read(index: int, row: OrderIn, now: datetime) -> _Read:
    source_id = text(row.source_id, "source_id", 120)
    if not source_id:
        raise InvalidInput(_("source_id is missing. Send the order's number."), code="missing_id", field="source_id")
    currency = money.check_currency(row.currency)
    amount = _whole(row.amount_minor, "amount", BIGGEST_MINOR)
    rate = _rate(row, currency)
    placed_at = not_in_future(row.placed_at, "placed_at", now)
    lines = [_line(line) for line in row.lines]
    items = sum(line.quantity for line in lines) if row.items is None else row.items
    return _Read(
        index=index,
        row=row,
        source_id=source_id,
        placed_at=placed_at,
        currency=currency,
        amount=amount,
        rate=rate,
        items=_whole(items, "items", BIGGEST_QUANTITY),
        external_id=text(row.external_id, "external_id", 200) if row.external_id else "",
        email=text(row.email, "email", 254) if row.email else "",
        lines=lines,
    )


def _line(line: LineIn) -> LineIn:
    return LineIn(
        title=text(line.title, "title", 200) or text(line.sku, "sku", 80),
        unit_minor=_whole(line.unit_minor, "unit_minor", BIGGEST_MINOR),
        quantity=_whole(line.quantity, "quantity", BIGGEST_QUANTITY),
        discount_minor=_whole(line.discount_minor, "discount_minor", BIGGEST_MINOR),
        sku=text(line.sku, "sku", 80),
        category=text(line.category, "category", 100),
    )


_COLUMNS = (
    "customer_id", "source", "source_id", "placed_at", "status", "currency", "amount_minor", "refunded_minor", "rate",
    "base_minor", "items", "is_counted", "is_history", "received_at",
)  # fmt: skip


def _write(
    good: list[_Read], source: str, id_source: str, is_history: bool | None, make_customers: bool, now: datetime
) -> dict[int, Result]:
    results: dict[int, Result] = {}
    there = _there(source, [read.source_id for read in good])
    fresh: dict[str, _Read] = {}
    repeated: list[_Read] = []
    for read in good:
        if read.source_id in there:
            results[read.index] = Result(read.index, read.source_id, Status.DUPLICATE, id=there[read.source_id])
        elif read.source_id in fresh:
            repeated.append(read)
        else:
            fresh[read.source_id] = read
    owners = _owners(list(fresh.values()), id_source, make_customers, results)
    reads = [fresh[source_id] for source_id in sorted(fresh) if fresh[source_id].index in owners]
    history = {r.index: bool(is_history) or r.placed_at < owners[r.index].loaded_at for r in reads}
    received = parameter(now)
    insert(
        Order._meta.db_table,
        _COLUMNS,
        [
            (
                owners[r.index].id, source, r.source_id, parameter(r.placed_at), Order.Status.PLACED.value, r.currency,
                r.amount, 0, connection.ops.adapt_decimalfield_value(r.rate, 18, 8),
                net_in_base(r.amount, r.currency, r.rate), r.items, True, history[r.index], received,
            )
            for r in reads
        ],
    )  # fmt: skip
    ids = _there(source, [read.source_id for read in reads])
    _write_lines(reads, ids)
    _begin_earlier([(owners[read.index], read.placed_at) for read in reads])
    facts.mark_each(sorted({(owners[r.index].id, r.placed_at, history[r.index]) for r in reads}))
    for read in reads:
        made = results.get(read.index)
        results[read.index] = Result(
            read.index, read.source_id, Status.CREATED, id=ids[read.source_id], is_new_customer=made is not None
        )
    for read in repeated:
        if read.source_id in ids:
            results[read.index] = Result(read.index, read.source_id, Status.DUPLICATE, id=ids[read.source_id])
        else:
            # The first of the two was refused, and so is its double.
            first = results[fresh[read.source_id].index]
            results[read.index] = replace(first, index=read.index)
    if reads:
        bell.ring(REACT)
    return results


def _owners(reads: list[_Read], source: str, make_customers: bool, results: dict[int, Result]) -> dict[int, Known]:
    """Whose each order is, by index. Refusals, and who was made for which order, go into ``results``."""
    owners: dict[int, Known] = {}
    strangers: list[_Read] = []
    book = _book(reads, source)
    for read in reads:
        owner = book.find(customer_id=read.row.customer_id, external_id=read.external_id, email=read.email)
        if owner is not None:
            owners[read.index] = owner
        elif make_customers and read.row.customer_id is None and (read.external_id or read.email):
            strangers.append(read)
        else:
            problem = unknown_customer(read.row.customer_id, read.external_id, read.email, source)
            results[read.index] = Result.refused(read.index, read.source_id, problem)
    if not strangers:
        return owners
    wanted: dict[tuple[str, str], list[_Read]] = {}
    for read in strangers:
        wanted.setdefault((read.external_id, email_key(read.email)), []).append(read)
    people = [
        CustomerIn(
            external_id=theirs[0].external_id,
            email=theirs[0].email or None,
            name=theirs[0].row.customer_name or None,
            known_since=min(read.placed_at for read in theirs),
        )
        for theirs in wanted.values()
    ]
    made = save_customers(people, source=source, is_history=True)
    book = _book(strangers, source)
    for theirs, person in zip(wanted.values(), made, strict=True):
        for read in theirs:
            owner = book.find(external_id=read.external_id, email=read.email)
            if person.status == Status.ERROR or owner is None:
                results[read.index] = replace(person, index=read.index, ref=read.source_id, id=None)
            else:
                owners[read.index] = owner
        if person.status == Status.CREATED:
            results[theirs[0].index] = person
    return owners


def _book(reads: list[_Read], source: str) -> identity.Book:
    return identity.look_up(
        source=source,
        ids=[read.row.customer_id for read in reads if read.row.customer_id is not None],
        external_ids=[read.external_id for read in reads],
        emails=[read.email for read in reads],
    )


def _there(source: str, source_ids: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in batches.of(sorted(set(source_ids)), 2000):
        found.update(Order.objects.filter(source=source, source_id__in=some).values_list("source_id", "id"))
    return found


def _write_lines(reads: list[_Read], ids: dict[str, int]) -> None:
    with_lines = [read for read in reads if read.lines]
    if not with_lines:
        return
    products = ensure_products({line.sku: line for read in with_lines for line in read.lines if line.sku})
    OrderLine.objects.bulk_create(
        [
            OrderLine(
                order_id=ids[read.source_id],
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


def _begin_earlier(orders: list[tuple[Known, datetime]]) -> None:
    """A customer who bought was known by then: move ``known_since`` back to the earliest order."""
    first: dict[int, datetime] = {}
    for owner, placed_at in orders:
        if placed_at < first.get(owner.id, owner.known_since):
            first[owner.id] = placed_at
    earlier = [Customer(pk=pk, known_since=placed_at) for pk, placed_at in sorted(first.items())]
    if earlier:
        Customer.objects.bulk_update(earlier, ["known_since"], batch_size=200)

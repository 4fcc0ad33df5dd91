"""What the pages and the API read of customers: the list by keyset, counts with a limit, and the rows of one customer."""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from customers.models import Customer, CustomerFacts, Order, RfmCuts
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import seconds

PAGE_SIZE = 50
COUNT_LIMIT = 10_000
"""Counted exactly up to here; above it we say "more than"."""


def initials(customer: Customer) -> str:
    """A name for who may not see names: "A… B…", or the number."""
    words = customer.name.split()
    return " ".join(f"{word[0]}…" for word in words[:2]) if words else f"#{customer.pk}"


def shown_name(customer: Customer, user: Any) -> str:
    """How this user sees the customer named."""
    return str(customer) if user.sees_contacts() else initials(customer)


# --- The list ---------------------------------------------------------------------------------------------------------


def people() -> QuerySet[Customer]:
    """Customers with their facts, in one query."""
    return Customer.objects.select_related("facts")


def having_tag(rows: QuerySet[Customer], tag: str) -> QuerySet[Customer]:
    """Those who carry exactly this tag."""
    if connection.vendor == "postgresql":
        return rows.filter(tags__contains=[tag])
    has = "EXISTS (SELECT 1 FROM json_each(customers_customer.tags) WHERE json_each.value = %s)"
    return rows.extra(where=[has], params=[tag])


def celebrates(day: date, column: str = "birth_date") -> str:
    """SQL: whether this column's birthday is on that date. Who was born on 29 February celebrates on the 28th in other
    years."""
    days = [(day.month, day.day)]
    if days == [(2, 28)] and (day.year % 4 or (day.year % 100 == 0 and day.year % 400)):
        days.append((2, 29))
    month, number = (
        (f"extract(month from {column})", f"extract(day from {column})")
        if connection.vendor == "postgresql"
        else (f"CAST(strftime('%%m', {column}) AS integer)", f"CAST(strftime('%%d', {column}) AS integer)")
    )
    return " OR ".join(f"({month} = {one[0]} AND {number} = {one[1]})" for one in days)


def countries() -> list[str]:
    """Every country a customer has, by stepping through the index: a probe per country, not a scan of all customers."""
    found = batches.rows(
        """
        WITH RECURSIVE step (country) AS (
            SELECT min(country) FROM customers_customer WHERE country > ''
            UNION ALL
            SELECT (SELECT min(country) FROM customers_customer WHERE country > step.country) FROM step
            WHERE step.country IS NOT NULL
        )
        SELECT country FROM step WHERE country IS NOT NULL
        """
    )
    return [row[0] for row in found]


@dataclass(frozen=True)
class Count:
    """``value`` people, or more than that when it is not exact."""

    value: int
    is_exact: bool


def count(rows: QuerySet[Any], limit: int = COUNT_LIMIT) -> Count:
    """How many, exactly up to ``limit``: the database stops counting there."""
    found = rows.order_by().values("pk")[: limit + 1].count()
    return Count(min(found, limit), found <= limit)


@dataclass(frozen=True)
class Sort:
    """``column`` is what the rows are ordered by; ``is_optional`` when it may be NULL, which always comes last."""

    key: str
    label: Any
    column: str
    is_optional: bool = False
    is_moment: bool = False
    starts_down: bool = True


SORTS: dict[str, Sort] = {
    sort.key: sort
    for sort in (
        Sort("name", gettext_lazy("Name"), "name", starts_down=False),
        Sort("last", gettext_lazy("Last order"), "facts__last_order_at", is_optional=True, is_moment=True),
        Sort("orders", gettext_lazy("Orders"), "facts__orders", is_optional=True),
        Sort("spend", gettext_lazy("Spend"), "facts__spend_minor", is_optional=True),
        Sort("points", gettext_lazy("Points"), "facts__points", is_optional=True),
        Sort("since", gettext_lazy("Stage"), "facts__stage_since", is_optional=True, is_moment=True),
    )
}
DEFAULT_SORT = "-last"


@dataclass(frozen=True)
class Slice:
    """One page. ``next`` is the cursor of the page after it, "" at the end."""

    rows: list[Customer]
    next: str


def read_sort(text: str) -> tuple[Sort, bool]:
    """``"-spend"`` → the sort and whether it goes down; the default for what is unknown."""
    sort = SORTS.get(text.removeprefix("-"))
    if sort is None:
        return SORTS[DEFAULT_SORT.removeprefix("-")], True
    return sort, text.startswith("-")


def encode_cursor(values: list[Any]) -> str:
    return urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode().rstrip("=")


def decode_cursor(text: str) -> tuple[Any, int] | None:
    """``(value, id)`` of the last row of the page before; ``None`` for the first page.

    Raises ``InvalidInput`` for what we did not make.
    """
    if not text:
        return None
    try:
        value, pk = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if not isinstance(pk, int) or not 0 < pk < 2**63 or not isinstance(value, str | int | None):
            raise ValueError(text)
    except (ValueError, TypeError, binascii.Error):
        raise InvalidInput(_("This address names no page of the list. Start again from its beginning.")) from None
    return value, pk


def slice_of(rows: QuerySet[Customer], *, sort: str = DEFAULT_SORT, cursor: str = "", size: int = PAGE_SIZE) -> Slice:
    """One page in the order of ``sort``, after ``cursor``; by key, so a deep page costs what the first one costs.

    Rows without a value come last in both directions. They are read by a statement of their own, so that both use the
    index of their column as it stands.
    """
    by, is_down = read_sort(sort)
    after = decode_cursor(cursor)
    known, unknown = rows, rows.none()
    if by.is_optional:
        known, unknown = rows.filter(**{f"{by.column}__isnull": False}), rows.filter(**{f"{by.column}__isnull": True})
    pk = "-pk" if is_down else "pk"
    found: list[Customer] = []
    if after is None or after[0] is not None:
        page = known if after is None else known.filter(_after(by, is_down, *after))
        found = list(page.order_by(f"{'-' if is_down else ''}{by.column}", _tie(by, pk))[: size + 1])
    if len(found) <= size and by.is_optional:
        page = unknown
        if after is not None and after[0] is None:
            page = page.filter(**{"pk__lt" if is_down else "pk__gt": after[1]})
        found += page.order_by(pk)[: size + 1 - len(found)]
    shown = found[:size]
    if len(found) <= size:
        return Slice(shown, "")
    return Slice(shown, encode_cursor([_value(shown[-1], by), shown[-1].pk]))


def _tie(by: Sort, pk: str) -> str:
    """Ties are broken by the id of the table the column is in, so that its index gives the order."""
    return pk.replace("pk", "facts__customer_id") if by.column.startswith("facts__") else pk


def _after(by: Sort, is_down: bool, value: Any, pk: int) -> Q:
    than = "lt" if is_down else "gt"
    tie = "facts__customer_id" if by.column.startswith("facts__") else "pk"
    return Q(**{f"{by.column}__{than}e": value}) & (Q(**{f"{by.column}__{than}": value}) | Q(**{f"{tie}__{than}": pk}))


def _value(row: Customer, by: Sort) -> Any:
    holder: Any = row
    path = by.column.split("__")
    for name in path:
        holder = getattr(holder, name, None)
        if holder is None:
            return None
    return seconds(holder) if by.is_moment else holder


def in_keyset_order(rows: QuerySet[Customer], *, sort: str, size: int = 2000) -> Iterator[Customer]:
    """All of them, page after page, in the order of the list."""
    cursor = ""
    while True:
        page = slice_of(rows, sort=sort, cursor=cursor, size=size)
        yield from page.rows
        if not page.next:
            return
        cursor = page.next


# --- One customer -----------------------------------------------------------------------------------------------------


def facts_of(customer: Customer) -> CustomerFacts | None:
    """The facts, or ``None`` for somebody who was loaded a moment ago."""
    try:
        return customer.facts
    except CustomerFacts.DoesNotExist:
        return None


def stage_date(known: CustomerFacts | None) -> date | None:
    """The business date of the move into the present stage: a night decides at the midnight that ends its date."""
    since = known.stage_since if known else None
    return clock.business_date(since - timedelta(seconds=1)) if since else None


def rfm_cuts() -> RfmCuts | None:
    """The cut points in force today."""
    return RfmCuts.objects.filter(computed_on__lte=clock.today()).order_by("-computed_on").first()


def order_sources() -> list[str]:
    """Where orders have come from so far, in the order of their names: one look into the index for each."""
    found: list[str] = []
    names = Order.objects.order_by("source").values_list("source", flat=True)
    source = names.first()
    while source is not None:
        found.append(source)
        source = names.filter(source__gt=source).first()
    return found

"""What a customer did, newest first: rows of several tables merged by time, page by page, by key and never by offset.

A ``Source`` reads one table. ``merge`` asks each source for one page before the cursor and keeps the newest, so a page
costs one read per kind, whatever the number of rows. Higher floors have sources of their own; a roof page merges them.
"""

from __future__ import annotations

import binascii
import heapq
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import Prefetch, Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from customers.models import Consent, Event, Order, OrderLine, Refund
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.templatetags.crm import money, num

PAGE_SIZE = 40


@dataclass(frozen=True, slots=True)
class Item:
    """One line. ``title`` says what, ``text`` the numbers, ``reason`` why, ``body`` what is folded away.

    ``at`` is the time that is shown; ``ordered_at`` the one it is ordered by, where they differ.
    """

    at: datetime
    kind: str
    pk: int
    title: str
    text: str = ""
    reason: str = ""
    body: str = ""
    icon: str = "info"
    stage: str = ""
    url: str = ""
    ordered_at: datetime | None = None

    @property
    def order(self) -> datetime:
        return self.ordered_at or self.at


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last item of a page: what follows is older, or as old and of a later kind, or of that kind with a lower id."""

    at: datetime
    rank: int
    pk: int

    def encode(self) -> str:
        text = f"{self.at.astimezone(UTC).isoformat()} {self.rank} {self.pk}"
        return urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor | None:
        """The cursor of an address; ``None`` for the first page. Raises ``InvalidInput`` for one we did not make."""
        if not text:
            return None
        try:
            at, rank, pk = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split(" ")
            moment = datetime.fromisoformat(at)
            if moment.tzinfo is None or not 0 < int(pk) < 2**63:
                raise ValueError(text)
            return cls(moment, int(rank), int(pk))
        except (ValueError, binascii.Error):
            raise InvalidInput(
                _("This address names no page of the timeline. Start again from the newest."), code="invalid_page"
            ) from None


Fetch = Callable[[int, Q, int], Iterable[Item]]
"""``fetch(customer_id, older, limit)``: the newest ``limit`` items among the rows that ``older`` allows."""


@dataclass(frozen=True)
class Source:
    """``moment`` is the name of the time column; ``rank`` orders kinds that happen at the same instant."""

    kind: str
    label: Any
    moment: str
    rows: Callable[[int], QuerySet[Any]]
    item: Callable[[Any], Item]

    def fetch(self, customer_id: int, rank: int, cursor: Cursor | None, limit: int) -> list[Item]:
        rows = self.rows(customer_id).filter(self._older(rank, cursor)).order_by(f"-{self.moment}", "-pk")
        return [self.item(row) for row in rows[:limit]]

    def _older(self, rank: int, cursor: Cursor | None) -> Q:
        if cursor is None:
            return Q()
        if rank < cursor.rank:
            return Q(**{f"{self.moment}__lt": cursor.at})
        if rank > cursor.rank:
            return Q(**{f"{self.moment}__lte": cursor.at})
        return Q(**{f"{self.moment}__lt": cursor.at}) | Q(**{self.moment: cursor.at, "pk__lt": cursor.pk})


@dataclass(frozen=True)
class Page:
    items: list[Item]
    next: Cursor | None


def merge(
    customer_id: int,
    sources: Sequence[Source],
    *,
    kinds: Iterable[str] = (),
    cursor: Cursor | None = None,
    size: int = PAGE_SIZE,
) -> Page:
    """The next ``size`` items after ``cursor``. ``kinds`` limits the sources; their ranks stay, so a cursor keeps its place."""
    wanted = set(kinds) or {source.kind for source in sources}
    found = [
        [(item, rank) for item in source.fetch(customer_id, rank, cursor, size + 1)]
        for rank, source in enumerate(sources)
        if source.kind in wanted
    ]
    newest = list(heapq.merge(*found, key=lambda pair: (-pair[0].order.timestamp(), pair[1], -pair[0].pk)))
    page = newest[:size]
    last = page[-1] if len(newest) > size else None
    return Page([item for item, _rank in page], Cursor(last[0].order, last[1], last[0].pk) if last else None)


# --- What this app knows ----------------------------------------------------------------------------------------------


def _order(order: Order) -> Item:
    lines = "\n".join(f"{num(line.quantity)} × {line.title}" for line in order.lines.all())
    parts = [money(order.amount_minor, order.currency)]
    if order.items:
        parts.append(ngettext("%(n)s item", "%(n)s items", order.items) % {"n": num(order.items)})
    if order.status == Order.Status.CANCELLED:
        parts.append(_("cancelled"))
    elif order.refunded_minor:
        parts.append(_("%(amount)s refunded") % {"amount": money(order.refunded_minor, order.currency)})
    title = _("Order %(number)s") % {"number": order.source_id}
    return Item(order.placed_at, "order", order.pk, title, " · ".join(parts), body=lines, icon="order")


def _refund(refund: Refund) -> Item:
    title = _("Order %(number)s cancelled") if refund.is_cancellation else _("Refund for order %(number)s")
    return Item(
        refund.occurred_at,
        "refund",
        refund.pk,
        title % {"number": refund.order.source_id},
        money(refund.amount_minor, refund.order.currency),
        icon="undo",
    )


def event_words(name: str) -> str:
    """The name of an event as words: ``product_viewed`` → "Product viewed"."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def _event(event: Event) -> Item:
    body = "\n".join(f"{name}: {value}" for name, value in sorted(event.properties.items()))
    return Item(
        event.occurred_at,
        "event",
        event.pk,
        event_words(event.name),
        _("from %(source)s") % {"source": event.source},
        body=body,
        icon="link",
    )


def _consent(row: Consent) -> Item:
    words = {"purpose": row.get_purpose_display(), "channel": row.get_channel_display()}
    title = _("Agreed: %(purpose)s, %(channel)s") if row.is_granted else _("Said no: %(purpose)s, %(channel)s")
    return Item(
        row.occurred_at,
        "consent",
        row.pk,
        title % words,
        _("recorded by %(source)s") % {"source": row.source},
        icon="check" if row.is_granted else "close",
    )


def _orders(customer_id: int) -> QuerySet[Order]:
    lines = Prefetch("lines", OrderLine.objects.order_by("pk"))
    return Order.objects.filter(customer_id=customer_id).prefetch_related(lines)


SOURCES: tuple[Source, ...] = (
    Source("order", gettext_lazy("Orders"), "placed_at", _orders, _order),
    Source(
        "refund",
        gettext_lazy("Refunds"),
        "occurred_at",
        lambda pk: Refund.objects.filter(order__customer_id=pk).select_related("order"),
        _refund,
    ),
    Source("event", gettext_lazy("Events"), "occurred_at", lambda pk: Event.objects.filter(customer_id=pk), _event),
    Source(
        "consent", gettext_lazy("Consents"), "occurred_at", lambda pk: Consent.objects.filter(customer_id=pk), _consent
    ),
)

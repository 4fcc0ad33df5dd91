"""Choosing people by the way they went: where they stood on a date, what they did between two.

The counts are made above, set-based; these are the same definitions for one list of people. This app knows the moves only
by the relation they hang on the customer. Every range is of dates on which moves happened, both ends included; a range
begins with people standing where they stood at the end of the date before it. In an address a ``Way`` is one text::

    stood:retain@2026-01-31                      first:retain@2026-01-01..2026-01-31
    been:retain@2026-01-01..2026-01-31           path:new-nurture-retain@2026-01-01..2026-01-31
    on:nurture@2026-01-01..2026-01-31            rfm:champions@2026-01-31
    gone:retain-goes_quiet@2026-01-01..2026-01-31
    orders:first@2026-01-01..2026-01-31          orders:second@2026-01-01..2026-01-31
    orders:some@2026-01-01..2026-01-31           orders:lapsed@2026-01-01..2026-01-31
    orders:awake@2026-01-01..2026-01-31

``gone`` went dormant from retain because of the rule ``goes_quiet``; ``by_hand`` stands for somebody who moved them. The last
ones placed their first or second order in the range, or any; or went dormant in it for the first time since their first order
(``awake``: or did not).
Moves of undone nights and cancelled orders count nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.expressions import RawSQL

from customers import rfm
from customers.models import Customer, Order, RfmGroup
from customers.vocabulary import STAGES
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput

NEW = "new"
"""Stands for "no stage yet"."""
FORWARD = [stage for stage in STAGES if stage != "dormant"]
"""The stages of a relation that grows, in order."""
LONGEST_PATH = 6
"""Moves; longer ways are not told one by one."""

BY_HAND = "by_hand"

ORDERED = ("first", "second", "some", "lapsed", "awake")

_KINDS = ("stood", "been", "on", "first", "path", "gone", "rfm", "orders")


class BadWay(InvalidInput):
    code = "bad_way"


@dataclass(frozen=True)
class Way:
    """``places`` are stages (an RFM group for ``rfm``); ``since`` is ``None`` for the kinds that name one date."""

    kind: str
    places: tuple[str, ...]
    since: date | None
    until: date

    def __str__(self) -> str:
        dates = f"{self.since}..{self.until}" if self.since else str(self.until)
        return f"{self.kind}:{'-'.join(self.places)}@{dates}"

    def choose(self, rows: QuerySet[Customer]) -> QuerySet[Customer]:
        """Those of ``rows`` who went this way."""
        if self.kind == "rfm":
            return rfm.was_in(rows, self.places[0], self.until)
        if self.since is None:
            return stood(rows, self.places[0], self.until)
        if self.kind == "path":
            return went(rows, self.places, self.since, self.until)
        if self.kind == "gone":
            return gone(rows, *self.places, since=self.since, until=self.until)
        if self.kind == "orders":
            verb = {"first": began, "second": came_again, "some": bought, "lapsed": lapsed, "awake": awake}[
                self.places[0]
            ]
            return verb(rows, self.since, self.until)
        at_stage = {"been": been, "on": advanced, "first": first_came}[self.kind]
        return at_stage(rows, self.places[0], self.since, self.until)


def parse(text: str) -> Way:
    """A way from an address. Raises ``BadWay``."""
    head, _at, dates = text.partition("@")
    kind, _colon, names = head.partition(":")
    places = tuple(names.split("-"))
    try:
        first, _dots, last = dates.partition("..")
        ends = [date.fromisoformat(one) for one in (first, last) if one]
    except ValueError:
        ends = []
    dated = kind in _KINDS and len(ends) == (1 if kind in ("stood", "rfm") else 2) and ends == sorted(ends)
    if not dated or date.min in ends or not _are_known(kind, places):
        raise BadWay(
            f"“{text[:100]}” is no way that people went. Write for example stood:retain@2026-01-31 or "
            "path:new-nurture-retain@2026-01-01..2026-01-31."
        )
    return Way(kind, places, ends[0] if len(ends) == 2 else None, ends[-1])


def _are_known(kind: str, places: tuple[str, ...]) -> bool:
    if kind == "rfm":
        return len(places) == 1 and places[0] in (*RfmGroup.values, rfm.NONE)
    if kind == "orders":
        return len(places) == 1 and places[0] in ORDERED
    if kind == "path":
        steps = pairwise(places)
        return (
            2 <= len(places) <= LONGEST_PATH + 1
            and places[0] in (*STAGES, NEW)
            and all(target in STAGES and source != target for source, target in steps)
        )
    if kind == "gone":
        return len(places) == 2 and places[0] in (*FORWARD, NEW) and places[1].isidentifier() and len(places[1]) <= 40
    allowed = {"stood": (*STAGES, NEW), "on": FORWARD[:-1]}.get(kind, STAGES)
    return len(places) == 1 and places[0] in allowed


def _moves() -> QuerySet[Any]:
    related: Any = Customer.transitions.rel.related_model
    return related._default_manager.counted()


def _own() -> QuerySet[Any]:
    return _moves().filter(customer_id=OuterRef("pk"))


def _stood(stage: str, day: date) -> Q:
    """The last move up to ``day`` led into ``stage``."""
    before = _own().filter(business_date__lte=day)
    if stage == NEW:
        return Q(~Exists(before))
    later = _moves().filter(customer_id=OuterRef("customer_id"), id__gt=OuterRef("id"), business_date__lte=day)
    return Q(Exists(before.filter(to_stage=stage).filter(~Exists(later))))


def stood(rows: QuerySet[Customer], stage: str, day: date) -> QuerySet[Customer]:
    """Who stood in ``stage`` (or was ``new``) at the end of ``day``."""
    return rows.filter(_stood(stage, day))


def been(rows: QuerySet[Customer], stage: str, since: date, until: date) -> QuerySet[Customer]:
    """Who was in ``stage`` at some time: when the range began, or by a move in it."""
    entered = _own().filter(to_stage=stage, business_date__range=(since, until))
    return rows.filter(_stood(stage, since - timedelta(days=1)) | Q(Exists(entered)))


def advanced(rows: QuerySet[Customer], stage: str, since: date, until: date) -> QuerySet[Customer]:
    """Who was in ``stage`` at some time in the range and after that, in the range too, came into a later stage."""
    later = FORWARD[FORWARD.index(stage) + 1 :]
    ahead = _own().filter(to_stage__in=later, business_date__range=(since, until))
    entered_before = _moves().filter(
        customer_id=OuterRef("customer_id"),
        to_stage=stage,
        business_date__range=(since, until),
        id__lt=OuterRef("id"),
    )
    from_start = _stood(stage, since - timedelta(days=1)) & Q(Exists(ahead))
    return rows.filter(from_start | Q(Exists(ahead.filter(Exists(entered_before)))))


def first_came(rows: QuerySet[Customer], stage: str, since: date, until: date) -> QuerySet[Customer]:
    """Who came into ``stage`` in the range for the first time ever."""
    before = _moves().filter(customer_id=OuterRef("customer_id"), to_stage=stage, id__lt=OuterRef("id"))
    into = _own().filter(to_stage=stage, business_date__range=(since, until))
    return rows.filter(Exists(into.filter(~Exists(before))))


def gone(rows: QuerySet[Customer], stage: str, rule: str, *, since: date, until: date) -> QuerySet[Customer]:
    """Who went dormant from ``stage`` in the range, by a rule or by the hand of a person."""
    left = _own().filter(
        from_stage="" if stage == NEW else stage, to_stage="dormant", business_date__range=(since, until)
    )
    return rows.filter(Exists(left.filter(kind="person") if rule == BY_HAND else left.filter(kind="rule", rule=rule)))


def _orders(since: date | None, until: date) -> QuerySet[Order]:
    """Counted orders of the customer of the row; ``since`` ``None``: from the beginning."""
    found = Order.objects.filter(customer=OuterRef("pk"), is_counted=True, placed_at__lt=clock.day_end(until))
    return found.filter(placed_at__gte=clock.day_start(since)) if since else found


def bought(rows: QuerySet[Customer], since: date, until: date) -> QuerySet[Customer]:
    """Who ordered in the range."""
    return rows.filter(Exists(_orders(since, until)))


def began(rows: QuerySet[Customer], since: date, until: date) -> QuerySet[Customer]:
    """Whose first order lies in the range."""
    return bought(rows, since, until).filter(~Exists(_orders(None, since - timedelta(days=1))))


def came_again(rows: QuerySet[Customer], since: date, until: date) -> QuerySet[Customer]:
    """Whose second order lies in the range."""
    before = Exists(_orders(None, since - timedelta(days=1))[1:2])
    return bought(rows, since, until).filter(~before, Exists(_orders(None, until)[1:2]))


def lapsed(rows: QuerySet[Customer], since: date, until: date) -> QuerySet[Customer]:
    """Who went dormant in the range, for the first time since their first order."""
    ordered = Order.objects.filter(customer=OuterRef("customer_id"), is_counted=True)
    into = _moves().filter(Exists(ordered.filter(placed_at__lte=OuterRef("occurred_at"))), to_stage="dormant")
    earlier = into.filter(customer_id=OuterRef("customer_id"), id__lt=OuterRef("id"))
    mine = into.filter(customer_id=OuterRef("pk"), business_date__range=(since, until))
    return rows.filter(Exists(mine.filter(~Exists(earlier))))


def awake(rows: QuerySet[Customer], since: date, until: date) -> QuerySet[Customer]:
    """Who ordered up to the end of the range and did not lapse in it."""
    return rows.filter(Exists(_orders(None, until))).exclude(
        pk__in=lapsed(Customer.objects.all(), since, until).values("pk")
    )


def went(rows: QuerySet[Customer], path: Sequence[str], since: date, until: date) -> QuerySet[Customer]:
    """Whose moves in the range are exactly this way, from the stage before the first of them on."""
    table = connection.ops.quote_name(_moves().model._meta.db_table)
    steps = list(pairwise(path))
    alike = " OR ".join(["(place = %s AND from_stage = %s AND to_stage = %s)"] * len(steps))
    sql = f"""
        SELECT customer_id FROM (
            SELECT customer_id, from_stage, to_stage,
                   row_number() OVER (PARTITION BY customer_id ORDER BY id) AS place,
                   count(*) OVER (PARTITION BY customer_id) AS length
            FROM {table} WHERE business_date >= %s AND business_date <= %s AND undoes_id IS NULL
                AND id NOT IN (SELECT undoes_id FROM {table} WHERE undoes_id IS NOT NULL)
        ) AS moves
        WHERE length = %s AND ({alike}) GROUP BY customer_id HAVING count(*) = %s
    """
    dates = [connection.ops.adapt_datefield_value(day) for day in (since, until)]
    values = [
        value
        for place, (source, target) in enumerate(steps, 1)
        for value in (place, "" if source == NEW else source, target)
    ]
    return rows.filter(pk__in=RawSQL(sql, [*dates, len(steps), *values, len(steps)]))

"""The ledger as a list: which movements are asked for, what each customer could use after each, and whether it all agrees.

Pages are cut by key, so the last of a million costs what the first does. A filter that no index serves walks the days that
were asked for, a year at most.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db.models import Count, Q, QuerySet, Sum, TextField
from django.db.models.functions import Cast

from customers import counting
from customers.models import Customer, Order
from customers.queries import order_sources
from customers.timeline import Cursor
from lifecycle_crm.lib import batches, clock
from loyalty.models import EarningRule, Entry, Programme

PAGE = 50
AT_ONCE = 1000
"""Movements that a file reads at a time."""
AGREES_SECONDS = 300
"""So long a comparison of ledger and balances is shown before it is made again."""
MACHINE = "machine"
"""Moved by nobody: by a rule, the night or an API key."""


@dataclass(frozen=True)
class Asked:
    """Which movements. ``order`` is the number of an order as the shop knows it, ``by`` a user's id or ``MACHINE``; ``rule``
    a rule's key, ``version`` one version of it. ``ends_from`` and ``ends_before`` are about the points that a movement
    gave."""

    programme: Programme | None
    start: datetime
    end: datetime
    kind: str = ""
    customer: Customer | None = None
    least: int | None = None
    most: int | None = None
    rule: str = ""
    version: EarningRule | None = None
    order: str = ""
    by: str = ""
    reason: str = ""
    ends_from: datetime | None = None
    ends_before: datetime | None = None


def found(asked: Asked) -> QuerySet[Entry]:
    """The movements, in no order."""
    rows = Entry.objects.filter(programme=asked.programme, effective_at__gte=asked.start, effective_at__lt=asked.end)
    if asked.kind:
        rows = rows.filter(kind=asked.kind)
    if asked.customer is not None:
        rows = rows.filter(customer=asked.customer)
    if asked.least is not None:
        rows = rows.filter(points__gte=asked.least)
    if asked.most is not None:
        rows = rows.filter(points__lte=asked.most)
    if asked.order:
        rows = of_order(rows, asked.order)
    if asked.by == MACHINE:
        rows = rows.filter(actor=None)
    elif asked.by:
        rows = rows.filter(actor=int(asked.by))
    if asked.reason:
        rows = rows.filter(reason__icontains=asked.reason)
    if asked.ends_from is not None:
        rows = rows.filter(lot__expires_at__gt=asked.ends_from)
    if asked.ends_before is not None:
        rows = rows.filter(lot__expires_at__lte=asked.ends_before)
    if key := asked.version.key if asked.version else asked.rule:
        rows = by_rule(rows, key)
    if asked.version is not None:
        if asked.version.starts_at is not None:
            rows = rows.filter(effective_at__gte=asked.version.starts_at)
        if asked.version.ends_at is not None:
            rows = rows.filter(effective_at__lt=asked.version.ends_at)
    return rows


def of_order(rows: QuerySet[Entry], number: str) -> QuerySet[Entry]:
    """Those about the order of this number: what it gave, and what was taken back of that. By the ledger's keys."""
    keys = [f"order:{pk}" for pk in _orders(number)]
    programmes = list(Programme.objects.values_list("pk", flat=True))
    ids = list(Entry.objects.filter(programme__in=programmes, key__in=keys).values_list("pk", flat=True))
    return rows.filter(Q(pk__in=ids) | Q(takes_back__in=ids))


def by_rule(rows: QuerySet[Entry], key: str) -> QuerySet[Entry]:
    """Those that a rule had a part in. The explanation is read as text: both databases write it alike, and only one can look
    inside by itself."""
    return rows.annotate(told=Cast("explanation", TextField())).filter(told__contains=f'"rule": {json.dumps(key)}')


def page(asked: Asked, *, before: Cursor | None = None, size: int = PAGE) -> tuple[list[Entry], Cursor | None]:
    """A page of the movements, the newest first, and where the next page begins, if there is one."""
    got: list[Entry] = []
    for since, until in _spans(asked, before):
        rows = found(replace(asked, start=since, end=until))
        if before is not None:
            rows = rows.filter(Q(effective_at__lt=before.at) | Q(effective_at=before.at, pk__lt=before.pk))
        rows = rows.select_related("customer", "actor", "lot").order_by("-effective_at", "-pk")
        got += rows[: size + 1 - len(got)]
        if len(got) > size:
            break
    if len(got) <= size:
        return got, None
    return got[:size], Cursor(got[size - 1].effective_at, 0, got[size - 1].pk)


def _spans(asked: Asked, before: Cursor | None) -> Iterator[tuple[datetime, datetime]]:
    """The days to read, the newest first: all at once, or, for a rule, more and more at a time.

    A planner knows nothing about what an explanation says. It thinks that few match, reads and sorts the whole year, and
    that takes seconds where the first day would have filled the page.
    """
    end = asked.end if before is None else min(asked.end, before.at + timedelta(microseconds=1))
    if not asked.rule and asked.version is None:
        yield asked.start, end
        return
    width = timedelta(days=1)
    while end > asked.start:
        since = max(asked.start, end - width)
        yield since, end
        end, width = since, width * 4


def pages(asked: Asked) -> Iterator[list[Entry]]:
    """All of them, page by page."""
    before: Cursor | None = None
    while True:
        rows, before = page(asked, before=before, size=AT_ONCE)
        yield rows
        if before is None:
            return


def _orders(number: str) -> list[int]:
    """Ids of the orders with this number, in whichever source: sources are few, and each is looked up by the key."""
    return list(Order.objects.filter(source__in=order_sources(), source_id=number).values_list("pk", flat=True))


# --- What a line says ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What the lines of a page need besides their entries, by id of the entry: the usable points after it, the versions of
    the rules that gave it, and the number of its order."""

    after: dict[int, int] = field(default_factory=dict)
    rules: dict[int, list[EarningRule]] = field(default_factory=dict)
    orders: dict[int, str] = field(default_factory=dict)


def facts_of(entries: Sequence[Entry]) -> Facts:
    """The same number of questions for every page."""
    return Facts(_after(entries), _rules(entries), _numbers(entries))


def _after(entries: Sequence[Entry]) -> dict[int, int]:
    """Usable points of the customer in this programme after each entry, in the order in which they were written."""
    if not entries:
        return {}
    customers = ", ".join(str(int(pk)) for pk in sorted({one.customer_id for one in entries}))
    wanted = ", ".join(str(int(one.pk)) for one in entries)
    return dict(
        batches.rows(
            f"""
            SELECT x.id, x.after FROM (
                SELECT e.id, CAST(sum(coalesce(p.points, 0)) OVER (PARTITION BY e.account_id ORDER BY e.id) AS bigint) AS after
                FROM loyalty_entry e
                LEFT JOIN loyalty_posting p ON p.entry_id = e.id AND p.ledger = 'available'
                WHERE e.customer_id IN ({customers})
            ) x WHERE x.id IN ({wanted})
            """
        )
    )


def _rules(entries: Sequence[Entry]) -> dict[int, list[EarningRule]]:
    """The version of each rule that held when the entry's cause happened."""
    told = {one.pk: [line.get("rule") for line in (one.explanation or {}).get("lines") or ()] for one in entries}
    keys = {key for lines in told.values() for key in lines if key}
    versions: dict[tuple[int, str], list[EarningRule]] = {}
    if keys:
        programmes = {one.programme_id for one in entries}
        for rule in EarningRule.objects.filter(programme__in=programmes, key__in=keys).order_by("version"):
            versions.setdefault((rule.programme_id, rule.key), []).append(rule)

    def held(entry: Entry, key: str) -> list[EarningRule]:
        known, at = versions.get((entry.programme_id, key), []), entry.effective_at
        then = [
            one
            for one in known
            if (one.starts_at is None or one.starts_at <= at) and (one.ends_at is None or at < one.ends_at)
        ]
        return (then or known)[-1:]

    return {one.pk: [rule for key in told[one.pk] if key for rule in held(one, key)] for one in entries if told[one.pk]}


def _numbers(entries: Sequence[Entry]) -> dict[int, str]:
    """The order's number of each entry that is about one; of a refund the order that it gives back."""
    of = {one.pk: int(one.source_id) for one in entries if one.source_type == "order" and one.source_id.isdigit()}
    backs = {one.pk: one.takes_back_id for one in entries if one.takes_back_id}
    if backs:
        taken = Entry.objects.filter(pk__in=set(backs.values()), source_type="order").values_list("pk", "source_id")
        orders = {pk: int(number) for pk, number in taken if number.isdigit()}
        of |= {pk: orders[back] for pk, back in backs.items() if back in orders}
    numbers = dict(Order.objects.filter(pk__in=set(of.values())).values_list("pk", "source_id")) if of else {}
    return {pk: numbers[order] for pk, order in of.items() if order in numbers}


def undone_by(entries: Sequence[int]) -> dict[int, int]:
    """Which entry undid each of these, in part or whole: the last one of each."""
    rows = Entry.objects.filter(Q(reverses__in=entries) | Q(takes_back__in=entries)).order_by("pk")
    return {
        undone: pk for pk, whole, part in rows.values_list("pk", "reverses", "takes_back") if (undone := whole or part)
    }


# --- Sums ---------------------------------------------------------------------------------------------------------------

BETWEEN_OWN = (Entry.Kind.ACTIVATE, Entry.Kind.HOLD, Entry.Kind.RELEASE, Entry.Kind.REPAY)
"""Moved only between a customer's own accounts: what they have did not change."""


@dataclass(frozen=True)
class Sums:
    """Over all pages: how many movements, and what they changed of what customers have."""

    count: int
    points: int


def sums(asked: Asked) -> Sums | None:
    """``None`` where adding up takes longer than a page may."""
    try:
        with counting.within(counting.EXACT_SECONDS):
            added = found(asked).aggregate(
                n=Count("pk"), points=Sum("points", filter=~Q(kind__in=BETWEEN_OWN), default=0)
            )  # fmt: skip
    except counting.TooLong:
        return None
    return Sums(added["n"], added["points"])


@dataclass(frozen=True)
class Agreement:
    """What all entries of a programme come to, and what its balances do, read in one statement at ``checked_at``."""

    ledger: int
    balances: int
    checked_at: datetime

    @property
    def is_so(self) -> bool:
        return self.ledger == self.balances


def agreement(programme: Programme | None) -> Agreement | None:
    """As it was compared in the last minutes, or now; ``None`` where that takes longer than a page may (then the proof of
    the night has to do)."""
    if programme is None:
        return None
    key = f"ledger-agrees:{programme.pk}"
    known: Agreement | None = cache.get(key)
    if known is not None:
        return known
    own = ", ".join(f"'{kind}'" for kind in BETWEEN_OWN)
    params: list[Any] = [programme.pk, programme.pk]
    try:
        with counting.within(counting.EXACT_SECONDS):
            [(entries, balances)] = batches.rows(
                f"SELECT (SELECT coalesce(sum(points), 0) FROM loyalty_entry WHERE programme_id = %s AND kind NOT IN ({own})), "
                "(SELECT coalesce(sum(balance + pending + held - debt), 0) FROM loyalty_account WHERE programme_id = %s)",
                params,
            )
    except counting.TooLong:
        return None
    compared = Agreement(int(entries), int(balances), clock.now())
    if compared.is_so:
        cache.set(key, compared, AGREES_SECONDS)
    return compared

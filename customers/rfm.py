"""Eleven named groups of buyers from their stored scores, and how people move between them.

Scores are recency and frequency from 1 (long ago, seldom) to 5 (just now, often); see ``customers.facts``. A cell of the
5×5 table has exactly one name, so that a group is always a set of whole cells. Money stands beside the count as a number
of its own and moves nobody into another cell. Names: the eleven in common use (Putler, *RFM Analysis for Successful
Customer Segmentation*, 2017); that source lets its ranges overlap, so the borders here are ours and drawn in ``TABLE``.

The history is written with the scores, for whom they change (``write_changes``), and once per business date as the sizes of
the groups (``record``). A customer's group on any date is their last change up to it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime

from django.db import connection, models, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from customers.models import Customer, CustomerFacts, RfmChange, RfmCuts, RfmDay, RfmGroup
from lifecycle_crm.lib import batches
from lifecycle_crm.lib.moments import seconds

NONE = "none"
"""How addresses and tables call "in no group": who has not bought."""

_G = RfmGroup
TABLE: dict[int, tuple[RfmGroup, ...]] = {
    # Frequency:  1              2                       3                       4              5
    5: (_G.NEW, _G.POTENTIAL_LOYALISTS, _G.POTENTIAL_LOYALISTS, _G.CHAMPIONS, _G.CHAMPIONS),
    4: (_G.PROMISING, _G.POTENTIAL_LOYALISTS, _G.POTENTIAL_LOYALISTS, _G.LOYAL, _G.LOYAL),
    3: (_G.ABOUT_TO_SLEEP, _G.ABOUT_TO_SLEEP, _G.NEEDS_ATTENTION, _G.LOYAL, _G.LOYAL),
    2: (_G.HIBERNATING, _G.HIBERNATING, _G.AT_RISK, _G.AT_RISK, _G.CANNOT_LOSE),
    1: (_G.LOST, _G.LOST, _G.AT_RISK, _G.AT_RISK, _G.CANNOT_LOSE),
}
"""By recency, then frequency from 1 to 5."""

FEW_BUYERS = 100
"""Below so many buyers quintiles are mostly chance, and the page says so."""


def group_of(recency: int | None, frequency: int | None) -> str:
    """The name of a cell; empty for who has no scores."""
    return "" if recency is None or frequency is None else TABLE[recency][frequency - 1].value


def group_sql(alias: str = "f") -> str:
    """``group_of`` as SQL over the facts under ``alias``."""
    whens = " ".join(
        f"WHEN {alias}.recency = {recency} AND {alias}.frequency = {place} THEN '{group.value}'"
        for recency, row in TABLE.items()
        for place, group in enumerate(row, 1)
    )
    return f"CASE {whens} ELSE '' END"


def cells(group: str) -> list[tuple[int, int]]:
    """The ``(recency, frequency)`` of a group."""
    return [(r, place) for r, row in TABLE.items() for place, name in enumerate(row, 1) if name == group]


def now_in(group: str, prefix: str = "facts__") -> Q:
    """Who is in a group by the scores of this moment; ``none`` for who is in none."""
    if group == NONE:
        return Q(**{f"{prefix}recency": None}) | Q(**{f"{prefix}frequency": None})
    where = Q()
    for recency, frequency in cells(group):
        where |= Q(**{f"{prefix}recency": recency, f"{prefix}frequency": frequency})
    return where


def was_in(rows: QuerySet[Customer], group: str, day: date) -> QuerySet[Customer]:
    """Of these customers, who was in ``group`` (or ``none``) at the end of ``day``, by the history."""
    mine = RfmChange.objects.filter(customer_id=OuterRef("pk"), business_date__lte=day)
    later = RfmChange.objects.filter(customer_id=OuterRef("customer_id"), id__gt=OuterRef("id"), business_date__lte=day)
    grouped = mine.exclude(to_group="") if group == NONE else mine.filter(to_group=group)
    found = Exists(grouped.filter(~Exists(later)))
    return rows.filter(~found if group == NONE else found)


# --- History ----------------------------------------------------------------------------------------------------------


def write_changes(table: str, *, business_date: date, where: str = "true") -> int:
    """A change for each customer whose group by their scores is another one than was told; how many.

    ``table`` holds facts, stored or at hand; ``where`` is SQL over them as ``f``. Who was told a group for a later date
    keeps their history: a night that runs late does not rewrite it.
    """
    day = connection.ops.adapt_datefield_value(business_date)
    moved = f"{where} AND f.rfm_group <> {group_sql()}"
    last = "SELECT c.{0} FROM customers_rfmchange c WHERE c.customer_id = f.customer_id ORDER BY c.id DESC LIMIT 1"
    changed = batches.execute(
        f"""
        INSERT INTO customers_rfmchange (customer_id, from_group, to_group, business_date)
        SELECT customer_id, was, is_now, %s FROM (
            SELECT f.customer_id, coalesce(({last.format("to_group")}), '') AS was, {group_sql()} AS is_now,
                   ({last.format("business_date")}) AS told_on
            FROM {table} f WHERE {moved}
        ) AS compared
        WHERE was <> is_now AND (told_on IS NULL OR told_on <= %s)
        ORDER BY customer_id
        """,
        [day, day],
    )
    batches.execute(f"UPDATE {table} AS f SET rfm_group = {group_sql()} WHERE {moved}")
    return changed


def record(*, business_date: date, as_of: datetime) -> int:
    """Write the sizes of the groups on a date; how many customers had to be told their group on the way.

    The scores' own verb tells who changed (``facts.score``), so that is nobody unless scores came from elsewhere. Takes the
    facts as they stand, so it belongs into the night of ``business_date``; only who had bought before ``as_of`` counts. A
    date before the newest recorded one is left alone: today's scores say nothing about it.
    """
    known = f"f.first_order_at < {seconds(as_of)}"
    with transaction.atomic():
        newest = RfmDay.objects.aggregate(newest=models.Max("business_date"))["newest"]
        if newest is not None and business_date < newest:
            return 0
        found = batches.rows(
            f"""
            SELECT f.recency, f.frequency, f.rfm_group, count(*), sum(f.spend_minor)
            FROM customers_customerfacts f WHERE {known} GROUP BY f.recency, f.frequency, f.rfm_group
            """
        )
        changed = 0
        if any(told != group_of(recency, frequency) for recency, frequency, told, _n, _minor in found):
            changed = write_changes(CustomerFacts._meta.db_table, business_date=business_date, where=known)
        people: Counter[str] = Counter()
        money: Counter[str] = Counter()
        for recency, frequency, _told, n, minor in found:
            people[group_of(recency, frequency)] += n
            money[group_of(recency, frequency)] += minor
        RfmDay.objects.filter(business_date=business_date).delete()
        RfmDay.objects.bulk_create(
            RfmDay(business_date=business_date, group=group, customers=people[group], revenue_minor=money[group])
            for group in RfmGroup.values
        )
    return changed


@dataclass(frozen=True)
class Sizes:
    """The groups at the end of ``day``: ``(customers, what they had spent in minor units)`` by group."""

    day: date
    groups: dict[str, tuple[int, int]]


def sizes(day: date) -> Sizes | None:
    """The groups as recorded on the last date up to ``day``; ``None`` before the first."""
    last = RfmDay.objects.filter(business_date__lte=day).aggregate(last=models.Max("business_date"))["last"]
    if last is None:
        return None
    rows = RfmDay.objects.filter(business_date=last).values_list("group", "customers", "revenue_minor")
    found = {group: (n, minor) for group, n, minor in rows}
    return Sizes(last, {group: found.get(group, (0, 0)) for group in RfmGroup.values})


def recorded() -> tuple[date, date] | None:
    """The first and the newest recorded date."""
    ends = RfmDay.objects.aggregate(first=models.Min("business_date"), last=models.Max("business_date"))
    return (ends["first"], ends["last"]) if ends["last"] else None


@dataclass(frozen=True)
class Moved:
    """``people`` were in ``source`` at the end of one date and in ``target`` at the end of another; ``spend_minor`` is what
    they have spent so far. Either may be ``none``."""

    source: str
    target: str
    people: int
    spend_minor: int

    @property
    def is_cooler(self) -> bool:
        """Whether they buy less lately or less often than they did, by the order of the groups."""
        order = [*RfmGroup.values, NONE]
        return self.source != NONE and order.index(self.source) < order.index(self.target)


def moves(since: date, until: date) -> list[Moved]:
    """Who is in another group than before: first those who cooled down, in each half the most money first.

    Reads the changes between the two dates only: the first one says where a customer was before, the last one where they
    came to. The group travels in the last four bits of the id.
    """
    names = ["", *RfmGroup.values]

    def code(column: str) -> str:
        return f"CASE {column} " + " ".join(f"WHEN '{name}' THEN {at}" for at, name in enumerate(names)) + " END"

    rows = batches.rows(
        f"""
        SELECT was, is_now, count(*), sum(f.spend_minor) FROM (
            SELECT customer_id, min(id * 16 + {code("from_group")}) %% 16 AS was,
                   max(id * 16 + {code("to_group")}) %% 16 AS is_now
            FROM customers_rfmchange WHERE business_date > %s AND business_date <= %s GROUP BY customer_id
        ) AS ends JOIN customers_customerfacts f ON f.customer_id = ends.customer_id
        WHERE was <> is_now GROUP BY was, is_now
        """,
        [connection.ops.adapt_datefield_value(since), connection.ops.adapt_datefield_value(until)],
    )
    found = [Moved(names[was] or NONE, names[now] or NONE, n, int(minor or 0)) for was, now, n, minor in rows]
    return sorted(found, key=lambda one: (not one.is_cooler, -one.spend_minor, -one.people, one.source, one.target))


def moved(since: date, until: date) -> Counter[tuple[str, str]]:
    """Customers by ``(group at the end of since, group at the end of until)`` where the two differ; ``none`` for none."""
    return Counter({(one.source, one.target): one.people for one in moves(since, until)})


# --- Now --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """Buyers with one pair of scores. ``revenue_minor`` is what they have spent so far, ``reachable`` how many agreed to
    e-mail; the rest are their last answers."""

    recency: int
    frequency: int
    customers: int
    revenue_minor: int
    answers: int
    promoters: int
    detractors: int
    reachable: int

    @property
    def nps(self) -> float | None:
        """From −100 to 100; ``None`` without an answer."""
        return 100 * (self.promoters - self.detractors) / self.answers if self.answers else None


def grid() -> dict[tuple[int, int], Cell]:
    """All 25 cells by ``(recency, frequency)``, from the scores of this moment."""
    count = models.Count
    rows = (
        CustomerFacts.objects.filter(recency__isnull=False, frequency__isnull=False)
        .order_by()
        .values_list("recency", "frequency")
        .annotate(
            n=count("pk"),
            minor=models.Sum("spend_minor"),
            answers=count("nps_score"),
            promoters=count("pk", filter=Q(nps_score__gte=9)),
            detractors=count("pk", filter=Q(nps_score__lte=6)),
            reachable=count("pk", filter=Q(may_email=True)),
        )
    )
    found = {(row[0], row[1]): Cell(*row) for row in rows}
    return {(r, f): found.get((r, f)) or Cell(r, f, 0, 0, 0, 0, 0, 0) for r in TABLE for f in range(1, 6)}


def cuts() -> RfmCuts | None:
    """The newest cut points: they score every new fact."""
    return RfmCuts.objects.order_by("-computed_on").first()

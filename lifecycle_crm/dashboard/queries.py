"""What home reads: rollups and a few indexed rows, a fixed number of queries however many customers there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from django.db.models import Max, Min, Q, Sum

from customers.models import ImportRun
from lifecycle_crm.dashboard import period_rollups, rollups
from lifecycle_crm.dashboard.metrics import MIN_SHARE, Cohort, Share
from lifecycle_crm.dashboard.models import FlowDay, ReportDay, RetentionDay, StageDay, TradeDay
from lifecycle_crm.lib import clock
from stages.models import StageKey
from stages.queries import NEW, Flows

POINTS = 12
"""Points of a spark line, pieces of a chart."""


@dataclass(frozen=True)
class Period:
    """The ``days`` dates that end with ``last``, and the same number of dates they are compared with, if any."""

    last: date
    days: int
    last_before: date | None

    @property
    def first(self) -> date:
        return self.last - timedelta(days=self.days - 1)

    @property
    def start(self) -> date:
        """The date at whose end the period begins."""
        return self.last - timedelta(days=self.days)

    @property
    def first_before(self) -> date | None:
        return self.last_before - timedelta(days=self.days - 1) if self.last_before else None

    @property
    def before(self) -> Period | None:
        return Period(self.last_before, self.days, None) if self.last_before else None

    def ends(self) -> list[date]:
        """The last dates of up to ``POINTS`` pieces of the period, in order."""
        count = min(POINTS, self.days)
        return [self.first + timedelta(days=round((i + 1) * self.days / count) - 1) for i in range(count)]


def period(last: date, days: int, compare: str) -> Period:
    """``compare`` is ``previous`` (the dates right before), ``year`` (the same dates a year ago) or ``none``."""
    before = {"previous": last - timedelta(days=days), "year": last - timedelta(days=364)}.get(compare)
    return Period(last, days, before)


def as_of() -> date | None:
    """The newest date that was rolled up; ``None`` before the first night."""
    return StageDay.objects.aggregate(last=Max("business_date"))["last"]


# --- Stages -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standings:
    """Customers per stage at the end of some dates."""

    by_date: dict[date, dict[str, int]]

    def at(self, day: date) -> dict[str, int]:
        """Zeros before the first rolled date: then nobody was placed."""
        return self.by_date.get(day) or dict.fromkeys(StageKey.values, 0)

    def placed(self, day: date) -> int:
        return sum(self.at(day).values())

    def awake(self, day: date) -> int:
        """Placed and not dormant."""
        return self.placed(day) - self.at(day)[StageKey.DORMANT]


def standings(of: Period) -> Standings:
    days = {*of.ends(), of.start, of.last}
    if of.before:
        days |= {of.before.start, of.before.last}
    found: dict[date, dict[str, int]] = {}
    rows = StageDay.objects.filter(business_date__in=days).values_list("business_date", "stage", "customers")
    for day, stage, customers in rows:
        found.setdefault(day, dict.fromkeys(StageKey.values, 0))[stage] = customers
    return Standings(found)


def flows(of: Period) -> Flows:
    """Moves in the period."""
    rows = (
        FlowDay.objects.filter(business_date__range=(of.first, of.last))
        .order_by()
        .values_list("from_stage", "to_stage")
        .annotate(total=Sum("moves"))
    )
    return {(source or NEW, target): total for source, target, total in rows}


def churn(of: Period, found: Standings, now: RetentionDay, before: RetentionDay | None) -> Share:
    """Customers who went dormant in the period, of those who were placed and not dormant when it began."""
    if not of.before or before is None:
        return Share(now.lost, found.awake(of.start))
    return Share(now.lost, found.awake(of.start), before.lost, found.awake(of.before.start))


# --- Orders -----------------------------------------------------------------------------------------------------------


def trade(of: Period) -> tuple[list[TradeDay], list[TradeDay]]:
    """The days of the period and of the one it is compared with, in order; dates without a row had no orders."""
    where = Q(business_date__range=(of.first, of.last))
    if of.before:
        where |= Q(business_date__range=(of.before.first, of.before.last))
    rows = {row.business_date: row for row in TradeDay.objects.filter(where)}

    def whole(one: Period) -> list[TradeDay]:
        return [rows.get(day) or _no_trade(day) for day in clock.days(one.first, one.last)]

    if of.before and of.before.first not in rows:
        # Not all of that time is known, which is not the same as nothing sold.
        return whole(of), []
    return whole(of), whole(of.before) if of.before else []


def _no_trade(day: date) -> TradeDay:
    return TradeDay(
        business_date=day,
        orders=0,
        revenue_minor=0,
        buyers=0,
        first_buyers=0,
        first_revenue_minor=0,
        regular_revenue_minor=0,
    )


def pieces(of: Period, rows: Sequence[TradeDay], name: str) -> list[int]:
    """The sums of a column over the pieces of the period."""
    ends, sums, at = of.ends(), [0] * len(of.ends()), 0
    for row in rows:
        while row.business_date > ends[at]:
            at += 1
        sums[at] += getattr(row, name)
    return sums


def cohorts(of: Period) -> tuple[Cohort, Cohort]:
    """First buyers whose 90 days ended in the period, and in the one it is compared with.

    When that is too few, those of a year that ends with the period, and then all so far, against nothing: a longer
    window would overlap with the one before.
    """
    ripe = timedelta(days=rollups.RETURN_DAYS)
    known = TradeDay.objects.filter(returned__isnull=False, first_buyers__gt=0, business_date__lte=of.last - ripe)

    def window(name: str, first: date | None, last: date) -> dict[str, object]:
        where = Q(business_date__lte=last - ripe)
        if first:
            where &= Q(business_date__gte=first - ripe)
        return {
            f"{name}_first": Min("business_date", filter=where),
            f"{name}_last": Max("business_date", filter=where),
            f"{name}_buyers": Sum("first_buyers", filter=where, default=0),
            f"{name}_returned": Sum("returned", filter=where, default=0),
        }

    asked = window("now", of.first, of.last) | window("year", of.last - timedelta(days=364), of.last)
    asked |= window("ever", None, of.last)
    if of.before:
        asked |= window("before", of.before.first, of.before.last)
    found = known.aggregate(**asked)

    def cohort(name: str) -> Cohort:
        return Cohort(*(found[f"{name}_{part}"] for part in ("first", "last", "buyers", "returned")))

    now = cohort("now")
    if now.buyers >= MIN_SHARE:
        return now, cohort("before") if of.before else Cohort()
    return next((c for c in (cohort("year"), cohort("ever")) if c.buyers >= MIN_SHARE), cohort("ever")), Cohort()


def retention(of: Period) -> tuple[RetentionDay, RetentionDay | None]:
    wanted = [of.last, *([of.last_before] if of.last_before else [])]
    known = {row.business_date: row for row in RetentionDay.objects.filter(business_date__in=wanted, days=of.days)}
    now, *before = [known.get(day) or period_rollups.retention(day, of.days) for day in wanted]
    return now, before[0] if before else None


def reports(of: Period) -> tuple[ReportDay, ReportDay | None]:
    """Points and win-back of the period's last date (counted now if no night stored them) and of the date before."""
    wanted = [of.last, *([of.last_before] if of.last_before else [])]
    known = {row.business_date: row for row in ReportDay.objects.filter(business_date__in=wanted)}
    return known.get(of.last) or rollups.count_report(of.last), known.get(of.last_before) if of.last_before else None


# --- Today ------------------------------------------------------------------------------------------------------------


def troubled_import(since: date) -> ImportRun | None:
    """The last import since then that refused rows or failed; a dry run does not count."""
    return (
        ImportRun.objects.filter(
            Q(state=ImportRun.State.FAILED) | Q(state=ImportRun.State.DONE, refused__gt=0),
            is_dry_run=False,
            created_at__gte=clock.day_start(since),
        )
        .order_by("-id")
        .first()
    )

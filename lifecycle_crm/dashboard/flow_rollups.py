"""What the night keeps of the stage flow: stays that ended, first arrivals, and the ways of the periods the page offers.

``roll`` writes whole dates anew, so that late moves and undone nights leave nothing behind. ``prepare`` moves the ways of
a period on by one date: only who moved on a date that comes in or falls out is looked at.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from datetime import date, timedelta
from itertools import pairwise

from lifecycle_crm.dashboard.models import ArrivalDay, FlowPeriod, StayDay
from lifecycle_crm.lib.models import Note
from stages import flows
from stages.ways import Ways

PERIODS = (30, 90, 180, 365)
"""The lengths that the page offers, in days."""
MONTHS = 12
"""So many whole months are kept ready for charts with several dates."""

KEPT_DAYS = 92
"""For so many dates every night's periods are kept, and those of month ends for ever."""

NOTE = "rollups"
VERSION = 3
"""What the rows mean. When it grows, the next night writes all dates anew."""

_ONE = timedelta(days=1)
_BATCH = 1000


def is_current() -> bool:
    """Whether the rows mean what this version of the product says they do."""
    return _note().get("version") == VERSION


def stamp() -> str:
    """Changes whenever a rollup does."""
    return str(_note().get("stamp", ""))


def _note() -> dict[str, object]:
    return Note.objects.filter(name=NOTE).values_list("value", flat=True).first() or {}


def sign() -> None:
    """Say that the rows are current, and that they changed."""
    value = {"version": VERSION, "stamp": secrets.token_hex(8)}
    Note.objects.update_or_create(name=NOTE, defaults={"value": value})


def roll(days: Sequence[date]) -> None:
    """Write the stays and arrivals of these dates (in order, without gaps) and forget periods that hold one of them."""
    first, last = days[0], days[-1]
    StayDay.objects.filter(ended__range=(first, last)).delete()
    StayDay.objects.bulk_create(
        (
            StayDay(stage=stage, began=began, ended=ended, stays=stays)
            for (stage, began, ended), stays in sorted(flows.ended(first - _ONE, last).items())
        ),
        batch_size=_BATCH,
    )
    roll_arrivals(days)
    FlowPeriod.objects.filter(until__gte=first, since__lt=last).delete()


def roll_arrivals(days: Collection[date]) -> None:
    """Write the arrivals of these dates: first orders are what may change late."""
    for first, last in _runs(days):
        ArrivalDay.objects.filter(business_date__range=(first, last)).delete()
        ArrivalDay.objects.bulk_create(
            (
                ArrivalDay(business_date=day, stage=stage, days=since, people=people)
                for (day, stage, since), people in sorted(flows.arrived(first - _ONE, last).items())
            ),
            batch_size=_BATCH,
        )


def _runs(days: Collection[date]) -> Iterator[tuple[date, date]]:
    """Ranges of neighbouring dates."""
    first = last = None
    for day in sorted(days):
        if first is None or last is None:
            first = day
        elif day != last + _ONE:
            yield first, last
            first = day
        last = day
    if first is not None and last is not None:
        yield first, last


# --- Periods ----------------------------------------------------------------------------------------------------------


def prepare(last: date) -> None:
    """Keep the ways of the periods that end with ``last``, and of the whole months before it."""
    # Each once: on the 30th of April, thirty days are the month.
    wanted = list(dict.fromkeys([*((last - timedelta(days=days), last) for days in PERIODS), *months(last)]))
    known = set(FlowPeriod.objects.filter(until__in={until for _s, until in wanted}).values_list("since", "until"))
    before = {row.since: row for row in FlowPeriod.objects.filter(until=last - _ONE)}
    made = []
    for since, until in wanted:
        if (since, until) in known:
            continue
        row = before.get(since - _ONE) if until == last else None
        ways = flows.shifted(kept(row), (row.since, row.until), (since, until)) if row else flows.ways(since, until)
        made.append(FlowPeriod(since=since, until=until, ways=dict(ways.people), rules=list(ways.rules)))
    FlowPeriod.objects.bulk_create(made)
    old = FlowPeriod.objects.filter(until__lt=last - timedelta(days=KEPT_DAYS)).order_by()
    ends = set(old.values_list("until", flat=True).distinct())
    old.filter(until__in={until for until in ends if (until + _ONE).day != 1}).delete()


def kept(row: FlowPeriod) -> Ways:
    return Ways(row.ways, tuple(row.rules))


def ways(since: date, until: date) -> Ways:
    """The ways of a period that no night prepared: from a kept one that is near, else counted from all of its moves."""

    def distance(one: tuple[date, date]) -> int:
        return abs((one[0] - since).days) + abs((one[1] - until).days)

    pairs = FlowPeriod.objects.values_list("since", "until")
    nearest = min(pairs.iterator(chunk_size=5000), key=distance, default=None)
    # Who moved in the difference is looked at twice, so it pays only where that is much less than the period.
    if nearest is None or 3 * distance(nearest) > (until - since).days:
        return flows.ways(since, until)
    row = FlowPeriod.objects.get(since=nearest[0], until=nearest[1])
    return flows.shifted(kept(row), nearest, (since, until))


def months(last: date) -> list[tuple[date, date]]:
    """The ``MONTHS`` whole months up to ``last``, each from the end of the one before it."""
    ends = [last if (last + _ONE).day == 1 else last.replace(day=1) - _ONE]
    while len(ends) <= MONTHS:
        ends.append(ends[-1].replace(day=1) - _ONE)
    return [(since, until) for until, since in pairwise(ends)]


# --- Proof ------------------------------------------------------------------------------------------------------------


def problems(first: date, last: date, *, orders_are_settled: bool) -> list[str]:
    """Every way in which what is kept of the dates from ``first`` to ``last`` disagrees with the moves."""
    if not is_current():
        return ["The rollups of the stage flow are of an older version. Run a night: it writes them anew."]
    found = []
    stays = {
        (row.stage, row.began, row.ended): row.stays
        for row in StayDay.objects.filter(ended__range=(first, last)).iterator(chunk_size=5000)
    }
    real = flows.ended(first - _ONE, last)
    found += [
        f"Rollup of {ended}: {stays.get((stage, began, ended), 0)} stays in {stage} since {began} ended, but the history "
        f"has {real[stage, began, ended]}."
        for stage, began, ended in sorted(stays.keys() | real.keys())
        if stays.get((stage, began, ended), 0) != real[stage, began, ended]
    ]
    if orders_are_settled:
        rows = {
            (row.business_date, row.stage, row.days): row.people
            for row in ArrivalDay.objects.filter(business_date__range=(first, last)).iterator(chunk_size=5000)
        }
        arrived = flows.arrived(first - _ONE, last)
        found += [
            f"Rollup of {day}: {rows.get((day, stage, days), 0)} people came into {stage} {days} days after their first "
            f"order, but the history has {arrived[day, stage, days]}."
            for day, stage, days in sorted(rows.keys() | arrived.keys())
            if rows.get((day, stage, days), 0) != arrived[day, stage, days]
        ]
    found += [
        f"Rollup of {row.since} to {row.until}: the ways people went are not those of the history."
        for row in FlowPeriod.objects.order_by("-until", "-since")[: len(PERIODS) + MONTHS]
        if row.ways != flows.ways(row.since, row.until, rules=tuple(row.rules)).people
    ]
    return found

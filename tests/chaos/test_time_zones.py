"""Faults 45 and 46: one night for each date in every zone, also where clocks are put forward and back, also at midnight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine

from lifecycle_crm import night
from lifecycle_crm.lib import clock
from stages.models import Night
from tests.chaos import plan, town

ZONES = (
    "Europe/Stockholm",  # at 02:00, the hour at which nights are due
    "Europe/Lisbon",  # at 01:00
    "America/New_York",
    "America/Havana",  # forward at midnight, back to midnight: one midnight is missing, one comes twice
    "America/Santiago",  # forward at midnight, back at midnight to 23:00; south of the equator
    "Africa/Cairo",  # forward at midnight
    "Africa/Casablanca",  # back for Ramadan, forward after it
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Chatham",  # UTC+12:45
    "Asia/Kolkata",  # never, UTC+5:30
    "Pacific/Kiritimati",  # UTC+14
    "Pacific/Pago_Pago",  # UTC−11
)
FIRST, LAST = date(2026, 1, 1), date(2027, 12, 31)
HOUR = timedelta(hours=1)


def changes(zone: str) -> list[date]:
    """The dates that are longer or shorter than 24 hours in the shop's zone, which is this one."""
    assert clock.zone() == ZoneInfo(zone)
    return [day for day in clock.days(FIRST, LAST) if clock.day_end(day) - clock.day_start(day) != timedelta(days=1)]


@pytest.mark.parametrize("zone", ZONES)
def test_dates_follow_each_other_without_a_gap_for_two_years(zone: str, settings: Any) -> None:
    """45 and 46: business dates of twelve zones over two years."""
    settings.SHOP_TIME_ZONE = zone
    lengths: Counter[timedelta] = Counter()
    for day in clock.days(FIRST, LAST):
        start, end = clock.day_start(day), clock.day_end(day)
        assert end == clock.day_start(day + timedelta(days=1))
        assert clock.business_date(start) == clock.business_date(end - timedelta(microseconds=1)) == day
        assert clock.business_date(start - timedelta(microseconds=1)) == day - timedelta(days=1)
        lengths[end - start] += 1
    assert sum(lengths.values()) == 730
    assert sum((n * length for length, n in lengths.items()), timedelta()) == clock.day_end(LAST) - clock.day_start(
        FIRST
    )
    odd = {length: n for length, n in lengths.items() if length != timedelta(days=1)}
    assert all(abs(length - timedelta(days=1)) <= HOUR for length in odd)
    # As many forward as back, and never more than two a year.
    assert sum(n * (1 if length < timedelta(days=1) else -1) for length, n in odd.items()) == 0
    assert len(changes(zone)) in (0, 4)


def around(zone: str) -> list[tuple[date, date]]:
    """What is lived through: a day around each change of the first year, in a long run of both; with 25 rounds or more
    all of two years."""
    if plan.ROUNDS >= 25:
        return [(FIRST, LAST)]
    days = changes(zone)[: 4 if plan.IS_LONG else 2] or [FIRST + timedelta(days=200)]
    return [(day - timedelta(days=1), day + timedelta(days=1)) for day in days]


def ticks(first: date, last: date) -> Iterator[datetime]:
    """Beat, from the night of ``first`` on until the one of ``last`` is due: each half hour where a night may become due or
    the date change, and every third hour in between."""
    at, end = clock.day_end(first) - HOUR, clock.day_end(last) + 5 * HOUR
    local = clock.zone()
    while at < end:
        here = at.astimezone(local).hour
        if here >= 22 or here < 5 or (here % 3 == 0 and at.minute < 30):
            yield at
        at += HOUR / 2


def run(day: date, *, is_real: bool) -> Night:
    """The night of ``day`` that is due now. What it decides is proved elsewhere, so most are started and called done."""
    if is_real:
        [done] = night.tick(seconds=60)
        return done
    started = night.start(day)
    Night.objects.filter(pk=started.pk).update(state=Night.State.DONE, finished_at=clock.now())
    started.refresh_from_db()
    return started


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ZONES)
def test_each_local_date_has_exactly_one_night_and_it_is_on_time(
    zone: str, settings: Any, tell: Callable[..., None]
) -> None:
    """45 and 46: one night for each local date of twelve zones, where clocks change (25 rounds: over two years)."""
    settings.SHOP_TIME_ZONE = zone
    local = ZoneInfo(zone)
    real = set(changes(zone) if plan.IS_LONG else changes(zone)[:1])
    count = beats = 0
    for first, last in around(zone):
        if not count:
            town.settle_in(1, since=clock.day_start(FIRST))
            with time_machine.travel(clock.day_start(first), tick=False):
                town.rules()
        with time_machine.travel(clock.day_end(first - timedelta(days=1)) + 5 * HOUR, tick=False):
            run(first - timedelta(days=1), is_real=False)
        for at in ticks(first, last):
            with time_machine.travel(at, tick=False):
                beats += 1
                due = night.pending()
                if not due:
                    continue
                [day] = due
                done = run(day, is_real=day in real)
                assert (done.business_date, done.state, done.as_of) == (day, "done", clock.day_end(day))
                assert night.pending() == []
                # Due from 02:00 local on, and found by the next tick; where there is no 02:00, from 03:00.
                here = at.astimezone(local)
                assert here.date() == day + timedelta(days=1)
                assert (here.hour, here.minute < 30) in ((2, True), (3, True)) or here.hour == 2
                assert at - done.as_of <= 3 * HOUR + HOUR / 2
        lived = Night.objects.filter(business_date__gte=first - timedelta(days=1))
        nights = list(lived.order_by("business_date").values_list("business_date", flat=True))
        assert nights == list(clock.days(first - timedelta(days=1), last))
        count += len(nights) - 1
    tell(nights=count, of_them_run_to_the_end=len(real), beats=beats)


def test_its_unsafe_twin_that_rings_at_half_past_two_misses_a_night_and_runs_one_twice() -> None:
    """45, twin: a timer on the local clock instead of a due date in the database."""
    local = ZoneInfo("Europe/Stockholm")
    rung: Counter[date] = Counter()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    while at < datetime(2027, 1, 1, tzinfo=UTC):
        here = at.astimezone(local)
        rung[here.date()] += (here.hour, here.minute) == (2, 30)
        at += HOUR / 2
    assert rung[date(2026, 3, 29)] == 0
    assert rung[date(2026, 10, 25)] == 2
    assert {n for day, n in rung.items() if day.month not in (3, 10) and day.year == 2026} == {1}

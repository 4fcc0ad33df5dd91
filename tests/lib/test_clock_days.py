"""Business dates: one night per local date in every zone, over two years of summer and winter time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from lifecycle_crm.lib import clock

ZONES = [
    "Europe/Stockholm",
    "Europe/London",
    "America/New_York",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Africa/Cairo",
    "Asia/Kolkata",
    "Asia/Beirut",
    "Australia/Sydney",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
]


@pytest.mark.parametrize("zone", ZONES)
def test_each_local_date_of_two_years_has_one_end_and_they_ascend(settings, zone) -> None:
    settings.SHOP_TIME_ZONE = zone
    first, last = date(2027, 1, 1), date(2028, 12, 31)
    days = list(clock.days(first, last))
    assert len(days) == 731
    ends = [clock.day_end(day) for day in days]
    assert len(set(ends)) == len(days)
    assert all(timedelta(hours=22) < b - a < timedelta(hours=26) for a, b in pairwise(ends))
    for day, end in zip(days, ends, strict=True):
        # The last instant belongs to the date, the end itself to the next one.
        assert clock.business_date(end - timedelta(microseconds=1)) == day
        assert clock.business_date(end) == day + timedelta(days=1)
        assert clock.day_start(day + timedelta(days=1)) == end


@pytest.mark.parametrize("zone", ZONES)
def test_a_tick_every_half_hour_finds_each_date_once_and_in_order(settings, zone, monkeypatch) -> None:
    """What beat does, without a database: the newest complete date, whenever it looks."""
    settings.SHOP_TIME_ZONE = zone
    at, end = datetime(2027, 1, 1, 0, 7, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)
    seen: list[date] = []
    while at < end:
        day = clock.business_date(at) - timedelta(days=1)
        if not seen or day != seen[-1]:
            seen.append(day)
            assert clock.day_end(day) <= at
        at += timedelta(minutes=30)
    assert seen == list(clock.days(seen[0], seen[-1]))
    assert len(seen) in (731, 732)


@pytest.mark.parametrize("offset", range(-11, 15))
def test_half_past_eleven_in_utc_is_the_date_of_the_shop(settings, offset) -> None:
    settings.SHOP_TIME_ZONE = f"Etc/GMT{-offset:+d}" if offset else "Etc/UTC"
    moment = datetime(2027, 3, 9, 23, 30, tzinfo=UTC)
    local = moment.astimezone(ZoneInfo(settings.SHOP_TIME_ZONE))
    assert local.utcoffset() == timedelta(hours=offset)
    assert clock.business_date(moment) == local.date() == date(2027, 3, 9) + timedelta(days=int(offset > 0))

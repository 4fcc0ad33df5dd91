"""All code asks the time here, and the business day is decided here.

A business date D covers local midnight to local midnight in the shop's zone. ``day_end(D)`` is the instant from which a
night for D decides: decisions come from that instant, never from ``now()``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils import timezone


def now() -> datetime:
    """The present instant, aware, in UTC."""
    return timezone.now()


def whole_now() -> datetime:
    """The present instant rounded up to a whole second: decisions at it see everything that has happened."""
    moment = now()
    return moment.replace(microsecond=0) + timedelta(seconds=1) if moment.microsecond else moment


def zone() -> ZoneInfo:
    return ZoneInfo(settings.SHOP_TIME_ZONE)


def business_date(moment: datetime) -> date:
    """The business date an aware instant belongs to."""
    return moment.astimezone(zone()).date()


def today() -> date:
    return business_date(now())


def last_complete_day() -> date:
    return today() - timedelta(days=1)


def day_start(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=zone()).astimezone(UTC)


def day_end(day: date) -> datetime:
    """The first instant after ``day``: exclusive end, so a fact at exactly this instant belongs to the next day."""
    return day_start(day + timedelta(days=1))


def month(day: date, by: int = 0) -> date:
    """The first day of the month that is ``by`` months after (or, below 0, before) the one of ``day``."""
    year, number = divmod(day.year * 12 + day.month - 1 + by, 12)
    return date(year, number + 1, 1)


def days(first: date, last: date) -> Iterator[date]:
    """Every date from ``first`` to ``last``, both included."""
    for offset in range((last - first).days + 1):
        yield first + timedelta(days=offset)

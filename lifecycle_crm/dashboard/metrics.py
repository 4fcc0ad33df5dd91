"""The numbers of home. A ``Metric`` is the only thing a card prints, and its definition stands beside its calculation.

Below its minimum of observations a metric has no value. A change is called better or worse only when it is outside chance
(95 %): two shares by the normal approximation of their difference, counts as Poisson counts, sums from the spread of their
days. Intervals of shares are Wilson's (1927), which stay within 0 and 1 for small samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from math import hypot, sqrt
from typing import Any, Literal

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from feedback.scores import ENOUGH, Nps
from lifecycle_crm.dashboard.models import RetentionDay, TradeDay
from lifecycle_crm.dashboard.rollups import REGULAR_ORDERS, RETURN_DAYS
from lifecycle_crm.lib.intervals import Z, wilson
from lifecycle_crm.templatetags.crm import day, money_round, num, pct, signed

Unit = Literal["score", "share", "money", "count"]
Better = Literal["up", "down", ""]

MIN_SHARE = 100
MIN_ORDERS = 100
MIN_WINBACK = 50


@dataclass(frozen=True)
class Metric:
    """One number with everything that must stand beside it.

    ``value`` is ``None`` when nothing could be counted; shares are 0–1, money is in minor units of the shop's currency.
    ``low`` and ``high`` are the ends of the 95 % interval, ``previous`` the value it is compared with and ``is_clear``
    whether the two differ by more than chance. ``n`` observations of at least ``minimum``; ``sample`` says what they
    are. ``better`` is the good direction, empty when there is none.
    """

    key: str
    name: str
    value: float | None
    unit: Unit
    n: int
    low: float | None
    high: float | None
    previous: float | None
    minimum: int
    as_of: date
    definition: str
    better: Better
    sample: str = ""
    is_clear: bool = False
    trend: tuple[float | None, ...] = ()
    url: str = ""

    @property
    def is_enough(self) -> bool:
        return self.value is not None and self.n >= self.minimum

    @property
    def shown(self) -> str | None:
        """The value as text; ``None`` below the minimum."""
        return self.write(self.value) if self.is_enough else None

    def write(self, value: float | None) -> str:
        if self.unit == "share":
            return pct(value, 1)
        if self.unit == "money":
            return money_round(None if value is None else round(value), settings.SHOP_CURRENCY)
        return signed(value) if self.unit == "score" else num(None if value is None else round(value))

    @property
    def range(self) -> str:
        """The interval as text, empty when there is none."""
        if self.low is None or self.high is None or not self.is_enough:
            return ""
        return _("95%% certain: %(low)s to %(high)s") % {"low": self.write(self.low), "high": self.write(self.high)}

    @property
    def delta(self) -> dict[str, str] | None:
        """The change in words with its direction and verdict; ``None`` without something to compare with."""
        if not self.is_enough or self.value is None or self.previous is None:
            return None
        change = self.value - self.previous
        if not self.is_clear or change == 0:
            return {"text": _("no clear change"), "direction": "flat", "verdict": "same"}
        direction = "up" if change > 0 else "down"
        if self.unit == "share":
            size = _("%(n)s points") % {"n": num(abs(change) * 100, 1)}
        elif self.unit == "score":
            size = _("%(n)s points") % {"n": num(abs(round(change)))}
        else:
            size = pct(abs(change) / abs(self.previous)) if self.previous else self.write(abs(change))
        text = _("up %(size)s") if direction == "up" else _("down %(size)s")
        verdict = "same" if not self.better else "better" if self.better == direction else "worse"
        return {"text": text % {"size": size}, "direction": direction, "verdict": verdict}

    def card(self, basis: str) -> dict[str, Any]:
        """What ``components/kpi.html`` prints. ``basis`` says what it is compared with."""
        return {
            "key": self.key,
            "name": self.name,
            "value": self.shown,
            "have": self.n,
            "need": self.minimum,
            "url": self.url,
            "delta": self.delta,
            "basis": basis,
            "sample": " · ".join(part for part in (self.sample, self.range) if part),
            "trend": list(self.trend) if self.is_enough else [],
            "definition": self.definition,
            "updated": self.as_of,
        }


# --- Chance -----------------------------------------------------------------------------------------------------------


def _interval(hits: int, n: int) -> tuple[float | None, float | None]:
    return wilson(hits, n) if n else (None, None)


def shares_differ(hits: int, n: int, hits_before: int, n_before: int) -> bool:
    """Is the difference of two shares outside chance? Both need at least ``MIN_SHARE`` observations."""
    if n < MIN_SHARE or n_before < MIN_SHARE:
        return False
    pooled = (hits + hits_before) / (n + n_before)
    error = sqrt(pooled * (1 - pooled) * (1 / n + 1 / n_before))
    return abs(hits / n - hits_before / n_before) > Z * error


def sums_differ(days: Sequence[float], days_before: Sequence[float]) -> bool:
    """Is the difference of two sums of daily amounts outside what their days scatter?"""
    if len(days) < 2 or len(days_before) < 2:
        return False

    def spread(values: Sequence[float]) -> float:
        mean = sum(values) / len(values)
        return sum((v - mean) ** 2 for v in values) / (len(values) - 1) * len(values)

    return abs(sum(days) - sum(days_before)) > Z * sqrt(spread(days) + spread(days_before))


# --- What each one is -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """``hits`` of ``n``, and the same of the period compared with (zeros when there is none)."""

    hits: int = 0
    n: int = 0
    hits_before: int = 0
    n_before: int = 0

    @property
    def value(self) -> float | None:
        return self.hits / self.n if self.n else None

    @property
    def previous(self) -> float | None:
        return self.hits_before / self.n_before if self.n_before else None


def _share(
    key: str, name: str, share: Share, as_of: date, definition: str, better: Better, sample: str, **more: Any
) -> Metric:
    low, high = _interval(share.hits, share.n)
    return Metric(
        key=key,
        name=name,
        value=share.value,
        unit="share",
        n=share.n,
        low=low,
        high=high,
        previous=share.previous,
        minimum=more.pop("minimum", MIN_SHARE),
        as_of=as_of,
        definition=definition,
        better=better,
        sample=sample,
        is_clear=shares_differ(share.hits, share.n, share.hits_before, share.n_before),
        **more,
    )


def nps(found: Nps, before: Nps | None, as_of: date, url: str) -> Metric:
    margins = (found.margin, before.margin) if before else (None, None)
    is_clear = (
        before is not None
        and before.is_enough
        and found.value is not None
        and before.value is not None
        and None not in margins
        and abs(found.value - before.value) > hypot(margins[0] or 0.0, margins[1] or 0.0)
    )
    return Metric(
        key="nps",
        name=_("NPS"),
        value=found.value,
        unit="score",
        n=found.n,
        low=found.low,
        high=found.high,
        previous=before.value if before and before.is_enough else None,
        minimum=ENOUGH,
        as_of=as_of,
        definition=_(
            "Share of answers 9 and 10 minus share of answers 0 to 6, from the last answer of each customer in the "
            "period. From −100 to +100."
        ),
        better="up",
        sample=ngettext("%(n)s answer", "%(n)s answers", found.n) % {"n": num(found.n)},
        is_clear=is_clear,
        url=url,
    )


@dataclass(frozen=True)
class Cohort:
    """First buyers whose 90 days are over, and the dates on which they bought first."""

    first: date | None = None
    last: date | None = None
    buyers: int = 0
    returned: int = 0


def repurchase(cohort: Cohort, before: Cohort, as_of: date) -> Metric:
    share = Share(cohort.returned, cohort.buyers, before.returned, before.buyers)
    sample = ngettext("%(n)s first buyer", "%(n)s first buyers", cohort.buyers) % {"n": num(cohort.buyers)}
    if cohort.first and cohort.last and cohort.buyers >= MIN_SHARE:
        sample = _("%(buyers)s, %(first)s to %(last)s") % {
            "buyers": sample,
            "first": day(cohort.first),
            "last": day(cohort.last),
        }
    definition = _(
        "Of the customers who bought for the first time and have had %(days)d days since, the share who bought again on a "
        "later day within these %(days)d days. When the period has too few of them, the last year counts, then all."
    )
    return _share(
        "repurchase",
        _("Bought again within 90 days"),
        share,
        as_of,
        definition % {"days": RETURN_DAYS},
        "up",
        sample,
    )


def retention(row: RetentionDay, before: RetentionDay | None, as_of: date) -> Metric:
    share = Share(
        row.came_back,
        row.buyers_before,
        before.came_back if before else 0,
        before.buyers_before if before else 0,
    )
    sample = ngettext("of %(n)s buyer", "of %(n)s buyers", row.buyers_before) % {"n": num(row.buyers_before)}
    definition = ngettext(
        "Of the buyers of the %(days)d day before the period, the share who bought again in the period.",
        "Of the buyers of the %(days)d days before the period, the share who bought again in the period.",
        row.days,
    ) % {"days": row.days}
    return _share("retention", _("Retention"), share, as_of, definition, "up", sample)


def churn(share: Share, as_of: date, url: str, trend: tuple[float | None, ...]) -> Metric:
    sample = _("%(hits)s of %(n)s") % {"hits": num(share.hits), "n": num(share.n)}
    definition = _(
        "Of the customers who were placed and not dormant when the period began, the share who went dormant in it, "
        "whether or not they came back since."
    )
    return _share("churn", _("Churn"), share, as_of, definition, "down", sample, url=url, trend=trend)


def revenue(days: Sequence[TradeDay], before: Sequence[TradeDay], as_of: date, trend: tuple[float, ...]) -> Metric:
    orders = sum(row.orders for row in days)
    return Metric(
        key="revenue",
        name=_("Revenue"),
        value=sum(row.revenue_minor for row in days),
        unit="money",
        n=orders,
        low=None,
        high=None,
        previous=sum(row.revenue_minor for row in before) if before else None,
        minimum=1,
        as_of=as_of,
        definition=_(
            "Orders placed in the period, net of refunds and without cancelled ones, in the shop's currency at the rate "
            "recorded with each order."
        ),
        better="up",
        sample=ngettext("%(n)s order", "%(n)s orders", orders) % {"n": num(orders)},
        is_clear=sums_differ([r.revenue_minor for r in days], [r.revenue_minor for r in before]),
        trend=trend,
    )


def orders(days: Sequence[TradeDay], before: Sequence[TradeDay], as_of: date, trend: tuple[float, ...]) -> Metric:
    count, count_before = sum(row.orders for row in days), sum(row.orders for row in before)
    first = sum(row.first_buyers for row in days)
    return Metric(
        key="orders",
        name=_("Orders"),
        value=count,
        unit="count",
        n=count,
        low=None,
        high=None,
        previous=count_before if before else None,
        minimum=1,
        as_of=as_of,
        definition=_("Orders placed in the period, without cancelled ones."),
        better="up",
        sample=ngettext("%(n)s from a first buyer", "%(n)s from first buyers", first) % {"n": num(first)},
        is_clear=abs(count - count_before) > Z * sqrt(count + count_before),
        trend=trend,
    )


def regulars(days: Sequence[TradeDay], before: Sequence[TradeDay], as_of: date) -> Metric:
    def share(rows: Sequence[TradeDay]) -> float | None:
        total = sum(row.revenue_minor for row in rows)
        return sum(row.regular_revenue_minor for row in rows) / total if total > 0 else None

    count = sum(row.orders for row in days)
    value, previous = share(days), share(before)
    return Metric(
        key="regulars",
        name=_("Revenue from regulars"),
        value=value,
        unit="share",
        n=count,
        low=None,
        high=None,
        previous=previous,
        minimum=MIN_ORDERS,
        as_of=as_of,
        definition=_(
            "Share of the period's revenue from customers who had placed at least %(orders)d orders in the 365 days up to "
            "that order's date. Neither high nor low is good by itself."
        )
        % {"orders": REGULAR_ORDERS},
        better="",
        sample=ngettext("%(n)s order", "%(n)s orders", count) % {"n": num(count)},
        is_clear=value is not None
        and previous is not None
        and sums_differ([r.regular_revenue_minor for r in days], [r.regular_revenue_minor for r in before]),
    )


def points(
    outstanding: int, liability_minor: int, before_minor: int | None, members: int, as_of: date, url: str
) -> Metric:
    return Metric(
        key="points",
        name=_("Worth of points outstanding"),
        value=liability_minor,
        unit="money",
        n=members,
        low=None,
        high=None,
        previous=before_minor,
        minimum=1,
        as_of=as_of,
        definition=_(
            "Points that customers can use now or later, times what a point is worth, as if every point were redeemed. "
            "Points and worth are those of the programme when the night ran."
        ),
        better="",
        sample=ngettext("%(n)s point", "%(n)s points", outstanding) % {"n": num(outstanding)},
        is_clear=before_minor is not None and before_minor != liability_minor,
        url=url,
    )


def winback(treated: int, back: int, held_out: int, held_out_back: int, as_of: date, url: str) -> Metric:
    """The share that came back; beside it, not as a comparison in time, those who were left alone on purpose."""
    low, high = _interval(back, treated)
    sample = _("%(back)s of %(n)s") % {"back": num(back), "n": num(treated)}
    if held_out:
        sample = _("%(sample)s; without a message %(share)s of %(held_out)s") % {
            "sample": sample,
            "share": pct(held_out_back / held_out, 1),
            "held_out": num(held_out),
        }
    return Metric(
        key="winback",
        name=_("Won back"),
        value=back / treated if treated else None,
        unit="share",
        n=treated,
        low=low,
        high=high,
        previous=None,
        minimum=MIN_WINBACK,
        as_of=as_of,
        definition=_(
            "Of the dormant customers whom a win-back campaign picked to write to, the share who ordered since. The "
            "difference to those left alone is what the messages did."
        ),
        better="up",
        sample=sample,
        url=url,
    )

"""The panels of the retention page: words, links, the table of cohorts and the lines drawn from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from customers.trails import Way
from lifecycle_crm.dashboard import cohort_rollups
from lifecycle_crm.dashboard.cohort_rollups import Sums, Unit, between, later
from lifecycle_crm.dashboard.metrics import MIN_SHARE
from lifecycle_crm.lib.intervals import newcombe
from lifecycle_crm.lib.money import from_minor
from lifecycle_crm.templatetags.crm import day, money_round, month, num, pct, signed, ticks
from stages.flows import ways_url

MEASURES = {
    "by": gettext_lazy("Bought again by then"),
    "in": gettext_lazy("Bought in the period"),
    "revenue": gettext_lazy("Revenue per customer so far"),
    "awake": gettext_lazy("Never dormant so far"),
}
UNITS = {"month": gettext_lazy("Months"), "week": gettext_lazy("Weeks")}
HORIZONS = (6, 12, 24)
A_YEAR = {"month": 12, "week": 52}
ASKED_AFTER = {"month": 3, "week": 8}
"""Periods after the first order at which newer cohorts are compared with older ones."""
POOLED = {"month": 3, "week": 8}
"""So many cohorts are taken together for that, so that chance does not decide."""
SPAN = {"month": 48, "week": 104}
"""How far back cohorts are looked for; those in which nobody began are left out."""
FEW = 30
DRAWN = 6
_ONE = timedelta(days=1)


@dataclass(frozen=True)
class Cell:
    """A cohort after so many periods. ``hits`` of ``n`` people, or minor units of money; ``None`` where stages were not
    known yet. ``is_running``: the period goes on."""

    hits: int | None
    n: int
    is_running: bool
    since: date
    until: date

    @property
    def value(self) -> float | None:
        return None if self.hits is None or not self.n else self.hits / self.n


@dataclass(frozen=True)
class Cohort:
    """``cells`` ends with the newest period there is."""

    first: date
    last: date
    size: int
    cells: Sequence[Cell]

    def whole(self, periods: int) -> Cell | None:
        """The cell after so many periods, if its period is over and its number known."""
        if periods < len(self.cells) and not (cell := self.cells[periods]).is_running and cell.value is not None:
            return cell
        return None


@dataclass(frozen=True)
class Asked:
    """What the page shows: cohorts of a unit, so many periods of them, up to a date."""

    unit: str
    measure: str
    periods: int
    is_compared: bool
    last: date
    known_since: date | None
    """The first date of which stages are known."""
    sums: dict[tuple[date, int], Sums] = field(repr=False)
    sizes: Counter[date] = field(repr=False)

    def firsts(self) -> list[date]:
        """The cohorts shown, the newest first."""
        return sorted((first for first, size in self.sizes.items() if size), reverse=True)[: self.periods + 1]

    def cohort(self, first: date, measure: str = "") -> Cohort:
        measure = measure or self.measure
        size = self.sizes[first]
        cells = []
        so_far = Sums()
        for period in range(self.periods + 1):
            since, end = later(self.unit, first, period), later(self.unit, first, period + 1) - _ONE
            if since > self.last:
                break
            one = self.sums.get((first, period), Sums())
            so_far = Sums(
                buyers=one.buyers,
                again=so_far.again + one.again,
                revenue_minor=so_far.revenue_minor + one.revenue_minor,
                lapsed=so_far.lapsed + one.lapsed,
            )
            cells.append(Cell(self._hits(measure, first, size, so_far), size, end > self.last, since, end))
        return Cohort(first, later(self.unit, first, 1) - _ONE, size, cells)

    def _hits(self, measure: str, first: date, size: int, sums: Sums) -> int | None:
        if measure == "awake":
            return size - sums.lapsed if self.known_since and first >= self.known_since else None
        return {"in": sums.buyers, "by": sums.again, "revenue": sums.revenue_minor}[measure]


def asked(unit: str, measure: str, periods: int, *, is_compared: bool, last: date, known_since: date | None) -> Asked:
    """With the sums of all cohorts it may speak of: those shown, and those of the year before."""
    sums = cohort_rollups.by_period(unit, later(unit, cohort_rollups.begins(unit, last), -SPAN[unit]), last)
    sizes: Counter[date] = Counter()
    for (cohort, _period), one in sums.items():
        sizes[cohort] += one.newcomers
    return Asked(unit, measure, periods, is_compared, last, known_since, sums, sizes)


# --- Words ------------------------------------------------------------------------------------------------------------


def name_of(unit: str, first: date) -> str:
    return month(first) if unit == Unit.MONTH else _("week of %(day)s") % {"day": day(first)}


def _write(of: Asked, value: float | None) -> str:
    if of.measure == "revenue":
        return money_round(None if value is None else round(value), settings.SHOP_CURRENCY)
    return pct(value)


def _changed(of: Asked, change: float) -> str:
    """Points of a share, or money."""
    if of.measure == "revenue":
        sign = "+" if change > 0 else "−" if change < 0 else "±"
        return sign + money_round(round(abs(change)), settings.SHOP_CURRENCY)
    return signed(round(100 * change, 1), 1)


def sentence(of: Asked) -> str:
    """Whether newer customers come back as much as older ones did, with both numbers and the range of the difference."""
    after = ASKED_AFTER[of.unit]
    newer, older, told = _sides(of, after)
    (hits, n), (hits_before, n_before) = _pooled(of, newer, after), _pooled(of, older, after)
    if not n or not n_before:
        return _("There are no older cohorts to compare with yet.")
    told = told % {
        "who": _who(of.unit, newer), "others": _who(of.unit, older), "n": num(n), "n_before": num(n_before),
        "share": pct(hits / n), "before": pct(hits_before / n_before), "after": _after(of.unit, after),
    }  # fmt: skip
    if min(n, n_before) < MIN_SHARE:
        return f"{told} {_('That is too few people to say more.')}"
    low, high = newcombe(hits, n, hits_before, n_before)
    points = {"low": signed(100 * low, 1), "high": signed(100 * high, 1)}
    if low > 0:
        clear = _("The newer ones come back more: by %(low)s to %(high)s points, 95%% certain.")
    elif high < 0:
        clear = _("The newer ones come back less: by %(low)s to %(high)s points, 95%% certain.")
    else:
        clear = _("No clear difference: %(low)s to %(high)s points, 95%% certain.")
    return f"{told} {clear % points}"


def _sides(of: Asked, after: int) -> tuple[list[date], list[date], str]:
    """The newest cohorts old enough, those to compare them with, and the sentence: the same ones a year before, else
    those just before them."""
    known = [first for first in of.firsts() if of.cohort(first, "by").whole(after)]
    newer = [first for first in known if between(of.unit, first, known[0]) < POOLED[of.unit]]
    year_before = [later(of.unit, first, -A_YEAR[of.unit]) for first in newer]
    if all(of.sizes[first] for first in year_before):
        return newer, year_before, _(
            "Of %(n)s people whose first order was in %(who)s, %(share)s bought again by %(after)s. A year before it was "
            "%(before)s of %(n_before)s."
        )  # fmt: skip
    # A young shop: the newest half of what there is against those before them.
    newer = newer[: max(1, len(known) // 2)]
    return newer, known[len(newer) : 2 * len(newer)], _(
        "Of %(n)s people whose first order was in %(who)s, %(share)s bought again by %(after)s. Of those in %(others)s it "
        "was %(before)s of %(n_before)s."
    )  # fmt: skip


def _who(unit: str, firsts: Sequence[date]) -> str:
    """A cohort or the first and last of several, the newest first: "Apr 2026 – Jun 2026"."""
    first, last = name_of(unit, firsts[-1]), name_of(unit, firsts[0])
    return first if first == last else f"{first} – {last}"


def _after(unit: str, periods: int) -> str:
    if unit == Unit.MONTH:
        return ngettext("the end of the month after", "the end of the %(n)s months after", periods) % {
            "n": num(periods)
        }
    return ngettext("the end of the week after", "the end of the %(n)s weeks after", periods) % {"n": num(periods)}


def _pooled(of: Asked, firsts: Sequence[date], after: int) -> tuple[int, int]:
    cells = [of.cohort(first, "by").whole(after) for first in firsts]
    known = [cell for cell in cells if cell is not None]
    return sum(cell.hits or 0 for cell in known), sum(cell.n for cell in known)


# --- The table --------------------------------------------------------------------------------------------------------


def table(of: Asked) -> dict[str, Any]:
    """Rows of cohorts, the newest first, and the weighted average of those whose period is over."""
    cohorts = [of.cohort(first) for first in of.firsts()]
    before = {one.first: of.cohort(later(of.unit, one.first, -A_YEAR[of.unit])) for one in cohorts}
    # Few people swing widely, and one such row would take the colours of all others.
    many = [one for one in cohorts if one.size >= FEW] or cohorts
    values = [cell.value for one in many for cell in one.cells[1:] if cell.value is not None and not cell.is_running]
    low, high = min(values, default=0.0), max(values, default=0.0)
    return {
        "periods": list(range(of.periods + 1)),
        "rows": [
            {
                "name": name_of(of.unit, one.first),
                "size": num(one.size),
                "url": _people(one) if one.size else "",
                "cells": [_cell(of, one, before[one.first], at, low, high) for at in range(of.periods + 1)],
            }
            for one in cohorts
        ],
        "average": [_average(of, cohorts, at) for at in range(of.periods + 1)],
        "size": num(sum(one.size for one in cohorts)),
    }


def _cell(of: Asked, cohort: Cohort, year_before: Cohort, at: int, low: float, high: float) -> dict[str, Any]:
    if at >= len(cohort.cells) or not cohort.size:
        return {}
    cell = cohort.cells[at]
    if cell.value is None:
        return {"text": "?", "css": "faint", "about": _("Stages were not known yet.")}
    people = ngettext("%(n)s customer", "%(n)s customers", cell.n) % {"n": num(cell.n)}
    about = (
        people if of.measure == "revenue" else _("%(hits)s of %(people)s") % {"hits": num(cell.hits), "people": people}
    )
    css, text = "", _write(of, cell.value)
    if at and not cell.is_running:
        css = f"heat-{1 + min(6, max(0, round(6 * (cell.value - low) / (high - low))))}" if high > low else "heat-4"
    if of.is_compared:
        before = year_before.whole(at)
        if cell.is_running or before is None or before.value is None:
            return {"text": "–", "css": "faint", "about": _("Nothing to compare with.")}
        change = cell.value - before.value
        now = {"now": text, "before": _write(of, before.value)}
        text, about = _changed(of, change), _("%(now)s, a year before %(before)s") % now
        css = "net-up-2" if change > 0 else "net-down-2" if change < 0 else "faint"
    if cell.is_running:
        css, about = "running", f"{about}, {_('so far')}"
    return {"text": text, "css": css, "about": about, "url": _people(cohort, of.measure, cell) if cell.hits else ""}


def _people(cohort: Cohort, measure: str = "", cell: Cell | None = None) -> str:
    """The people of a cohort, or those of them whom a cell counts."""
    began = Way("orders", ("first",), cohort.first, cohort.last)
    if cell is None or measure == "revenue":
        return ways_url(began)
    did = {
        "in": Way("orders", ("some",), cell.since, cell.until),
        "by": Way("orders", ("second",), cohort.first, cell.until),
        "awake": Way("orders", ("awake",), cohort.first, cell.until),
    }
    return ways_url(began, did[measure])


def _average(of: Asked, cohorts: Sequence[Cohort], at: int) -> dict[str, Any]:
    value, n = _mean(cohorts, at)
    if value is None:
        return {}
    people = ngettext("%(n)s customer", "%(n)s customers", n) % {"n": num(n)}
    return {"text": _write(of, value), "about": people}


def _mean(cohorts: Sequence[Cohort], at: int) -> tuple[float | None, int]:
    known = [cell for one in cohorts if (cell := one.whole(at)) is not None]
    n = sum(cell.n for cell in known)
    return (sum(cell.hits or 0 for cell in known) / n, n) if n else (None, 0)


# --- The lines --------------------------------------------------------------------------------------------------------


def chart(of: Asked) -> dict[str, Any]:
    """A line per cohort, the newest with something to show in colour, and the average of all shown in the table."""
    cohorts = [of.cohort(first) for first in of.firsts()]
    known = [one for one in cohorts if sum(one.whole(at) is not None for at in range(of.periods + 1)) > 1]
    drawn = known[:DRAWN]
    first_at = 1 if of.measure == "in" else 0
    labels = [num(at) for at in range(first_at, of.periods + 1)]

    def line(name: str, values: Sequence[float | None], **more: Any) -> dict[str, Any]:
        shown = list(values)[first_at:]
        return {"name": name, "values": shown, "texts": [_write(of, value) for value in shown], **more}

    def of_cohort(one: Cohort, **more: Any) -> dict[str, Any]:
        wholes = [one.whole(at) for at in range(of.periods + 1)]
        return line(name_of(of.unit, one.first), [cell.value if cell else None for cell in wholes], **more)

    average = [_mean(cohorts, at)[0] for at in range(of.periods + 1)]
    series = [of_cohort(one) for one in drawn[:1]]
    series.append(line(_("Average"), average))
    series += [of_cohort(one, quiet=True, stage="other") for one in drawn[1:]]
    most = max((value for one in series for value in one["values"] if value is not None), default=0)
    kind = "money" if of.measure == "revenue" else "pct"
    axis = ticks(from_most(most, kind), kind, settings.SHOP_CURRENCY)
    return {
        "id": "lines",
        "kind": "line",
        "title": _("How do cohorts develop?"),
        "sentence": _("The newest cohort with more than one whole period in blue, older ones in grey, beside the average."),
        "is_empty": not drawn,
        "data": {"x": {"labels": labels, "title": str(UNITS[of.unit])}, "y": {"ticks": axis, "title": ""}, "series": series},
        "columns": [{"label": _("Cohort")}, *({"label": label, "num": True} for label in labels)],
        "rows": [
            [one["name"], *({"text": text, "num": True} for text in one["texts"])] for one in series
        ],
        "note": ngettext("%(n)s customer", "%(n)s customers", total) % {"n": num(total)}
        if (total := sum(one.size for one in cohorts))
        else "",
        "csv_url": "",
    }  # fmt: skip


def from_most(most: float, kind: str) -> float:
    """The end of the axis: a share never needs more than one."""
    return min(1.0, 1.1 * most) if kind == "pct" else 1.1 * most


# --- For a spreadsheet ------------------------------------------------------------------------------------------------


def csv_url(query: str) -> str:
    url = reverse("dashboard:retention-csv")
    return f"{url}?{query}" if query else url


def csv_rows(of: Asked) -> Iterator[Sequence[Any]]:
    """A row per cohort and period, with every measure."""
    yield (
        "unit", "cohort", "customers", "period", "since", "until", "is_complete", "bought_in_period",
        "bought_again_by_then", "revenue_so_far", "currency", "never_dormant_so_far",
    )  # fmt: skip
    for first in of.firsts():
        by = {measure: of.cohort(first, measure) for measure in MEASURES}
        for at, cell in enumerate(by["by"].cells):
            revenue, awake = by["revenue"].cells[at].hits or 0, by["awake"].cells[at].hits
            yield (
                of.unit, first, cell.n, at, cell.since, cell.until, "no" if cell.is_running else "yes",
                by["in"].cells[at].hits, cell.hits, from_minor(revenue, settings.SHOP_CURRENCY), settings.SHOP_CURRENCY,
                "" if awake is None else awake,
            )  # fmt: skip

"""What the programme owes, as of the end of any past date, and what it costs.

Everything is added up from entries that held by then, never from the balances of today, so a date gives the same answer
tomorrow, unless something from before it is recorded later; how much that was is told beside it.

Breakage is what ends unused. The forecast takes lots whose life is over: of the points that were still there at the same
share of their life (in tenths), which share ended unused; and applies it to the points outstanding now. The interval is a
delete-a-group jackknife over twenty groups of customers (Kott, "The Delete-a-Group Jackknife", Journal of Official
Statistics 17, 2001), because the points of one customer end together. Where all of them did the same, it is the rule of
three (Hanley and Lippman-Hand, JAMA 249, 1983): of n customers none did otherwise, so at most 3/n do. IFRS 15, B44-B47 says
when such an estimate may be booked; this is the estimate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from math import sqrt
from typing import Any

from django.utils.translation import gettext as _

from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import epoch, from_seconds, parameter, seconds
from loyalty.models import Programme

MONTHS = 13
GROUPS = 20
STUDENT = 2.093
"""97.5 % point of Student's t with nineteen degrees of freedom."""
ENOUGH_PEOPLE = 100
LOOK_BACK_DAYS = 730
TENTHS = 10
_OWNED = ("pending", "available", "held", "debt")


def _worth(points: int, programme: Programme) -> int:
    """Points in minor units of the shop's currency, rounded towards zero."""
    value = abs(points) * programme.value_minor_per_100 // 100
    return value if points >= 0 else -value


def asked_day(text: str) -> date:
    """The date a page or a request names; the last complete day where it names none. Raises ``InvalidInput``."""
    if not text:
        return clock.last_complete_day()
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise InvalidInput(_("Write the date as 2026-03-31."), code="invalid_date") from None
    if not date(2000, 1, 1) <= found <= clock.today():
        raise InvalidInput(_("Choose a date from 2000 to today."), code="invalid_date")
    return found


# --- Outstanding ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outstanding:
    """What all customers of a programme had at the end of ``day``, in points; money in minor units.

    ``recorded_later`` is the part of the sum that was recorded after that day: an import, or a correction back in time.
    """

    programme: Programme
    day: date
    holders: int = 0
    pending: int = 0
    available: int = 0
    held: int = 0
    debt: int = 0
    recorded_later: int = 0

    @property
    def points(self) -> int:
        """Points that can be redeemed now or later. What customers owe does not lessen what others may redeem."""
        return self.pending + self.available + self.held

    @property
    def liability_minor(self) -> int:
        return _worth(self.points, self.programme)


def outstanding(programme: Programme, day: date) -> Outstanding:
    """As of the end of ``day`` in the shop's zone."""
    end = clock.day_end(day)
    sums = ", ".join(f"sum(CASE WHEN p.ledger = '{name}' THEN p.points ELSE 0 END) AS {name}" for name in _OWNED)
    [(holders, pending, available, held, debt, later)] = batches.rows(
        f"""
        SELECT coalesce(sum(CASE WHEN pending + available + held > 0 THEN 1 ELSE 0 END), 0), coalesce(sum(pending), 0),
               coalesce(sum(available), 0), coalesce(sum(held), 0), coalesce(sum(debt), 0), coalesce(sum(later), 0)
        FROM (
            SELECT p.account_id, {sums},
                   sum(CASE WHEN e.recorded_at >= %s AND p.ledger <> 'debt' THEN p.points ELSE 0 END) AS later
            FROM loyalty_entry e JOIN loyalty_posting p ON p.entry_id = e.id
            WHERE e.programme_id = %s AND e.effective_at < %s AND p.ledger IN ('pending', 'available', 'held', 'debt')
            GROUP BY p.account_id
        ) a
        """,
        [parameter(end), programme.pk, parameter(end)],
    )
    return Outstanding(
        programme=programme,
        day=day,
        holders=int(holders),
        pending=int(pending),
        available=int(available),
        held=int(held),
        debt=-int(debt),
        recorded_later=int(later),
    )


def _left() -> str:
    """SQL of the lots as they stood before a moment: ``id, customer_id, active_at, expires_at, points`` left. What was
    extended later has its old end. Its four parameters: the moment, the moment, the programme's id, the moment."""
    return """
        SELECT l.id, l.customer_id, l.active_at, coalesce(y.was, l.expires_at) AS expires_at,
               l.amount - coalesce(s.points, 0) AS points
        FROM loyalty_lot l
        JOIN loyalty_entry e ON e.id = l.entry_id
        LEFT JOIN (
            SELECT x.lot_id, min(x.id) AS id FROM loyalty_extendedlot x JOIN loyalty_extension n ON n.id = x.extension_id
            WHERE n.recorded_at >= %s GROUP BY x.lot_id
        ) later ON later.lot_id = l.id
        LEFT JOIN loyalty_extendedlot y ON y.id = later.id
        LEFT JOIN (
            SELECT u.lot_id, sum(u.points) AS points FROM loyalty_lotspend u JOIN loyalty_entry x ON x.id = u.entry_id
            WHERE x.effective_at < %s GROUP BY u.lot_id
        ) s ON s.lot_id = l.id
        WHERE e.programme_id = %s AND e.effective_at < %s AND l.amount <> coalesce(s.points, 0)
    """


def _of_left(programme: Programme, end: datetime) -> list[Any]:
    return [parameter(end), parameter(end), programme.pk, parameter(end)]


# --- When they end ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ending:
    """Points whose last usable day lies in the month that begins on ``first``; ``None``: they never end."""

    first: date | None
    points: int
    people: int
    worth_minor: int


def calendar(programme: Programme, day: date) -> list[Ending]:
    """Pending and usable points at the end of ``day`` by the month of their last day. Held points have left their lots."""
    end = clock.day_end(day)
    given = _of_left(programme, end)
    [(first, last)] = batches.rows(
        f"SELECT {epoch('min(t.expires_at)')}, {epoch('max(t.expires_at)')} FROM ({_left()}) t", given
    )
    ends: list[date] = []
    if first is not None:
        at = clock.month(_day_of(first))
        while at <= _day_of(last):
            ends.append(at)
            at = clock.month(at, 1)
    cases = " ".join(f"WHEN t.expires_at <= %s THEN {n}" for n in range(len(ends)))
    bounds = [parameter(clock.day_start(clock.month(one, 1))) for one in ends]
    which = f"CASE WHEN t.expires_at IS NULL THEN {len(ends)} {cases} END"
    rows = batches.rows(
        f"SELECT {which} AS n, sum(t.points), count(DISTINCT t.customer_id) FROM ({_left()}) t GROUP BY 1 ORDER BY 1",
        [*bounds, *given],
    )
    return [
        Ending(ends[n] if n < len(ends) else None, int(points), people, _worth(int(points), programme))
        for n, points, people in rows
    ]


def _day_of(end: int) -> date:
    """The last usable date before an end in seconds since 1970."""
    return clock.business_date(from_seconds(end - 1))


@dataclass(frozen=True)
class Owed:
    """One customer's share of a month of the calendar."""

    customer_id: int
    points: int
    worth_minor: int


def people_of_month(programme: Programme, day: date, first: date | None, *, limit: int = 100) -> list[Owed]:
    """Whose points end in a month of the calendar, the most first."""
    end = clock.day_end(day)
    where, more = "t.expires_at IS NULL", []
    if first is not None:
        where = "t.expires_at > %s AND t.expires_at <= %s"
        more = [parameter(clock.day_start(first)), parameter(clock.day_start(clock.month(first, 1)))]
    rows = batches.rows(
        f"SELECT t.customer_id, sum(t.points) FROM ({_left()}) t WHERE {where} "
        f"GROUP BY t.customer_id ORDER BY 2 DESC, 1 LIMIT {int(limit)}",
        [*_of_left(programme, end), *more],
    )
    return [Owed(pk, int(points), _worth(int(points), programme)) for pk, points in rows]


# --- By tier ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OwedByTier:
    """What the members of a tier had at the end of a day; ``key`` and ``name`` are empty for those without a tier."""

    key: str
    name: str
    people: int
    points: int
    worth_minor: int


def by_tier(programme: Programme, day: date) -> list[OwedByTier]:
    """Outstanding points at the end of ``day`` by the tier that was held then, the highest first. Together they are
    ``outstanding(…).points``. Empty for a programme that never had tiers."""
    end = parameter(clock.day_end(day))
    rows = {
        key: (people, int(points))
        for key, people, points in batches.rows(
            """
            SELECT a.tier, sum(CASE WHEN a.points > 0 THEN 1 ELSE 0 END), sum(a.points) FROM (
                SELECT s.points, coalesce((
                    SELECT t.to_tier FROM loyalty_tierchange t
                    WHERE t.customer_id = s.customer_id AND t.programme_id = %s AND t.effective_at < %s
                    ORDER BY t.effective_at DESC LIMIT 1), '') AS tier
                FROM (
                    SELECT e.customer_id, sum(p.points) AS points
                    FROM loyalty_entry e JOIN loyalty_posting p ON p.entry_id = e.id
                    WHERE e.programme_id = %s AND e.effective_at < %s AND p.ledger IN ('pending', 'available', 'held')
                    GROUP BY e.customer_id
                ) s
            ) a GROUP BY a.tier
            """,
            [programme.pk, end, programme.pk, end],
        )
    }
    names = dict(programme.tiers.order_by("-threshold").values_list("key", "name"))
    if not names and set(rows) <= {""}:
        return []
    # A tier that is no more stands by its key, after those that are; nobody's tier comes last.
    keys = [*names, *sorted(rows.keys() - names.keys() - {""}), ""]
    return [
        OwedByTier(key, names.get(key, key), *rows.get(key, (0, 0)), _worth(rows.get(key, (0, 0))[1], programme))
        for key in keys
    ]


# --- Breakage ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Breakage:
    """Of the points outstanding at the end of ``day``, how many will end unused. ``None`` where too few lots are over.

    ``people`` and ``points_over`` are what it was learnt from; ``low`` and ``high`` hold with 95 % confidence if customers
    go on as they did. Points without an end, and held ones, never count.
    """

    programme: Programme
    day: date
    people: int
    points_over: int
    share_over: float | None
    points: int | None = None
    low: int | None = None
    high: int | None = None

    @property
    def worth_minor(self) -> int | None:
        return None if self.points is None else _worth(self.points, self.programme)


@dataclass
class _Group:
    """Lots that are over, of one group of customers: points credited, taken by tenth of their life, ended unused."""

    credited: int = 0
    ended: int = 0
    taken: dict[int, int] = field(default_factory=lambda: defaultdict(int))


def _tenth(at: str, lot: str) -> str:
    """SQL: in which tenth of a lot's life a moment lies, from 0 to 9."""
    life = f"({epoch(f'{lot}.expires_at')} - {epoch(f'{lot}.active_at')})"
    share = f"(({at} - {epoch(f'{lot}.active_at')}) * {TENTHS}) / (CASE WHEN {life} > 0 THEN {life} ELSE 1 END)"
    return f"CASE WHEN {share} < 0 THEN 0 WHEN {share} > {TENTHS - 1} THEN {TENTHS - 1} ELSE {share} END"


def breakage(programme: Programme, day: date) -> Breakage:
    """The forecast as of the end of ``day``, learnt from lots that ended in the two years before."""
    end = clock.day_end(day)
    over = (
        "JOIN loyalty_account a ON a.id = l.account_id "
        "WHERE a.programme_id = %s AND l.expires_at >= %s AND l.expires_at < %s AND l.active_at < l.expires_at"
    )
    of_over = [programme.pk, parameter(end - timedelta(days=LOOK_BACK_DAYS)), parameter(end)]
    groups: dict[int, _Group] = defaultdict(_Group)
    people = 0
    for group, credited, members in batches.rows(
        f"SELECT l.customer_id %% {GROUPS}, sum(l.amount), count(DISTINCT l.customer_id) FROM loyalty_lot l {over} GROUP BY 1",
        of_over,
    ):
        groups[group].credited = int(credited)
        people += members
    for group, tenth, is_end, points in batches.rows(
        f"""
        SELECT l.customer_id %% {GROUPS}, {_tenth(epoch("e.effective_at"), "l")},
               CASE WHEN e.kind = 'expire' THEN 1 ELSE 0 END, sum(s.points)
        FROM loyalty_lot l JOIN loyalty_lotspend s ON s.lot_id = l.id JOIN loyalty_entry e ON e.id = s.entry_id {over}
        GROUP BY 1, 2, 3
        """,
        of_over,
    ):
        if is_end:
            groups[group].ended += int(points)
        else:
            groups[group].taken[tenth] += int(points)
    open_now = {
        tenth: int(points)
        for tenth, points in batches.rows(
            f"SELECT {_tenth(str(seconds(end)), 't')}, sum(t.points) "
            f"FROM ({_left()}) t WHERE t.expires_at >= %s GROUP BY 1",
            [*_of_left(programme, end), parameter(end)],
        )
    }
    everybody = list(groups.values())
    credited = sum(one.credited for one in everybody)
    ended = sum(one.ended for one in everybody)
    share = ended / credited if credited else None
    if people < ENOUGH_PEOPLE or len(groups) < GROUPS:
        return Breakage(programme, day, people, credited, share)
    middle = _forecast(everybody, open_now)
    without = [
        _forecast([one for n, one in enumerate(everybody) if n != left_out], open_now) for left_out in range(GROUPS)
    ]
    mean = sum(without) / GROUPS
    reach = STUDENT * sqrt((GROUPS - 1) / GROUPS * sum((one - mean) ** 2 for one in without))
    most = sum(open_now.values())
    if reach == 0.0:  # everybody did the same, so groups cannot tell how sure that is
        reach = most * 3 / people
    return Breakage(
        programme,
        day,
        people,
        credited,
        share,
        points=round(middle),
        low=round(max(0.0, middle - reach)),
        high=round(min(float(most), middle + reach)),
    )


def _forecast(groups: Sequence[_Group], open_now: dict[int, int]) -> float:
    """Points open now times the share that ended unused of those still there at that tenth of their life."""
    ended = sum(one.ended for one in groups)
    there = sum(one.credited for one in groups)
    total = 0.0
    for tenth in range(TENTHS):
        if there > 0:
            total += open_now.get(tenth, 0) * min(1.0, ended / there)
        there -= sum(one.taken.get(tenth, 0) for one in groups)
    return total


# --- By month ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MonthCost:
    """What moved in the month that begins on ``first``, in points, and what was outstanding at its end.

    ``given`` is earned and given by hand; ``redeemed`` is net of redemptions that were given back; ``taken_back`` includes
    points taken by hand. ``cost_minor`` is what the redeemed points were worth, ``owed_minor`` the outstanding ones.
    """

    first: date
    given: int
    redeemed: int
    expired: int
    taken_back: int
    outstanding: int
    cost_minor: int
    owed_minor: int


def months(programme: Programme, day: date, *, count: int = MONTHS) -> list[MonthCost]:
    """The last ``count`` months up to the end of ``day``; the last one is not over unless ``day`` is its last."""
    firsts = [clock.month(day, -back) for back in range(count - 1, -1, -1)]
    end = clock.day_end(day)
    cases = " ".join(f"WHEN e.effective_at < %s THEN {n}" for n in range(len(firsts)))
    found: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for n, ledger, is_down, points in batches.rows(
        f"""
        SELECT CASE {cases} ELSE {len(firsts)} END, p.ledger, CASE WHEN p.points < 0 THEN 1 ELSE 0 END, sum(p.points)
        FROM loyalty_entry e JOIN loyalty_posting p ON p.entry_id = e.id
        WHERE e.programme_id = %s AND e.effective_at < %s
        GROUP BY 1, 2, 3
        """,
        [*[parameter(clock.day_start(one)) for one in firsts], programme.pk, parameter(end)],
    ):
        found[n][ledger] += int(points)
        if ledger == "adjusted":
            found[n]["by hand down" if not is_down else "by hand up"] += int(points)
    told, left = [], _sum_owned(found[0])
    for n, first in enumerate(firsts, start=1):
        sums = found[n]
        left += _sum_owned(sums)
        redeemed = sums["redeemed"]
        told.append(
            MonthCost(
                first=first,
                given=-sums["issued"] - sums["by hand up"],
                redeemed=redeemed,
                expired=sums["expired"],
                taken_back=sums["reversed"] + sums["by hand down"],
                outstanding=left,
                cost_minor=_worth(redeemed, programme),
                owed_minor=_worth(left, programme),
            )
        )
    return told


def _sum_owned(sums: dict[str, int]) -> int:
    return sums["pending"] + sums["available"] + sums["held"]


def report(programme: Programme, day: date) -> dict[str, Any]:
    """All of it for one date: what the page shows and the API answers."""
    return {
        "outstanding": outstanding(programme, day),
        "breakage": breakage(programme, day),
        "calendar": calendar(programme, day),
        "tiers": by_tier(programme, day),
        "months": months(programme, day),
    }

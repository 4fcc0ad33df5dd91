"""Do members buy more than comparable others? An observation, not proof: who joins may differ in ways no table holds.

Those who joined a programme in a window of 90 days are compared with customers who are in it to this day not at all, inside
strata that were alike before anybody of them joined: by recency, frequency and spend before the window, and by whether they
bought during it. Compared is the net spend of the 180 days after the window. The difference in each stratum is weighted by
its members (subclassification: Cochran, "The effectiveness of adjustment by subclassification in removing bias in
observational studies", Biometrics 24, 1968); its 95 % interval comes from the variances within strata.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import sqrt
from typing import Any

from django.db import connection

from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter
from loyalty.models import Programme

WINDOW_DAYS = 90
FOLLOW_DAYS = 180
ENOUGH = 100
ENOUGH_IN_STRATUM = 5


@dataclass(frozen=True)
class Effect:
    """Net spend per customer after joining, members against comparable others, in minor units; and ``…_again``, the share of
    them, from 0 to 1, who bought again at all.

    ``difference_minor`` and its interval are ``None`` unless at least ``ENOUGH`` members and as many others could be
    compared. ``members`` joined between ``joined_from`` and ``joined_to``; ``unmatched`` of them had no counterpart.
    """

    joined_from: date
    joined_to: date
    until: date
    members: int
    others: int
    matched: int = 0
    compared: int = 0
    strata: int = 0
    members_minor: int | None = None
    others_minor: int | None = None
    difference_minor: int | None = None
    low_minor: int | None = None
    high_minor: int | None = None
    members_again: float | None = None
    others_again: float | None = None
    difference_again: float | None = None
    low_again: float | None = None
    high_again: float | None = None

    @property
    def unmatched(self) -> int:
        return self.members - self.matched

    @property
    def is_enough(self) -> bool:
        return self.difference_minor is not None


def effect(programme: Programme, day: date) -> Effect:
    """The comparison whose 180 days of watching end with ``day``."""
    end = clock.day_end(day)
    start = end - timedelta(days=FOLLOW_DAYS)
    opened = start - timedelta(days=WINDOW_DAYS)
    rows = _strata(programme, opened, start, end)
    found = Effect(
        joined_from=clock.business_date(opened),
        joined_to=clock.business_date(start - timedelta(seconds=1)),
        until=day,
        members=sum(row["members"] for row in rows),
        others=sum(row["others"] for row in rows),
    )
    both = [row for row in rows if min(row["members"], row["others"]) >= ENOUGH_IN_STRATUM]
    matched, compared = sum(row["members"] for row in both), sum(row["others"] for row in both)
    told: dict[str, Any] = {"matched": matched, "compared": compared, "strata": len(both)}
    if min(matched, compared) >= ENOUGH:
        spend = _compared(both, matched, "sum", "squares")
        told |= {f"{name}_minor": round(value) for name, value in spend.items()}
        # Of ones and zeros, the squares are the ones.
        told |= {f"{name}_again": value for name, value in _compared(both, matched, "again", "again").items()}
    return Effect(**{**found.__dict__, **told})


def _compared(strata: list[dict[str, Any]], matched: int, sums: str, squares: str) -> dict[str, float]:
    """Both means, weighted by the members of each stratum, their difference and its 95 % interval."""
    mean_in = mean_out = variance = 0.0
    for row in strata:
        weight = row["members"] / matched
        mean_in += weight * row[f"in_{sums}"] / row["members"]
        mean_out += weight * row[f"out_{sums}"] / row["others"]
        variance += weight**2 * (
            _spread(row["members"], row[f"in_{sums}"], row[f"in_{squares}"]) / row["members"]
            + _spread(row["others"], row[f"out_{sums}"], row[f"out_{squares}"]) / row["others"]
        )
    gap, reach = mean_in - mean_out, 1.96 * sqrt(variance)
    return {"members": mean_in, "others": mean_out, "difference": gap, "low": gap - reach, "high": gap + reach}


def _spread(n: int, total: float, squares: float) -> float:
    """The sample variance."""
    return max(0.0, (squares - total * total / n) / (n - 1))


_JOINED = """
    SELECT customer_id, min(at) AS at FROM (
        SELECT customer_id, effective_at AS at FROM loyalty_entry WHERE programme_id = %s AND kind IN ('earn', 'adjust')
        UNION ALL SELECT customer_id, joined_at FROM loyalty_membership WHERE programme_id = %s
    ) j GROUP BY customer_id
"""


def _strata(programme: Programme, opened: datetime, start: datetime, end: datetime) -> list[dict[str, Any]]:
    counted = "is_counted" if connection.vendor == "postgresql" else "is_counted = 1"
    real = "double precision" if connection.vendor == "postgresql" else "real"
    at_opened, at_start, at_end = parameter(opened), parameter(start), parameter(end)
    person = f"""
        SELECT c.id, CASE WHEN j.at IS NULL THEN 0 ELSE 1 END AS is_in, coalesce(o.n, 0) AS n, o.last_at,
               coalesce(o.spend, 0) AS spend, coalesce(o.meanwhile, 0) AS meanwhile,
               CAST(coalesce(o.after, 0) AS {real}) AS y, CAST(coalesce(o.again, 0) AS {real}) AS again
        FROM customers_customer c
        LEFT JOIN ({_JOINED}) j ON j.customer_id = c.id
        LEFT JOIN (
            SELECT customer_id, sum(CASE WHEN placed_at < %s THEN 1 ELSE 0 END) AS n,
                   max(CASE WHEN placed_at < %s THEN placed_at END) AS last_at,
                   sum(CASE WHEN placed_at < %s THEN base_minor ELSE 0 END) AS spend,
                   max(CASE WHEN placed_at >= %s AND placed_at < %s THEN 1 ELSE 0 END) AS meanwhile,
                   sum(CASE WHEN placed_at >= %s THEN base_minor ELSE 0 END) AS after,
                   max(CASE WHEN placed_at >= %s THEN 1 ELSE 0 END) AS again
            FROM customers_order WHERE {counted} AND placed_at < %s GROUP BY customer_id
        ) o ON o.customer_id = c.id
        WHERE c.known_since < %s AND (j.at IS NULL OR (j.at >= %s AND j.at < %s))
    """
    given = [
        programme.pk, programme.pk, at_opened, at_opened, at_opened, at_opened, at_start, at_start, at_start, at_end,
        at_opened, at_opened, at_start,
    ]  # fmt: skip
    low, high = _cuts(person, given)
    recent, year = parameter(opened - timedelta(days=90)), parameter(opened - timedelta(days=365))
    rows = batches.rows(
        f"""
        SELECT CASE WHEN n < 2 THEN n WHEN n < 4 THEN 2 ELSE 4 END,
               CASE WHEN n = 0 THEN 0 WHEN last_at >= %s THEN 1 WHEN last_at >= %s THEN 2 ELSE 3 END,
               CASE WHEN spend <= %s THEN 0 WHEN spend <= %s THEN 1 ELSE 2 END, meanwhile,
               sum(is_in), sum(1 - is_in), sum(is_in * y), sum((1 - is_in) * y), sum(is_in * y * y),
               sum((1 - is_in) * y * y), sum(is_in * again), sum((1 - is_in) * again)
        FROM ({person}) p GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        """,
        [recent, year, low, high, *given],
    )
    names = ("members", "others", "in_sum", "out_sum", "in_squares", "out_squares", "in_again", "out_again")
    return [dict(zip(names, row[4:], strict=True)) for row in rows]


def _cuts(person: str, given: list[Any]) -> tuple[int, int]:
    """The spend that a third and two thirds of those who had bought stay below."""
    [(buyers,)] = batches.rows(f"SELECT count(*) FROM ({person}) p WHERE n > 0", given)
    if not buyers:
        return 0, 0
    sorted_ = f"SELECT spend FROM ({person}) p WHERE n > 0 ORDER BY spend, id LIMIT 1 OFFSET %s"
    return tuple(int(batches.rows(sorted_, [*given, buyers * part // 3])[0][0]) for part in (1, 2))  # type: ignore[return-value]

"""What works for whom: of the people we wrote to, who ordered, by channel, age and the stage they stood in.

Counted is a person, once for each campaign, from the first message that a run of the period planned for them, whatever
became of it; only those whose days of credit are over, so everybody had their whole time. The share alone says who
orders anyway, too: what the message did is the difference to those of the same campaign whom chance held out. Campaigns
are compared each within itself and then put together with Mantel's and Haenszel's weights, since they hold out different
shares of different people; the interval puts Newcombe's of each together (MOVER, Zou and Donner, "Construction of
confidence limits about effect measures", Statistics in Medicine 27, 2008). It is 95 % for one cell: of twenty cells
without any effect, one looks clear.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from math import sqrt

from django.core.cache import cache
from redis import RedisError

from campaigns import gate
from campaigns.models import Channel, Purpose, Run
from campaigns.uplift import ENOUGH
from customers.facts import bool_literal
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.intervals import newcombe
from lifecycle_crm.lib.moments import DAY, epoch, parameter, seconds
from stages.models import StageKey

PERIODS = (90, 180, 365)
"""Days back that can be asked for."""
AGES = (25, 35, 45, 55, 65)
"""Where a group of ages ends and the next begins."""
ALL, UNKNOWN = "all", "unknown"
"""Every age or stage together; people of whom it is not known."""
AGE_KEYS = (
    f"-{AGES[0] - 1}",
    *(f"{low}-{high - 1}" for low, high in pairwise(AGES)),
    f"{AGES[-1]}-",
    UNKNOWN,
)
STAGE_KEYS = (*StageKey.values, UNKNOWN)

KEPT_SECONDS = 600
logger = logging.getLogger(__name__)

Place = tuple[str, str, str]
"""Channel, age and stage."""


@dataclass(frozen=True, slots=True)
class Counts:
    """People of one campaign in one place: who was to get it and who was held out, with how many of each ordered."""

    people: int = 0
    sent: int = 0
    ordered: int = 0
    held_out: int = 0
    held_out_ordered: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.people + other.people,
            self.sent + other.sent,
            self.ordered + other.ordered,
            self.held_out + other.held_out,
            self.held_out_ordered + other.held_out_ordered,
        )


@dataclass(frozen=True, slots=True)
class Cell:
    """One place. ``share``: of the people meant, who ordered; ``None`` below 100 of them.

    ``gap``, ``low`` and ``high``: how much larger it is than among those held out of the same campaigns, as shares, with its
    95 % interval; ``None`` with fewer than 100 people on either side of the campaigns that hold somebody out.
    """

    channel: str
    age: str
    stage: str
    people: int
    sent: int
    ordered: int
    held_out: int
    share: float | None
    gap: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def is_clear(self) -> bool:
        """Chance alone does not explain the difference."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True)
class Table:
    """Messages planned by runs that began on ``since`` to ``until``, both included, as counted at ``as_of``."""

    since: date
    until: date
    as_of: datetime
    cells: Mapping[Place, Cell]

    @property
    def channels(self) -> list[str]:
        return [one for one in Channel.values if (one, ALL, ALL) in self.cells]


def recent(*, days: int) -> Table:
    """The table as it was counted at most ten minutes ago: a million messages take some ten seconds."""
    name = f"whom:{days}:{clock.today()}"
    try:
        found: Table | None = cache.get(name)
        if found is None:
            found = table(days=days)
            cache.set(name, found, KEPT_SECONDS)
    except (OSError, RedisError):
        logger.warning("The cache does not answer, so what works for whom is counted anew", exc_info=True)
        found = table(days=days)
    return found


def table(*, days: int, as_of: datetime | None = None) -> Table:
    """Every place with somebody in it, and each with all ages, all stages, and both."""
    moment = as_of or clock.now()
    until = clock.business_date(moment)
    since = until - timedelta(days=days)
    places: dict[Place, dict[int, Counts]] = defaultdict(lambda: defaultdict(Counts))
    for campaign, channel, age, stage, counts in _counted(since, until, moment):
        for a in (age, ALL):
            for s in (stage, ALL):
                of = places[channel, a, s]
                of[campaign] = of[campaign] + counts
    return Table(since, until, moment, {place: _cell(place, of.values()) for place, of in places.items()})


def _cell(place: Place, campaigns: Iterable[Counts]) -> Cell:
    each = list(campaigns)
    together = sum(each, Counts())
    share = together.ordered / together.people if together.people >= ENOUGH else None
    compared = [one for one in each if one.people and one.held_out]
    both = sum(compared, Counts())
    gap = low = high = None
    if min(both.people, both.held_out) >= ENOUGH:
        gap, low, high = difference(compared)
    return Cell(
        *place, together.people, together.sent, together.ordered, together.held_out, share, gap, low, high
    )  # fmt: skip


def difference(campaigns: Iterable[Counts]) -> tuple[float, float, float]:
    """Of the share who ordered among those meant less that among those held out, with its 95 % interval. In each campaign
    there is somebody of both."""
    gap = below = above = weights = 0.0
    for one in campaigns:
        weight = one.people * one.held_out / (one.people + one.held_out)
        own = one.ordered / one.people - one.held_out_ordered / one.held_out
        low, high = newcombe(one.ordered, one.people, one.held_out_ordered, one.held_out)
        gap += weight * own
        below += (weight * (own - low)) ** 2
        above += (weight * (high - own)) ** 2
        weights += weight
    gap /= weights
    return gap, gap - sqrt(below) / weights, gap + sqrt(above) / weights


def _counted(since: date, until: date, moment: datetime) -> Iterable[tuple[int, str, str, str, Counts]]:
    """Campaign, channel, age on the last day, stage when the message was planned, and the counts."""
    born = [_years_before(until, years).isoformat() for years in AGES]
    ages = " ".join(f"WHEN u.birth_date > %s THEN '{key}'" for key in AGE_KEYS[: len(AGES)])
    placed, planned = epoch("o.placed_at"), epoch("m.created_at")
    rows = batches.rows(
        f"""
        SELECT campaign_id, channel, age, stage, is_out, count(*), sum(sent), sum(ordered) FROM (
            SELECT c.id AS campaign_id, m.channel, CASE WHEN m.state = 'held_out' THEN 1 ELSE 0 END AS is_out,
                CASE WHEN m.state = 'sent' THEN 1 ELSE 0 END AS sent,
                CASE WHEN u.birth_date IS NULL THEN '{UNKNOWN}' {ages} ELSE '{AGE_KEYS[-2]}' END AS age,
                coalesce((SELECT t.to_stage FROM stages_stagetransition t
                    WHERE t.customer_id = m.customer_id AND t.occurred_at <= m.created_at
                    ORDER BY t.id DESC LIMIT 1), '{UNKNOWN}') AS stage,
                CASE WHEN EXISTS (SELECT 1 FROM customers_order o WHERE o.customer_id = m.customer_id
                    AND o.is_counted = {bool_literal(True)} AND {placed} >= {planned}
                    AND {placed} < {planned} + c.credit_days * {DAY}) THEN 1 ELSE 0 END AS ordered
            FROM (
                SELECT r.campaign_id, min(m.id) AS id FROM campaigns_run r JOIN campaigns_message m ON m.run_id = r.id
                WHERE r.created_at >= %s AND r.created_at < %s AND r.state <> '{Run.State.CANCELLED.value}'
                    AND NOT (m.state = 'skipped' AND m.reason IN {gate.NEVER_MEANT})
                GROUP BY r.campaign_id, m.customer_id, m.channel
            ) f
            JOIN campaigns_message m ON m.id = f.id JOIN campaigns_campaign c ON c.id = f.campaign_id
            JOIN customers_customer u ON u.id = m.customer_id
            WHERE c.purpose = %s AND {planned} + c.credit_days * {DAY} <= {seconds(moment)}
        ) p GROUP BY campaign_id, channel, age, stage, is_out
        """,
        [*born, parameter(clock.day_start(since)), parameter(clock.day_end(until)), Purpose.MARKETING.value],
    )
    for campaign, channel, age, stage, is_out, n, messages, ordered in rows:
        n, messages, ordered = int(n), int(messages), int(ordered)
        counts = Counts(held_out=n, held_out_ordered=ordered) if is_out else Counts(n, messages, ordered)
        yield campaign, channel, age, stage, counts


def _years_before(day: date, years: int) -> date:
    """Whoever was born later is younger than that."""
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # 29 February, of a year that has none
        return day.replace(year=day.year - years, day=28)

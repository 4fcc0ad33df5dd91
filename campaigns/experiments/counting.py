"""Who did what in the days after their message, per version: one statement, people and not messages.

A person counts from the first message that was planned for them, whatever became of it (intention to treat): chance gave
out versions, not deliveries. Only those whose days are over count, so everybody had the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from campaigns import gate
from campaigns.experiments.chances import Amounts
from campaigns.models import Campaign, Experiment, ExperimentVersion
from customers.facts import bool_literal
from lifecycle_crm.lib import batches
from lifecycle_crm.lib.moments import DAY, epoch, from_seconds, parameter, seconds

LOOKS_BACK = timedelta(days=180)
"""How far back a campaign is asked what happens today."""
ENOUGH = 100
"""Fewer people say nothing about today."""
PACE_DAYS = 28


@dataclass(frozen=True, slots=True)
class Standing:
    """How a version stands: the columns of ``ExperimentDay``, and when its first person came."""

    label: str
    share: int
    joined: int = 0
    people: int = 0
    clicked: int = 0
    ordered: int = 0
    spent_minor: int = 0
    spent_squares: float = 0.0
    unsubscribed: int = 0
    complained: int = 0
    failed: int = 0
    first: datetime | None = None

    def hits(self, measure: str) -> int:
        """Who did what is measured; for revenue who ordered."""
        return self.clicked if measure == Experiment.Measure.CLICK else self.ordered


def _people(part: str, mine: str, campaign: Campaign, window: int, as_of: datetime) -> tuple[str, list[Any]]:
    """SELECT of ``part, since, is_over, clicked, ordered, spent, unsubscribed, complained, failed`` per person; ``mine`` is SQL
    that chooses messages ``m``."""
    now = seconds(as_of)
    until = f"e.since + {window * DAY}"

    def within(column: str) -> str:
        return f"{epoch(column)} >= e.since AND {epoch(column)} < {until}"

    orders = (
        "FROM customers_order o WHERE o.customer_id = e.customer_id "
        f"AND o.is_counted = {bool_literal(True)} AND {within('o.placed_at')}"
    )
    theirs = f"campaigns_message m WHERE m.customer_id = e.customer_id AND {mine}"
    return (
        f"""
        SELECT e.part, e.since, CASE WHEN {until} <= {now} THEN 1 ELSE 0 END AS is_over,
            CASE WHEN EXISTS (SELECT 1 FROM campaigns_visit v WHERE v.kind = 'human' AND v.link_id IS NOT NULL
                AND {within("v.occurred_at")} AND v.message_id IN (SELECT m.id FROM {theirs})) THEN 1 ELSE 0 END AS clicked,
            CASE WHEN EXISTS (SELECT 1 {orders}) THEN 1 ELSE 0 END AS ordered,
            coalesce((SELECT sum(o.base_minor) {orders}), 0) AS spent,
            CASE WHEN EXISTS (SELECT 1 FROM customers_consent n WHERE n.customer_id = e.customer_id AND n.purpose = %s
                AND n.channel = %s AND NOT n.is_granted AND {within("n.occurred_at")}) THEN 1 ELSE 0 END AS unsubscribed,
            CASE WHEN EXISTS (SELECT 1 FROM campaigns_deliveryevent d WHERE d.kind = 'complaint'
                AND {within("d.occurred_at")} AND d.message_id IN (SELECT m.id FROM {theirs})) THEN 1 ELSE 0 END AS complained,
            CASE WHEN EXISTS (SELECT 1 FROM {theirs} AND m.state = 'failed' AND m.reason = 'render')
                THEN 1 ELSE 0 END AS failed
        FROM (
            SELECT {part} AS part, m.customer_id, min({epoch("m.created_at")}) AS since FROM campaigns_message m
            WHERE {mine} AND m.created_at < %s GROUP BY 1, 2
        ) e
        """,
        [campaign.purpose, campaign.channel, parameter(as_of)],
    )


def _of(versions: Sequence[ExperimentVersion]) -> str:
    """Their messages; a run that was called off counts for no version, whomever it had reached."""
    ids = ", ".join(str(one.pk) for one in versions) or "NULL"
    return (
        f"m.version_id IN ({ids}) AND EXISTS "
        "(SELECT 1 FROM campaigns_run r WHERE r.id = m.run_id AND r.state <> 'cancelled')"
    )


def count(experiment: Experiment, as_of: datetime) -> list[Standing]:
    """Every version at this instant, in order."""
    versions = list(experiment.versions.order_by("label"))
    people, params = _people("m.version_id", _of(versions), experiment.campaign, experiment.window_days, as_of)
    rows = batches.rows(
        f"""
        SELECT part, count(*), sum(is_over), sum(is_over * clicked), sum(is_over * ordered), sum(is_over * spent),
               sum(is_over * 1.0 * spent * spent), sum(is_over * unsubscribed), sum(is_over * complained),
               sum(is_over * failed), min(since)
        FROM ({people}) g GROUP BY part
        """,
        params,
    )
    found = {part: rest for part, *rest in rows}
    answer = []
    for one in versions:
        if (row := found.get(one.pk)) is None:
            answer.append(Standing(one.label, one.share))
            continue
        joined, over, clicked, ordered, spent, squares, unsubscribed, complained, failed, first = row
        answer.append(
            Standing(one.label, one.share, int(joined), int(over), int(clicked), int(ordered), int(spent),
                     float(squares), int(unsubscribed), int(complained), int(failed), from_seconds(first))
        )  # fmt: skip
    return answer


def amounts(experiment: Experiment, as_of: datetime) -> list[Amounts]:
    """What people of each version spent, in minor units, with how many spent just that."""
    versions = list(experiment.versions.order_by("label"))
    people, params = _people("m.version_id", _of(versions), experiment.campaign, experiment.window_days, as_of)
    rows = batches.rows(
        f"SELECT part, spent, count(*) FROM ({people}) g WHERE is_over = 1 GROUP BY part, spent ORDER BY part, spent",
        params,
    )
    return [[(float(spent), int(n)) for part, spent, n in rows if part == one.pk] for one in versions]


# --- What happens today -----------------------------------------------------------------------------------------------


def _meant(campaign: Campaign) -> str:
    return (
        f"m.run_id IN (SELECT r.id FROM campaigns_run r WHERE r.campaign_id = {campaign.pk} AND r.state <> 'cancelled') "
        f"AND m.state <> 'held_out' AND NOT (m.state = 'skipped' AND m.reason IN {gate.NEVER_MEANT})"
    )


@dataclass(frozen=True, slots=True)
class Today:
    """What a campaign's people do within the days counted: ``people`` whose days are over, shares of them, and the mean and
    standard deviation of what one spends."""

    people: int
    clicked: float
    ordered: float
    mean_minor: float
    sd_minor: float

    @property
    def is_enough(self) -> bool:
        return self.people >= ENOUGH


def today(campaign: Campaign, window_days: int, as_of: datetime) -> Today:
    """From the messages of the last 180 days; the first of each person."""
    mine = f"{_meant(campaign)} AND {epoch('m.created_at')} >= {seconds(as_of - LOOKS_BACK)}"
    people, params = _people("0", mine, campaign, window_days, as_of)
    [(n, clicked, ordered, spent, squares)] = batches.rows(
        "SELECT count(*), coalesce(sum(clicked), 0), coalesce(sum(ordered), 0), coalesce(sum(spent), 0), "
        f"coalesce(sum(1.0 * spent * spent), 0) FROM ({people}) g WHERE is_over = 1",
        params,
    )
    n = int(n)
    mean = float(spent) / n if n else 0.0
    variance = max(0.0, (float(squares) - n * mean * mean) / (n - 1)) if n > 1 else 0.0
    return Today(n, clicked / n if n else 0.0, ordered / n if n else 0.0, mean, variance**0.5)


def pace(campaign: Campaign, as_of: datetime) -> float:
    """People a day to whom the campaign spoke in the last four weeks, each counted once."""
    since = parameter(as_of - timedelta(days=PACE_DAYS))
    [(people, first)] = batches.rows(
        f"SELECT count(DISTINCT m.customer_id), min({epoch('m.created_at')}) FROM campaigns_message m "
        f"WHERE {_meant(campaign)} AND m.created_at >= %s",
        [since],
    )
    if not people:
        return 0.0
    return float(people) / max(1.0, min(PACE_DAYS, (seconds(as_of) - first) / DAY))

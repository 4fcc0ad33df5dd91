"""What the scores amount to: NPS with its uncertainty, and each customer's last word for their facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import sqrt

from customers.sources import WHOSE, Source
from feedback.models import DETRACTOR_MAX, PROMOTER_MIN, Kind
from lifecycle_crm.lib.intervals import Z
from lifecycle_crm.lib.moments import epoch, parameter

ENOUGH = 50
"""Fewer answers than this say little: at 50 the interval is still about twenty points to either side."""

METHOD = "Wald interval of a difference of two multinomial shares, 95 % (Rocks 2016)"


@dataclass(frozen=True)
class Nps:
    """Net Promoter Score of one set of answers, in points from −100 to 100.

    ``value``, ``margin``, ``low`` and ``high`` are ``None`` without answers. ``margin`` is half the width of the 95 %
    interval before its ends are cut at ±100. ``is_enough`` is False below ``ENOUGH`` answers: then show the count, not
    the value.
    """

    n: int
    promoters: int
    passives: int
    detractors: int
    value: float | None
    margin: float | None
    low: float | None
    high: float | None
    is_enough: bool
    needed: int = ENOUGH
    method: str = METHOD

    def share(self, group: int) -> float:
        return group / self.n if self.n else 0.0

    @property
    def promoter_share(self) -> float:
        return self.share(self.promoters)

    @property
    def passive_share(self) -> float:
        return self.share(self.passives)

    @property
    def detractor_share(self) -> float:
        return self.share(self.detractors)


def nps(counts: Mapping[int, int]) -> Nps:
    """NPS = % promoters (9–10) − % detractors (0–6), from the number of answers per score 0–10.

    The interval is the normal approximation for a difference of two shares of one multinomial sample, with variance
    (p + d − (p − d)²) / n: B. Rocks, "Interval Estimation for the Net Promoter Score", The American Statistician 70(4),
    2016, there "Wald". Where all answers fall in one group that variance is zero and would claim certainty; then, and
    only then, the margin is that of the sample with half an answer added to each group.
    """
    low, high = 0, 10
    wrong = [score for score, count in counts.items() if not low <= score <= high or count < 0]
    if wrong:
        raise ValueError(f"Not on the scale of NPS, or counted below zero: {sorted(wrong)}.")
    promoters = sum(count for score, count in counts.items() if score >= PROMOTER_MIN)
    detractors = sum(count for score, count in counts.items() if score <= DETRACTOR_MAX)
    n = sum(counts.values())
    passives = n - promoters - detractors
    if n == 0:
        return Nps(0, 0, 0, 0, None, None, None, None, is_enough=False)
    value = 100 * (promoters - detractors) / n
    margin = _margin(promoters, detractors, n)
    if margin == 0:
        margin = _margin(promoters + 0.5, detractors + 0.5, n + 1.5)
    return Nps(
        n=n,
        promoters=promoters,
        passives=passives,
        detractors=detractors,
        value=value,
        margin=margin,
        low=max(-100.0, value - margin),
        high=min(100.0, value + margin),
        is_enough=n >= ENOUGH,
    )


def _margin(promoters: float, detractors: float, n: float) -> float:
    p, d = promoters / n, detractors / n
    return 100 * Z * sqrt(max(0.0, p + d - (p - d) ** 2) / n)


def numbers(as_of: datetime) -> list[Source]:
    """A customer's last NPS score, its moment and the number of cases then open, on their way into the facts.

    Read from the append-only rows, so a past ``as_of`` sees neither a later change of an answer nor a later move of a
    case.
    """
    moment = parameter(as_of)
    return [
        Source(
            {"nps_score": "{score}", "answered_at": "{answered}"},
            {"score": "a.score", "answered": epoch("a.answered_at")},
            rows=f"feedback_answer a WHERE {WHOSE} AND a.kind = '{Kind.NPS.value}' AND a.answered_at < %s",
            key="a.customer_id",
            params=[moment],
            first_by="a.answered_at DESC, a.id DESC",
        ),
        Source(
            {"open_cases": "coalesce({waiting}, 0)"},
            {"waiting": "count(*)"},
            rows=f"""feedback_casenote n
            WHERE {WHOSE} AND n.state IN ('open', 'answered') AND n.created_at < %s
              AND NOT EXISTS (
                  SELECT 1 FROM feedback_casenote later
                  WHERE later.case_id = n.case_id AND later.state <> '' AND later.created_at < %s AND later.id > n.id
              )""",
            key="n.customer_id",
            params=[moment, moment],
        ),
    ]

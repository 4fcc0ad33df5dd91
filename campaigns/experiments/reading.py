"""Reads of experiments that the pages and the endpoints share, from what the nights kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from math import ceil

from django.db.models import QuerySet

from campaigns.experiments.deciding import AT_LEAST
from campaigns.models import Experiment, ExperimentDay


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an experiment is: ``people`` whose days are over and ``joined`` in the smallest version, ``whole`` of both in all
    versions, the share of the plan that is there (at most 1), and about when the verdict comes; ``None`` when nobody came."""

    people: int = 0
    joined: int = 0
    whole: int = 0
    share: float = 0.0
    ready: date | None = None


def experiments() -> QuerySet[Experiment]:
    """Every experiment with what a row of a list shows, the newest first."""
    return Experiment.objects.select_related(
        "campaign", "verdict__winner", "chosen", "created_by", "started_by", "ended_by"
    ).order_by("-id")


def days_of(experiments: Iterable[int]) -> dict[int, list[ExperimentDay]]:
    """What the nights kept, by experiment, oldest first, in one query."""
    found: dict[int, list[ExperimentDay]] = defaultdict(list)
    rows = ExperimentDay.objects.filter(version__experiment__in=list(experiments)).select_related("version")
    for row in rows.order_by("business_date", "version__label"):
        found[row.version.experiment_id].append(row)
    return found


def latest(days: list[ExperimentDay]) -> list[ExperimentDay]:
    """The versions as they stood in the last night that counted them."""
    return [row for row in days if row.business_date == days[-1].business_date]


def progress(experiment: Experiment, days: list[ExperimentDay]) -> Progress:
    """Where it stands, and when the planned number is there if people go on coming as they did."""
    if not days or not experiment.needed:
        return Progress()
    last = latest(days)
    people, joined = min(row.people for row in last), min(row.joined for row in last)
    whole = sum(row.people for row in last)
    share = min(1.0, people / experiment.needed)
    came = sorted({row.business_date for row in days if row.joined})
    if not came:
        return Progress(people, joined, whole, share)
    today, window = last[0].business_date, timedelta(days=experiment.window_days)
    if joined >= experiment.needed:
        full = min(
            day for day in came if min(row.joined for row in days if row.business_date == day) >= experiment.needed
        )
    else:
        pace = joined / ((today - came[0]).days + 1)
        if not pace:
            return Progress(people, joined, whole, share)
        full = today + timedelta(days=ceil((experiment.needed - joined) / pace))
    ready = max(full + window, came[0] + AT_LEAST, today + timedelta(days=1))
    return Progress(people, joined, whole, share, ready)

"""What the night keeps of experiments: a row per version and day, and the verdict on the day it is due."""

from __future__ import annotations

from datetime import date, datetime

from campaigns.experiments import counting, deciding
from campaigns.models import Experiment, ExperimentDay, ExperimentVerdict

_KEPT = (
    "joined", "people", "clicked", "ordered", "spent_minor", "spent_squares", "unsubscribed", "complained", "failed",
)  # fmt: skip


def note_day(*, business_date: date, as_of: datetime) -> dict[str, int]:
    """Count every experiment that runs, and give the verdict where it is due. Safe to repeat: a day is written over, and a
    verdict that was given stays as it is."""
    told = {"experiments_counted": 0, "verdicts": 0}
    running = Experiment.objects.filter(state=Experiment.State.RUNNING, started_at__lt=as_of)
    for experiment in running.select_related("campaign", "verdict").order_by("pk"):
        standings = counting.count(experiment, as_of)
        versions = {one.label: one for one in experiment.versions.all()}
        ExperimentDay.objects.bulk_create(
            [
                ExperimentDay(
                    version=versions[one.label],
                    business_date=business_date,
                    **{name: getattr(one, name) for name in _KEPT},
                )
                for one in standings
            ],
            update_conflicts=True,
            unique_fields=["version", "business_date"],
            update_fields=list(_KEPT),
        )
        told["experiments_counted"] += 1
        if not hasattr(experiment, "verdict") and deciding.is_due(standings, experiment.needed, as_of):
            found = deciding.look(
                standings,
                measure=experiment.measure,
                amounts=counting.amounts(experiment, as_of) if experiment.is_money else None,
                seed=experiment.pk,
            )
            winner = None if found.winner is None else versions[standings[found.winner].label]
            ExperimentVerdict.objects.bulk_create(
                [
                    ExperimentVerdict(
                        experiment=experiment,
                        business_date=business_date,
                        kind=found.kind,
                        winner=winner,
                        is_yellow=found.is_yellow,
                        numbers=found.numbers,
                    )
                ],
                ignore_conflicts=True,
            )
            told["verdicts"] += 1
    return {name: n for name, n in told.items() if n}

"""An experiment meets the night: it counts, judges once, and a second run of the date changes nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine

from campaigns import audit
from campaigns.models import ExperimentDay, ExperimentVerdict
from lifecycle_crm import night
from lifecycle_crm.lib import clock
from tests.campaigns.experiment_factories import of_version, press, started
from tests.campaigns.factories import people, planned

pytestmark = pytest.mark.django_db


def test_the_night_gives_the_verdict_once():
    last = clock.last_complete_day()
    with time_machine.travel(clock.day_end(last) - timedelta(days=8), tick=False):
        experiment = started()
        planned(people(120), experiment.campaign, start=False)
    press(of_version(experiment, "B")[:40])
    ran = night.run(last)
    assert (ran.state, ran.counts["verdicts"], ran.counts["experiments_counted"]) == ("done", 1, 1)
    verdict = ExperimentVerdict.objects.get()
    assert (verdict.business_date, verdict.winner.label) == (last, "B")
    assert ExperimentDay.objects.filter(business_date=last).count() == 2
    assert night.run(last).pk == ran.pk
    assert ExperimentVerdict.objects.count() == 1
    assert audit.problems() == []

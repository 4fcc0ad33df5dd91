"""Which version of a message chance gives whom: by number, in the shares that were set, the same for ever."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from math import sqrt
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from campaigns import gate, outbox, planning
from campaigns.models import Campaign, Experiment, ExperimentVersion, Message, Template
from lifecycle_crm.lib import batches, clock
from tests.campaigns.factories import CampaignFactory, VariantFactory, people, person, planned

IDS = range(1, 100_001)


def chi_square(seen: Counter[Any], expected: dict[Any, float]) -> float:
    return sum((seen[one] - n) ** 2 / n for one, n in expected.items())


def running(campaign: Campaign, *versions: dict[str, Any], key: str = "subject") -> Experiment:
    """An experiment that runs, written as its verb writes it; a version says the campaign's text unless it names one."""
    made = Experiment.objects.create(
        key=key, name="Subject", campaign=campaign, state="running", started_at=clock.now(), needed=100
    )
    for label, values in zip("ABCD", versions, strict=False):
        template = values.get("template", campaign.template)
        texts = dict(template.variants.values_list("language", "pk"))
        ExperimentVersion.objects.create(
            experiment=made, label=label, **{"template": template, "variants": texts, "share": 50, **values}
        )
    return made


def text(subject: str, words: str = "Hello") -> Template:
    made: Template = VariantFactory(subject=subject, blocks=[{"type": "text", "text": words}]).template
    return made


@pytest.mark.parametrize("shares", [(50, 50), (90, 10), (40, 30, 20, 10)])
def test_it_keeps_the_shares_over_a_hundred_thousand_customers(shares):
    seen = Counter(planning.version_for("spring", shares, pk) for pk in IDS)
    expected = {number: share * len(IDS) / 100 for number, share in enumerate(shares)}
    assert chi_square(seen, expected) < 16.27  # p = 0.001 at three degrees of freedom, more than at one


def test_two_experiments_and_the_holdout_know_nothing_of_each_other():
    campaign = Campaign(pk=7)
    ways = {
        "one": [planning.version_for("spring", (50, 50), pk) for pk in IDS],
        "other": [planning.version_for("summer", (50, 50), pk) for pk in IDS],
        "holdout": [int(planning.holdout_bucket(campaign, pk) < 1000) for pk in IDS],
    }
    for left, right in (("one", "other"), ("one", "holdout")):
        a, b = ways[left], ways[right]
        share_a, share_b = sum(a) / len(a), sum(b) / len(b)
        both = sum(x * y for x, y in zip(a, b, strict=True)) / len(a) - share_a * share_b
        correlation = both / sqrt(share_a * (1 - share_a) * share_b * (1 - share_b))
        assert abs(correlation) < 3.3 / sqrt(len(a)), (left, right)  # p = 0.001


@pytest.mark.django_db
@pytest.mark.usefixtures("noon")
class TestPlanned:
    def test_the_database_says_what_python_says(self):
        campaign = CampaignFactory()
        made = running(campaign, {"share": 40}, {"share": 35, "hour": 9}, {"share": 25, "is_general": True})
        labels = dict(made.versions.values_list("pk", "label"))
        ids = ", ".join(f"({pk})" for pk in [*range(1, 3000), 2**31 + 5, 2**40 + 1])
        sql = planning.version_sql(planning.versions_of(campaign), "v.column1")
        found = batches.rows(f"SELECT v.column1, {sql} FROM (VALUES {ids}) AS v WHERE 0 <> %s", [1])
        assert len(found) == 3001
        assert all(labels[pk] == "ABC"[planning.version_for("subject", (40, 35, 25), who)] for who, pk in found)

    def test_the_queued_get_a_version_that_never_changes_and_the_held_out_none(self):
        campaign = CampaignFactory(holdout_percent=20)
        made = running(campaign, {}, {"template": text("Other")})
        everybody = people(200)
        nobody = person(agrees=None)
        run = planned([*everybody, nobody], campaign)
        again = planned(everybody, campaign, key="test:2")
        first, second = (
            dict(Message.objects.filter(run=one, state="queued").values_list("customer_id", "version__label"))
            for one in (run, again)
        )
        assert first == second
        assert first == {pk: "AB"[planning.version_for("subject", (50, 50), pk)] for pk in first}
        rest = Message.objects.filter(run=run).exclude(state="queued")
        assert set(rest.values_list("state", "version")) == {("held_out", None), ("skipped", None)}
        # Over, chance decides no more.
        made.state = "ended"
        made.save()
        last = planned(everybody, campaign, key="test:3")
        assert set(last.messages.values_list("version", flat=True)) == {None}

    def test_each_is_sent_the_words_of_its_version_as_they_were_at_the_start(self, smtp):
        campaign = CampaignFactory(template=text("Plain", "Hi {{ customer.given_name | default: 'friend' }}"))
        made = running(campaign, {}, {"template": text("Bold")}, key="words")
        VariantFactory(template=made.versions.get(label="B").template, version=2, subject="Edited meanwhile")
        everybody = people(12)
        planned(everybody, campaign)
        assert outbox.send_due()["sent"] == 12
        subjects = dict(Message.objects.values_list("customer_id", "rendering__subject"))
        assert subjects == {
            one.pk: ("Plain", "Bold")[planning.version_for("words", (50, 50), one.pk)] for one in everybody
        }

    def test_the_general_version_says_nothing_that_we_know_of_them(self, smtp):
        campaign = CampaignFactory(template=text("Hi {{ customer.given_name | default: 'friend' }}"))
        running(campaign, {}, {"is_general": True}, key="personal")
        everybody = people(10)
        planned(everybody, campaign)
        assert outbox.send_due()["sent"] == 10
        subjects = dict(Message.objects.values_list("customer_id", "rendering__subject"))
        assert subjects == {
            one.pk: (f"Hi {one.given_name}", "Hi friend")[planning.version_for("personal", (50, 50), one.pk)]
            for one in everybody
        }
        assert len(set(subjects.values())) > 2

    def test_a_version_waits_for_its_hour_where_they_live(self):
        campaign = CampaignFactory()
        running(campaign, {}, {"hour": 18}, key="hour")
        near, far = people(6), people(6, time_zone="America/New_York")
        planned([*near, *far], campaign)
        due = dict(Message.objects.values_list("customer_id", "due_at"))
        for one in [*near, *far]:
            hour = {"Europe/Stockholm": 17, "America/New_York": 23}[one.time_zone]
            is_b = planning.version_for("hour", (50, 50), one.pk)
            assert due[one.pk] == (clock.now().replace(hour=hour) if is_b else clock.now())

    def test_a_campaign_without_an_experiment_may_have_an_hour_of_its_own(self):
        planned(people(3), CampaignFactory(send_hour=9))
        assert set(Message.objects.values_list("due_at", flat=True)) == {datetime(2026, 11, 21, 8, 0, tzinfo=UTC)}


@pytest.mark.parametrize(
    "moment, hour, expected",
    [
        (datetime(2026, 11, 20, 11, 0, tzinfo=UTC), 12, datetime(2026, 11, 20, 11, 0, tzinfo=UTC)),
        (datetime(2026, 11, 20, 11, 59, tzinfo=UTC), 12, datetime(2026, 11, 20, 11, 59, tzinfo=UTC)),
        (datetime(2026, 11, 20, 12, 0, tzinfo=UTC), 12, datetime(2026, 11, 21, 11, 0, tzinfo=UTC)),
        (datetime(2026, 11, 20, 11, 0, tzinfo=UTC), 0, datetime(2026, 11, 20, 23, 0, tzinfo=UTC)),
        (datetime(2026, 11, 20, 11, 0, tzinfo=UTC), 23, datetime(2026, 11, 20, 22, 0, tzinfo=UTC)),
        (datetime(2027, 3, 28, 0, 30, tzinfo=UTC), 2, datetime(2027, 3, 29, 0, 0, tzinfo=UTC)),
    ],
)
def test_the_next_hour_is_that_of_the_place(moment, hour, expected):
    assert gate.next_hour(moment, ZoneInfo("Europe/Stockholm"), hour) == expected

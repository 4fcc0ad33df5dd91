"""An experiment from the set-up to what it changed: the answer before it starts, the night that counts, the one verdict."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, transaction

from campaigns import audit, letters, planning, runs, texts
from campaigns.errors import NotNow
from campaigns.experiments import asking, counting, life
from campaigns.experiments.asking import Wanted
from campaigns.journeys import engine
from campaigns.models import (
    Campaign,
    DeliveryEvent,
    Experiment,
    ExperimentDay,
    ExperimentVerdict,
    JourneyRun,
    Message,
    TemplateVariant,
)
from customers import usage
from customers.models import Consent, Customer
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError, InvalidInput
from tests.campaigns.experiment_factories import DAY, asked, buy, note, of_version, press, started, text
from tests.campaigns.factories import NOON, CampaignFactory, VariantFactory, live_journey, people, planned
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


def refusal(**more: Any) -> str:
    """What stands against a draft; nothing of it is left."""
    before = Experiment.objects.count()
    with pytest.raises(DomainError) as problem:
        asked(**more)
    assert Experiment.objects.count() == before
    return problem.value.code


# --- Setting up -------------------------------------------------------------------------------------------------------


def test_it_begins_with_what_the_campaign_says_today():
    campaign = CampaignFactory(kind="reactivation", send_hour=10)
    other = text()
    made = asked(campaign, other=other, name="  Which   subject  ")
    assert (made.name, made.key, made.state) == ("Which subject", "which-subject", "draft")
    assert list(made.versions.values_list("label", "template", "hour", "is_general", "share")) == [
        ("A", campaign.template_id, 10, False, 50),
        ("B", other.pk, None, False, 50),
    ]
    assert asked(campaign, name="Which subject").key == "which-subject-2"


def test_what_cannot_be_compared_is_refused_in_a_sentence():
    half = [Wanted(50), Wanted(50)]
    assert refusal(versions=half) == "same_twice"
    assert refusal(versions=[Wanted(100)]) == "bad_versions"
    assert refusal(versions=[Wanted(50), Wanted(40, text())]) == "bad_shares"
    assert refusal(versions=[Wanted(100), Wanted(0, text())]) == "bad_shares"
    assert refusal(versions=[Wanted(50), Wanted(50, hour=23)]) == "quiet_hour"
    assert refusal(versions=[Wanted(50), Wanted(50, hour=10)], window_days=2) == "too_few_days"
    assert refusal(other=text(template__purpose="service")) == "other_purpose"
    assert refusal(other=text(template__archived_at=NOON)) == "archived"
    assert refusal(name=" ") == "no_name"
    assert refusal(measure="opens") == "bad_measure"
    assert refusal(lift_percent=0) == "bad_lift_percent"
    assert refusal(stated_percent=100.0) == "bad_share"
    assert refusal(campaign=CampaignFactory(kind="reactivation", state="ended")) == "campaign_ended"
    assert refusal(campaign=CampaignFactory(state="active")) == "sent_already"


def test_versions_without_words_in_a_language_are_refused_by_name():
    polish = text()
    VariantFactory(template=polish, language="pl")
    with pytest.raises(InvalidInput, match=r"A \(“.*”\) has no words in Polish, and B has\."):
        asked(other=polish)


def test_a_version_may_differ_by_its_hour_or_by_saying_nothing_personal():
    made = asked(versions=[Wanted(40), Wanted(30, hour=10), Wanted(30, is_general=True)])
    assert list(made.versions.values_list("hour", "is_general")) == [(None, False), (10, False), (None, True)]


# --- The answer before the start --------------------------------------------------------------------------------------


def test_it_says_how_many_people_it_needs_and_how_long_that_takes():
    campaign = CampaignFactory(kind="reactivation")
    planned(people(280), campaign)
    Message.objects.update(created_at=NOON - 28 * DAY)
    found = asking.answer(asked(campaign, stated_percent=3.0, lift_percent=30))
    assert (found.needed, found.now, found.then) == (6_455, 0.03, pytest.approx(0.039))
    assert (found.per_day, found.days, found.have, found.problem) == (10.0, 1_291, 450, None)
    assert found.is_too_small
    assert 1.3 < found.seen < 1.4


def test_today_is_measured_where_it_can_be():
    campaign = CampaignFactory(kind="reactivation")
    run = planned(people(200), campaign)
    Message.objects.update(created_at=NOON - 20 * DAY)
    sent = list(run.messages.order_by("pk"))
    press(sent[:40])
    press(sent[40:60], after=7 * DAY)  # too late
    press(sent[60:80], kind="machine")
    buy(sent[:20], 5_000)
    buy(sent[:10], 1_000)
    seen = counting.today(campaign, 7, NOON)
    assert (seen.people, seen.clicked, seen.ordered, seen.mean_minor) == (200, 0.2, 0.1, 550.0)
    found = asking.answer(asked(campaign, stated_percent=None, lift_percent=50))
    assert (found.base, found.needed) == ({"share": 0.2}, 294)
    money = asking.answer(asked(campaign, stated_percent=None, lift_percent=50, measure="revenue"))
    assert money.base == {"mean_minor": 550.0, "sd_minor": pytest.approx(1_661.7, abs=0.1)}
    assert money.needed == 574
    # Of nobody nothing is known, and then it has to be said.
    fresh = asked(stated_percent=None)
    with pytest.raises(NotNow, match="Say yourself what share you expect"):
        life.start(experiment=fresh)
    assert Experiment.objects.get(pk=fresh.pk).state == "draft"


def test_a_one_off_message_knows_its_audience_and_does_not_start_with_too_few():
    people(60)
    campaign = CampaignFactory(state="draft")
    made = asked(campaign)
    found = asking.answer(made)
    assert (found.audience, found.have, found.needed) == (60, 30, 42)
    with pytest.raises(NotNow, match="This audience has 30 people for the smallest version, and 42 are needed"):
        life.start(experiment=made)
    people(30)
    assert life.start(experiment=made).state == "running"


def test_a_difference_that_cannot_be_is_told():
    made = asked(stated_percent=60.0, lift_percent=100)
    assert asking.answer(made).problem.code == "impossible_difference"


# --- Starting and stopping --------------------------------------------------------------------------------------------


def test_it_freezes_words_and_size_when_it_starts():
    actor = UserFactory()
    made = asked()
    b = made.versions.get(label="B")
    life.start(experiment=made, actor=actor)
    assert (made.state, made.needed, made.base, made.started_at, made.started_by) == (
        "running", 42, {"share": 0.3}, NOON, actor,
    )  # fmt: skip
    b.refresh_from_db()
    assert b.variants == {"en": b.template.variants.get().pk}
    with pytest.raises(NotNow):
        life.start(experiment=made)


def test_only_one_runs_on_a_campaign():
    campaign = CampaignFactory(kind="reactivation")
    first, second = asked(campaign), asked(campaign, other=text())
    life.start(experiment=first)
    with pytest.raises(NotNow, match="runs on this campaign already"):
        life.start(experiment=second)
    with pytest.raises(DatabaseError), transaction.atomic():
        Experiment.objects.filter(pk=second.pk).update(state="running", started_at=NOON, needed=1)
    assert Experiment.objects.get(pk=second.pk).state == "draft"
    life.stop(experiment=first)
    assert life.start(experiment=second).state == "running"


def test_a_draft_is_discarded_and_what_ran_is_kept():
    made = asked()
    life.discard(experiment=made)
    assert not Experiment.objects.exists()
    run = started()
    with pytest.raises(NotNow):
        life.discard(experiment=run)
    actor = UserFactory()
    life.stop(experiment=run, actor=actor)
    assert (run.state, run.ended_at, run.ended_by, run.chosen) == ("ended", NOON, actor, None)
    with pytest.raises(NotNow):
        life.stop(experiment=run)
    assert planning.versions_of(run.campaign) == []


def test_templates_and_segments_know_that_it_uses_them():
    other = text()
    campaign = CampaignFactory(state="draft", audience={"segment": "vip"})
    made = asked(campaign, other=other)
    assert texts.in_use(other) == [campaign]
    with pytest.raises(NotNow):
        texts.archive(template=other)
    people(100)
    CampaignFactory._meta.model.objects.filter(pk=campaign.pk).update(
        audience={"fact": "stage", "op": "in", "value": ["retain"]}
    )
    campaign.refresh_from_db()
    life.start(experiment=Experiment.objects.get(pk=made.pk))
    Campaign.objects.filter(pk=campaign.pk).update(state="active", audience={"segment": "vip"})
    assert [use.name for use in usage.of("vip")] == [campaign.name]
    life.stop(experiment=made)
    assert usage.of("vip") == []
    assert texts.archive(template=other).archived_at is not None


# --- The night --------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(noon) -> Experiment:
    """An experiment with 120 people, planned at noon."""
    experiment = started()
    planned(people(120), experiment.campaign)
    return experiment


def test_the_night_counts_people_and_not_messages_and_only_after_their_days(full):
    a, b = of_version(full, "A"), of_version(full, "B")
    press(a[:5])
    press(a[:5], after=2 * DAY)
    press(b[:9])
    press(b[9:20], kind="machine")
    buy(b[:3], 2_000)
    Consent.objects.create(
        customer=b[0].customer, purpose="marketing", channel="email", is_granted=False, source="unsubscribe",
        occurred_at=NOON + DAY,
    )  # fmt: skip
    DeliveryEvent.objects.create(message=b[1], kind="complaint", occurred_at=NOON + DAY, source="test", source_id="1")
    # A second message to the same people adds nobody, and whoever comes later is not over yet.
    planned([one.customer for one in a[:10]], full.campaign, key="test:2")
    assert note(6) == {"experiments_counted": 1}
    day = ExperimentDay.objects.get(version__label="B")
    assert (day.joined, day.people, day.clicked) == (len(b), 0, 0)
    note(7)
    rows = {one.version.label: one for one in ExperimentDay.objects.filter(business_date=NOON.date() + 7 * DAY)}
    assert (rows["A"].joined, rows["A"].people, rows["A"].clicked, rows["A"].ordered) == (len(a), len(a), 5, 0)
    assert (rows["B"].people, rows["B"].clicked, rows["B"].ordered) == (len(b), 9, 3)
    assert (rows["B"].spent_minor, rows["B"].spent_squares) == (6_000, 12_000_000.0)
    assert (rows["B"].unsubscribed, rows["B"].complained, rows["B"].failed) == (1, 1, 0)
    assert audit.problems() == []


def test_a_run_that_was_called_off_counts_for_nobody(full):
    called_off = planned(people(30), full.campaign, key="test:2")
    runs.cancel(run=called_off)
    note(7)
    assert sum(ExperimentDay.objects.values_list("joined", flat=True)) == 120


def test_a_message_of_a_journey_is_compared_like_any_other():
    journey = live_journey([{"id": "s1", "do": "message", "template": text().key}])
    campaign = journey.campaigns.get()
    other = VariantFactory(subject="Other words").template
    experiment = started(campaign, other=other)
    everybody = people(12)
    JourneyRun.objects.bulk_create(
        JourneyRun(
            journey=journey,
            version=journey.versions.get(),
            customer=one,
            key="x",
            number=1,
            entered_at=NOON,
            due_at=NOON,
        )
        for one in everybody
    )
    engine.advance_due()
    given = dict(Message.objects.values_list("customer_id", "version__label"))
    assert given == {one.pk: "AB"[planning.version_for(experiment.key, (50, 50), one.pk)] for one in everybody}
    # Ended, the journey says its text again, and the step takes the better words with it.
    ExperimentVerdict.objects.create(experiment=experiment, business_date=NOON.date(), kind="no_difference", numbers={})
    life.use_for_everyone(experiment=experiment, label="B")
    assert letters.texts_of(campaign) == {"en": TemplateVariant.objects.get(version=2).pk}
    assert TemplateVariant.objects.get(version=2).subject == "Other words"


def test_the_verdict_comes_once_at_the_planned_size_and_stays(full):
    b = of_version(full, "B")
    press(b[: len(b) * 2 // 3])
    press(of_version(full, "A")[:5])
    assert note(6) == {"experiments_counted": 1}
    assert note(7) == {"experiments_counted": 1, "verdicts": 1}
    verdict = ExperimentVerdict.objects.get()
    assert (verdict.kind, verdict.winner.label, verdict.is_yellow) == ("better", "B", False)
    kept = verdict.numbers
    assert (kept["leader"], kept["why"], kept["versions"][1]["clicked"]) == ("B", "", len(b) * 2 // 3)
    assert kept["versions"][1]["chance"] > 0.999
    # Late news changes the days, and never the verdict; a night that is run again changes nothing.
    press(of_version(full, "A")[5:50])
    assert note(7) == {"experiments_counted": 1}
    assert note(8) == {"experiments_counted": 1}
    verdict.refresh_from_db()
    assert verdict.numbers == kept
    assert ExperimentDay.objects.count() == 6
    with pytest.raises(DatabaseError), transaction.atomic():
        ExperimentVerdict.objects.update(kind="no_difference", winner=None)
    with pytest.raises(DatabaseError), transaction.atomic():
        ExperimentVerdict.objects.all().delete()


def test_too_few_people_are_no_verdict_however_long_it_runs():
    experiment = started()
    planned(people(60), experiment.campaign)
    assert note(40) == {"experiments_counted": 1}
    life.stop(experiment=experiment)
    assert note(41) == {}


def test_without_a_clear_winner_it_says_so(full):
    press(of_version(full, "A")[:10])
    press(of_version(full, "B")[:11])
    note(7)
    verdict = ExperimentVerdict.objects.get()
    assert (verdict.kind, verdict.winner) == ("no_difference", None)


def test_uneven_groups_tell_nothing(full):
    press(of_version(full, "B"))
    gone = [one.pk for one in of_version(full, "A")[:35]]
    Message.objects.filter(pk__in=gone).update(version=None)
    Experiment.objects.update(needed=10)
    note(7)
    verdict = ExperimentVerdict.objects.get()
    assert (verdict.kind, verdict.numbers["why"]) == ("cannot_tell", "uneven")


def test_money_is_judged_by_what_people_spent():
    campaign = CampaignFactory(kind="reactivation")
    before = planned(people(120), campaign, key="before:1")
    before.messages.update(created_at=NOON - 20 * DAY)
    buy(list(before.messages.order_by("pk")[:60]), 5_000)
    experiment = started(campaign, measure="revenue", lift_percent=70, stated_percent=None)
    planned(people(150), campaign)
    buy(of_version(experiment, "B")[:60], 9_000)
    buy(of_version(experiment, "A")[:10], 5_000)
    note(7)
    verdict = ExperimentVerdict.objects.get()
    assert (verdict.kind, verdict.winner.label) == ("better", "B")
    assert verdict.numbers["versions"][0]["spent_minor"] == 50_000
    assert verdict.numbers["low"] > 2_000


# --- What now ---------------------------------------------------------------------------------------------------------


def decided(full: Experiment, kind: str = "better") -> Experiment:
    if kind == "better":
        press(of_version(full, "B")[:40])
    note(7)
    full.refresh_from_db()
    return full


def test_using_a_version_for_everyone_makes_its_words_the_next_of_the_campaigns_text(full):
    actor = UserFactory()
    b = full.versions.get(label="B").template
    tested = b.variants.get()
    TemplateVariant.objects.create(template=b, language="en", version=2, subject="Edited since", blocks=tested.blocks)
    decided(full)
    life.use_for_everyone(experiment=full, label="B", actor=actor)
    assert (full.state, full.chosen.label, full.ended_by) == ("ended", "B", actor)
    now = full.campaign.template.variants.order_by("-version").first()
    assert (now.version, now.subject, now.note, now.created_by) == (
        2, tested.subject, "Experiment “Subject”: version B", actor,
    )  # fmt: skip
    late = planned(people(2), full.campaign, key="after:1")
    assert late.variants == {"en": now.pk}
    assert set(late.messages.values_list("version", flat=True)) == {None}
    with pytest.raises(NotNow):
        life.use_for_everyone(experiment=full, label="A")


def test_an_hour_and_saying_nothing_personal_become_the_campaigns(noon):
    campaign = CampaignFactory(kind="reactivation")
    experiment = started(campaign, versions=[Wanted(50), Wanted(50, hour=10, is_general=True)])
    planned(people(120), campaign)
    ExperimentVerdict.objects.create(experiment=experiment, business_date=NOON.date(), kind="no_difference", numbers={})
    life.use_for_everyone(experiment=experiment, label="B")
    campaign.refresh_from_db()
    assert (campaign.send_hour, campaign.is_general, campaign.template.variants.count()) == (10, True, 1)


def test_no_version_is_taken_before_the_verdict_or_without_one(full):
    with pytest.raises(NotNow, match="There is no verdict yet"):
        life.use_for_everyone(experiment=full, label="B")
    with pytest.raises(InvalidInput):
        life.use_for_everyone(experiment=full, label="D")
    ExperimentVerdict.objects.create(experiment=full, business_date=NOON.date(), kind="cannot_tell", numbers={})
    with pytest.raises(NotNow, match="Nobody can tell"):
        life.use_for_everyone(experiment=full, label="B")
    full.refresh_from_db()
    assert (full.state, full.campaign.template.variants.count()) == ("running", 1)


def test_a_message_that_went_out_once_has_no_everyone():
    people(100)
    campaign = CampaignFactory(state="draft")
    experiment = started(campaign)
    ExperimentVerdict.objects.create(experiment=experiment, business_date=NOON.date(), kind="no_difference", numbers={})
    with pytest.raises(NotNow, match="went out once"):
        life.use_for_everyone(experiment=experiment, label="B")


def test_asking_again_divides_people_anew(full):
    with pytest.raises(NotNow):
        life.ask_again(experiment=full)
    life.stop(experiment=full)
    again = life.ask_again(experiment=full)
    assert (again.key, again.state, again.versions.count(), again.lift_percent) == ("subject-2", "draft", 2, 100)
    life.start(experiment=again)
    everybody = list(Customer.objects.all())
    planned(everybody, again.campaign, key="again:1")
    first = {one.customer_id for one in of_version(full, "B")}
    second = {one.customer_id for one in of_version(again, "B")}
    assert 0.25 < len(first & second) / len(first) < 0.75
    assert clock.now() == NOON


def test_asking_again_ends_what_was_judged(full):
    decided(full, "no_difference")
    again = life.ask_again(experiment=full)
    assert (full.state, full.chosen, again.state) == ("ended", None, "draft")


def test_the_audit_names_whoever_got_two_versions(full):
    planned(list(Customer.objects.all()), full.campaign, key="test:2")
    assert audit.problems() == []
    one = of_version(full, "A")[0]
    Message.objects.filter(pk=one.pk).update(version=full.versions.get(label="B"))
    assert audit.problems() == [
        f"Customer {one.customer_id} has 2 versions in experiment {full.pk}; chance gives one, for ever."
    ]

"""Experiments through their doors: the pages with and without the right to steer, and the same over REST."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse

from campaigns.experiments import life, verdicts
from campaigns.models import Campaign, Experiment, ExperimentVerdict, Message
from lifecycle_crm.lib import clock
from tests.api.factories import caller
from tests.campaigns.experiment_factories import asked, note, of_version, press, started, text
from tests.campaigns.factories import NOON, CampaignFactory, people, planned
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


def at(name: str, *args: Any) -> str:
    return reverse(f"campaigns:{name}", args=args)


def read(client: Any, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def filled(**more: Any) -> dict[str, Any]:
    return {
        "name": "Which subject", "measure": "click", "lift_percent": 100, "window_days": 7, "stated_percent": "30",
        "share_a": 50, "share_b": 50, **more,
    }  # fmt: skip


@pytest.fixture
def decided(noon) -> Experiment:
    """B is better, and nobody has acted on it."""
    made = started()
    planned(people(120), made.campaign)
    press(of_version(made, "A")[:5])
    press(of_version(made, "B")[:40])
    note(7)
    return Experiment.objects.get(pk=made.pk)


# --- Setting up -------------------------------------------------------------------------------------------------------


def test_it_is_set_up_and_answers_before_it_starts(marketer):
    campaign, other = CampaignFactory(kind="reactivation"), text()
    form = read(marketer, at("experiment-new") + f"?campaign={campaign.pk}")
    assert f'<option value="{campaign.pk}" selected>' in form
    answer = marketer.post(at("experiment-new"), filled(campaign=campaign.pk, template_b=other.key))
    made = Experiment.objects.get()
    assert (answer.status_code, answer.url) == (302, at("experiment", made.pk))
    assert (made.created_by, made.versions.get(label="B").template) == (marketer.user, other)
    page = read(marketer, at("experiment", made.pk))
    assert "You need 42 people per version to see a change from 30.0% to 60.0%." in page
    assert "nobody can say how long that takes" in page
    assert marketer.post(at("experiment-act", made.pk, "start")).status_code == 302
    made.refresh_from_db()
    assert (made.state, made.started_by) == ("running", marketer.user)
    assert "Still collecting (0% of planned)" in read(marketer, at("experiment", made.pk))


def test_a_mistake_stands_beside_its_field_and_nothing_is_made(marketer):
    campaign = CampaignFactory(kind="reactivation")
    same = marketer.post(at("experiment-new"), filled(campaign=campaign.pk))
    assert same.status_code == 422
    assert "A and B are the same." in same.content.decode()
    assert "template_b" in same.context["form"].errors
    shares = marketer.post(at("experiment-new"), filled(campaign=campaign.pk, template_b=text().key, share_b=40))
    assert "The shares add up to 90 per cent." in shares.content.decode()
    assert not Experiment.objects.exists()


def test_without_a_campaign_there_is_nothing_to_fill_in(marketer):
    CampaignFactory(state="active")
    Campaign.objects.filter(kind="reactivation").update(state="ended")
    assert "No campaign to test" in read(marketer, at("experiment-new"))


def test_a_draft_that_cannot_start_says_why_and_can_be_discarded(marketer):
    campaign = CampaignFactory(kind="reactivation")
    started(campaign)
    draft = asked(campaign, other=text())
    page = read(marketer, at("experiment", draft.pk))
    assert "Two at once could not be told apart" in page
    assert at("experiment-act", draft.pk, "start") not in page
    assert marketer.post(at("experiment-act", draft.pk, "discard")).url == at("experiments")
    assert not Experiment.objects.filter(pk=draft.pk).exists()


# --- The result -------------------------------------------------------------------------------------------------------


def test_the_verdict_comes_first_and_then_three_numbers(marketer, decided):
    page = read(marketer, at("experiment", decided.pk))
    places = [
        page.index(words)
        for words in (
            ">B is better</h2>", "<strong>Over 99.9%</strong> chance that B is better than A", "more clicks per 1,000 people",
            "Risk if we choose B and are wrong", 'class="ranges"', "What now", "Use B for everyone", "Use A for everyone",
            "Guard rails", "Day by day: do not decide from these lines",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert f"{at('outbox')}?version={decided.versions.get(label='A').pk}" in page
    of_a = read(marketer, f"{at('outbox')}?version={decided.versions.get(label='A').pk}")
    assert of_a.count('scope="row"') == min(50, len(of_version(decided, "A")))
    listed = read(marketer, at("experiments"))
    assert "B is better" in listed
    assert "Over 99.9%" in listed
    assert "B is better" not in read(marketer, at("detail", decided.campaign_id))


def test_before_the_verdict_it_shows_how_far_it_is_and_no_winner(marketer):
    made = started()
    planned(people(60), made.campaign)
    press(of_version(made, "B"))
    note(7)
    page = read(marketer, at("experiment", made.pk))
    n = min(len(of_version(made, label)) for label in "AB")
    assert f"Still collecting ({int(100 * n / 42)}% of planned, ready about" in page
    assert "better than" not in page
    assert "Use B for everyone" not in page


def test_a_yellow_verdict_and_one_that_cannot_tell_say_why(marketer, decided):
    kept = decided.verdict.numbers
    other = started(CampaignFactory(kind="reactivation"))
    ExperimentVerdict.objects.create(
        experiment=other, business_date=NOON.date(), kind="better", winner=other.versions.get(label="B"), is_yellow=True,
        numbers={**kept, "guards": ["complained"]},
    )  # fmt: skip
    page = read(marketer, at("experiment", other.pk))
    assert "B is better" in page
    assert "More people marked this version as spam." in page
    broken = started(CampaignFactory(kind="reactivation"))
    ExperimentVerdict.objects.create(
        experiment=broken, business_date=NOON.date(), kind="cannot_tell", numbers={**kept, "why": "uneven"}
    )
    page = read(marketer, at("experiment", broken.pk))
    assert "Cannot tell: groups are uneven or data is broken" in page
    assert "more uneven than chance makes them" in page
    assert "chance that" not in page
    assert "Use B for everyone" not in page


def test_money_is_told_as_money(marketer):
    campaign = CampaignFactory(kind="reactivation")
    made = started(campaign)
    Experiment.objects.filter(pk=made.pk).update(measure="revenue")
    one = {"people": 100, "joined": 100, "low": 100.0, "high": 300.0, "chance": 0.01, "risk": 80.0}
    ExperimentVerdict.objects.create(
        experiment=made, business_date=NOON.date(), kind="better", winner=made.versions.get(label="B"),
        numbers={"leader": "B", "other": "A", "gap": 150.0, "low": 50.0, "high": 250.0, "versions": [
            {"label": "A", "value": 200.0, **one},
            {"label": "B", "value": 350.0, **one, "chance": 0.99, "risk": 0.6},
        ]},
    )  # fmt: skip
    page = read(marketer, at("experiment", made.pk))
    assert "<strong>99.0%</strong> chance" in page
    assert "B brings <strong>US$1.50</strong> more per person than A (likely between US$0.50 and US$2.50)" in page
    assert "about <strong>US$0.01 per person</strong>, next to nothing" in page


def test_its_buttons_do_what_they_say(marketer, decided):
    refused = marketer.post(at("experiment-act", decided.pk, "use"), {"version": "D"})
    assert (refused.status_code, Experiment.objects.get().state) == (422, "running")
    assert marketer.post(at("experiment-act", decided.pk, "use"), {"version": "B"}).status_code == 302
    decided.refresh_from_db()
    assert (decided.state, decided.chosen.label, decided.ended_by) == ("ended", "B", marketer.user)
    page = read(marketer, at("experiment", decided.pk))
    assert "B was taken for everyone." in page
    again = marketer.post(at("experiment-act", decided.pk, "again"))
    assert again.url == at("experiment", Experiment.objects.get(state="draft").pk)


def test_the_numbers_of_the_nights_are_a_file(marketer, decided):
    lines = marketer.get(at("experiment-csv", decided.pk)).content.decode().splitlines()
    assert lines[0] == "date,version,joined,people,clicked,ordered,spent,currency,unsubscribed,complained,failed"
    n = len(of_version(decided, "A"))
    assert lines[1] == f"2026-11-27,A,{n},{n},5,0,0.00,USD,0,0,0"


def test_who_may_not_steer_reads_and_presses_nothing(client, decided):
    client.force_login(UserFactory(role="viewer"))
    page = read(client, at("experiment", decided.pk))
    assert "B is better" in page
    assert "Use B for everyone" not in page
    for verb in ("start", "stop", "discard", "use", "again"):
        assert client.post(at("experiment-act", decided.pk, verb), {"version": "B"}).status_code == 403
    assert client.get(at("experiment-new")).status_code == 403
    assert Experiment.objects.get().state == "running"


@pytest.mark.parametrize("name", ["experiment", "experiment-csv"])
def test_one_that_is_not_there_is_not_found(marketer, name):
    assert marketer.get(at(name, 9999)).status_code == 404


def test_the_list_and_the_result_ask_a_fixed_number_of_questions(marketer, decided, django_assert_max_num_queries):
    for _number in range(3):
        asked(decided.campaign, other=text())
    with django_assert_max_num_queries(12):
        read(marketer, at("experiments"))
    with django_assert_max_num_queries(16):
        read(marketer, at("experiment", decided.pk))


# --- REST -------------------------------------------------------------------------------------------------------------

URL = "/api/v1/experiments/"


def test_a_program_goes_the_same_way():
    key = caller("campaigns:read", "campaigns:write")
    campaign, other = CampaignFactory(kind="reactivation"), text()
    body = {
        "campaign": campaign.pk, "name": "Subject", "stated_percent": 30, "lift_percent": 100,
        "versions": [{"share": 50}, {"share": 50, "template": other.key}],
    }  # fmt: skip
    made = key.post(URL, body, format="json")
    assert (made.status_code, made.json()["state"], made.json()["versions"][1]["template"]) == (201, "draft", other.key)
    pk = made.json()["id"]
    told = key.get(f"{URL}{pk}/answer/").json()
    assert (told["needed"], told["now"], told["problem"]) == (42, 0.3, None)
    assert told["sentences"][0].startswith("You need 42 people per version")
    assert key.post(f"{URL}{pk}/start/").json()["needed"] == 42
    twice = key.post(f"{URL}{pk}/start/")
    assert twice.status_code == 409
    planned(people(120), campaign)
    experiment = Experiment.objects.get()
    assert key.get(f"{URL}{pk}/result/").json()["status"] == "Still collecting (0% of planned)"
    assert key.post(f"{URL}{pk}/use/", {"version": "B"}, format="json").json()["code"] == "no_verdict"
    press(of_version(experiment, "B")[:40])
    verdicts.note_day(business_date=NOON.date(), as_of=NOON + timedelta(days=7))
    told = key.get(f"{URL}{pk}/result/").json()
    assert (told["status"], told["verdict"]["winner"], told["progress"]) == ("B is better", "B", 1.0)
    assert (told["numbers"][0], len(told["days"])) == ("Over 99.9% chance that B is better than A", 2)
    assert key.get(URL).json()["results"][0]["verdict"]["kind"] == "better"
    assert key.post(f"{URL}{pk}/use/", {"version": "B"}, format="json").json()["chosen"] == "B"
    again = key.post(f"{URL}{pk}/again/")
    assert again.status_code == 201
    assert key.delete(f"{URL}{again.json()['id']}/").status_code == 204
    assert key.delete(f"{URL}{pk}/").status_code == 409
    version = experiment.versions.get(label="A").pk
    rows = key.get(f"/api/v1/messages/?version={version}").json()["results"]
    assert {row["version"] for row in rows} == {version}


def test_a_refusal_over_rest_is_the_same_sentence():
    key = caller("campaigns:read", "campaigns:write")
    campaign = CampaignFactory(kind="reactivation")
    body = {"campaign": campaign.pk, "name": "x", "versions": [{"share": 50}, {"share": 50}]}
    answer = key.post(URL, body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (422, "same_twice")
    assert answer.json()["title"].startswith("A and B are the same.")
    made = asked(campaign)
    assert caller("campaigns:read").post(f"{URL}{made.pk}/start/").status_code == 403
    life.start(experiment=made)
    assert key.post(f"{URL}{made.pk}/stop/").json()["state"] == "ended"
    assert Message.objects.count() == 0
    assert clock.now() == NOON

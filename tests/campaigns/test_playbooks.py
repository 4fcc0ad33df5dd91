"""Playbooks: one press makes a journey that can be published as it is, in every language."""

from __future__ import annotations

import pytest
from django.urls import reverse

from campaigns import playbooks
from campaigns.journeys import publishing, starts, trying, words
from campaigns.models import Journey, Template, TemplateVariant
from campaigns.playbooks.words import WORDS
from customers.models import Segment
from loyalty import tiers
from loyalty.models import Programme
from tests.api.factories import caller
from tests.campaigns.factories import person
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]

LANGUAGES = ("en", "sv", "nb", "pl", "cs")


def install(client, key: str):
    return client.post(reverse("campaigns:playbook-install", args=[key]))


def test_every_playbook_is_whole_and_can_be_published_and_tried_at_once():
    tiers.set_ladder(programme=Programme.current(), steps=[tiers.Step("Silver", 100), tiers.Step("Gold", 500)])
    people = {code: person(given_name="Ada", language=code, facts={"points": 300}) for code in LANGUAGES}
    assert {one.stage for one in starts.STARTS} == {"acquire", "nurture", "retain", "advocate", "dormant"}
    for start in starts.STARTS:
        journey = playbooks.install(key=start.key)
        assert (journey.state, publishing.problems(journey)) == ("draft", [])
        for code, somebody in people.items():
            trial = trying.attempt(journey=journey, customer=somebody)
            letters = [one for one in trial.steps if one.outcome == "message"]
            assert [one.problem for one in letters] == [""] * len(letters)
            assert all("{" not in one.subject + one.text for one in letters), code
        publishing.publish(journey=journey)
    assert {one.draft["trigger"].get("tier") for one in Journey.objects.filter(key="playbook-vip")} == {"gold"}
    written = TemplateVariant.objects.filter(template__key__startswith="playbook-")
    assert set(written.values_list("template__key", "language")) == {(key, code) for key in WORDS for code in LANGUAGES}


def test_one_press_installs_it_with_its_words_and_a_second_one_does_not(marketer):
    page = marketer.get(reverse("campaigns:journeys")).content.decode()
    assert reverse("campaigns:playbook-install", args=["winback"]) in page
    answer = install(marketer, "winback")
    journey = Journey.objects.get()
    assert (answer.url, journey.created_by) == (reverse("campaigns:journey", args=[journey.pk]), marketer.user)
    assert (journey.key, journey.again_days, journey.goal) == ("playbook-winback", 180, {"order": True})
    page = marketer.get(answer.url).content.decode()
    assert "Gives 200 points: Welcome back" in page
    assert "Before it can be published" not in page
    assert "A person may enter again after 180 days. Leaves early: stage: not Dormant." in page
    assert f'href="{reverse("campaigns:template", args=["playbook-winback", "en"])}"' in page
    page = marketer.get(reverse("campaigns:journeys")).content.decode()
    assert reverse("campaigns:playbook-install", args=["winback"]) not in page
    assert install(marketer, "winback").status_code == 409
    assert Journey.objects.count() == 1
    publishing.end(journey=journey)
    install(marketer, "winback")
    assert sorted(Journey.objects.values_list("key", flat=True)) == ["playbook-winback", "playbook-winback-2"]
    assert [line.journey.key for line in playbooks.listed() if line.journey] == ["playbook-winback-2"]


def test_what_the_shop_wrote_stays_as_it_is():
    own = Template.objects.create(key="playbook-at-risk", name="Our own")
    segment = Segment.objects.create(key="playbook-going-quiet", name="Ours", condition={"all": []})
    journey = playbooks.install(key="at-risk")
    assert (own.variants.count(), Segment.objects.get().pk) == (0, segment.pk)
    assert [one.sentence for one in publishing.problems(journey)] == [
        "The text “playbook-at-risk” has no words yet. Write one language first."
    ]


def test_it_makes_the_segment_it_needs():
    journey = playbooks.install(key="at-risk")
    assert words.trigger(journey.draft["trigger"]) == "Enters the segment “Going quiet”"
    assert Segment.objects.get().condition == starts.start("at-risk").segment


def test_it_is_listed_and_installed_over_rest_by_who_may():
    api = caller("campaigns:*")
    listed = api.get("/api/v1/playbooks/").json()
    assert [one["key"] for one in listed] == [one.key for one in starts.STARTS]
    assert listed[0] == {
        "key": "welcome", "stage": "acquire", "name": "Welcome", "text": str(starts.STARTS[0].text), "journey": None,
    }  # fmt: skip
    made = api.post("/api/v1/playbooks/welcome/install/")
    assert (made.status_code, made.json()["key"], made.json()["state"]) == (201, "playbook-welcome", "draft")
    again = api.post("/api/v1/playbooks/welcome/install/")
    assert (again.status_code, again.json()["code"]) == (409, "installed")
    assert api.get("/api/v1/playbooks/").json()[0]["journey"] == made.json()["id"]
    assert api.post("/api/v1/playbooks/nothing/install/").status_code == 404
    assert caller("campaigns:read").post("/api/v1/playbooks/care/install/").status_code == 403
    assert Journey.objects.count() == 1


def test_a_viewer_sees_them_and_installs_none(client):
    client.force_login(UserFactory(role="viewer"))
    assert "Playbooks" in client.get(reverse("campaigns:journeys")).content.decode()
    assert install(client, "care").status_code == 403
    assert not Journey.objects.exists()

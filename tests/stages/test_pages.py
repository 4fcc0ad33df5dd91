"""The pages of stages through their doors, and what their verbs promise."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest
import time_machine
from django.urls import reverse

from customers import facts
from customers.models import CustomerFacts
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Conflict
from lifecycle_crm.lib.moments import seconds
from stages import presets, rules, rulesets
from stages.models import Chunk, Night, Pin, RuleSet, Stage, StageKey
from tests.api.factories import caller
from tests.dashboard.factories import move, noon, person
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

TODAY = date(2026, 3, 11)
EVERYBODY = {"all": []}
ALL_REACH = [{"key": "is_known", "name": "Is known", "to": "reach", "when": EVERYBODY}]
RICH = [
    {"key": "rich", "name": "Rich", "to": "advocate", "when": {"fact": "spend_minor", "op": "gte", "value": 5000}},
    *ALL_REACH,
]


@pytest.fixture(autouse=True)
def _noon():
    with time_machine.travel(noon(TODAY), tick=False):
        yield


@pytest.fixture
def marketer(client):
    client.force_login(UserFactory(role="marketer"))
    return client


@pytest.fixture
def viewer(client):
    client.force_login(UserFactory(role="viewer"))
    return client


def published(data=None) -> RuleSet:
    return RuleSet.objects.create(
        version=1, name="Rules", state="published", rules=data or presets.default_rules(60), published_at=clock.now()
    )


def form(rule_set: RuleSet, **fields) -> dict[str, str]:
    return {"name": rule_set.name, "note": "", "rules": json.dumps(rule_set.rules), **fields}


# --- Overview ---------------------------------------------------------------------------------------------------------


def test_it_has_the_six_stages_from_the_start():
    assert list(Stage.objects.values_list("key", flat=True)) == StageKey.values


def test_it_offers_the_default_rules_when_there_are_none(marketer):
    assert "Install default rules" in marketer.get(reverse("stages:overview")).content.decode()
    marketer.post(reverse("stages:rules-install"))
    assert RuleSet.objects.get().state == "published"
    page = marketer.get(reverse("stages:overview")).content.decode()
    assert "no visit or click for 90 days or more" in page
    assert "Usual gap between orders: 60 days, from 0 repeat buyers." in page


def test_it_shows_counts_shares_and_moves_with_their_links(marketer):
    published()
    for _n in range(3):
        move(person(), "", "reach", TODAY - timedelta(days=2))
    gone = person()
    move(gone, "", "retain", TODAY - timedelta(days=40))
    move(gone, "retain", "dormant", TODAY - timedelta(days=9))
    answer = marketer.get(reverse("stages:overview"))
    page = answer.content.decode()
    assert "What decides where 4 customers stand" in page
    stages = {stage["key"]: stage for stage in answer.context["stages"]}
    assert (stages["reach"]["count"], stages["reach"]["share"], stages["reach"]["net"]) == ("3", "75.0%", "+3")
    assert (stages["dormant"]["count"], stages["dormant"]["entered"]) == ("1", "0")
    assert "moved_from=retain&amp;moved_to=dormant&amp;moved_since=2026-02-10&amp;moved_until=2026-03-11" in page


def test_it_prefers_the_words_of_the_shop(marketer):
    published()
    Stage.objects.filter(key="reach").update(goal="Be found by jazz people.", playbook=["Play on the square."])
    page = marketer.get(reverse("stages:overview")).content.decode()
    assert "Be found by jazz people." in page
    assert "Play on the square." in page
    assert "Turn the first contact into a first order." in page


# --- Rules ------------------------------------------------------------------------------------------------------------


def test_it_drafts_edits_previews_and_publishes(marketer):
    published(ALL_REACH)
    rich, poor = person("reach", 9000), person("reach", 10)
    answer = marketer.post(reverse("stages:rules-draft"))
    assert answer.url == reverse("stages:rules", args=[2])
    marketer.post(answer.url, form(RuleSet.objects.get(version=2), rules=json.dumps(RICH), note="Spend counts"))
    page = marketer.get(answer.url).content.decode()
    assert "1 customer of 2 would move" in page
    assert "spend: $90.00 (at least $50.00)" in page
    assert "The rules in force would move 0 customers at this moment." in page

    refused = marketer.post(reverse("stages:rules-publish", args=[2]))
    assert refused.status_code == 409
    assert RuleSet.objects.get(version=2).state == "draft"
    marketer.post(reverse("stages:rules-publish", args=[2]), {"confirm": "1"})
    assert list(RuleSet.objects.order_by("version").values_list("state", flat=True)) == ["retired", "published"]
    for customer in (rich, poor):
        row = CustomerFacts.objects.get(pk=customer.pk)
        assert (seconds(row.next_review_at), row.is_quiet) == (facts.AT_ONCE, True)
        assert row.stage == "reach"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[{", "Line 1, column 3 cannot be read as JSON"),
        ("[]", "A rule set is a list of rules, in order, and needs at least one."),
        (
            '[{"key": "a", "to": "reach", "when": {"fact": "shoe_size", "op": "gte", "value": 1}}]',
            "Rule 1 (a), when: unknown fact",
        ),
        ('[{"key": "a", "to": "heaven", "when": {"all": []}}]', "Rule 1 (a): moves to"),
    ],
)
def test_it_says_in_one_sentence_what_is_wrong_with_a_draft(marketer, text, sentence):
    made = rulesets.draft(based_on=published(), rules=None, actor=None)
    answer = marketer.post(reverse("stages:rules", args=[made.version]), form(made, rules=text))
    assert answer.status_code == 422
    [error] = answer.context["form"].errors["rules"]
    assert error.startswith(sentence)
    made.refresh_from_db()
    assert made.rules == presets.default_rules(60)


def test_it_never_edits_a_version_that_was_published(marketer):
    current = published()
    answer = marketer.post(reverse("stages:rules", args=[1]), form(current, rules=json.dumps(ALL_REACH)))
    assert answer.status_code == 409
    assert "is no draft, so it stays as it is" in answer.content.decode()
    current.refresh_from_db()
    assert current.rules == presets.default_rules(60)


def test_it_publishes_a_draft_once():
    published()
    made = rulesets.draft(based_on=None, rules=ALL_REACH, actor=None, name="Mine")
    rulesets.publish(rule_set=made, actor=None)
    with pytest.raises(Conflict, match="no draft any more"):
        rulesets.publish(rule_set=made, actor=None)
    assert RuleSet.objects.filter(state="published").count() == 1


def test_it_goes_back_by_publishing_the_old_rules_as_a_new_version(marketer):
    first = published(ALL_REACH)
    rulesets.publish(rule_set=rulesets.draft(based_on=first, rules=RICH, actor=None), actor=None)
    marketer.post(reverse("stages:rules-restore", args=[1]))
    again = RuleSet.objects.get(version=3)
    assert (again.state, again.rules) == ("published", ALL_REACH)
    assert again.note == "Goes back to version 1."
    with pytest.raises(Conflict, match="is not an older version"):
        rulesets.roll_back(to=again, actor=None)


def test_it_discards_a_draft_but_nothing_else(marketer):
    current = published()
    made = rulesets.draft(based_on=current, rules=None, actor=None)
    marketer.post(reverse("stages:rules-discard", args=[made.version]))
    assert RuleSet.objects.get() == current
    with pytest.raises(Conflict):
        rulesets.discard(rule_set=current)
    assert RuleSet.objects.get() == current


def test_it_previews_what_the_engine_would_do_with_pins_and_stays():
    person("reach", 9000)
    pinned = person("reach", 9000)
    user = UserFactory()
    Pin.objects.create(customer=pinned, stage="reach", until=clock.now() + timedelta(days=3), reason="VIP", user=user)
    waiting, new = person("retain", 0), person("", 0)
    stays = [{**RICH[0]}, {**ALL_REACH[0], "stay_days": 30}]
    found = rulesets.what_if(rules.parse(stays), clock.whole_now())
    assert found.standing == {
        ("reach", "advocate"): 1,
        ("reach", "reach"): 1,
        ("retain", "retain"): 1,
        ("new", "reach"): 1,
    }
    assert (found.total, found.moving) == (4, 2)
    assert [mover.customer for mover in found.sample][1] == new
    assert CustomerFacts.objects.get(pk=waiting.pk).stage == "retain"


def test_it_shows_rules_to_a_viewer_but_lets_them_change_nothing(viewer):
    current = published(ALL_REACH)
    made = rulesets.draft(based_on=current, rules=RICH, actor=None)
    rich = person("reach", 9000)
    page = viewer.get(reverse("stages:rules", args=[made.version])).content.decode()
    assert "Needs the Marketer role" in page
    assert reverse("dashboard:customer", args=[rich.pk]) in page
    assert rich.name not in page
    for name, args in (("rules-draft", []), ("rules-publish", [2]), ("rules-discard", [2]), ("rules-install", [])):
        assert viewer.post(reverse(f"stages:{name}", args=args)).status_code == 403
    assert viewer.post(reverse("stages:rules", args=[2]), form(made, rules="[]")).status_code == 403
    made.refresh_from_db()
    assert (made.state, made.rules) == ("draft", RICH)


# --- Nights -----------------------------------------------------------------------------------------------------------


def a_night(**fields) -> Night:
    night = Night.objects.create(
        **{
            "business_date": TODAY - timedelta(days=1),
            "as_of": clock.day_end(TODAY - timedelta(days=1)),
            "rule_set": published(),
            "state": "done",
            "counts": {"evaluated": 12, "moved": 1, "planned": 3},
            "started_at": clock.now(),
            "finished_at": clock.now() + timedelta(seconds=2.5),
            **fields,
        }
    )
    for position, step in enumerate(("facts", "stages")):
        Chunk.objects.create(night=night, step=step, position=position, low=0, high=10, state="done", seconds=0.25)
    return night


def test_it_shows_a_night_with_its_steps_and_moves(marketer):
    night = a_night()
    page = marketer.get(reverse("stages:night", args=["2026-03-10"])).content.decode()
    assert "Night of 10 Mar 2026" in page
    assert "2.5 seconds from start to end" in page
    assert "Stages of customers who are due" in page
    assert "Nobody moved on this date." in page
    move(person(), "retain", "dormant", night.business_date, night=night)
    page = marketer.get(reverse("stages:night", args=["2026-03-10"])).content.decode()
    assert "moved_from=retain&amp;moved_to=dormant&amp;moved_since=2026-03-10&amp;moved_until=2026-03-10" in page


def test_it_lists_nights_and_says_when_one_is_missing(marketer):
    a_night(business_date=TODAY - timedelta(days=3), as_of=clock.day_end(TODAY - timedelta(days=3)))
    page = marketer.get(reverse("stages:night-list")).content.decode()
    assert "2 nights are missing" in page
    assert "Run now" in page
    assert "8 Mar 2026" in page


@pytest.mark.parametrize("day", ["2026-13-01", "yesterday", "2020-01-01"])
def test_it_says_when_there_is_no_such_night(marketer, day):
    answer = marketer.get(reverse("stages:night", args=[day]))
    assert answer.status_code == 404


def test_it_opens_the_night_that_is_missing_and_rings(marketer, django_capture_on_commit_callbacks):
    person()
    answer = marketer.post(reverse("night-run"))
    assert answer.url == reverse("stages:night", args=["2026-03-10"])
    night = Night.objects.get()
    assert (night.state, str(night.business_date)) == ("running", "2026-03-10")
    assert night.chunks.filter(state="waiting").count() == night.chunks.count() > 0
    page = marketer.get(answer.url).content.decode()
    assert "Running" in page
    assert "0 of" in page
    marketer.post(reverse("night-run"))
    assert Night.objects.count() == 1


def test_it_lets_a_viewer_run_no_night(viewer):
    assert viewer.post(reverse("night-run")).status_code == 403
    assert not Night.objects.exists()


# --- REST -------------------------------------------------------------------------------------------------------------


def test_it_tells_moves_with_their_reason():
    published()
    someone = person()
    move(someone, "", "reach", TODAY - timedelta(days=5))
    move(someone, "reach", "acquire", TODAY)
    api = caller("stages:read")
    found = api.get("/api/v1/transitions/", {"customer": someone.pk, "from_stage": "new"}).json()["results"]
    assert [(row["from_stage"], row["to_stage"]) for row in found] == [("", "reach")]
    assert found[0]["reason"] == "Entered Reach on 6 Mar 2026: no other rule applies. Rule: Is known, version 1."
    assert found[0]["rule_set"] == 1
    assert found[0]["evidence"] == {"orders": 0}
    assert len(api.get("/api/v1/transitions/", {"since": "2026-03-07"}).json()["results"]) == 1
    assert len(api.get("/api/v1/transitions/", {"to_stage": "dormant"}).json()["results"]) == 0


def test_it_drafts_previews_and_publishes_over_the_api():
    published(ALL_REACH)
    person("reach", 9000)
    api = caller("stages:write")
    made = api.post("/api/v1/rule-sets/", {"name": "Rich", "rules": RICH}, format="json")
    assert (made.status_code, made.json()["version"], made.json()["state"]) == (201, 2, "draft")
    seen = api.get("/api/v1/rule-sets/2/what-if/").json()
    assert (seen["customers"], seen["moving"], seen["sample"][0]["rule"]) == (1, 1, "Rich")
    assert seen["standing"] == [{"source": "reach", "target": "advocate", "customers": 1}]
    braked = api.post("/api/v1/rule-sets/2/publish/")
    assert (braked.status_code, braked.json()["code"]) == (409, "brake")
    assert api.post("/api/v1/rule-sets/2/publish/", {"confirm": 1}, format="json").json()["state"] == "published"
    refused = api.post("/api/v1/rule-sets/2/publish/")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert api.post("/api/v1/rule-sets/1/restore/").json()["version"] == 3


def test_it_refuses_unknown_facts_over_the_api():
    bad = [{"key": "a", "to": "reach", "when": {"fact": "shoe_size", "op": "gte", "value": 1}}]
    answer = caller("stages:write").post("/api/v1/rule-sets/", {"name": "Bad", "rules": bad}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_condition")
    assert not RuleSet.objects.exists()


def test_it_lists_stages_and_nights_over_the_api():
    a_night()
    person("retain")
    api = caller("stages:read")
    stages = api.get("/api/v1/stages/").json()
    assert [stage["key"] for stage in stages] == StageKey.values
    assert stages[3]["customers"] == 1
    assert api.get("/api/v1/nights/2026-03-10/").json()["counts"]["planned"] == 3
    assert api.get("/api/v1/nights/2026-02-30/").status_code == 404

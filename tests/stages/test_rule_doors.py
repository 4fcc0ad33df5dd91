"""What is wrong with rules is one sentence at either door, page and API, and nothing is saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.urls import reverse
from django.utils.html import escape
from rest_framework.test import APIClient

from customers.models import CustomerFacts
from lifecycle_crm.lib import clock
from stages import rulesets
from stages.models import Backtest, Night, Pin, RuleApproval, RuleSet, StageTransition
from tests.api.factories import caller
from tests.dashboard.factories import noon, person
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

LAST = {"key": "is_known", "name": "Is known", "to": "reach", "when": {"all": []}}
BUYS = {"fact": "orders", "op": "gte", "value": 1}

Rules = list[dict[str, Any]]
Send = Callable[[Rules], tuple[int, str]]
"""Saves rules through a door; the status and the one sentence it says."""


def rule(key: str, to: str, when: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"key": key, "name": key.capitalize(), "to": to, "when": when, **more}


BAD = {
    "never true": (
        [rule("torn", "retain", {"all": [BUYS, {"fact": "orders", "op": "lt", "value": 1}]}), LAST],
        "“Torn” can never be true: its conditions contradict each other. Change a limit or remove it.",
    ),
    "never asked": (
        [rule("first", "retain", BUYS), rule("second", "nurture", BUYS), LAST],
        "“Second” never decides: “First” above it holds whenever it would. Move it up or remove it.",
    ),
    "unknown fact": (
        [rule("a", "retain", {"fact": "shoe_size", "op": "gte", "value": 41}), LAST],
        "Rule 1 (a), when: unknown fact 'shoe_size'.",
    ),
    "more usual gaps than a hundred": (
        [
            rule(
                "a",
                "dormant",
                {
                    "fact": "last_order_at",
                    "op": "days_since_gte",
                    "value": {"gaps": 101, "at_least": 30, "at_most": 90},
                },
            ),
            LAST,
        ],
        "Rule 1 (a), when.value.gaps: expected a number above 0 and up to 100, found 101.",
    ),
    "a segment": (
        [rule("a", "retain", {"segment": "vip"}), LAST],
        "Rule 1 (a), when: another segment can be used in segments only. Use a fact instead.",
    ),
    "nobody is caught": (
        [rule("a", "retain", BUYS)],
        "The last rule (a) must catch everybody, so that nobody is without a stage",
    ),
    "twice the same key": (
        [rule("a", "retain", BUYS), rule("a", "nurture", BUYS), LAST],
        "Rule 2 (a): another rule has the same key.",
    ),
    "no stage": ([rule("a", "heaven", BUYS), LAST], "Rule 1 (a): moves to 'heaven'."),
    "a stay of years": (
        [rule("a", "retain", BUYS, stay_days=4000), LAST],
        "Rule 1 (a): stay_days is 4000. Use a whole number of days from 0 to 3650.",
    ),
    "days below nothing": (
        [rule("a", "retain", {"fact": "last_order_at", "op": "days_since_gte", "value": -1}), LAST],
        "Rule 1 (a), when.value: expected a whole number from 0 to 36500, found -1.",
    ),
}
TOSSED = [
    rule("up", "retain", BUYS, **{"from": ["nurture"]}),
    rule("down", "nurture", BUYS, **{"from": ["retain"]}),
    LAST,
]


@pytest.fixture(autouse=True)
def _noon():
    with time_machine.travel(noon(date(2026, 3, 11)), tick=False):
        yield


def published() -> RuleSet:
    return RuleSet.objects.create(version=1, name="Rules", state="published", rules=[LAST], published_at=clock.now())


def signed_in(client: Client) -> Client:
    client.force_login(UserFactory(role="marketer", name="Anna"))
    return client


@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize("door", ["page", "new over the API", "change over the API"])
def test_both_doors_say_what_is_wrong_with_rules_and_save_nothing(door: str, bad: str, client: Client) -> None:
    published()
    made = rulesets.draft(based_on=None, rules=[LAST], actor=None, name="Mine")
    data, sentence = BAD[bad]
    if door == "page":
        url = reverse("stages:rules", args=[made.version])
        answer = signed_in(client).post(url, {"name": "Mine", "note": "", "rules": json.dumps(data)})
        said = answer.content.decode()
        assert escape(sentence) in said
        assert answer.context["form"].errors
    elif door == "new over the API":
        answer = caller("stages:write").post("/api/v1/rule-sets/", {"name": "New", "rules": data}, format="json")
        said = answer.json()["title"]
        assert said.startswith(sentence)
    else:
        url = f"/api/v1/rule-sets/{made.version}/"
        answer = caller("stages:write").put(url, {"name": "Changed", "rules": data}, format="json")
        said = answer.json()["title"]
        assert said.startswith(sentence)
    assert answer.status_code == 422
    made.refresh_from_db()
    assert (made.rules, made.name, RuleSet.objects.count()) == ([LAST], "Mine", 2)


@pytest.mark.parametrize("door", ["page", "API"])
def test_both_doors_name_a_loop_before_publishing_and_refuse_to_publish_it(door: str, client: Client) -> None:
    published()
    person("retain", 9000)
    CustomerFacts.objects.update(orders=1)
    made = rulesets.draft(based_on=None, rules=TOSSED, actor=None, name="Mine")
    signed_in(client)
    page = client.get(reverse("stages:rules", args=[made.version])).content.decode()
    sentence = (
        "“Up” moves people from Nurture to Retain and “Down” moves the same people back, every night. "
        "Give one of them a minimum stay, or limits that do not meet."
    )
    assert sentence in page
    if door == "page":
        answer = client.post(reverse("stages:rules-publish", args=[made.version]), {"confirm": "1"})
        assert sentence in answer.content.decode()
    else:
        api = caller("stages:write")
        assert api.get(f"/api/v1/rule-sets/{made.version}/what-if/").json()["warnings"] == [sentence]
        answer = api.post(f"/api/v1/rule-sets/{made.version}/publish/", {"confirm": 1}, format="json")
        assert (answer.json()["code"], answer.json()["title"]) == ("loop", sentence)
    assert answer.status_code == 422
    assert RuleSet.objects.get(state="published").version == 1
    with_stay = [{**TOSSED[0], "stay_days": 30}, *TOSSED[1:]]
    rulesets.edit(rule_set=made, rules=with_stay, name="Mine")
    assert sentence not in client.get(reverse("stages:rules", args=[made.version])).content.decode()


@pytest.mark.parametrize("door", ["page", "API"])
def test_both_doors_refuse_a_draft_that_another_version_overtook(door: str, client: Client) -> None:
    published()
    mine = rulesets.draft(based_on=None, rules=[LAST], actor=None, name="Mine")
    theirs = rulesets.draft(based_on=None, rules=[rule("buys", "retain", BUYS), LAST], actor=None, name="Theirs")
    rulesets.publish(rule_set=theirs, actor=UserFactory(name="Ben"))
    sentence = "Version 3 was published after this draft was made, by Ben. Compare the two, then say that this draft follows it."
    if door == "page":
        answer = signed_in(client).post(reverse("stages:rules-publish", args=[mine.version]))
        assert sentence in answer.content.decode()
    else:
        api = caller("stages:write")
        answer = api.post(f"/api/v1/rule-sets/{mine.version}/publish/")
        assert (answer.json()["code"], answer.json()["title"]) == ("overtaken", sentence)
    assert answer.status_code == 409
    assert RuleSet.objects.get(state="published") == theirs
    mine.refresh_from_db()
    assert mine.state == "draft"
    if door == "API":
        assert api.post(f"/api/v1/rule-sets/{mine.version}/follow/").status_code == 200
        assert api.post(f"/api/v1/rule-sets/{mine.version}/publish/").json()["state"] == "published"


def test_above_the_brake_the_api_wants_the_number_or_a_second_person_too() -> None:
    published()
    person("reach", 9000)
    CustomerFacts.objects.update(orders=1)
    made = rulesets.draft(based_on=None, rules=[rule("buys", "retain", BUYS), LAST], actor=None, name="Mine")
    url = f"/api/v1/rule-sets/{made.version}"
    key = caller("stages:write")
    refused = key.post(f"{url}/publish/")
    assert (refused.status_code, refused.json()["code"]) == (409, "brake")
    assert refused.json()["title"] == "1 customer would move. Type that number to publish, or ask a second person."
    assert key.post(f"{url}/ask/").status_code == 403, "a key is nobody in particular"
    anna, ben = APIClient(), APIClient()
    anna.force_login(UserFactory(role="marketer", email="anna@shop.example"))
    ben.force_login(UserFactory(role="marketer"))
    asked = anna.post(f"{url}/ask/", {"mode": "move"}, format="json")
    assert (asked.status_code, asked.json()["requested_by"], asked.json()["moving"]) == (201, "anna@shop.example", 1)
    own = anna.post(f"{url}/approve/")
    assert (own.status_code, own.json()["code"]) == (409, "second_person")
    assert RuleSet.objects.get(state="published").version == 1
    done = ben.post(f"{url}/approve/")
    assert (done.status_code, done.json()["state"], done.json()["mode"]) == (200, "published", "move")
    assert RuleApproval.objects.get().approved_by is not None


def test_the_api_changes_and_discards_drafts_only() -> None:
    published()
    api = caller("stages:write")
    for answer in (
        api.put("/api/v1/rule-sets/1/", {"name": "New", "rules": [LAST]}, format="json"),
        api.delete("/api/v1/rule-sets/1/"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    made = rulesets.draft(based_on=None, rules=[LAST], actor=None, name="Mine")
    changed = api.put(f"/api/v1/rule-sets/{made.version}/", {"name": "New", "rules": [LAST]}, format="json")
    assert (changed.status_code, changed.json()["name"]) == (200, "New")
    assert caller("stages:read").delete(f"/api/v1/rule-sets/{made.version}/").status_code == 403
    viewer = APIClient()
    viewer.force_login(UserFactory(role="viewer"))
    assert viewer.delete(f"/api/v1/rule-sets/{made.version}/").status_code == 403
    assert api.delete(f"/api/v1/rule-sets/{made.version}/").status_code == 204
    assert list(RuleSet.objects.values_list("version", flat=True)) == [1]


def test_the_api_asks_for_a_replay_and_stops_it() -> None:
    published()
    made = rulesets.draft(based_on=None, rules=[LAST], actor=None, name="Mine")
    api = caller("stages:write")
    refused = api.post(f"/api/v1/rule-sets/{made.version}/backtest/", {"months": 7}, format="json")
    assert refused.status_code == 400
    assert not Backtest.objects.exists()
    asked = api.post(f"/api/v1/rule-sets/{made.version}/backtest/", {"months": 3}, format="json")
    assert (asked.status_code, asked.json()["state"], asked.json()["against"]) == (202, "waiting", 1)
    again = api.post(f"/api/v1/rule-sets/{made.version}/backtest/", {"months": 3}, format="json")
    assert (again.status_code, Backtest.objects.count()) == (409, 1)
    url = f"/api/v1/backtests/{asked.json()['id']}/"
    assert caller("stages:read").post(f"{url}stop/").status_code == 403
    assert api.post(f"{url}stop/").json()["error"] == "Somebody stopped it."
    assert api.get(url).json()["result"] == {}
    assert api.post(f"{url}stop/").status_code == 409
    assert [one["state"] for one in api.get("/api/v1/backtests/").json()["results"]] == ["failed"]


# --- Dates ------------------------------------------------------------------------------------------------------------


def test_a_pin_in_the_past_and_a_night_of_the_future_are_refused_in_a_sentence(client: Client) -> None:
    published()
    someone = person("reach", 10)
    signed_in(client)
    answer = client.post(
        reverse("dashboard:customer-move", args=[someone.pk]),
        {"to": "retain", "reason": "A friend", "pin_until": "2026-03-01"},
        follow=True,
    )
    assert "The pin ends in the past. Choose a later date, or leave it empty." in answer.content.decode()
    assert not Pin.objects.exists()
    assert not StageTransition.objects.filter(kind="person").exists()
    assert CustomerFacts.objects.get().stage == "reach"
    tomorrow = (clock.today() + timedelta(days=1)).isoformat()
    preview = client.get(reverse("night-preview", args=[tomorrow]))
    assert preview.status_code == 409
    assert "is not over yet" in preview.content.decode()
    assert not Night.objects.exists()

"""Drafts as somebody's program may send them: kept and shown, or refused with a sentence, and never an error of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaigns.journeys import publishing, reading
from campaigns.models import Journey
from tests.api.factories import caller
from tests.campaigns.factories import person

pytestmark = pytest.mark.django_db

EXIT = {"id": "s1", "do": "exit"}


def one(**step: Any) -> dict[str, Any]:
    return {"trigger": {"on": "order"}, "steps": [{"id": "s1", **step}]}


@pytest.mark.parametrize(
    "tree, sentence",
    [
        ([], "A journey is an object with a trigger and steps."),
        ({"trigger": None, "steps": []}, "In the journey, trigger has to be an object."),
        ({"trigger": {"on": 5}}, "In the journey, trigger.on has to be text."),
        ({"trigger": {"on": "stage_left", "stage": ["dormant"]}}, "In the journey, trigger.stage has to be text."),
        ({"trigger": {"on": "answer", "at_least": "7"}}, "In the journey, trigger.at_least has to be a whole number."),
        ({"steps": {}}, "In the journey, steps has to be a list."),
        ({"steps": ["wait"]}, "In the journey, steps[0] has to be an object."),
        ({"steps": [{"do": "exit"}]}, "steps[0] needs an id of small letters, digits and -, at most 20, such as s1."),
        (
            {"steps": [{"id": "a b", "do": "exit"}]},
            "steps[0] needs an id of small letters, digits and -, at most 20, such as s1.",
        ),
        ({"steps": [EXIT, EXIT]}, "The id s1 is used by two steps. Give each its own."),
        ({"steps": [{"id": "s1"}]}, "In the journey, steps[0].do has to be text."),
        (one(do="message", template=[1]), "In the journey, steps[0].template has to be text."),
        (one(do="wait", days=True), "In the journey, steps[0].days has to be a whole number."),
        (one(do="wait", days=1.5), "In the journey, steps[0].days has to be a whole number."),
        (one(do="wait", window=5), "In the journey, steps[0].window has to be an object."),
        (one(do="wait", window=None), "In the journey, steps[0].window has to be an object."),
        (one(do="wait", window={"from": "9"}), "In the journey, steps[0].window.from has to be a whole number."),
        (
            one(do="wait", window={"weekdays": [0, 7]}),
            "steps[0].window.weekdays[1] has to be a day of the week, from 0 for Monday to 6 for Sunday.",
        ),
        (one(do="until", order="yes"), "In the journey, steps[0].order has to be true or false."),
        (one(do="until", at_most=7), "In the journey, steps[0].at_most has to be an object."),
        (one(do="until", at_most={"days": None}), "In the journey, steps[0].at_most.days has to be a whole number."),
        (one(do="until", when="now"), "In the journey, steps[0].when has to be an object."),
        (one(do="points", points="many"), "In the journey, steps[0].points has to be a whole number."),
        (one(do="points", reason=3), "In the journey, steps[0].reason has to be text."),
        (one(do="split", branches={}), "In the journey, steps[0].branches has to be a list."),
        (one(do="split", branches=["x"]), "In the journey, steps[0].branches[0] has to be an object."),
        (one(do="split", branches=[{"name": 1}]), "In the journey, steps[0].branches[0].name has to be text."),
        (
            one(do="split", branches=[{"steps": [7]}]),
            "In the journey, steps[0].branches[0].steps[0] has to be an object.",
        ),
        (one(do="share", branches=[{"percent": "x"}]), "In the journey, steps[0].branches[0].percent has to be a whole number."),
        (one(do="split", **{"else": [[]]}), "In the journey, steps[0].else[0] has to be an object."),
        (one(do="message", template="a\x00b"), "steps[0].template holds a character that cannot be stored. Remove it."),
        (one(do="points", reason="\ud800"), "steps[0].reason holds a character that cannot be stored. Remove it."),
        ({"steps": [], "note\x00": 1}, "The journey holds a character that cannot be stored. Remove it."),
    ],
)  # fmt: skip
def test_it_says_where_a_draft_is_no_journey_and_keeps_nothing(tree, sentence):
    api, made = caller("campaigns:*"), publishing.create(name="Kept", tree=one(do="exit"))
    body = json.dumps({"name": "New", "tree": tree})
    answers = [
        api.generic("POST", "/api/v1/journeys/", body, content_type="application/json"),
        api.generic("PATCH", f"/api/v1/journeys/{made.pk}/", body, content_type="application/json"),
    ]
    assert [answer.status_code for answer in answers] == [422, 422]
    assert [(answer.json()["code"], answer.json()["title"]) for answer in answers] == [("bad_journey", sentence)] * 2
    made.refresh_from_db()
    assert (made.name, made.draft, made.edits, Journey.objects.count()) == ("Kept", one(do="exit"), 0, 1)


def test_rules_for_leaving_and_goals_that_cannot_be_stored_are_refused_too():
    api, made = caller("campaigns:*"), publishing.create(name="Kept")
    for given_ in ({"exits": [{"fact": "city", "op": "eq", "value": "\x00"}]}, {"goal": {"event": "\x00"}}):
        answer = api.patch(f"/api/v1/journeys/{made.pk}/", given_, format="json")
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_journey")
    made.refresh_from_db()
    assert (made.exits, made.goal) == ([], {})


def test_a_number_without_an_end_is_none():
    made = publishing.create(name="Kept")
    endless = one(do="until", when={"fact": "points", "op": "gte", "value": 1e999})
    with pytest.raises(reading.BadJourney, match=r"steps\[0\].when.value has to be a number that ends."):
        publishing.save(journey=made, tree=endless)
    made.refresh_from_db()
    assert made.edits == 0


WORDS = [
    "id", "do", "days", "hours", "steps", "branches", "else", "when", "percent", "window", "from", "until", "weekdays",
    "at_most", "template", "points", "reason", "name", "fact", "op", "value", "segment", "did", "all", "on", "stage",
]  # fmt: skip
SAID = [
    "s1", "s2", "wait", "until", "split", "share", "message", "points", "exit", "order", "orders", "gte", "dormant",
    "stage_entered", "event", "segment_entered", "", "a\x00", "\ud800",
]  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats(allow_nan=False) | st.sampled_from(SAID),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)


def likely(depth: int = 0) -> Any:
    """Steps that are nearly right: most keys of the right kind, any of them now and then anything."""
    inner = st.lists(st.deferred(lambda: likely(depth + 1)), max_size=2) if depth < 2 else st.just([])
    number, text = st.integers(-1, 400), st.sampled_from(SAID[:-2])
    when = st.sampled_from([{"all": []}, {"fact": "orders", "op": "gte", "value": 2}, {"segment": "gone"}, {}])
    branch = st.fixed_dictionaries({"steps": inner}, optional={"percent": number, "when": when, "name": text})
    return st.fixed_dictionaries(
        {"id": st.sampled_from([f"s{n}" for n in range(40)]), "do": st.sampled_from(SAID[2:9])},
        optional={
            "days": number, "hours": number, "template": text, "points": number, "reason": text, "order": st.just(True),
            "event": text, "when": when, "at_most": st.fixed_dictionaries({}, optional={"days": number}),
            "window": st.fixed_dictionaries({}, optional={"from": number, "until": number, "weekdays": st.just([0, 6])}),
            "branches": st.lists(branch, max_size=2), "else": inner, "odd": ANYTHING,
        },
    )  # fmt: skip


TREES = ANYTHING | st.fixed_dictionaries(
    {
        "trigger": st.sampled_from([{}, {"on": "order"}, {"on": "stage_left", "stage": "moon"}, {"on": "tier"}, {"on": "x"}]),
        "steps": st.lists(likely() | ANYTHING, max_size=3) | st.lists(likely(), max_size=3),
    }
)  # fmt: skip


@pytest.fixture
def doors(marketer):
    return caller("campaigns:*"), marketer, publishing.create(name="Spring"), person()


@given(tree=TREES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_saved_can_be_shown_checked_and_tried(doors, tree):
    api, browser, journey, anna = doors
    at = f"/api/v1/journeys/{journey.pk}/"
    body = json.dumps({"tree": tree}).replace("Infinity", "1e999")
    saved = api.generic("PATCH", at, body, content_type="application/json")
    assert saved.status_code in (200, 400, 422)
    if saved.status_code != 200:
        assert saved.json()["title"].endswith(".")
        return
    assert api.get(f"{at}check/").status_code == 200
    assert api.get(f"{at}try/?customer={anna.pk}").status_code in (200, 422)
    assert browser.get(reverse("campaigns:journey", args=[journey.pk])).status_code == 200
    assert browser.get(reverse("campaigns:journeys")).status_code == 200
    journey.refresh_from_db()
    for step in journey.draft["steps"]:
        form = browser.get(reverse("campaigns:journey-step", args=[journey.pk, step["id"]]))
        assert form.status_code in (200, 404)

"""The pages of journeys, by plain forms as they work without JavaScript."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse

from campaigns.journeys import editing, engine, entering, publishing, reading
from campaigns.models import Journey, JourneyRun, WebhookTarget
from customers import segments
from lifecycle_crm.lib import clock
from loyalty import tiers, vouchers
from loyalty.models import Programme
from tests.campaigns.factories import NOON, VariantFactory, happens, person
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


def at(name: str, journey: Journey, *more) -> str:
    return reverse(f"campaigns:{name}", args=[journey.pk, *more])


def kinds(journey: Journey) -> list[str]:
    journey.refresh_from_db()
    return [f"{step['id']}:{step['do']}" for step in reading.steps_of(journey.draft)]


def press(client, journey: Journey, act: str, **more):
    journey.refresh_from_db()
    return client.post(at("journey-edit", journey), {"act": act, "edits": journey.edits, **more})


def test_a_marketer_builds_publishes_and_reads_a_journey_without_javascript(marketer):
    text = VariantFactory(template__name="Hello text").template
    answer = marketer.post(reverse("campaigns:journey-new"), {"name": "Spring"})
    journey = Journey.objects.get()
    assert answer.url == at("journey", journey)
    assert "Choose what lets people in." in marketer.get(answer.url).content.decode()
    marketer.post(at("journey-trigger", journey), {"on": "event", "event": "signup", "edits": 0})
    answer = press(marketer, journey, "add:start", kind="message")
    assert answer.url == at("journey-step", journey, "s1")
    journey.refresh_from_db()
    marketer.post(answer.url, {"template": text.key, "edits": journey.edits})
    press(marketer, journey, "add:after:s1", kind="wait")
    journey.refresh_from_db()
    marketer.post(
        at("journey-step", journey, "s2"),
        {"days": 3, "opens": 9, "closes": 18, "weekdays": ["0", "4"], "edits": journey.edits},
    )
    page = marketer.get(at("journey", journey)).content.decode()
    assert "Does “signup”" in page
    assert "Sends “Hello text”" in page
    assert "Waits 3 days, then for 09:00–18:00, Mon, Fri, where they live" in page
    page = marketer.get(at("journey-versions", journey)).content.decode()
    assert "Nobody is inside." in page
    journey.refresh_from_db()
    answer = marketer.post(at("journey-publish", journey), {"edits": journey.edits, "note": "First"}, follow=True)
    assert "Version 1 is in force." in answer.content.decode()

    Journey.objects.update(live_since=NOON - timedelta(days=1))
    anna = person(name="Anna Berg")
    Journey.objects.update(holdout_percent=0)
    told = happens(anna)
    entering.for_events([told.pk])
    engine.advance_due()
    page = marketer.get(at("journey-people", journey)).content.decode()
    assert "Anna Berg" in page
    run = JourneyRun.objects.get()
    page = marketer.get(at("journey-way", journey, run.pk)).content.decode()
    assert "message handed to the outbox" in page
    asked = marketer.get(at("journey-people", journey), {"who": f"#{person().pk}"}).content.decode()
    assert "is not inside: nothing let them in yet." in asked
    marketer.post(at("journey-remove", journey, run.pk), {"why": "She asked"})
    asked = marketer.get(at("journey-people", journey), {"who": f"#{anna.pk}"}).content.decode()
    assert "Anna Berg is not inside, because: somebody took them out." in asked
    assert "She asked" in marketer.get(at("journey-way", journey, run.pk)).content.decode()
    assert marketer.get(at("journey-results", journey)).status_code == 200
    assert marketer.get(reverse("campaigns:journeys")).status_code == 200


def test_it_moves_duplicates_and_deletes_steps_with_what_is_inside(marketer):
    journey = publishing.create(name="Spring")
    press(marketer, journey, "add:start", kind="exit")
    press(marketer, journey, "add:start", kind="split")
    press(marketer, journey, "add:in:s2:0", kind="wait")
    press(marketer, journey, "add:in:s2:-1", kind="points")
    assert kinds(journey) == ["s2:split", "s3:wait", "s4:points", "s1:exit"]
    press(marketer, journey, "down:s2")
    assert kinds(journey) == ["s1:exit", "s2:split", "s3:wait", "s4:points"]
    press(marketer, journey, "duplicate:s2")
    assert kinds(journey)[4:] == ["s5:split", "s6:wait", "s7:points"]
    press(marketer, journey, "branch:s5")
    press(marketer, journey, "unbranch:s5:0")
    assert kinds(journey)[4:] == ["s5:split", "s7:points"]
    press(marketer, journey, "delete:s2")
    assert kinds(journey) == ["s1:exit", "s5:split", "s7:points"]


def test_a_new_step_never_takes_the_id_of_one_that_was_published():
    tree = {"steps": [{"id": "s1", "do": "exit"}]}
    assert editing.add(tree, "start", "wait", {"s1", "s2"})[1] == "s3"


def test_it_fills_in_every_kind_of_step(marketer):
    segments.create(name="Big", key="big", condition={"all": []})
    journey = publishing.create(name="Spring")
    series = vouchers.create(name="Spring", worth="percent", percent=10)
    UserFactory(role="support", email="ada@shop.example")
    WebhookTarget.objects.create(key="warehouse", name="Warehouse", url="https://warehouse.shop.example/")
    for kind in ("points", "share", "split", "until", "voucher", "tag", "tag", "task_done", "task", "webhook"):
        press(marketer, journey, "add:start", kind=kind)
    given = {
        "s4": {"what": "event", "event": "visit", "days": 9},
        "s3": {"name-0": "The big ones", "segment-0": "big"},
        "s2": {"percent-0": 30},
        "s1": {"points": 70, "reason": "Thanks"},
        "s5": {"series": series.pk},
        "s6": {"tag": "came back", "remove": ""},
        "s7": {"tag": "quiet", "remove": "1"},
        "s9": {"kind": "call", "what": "Ask how it went", "days": 3, "whom": "person:ada@shop.example"},
        "s8": {"task": "s9", "days": 7},
        "s10": {"target": "warehouse", "fields_told": ["stage", "tags"]},
    }
    for step, values in given.items():
        journey.refresh_from_db()
        assert marketer.get(at("journey-step", journey, step)).status_code == 200
        answer = marketer.post(at("journey-step", journey, step), {**values, "edits": journey.edits})
        assert answer.status_code == 302
    journey.refresh_from_db()
    assert journey.draft["steps"] == [
        {"id": "s10", "do": "webhook", "target": "warehouse", "fields": ["stage", "tags"]},
        {"id": "s9", "do": "task", "kind": "call", "what": "Ask how it went", "days": 3, "person": "ada@shop.example"},
        {"id": "s8", "do": "task_done", "task": "s9", "at_most": {"days": 7}, "branches": [{"steps": []}], "else": []},
        {"id": "s7", "do": "tag", "tag": "quiet", "remove": True},
        {"id": "s6", "do": "tag", "tag": "came back"},
        {"id": "s5", "do": "voucher", "series": series.pk},
        {"id": "s4", "do": "until", "event": "visit", "at_most": {"days": 9}},
        {"id": "s3", "do": "split", "branches": [{"when": {"segment": "big"}, "steps": [], "name": "The big ones"}], "else": []},
        {"id": "s2", "do": "share", "branches": [{"percent": 30, "steps": []}], "else": []},
        {"id": "s1", "do": "points", "points": 70, "reason": "Thanks"},
    ]  # fmt: skip
    page = marketer.get(at("journey", journey)).content.decode()
    for said in ("Takes off the tag “quiet”", "Puts on the tag “came back”", "Gives a voucher: “Spring”"):
        assert said in page
    answer = marketer.post(at("journey-step", journey, "s3"), {"when-0": "{no", "edits": journey.edits})
    assert (answer.status_code, "This is no JSON." in answer.content.decode()) == (422, True)


def test_a_wait_keeps_its_hours_and_has_to_end(marketer):
    journey = publishing.create(
        name="Spring",
        tree={"steps": [{"id": "s1", "do": "until", "order": True, "at_most": {"days": 2, "hours": 5}}]},
    )
    page = marketer.get(at("journey-step", journey, "s1")).content.decode()
    assert 'name="hours" value="5"' in page
    marketer.post(at("journey-step", journey, "s1"), {"what": "order", "hours": 36, "edits": 0})
    journey.refresh_from_db()
    assert journey.draft["steps"] == [{"id": "s1", "do": "until", "order": True, "at_most": {"hours": 36}}]
    answer = marketer.post(at("journey-step", journey, "s1"), {"what": "order", "edits": 1})
    assert (answer.status_code, "This wait has no end." in answer.content.decode()) == (422, True)
    journey.refresh_from_db()
    assert journey.edits == 1


def test_the_tier_that_lets_people_in_is_chosen_from_those_of_the_shop(marketer):
    programme = Programme.objects.create(name="Points", is_active=True)
    tiers.set_ladder(programme=programme, steps=[tiers.Step("Silver", 100), tiers.Step("Gold", 500)])
    journey = publishing.create(name="Spring")
    page = marketer.get(at("journey-trigger", journey)).content.decode()
    assert page.index('<option value="silver">Silver</option>') < page.index('<option value="gold">Gold</option>')
    answer = marketer.post(at("journey-trigger", journey), {"on": "tier", "tier": "bronze", "edits": 0})
    assert answer.status_code == 422
    marketer.post(at("journey-trigger", journey), {"on": "tier", "tier": "gold", "edits": 0})
    journey.refresh_from_db()
    assert journey.draft["trigger"] == {"on": "tier", "tier": "gold"}
    assert "Reaches the tier “Gold”" in marketer.get(at("journey", journey)).content.decode()


def test_a_birthday_may_let_people_in_on_the_day(marketer):
    journey = publishing.create(name="Spring")
    marketer.post(at("journey-trigger", journey), {"on": "birthday", "days": 0, "edits": 0})
    journey.refresh_from_db()
    assert journey.draft["trigger"] == {"on": "birthday", "days": 0}
    assert "Has their birthday" in marketer.get(at("journey", journey)).content.decode()


def test_it_says_what_publishing_does_to_people_inside_and_takes_a_version_back(marketer):
    journey = publishing.create(
        name="Spring", holdout_percent=0,
        tree={"trigger": {"on": "event", "event": "signup"}, "steps": [{"id": "s1", "do": "wait", "days": 7}]},
    )  # fmt: skip
    publishing.publish(journey=journey)
    Journey.objects.update(live_since=NOON - timedelta(days=9))
    told = happens(person(), at=clock.now())
    entering.for_events([told.pk])
    engine.advance_due()
    marketer.post(at("journey-step", journey, "s1"), {"days": 5, "edits": 0})
    page = marketer.get(at("journey-versions", journey)).content.decode()
    assert (
        "“Waits 7 days” becomes “Waits 5 days”: 0 of 1 person inside has waited long enough and goes on at once."
        in page
    )
    marketer.post(at("journey-publish", journey), {"edits": 1})
    marketer.post(at("journey-take-up", journey, 1), {"edits": 1})
    journey.refresh_from_db()
    assert (journey.version, journey.draft["steps"][0]["days"]) == (2, 7)


def test_it_keeps_settings_and_ends(marketer):
    own = {"fact": "points", "op": "gte", "value": 900}
    journey = publishing.create(
        name="Spring", tree={"trigger": {"on": "order"}, "steps": [{"id": "s1", "do": "exit"}]}, exits=[own]
    )
    answer = marketer.post(
        at("journey-settings", journey),
        {
            "name": "Spring again", "again": "after", "again_days": 60, "holdout_percent": 20, "goal": "order", "goal_days": 14,
            "exits": ["complains"], "leaves_stage": "dormant",
        },
    )  # fmt: skip
    assert answer.status_code == 302
    journey.refresh_from_db()
    assert (journey.name, journey.again, journey.again_days, journey.holdout_percent) == (
        "Spring again",
        "after",
        60,
        20,
    )
    assert (journey.goal, journey.goal_days) == ({"order": True}, 14)
    assert journey.exits == [
        own, {"fact": "open_cases", "op": "gte", "value": 1}, {"fact": "stage", "op": "ne", "value": "dormant"},
    ]  # fmt: skip
    assert "A person may enter again after 60 days." in marketer.get(at("journey-settings", journey)).content.decode()
    publishing.publish(journey=journey)
    marketer.post(at("journey-switch", journey, "pause"))
    marketer.post(at("journey-switch", journey, "resume"))
    marketer.post(at("journey-switch", journey, "end"))
    journey.refresh_from_db()
    assert journey.state == "ended"


def test_it_tries_with_a_customer_and_shows_the_way(marketer):
    anna = person(name="Anna Berg", given_name="Anna")
    text = VariantFactory().template
    rich = {"fact": "points", "op": "gte", "value": 100}
    journey = publishing.create(name="Spring", holdout_percent=0, tree={"trigger": {"on": "order"}, "steps": [
        {"id": "s1", "do": "split", "branches": [{"when": rich, "steps": []}], "else": [
            {"id": "s2", "do": "message", "template": text.key}]},
    ]})  # fmt: skip
    page = marketer.get(at("journey-try", journey), {"who": f"#{anna.pk}"}).content.decode()
    assert "Hello Anna" in page
    assert "Would be sent" in page
    assert "Not met" in page
    publishing.set_up(journey=journey, exits=[{"fact": "stage", "op": "ne", "value": "dormant"}])
    page = marketer.get(at("journey-try", journey), {"who": f"#{anna.pk}"}).content.decode()
    assert "left: Left early: stage: not Dormant" in page
    assert "There is no customer" in marketer.get(at("journey-try", journey), {"who": "#999999"}).content.decode()


def test_a_viewer_reads_without_names_and_changes_nothing(client):
    client.force_login(UserFactory(role="viewer"))
    journey = publishing.create(name="Spring", tree={"trigger": {"on": "order"}, "steps": [{"id": "s1", "do": "exit"}]})
    for name in ("journey", "journey-people", "journey-results", "journey-versions", "journey-settings", "journey-try"):
        assert client.get(at(name, journey)).status_code == 200
    for name, more in (
        ("journey-edit", ()),
        ("journey-publish", ()),
        ("journey-switch", ("end",)),
        ("journey-trigger", ()),
    ):
        assert client.post(at(name, journey, *more), {"act": "delete:s1"}).status_code == 403
    assert kinds(journey) == ["s1:exit"]

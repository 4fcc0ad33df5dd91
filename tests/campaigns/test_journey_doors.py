"""Journeys over REST and by their verbs: drafts, publishing with people inside, and a dry run."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.urls import reverse

from campaigns import outbox, texts
from campaigns.journeys import engine, entering, publishing, trying, words
from campaigns.models import Journey, JourneyRun, JourneyStep, JourneyVersion, Message, Run, Template
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from tests.api.factories import caller
from tests.campaigns.factories import NOON, VariantFactory, happens, person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


def tree(*steps, on=None):
    return {"trigger": on or {"on": "event", "event": "signup"}, "steps": list(steps)}


def wait(days: int, pk: str = "s1"):
    return {"id": pk, "do": "wait", "days": days}


def send(text: str, pk: str):
    return {"id": pk, "do": "message", "template": text}


def with_people(journey: Journey, *entered_days_ago: int) -> list[JourneyRun]:
    """So many people inside, in the first step since so many days."""
    Journey.objects.filter(pk=journey.pk).update(live_since=NOON - timedelta(days=90))
    for ago in entered_days_ago:
        with time_machine.travel(NOON - timedelta(days=ago), tick=False):
            told = happens(person(), at=clock.now())
            assert entering.for_events([told.pk]) == 1
            engine.advance_due()
    return list(JourneyRun.objects.order_by("id"))


def published(*steps, **settings) -> Journey:
    made = publishing.create(name="Welcome", tree=tree(*steps), **{"holdout_percent": 0, **settings})
    publishing.publish(journey=made)
    return made


# --- Publishing -----------------------------------------------------------------------------------------------------------


def test_a_shortened_wait_sends_on_who_waited_longer_and_only_them(text):
    journey = published(wait(7), send(text, "s2"))
    six, three = with_people(journey, 6, 3)
    publishing.save(journey=journey, tree=tree(wait(5), send(text, "s2")))
    [effect] = publishing.effects(journey)
    assert (effect.step, effect.kind, effect.inside, effect.at_once) == ("s1", "changed", 2, 1)
    assert words.effect(effect) == (
        "“Waits 7 days” becomes “Waits 5 days”: 1 of 2 people inside have waited long enough and go on at once."
    )
    assert JourneyRun.objects.filter(due_at__lte=NOON).count() == 0
    assert publishing.publish(journey=journey).number == 2
    assert engine.advance_due() == {"messages": 1, "done": 1, "running": 1}
    assert set(JourneyRun.objects.values_list("pk", "state")) == {(six.pk, "done"), (three.pk, "running")}
    assert JourneyRun.objects.get(pk=three.pk).due_at == NOON + timedelta(days=2)


def test_a_removed_step_sends_people_on_to_the_next_and_the_history_says_so(text):
    journey = published(wait(7), send(text, "s2"), wait(1, "s3"))
    [run] = with_people(journey, 3)
    publishing.save(journey=journey, tree=tree(send(text, "s2"), wait(1, "s3")))
    [effect] = publishing.effects(journey)
    assert (effect.kind, effect.inside, effect.at_once, effect.to) == ("removed", 1, 1, "s2")
    publishing.publish(journey=journey)
    assert engine.advance_due() == {"messages": 1, "running": 1}
    rows = JourneyStep.objects.filter(run=run).order_by("id").values_list("step", "outcome", "data")
    assert list(rows)[:2] == [("s1", "moved", {"to": "s2"}), ("s2", "message", {"template": text})]


def test_a_step_moved_behind_people_is_not_sent_twice(text):
    journey = published(send(text, "s1"), wait(2, "s2"), wait(9, "s3"))
    with_people(journey, 1)
    publishing.save(journey=journey, tree=tree(wait(2, "s2"), send(text, "s1"), wait(9, "s3")))
    publishing.publish(journey=journey)
    with time_machine.travel(NOON + timedelta(days=2), tick=False):
        engine.advance_due()
    assert list(JourneyStep.objects.order_by("id").values_list("step", "outcome")) == [
        ("s1", "message"), ("s2", "waited"), ("s1", "repeated"),
    ]  # fmt: skip
    assert Message.objects.count() == 1


def test_new_words_of_a_text_reach_who_comes_later(text):
    journey = published(send(text, "s1"), wait(1, "s2"))
    with_people(journey, 2)
    VariantFactory(template=engine.Template.objects.get(key=text), version=2, subject="New words")
    with_people(journey, 1)
    assert Run.objects.count() == 2
    outbox.send_due()
    assert set(Message.objects.values_list("rendering__subject", flat=True)) >= {"New words"}


def test_it_refuses_what_cannot_be_walked_and_leaves_everything_as_it_was(text):
    journey = published(wait(1))
    publishing.save(journey=journey, tree=tree({"id": "s1", "do": "wait"}))
    with pytest.raises(InvalidInput, match="This wait has no length"):
        publishing.publish(journey=journey)
    journey.refresh_from_db()
    assert (journey.version, JourneyVersion.objects.count()) == (1, 1)


def test_two_people_who_edit_at_once_do_not_overwrite_each_other():
    journey = publishing.create(name="Welcome", tree=tree(wait(1)))
    publishing.save(journey=journey, tree=tree(wait(2)), edits=0)
    with pytest.raises(Conflict, match="Somebody changed this journey"):
        publishing.save(journey=journey, tree=tree(wait(3)), edits=0)
    journey.refresh_from_db()
    assert journey.draft["steps"] == [wait(2)]


def test_a_text_of_a_published_journey_is_in_use_and_cannot_be_put_away(text):
    journey = published(send(text, "a"))
    template = Template.objects.get(key=text)
    assert [str(one) for one in texts.in_use(template)] == [f"Welcome: {template.name}"]
    with pytest.raises(Conflict, match="still says it"):
        texts.archive(template=template)
    publishing.end(journey=journey)
    assert texts.archive(template=template).archived_at == NOON
    assert text not in texts.choosable().values_list("key", flat=True)


def test_it_takes_one_person_out_with_a_reason(text):
    journey = published(send(text, "s1"), wait(9, "s2"))
    [run] = with_people(journey, 0)
    with pytest.raises(InvalidInput, match="Say why"):
        publishing.remove(run=run, actor=None, why="  ")
    publishing.remove(run=run, actor=None, why="Asked on the phone")
    assert (run.state, run.reason) == ("cancelled", "removed")
    assert Message.objects.get().state == "cancelled"
    assert JourneyStep.objects.last().data["why"] == "Asked on the phone"
    with pytest.raises(Conflict, match="not inside any more"):
        publishing.remove(run=run, actor=None, why="Again")


def test_it_moves_one_person_to_another_step_and_gives_nothing_twice(text, marketer):
    journey = published(send(text, "s1"), wait(9, "s2"), send(text, "s3"), wait(5, "s4"))
    [run] = with_people(journey, 0)
    for to, why, problem in (
        ("s3", " ", "Say why"),
        ("s9", "Asked", "Choose the step"),
        ("", "Asked", "Choose the step"),
    ):
        with pytest.raises(InvalidInput, match=problem):
            publishing.move(run=run, to=to, actor=None, why=why)
    run.refresh_from_db()
    assert (run.step, run.due_at) == ("s2", NOON + timedelta(days=9))
    answer = marketer.post(
        reverse("campaigns:journey-move", args=[journey.pk, run.pk]), {"to": "s3", "why": "Asked on the phone"}
    )
    assert answer.status_code == 302
    assert engine.advance_due() == {"messages": 1, "running": 1}
    moved = caller("campaigns:*").post(
        f"/api/v1/journey-runs/{run.pk}/move/", {"to": "s1", "why": "Once more"}, format="json"
    )
    assert (moved.status_code, moved.json()["step"], moved.json()["since"]) == (200, "s1", None)
    engine.advance_due()
    trail = list(JourneyStep.objects.filter(run=run).order_by("id").values_list("step", "outcome"))
    assert trail == [("s1", "message"), ("s2", "placed"), ("s3", "message"), ("s4", "placed"), ("s1", "repeated")]
    assert Message.objects.count() == 2
    page = marketer.get(reverse("campaigns:journey-way", args=[journey.pk, run.pk])).content.decode()
    assert "moved by a person to: Sends “" in page
    assert "(Asked on the phone)" in page
    publishing.remove(run=run, actor=None, why="Asked")
    with pytest.raises(Conflict, match="not inside any more"):
        publishing.move(run=run, to="s3", actor=None, why="Asked")
    assert caller("campaigns:read").post(f"/api/v1/journey-runs/{run.pk}/move/", {}).status_code == 403
    assert JourneyStep.objects.filter(outcome="placed").count() == 2


# --- Trying ---------------------------------------------------------------------------------------------------------------


def test_it_tries_the_draft_with_a_customer_and_writes_nothing(text):
    anna = person(given_name="Anna", facts={"points": 40})
    rich = {"fact": "points", "op": "gte", "value": 100}
    journey = publishing.create(name="Welcome", tree=tree(
        wait(3),
        {"id": "s2", "do": "split", "branches": [{"when": rich, "steps": [send(text, "s3")]}], "else": [send(text, "s4")]},
        {"id": "s5", "do": "until", "order": True, "at_most": {"days": 2}},
    ))  # fmt: skip
    before = (Message.objects.count(), JourneyRun.objects.count(), Run.objects.count())
    trial = trying.attempt(journey=journey, customer=anna)
    assert [(one.step, str(one.outcome), (one.at - NOON).days) for one in trial.steps] == [
        ("s1", "waited", 3), ("s2", "branch", 3), ("s4", "message", 3), ("s5", "timed_out", 5), ("", "left", 5),
    ]  # fmt: skip
    split, letter = trial.steps[1], trial.steps[2]
    assert [(number, holds) for number, holds, _why in split.asked] == [(0, False)]
    assert (letter.subject, letter.text.splitlines()[0]) == ("Hello Anna", "You have 40 points.")
    assert letter.verdict is not None
    assert letter.verdict.outcome == "sent"
    assert (Message.objects.count(), JourneyRun.objects.count(), Run.objects.count()) == before


# --- REST -----------------------------------------------------------------------------------------------------------------


def test_it_is_made_checked_published_paused_and_ended_over_rest(text):
    api = caller("campaigns:*")
    made = api.post(
        "/api/v1/journeys/", {"name": "Welcome", "tree": tree(wait(0)), "holdout_percent": 0}, format="json"
    )
    assert (made.status_code, made.json()["state"], made.json()["key"]) == (201, "draft", "welcome")
    at = f"/api/v1/journeys/{made.json()['id']}/"
    checked = api.get(f"{at}check/").json()
    assert checked == {
        "problems": [{"step": "s1", "sentence": "This wait has no length. Say how many days or hours."}], "effects": [],
    }  # fmt: skip
    refused = api.post(f"{at}publish/", {}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_journey")
    changed = api.patch(
        at, {"tree": tree(send(text, "s1"), wait(1, "s2")), "edits": 0, "goal": {"order": True}}, format="json"
    )
    assert (changed.status_code, changed.json()["goal"]) == (200, {"order": True})
    assert api.patch(at, {"tree": tree(), "edits": 0}, format="json").status_code == 409
    assert api.post(f"{at}publish/", {"note": "First"}, format="json").json()["number"] == 1
    Journey.objects.update(live_since=NOON - timedelta(days=1))
    anna = person()
    told = happens(anna)
    entering.for_events([told.pk])
    engine.advance_due()
    [row] = api.get(f"/api/v1/journey-runs/?customer={anna.pk}").json()["results"]
    assert (row["state"], row["step"], row["due_at"]) == ("running", "s2", "2026-11-21T11:00:00Z")
    assert [one["outcome"] for one in api.get(f"/api/v1/journey-runs/{row['id']}/").json()["steps"]] == ["message"]
    numbers = api.get(f"{at}results/").json()
    assert numbers.pop("caused")["sentence"] == (
        "No clear change yet (n 1, and 0 held out; a comparison needs 100 of each)."
    )
    assert numbers == {
        "entered": 1, "reached": 0, "held_out": 0, "held_out_reached": 0, "states": {"running": 1}, "steps": {"s1": 1},
        "tasks": {}, "webhooks": {},
    }  # fmt: skip
    assert api.post(f"{at}pause/").json()["state"] == "paused"
    assert api.post(f"{at}pause/").status_code == 409
    assert api.post(f"{at}resume/").json()["state"] == "live"
    tried = api.get(f"{at}try/?customer={anna.pk}").json()
    assert [one["outcome"] for one in tried["steps"]] == ["message", "waited", "left"]
    assert api.get(f"{at}try/").status_code == 422
    assert (
        api.post(f"/api/v1/journey-runs/{row['id']}/remove/", {"why": "Asked"}, format="json").json()["state"]
        == "cancelled"
    )
    assert api.post(f"{at}end/").json()["state"] == "ended"
    assert [one["number"] for one in api.get(f"{at}versions/").json()] == [1]


def test_a_key_that_may_only_read_changes_nothing(text):
    journey = published(wait(1))
    reader = caller("campaigns:read")
    assert reader.get(f"/api/v1/journeys/{journey.pk}/").status_code == 200
    for verb in ("publish", "pause", "resume", "end"):
        assert reader.post(f"/api/v1/journeys/{journey.pk}/{verb}/").status_code == 403
    assert reader.patch(f"/api/v1/journeys/{journey.pk}/", {"name": "X"}, format="json").status_code == 403
    journey.refresh_from_db()
    assert (journey.state, journey.name) == ("live", "Welcome")


def test_a_change_that_is_refused_in_part_changes_nothing(text):
    made = publishing.create(name="Welcome", tree=tree(wait(2)))
    refused = caller("campaigns:*").patch(
        f"/api/v1/journeys/{made.pk}/", {"tree": tree(wait(9)), "exits": [{"fact": "nope", "op": "eq", "value": 1}]},
        format="json",
    )  # fmt: skip
    assert refused.status_code == 422
    made.refresh_from_db()
    assert (made.draft, made.edits) == (tree(wait(2)), 0)

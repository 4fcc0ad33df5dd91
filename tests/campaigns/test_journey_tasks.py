"""Steps that give the team a task, and steps that wait for one."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

import pytest
from django.db import IntegrityError, transaction

from campaigns import audit, stafftasks
from campaigns.journeys import editing, engine, entering, plans, publishing, reading, trying, words
from campaigns.models import Journey, JourneyRun, JourneyStep, StaffTask, StaffTaskChange
from lifecycle_crm.lib.errors import InvalidInput
from tests.campaigns.factories import NOON, happens, live_journey, person, trail
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]

CALL = {"id": "s1", "do": "task", "kind": "call", "what": "Ask how it went", "days": 2, "role": "support"}


def waits(pk: str = "s2", task: str = "s1", **ways):
    steps = {"branches": [{"steps": ways.get("done", [])}], "else": ways.get("other", [])}
    return {"id": pk, "do": "task_done", "task": task, "at_most": {"days": 5}, **steps}


def tag(pk: str, name: str):
    return {"id": pk, "do": "tag", "tag": name}


WAITS = waits(done=[tag("s3", "reached")], other=[tag("s4", "missed")])


def enters(*people) -> None:
    assert entering.for_events([happens(one).pk for one in people]) == len(people)


def withdrawn() -> list[tuple[str, str]]:
    return list(StaffTask.objects.order_by("pk").values_list("state", "withdrawn"))


def test_it_gives_the_team_one_task_per_way_and_step():
    three = [person(), person(), person()]
    live_journey([CALL])
    enters(*three)
    assert engine.advance_due() == {"tasks": 3, "done": 3}
    assert list(StaffTask.objects.order_by("customer").values_list("customer", "kind", "what", "role", "due_on", "state")) == [
        (one.pk, "call", "Ask how it went", "support", date(2026, 11, 22), "open") for one in three
    ]  # fmt: skip
    assert trail(three[0]) == ["s1:task", ":left"]
    task = StaffTask.objects.first()
    with pytest.raises(IntegrityError), transaction.atomic():
        StaffTask.objects.create(
            run=task.run, step="s1", customer=task.customer, kind="call", what="x", due_on=NOON.date(), created_at=NOON
        )
    assert audit.problems() == []


def test_it_asks_nobody_twice_when_somebody_is_moved_before_the_step_again():
    anna = person()
    live_journey([CALL, {"id": "s2", "do": "wait", "days": 9}])
    enters(anna)
    engine.advance_due()
    publishing.move(run=JourneyRun.objects.get(), to="s1", actor=None, why="Once more")
    assert engine.advance_due() == {"running": 1}
    assert trail(anna) == ["s1:task", "s2:placed", "s1:task_had"]
    assert StaffTask.objects.count() == 1
    assert audit.problems() == []


def test_it_gives_the_task_of_somebody_who_left_the_shop_to_the_others():
    ada = UserFactory(role="support", name="Ada", email="ada@shop.example")
    made = live_journey([{**CALL, "role": "", "person": ada.email}])
    anna, bo = person(), person()
    enters(anna)
    engine.advance_due()
    ada.is_active = False
    ada.save()
    enters(bo)
    engine.advance_due()
    assert list(StaffTask.objects.order_by("pk").values_list("assignee", "role")) == [(ada.pk, ""), (None, "")]
    made.refresh_from_db()
    assert made.state == "live"
    [problem] = publishing.problems(made)
    assert problem.step == "s1"
    assert problem.sentence.startswith("The person this task is for does not work here any more.")


def test_it_goes_on_at_once_by_the_branch_of_what_became_of_the_task(noon):
    anna, bo, cleo = person(), person(), person()
    live_journey([CALL, WAITS])
    enters(anna, bo, cleo)
    assert engine.advance_due() == {"tasks": 3, "running": 3}
    of = {task.customer_id: task for task in StaffTask.objects.all()}
    noon.shift(timedelta(hours=3))
    assert engine.advance_due() == {}
    stafftasks.done(task=of[anna.pk], actor=None, why="All is well")
    stafftasks.not_done(task=of[bo.pk], actor=None, why="No number")
    assert engine.advance_due() == {"done": 2}
    noon.shift(timedelta(days=5))
    assert engine.advance_due() == {"done": 1}
    assert trail(anna) == ["s1:task", "s2:branch", "s3:tagged", ":left"]
    assert trail(bo) == ["s1:task", "s2:branch", "s4:tagged", ":left"]
    assert trail(cleo) == ["s1:task", "s2:branch", "s4:tagged", ":left"]
    # Somebody may still call her.
    assert [task.state for task in StaffTask.objects.order_by("pk")] == ["done", "not_done", "open"]
    assert audit.problems() == []


def test_it_waits_for_no_task_that_nobody_got():
    anna = person()
    made = live_journey([{"id": "s0", "do": "wait", "days": 1}, CALL, WAITS])
    enters(anna)
    engine.advance_due()
    publishing.move(run=JourneyRun.objects.get(), to="s2", actor=None, why="Past the call")
    assert engine.advance_due() == {"done": 1}
    assert trail(anna)[-3:] == ["s2:branch", "s4:tagged", ":left"]
    assert plans.in_force(made).plan.has(reading.TaskDone)


def test_it_withdraws_tasks_of_who_leaves_early_reaches_the_goal_is_taken_out_or_ends(noon):
    early, happy, out, last, through = (person() for _n in range(5))
    made = live_journey(
        [CALL, {"id": "s2", "do": "split", "branches": [{"when": {"tag": "short"}, "steps": [{"id": "s3", "do": "exit"}]}]},
         {"id": "s4", "do": "wait", "days": 3}],
        exits=[{"tag": "gone"}], goal={"order": True},
    )  # fmt: skip
    through.tags = ["short"]
    through.save()
    enters(early, happy, out, last, through)
    assert engine.advance_due() == {"tasks": 5, "running": 4, "exited": 1}
    assert set(StaffTask.objects.values_list("state", flat=True)) == {"open"}
    early.tags = ["gone"]
    early.save()
    JourneyRun.objects.filter(customer=happy).update(goal_at=NOON)
    JourneyRun.objects.filter(customer__in=[early, happy]).update(due_at=NOON)
    engine.advance_due()
    publishing.remove(run=JourneyRun.objects.get(customer=out), actor=None, why="She asked")
    publishing.end(journey=made)
    assert dict(StaffTask.objects.values_list("customer", "withdrawn")) == {
        early.pk: "exit_rule", happy.pk: "goal", out.pk: "removed", last.pk: "ended", through.pk: "ended",
    }  # fmt: skip
    assert Counter(StaffTaskChange.objects.values_list("what", flat=True)) == {"withdrawn": 5}
    assert audit.problems() == []


def test_an_undone_night_withdraws_its_tasks_and_leaves_whom_somebody_called():
    anna, bo, cleo = person(), person(), person()
    live_journey([CALL])
    enters(anna, bo, cleo)
    engine.advance_due()
    night = NOON.date() - timedelta(days=1)
    JourneyRun.objects.update(night=night)
    stafftasks.done(task=StaffTask.objects.get(customer=anna), actor=None)
    stafftasks.not_done(task=StaffTask.objects.get(customer=bo), actor=None, why="No number")
    assert publishing.undo_night(business_date=night) == {"taken_out": 2, "gone_on": 1}
    assert withdrawn() == [("done", ""), ("not_done", ""), ("withdrawn", "undone")]
    assert audit.problems() == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "shout"}, "Choose what kind of task this is."),
        ({"what": " "}, "Say what there is to do, in at most 200 letters; your team reads it."),
        ({"days": 91}, "Say within how many days the task has to be done: 0 to 90."),
        ({"role": "viewer"}, "Choose a role that works with customers."),
        ({"person": "nobody@shop.example"}, "Choose somebody who works with customers, or a role."),
        ({"until": 3}, "This step does not know until."),
    ],
)
def test_it_says_what_is_wrong_with_a_task(change, sentence):
    plan, problems = reading.read({"trigger": {"on": "order"}, "steps": [{**CALL, **change}]})
    assert plan is None
    assert [(one.step, one.sentence) for one in problems] == [("s1", sentence)]


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ([WAITS, CALL], "Choose the task this wait is for. It has to stand before it."),
        (
            [{"id": "s9", "do": "share", "branches": [{"percent": 50, "steps": [CALL]}], "else": [WAITS]}],
            "Choose the task this wait is for. It has to stand before it.",
        ),
        ([CALL, {**WAITS, "branches": []}], "This wait has one branch, for a task that was done."),
        ([CALL, {"id": "s2", "do": "task_done", "task": "s1"}],
         "This wait has no end. Say after how many days people go on anyway."),
    ],
)  # fmt: skip
def test_it_says_what_is_wrong_with_a_wait_for_a_task(steps, sentence):
    _plan, problems = reading.read({"trigger": {"on": "order"}, "steps": steps})
    assert [(one.step, one.sentence) for one in problems] == [("s2", sentence)]


def test_a_copy_waits_for_the_task_of_the_copy():
    tree = {"steps": [{"id": "s1", "do": "share", "branches": [{"percent": 50, "steps": [
        {**CALL, "id": "s2"}, waits("s3", "s2"), waits("s4", "s9"),
    ]}]}]}  # fmt: skip
    copied, pk = editing.duplicate(tree, "s1", set())
    found = [step.get("task") for step in reading.steps_of({"steps": [editing.find(copied, pk)]})]
    assert found == [None, None, "s6", "s9"]
    with pytest.raises(InvalidInput, match="This wait has one branch"):
        editing.add_branch(tree, "s3")


def test_it_says_in_words_what_it_does_and_a_try_writes_nothing():
    UserFactory(role="support", name="Ada", email="ada@shop.example")
    assert words.step(CALL) == "Gives a task for 2 days to Support: Call them – Ask how it went"
    assert words.step({**CALL, "days": 0, "role": "", "person": "ada@shop.example", "kind": "social"}) == (
        "Gives a task for the same day to Ada: Answer on social media – Ask how it went"
    )
    assert words.step({**CALL, "days": 1, "role": ""}).startswith("Gives a task for 1 day to the team:")
    assert words.step(WAITS) == "Waits until the task is done; at most 5 days"
    assert [words.branch(WAITS, n) for n in (0, -1)] == ["The task was done", "Not done, or not in time"]
    made = live_journey([CALL, WAITS])
    trial = trying.attempt(journey=made, customer=person())
    assert [(one.step, one.outcome, one.at - NOON) for one in trial.steps] == [
        ("s1", "task", timedelta(0)), ("s2", "branch", timedelta(days=5)),
        ("s4", "tagged", timedelta(days=5)), ("", "left", timedelta(days=5)),
    ]  # fmt: skip
    assert not StaffTask.objects.exists()
    assert not JourneyStep.objects.exists()


def test_a_shorter_wait_and_a_removed_task_hold_for_who_waits_already(noon):
    anna = person()
    made = live_journey([CALL, WAITS])
    enters(anna)
    engine.advance_due()
    noon.shift(timedelta(days=3))
    tree = {**made.draft, "steps": [{**WAITS, "at_most": {"days": 2}}]}
    publishing.save(journey=made, tree=tree)
    assert [one.sentence for one in publishing.problems(made)] == [
        "Choose the task this wait is for. It has to stand before it."
    ]
    publishing.save(journey=made, tree={**tree, "steps": [CALL, *tree["steps"]]})
    [effect] = publishing.effects(made)
    assert (effect.step, effect.kind, effect.inside, effect.at_once) == ("s2", "changed", 1, 1)
    publishing.publish(journey=made)
    assert engine.advance_due() == {"done": 1}
    assert trail(anna)[-3:] == ["s2:branch", "s4:tagged", ":left"]
    assert Journey.objects.get().state == "live"

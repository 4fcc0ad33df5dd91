"""Reading a journey, and the pure decision where somebody goes next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns.journeys import reading
from campaigns.journeys.deciding import Position, advance, opening, task_key
from campaigns.journeys.tree import (
    Branch,
    Exit,
    Message,
    Plan,
    Points,
    Split,
    Task,
    TaskDone,
    Trigger,
    Until,
    Wait,
    Window,
)
from customers.conditions import parse
from lifecycle_crm.lib.moments import DAY
from tests.campaigns.factories import TemplateFactory, VariantFactory

STOCKHOLM = ZoneInfo("Europe/Stockholm")
RICH = parse({"fact": "points", "op": "gte", "value": 100})
WORDS = ["s1", "wait", "split", "task", "task_done", "order", "x"]
T0 = int(datetime(2026, 11, 20, 11, tzinfo=UTC).timestamp())


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def go(steps: tuple[Any, ...], position: Position | None = None, known: Any = None, as_of: int = T0, **more: Any):
    plan = Plan.of(Trigger("order"), steps)
    return advance(
        plan,
        position or Position(),
        known or {},
        as_of,
        zone=STOCKHOLM,
        bucket=more.pop("bucket", lambda _name: 0),
        **more,
    )


# --- Hours ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment, expected",
    [
        ("2026-11-20T12:00+01:00", "2026-11-20T12:00+01:00"),  # a Friday at noon: inside
        ("2026-11-20T08:59:59+01:00", "2026-11-20T09:00+01:00"),
        ("2026-11-20T18:00+01:00", "2026-11-23T09:00+01:00"),  # the weekend lies between
        ("2026-11-21T12:00+01:00", "2026-11-23T09:00+01:00"),
    ],
)
def test_it_waits_for_the_hours_where_they_live(moment, expected):
    assert opening(Window(9, 18, (0, 1, 2, 3, 4)), at(moment), STOCKHOLM) == at(expected)


def test_it_opens_after_an_hour_that_the_clock_skips_and_once_in_one_that_comes_twice():
    assert opening(Window(2, 5), at("2026-03-29T00:30+01:00"), STOCKHOLM) == at("2026-03-29T03:00+02:00")
    assert opening(Window(2, 5), at("2026-10-25T00:30+02:00"), STOCKHOLM) == at("2026-10-25T02:00+02:00")


@given(
    moment=st.integers(T0 - 400 * DAY, T0 + 400 * DAY),
    opens=st.integers(0, 23),
    length=st.integers(1, 24),
    days=st.sets(st.integers(0, 6), min_size=1),
    zone=st.sampled_from(["Europe/Stockholm", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
@settings(max_examples=300, deadline=None)
def test_a_window_opens_within_eight_days_and_on_one_of_its_days(moment, opens, length, days, zone):
    window = Window(opens, min(24, opens + length), tuple(sorted(days)))
    found = opening(window, moment, ZoneInfo(zone))
    assert moment <= found <= moment + 8 * DAY
    assert datetime.fromtimestamp(found, ZoneInfo(zone)).weekday() in days


# --- Walking --------------------------------------------------------------------------------------------------------------


def test_it_goes_as_far_as_it_can_and_counts_the_wait_from_where_it_began():
    steps = (Message("a", "hello"), Wait("b", 3 * DAY), Message("c", "bye"))
    first = go(steps)
    assert [(p.step, p.outcome) for p in first.passed] == [("a", "message")]
    assert (first.state, first.at, first.due) == ("running", Position("b", T0), T0 + 3 * DAY)
    early = go(steps, first.at, as_of=T0 + 3 * DAY - 1)
    assert (early.passed, early.due) == ((), T0 + 3 * DAY)
    last = go(steps, first.at, as_of=T0 + 3 * DAY)
    assert [(p.step, p.outcome) for p in last.passed] == [("b", "waited"), ("c", "message"), ("", "left")]
    assert last.state == "done"


def test_it_takes_the_first_branch_that_holds_and_rejoins():
    inner = Split("b", (Branch((Message("c", "rich"),), RICH),), (Message("d", "poor"),))
    steps = (Split("a", (Branch((inner,), RICH),), ()), Points("e", 5, "hi"))
    rich = go(steps, known={"points": 100})
    assert [(p.step, p.outcome) for p in rich.passed][:-1] == [
        ("a", "branch"), ("b", "branch"), ("c", "message"), ("e", "points"),
    ]  # fmt: skip
    poor = go(steps, known={"points": 99})
    assert [p.step for p in poor.passed][:-1] == ["a", "e"]


@pytest.mark.parametrize("place, branch", [(0, 0), (2_999, 0), (3_000, 1), (9_999, -1)])
def test_a_share_of_people_is_decided_by_their_place(place, branch):
    steps = (Split("a", (Branch((), None, 3_000), Branch((), None, 5_000)), (), True),)
    assert go(steps, bucket=lambda _name: place).passed[0].data == {"branch": branch}


def test_it_waits_until_something_happens_or_the_time_is_up():
    visit = parse({"did": "visit"})
    steps = (Until("a", 7 * DAY, "event", event=visit), Exit("b"))
    waits = go(steps, known={visit.key: (T0 - 5,)})
    assert (waits.state, waits.due, waits.listens) == ("running", T0 + 7 * DAY, True)
    came = go(steps, waits.at, {visit.key: (T0 + 9, T0 - 5)}, T0 + 10)
    assert [(p.step, p.outcome) for p in came.passed] == [("a", "happened"), ("b", "left")]
    assert (came.state, came.reason) == ("exited", "exit_step")
    late = go(steps, waits.at, {visit.key: (T0 - 5,)}, T0 + 7 * DAY)
    assert late.passed[0].outcome == "timed_out"


def test_it_looks_again_when_time_alone_could_make_a_condition_true():
    quiet = parse({"fact": "last_order_at", "op": "days_since_gte", "value": 10})
    steps = (Until("a", 30 * DAY, "when", when=quiet),)
    assert go(steps, known={"last_order_at": T0 - 10 * DAY + 500}).due == T0 + 500
    assert go(steps, known={}).due == T0 + DAY


def test_the_goal_comes_before_a_rule_for_leaving_and_both_before_the_step():
    steps = (Message("a", "hello"),)
    rich = {"points": 100}
    assert go(steps, known=rich, exits=[RICH]).state == "exited"
    both = go(steps, known=rich, exits=[RICH], has_goal=True)
    assert (both.state, [p.outcome for p in both.passed]) == ("goal", ["left"])


@st.composite
def trees(draw: Any, depth: int = 0, names: list[int] | None = None) -> tuple[Any, ...]:
    names = names if names is not None else [0]

    def name() -> str:
        names[0] += 1
        return f"s{names[0]}"

    steps: list[Any] = []
    kinds = ["message", "wait", "until", "split", "share", "task", "task_done", "exit"]
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=4)):
        if kind in ("split", "share") and depth < 3:
            ways = [draw(trees(depth + 1, names)) for _ in range(draw(st.integers(1, 2)))]
            one = name()
            branches = tuple(Branch(way, None if kind == "share" else RICH, 4_000) for way in ways)
            steps.append(Split(one, branches, draw(trees(depth + 1, names)), kind == "share"))
        elif kind == "wait":
            steps.append(Wait(name(), draw(st.integers(0, 5)) * DAY))
        elif kind == "until":
            steps.append(Until(name(), draw(st.integers(1, 5)) * DAY, "order"))
        elif kind == "task":
            steps.append(Task(name(), "call", "Ask how it went", 2))
        elif kind == "task_done" and depth < 3:
            way, one = draw(trees(depth + 1, names)), name()
            task = f"s{draw(st.integers(1, names[0]))}"
            steps.append(
                TaskDone(one, task, draw(st.integers(1, 5)) * DAY, (Branch(way),), draw(trees(depth + 1, names)))
            )
        elif kind == "exit":
            steps.append(Exit(name()))
        else:
            steps.append(Message(name(), "hello"))
    return tuple(steps)


@given(
    steps=trees(), points=st.integers(0, 200), place=st.integers(0, 9_999),
    tasks=st.dictionaries(st.integers(1, 9), st.sampled_from(["open", "done", "not_done", "withdrawn"])),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_every_walk_ends_never_passes_a_step_twice_and_never_waits_without_an_end(steps, points, place, tasks):
    plan = Plan.of(Trigger("order"), steps)
    known = {"points": points} | {f"task:s{n}": state for n, state in tasks.items()}
    position, now, seen = Position(), T0, []
    for _ in range(len(plan.at) + 1):
        move = advance(plan, position, known, now, zone=STOCKHOLM, bucket=lambda _name: place)
        seen += [p.step for p in move.passed if p.outcome != "left"]
        if move.state != "running":
            break
        assert move.due is not None
        assert move.due > now
        known = {task_key(p.step): "open" for p in move.passed if p.outcome == "task"} | known
        # Looking again without any news changes nothing.
        again = advance(plan, move.at, known, now, zone=STOCKHOLM, bucket=lambda _name: place)
        assert (again.passed, again.at, again.due) == ((), move.at, move.due)
        position, now = move.at, move.due
    assert move.state in ("done", "exited")
    assert len(seen) == len(set(seen))


@given(steps=trees(), gone=st.data())
@settings(max_examples=100, deadline=None)
def test_a_removed_step_sends_people_to_what_followed_it(steps, gone):
    before = Plan.of(Trigger("order"), steps)
    if not before.at:
        return
    lost = gone.draw(st.sampled_from(sorted(before.at)))
    kept = Plan.of(Trigger("order"), _without(steps, lost))
    to = kept.place_of(lost, [before])
    assert to == "" or to in kept.at
    expected = before.after[lost]
    while expected and expected not in kept.at:
        expected = before.after[expected]
    assert to == expected


def _without(steps: tuple[Any, ...], lost: str) -> tuple[Any, ...]:
    kept: list[Any] = []
    for step in steps:
        if step.id == lost:
            continue
        if isinstance(step, Split):
            branches = tuple(Branch(_without(b.steps, lost), b.when, b.share) for b in step.branches)
            kept.append(Split(step.id, branches, _without(step.otherwise, lost), step.is_random))
        elif isinstance(step, TaskDone):
            branches = tuple(Branch(_without(b.steps, lost)) for b in step.branches)
            kept.append(TaskDone(step.id, step.task, step.at_most, branches, _without(step.otherwise, lost)))
        else:
            kept.append(step)
    return tuple(kept)


# --- Reading --------------------------------------------------------------------------------------------------------------

ORDER = {"on": "order"}
YES = {"fact": "points", "op": "gte", "value": 1}


def deep(levels: int) -> dict[str, Any]:
    inner: list[Any] = [{"id": "x", "do": "exit"}]
    for level in range(levels):
        inner = [{"id": f"d{level}", "do": "split", "branches": [{"when": YES, "steps": inner}]}]
    return inner[0]


@pytest.mark.django_db
def test_it_reads_all_kinds_of_steps():
    text = VariantFactory().template.key
    tree = {
        "trigger": {"on": "answer", "at_most": 6},
        "steps": [
            {"id": "a", "do": "wait", "days": 1, "hours": 2, "window": {"from": 9, "until": 18, "weekdays": [4, 0]}},
            {"id": "b", "do": "message", "template": text},
            {"id": "c", "do": "until", "event": "visit", "at_most": {"days": 2}},
            {"id": "d", "do": "share", "branches": [{"percent": 30, "steps": []}], "else": [{"id": "e", "do": "exit"}]},
            {"id": "f", "do": "points", "points": 20, "reason": "Thanks"},
            deep(3),
        ],
    }
    plan, problems = reading.read(tree)
    assert problems == []
    assert plan is not None
    assert plan.trigger == Trigger("answer", "", None, 6)
    assert plan.at["a"] == Wait("a", DAY + 7200, Window(9, 18, (0, 4)))
    assert (plan.after["d"], plan.after["e"], plan.after["d2"]) == ("f", "f", "")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "step, sentence",
    [
        (
            {"do": "jump"},
            "Unknown kind of step. Use one of: message, wait, until, split, share, points, voucher, tag, task, task_done, "
            "webhook, exit.",
        ),
        ({"do": "wait"}, "This wait has no length. Say how many days or hours."),
        ({"do": "wait", "days": 400}, "A wait is a whole number of days (up to 365) or hours."),
        (
            {"do": "wait", "window": {"from": 9, "until": 18, "weekdays": []}},
            "Choose at least one day of the week, or the wait never ends.",
        ),
        ({"do": "until", "order": True}, "This wait has no end. Say after how many days people go on anyway."),
        (
            {"do": "until", "at_most": {"days": 1}},
            "Say what this wait is for: an order, an event or a condition.",
        ),
        ({"do": "message", "template": "nowhere"}, "Choose the text of this message."),
        (
            {"do": "message", "template": "wordless"},
            "The text “wordless” has no words yet. Write one language first.",
        ),
        ({"do": "split", "branches": []}, "This split has no branch. Add one, or remove the split."),
        (
            {"do": "share", "branches": [{"percent": 70, "steps": []}, {"percent": 40, "steps": []}]},
            "The branches add up to 110 per cent. Make it at most 100.",
        ),
        ({"do": "points", "points": 0, "reason": "x"}, "Points are a whole number from 1 to 1,000,000."),
        ({"do": "voucher"}, "Choose the vouchers that this step gives."),
        ({"do": "voucher", "series": 999}, "Choose vouchers that have not ended."),
        ({"do": "tag", "tag": " "}, "A tag has 1 to 100 letters."),
        ({"do": "exit", "when": 1}, "This step does not know when."),
    ],
)
def test_it_says_what_is_wrong_with_a_step(step, sentence):
    TemplateFactory(key="wordless")
    plan, problems = reading.read({"trigger": ORDER, "steps": [{"id": "s1", **step}]})
    assert plan is None
    assert [(one.step, one.sentence) for one in problems] == [("s1", sentence)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "tree, sentence",
    [
        ([], "A journey is an object with a trigger and steps."),
        ({"trigger": ORDER, "steps": []}, "The journey has no step. Add one."),
        ({"trigger": {}, "steps": [{"id": "a", "do": "exit"}]}, "Choose what lets people in."),
        (
            {"trigger": {"on": "stage_entered", "stage": "moon"}, "steps": [{"id": "a", "do": "exit"}]},
            "Choose the stage that lets people in.",
        ),
        (
            {"trigger": ORDER, "steps": [{"id": "a", "do": "exit"}, {"id": "a", "do": "exit"}]},
            "The id a is used by two steps. Give each its own.",
        ),
        (
            {"trigger": ORDER, "steps": [deep(4)]},
            "Splits go at most 3 deep. Make this branch a journey of its own.",
        ),
        (
            {"trigger": ORDER, "steps": [{"id": f"s{n}", "do": "exit"} for n in range(101)]},
            "A journey has at most 100 steps. Split it in two.",
        ),
    ],
)
def test_it_says_what_is_wrong_with_the_whole(tree, sentence):
    plan, problems = reading.read(tree)
    assert plan is None
    assert sentence in [one.sentence for one in problems]


@pytest.mark.django_db
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 200) | st.sampled_from(WORDS),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "id",
                        "do",
                        "days",
                        "steps",
                        "branches",
                        "else",
                        "when",
                        "percent",
                        "window",
                        "trigger",
                        "on",
                        "at_most",
                        "task",
                        "kind",
                        "person",
                    ]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    )
)
@settings(max_examples=150, deadline=None)
def test_whatever_comes_in_there_is_a_plan_or_a_sentence(tree):
    plan, problems = reading.read(tree, resolve=lambda _key: None)
    assert (plan is None) == bool(problems)
    assert all(one.sentence.endswith((".", "…")) for one in problems)
    list(reading.steps_of(tree))

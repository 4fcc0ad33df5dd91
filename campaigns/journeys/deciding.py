"""Where one person goes next: plain values in, plain values out.

``advance`` takes somebody from where they stand as far as they can go at this second. It writes nothing and asks no
clock, so the engine, the dry run and the tests all walk by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from campaigns.journeys.tree import (
    Branch,
    Exit,
    Message,
    Plan,
    Points,
    Split,
    Tag,
    Task,
    TaskDone,
    Until,
    Voucher,
    Wait,
    Webhook,
    Window,
)
from campaigns.models import JourneyRun, JourneyStep, StaffTask
from customers.conditions import Condition, Snapshot, holds, next_flip
from lifecycle_crm.lib.moments import DAY, from_seconds

Outcome = JourneyStep.Outcome
State = JourneyRun.State
Reason = JourneyRun.Reason

LOOK_AGAIN = DAY
"""Who waits for a condition is looked at so often even when no news came."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where somebody stands. ``step`` "" is before the first; ``since`` ``None``: not yet begun to wait in it."""

    step: str = ""
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Passed:
    """A step taken: one row of history. ``data`` are plain values."""

    step: str
    outcome: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Move:
    """Where somebody ends up at this second, and what they did on the way there."""

    passed: tuple[Passed, ...]
    state: str
    at: Position
    due: int | None = None
    listens: bool = False
    reason: str = ""


def advance(
    plan: Plan,
    at: Position,
    known: Snapshot,
    as_of: int,
    *,
    zone: ZoneInfo,
    bucket: Callable[[str], int],
    exits: Sequence[Condition] = (),
    has_goal: bool = False,
) -> Move:
    """From ``at``, with what is ``known`` of them at ``as_of``, as far as they can go.

    ``bucket`` gives 0–9999 for the name of a random split, always the same for this person. ``at.step`` must be of this
    plan (``Plan.place_of``). What is known of the task of a step stands under ``task_key``.
    """
    passed: list[Passed] = []
    given: set[str] = set()

    def left(state: str, reason: str = "", step: str = "", **data: Any) -> Move:
        passed.append(Passed(step, Outcome.LEFT, {"state": str(state), **data}))
        return Move(tuple(passed), state, Position(step), None, False, reason)

    # Nothing they are asked changes while they walk, so once is before each step.
    if has_goal:
        return left(State.GOAL, step=at.step)
    for number, rule in enumerate(exits):
        if holds(rule, known, as_of):
            return left(State.EXITED, Reason.EXIT_RULE, at.step, rule=number)
    here, since = at.step or plan.first, at.since
    while here:
        step = plan.at[here]
        follows = plan.after[here]
        match step:
            case Wait():
                began = as_of if since is None else since
                due = end_of_wait(step, began, zone)
                if due > as_of:
                    return Move(tuple(passed), State.RUNNING, Position(here, began), due)
                passed.append(Passed(here, Outcome.WAITED, {"since": began}))
            case Until():
                began = as_of if since is None else since
                if has_happened(step, known, began, as_of):
                    passed.append(Passed(here, Outcome.HAPPENED, {"since": began}))
                elif began + step.at_most <= as_of:
                    passed.append(Passed(here, Outcome.TIMED_OUT, {"since": began}))
                else:
                    looks = [began + step.at_most]
                    if step.when is not None:
                        looks += [as_of + LOOK_AGAIN, next_flip(step.when, known, as_of) or looks[0]]
                    return Move(tuple(passed), State.RUNNING, Position(here, began), min(looks), listens=True)
            case Message():
                passed.append(Passed(here, Outcome.MESSAGE, {"template": step.template}))
            case Points():
                passed.append(Passed(here, Outcome.POINTS, {"points": step.points, "reason": step.reason}))
            case Voucher():
                passed.append(Passed(here, Outcome.VOUCHER, {"series": step.series}))
            case Tag():
                passed.append(Passed(here, Outcome.TAGGED, {"tag": step.tag, "off": step.is_taken_off}))
            case Task():
                passed.append(Passed(here, Outcome.TASK, {"kind": step.kind, "what": step.what}))
                given.add(here)
            case Webhook():
                passed.append(Passed(here, Outcome.WEBHOOK, {"fields": list(step.fields)}))
            case TaskDone():
                stands = known.get(task_key(step.task), StaffTask.State.OPEN if step.task in given else None)
                began = as_of if since is None else since
                if stands == StaffTask.State.OPEN and began + step.at_most > as_of:
                    due = began + step.at_most
                    return Move(tuple(passed), State.RUNNING, Position(here, began), due, listens=True)
                is_done = stands == StaffTask.State.DONE
                came = {"branch": 0 if is_done else -1, "task": str(stands or ""), "since": began}
                passed.append(Passed(here, Outcome.BRANCH, came))
                way = step.branches[0].steps if is_done else step.otherwise
                if way:
                    follows = way[0].id
            case Exit():
                return left(State.EXITED, Reason.EXIT_STEP, here)
            case Split():
                number, steps = _branch(step, known, as_of, bucket)
                passed.append(Passed(here, Outcome.BRANCH, {"branch": number}))
                if steps:
                    follows = steps[0].id
        here, since = follows, None
    return left(State.DONE)


def task_key(step: str) -> str:
    """Under which name a walk knows where the task of a step stands: a state of ``StaffTask``, nothing without a task."""
    return f"task:{step}"


def _branch(step: Split, known: Snapshot, as_of: int, bucket: Callable[[str], int]) -> tuple[int, tuple[Any, ...]]:
    """(number of the branch from 0, -1 for none; its steps)."""
    if step.is_random:
        place, end = bucket(step.id), 0
        for number, branch in enumerate(step.branches):
            end += branch.share
            if place < end:
                return number, branch.steps
        return -1, step.otherwise
    for number, branch in enumerate(step.branches):
        if _fits(branch, known, as_of):
            return number, branch.steps
    return -1, step.otherwise


def _fits(branch: Branch, known: Snapshot, as_of: int) -> bool:
    return branch.when is not None and holds(branch.when, known, as_of)


def has_happened(step: Until, known: Snapshot, since: int, as_of: int) -> bool:
    if step.what == "order":
        last = known.get("last_order_at")
        return last is not None and last >= since
    if step.event is not None:
        return any(since <= moment < as_of for moment in known.get(step.event.key, ()))
    return step.when is not None and holds(step.when, known, as_of)


def end_of_wait(step: Wait, since: int, zone: ZoneInfo) -> int:
    """The first second at which a wait that began at ``since`` is over, for somebody who lives in ``zone``."""
    over = since + step.seconds
    return over if step.window is None else opening(step.window, over, zone)


def opening(window: Window, moment: int, zone: ZoneInfo) -> int:
    """The first second at or after ``moment`` inside the window, by the clock of the place.

    An hour that the clock skips begins where it goes on; one that comes twice, at its first.
    """
    local = from_seconds(moment).astimezone(zone)
    for days in range(9):
        day = local.date() + timedelta(days=days)
        if day.weekday() not in window.weekdays:
            continue
        if days == 0 and window.opens <= local.hour < window.closes:
            return moment
        opens = int(datetime.combine(day, time(window.opens), tzinfo=zone).astimezone(UTC).timestamp())
        if opens > moment:
            return opens
    raise ValueError(window)  # a window has a day, and every week has all of them

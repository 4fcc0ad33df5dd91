"""A journey tried with one customer: the way they would go, when, and what they would read. Nothing is written.

The walk is the engine's own. Their facts stay as they are today while the days pass, since nobody knows what they will
do; a wait for something they did not do yet runs to its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from campaigns import gate, letters
from campaigns.errors import BrokenTemplate
from campaigns.journeys import engine, entering, reading
from campaigns.journeys.deciding import Outcome, Position, State, advance, task_key
from campaigns.journeys.tree import Plan, Split
from campaigns.models import Campaign, Journey, StaffTask, Template
from customers import conditions, segments
from customers.conditions import Compare, Snapshot
from customers.models import Customer
from customers.sentences import because
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.moments import from_seconds, seconds


@dataclass(frozen=True, slots=True)
class Tried:
    """One step of the way, as data: ``tree`` is the step as stored, empty for the end.

    ``asked`` are a split's conditions: (number of the branch, whether it holds, why). A message has its ``subject``,
    ``text`` and the gate's ``verdict``, or the ``problem`` with its text.
    """

    step: str
    at: datetime
    outcome: str
    data: Mapping[str, Any]
    tree: Mapping[str, Any]
    asked: tuple[tuple[int, bool, str], ...] = ()
    subject: str = ""
    text: str = ""
    problem: str = ""
    verdict: gate.Verdict | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    customer: Customer
    is_held_out: bool
    steps: list[Tried] = field(default_factory=list)


def attempt(*, journey: Journey, customer: Customer, as_of: datetime | None = None) -> Trial:
    """The draft, walked by this customer from now on. Raises ``BadJourney`` when it cannot be walked."""
    resolve = segments.resolver()
    plan = reading.plan_of(journey.draft, resolve=resolve)
    exits = reading.exits_of(journey.exits, resolve=resolve)
    start = as_of or clock.whole_now()
    asks = [*plan.conditions(), *exits, Compare("last_order_at", "is_set")]
    known = conditions.snapshots([customer.pk], asks, start).get(customer.pk, {})
    trees = {step["id"]: step for step in reading.steps_of(journey.draft)}
    trial = Trial(customer, entering.holdout(journey, customer.pk))
    position, now = Position(), seconds(start)
    for _look in range(10 * len(plan.at) + 400):
        move = advance(
            plan,
            position,
            known,
            now,
            zone=gate.zone_of(customer.time_zone),
            bucket=partial(engine.bucket, journey.pk, customer.pk),
            exits=exits,
        )
        for passed in move.passed:
            trial.steps.append(_tried(plan, customer, passed, trees.get(passed.step, {}), known, now))
            if passed.outcome == Outcome.TASK:  # nobody does a task of a try
                known = known | {task_key(passed.step): StaffTask.State.OPEN}
        if move.state != State.RUNNING or move.due is None:
            break
        position, now = move.at, move.due
    return trial


def _tried(plan: Plan, customer: Customer, passed: Any, tree: Mapping[str, Any], known: Snapshot, now: int) -> Tried:
    at = from_seconds(now)
    asked: tuple[tuple[int, bool, str], ...] = ()
    step = plan.at.get(passed.step)
    if isinstance(step, Split) and not step.is_random:
        asked = tuple(
            (number, conditions.holds(branch.when, known, now), because(branch.when, known, now))
            for number, branch in enumerate(step.branches)
            if branch.when is not None
        )
    if passed.outcome != Outcome.MESSAGE:
        return Tried(passed.step, at, passed.outcome, passed.data, tree, asked)
    template = Template.objects.get(key=passed.data["template"])
    campaign = Campaign(
        template=template, purpose=template.purpose, channel=template.channel, kind=Campaign.Kind.JOURNEY
    )
    verdict, _asked = gate.answers(customer.pk, campaign, at)
    try:
        made = letters.preview(campaign=campaign, customer=customer)
    except BrokenTemplate as problem:
        return Tried(passed.step, at, passed.outcome, passed.data, tree, problem=problem.message, verdict=verdict)
    subject = made.subject or made.text[:60]
    return Tried(passed.step, at, passed.outcome, passed.data, tree, subject=subject, text=made.text, verdict=verdict)

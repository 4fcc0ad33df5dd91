"""The plan in force of a journey, made from its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from campaigns import gate
from campaigns.journeys import reading
from campaigns.journeys.tree import Plan
from campaigns.models import Journey, JourneyVersion
from customers import segments
from customers.conditions import Compare, Condition, Resolver, Times
from lifecycle_crm.lib.errors import DomainError


@dataclass(frozen=True)
class InForce:
    """A journey with its newest version, ready to be walked; ``earlier`` plans newest first, read when asked for."""

    journey: Journey
    version_id: int
    plan: Plan
    exits: tuple[Condition, ...]
    resolve: Resolver
    _earlier: list[Plan] = field(default_factory=list)

    def place_of(self, step: str) -> str:
        """Where somebody stands now who stood in ``step`` of some version; "" past the end."""
        if step in self.plan.at:
            return step
        if not self._earlier:
            older = self.journey.versions.exclude(pk=self.version_id).order_by("-number")
            for version in older:
                try:
                    self._earlier.append(reading.plan_of(version.tree, resolve=self.resolve))
                except DomainError:
                    continue  # it named a segment or text that is gone; an older one may know the step
        return self.plan.place_of(step, self._earlier)

    def asks(self) -> list[Condition]:
        """All that a decision may ask, and what a wait for an order reads."""
        return [*self.plan.conditions(), *self.exits, Compare("last_order_at", "is_set")]


def in_force(journey: Journey, *, resolve: Resolver | None = None) -> InForce:
    """Raises ``DomainError`` when what it names has become unusable since it was published."""
    version = JourneyVersion.objects.get(journey=journey, number=journey.version)
    known = resolve or segments.resolver()
    plan = reading.plan_of(version.tree, resolve=known)
    return InForce(journey, version.pk, plan, reading.exits_of(journey.exits, resolve=known), known)


@dataclass
class _Read:
    """What a drain has read already: plans by journey, version and rules for leaving, and the segments they name."""

    plans: dict[tuple[int, int, str], InForce] = field(default_factory=dict)
    resolve: Resolver = field(default_factory=segments.resolver)


_read: ContextVar[_Read | None] = ContextVar("journey_plans", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """Within this, the tree of a version is read once however often somebody asks who is live. Which journeys are, and
    with which version and settings, is asked each time; a segment is what it was when it was first read."""
    token = _read.set(_read.get() or _Read())
    try:
        yield
    finally:
        _read.reset(token)


def live() -> Iterator[InForce]:
    """All that people may enter and walk now. One that cannot be read any more stops, and says why."""
    read = _read.get() or _Read()
    for journey in Journey.objects.filter(state=Journey.State.LIVE).order_by("pk"):
        key = (journey.pk, journey.version, json.dumps(journey.exits))
        if key not in read.plans:
            try:
                read.plans[key] = in_force(journey, resolve=read.resolve)
            except DomainError as problem:
                stop(journey, problem=problem.message[:300])
                continue
        yield replace(read.plans[key], journey=journey)


def stop(journey: Journey, **why: object) -> None:
    """It goes on when a person has looked."""
    Journey.objects.filter(pk=journey.pk, state=Journey.State.LIVE).update(state=Journey.State.PAUSED, guard=why)


def starts_by(trigger: str) -> bool:
    """Whether a live journey begins with such a trigger."""
    return any(one.plan.trigger.on == trigger for one in live())


def event_names() -> list[str]:
    """The names of events that a live journey begins with, waits for or counts as its goal."""
    names: set[str] = set()
    for one in live():
        if one.plan.trigger.on == "event":
            names.add(one.plan.trigger.subject)
        elif one.plan.trigger.on == "delivery_delayed":
            names.add(gate.DELAYED)
        atoms = [atom for condition in one.plan.conditions() for atom in condition.atoms()]
        names.update(atom.name for atom in atoms if isinstance(atom, Times) and atom.kind == "did")
        kind, name = reading.goal_of(one.journey.goal)
        if kind == "event":
            names.add(name)
    return sorted(names)

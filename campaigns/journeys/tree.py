"""The shape of a journey: a trigger, and steps in sequences and splits that rejoin.

Each step knows what follows it, so walking is a chain: after the last step of a branch comes what follows the split.
Steps are values, and there is no way back, so every walk ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from customers.conditions import Condition, Times


@dataclass(frozen=True, slots=True)
class Trigger:
    """What lets somebody in. ``on`` is one of ``TRIGGERS``; ``subject`` a stage, segment key, event name or ""."""

    on: str
    subject: str = ""
    score_at_least: int | None = None
    score_at_most: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of the day and days of the week where the person lives; Monday is 0."""

    opens: int
    closes: int
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    template: str


@dataclass(frozen=True, slots=True)
class Wait:
    """So many seconds, then until the window opens."""

    id: str
    seconds: int
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Until:
    """Until an order, an event or a condition comes true, at most so many seconds."""

    id: str
    at_most: int
    what: str
    """``order``, ``event`` or ``when``."""
    event: Times | None = None
    when: Condition | None = None


@dataclass(frozen=True, slots=True)
class Points:
    id: str
    points: int
    reason: str


@dataclass(frozen=True, slots=True)
class Voucher:
    """A code of the series with this id."""

    id: str
    series: int


@dataclass(frozen=True, slots=True)
class Tag:
    id: str
    tag: str
    is_taken_off: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """Something for a person of the shop to do for this customer within so many days.

    For one ``person`` (id of a user, 0 for none), for everybody of a ``role``, or with neither for whoever serves.
    """

    id: str
    kind: str
    what: str
    days: int
    role: str = ""
    person: int = 0


@dataclass(frozen=True, slots=True)
class Webhook:
    """Tell the address with this id about the person: ids, and these fields."""

    id: str
    target: int
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exit:
    id: str


@dataclass(frozen=True, slots=True)
class Branch:
    """One way of a split: by a condition, or by a share of people in hundredths of a per cent."""

    steps: tuple[Step, ...]
    when: Condition | None = None
    share: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Split:
    """The first branch that fits, else the last way. All ways meet again after it."""

    id: str
    branches: tuple[Branch, ...]
    otherwise: tuple[Step, ...] = ()
    is_random: bool = False


@dataclass(frozen=True, slots=True)
class TaskDone:
    """Until the task of the step ``task`` is done, at most so many seconds: done the one branch, else the last way."""

    id: str
    task: str
    at_most: int
    branches: tuple[Branch, ...]
    otherwise: tuple[Step, ...] = ()


Step = Message | Wait | Until | Points | Voucher | Tag | Task | TaskDone | Webhook | Exit | Split


@dataclass(frozen=True)
class Plan:
    """A tree that can be walked."""

    trigger: Trigger
    steps: tuple[Step, ...]
    at: dict[str, Step] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    """Step id to the id of what follows it; "" at the end."""

    @classmethod
    def of(cls, trigger: Trigger, steps: tuple[Step, ...]) -> Plan:
        plan = cls(trigger, steps)
        plan._chain(steps, "")
        return plan

    def _chain(self, steps: tuple[Step, ...], end: str) -> None:
        for number, step in enumerate(steps):
            follows = steps[number + 1].id if number + 1 < len(steps) else end
            self.at[step.id] = step
            self.after[step.id] = follows
            if isinstance(step, Split | TaskDone):
                for branch in step.branches:
                    self._chain(branch.steps, follows)
                self._chain(step.otherwise, follows)

    @property
    def first(self) -> str:
        return self.steps[0].id if self.steps else ""

    def walk(self) -> Iterator[Step]:
        """All steps, from the top down."""
        yield from self.at.values()

    def has(self, kind: type[Any]) -> bool:
        """Whether a step of this kind is among them."""
        return any(isinstance(step, kind) for step in self.walk())

    def conditions(self) -> Iterator[Condition]:
        """Everything a walk may ask."""
        for step in self.walk():
            if isinstance(step, Until):
                yield from (one for one in (step.event, step.when) if one is not None)
            elif isinstance(step, Split):
                yield from (branch.when for branch in step.branches if branch.when is not None)

    def place_of(self, step: str, earlier: list[Plan]) -> str:
        """Where somebody goes on who stands in a step that this plan does not have: the next of what followed it in the
        newest of the ``earlier`` plans that knew it; "" (the end) when nothing of that is left."""
        for plan in earlier:
            if step in plan.at:
                while step and step not in self.at:
                    step = plan.after.get(step, "")
                return step
        return ""

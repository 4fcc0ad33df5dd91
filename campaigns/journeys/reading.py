"""From JSON to a tree, or one sentence for everything that is wrong with it.

::

    {"trigger": {"on": "stage_entered", "stage": "dormant"},
     "steps": [
       {"id": "s1", "do": "wait", "days": 3, "window": {"from": 9, "until": 18, "weekdays": [0, 1, 2, 3, 4]}},
       {"id": "s2", "do": "message", "template": "win-back"},
       {"id": "s3", "do": "until", "order": true, "at_most": {"days": 7}},           or "event": "visit", or "when": {…}
       {"id": "s4", "do": "split", "branches": [{"when": {…}, "steps": […]}], "else": […]},
       {"id": "s5", "do": "share", "branches": [{"percent": 50, "steps": […]}], "else": […]},
       {"id": "s6", "do": "points", "points": 200, "reason": "Come back"},
       {"id": "s7", "do": "voucher", "series": 3},
       {"id": "s8", "do": "tag", "tag": "came back", "remove": false},
       {"id": "s9", "do": "task", "kind": "call", "what": "Ask how it went", "days": 2, "role": "support"},
       {"id": "s10", "do": "task_done", "task": "s9", "at_most": {"days": 7}, "branches": [{"steps": […]}], "else": […]},
       {"id": "s11", "do": "webhook", "target": "warehouse", "fields": ["stage"]},
       {"id": "s12", "do": "exit"}]}

A task is for a ``role``, for one ``person`` (the address they sign in with), or for whoever serves. ``task_done`` waits for
the task of a step before it: the branch is for a task that was done, the rest for one that was not, or not in time.

Triggers: ``stage_entered`` and ``stage_left`` (``stage``), ``segment_entered`` and ``segment_left`` (``segment``),
``event`` (``event``), ``order``, ``first_order``, ``answer`` (``at_least``, ``at_most``: a score), ``tier`` (``tier``),
``points_expiring`` (``days`` before), ``birthday`` (``days`` before, 0: on the day), ``cart_abandoned`` (``hours`` without an
order or a change of the cart), ``delivery_delayed``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from campaigns import hooks
from campaigns.journeys.tree import (
    Branch,
    Exit,
    Message,
    Plan,
    Points,
    Split,
    Step,
    Tag,
    Task,
    TaskDone,
    Trigger,
    Until,
    Voucher,
    Wait,
    Webhook,
    Window,
)
from campaigns.models import StaffTask, Template, WebhookTarget
from customers import conditions, segments, tagging
from customers.conditions import BadCondition, Condition, Resolver, Times
from customers.vocabulary import STAGES
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import DAY
from loyalty.models import VoucherSeries

MAX_DEPTH = 3
MAX_STEPS = 100
LONGEST_DAYS = 365
TRIGGERS: dict[str, str] = {
    "stage_entered": "stage",
    "stage_left": "stage",
    "segment_entered": "segment",
    "segment_left": "segment",
    "event": "event",
    "order": "",
    "first_order": "",
    "answer": "",
    "tier": "tier",
    "points_expiring": "days",
    "birthday": "days",
    "cart_abandoned": "hours",
    "delivery_delayed": "",
}
"""What may let somebody in, and the word that says of what."""
KINDS = (
    "message",
    "wait",
    "until",
    "split",
    "share",
    "points",
    "voucher",
    "tag",
    "task",
    "task_done",
    "webhook",
    "exit",
)
WITH_WAYS = ("split", "share", "task_done")
"""Kinds of step that have steps inside."""
TASK_DAYS = 90
ID = re.compile(r"[a-z][a-z0-9-]{0,19}")
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,80}")


class BadJourney(InvalidInput):
    """The tree cannot be walked; the message says where and what to do."""

    code = "bad_journey"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps the journey from being published. ``step`` is empty for the trigger and the whole."""

    step: str
    sentence: str


@dataclass(frozen=True, slots=True)
class _Stop(Exception):
    step: str
    sentence: str


def read(tree: Any, *, resolve: Resolver | None = None) -> tuple[Plan | None, list[Problem]]:
    """The tree that can be walked, or ``None`` and everything that is wrong."""
    reader = _Reader(resolve or segments.resolver())
    return reader.read(tree), reader.problems


def plan_of(tree: Any, *, resolve: Resolver | None = None) -> Plan:
    """The tree that can be walked. Raises ``BadJourney`` with the first thing that is wrong."""
    plan, problems = read(tree, resolve=resolve)
    if plan is None:
        raise BadJourney(problems[0].sentence, problems=[[one.step, one.sentence] for one in problems])
    return plan


def exits_of(trees: Any, *, resolve: Resolver | None = None) -> tuple[Condition, ...]:
    """The conditions for leaving early. Raises ``BadCondition``."""
    if not isinstance(trees, list) or len(trees) > 20:
        raise BadCondition(_("The rules for leaving early are a list of at most 20 conditions."))
    known = resolve or segments.resolver()
    return tuple(conditions.parse(tree, f"exits[{n}]", resolve=known) for n, tree in enumerate(trees))


def goal_of(goal: Any) -> tuple[str, str]:
    """What counts as the goal: ``("order", "")``, ``("event", its name)`` or ``("", "")``."""
    if goal == {}:
        return "", ""
    if goal == {"order": True}:
        return "order", ""
    if isinstance(goal, dict) and set(goal) == {"event"} and _is_event(goal["event"]):
        return "event", goal["event"]
    raise InvalidInput(_('The goal is {"order": true}, {"event": "its name"}, or empty.'), code="bad_goal")


def steps_of(tree: Any) -> Iterable[dict[str, Any]]:
    """Every step of a stored tree, also of one that is not complete, from the top down."""
    waiting = list(reversed(_list(tree, "steps")))
    while waiting:
        step = waiting.pop()
        if not isinstance(step, dict):
            continue
        yield step
        ways = [_list(branch, "steps") for branch in _list(step, "branches")] + [_list(step, "else")]
        for way in reversed(ways):
            waiting += reversed(way)


def _list(of: Any, name: str) -> list[Any]:
    found = of.get(name) if isinstance(of, dict) else None
    return found if isinstance(found, list) else []


def _is_event(name: Any) -> bool:
    return isinstance(name, str) and bool(_NAME.fullmatch(name))


class _Reader:
    def __init__(self, resolve: Resolver) -> None:
        self.resolve = resolve
        self.problems: list[Problem] = []
        self.seen: set[str] = set()
        self.tasks: set[str] = set()
        self.written = set(Template.objects.filter(variants__isnull=False).values_list("key", flat=True))
        self.templates = set(Template.objects.values_list("key", flat=True))

    def wrong(self, step: str, sentence: str) -> None:
        self.problems.append(Problem(step, sentence))

    def read(self, tree: Any) -> Plan | None:
        if not isinstance(tree, dict):
            self.wrong("", _("A journey is an object with a trigger and steps."))
            return None
        if extra := set(tree) - {"trigger", "steps"}:
            self.wrong("", _("A journey does not know %(what)s.") % {"what": ", ".join(sorted(map(str, extra)))})
        trigger = self.trigger(tree.get("trigger"))
        steps = self.sequence(tree.get("steps"), 0, "")
        if not steps and not self.problems:
            self.wrong("", _("The journey has no step. Add one."))
        if len(self.seen) > MAX_STEPS:
            self.wrong("", _("A journey has at most %(most)d steps. Split it in two.") % {"most": MAX_STEPS})
        if self.problems or trigger is None:
            return None
        return Plan.of(trigger, steps)

    def trigger(self, tree: Any) -> Trigger | None:
        on = tree.get("on") if isinstance(tree, dict) else None
        if not isinstance(on, str) or on not in TRIGGERS:
            self.wrong("", _("Choose what lets people in."))
            return None
        word = TRIGGERS[on]
        bounds = {"at_least", "at_most"} if on == "answer" else set()
        if extra := set(tree) - {"on"} - bounds - ({word} if word else set()):
            self.wrong("", _("The trigger does not know %(what)s.") % {"what": ", ".join(sorted(map(str, extra)))})
            return None
        subject = tree.get(word) if word else ""
        if on.startswith("stage") and subject not in STAGES:
            self.wrong("", _("Choose the stage that lets people in."))
            return None
        if on.startswith("segment") and (not isinstance(subject, str) or self.resolve(subject) is None):
            self.wrong("", _("Choose the segment that lets people in."))
            return None
        if on == "event" and not _is_event(subject):
            self.wrong("", _("Name the event that lets people in."))
            return None
        if on == "tier" and not _is_event(subject):
            self.wrong("", _("Name the tier that lets people in."))
            return None
        if on == "points_expiring" and not _is_whole(subject, 1, 90):
            self.wrong("", _("Say how many days before the points expire: 1 to 90."))
            return None
        if on == "birthday" and not _is_whole(subject, 0, 30):
            self.wrong("", _("Say how many days before the birthday: 0 to 30."))
            return None
        if on == "cart_abandoned" and not _is_whole(subject, 1, 24):
            self.wrong("", _("Say after how many hours a cart is left behind: 1 to 24."))
            return None
        limits = [tree.get(name) for name in ("at_least", "at_most")] if on == "answer" else [None, None]
        if any(one is not None and not _is_whole(one, 0, 10) for one in limits):
            self.wrong("", _("A score of an answer is a whole number from 0 to 10."))
            return None
        return Trigger(on, str(subject), *limits)

    def sequence(self, steps: Any, depth: int, where: str) -> tuple[Step, ...]:
        if not isinstance(steps, list):
            self.wrong(where, _("Steps are a list."))
            return ()
        found = []
        for tree in steps:
            try:
                found.append(self.step(tree, depth))
            except _Stop as problem:
                self.wrong(problem.step, problem.sentence)
        return tuple(found)

    def step(self, tree: Any, depth: int) -> Step:
        if not isinstance(tree, dict):
            raise _Stop("", _("A step is an object with an id and a kind."))
        pk, do = tree.get("id"), tree.get("do")
        if not isinstance(pk, str) or not ID.fullmatch(pk):
            raise _Stop("", _("A step needs an id of small letters, digits and -, at most 20, such as s1."))
        if pk in self.seen:
            raise _Stop(pk, _("The id %(id)s is used by two steps. Give each its own.") % {"id": pk})
        self.seen.add(pk)
        if do not in KINDS:
            raise _Stop(pk, _("Unknown kind of step. Use one of: %(kinds)s.") % {"kinds": ", ".join(KINDS)})
        allowed = {
            "message": {"template"},
            "wait": {"days", "hours", "window"},
            "until": {"order", "event", "when", "at_most"},
            "split": {"branches", "else"},
            "share": {"branches", "else"},
            "points": {"points", "reason"},
            "voucher": {"series"},
            "tag": {"tag", "remove"},
            "task": {"kind", "what", "days", "role", "person"},
            "task_done": {"task", "at_most", "branches", "else"},
            "webhook": {"target", "fields"},
            "exit": set(),
        }[do]
        if extra := set(tree) - {"id", "do"} - allowed:
            raise _Stop(pk, _("This step does not know %(what)s.") % {"what": ", ".join(sorted(map(str, extra)))})
        match do:
            case "message":
                return self.message(pk, tree)
            case "wait":
                return Wait(pk, self.length(pk, tree, needs=tree.get("window") is None), self.window(pk, tree))
            case "until":
                return self.until(pk, tree)
            case "points":
                return self.points(pk, tree)
            case "voucher":
                return self.voucher(pk, tree)
            case "tag":
                return self.tag(pk, tree)
            case "task":
                return self.task(pk, tree)
            case "task_done":
                return self.task_done(pk, tree, depth)
            case "webhook":
                return self.webhook(pk, tree)
            case "exit":
                return Exit(pk)
        return self.split(pk, tree, depth, is_random=do == "share")

    def message(self, pk: str, tree: Mapping[str, Any]) -> Message:
        key = tree.get("template")
        if not isinstance(key, str) or key not in self.templates:
            raise _Stop(pk, _("Choose the text of this message."))
        if key not in self.written:
            raise _Stop(pk, _("The text “%(key)s” has no words yet. Write one language first.") % {"key": key})
        return Message(pk, key)

    def length(self, pk: str, tree: Mapping[str, Any], *, needs: bool) -> int:
        days, hours = tree.get("days", 0), tree.get("hours", 0)
        if not _is_whole(days, 0, LONGEST_DAYS) or not _is_whole(hours, 0, 24 * LONGEST_DAYS):
            raise _Stop(pk, _("A wait is a whole number of days (up to 365) or hours."))
        seconds = days * DAY + hours * 3600
        if needs and seconds == 0:
            raise _Stop(pk, _("This wait has no length. Say how many days or hours."))
        if seconds > LONGEST_DAYS * DAY:
            raise _Stop(pk, _("A wait is at most a year."))
        return int(seconds)

    def window(self, pk: str, tree: Mapping[str, Any]) -> Window | None:
        found = tree.get("window")
        if found is None:
            return None
        if not isinstance(found, dict) or set(found) - {"from", "until", "weekdays"}:
            raise _Stop(pk, _("The hours of a wait are from and until, and the days of the week."))
        opens, closes = found.get("from", 0), found.get("until", 24)
        days = found.get("weekdays", [0, 1, 2, 3, 4, 5, 6])
        if not _is_whole(opens, 0, 23) or not _is_whole(closes, 1, 24) or opens >= closes:
            raise _Stop(pk, _("The hours of a wait begin at 0 to 23 and end later, at most at 24."))
        if not isinstance(days, list) or not days or any(not _is_whole(day, 0, 6) for day in days):
            raise _Stop(pk, _("Choose at least one day of the week, or the wait never ends."))
        return Window(opens, closes, tuple(sorted(set(days))))

    def until(self, pk: str, tree: Mapping[str, Any]) -> Until:
        at_most = self.at_most(pk, tree)
        given = [word for word in ("order", "event", "when") if word in tree]
        if len(given) != 1:
            raise _Stop(pk, _("Say what this wait is for: an order, an event or a condition."))
        if given == ["order"]:
            return Until(pk, at_most, "order")
        if given == ["event"]:
            if not _is_event(tree["event"]):
                raise _Stop(pk, _("Name the event this wait is for."))
            return Until(pk, at_most, "event", event=Times("did", tree["event"], True, 1, None))
        return Until(pk, at_most, "when", when=self.condition(pk, tree["when"]))

    def at_most(self, pk: str, tree: Mapping[str, Any]) -> int:
        if "at_most" not in tree:
            raise _Stop(pk, _("This wait has no end. Say after how many days people go on anyway."))
        most = tree["at_most"]
        if not isinstance(most, dict) or set(most) - {"days", "hours"}:
            raise _Stop(pk, _("A wait is a whole number of days (up to 365) or hours."))
        return self.length(pk, most, needs=True)

    def condition(self, pk: str, tree: Any) -> Condition:
        try:
            return conditions.parse(tree, pk, resolve=self.resolve)
        except BadCondition as problem:
            raise _Stop(pk, problem.message) from None

    def points(self, pk: str, tree: Mapping[str, Any]) -> Points:
        points, reason = tree.get("points"), tree.get("reason", "")
        if not _is_whole(points, 1, 1_000_000):
            raise _Stop(pk, _("Points are a whole number from 1 to 1,000,000."))
        if not isinstance(reason, str) or not reason.strip() or len(reason) > 120:
            raise _Stop(pk, _("Say what the points are for, in at most 120 letters; the customer reads it."))
        assert isinstance(points, int)
        return Points(pk, points, " ".join(reason.split()))

    def voucher(self, pk: str, tree: Mapping[str, Any]) -> Voucher:
        if not _is_whole(tree.get("series"), 1, 2**53):
            raise _Stop(pk, _("Choose the vouchers that this step gives."))
        series = VoucherSeries.objects.filter(pk=tree["series"]).first()
        if series is None or (series.ends_on and series.ends_on < clock.today()):
            raise _Stop(pk, _("Choose vouchers that have not ended."))
        return Voucher(pk, series.pk)

    def tag(self, pk: str, tree: Mapping[str, Any]) -> Tag:
        tag = tree.get("tag")
        try:
            return Tag(pk, tagging.check(tag if isinstance(tag, str) else ""), tree.get("remove") is True)
        except InvalidInput as problem:
            raise _Stop(pk, problem.message) from None

    def task(self, pk: str, tree: Mapping[str, Any]) -> Task:
        what, role, name = (tree.get(word, "") for word in ("what", "role", "person"))
        if tree.get("kind") not in StaffTask.Kind.values:
            raise _Stop(pk, _("Choose what kind of task this is."))
        if not isinstance(what, str) or not what.strip() or len(what) > 200:
            raise _Stop(pk, _("Say what there is to do, in at most 200 letters; your team reads it."))
        if not _is_whole(tree.get("days"), 0, TASK_DAYS):
            raise _Stop(pk, _("Say within how many days the task has to be done: 0 to 90."))
        if role and role not in StaffTask.ROLES:
            raise _Stop(pk, _("Choose a role that works with customers."))
        person = 0
        if name:
            user = User.objects.filter(email=name).first() if isinstance(name, str) else None
            if user is None or not user.may_serve():
                raise _Stop(pk, _("Choose somebody who works with customers, or a role."))
            person = user.pk
        self.tasks.add(pk)
        assert isinstance(tree["days"], int)
        return Task(pk, str(tree["kind"]), " ".join(what.split()), tree["days"], str(role), person)

    def task_done(self, pk: str, tree: Mapping[str, Any], depth: int) -> TaskDone:
        self.deep(pk, depth)
        task, branches = tree.get("task"), tree.get("branches")
        if not isinstance(task, str) or task not in self.tasks:
            raise _Stop(pk, _("Choose the task this wait is for. It has to stand before it."))
        at_most = self.at_most(pk, tree)
        if not isinstance(branches, list) or len(branches) != 1 or not isinstance(branches[0], dict):
            raise _Stop(pk, _("This wait has one branch, for a task that was done."))
        if extra := set(branches[0]) - {"steps"}:
            raise _Stop(pk, _("This step does not know %(what)s.") % {"what": ", ".join(sorted(map(str, extra)))})
        [steps], otherwise = self.ways(pk, [branches[0].get("steps", [])], tree.get("else", []), depth)
        return TaskDone(pk, task, at_most, (Branch(steps),), otherwise)

    def webhook(self, pk: str, tree: Mapping[str, Any]) -> Webhook:
        key, fields = tree.get("target"), tree.get("fields", [])
        target = WebhookTarget.objects.filter(key=key).first() if isinstance(key, str) else None
        if target is None:
            raise _Stop(pk, _("Choose the webhook that is told."))
        if not isinstance(fields, list) or any(not isinstance(one, str) or one not in hooks.FIELDS for one in fields):
            raise _Stop(pk, _("Choose what the webhook is told from the list."))
        return Webhook(pk, target.pk, tuple(dict.fromkeys(fields)))

    def deep(self, pk: str, depth: int) -> None:
        if depth >= MAX_DEPTH:
            raise _Stop(
                pk,
                _("Splits go at most %(most)d deep. Make this branch a journey of its own.") % {"most": MAX_DEPTH},
            )

    def ways(
        self, pk: str, branches: list[Any], otherwise: Any, depth: int
    ) -> tuple[list[tuple[Step, ...]], tuple[Step, ...]]:
        """The steps of each way. A task of one way is none of its neighbours; after the split it may have been any."""
        before, after, found = self.tasks, set(self.tasks), []
        for steps in (*branches, otherwise):
            self.tasks = set(before)
            found.append(self.sequence(steps, depth + 1, pk))
            after |= self.tasks
        self.tasks = after
        return found[:-1], found[-1]

    def split(self, pk: str, tree: Mapping[str, Any], depth: int, *, is_random: bool) -> Split:
        branches = tree.get("branches")
        if not isinstance(branches, list) or not branches:
            raise _Stop(pk, _("This split has no branch. Add one, or remove the split."))
        self.deep(pk, depth)
        heads: list[tuple[Condition | None, int, str]] = []
        total = 0
        for number, branch in enumerate(branches, 1):
            head = "percent" if is_random else "when"
            if not isinstance(branch, dict) or set(branch) - {head, "steps", "name"}:
                raise _Stop(pk, _("A branch has a condition or a per cent, and steps."))
            name = branch.get("name", "")
            if not isinstance(name, str) or len(name) > 60:
                raise _Stop(pk, _("The name of a branch has at most 60 letters."))
            when, share = None, 0
            if is_random:
                if not _is_whole(branch.get("percent"), 1, 100):
                    raise _Stop(pk, _("Branch %(n)d needs a whole per cent from 1 to 100.") % {"n": number})
                share = branch["percent"] * 100
                total += branch["percent"]
            else:
                when = self.condition(pk, branch.get("when"))
            heads.append((when, share, name))
        if total > 100:
            raise _Stop(pk, _("The branches add up to %(n)d per cent. Make it at most 100.") % {"n": total})
        ways, otherwise = self.ways(pk, [branch.get("steps", []) for branch in branches], tree.get("else", []), depth)
        found = [Branch(steps, *head) for steps, head in zip(ways, heads, strict=True)]
        return Split(pk, tuple(found), otherwise, is_random)


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

"""Changes of a stored tree, one at a time: add, change, move, duplicate, delete. Each returns a new tree.

The tree may be incomplete; publishing is what asks for all of it.
"""

from __future__ import annotations

import copy
from typing import Any

from django.utils.translation import gettext as _

from campaigns.journeys import reading
from lifecycle_crm.lib.errors import InvalidInput, NotFound
from lifecycle_crm.lib.numbers import row_number

Tree = dict[str, Any]

BLANK: dict[str, dict[str, Any]] = {
    "message": {"template": ""},
    "wait": {"days": 1},
    "until": {"order": True, "at_most": {"days": 7}},
    "split": {"branches": [{"when": {"all": []}, "steps": []}], "else": []},
    "share": {"branches": [{"percent": 50, "steps": []}], "else": []},
    "points": {"points": 100, "reason": ""},
    "voucher": {},
    "tag": {"tag": ""},
    "task": {"kind": "call", "what": "", "days": 2},
    "task_done": {"task": "", "at_most": {"days": 7}, "branches": [{"steps": []}], "else": []},
    "webhook": {"target": ""},
    "exit": {},
}
"""What a step of each kind is when it is added."""


def _sequences(tree: Any) -> list[list[Any]]:
    """Every list of steps, outermost first."""
    found = [tree.setdefault("steps", [])]
    for step in reading.steps_of(tree):
        if "branches" in step:
            found += [branch.setdefault("steps", []) for branch in step["branches"] if isinstance(branch, dict)]
            found.append(step.setdefault("else", []))
    return found


def _place(tree: Tree, pk: str) -> tuple[list[Any], int]:
    for steps in _sequences(tree):
        for number, step in enumerate(steps):
            if isinstance(step, dict) and step.get("id") == pk:
                return steps, number
    raise NotFound(_("This step is not there any more. Reload the page to see the journey."))


def find(tree: Tree, pk: str) -> dict[str, Any]:
    """The step as stored. Raises ``NotFound``."""
    steps, number = _place(tree, pk)
    found: dict[str, Any] = steps[number]
    return found


def _free(tree: Tree, gone: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    used = {step.get("id") for step in reading.steps_of(tree)} | gone
    number = 1
    while f"s{number}" in used:
        number += 1
    return f"s{number}"


def add(tree: Tree, place: str, kind: str, known: set[str]) -> tuple[Tree, str]:
    """A new step; the tree and its id. ``place``: "start", "after:<id>", "in:<id>:<branch>" (-1 for everybody else).

    ``known`` are ids that steps of published versions have: a new step must not be taken for one of them.
    """
    if kind not in BLANK:
        raise InvalidInput(_("Choose a kind of step."))
    tree = copy.deepcopy(tree)
    pk = _free(tree, known)
    new = {"id": pk, "do": kind, **copy.deepcopy(BLANK[kind])}
    where, _sep, rest = place.partition(":")
    if where == "after":
        steps, number = _place(tree, rest)
        steps.insert(number + 1, new)
    elif where == "in":
        split, _sep, branch = rest.partition(":")
        _way(find(tree, split), branch).insert(0, new)
    else:
        tree.setdefault("steps", []).insert(0, new)
    return tree, pk


def _way(split: dict[str, Any], branch: str) -> list[Any]:
    if branch == "-1":
        found: list[Any] = split.setdefault("else", [])
        return found
    branches = split.get("branches", [])
    number = row_number(branch)
    if number is None or number >= len(branches):
        raise NotFound(_("This branch is not there any more. Reload the page to see the journey."))
    way: list[Any] = branches[number].setdefault("steps", [])
    return way


def change(tree: Tree, pk: str, values: dict[str, Any]) -> Tree:
    """The step with these values instead of its own; its id, kind and the steps inside it stay."""
    tree = copy.deepcopy(tree)
    steps, number = _place(tree, pk)
    step = steps[number]
    kept = {name: step[name] for name in ("id", "do", "branches", "else") if name in step}
    steps[number] = kept | values
    return tree


def move(tree: Tree, pk: str, by: int) -> Tree:
    """Up (-1) or down (1) within its sequence; at the end it stays."""
    tree = copy.deepcopy(tree)
    steps, number = _place(tree, pk)
    to = number + by
    if 0 <= to < len(steps):
        steps[number], steps[to] = steps[to], steps[number]
    return tree


def delete(tree: Tree, pk: str) -> Tree:
    """Without the step and what is inside it."""
    tree = copy.deepcopy(tree)
    steps, number = _place(tree, pk)
    del steps[number]
    return tree


def duplicate(tree: Tree, pk: str, known: set[str]) -> tuple[Tree, str]:
    """A copy right after it, with ids of its own throughout; the tree and the id of the copy."""
    tree = copy.deepcopy(tree)
    steps, number = _place(tree, pk)
    new = copy.deepcopy(steps[number])
    taken, renamed = set(known), {}
    for step in reading.steps_of({"steps": [new]}):
        free = _free(tree, taken)
        renamed[step.get("id")] = free
        step["id"] = free
        taken.add(free)
    # Who waits in the copy for a task of the copy.
    for step in reading.steps_of({"steps": [new]}):
        if "task" in step:
            step["task"] = renamed.get(step["task"], step["task"])
    steps.insert(number + 1, new)
    return tree, new["id"]


def add_branch(tree: Tree, pk: str) -> Tree:
    tree = copy.deepcopy(tree)
    split = find(tree, pk)
    if split.get("do") == "task_done":
        raise InvalidInput(_("This wait has one branch, for a task that was done."))
    empty = {"percent": 10, "steps": []} if split.get("do") == "share" else {"when": {"all": []}, "steps": []}
    split.setdefault("branches", []).append(empty)
    return tree


def remove_branch(tree: Tree, pk: str, number: int) -> Tree:
    """Without the branch and its steps. The last one stays: remove the split instead."""
    tree = copy.deepcopy(tree)
    branches = find(tree, pk).get("branches", [])
    if len(branches) < 2:
        raise InvalidInput(_("A split needs a branch. Remove the split instead."))
    if not 0 <= number < len(branches):
        raise NotFound(_("This branch is not there any more. Reload the page to see the journey."))
    del branches[number]
    return tree


def ids_of(trees: list[Any]) -> set[str]:
    """Every id that steps of these trees have."""
    return {step["id"] for tree in trees for step in reading.steps_of(tree) if isinstance(step.get("id"), str)}

"""Journeys: their trigger, steps and terms. Who is inside and what they got is no code.

The steps of a file become the draft, which changes nothing until a person publishes it; a new journey lets nobody in before
that. Texts are named by the key of their template and vouchers by the name of their series; neither travels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from campaigns.journeys import publishing, reading
from campaigns.models import Journey, JourneyVersion
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.errors import DomainError, InvalidInput
from lifecycle_crm.lifecycle_code.text import CONDITION, BadFile, Document, Path, entries, keys, needs, once, ordered
from loyalty.models import VoucherSeries

_TERMS = ("name", "again", "again_days", "holdout_percent", "exits", "goal", "goal_days")
_TREE = ("trigger", "steps")
_JOURNEY = ("key", *_TERMS, *_TREE)
_WORDS = (
    "id", "do", "on", "stage", "tier", "event", "template", "days", "hours", "window", "from", "until", "weekdays",
    "order", "name", "percent", "when", "points", "reason", "series", "tag", "remove",
    "kind", "what", "role", "person", "task", "target", "fields",
    *CONDITION, "branches", "steps", "else",
)  # fmt: skip


def exported() -> list[dict[str, Any]]:
    """Every journey that has not ended: the steps in force, or those of the draft when nothing was published yet."""
    rows = list(Journey.objects.exclude(state=Journey.State.ENDED).order_by("key"))
    trees = _in_force(rows)
    return [_said(row, trees.get(row.pk, row.draft)) for row in rows]


def _in_force(rows: list[Journey]) -> dict[int, Any]:
    newest = {row.pk: row.version for row in rows}
    versions = JourneyVersion.objects.filter(journey__in=newest, number__in=set(newest.values()))
    return {one.journey_id: one.tree for one in versions if newest[one.journey_id] == one.number}


def _said(row: Journey, tree: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"key": row.key} | {
        name: str(value) if isinstance(value := getattr(row, name), str) else value for name in _TERMS
    }
    tree = _with_names(tree)
    return _ordered(told | {name: tree.get(name) or type_() for name, type_ in (("trigger", dict), ("steps", list))})


def _with_names(tree: Any) -> Any:
    """The tree with the names of its vouchers, because their ids are of this shop only."""
    tree = copy.deepcopy(tree)
    steps = [step for step in reading.steps_of(tree) if "series" in step]
    names = dict(VoucherSeries.objects.values_list("pk", "name")) if steps else {}
    for step in steps:
        if (name := names.get(step.pop("series"))) is not None:
            step["series"] = name
    return tree


def _with_ids(document: Document, path: Path, steps: list[Any]) -> list[Any]:
    """The steps of a file with the vouchers of this shop. Raises ``BadFile`` for a name that is none of them, or of two."""
    steps = copy.deepcopy(steps)
    for place, step in _placed(steps, path):
        if "series" in step:
            name = step["series"]
            found = list(VoucherSeries.objects.filter(name=name)[:2]) if isinstance(name, str) else []
            if len(found) != 1:
                what = "two vouchers are called" if found else "no vouchers are called"
                hint = "Rename one" if found else "Make them in Loyalty first, or name others"
                raise document.wrong((*place, "series"), f"{what} {name!r}. {hint}.")
            step["series"] = found[0].pk
    return steps


def _placed(steps: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for index, step in enumerate(steps if isinstance(steps, list) else []):
        if not isinstance(step, dict):
            continue
        here = (*path, index)
        yield here, step
        branches = step.get("branches")
        for number, branch in enumerate(branches if isinstance(branches, list) else []):
            if isinstance(branch, dict):
                yield from _placed(branch.get("steps"), (*here, "branches", number, "steps"))
        yield from _placed(step.get("else"), (*here, "else"))


def _ordered(told: dict[str, Any]) -> dict[str, Any]:
    return {name: ordered(value, _WORDS, _WORDS) for name, value in told.items()}


def canonical(document: Document) -> list[dict[str, Any]]:
    """The section as an export would write it."""
    fresh = Journey()
    empty = {name: getattr(fresh, name) for name in _TERMS} | {"trigger": {}, "steps": []}
    return [
        _ordered({"key": one["key"]} | {name: one.get(name, value) for name, value in empty.items()})
        for one in sorted(document.data["journeys"], key=lambda one: str(one["key"]))
    ]


def check(document: Document) -> None:
    """Raises ``BadFile`` for what the file alone can tell; the verbs know the rest."""
    for index, one in enumerate(entries(document, "journeys")):
        path: Path = ("journeys", index)
        keys(document, path, one, _JOURNEY)
        needs(document, path, one, "a journey", {"key": str, "name": str})
        for name, wanted, what in (
            ("trigger", dict, "keys and values"), ("goal", dict, "keys and values"),
            ("steps", list, "a list: start each entry with a dash"), ("exits", list, "a list of conditions"),
        ):  # fmt: skip
            if name in one and not isinstance(one[name], wanted):
                raise document.wrong((*path, name), f"{name} is {what}, found {one[name]!r}.")
    once(document, "journeys")


def load(document: Document, actor: User | None, told: list[str]) -> None:
    """Make journeys and change their terms and drafts. Those that the file does not name stay."""
    place = {one["key"]: index for index, one in enumerate(entries(document, "journeys"))}
    for one in canonical(document):
        path: Path = ("journeys", place[one["key"]])
        try:
            _load(one, _with_ids(document, (*path, "steps"), one["steps"]), actor, told)
        except BadFile:
            raise
        except DomainError as problem:
            raise document.wrong(path, problem.message) from None


def _load(one: dict[str, Any], steps: list[Any], actor: User | None, told: list[str]) -> None:
    key, tree = one["key"], {"trigger": one["trigger"], "steps": steps}
    row = Journey.objects.filter(key=key).first()
    if row is None:
        publishing.create(key=key, tree=tree, actor=actor, **{name: one[name] for name in _TERMS})
        told.append(f"Journey {key}: new. It lets nobody in until somebody publishes it.")
        return
    if row.state == Journey.State.ENDED:
        raise InvalidInput(f"the journey {key} has ended here. Give the other one another key.")
    now = _said(row, _in_force([row]).get(row.pk, row.draft))
    if changed := {name: one[name] for name in _TERMS if one[name] != now[name]}:
        publishing.set_up(journey=row, **changed)
        told.append(f"Journey {key}: {', '.join(changed)} changed.")
    if all(one[name] == now[name] for name in _TREE):
        return
    draft = _said(row, row.draft)
    if all(one[name] == draft[name] for name in _TREE):
        told.append(f"Journey {key}: its draft has these steps already. Publish it in Journeys.")
        return
    if row.version and any(draft[name] != now[name] for name in _TREE):
        raise InvalidInput(f"somebody is changing the steps of {key}. Publish or take back that draft first.")
    publishing.save(journey=row, tree=tree, edits=row.edits)
    told.append(f"Journey {key}: its steps are a draft. They change nothing until somebody publishes them.")

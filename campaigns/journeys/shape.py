"""What a draft has to be like to be kept: not complete, but each part of the kind that the pages and the reader expect.

Whatever passes can be stored by both databases, shown, checked and tried; what is missing or makes no sense in it is told
by ``reading`` when somebody publishes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from campaigns.journeys.reading import ID, BadJourney

DEEPEST = 60
_CANNOT_BE_STORED = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _Kind:
    words: Any
    fits: Callable[[Any], bool]


_OBJECT = _Kind(gettext_lazy("an object"), lambda value: isinstance(value, dict))
_LIST = _Kind(gettext_lazy("a list"), lambda value: isinstance(value, list))
_TEXT = _Kind(gettext_lazy("text"), lambda value: isinstance(value, str))
_WHOLE = _Kind(gettext_lazy("a whole number"), lambda value: isinstance(value, int) and not isinstance(value, bool))
_FINITE = _Kind(gettext_lazy("a number that ends"), lambda value: isinstance(value, float) and isfinite(value))
_YES_OR_NO = _Kind(gettext_lazy("true or false"), lambda value: isinstance(value, bool))

_TRIGGER = {
    "on": _TEXT,
    "stage": _TEXT,
    "segment": _TEXT,
    "event": _TEXT,
    "tier": _TEXT,
    "days": _WHOLE,
    "hours": _WHOLE,
    "at_least": _WHOLE,
    "at_most": _WHOLE,
}
_LENGTH = {"days": _WHOLE, "hours": _WHOLE}
_WINDOW = {"from": _WHOLE, "until": _WHOLE, "weekdays": _LIST}
_STEP = {
    "do": _TEXT,
    "template": _TEXT,
    **_LENGTH,
    "window": _OBJECT,
    "order": _YES_OR_NO,
    "event": _TEXT,
    "when": _OBJECT,
    "at_most": _OBJECT,
    "points": _WHOLE,
    "reason": _TEXT,
    "series": _WHOLE,
    "tag": _TEXT,
    "remove": _YES_OR_NO,
    "kind": _TEXT,
    "what": _TEXT,
    "role": _TEXT,
    "person": _TEXT,
    "task": _TEXT,
    "target": _TEXT,
    "fields": _LIST,
    "branches": _LIST,
    "else": _LIST,
}
_BRANCH = {"name": _TEXT, "when": _OBJECT, "percent": _WHOLE, "steps": _LIST}


def checked(tree: Any) -> dict[str, Any]:
    """The tree with a trigger and steps. Raises ``BadJourney``: one sentence about the first place that is wrong."""
    storable(tree)
    if not isinstance(tree, dict):
        raise BadJourney(_("A journey is an object with a trigger and steps."))
    tree = {"trigger": {}, "steps": [], **tree}
    _fields(tree, {"trigger": _OBJECT, "steps": _LIST}, "")
    _fields(tree["trigger"], _TRIGGER, "trigger")
    _steps(tree["steps"], "steps", set())
    return tree


def storable(value: Any, where: str = "", depth: int = 0) -> None:
    """Raises ``BadJourney`` for JSON that a database cannot keep: NUL, half a surrogate pair, no number, far too deep."""
    if depth > DEEPEST:
        raise BadJourney(_("The journey is nested far too deep. Make it simpler."))
    if isinstance(value, str) and _CANNOT_BE_STORED.search(value):
        raise BadJourney(
            _("%(where)s holds a character that cannot be stored. Remove it.") % {"where": where or _("The journey")}
        )
    if isinstance(value, float) and not _FINITE.fits(value):
        raise _wrong(where, _FINITE)
    if isinstance(value, dict):
        for name, part in value.items():
            storable(name, where, depth + 1)
            storable(part, f"{where}.{name}" if where else name, depth + 1)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            storable(part, f"{where}[{number}]", depth + 1)


def _wrong(where: str, needs: _Kind) -> BadJourney:
    return BadJourney(_("In the journey, %(where)s has to be %(what)s.") % {"where": where, "what": needs.words})


def _fields(tree: Mapping[str, Any], kinds: Mapping[str, _Kind], where: str) -> None:
    for name, needs in kinds.items():
        if name in tree and not needs.fits(tree[name]):
            raise _wrong(f"{where}.{name}" if where else name, needs)


def _steps(steps: list[Any], where: str, seen: set[str]) -> None:
    for number, step in enumerate(steps):
        _step(step, f"{where}[{number}]", seen)


def _step(step: Any, where: str, seen: set[str]) -> None:
    if not isinstance(step, dict):
        raise _wrong(where, _OBJECT)
    pk = step.get("id")
    if not isinstance(pk, str) or not ID.fullmatch(pk):
        raise BadJourney(
            _("%(where)s needs an id of small letters, digits and -, at most 20, such as s1.") % {"where": where}
        )
    if pk in seen:
        raise BadJourney(_("The id %(id)s is used by two steps. Give each its own.") % {"id": pk})
    seen.add(pk)
    if "do" not in step:
        raise _wrong(f"{where}.do", _TEXT)
    _fields(step, _STEP, where)
    _fields(step.get("at_most", {}), _LENGTH, f"{where}.at_most")
    window = step.get("window", {})
    _fields(window, _WINDOW, f"{where}.window")
    for number, day in enumerate(window.get("weekdays", [])):
        if not _WHOLE.fits(day) or not 0 <= day <= 6:
            raise BadJourney(
                _("%(where)s has to be a day of the week, from 0 for Monday to 6 for Sunday.")
                % {"where": f"{where}.window.weekdays[{number}]"}
            )
    for number, branch in enumerate(step.get("branches", [])):
        place = f"{where}.branches[{number}]"
        if not isinstance(branch, dict):
            raise _wrong(place, _OBJECT)
        _fields(branch, _BRANCH, place)
        _steps(branch.get("steps", []), f"{place}.steps", seen)
    _steps(step.get("else", []), f"{where}.else", seen)

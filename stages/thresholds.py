"""The numbers of a rule set, each with its place, its words and its bounds: what a form shows instead of JSON.

A place is a path into the JSON list (``0.when.all.1.value.at_least``). Amounts of money are read and written in major units,
everything else in whole numbers (usual gaps in steps of a half).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from customers import conditions
from customers.sentences import say
from customers.vocabulary import FACTS, Kind
from lifecycle_crm.lib import money
from lifecycle_crm.lib.errors import InvalidInput

STAY = "stay_days"


@dataclass(frozen=True)
class Threshold:
    """One number. ``decimals`` 0 is a whole number; ``about`` is the sentence of the condition it stands in."""

    path: str
    label: str
    value: Decimal | int
    low: int
    high: int
    about: str = ""
    decimals: int = 0
    currency: str = ""


def of_rule(data: list[dict[str, Any]], index: int) -> list[Threshold]:
    """The numbers of one rule in reading order, its minimum stay last."""
    rule = data[index]
    found = list(_walk(rule.get("when"), f"{index}.when"))
    stay = Threshold(f"{index}.{STAY}", _("Minimum stay before it moves (days)"), int(rule.get(STAY, 0)), 0, 3650)
    return [*found, stay]


def _walk(tree: Any, path: str, is_not: bool = False) -> Iterator[Threshold]:
    if not isinstance(tree, dict):
        return
    for word in ("all", "any"):
        for number, part in enumerate(tree.get(word, [])):
            yield from _walk(part, f"{path}.{word}.{number}")
    if "not" in tree:
        yield from _walk(tree["not"], f"{path}.not", not is_not)
    if "fact" in tree or "did" in tree or "bought" in tree:
        about = say(conditions.parse({"not": tree} if is_not else tree))
        yield from _of_atom(tree, path, about)


def _of_atom(tree: dict[str, Any], path: str, about: str) -> Iterator[Threshold]:
    if "fact" in tree:
        yield from _of_fact(tree, path, about)
    else:
        yield Threshold(f"{path}.times", _("times"), int(tree["times"]), 1, 1000, about)
        if tree.get("days") is not None:
            yield Threshold(f"{path}.days", _("in the last days"), int(tree["days"]), 1, 36_500, about)


def _of_fact(tree: dict[str, Any], path: str, about: str) -> Iterator[Threshold]:
    value, fact = tree.get("value"), FACTS.get(tree["fact"])
    if isinstance(value, dict):
        yield Threshold(f"{path}.value.gaps", _("usual gaps"), Decimal(str(value["gaps"])), 0, 100, about, 2)
        yield Threshold(f"{path}.value.at_least", _("at least (days)"), value["at_least"], 0, 36_500, about)
        yield Threshold(f"{path}.value.at_most", _("at most (days)"), value["at_most"], 1, 36_500, about)
    elif isinstance(value, bool) or not isinstance(value, int) or fact is None:
        return
    elif fact.kind is Kind.MOMENT:
        yield Threshold(f"{path}.value", _("days"), value, 0, 36_500, about)
    elif fact.kind is Kind.MONEY:
        currency = settings.SHOP_CURRENCY
        yield Threshold(
            f"{path}.value",
            _("amount"),
            money.from_minor(value, currency),
            0,
            10**9,
            about,
            money.digits(currency),
            currency,
        )
    else:
        yield Threshold(f"{path}.value", str(fact.label), value, 0, 10**9, about)


def put(data: list[dict[str, Any]], values: Mapping[str, Decimal | int]) -> list[dict[str, Any]]:
    """A copy of the rules with these numbers at their places. Raises ``InvalidInput`` for a place without a number."""
    changed = deepcopy(data)
    known = {one.path: one for index in range(len(data)) for one in of_rule(data, index)}
    for path, value in values.items():
        one = known.get(path)
        if one is None:
            raise InvalidInput(f"There is no number at {path}. Reload the page; somebody changed the draft.")
        *way, last = path.split(".")
        at: Any = changed
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at[step]
        if last == STAY and not value:
            at.pop(STAY, None)
        elif one.currency:
            at[last] = money.to_minor(str(value), one.currency)
        elif one.decimals:
            at[last] = int(value) if value == int(value) else float(value)
        else:
            at[last] = int(value)
    return changed


# --- Rules as a whole -------------------------------------------------------------------------------------------------


def move(data: list[dict[str, Any]], key: str, by: int) -> list[dict[str, Any]]:
    """The rule one place up (``-1``) or down (``1``). The last rule catches everybody and stays last."""
    at = _place(data, key)
    to = at + by
    if at == len(data) - 1 or not 0 <= to < len(data) - 1:
        raise InvalidInput(_("The rule cannot move further: the last one catches everybody and stays last."))
    changed = list(data)
    changed[at], changed[to] = changed[to], changed[at]
    return changed


def remove(data: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    at = _place(data, key)
    if at == len(data) - 1:
        raise InvalidInput(_("The last rule catches everybody, so that nobody is without a stage. It stays."))
    return [*data[:at], *data[at + 1 :]]


def add(data: list[dict[str, Any]], rule: dict[str, Any], *, order: list[str]) -> list[dict[str, Any]]:
    """Put a rule where ``order`` (the keys of the set it comes from) has it, as near as the rules allow."""
    if any(one["key"] == rule["key"] for one in data):
        raise InvalidInput(_("The draft has this rule already."))
    before = order[: order.index(rule["key"])] if rule["key"] in order else []
    at = max((i + 1 for i, one in enumerate(data) if one["key"] in before), default=0)
    at = min(at, len(data) - 1)
    return [*data[:at], deepcopy(rule), *data[at:]]


def _place(data: list[dict[str, Any]], key: str) -> int:
    for index, rule in enumerate(data):
        if rule["key"] == key:
            return index
    raise InvalidInput(_("There is no rule %(key)s in this draft.") % {"key": key})

"""What is wrong with rules before they decide anything: rules that can never decide, and pairs that toss people about.

Contradictions and shadows follow from the text alone. Loops are looked for where they would hurt: the rules are asked about
real customers and about made-up ones at the edges of every limit, in each stage, and again in the stage they answer with.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from customers import conditions
from customers.conditions import All, Any_, Compare, Condition, Not, Since, Snapshot, Times
from customers.models import CustomerFacts
from customers.vocabulary import FACTS, Kind
from lifecycle_crm.lib.moments import DAY, seconds
from lifecycle_crm.templatetags.crm import stage_name
from stages import rules as rulebook
from stages.models import StageKey
from stages.rules import BadRules, Rule, Rules

SAMPLED = 300
MADE_UP = 400
_LEAST, _MOST = -(2**61), 2**61


def refuse_dead(rules: Rules) -> None:
    """Raise ``BadRules`` for the first rule that can never decide."""
    for sentence in dead(rules):
        raise BadRules(sentence, code="dead_rule")


def refuse_loops(rules: Rules, as_of: datetime) -> None:
    """Raise ``BadRules`` for the first pair of rules that would move somebody back and forth every night."""
    for sentence in loops(rules, as_of):
        raise BadRules(sentence, code="loop")


def dead(rules: Rules) -> Iterator[str]:
    """A sentence for each rule that can never decide."""
    seen: list[Rule] = []
    for rule in rules:
        if not _possible(rule.when):
            yield _(
                "“%(rule)s” can never be true: its conditions contradict each other. Change a limit or remove it."
            ) % {"rule": rule.title()}
        else:
            above = next((other for other in seen if _covers(other, rule)), None)
            if above is not None:
                yield _(
                    "“%(rule)s” never decides: “%(above)s” above it holds whenever it would. Move it up or remove it."
                ) % {
                    "rule": rule.title(),
                    "above": above.title(),
                }
        seen.append(rule)


# --- Never true -------------------------------------------------------------------------------------------------------


@dataclass
class _Bounds:
    """What is left of one fact inside an "all"."""

    low: int = _LEAST
    high: int = _MOST
    is_set: bool = False
    is_unset: bool = False
    texts: frozenset[str] | None = None
    not_texts: frozenset[str] = frozenset()
    flag: bool | None = None
    flags: bool = True
    excluded: frozenset[int] = frozenset()

    def is_possible(self) -> bool:
        if self.low > self.high or (self.is_set and self.is_unset) or not self.flags:
            return False
        if self.low == self.high and self.low in self.excluded:
            return False
        return self.texts is None or bool(self.texts - self.not_texts)


def _flat(condition: Condition) -> Iterator[Condition]:
    if isinstance(condition, All):
        for part in condition.parts:
            yield from _flat(part)
    else:
        yield condition


def _possible(condition: Condition) -> bool:
    """False only when it is certain that the condition never holds."""
    if isinstance(condition, Any_):
        return any(_possible(part) for part in condition.parts)
    if not isinstance(condition, All):
        return _possible_together([condition])
    return _possible_together(list(_flat(condition)))


def _possible_together(parts: list[Condition]) -> bool:
    bounds: dict[str, _Bounds] = {}
    negated: list[Condition] = []
    for part in parts:
        if isinstance(part, Not):
            negated.append(part.part)
        elif isinstance(part, Any_):
            if not _possible(part):
                return False
        elif part in [n.part for n in parts if isinstance(n, Not)] or not _narrow(bounds, part):
            return False
    for part in negated:
        if part == All(()):
            return False
        # "Not at least 5" also holds where the fact is not set; only beside a part that needs it set is it "under 5".
        if isinstance(part, Compare | Since) and bounds.get(part.fact, _Bounds()).is_set:
            opposite = _opposite(part)
            if opposite is not None and not _narrow(bounds, opposite):
                return False
        if isinstance(part, Compare) and part.op == "is_set" and not _narrow(bounds, Compare(part.fact, "is_not_set")):
            return False
    return all(one.is_possible() for one in bounds.values())


def _opposite(part: Compare | Since) -> Condition | None:
    if isinstance(part, Since):
        return Since(part.fact, not part.is_past, part.days)
    other = {"gte": "lt", "lt": "gte", "gt": "lte", "lte": "gt", "eq": "ne", "ne": "eq"}.get(part.op)
    is_number = FACTS[part.fact].kind in (Kind.NUMBER, Kind.MONEY, Kind.SPAN) if part.fact in FACTS else False
    return Compare(part.fact, other, part.value) if other and is_number else None


def _narrow(bounds: dict[str, _Bounds], part: Condition) -> bool:
    """Take the part into the bounds of its fact; false when nothing is left."""
    if isinstance(part, Times):
        one = bounds.setdefault(part.key, _Bounds(low=0))
        if part.is_enough:
            one.low = max(one.low, part.times)
        else:
            one.high = min(one.high, part.times - 1)
        return one.is_possible()
    if isinstance(part, Since):
        one = bounds.setdefault(part.fact, _Bounds())
        one.is_set = True
        if part.is_past:  # at least so long ago; with usual gaps the shortest wait is what counts
            one.low = max(one.low, (part.days.at_least if part.days.gaps_percent else part.days.at_most) * DAY)
        else:
            one.high = min(one.high, part.days.at_most * DAY - 1)
        return one.is_possible()
    if not isinstance(part, Compare) or part.fact not in FACTS:
        return True
    one = bounds.setdefault(part.fact, _Bounds())
    if part.op == "is_not_set":
        one.is_unset = True
        return one.is_possible()
    one.is_set = True
    if part.op == "is_set":
        return one.is_possible()
    kind = FACTS[part.fact].kind
    if kind is Kind.FLAG:
        one.flags = one.flag is None or one.flag == part.value
        one.flag = part.value
    elif kind is Kind.TEXT:
        values = frozenset(part.value if part.op == "in" else [part.value])
        if part.op == "ne":
            one.not_texts |= values
        else:
            one.texts = values if one.texts is None else one.texts & values
    elif isinstance(part.value, int):
        _narrow_number(one, part.op, part.value)
    return one.is_possible()


def _narrow_number(one: _Bounds, op: str, value: int) -> None:
    if op in ("gte", "eq"):
        one.low = max(one.low, value)
    if op == "gt":
        one.low = max(one.low, value + 1)
    if op in ("lte", "eq"):
        one.high = min(one.high, value)
    if op == "lt":
        one.high = min(one.high, value - 1)
    if op == "ne":
        one.excluded |= {value}


# --- Shadowed ---------------------------------------------------------------------------------------------------------


def _covers(above: Rule, below: Rule) -> bool:
    """Whether ``above`` holds for everybody for whom ``below`` does, as far as their texts show."""
    if above.sources is not None and (below.sources is None or set(below.sources) - set(above.sources)):
        return False
    needed, given = set(_flat(above.when)), set(_flat(below.when))
    return needed <= given


# --- Loops ------------------------------------------------------------------------------------------------------------


def loops(rules: Rules, as_of: datetime) -> Iterator[str]:
    """A sentence for each pair of rules of which one moves a customer out and the other at once back in."""
    now = seconds(as_of)
    found: set[frozenset[str]] = set()
    for snapshot in _samples(rules, as_of):
        for stage in StageKey.values:
            there = rulebook.decide(rules, {**snapshot, "stage": stage, "stage_since": now}, now)
            if there.waits or there.to == stage:
                continue
            back = rulebook.decide(rules, {**snapshot, "stage": there.to, "stage_since": now}, now)
            pair = frozenset((there.rule.key, back.rule.key))
            if back.waits or back.to != stage or pair in found:
                continue
            found.add(pair)
            yield _(
                "“%(one)s” moves people from %(a)s to %(b)s and “%(other)s” moves the same people back, every night. "
                "Give one of them a minimum stay, or limits that do not meet."
            ) % {
                "one": there.rule.title(),
                "other": back.rule.title(),
                "a": stage_name(stage),
                "b": stage_name(there.to),
            }


def _samples(rules: Rules, as_of: datetime) -> Iterator[Snapshot]:
    # Spread over the ids, so that old and new customers are among them.
    count = CustomerFacts.objects.count()
    ids = list(CustomerFacts.objects.order_by("pk").values_list("pk", flat=True)[:: max(1, count // SAMPLED)][:SAMPLED])
    yield from conditions.snapshots(ids, rules.conditions(), as_of).values()
    yield from _made_up(rules, seconds(as_of))


def _made_up(rules: Rules, now: int) -> Iterator[Snapshot]:
    """Customers at and beside every limit the rules name, put together by a fixed chance."""
    dice = random.Random(1)
    values: dict[str, set[Any]] = {}
    happened: dict[str, set[tuple[int, ...]]] = {}
    for atom in _atoms(rules.conditions()):
        if isinstance(atom, Since):
            edges = {atom.days.at_least, atom.days.at_most}
            near = {now - d * DAY + s for d in edges for s in (-DAY, 0, DAY)}
            values.setdefault(atom.fact, {None}).update(near)
        elif isinstance(atom, Compare) and atom.fact in FACTS:
            values.setdefault(atom.fact, set()).update(_near(atom))
        elif isinstance(atom, Times):
            at = now - DAY
            happened.setdefault(atom.key, {()}).update({(at,) * atom.times, (at,) * max(0, atom.times - 1)})
    for _n in range(MADE_UP if values or happened else 1):
        made: dict[str, Any] = {"gap_seconds": dice.choice([None, 7 * DAY, 30 * DAY, 90 * DAY])}
        made |= {name: dice.choice(sorted(some, key=repr)) for name, some in values.items()}
        made |= {key: list(dice.choice(sorted(some))) for key, some in happened.items()}
        if _could_be(made):
            yield made


def _near(atom: Compare) -> Sequence[Any]:
    kind = FACTS[atom.fact].kind
    if kind is Kind.FLAG:
        return [True, False]
    if kind is Kind.TEXT:
        return ["", *(atom.value if atom.op == "in" else [atom.value])] if atom.value is not None else [""]
    if kind is Kind.MOMENT or atom.value is None:
        return [None]
    return [max(0, atom.value + d) for d in (-1, 0, 1)]


def _could_be(made: dict[str, Any]) -> bool:
    """No orders and a last order, or the other way round, is nobody."""
    if "orders" in made and "last_order_at" in made:
        return bool(made["orders"]) == (made["last_order_at"] is not None)
    return True


def _atoms(trees: Iterable[Condition]) -> list[Condition]:
    found: dict[Condition, None] = {}
    for tree in trees:
        found.update(dict.fromkeys(tree.atoms()))
    return list(found)

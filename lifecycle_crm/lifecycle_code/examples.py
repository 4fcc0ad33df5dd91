"""Examples: made-up or real customers, and the stage that the rules should give them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from customers import conditions, facts
from customers.models import Customer
from customers.vocabulary import FACTS, Kind
from lifecycle_crm import reactions
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import seconds
from lifecycle_crm.lifecycle_code.rules import parsed
from lifecycle_crm.lifecycle_code.text import Document, Path, entries, keys
from stages import rules as rulebook
from stages.models import StageKey, StageTransition
from stages.rules import Rules


@dataclass(frozen=True)
class Result:
    """One example: what was expected, what was decided."""

    name: str
    line: int
    expected: str
    decided: str

    @property
    def is_right(self) -> bool:
        return self.expected == self.decided


def examine(document: Document, on: date) -> list[Result]:
    """Ask the file's rules (or those in force, if it has none) about its examples, as of the end of ``on``.

    An example is made up (``facts``, and ``did`` with dates by event) or a customer of the shop (``customer``, a number),
    whose facts are worked out as they were known then; nothing is kept. Raises ``BadFile``.
    """
    examples = entries(document, "examples")
    if not examples:
        raise document.wrong(
            ("examples",), "has no examples. Add a list of examples with facts and the expected stage."
        )
    rules = parsed(document) if "rules" in document.data else rulebook.parse(rulebook.published().rules)
    return [_examine(document, rules, index, example, on) for index, example in enumerate(examples)]


def _examine(document: Document, rules: Rules, index: int, example: Any, on: date) -> Result:
    path: Path = ("examples", index)
    keys(document, path, example, ("name", "facts", "did", "customer", "stage", "rule"))
    stage, rule = example.get("stage"), example.get("rule")
    if stage not in StageKey.values:
        raise document.wrong(
            (*path, "stage"), f"expects the stage {stage!r}. Use one of: {', '.join(StageKey.values)}."
        )
    if rule is not None and rules.by_key(rule) is None:
        raise document.wrong((*path, "rule"), f"expects the rule {rule!r}, which is not in the rules.")
    if ("customer" in example) == ("facts" in example):
        raise document.wrong(path, "needs either facts or a customer.")
    as_of = clock.day_end(on)
    if "customer" in example:
        snapshot = _real(document, (*path, "customer"), example["customer"], rules, as_of)
        name = example.get("name") or f"customer #{example['customer']}"
    else:
        snapshot = _made_up(document, path, example, rules, as_of)
        name = example.get("name") or f"example {index + 1}"
    decision = rulebook.decide(rules, snapshot, seconds(as_of))
    expected, decided = stage, decision.to
    if rule is not None:
        expected, decided = f"{stage} by {rule}", f"{decision.to} by {decision.rule.key}"
    return Result(str(name), document.at(path), expected, decided)


def _made_up(document: Document, path: Path, example: dict[str, Any], rules: Rules, as_of: datetime) -> dict[str, Any]:
    told = example["facts"]
    keys(document, (*path, "facts"), told, tuple(sorted(FACTS)))
    snapshot: dict[str, Any] = {}
    for name, fact in FACTS.items():
        value, place = told.get(name), (*path, "facts", name)
        if value is None:
            numbers = ("orders", "points", "open_cases", "spend_minor")
            texts = fact.kind is Kind.TEXT
            snapshot[name] = 0 if name in numbers else "" if texts else False if fact.kind is Kind.FLAG else None
        elif fact.kind is Kind.MOMENT:
            snapshot[name] = _moment(document, place, value, as_of)
        elif fact.kind is Kind.FLAG or fact.kind is Kind.TEXT:
            if not isinstance(value, bool if fact.kind is Kind.FLAG else str):
                raise document.wrong(place, f"{name} is {'true or false' if fact.kind is Kind.FLAG else 'a text'}.")
            snapshot[name] = value
        elif isinstance(value, bool) or not isinstance(value, int):
            raise document.wrong(place, f"{name} is a whole number, found {value!r}.")
        else:
            snapshot[name] = value
    happened = example.get("did", {})
    keys(document, (*path, "did"), happened, tuple(sorted({a.name for a in rules.counts() if a.kind == "did"})))
    for atom in rules.counts():
        moments = happened.get(atom.name, []) if atom.kind == "did" else []
        if not isinstance(moments, list):
            raise document.wrong((*path, "did", atom.name), "expected a list of dates.")
        snapshot[atom.key] = [_moment(document, (*path, "did", atom.name), one, as_of) for one in moments]
    return snapshot


def _moment(document: Document, path: Path, value: Any, as_of: datetime) -> int:
    """``2026-01-31`` (its beginning in the shop), ``2026-01-31T12:00:00+01:00`` or ``90 days ago``."""
    text = str(value)
    if days := re.fullmatch(r"(\d{1,5}) days? ago", text):
        return seconds(as_of - timedelta(days=int(days[1])))
    try:
        if len(text) == 10:
            return seconds(clock.day_start(date.fromisoformat(text)))
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError
    except ValueError:
        raise document.wrong(
            path, f"{text!r} is no moment. Write a date such as 2026-01-31, or “90 days ago”."
        ) from None
    return seconds(moment)


def _real(document: Document, path: Path, number: Any, rules: Rules, as_of: datetime) -> dict[str, Any]:
    """A customer's facts as they were known at ``as_of``: worked out as a night does, read, and rolled back."""
    is_number = isinstance(number, int) and not isinstance(number, bool)
    customer = Customer.objects.filter(pk=number).first() if is_number else None
    if customer is None:
        raise document.wrong(path, f"there is no customer {number!r}. Write the number of a customer.")
    if as_of > clock.now():
        last = clock.last_complete_day()
        raise document.wrong(path, f"what customer {number} will do is not known. Choose an --as-of up to {last}.")
    if customer.known_since >= as_of:
        day = clock.business_date(as_of - timedelta(seconds=1))
        raise document.wrong(path, f"customer {number} was not known yet on {day}. Choose a later --as-of.")
    with batches.rehearsal():
        with facts.batch():
            facts.add_everyone(number, number + 1, as_of=as_of)
            reactions.hand_down(as_of=as_of)
            facts.score(as_of=as_of)
        found = conditions.snapshots([number], rules.conditions(), as_of)
    move = StageTransition.objects.filter(customer=number, occurred_at__lte=as_of).order_by("-pk").first()
    stood = (
        {"stage": move.to_stage, "stage_since": seconds(move.occurred_at)}
        if move
        else {"stage": "", "stage_since": None}
    )
    return found[number] | stood


def counted(results: Iterable[Result]) -> tuple[int, int]:
    """How many examples are right, and how many there are."""
    told = [result.is_right for result in results]
    return sum(told), len(told)

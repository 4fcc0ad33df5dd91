"""Stage rules as data, and the decision they make: pure, values in, verdict out.

A rule set is an ordered list. The first rule that may apply in the customer's stage and whose condition holds decides; what
comes after it is not asked. ``stay_days`` is a minimum stay: a move decided sooner waits, the customer stays where they are.
Hysteresis is two rules: an entry rule, and before it a rule for those already inside (``from``) with a looser limit.

    {"key": "goes_quiet", "name": "Goes quiet", "to": "dormant", "when": {…}, "from": ["retain", "new"], "stay_days": 14}

``from`` may be left out (any stage); ``"new"`` stands for a customer who has no stage yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from customers import conditions, facts
from customers.conditions import FOREVER, BadCondition, Compare, Condition, Since, Snapshot, Times, holds
from customers.models import RfmCuts
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import DAY
from stages.models import RuleSet, StageKey

NEW = "new"


class BadRules(InvalidInput):
    code = "bad_rules"


@dataclass(frozen=True, slots=True)
class Rule:
    key: str
    name: str
    to: str
    when: Condition
    sources: tuple[str, ...] | None
    stay_days: int

    def may_apply(self, stage: str) -> bool:
        return self.sources is None or (stage or NEW) in self.sources

    def title(self) -> str:
        """The rule's name in the active language, if it is one we ship, else as the shop wrote it."""
        return _(self.name) if self.name else self.key


@dataclass(frozen=True, slots=True)
class Decision:
    """``rule`` decides; ``to`` is where the customer stands now: its stage, or the old one while ``waits`` is true."""

    rule: Rule
    to: str
    waits: bool


@dataclass(frozen=True, slots=True)
class Rules:
    rules: tuple[Rule, ...]

    def __iter__(self) -> Any:
        return iter(self.rules)

    def by_key(self, key: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.key == key), None)

    def conditions(self) -> list[Condition]:
        return [rule.when for rule in self.rules]

    def fact_names(self) -> list[str]:
        """Every fact a decision may look at: what evidence keeps."""
        atoms = [atom for c in self.conditions() for atom in c.atoms()]
        names = {a.fact for a in atoms if isinstance(a, Compare | Since)}
        if any(isinstance(a, Since) and a.days.gaps_percent for a in atoms):
            names.add("gap_seconds")
        return sorted(names | {"stage", "stage_since"})

    def counts(self) -> list[Times]:
        found = {a.key: a for c in self.conditions() for a in c.atoms() if isinstance(a, Times)}
        return [found[key] for key in sorted(found)]


def parse(data: Any) -> Rules:
    """Rules from JSON. Raises ``BadRules`` or ``BadCondition`` with one sentence that says where."""
    if not isinstance(data, list) or not data:
        raise BadRules("A rule set is a list of rules, in order, and needs at least one.")
    parsed: list[Rule] = []
    for index, item in enumerate(data):
        where = f"Rule {index + 1}"
        if not isinstance(item, dict):
            raise BadRules(f"{where}: expected an object, found {item!r}.")
        if extra := set(item) - {"key", "name", "to", "when", "from", "stay_days", "note"}:
            raise BadRules(f"{where}: does not know {', '.join(sorted(map(repr, extra)))}.")
        key = item.get("key")
        if not isinstance(key, str) or not key.isidentifier() or len(key) > 40:
            raise BadRules(f"{where}: needs a key of letters, digits and _, at most 40 long; found {key!r}.")
        where = f"Rule {index + 1} ({key})"
        if any(rule.key == key for rule in parsed):
            raise BadRules(f"{where}: another rule has the same key.")
        if item.get("to") not in StageKey.values:
            raise BadRules(f"{where}: moves to {item.get('to')!r}. Use one of: {', '.join(StageKey.values)}.")
        sources = item.get("from")
        if sources is not None:
            allowed = [*StageKey.values, NEW]
            if not isinstance(sources, list) or not sources or set(sources) - set(allowed):
                raise BadRules(f"{where}: from is {sources!r}. Use a list of: {', '.join(allowed)}.")
        stay = item.get("stay_days", 0)
        if isinstance(stay, bool) or not isinstance(stay, int) or not 0 <= stay <= 3650:
            raise BadRules(f"{where}: stay_days is {stay!r}. Use a whole number of days from 0 to 3650.")
        parsed.append(
            Rule(
                key=key,
                name=str(item.get("name", ""))[:80],
                to=item["to"],
                when=conditions.parse(item.get("when"), f"{where}, when"),
                sources=None if sources is None else tuple(sources),
                stay_days=stay,
            )
        )
    last = parsed[-1]
    if last.sources is not None or last.when != conditions.All(()):
        raise BadRules(
            f"The last rule ({last.key}) must catch everybody, so that nobody is without a stage: give it "
            'no "from" and the condition {"all": []}.'
        )
    return Rules(tuple(parsed))


def decide(rules: Rules, snapshot: Snapshot, as_of: int) -> Decision:
    """Where a customer stands at that second. ``snapshot`` holds their facts, with ``stage`` and ``stage_since``."""
    stage = snapshot.get("stage") or ""
    for rule in rules:
        if rule.may_apply(stage) and holds(rule.when, snapshot, as_of):
            if not stage or rule.to == stage:
                return Decision(rule, rule.to, waits=False)
            stayed = snapshot.get("stage_since")
            waits = rule.stay_days > 0 and stayed is not None and stayed + rule.stay_days * DAY > as_of
            return Decision(rule, stage if waits else rule.to, waits)
    raise BadRules("No rule decides. The last rule must catch everybody.")


def next_review(rules: Rules, snapshot: Snapshot, as_of: int) -> int | None:
    """The first second after ``as_of`` at which time alone could change ``decide``; ``None`` if it never will."""
    flips = [flip for c in rules.conditions() if (flip := conditions.next_flip(c, snapshot, as_of)) is not None]
    since = snapshot.get("stage_since")
    if since is not None:
        flips += [since + r.stay_days * DAY for r in rules if r.stay_days and since + r.stay_days * DAY > as_of]
    return min(flips, default=None)


# --- The same in SQL, over the facts under the alias ``f`` ----------------------------------------------------------------


def decide_sql(rules: Rules, as_of: datetime) -> tuple[str, list[Any]]:
    """SQL: the index of the rule that decides."""
    whens: list[str] = []
    params: list[Any] = []
    for index, rule in enumerate(rules):
        sql, inner = conditions.to_sql(rule.when, as_of)
        if rule.sources is not None:
            stages = ", ".join(f"'{'' if s == NEW else s}'" for s in rule.sources)
            sql = f"f.stage IN ({stages}) AND {sql}"
        whens.append(f"WHEN {sql} THEN {index}")
        params += inner
    return f"CASE {' '.join(whens)} END", params


def next_review_sql(rules: Rules, cuts: RfmCuts | None, as_of: datetime) -> tuple[str, list[Any]]:
    """SQL: ``next_review`` (and the next fall of the recency score, which rules may look at), NULL for never."""
    expressions, params = conditions.flip_sql(rules.conditions(), as_of)
    now = int(as_of.timestamp())
    for days in sorted({rule.stay_days for rule in rules if rule.stay_days}):
        until = f"f.stage_since + {days * DAY}"
        expressions.append(f"(CASE WHEN {until} > {now} THEN {until} ELSE {FOREVER} END)")
    if cuts is not None:
        expressions.append(f"coalesce({facts.next_recency_change(cuts, as_of)}, {FOREVER})")
    if not expressions:
        return "CAST(NULL AS bigint)", []
    return f"nullif({conditions.smallest(expressions)}, {FOREVER})", params


def published() -> RuleSet:
    """The rule set in force. Raises ``BadRules`` when none is published."""
    rule_set = RuleSet.objects.filter(state=RuleSet.State.PUBLISHED).first()
    if rule_set is None:
        raise BadRules("No rule set is published. Publish one under Stages, or install the default rules.")
    return rule_set


def titles(keys: Sequence[str], rules: Rules) -> dict[str, str]:
    return {key: (rule.title() if (rule := rules.by_key(key)) else key) for key in keys}


__all__ = [
    "BadCondition",
    "BadRules",
    "Decision",
    "Rule",
    "Rules",
    "decide",
    "decide_sql",
    "next_review",
    "next_review_sql",
    "parse",
    "published",
]

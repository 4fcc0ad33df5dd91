"""The rules of the stages: in force here, or a draft of what a file says."""

from __future__ import annotations

import re
from typing import Any

from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.errors import Conflict, DomainError, InvalidInput
from lifecycle_crm.lifecycle_code.text import Document, Path, keys, ordered
from stages import rules as rulebook
from stages import rulesets
from stages.models import RuleSet
from stages.rules import Rules

_RULE = ("key", "name", "to", "from", "stay_days", "when", "note")


def exported(version: int | None = None) -> dict[str, Any] | None:
    """The rules in force, or one version of them; ``None`` before there are any."""
    wanted = RuleSet.objects.filter(version=version) if version else RuleSet.objects.filter(state="published")
    rule_set = wanted.first()
    if version and rule_set is None:
        raise InvalidInput(f"There is no version {version} of the rules. Choose one that Stages lists.")
    if rule_set is None:
        return None
    return {"name": rule_set.name, "note": rule_set.note, "rules": ordered(rule_set.rules, _RULE)}


def canonical(document: Document) -> dict[str, Any]:
    """The section as an export would write it."""
    rules = document.data["rules"]
    return {
        "name": str(rules["name"]).strip(),
        "note": str(rules.get("note") or "").strip(),
        "rules": ordered(rules["rules"], _RULE),
    }


def check(document: Document) -> None:
    """Raises ``BadFile``."""
    if "rules" not in document.data:
        return
    keys(document, ("rules",), document.data["rules"], ("name", "note", "rules"))
    if not str(document.data["rules"].get("name") or "").strip():
        raise document.wrong(("rules",), "give the rules a name.")
    parsed(document)


def parsed(document: Document) -> Rules:
    try:
        return rulebook.parse(document.data["rules"].get("rules"))
    except DomainError as problem:
        raise document.wrong(_path_of(problem.message), problem.message) from None


def _path_of(message: str) -> Path:
    """The part that a refusal of rules names: "Rule 2 (old), when.all[1].value: …"."""
    rule = re.match(r"Rule (\d+)", message)
    if not rule:
        return ("rules", "rules")
    path: list[str | int] = ["rules", "rules", int(rule[1]) - 1]
    inner = re.match(r"Rule \d+ \([^)]*\), (when[\w.\[\]]*)", message)
    for word, index in re.findall(r"(\w+)|\[(\d+)\]", inner[1]) if inner else ():
        path.append(word or int(index))
    return tuple(path)


def load(document: Document, actor: User | None, told: list[str]) -> RuleSet | None:
    """The draft it made; ``None`` when the rules in force are those of the file."""
    rules = canonical(document)
    if rules == exported():
        return None
    try:
        draft = rulesets.draft(based_on=None, actor=actor, **rules)
    except DomainError as problem:
        raise document.wrong(_path_of(problem.message), problem.message) from None
    told.append(_drafted(draft))
    return draft


def publish(draft: RuleSet, actor: User | None, confirm: str | int, told: list[str]) -> None:
    try:
        rulesets.release(rule_set=draft, actor=actor, confirm=confirm)
    except Conflict as problem:
        if problem.code != "brake":
            raise
        raise Conflict(
            f"{problem.extra['moving']} customers would move, which is above the brake, so nothing was written. Say "
            f"--confirm {problem.extra['moving']}, or import without --publish and ask a second person in Stages.",
            code="brake",
        ) from None
    told[told.index(_drafted(draft))] = f"Rules: version {draft.version} is in force."


def _drafted(draft: RuleSet) -> str:
    return f"Rules: version {draft.version} is a draft. It changes nothing until it is published."

"""Lifecycle as code: stages, rules and segments as one YAML file, to review, to carry elsewhere and to test.

The text is always the same for the same shop: sections, keys and lists have one order, whatever the database keeps. A
section that a file leaves out is not compared and not touched. Lists of people (static segments) travel by name only.

Rules become a draft, which changes nothing until it is published. The shop's own words for stages and the conditions of
segments have no drafts; they change at once, all or none, together with the draft.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, TextIO

import yaml
from django.db import transaction

from customers import conditions, facts, segments
from customers.models import Customer, Segment
from customers.vocabulary import FACTS, Kind
from lifecycle_crm import reactions
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Conflict, DomainError, InvalidInput
from lifecycle_crm.lib.moments import seconds
from stages import rules as rulebook
from stages import rulesets
from stages.models import RuleSet, Stage, StageKey, StageTransition
from stages.rules import Rules

FORMAT = 1
SECTIONS = ("lifecycle", "stages", "rules", "segments", "examples")
_RULE = ("key", "name", "to", "from", "stay_days", "when", "note")
_CONDITION = (
    "all", "any", "not", "fact", "did", "bought", "segment", "tag", "op", "value", "times", "days",
    "category", "sku", "gaps", "at_least", "at_most",
)  # fmt: skip
_SEGMENT = ("key", "name", "kind", "note", "condition")


class BadFile(InvalidInput):
    code = "bad_file"


# --- Text -------------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Breaks of a line that nobody sees are written as escapes: a reader would fold them into spaces."""
    style = '"' if set(text) & set("\r\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


class _Loader(yaml.SafeLoader):
    """Dates stay texts, only true and false are flags (Norway is not "no"), nothing is said twice."""

    yaml_implicit_resolvers = {
        first: [(tag, expression) for tag, expression in found if not tag.endswith((":timestamp", ":bool"))]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), ["t", "f"])

Path = tuple[str | int, ...]


@dataclass
class Document:
    """A file as data, and the line on which each part of it begins."""

    name: str
    data: dict[str, Any]
    lines: dict[Path, int] = field(default_factory=dict)

    def at(self, path: Path) -> int:
        """The line of this part, or of the nearest one around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def wrong(self, path: Path, sentence: str) -> BadFile:
        return BadFile(f"{self.name}, line {self.at(path)}: {sentence}", line=self.at(path))


def read(stream: TextIO, name: str) -> Document:
    """A document from text. Raises ``BadFile`` that names file, line and fix."""
    try:
        text = stream.read()
    except UnicodeDecodeError:
        raise BadFile(f"{name}: is not UTF-8 text. Save the file as UTF-8.") from None
    lines: dict[Path, int] = {}
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise BadFile(f"{name}, line {line}: uses an alias (*{event.anchor}). Write the part out instead.")
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise BadFile(f"{name}: is empty. Start from an export.")
        _walk(root, (), lines, name)
        data = loader.construct_document(root)
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        raise BadFile(f"{name}, line {line}: is no YAML: {problem.problem}. Compare it with an export.") from None
    except yaml.YAMLError as problem:
        raise BadFile(f"{name}: is no YAML: {problem}. Compare it with an export.") from None
    document = Document(name, data if isinstance(data, dict) else {}, lines)
    if not isinstance(data, dict) or data.get("lifecycle") != FORMAT:
        raise document.wrong(("lifecycle",), f"needs “lifecycle: {FORMAT}” at the top. Start from an export.")
    for key in data:
        if key not in SECTIONS:
            raise document.wrong((key,), f"does not know the section {key!r}. Use one of: {', '.join(SECTIONS)}.")
    return document


def _walk(node: yaml.Node, path: Path, lines: dict[Path, int], name: str) -> None:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*path, key.value)
            if place in lines:
                line = key.start_mark.line + 1
                raise BadFile(f"{name}, line {line}: says {key.value!r} twice. Keep one of the two.")
            _walk(value, place, lines, name)
            lines[place] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*path, index), lines, name)


def _ordered(value: Any, order: tuple[str, ...]) -> Any:
    """Mappings in the given order, unknown keys after the known; PostgreSQL keeps JSON keys in an order of its own."""
    if isinstance(value, dict):
        keys = [key for key in order if key in value] + sorted(key for key in value if key not in order)
        return {key: _ordered(value[key], _CONDITION) for key in keys}
    if isinstance(value, list):
        return [_ordered(part, order) for part in value]
    return value


def write(data: dict[str, Any]) -> str:
    """Data as text: the same text for equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


# --- Export and diff --------------------------------------------------------------------------------------------------


def exported(version: int | None = None) -> dict[str, Any]:
    """The shop's lifecycle: its own words for the stages, the rules in force (or one version of them), the segments."""
    wanted = RuleSet.objects.filter(version=version) if version else RuleSet.objects.filter(state="published")
    rule_set = wanted.first()
    if version and rule_set is None:
        raise InvalidInput(f"There is no version {version} of the rules. Choose one that Stages lists.")
    own = {stage.key: stage for stage in Stage.objects.all()}
    data: dict[str, Any] = {
        "lifecycle": FORMAT,
        "stages": [
            {"key": key, "goal": own[key].goal, "playbook": list(own[key].playbook)}
            for key in StageKey.values
            if key in own
        ],
    }
    if rule_set is not None:
        data["rules"] = {"name": rule_set.name, "note": rule_set.note, "rules": _ordered(rule_set.rules, _RULE)}
    data["segments"] = [_segment(row) for row in Segment.objects.filter(archived_at=None).order_by("key")]
    return data


def _segment(row: Segment) -> dict[str, Any]:
    told = {"key": row.key, "name": row.name, "kind": str(row.kind), "note": row.note}
    return told if row.is_static else {**told, "condition": _ordered(row.condition, _CONDITION)}


def export(version: int | None = None) -> str:
    """``exported`` as text."""
    return write(exported(version))


def diff(document: Document) -> str:
    """What would change if the file were imported and published, as a unified diff; empty when nothing would.

    Examples belong to the file alone. Sections that the file leaves out are not compared.
    """
    _check(document)
    theirs = _canonical(document)
    mine = {key: part for key, part in exported().items() if key in theirs}
    lines = difflib.unified_diff(
        write(mine).splitlines(keepends=True), write(theirs).splitlines(keepends=True), "the shop", document.name
    )
    return "".join(lines)


def _canonical(document: Document) -> dict[str, Any]:
    """The document's sections as an export would write them."""
    data = document.data
    canonical: dict[str, Any] = {"lifecycle": FORMAT}
    if "stages" in data:
        place = {key: at for at, key in enumerate(StageKey.values)}
        ordered = sorted(data["stages"], key=lambda stage: place[stage["key"]])
        canonical["stages"] = [
            {"key": s["key"], "goal": s.get("goal") or "", "playbook": s.get("playbook") or []} for s in ordered
        ]
    if "rules" in data:
        rules = data["rules"]
        canonical["rules"] = {
            "name": str(rules["name"]).strip(),
            "note": str(rules.get("note") or "").strip(),
            "rules": _ordered(rules["rules"], _RULE),
        }
    if "segments" in data:
        canonical["segments"] = [
            {
                "key": one["key"],
                "name": one["name"],
                "kind": one.get("kind", "live"),
                "note": one.get("note") or "",
                **({"condition": _ordered(one["condition"], _CONDITION)} if one.get("kind") != "static" else {}),
            }
            for one in sorted(data["segments"], key=lambda one: str(one["key"]))
        ]
    return canonical


# --- Check ------------------------------------------------------------------------------------------------------------


def _check(document: Document) -> None:
    """Raise ``BadFile`` for the first thing that could not be imported, as far as the file alone can tell."""
    data = document.data
    for index, stage in enumerate(_list(document, "stages")):
        path: Path = ("stages", index)
        _keys(document, path, stage, ("key", "goal", "playbook"))
        if stage.get("key") not in StageKey.values:
            raise document.wrong(path, f"no stage {stage.get('key')!r}. Use one of: {', '.join(StageKey.values)}.")
        if not isinstance(stage.get("goal") or "", str) or len(stage.get("goal") or "") > 200:
            raise document.wrong((*path, "goal"), "the goal is a text of at most 200 characters.")
        playbook = stage.get("playbook") or []
        if not isinstance(playbook, list) or not all(isinstance(line, str) for line in playbook):
            raise document.wrong((*path, "playbook"), "the playbook is a list of texts.")
    _once(document, "stages")
    if "rules" in data:
        _keys(document, ("rules",), data["rules"], ("name", "note", "rules"))
        if not str(data["rules"].get("name") or "").strip():
            raise document.wrong(("rules",), "give the rules a name.")
        _rules(document)
    for index, one in enumerate(_list(document, "segments")):
        path = ("segments", index)
        _keys(document, path, one, _SEGMENT)
        for name in ("key", "name"):
            if not isinstance(one.get(name), str) or not one[name].strip():
                raise document.wrong(path, f"a segment needs a {name}.")
        if one.get("kind", "live") not in Segment.Kind.values:
            raise document.wrong((*path, "kind"), f"no kind {one['kind']!r}. Use live or static.")
        if one.get("kind") != "static" and not isinstance(one.get("condition"), dict):
            raise document.wrong(path, "a live segment needs a condition.")
        if one.get("kind") == "static" and "condition" in one:
            raise document.wrong((*path, "condition"), "a static list has no condition. Remove the line.")
    _once(document, "segments")


def _list(document: Document, section: str) -> list[Any]:
    found = document.data.get(section, [])
    if not isinstance(found, list):
        raise document.wrong((section,), f"{section} is a list: start each entry with a dash.")
    return found


def _keys(document: Document, path: Path, found: Any, known: tuple[str, ...]) -> None:
    if not isinstance(found, dict):
        raise document.wrong(path, f"expected keys and values ({', '.join(known)}), found {found!r}.")
    for key in found:
        if key not in known:
            raise document.wrong((*path, key), f"does not know {key!r}. Use: {', '.join(known)}.")


def _once(document: Document, section: str) -> None:
    seen: set[str] = set()
    for index, one in enumerate(_list(document, section)):
        if one["key"] in seen:
            raise document.wrong((section, index), f"{one['key']!r} is there twice. Keep one of the two.")
        seen.add(one["key"])


def _rules(document: Document) -> Rules:
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


# --- Import -----------------------------------------------------------------------------------------------------------


@dataclass
class Imported:
    """What an import did, one sentence each, and the draft it made, if any."""

    told: list[str] = field(default_factory=list)
    draft: RuleSet | None = None


class _DryRun(Exception):
    pass


def load(
    *,
    document: Document,
    actor: User | None = None,
    dry_run: bool = False,
    publish: bool = False,
    confirm: str | int = "",
) -> Imported:
    """Write the file into the shop, all or nothing; with ``dry_run`` only tell.

    Rules that differ become a draft; with ``publish`` it is put in force, quietly. Above the brake ``confirm`` must be the
    number of customers who would move. Segments that the file does not name stay. Raises ``BadFile`` and
    whatever the verbs refuse.
    """
    _check(document)
    found = Imported()
    theirs, mine = _canonical(document), exported()
    try:
        with transaction.atomic():
            _load_stages(theirs.get("stages", []), mine["stages"], found)
            _load_segments(document, theirs.get("segments", []), actor, found)
            if "rules" in theirs and theirs["rules"] != mine.get("rules"):
                _load_rules(document, theirs["rules"], actor, found)
                if publish and found.draft is not None:
                    _publish(found.draft, actor, confirm, found)
            if dry_run:
                raise _DryRun
    except _DryRun:
        found.draft = None
    if not found.told:
        found.told.append("The shop is as the file says. Nothing to do.")
    return found


def _load_stages(theirs: list[dict[str, Any]], mine: list[dict[str, Any]], found: Imported) -> None:
    known = {stage["key"]: stage for stage in mine}
    for stage in theirs:
        if stage != known.get(stage["key"]):
            Stage.objects.filter(pk=stage["key"]).update(goal=stage["goal"], playbook=stage["playbook"])
            found.told.append(f"Stage {stage['key']}: goal and playbook are changed.")


def _load_segments(document: Document, theirs: list[dict[str, Any]], actor: User | None, found: Imported) -> None:
    waiting = {one["key"]: one for one in theirs}
    place = {one["key"]: index for index, one in enumerate(_list(document, "segments"))}
    while waiting:
        # Who names no other that still waits comes first; in a circle anyone does, and is refused with the circle.
        key = next(
            (k for k, one in waiting.items() if not conditions.named_segments(one.get("condition")) & set(waiting)),
            next(iter(waiting)),
        )
        try:
            _load_segment(waiting.pop(key), actor, found)
        except DomainError as problem:
            raise document.wrong(("segments", place[key], "condition"), problem.message) from None


def _load_segment(one: dict[str, Any], actor: User | None, found: Imported) -> None:
    row = Segment.objects.filter(key=one["key"]).first()
    if row is None:
        segments.create(actor=actor, **one)
        found.told.append(f"Segment {one['key']}: new.")
        return
    if row.kind != one["kind"]:
        raise InvalidInput(f"the segment {one['key']} is {row.kind} here. Give the other one another key.")
    if row.archived_at is not None:
        row = segments.restore(segment=row)
        found.told.append(f"Segment {one['key']}: is in use again.")
    if _segment(row) != one:
        segments.edit(segment=row, name=one["name"], note=one["note"], condition=one.get("condition"), actor=actor)
        found.told.append(f"Segment {one['key']}: changed.")


def _load_rules(document: Document, rules: dict[str, Any], actor: User | None, found: Imported) -> None:
    try:
        found.draft = rulesets.draft(based_on=None, actor=actor, **rules)
    except DomainError as problem:
        raise document.wrong(_path_of(problem.message), problem.message) from None
    found.told.append(f"Rules: version {found.draft.version} is a draft. It changes nothing until it is published.")


def _publish(draft: RuleSet, actor: User | None, confirm: str | int, found: Imported) -> None:
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
    found.told[-1] = f"Rules: version {draft.version} is in force."


# --- Examples ---------------------------------------------------------------------------------------------------------


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
    _check(document)
    examples = _list(document, "examples")
    if not examples:
        raise document.wrong(
            ("examples",), "has no examples. Add a list of examples with facts and the expected stage."
        )
    rules = _rules(document) if "rules" in document.data else rulebook.parse(rulebook.published().rules)
    return [_examine(document, rules, index, example, on) for index, example in enumerate(examples)]


def _examine(document: Document, rules: Rules, index: int, example: Any, on: date) -> Result:
    path: Path = ("examples", index)
    _keys(document, path, example, ("name", "facts", "did", "customer", "stage", "rule"))
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
    _keys(document, (*path, "facts"), told, tuple(sorted(FACTS)))
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
    _keys(document, (*path, "did"), happened, tuple(sorted({a.name for a in rules.counts() if a.kind == "did"})))
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
    with transaction.atomic():
        with facts.batch():
            facts.add_everyone(number, number + 1, as_of=as_of)
            reactions.hand_down(as_of=as_of)
            facts.score(as_of=as_of)
        found = conditions.snapshots([number], rules.conditions(), as_of)
        transaction.set_rollback(True)
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


__all__ = ["BadFile", "Document", "Imported", "Result", "counted", "diff", "examine", "export", "load", "read"]

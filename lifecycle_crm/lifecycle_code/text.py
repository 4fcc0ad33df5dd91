"""A lifecycle file as text: read with the line of every part, written the same for equal data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, TextIO

import yaml

from lifecycle_crm.lib.errors import InvalidInput

FORMAT = 1
SECTIONS = ("lifecycle", "stages", "rules", "segments", "programmes", "journeys", "examples")
CONDITION = (
    "all", "any", "not", "fact", "did", "bought", "segment", "tag", "op", "value", "times", "days",
    "category", "sku", "gaps", "at_least", "at_most",
)  # fmt: skip


class BadFile(InvalidInput):
    code = "bad_file"


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


def ordered(value: Any, order: tuple[str, ...], inside: tuple[str, ...] = CONDITION) -> Any:
    """Mappings in the given order, those within them in the order ``inside``, unknown keys after the known; PostgreSQL
    keeps JSON keys in an order of its own."""
    if isinstance(value, dict):
        keys = [key for key in order if key in value] + sorted(key for key in value if key not in order)
        return {key: ordered(value[key], inside, inside) for key in keys}
    if isinstance(value, list):
        return [ordered(part, order, inside) for part in value]
    return value


def write(data: dict[str, Any]) -> str:
    """Data as text: the same text for equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


# --- What every section is checked for ---------------------------------------------------------------------------------


def entries(document: Document, section: str) -> list[Any]:
    found = document.data.get(section, [])
    if not isinstance(found, list):
        raise document.wrong((section,), f"{section} is a list: start each entry with a dash.")
    return found


def keys(document: Document, path: Path, found: Any, known: tuple[str, ...]) -> None:
    if not isinstance(found, dict):
        raise document.wrong(path, f"expected keys and values ({', '.join(known)}), found {found!r}.")
    for key in found:
        if key not in known:
            raise document.wrong((*path, key), f"does not know {key!r}. Use: {', '.join(known)}.")


def needs(document: Document, path: Path, found: dict[str, Any], what: str, wanted: dict[str, type]) -> None:
    """Raises ``BadFile`` unless all of ``wanted`` is there and of its type, and no text of it blank."""
    for name, kind in wanted.items():
        value = found.get(name)
        if type(value) is not kind or (isinstance(value, str) and not value.strip()):
            raise document.wrong(path, f"{what} needs a {name}{', a whole number' if kind is int else ''}.")


def once(document: Document, section: str) -> None:
    seen: set[str] = set()
    for index, one in enumerate(entries(document, section)):
        if one["key"] in seen:
            raise document.wrong((section, index), f"{one['key']!r} is there twice. Keep one of the two.")
        seen.add(one["key"])

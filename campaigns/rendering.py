"""From the blocks of a template to the message one person gets.

Authors are not trusted: the language is Liquid with limits on loops, output, names and nesting, few tags, filters whose
results may not grow, and a context of plain strings and numbers. What a block renders to is cleaned down to inline HTML
and only then put into our own layout, so the layout cannot be broken from inside a block. Data is escaped on its way in.

A variant is compiled once per process. What a block becomes depends only on the values it names, so it is made once per
distinct set of them and kept: most messages of a run are joined from pieces that somebody before them needed too.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from liquid import DictLoader, Environment, StrictDefaultUndefined
from liquid.exceptions import LiquidError
from markupsafe import Markup

from campaigns import blocks as blocklist
from campaigns import layout
from campaigns.errors import BrokenTemplate
from campaigns.layout import MARK, Filled, Row, row
from campaigns.parts import Measured

SOURCE_LIMIT = 30_000
"""Characters of Liquid in one variant."""
VALUE_LIMIT = 60_000
"""Characters (or items) any single value may reach while a template is worked out."""
OUTPUT_LIMIT = 200_000
"""Bytes of output of one template."""

_BREAK = "\x1e"  # parts the blocks of one rendering; stripped from everything that comes in
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LINE_BREAKS = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029\x00-\x1f\x7f]+")
_TAGS = ("if", "unless", "case", "for", "assign", "comment", "break", "continue", "content", "output", "illegal", "#")
_NOT_FILTERS = ("safe", "escapejs", "base64_decode", "base64_url_safe_decode")


class Mail(Environment):
    """Liquid as we allow it."""

    loop_iteration_limit = 1_000
    local_namespace_limit = 100_000
    output_stream_limit = OUTPUT_LIMIT
    context_depth_limit = 10
    block_nesting_limit = 10


def _size(value: Any) -> int:
    try:
        return len(value)
    except TypeError:
        return 0


def _bounded(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """The filter with bounds on what goes in and what comes out: filters chained in one line are no loop, so the limits
    of the language would see only their result, after the memory is gone."""

    @functools.wraps(work)
    def bounded(value: Any, *arguments: Any, **named: Any) -> Any:
        sizes = [_size(value), *(_size(argument) for argument in arguments)]
        if max(sizes) > VALUE_LIMIT:
            raise BrokenTemplate("A value in this text grows too large. Shorten it.")
        if name.startswith("replace") and len(arguments) > 1:
            # An empty pattern matches between all characters.
            times = str(value).count(str(arguments[0]))
            if times * _size(str(arguments[1])) > VALUE_LIMIT:
                raise BrokenTemplate("A value in this text grows too large. Shorten it.")
        if name == "join" and sizes[0] * max(1, _size(arguments[0] if arguments else " ")) > VALUE_LIMIT:
            raise BrokenTemplate("A value in this text grows too large. Shorten it.")
        if isinstance(value, int) and abs(value) > 10**15:
            raise BrokenTemplate("A number in this text grows too large.")
        result = work(value, *arguments, **named)
        if _size(result) > VALUE_LIMIT:
            raise BrokenTemplate("A value in this text grows too large. Shorten it.")
        return result

    return bounded


def _environment(*, autoescape: bool) -> Mail:
    environment = Mail(autoescape=autoescape, undefined=StrictDefaultUndefined, loader=DictLoader({}))
    environment.tags = {name: tag for name, tag in environment.tags.items() if name in _TAGS}
    environment.filters = {
        name: _bounded(name, work) for name, work in environment.filters.items() if name not in _NOT_FILTERS
    }
    return environment


_markup = _environment(autoescape=True)
_plain = _environment(autoescape=False)


def one_line(text: str) -> str:
    """``text`` as it may stand in a header: a line break there would start another header."""
    if text.isprintable() and "  " not in text:
        return text.strip()
    return " ".join(_LINE_BREAKS.sub(" ", text).split())


@dataclass(frozen=True)
class Made:
    """One message, ready: subject in one line, a whole HTML page, and the same in plain text. An SMS is its text alone, and
    ``measured`` is what that takes."""

    subject: str
    html: str
    text: str
    measured: Measured | None = None


def parse(source: str, *, where: str, block: int | None = None, is_plain: bool = False) -> Any:
    """A piece of Liquid, compiled; a subject (``block`` is ``blocks.SUBJECT``) and what ``is_plain`` are no HTML. Raises
    ``BrokenTemplate`` with ``line`` and ``column`` (from 1) of what is wrong."""
    try:
        return (_plain if is_plain or block == blocklist.SUBJECT else _markup).from_string(source)
    except (LiquidError, RecursionError) as problem:
        place: dict[str, Any] = {} if block is None else {"block": block}
        sentence = f"{where} has a mistake: {one_line(str(problem))}"[:300]
        raise BrokenTemplate(sentence, **place, **position(problem, source)) from None


def unknown_filters(template: Any, source: str, *, is_subject: bool = False) -> list[tuple[str, int]]:
    """(name, index in ``source``) of each filter that there is not. Liquid says so only where a reader comes by."""
    known = (_plain if is_subject else _markup).filters
    used = template.analyze().filters
    return [(name, spans[0].index) for name, spans in used.items() if name not in known]


def place_of(index: int, source: str) -> tuple[int, int]:
    """Line and column from 1."""
    before = source[:index]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def strict(source: str, *, where: str, block: int | None = None) -> Any:
    """``parse`` for what is being written: a filter that there is not is refused even where no reader comes by."""
    template = parse(source, where=where, block=block)
    for name, index in unknown_filters(template, source, is_subject=block == blocklist.SUBJECT):
        line, column = place_of(index, source)
        saying = f"unknown filter '{name}'"
        raise BrokenTemplate(
            f"{where}: {saying} ({line}:{column})", block=block, line=line, column=column, saying=saying
        )
    return template


def position(problem: BaseException, source: str) -> dict[str, Any]:
    """Where in ``source`` a mistake is, and what is said of it: ``line`` and ``column`` from 1, ``saying``."""
    found = None
    if isinstance(problem, LiquidError):
        try:
            found = problem.context()
        except ValueError:
            found = None
    said = problem.message if isinstance(problem, LiquidError) else problem
    lines = source.split("\n")
    line, column = (found[0], found[1] + 1) if found else (len(lines), len(lines[-1]) + 1)
    return {"line": line, "column": column, "saying": one_line(str(said).partition(" Token(")[0])[:160]}


_MISSING = object()
_REMEMBERED = 4_096
"""So many distinct contents of one block are kept."""


def _look_up(values: Mapping[str, Any], path: tuple[Any, ...]) -> Any:
    """What stands at ``path``, or as far as it leads: Liquid may ask a string for its size. Hashable unless it is not."""
    found: Any = values
    for step in path:
        if not isinstance(found, Mapping):
            break
        if step not in found:
            if step in ("size", "first", "last"):
                break
            return _MISSING
        found = found[step]
    # 1, 1.0 and true are equal to Python and not the same in a text.
    return found if found.__class__ is str or found.__class__ is int else (found.__class__, found)


class Remembered:
    """A pure function of the values a few templates name, made once per distinct set of them.

    Not remembered is what looks at a clock or reaches for a value by another value.
    """

    def __init__(self, templates: Sequence[Any], make: Callable[[Mapping[str, Any]], Any]) -> None:
        self.make = make
        self.kept: dict[Any, Any] = {}
        self.paths: tuple[tuple[Any, ...], ...] | None = None
        analyses = [template.analyze() for template in templates]
        segments = {
            tuple(path) if not any(isinstance(step, list) for step in path) else None
            for template in templates
            for path in template.global_variable_segments()
        }
        if None not in segments and not any("date" in analysis.filters for analysis in analyses):
            self.paths = tuple(sorted((path for path in segments if path), key=repr))

    def __call__(self, values: Mapping[str, Any]) -> Any:
        if self.paths is None:
            return self.make(values)
        key = tuple(_look_up(values, path) for path in self.paths)
        try:
            return self.kept[key]
        except KeyError:
            made = self.make(values)
        except TypeError:  # a list among them
            return self.make(values)
        if len(self.kept) >= _REMEMBERED:
            self.kept.clear()
        self.kept[key] = made
        return made


class Prepared:
    """A compiled variant. ``fill`` turns it into one person's message."""

    def __init__(self, *, language: str, subject: str, blocks: Sequence[Mapping[str, Any]], has_foot: bool) -> None:
        self.language = language if language in layout.FOOT else "en"
        self.has_foot = has_foot
        kinds: list[str] = []
        parts: list[list[str]] = []
        templates: list[list[Any]] = []
        shown: list[Any] = []
        for place, block in enumerate(blocklist.read(blocks)):
            when = block.get("when")
            pieces = [*([blocklist.liquid_of(when)] if when else []), *blocklist.liquid(block)]
            kinds.append(block["type"])
            parts.append([piece.replace(_BREAK, "").replace(MARK, "") for piece in pieces])
            # Each piece stands on its own: a condition cannot begin in one block and end in another.
            templates.append([parse(piece, where=f"Block {place + 1}", block=place) for piece in parts[-1]])
            shown.append(templates[-1].pop(0) if when else None)
        flat = [piece for some in parts for piece in some]
        if (length := len(_BREAK.join(flat)) + len(subject)) > SOURCE_LIMIT:
            raise BrokenTemplate(f"This text has {length} characters; at most {SOURCE_LIMIT} are allowed.")
        self.kinds = kinds
        self.sizes = [len(some) for some in parts]
        self.has_condition = [when is not None for when in shown]
        self.rows: list[Callable[[Mapping[str, Any]], Any]]
        if any(one.analyze().locals for some in templates for one in some):
            # What one block assigns, the next may use: then they are one template and made together.
            self.whole: Any = parse(_BREAK.join(flat), where="The text")
            self.rows = [Remembered([self.whole], self._together)]
        else:
            self.rows = [
                Remembered([*([when] if when else []), *some], functools.partial(self._row, kind, when, some))
                for kind, when, some in zip(kinds, shown, templates, strict=True)
            ]
        of_subject = parse(subject, where="The subject", block=blocklist.SUBJECT)
        self.subject = Remembered([of_subject], lambda values: one_line(of_subject.render(**values))[:200])

    @staticmethod
    def _row(kind: str, when: Any, templates: Sequence[Any], values: Mapping[str, Any]) -> tuple[Row, ...]:
        if when is not None and not when.render(**values):
            return ()
        made = row(kind, *(one.render(**values) for one in templates))
        return (made,) if made else ()

    def _together(self, values: Mapping[str, Any]) -> tuple[Row, ...]:
        pieces = self.whole.render(**values).split(_BREAK)
        if len(pieces) != sum(self.sizes):
            raise BrokenTemplate("The text cannot be made: a block stops the ones after it.")
        todo = iter(pieces)
        made: list[Row | None] = []
        for kind, size, has_condition in zip(self.kinds, self.sizes, self.has_condition, strict=True):
            mine = [next(todo) for _ in range(size)]
            if not has_condition or mine.pop(0):
                made.append(row(kind, *mine))
        return tuple(one for one in made if one)

    def fill(self, values: Mapping[str, Any]) -> Filled:
        """Render for one person. Raises ``BrokenTemplate`` for whatever goes wrong inside the template."""
        try:
            subject = self.subject(values)
            rows = tuple(one for some in self.rows for one in some(values))
        except BrokenTemplate:
            raise
        except Exception as problem:
            # Filters raise whatever Python raises (a date that is none, a division by zero); all of it is the text's.
            raise BrokenTemplate(f"The text cannot be made: {one_line(str(problem))}"[:300]) from None
        if not subject:
            raise BrokenTemplate("The subject is empty for this person.")
        if len(rows) > 3 and sum(len(part) for one in rows for part in one.html) > 2 * OUTPUT_LIMIT:
            raise BrokenTemplate("This text grows too large. Shorten it.")
        shop = values.get("shop", {})
        way_out = str(values.get("unsubscribe_url", "")) if self.has_foot else ""
        around = layout.frame(
            self.language, str(shop.get("name", settings.SHOP_NAME)), str(shop.get("address", "")), bool(way_out)
        )
        return Filled(subject, rows, around, way_out)

    def make(self, values: Mapping[str, Any]) -> Made:
        """The message as a person reads it, its addresses as their author wrote them. Raises ``BrokenTemplate``."""
        filled = self.fill(values)
        return Made(filled.subject, filled.html(), filled.text())


def plain(value: Any, depth: int = 0) -> Any:
    """Only strings, numbers, lists and dicts reach a template; control characters never do."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping) and depth < 5:
        return {str(key): plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple)) and depth < 5:
        return [plain(inner, depth + 1) for inner in value[:1000]]
    # ``str(…)`` of a Markup would stay unescaped, so it becomes an ordinary string first.
    return clean("".join(value) if isinstance(value, Markup) else str(value))


def clean(text: str) -> str:
    """``text`` of any origin as it may reach a template."""
    return text if text.isprintable() and len(text) <= VALUE_LIMIT else _CONTROL.sub("", text)[:VALUE_LIMIT]


def check(
    *, subject: str, blocks: Sequence[Mapping[str, Any]], language: str = "en", values: Iterable[Mapping[str, Any]]
) -> None:
    """Refuse, with ``BrokenTemplate``, a text that cannot be parsed or cannot be made for one of ``values``."""
    prepared = Prepared(language=language, subject=subject, blocks=blocks, has_foot=True)
    for one in values:
        prepared.make(one)

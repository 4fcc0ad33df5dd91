"""What a text is made of: blocks in order, what each holds, when it is shown, and the changes a person makes to them.

The stored form is a list of ``{"type": kind, field: text, …, "when": {"value", "op", "than"}}``. Every text and address is
Liquid; a condition is data, and becomes Liquid here. Lists are never changed in place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from campaigns.errors import BrokenTemplate
from campaigns.vocabulary import NUMBER, OF_THE_CUSTOMER, VALUES

Block = dict[str, Any]

MOST = 60
"""Blocks in one text that is being written. What is stored already is sent as it is."""
SUBJECT = -1
"""Stands for the subject where a block is named by its place."""
WORDS = -2
"""Stands for the one text of an SMS."""


@dataclass(frozen=True)
class Field:
    """One text of a block. ``form``: "line", "lines" (many lines, with inline HTML) or "url"."""

    name: str
    label: Any
    form: str
    is_required: bool = True
    help: Any = ""


@dataclass(frozen=True)
class Kind:
    name: str
    label: Any
    fields: tuple[Field, ...]
    hidden: tuple[str, ...] = ()
    """Liquid that every block of the kind has besides its fields."""


_SENTENCE = gettext_lazy("Values such as the first name are inserted from the menu.")
_PICTURE = gettext_lazy("https://… of a picture on your site. Wide pictures are made to fit.")
_ALT = gettext_lazy("What the picture shows, for those who do not see it. Many mail programs load no pictures.")
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("heading", gettext_lazy("Heading"), (Field("text", gettext_lazy("Heading"), "line"),)),
        Kind(
            "text",
            gettext_lazy("Text"),
            (
                Field(
                    "text",
                    gettext_lazy("Text"),
                    "lines",
                    help=gettext_lazy("An empty line starts a new paragraph. <b>, <i> and <a href> may be used."),
                ),
            ),
        ),
        Kind(
            "image",
            gettext_lazy("Picture"),
            (
                Field("text", gettext_lazy("Description"), "line", help=_ALT),
                Field("url", gettext_lazy("Address of the picture"), "url", help=_PICTURE),
                Field("link", gettext_lazy("Leads to"), "url", is_required=False),
            ),
        ),
        Kind(
            "button",
            gettext_lazy("Button"),
            (
                Field("text", gettext_lazy("Words on the button"), "line"),
                Field("url", gettext_lazy("Leads to"), "url"),
            ),
        ),
        Kind(
            "columns",
            gettext_lazy("Two columns"),
            (
                Field("left", gettext_lazy("Left: text"), "lines"),
                Field("left_image", gettext_lazy("Left: address of a picture"), "url", is_required=False),
                Field("left_alt", gettext_lazy("Left: description of the picture"), "line", is_required=False),
                Field("right", gettext_lazy("Right: text"), "lines"),
                Field("right_image", gettext_lazy("Right: address of a picture"), "url", is_required=False),
                Field("right_alt", gettext_lazy("Right: description of the picture"), "line", is_required=False),
            ),
        ),
        Kind(
            "points",
            gettext_lazy("Points balance"),
            (Field("text", gettext_lazy("Words under the number"), "line"),),
            hidden=("{{ points }}",),
        ),
        Kind(
            "tier",
            gettext_lazy("Their tier"),
            (Field("text", gettext_lazy("Words above the name of the tier"), "line"),),
            hidden=("{{ customer.tier }}",),
        ),
        Kind("divider", gettext_lazy("Divider"), ()),
    )
}
_DESCRIBES = {"left_image": "left_alt", "right_image": "right_alt"}
"""A picture, and the field that must describe it."""

# --- When it is shown -------------------------------------------------------------------------------------------------

OPS: dict[str, tuple[Any, str]] = {
    "more": (gettext_lazy("is more than"), NUMBER),
    "less": (gettext_lazy("is less than"), NUMBER),
    "exactly": (gettext_lazy("is exactly"), NUMBER),
    "is": (gettext_lazy("is"), "text"),
    "is_not": (gettext_lazy("is not"), "text"),
    "known": (gettext_lazy("is known"), ""),
    "unknown": (gettext_lazy("is not known"), ""),
}
_SIGNS = {"more": ">", "less": "<", "exactly": "=="}
_BIGGEST = 10**12


def _wrong(sentence: str, place: int | None, field: str = "") -> BrokenTemplate:
    where: dict[str, Any] = {} if place is None else {"block": place}
    return BrokenTemplate(sentence, **where, field=field)


def condition(raw: Any, place: int | None = None) -> dict[str, Any] | None:
    """The condition of a block as it is stored, or ``None`` for always. Raises ``BrokenTemplate``."""
    if raw in (None, {}, ""):
        return None
    if not isinstance(raw, Mapping) or raw.get("value") not in OF_THE_CUSTOMER or raw.get("op") not in OPS:
        raise _wrong(_("Choose what the condition asks for and how it compares."), place, "when")
    value, op, than = str(raw["value"]), str(raw["op"]), raw.get("than", "")
    wants, kind = OPS[op][1], VALUES[value].kind
    if not wants:
        if kind == NUMBER and not VALUES[value].missing:
            raise _wrong(_("Everybody has this number. Compare it with another number."), place, "when")
        return {"value": value, "op": op}
    if wants != kind:
        raise _wrong(_("Numbers are more, less or exactly; words are or are not."), place, "when")
    if wants == NUMBER:
        try:
            number = int(str(than).strip())
        except ValueError:
            raise _wrong(_("Write a whole number to compare with."), place, "when") from None
        if abs(number) > _BIGGEST:
            raise _wrong(_("Write a whole number to compare with."), place, "when")
        return {"value": value, "op": op, "than": number}
    words = str(than).strip()
    # It is put between quotes, and Liquid knows no way to write a quote or its own brackets inside them.
    if not words or len(words) > 80 or not words.isprintable() or re.search(r"['\"{}%]", words):
        raise _wrong(_("Write the words to compare with, without quotes, brackets or per cent signs."), place, "when")
    return {"value": value, "op": op, "than": words}


def liquid_of(when: Mapping[str, Any]) -> str:
    """Liquid that writes something when the condition holds, and nothing when not. Who has no value fulfils no comparison
    but "is not"."""
    value, op, than = when["value"], when["op"], when.get("than", "")
    number = VALUES[value].kind == NUMBER
    none = "nil" if number else "''"
    test = {
        "known": f"{value} != {none}",
        "unknown": f"{value} == {none}",
        "is": f"{value} == '{than}'",
        "is_not": f"{value} != '{than}'",
    }.get(op) or f"{value} != nil and {value} {_SIGNS[op]} {than}"
    return f"{{% if {test} %}}1{{% endif %}}"


def say(when: Mapping[str, Any] | None) -> str:
    """The condition in words: "Only if points is more than 0"."""
    if not when:
        return ""
    label, op = str(VALUES[when["value"]].label), str(OPS[when["op"]][0])
    words = {"value": label, "op": op, "than": when.get("than", "")}
    return (_("Only if: %(value)s %(op)s %(than)s") % words).strip()


# --- Reading ----------------------------------------------------------------------------------------------------------


def read_one(raw: Any, place: int) -> Block:
    """One block as it is stored: known fields only, all of them text. Raises ``BrokenTemplate`` naming block and field."""
    kind = KINDS.get(str(raw.get("type"))) if isinstance(raw, Mapping) else None
    if kind is None:
        known = ", ".join(KINDS)
        raise _wrong(
            _("Block %(number)d has no known type. Use one of: %(known)s.") % {"number": place + 1, "known": known},
            place,
        )
    block: Block = {"type": kind.name}
    for field in kind.fields:
        text = raw.get(field.name, "")
        if not isinstance(text, str):
            raise _wrong(
                _("Block %(number)d: %(field)s is no text.") % {"number": place + 1, "field": field.name},
                place,
                field.name,
            )
        text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
        if field.is_required and not text:
            raise _wrong(
                _("Block %(number)d (%(kind)s) is empty. Write its text, or remove the block.")
                % {"number": place + 1, "kind": kind.name},
                place,
                field.name,
            )
        if text:
            block[field.name] = text
    for picture, description in _DESCRIBES.items():
        if block.get(picture) and not block.get(description):
            raise _wrong(_("Describe the picture for those who do not see it."), place, description)
    if when := condition(raw.get("when"), place):
        block["when"] = when
    return block


def read(raw: Any) -> list[Block]:
    """All blocks of a text as they are stored. Raises ``BrokenTemplate`` for the first that cannot be."""
    if not isinstance(raw, (list, tuple)) or not raw:
        raise BrokenTemplate(_("A template needs at least one block."))
    return [read_one(one, place) for place, one in enumerate(raw)]


def liquid(block: Mapping[str, Any]) -> list[str]:
    """Every piece of Liquid of a block, in the order in which ``layout.row`` takes them; the condition is apart."""
    kind = KINDS[block["type"]]
    return [*(str(block.get(field.name, "")) for field in kind.fields), *kind.hidden]


def texts(block: Mapping[str, Any]) -> Iterator[tuple[Field, str]]:
    """(field, its Liquid) for what a person wrote in a block."""
    for field in KINDS[block["type"]].fields:
        if text := str(block.get(field.name, "")):
            yield field, text


# --- Changing ---------------------------------------------------------------------------------------------------------


def added(blocks: Sequence[Block], block: Mapping[str, Any], at: int) -> list[Block]:
    """With another block before place ``at``; at the end when there is no such place."""
    at = at if 0 <= at <= len(blocks) else len(blocks)
    if len(blocks) >= MOST:
        raise BrokenTemplate(_("A text has at most %(most)d blocks.") % {"most": MOST})
    return [*blocks[:at], read_one(block, at), *blocks[at:]]


def _there(blocks: Sequence[Block], place: int) -> None:
    if not 0 <= place < len(blocks):
        raise BrokenTemplate(_("This block is not there any more. Reload the page to see the text as it is."))


def changed(blocks: Sequence[Block], place: int, block: Mapping[str, Any]) -> list[Block]:
    _there(blocks, place)
    return [*blocks[:place], read_one(block, place), *blocks[place + 1 :]]


def moved(blocks: Sequence[Block], place: int, by: int) -> list[Block]:
    """One place up (-1) or down (1); at the edge it stays."""
    _there(blocks, place)
    to = min(max(place + by, 0), len(blocks) - 1)
    rest = [*blocks[:place], *blocks[place + 1 :]]
    return [*rest[:to], blocks[place], *rest[to:]]


def doubled(blocks: Sequence[Block], place: int) -> list[Block]:
    _there(blocks, place)
    return added(blocks, blocks[place], place + 1)


def removed(blocks: Sequence[Block], place: int) -> list[Block]:
    _there(blocks, place)
    return [*blocks[:place], *blocks[place + 1 :]]


# --- Values in a text -------------------------------------------------------------------------------------------------

_OUTPUT = re.compile(
    r"\{\{-?\s*(?P<path>[a-z_]+(?:\.[a-z_]+)*)(?P<filters>[^{}]*?)-?\}\}"
)  # What the menu inserts, and what people write like it.
_DEFAULT = re.compile(r"""\|\s*default:\s*(?:'([^']*)'|"([^"]*)"|(\d+))""")
_LIQUID = re.compile(r"(\{\{.*?\}\}|\{%.*?%\})", re.DOTALL)


def variable(path: str, fallback: str) -> str:
    """A value as Liquid, with what stands there for those who have none. Raises ``BrokenTemplate``."""
    value = VALUES.get(path)
    if value is None:
        raise BrokenTemplate(_("Choose one of the values of the menu."), field="value")
    fallback = fallback.strip()
    if not value.needs_fallback:
        return f"{{{{ {path} }}}}"
    if not fallback:
        sentence = _("Say what stands there for people without one, such as “friend”.")
        raise BrokenTemplate(sentence, field="fallback")
    if len(fallback) > 80 or not fallback.isprintable() or re.search(r"[{}%]", fallback):
        raise BrokenTemplate(_("Brackets and per cent signs cannot stand in for a value."), field="fallback")
    quote = '"' if "'" in fallback else "'"
    if quote in fallback:
        fallback, quote = fallback.replace("'", "’"), '"' if '"' not in fallback else "'"
    return f"{{{{ {path} | default: {quote}{fallback}{quote} }}}}"


@dataclass(frozen=True)
class Use:
    """A value in a text: which, what stands in for it (``None``: nothing was said), and whether a condition of the same
    piece asks for it."""

    path: str
    fallback: str | None
    is_guarded: bool


def uses(text: str) -> list[Use]:
    """The values that a piece of Liquid writes out."""
    conditions = " ".join(one for one in _LIQUID.findall(text) if one.startswith("{%"))
    found = []
    for one in _OUTPUT.finditer(text):
        default = _DEFAULT.search(one["filters"])
        fallback = next((part for part in default.groups() if part is not None), "") if default else None
        found.append(Use(one["path"], fallback, re.search(rf"\b{re.escape(one['path'])}\b", conditions) is not None))
    return found


def chips(text: str) -> list[tuple[str, str]]:
    """A text for reading: ("", plain words) and ("value" or "code", what stands in brackets, in words)."""
    parts: list[tuple[str, str]] = []
    for piece in _LIQUID.split(text):
        if not piece:
            continue
        found = _OUTPUT.fullmatch(piece)
        value = VALUES.get(found["path"]) if found else None
        if value is not None and found is not None:
            default = _DEFAULT.search(found["filters"])
            fallback = next((part for part in default.groups() if part), "") if default else ""
            words = str(value.label)
            parts.append(
                (
                    "value",
                    _("%(value)s, or “%(fallback)s”") % {"value": words, "fallback": fallback} if fallback else words,
                )
            )
        else:
            parts.append(("code" if piece.startswith(("{{", "{%")) else "", piece))
    return parts


# --- What differs -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """One difference between two texts. ``what``: "added", "removed" or "changed"; ``label`` names the block; ``parts``
    are ("same" | "out" | "in", words)."""

    what: str
    label: str
    parts: list[tuple[str, str]]


def _readable(block: Mapping[str, Any]) -> str:
    lines = [text for _field, text in texts(block)]
    if block.get("when"):
        lines.append(f"({say(block['when'])})")
    return "\n".join(lines)


def words_changed(old: str, new: str) -> list[tuple[str, str]]:
    """Two texts as one, word by word."""
    before, after = re.findall(r"\s+|[^\s]+", old), re.findall(r"\s+|[^\s]+", new)
    parts: list[tuple[str, str]] = []
    for what, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if what == "equal":
            parts.append(("same", "".join(before[i1:i2])))
            continue
        if i2 > i1:
            parts.append(("out", "".join(before[i1:i2])))
        if j2 > j1:
            parts.append(("in", "".join(after[j1:j2])))
    return parts


def diff(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[Change]:
    """What became of the blocks, in the order of the new text."""
    before, after = ([json.dumps(one, sort_keys=True) for one in some] for some in (old, new))
    found: list[Change] = []
    for what, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if what == "equal":
            continue
        gone, come = list(old[i1:i2]), list(new[j1:j2])
        while gone and come and gone[0]["type"] == come[0]["type"]:
            one, other = gone.pop(0), come.pop(0)
            label = str(KINDS[other["type"]].label)
            found.append(Change("changed", label, words_changed(_readable(one), _readable(other))))
        found += [Change("removed", str(KINDS[one["type"]].label), [("out", _readable(one))]) for one in gone]
        found += [Change("added", str(KINDS[one["type"]].label), [("in", _readable(one))]) for one in come]
    return found

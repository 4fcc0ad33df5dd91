"""The rows of a posted form, and the buttons that add, remove and move them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from customers.builder.rows import Builder, Group, Row

_NAME = re.compile(r"r(\d{1,3})(?:\.(\d{1,3}))?-(field|op|value|times|days|match)")


def read(data: Mapping[str, Any]) -> Builder:
    """The rows of a posted form (a ``QueryDict``), in the order of their numbers."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    groups: dict[int, str] = {}
    for name in data:
        if not (match := _NAME.fullmatch(name)):
            continue
        top, inner, part = int(match[1]), int(match[2]) if match[2] else -1, match[3]
        if part == "match":
            groups[top] = _either(data[name])
            continue
        chosen = data.getlist(name) if hasattr(data, "getlist") else [data[name]]
        found.setdefault((top, inner), {})[part] = [str(one).strip() for one in chosen]

    def row(parts: dict[str, list[str]]) -> Row:
        last = {part: given[-1] for part, given in parts.items() if given}
        given = tuple(v for v in parts.get("value", []) if v)
        return Row(
            last.get("field", ""), last.get("op", ""), last.get("value", ""), given, last.get("times", ""),
            last.get("days", ""),
        ).settled()  # fmt: skip

    items: list[Row | Group] = []
    for top in sorted({top for top, _inner in found} | set(groups)):
        if top in groups:
            inside = [row(found[at]) for at in sorted(found) if at[0] == top and at[1] >= 0]
            items.append(Group(groups[top], tuple(inside)))
        elif (top, -1) in found:
            items.append(row(found[top, -1]))
    return Builder(_either(data.get("match", "")), tuple(items))


def _either(text: str) -> str:
    return "any" if text == "any" else "all"


def change(builder: Builder, act: str) -> tuple[Builder, str]:
    """Add, remove or move a row; the builder after it and the place ("2" or "2.0") that the focus goes to."""
    verb, _sep, place = act.partition(":")
    items = list(builder.items)
    top, _dot, inner = place.partition(".")
    at = int(top) if top.isdecimal() and int(top) < len(items) else -1
    if verb == "add" and not place:
        items.append(Row())
        return replace(builder, items=tuple(items)), str(len(items) - 1)
    if verb == "group":
        other = "any" if builder.match == "all" else "all"
        items.append(Group(other, (Row(),)))
        return replace(builder, items=tuple(items)), f"{len(items) - 1}.0"
    if at < 0:
        return builder, ""
    item = items[at]
    if isinstance(item, Group) and (inner or verb == "add"):
        rows = list(item.rows)
        if verb == "add":
            rows.append(Row())
            focus = f"{at}.{len(rows) - 1}"
        else:
            place_in = _moved(rows, verb, int(inner) if inner.isdecimal() else -1)
            focus = f"{at}.{place_in}" if rows else ""
        if rows:
            items[at] = Group(item.match, tuple(rows))
        else:
            del items[at]
        return replace(builder, items=tuple(items)), focus
    place_at = _moved(items, verb, at)
    focused = items[place_at] if 0 <= place_at < len(items) else None
    focus = f"{place_at}.0" if isinstance(focused, Group) else str(place_at) if focused else ""
    return replace(builder, items=tuple(items)), focus


def _moved(rows: list[Any], verb: str, at: int) -> int:
    """Remove or move in place; where the focus goes."""
    if not 0 <= at < len(rows):
        return max(0, min(at, len(rows) - 1))
    if verb == "remove":
        del rows[at]
        return max(0, min(at, len(rows) - 1))
    to = at - 1 if verb == "up" else at + 1 if verb == "down" else at
    if 0 <= to < len(rows):
        rows[at], rows[to] = rows[to], rows[at]
        return to
    return at

"""Segments: live ones by their condition, lists of people by name only."""

from __future__ import annotations

from typing import Any

from customers import conditions, segments
from customers.models import Segment
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.errors import DomainError, InvalidInput
from lifecycle_crm.lifecycle_code.text import CONDITION, Document, Path, entries, keys, needs, once, ordered

_SEGMENT = ("key", "name", "kind", "note", "condition")


def exported() -> list[dict[str, Any]]:
    return [_said(row) for row in Segment.objects.filter(archived_at=None).order_by("key")]


def _said(row: Segment) -> dict[str, Any]:
    told = {"key": row.key, "name": row.name, "kind": str(row.kind), "note": row.note}
    return told if row.is_static else {**told, "condition": ordered(row.condition, CONDITION)}


def canonical(document: Document) -> list[dict[str, Any]]:
    """The section as an export would write it."""
    return [
        {
            "key": one["key"],
            "name": one["name"],
            "kind": one.get("kind", "live"),
            "note": one.get("note") or "",
            **({"condition": ordered(one["condition"], CONDITION)} if one.get("kind") != "static" else {}),
        }
        for one in sorted(document.data["segments"], key=lambda one: str(one["key"]))
    ]


def check(document: Document) -> None:
    """Raises ``BadFile``."""
    for index, one in enumerate(entries(document, "segments")):
        path: Path = ("segments", index)
        keys(document, path, one, _SEGMENT)
        needs(document, path, one, "a segment", {"key": str, "name": str})
        if one.get("kind", "live") not in Segment.Kind.values:
            raise document.wrong((*path, "kind"), f"no kind {one['kind']!r}. Use live or static.")
        if one.get("kind") != "static" and not isinstance(one.get("condition"), dict):
            raise document.wrong(path, "a live segment needs a condition.")
        if one.get("kind") == "static" and "condition" in one:
            raise document.wrong((*path, "condition"), "a static list has no condition. Remove the line.")
    once(document, "segments")


def load(document: Document, actor: User | None, told: list[str]) -> None:
    waiting = {one["key"]: one for one in canonical(document)}
    place = {one["key"]: index for index, one in enumerate(entries(document, "segments"))}
    while waiting:
        # Who names no other that still waits comes first; in a circle anyone does, and is refused with the circle.
        key = next(
            (k for k, one in waiting.items() if not conditions.named_segments(one.get("condition")) & set(waiting)),
            next(iter(waiting)),
        )
        try:
            _load_segment(waiting.pop(key), actor, told)
        except DomainError as problem:
            raise document.wrong(("segments", place[key], "condition"), problem.message) from None


def _load_segment(one: dict[str, Any], actor: User | None, told: list[str]) -> None:
    row = Segment.objects.filter(key=one["key"]).first()
    if row is None:
        segments.create(actor=actor, **one)
        told.append(f"Segment {one['key']}: new.")
        return
    if row.kind != one["kind"]:
        raise InvalidInput(f"the segment {one['key']} is {row.kind} here. Give the other one another key.")
    if row.archived_at is not None:
        row = segments.restore(segment=row)
        told.append(f"Segment {one['key']}: is in use again.")
    if _said(row) != one:
        segments.edit(segment=row, name=one["name"], note=one["note"], condition=one.get("condition"), actor=actor)
        told.append(f"Segment {one['key']}: changed.")

"""The number of a row, as a person types it or an address carries it."""

from __future__ import annotations

LONGEST = 18
"""Digits that fit into a column of ids whatever they are."""


def row_number(text: str | None) -> int | None:
    """The number, or ``None`` for whatever is none: superscripts and other scripts' digits too, which ``str.isdigit`` takes
    and ``int`` or the database may not."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= LONGEST else None

"""Codes that people read, say and type: nothing that looks like something else, and nothing that can be guessed."""

from __future__ import annotations

import secrets

ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Without 0 and O, 1, I and L, and U, which sounds like V: 30 letters, so 12 of them are 58 bits."""


def new(length: int = 12) -> str:
    """A random code of the operating system's randomness."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def plain(text: str) -> str:
    """The one spelling under which codes are compared: capitals, without spaces and dashes."""
    return "".join(letter for letter in text if letter.isprintable() and letter not in " -–").upper()


def shown(code: str) -> str:
    """In groups of four, as it is printed: ``AB3D-…``."""
    return "-".join(code[at : at + 4] for at in range(0, len(code), 4))

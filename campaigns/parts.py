"""How many short messages a text takes on the air (3GPP TS 23.038 and 23.040), which is what is paid for.

A text of the GSM alphabet alone has 160 places, or 153 in each part of several; a character of its extension table takes
two. One character outside it, and the whole text is written in UCS-2: 70 places, or 67 in each part of several. What takes
two places is never cut in two.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST = 10
"""Parts a text may take. More is refused by many networks, and read by nobody."""

BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = frozenset("\f^{}\\[~]|€")
GSM, UCS = "GSM-7", "UCS-2"
_ROOM = {GSM: (160, 153), UCS: (70, 67)}


@dataclass(frozen=True, slots=True)
class Measured:
    """``units``: places the text takes. ``forced_by``: the characters outside the GSM alphabet, each once, in order."""

    encoding: str
    units: int
    parts: int
    forced_by: tuple[str, ...] = ()


def measure(text: str) -> Measured:
    """What sending ``text`` takes. An empty text takes one part."""
    outside = tuple(dict.fromkeys(one for one in text if one not in BASIC and one not in EXTENSION))
    if outside:
        sizes = [2 if ord(one) > 0xFFFF else 1 for one in text]
    else:
        sizes = [2 if one in EXTENSION else 1 for one in text]
    encoding = UCS if outside else GSM
    single, several = _ROOM[encoding]
    units = sum(sizes)
    if units <= single:
        return Measured(encoding, units, 1, outside)
    parts, used = 1, 0
    for size in sizes:
        if used + size > several:
            parts, used = parts + 1, 0
        used += size
    return Measured(encoding, units, parts, outside)

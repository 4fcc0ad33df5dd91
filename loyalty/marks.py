"""Marks a scanner reads, as SVG for the page itself: no style in it and no script, so the strictest policy lets it pass."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby

import segno
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

QUIET = 11
"""Modules of white beside a barcode, without which scanners do not find its ends."""
HEIGHT = 40

_LEFT = ("0001101", "0011001", "0010011", "0111101", "0100011", "0110001", "0101111", "0111011", "0110111", "0001011")
_PARITY = ("LLLLLL", "LLGLGG", "LLGGLG", "LLGGGL", "LGLLGG", "LGGLLG", "LGGGLL", "LGLGLG", "LGLGGL", "LGGLGL")
"""EAN-13: seven modules per digit. The right half is the left one inverted, the even left one that read backwards."""


@lru_cache(maxsize=2048)
def qr(text: str, label: str) -> SafeString:
    """A QR code of a short text, readable with up to 15 % of it covered; ``label`` is said by screen readers."""
    code = segno.make(text, error="m", micro=False)
    rows = [bytes(row) for row in code.matrix_iter(border=4)]
    size = len(rows)
    runs: list[tuple[int, int, int]] = []
    for y, row in enumerate(rows):
        x = 0
        for dark, same in groupby(row):
            width = len(list(same))
            if dark:
                runs.append((x, y, width))
            x += width
    path = "".join(f"M{x} {y}h{width}v1h-{width}z" for x, y, width in runs)
    return format_html(
        '<svg class="qr" role="img" aria-label="{}" viewBox="0 0 {} {}"><path fill="#fff" d="M0 0h{}v{}H0z"/>'
        '<path fill="#000" d="{}"/></svg>',
        label, size, size, size, size, path,
    )  # fmt: skip


def ean13(number: str) -> str:
    """The 95 modules of an EAN-13 as ``0`` and ``1``; the first digit is said by the parities of the next six."""
    digits = [int(one) for one in number]
    right = ["".join("10"[int(bit)] for bit in modules) for modules in _LEFT]
    left = "".join(
        _LEFT[digit] if parity == "L" else right[digit][::-1]
        for digit, parity in zip(digits[1:7], _PARITY[digits[0]], strict=True)
    )
    return f"101{left}01010{''.join(right[digit] for digit in digits[7:])}101"


@lru_cache(maxsize=2048)
def barcode(number: str, label: str) -> SafeString:
    """An EAN-13 barcode of 13 digits."""
    modules = ean13(number)
    bars: list[tuple[int, int]] = []
    x = QUIET
    for dark, same in groupby(modules):
        width = len(list(same))
        if dark == "1":
            bars.append((x, width))
        x += width
    total = x + QUIET
    return format_html(
        '<svg class="barcode" role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">'
        '<path fill="#fff" d="M0 0h{}v{}H0z"/><path fill="#000" d="{}"/></svg>',
        label, total, HEIGHT, total, HEIGHT,
        format_html_join("", "M{} 2h{}v{}h-{}z", ((at, width, HEIGHT - 4, width) for at, width in bars)),
    )  # fmt: skip


def grouped(number: str) -> SafeString:
    """13 digits as they are read aloud: ``2 900000 000001``."""
    return mark_safe(f"{number[:1]}&nbsp;{number[1:7]}&nbsp;{number[7:]}" if number.isdigit() else "")

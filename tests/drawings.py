"""Pictures as people upload them, made in memory."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

RED, BLUE, GREEN = (200, 30, 30), (30, 60, 200), (20, 140, 60)


def file(
    kind: str = "PNG", size: tuple[int, int] = (300, 200), color: Any = RED, mode: str = "RGB", **more: Any
) -> bytes:
    """One colour all over."""
    return saved(Image.new(mode, size, color), kind, **more)


def saved(drawn: Image.Image, kind: str, **more: Any) -> bytes:
    kept = io.BytesIO()
    drawn.save(kept, kind, **more)
    return kept.getvalue()


def halves(size: tuple[int, int] = (400, 200)) -> Image.Image:
    """Red on the left, blue on the right: it shows which way it was turned."""
    drawn = Image.new("RGB", size, RED)
    drawn.paste(BLUE, (size[0] // 2, 0, *size))
    return drawn


def opened(data: bytes) -> Image.Image:
    found = Image.open(io.BytesIO(data))
    found.load()
    return found


def is_near(one: Any, other: tuple[int, int, int]) -> bool:
    """Whether a pixel has that colour, as far as WebP keeps it."""
    return all(abs(a - b) < 14 for a, b in zip(one, other, strict=True))

"""The dots and ranges of an experiment, as positions in per cent of the width: no script draws them, and text keeps its size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

LEFT, RIGHT = 16.0, 90.0
ROW, TOP = 46, 30


def drawn(rows: Sequence[tuple[str, str, float, float, float]], *, with_zero: bool = False) -> dict[str, Any]:
    """From (name, text of the value, value, low, high) of each row. ``with_zero`` draws the line of no difference."""
    lows, highs = [low for *_rest, low, _high in rows], [high for *_rest, high in rows]
    least = min([*lows, 0.0]) if with_zero else min(lows)
    most = max([*highs, 0.0]) if with_zero else max(highs)
    span = (most - least) or 1.0

    def place(value: float) -> str:
        return f"{LEFT + (RIGHT - LEFT) * (value - least) / span:.2f}%"

    return {
        "height": TOP + ROW * len(rows) - 12,
        "zero": place(0.0) if with_zero else "",
        "rows": [
            {"name": name, "text": text, "at": place(value), "low": place(low), "high": place(high),
             "y": TOP + ROW * number, "over": TOP + ROW * number - 12, "beside": TOP + ROW * number + 5}
            for number, (name, text, value, low, high) in enumerate(rows)
        ],
    }  # fmt: skip

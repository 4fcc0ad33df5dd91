"""The drawing of a journey: where each step, way and line goes, from the same lines that the list of steps shows.

Sequences run down the page; the ways of a split stand beside each other and meet again. Lengths are those of the drawing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

WIDE, HIGH = 208, 84
GAP, BESIDE = 28, 20
LABEL = 34
PLACE = 12
"""From the edge to the first line of words, and half of what a line of them takes."""
LETTERS, LINES = 28, 3

Point = tuple[float, float]
Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Words:
    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Box:
    """A step; ``said`` are the lines of words in it, ``whole`` is all of it, ``people`` what stands at its foot."""

    x: float
    y: float
    kind: str
    said: tuple[Words, ...]
    whole: str
    people: Words | None = None


@dataclass(slots=True)
class Drawing:
    boxes: list[Box] = field(default_factory=list)
    ways: list[Words] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    end: Point | None = None
    width: float = 0
    height: float = 0


def drawn(trigger: str, lines: Lines) -> Drawing:
    """The map of a journey that begins with ``trigger``. ``lines`` are those of ``journey_frame.Lines``."""
    width = max(WIDE, _width(lines)) + 2
    made = Drawing(width=width)
    middle = width / 2
    made.boxes.append(_box(middle, 1, "trigger", trigger, ""))
    ends, y = _sequence(made, lines, middle, 1 + HIGH + GAP, [(middle, 1 + HIGH)])
    if ends:
        _join(made, ends, (middle, y))
        made.end = (middle, y + 7)
        y += 14
    made.height = y + 2
    return made


def _width(lines: Lines) -> float:
    return max((_width_of(line) for line in lines), default=WIDE)


def _width_of(line: Mapping[str, Any]) -> float:
    ways = line["ways"]
    inside = sum(_width(way["lines"]) for way in ways) + BESIDE * (len(ways) - 1)
    return max(WIDE, inside) if ways else WIDE


def _sequence(made: Drawing, lines: Lines, middle: float, y: float, ends: list[Point]) -> tuple[list[Point], float]:
    """Draw steps from ``y`` down; the loose ends below them, and where the next one may begin."""
    for line in lines:
        _join(made, ends, (middle, y))
        made.boxes.append(_box(middle, y, line["do"], f"{line['number']} {line['sentence']}", line["people"]))
        bottom = y + HIGH
        ends, y = [(middle, bottom)], bottom + GAP
        if line["ways"]:
            ends, y = _split(made, line, middle, bottom)
        elif line["do"] == "exit":
            ends = []
    return ends, y


def _split(made: Drawing, line: Mapping[str, Any], middle: float, top: float) -> tuple[list[Point], float]:
    widths = [_width(way["lines"]) for way in line["ways"]]
    left = middle - (sum(widths) + BESIDE * (len(widths) - 1)) / 2
    loose: list[Point] = []
    lowest = top
    for way, width in zip(line["ways"], widths, strict=True):
        at = left + width / 2
        left += width + BESIDE
        made.paths.append(f"M{middle:g} {top:g}v{GAP / 2:g}H{at:g}v{GAP / 2:g}")
        y = top + GAP
        made.ways.append(Words(at, y + 18, _short(way["name"], LETTERS)))
        ends, low = _sequence(made, way["lines"], at, y + LABEL + GAP / 2, [(at, y + LABEL - 8)])
        loose += ends
        lowest = max(lowest, low)
    return loose, lowest


def _join(made: Drawing, ends: Sequence[Point], to: Point) -> None:
    """Lines from all of these ends to one point, with an arrow at it."""
    x, y = to
    for from_x, from_y in ends:
        turn = f"V{y - GAP / 2:g}H{x:g}" if from_x != x else ""
        made.paths.append(f"M{from_x:g} {from_y:g}{turn}V{y:g}")


def _box(middle: float, y: float, kind: str, text: str, people: str) -> Box:
    rows = wrap(text, LETTERS, max_lines=LINES if not people else LINES - 1, placeholder=" …") or [""]
    x = middle - WIDE / 2
    said = tuple(Words(x + PLACE, y + 2 * PLACE + 18 * number, row) for number, row in enumerate(rows))
    foot = Words(x + PLACE, y + HIGH - PLACE, people) if people else None
    return Box(x, y, kind, said, text, foot)


def _short(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"

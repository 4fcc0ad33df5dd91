"""Journeys to start from. Their texts are chosen by whoever makes one of them: a shop's words are its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

Steps = list[dict[str, Any]]


@dataclass(frozen=True)
class Start:
    key: str
    name: Any
    text: Any
    trigger: dict[str, Any]
    steps: Steps
    settings: dict[str, Any]


_MORNING = {"from": 9, "until": 18, "weekdays": [0, 1, 2, 3, 4]}
_ORDERED = {"order": True}


STARTS: tuple[Start, ...] = (
    Start(
        "welcome",
        _("Welcome"),
        _("Thanks after the first order, and a second word if no other order follows."),
        {"on": "first_order"},
        [
            {"id": "s1", "do": "wait", "days": 1, "window": _MORNING},
            {"id": "s2", "do": "message", "template": ""},
            {"id": "s3", "do": "until", "order": True, "at_most": {"days": 14}},
            {
                "id": "s4",
                "do": "split",
                "branches": [{"when": {"fact": "orders", "op": "gte", "value": 2}, "steps": []}],
                "else": [{"id": "s5", "do": "message", "template": ""}],
            },
        ],
        {"goal": _ORDERED, "goal_days": 60},
    ),
    Start(
        "winback",
        _("Win-back follow-up"),
        _("A second try for those who went quiet, with points as the reason to come."),
        {"on": "stage_entered", "stage": "dormant"},
        [
            {"id": "s1", "do": "until", "order": True, "at_most": {"days": 10}},
            {"id": "s2", "do": "points", "points": 200, "reason": "Welcome back"},
            {"id": "s3", "do": "message", "template": ""},
        ],
        {
            "again": "after",
            "again_days": 180,
            "goal": _ORDERED,
            "goal_days": 30,
            "exits": [{"fact": "stage", "op": "ne", "value": "dormant"}],
        },
    ),
    Start(
        "rescue",
        _("After a bad answer"),
        _("A word a few days after somebody gave a low score, once their case is closed."),
        {"on": "answer", "at_most": 6},
        [
            {
                "id": "s1",
                "do": "until",
                "when": {"fact": "open_cases", "op": "eq", "value": 0},
                "at_most": {"days": 30},
            },
            {"id": "s2", "do": "wait", "days": 3, "window": _MORNING},
            {"id": "s3", "do": "message", "template": ""},
        ],
        {"again": "after", "again_days": 90, "goal": _ORDERED, "goal_days": 60},
    ),
)


def start(key: str) -> Start | None:
    return next((one for one in STARTS if one.key == key), None)

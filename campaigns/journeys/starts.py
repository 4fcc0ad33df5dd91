"""The journeys of our playbooks, as data: for which stage, what lets people in, and what happens to them.

A step's ``template`` is the key of one of the texts in ``campaigns.playbooks.words``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

Steps = list[dict[str, Any]]


@dataclass(frozen=True)
class Start:
    """``segment`` is the condition of the segment whose people enter, for one that needs a segment of its own."""

    key: str
    stage: str
    name: Any
    text: Any
    trigger: dict[str, Any]
    steps: Steps
    settings: dict[str, Any]
    segment: dict[str, Any] = field(default_factory=dict)


_MORNING = {"from": 9, "until": 18, "weekdays": [0, 1, 2, 3, 4]}
_ORDERED = {"order": True}
_NO_CASE = {"fact": "open_cases", "op": "gte", "value": 1}


def _message(pk: str, text: str) -> dict[str, Any]:
    return {"id": pk, "do": "message", "template": f"playbook-{text}"}


STARTS: tuple[Start, ...] = (
    Start(
        "welcome",
        "acquire",
        _("Welcome"),
        _("A word of welcome, and a second one that takes the risk out of the first order if none follows."),
        {"on": "stage_entered", "stage": "acquire"},
        [
            _message("s1", "welcome"),
            {"id": "s2", "do": "until", "order": True, "at_most": {"days": 5}},
            {"id": "s3", "do": "wait", "window": _MORNING},
            _message("s4", "first-order"),
        ],
        {"goal": _ORDERED, "goal_days": 30, "exits": [{"fact": "orders", "op": "gte", "value": 1}]},
    ),
    Start(
        "care",
        "nurture",
        _("Care after the purchase"),
        _("A week after the first order: is all well? Nothing is sold."),
        {"on": "first_order"},
        [{"id": "s1", "do": "wait", "days": 7, "window": _MORNING}, _message("s2", "care")],
        {"goal": _ORDERED, "goal_days": 60, "exits": [_NO_CASE]},
    ),
    Start(
        "cross-sell",
        "nurture",
        _("The second order"),
        _("Three weeks after the first order, for those who have not come back yet: what goes well with it."),
        {"on": "first_order"},
        [
            {"id": "s1", "do": "until", "order": True, "at_most": {"days": 21}},
            {"id": "s2", "do": "wait", "window": _MORNING},
            _message("s3", "cross-sell"),
        ],
        {"goal": _ORDERED, "goal_days": 60, "exits": [_NO_CASE]},
    ),
    Start(
        "replenish",
        "retain",
        _("Time for more"),
        _("When the next order is due by a person’s own rhythm, not by yours."),
        {"on": "order"},
        [
            {
                "id": "s1",
                "do": "until",
                "when": {
                    "fact": "last_order_at",
                    "op": "days_since_gte",
                    "value": {"gaps": 1, "at_least": 14, "at_most": 120},
                },
                "at_most": {"days": 121},
            },
            {"id": "s2", "do": "wait", "window": _MORNING},
            _message("s3", "replenish"),
        ],
        {"again": "always", "goal": _ORDERED, "goal_days": 150, "exits": [_NO_CASE]},
    ),
    Start(
        "at-risk",
        "retain",
        _("Going quiet"),
        _("For regular customers who are silent for half as long again as usual: before they are gone."),
        {"on": "segment_entered", "segment": "playbook-going-quiet"},
        [
            {"id": "s1", "do": "wait", "window": _MORNING},
            _message("s2", "at-risk"),
            {"id": "s3", "do": "until", "order": True, "at_most": {"days": 14}},
            {"id": "s4", "do": "points", "points": 100, "reason": gettext_noop("Good to have you with us")},
        ],
        {"again": "after", "again_days": 180, "goal": _ORDERED, "goal_days": 30, "exits": [_NO_CASE]},
        {
            "all": [
                {"fact": "stage", "op": "in", "value": ["retain", "advocate"]},
                {
                    "fact": "last_order_at",
                    "op": "days_since_gte",
                    "value": {"gaps": 1.5, "at_least": 30, "at_most": 150},
                },
            ]
        },
    ),
    Start(
        "rescue",
        "retain",
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
            _message("s3", "rescue"),
        ],
        {"again": "after", "again_days": 90, "goal": _ORDERED, "goal_days": 60},
    ),
    Start(
        "birthday",
        "retain",
        _("Birthday"),
        _("Good wishes and points on the day, for whoever told you when it is."),
        {"on": "birthday", "days": 0},
        [
            {"id": "s1", "do": "points", "points": 100, "reason": gettext_noop("Happy birthday")},
            _message("s2", "birthday"),
        ],
        {"again": "after", "again_days": 300, "goal": _ORDERED, "goal_days": 30, "exits": [_NO_CASE]},
    ),
    Start(
        "vip",
        "advocate",
        _("The highest tier"),
        _("A personal thank you for those who reach the highest tier, with points on top."),
        {"on": "tier"},
        [
            {"id": "s1", "do": "wait", "days": 1, "window": _MORNING},
            {"id": "s2", "do": "points", "points": 200, "reason": gettext_noop("Thank you for your loyalty")},
            _message("s3", "vip"),
        ],
        {"again": "after", "again_days": 365, "goal": _ORDERED, "goal_days": 90},
    ),
    Start(
        "review",
        "advocate",
        _("Ask for a review"),
        _("Two days after somebody answered a survey with 9 or 10."),
        {"on": "answer", "at_least": 9},
        [{"id": "s1", "do": "wait", "days": 2, "window": _MORNING}, _message("s2", "review")],
        {"again": "after", "again_days": 180, "goal": _ORDERED, "goal_days": 60, "exits": [_NO_CASE]},
    ),
    Start(
        "referral",
        "advocate",
        _("Ask for a recommendation"),
        _("A few days after somebody became an advocate."),
        {"on": "stage_entered", "stage": "advocate"},
        [{"id": "s1", "do": "wait", "days": 4, "window": _MORNING}, _message("s2", "referral")],
        {"again": "after", "again_days": 365, "goal": _ORDERED, "goal_days": 60, "exits": [_NO_CASE]},
    ),
    Start(
        "winback",
        "dormant",
        _("Win-back"),
        _("For those who went quiet: time to come by themselves, then points as the reason to come."),
        {"on": "stage_entered", "stage": "dormant"},
        [
            {"id": "s1", "do": "until", "order": True, "at_most": {"days": 10}},
            {"id": "s2", "do": "points", "points": 200, "reason": gettext_noop("Welcome back")},
            {"id": "s3", "do": "wait", "window": _MORNING},
            _message("s4", "winback"),
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
        "sunset",
        "dormant",
        _("A last word"),
        _("After three quiet months more: a way to stay and a way to go."),
        {"on": "stage_entered", "stage": "dormant"},
        [{"id": "s1", "do": "wait", "days": 90, "window": _MORNING}, _message("s2", "sunset")],
        {
            "again": "after",
            "again_days": 365,
            "goal": _ORDERED,
            "goal_days": 150,
            "exits": [{"fact": "stage", "op": "ne", "value": "dormant"}],
        },
    ),
)


def start(key: str) -> Start | None:
    return next((one for one in STARTS if one.key == key), None)

"""Segments to start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy


@dataclass(frozen=True)
class Start:
    key: str
    name: Any
    text: Any
    tree: dict[str, Any]


STARTS: tuple[Start, ...] = (
    Start(
        "quiet",
        gettext_lazy("High value, going quiet"),
        gettext_lazy("They spent a lot and have not ordered for three months."),
        {
            "all": [
                {"fact": "monetary", "op": "gte", "value": 4},
                {"fact": "last_order_at", "op": "days_since_gte", "value": 90},
            ]
        },
    ),
    Start(
        "second",
        gettext_lazy("First order 60 to 90 days ago, no second"),
        gettext_lazy("The moment at which a second order is most often won or lost."),
        {
            "all": [
                {"fact": "orders", "op": "eq", "value": 1},
                {"fact": "first_order_at", "op": "days_since_gte", "value": 60},
                {"fact": "first_order_at", "op": "days_since_lt", "value": 90},
            ]
        },
    ),
    Start(
        "detractors",
        gettext_lazy("Detractors with an open case"),
        gettext_lazy("Unhappy, and waiting for an answer from you."),
        {
            "all": [
                {"fact": "nps_score", "op": "lte", "value": 6},
                {"fact": "open_cases", "op": "gte", "value": 1},
            ]
        },
    ),
    Start(
        "points",
        gettext_lazy("Points, but silent"),
        gettext_lazy("They have points to use and did not visit or click for a month."),
        {
            "all": [
                {"fact": "points", "op": "gte", "value": 100},
                {"not": {"fact": "engaged_at", "op": "days_since_lt", "value": 30}},
            ]
        },
    ),
    Start(
        "advocates",
        gettext_lazy("Advocates without a referral"),
        gettext_lazy("Fans who never brought a friend."),
        {
            "all": [
                {"fact": "stage", "op": "eq", "value": "advocate"},
                {"did": "referral", "op": "lt", "times": 1},
            ]
        },
    ),
)

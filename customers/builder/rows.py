"""A row, a group of rows, and what a row can be about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext_lazy

from customers.vocabulary import FACTS, FIELDS

COUNTED = {"did": "did", "category": "bought", "sku": "bought"}
"""Fields of a row that count something that happened, and the word of the tree each stands for."""


@dataclass(frozen=True)
class Row:
    """One condition as it was typed; ``values`` are the chosen ones of a list. ``fault`` is what is missing."""

    field: str = ""
    op: str = ""
    value: str = ""
    values: tuple[str, ...] = ()
    times: str = ""
    days: str = ""
    fault: str = ""

    @property
    def kind(self) -> str:
        return kind_of(self.field)

    @property
    def ops(self) -> list[tuple[str, Any]]:
        return OPS.get(self.kind, [])

    @property
    def wants(self) -> str:
        """What the row needs beside field and operator."""
        if self.kind in ("tag", "segment"):
            return self.kind
        if self.kind == "times":
            return "times"
        if self.op in ("is_set", "is_not_set", "yes", "no", ""):
            return ""
        if self.kind == "moment":
            return "days"
        if self.kind == "text":
            if self.field in ("stage", "country", "language"):
                return f"{self.field}_list" if self.op == "in" and self.field == "stage" else self.field
            return "text"
        return self.kind

    def settled(self) -> Row:
        """With an operator that fits the field: another field takes other operators and other values."""
        if self.field and self.op not in dict(self.ops):
            first = self.ops[0][0] if self.ops else ""
            return Row(self.field, first, times="1" if self.kind == "times" else "")
        return self


@dataclass(frozen=True)
class Group:
    match: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Builder:
    match: str = "all"
    items: tuple[Row | Group, ...] = ()
    faults: tuple[str, ...] = field(default=())


# --- What a row can say ---------------------------------------------------------------------------------------------------

FIELD_GROUPS: tuple[tuple[Any, tuple[tuple[str, Any], ...]], ...] = (
    (
        gettext_lazy("Orders"),
        (
            ("orders", gettext_lazy("Number of orders")),
            ("spend_minor", gettext_lazy("Spend so far")),
            ("last_order_at", gettext_lazy("Last order")),
            ("first_order_at", gettext_lazy("First order")),
            ("category", gettext_lazy("Bought from a category")),
            ("sku", gettext_lazy("Bought a product")),
            ("gap_seconds", gettext_lazy("Usual days between orders")),
        ),
    ),
    (
        gettext_lazy("What they did"),
        (
            ("did", gettext_lazy("Did something")),
            ("engaged_at", gettext_lazy("Last visit or click")),
            ("clicked_at", gettext_lazy("Last click in a message")),
        ),
    ),
    (
        gettext_lazy("Where they stand"),
        (
            ("stage", gettext_lazy("Stage")),
            ("stage_since", gettext_lazy("Entered this stage")),
            ("tier", gettext_lazy("Tier")),
            ("points", gettext_lazy("Points")),
            ("recency", gettext_lazy("Recency score (1–5)")),
            ("frequency", gettext_lazy("Frequency score (1–5)")),
            ("monetary", gettext_lazy("Monetary score (1–5)")),
        ),
    ),
    (
        gettext_lazy("What they told us"),
        (
            ("may_email", gettext_lazy("Agreed to offers by e-mail")),
            ("nps_score", gettext_lazy("Last NPS answer (0–10)")),
            ("answered_at", gettext_lazy("Last answer to a survey")),
            ("open_cases", gettext_lazy("Open cases")),
        ),
    ),
    (
        gettext_lazy("Who they are"),
        (
            ("country", gettext_lazy("Country")),
            ("language", gettext_lazy("Language")),
            ("acquisition_source", gettext_lazy("Came from")),
            ("tag", gettext_lazy("Tag")),
            ("segment", gettext_lazy("Segment")),
        ),
    ),
)
_NUMBER_WORDS = [
    ("gte", gettext_lazy("is at least")),
    ("lte", gettext_lazy("is at most")),
    ("eq", gettext_lazy("is exactly")),
    ("ne", gettext_lazy("is not")),
    ("gt", gettext_lazy("is more than")),
    ("lt", gettext_lazy("is less than")),
]
OPS: dict[str, list[tuple[str, Any]]] = {
    "number": [
        *_NUMBER_WORDS,
        ("is_set", gettext_lazy("is known")),
        ("is_not_set", gettext_lazy("is not known")),
    ],
    "money": _NUMBER_WORDS,
    "span": [*_NUMBER_WORDS, ("is_set", gettext_lazy("is known")), ("is_not_set", gettext_lazy("is not known"))],
    "moment": [
        ("within", gettext_lazy("was in the last")),
        ("not_within", gettext_lazy("was not in the last")),
        ("since", gettext_lazy("was longer ago than")),
        ("is_set", gettext_lazy("has ever been")),
        ("is_not_set", gettext_lazy("has never been")),
    ],
    "text": [
        ("eq", gettext_lazy("is")),
        ("ne", gettext_lazy("is not")),
        ("in", gettext_lazy("is one of")),
        ("is_set", gettext_lazy("is known")),
        ("is_not_set", gettext_lazy("is not known")),
    ],
    "flag": [("yes", gettext_lazy("yes")), ("no", gettext_lazy("no"))],
    "tag": [("has", gettext_lazy("is carried")), ("has_not", gettext_lazy("is not carried"))],
    "times": [("gte", gettext_lazy("at least")), ("lt", gettext_lazy("fewer than"))],
    "segment": [("in", gettext_lazy("they are in")), ("not_in", gettext_lazy("they are not in"))],
}


def kind_of(name: str) -> str:
    """The key of ``OPS`` for a field, "" for one that is unknown."""
    if name in COUNTED:
        return "times"
    if name in ("tag", "segment"):
        return name
    fact = FACTS.get(name) or FIELDS.get(name)
    return fact.kind.value if fact else ""

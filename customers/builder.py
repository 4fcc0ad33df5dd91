"""The builder of segments as values: rows that a form can hold, and the tree they stand for.

``read`` and ``Builder.names`` are the form, ``of_tree`` and ``to_tree`` the stored condition. What the rows cannot show is
refused by ``of_tree``: a builder that opened a tree and dropped a part of it would destroy it on saving.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from customers.vocabulary import FACTS, FIELDS, STAGES, Kind
from lifecycle_crm.lib.errors import DomainError, InvalidInput
from lifecycle_crm.lib.money import from_minor, to_minor

COUNTED = {"did": "did", "category": "bought", "sku": "bought"}
"""Fields of a row that count something that happened, and the word of the tree each stands for."""


class CannotShow(InvalidInput):
    """The tree holds what the rows cannot show; the message says what."""

    code = "not_in_builder"


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


# --- The form -------------------------------------------------------------------------------------------------------------

_NAME = re.compile(r"r(\d{1,3})(?:\.(\d{1,3}))?-(field|op|value|times|days|match)")


def read(data: Mapping[str, Any]) -> Builder:
    """The rows of a posted form (a ``QueryDict``), in the order of their numbers."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    groups: dict[int, str] = {}
    for name in data:
        if not (match := _NAME.fullmatch(name)):
            continue
        top, inner, part = int(match[1]), int(match[2]) if match[2] else -1, match[3]
        if part == "match":
            groups[top] = _either(data[name])
            continue
        chosen = data.getlist(name) if hasattr(data, "getlist") else [data[name]]
        found.setdefault((top, inner), {})[part] = [str(one).strip() for one in chosen]

    def row(parts: dict[str, list[str]]) -> Row:
        last = {part: given[-1] for part, given in parts.items() if given}
        given = tuple(v for v in parts.get("value", []) if v)
        return Row(
            last.get("field", ""), last.get("op", ""), last.get("value", ""), given, last.get("times", ""),
            last.get("days", ""),
        ).settled()  # fmt: skip

    items: list[Row | Group] = []
    for top in sorted({top for top, _inner in found} | set(groups)):
        if top in groups:
            inside = [row(found[at]) for at in sorted(found) if at[0] == top and at[1] >= 0]
            items.append(Group(groups[top], tuple(inside)))
        elif (top, -1) in found:
            items.append(row(found[top, -1]))
    return Builder(_either(data.get("match", "")), tuple(items))


def _either(text: str) -> str:
    return "any" if text == "any" else "all"


def change(builder: Builder, act: str) -> tuple[Builder, str]:
    """Add, remove or move a row; the builder after it and the place ("2" or "2.0") that the focus goes to."""
    verb, _sep, place = act.partition(":")
    items = list(builder.items)
    top, _dot, inner = place.partition(".")
    at = int(top) if top.isdecimal() and int(top) < len(items) else -1
    if verb == "add" and not place:
        items.append(Row())
        return replace(builder, items=tuple(items)), str(len(items) - 1)
    if verb == "group":
        other = "any" if builder.match == "all" else "all"
        items.append(Group(other, (Row(),)))
        return replace(builder, items=tuple(items)), f"{len(items) - 1}.0"
    if at < 0:
        return builder, ""
    item = items[at]
    if isinstance(item, Group) and (inner or verb == "add"):
        rows = list(item.rows)
        if verb == "add":
            rows.append(Row())
            focus = f"{at}.{len(rows) - 1}"
        else:
            place_in = _moved(rows, verb, int(inner) if inner.isdecimal() else -1)
            focus = f"{at}.{place_in}" if rows else ""
        if rows:
            items[at] = Group(item.match, tuple(rows))
        else:
            del items[at]
        return replace(builder, items=tuple(items)), focus
    place_at = _moved(items, verb, at)
    focused = items[place_at] if 0 <= place_at < len(items) else None
    focus = f"{place_at}.0" if isinstance(focused, Group) else str(place_at) if focused else ""
    return replace(builder, items=tuple(items)), focus


def _moved(rows: list[Any], verb: str, at: int) -> int:
    """Remove or move in place; where the focus goes."""
    if not 0 <= at < len(rows):
        return max(0, min(at, len(rows) - 1))
    if verb == "remove":
        del rows[at]
        return max(0, min(at, len(rows) - 1))
    to = at - 1 if verb == "up" else at + 1 if verb == "down" else at
    if 0 <= to < len(rows):
        rows[at], rows[to] = rows[to], rows[at]
        return to
    return at


# --- To the tree ----------------------------------------------------------------------------------------------------------


def to_tree(builder: Builder) -> tuple[dict[str, Any], Builder]:
    """The tree of the rows that are complete, and the builder with what is missing said at each of the others."""
    parts: list[dict[str, Any]] = []
    items: list[Row | Group] = []
    faults: list[str] = []

    def one(row: Row, into: list[dict[str, Any]], number: str) -> Row:
        try:
            into.append(leaf(row))
        except DomainError as problem:
            faults.append(_("Row %(number)s: %(problem)s") % {"number": number, "problem": problem.message})
            return replace(row, fault=problem.message)
        return row

    for number, item in enumerate(builder.items, 1):
        if isinstance(item, Group):
            inside: list[dict[str, Any]] = []
            rows = tuple(one(row, inside, f"{number}.{n}") for n, row in enumerate(item.rows, 1))
            items.append(Group(item.match, rows))
            if inside:
                parts.append({item.match: inside})
        else:
            items.append(one(item, parts, str(number)))
    # No row at all describes everybody, under either word.
    tree: dict[str, Any] = {builder.match if parts else "all": parts}
    return tree, Builder(builder.match, tuple(items), tuple(faults))


def leaf(row: Row) -> dict[str, Any]:
    """The condition of one row. Raises ``InvalidInput`` with what is missing or wrong."""
    if not row.field:
        raise InvalidInput(_("choose what it is about."))
    if row.op not in dict(row.ops):
        raise InvalidInput(_("choose how to compare."))
    match row.kind:
        case "times":
            if not row.value:
                raise InvalidInput(_("say what they did or bought."))
            head: Any = row.value if row.field == "did" else {row.field: row.value}
            days = {"days": _whole(row.days, 1, 36_500)} if row.days else {}
            return {COUNTED[row.field]: head, "op": row.op, "times": _whole(row.times, 1, 10_000), **days}
        case "tag":
            if not row.value:
                raise InvalidInput(_("name a tag."))
            return {"tag": row.value} if row.op == "has" else {"not": {"tag": row.value}}
        case "segment":
            if not row.value:
                raise InvalidInput(_("choose a segment."))
            return {"segment": row.value} if row.op == "in" else {"not": {"segment": row.value}}
        case "flag":
            return {"fact": row.field, "op": "eq", "value": row.op == "yes"}
    if row.op in ("is_set", "is_not_set"):
        return {"fact": row.field, "op": row.op}
    match row.kind:
        case "moment":
            days_ = _whole(row.value, 0, 36_500)
            op = "days_since_gte" if row.op == "since" else "days_since_lt"
            plain = {"fact": row.field, "op": op, "value": days_}
            return {"not": plain} if row.op == "not_within" else plain
        case "text":
            return {"fact": row.field, "op": row.op, "value": _text(row)}
        case "money":
            return {"fact": row.field, "op": row.op, "value": _money(row.value)}
        case "span":
            return {"fact": row.field, "op": row.op, "value": _whole(row.value, 0, 36_500) * 86_400}
    return {"fact": row.field, "op": row.op, "value": _whole(row.value, 0, 2**40)}


def _whole(text: str, low: int, high: int) -> int:
    plain = re.sub(r"[\s\u00a0\u202f]", "", text)
    if not plain.isdecimal() or not low <= int(plain[:20]) <= high:
        raise InvalidInput(_("enter a whole number from %(low)s to %(high)s.") % {"low": low, "high": high})
    return int(plain)


def _money(text: str) -> int:
    plain = re.sub(r"[\s\u00a0\u202f]", "", text).replace(",", ".")
    try:
        amount = Decimal(plain)
        if not 0 <= amount <= 10**12:
            raise InvalidOperation
        return to_minor(amount, settings.SHOP_CURRENCY)
    except (InvalidOperation, DomainError, ValueError):
        raise InvalidInput(
            _("enter an amount in %(currency)s, such as 250.") % {"currency": settings.SHOP_CURRENCY}
        ) from None


def _text(row: Row) -> str | list[str]:
    if row.op != "in":
        if not row.value:
            raise InvalidInput(_("enter a value."))
        return row.value
    several = list(row.values) if row.field == "stage" else re.split(r"[,;]\s*", row.value)
    chosen = [one.strip() for one in several if one.strip()]
    if not chosen:
        raise InvalidInput(_("enter one value or several, with commas between them."))
    return chosen


# --- From the tree --------------------------------------------------------------------------------------------------------


def of_tree(tree: Any) -> Builder:
    """The rows of a stored condition. Raises ``CannotShow`` for what rows cannot say."""
    match = _head(tree)
    if match is None:
        return Builder("all", (_row(tree),))
    items: list[Row | Group] = []
    for part in tree[match]:
        inner = _head(part)
        if inner is None:
            items.append(_row(part))
            continue
        if not part[inner]:
            raise CannotShow(_("It holds an empty group."))
        if any(_head(deep) for deep in part[inner]):
            raise CannotShow(_("It holds a group inside a group. Make a segment of the inner one and use it here."))
        items.append(Group(inner, tuple(_row(deep) for deep in part[inner])))
    if match == "any" and not items:
        raise CannotShow(_("It describes nobody."))
    return Builder(match, tuple(items))


def _head(tree: Any) -> str | None:
    return next((head for head in ("all", "any") if isinstance(tree, dict) and head in tree), None)


def _row(tree: Any) -> Row:
    row = _plain_row(tree)
    # What the row says must be what was stored, to the letter.
    if row is None or leaf(row) != _full(tree):
        raise CannotShow(_("It holds a condition that the rows have no words for."))
    return row


def _full(tree: dict[str, Any]) -> dict[str, Any]:
    """With the values that may be left out."""
    if "did" in tree or "bought" in tree:
        full = {"op": "gte", "times": 1, **tree}
        return {name: value for name, value in full.items() if value is not None}
    return tree


def _plain_row(tree: Any) -> Row | None:
    if not isinstance(tree, dict):
        return None
    is_not = "not" in tree
    inner = tree["not"] if is_not else tree
    if not isinstance(inner, dict):
        return None
    if "tag" in inner:
        return Row("tag", "has_not" if is_not else "has", str(inner["tag"]))
    if "segment" in inner:
        return Row("segment", "not_in" if is_not else "in", str(inner["segment"]))
    if "fact" in inner:
        return _fact_row(inner, is_not)
    if is_not:
        return None
    days = "" if inner.get("days") is None else str(inner["days"])
    times, op = str(inner.get("times", 1)), str(inner.get("op", "gte"))
    if "did" in inner:
        return Row("did", op, str(inner["did"]), times=times, days=days)
    bought = inner.get("bought")
    if isinstance(bought, dict) and len(bought) == 1 and next(iter(bought)) in COUNTED:
        [(what, name)] = bought.items()
        return Row(what, op, str(name), times=times, days=days)
    return None


def _fact_row(inner: dict[str, Any], is_not: bool) -> Row | None:
    name, op, value = str(inner["fact"]), str(inner.get("op")), inner.get("value")
    kind = kind_of(name)
    if kind == "moment" and op not in ("is_set", "is_not_set"):
        if not isinstance(value, int) or (is_not and op != "days_since_lt"):
            return None
        words = {"days_since_lt": "not_within" if is_not else "within", "days_since_gte": "since"}
        return Row(name, words.get(op, ""), str(value))
    if is_not or not kind:
        return None
    if op in ("is_set", "is_not_set"):
        return Row(name, op) if op in dict(OPS[kind]) else None
    if kind == "flag":
        return Row(name, "yes" if value else "no")
    if kind == "text" and isinstance(value, list):
        chosen = tuple(map(str, value))
        return Row(name, op, chosen[-1] if name == "stage" else ", ".join(chosen), chosen)
    if kind == "money" and isinstance(value, int):
        amount = from_minor(value, settings.SHOP_CURRENCY)
        return Row(name, op, f"{amount.normalize():f}")
    if kind == "span" and isinstance(value, int):
        return Row(name, op, str(value // 86_400)) if value % 86_400 == 0 else None
    return Row(name, op, str(value)) if isinstance(value, str | int) else None


# --- To start from --------------------------------------------------------------------------------------------------------


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

__all__ = [
    "FIELD_GROUPS",
    "STAGES",
    "STARTS",
    "Builder",
    "CannotShow",
    "Group",
    "Kind",
    "Row",
    "Start",
    "change",
    "kind_of",
    "leaf",
    "of_tree",
    "read",
    "to_tree",
]

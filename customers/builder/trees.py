"""From the rows to the tree that is stored, and back, to the letter."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from customers.builder.rows import COUNTED, OPS, Builder, Group, Row, kind_of
from lifecycle_crm.lib.errors import DomainError, InvalidInput
from lifecycle_crm.lib.money import from_minor, to_minor


class CannotShow(InvalidInput):
    """The tree holds what the rows cannot show; the message says what."""

    code = "not_in_builder"


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

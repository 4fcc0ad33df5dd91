"""How the cells of a line are read, and how they are written for a spreadsheet."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from django.utils.translation import gettext as _

from customers.ingest import CustomerIn, OrderIn
from customers.models import ImportRun, search_text
from lifecycle_crm.lib import clock, money
from lifecycle_crm.lib.errors import InvalidInput

_TRUE = {"1", "true", "yes", "y", "ja", "j", "tak", "t", "ano", "a", "on"}
_FALSE = {"0", "false", "no", "n", "nei", "nej", "nie", "ne", "off"}
_DECIMAL_COMMA = re.compile(r"-?\d{1,3}(?:[ \u00a0\u202f.]?\d{3})*,\d{1,2}")
_SPACES = re.compile(r"[\s\u00a0\u202f]")


# --- Cells that a spreadsheet would run ---------------------------------------------------------------------------------

_TRIGGER = re.compile(r"'*[=+\-@\t\r\x00]")


def guarded(cell: str) -> str:
    """A cell a spreadsheet shows as text: an apostrophe before what it would take for a formula."""
    return f"'{cell}" if _TRIGGER.match(cell) else cell


def unguarded(cell: str) -> str:
    """Undo ``guarded``, exactly."""
    return cell[1:] if cell.startswith("'") and _TRIGGER.match(cell) else cell


# --- Reading ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Line:
    """One record: the line of the file it begins on, its cells, and the order number made for it."""

    number: int
    cells: list[str]
    order_id: str = ""


class Columns:
    """How the cells of a run's lines are read."""

    def __init__(self, row: ImportRun) -> None:
        self.options: dict[str, Any] = row.options
        names: list[str] = self.options["columns"]
        self.width = len(names)
        self.at = {name: names.index(column) for column, name in row.mapping.items()}
        self.column_of = {name: column for column, name in row.mapping.items()}
        self.date_format: str = self.options["date_format"]
        self.has_time = any(mark in self.date_format for mark in ("%H", "%I", "%c", "%X"))

    def cell(self, cells: list[str], name: str) -> str:
        place = self.at.get(name)
        if place is None:
            return ""
        return unguarded(cells[place]).strip()

    def moment(self, value: str, name: str) -> tuple[datetime, str]:
        """A cell as an instant, and as the text that stands for it in an order number."""
        if not value:
            raise InvalidInput(_("The date is missing."), code="missing_time", field=name)
        try:
            if self.date_format:
                at = datetime.strptime(value, self.date_format)  # noqa: DTZ007 (the zone is the shop's, below)
                day = None if self.has_time else at.date()
            elif len(value) == 10 or (len(value) == 8 and value.isdigit()):
                day = date.fromisoformat(value)
            else:
                at, day = datetime.fromisoformat(value), None
        except (ValueError, OverflowError):
            form = self.date_format or "2026-03-31"
            raise InvalidInput(
                _("%(value)s is not a date written as %(form)s. Correct it, or choose the date format.")
                % {"value": repr(value[:40]), "form": form},
                code="invalid_date",
                field=name,
            ) from None
        try:
            if day is not None:
                return _day_start(day), day.isoformat()
            at = (at if at.tzinfo else at.replace(tzinfo=clock.zone())).astimezone(UTC)
        except (ValueError, OverflowError):
            raise InvalidInput(
                _("%(value)s is outside what a calendar holds.") % {"value": repr(value[:40])},
                code="invalid_date",
                field=name,
            ) from None
        return at, at.isoformat()

    def amount(self, value: str, name: str, currency: str) -> int:
        """``"1 234,50"`` or ``"1234.50"`` → minor units."""
        if not value:
            raise InvalidInput(_("The amount is missing."), code="invalid_amount", field=name)
        plain = _SPACES.sub("", value)
        if _DECIMAL_COMMA.fullmatch(value):
            plain = plain.replace(".", "").replace(",", ".")
        try:
            return money.to_minor(plain, currency)
        except InvalidInput as problem:
            problem.extra["field"] = name
            raise

    def order(self, line: Line) -> OrderIn:
        cells = line.cells
        currency = self.cell(cells, "currency").upper() or self.options["currency"]
        if currency not in money.CURRENCIES:
            money.check_currency(currency)
        items, rate = self.cell(cells, "items"), self.cell(cells, "rate")
        return OrderIn(
            source_id=line.order_id,
            placed_at=self.moment(self.cell(cells, "placed_at"), "placed_at")[0],
            amount_minor=self.amount(self.cell(cells, "amount"), "amount", currency),
            currency=currency,
            external_id=self.cell(cells, "customer_id"),
            email=self.cell(cells, "email"),
            customer_name=self.cell(cells, "name"),
            items=_number(items, "items") if items else None,
            rate=_rate(rate) if rate else None,
        )

    def customer(self, line: Line) -> CustomerIn:
        cells = line.cells
        given = {name: value for name in self.at if (value := self.cell(cells, name))}
        row = CustomerIn(external_id=given.pop("customer_id", ""))
        attributes: dict[str, str] = {}
        for name, value in given.items():
            if name.startswith("attribute:"):
                attributes[name.removeprefix("attribute:")] = value
            elif name == "known_since":
                row.known_since = self.moment(value, name)[0]
            elif name == "birth_date":
                row.birth_date = self.moment(value, name)[0].astimezone(clock.zone()).date()
            elif name == "tags":
                row.tags = [tag.strip() for tag in re.split(r"[,;|]", value) if tag.strip()]
            elif name == "may_email":
                row.may_email = _yes(value)
            elif name == "acquisition_cost":
                row.acquisition_cost_minor = self.amount(value, name, self.options["currency"])
            elif name == "kind":
                row.kind = value.lower()
            else:
                setattr(row, name, value)
        if attributes:
            row.attributes = attributes
        return row


@cache
def _day_start(day: date) -> datetime:
    return clock.day_start(day)


def _number(value: str, name: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InvalidInput(
            _("%(value)s is not a whole number.") % {"value": repr(value[:40])}, code="invalid_number", field=name
        ) from None


def _rate(value: str) -> Decimal:
    try:
        return Decimal(value.replace(",", "."))
    except InvalidOperation:
        raise InvalidInput(
            _("The rate %(rate)s is not a positive number.") % {"rate": repr(value[:40])},
            code="invalid_rate",
            field="rate",
        ) from None


def _yes(value: str) -> bool:
    word = search_text(value)
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise InvalidInput(
        _("%(value)s is neither yes nor no. Write yes or no.") % {"value": repr(value[:40])},
        code="invalid_answer",
        field="may_email",
    )

"""The facts a condition may name, with the words a person reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

STAGES = ("reach", "acquire", "nurture", "retain", "advocate", "dormant")
NUMBER_OPS = ("eq", "ne", "gt", "gte", "lt", "lte")
TEXT_OPS = ("eq", "ne", "in")


class Kind(Enum):
    NUMBER = "number"
    MONEY = "money"
    SPAN = "span"  # seconds
    MOMENT = "moment"
    TEXT = "text"
    FLAG = "flag"


Phrase = Callable[[int], str]


@dataclass(frozen=True)
class Fact:
    """Moments carry whole phrases, because languages inflect differently: ``silent(n)`` "no order for n days",
    ``within(n)`` "an order in the last n days", ``ago(n)`` "last order n days ago"."""

    name: str
    kind: Kind
    label: Any
    values: tuple[str, ...] = ()
    silent: Phrase | None = None
    within: Phrase | None = None
    ago: Phrase | None = None
    never: Any = ""
    ever: Any = ""


def _no_order(n: int) -> str:
    return ngettext("no order for %(n)d day", "no order for %(n)d days", n) % {"n": n}


def _an_order(n: int) -> str:
    return ngettext("an order in the last %(n)d day", "an order in the last %(n)d days", n) % {"n": n}


def _order_ago(n: int) -> str:
    return ngettext("last order %(n)d day ago", "last order %(n)d days ago", n) % {"n": n}


def _first_long_ago(n: int) -> str:
    return ngettext("first order %(n)d day ago", "first order %(n)d days ago", n) % {"n": n}


def _first_within(n: int) -> str:
    return ngettext("first order in the last %(n)d day", "first order in the last %(n)d days", n) % {"n": n}


def _no_sign(n: int) -> str:
    return ngettext("no visit or click for %(n)d day", "no visit or click for %(n)d days", n) % {"n": n}


def _a_sign(n: int) -> str:
    return ngettext("a visit or click in the last %(n)d day", "a visit or click in the last %(n)d days", n) % {"n": n}


def _sign_ago(n: int) -> str:
    return ngettext("last visit or click %(n)d day ago", "last visit or click %(n)d days ago", n) % {"n": n}


def _no_answer(n: int) -> str:
    return ngettext("no answer to a survey for %(n)d day", "no answer to a survey for %(n)d days", n) % {"n": n}


def _an_answer(n: int) -> str:
    return ngettext(
        "an answer to a survey in the last %(n)d day", "an answer to a survey in the last %(n)d days", n
    ) % {"n": n}


def _answer_ago(n: int) -> str:
    return ngettext("last answer to a survey %(n)d day ago", "last answer to a survey %(n)d days ago", n) % {"n": n}


def _no_click(n: int) -> str:
    return ngettext("no click in a message for %(n)d day", "no click in a message for %(n)d days", n) % {"n": n}


def _a_click(n: int) -> str:
    return ngettext("a click in a message in the last %(n)d day", "a click in a message in the last %(n)d days", n) % {
        "n": n
    }


def _click_ago(n: int) -> str:
    return ngettext("last click in a message %(n)d day ago", "last click in a message %(n)d days ago", n) % {"n": n}


def _in_stage(n: int) -> str:
    return ngettext("%(n)d day in this stage", "%(n)d days in this stage", n) % {"n": n}


def _entered(n: int) -> str:
    return ngettext("entered this stage in the last %(n)d day", "entered this stage in the last %(n)d days", n) % {
        "n": n
    }


def _entered_ago(n: int) -> str:
    return ngettext("entered this stage %(n)d day ago", "entered this stage %(n)d days ago", n) % {"n": n}


def _moment(name: str, label: Any, phrases: tuple[Phrase, Phrase, Phrase], never: Any, ever: Any) -> Fact:
    return Fact(name, Kind.MOMENT, label, (), *phrases, never, ever)


FACTS: dict[str, Fact] = {
    fact.name: fact
    for fact in (
        Fact("orders", Kind.NUMBER, _("orders")),
        Fact("spend_minor", Kind.MONEY, _("spend")),
        Fact("gap_seconds", Kind.SPAN, _("usual gap between orders")),
        _moment(
            "first_order_at",
            _("first order"),
            (_first_long_ago, _first_within, _first_long_ago),
            _("no order yet"),
            _("has ordered"),
        ),
        _moment(
            "last_order_at", _("last order"), (_no_order, _an_order, _order_ago), _("no order yet"), _("has ordered")
        ),
        _moment(
            "engaged_at",
            _("last visit or click"),
            (_no_sign, _a_sign, _sign_ago),
            _("no visit or click yet"),
            _("has visited or clicked"),
        ),
        _moment(
            "answered_at",
            _("last answer to a survey"),
            (_no_answer, _an_answer, _answer_ago),
            _("no answer to a survey yet"),
            _("has answered a survey"),
        ),
        _moment(
            "clicked_at",
            _("last click in a message"),
            (_no_click, _a_click, _click_ago),
            _("no click in a message yet"),
            _("has clicked in a message"),
        ),
        _moment(
            "stage_since",
            _("time in this stage"),
            (_in_stage, _entered, _entered_ago),
            _("not placed yet"),
            _("placed"),
        ),
        Fact("may_email", Kind.FLAG, _("agreed to offers by e-mail")),
        Fact("recency", Kind.NUMBER, _("recency score")),
        Fact("frequency", Kind.NUMBER, _("frequency score")),
        Fact("monetary", Kind.NUMBER, _("monetary score")),
        Fact("points", Kind.NUMBER, _("points")),
        Fact("tier", Kind.TEXT, _("tier")),
        Fact("nps_score", Kind.NUMBER, _("last NPS answer")),
        Fact("open_cases", Kind.NUMBER, _("open cases")),
        Fact("stage", Kind.TEXT, _("stage"), STAGES),
    )
}

FIELDS: dict[str, Fact] = {
    field.name: field
    for field in (
        Fact("country", Kind.TEXT, _("country")),
        Fact("language", Kind.TEXT, _("language")),
        Fact("acquisition_source", Kind.TEXT, _("came from")),
    )
}
"""Texts of the customer's own row that a segment may name like a fact."""

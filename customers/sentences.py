"""The fourth interpreter: a condition as a sentence, in the language that is active.

``say`` states the condition ("no order for 180 days or more"); ``because`` states what made it true of one customer
("no order for 214 days (limit 180)"). Facts are stored as values and become words only here, at view time.
"""

from __future__ import annotations

from typing import Any

from babel import Locale
from babel.numbers import format_currency, format_decimal
from django.conf import settings
from django.utils.translation import get_language, ngettext, pgettext
from django.utils.translation import gettext as _

from customers.conditions import (
    All,
    Any_,
    Compare,
    Condition,
    Days,
    InSegment,
    Listed,
    Not,
    Since,
    Snapshot,
    Tagged,
    Times,
    Trait,
    count_of,
    holds,
)
from customers.vocabulary import FACTS, FIELDS, Fact, Kind
from lifecycle_crm.lib.moments import DAY
from lifecycle_crm.lib.money import from_minor


def say(condition: Condition) -> str:
    """The condition in words."""
    match condition:
        case All(parts):
            return _join([_inner(part) for part in parts], pgettext("between conditions", "and")) or _("everybody")
        case Any_(parts):
            return _join([_inner(part) for part in parts], pgettext("between conditions", "or")) or _("nobody")
        case Not(Since(fact, is_past, days)):
            # A comparison with a moment that never was is false, so its negation includes "never".
            return _since(fact, not is_past, days)
        case Not(InSegment(name, _part)):
            return _("not in the segment “%(name)s”") % {"name": name}
        case Not(Tagged(tag)):
            return _("without the tag “%(tag)s”") % {"tag": tag}
        case Not(part):
            return _("not (%(condition)s)") % {"condition": say(part)}
        case Compare():
            return _compare(condition)
        case Since(fact, is_past, days):
            return _since(fact, is_past, days)
        case Times():
            return _times(condition)
        case Trait():
            return _compare(condition)
        case Tagged(tag):
            return _("with the tag “%(tag)s”") % {"tag": tag}
        case Listed():
            return _("on the list")
        case InSegment(name, _part):
            return _("in the segment “%(name)s”") % {"name": name}
    raise TypeError(condition)


def because(condition: Condition, snapshot: Snapshot, as_of: int) -> str:
    """Why the condition held of this snapshot at that second, value by value with its limit.

    For a condition that did not hold, what stood against it.
    """
    return _join(
        _because(condition, snapshot, as_of, holds(condition, snapshot, as_of)), pgettext("between reasons", "and")
    )


def _because(condition: Condition, snapshot: Snapshot, as_of: int, truth: bool) -> list[str]:
    match condition:
        case All(parts) | Any_(parts):
            # Only the parts that decided: all of a conjunction that held, those that stood against one that did not.
            told = [
                p
                for part in parts
                if holds(part, snapshot, as_of) is truth
                for p in _because(part, snapshot, as_of, truth)
            ]
            return list(dict.fromkeys(told))
        case Not(part):
            return _because(part, snapshot, as_of, not truth)
        case Compare(fact, op, value):
            return [_value(fact, op, value, snapshot.get(fact))]
        case Since(fact, _is_past, days):
            moment = snapshot.get(fact)
            known = FACTS[fact]
            if moment is None:
                return [str(known.never)]
            limit = days.seconds(snapshot.get("gap_seconds"))
            is_long = moment + limit <= as_of
            phrase = known.silent if is_long else known.ago
            assert phrase is not None
            return [
                _("%(phrase)s (limit %(days)s)")
                % {"phrase": phrase((as_of - moment) // DAY), "days": _number(limit // DAY)}
            ]
        case Times():
            count = count_of(condition, snapshot, as_of)
            return [
                _("%(phrase)s (limit %(limit)s)")
                % {"phrase": _happened(condition, count), "limit": _number(condition.times)}
            ]
        case Trait(field, op, value):
            return [_value(field, op, value, snapshot.get(field))]
        case Tagged(tag):
            is_so = bool(snapshot.get(condition.key))
            return [(_("with the tag “%(tag)s”") if is_so else _("without the tag “%(tag)s”")) % {"tag": tag}]
        case Listed():
            return [_("on the list") if snapshot.get(condition.key) else _("not on the list")]
        case InSegment(name, part):
            joined = _join(_because(part, snapshot, as_of, truth), pgettext("between reasons", "and"))
            is_in = _("in the segment “%(name)s”") if truth else _("not in the segment “%(name)s”")
            return [f"{is_in % {'name': name}} ({joined})" if joined else is_in % {"name": name}]
    raise TypeError(condition)


def _inner(condition: Condition) -> str:
    text = say(condition)
    return f"({text})" if isinstance(condition, All | Any_) and len(condition.parts) > 1 else text


def _join(parts: list[str], word: str) -> str:
    if len(parts) < 3:
        return f" {word} ".join(parts)
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def _number(value: int) -> str:
    return str(format_decimal(value, locale=_locale()))


def _locale() -> str:
    return (get_language() or "en").split("-")[0]


def _since(fact: str, is_past: bool, days: Days) -> str:
    known = FACTS[fact]
    if days.gaps_percent:
        values = {
            "fact": known.label,
            "gaps": format_decimal(days.gaps_percent / 100, locale=_locale()),
            "low": _number(days.at_least),
            "high": _number(days.at_most),
        }
        if is_past:
            return _("%(fact)s longer ago than %(gaps)s usual gaps (%(low)s to %(high)s days)") % values
        return _("%(fact)s within %(gaps)s usual gaps (%(low)s to %(high)s days)") % values
    phrase = known.silent if is_past else known.within
    assert phrase is not None
    if is_past:
        return _("%(phrase)s or more") % {"phrase": phrase(days.at_most)}
    return phrase(days.at_most)


def _known(name: str) -> Fact:
    return FACTS[name] if name in FACTS else FIELDS[name]


def _show(fact: str, value: Any) -> str:
    kind = _known(fact).kind
    if value is None or value == "":
        return _("none")
    if kind is Kind.MONEY:
        return str(format_currency(from_minor(value, settings.SHOP_CURRENCY), settings.SHOP_CURRENCY, locale=_locale()))
    if kind is Kind.SPAN:
        days = value // DAY
        return ngettext("%(n)d day", "%(n)d days", days) % {"n": days}
    if kind is Kind.FLAG:
        return _("yes") if value else _("no")
    if fact == "stage":
        return pgettext("stage", str(value).capitalize())
    if fact == "country":
        return str(Locale.parse(_locale()).territories.get(value, value))
    if fact == "language":
        return str(Locale.parse(_locale()).languages.get(value, value))
    return _number(value) if kind is Kind.NUMBER else str(value)


def _bound(fact: str, op: str, value: Any) -> str:
    if op == "in":
        return _join([_show(fact, v) for v in value], pgettext("between conditions", "or"))
    shown = _show(fact, value)
    match op:
        case "gte":
            return _("at least %(value)s") % {"value": shown}
        case "gt":
            return _("more than %(value)s") % {"value": shown}
        case "lte":
            return _("at most %(value)s") % {"value": shown}
        case "lt":
            return _("fewer than %(value)s") % {"value": shown}
        case "ne":
            return _("not %(value)s") % {"value": shown}
    return shown


def _compare(atom: Compare | Trait) -> str:
    name = atom.fact if isinstance(atom, Compare) else atom.field
    fact = _known(name)
    if atom.op == "is_set":
        return str(fact.ever) or _("%(fact)s known") % {"fact": fact.label}
    if atom.op == "is_not_set":
        return str(fact.never) or _("%(fact)s not known") % {"fact": fact.label}
    return _("%(fact)s: %(bound)s") % {"fact": fact.label, "bound": _bound(name, atom.op, atom.value)}


def _value(name: str, op: str, value: Any, actual: Any) -> str:
    fact = _known(name)
    if fact.kind is Kind.MOMENT:
        return str(fact.never if actual in (None, "") else fact.ever)
    if op in ("is_set", "is_not_set"):
        return _("%(fact)s: %(value)s") % {"fact": fact.label, "value": _show(name, actual)}
    if fact.kind in (Kind.FLAG, Kind.TEXT) or op == "eq":
        return _("%(fact)s: %(value)s") % {"fact": fact.label, "value": _show(name, actual)}
    return _("%(fact)s: %(value)s (%(bound)s)") % {
        "fact": fact.label,
        "value": _show(name, actual),
        "bound": _bound(name, op, value),
    }


def _happened(atom: Times, n: int) -> str:
    what = {"name": atom.name.replace("_", " "), "n": n}
    if atom.kind == "did":
        text = ngettext("did “%(name)s” %(n)d time", "did “%(name)s” %(n)d times", n) % what
    else:
        text = ngettext("bought “%(name)s” %(n)d time", "bought “%(name)s” %(n)d times", n) % what
    return _in_window(text, atom.days)


def _times(atom: Times) -> str:
    what = {"name": atom.name.replace("_", " "), "n": atom.times}
    if atom.kind == "did" and atom.is_enough:
        text = ngettext("did “%(name)s” at least %(n)d time", "did “%(name)s” at least %(n)d times", atom.times)
    elif atom.kind == "did":
        text = ngettext("did “%(name)s” fewer than %(n)d time", "did “%(name)s” fewer than %(n)d times", atom.times)
    elif atom.is_enough:
        text = ngettext("bought “%(name)s” at least %(n)d time", "bought “%(name)s” at least %(n)d times", atom.times)
    else:
        text = ngettext(
            "bought “%(name)s” fewer than %(n)d time", "bought “%(name)s” fewer than %(n)d times", atom.times
        )
    return _in_window(text % what, atom.days)


def _in_window(text: str, days: int | None) -> str:
    if days is None:
        return text
    return ngettext("%(what)s in the last %(n)d day", "%(what)s in the last %(n)d days", days) % {
        "what": text,
        "n": days,
    }

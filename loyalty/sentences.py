"""Rules and what they gave, as sentences in the reader's language. What a person named is said by its name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from lifecycle_crm.lib import clock
from lifecycle_crm.templatetags.crm import day, money, num, stage_name
from loyalty.models import EarningRule, Ladder, Programme, Tier

Kind = EarningRule.Kind


def listed(words: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return _("%(first)s and %(last)s") % {"first": ", ".join(words[:-1]), "last": words[-1]}


def points(number: int) -> str:
    return ngettext("%(number)s point", "%(number)s points", number) % {"number": num(number)}


def times(percent: int) -> str:
    """200 as "2", 150 as "1.5", in the reader's writing."""
    return num(percent // 100) if percent % 100 == 0 else num(percent / 100, 2 if percent % 10 else 1)


# --- A rule -----------------------------------------------------------------------------------------------------------


def rule(one: EarningRule, tiers: Mapping[str, str] | None = None) -> str:
    """A rule in plain words, such as "1 point for each SEK 10.00 of an order, on Sundays, at most 100 points a month."

    ``tiers`` are names by key; without them they are read.
    """
    return _sentence(one, _what(one), tiers)


def for_customers(one: EarningRule, tiers: Mapping[str, str], goods: Mapping[str, str]) -> str:
    """The same for those who earn by it: events are said by the name of the rule, which the shop wrote for them, instead of
    by those that our systems use, and a product by its name (``goods`` by SKU)."""
    values = {
        "name": one.name, "points": points(one.points), "property": one.property, "per": num(one.per or 1),
        "times": times(one.percent),
    }  # fmt: skip
    match one.kind:
        case Kind.EVENT if one.property and (one.per or 1) > 1:
            what = _("%(name)s: %(points)s for each %(per)s %(property)s") % values
        case Kind.EVENT if one.property:
            what = _("%(name)s: %(points)s for each %(property)s") % values
        case Kind.EVENT:
            what = _("%(name)s: %(points)s each time") % values
        case Kind.MULTIPLIER if one.subject:
            what = _("%(name)s: %(times)s times the points") % values
        case _:
            what = _what(one, goods.get(one.subject, ""))
    return _sentence(one, what, tiers)


def _sentence(one: EarningRule, what: str, tiers: Mapping[str, str] | None) -> str:
    parts = [what]
    parts += [_when(one)] if (one.weekdays or one.dates) else []
    parts += _for_whom(one, tiers)
    parts += [_limit(one)] if one.limit_per else []
    parts += _from_until(one)
    text = ", ".join(part for part in parts if part)
    return f"{text[:1].upper()}{text[1:]}."


def _what(one: EarningRule, product: str = "") -> str:
    values: dict[str, Any] = {
        "points": points(one.points),
        "subject": (one.kind == Kind.PRODUCT and product) or one.subject,
        "property": one.property,
        "money": money(one.per or 0, settings.SHOP_CURRENCY),
        "per": num(one.per or 1),
    }
    match one.kind:
        case Kind.AMOUNT:
            return _("%(points)s for each %(money)s of an order") % values
        case Kind.ORDER:
            return _("%(points)s for each order") % values
        case Kind.PRODUCT if one.per:
            return _("%(points)s for each %(money)s spent on the product %(subject)s") % values
        case Kind.PRODUCT:
            return _("%(points)s for each piece of the product %(subject)s") % values
        case Kind.CATEGORY if one.per:
            return _("%(points)s for each %(money)s spent on “%(subject)s”") % values
        case Kind.CATEGORY:
            return _("%(points)s for each piece of “%(subject)s”") % values
        case Kind.EVENT if one.property and (one.per or 1) > 1:
            return _("%(points)s for each %(per)s of “%(property)s” of an event “%(subject)s”") % values
        case Kind.EVENT if one.property:
            return _("%(points)s for each “%(property)s” of an event “%(subject)s”") % values
        case Kind.EVENT:
            return _("%(points)s for each event “%(subject)s”") % values
        case Kind.FIRST_ORDER:
            return _("%(points)s for the first order") % values
        case Kind.BIRTHDAY:
            return _("%(points)s on a birthday") % values
        case Kind.REFERRAL:
            return _("%(points)s for each referral") % values
        case Kind.REVIEW:
            return _("%(points)s for each review") % values
        case Kind.SURVEY:
            return _("%(points)s for each answered survey") % values
        case Kind.STAGE:
            return _("%(points)s for entering the stage %(stage)s") % {**values, "stage": stage_name(one.subject)}
    much = {"times": times(one.percent), "subject": one.subject}
    if one.subject:
        return _("%(times)s times the points of events “%(subject)s”") % much
    return _("%(times)s times the points of orders") % much


def _when(one: EarningRule) -> str:
    words = [str(WEEKDAYS[int(number) - 1]) for number in sorted(one.weekdays)]
    for text in one.dates:
        whole = date.fromisoformat(text if len(text) == 10 else f"2024-{text}")
        words.append(day(whole) if len(text) == 10 else _("%(day)s of every year") % {"day": _without_year(whole)})
    return _("on %(days)s") % {"days": listed(words)}


def _without_year(value: date) -> str:
    from babel.dates import format_skeleton

    from lifecycle_crm.templatetags.crm import locale

    return str(format_skeleton("MMMd", value, locale=locale()))


def _for_whom(one: EarningRule, tiers: Mapping[str, str] | None) -> list[str]:
    words: list[str] = []
    if one.segment is not None:
        words.append(_("for people in “%(segment)s”") % {"segment": one.segment.name})
    if one.tiers:
        known = tiers
        if known is None:
            known = dict(Tier.objects.filter(programme=one.programme_id).values_list("key", "name"))
        names = [known.get(key, key) for key in one.tiers]
        words.append(
            ngettext("for the tier %(names)s", "for the tiers %(names)s", len(names)) % {"names": listed(names)}
        )
    if one.stages:
        names = [stage_name(stage) for stage in one.stages]
        words.append(
            ngettext("for the stage %(names)s", "for the stages %(names)s", len(names)) % {"names": listed(names)}
        )
    if one.channels:
        words.append(_("for orders from %(names)s") % {"names": listed(one.channels)})
    return words


def _limit(one: EarningRule) -> str:
    most: list[str] = []
    if one.limit_points is not None:
        most.append(points(one.limit_points))
    if one.limit_times is not None:
        most.append(ngettext("%(n)s time", "%(n)s times", one.limit_times) % {"n": num(one.limit_times)})
    return _("at most %(most)s %(period)s") % {"most": listed(most), "period": one.get_limit_per_display()}


def _from_until(one: EarningRule) -> list[str]:
    words: list[str] = []
    if one.starts_at is not None and one.starts_at > clock.now():
        words.append(_("from %(day)s") % {"day": day(one.starts_at)})
    if one.ends_at is not None:
        words.append(_("until %(day)s") % {"day": day(one.ends_at - timedelta(seconds=1))})
    return words


def programme(one: Programme) -> list[str]:
    """How a programme works, a sentence each: what waits, what expires, what joining costs."""
    said: list[str] = []
    if one.kind == Programme.Kind.POINTS:
        if one.pending_days:
            said.append(
                ngettext(
                    "Points can be used %(n)s day after they were earned.",
                    "Points can be used %(n)s days after they were earned.",
                    one.pending_days,
                )
                % {"n": num(one.pending_days)}
            )
        else:
            said.append(_("Points can be used at once."))
        if one.expiry_months is None:
            said.append(_("Points never expire."))
        else:
            said.append(
                ngettext(
                    "Points expire %(n)s month after they were earned, at the end of that day.",
                    "Points expire %(n)s months after they were earned, at the end of that day.",
                    one.expiry_months,
                )
                % {"n": num(one.expiry_months)}
            )
        said.append(_("A refund takes back what its order gave, in proportion."))
    if one.joining == Programme.Joining.ASKED:
        if one.fee_minor and one.term_months:
            said.append(
                ngettext(
                    "It costs %(fee)s for %(n)s month.", "It costs %(fee)s for %(n)s months.", one.term_months
                )
                % {"fee": money(one.fee_minor, settings.SHOP_CURRENCY), "n": num(one.term_months)}
            )  # fmt: skip
        elif one.fee_minor:
            said.append(_("It costs %(fee)s once.") % {"fee": money(one.fee_minor, settings.SHOP_CURRENCY)})
        else:
            said.append(_("It is free to join."))
    return said


def ladder(one: Ladder) -> list[str]:
    """How tiers are decided, a sentence each."""
    what = {
        Ladder.Measure.POINTS: _("points earned"),
        Ladder.Measure.SPEND: _("money spent"),
        Ladder.Measure.ORDERS: _("orders"),
    }[Ladder.Measure(one.measure)]
    if one.window == Ladder.Window.ROLLING:
        first = ngettext(
            "Tiers count %(what)s in the last %(n)s month.", "Tiers count %(what)s in the last %(n)s months.",
            one.window_months,
        ) % {"what": what, "n": num(one.window_months)}  # fmt: skip
    elif one.window == Ladder.Window.CALENDAR:
        first = _("Tiers count %(what)s in the calendar year.") % {"what": what}
    else:
        first = _("Tiers count %(what)s since the beginning.") % {"what": what}
    said = [first, _("A tier is reached at once.")]
    if one.window != Ladder.Window.LIFETIME:
        if one.grace_days:
            said.append(
                ngettext(
                    "Who has too little keeps the tier for %(n)s day more.",
                    "Who has too little keeps the tier for %(n)s days more.",
                    one.grace_days,
                )
                % {"n": num(one.grace_days)}
            )
        said.append(
            _("Then it goes down one tier at a time.")
            if one.step_down == Ladder.StepDown.ONE
            else _("Then it goes down to the tier they still reach.")
        )
    return said


# --- What a rule gave -------------------------------------------------------------------------------------------------


def earned(told: Mapping[str, Any]) -> str:
    """The lines of an earning: "2 × 49 points: double points on Sundays. 49 points: 1 point for each $1.00 of $49.95." """
    currency = told.get("currency", settings.SHOP_CURRENCY)
    lines = list(told["lines"])
    lines.sort(key=lambda line: line["kind"] != Kind.MULTIPLIER)
    return " ".join(f"{line_of(line, currency)}." for line in lines)


def line_of(line: Mapping[str, Any], currency: str) -> str:
    """One line: what it gave, and by which rule and number."""
    given = points(line["points"])
    if line["kind"] == Kind.MULTIPLIER:
        if "asked" not in line:
            return _("%(times)s × %(of)s: %(name)s") % {
                "times": times(line["percent"]), "of": points(line["of"]), "name": line["name"],
            }  # fmt: skip
        text = _("%(points)s more: %(name)s") % {"points": given, "name": line["name"]}
    elif line["kind"] == Kind.AMOUNT:
        text = _("%(points)s: %(each)s for each %(per)s of %(of)s") % {
            "points": given,
            "each": points(line["each"]),
            "per": money(line.get("per", 1), currency),
            "of": money(line["of"], currency),
        }
    elif line["of"] != 1 and "per" not in line:
        text = _("%(of)s × %(each)s: %(name)s") % {
            "of": num(line["of"]), "each": points(line["each"]), "name": line["name"],
        }  # fmt: skip
    else:
        text = _("%(points)s: %(name)s") % {"points": given, "name": line["name"]}
    if "asked" in line:
        text = _("%(text)s (the limit is reached)") % {"text": text}
    return text

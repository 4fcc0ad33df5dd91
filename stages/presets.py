"""The rules a shop starts with. Numbers come from the shop's own rhythm, are stored in the rule set and shown as numbers.

``rhythm`` is the median over repeat buyers of their mean gap between orders, in days. A customer is quiet when nothing was
heard for 2.5 of their own usual gaps; who has ordered once has no gap yet and gets the longest wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from customers import facts
from customers.models import CustomerFacts
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.models import Note
from lifecycle_crm.lib.moments import DAY, epoch
from lifecycle_crm.templatetags.crm import num
from stages.models import RuleSet

QUIET_GAPS = 2.5
FLOOR_DAYS = 45
"""Nobody is called quiet sooner: a delivery, a holiday and a pay day fit in."""
CEILING_DAYS = 365
FALLBACK_RHYTHM = 60
ENOUGH_REPEATERS = 30
"""Repeat buyers below which their median gap says little."""
NOTE = "default_rules"


def rhythm_days() -> tuple[int, int]:
    """The shop's median gap between orders in days, and the number of repeat buyers it was taken from.

    Read from the orders themselves, so that it is known before the first night. Below 30 repeat buyers the median says
    little; then the rhythm is 60 days.
    """
    counted = "is_counted" if connection.vendor == "postgresql" else "is_counted = 1"
    span = f"{epoch('max(placed_at)')} - {epoch('min(placed_at)')}"
    gaps = (
        f"SELECT ({span}) / (count(*) - 1) AS gap FROM customers_order WHERE {counted} "
        "GROUP BY customer_id HAVING count(*) > 1"
    )
    count = batches.rows(f"SELECT count(*) FROM ({gaps}) g WHERE gap > 0")[0][0]
    if count < ENOUGH_REPEATERS:
        return FALLBACK_RHYTHM, count
    median = batches.rows(f"SELECT gap FROM ({gaps}) g WHERE gap > 0 ORDER BY gap LIMIT 1 OFFSET %s", [count // 2])[0][
        0
    ]
    return max(1, round(median / DAY)), count


@dataclass(frozen=True)
class Preset:
    """A kind of shop: after how many usual gaps a customer is quiet, and between which multiples of the shop's rhythm.

    ``floor`` and ``ceiling`` (days) hold whatever the rhythm says.
    """

    key: str
    name: str
    text: str
    gaps: float
    low_times: float
    high_times: float
    floor: int
    ceiling: int


PRESETS = (
    Preset(
        "fast",
        _("Fast-moving goods"),
        _("Groceries, coffee, pet food: people come back often, and silence means something after weeks."),
        *(2, 1, 2, 21, 120),
    ),
    Preset(
        "seasons",
        _("Fashion and home"),
        _("Clothes, furniture, books: people come back by season, and a quiet quarter is no goodbye."),
        *(QUIET_GAPS, 1.5, 3, FLOOR_DAYS, CEILING_DAYS),
    ),
    Preset(
        "regular",
        _("Subscription-like"),
        _("Refills and boxes on a fixed rhythm: one missed turn is a sign, two are a goodbye."),
        *(1.5, 1.2, 1.8, 35, 150),
    ),
)


def preset(key: str) -> Preset | None:
    return next((one for one in PRESETS if one.key == key), None)


def default_rules(rhythm: int, kind: Preset = PRESETS[1]) -> list[dict[str, Any]]:
    """The rule set of a kind of shop with this rhythm in days; without a kind the default one."""
    low = min(max(kind.floor, round(kind.low_times * rhythm)), kind.ceiling)
    high = min(max(round(kind.high_times * rhythm), low + 30), kind.ceiling)
    quiet: dict[str, Any] = {"gaps": kind.gaps, "at_least": low, "at_most": high}
    heard = {"fact": "engaged_at", "op": "days_since_lt", "value": low}
    clicked = {"fact": "clicked_at", "op": "days_since_lt", "value": low}
    answered = {"fact": "answered_at", "op": "days_since_lt", "value": low}
    evidence = {
        "any": [
            {
                "all": [
                    {"fact": "nps_score", "op": "gte", "value": 9},
                    {"fact": "answered_at", "op": "days_since_lt", "value": 365},
                ]
            },
            {"did": "referral", "op": "gte", "times": 1, "days": 365},
            {"did": "review", "op": "gte", "times": 1, "days": 365},
        ]
    }
    return [
        {
            "key": "goes_quiet",
            "name": _("Goes quiet"),
            "to": "dormant",
            "when": {
                "all": [
                    {"fact": "last_order_at", "op": "days_since_gte", "value": quiet},
                    {"not": heard},
                    {"not": clicked},
                    {"not": answered},
                ]
            },
        },
        {
            "key": "interest_fades",
            "name": _("Interest fades"),
            "to": "dormant",
            "when": {
                "all": [
                    {"fact": "orders", "op": "eq", "value": 0},
                    {"fact": "engaged_at", "op": "days_since_gte", "value": high},
                ]
            },
        },
        {
            "key": "speaks_for_us",
            "name": _("Speaks for us"),
            "to": "advocate",
            "when": {"all": [{"fact": "orders", "op": "gte", "value": 2}, evidence]},
        },
        {
            "key": "still_speaks_for_us",
            "name": _("Still speaks for us"),
            "to": "advocate",
            "from": ["advocate"],
            "when": {
                "all": [
                    {"fact": "stage_since", "op": "days_since_lt", "value": 90},
                    {
                        "any": [
                            {"fact": "nps_score", "op": "is_not_set"},
                            {"fact": "nps_score", "op": "gte", "value": 7},
                        ]
                    },
                ]
            },
        },
        {
            "key": "buys_on_rhythm",
            "name": _("Buys on their rhythm"),
            "to": "retain",
            "when": {"fact": "orders", "op": "gte", "value": 2},
        },
        {
            "key": "has_started",
            "name": _("Has started"),
            "to": "nurture",
            "when": {"fact": "orders", "op": "gte", "value": 1},
        },
        {
            "key": "shows_interest",
            "name": _("Shows interest"),
            "to": "acquire",
            "when": {"fact": "engaged_at", "op": "is_set"},
        },
        {"key": "is_known", "name": _("Is known"), "to": "reach", "when": {"all": []}},
    ]


def rhythm_note(rhythm: int, repeaters: int) -> str:
    """Where the days of the rules come from, in the language of whoever asks; a night speaks the shop's."""
    return gettext("Usual gap between orders: %(rhythm)d days, from %(n)s repeat buyers.") % {
        "rhythm": rhythm,
        "n": num(repeaters),
    }


def install(*, renew: bool = False) -> RuleSet:
    """The published rule set. A shop without one gets the default rules.

    With ``renew`` (the night asks for it, since it reads all orders), default rules that were installed before the shop's
    rhythm could be known (fewer than 30 repeat buyers), and that nobody has touched since, are renewed once it can: as
    a new version, quietly.
    """
    try:
        with transaction.atomic():
            return _install(renew)
    except IntegrityError:  # another process did the same at the same time
        return RuleSet.objects.get(state=RuleSet.State.PUBLISHED)


def _install(renew: bool) -> RuleSet:
    current = RuleSet.objects.filter(state=RuleSet.State.PUBLISHED).first()
    if current is not None:
        made = Note.objects.filter(name=NOTE).values_list("value", flat=True).first() if renew else None
        if made is None or made["version"] != current.version or made["repeaters"] >= ENOUGH_REPEATERS:
            return current
    rhythm, repeaters = rhythm_days()
    if current is not None:
        if repeaters < ENOUGH_REPEATERS:
            return current
        RuleSet.objects.filter(pk=current.pk).update(state=RuleSet.State.RETIRED)
        CustomerFacts.objects.update(next_review_at=facts.AT_ONCE, is_quiet=True)
    version = (RuleSet.objects.order_by("-version").values_list("version", flat=True).first() or 0) + 1
    Note.objects.update_or_create(
        name=NOTE, defaults={"value": {"version": version, "rhythm": rhythm, "repeaters": repeaters}}
    )
    return RuleSet.objects.create(
        version=version,
        name="Default rules",
        state=RuleSet.State.PUBLISHED,
        rules=default_rules(rhythm),
        note=rhythm_note(rhythm, repeaters),
        published_at=clock.now(),
    )

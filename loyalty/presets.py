"""Programmes that exist in the world, ready to install: a coffee chain's, an airline's, a paid membership, a plain card.

A preset is a programme with its rules, tiers and rewards. Once installed it is the shop's own: everything in it can be
changed, and the preset is not asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import translation
from django.utils.translation import gettext, gettext_lazy
from django.utils.translation import gettext as _

from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.errors import Conflict, NotFound
from lifecycle_crm.lib.money import digits
from loyalty import programme as programmes
from loyalty import rewards, rules, tiers
from loyalty.models import EarningRule, Ladder, Programme, Reward

Kind = EarningRule.Kind


class UnknownPreset(NotFound):
    code = "unknown_preset"


@dataclass(frozen=True)
class Preset:
    """``rules``, ``ladder``, ``steps`` and ``rewards`` are what the verbs take; names are translated when it is installed.

    An amount in ``per``, ``fee`` and ``cost`` is in whole units of the shop's currency.
    """

    key: str
    name: Any
    about: Any
    programme: dict[str, Any]
    rules: Sequence[dict[str, Any]] = ()
    ladder: dict[str, Any] = field(default_factory=dict)
    steps: Sequence[tuple[str, Any, int, Sequence[Any], Sequence[str]]] = ()
    rewards: Sequence[dict[str, Any]] = ()

    @property
    def is_installed(self) -> bool:
        return Programme.objects.filter(key=self.key).exists()


PRESETS: tuple[Preset, ...] = (
    Preset(
        key="coffee",
        name=gettext_lazy("Coffee club"),
        about=gettext_lazy(
            "Points with every purchase, double points on Mondays, a treat on the birthday, free products for points."
        ),
        programme={
            "kind": Programme.Kind.POINTS,
            "joining": Programme.Joining.ASKED,
            "pending_days": 0,
            "expiry_months": 6,
            "value_minor_per_100": 200,
            "position": 200,
        },
        rules=(
            {
                "kind": Kind.AMOUNT,
                "key": "purchase",
                "name": gettext_lazy("Points with every purchase"),
                "points": 2,
                "per": 1,
            },
            {
                "kind": Kind.ORDER,
                "key": "visit",
                "name": gettext_lazy("For coming by"),
                "points": 5,
                "limit_times": 1,
                "limit_per": EarningRule.Per.DAY,
            },
            {"kind": Kind.FIRST_ORDER, "key": "welcome", "name": gettext_lazy("Welcome"), "points": 50},
            {"kind": Kind.BIRTHDAY, "key": "birthday", "name": gettext_lazy("Happy birthday"), "points": 75},
            {"kind": Kind.REFERRAL, "key": "friend", "name": gettext_lazy("You brought a friend"), "points": 100},
            {
                "kind": Kind.MULTIPLIER,
                "key": "double-mondays",
                "name": gettext_lazy("double points on Mondays"),
                "percent": 200,
                "weekdays": "1",
            },
        ),
        ladder={"measure": Ladder.Measure.POINTS, "window": Ladder.Window.ROLLING, "window_months": 6},
        steps=(
            ("green", gettext_lazy("Green"), 150, (gettext_lazy("A free drink on the birthday"),), ()),
            (
                "gold",
                gettext_lazy("Gold"),
                600,
                (gettext_lazy("Free extras in every drink"), gettext_lazy("Early access to new products")),
                (Reward.Perk.DELIVERY,),
            ),
        ),
        rewards=(
            {"name": gettext_lazy("A free drink"), "kind": Reward.Kind.PRODUCT, "points": 150, "cost": 2},
            {
                "name": gettext_lazy("A bag of beans"),
                "kind": Reward.Kind.PRODUCT,
                "points": 500,
                "cost": 8,
                "prices": {"gold": 400},
            },
        ),
    ),
    Preset(
        key="airline",
        name=gettext_lazy("Frequent flyer"),
        about=gettext_lazy(
            "A point for each kilometre of a flight, tiers by the points of a calendar year, upgrades for points."
        ),
        programme={
            "kind": Programme.Kind.POINTS,
            "joining": Programme.Joining.ASKED,
            "pending_days": 3,
            "expiry_months": 36,
            "value_minor_per_100": 60,
            "position": 210,
        },
        rules=(
            {
                "kind": Kind.EVENT,
                "key": "distance",
                "name": gettext_lazy("Kilometres flown"),
                "points": 1,
                "subject": "flight",
                "property": "km",
            },
            {
                "kind": Kind.EVENT,
                "key": "segment",
                "name": gettext_lazy("For each flight"),
                "points": 250,
                "subject": "flight",
            },
            {
                "kind": Kind.MULTIPLIER,
                "key": "silver",
                "name": gettext_lazy("25 % more for Silver"),
                "percent": 125,
                "subject": "flight",
                "tiers": ["silver"],
            },
            {
                "kind": Kind.MULTIPLIER,
                "key": "gold",
                "name": gettext_lazy("half as much again for Gold"),
                "percent": 150,
                "subject": "flight",
                "tiers": ["gold"],
            },
            {
                "kind": Kind.MULTIPLIER,
                "key": "platinum",
                "name": gettext_lazy("double points for Platinum"),
                "percent": 200,
                "subject": "flight",
                "tiers": ["platinum"],
            },
        ),
        ladder={
            "measure": Ladder.Measure.POINTS,
            "window": Ladder.Window.CALENDAR,
            "grace_days": 365,
            "step_down": Ladder.StepDown.ONE,
        },
        steps=(
            ("silver", gettext_lazy("Silver"), 10_000, (gettext_lazy("Free choice of seats"),), ()),
            (
                "gold",
                gettext_lazy("Gold"),
                25_000,
                (gettext_lazy("Lounge at every airport"), gettext_lazy("One bag more")),
                (Reward.Perk.PRIORITY,),
            ),
            (
                "platinum",
                gettext_lazy("Platinum"),
                60_000,
                (gettext_lazy("Two upgrades a year"), gettext_lazy("A seat on every flight")),
                (Reward.Perk.PRIORITY, Reward.Perk.UPGRADE),
            ),
        ),
        rewards=(
            {
                "name": gettext_lazy("Upgrade to the next class"),
                "kind": Reward.Kind.PERK,
                "perk": Reward.Perk.UPGRADE,
                "points": 12_000,
                "cost": 90,
                "prices": {"platinum": 6_000},
            },
            {
                "name": gettext_lazy("One bag more"),
                "kind": Reward.Kind.PERK,
                "perk": Reward.Perk.PRIORITY,
                "points": 4_000,
                "cost": 15,
            },
        ),
    ),
    Preset(
        key="plus",
        name=gettext_lazy("Plus membership"),
        about=gettext_lazy("A yearly fee for free delivery, priority service and extended warranty."),
        programme={"kind": Programme.Kind.MEMBERSHIP, "fee": 49, "term_months": 12, "position": 220},
        rewards=(
            {
                "name": gettext_lazy("Free delivery"),
                "kind": Reward.Kind.PERK,
                "perk": Reward.Perk.DELIVERY,
                "points": 0,
                "cost": 4,
            },
            {
                "name": gettext_lazy("Priority service"),
                "kind": Reward.Kind.PERK,
                "perk": Reward.Perk.PRIORITY,
                "points": 0,
            },
            {
                "name": gettext_lazy("Extended warranty"),
                "kind": Reward.Kind.PERK,
                "perk": Reward.Perk.WARRANTY,
                "points": 0,
                "cost": 6,
            },
        ),
    ),
    Preset(
        key="card",
        name=gettext_lazy("Customer card"),
        about=gettext_lazy("A free card with a number: the shop knows who is at the counter, and regulars are seen."),
        programme={"kind": Programme.Kind.CARD, "position": 230},
        ladder={"measure": Ladder.Measure.ORDERS, "window": Ladder.Window.ROLLING, "window_months": 12},
        steps=(("regular", gettext_lazy("Regular"), 4, (), (Reward.Perk.PACKAGING,)),),
    ),
)


def said(text: str) -> str:
    """A text that a preset brought, in the language of the reader; any other is the shop's own and stays as it is."""
    source = _sources().get(text)
    return gettext(source) if source else text


@lru_cache(maxsize=1)
def _sources() -> dict[str, str]:
    """Every text of the presets, in every language it may have been installed in, with its source."""
    texts: list[Any] = []
    for one in PRESETS:
        texts += [one.name, one.about, *(rule["name"] for rule in one.rules), *(offer["name"] for offer in one.rewards)]
        texts += [text for _key, name, _from, benefits, _perks in one.steps for text in (name, *benefits)]
    with translation.override(None):
        sources = [str(text) for text in texts]
    found = dict(zip(sources, sources, strict=True))
    for code, _name in settings.LANGUAGES:
        with translation.override(code):
            for text, source in zip(texts, sources, strict=True):
                found.setdefault(str(text), source)
    return found


def get(key: str) -> Preset:
    """The preset of this key. Raises ``UnknownPreset``."""
    found = next((one for one in PRESETS if one.key == key), None)
    if found is None:
        raise UnknownPreset(
            _("There is no preset “%(key)s”. Use one of: %(keys)s.")
            % {"key": key, "keys": ", ".join(one.key for one in PRESETS)}
        )
    return found


def install(*, preset: Preset, actor: User | None = None, since_ever: bool = False) -> Programme:
    """Make the programme with its tiers, rules and rewards, all or nothing. Installed once; stop it to be rid of it.

    Rules hold from now on; ``since_ever`` lets history earn by them too. Raises ``Conflict`` if it is there already.
    """
    if preset.is_installed:
        raise Conflict(
            _("“%(name)s” is installed already. Change it there, or start it again.") % {"name": preset.name},
            code="preset_installed",
        )
    unit = 10 ** digits(settings.SHOP_CURRENCY)
    fields = dict(preset.programme)
    if "fee" in fields:
        fields["fee_minor"] = fields.pop("fee") * unit
    with transaction.atomic():
        made = programmes.create(name=str(preset.name), key=preset.key, about=str(preset.about), **fields)
        if preset.steps:
            steps = [
                tiers.Step(str(name), threshold, [str(one) for one in benefits], key, perks)
                for key, name, threshold, benefits, perks in preset.steps
            ]
            tiers.set_ladder(programme=made, steps=steps, **preset.ladder)
        for position, one in enumerate(preset.rules, 1):
            values = {**one, "name": str(one["name"]), "position": position * 10}
            if values["kind"] == Kind.AMOUNT:
                values["per"] = values["per"] * unit
            if since_ever:
                values["starts_at"] = None
            rules.create(programme=made, actor=actor, **values)
        for offer in preset.rewards:
            values = {name: value for name, value in offer.items() if name not in ("cost", "name")}
            rewards.create(
                programme=made, name=str(offer["name"]), cost_minor=int(offer.get("cost", 0)) * unit, **values
            )
    return made

"""The ladder of a programme: its tiers, and how they are decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from django.db import connection, transaction
from django.db.models import Prefetch
from django.utils.text import slugify
from django.utils.translation import gettext as _

from customers.facts import bool_literal
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import seconds
from loyalty.models import EarningRule, Ladder, Programme, Reward, Tier

MOST_TIERS = 12
MOST_THRESHOLD = 10**15
MOST_BENEFITS = 20


class BadTiers(InvalidInput):
    """Tiers that make no sense; the sentence says which, and nothing was saved."""

    code = "bad_tiers"


@dataclass(frozen=True, slots=True)
class Step:
    """A tier to be: ``threshold`` in points, minor units or orders, as the ladder counts."""

    name: str
    threshold: int
    benefits: Sequence[str] = ()
    key: str = ""
    perks: Sequence[str] = ()


def set_ladder(
    *,
    programme: Programme,
    steps: Sequence[Step],
    measure: str = Ladder.Measure.POINTS,
    window: str = Ladder.Window.ROLLING,
    window_months: int = 12,
    grace_days: int = 0,
    step_down: str = Ladder.StepDown.BALANCE,
) -> Ladder:
    """Say which tiers a programme has and how they are decided; everybody is looked at again, at once and tonight.

    Steps keep their key, or their name's, so that who has a tier keeps it. No steps: no tiers any more. Raises
    ``BadTiers`` and saves nothing for tiers that overlap, a rule that uses a tier that would be gone, and the like.
    """
    made = _checked(programme, steps, measure, window, window_months, grace_days, step_down)
    with transaction.atomic():
        ladder, _new = Ladder.objects.update_or_create(
            programme=programme,
            defaults={
                "measure": measure, "window": window, "window_months": window_months, "grace_days": grace_days,
                "step_down": step_down, "changed_at": clock.now(),
            },
        )  # fmt: skip
        # Thresholds are unique in the table too, so the old ones go first; nothing refers to a tier but by its key.
        Tier.objects.filter(programme=programme).delete()
        Tier.objects.bulk_create(
            Tier(
                programme=programme, key=one.key, name=one.name, threshold=one.threshold, benefits=list(one.benefits),
                perks=list(one.perks),
            )
            for one in made
        )  # fmt: skip
        _look_again(ladder)
    return ladder


def check(*, programme: Programme, steps: Sequence[Step], **values: Any) -> None:
    """Raises ``BadTiers`` where ``set_ladder`` would; nothing is saved."""
    _checked(
        programme,
        steps,
        values.get("measure", Ladder.Measure.POINTS),
        values.get("window", Ladder.Window.ROLLING),
        values.get("window_months", 12),
        values.get("grace_days", 0),
        values.get("step_down", Ladder.StepDown.BALANCE),
    )


def _checked(
    programme: Programme,
    steps: Sequence[Step],
    measure: str,
    window: str,
    window_months: int,
    grace_days: int,
    step_down: str,
) -> list[Step]:
    for value, known, field in (
        (measure, Ladder.Measure.values, "measure"),
        (window, Ladder.Window.values, "window"),
        (step_down, Ladder.StepDown.values, "step_down"),
    ):
        if value not in known:
            raise BadTiers(
                _("“%(value)s” is unknown here. Use one of: %(known)s.") % {"value": value, "known": ", ".join(known)},
                field=field,
            )
    if measure == Ladder.Measure.POINTS and programme.kind != Programme.Kind.POINTS:
        raise BadTiers(_("%(name)s has no points. Count money or orders.") % {"name": programme.name}, field="measure")
    for number, low, high, field, label in (
        (window_months, 1, 120, "window_months", _("Months")),
        (grace_days, 0, 1100, "grace_days", _("Days of grace")),
    ):
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise BadTiers(
                _("%(field)s must be a whole number from %(low)s to %(high)s.")
                % {"field": label, "low": low, "high": high},
                field=field,
            )
    if step_down == Ladder.StepDown.ONE and not grace_days:
        raise BadTiers(
            _("One tier at a time needs days of grace between two steps. Write at least 1."), field="grace_days"
        )
    if len(steps) > MOST_TIERS:
        raise BadTiers(_("A programme has at most %(most)s tiers.") % {"most": MOST_TIERS})
    made = [_step(one) for one in steps]
    seen: dict[str, str] = {}
    for one in made:
        if one.key in seen:
            raise BadTiers(_("Two tiers are called “%(name)s”. Give each its own name.") % {"name": one.name})
        seen[one.key] = one.name
    made.sort(key=lambda one: one.threshold)
    for lower, upper in pairwise(made):
        if lower.threshold == upper.threshold:
            raise BadTiers(
                _("%(lower)s and %(upper)s begin at the same number, so they overlap. Give each its own.")
                % {"lower": lower.name, "upper": upper.name},
                field="threshold",
            )
    for rule in EarningRule.objects.filter(programme=programme, is_current=True).exclude(ends_at__lte=clock.now()):
        if gone := [key for key in rule.tiers if key not in seen]:
            raise BadTiers(
                _("The rule “%(rule)s” is for the tier “%(tier)s”. Change the rule first.")
                % {"rule": rule.name, "tier": gone[0]}
            )
    return made


def _step(one: Step) -> Step:
    name = " ".join((one.name or "").split())
    if not 0 < len(name) <= 60:
        raise BadTiers(_("A tier needs a name of 1 to 60 characters."), field="name")
    number = one.threshold
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= MOST_THRESHOLD:
        raise BadTiers(
            _("%(name)s must begin at a whole number above 0.") % {"name": name}, field="threshold"
        )  # fmt: skip
    benefits = [text for line in one.benefits if (text := " ".join(str(line).split()))]
    if len(benefits) > MOST_BENEFITS or any(len(text) > 200 for text in benefits):
        raise BadTiers(_("A tier has at most 20 benefits of 200 characters each."), field="benefits")
    key = one.key or slugify(name)[:40] or "tier"
    if key != slugify(key) or len(key) > 40:
        raise BadTiers(_("A key has small letters, digits and hyphens only, at most 40."), field="key")
    if unknown := [perk for perk in one.perks if perk not in Reward.Perk.values]:
        raise BadTiers(
            _("“%(value)s” is unknown here. Use one of: %(known)s.")
            % {"value": unknown[0], "known": ", ".join(Reward.Perk.values)},
            field="perks",
        )
    return Step(name, number, tuple(benefits), key, tuple(dict.fromkeys(one.perks)))


def _look_again(ladder: Ladder) -> None:
    """Mark everybody whom this ladder could concern. Quietly: a rule that somebody changed is no news to the customers."""
    counted = "is_counted" if connection.vendor == "postgresql" else "is_counted = 1"
    programme = int(ladder.programme_id)
    who = (
        f"SELECT customer_id FROM loyalty_account WHERE programme_id = {programme}"
        if ladder.measure == Ladder.Measure.POINTS
        else f"SELECT customer_id FROM customers_order WHERE {counted}"
    )
    batches.execute(
        "INSERT INTO customers_dirtycustomer (customer_id, occurred_at, is_history) "
        f"SELECT customer_id, %s, {bool_literal(True)} FROM ({who} UNION "
        f"SELECT customer_id FROM loyalty_tierstanding WHERE programme_id = {programme}) w",
        [seconds(clock.now())],
    )


def ladders() -> list[tuple[Programme, Ladder, list[Tier]]]:
    """The active programmes that have tiers, in their order, the tiers from the lowest up."""
    found = Ladder.objects.filter(programme__is_active=True, programme__tiers__isnull=False).distinct()
    rows = found.select_related("programme").order_by("programme__position", "programme_id")
    steps = Prefetch("programme__tiers", Tier.objects.order_by("threshold"))
    return [(one.programme, one, list(one.programme.tiers.all())) for one in rows.prefetch_related(steps)]


def main() -> Programme | None:
    """The programme whose tier the facts carry: the first active one that has tiers."""
    found = ladders()
    return found[0][0] if found else None

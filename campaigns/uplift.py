"""What we caused: those who were to get something, compared with those who were held out by chance.

The share who reached a goal is compared by Newcombe's interval from two Wilson scores (method 10 of "Interval estimation for
the difference between independent proportions", Statistics in Medicine 17, 1998), which holds its word for small shares too;
money per person by the normal interval of two means with their own variances. Both are 95 %, for one look: who looks every
day will sooner or later see chance alone look clear.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, sqrt

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from lifecycle_crm.lib.intervals import Z, newcombe
from lifecycle_crm.templatetags.crm import money_round, num

ENOUGH = 100
"""People per group before a comparison is shown."""


@dataclass(frozen=True, slots=True)
class Group:
    """People, how many of them reached the goal, and the sum and the sum of squares of what each spent (minor units)."""

    people: int = 0
    reached: int = 0
    spent_minor: int = 0
    spent_squares: float = 0.0

    @property
    def share(self) -> float | None:
        return self.reached / self.people if self.people else None


@dataclass(frozen=True, slots=True)
class Uplift:
    """Extra people who reached the goal among the ``treated``, and extra money from them, each with its 95 % interval.

    All of them ``None`` below ``ENOUGH`` people in either group. Whole people and minor units; an interval is rounded
    outwards, so that it never looks clearer than it is.
    """

    treated: Group
    held_out: Group
    extra: int | None = None
    low: int | None = None
    high: int | None = None
    spent_minor: int | None = None
    spent_low_minor: int | None = None
    spent_high_minor: int | None = None

    @property
    def is_enough(self) -> bool:
        return self.extra is not None

    @property
    def is_clear(self) -> bool:
        """Chance alone does not explain the people."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def is_money_clear(self) -> bool:
        """Nor the money. Only where the people are clear: where few buy, the means alone cry wolf one time in ten."""
        low, high = self.spent_low_minor, self.spent_high_minor
        return self.is_clear and low is not None and high is not None and (low > 0 or high < 0)


def compare(treated: Group, held_out: Group) -> Uplift:
    """The effect on all of the treated together: the difference per person, times their number."""
    if min(treated.people, held_out.people) < ENOUGH:
        return Uplift(treated, held_out)
    n = treated.people
    gap = treated.reached / n - held_out.reached / held_out.people
    least, most = newcombe(treated.reached, n, held_out.reached, held_out.people)
    money = treated.spent_minor / n - held_out.spent_minor / held_out.people
    reach = Z * sqrt(_variance(treated) / n + _variance(held_out) / held_out.people)
    return Uplift(
        treated,
        held_out,
        round(n * gap),
        floor(round(n * least, 6)),
        ceil(round(n * most, 6)),
        round(n * money),
        floor(n * (money - reach)),
        ceil(n * (money + reach)),
    )


def _variance(group: Group) -> float:
    """Of what one person spent, as a sample."""
    mean = group.spent_minor / group.people
    return max(0.0, (group.spent_squares - group.people * mean * mean) / (group.people - 1))


def sentence(name: str, found: Uplift, *, currency: str = "", cost_minor: int | None = None) -> str:
    """What was caused, as one reads it. Without a ``currency`` money is left out; without ``cost_minor`` the cost is."""
    if found.extra is None or found.low is None or found.high is None:
        return _(
            "No clear change yet (n %(treated)s, and %(held_out)s held out; a comparison needs %(need)s of each)."
        ) % {"treated": num(found.treated.people), "held_out": num(found.held_out.people), "need": num(ENOUGH)}
    told = {"name": name, "n": num(abs(found.extra)), "low": num(found.low), "high": num(found.high)}
    if currency:
        told["money"] = money_round(found.spent_minor, currency)
    if cost_minor is not None:
        told["cost"] = money_round(cost_minor, currency)
    if found.low > 0 and found.is_money_clear and "cost" in told:
        return (
            ngettext(
                "%(name)s caused %(n)s extra customer (between %(low)s and %(high)s) and %(money)s; it cost %(cost)s.",
                "%(name)s caused %(n)s extra customers (between %(low)s and %(high)s) and %(money)s; it cost %(cost)s.",
                found.extra,
            )
            % told
        )
    parts = [_people(found, told)]
    if currency and not found.is_money_clear:
        parts.append(_("No clear change in revenue yet."))
    elif currency:
        parts.append(
            _("Revenue changed by %(money)s (between %(low)s and %(high)s).")
            % {
                **told,
                "low": money_round(found.spent_low_minor, currency),
                "high": money_round(found.spent_high_minor, currency),
            }
        )
    if "cost" in told:
        parts.append(_("It cost %(cost)s.") % told)
    return " ".join(parts)


def _people(found: Uplift, told: dict[str, str]) -> str:
    assert found.extra is not None
    assert found.low is not None
    assert found.high is not None
    if found.low > 0:
        words = ngettext(
            "%(name)s caused %(n)s extra customer (between %(low)s and %(high)s).",
            "%(name)s caused %(n)s extra customers (between %(low)s and %(high)s).",
            found.extra,
        )
        return words % told
    if found.high < 0:
        words = ngettext(
            "%(name)s cost you %(n)s customer (between %(low)s and %(high)s).",
            "%(name)s cost you %(n)s customers (between %(low)s and %(high)s).",
            -found.extra,
        )
        return words % {**told, "low": num(-found.high), "high": num(-found.low)}
    return _(
        "No clear change yet: between %(low)s fewer and %(high)s extra customers (n %(treated)s, and %(held_out)s held out)."
    ) % {
        "low": num(-found.low),
        "high": num(found.high),
        "treated": num(found.treated.people),
        "held_out": num(found.held_out.people),
    }

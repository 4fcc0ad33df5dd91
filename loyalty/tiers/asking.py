"""What a tier means to one customer, and how many hold it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from customers.models import Customer
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter
from loyalty import programme as programmes
from loyalty.models import EarningRule, Ladder, Programme, Tier, TierStanding
from loyalty.tiers.counting import counted


@dataclass(frozen=True, slots=True)
class Progress:
    """Where one customer stands, and what is missing to the next tier (``None`` at the top).

    ``counted``, ``missing`` and thresholds are points, minor units or orders, as ``ladder.measure`` says. ``renews_at``
    is when a calendar window begins anew; ``grace_until`` is set while they have too little for the tier they hold.
    """

    programme: Programme
    ladder: Ladder
    tier: Tier | None
    following: Tier | None
    counted: int
    missing: int
    since: datetime | None
    grace_until: datetime | None
    renews_at: datetime | None

    @property
    def share(self) -> float:
        """How much of the way to the next tier is done, from 0 to 1."""
        if self.following is None:
            return 1.0
        return min(1.0, max(0, self.counted) / self.following.threshold)


def progress(customer: Customer, programme: Programme, *, as_of: datetime | None = None) -> Progress | None:
    """How far one customer is, to the second; ``None`` for a programme without tiers or a customer who is not in it."""
    now = as_of or clock.now()
    ladder = Ladder.objects.filter(programme=programme).first()
    tiers = list(programme.tiers.order_by("threshold"))
    if ladder is None or not tiers or not programmes.is_in(programme, customer, now):
        return None
    values, params = counted(ladder, f"SELECT {int(customer.pk)}", now)
    [(amount,)] = batches.rows(f"SELECT coalesce(sum(amount), 0) FROM ({values}) w", params)
    standing = TierStanding.objects.filter(programme=programme, customer=customer).first()
    held = next((one for one in tiers if standing is not None and one.key == standing.tier), None)
    following = next(
        (one for one in tiers if one.threshold > amount and (held is None or one.threshold > held.threshold)), None
    )
    renews = None
    if ladder.window == Ladder.Window.CALENDAR:
        renews = clock.day_start(date(clock.business_date(now).year + 1, 1, 1))
    return Progress(
        programme=programme,
        ladder=ladder,
        tier=held,
        following=following,
        counted=int(amount),
        missing=max(0, following.threshold - int(amount)) if following else 0,
        since=standing.since if standing and held else None,
        grace_until=standing.grace_until if standing else None,
        renews_at=renews,
    )


@dataclass(frozen=True, slots=True)
class Given:
    """What a tier gives one customer now: ``perks`` are keys of ``Reward.Perk``, ``more`` rules only for that tier."""

    programme: Programme
    tier: Tier
    until: datetime | None
    more: Sequence[EarningRule]

    @property
    def perks(self) -> Sequence[str]:
        return list(self.tier.perks)


def given(customer: Customer, *, as_of: datetime | None = None) -> list[Given]:
    """The benefits a customer has by their tiers, in the order of the programmes. ``until``: the end of their grace."""
    now = as_of or clock.now()
    standings = TierStanding.objects.filter(customer=customer, programme__is_active=True).exclude(tier="")
    found = []
    for standing in standings.select_related("programme").order_by("programme__position", "programme"):
        tier = Tier.objects.filter(programme=standing.programme, key=standing.tier).first()
        if tier is not None:
            held = EarningRule.objects.filter(programme=standing.programme, is_current=True)
            more = [one for one in held.exclude(ends_at__lte=now).order_by("position", "pk") if tier.key in one.tiers]
            found.append(Given(standing.programme, tier, standing.grace_until, more))
    return found


def members_per_tier(programme: Programme) -> dict[str, int]:
    """How many customers hold each tier now, by key."""
    return dict(
        batches.rows(
            "SELECT tier, count(*) FROM loyalty_tierstanding WHERE programme_id = %s AND tier <> '' GROUP BY tier",
            [programme.pk],
        )
    )


@dataclass(frozen=True, slots=True)
class TierMonth:
    """``members``: by key, who held each tier at the end of the month that begins on ``first``, or until now. ``moves``:
    how many went from one tier to another within it, by both keys; an empty key is no tier."""

    first: date
    members: Mapping[str, int]
    moves: Mapping[tuple[str, str], int]


def by_month(programme: Programme, day: date, *, count: int = 6) -> list[TierMonth]:
    """The last ``count`` months up to the end of ``day``, the oldest first, added up from the changes of tier."""
    firsts = [clock.month(day, -back) for back in range(count - 1, -1, -1)]
    cases = " ".join(f"WHEN effective_at < %s THEN {n}" for n in range(count))
    rows = batches.rows(
        f"SELECT CASE {cases} ELSE {count} END, from_tier, to_tier, count(*) FROM loyalty_tierchange "
        "WHERE programme_id = %s AND effective_at < %s GROUP BY 1, 2, 3",
        [*(parameter(clock.day_start(first)) for first in firsts), programme.pk, parameter(clock.day_end(day))],
    )
    members: Counter[str] = Counter()
    told = []
    for n in range(count + 1):
        moves = {(before, after): number for month, before, after, number in rows if month == n}
        for (before, after), number in moves.items():
            members[before] -= number
            members[after] += number
        if n:
            told.append(TierMonth(firsts[n - 1], {key: one for key, one in members.items() if key and one}, moves))
    return told


def names(programme: Programme | None) -> Mapping[str, str]:
    """Names of the tiers of a programme by key."""
    return dict(Tier.objects.filter(programme=programme).values_list("key", "name")) if programme else {}

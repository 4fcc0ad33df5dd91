"""What pages and API read of rewards: the catalogue with its numbers, the queue of those who hand out, what somebody has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q, QuerySet, Sum
from django.utils.translation import gettext as _

from customers.models import Customer
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.numbers import row_number
from loyalty import codes
from loyalty.models import Programme, Redemption, Reward, Tier, Voucher

DAYS = 90
"""How far back the catalogue counts redemptions."""


def rewards() -> QuerySet[Reward]:
    """All rewards with what a list of them shows."""
    return Reward.objects.select_related("programme", "product", "series").prefetch_related("prices", "picture")


def listed(*, is_active: bool = True, as_of: datetime | None = None) -> list[Reward]:
    """The catalogue, the cheapest first; each with ``redeemed``, how many of the last 90 days were not cancelled, and
    ``codes_left`` where its codes come from a stock of their own."""
    since = (as_of or clock.now()) - timedelta(days=DAYS)
    found = list(rewards().filter(is_active=is_active).order_by("programme__position", "programme", "points", "pk"))
    counts = dict(
        Redemption.objects.filter(reward__in=found, ordered_at__gte=since)
        .exclude(state=Redemption.State.CANCELLED)
        .order_by()
        .values_list("reward")
        .annotate(Count("pk"))
    )
    names = dict(Tier.objects.values_list("key", "name"))
    stocks = [one.series_id for one in found if one.series is not None and not one.series.is_endless]
    free = Voucher.objects.filter(series__in=stocks, state=Voucher.State.FREE).order_by().values_list("series")
    codes_left = dict(free.annotate(Count("pk"))) if stocks else {}
    for reward in found:
        reward.redeemed = counts.get(reward.pk, 0)  # type: ignore[attr-defined]
        reward.codes_left = (  # type: ignore[attr-defined]
            codes_left.get(reward.series_id, 0) if reward.series_id in stocks else None
        )
        reward.tier_prices = [  # type: ignore[attr-defined]
            (names.get(one.tier, one.tier), one.points) for one in reward.prices.all()
        ]
    return found


@dataclass(frozen=True)
class Sums:
    """Redemptions since ``since``, without cancelled ones: how many, what was paid, what they cost the shop."""

    since: datetime
    count: int
    points: int
    cost_minor: int
    waiting: int
    oldest_at: datetime | None


def sums(*, as_of: datetime | None = None) -> Sums:
    """The redemptions of the last 90 days, and who waits now."""
    since = (as_of or clock.now()) - timedelta(days=DAYS)
    done = (
        Redemption.objects.filter(ordered_at__gte=since)
        .exclude(state=Redemption.State.CANCELLED)
        .aggregate(count=Count("pk"), points=Sum("points", default=0), cost=Sum("reward__cost_minor", default=0))
    )
    waiting = Redemption.objects.filter(state__in=["ordered", "prepared"])
    oldest = waiting.order_by("ordered_at").values_list("ordered_at", flat=True).first()
    return Sums(since, done["count"], done["points"], done["cost"], waiting.count(), oldest)


@dataclass(frozen=True)
class Used:
    """A reward and its redemptions of the last 90 days, without cancelled ones."""

    reward: int
    name: str
    count: int
    points: int


def most_used(programme: Programme, *, as_of: datetime | None = None, limit: int = 5) -> list[Used]:
    """The rewards of a programme that were redeemed most often in the last 90 days, also those of the past."""
    since = (as_of or clock.now()) - timedelta(days=DAYS)
    found = (
        Redemption.objects.filter(reward__programme=programme, ordered_at__gte=since)
        .exclude(state=Redemption.State.CANCELLED)
        .order_by()
        .values_list("reward", "reward__name")
        .annotate(count=Count("pk"), paid=Sum("points", default=0))
        .order_by("-count", "reward")[:limit]
    )
    return [Used(*row) for row in found]


def redemptions(*, state: str = "", words: str = "") -> QuerySet[Redemption]:
    """Redemptions, those who wait the longest first. ``words``: a code, or the number of a customer."""
    found = Redemption.objects.select_related("reward", "customer", "entry", "actor", "voucher")
    text = words.strip()
    if text:
        number = row_number(text.removeprefix("#"))
        by_customer = Q() if number is None else Q(customer=number)
        found = found.filter(Q(code=codes.plain(text)) | by_customer) if by_customer else found.filter(
            code=codes.plain(text)
        )  # fmt: skip
    if state == "waiting":
        return found.filter(state__in=["ordered", "prepared"]).order_by("pk")
    if state in Redemption.State.values:
        found = found.filter(state=state)
    return found.order_by("-pk")


def of_customer(customer: Customer, *, limit: int = 20) -> list[Redemption]:
    """What a customer redeemed, the last first."""
    return list(
        Redemption.objects.filter(customer=customer).select_related("reward", "voucher__series").order_by("-pk")[:limit]
    )


# --- The proof --------------------------------------------------------------------------------------------------------

NAMED = 10
"""So many are named per kind; the rest is counted."""


def problems() -> list[str]:
    """A sentence for each promise of rewards, vouchers and referrals that the rows break; empty when all is well."""
    return [
        sentence % {"names": ", ".join(f"#{pk}" for pk in found[:NAMED]) + (" …" if len(found) > NAMED else "")}
        for sentence, sql in (
            (_("Redemptions that were paid with another number of points: %(names)s."), _PAID),
            (
                _("Redemptions whose points were given back without being cancelled, or the reverse: %(names)s."),
                _GIVEN_BACK,
            ),
            (_("Rewards whose count per customer is not that of their redemptions: %(names)s."), _COUNTED),
            (_("Vouchers of a redemption that belong to somebody else: %(names)s."), _OTHERS),
            (_("Referrals that were rewarded without points: %(names)s."), _REWARDED),
        )
        if (found := [pk for (pk,) in batches.rows(sql)])
    ]


_PAID = """
    SELECT r.id FROM loyalty_redemption r LEFT JOIN loyalty_entry e ON e.id = r.entry_id
    WHERE r.points <> coalesce(-e.points, 0) OR (e.customer_id <> r.customer_id AND NOT EXISTS (
        SELECT 1 FROM loyalty_mergedthing t JOIN loyalty_merge m ON m.id = t.merge_id
        JOIN loyalty_account f ON f.id = m.from_account_id
        WHERE t.kind = 'redemption' AND t.object_id = r.id AND m.undone_at IS NULL AND f.customer_id = e.customer_id))
    ORDER BY r.id
"""
_GIVEN_BACK = """
    SELECT r.id FROM loyalty_redemption r LEFT JOIN loyalty_entry back ON back.reverses_id = r.entry_id
    WHERE r.entry_id IS NOT NULL AND (CASE WHEN r.state = 'cancelled' THEN 1 ELSE 0 END)
          <> (CASE WHEN back.id IS NULL THEN 0 ELSE 1 END)
    ORDER BY r.id
"""
_HELD = """
    SELECT reward_id, customer_id, count(*) AS n FROM loyalty_redemption WHERE state <> 'cancelled'
    GROUP BY reward_id, customer_id
"""
_COUNTED = f"""
    SELECT u.reward_id AS id FROM loyalty_rewarduse u
    LEFT JOIN ({_HELD}) r ON r.reward_id = u.reward_id AND r.customer_id = u.customer_id
    WHERE u.count <> coalesce(r.n, 0)
    UNION
    SELECT r.reward_id FROM ({_HELD}) r
    LEFT JOIN loyalty_rewarduse u ON u.reward_id = r.reward_id AND u.customer_id = r.customer_id
    WHERE u.id IS NULL
    ORDER BY 1
"""
_OTHERS = """
    SELECT v.id FROM loyalty_voucher v JOIN loyalty_redemption r ON r.id = v.redemption_id
    WHERE v.customer_id IS NULL OR v.customer_id <> r.customer_id ORDER BY v.id
"""
_REWARDED = """
    SELECT f.id FROM loyalty_referral f
    WHERE f.state IN ('rewarded', 'returned') AND NOT EXISTS (
        SELECT 1 FROM loyalty_entry e WHERE e.programme_id = f.programme_id
        AND e.key IN ('referral:' || f.id || ':advocate', 'referral:' || f.id || ':friend'))
    ORDER BY f.id
"""

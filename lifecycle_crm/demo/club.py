"""What the sample shop gives for points: rewards, vouchers and friends, all of it invented.

The catalogue and who brought whom are there before the nights, so that the nights decide the referrals; redemptions come
between them, once a month, from the points that the real purchases earned. A second run adds nothing.
"""

from __future__ import annotations

import io
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

from django.db import transaction
from django.db.models import Min

from customers.models import Customer
from lifecycle_crm.demo import drawings
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError
from loyalty import pictures, referrals, rewards, vouchers
from loyalty import programme as programmes
from loyalty.models import Account, Membership, Programme, Redemption, Reward, Voucher

SHARE = 0.02
"""Of the buyers, so many were brought by a friend."""
MOST_A_MONTH = 3
A_MONTH = {"coffee": 2, "airline": 1, "plus": 1}
"""So many redeem each month in the main programme and in each of the others; today three times as many, of whom some wait."""

_CATALOGUE: tuple[dict[str, Any], ...] = (
    {
        "name": "Tote bag",
        "kind": "product",
        "points": 60,
        "stock": 40,
        "cost_minor": 250,
        "description": "Cotton, printed.",
    },
    {"name": "Free delivery", "kind": "perk", "perk": "delivery", "points": 30, "cost_minor": 300},
    {"name": "Gift wrapping", "kind": "perk", "perk": "packaging", "points": 15, "cost_minor": 80},
    {"name": "Signed poster", "kind": "product", "points": 150, "stock": 3, "per_customer": 1, "cost_minor": 500},
    {"name": "Two years to return", "kind": "perk", "perk": "warranty", "points": 100, "per_customer": 2},
)


def install() -> None:
    """The catalogue, of which some have a picture, two series of vouchers and the offer for friends, in the main programme."""
    programme = Programme.current()
    if programme is None or Reward.objects.filter(programme=programme).exists():
        return
    for one in _CATALOGUE:
        rewards.create(programme=programme, **one)
    five = vouchers.create(name="5 dollars off", worth="amount", amount_minor=500, valid_days=90)
    partner = vouchers.create(name="Coffee at the corner café", worth="other", words="One coffee", is_endless=False)
    vouchers.generate(series=partner, count=25)
    rewards.create(
        programme=programme, name="5 dollars off", kind="discount", points=100, series=five, cost_minor=500
    )  # fmt: skip
    rewards.create(programme=programme, name="A coffee next door", kind="voucher", points=40, series=partner)
    for reward in Reward.objects.filter(programme=programme, name__in=drawings.WORDS).order_by("pk"):
        file = io.BytesIO(drawings.drawing(reward.name))
        pictures.put(reward=reward, file=file, alt=drawings.WORDS[reward.name], actor=None)
    referrals.set_offer(programme=programme, advocate_points=100, friend_points=50, min_order_minor=1000)


def bring_friends(*, seed: int) -> int:
    """Let some buyers have been brought by somebody who had bought before them; how many."""
    if referrals.offer() is None:
        return 0
    rng = Random(seed)
    # By address, so that the same seed makes the same friends whatever our ids are.
    buyers = list(
        Customer.objects.annotate(first=Min("orders__placed_at")).filter(first__isnull=False).order_by("first", "email")
    )
    count = int(len(buyers) * SHARE) or min(1, len(buyers) // 2)
    done = 0
    for place in sorted(rng.sample(range(len(buyers) // 2, len(buyers)), min(count, len(buyers) // 2))):
        friend, advocate = buyers[place], buyers[rng.randrange(max(1, len(buyers) // 20))]
        if friend.pk == advocate.pk:
            continue
        before = timedelta(hours=rng.randint(2, 140))
        referrals.claim(
            code=referrals.code(advocate).code,
            email=friend.email,
            # One in ten shares a device: somebody should have something to look at.
            device=f"device-{advocate.pk}" if rng.random() < 0.1 else f"device-{friend.pk}",
            claimed_at=friend.first - before,
        )
        done += 1
    return done


def redeem_some(*, seed: int, day: date, at: datetime | None = None) -> int:
    """Let some of the members of each programme redeem, as of ``at`` (default: now), and hand most of it out; how many did.

    Once for each ``day``, which is the night they came after: a second time it does nothing.
    """
    if Redemption.objects.filter(key__startswith=f"sample:{day}:").exists():
        return 0
    rng = Random(f"{seed}:{day}")
    made = 0
    with transaction.atomic():
        for programme in Programme.objects.filter(is_active=True).order_by("position", "pk"):
            catalogue = list(Reward.objects.filter(programme=programme, is_active=True).order_by("pk"))
            if catalogue:
                most = A_MONTH.get(programme.key, MOST_A_MONTH) * (3 if at is None else 1)
                for customer, points in _holders(programme, catalogue, at or clock.now(), most, rng):
                    wanted = [one for one in catalogue if one.points <= points]
                    made += _redeem(rng.choice(wanted), customer, f"sample:{day}:{programme.pk}", at, rng)
        for voucher in list(Voucher.objects.filter(state=Voucher.State.ISSUED).order_by("pk"))[::3]:
            vouchers.use(code=voucher.code, key=f"sample:{voucher.pk}", reference="sample order", effective_at=at)
    return made


def _holders(
    programme: Programme, catalogue: list[Reward], at: datetime, most: int, rng: Random
) -> list[tuple[Customer, int]]:
    """So many of those who can afford something, with what they have; of a membership those who are in it."""
    if programme.kind != Programme.Kind.POINTS:
        stays = Membership.objects.filter(programmes.running(at), programme=programme).select_related("customer")
        found = [(one.customer, 0) for one in stays.order_by("customer__email")[: 40 * most]]
    else:
        cheapest = min(one.points for one in catalogue)
        held = Account.objects.filter(programme=programme, balance__gte=cheapest).select_related("customer")
        found = [(one.customer, one.balance) for one in held.order_by("-balance", "customer__email")[: 10 * most]]
    return rng.sample(found, min(most, len(found)))


def _redeem(reward: Reward, customer: Customer, key: str, at: datetime | None, rng: Random) -> int:
    try:
        made = rewards.redeem(
            reward=reward, customer=customer, key=f"{key}:{customer.pk}", source_type="sample", effective_at=at
        )
    except DomainError:
        return 0  # Too dear in truth, or the last one is gone.
    _go_on(made, rng.random(), at)
    return 1


def _go_on(made: Redemption, chance: float, at: datetime | None) -> None:
    """What was ordered a while ago is handed out; of the last ones, some still lie there."""
    if made.state != Redemption.State.ORDERED:
        return
    later = at + timedelta(hours=3) if at else None
    if chance < (0.45 if at is None else 0.92):
        rewards.hand_out(redemption=made, actor=None, effective_at=later)
    elif chance < 0.65:
        rewards.prepare(redemption=made, actor=None, effective_at=later)
    elif chance < 0.75 or at is not None:
        rewards.cancel(redemption=made, actor=None, reason="Ordered by mistake", effective_at=later)

"""What the sample shop gives for points: rewards, vouchers and friends, all of it invented.

The catalogue and who brought whom are there before the nights, so that the nights decide the referrals; redemptions come
after them, from the points that the real purchases earned. Everything has a key: a second run adds nothing.
"""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

from django.db.models import Min

from customers.models import Customer
from lifecycle_crm.lib.errors import DomainError
from loyalty import referrals, rewards, vouchers
from loyalty.models import Account, Programme, Redemption, Reward, Voucher

SHARE = 0.02
"""Of the buyers, so many were brought by a friend."""
MOST_REDEMPTIONS = 60

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
    """The catalogue, two series of vouchers and the offer for friends, in the main programme."""
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


def redeem_some(*, seed: int) -> int:
    """Let the holders of the most points redeem, and hand some of it out; how many redemptions there are."""
    programme = Programme.current()
    if programme is None or Redemption.objects.exists():
        return Redemption.objects.count()
    rng = Random(seed + 1)
    catalogue = list(Reward.objects.filter(programme=programme).order_by("pk"))
    holders = Account.objects.filter(programme=programme, balance__gte=15).select_related("customer")
    some = list(holders.order_by("-balance", "customer__email")[: 4 * MOST_REDEMPTIONS])
    for account in rng.sample(some, min(MOST_REDEMPTIONS, len(some))):
        reward = rng.choice(catalogue)
        try:
            made = rewards.redeem(
                reward=reward, customer=account.customer, key=f"sample:{account.customer_id}", source_type="sample"
            )
        except DomainError:
            continue  # Too dear, or the last one is gone.
        _go_on(made, rng.random())
    for voucher in list(Voucher.objects.filter(state=Voucher.State.ISSUED).order_by("pk"))[::3]:
        vouchers.use(code=voucher.code, key=f"sample:{voucher.pk}", reference="sample order")
    return Redemption.objects.count()


def _go_on(made: Redemption, chance: float) -> None:
    if made.state != Redemption.State.ORDERED:
        return
    if chance < 0.45:
        rewards.hand_out(redemption=made, actor=None)
    elif chance < 0.65:
        rewards.prepare(redemption=made, actor=None)
    elif chance < 0.75:
        rewards.cancel(redemption=made, actor=None, reason="Ordered by mistake")

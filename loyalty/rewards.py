"""Rewards: what points buy. A redemption and its points are one transaction.

Order of the writes: points first (they lock the customer's account), then the customer's limit, the stock last. So two
customers wait for one another only at the row of the reward, and only as long as the rest of a commit takes. Stock and
limit are conditions of the write itself; what is read before only makes the sentence better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from customers.models import Customer
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.templatetags.crm import day, num
from loyalty import codes, ledger, vouchers
from loyalty import programme as programmes
from loyalty.errors import KeyReused, LimitReached, PriceChanged, RewardNotAvailable, SoldOut, WrongState
from loyalty.models import (
    Entry,
    Programme,
    Redemption,
    RedemptionStep,
    Reward,
    RewardPrice,
    RewardUse,
    Tier,
    TierStanding,
    Voucher,
)

CODE_LENGTH = 8
UNDO = timedelta(minutes=10)
_FIELDS = (
    "name", "description", "kind", "perk", "product", "points", "cost_minor", "stock", "per_customer", "series", "starts_on",
    "ends_on", "only_tiers", "is_active",
)  # fmt: skip


# --- The catalogue ----------------------------------------------------------------------------------------------------


def create(*, programme: Programme, prices: Mapping[str, int] | None = None, **fields: Any) -> Reward:
    """Put a reward into the catalogue. ``fields`` are those of the model; ``prices`` says what it costs per tier."""
    reward = Reward(programme=programme)
    with transaction.atomic():
        _write(reward, fields)
        _set_prices(reward, prices or {})
    return reward


def change(
    *, reward: Reward, prices: Mapping[str, int] | None = None, stock_seen: int | None = None, **fields: Any
) -> Reward:
    """Change a reward. Who has redeemed it keeps it for the price they paid.

    ``stock_seen`` is how many were left when the person began: if some were redeemed since, ``stock`` is refused with
    ``WrongState`` instead of giving those back silently.
    """
    with transaction.atomic():
        if "stock" in fields:
            same = Reward.objects.filter(pk=reward.pk, stock=stock_seen) if stock_seen is not None else (
                Reward.objects.filter(pk=reward.pk)
            )  # fmt: skip
            if same.update(stock=fields["stock"]) != 1:
                reward.refresh_from_db(fields=["stock"])
                raise WrongState(
                    _("Some were redeemed meanwhile: %(left)s are left now. Check the number and save again.")
                    % {"left": num(reward.stock)},
                    left=reward.stock,
                )
        _write(reward, fields)
        if prices is not None:
            _set_prices(reward, prices)
    return reward


def _write(reward: Reward, fields: Mapping[str, Any]) -> None:
    unknown = set(fields) - set(_FIELDS)
    if unknown:
        raise TypeError(f"A reward has no {', '.join(sorted(unknown))}.")
    for name, value in fields.items():
        setattr(reward, name, value)
    if not reward.name.strip():
        raise InvalidInput(_("Give the reward a name."), code="name_required")
    if reward.kind == Reward.Kind.PERK and not reward.perk:
        raise InvalidInput(_("Choose which perk it is."), code="perk_required")
    if reward.kind != Reward.Kind.PERK:
        reward.perk = ""
    if reward.series is not None and reward.kind not in (Reward.Kind.VOUCHER, Reward.Kind.DISCOUNT):
        raise InvalidInput(_("Only a voucher or a discount is given as a code."), code="series_not_allowed")
    if reward.per_customer == 0:
        raise InvalidInput(_("The limit per customer is 1 or more; leave it empty for none."), code="invalid_limit")
    if reward.starts_on and reward.ends_on and reward.ends_on < reward.starts_on:
        raise InvalidInput(_("The last day is before the first day."), code="invalid_dates")
    for points in (reward.points, reward.cost_minor, reward.stock):
        if points is not None and points < 0:
            raise InvalidInput(_("Price, cost and stock are 0 or more."), code="invalid_number")
    if reward.points > ledger.MOST_POINTS:
        raise InvalidInput(_("This price is larger than any account can hold."), code="invalid_points")
    if reward.pk:
        # Never the stock: it is a counter, and only a condition may write it.
        reward.save(update_fields=[name for name in {*fields, "perk"} if name != "stock"])
    else:
        reward.save()


def _set_prices(reward: Reward, prices: Mapping[str, int]) -> None:
    for points in prices.values():
        if points < 0 or points > ledger.MOST_POINTS:
            raise InvalidInput(_("Price, cost and stock are 0 or more."), code="invalid_number")
    RewardPrice.objects.filter(reward=reward).exclude(tier__in=prices).delete()
    for tier, points in prices.items():
        RewardPrice.objects.update_or_create(reward=reward, tier=tier, defaults={"points": points})
    reward._prefetched_objects_cache = {}  # type: ignore[attr-defined]


# --- What somebody may have -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Offer:
    """A reward as one customer sees it. ``points`` is ``None`` where their tier may not have it; ``lacks`` how many
    points they are short; ``refusal`` says why not, "" if they may redeem it now."""

    reward: Reward
    points: int | None
    lacks: int
    refusal: str

    @property
    def may_redeem(self) -> bool:
        return not self.refusal and not self.lacks


def tier_of(customer: Customer, programme: Programme) -> str:
    """The key of the tier the customer stands in, "" for none."""
    found = TierStanding.objects.filter(programme=programme, customer=customer).values_list("tier", flat=True).first()
    return found or ""


def tier_names(reward: Reward) -> list[str]:
    """The names of the tiers that have a price of their own."""
    keys = [one.tier for one in reward.prices.all()]
    names = dict(Tier.objects.filter(programme=reward.programme_id, key__in=keys).values_list("key", "name"))
    return [names.get(key, key) for key in keys]


def price(reward: Reward, tier: str) -> int | None:
    """What it costs in that tier; ``None`` if that tier may not have it."""
    own = {one.tier: one.points for one in reward.prices.all()}
    if tier and tier in own:
        return own[tier]
    return None if reward.only_tiers else reward.points


def _shut(reward: Reward, on: date, points: int | None, used: int, is_in: bool) -> Exception | None:
    """Why it cannot be redeemed, apart from the points; ``None`` if it can."""
    if not reward.is_active or not reward.programme.is_active:
        return RewardNotAvailable(_("“%(name)s” is not offered any more.") % {"name": reward.name})
    if not is_in:
        return RewardNotAvailable(
            _("“%(name)s” is for members of %(programme)s.") % {"name": reward.name, "programme": reward.programme.name}
        )
    if reward.starts_on and on < reward.starts_on:
        return RewardNotAvailable(
            _("“%(name)s” can be redeemed from %(day)s.") % {"name": reward.name, "day": day(reward.starts_on)}
        )
    if reward.ends_on and reward.ends_on < on:
        return RewardNotAvailable(
            _("“%(name)s” could be redeemed until %(day)s.") % {"name": reward.name, "day": day(reward.ends_on)}
        )
    if points is None:
        tiers = ", ".join(tier_names(reward)) or "–"
        return RewardNotAvailable(_("“%(name)s” is for %(tiers)s.") % {"name": reward.name, "tiers": tiers})
    if reward.stock == 0:
        return SoldOut(_("“%(name)s” is sold out.") % {"name": reward.name})
    if reward.per_customer is not None and used >= reward.per_customer:
        return _limit(reward)
    return None


def _limit(reward: Reward) -> LimitReached:
    most = reward.per_customer or 0
    return LimitReached(
        ngettext(
            "“%(name)s” can be redeemed %(n)s time by each customer.",
            "“%(name)s” can be redeemed %(n)s times by each customer.",
            most,
        )
        % {"name": reward.name, "n": num(most)}
    )


def offers(
    *, customer: Customer, programme: Programme, spendable: int, as_of: datetime | None = None
) -> Sequence[Offer]:
    """The catalogue for one customer, the cheapest first. What is over or switched off is left out."""
    moment = as_of or clock.now()
    on = clock.business_date(moment)
    tier = tier_of(customer, programme)
    is_in = programmes.is_in(programme, customer, moment)
    rewards = list(
        Reward.objects.filter(programme=programme, is_active=True)
        .filter(Q(ends_on=None) | Q(ends_on__gte=on))
        .select_related("programme")
        .prefetch_related("prices", "picture")
    )
    used = dict(RewardUse.objects.filter(customer=customer, reward__in=rewards).values_list("reward_id", "count"))
    found = []
    for reward in rewards:
        points = price(reward, tier)
        shut = _shut(reward, on, points, used.get(reward.pk, 0), is_in)
        found.append(Offer(reward, points, max(0, (points or 0) - spendable), str(shut) if shut else ""))
    return sorted(found, key=lambda one: (one.points is None, one.points or one.reward.points, one.reward.pk))


# --- Redeeming --------------------------------------------------------------------------------------------------------


def redeem(
    *,
    reward: Reward,
    customer: Customer,
    key: str,
    points: int | None = None,
    actor: User | None = None,
    effective_at: datetime | None = None,
    source_type: str = "",
    source_id: str = "",
) -> Redemption:
    """Give a customer a reward for its price in their tier; points, limit and stock move together or not at all.

    ``points`` is the price the customer agreed to: another one raises ``PriceChanged``. The same key again returns what
    it made (``replayed``), with another request ``KeyReused``. Raises ``RewardNotAvailable``, ``SoldOut``,
    ``LimitReached``, ``InsufficientPoints`` or ``AccountFrozen``; then nothing is written.
    """
    if not key or len(key) > 200:
        raise InvalidInput(_("A redemption needs a key of 1 to 200 characters."), code="invalid_key")

    def before() -> Redemption | None:
        return _footprint(key, reward, customer, points)

    try:
        with transaction.atomic():
            if found := before():
                return found
            return _redeem(reward, customer, key, points, actor, effective_at, source_type, source_id, before)
    except IntegrityError:
        if found := before():
            return found
        raise


def _redeem(
    given: Reward,
    customer: Customer,
    key: str,
    agreed: int | None,
    actor: User | None,
    effective_at: datetime | None,
    source_type: str,
    source_id: str,
    before: Any,
) -> Redemption:
    reward = Reward.objects.select_related("programme", "series").prefetch_related("prices").get(pk=given.pk)
    moment = effective_at or clock.now()
    tier = tier_of(customer, reward.programme)
    points = price(reward, tier)
    used = RewardUse.objects.filter(reward=reward, customer=customer).values_list("count", flat=True).first()
    is_in = programmes.is_in(reward.programme, customer, moment)
    if shut := _shut(reward, clock.business_date(moment), points, used or 0, is_in):
        raise shut
    assert points is not None
    if agreed is not None and agreed != points:
        raise PriceChanged(
            ngettext(
                "“%(name)s” costs %(points)s point now. Look at it again before you redeem it.",
                "“%(name)s” costs %(points)s points now. Look at it again before you redeem it.",
                points,
            )
            % {"name": reward.name, "points": num(points)},
            points=points,
        )
    entry: Entry | None = None
    if points:
        entry = ledger.redeem(
            customer=customer,
            points=points,
            key=f"reward:{key}",
            actor=actor,
            reason=reward.name,
            effective_at=effective_at,
            explanation={"rule": "reward", "reward": reward.pk, "name": reward.name},
            source_type=source_type or "reward",
            source_id=source_id or str(reward.pk),
            programme=reward.programme,
        )
        if entry.replayed:  # The same request, written while we waited for the account.
            found: Redemption = before()
            return found
    _count_one(reward, customer)
    _take_one(reward)
    is_waiting = reward.is_handed_out_by_people
    redemption = Redemption.objects.create(
        reward=reward,
        customer=customer,
        entry=entry,
        key=key,
        code=codes.new(CODE_LENGTH),
        points=points,
        tier=tier,
        state=Redemption.State.ORDERED if is_waiting else Redemption.State.HANDED_OUT,
        ordered_at=moment,
        state_at=moment,
        actor=actor,
    )
    RedemptionStep.objects.create(redemption=redemption, state=redemption.state, at=moment, actor=actor)
    if reward.series is not None:
        vouchers.issue(
            series=reward.series,
            customer=customer,
            key=f"redemption:{redemption.pk}",
            redemption=redemption,
            effective_at=moment,
        )
    return redemption


def _footprint(key: str, reward: Reward, customer: Customer, points: int | None) -> Redemption | None:
    found = Redemption.objects.filter(key=key).select_related("reward", "entry").first()
    if found is None:
        return None
    if (found.reward_id, found.customer_id) != (reward.pk, customer.pk) or points not in (None, found.points):
        raise KeyReused(_("This key was used for another redemption. Send a new key for a new request."), key=key)
    found.replayed = True
    return found


def _count_one(reward: Reward, customer: Customer) -> None:
    """One more for this customer, unless that is more than the limit."""
    RewardUse.objects.bulk_create([RewardUse(reward=reward, customer=customer)], ignore_conflicts=True)
    own = RewardUse.objects.filter(reward=reward, customer=customer)
    if reward.per_customer is not None:
        own = own.filter(count__lt=reward.per_customer)
    if own.update(count=F("count") + 1) != 1:
        raise _limit(reward)


def _take_one(reward: Reward) -> None:
    """One fewer left, unless none is."""
    if reward.stock is None:
        return
    # The stock may have been lifted meanwhile: nothing less one is nothing.
    left = Reward.objects.filter(Q(stock=None) | Q(stock__gt=0), pk=reward.pk)
    if left.update(stock=F("stock") - 1) != 1:
        raise SoldOut(_("“%(name)s” is sold out.") % {"name": reward.name})


# --- On its way -------------------------------------------------------------------------------------------------------


def prepare(*, redemption: Redemption, actor: User | None, effective_at: datetime | None = None) -> Redemption:
    """It lies ready for the customer. Raises ``WrongState`` unless it was ordered."""
    with transaction.atomic():
        return _move(redemption, [Redemption.State.ORDERED], Redemption.State.PREPARED, actor, at=effective_at)


def hand_out(*, redemption: Redemption, actor: User | None, effective_at: datetime | None = None) -> Redemption:
    """The customer has it. Raises ``WrongState`` for the second time and for a cancelled one."""
    with transaction.atomic():
        waiting = [Redemption.State.ORDERED, Redemption.State.PREPARED]
        return _move(redemption, waiting, Redemption.State.HANDED_OUT, actor, at=effective_at)


def cancel(
    *, redemption: Redemption, actor: User | None, reason: str, effective_at: datetime | None = None
) -> Redemption:
    """Take it off the list: the points go back to the lots they came from, the item back to the stock.

    Raises ``WrongState`` once it is handed out or cancelled, ``VoucherNotUsable`` once its code was used.
    """
    text = reason.strip()
    if not text:
        raise InvalidInput(_("Say why: the reason stays in the customer's history."), code="reason_required")
    if len(text) > 300:
        raise InvalidInput(_("The reason is longer than 300 characters."), code="invalid_reason")
    with transaction.atomic():
        before = [Redemption.State.ORDERED, Redemption.State.PREPARED]
        code = Voucher.objects.filter(redemption=redemption).select_related("series").first()
        if code is not None:
            # Given at once, but as good as waiting for as long as nobody used it.
            before.append(Redemption.State.HANDED_OUT)
        _move(redemption, before, Redemption.State.CANCELLED, actor, text, effective_at)
        if code is not None:
            vouchers.void(voucher=code)
        if redemption.entry is not None:
            ledger.cancel_redemption(
                entry=redemption.entry,
                key=f"reward:{redemption.pk}:cancel",
                actor=actor,
                reason=text,
                effective_at=effective_at,
            )
        own = RewardUse.objects.filter(reward=redemption.reward_id, customer=redemption.customer_id, count__gt=0)
        own.update(count=F("count") - 1)
        Reward.objects.filter(pk=redemption.reward_id, stock__isnull=False).update(stock=F("stock") + 1)
    return redemption


def may_undo(redemption: Redemption, *, as_of: datetime | None = None) -> bool:
    """Whether the customer may still undo it themselves: for ten minutes, and only what nobody touched yet."""
    if (as_of or clock.now()) - redemption.ordered_at >= UNDO:
        return False
    code: Voucher | None = getattr(redemption, "voucher", None)
    if code is not None:
        return redemption.state == Redemption.State.HANDED_OUT and code.state == Voucher.State.ISSUED
    return redemption.state == Redemption.State.ORDERED


def undo(*, redemption: Redemption) -> Redemption:
    """The customer changed their mind. Raises ``WrongState`` after ten minutes, or once somebody prepared it."""
    if not may_undo(redemption):
        raise WrongState(_("A redemption can be undone for 10 minutes, as long as nobody prepared or used it. Ask us."))
    return cancel(redemption=redemption, actor=None, reason=_("Undone by the customer"))


def keep_together(entry: Entry) -> None:
    """Refuse to give points back whose reward would stay with the customer. Raises ``WrongState``."""
    found = Redemption.objects.filter(entry=entry).select_related("reward").first()
    if found is not None and found.state != Redemption.State.CANCELLED:
        raise WrongState(
            _("These points paid for “%(name)s”. Cancel the redemption instead: the points come back with it.")
            % {"name": found.reward.name},
            redemption=found.pk,
        )


def _move(
    redemption: Redemption,
    before: Sequence[str],
    after: str,
    actor: User | None,
    reason: str = "",
    at: datetime | None = None,
) -> Redemption:
    """Ask if it is still true, and move."""
    moment = at or clock.now()
    moved = Redemption.objects.filter(pk=redemption.pk, state__in=before).update(state=after, state_at=moment)
    redemption.refresh_from_db(fields=["state", "state_at"])
    if moved != 1:
        raise WrongState(
            _("“%(code)s” is %(state)s already. Open the list again.")
            % {"code": codes.shown(redemption.code), "state": redemption.get_state_display().lower()},
            state=redemption.state,
        )
    RedemptionStep.objects.create(redemption=redemption, state=after, at=moment, actor=actor, reason=reason)
    return redemption

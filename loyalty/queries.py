"""What the pages and the API read. Every number comes with how many customers stand behind it and with its moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from django.conf import settings
from django.db.models import Count, Q, QuerySet, Sum
from django.urls import reverse
from django.utils.translation import gettext_lazy

from customers.models import Customer
from customers.usage import Use
from lifecycle_crm.lib import clock
from loyalty.models import (
    Account,
    Approval,
    EarningRule,
    Entry,
    ExtendedLot,
    Extension,
    Freeze,
    Grant,
    Hold,
    Household,
    HouseholdMember,
    Lot,
    Merge,
    Posting,
    Programme,
    Proof,
)

SOON_DAYS = 30
ACTIVE_DAYS = 90


# --- The programme as a whole -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Month:
    """Points whose last usable day lies in the month that begins on ``first``; ``None``: they never end."""

    first: date | None
    points: int


@dataclass(frozen=True)
class Overview:
    """A programme's sums over all its ``members``, as the accounts stand at ``as_of``. Money in minor units."""

    programme: Programme | None
    as_of: datetime
    currency: str
    members: int = 0
    holders: int = 0
    active: int = 0
    frozen: int = 0
    balance: int = 0
    pending: int = 0
    held: int = 0
    debt: int = 0
    earned: int = 0
    adjusted: int = 0
    spent: int = 0
    expired: int = 0
    reversed: int = 0
    moved: int = 0
    expiring_soon: int = 0
    months: Sequence[Month] = field(default_factory=tuple)
    trial: Sequence[tuple[str, int]] = field(default_factory=tuple)

    @property
    def outstanding(self) -> int:
        """Points that can be spent now or later, or are held for a purchase."""
        return self.balance + self.pending + self.held

    @property
    def given(self) -> int:
        return self.earned + self.adjusted - self.reversed

    @property
    def redeemed_share(self) -> float | None:
        """Of the points given and not taken back, the share that was redeemed; ``None`` before any was given."""
        return self.spent / self.given if self.given > 0 else None

    @property
    def liability_minor(self) -> int:
        """What all outstanding points are worth, as if every one of them were redeemed."""
        return self.outstanding * (self.programme.value_minor_per_100 if self.programme else 0) // 100


def overview(*, as_of: datetime | None = None) -> Overview:
    """The current programme in numbers. Balances are those of now; ``as_of`` says from when "soon" is counted."""
    programme = Programme.current()
    moment = as_of or clock.now()
    if programme is None:
        return Overview(programme=None, as_of=moment, currency=settings.SHOP_CURRENCY)
    columns = ("balance", "pending", "held", "debt", "earned", "adjusted", "spent", "expired", "reversed", "moved")
    found = Account.objects.filter(programme=programme).aggregate(
        members=Count("pk"),
        holders=Count("pk", filter=Q(balance__gt=0) | Q(pending__gt=0)),
        frozen=Count("pk", filter=Q(frozen_at__isnull=False)),
        **{f"sum_{name}": Sum(name, default=0) for name in columns},
    )
    sums = {name: found[f"sum_{name}"] for name in columns}
    months = _months(programme)
    soon = Lot.objects.filter(
        account__programme=programme,
        remaining__gt=0,
        expires_at__gt=moment,
        expires_at__lte=moment + timedelta(days=SOON_DAYS),
    ).aggregate(points=Sum("remaining", default=0))
    return Overview(
        programme=programme,
        as_of=moment,
        currency=settings.SHOP_CURRENCY,
        members=found["members"],
        holders=found["holders"],
        active=_active(programme, moment),
        frozen=found["frozen"],
        expiring_soon=soon["points"],
        months=months,
        trial=_trial(sums),
        **sums,
    )


def _active(programme: Programme, moment: datetime) -> int:
    """How many customers earned or redeemed in the 90 days before a moment."""
    since = moment - timedelta(days=ACTIVE_DAYS)
    moved = Entry.objects.filter(
        programme=programme,
        kind__in=(Entry.Kind.EARN, Entry.Kind.SPEND),
        effective_at__gte=since,
        effective_at__lte=moment,
    )
    return moved.aggregate(people=Count("customer", distinct=True))["people"]


def _trial(sums: dict[str, int]) -> list[tuple[str, int]]:
    """The ten ledger accounts with their signs: together they make zero."""
    return [
        (Posting.Ledger.AVAILABLE.value, sums["balance"]),
        (Posting.Ledger.PENDING.value, sums["pending"]),
        (Posting.Ledger.HELD.value, sums["held"]),
        (Posting.Ledger.DEBT.value, -sums["debt"]),
        (Posting.Ledger.REDEEMED.value, sums["spent"]),
        (Posting.Ledger.EXPIRED.value, sums["expired"]),
        (Posting.Ledger.REVERSED.value, sums["reversed"]),
        (Posting.Ledger.ISSUED.value, -sums["earned"]),
        (Posting.Ledger.ADJUSTED.value, -sums["adjusted"]),
        (Posting.Ledger.MOVED.value, -sums["moved"]),
    ]


def _months(programme: Programme) -> list[Month]:
    """Outstanding points by the month of their last usable day, in the shop's zone; those without end come last."""
    by_month: dict[date | None, int] = {}
    ends = (
        Lot.objects.filter(account__programme=programme, remaining__gt=0)
        .order_by("expires_at")
        .values_list("expires_at")
        .annotate(points=Sum("remaining"))
    )
    for end, points in ends:
        first = None if end is None else last_day(end).replace(day=1)
        by_month[first] = by_month.get(first, 0) + points
    return [Month(first, points) for first, points in sorted(by_month.items(), key=lambda one: one[0] or date.max)]


def last_day(expires_at: datetime) -> date:
    """The last date, in the shop's zone, on which points that end at ``expires_at`` can be used."""
    return clock.business_date(expires_at - timedelta(seconds=1))


def proved_on() -> date | None:
    """The last night whose proof compared accounts with their entries."""
    return Proof.objects.order_by("-proved_on").values_list("proved_on", flat=True).first()


def frozen() -> QuerySet[Freeze]:
    """Accounts that stand still because the proof failed, the longest first."""
    return Freeze.objects.filter(ended_at=None).select_related("account__customer", "account__programme").order_by("pk")


def approvals() -> QuerySet[Approval]:
    """Adjustments that wait or waited for a second person, the last first."""
    return Approval.objects.select_related(
        "customer", "grant", "requested_by", "decided_by", "programme", "entry"
    ).order_by("-pk")


def holds() -> QuerySet[Hold]:
    """Holds, the last first."""
    return Hold.objects.select_related("customer", "programme", "actor").order_by("-pk")


def household(customer: Customer) -> HouseholdMember | None:
    """The household a customer is in now, in the current programme."""
    return (
        HouseholdMember.objects.filter(programme=Programme.current(), customer=customer, left_at=None)
        .select_related("household")
        .first()
    )


@dataclass(frozen=True)
class Shared:
    """What the others in a customer's household have to spend, which a redemption may use after the customer's own points."""

    household: Household | None = None
    points: int = 0


def shared(customer: Customer, programme: Programme | None, as_of: datetime) -> Shared:
    """To the second, from the lots: what ``ledger.redeem`` would find. Frozen accounts stay out of the pool."""
    mine = HouseholdMember.objects.filter(programme=programme, customer=customer, left_at=None)
    member = mine.select_related("household").first()
    if member is None:
        return Shared()
    family = member.household.members.filter(left_at=None).exclude(customer=customer)
    others = list(family.values_list("customer", flat=True))
    debts = dict(
        Account.objects.filter(programme=programme, customer__in=others, frozen_at=None).values_list("pk", "debt")
    )
    lots = Lot.objects.filter(customer__in=others, account__in=debts, remaining__gt=0)
    alive = Q(expires_at=None) | Q(expires_at__gt=as_of)
    usable = Q(activated_at__isnull=False) | Q(active_at__lte=as_of)
    left = lots.filter(alive & usable).order_by().values_list("account").annotate(Sum("remaining"))
    return Shared(member.household, sum(max(0, points - debts[account]) for account, points in left))


def members(household: Household) -> list[tuple[HouseholdMember, int]]:
    """Who is in a household now, with their usable points."""
    rows = list(household.members.filter(left_at=None).select_related("customer").order_by("joined_at", "pk"))
    points = dict(
        Account.objects.filter(
            programme=household.programme_id, customer__in=[one.customer_id for one in rows]
        ).values_list("customer", "balance")
    )
    return [(one, points.get(one.customer_id, 0)) for one in rows]


def merges(customer: Customer) -> QuerySet[Merge]:
    """Merges from or into a customer's accounts, the last first."""
    return (
        Merge.objects.filter(Q(from_account__customer=customer) | Q(into_account__customer=customer))
        .select_related("from_account__customer", "into_account__customer", "programme")
        .order_by("-pk")
    )


def grants() -> QuerySet[Grant]:
    """Points for sets of people, the last first."""
    return Grant.objects.select_related("programme", "requested_by", "undone_by").order_by("-pk")


def extensions() -> QuerySet[Extension]:
    """Decisions that points may be used longer, and those that took one back, the last first."""
    return Extension.objects.select_related("programme", "actor", "undone_by").order_by("-pk")


def ending(
    *,
    programme: Programme,
    customers: Sequence[Customer] | None = None,
    ends_from: datetime | None = None,
    ends_before: datetime | None = None,
) -> tuple[int, int]:
    """Points that are not over and have an end, in (``ends_from``, ``ends_before``], and how many customers have them."""
    found = Lot.objects.filter(account__programme=programme, remaining__gt=0, expires_at__gt=clock.now())
    if ends_from is not None:
        found = found.filter(expires_at__gt=ends_from)
    if ends_before is not None:
        found = found.filter(expires_at__lte=ends_before)
    if customers is not None:
        found = found.filter(customer__in=customers)
    sums = found.aggregate(points=Sum("remaining", default=0), people=Count("customer", distinct=True))
    return sums["points"], sums["people"]


def extended(customer: Customer) -> list[ExtendedLot]:
    """The lots of one customer that somebody extended, the last six."""
    return list(
        ExtendedLot.objects.filter(customer=customer)
        .select_related("extension__actor", "extension")
        .order_by("-pk")[:6]
    )


def oldest_freeze_seconds() -> float | None:
    """How long the longest frozen account has stood still; ``None`` when none does."""
    first = frozen().values_list("frozen_at", flat=True).first()
    return None if first is None else max(0.001, (clock.now() - first).total_seconds())


def segments_in_use() -> Iterator[tuple[str, Use]]:
    """Segments that earning rules in force, or ahead, are for."""
    rules = EarningRule.objects.filter(is_current=True).exclude(ends_at__lte=clock.now()).order_by("pk")
    for rule in rules.select_related("segment", "programme"):
        if rule.segment is not None:
            page = reverse("loyalty:programme", args=[rule.programme.key])
            yield rule.segment.key, Use(gettext_lazy("Earning rule"), f"{rule.programme}: {rule.name}", page)

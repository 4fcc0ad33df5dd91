"""What the pages and the API read. Every number comes with how many customers stand behind it and with its moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Q, QuerySet, Sum
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from customers.models import Customer
from customers.timeline import Cursor
from customers.usage import Use
from lifecycle_crm.lib import clock
from lifecycle_crm.templatetags.crm import money, num
from loyalty import sentences
from loyalty.models import (
    Account,
    Approval,
    EarningRule,
    Entry,
    ExtendedLot,
    Extension,
    Freeze,
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


PAGE = 50


def movements(
    *,
    programme: Programme | None,
    kind: str = "",
    customer: Customer | None = None,
    start: datetime,
    end: datetime,
    before: Cursor | None = None,
) -> tuple[list[Entry], Cursor | None]:
    """A page of the movements of ``[start, end)``, the newest first, and where the next page begins, if there is one."""
    found = Entry.objects.filter(programme=programme, effective_at__gte=start, effective_at__lt=end)
    if kind:
        found = found.filter(kind=kind)
    if customer is not None:
        found = found.filter(customer=customer)
    if before is not None:
        found = found.filter(Q(effective_at__lt=before.at) | Q(effective_at=before.at, pk__lt=before.pk))
    rows = list(
        found.select_related("customer", "actor").order_by("-effective_at", "-pk")[: PAGE + 1]
    )  # fmt: skip
    if len(rows) <= PAGE:
        return rows, None
    return rows[:PAGE], Cursor(rows[PAGE - 1].effective_at, 0, rows[PAGE - 1].pk)


def undone_by(entries: Sequence[int]) -> dict[int, int]:
    """Which entry undid each of these, in part or whole: the last one of each."""
    found = Entry.objects.filter(Q(reverses__in=entries) | Q(takes_back__in=entries)).order_by("pk")
    return {
        undone: pk for pk, whole, part in found.values_list("pk", "reverses", "takes_back") if (undone := whole or part)
    }


def proved_on() -> date | None:
    """The last night whose proof compared accounts with their entries."""
    return Proof.objects.order_by("-proved_on").values_list("proved_on", flat=True).first()


def frozen() -> QuerySet[Freeze]:
    """Accounts that stand still because the proof failed, the longest first."""
    return Freeze.objects.filter(ended_at=None).select_related("account__customer", "account__programme").order_by("pk")


def approvals() -> QuerySet[Approval]:
    """Adjustments that wait or waited for a second person, the last first."""
    return Approval.objects.select_related("customer", "requested_by", "decided_by", "programme", "entry").order_by(
        "-pk"
    )


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


# --- One customer -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """An entry as a line of the account: what it changed of the spendable points, what was left, and why."""

    entry: Entry
    change: int
    balance: int
    why: str
    last_day: date | None
    may_undo: bool


@dataclass(frozen=True)
class AccountView:
    """What one customer has. ``spendable`` counts to the second; the cached balance follows at night."""

    customer: Customer
    account: Account
    as_of: datetime
    spendable: int
    next_last_day: date | None
    next_points: int
    next_active_at: datetime | None
    shared: Shared = Shared()

    @property
    def together(self) -> int:
        """What a redemption can spend: their own points, then those of their household."""
        return self.spendable + self.shared.points


def accounts() -> QuerySet[Account]:
    """The accounts of the current programme."""
    programme = Programme.current()
    return Account.objects.filter(programme=programme) if programme else Account.objects.none()


def account(customer: Customer, *, as_of: datetime | None = None) -> AccountView:
    """One customer's points. Somebody who never earned has an account of zeros that is not stored."""
    moment = as_of or clock.now()
    programme = Programme.current()
    held = Account.objects.filter(programme=programme, customer=customer).first()
    if held is None or programme is None:
        none = Account(programme=programme, customer=customer)
        pool = shared(customer, programme, moment) if programme else Shared()
        return AccountView(customer, none, moment, 0, None, 0, None, pool)
    lots = Lot.objects.filter(customer=customer, account=held, remaining__gt=0)
    alive = Q(expires_at=None) | Q(expires_at__gt=moment)
    usable = Q(activated_at__isnull=False) | Q(active_at__lte=moment)
    spendable = lots.filter(alive & usable).aggregate(points=Sum("remaining", default=0))["points"]
    ends = (
        lots.filter(expires_at__gt=moment)
        .order_by("expires_at")
        .values_list("expires_at")
        .annotate(points=Sum("remaining"))
        .first()
    )
    waiting = lots.filter(activated_at=None, active_at__gt=moment).order_by("active_at").first()
    return AccountView(
        customer=customer,
        account=held,
        as_of=moment,
        spendable=max(0, spendable - held.debt),
        next_last_day=last_day(ends[0]) if ends and ends[0] else None,
        next_points=ends[1] if ends else 0,
        next_active_at=waiting.active_at if waiting else None,
        shared=shared(customer, programme, moment),
    )


def lines(held: Account, *, before: int | None = None, limit: int = 30) -> tuple[list[Line], int | None]:
    """Lines of an account, the last first, and where the next page begins (``None`` at the end)."""
    found = Entry.objects.filter(account=held, customer_id=held.customer_id)
    if before is not None:
        found = found.filter(pk__lt=before)
    entries = list(
        found.select_related("actor", "lot", "reversed_by", "programme", "redemption")
        .prefetch_related("postings")
        .order_by("-pk")[: limit + 1]
    )
    more, entries = len(entries) > limit, entries[:limit]
    if not entries:
        return [], None
    balance = (
        Posting.objects.filter(
            entry__customer_id=held.customer_id,
            entry__account=held,
            entry__lte=entries[0].pk,
            ledger=Posting.Ledger.AVAILABLE,
        ).aggregate(points=Sum("points", default=0))["points"]
        if before is not None
        else held.balance
    )
    taken = dict(
        Entry.objects.filter(takes_back__in=[entry.pk for entry in entries])
        .order_by()
        .values_list("takes_back")
        .annotate(Sum("points"))
    )
    rows: list[Line] = []
    for entry in entries:
        change = sum(one.points for one in entry.postings.all() if one.ledger == Posting.Ledger.AVAILABLE)
        lot: Lot | None = getattr(entry, "lot", None)
        rows.append(
            Line(
                entry=entry,
                change=change,
                balance=balance,
                why=explain(entry),
                last_day=last_day(lot.expires_at) if lot and lot.expires_at else None,
                may_undo=_may_undo(entry, taken.get(entry.pk, 0)),
            )
        )
        balance -= change
    return rows, entries[-1].pk if more else None


def _may_undo(entry: Entry, taken: int) -> bool:
    if entry.kind in (Entry.Kind.SPEND, Entry.Kind.ADJUST) and entry.points < 0:
        # What paid for a reward comes back with it, from the list of redemptions.
        return not hasattr(entry, "reversed_by") and not hasattr(entry, "redemption")
    return entry.kind in (Entry.Kind.EARN, Entry.Kind.ADJUST) and entry.points + taken > 0


def entries() -> QuerySet[Entry]:
    """All entries with what a list of them shows."""
    return Entry.objects.select_related("customer", "actor")


def explain(entry: Entry) -> str:
    """Why an entry moved points, as a sentence in the reader's language; what a person wrote comes as it is."""
    told: dict[str, Any] = entry.explanation or {}
    kind = entry.kind
    if told.get("lines"):
        return sentences.earned(told)
    if told.get("rule") == "referral_advocate":
        return _("A friend you recommended us to has ordered.")
    if told.get("rule") == "referral_friend":
        return _("Welcome: a friend recommended us to you.")
    if told.get("rule") == "per_unit":
        return ngettext(
            "%(points)s point for each whole %(currency)s of an order of %(amount)s.",
            "%(points)s points for each whole %(currency)s of an order of %(amount)s.",
            told["points_per_unit"],
        ) % {
            "points": num(told["points_per_unit"]),
            "currency": told["currency"],
            "amount": money(told["base_minor"], told["currency"]),
        }
    if told.get("rule") == "refunded":
        sentence = _("%(refunded)s of %(total)s was refunded.") % {
            "refunded": money(told["refunded_minor"], told["currency"]),
            "total": money(told["total_minor"], told["currency"]),
        }
    elif told.get("rule") == "cancelled":
        sentence = _("The order was cancelled.")
    elif told.get("rule") in ("gift", "pool", "merge"):
        return _moved(entry, told)
    elif kind == Entry.Kind.RELEASE:
        return entry.reason or _("Points that were held are free again.")
    elif kind == Entry.Kind.ACTIVATE:
        return _("The waiting time was over.")
    elif kind == Entry.Kind.EXPIRE:
        return _("The last day to use these points had passed.")
    elif kind == Entry.Kind.REPAY:
        return _("Used for points owed from a returned order.")
    elif kind == Entry.Kind.CANCEL:
        return entry.reason or _("A redemption was undone; the points are back with their old last day.")
    else:
        sentence = entry.reason
    if kind == Entry.Kind.DEBT:
        if sentence and sentence[-1] not in ".!?":
            sentence += "."
        sentence = f"{sentence} {_('These points had been spent already.')}".strip()
    return sentence


def _moved(entry: Entry, told: dict[str, Any]) -> str:
    """Where points came from or went to, by the number of the other customer."""
    to_us = entry.points > 0
    other = {"number": told.get("customer", "")}
    if told.get("back"):
        said = _("A merge with customer #%(number)s was undone.")
    elif told["rule"] == "merge":
        said = _("Merged from customer #%(number)s.") if to_us else _("Merged into customer #%(number)s.")
    elif told["rule"] == "pool":
        said = (
            _("From customer #%(number)s of the household.")
            if to_us
            else _("Used by customer #%(number)s of the household.")
        )
    else:
        said = _("From customer #%(number)s.") if to_us else _("To customer #%(number)s.")
    return f"{said % other} {entry.reason}".strip()


def latest(*, limit: int = 15) -> list[tuple[Entry, str]]:
    """The last movements with their sentences."""
    return [(entry, explain(entry)) for entry in entries().order_by("-effective_at", "-pk")[:limit]]


def largest(*, limit: int = 10) -> list[Account]:
    """The accounts with the most points to spend."""
    return list(accounts().filter(balance__gt=0).select_related("customer").order_by("-balance", "-pk")[:limit])


def segments_in_use() -> Iterator[tuple[str, Use]]:
    """Segments that earning rules in force, or ahead, are for."""
    rules = EarningRule.objects.filter(is_current=True).exclude(ends_at__lte=clock.now()).order_by("pk")
    for rule in rules.select_related("segment", "programme"):
        if rule.segment is not None:
            page = reverse("loyalty:programme", args=[rule.programme.key])
            yield rule.segment.key, Use(gettext_lazy("Earning rule"), f"{rule.programme}: {rule.name}", page)

"""An account as a person reads it: what can be spent, what happened, and in words why each entry is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from django.db.models import Q, QuerySet, Sum
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from customers.models import Customer
from lifecycle_crm.lib import clock
from lifecycle_crm.templatetags.crm import money, num
from loyalty import queries, sentences
from loyalty.models import (
    Account,
    Entry,
    Lot,
    Posting,
    Programme,
)


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
    shared: queries.Shared = field(default_factory=queries.Shared)

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
        pool = queries.shared(customer, programme, moment) if programme else queries.Shared()
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
        next_last_day=queries.last_day(ends[0]) if ends and ends[0] else None,
        next_points=ends[1] if ends else 0,
        next_active_at=waiting.active_at if waiting else None,
        shared=queries.shared(customer, programme, moment),
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
                last_day=queries.last_day(lot.expires_at) if lot and lot.expires_at else None,
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

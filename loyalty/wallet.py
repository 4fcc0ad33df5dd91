"""The wallet: what a customer has, in a page that a signed link opens, and the rules in plain words.

A link says whose wallet and which generation of links; the signature says that we wrote it, and when. Whoever has the
link can spend the points, so it is handed out like a card, and one press makes all earlier links of a customer dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.core import signing
from django.db import IntegrityError, transaction
from django.db.models import F, Q, Sum
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from customers.models import Customer, Product
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Gone
from lifecycle_crm.templatetags.crm import money, num
from loyalty import catalogue, ledger, presets, queries, rewards, rules, sentences, statements, tiers
from loyalty import programme as programmes
from loyalty.models import (
    Account,
    EarningRule,
    Entry,
    Ladder,
    Lot,
    Membership,
    Programme,
    Redemption,
    Tier,
    WalletCard,
)

LINK_DAYS = 400
"""So long a link opens the wallet: a customer who comes once a year still gets in."""
LINES = 20
_signer = signing.TimestampSigner(salt="loyalty.wallet", sep="~")


# --- The card and its links -------------------------------------------------------------------------------------------


def card(customer: Customer) -> WalletCard:
    """The customer's card; made when it is first asked for."""
    found = WalletCard.objects.filter(customer=customer).first()
    while found is None:
        try:
            with transaction.atomic():
                found = WalletCard.objects.create(customer=customer, number=programmes.new_number())
        except IntegrityError:
            # Somebody made it just now, or somebody else has this number.
            found = WalletCard.objects.filter(customer=customer).first()
    return found


def token(of: WalletCard) -> str:
    return _signer.sign(f"{of.customer_id:x}-{of.generation:x}")


def path(of: WalletCard) -> str:
    return reverse("loyalty:wallet", args=[token(of)])


def url(customer: Customer) -> str:
    """The full public address of the customer's wallet, good for 400 days. Writes nothing: a page may show it."""
    own = WalletCard.objects.filter(customer=customer).first() or WalletCard(customer=customer)
    return settings.SITE_URL + path(own)


def renew_links(*, customer: Customer) -> WalletCard:
    """Make every link so far dead, as when somebody forwarded a message; the number of the card stays."""
    own = card(customer)
    theirs = [customer.pk, *ledger.merged_into(customer)]
    WalletCard.objects.filter(customer__in=theirs).update(generation=F("generation") + 1)
    own.refresh_from_db()
    return own


def find(token: str) -> WalletCard:
    """The card whose wallet a link opens: of who they are now, if they were merged with somebody. Raises ``Gone`` for one
    that we did not make, that is old or was made dead."""
    try:
        customer_id, generation = _signer.unsign(token, max_age=timedelta(days=LINK_DAYS)).split("-")
        pk, number = int(customer_id, 16), int(generation, 16)
    except (signing.BadSignature, ValueError):
        pk, number = 0, 0
    found = WalletCard.objects.select_related("customer").filter(customer=pk).first()
    if found is None and number == 1 and (customer := Customer.objects.filter(pk=pk).first()):
        found = card(customer)  # The first time that somebody opens it.
    if found is not None and found.generation != number:
        found = None
    if found is None:
        raise Gone(
            _("This link to your points has ended. Use the link in our newest message, or ask us for a new one.")
        )
    now = ledger.survivor(found.customer)
    return found if now.pk == found.customer_id else card(now)


# --- What is in it ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A movement as the customer reads it."""

    entry: Entry
    label: str
    why: str


@dataclass(frozen=True)
class Plain:
    """A programme in plain words: how one earns, what holds for the points, the tiers with (name, from, benefits)."""

    programme: Programme
    earn: Sequence[str]
    keep: Sequence[str]
    tiers: Sequence[tuple[str, str, Sequence[str]]]


@dataclass(frozen=True)
class Wallet:
    """A customer in one programme at a moment. ``endings``: last day and points, the first first."""

    customer: Customer
    programme: Programme | None
    as_of: datetime
    spendable: int = 0
    pending: int = 0
    debt: int = 0
    is_frozen: bool = False
    next_active_at: datetime | None = None
    value_minor: int = 0
    endings: Sequence[tuple[date, int]] = ()
    lines: Sequence[Line] = ()
    earlier: int | None = None
    offers: Sequence[rewards.Offer] = ()
    taken: Sequence[Redemption] = ()
    progress: Any = None
    stay: Membership | None = None
    plain: Plain | None = None
    others: Sequence[Programme] = field(default_factory=tuple)
    shared: queries.Shared = field(default_factory=queries.Shared)

    @property
    def together(self) -> int:
        """What a reward can be redeemed with: their own points, then those of their household."""
        return self.spendable + self.shared.points


def belongs_to(customer: Customer, *, as_of: datetime) -> list[Programme]:
    """The active programmes the customer is in, the main one first."""
    joined = set(
        Membership.objects.filter(programmes.running(as_of), customer=customer).values_list("programme", flat=True)
    )
    return [
        one
        for one in Programme.objects.filter(is_active=True).order_by("position", "pk")
        if one.joining == Programme.Joining.EVERYBODY or one.pk in joined
    ]


def view(
    customer: Customer,
    *,
    key: str = "",
    before: int | None = None,
    as_of: datetime | None = None,
    is_for_customer: bool = False,
) -> Wallet:
    """Everything the wallet shows of one programme, ``key``'s or the main one. ``is_for_customer``: what a preset brought is
    in the language of the reader; otherwise it is as the shop has it."""
    moment = as_of or clock.now()
    mine = belongs_to(customer, as_of=moment)
    for each in mine if is_for_customer else ():
        speak(each)
    one = next((each for each in mine if each.key == key), mine[0] if mine else None)
    if one is None:
        return Wallet(customer, None, moment)
    stay = programmes.members(one, moment).filter(customer=customer).first()
    held = Account.objects.filter(programme=one, customer=customer).first()
    shown: dict[str, Any] = {}
    spendable = 0
    if held is not None:
        spendable, shown = _points(held, moment)
        shown["lines"], shown["earlier"] = _history(held, before)
    progress = tiers.progress(customer, one, as_of=moment)
    pool = queries.shared(customer, one, moment)
    offers = rewards.offers(customer=customer, programme=one, spendable=spendable + pool.points, as_of=moment)
    taken = [each for each in catalogue.of_customer(customer) if each.reward.programme_id == one.pk]
    if is_for_customer:
        steps = (progress.tier, progress.following) if progress else ()
        for named in (*(offer.reward for offer in offers), *(row.reward for row in taken), *steps):
            speak(named)
    return Wallet(
        customer=customer,
        programme=one,
        as_of=moment,
        spendable=spendable,
        value_minor=spendable * one.value_minor_per_100 // 100,
        offers=offers,
        taken=taken,
        progress=progress,
        stay=stay,
        shared=pool,
        plain=in_plain_words(one),
        others=[each for each in mine if each.pk != one.pk],
        **shown,
    )


def _points(held: Account, moment: datetime) -> tuple[int, dict[str, Any]]:
    """To the second, from the lots: the cached balance follows at night."""
    lots = Lot.objects.filter(customer=held.customer_id, account=held, remaining__gt=0)
    alive = lots.filter(Q(expires_at=None) | Q(expires_at__gt=moment))
    waits = Q(activated_at=None, active_at__gt=moment)
    usable = alive.exclude(waits).aggregate(points=Sum("remaining", default=0))["points"]
    waiting = alive.filter(waits)
    first = waiting.order_by("active_at").values_list("active_at", flat=True).first()
    ends: dict[date, int] = {}
    for end, points in (
        alive.exclude(expires_at=None).order_by("expires_at").values_list("expires_at").annotate(Sum("remaining"))
    ):
        last = queries.last_day(end)
        ends[last] = ends.get(last, 0) + points
    return max(0, usable - held.debt), {
        "pending": waiting.aggregate(points=Sum("remaining", default=0))["points"],
        "debt": held.debt,
        "is_frozen": held.frozen_at is not None,
        "next_active_at": first,
        "endings": list(ends.items())[:6],
    }


def _history(held: Account, before: int | None) -> tuple[list[Line], int | None]:
    found = Entry.objects.filter(account=held, customer=held.customer_id)
    if before is not None:
        found = found.filter(pk__lt=before)
    rows = list(found.order_by("-pk")[: LINES + 1])
    more, rows = len(rows) > LINES, rows[:LINES]
    return [Line(one, one.get_kind_display(), said(one)) for one in rows], rows[-1].pk if more else None


def said(entry: Entry) -> str:
    """Why points moved, as the customer may read it: what staff wrote for one another stays with them."""
    told: dict[str, Any] = entry.explanation or {}
    for line in (told, *told.get("lines", ())):
        if "name" in line:
            line["name"] = presets.said(line["name"])
    if told or entry.kind in (Entry.Kind.ACTIVATE, Entry.Kind.EXPIRE, Entry.Kind.REPAY):
        return statements.explain(entry)
    if entry.kind == Entry.Kind.ADJUST:
        return _("Given by us.") if entry.points > 0 else _("Taken by us.")
    if entry.kind == Entry.Kind.CANCEL:
        return _("A redemption was undone; the points are back with their old last day.")
    return entry.reason if entry.kind in (Entry.Kind.SPEND, Entry.Kind.EARN) else ""


def speak(one: Any) -> None:
    """Say what a preset brought in the reader's language: a programme, a reward, a tier, a rule or ``None``. Only on the row
    in memory, which is shown and not saved."""
    if one is None:
        return
    one.name = presets.said(one.name)
    if isinstance(one, Programme):
        one.about = presets.said(one.about)
    elif isinstance(one, Tier):
        one.benefits = [presets.said(text) for text in one.benefits]


# --- The rules in plain words -----------------------------------------------------------------------------------------


def in_plain_words(programme: Programme) -> Plain:
    """The programme as it is, said to a customer. Rules for a segment or a stage are ours to know and are left out."""
    ladder = Ladder.objects.filter(programme=programme).first()
    steps = list(Tier.objects.filter(programme=programme).order_by("threshold"))
    own = [one for one in rules.in_force(programme) if one.segment_id is None and not one.stages]
    for row in (*steps, *own):
        speak(row)
    names = {one.key: one.name for one in steps}
    skus = {one.subject for one in own if one.kind == EarningRule.Kind.PRODUCT}
    goods = dict(Product.objects.filter(sku__in=skus).values_list("sku", "name")) if skus else {}
    return Plain(
        programme=programme,
        earn=[sentences.for_customers(one, names, goods) for one in own],
        keep=sentences.programme(programme),
        tiers=[(one.name, _reached(ladder, one), one.promised) for one in steps] if ladder else [],
    )


def amount(ladder: Ladder, number: int) -> str:
    """So many points, so much money or so many orders, as the ladder counts."""
    if ladder.measure == Ladder.Measure.SPEND:
        return money(number, settings.SHOP_CURRENCY)
    if ladder.measure == Ladder.Measure.ORDERS:
        return ngettext("%(n)s order", "%(n)s orders", number) % {"n": num(number)}
    return sentences.points(number)


def _reached(ladder: Ladder, tier: Tier) -> str:
    values = {"amount": amount(ladder, tier.threshold), "n": num(ladder.window_months)}
    if ladder.window == Ladder.Window.CALENDAR:
        return _("from %(amount)s in a calendar year") % values
    if ladder.window == Ladder.Window.LIFETIME:
        return _("from %(amount)s in all") % values
    return (
        ngettext("from %(amount)s in %(n)s month", "from %(amount)s in %(n)s months", ladder.window_months) % values
    )  # fmt: skip

"""The ledger: the only module that moves points.

What keeps it true:

* every verb first locks the accounts it touches, in the order of their ids (``book.hold``). PostgreSQL locks the rows;
  SQLite has one writer at a time, because a transaction there begins IMMEDIATE;
* a limit is part of the write (``_reserve``) and of the table (CHECK), never only of a read before it;
* an entry has a key that names its cause, so a cause moves points once, however often it is told;
* entries, postings and uses of lots are append-only by trigger.
"""

from __future__ import annotations

import json
from calendar import monthrange
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Sum
from django.utils.translation import gettext as _

from customers.models import Customer
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import parameter
from loyalty import book
from loyalty.errors import AccountFrozen, InsufficientPoints, KeyReused, NoProgramme, NotReversible
from loyalty.models import Account, Entry, Lot, LotSpend, Programme

MOST_POINTS = 10**9
"""More in one movement is a typing mistake."""


# --- When points end --------------------------------------------------------------------------------------------------


def add_months(day: date, months: int) -> date:
    """The same day of a later month, or its last day: 31 January and one month is 28 or 29 February."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def expiry(effective_at: datetime, months: int | None) -> datetime | None:
    """The first instant at which points credited at ``effective_at`` are gone: the end, in the shop's zone, of their
    last day, which can still be spent on. ``None`` if they never expire."""
    if months is None:
        return None
    return clock.day_end(add_months(clock.business_date(effective_at), months))


# --- What a caller hands in -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Earning:
    """Points to credit. Usable from ``active_at``, gone at ``expires_at`` (``None``: never)."""

    customer_id: int
    points: int
    key: str
    effective_at: datetime
    active_at: datetime
    expires_at: datetime | None = None
    reason: str = ""
    explanation: dict[str, Any] = field(default_factory=dict)
    source_type: str = ""
    source_id: str = ""


@dataclass(frozen=True, slots=True)
class TakeBack:
    """An earning to take back until ``up_to`` points of it are taken back in all. Telling it twice changes nothing."""

    entry_id: int
    up_to: int
    key: str
    effective_at: datetime
    reason: str = ""
    explanation: dict[str, Any] = field(default_factory=dict)
    source_type: str = ""
    source_id: str = ""
    actor_id: int | None = None


# --- What time alone does ---------------------------------------------------------------------------------------------


def _activate(as_of: datetime) -> int:
    """Make the due lots of the held accounts usable."""
    book.clear()
    count = batches.execute(
        """
        INSERT INTO ledger_moves (key, kind, programme_id, account_id, customer_id, points, effective_at, pending,
                                  available, source_type, source_id, lot_id)
        SELECT 'activate:' || l.id, 'activate', a.programme_id, l.account_id, l.customer_id, l.remaining, l.active_at,
               -l.remaining, l.remaining, 'lot', CAST(l.id AS text), l.id
        FROM loyalty_lot l JOIN loyalty_account a ON a.id = l.account_id
        WHERE l.account_id IN (SELECT account_id FROM ledger_accounts)
          AND l.customer_id IN (SELECT customer_id FROM loyalty_account
                                WHERE id IN (SELECT account_id FROM ledger_accounts))
          AND l.activated_at IS NULL AND l.remaining > 0 AND l.active_at <= %s
        """,
        [parameter(as_of)],
    )
    if count:
        book.post()
        batches.execute("UPDATE loyalty_lot SET activated_at = active_at WHERE id IN (SELECT lot_id FROM ledger_moves)")
    return count


def _expire(as_of: datetime) -> int:
    """End the due lots of the held accounts."""
    book.clear()
    count = batches.execute(
        """
        INSERT INTO ledger_moves (key, kind, programme_id, account_id, customer_id, points, effective_at, available,
                                  system, source_type, source_id, lot_id)
        SELECT 'expire:' || l.id || ':' || (SELECT count(*) FROM loyalty_lotspend s WHERE s.lot_id = l.id), 'expire',
               a.programme_id, l.account_id, l.customer_id, -l.remaining, l.expires_at, -l.remaining, 'expired', 'lot',
               CAST(l.id AS text), l.id
        FROM loyalty_lot l JOIN loyalty_account a ON a.id = l.account_id
        WHERE l.account_id IN (SELECT account_id FROM ledger_accounts)
          AND l.customer_id IN (SELECT customer_id FROM loyalty_account
                                WHERE id IN (SELECT account_id FROM ledger_accounts))
          AND l.activated_at IS NOT NULL AND l.remaining > 0 AND l.expires_at <= %s
        """,
        [parameter(as_of)],
    )
    if count:
        batches.execute("INSERT INTO ledger_takes (key, lot_id, points) SELECT key, lot_id, -points FROM ledger_moves")
        book.post()
    return count


def _repay(as_of: datetime) -> int:
    """Where a held account has both a debt and something to spend, the debt is repaid first."""
    book.clear()
    count = batches.execute(
        """
        INSERT INTO ledger_moves (key, kind, programme_id, account_id, customer_id, points, effective_at, available, debt,
                                  burn)
        SELECT 'repay:' || d.id || ':' || (SELECT max(e.id) FROM loyalty_entry e WHERE e.customer_id = d.customer_id),
               'repay', d.programme_id, d.id, d.customer_id, d.points, %s, -d.points, d.points, d.points
        FROM (
            SELECT id, programme_id, customer_id, CASE WHEN debt < balance THEN debt ELSE balance END AS points
            FROM loyalty_account
            WHERE id IN (SELECT account_id FROM ledger_accounts) AND debt > 0 AND balance > 0
        ) d
        """,
        [parameter(as_of)],
    )
    if count:
        book.post()
    return count


def activate_due(*, as_of: datetime, low: int, high: int) -> int:
    """Make points of customers with ids in ``[low, high)`` usable whose waiting ended by ``as_of``; how many lots.

    Debts are repaid from them at once. Safe to run again and to be killed: it is one transaction that finds its work
    by the state of the lots.
    """
    with transaction.atomic():
        held = book.hold(
            "SELECT DISTINCT account_id FROM loyalty_lot WHERE activated_at IS NULL AND remaining > 0 "
            "AND active_at <= %s AND customer_id >= %s AND customer_id < %s",
            [parameter(as_of), low, high],
        )
        if not held:
            return 0
        count = _activate(as_of)
        _repay(as_of)
        return count


def expire_due(*, as_of: datetime, low: int, high: int) -> int:
    """End the points of customers with ids in ``[low, high)`` whose last day was over by ``as_of``; how many lots."""
    with transaction.atomic():
        held = book.hold(
            "SELECT DISTINCT account_id FROM loyalty_lot WHERE activated_at IS NOT NULL AND remaining > 0 "
            "AND expires_at <= %s AND customer_id >= %s AND customer_id < %s",
            [parameter(as_of), low, high],
        )
        return _expire(as_of) if held else 0


def _settle(account: Account, as_of: datetime) -> None:
    """Bring one held account up to the second: what is due becomes usable, what is over ends, debts are repaid."""
    due = parameter(as_of)
    [(waiting, ending)] = batches.rows(
        "SELECT coalesce(sum(CASE WHEN activated_at IS NULL AND active_at <= %s THEN 1 ELSE 0 END), 0), "
        "coalesce(sum(CASE WHEN expires_at <= %s THEN 1 ELSE 0 END), 0) "
        "FROM loyalty_lot WHERE customer_id = %s AND account_id = %s AND remaining > 0",
        [due, due, account.customer_id, account.pk],
    )
    if waiting:
        _activate(as_of)
    if ending:
        _expire(as_of)
    _repay(as_of)


# --- Checks -----------------------------------------------------------------------------------------------------------


def _programme(programme: Programme | None) -> Programme:
    found = programme or Programme.current()
    if found is None:
        raise NoProgramme(_("No points programme is active. Switch one on under Admin, Programmes."))
    return found


def _whole(points: int) -> int:
    if isinstance(points, bool) or not isinstance(points, int):
        raise InvalidInput(_("Points are whole numbers."), code="invalid_points")
    if not 0 < abs(points) <= MOST_POINTS:
        raise InvalidInput(
            _("The number of points must be between 1 and %(most)s.") % {"most": MOST_POINTS}, code="invalid_points"
        )
    return points


def _positive(points: int) -> int:
    if _whole(points) < 0:
        raise InvalidInput(_("The number of points must be greater than zero."), code="invalid_points")
    return points


def _moment(effective_at: datetime | None) -> datetime:
    now = clock.now()
    if effective_at is not None and effective_at > now:
        raise InvalidInput(_("Points cannot move in the future. Check the time and its zone."), code="future_date")
    return effective_at or now


def _key(key: str) -> str:
    if not key or len(key) > 240:
        raise InvalidInput(_("A movement of points needs a key of 1 to 240 characters."), code="invalid_key")
    return key


def _reason(reason: str, *, required: bool = False) -> str:
    text = reason.strip()
    if required and not text:
        raise InvalidInput(_("Say why: the reason stays in the customer's history."), code="reason_required")
    if len(text) > 300:
        raise InvalidInput(_("The reason is longer than 300 characters."), code="invalid_reason")
    return text


def _footprint(programme: Programme, key: str, kind: str, customer_id: int, points: int, reason: str) -> Entry | None:
    """The entry this request wrote before, or ``None``. Raises ``KeyReused`` if the key belongs to another request."""
    entry = Entry.objects.filter(programme=programme, key=key).first()
    if entry is None:
        return None
    if (entry.kind, entry.customer_id, entry.points, entry.reason) != (kind, customer_id, points, reason):
        raise KeyReused(
            _("This key was used for another movement of points. Send a new key for a new request."), key=key
        )
    entry.replayed = True
    return entry


def _reserve(account: Account, points: int, kind: str) -> None:
    """Take ``points`` off the balance in one conditional write. Raises when there are not enough, or it is frozen."""
    column = "spent" if kind == Entry.Kind.SPEND else "adjusted"
    change = F(column) + points if kind == Entry.Kind.SPEND else F(column) - points
    open_to = Account.objects.filter(pk=account.pk, balance__gte=points)
    if kind == Entry.Kind.SPEND:
        open_to = open_to.filter(frozen_at=None)
    if open_to.update(balance=F("balance") - points, **{column: change}) == 1:
        return
    account.refresh_from_db()
    if account.frozen_at is not None and kind == Entry.Kind.SPEND:
        raise AccountFrozen(
            _("This account is frozen because its entries and its balance disagree. Check it before redeeming.")
        )
    raise InsufficientPoints(
        _("There are %(balance)s points to spend, %(points)s were asked for.")
        % {"balance": account.balance, "points": points},
        balance=account.balance,
        points=points,
    )


# --- Earning ----------------------------------------------------------------------------------------------------------


def earn(
    *,
    customer: Customer,
    points: int,
    key: str,
    effective_at: datetime | None = None,
    active_at: datetime | None = None,
    expires_at: datetime | None = None,
    reason: str = "",
    explanation: dict[str, Any] | None = None,
    source_type: str = "",
    source_id: str = "",
    programme: Programme | None = None,
) -> Entry:
    """Credit points to a customer. Usable from ``active_at`` (default: at once), gone at ``expires_at`` (default: never).

    The same key again returns the entry it wrote; with another customer or other points it raises ``KeyReused``.
    """
    of = _programme(programme)
    moment = _moment(effective_at)
    row = Earning(
        customer_id=customer.pk,
        points=_positive(points),
        key=_key(key),
        effective_at=moment,
        active_at=active_at or moment,
        expires_at=expires_at,
        reason=_reason(reason),
        explanation=explanation or {},
        source_type=source_type,
        source_id=source_id,
    )
    written = earn_many([row], programme=of)
    entry = Entry.objects.get(programme=of, key=key)
    if (entry.kind, entry.customer_id, entry.points) != (Entry.Kind.EARN, customer.pk, points):
        raise KeyReused(
            _("This key was used for another movement of points. Send a new key for a new request."), key=key
        )
    entry.replayed = not written
    return entry


def earn_many(rows: Sequence[Earning], *, programme: Programme | None = None) -> int:
    """Credit thousands of earnings in one transaction; how many were new. A key that is known already is passed over."""
    of = _programme(programme)
    wanted: dict[str, Earning] = {}
    for row in rows:
        _positive(row.points)
        wanted.setdefault(_key(row.key), row)
    if not wanted:
        return 0
    with transaction.atomic():
        accounts = _open(of, sorted({row.customer_id for row in wanted.values()}))
        book.hold_ids(accounts.values())
        for part in batches.of(list(wanted), 500):
            for key in Entry.objects.filter(programme=of, key__in=part).values_list("key", flat=True):
                del wanted[key]
        book.stage(
            book.Move(
                key=row.key,
                kind=Entry.Kind.EARN.value,
                programme_id=of.pk,
                account_id=accounts[row.customer_id],
                customer_id=row.customer_id,
                points=row.points,
                effective_at=row.effective_at,
                pending=row.points if row.active_at > row.effective_at else 0,
                available=0 if row.active_at > row.effective_at else row.points,
                system="issued",
                reason=row.reason,
                explanation=json.dumps(row.explanation),
                source_type=row.source_type,
                source_id=row.source_id,
                lot_amount=row.points,
                active_at=row.active_at,
                expires_at=row.expires_at,
            )
            for row in wanted.values()
        )
        book.post()
        if any(row.active_at <= row.effective_at for row in wanted.values()):
            _repay(max(row.effective_at for row in wanted.values()))
    return len(wanted)


def _open(programme: Programme, customers: Sequence[int]) -> dict[int, int]:
    """The account ids of these customers, opened where there is none yet."""

    def known() -> dict[int, int]:
        return {
            customer: pk
            for part in batches.of(customers, 500)
            for customer, pk in Account.objects.filter(programme=programme, customer_id__in=part).values_list(
                "customer_id", "pk"
            )
        }

    found = known()
    missing = [pk for pk in customers if pk not in found]
    if missing:
        Account.objects.bulk_create(
            [Account(programme=programme, customer_id=pk) for pk in missing], ignore_conflicts=True, batch_size=500
        )
        found = known()
    return found


# --- Spending ---------------------------------------------------------------------------------------------------------


def redeem(
    *,
    customer: Customer,
    points: int,
    key: str,
    actor: User | None = None,
    reason: str = "",
    effective_at: datetime | None = None,
    explanation: dict[str, Any] | None = None,
    source_type: str = "",
    source_id: str = "",
    programme: Programme | None = None,
) -> Entry:
    """Spend points, those that expire first first. Raises ``InsufficientPoints`` and writes nothing if there are too few.

    The same request again returns the entry it wrote (``entry.replayed``); its key with another request raises
    ``KeyReused``; a frozen account raises ``AccountFrozen``.
    """
    return _burn(
        kind=Entry.Kind.SPEND,
        customer=customer,
        points=_positive(points),
        key=_key(key),
        actor=actor,
        reason=_reason(reason),
        moment=_moment(effective_at),
        explanation=explanation,
        source_type=source_type,
        source_id=source_id,
        programme=_programme(programme),
    )


def _burn(
    *,
    kind: Entry.Kind,
    customer: Customer,
    points: int,
    key: str,
    actor: User | None,
    reason: str,
    moment: datetime,
    explanation: dict[str, Any] | None,
    source_type: str,
    source_id: str,
    programme: Programme,
) -> Entry:
    def before() -> Entry | None:
        return _footprint(programme, key, kind, customer.pk, -points, reason)

    try:
        with transaction.atomic():
            if found := before():
                return found
            account = Account.objects.filter(programme=programme, customer=customer).first()
            if account is None:
                raise InsufficientPoints(
                    _("There are %(balance)s points to spend, %(points)s were asked for.")
                    % {"balance": 0, "points": points},
                    balance=0,
                    points=points,
                )
            book.hold_ids([account.pk])
            if found := before():  # written while we waited for the account
                return found
            _settle(account, moment)
            _reserve(account, points, kind)
            book.clear()
            book.stage(
                [
                    book.Move(
                        key=key,
                        kind=kind.value,
                        programme_id=programme.pk,
                        account_id=account.pk,
                        customer_id=customer.pk,
                        points=-points,
                        effective_at=moment,
                        available=-points,
                        system="redeemed" if kind == Entry.Kind.SPEND else "adjusted",
                        reason=reason,
                        explanation=json.dumps(explanation or {}),
                        source_type=source_type,
                        source_id=source_id,
                        actor_id=actor.pk if actor else None,
                        burn=points,
                    )
                ]
            )
            book.post(with_accounts=False)
    except IntegrityError:
        # The same key under two customers at once: the second one learns what the key belongs to.
        if found := before():
            return found
        raise
    return Entry.objects.get(programme=programme, key=key)


def adjust(
    *,
    customer: Customer,
    points: int,
    key: str,
    actor: User | None,
    reason: str,
    effective_at: datetime | None = None,
    source_type: str = "",
    source_id: str = "",
    programme: Programme | None = None,
) -> Entry:
    """Give (positive) or take (negative) points by hand, with a reason. What is given expires like an order's points."""
    of = _programme(programme)
    _whole(points)
    text = _reason(reason, required=True)
    moment = _moment(effective_at)
    if points < 0:
        return _burn(
            kind=Entry.Kind.ADJUST,
            customer=customer,
            points=-points,
            key=_key(key),
            actor=actor,
            reason=text,
            moment=moment,
            explanation=None,
            source_type=source_type,
            source_id=source_id,
            programme=of,
        )

    def before() -> Entry | None:
        return _footprint(of, key, Entry.Kind.ADJUST, customer.pk, points, text)

    try:
        with transaction.atomic():
            if found := before():
                return found
            account_id = _open(of, [customer.pk])[customer.pk]
            book.hold_ids([account_id])
            if found := before():
                return found
            book.stage(
                [
                    book.Move(
                        key=_key(key),
                        kind=Entry.Kind.ADJUST.value,
                        programme_id=of.pk,
                        account_id=account_id,
                        customer_id=customer.pk,
                        points=points,
                        effective_at=moment,
                        available=points,
                        system="adjusted",
                        reason=text,
                        source_type=source_type,
                        source_id=source_id,
                        actor_id=actor.pk if actor else None,
                        lot_amount=points,
                        active_at=moment,
                        expires_at=expiry(moment, of.expiry_months),
                    )
                ]
            )
            book.post()
            _repay(moment)
    except IntegrityError:
        if found := before():
            return found
        raise
    return Entry.objects.get(programme=of, key=key)


# --- Taking back ------------------------------------------------------------------------------------------------------


def cancel_redemption(
    *, entry: Entry, key: str, actor: User | None = None, reason: str = "", effective_at: datetime | None = None
) -> Entry:
    """Give the points of a redemption (or of a deduction by hand) back to the lots they came from, ends unchanged.

    What expired meanwhile comes back expired: the history shows both. Raises ``NotReversible`` for a second time.
    """
    if entry.kind not in (Entry.Kind.SPEND, Entry.Kind.ADJUST) or entry.points > 0:
        raise NotReversible(_("Only a redemption or a deduction can be given back."))
    moment = _moment(effective_at)
    text = _reason(reason)
    _key(key)

    def before() -> Entry | None:
        return _footprint(entry.programme, key, Entry.Kind.CANCEL, entry.customer_id, -entry.points, text)

    try:
        with transaction.atomic():
            if found := before():
                return found
            book.hold_ids([entry.account_id])
            if found := before():
                return found
            if Entry.objects.filter(reverses=entry).exists():
                raise NotReversible(_("These points were given back already."))
            book.stage(
                [
                    book.Move(
                        key=_key(key),
                        kind=Entry.Kind.CANCEL.value,
                        programme_id=entry.programme_id,
                        account_id=entry.account_id,
                        customer_id=entry.customer_id,
                        points=-entry.points,
                        effective_at=moment,
                        available=-entry.points,
                        system="redeemed" if entry.kind == Entry.Kind.SPEND else "adjusted",
                        reason=text,
                        source_type="entry",
                        source_id=str(entry.pk),
                        actor_id=actor.pk if actor else None,
                        reverses_id=entry.pk,
                    )
                ]
            )
            book.stage_takes(
                (key, lot, -points)
                for lot, points in LotSpend.objects.filter(entry=entry).values_list("lot_id", "points")
            )
            book.post()
            _settle(Account.objects.get(pk=entry.account_id), moment)
    except IntegrityError:
        if found := before():
            return found
        raise
    return Entry.objects.get(programme_id=entry.programme_id, key=key)


def reverse(
    *,
    entry: Entry,
    key: str,
    points: int | None = None,
    actor: User | None = None,
    reason: str = "",
    effective_at: datetime | None = None,
) -> Entry:
    """Take back an earning or a gift by hand, in part (``points``) or all that is left of it.

    From its own lot first, then from the other points to spend; what was spent already becomes a debt. Returns the
    ``reverse`` entry, or the ``debt`` entry if nothing was left to take. What expired is gone and is not taken twice.
    """
    if entry.kind not in (Entry.Kind.EARN, Entry.Kind.ADJUST) or entry.points < 0:
        raise NotReversible(_("Only points that were earned or given can be taken back."))
    if points is not None:
        _positive(points)
    moment = _moment(effective_at)
    with transaction.atomic():
        book.hold_ids([entry.account_id])
        found = Entry.objects.filter(programme_id=entry.programme_id, key=_key(key)).first()
        if found is not None:
            # One request may have become two entries (taken back, owed): together they are its points.
            both = Entry.objects.filter(programme_id=entry.programme_id, key__in=[key, f"{key}:debt"])
            sums = both.aggregate(points=Sum("points"))
            same = found.takes_back_id == entry.pk and found.reason == _reason(reason)
            if not same or (points is not None and sums["points"] != -points):
                raise KeyReused(
                    _("This key was used for another movement of points. Send a new key for a new request."), key=key
                )
            found.replayed = True
            return found
        taken, limit = _taken_back([entry])[entry.pk]
        left = limit - taken
        if left <= 0:
            raise NotReversible(_("Nothing is left to take back: these points were taken back or have expired."))
        if points is not None and points > left:
            raise InvalidInput(
                _("At most %(left)s points can be taken back here.") % {"left": left}, code="invalid_points", left=left
            )
        reverse_many(
            [
                TakeBack(
                    entry_id=entry.pk,
                    up_to=taken + (points or left),
                    key=key,
                    effective_at=moment,
                    reason=_reason(reason),
                    source_type="entry",
                    source_id=str(entry.pk),
                    actor_id=actor.pk if actor else None,
                )
            ]
        )
        return Entry.objects.get(programme_id=entry.programme_id, key=key)


def undo(*, entry: Entry, key: str, points: int | None = None, actor: User | None = None, reason: str = "") -> Entry:
    """What "undo this line" means for its kind: a redemption or deduction is given back, an earning or gift taken back."""
    if entry.points > 0:
        return reverse(entry=entry, key=key, points=points, actor=actor, reason=reason)
    if points is not None and points != -entry.points:
        raise InvalidInput(_("A redemption is given back as a whole. Leave the points out."), code="invalid_points")
    return cancel_redemption(entry=entry, key=key, actor=actor, reason=reason)


def left_to_take_back(entry: Entry) -> int:
    """How many points of an earning or gift can still be taken back; 0 for every other kind."""
    if entry.kind not in (Entry.Kind.EARN, Entry.Kind.ADJUST) or entry.points < 0:
        return 0
    taken, limit = _taken_back([entry])[entry.pk]
    return max(0, limit - taken)


def _taken_back(entries: Sequence[Entry]) -> dict[int, tuple[int, int]]:
    """Per earning: points taken back so far, and the most that can be: what was earned without what expired of it."""
    taken: dict[int, int] = {}
    gone: dict[int, int] = {}
    for part in batches.of([entry.pk for entry in entries], 500):
        back = Entry.objects.filter(takes_back__in=part).values_list("takes_back").annotate(Sum("points")).order_by()
        taken.update((pk, -points) for pk, points in back)
        expired = LotSpend.objects.filter(lot__entry__in=part, entry__kind=Entry.Kind.EXPIRE)
        gone.update(expired.values_list("lot__entry").annotate(Sum("points")).order_by())
    return {entry.pk: (taken.get(entry.pk, 0), entry.points - gone.get(entry.pk, 0)) for entry in entries}


def reverse_many(rows: Sequence[TakeBack]) -> int:
    """Take back parts of many earnings in one transaction; how many rows moved points. A known key is passed over.

    Set-based where an earning's own lot still holds enough, which is nearly always; the others one by one.
    """
    if not rows:
        return 0
    with transaction.atomic():
        ids = sorted({row.entry_id for row in rows})
        entries = {
            entry.pk: entry for part in batches.of(ids, 500) for entry in Entry.objects.filter(pk__in=part).only(
                "pk", "programme_id", "account_id", "customer_id", "points"
            )
        }  # fmt: skip
        book.hold_ids({entry.account_id for entry in entries.values()})
        lots = {lot.entry_id: lot for part in batches.of(ids, 500) for lot in Lot.objects.filter(entry__in=part)}
        programmes = {entry.programme_id for entry in entries.values()}
        known = {
            (programme, key)
            for part in batches.of([row.key for row in rows], 500)
            for programme, key in Entry.objects.filter(programme__in=programmes, key__in=part).values_list(
                "programme_id", "key"
            )
        }
        state = _taken_back(list(entries.values()))
        taken = {pk: one for pk, (one, _limit) in state.items()}
        moves: list[book.Move] = []
        takes: list[tuple[str, int, int]] = []
        hard: list[tuple[book.Move, Lot, int]] = []
        for row in rows:
            entry = entries[row.entry_id]
            points = min(row.up_to, state[entry.pk][1]) - taken[entry.pk]
            if points <= 0 or (entry.programme_id, row.key) in known:
                continue
            known.add((entry.programme_id, row.key))
            taken[entry.pk] += points
            lot = lots[entry.pk]
            own = min(points, lot.remaining)
            lot.remaining -= own
            waits = lot.activated_at is None
            move = book.Move(
                key=row.key,
                kind=Entry.Kind.REVERSE.value,
                programme_id=entry.programme_id,
                account_id=entry.account_id,
                customer_id=entry.customer_id,
                points=-own,
                effective_at=row.effective_at,
                pending=-own if waits else 0,
                available=0 if waits else -own,
                system="reversed",
                reason=row.reason,
                explanation=json.dumps(row.explanation),
                source_type=row.source_type,
                source_id=row.source_id,
                actor_id=row.actor_id,
                takes_back_id=entry.pk,
            )
            if own == points:
                moves.append(move)
                takes.append((row.key, lot.pk, own))
            else:
                hard.append((move, lot, points))
        book.stage(moves)
        book.stage_takes(takes)
        book.post()
        for move, lot, points in hard:
            _take_back_and_owe(move, lot, points)
        return len(moves) + len(hard)


def _take_back_and_owe(move: book.Move, lot: Lot, points: int) -> None:
    """What the own lot lacks comes from the other points to spend, and what those lack becomes a debt."""
    # Read again: the one before may have taken from this very lot.
    lot.refresh_from_db(fields=["remaining", "activated_at"])
    balance = Account.objects.values_list("balance", flat=True).get(pk=move.account_id)
    own = min(points, lot.remaining)
    waits = lot.activated_at is None
    rest = points - own
    other = min(rest, balance if waits else balance - own)
    move.points = -own - other
    move.pending = -own if waits else 0
    move.available = -other if waits else -own - other
    move.burn = other
    book.clear()
    owed = book.Move(
        key=f"{move.key}:debt" if own + other else move.key,
        kind=Entry.Kind.DEBT.value,
        programme_id=move.programme_id,
        account_id=move.account_id,
        customer_id=move.customer_id,
        points=other - rest,
        effective_at=move.effective_at,
        debt=other - rest,
        system="reversed",
        reason=move.reason,
        explanation=move.explanation,
        source_type=move.source_type,
        source_id=move.source_id,
        actor_id=move.actor_id,
        takes_back_id=move.takes_back_id,
    )
    if own + other:
        book.stage([move])
        if own:
            book.stage_takes([(move.key, lot.pk, own)])
    if rest > other:
        book.stage([owed])
    book.post()


# --- When the proof fails ---------------------------------------------------------------------------------------------


def freeze(*, accounts: Collection[int]) -> int:
    """Stop redemptions of these accounts, whose entries and balance disagree; how many were not frozen before."""
    return sum(
        Account.objects.filter(pk__in=part, frozen_at=None).update(frozen_at=clock.now())
        for part in batches.of(sorted(accounts), 500)
    )


def unfreeze(*, account: Account) -> None:
    """Let an account redeem again, after somebody looked."""
    Account.objects.filter(pk=account.pk).update(frozen_at=None)

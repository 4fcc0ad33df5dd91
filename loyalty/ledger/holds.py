"""Holds: points set aside now, redeemed or freed later, once. (TigerBeetle calls this a two-phase transfer.)"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from customers.models import Customer
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import book
from loyalty.errors import HoldResolved, KeyReused
from loyalty.ledger.due import settle
from loyalty.ledger.guard import refuse_frozen, reserve, too_few
from loyalty.ledger.terms import checked_key, checked_reason, moment_of, positive, programme_of
from loyalty.models import Account, Entry, Hold, Limits, LotSpend, Programme


def authorise(
    *,
    customer: Customer,
    points: int,
    key: str,
    expires_at: datetime | None = None,
    actor: User | None = None,
    reason: str = "",
    effective_at: datetime | None = None,
    programme: Programme | None = None,
) -> Hold:
    """Set points aside until ``expires_at`` (default: as many hours as the programme says). Nobody can spend them twice.

    Raises ``InsufficientPoints`` or ``AccountFrozen`` and holds nothing. The same request again returns the hold it made
    (``replayed``), however that ended; its key with another request raises ``KeyReused``.
    """
    of = programme_of(programme)
    positive(points)
    checked_key(key)
    text = checked_reason(reason)
    moment = moment_of(effective_at)
    end = expires_at or moment + timedelta(hours=Limits.of(of).hold_hours)
    if end <= moment:
        raise InvalidInput(_("The hold would be over before it begins. Choose a later end."), code="hold_over")

    def before() -> Hold | None:
        found = Hold.objects.filter(programme=of, key=key).first()
        if found is None:
            return None
        if (found.customer_id, found.points, found.reason) != (customer.pk, points, text):
            raise KeyReused(
                _("This key was used for another movement of points. Send a new key for a new request."), key=key
            )
        found.replayed = True
        return found

    try:
        with transaction.atomic():
            if found := before():
                return found
            account = Account.objects.filter(programme=of, customer=customer).first()
            if account is None:
                raise too_few(0, points)
            book.hold_ids([account.pk])
            if found := before():
                return found
            settle([account], moment)
            return set_aside(account, points, key=key, expires_at=end, moment=moment, actor=actor, reason=text)
    except IntegrityError:
        if found := before():
            return found
        raise


def set_aside(
    account: Account, points: int, *, key: str, expires_at: datetime, moment: datetime, actor: User | None, reason: str
) -> Hold:
    """Hold points of an account that is held and settled."""
    reserve(account, points, "held")
    book.clear()
    entry_key = f"hold:{key}"
    book.stage(
        [
            book.Move(
                key=entry_key,
                kind=Entry.Kind.HOLD.value,
                programme_id=account.programme_id,
                account_id=account.pk,
                customer_id=account.customer_id,
                points=-points,
                effective_at=moment,
                available=-points,
                held=points,
                reason=reason,
                source_type="hold",
                actor_id=actor.pk if actor else None,
                burn=points,
            )
        ]
    )
    book.post(with_accounts=False)
    return Hold.objects.create(
        programme_id=account.programme_id,
        account=account,
        customer_id=account.customer_id,
        key=key,
        points=points,
        reason=reason,
        expires_at=expires_at,
        actor=actor,
        entry=Entry.objects.get(programme_id=account.programme_id, key=entry_key),
    )


def post_hold(
    *,
    hold: Hold,
    points: int | None = None,
    actor: User | None = None,
    reason: str = "",
    effective_at: datetime | None = None,
) -> Entry:
    """Redeem a hold, whole or in part (``points``); what is left of it is free again. Returns the redemption.

    Posting it again for the same points returns the same redemption (``replayed``). Raises ``HoldResolved`` when it was
    voided, ran out, or was posted for other points; ``AccountFrozen`` while its account is frozen.
    """
    moment = moment_of(effective_at)
    text = checked_reason(reason)
    if points is not None and positive(points) > hold.points:
        raise InvalidInput(
            _("This hold has %(points)s points. Redeem so many or fewer.") % {"points": hold.points},
            code="invalid_points",
            points=hold.points,
        )
    with transaction.atomic():
        hold = _lock(hold)
        spends = points or hold.points
        if hold.state == Hold.State.POSTED and hold.spend is not None and hold.spend.points == -spends:
            hold.spend.replayed = True
            return hold.spend
        _refuse_ended(hold, moment)
        refuse_frozen(Account.objects.get(pk=hold.account_id))
        _end(hold, Hold.State.POSTED, moment)
        spend = _move(hold, "post", Entry.Kind.SPEND, -spends, moment, actor, text or hold.reason)
        spend.held, spend.system = -spends, "redeemed"
        book.stage([spend])
        _stage_release(hold, hold.points - spends, moment, actor)
        book.post()
        _link(hold, bool(hold.points - spends), is_posted=True)
        settle([Account.objects.get(pk=hold.account_id)], moment)
    return Entry.objects.get(programme_id=hold.programme_id, key=spend.key)


def void_hold(*, hold: Hold, actor: User | None = None, reason: str = "", effective_at: datetime | None = None) -> Hold:
    """Free the points of a hold: back to the lots they came from. What ended meanwhile comes back expired.

    Voiding it again returns it (``replayed``). Raises ``HoldResolved`` when it was posted or ran out.
    """
    moment = moment_of(effective_at)
    text = checked_reason(reason)
    with transaction.atomic():
        hold = _lock(hold)
        if hold.state == Hold.State.VOIDED:
            hold.replayed = True
            return hold
        _refuse_ended(hold, moment)
        _end(hold, Hold.State.VOIDED, moment)
        _stage_release(hold, hold.points, moment, actor, text)
        book.post()
        _link(hold, True, is_posted=False)
        settle([Account.objects.get(pk=hold.account_id)], moment)
    hold.refresh_from_db()
    return hold


def carry_over(hold: Hold, *, source: Account, moment: datetime) -> None:
    """First half of moving a hold in a merge: its points return to the lots of ``source``, which is held."""
    _end(hold, Hold.State.MOVED, moment)
    book.clear()
    _stage_release(hold, hold.points, moment, None)
    book.post()
    _link(hold, True, is_posted=False)


def set_down(hold: Hold, *, target: Account, key: str, moment: datetime) -> Hold:
    """Second half: the same points held at ``target``, until the same moment."""
    new = set_aside(
        target, hold.points, key=key, expires_at=hold.expires_at, moment=moment, actor=None, reason=hold.reason
    )
    Hold.objects.filter(pk=hold.pk).update(moved_to=new)
    return new


def current(hold: Hold) -> Hold:
    """Where a hold is now: a merge moves it to another account as another row."""
    while hold.moved_to is not None:
        hold = hold.moved_to
    return hold


def _lock(hold: Hold) -> Hold:
    """The hold, where it is now, with its account locked."""
    found = current(Hold.objects.select_related("moved_to").get(pk=hold.pk))
    book.hold_ids([found.account_id])
    book.clear()
    found.refresh_from_db()
    moved = current(found)
    return found if moved.pk == found.pk else _lock(moved)


def _refuse_ended(hold: Hold, moment: datetime) -> None:
    said = {
        Hold.State.POSTED: _("This hold was redeemed already."),
        Hold.State.VOIDED: _("This hold was voided already."),
        Hold.State.EXPIRED: _("This hold ran out: its points are free again. Make a new one."),
    }
    if hold.state != Hold.State.OPEN:
        raise HoldResolved(said[Hold.State(hold.state)], state=hold.state)
    if hold.expires_at <= moment:
        raise HoldResolved(said[Hold.State.EXPIRED], state=Hold.State.EXPIRED)


def _end(hold: Hold, state: Hold.State, moment: datetime) -> None:
    """Compare and set: whoever comes second finds it ended."""
    if Hold.objects.filter(pk=hold.pk, state=Hold.State.OPEN).update(state=state, resolved_at=moment) != 1:
        raise HoldResolved(_("This hold ended at this moment. Look at the account."))


def _move(
    hold: Hold, verb: str, kind: Entry.Kind, points: int, moment: datetime, actor: User | None, reason: str
) -> book.Move:
    return book.Move(
        key=f"{verb}:{hold.pk}",
        kind=kind.value,
        programme_id=hold.programme_id,
        account_id=hold.account_id,
        customer_id=hold.customer_id,
        points=points,
        effective_at=moment,
        reason=reason,
        source_type="hold",
        source_id=str(hold.pk),
        actor_id=actor.pk if actor else None,
    )


def _stage_release(hold: Hold, points: int, moment: datetime, actor: User | None, reason: str = "") -> None:
    """Free so many of its points: the lots that were drawn on last get theirs back first."""
    if not points:
        return
    move = _move(hold, "release", Entry.Kind.RELEASE, points, moment, actor, reason)
    move.held, move.available = -points, points
    book.stage([move])
    lots = LotSpend.objects.filter(entry=hold.entry_id).select_related("lot")
    back: list[tuple[str, int, int]] = []
    for spend in sorted(
        lots, key=lambda one: (one.lot.expires_at is None, one.lot.expires_at or moment, one.lot.active_at, one.lot_id)
    )[::-1]:
        part = min(points, spend.points)
        points -= part
        if part:
            back.append((move.key, spend.lot_id, -part))
    book.stage_takes(back)


def _link(hold: Hold, is_released: bool, *, is_posted: bool) -> None:
    keys = {"post": is_posted, "release": is_released}
    found = dict(
        Entry.objects.filter(
            programme_id=hold.programme_id, key__in=[f"{verb}:{hold.pk}" for verb, wanted in keys.items() if wanted]
        ).values_list("key", "pk")
    )
    Hold.objects.filter(pk=hold.pk).update(spend=found.get(f"post:{hold.pk}"), release=found.get(f"release:{hold.pk}"))

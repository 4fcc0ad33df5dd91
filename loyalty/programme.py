"""Programmes and who is in them: make, change, stop; join, renew, leave.

A programme in which everybody is needs no rows. One that customers join has a ``Membership`` row per stay, and a paid one
counts what was paid; taking the money is the shop's, telling us of it under a key is enough.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, models, transaction
from django.db.models import F, Q
from django.utils.text import slugify
from django.utils.translation import gettext as _

from customers import facts
from customers.models import Customer
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock, keys
from lifecycle_crm.lib.errors import Conflict, InvalidInput, NotFound
from loyalty import ledger
from loyalty.models import Membership, Programme

MOST_DAYS = 3650
MOST_MONTHS = 1200
MOST_MINOR = 10**9

_BOUNDS: dict[str, tuple[int, int]] = {
    "pending_days": (0, MOST_DAYS),
    "expiry_months": (1, MOST_MONTHS),
    "value_minor_per_100": (0, MOST_MINOR),
    "fee_minor": (0, MOST_MINOR),
    "term_months": (1, MOST_MONTHS),
    "position": (0, 10_000),
}
_MAY_BE_EMPTY = frozenset({"expiry_months", "term_months"})


class UnknownProgramme(NotFound):
    code = "unknown_programme"


class NotActive(Conflict):
    code = "programme_not_active"


class AlreadyIn(Conflict):
    code = "already_in_programme"


class NotIn(Conflict):
    code = "not_in_programme"


def get(key: str) -> Programme:
    """The programme of this key. Raises ``UnknownProgramme``."""
    found = Programme.objects.filter(key=key).first()
    if found is None:
        raise UnknownProgramme(
            _("There is no programme “%(key)s”. Choose one of the list of programmes.") % {"key": key}
        )
    return found


# --- The programme itself ---------------------------------------------------------------------------------------------


def create(*, name: str, kind: str = Programme.Kind.POINTS, key: str = "", **values: Any) -> Programme:
    """A new programme, active at once. ``values`` are fields of ``Programme``, such as ``fee_minor`` and ``term_months``.

    Memberships and cards are joined by customers whatever ``joining`` says. Raises ``InvalidInput``, and ``Conflict``
    when the key is taken.
    """
    if kind not in Programme.Kind.values:
        raise InvalidInput(
            _("Unknown kind “%(kind)s”. Use one of: %(kinds)s.")
            % {"kind": kind, "kinds": ", ".join(Programme.Kind.values)}
        )
    if kind != Programme.Kind.POINTS:
        values["joining"] = Programme.Joining.ASKED
    words = _name(name)
    checked = _checked(values)
    _fee(checked.get("fee_minor", 0), checked.get("joining", Programme.Joining.EVERYBODY))
    try:
        with transaction.atomic():
            return Programme.objects.create(key=_key(key, words), name=words, kind=kind, **checked)
    except IntegrityError:
        raise Conflict(_("There is a programme with the key “%(key)s”. Choose another.") % {"key": key}) from None


def edit(*, programme: Programme, **values: Any) -> Programme:
    """Change fields of a programme. What was earned and who joined stay as they are; kind and key never change."""
    if refused := values.keys() & {"kind", "key"}:
        raise InvalidInput(
            _("The %(field)s of a programme never changes. Make a new programme instead.") % {"field": min(refused)}
        )
    if "name" in values:
        values["name"] = _name(values["name"])
    checked = _checked({name: value for name, value in values.items() if name != "name"})
    joining = checked.get("joining", programme.joining)
    if programme.kind != Programme.Kind.POINTS and joining != Programme.Joining.ASKED:
        raise InvalidInput(_("A membership or a card is joined by customers. Use a points programme for everybody."))
    _fee(checked.get("fee_minor", programme.fee_minor), joining)
    if "name" in values:
        checked["name"] = values["name"]
    if checked:
        Programme.objects.filter(pk=programme.pk).update(**checked)
        programme.refresh_from_db()
    return programme


def stop(*, programme: Programme) -> Programme:
    """From now on nothing is earned in it and nobody joins. Points that customers have stay theirs."""
    Programme.objects.filter(pk=programme.pk).update(is_active=False)
    programme.refresh_from_db()
    return programme


def start(*, programme: Programme) -> Programme:
    """Let it go on."""
    Programme.objects.filter(pk=programme.pk).update(is_active=True)
    programme.refresh_from_db()
    return programme


def _name(name: str) -> str:
    words = " ".join((name or "").split())
    if not 0 < len(words) <= 80:
        raise InvalidInput(_("A programme needs a name of 1 to 80 characters."), code="invalid_name")
    return words


def _key(key: str, name: str) -> str:
    if key:
        if key != slugify(key) or len(key) > 60:
            raise InvalidInput(
                _("A key has small letters, digits and hyphens only, at most 60: not “%(key)s”.") % {"key": key}
            )
        return key
    return keys.free(Programme.objects.all(), name, "programme")


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        if name in _BOUNDS:
            low, high = _BOUNDS[name]
            if value is None and name in _MAY_BE_EMPTY:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                label = Programme._meta.get_field(name).verbose_name  # type: ignore[union-attr]
                raise InvalidInput(
                    _("“%(field)s” must be a whole number from %(low)s to %(high)s.")
                    % {"field": label, "low": low, "high": high},
                    code="invalid_number",
                    field=name,
                )
        elif name == "joining":
            if value not in Programme.Joining.values:
                raise InvalidInput(_("Say who is in it: everybody, or asked for those who join."), field=name)
        elif name == "about":
            if len(value) > 300:
                raise InvalidInput(_("The sentence about a programme has at most 300 characters."), field=name)
        else:
            raise InvalidInput(_("A programme has no field “%(field)s”.") % {"field": name}, field=name)
    return values


def _fee(fee_minor: int, joining: str) -> None:
    if fee_minor and joining != Programme.Joining.ASKED:
        raise InvalidInput(_("A programme that everybody is in cannot cost a fee. Let customers join it instead."))


# --- Who is in it -----------------------------------------------------------------------------------------------------


def new_number() -> str:
    """A card number that any scanner reads: 13 digits of the range for use inside a shop, with EAN's check digit."""
    digits = "29" + "".join(secrets.choice("0123456789") for _place in range(10))
    odd, even = sum(map(int, digits[::2])), sum(map(int, digits[1::2]))
    return f"{digits}{-(odd + 3 * even) % 10}"


def join(
    *,
    programme: Programme,
    customer: Customer,
    paid_minor: int = 0,
    key: str = "",
    joined_at: datetime | None = None,
    number: str = "",
    actor: User | None = None,
) -> Membership:
    """Let a customer in, for the programme's term. The same ``key`` again returns the row it made.

    Raises ``NotActive``, ``AlreadyIn`` while a stay is running, and ``InvalidInput`` if a fee was not paid in full.
    """
    moment = _moment(joined_at)
    _payment(programme, paid_minor)
    if found := _footprint(programme, customer, key):
        return found
    if not programme.is_active:
        raise NotActive(_("%(name)s has stopped, so nobody can join it.") % {"name": programme.name})
    if programme.joining == Programme.Joining.EVERYBODY:
        raise Conflict(_("Everybody is in %(name)s; there is nothing to join.") % {"name": programme.name})
    try:
        with transaction.atomic():
            # A stay whose term is over is closed by the next one.
            Membership.objects.filter(
                programme=programme, customer=customer, left_at=None, ends_at__lte=moment
            ).update(left_at=F("ends_at"))  # fmt: skip
            row = Membership.objects.create(
                programme=programme,
                customer=customer,
                number=number or new_number(),
                joined_at=moment,
                ends_at=ledger.expiry(moment, programme.term_months),
                paid_minor=paid_minor,
                key=key,
                actor=actor,
            )
            facts.mark([customer.pk], occurred_at=moment, is_history=moment < customer.loaded_at)
    except IntegrityError:
        if found := _footprint(programme, customer, key):
            return found
        if Membership.objects.filter(programme=programme, customer=customer, left_at=None).exists():
            raise AlreadyIn(
                _("%(customer)s is in %(name)s already. Renew instead.")
                % {"customer": customer, "name": programme.name}
            ) from None
        raise Conflict(_("Card number %(number)s belongs to somebody else.") % {"number": number}) from None
    return row


def renew(*, membership: Membership, paid_minor: int = 0, key: str = "", actor: User | None = None) -> Membership:
    """One more term, after the running one. The same ``key`` again changes nothing."""
    programme = membership.programme
    _payment(programme, paid_minor)
    if programme.term_months is None:
        raise Conflict(_("A stay in %(name)s has no end, so there is nothing to renew.") % {"name": programme.name})
    now = clock.now()
    with transaction.atomic():
        membership.refresh_from_db()
        if key and membership.key == key:
            return membership
        if membership.left_at is not None or (membership.ends_at is not None and membership.ends_at <= now):
            raise NotIn(_("This stay in %(name)s is over. Let the customer join again.") % {"name": programme.name})
        # Ends are the first instant after a day, so the day before is what the term is counted from.
        last_day = membership.ends_at - timedelta(seconds=1) if membership.ends_at else now
        changed = Membership.objects.filter(pk=membership.pk, renewals=membership.renewals, left_at=None).update(
            ends_at=ledger.expiry(last_day, programme.term_months),
            renewals=F("renewals") + 1,
            paid_minor=F("paid_minor") + paid_minor,
            key=key,
            actor=actor,
        )
        membership.refresh_from_db()
        if not changed and not (key and membership.key == key):
            raise Conflict(_("Somebody else renewed this stay just now. Look at it again."))
    return membership


def leave(*, membership: Membership, left_at: datetime | None = None, actor: User | None = None) -> Membership:
    """End a stay now. Once ended it stays ended; ending it again changes nothing."""
    moment = max(_moment(left_at), membership.joined_at)
    with transaction.atomic():
        if Membership.objects.filter(pk=membership.pk, left_at=None).update(left_at=moment, actor=actor):
            is_old = moment < membership.customer.loaded_at
            facts.mark([membership.customer_id], occurred_at=moment, is_history=is_old)
    membership.refresh_from_db()
    return membership


def _moment(moment: datetime | None) -> datetime:
    now = clock.now()
    if moment is not None and moment > now:
        raise InvalidInput(
            _("Nobody can join or leave in the future. Check the time and its zone."), code="future_date"
        )
    return moment or now


def _payment(programme: Programme, paid_minor: int) -> None:
    if isinstance(paid_minor, bool) or not isinstance(paid_minor, int) or not 0 <= paid_minor <= MOST_MINOR:
        raise InvalidInput(_("What was paid is a whole number of minor units, 0 or more."), code="invalid_amount")
    if paid_minor < programme.fee_minor:
        raise InvalidInput(
            _("%(name)s costs more than was paid. Tell the whole fee.") % {"name": programme.name},
            code="fee_not_paid",
            fee_minor=programme.fee_minor,
            paid_minor=paid_minor,
        )


def _footprint(programme: Programme, customer: Customer, key: str) -> Membership | None:
    if not key:
        return None
    return Membership.objects.filter(programme=programme, customer=customer, key=key).first()


def running(moment: datetime) -> Q:
    """The stays that are running at a moment, as a filter on ``Membership``."""
    return (
        Q(joined_at__lte=moment) & (Q(ends_at=None) | Q(ends_at__gt=moment)) & (Q(left_at=None) | Q(left_at__gt=moment))
    )


def members(programme: Programme, moment: datetime) -> models.QuerySet[Membership]:
    """The stays in a programme that are running at a moment."""
    return Membership.objects.filter(running(moment), programme=programme)


def is_in(programme: Programme, customer: Customer, moment: datetime) -> bool:
    """Whether a customer is in a programme at a moment."""
    if programme.joining == Programme.Joining.EVERYBODY:
        return True
    return members(programme, moment).filter(customer=customer).exists()


def inside(programme: Programme, customer: str, moment: str) -> str:
    """SQL: the customer is in the programme at a moment; both are SQL expressions, the moment a ``DateTimeField``."""
    if programme.joining == Programme.Joining.EVERYBODY:
        return "(1 = 1)"
    return (
        f"EXISTS (SELECT 1 FROM loyalty_membership m WHERE m.programme_id = {int(programme.pk)} "
        f"AND m.customer_id = {customer} AND m.joined_at <= {moment} "
        f"AND (m.ends_at IS NULL OR m.ends_at > {moment}) AND (m.left_at IS NULL OR m.left_at > {moment}))"
    )

"""Referrals: a customer passes a code on; after the friend's first order both get points, unless something is odd.

A claim only writes down who brought whom. Nothing is earned by it: the friend's first order decides, and then the checks
do. What they doubt waits for a person. Points are entries of the ledger under keys of the referral, so they move once.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from customers.ingest import events
from customers.models import Consent, Customer, Order, Refund, email_key, search_text
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import codes, ledger
from loyalty.errors import NoReferrals, UnknownCode, WrongState
from loyalty.models import Entry, Programme, Referral, ReferralCode, ReferralOffer

CODE_LENGTH = 8
DAY_LIMIT = 5
"""More friends of one customer within a day are odd."""
EVENT = "referral"

DOUBTS = {
    "self": gettext_lazy("It looks like the same person: e-mail, phone or address are theirs."),
    "device": gettext_lazy("It came from a device or network that they or another friend of theirs used."),
    "address": gettext_lazy("The e-mail is a throw-away address, or one of several of the same box."),
    "velocity": gettext_lazy("They recommended us to very many in a short time."),
    "existing": gettext_lazy("We knew the friend before."),
}
"""The five checks, and what each says to who looks at it."""

_DISPOSABLE = frozenset(
    (
        "10minutemail.com", "dispostable.com", "fakeinbox.com", "getnada.com", "guerrillamail.com", "maildrop.cc",
        "mailinator.com", "mailnesia.com", "mintemail.com", "mohmal.com", "sharklasers.com", "spam4.me",
        "temp-mail.org", "tempmail.com", "tempmail.net", "throwawaymail.com", "trashmail.com", "yopmail.com",
    )
)  # fmt: skip
_DOTLESS = frozenset({"gmail.com", "googlemail.com"})


# --- What the shop offers ---------------------------------------------------------------------------------------------


def set_offer(
    *,
    programme: Programme,
    advocate_points: int,
    friend_points: int,
    min_order_minor: int = 0,
    most_per_month: int = 10,
    is_active: bool = True,
) -> ReferralOffer:
    """Say what both get from now on. Raises ``InvalidInput``; friends that were brought before get what holds then."""
    numbers = (advocate_points, friend_points, min_order_minor, most_per_month)
    if (
        min(numbers) < 0
        or max(advocate_points, friend_points) > ledger.MOST_POINTS
        or not advocate_points + friend_points
    ):
        raise InvalidInput(_("Give at least one of them points, and no number below 0."), code="invalid_offer")
    if programme.kind != Programme.Kind.POINTS:
        raise InvalidInput(_("%(name)s has no points to give.") % {"name": programme.name}, code="invalid_programme")
    offer, _made = ReferralOffer.objects.update_or_create(
        programme=programme,
        defaults={
            "advocate_points": advocate_points,
            "friend_points": friend_points,
            "min_order_minor": min_order_minor,
            "most_per_month": most_per_month,
            "is_active": is_active,
            "changed_at": clock.now(),
        },
    )
    return offer


def offer() -> ReferralOffer | None:
    """What holds now: the first active programme that offers something for friends."""
    found = ReferralOffer.objects.filter(is_active=True, programme__is_active=True).select_related("programme")
    return found.order_by("programme__position", "programme").first()


def code(customer: Customer) -> ReferralCode:
    """The customer's code; made when it is first asked for."""
    found = ReferralCode.objects.filter(customer=customer).first()
    while found is None:
        try:
            with transaction.atomic():
                found = ReferralCode.objects.create(customer=customer, code=codes.new(CODE_LENGTH))
        except IntegrityError:
            found = ReferralCode.objects.filter(customer=customer).first()
    return found


def url(of: ReferralCode) -> str:
    """The full public address to pass on."""
    return settings.SITE_URL + reverse("loyalty:referral-public", args=[of.code])


def find_code(text: str) -> ReferralCode:
    """The code, however it was typed. Raises ``UnknownCode``."""
    found = ReferralCode.objects.select_related("customer").filter(code=codes.plain(text)[:12]).first()
    if found is None:
        raise UnknownCode(_("We do not know this code. Ask your friend to send it again."))
    return found


# --- Who brings whom --------------------------------------------------------------------------------------------------


def box(email: str) -> str:
    """The mailbox behind an address: small letters, without ``+tag``, and without dots where the provider ignores them."""
    name, _at, host = email_key(email).rpartition("@")
    name = name.partition("+")[0]
    if host in _DOTLESS:
        name, host = name.replace(".", ""), "gmail.com"
    return f"{name}@{host}"


def _digest(kind: str, value: str) -> str:
    return salted_hmac(f"loyalty.referrals.{kind}", value, algorithm="sha256").hexdigest()[:32] if value else ""


def claim(
    *,
    code: str,
    email: str,
    phone: str = "",
    ip: str = "",
    device: str = "",
    claimed_at: datetime | None = None,
) -> Referral:
    """Write down that the owner of the code brought this address. An address that was brought before stays as it was.

    Raises ``UnknownCode``, ``NoReferrals`` while the shop offers nothing, ``InvalidInput`` for no address. It never says
    whether we know the address: who asks could find out who our customers are.
    """
    holds = offer()
    if holds is None:
        raise NoReferrals(_("We do not reward recommendations at the moment."))
    of = find_code(code)
    address = unicodedata.normalize("NFC", email.strip())
    if address.count("@") != 1 or len(address) > 254 or not all(address.split("@")):
        raise InvalidInput(_("This is no e-mail address. Check it."), code="invalid_email")
    moment = claimed_at or clock.now()
    given: dict[str, Any] = {
        "advocate": ledger.survivor(of.customer),
        "email": address,
        "phone": phone.strip()[:20],
        "ip_digest": _digest("ip", ip),
        "device_digest": _digest("device", device),
        "created_at": moment,
    }
    try:
        with transaction.atomic():
            found, _made = Referral.objects.get_or_create(
                programme=holds.programme, email_key=email_key(address), defaults=given
            )
    except IntegrityError:
        found = Referral.objects.get(programme=holds.programme, email_key=email_key(address))
    return found


def doubts(referral: Referral, friend: Customer, most_per_month: int) -> list[str]:
    """Which of the five checks are not content, by key of ``DOUBTS``."""
    advocate = referral.advocate
    others = Referral.objects.filter(advocate=advocate).exclude(pk=referral.pk)
    at = referral.created_at
    found = {
        "self": _is_self(referral, advocate, friend),
        "device": _shares_device(referral, advocate, others),
        "address": _is_odd_address(referral, others),
        "velocity": (
            others.filter(created_at__gt=at - timedelta(days=1), created_at__lte=at).count() >= DAY_LIMIT
            or others.filter(created_at__gt=at - timedelta(days=30), created_at__lte=at).count() >= most_per_month
        ),
        "existing": friend.known_since < at - timedelta(days=1)
        or Order.objects.filter(customer=friend, is_counted=True, placed_at__lt=at).exists(),
    }
    return [name for name in DOUBTS if found[name]]


def _is_self(referral: Referral, advocate: Customer, friend: Customer) -> bool:
    if friend.pk == advocate.pk:
        return True
    if advocate.email and box(advocate.email) in {box(referral.email), box(friend.email) if friend.email else ""}:
        return True
    if advocate.phone and advocate.phone in (referral.phone, friend.phone):
        return True
    home, theirs = (search_text(str(one.attributes.get("address", "")), one.city) for one in (advocate, friend))
    return bool(advocate.attributes.get("address")) and home == theirs


def _shares_device(referral: Referral, advocate: Customer, others: QuerySet[Referral]) -> bool:
    if referral.device_digest and others.filter(device_digest=referral.device_digest).exists():
        return True
    if not referral.ip_digest:
        return False
    own = Consent.objects.filter(customer=advocate).exclude(ip=None).values_list("ip", flat=True)[:50]
    return others.filter(ip_digest=referral.ip_digest).exists() or referral.ip_digest in {
        _digest("ip", str(ip)) for ip in own
    }


def _is_odd_address(referral: Referral, others: QuerySet[Referral]) -> bool:
    name, _at, host = referral.email_key.rpartition("@")
    if host in _DISPOSABLE or "+" in name:
        return True
    mine = box(referral.email)
    return any(box(one) == mine for one in others.values_list("email", flat=True)[:500])


# --- What follows from orders -----------------------------------------------------------------------------------------


def reward_for_orders(order_ids: Sequence[int]) -> int:
    """Decide the referrals of friends whose first order is among these; how many were decided. Safe to tell again.

    Without a doubt both get their points, usable after the programme's waiting time; with one it waits for a person.
    """
    if not Referral.objects.filter(state=Referral.State.WAITING).exists():
        return 0  # An import of a million orders asks once per batch, and not for each part of it.
    done = 0
    offers = {one.programme_id: one for one in ReferralOffer.objects.all()}
    for part in batches.of(order_ids, 500):
        customers = Order.objects.filter(pk__in=part).values("customer")
        waiting = Referral.objects.filter(
            state=Referral.State.WAITING,
            email_key__in=Customer.objects.filter(pk__in=customers, email_key__isnull=False).values("email_key"),
        )
        asked = list(waiting.select_related("advocate", "programme").order_by("pk"))
        friends = {
            one.email_key: one for one in Customer.objects.filter(email_key__in={one.email_key for one in asked})
        }
        with transaction.atomic():
            rewarded = []
            for referral in asked:
                friend, holds = friends.get(referral.email_key), offers.get(referral.programme_id)
                # Without an address since a moment ago they are asked about at their next order.
                decided = _decide(referral, friend, holds) if friend and holds else None
                done += decided is not None
                if decided == Referral.State.REWARDED:
                    rewarded.append(referral)
            _reward(rewarded, offers)
    return done


def _decide(referral: Referral, friend: Customer, holds: ReferralOffer) -> str | None:
    """By the friend's first order, if it counts; the new state, ``None`` when nothing is decided."""
    first = Order.objects.filter(customer=friend, is_counted=True).order_by("placed_at", "pk").first()
    if first is None:
        return None
    state, told = _judged(referral, friend, first, holds)
    return state if _settle(referral, state, friend=friend, **told) else None


def _judged(referral: Referral, friend: Customer, first: Order, holds: ReferralOffer) -> tuple[str, dict[str, Any]]:
    """The state that follows, and what is written beside it."""
    state = Referral.State
    if first.placed_at < referral.created_at:
        return state.REFUSED, {"doubts": ["existing"], "reason": _("They had ordered before.")}
    if first.base_minor < holds.min_order_minor:
        return state.REFUSED, {"order": first, "reason": _("The first order was too small.")}
    if friend.pk == referral.advocate_id:
        reason = _("Nobody can recommend us to themselves.")
        return state.REFUSED, {"order": first, "doubts": ["self"], "reason": reason}
    if odd := doubts(referral, friend, holds.most_per_month):
        return state.REVIEW, {"order": first, "doubts": odd}
    return state.REWARDED, {"order": first}


def _settle(
    referral: Referral, state: str, *, before: str = Referral.State.WAITING, reason: str = "", **values: Any
) -> bool:
    """Move it on, if nobody did yet."""
    values |= {"state": state, "reason": reason, "decided_at": clock.now()}
    if Referral.objects.filter(pk=referral.pk, state=before).update(**values) != 1:
        return False
    for name, value in values.items():
        setattr(referral, name, value)
    return True


def _reward(rewarded: Sequence[Referral], offers: Mapping[int, ReferralOffer], at: datetime | None = None) -> None:
    """Points for both, and what the advocate did, as of the first order or of ``at``. In the transaction that decided."""
    earned: dict[Programme, list[ledger.Earning]] = {}
    happened = []
    for referral in rewarded:
        programme, holds = referral.programme, offers[referral.programme_id]
        assert referral.friend is not None
        assert referral.order is not None
        moment = at or referral.order.placed_at
        for who, points, name in (
            (referral.advocate_id, holds.advocate_points, "advocate"),
            (referral.friend.pk, holds.friend_points, "friend"),
        ):
            if points:
                earned.setdefault(programme, []).append(
                    ledger.Earning(
                        customer_id=who,
                        points=points,
                        key=f"referral:{referral.pk}:{name}",
                        effective_at=moment,
                        active_at=moment + timedelta(days=programme.pending_days),
                        expires_at=ledger.expiry(moment, programme.expiry_months),
                        explanation={"rule": f"referral_{name}"},
                        source_type="referral",
                        source_id=str(referral.pk),
                    )
                )
        # The rules ask for "did referral": it is something the advocate did.
        happened.append(
            events.EventIn(name=EVENT, occurred_at=moment, source_id=str(referral.pk), customer_id=referral.advocate_id)
        )
    for programme, rows in earned.items():
        ledger.earn_many(rows, programme=programme)
    if happened:
        events.record_events(happened, source="referral")


def take_back_for_refunds(refund_ids: Sequence[int]) -> int:
    """Take back what referrals gave whose first order was returned as a whole; how many. Safe to tell again."""
    done = 0
    for part in batches.of(refund_ids, 500):
        orders = Refund.objects.filter(pk__in=part).values("order")
        rewarded = Referral.objects.filter(
            order__in=orders, state=Referral.State.REWARDED, order__is_counted=False
        ) | Referral.objects.filter(order__in=orders, state=Referral.State.REWARDED, order__base_minor__lte=0)
        for referral in rewarded.order_by("pk"):
            with transaction.atomic():
                if not _settle(
                    referral, Referral.State.RETURNED, before=Referral.State.REWARDED,
                    reason=_("The first order was returned."),
                ):  # fmt: skip
                    continue
                given = Entry.objects.filter(
                    programme=referral.programme,
                    key__in=[f"referral:{referral.pk}:advocate", f"referral:{referral.pk}:friend"],
                )
                ledger.reverse_many(
                    [
                        ledger.TakeBack(
                            entry_id=entry.pk,
                            up_to=entry.points,
                            key=f"{entry.key}:back",
                            effective_at=clock.now(),
                            explanation={"rule": "cancelled"},
                            source_type="referral",
                            source_id=str(referral.pk),
                        )
                        for entry in given.order_by("pk")
                    ]
                )
            done += 1
    return done


# --- What somebody looks at -------------------------------------------------------------------------------------------


def approve(*, referral: Referral, actor: User | None) -> Referral:
    """Reward it in spite of the doubts. Raises ``WrongState`` unless it is in review."""
    holds = ReferralOffer.objects.filter(programme=referral.programme).first()
    if holds is None:
        raise NoReferrals(_("We do not reward recommendations at the moment."))
    with transaction.atomic():
        if not _settle(referral, Referral.State.REWARDED, before=Referral.State.REVIEW, decided_by=actor):
            raise _moved_on(referral)
        _reward([referral], {holds.programme_id: holds}, clock.now())
    return referral


def refuse(*, referral: Referral, actor: User | None, reason: str) -> Referral:
    """Give nothing, and say why. Raises ``WrongState`` once it was rewarded or refused."""
    text = reason.strip()
    if not 0 < len(text) <= 300:
        raise InvalidInput(_("Say why in at most 300 characters: the reason stays with it."), code="reason_required")
    for before in (Referral.State.REVIEW, Referral.State.WAITING):
        if _settle(referral, Referral.State.REFUSED, before=before, reason=text, decided_by=actor):
            return referral
    raise _moved_on(referral)


def _moved_on(referral: Referral) -> WrongState:
    referral.refresh_from_db()
    return WrongState(
        _("It was decided meanwhile: %(state)s. Open the list again.")
        % {"state": referral.get_state_display().lower()},
        state=referral.state,
    )


# --- Reading ----------------------------------------------------------------------------------------------------------


def listed(*, state: str = "") -> QuerySet[Referral]:
    """Referrals with what a list shows; those to be looked at in the order they came, the others the last first."""
    found = Referral.objects.select_related("advocate", "friend", "order", "programme", "decided_by")
    if state in Referral.State.values:
        found = found.filter(state=state)
    return found.order_by("pk") if state == Referral.State.REVIEW else found.order_by("-pk")


def said(referral: Referral) -> list[str]:
    """The doubts as sentences."""
    return [str(DOUBTS[name]) for name in referral.doubts if name in DOUBTS]

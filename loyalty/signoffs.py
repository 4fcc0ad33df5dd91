"""Signing what is owed at the end of a date: the figures are written down as they are, and stay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import liability
from loyalty.errors import AboveRole, KeyReused, SignedAlready
from loyalty.models import Programme, SignOff


def sign(
    *,
    programme: Programme,
    day: date,
    note: str,
    key: str,
    actor: User,
    redeemed_percent: int | None = None,
    reason: str = "",
) -> SignOff:
    """Write down what the programme owes at the end of ``day``, a day that is over, with a note.

    Where the date is signed already, ``reason`` says why this one replaces the note that holds; without it ``SignedAlready``
    is raised. The same request again returns what it made (``replayed``).
    """
    text, why = note.strip(), reason.strip()
    if not may_sign(actor):
        raise AboveRole(_("Only an owner or an admin can sign this."))
    if not 0 < len(text) <= 500:
        raise InvalidInput(_("Write a note of at most 500 characters."), code="note_required")
    if len(why) > 300:
        raise InvalidInput(_("The reason is longer than 300 characters."), code="invalid_reason")
    if not 0 < len(key) <= 240:
        raise InvalidInput(_("A sign-off needs a key of 1 to 240 characters."), code="invalid_key")
    if not date(2000, 1, 1) <= day <= clock.last_complete_day():
        raise InvalidInput(_("Only a day that is over can be signed."), code="invalid_date")
    if redeemed_percent is not None and not 1 <= redeemed_percent <= 100:
        raise InvalidInput(_("Write the share as a whole number from 1 to 100."), code="invalid_share")

    def before() -> SignOff | None:
        found = SignOff.objects.filter(key=key).first()
        if found is None:
            return None
        then = (found.programme_id, found.day, found.note, found.signed_by_id, found.redeemed_percent, found.reason)
        # A reason is kept only where there was a note to replace.
        asked = (programme.pk, day, text, actor.pk, redeemed_percent, why if found.replaces_id else "")
        if then != asked:
            raise KeyReused(_("This key was used for another request. Send a new key for a new request."), key=key)
        found.replayed = True
        return found

    try:
        with transaction.atomic():
            if found := before():
                return found
            holds = current(programme, day)
            if holds is not None and not why:
                raise SignedAlready(
                    _("This date is signed already (#%(number)s). Say why the new note replaces it.")
                    % {"number": holds.pk},
                    number=holds.pk,
                )
            owed = liability.outstanding(programme, day)
            return SignOff.objects.create(
                programme=programme, day=day, key=key, note=text, pending=owed.pending, available=owed.available,
                held=owed.held, debt=owed.debt, liability_minor=owed.liability_minor, currency=settings.SHOP_CURRENCY,
                value_minor_per_100=programme.value_minor_per_100, redeemed_percent=redeemed_percent, replaces=holds,
                reason=why if holds else "", signed_by=actor,
            )  # fmt: skip
    except IntegrityError:
        if found := before():
            return found
        raise SignedAlready(_("Somebody signed this date just now. Look at their note first.")) from None


def may_sign(user: object) -> bool:
    """Whether this person's role may sign."""
    return isinstance(user, User) and user.may_govern()


def current(programme: Programme, day: date) -> SignOff | None:
    """The note that holds for a date."""
    return rows().filter(programme=programme, day=day, replaced_by=None).first()


def rows() -> QuerySet[SignOff]:
    """All notes, the last first, with what a list of them shows."""
    return SignOff.objects.select_related("programme", "signed_by", "replaces", "replaced_by").order_by("-pk")


@dataclass(frozen=True)
class Drift:
    """How the figures of a note would differ if they were read today: by so many points, and by so much money."""

    points: int
    minor: int

    @property
    def is_any(self) -> bool:
        return bool(self.points or self.minor)


def drift(note: SignOff) -> Drift:
    """Entries recorded later for a day before, or another value of a point, change what a date says."""
    owed = liability.outstanding(note.programme, note.day)
    return Drift(owed.points - note.points, owed.liability_minor - note.liability_minor)


def numbers(programme: Programme) -> dict[date, int]:
    """The number of the note that holds, by date."""
    return dict(SignOff.objects.filter(programme=programme, replaced_by=None).values_list("day", "pk"))

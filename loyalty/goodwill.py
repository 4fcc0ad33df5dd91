"""Goodwill: who helps customers gives points from a budget of the month, with a reason; the budget stops it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils.translation import gettext as _

from customers.models import Customer
from lifecycle_crm.accounts.models import Role, User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import ledger
from loyalty.errors import BudgetSpent, KeyReused, NoProgramme
from loyalty.models import Allowance, Entry, GoodwillMonth, Programme


@dataclass(frozen=True)
class Budget:
    """What one person may give in the month that begins on ``month``; ``points`` 0: nothing."""

    month: date
    points: int
    used: int

    @property
    def left(self) -> int:
        return max(0, self.points - self.used)


def budget(user: User, *, day: date | None = None) -> Budget:
    """A person's budget of a month (default: this one)."""
    month = (day or clock.today()).replace(day=1)
    used = GoodwillMonth.objects.filter(user=user, month=month).values_list("used", flat=True).first()
    return Budget(month, _allowed(user), used or 0)


def has_allowance(user: User) -> bool:
    """Whether what this person gives by hand comes out of a budget: theirs, or the one of their role."""
    return Allowance.objects.filter(Q(user=user) | Q(role=user.role)).exists()


def allow(*, points: int, role: str = "", user: User | None = None) -> Allowance:
    """Set how many points a month each person of a role, or one person, may give. It holds at once; 0 stops it."""
    if isinstance(points, bool) or not isinstance(points, int) or not 0 <= points <= ledger.MOST_POINTS:
        raise InvalidInput(
            _("The allowance must be a whole number from 0 to %(most)s.") % {"most": ledger.MOST_POINTS},
            code="invalid_points",
        )
    if (user is None) == (role == "") or (role and role not in Role.values):
        raise InvalidInput(_("An allowance is for a role or for a person. Choose one of them."), code="invalid_role")
    whose = {"user": user} if user else {"role": role, "user": None}
    return Allowance.objects.update_or_create(**whose, defaults={"points": points})[0]


def give(
    *,
    customer: Customer,
    points: int,
    key: str,
    actor: User,
    reason: str,
    programme: Programme | None = None,
) -> Entry:
    """Give points as goodwill, out of the month's budget of ``actor``. Raises ``BudgetSpent`` and gives nothing beyond it.

    The same request again returns the entry it wrote and takes nothing from the budget.
    """
    if isinstance(points, bool) or not isinstance(points, int) or points <= 0:
        raise InvalidInput(_("The number of points must be greater than zero."), code="invalid_points")
    of = programme or Programme.current()
    if of is None:
        raise NoProgramme(_("No points programme is active. Switch one on under Admin, Programmes."))
    try:
        with transaction.atomic():
            if found := _before(of, key, customer, points, actor, reason):
                return found
            row = _spend(actor, points)
            entry = ledger.adjust(
                customer=customer,
                points=points,
                key=key,
                actor=actor,
                reason=reason,
                source_type="goodwill",
                source_id=str(row.pk),
                programme=of,
            )
            if entry.replayed:  # written by the same request while we waited
                raise _Again
            return entry
    except _Again:
        found = _before(of, key, customer, points, actor, reason)
        assert found is not None
        return found


class _Again(Exception):
    """Give back what was taken from the budget: the points were given already."""


def _before(programme: Programme, key: str, customer: Customer, points: int, actor: User, reason: str) -> Entry | None:
    entry = Entry.objects.filter(programme=programme, key=key).first()
    if entry is None:
        return None
    said = (entry.source_type, entry.customer_id, entry.points, entry.actor_id, entry.reason)
    if said != ("goodwill", customer.pk, points, actor.pk, reason.strip()):
        raise KeyReused(
            _("This key was used for another movement of points. Send a new key for a new request."), key=key
        )
    entry.replayed = True
    return entry


def _allowed(user: User) -> int:
    own = Allowance.objects.filter(user=user).values_list("points", flat=True).first()
    if own is not None:
        return own
    return Allowance.objects.filter(role=user.role).values_list("points", flat=True).first() or 0


def _spend(user: User, points: int) -> GoodwillMonth:
    """Take points off this month's budget in one conditional write."""
    allowed, month = _allowed(user), clock.today().replace(day=1)
    try:
        with transaction.atomic():
            row, _made = GoodwillMonth.objects.get_or_create(user=user, month=month, defaults={"points": allowed})
    except IntegrityError:
        row = GoodwillMonth.objects.get(user=user, month=month)
    within = GoodwillMonth.objects.filter(pk=row.pk, used__lte=allowed - points)
    if within.update(used=F("used") + points, points=allowed) == 1:
        return row
    row.refresh_from_db()
    left = max(0, allowed - row.used)
    raise BudgetSpent(
        _("Your goodwill budget has %(left)s points left this month, %(points)s were asked for.")
        % {"left": left, "points": points}
        if allowed
        else _("You have no goodwill budget. An owner or an admin can give you one on the goodwill page."),
        left=left,
        points=points,
    )

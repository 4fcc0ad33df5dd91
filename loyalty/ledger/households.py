"""Households: a redemption uses the redeemer's own points first, then the others', those that expire first first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from customers.models import Customer
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from loyalty.ledger.guard import too_few
from loyalty.ledger.terms import programme_of
from loyalty.ledger.transfers import hand_over
from loyalty.models import Account, Household, HouseholdMember, Lot, Programme, Transfer


def found_household(
    *, name: str, customers: Sequence[Customer], actor: User | None, programme: Programme | None = None
) -> Household:
    """A household of at least two customers who spend each other's points. Raises when one is in another already."""
    of = programme_of(programme)
    title = name.strip()
    if not title or len(title) > 80:
        raise InvalidInput(_("A household needs a name of 1 to 80 characters."), code="invalid_name")
    if len({one.pk for one in customers}) < 2:
        raise InvalidInput(_("A household needs at least two customers."), code="too_few_members")
    with transaction.atomic():
        household = Household.objects.create(programme=of, name=title, actor=actor)
        for customer in {one.pk: one for one in customers}.values():
            join_household(household=household, customer=customer)
    return household


def join_household(*, household: Household, customer: Customer) -> HouseholdMember:
    """Add a customer. Raises ``Conflict`` when they are in a household of this programme already."""
    try:
        with transaction.atomic():
            return HouseholdMember.objects.create(
                household=household, programme_id=household.programme_id, customer=customer
            )
    except IntegrityError:
        raise Conflict(
            _("%(customer)s is in a household already. They have to leave it first.") % {"customer": customer},
            code="in_a_household",
        ) from None


def leave_household(*, customer: Customer, programme: Programme | None = None) -> HouseholdMember:
    """Let a customer leave their household. Their points stay theirs; what was used stays used."""
    open_rows = HouseholdMember.objects.filter(programme=programme_of(programme), customer=customer, left_at=None)
    member = open_rows.first()
    if member is None or open_rows.filter(pk=member.pk).update(left_at=clock.now()) != 1:
        raise Conflict(_("%(customer)s is in no household.") % {"customer": customer}, code="no_household")
    member.refresh_from_db()
    return member


def family(programme: Programme, customer: Customer) -> list[Account]:
    """The accounts of the others in the customer's household that are not frozen."""
    household = HouseholdMember.objects.filter(programme=programme, customer=customer, left_at=None).values("household")
    others = HouseholdMember.objects.filter(household__in=household, left_at=None).exclude(customer=customer)
    return list(
        Account.objects.filter(programme=programme, customer__in=others.values("customer"), frozen_at=None).order_by(
            "pk"
        )
    )


def fetch(
    account: Account,
    others: Sequence[Account],
    points: int,
    *,
    key: str,
    moment: datetime,
    actor: User | None,
    reason: str,
) -> int:
    """Bring what the account lacks of ``points`` over from the others; how many. All are held and settled."""
    account.refresh_from_db()
    lacks = points - account.balance
    if lacks <= 0:
        return 0
    by_id = {one.pk: one for one in others}
    lots = Lot.objects.filter(
        account__in=by_id, customer__in=[one.customer_id for one in others], remaining__gt=0, activated_at__isnull=False
    )
    give: Counter[int] = Counter()
    for lot in sorted(
        lots, key=lambda one: (one.expires_at is None, one.expires_at or one.active_at, one.active_at, one.pk)
    ):
        give[lot.account_id] += min(lot.remaining, lacks - give.total())
    if give.total() < lacks:
        raise too_few(account.balance + give.total(), points)
    for pk, part in sorted(give.items()):
        if part:
            hand_over(
                by_id[pk], account, part, key=f"{key}:pool:{pk}", kind=Transfer.Kind.POOL, moment=moment, actor=actor,
                reason=reason,
            )  # fmt: skip
    return lacks

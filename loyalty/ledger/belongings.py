"""What a customer has besides points, moved along when two customers turn out to be one, and back when they are not.

Redemptions, vouchers, memberships, friends and the place in a household are rows of their own: they change hands and
``MergedThing`` remembers which. Cards and codes that people have in their pockets stay as they are; who shows one is
looked up by ``survivor``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.db import models
from django.db.models import F, Q

from customers import facts
from customers.models import Customer
from lifecycle_crm.lib import clock
from loyalty.models import (
    Account,
    HouseholdMember,
    Membership,
    Merge,
    MergedThing,
    Programme,
    Redemption,
    Referral,
    RewardUse,
    Voucher,
)

Kind = MergedThing.Kind
_MOST_STEPS = 50

_TABLES: tuple[tuple[str, type[models.Model], str], ...] = (
    (Kind.REDEMPTION, Redemption, "customer_id"),
    (Kind.VOUCHER, Voucher, "customer_id"),
    (Kind.MEMBERSHIP, Membership, "customer_id"),
    (Kind.ADVOCATE, Referral, "advocate_id"),
    (Kind.FRIEND, Referral, "friend_id"),
    (Kind.HOUSEHOLD, HouseholdMember, "customer_id"),
)


def survivor(customer: Customer) -> Customer:
    """Who this customer is now, following the merges that stand; themselves if nobody merged them."""
    at = customer.pk
    for _step in range(_MOST_STEPS):
        standing = Merge.objects.filter(from_account__customer=at, undone_at=None)
        into = standing.order_by("programme", "pk").values_list("into_account__customer", flat=True).first()
        if into is None:
            break
        at = into
    return customer if at == customer.pk else Customer.objects.get(pk=at)


def merged_into(customer: Customer) -> list[int]:
    """Ids of those who are this customer now, themselves not among them."""
    found: set[int] = set()
    new = {customer.pk}
    while new:
        standing = Merge.objects.filter(into_account__customer__in=new, undone_at=None)
        new = set(standing.values_list("from_account__customer", flat=True)) - found - {customer.pk}
        found |= new
    return sorted(found)


def one_person(programme: int, customers: str) -> str:
    """A SELECT of ``old, now``: what ``old`` did in this programme counts for ``now``, one of the customers that
    ``customers`` selects the ids of; "" while nobody is merged.

    Who was merged away counts for nobody else, and nothing counts for them as long as the merge stands.
    """
    if not Merge.objects.filter(programme=programme, undone_at=None).exists():
        return ""
    pair = _pair(programme)
    return (
        f"WITH RECURSIVE asked(id) AS ({customers}), line(old, now) AS ("
        f"SELECT f.customer_id, i.customer_id FROM {pair} WHERE i.customer_id IN (SELECT id FROM asked) "
        f"UNION SELECT f.customer_id, l.now FROM line l CROSS JOIN {pair} WHERE i.customer_id = l.old) "
        "SELECT x.old, x.now FROM (SELECT old, now FROM line UNION ALL SELECT id, id FROM asked) x "
        f"WHERE NOT EXISTS (SELECT 1 FROM {pair} WHERE f.customer_id = x.now)"
    )


def survivors(programme: int, customers: str) -> str:
    """A SELECT of the ids of who these customers are now in this programme, each once."""
    pair = _pair(programme)
    return (
        f"WITH RECURSIVE up(id) AS (SELECT customer_id FROM ({customers}) c "
        f"UNION SELECT i.customer_id FROM up u CROSS JOIN {pair} WHERE f.customer_id = u.id) "
        f"SELECT u.id FROM up u WHERE NOT EXISTS (SELECT 1 FROM {pair} WHERE f.customer_id = u.id)"
    )


def _pair(programme: int) -> str:
    """SQL: the merges ``m`` of a programme that stand, from the account ``f`` into the account ``i``."""
    return (
        "loyalty_merge m JOIN loyalty_account f ON f.id = m.from_account_id "
        f"JOIN loyalty_account i ON i.id = m.into_account_id AND m.undone_at IS NULL AND m.programme_id = {int(programme)}"
    )


def open_accounts(customer: Customer) -> None:
    """An account in each programme in which they have anything, because a merge stands between two accounts."""
    found = set(Redemption.objects.filter(customer=customer).values_list("reward__programme", flat=True))
    found |= set(Membership.objects.filter(customer=customer, left_at=None).values_list("programme", flat=True))
    found |= set(HouseholdMember.objects.filter(customer=customer, left_at=None).values_list("programme", flat=True))
    found |= set(Referral.objects.filter(Q(advocate=customer) | Q(friend=customer)).values_list("programme", flat=True))
    found -= set(Account.objects.filter(customer=customer).values_list("programme", flat=True))
    if not found and not Account.objects.filter(customer=customer).exists():
        main = Programme.objects.order_by("-is_active", "position", "pk").first()
        if main is not None and Voucher.objects.filter(customer=customer).exists():
            found.add(main.pk)
    Account.objects.bulk_create([Account(programme_id=pk, customer=customer) for pk in found], ignore_conflicts=True)


def carry(row: Merge, source: Account, target: Account) -> None:
    """Move what the source's customer has in this programme; both accounts are held. Where the other has their own
    already (a membership, a household), theirs stands."""
    old, new = source.customer_id, target.customer_id
    in_programme = {"programme": row.programme_id}
    of_programme = Q(redemption__reward__programme=row.programme_id)
    if not Merge.objects.filter(key=row.key, pk__lt=row.pk).exists():
        of_programme |= Q(redemption=None)  # A code that no reward gave belongs to no programme: it goes once.
    not_refused = ~Q(state=Referral.State.REFUSED)
    found: dict[str, Any] = {
        Kind.REDEMPTION: Redemption.objects.filter(customer=old, reward__programme=row.programme_id),
        Kind.VOUCHER: Voucher.objects.filter(of_programme, customer=old),
        Kind.ADVOCATE: Referral.objects.filter(advocate=old, **in_programme).exclude(not_refused, friend=new),
        Kind.FRIEND: Referral.objects.filter(friend=old, **in_programme).exclude(not_refused, advocate=new),
    }
    if not Membership.objects.filter(customer=new, left_at=None, **in_programme).exists():
        found[Kind.MEMBERSHIP] = Membership.objects.filter(customer=old, left_at=None, **in_programme)
    place = HouseholdMember.objects.filter(customer=old, left_at=None, **in_programme)
    if HouseholdMember.objects.filter(customer=new, left_at=None, **in_programme).exists():
        left = list(place.values_list("pk", flat=True))
        HouseholdMember.objects.filter(pk__in=left).update(left_at=clock.now())
        _remember(row, Kind.LEFT, left)
    else:
        found[Kind.HOUSEHOLD] = place
    for kind, model, column in _TABLES:
        if kind in found:
            ids = list(found[kind].values_list("pk", flat=True))
            _hand(model, column, ids, old, new)
            _remember(row, kind, ids)
    _mark(old, new)


def give_back(row: Merge, source: Account, target: Account) -> None:
    """What the merge moved and the target's customer still has goes back to whom it was of."""
    old, new = source.customer_id, target.customer_id
    moved: dict[str, list[int]] = {}
    for kind, pk in row.things.values_list("kind", "object_id"):
        moved.setdefault(kind, []).append(pk)
    for kind, model, column in _TABLES:
        _hand(model, column, moved.get(kind, []), new, old)
    if not HouseholdMember.objects.filter(customer=old, programme=row.programme_id, left_at=None).exists():
        HouseholdMember.objects.filter(pk__in=moved.get(Kind.LEFT, [])[-1:], customer=old).update(left_at=None)
    _mark(old, new)


def _hand(model: type[models.Model], column: str, ids: Sequence[int], old: int, new: int) -> None:
    """Give these rows, where they are still the old one's, to the new one; limits per customer count with them."""
    rows = model._default_manager.filter(pk__in=ids, **{column: old})
    if model is Redemption:
        counts = Counter(
            Redemption.objects.filter(pk__in=ids, customer=old)
            .exclude(state=Redemption.State.CANCELLED)
            .values_list("reward", flat=True)
        )
        RewardUse.objects.bulk_create(
            [RewardUse(reward_id=reward, customer_id=new) for reward in counts], ignore_conflicts=True
        )
        for reward, count in sorted(counts.items()):
            RewardUse.objects.filter(reward=reward, customer=old).update(count=F("count") - count)
            RewardUse.objects.filter(reward=reward, customer=new).update(count=F("count") + count)
    rows.update(**{column: new})


def _remember(row: Merge, kind: str, ids: Sequence[int]) -> None:
    MergedThing.objects.bulk_create(
        [MergedThing(merge=row, kind=kind, object_id=pk) for pk in ids], ignore_conflicts=True
    )


def _mark(*customers: int) -> None:
    facts.mark(customers, occurred_at=clock.now(), is_history=True)

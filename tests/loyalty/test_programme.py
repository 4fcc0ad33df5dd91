from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from customers.models import CustomerFacts, DirtyCustomer
from lifecycle_crm import night
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from loyalty import audit, earning, programme, rules
from loyalty.models import Account, Entry, Membership, Programme
from tests.loyalty.factories import SPRING, CustomerFactory, OrderFactory, RefundFactory, give

pytestmark = pytest.mark.django_db


def test_programmes_of_three_kinds_stand_side_by_side_and_the_first_points_programme_is_the_main_one() -> None:
    points = Programme.objects.get()
    miles = programme.create(name="Sky miles")
    club = programme.create(name="Supper club", kind="membership", fee_minor=4900, term_months=12)
    card = programme.create(name="Card", kind="card")
    assert [one.key for one in (points, miles, club, card)] == ["points", "sky-miles", "supper-club", "card"]
    assert (club.joining, card.joining) == ("asked", "asked")
    assert list(Programme.earning()) == [points, miles]
    assert Programme.current() == points
    programme.edit(programme=miles, position=1)
    assert Programme.current() == miles
    programme.stop(programme=miles)
    assert Programme.current() == points
    programme.start(programme=miles)
    assert list(Programme.earning()) == [miles, points]


def test_a_name_that_is_taken_gets_a_key_of_its_own() -> None:
    first, second = (programme.create(name="Beans") for _n in range(2))
    assert (first.key, second.key) == ("beans", "beans-2")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "x" * 81},
        {"name": "Beans", "kind": "stamps"},
        {"name": "Beans", "pending_days": -1},
        {"name": "Beans", "expiry_months": 0},
        {"name": "Beans", "fee_minor": 100},
        {"name": "Beans", "colour": "red"},
        {"name": "Beans", "key": "Not A Key"},
        {"name": "Beans", "joining": "perhaps"},
        {"name": "Beans", "about": "x" * 301},
    ],
)
def test_a_programme_that_makes_no_sense_is_refused_and_nothing_is_made(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        programme.create(**fields)  # type: ignore[arg-type]
    assert Programme.objects.count() == 1


def test_a_key_that_is_taken_is_refused() -> None:
    with pytest.raises(Conflict, match="key “points”"):
        programme.create(name="Other", key="points")
    assert Programme.objects.count() == 1


def test_kind_and_key_never_change_and_a_card_never_takes_in_everybody() -> None:
    card = programme.create(name="Card", kind="card")
    for fields in ({"kind": "points"}, {"key": "other"}, {"joining": "everybody"}):
        with pytest.raises(InvalidInput):
            programme.edit(programme=card, **fields)
    card.refresh_from_db()
    assert (card.kind, card.key, card.joining) == ("card", "card", "asked")


def test_an_order_earns_in_every_points_programme_and_a_refund_takes_back_from_each() -> None:
    miles = programme.create(name="Sky miles", pending_days=0)
    rules.create(programme=miles, kind="amount", name="Miles", points=3, per=100, starts_at=None)
    programme.create(name="Club", kind="membership")
    order = OrderFactory(amount_minor=5000)
    assert earning.award_for_orders([order.pk]) == 2
    assert earning.award_for_orders([order.pk]) == 0
    assert list(Entry.objects.order_by("programme").values_list("programme__key", "points")) == [
        ("points", 50), ("sky-miles", 150),
    ]  # fmt: skip
    back = RefundFactory(order=order, amount_minor=2500)
    assert earning.reverse_for_refunds([back.pk]) == 2
    assert earning.reverse_for_refunds([back.pk]) == 0
    held = {a.programme.key: a.balance + a.pending for a in Account.objects.select_related("programme")}
    assert held == {"points": 25, "sky-miles": 75}
    assert Account.objects.get(programme=miles).balance == 75
    assert audit.problems() == []


def test_the_facts_carry_the_points_of_the_main_programme_only() -> None:
    customer = CustomerFactory()
    miles = programme.create(name="Sky miles")
    give(customer, 70)
    give(customer, 400, key="m", programme=miles)
    night.run(clock.last_complete_day())
    assert CustomerFacts.objects.get(pk=customer.pk).points == 70


def test_a_paid_membership_is_joined_renewed_and_left() -> None:
    club = programme.create(name="Club", kind="membership", fee_minor=4900, term_months=12)
    customer = CustomerFactory()
    joined = SPRING
    row = programme.join(programme=club, customer=customer, paid_minor=4900, key="pay-1", joined_at=joined)
    # 10 March 2026 and twelve months: the last day is 10 March 2027, which ends at 23:00 UTC in Stockholm's winter.
    assert row.ends_at == datetime(2027, 3, 10, 23, tzinfo=UTC)
    assert programme.join(programme=club, customer=customer, paid_minor=4900, key="pay-1", joined_at=joined) == row
    assert DirtyCustomer.objects.filter(customer_id=customer.pk).count() == 1
    with pytest.raises(programme.AlreadyIn, match="Renew instead"):
        programme.join(programme=club, customer=customer, paid_minor=4900, key="pay-2")
    for _again in range(2):
        programme.renew(membership=row, paid_minor=4900, key="pay-3")
    row.refresh_from_db()
    assert (row.ends_at, row.paid_minor, row.renewals) == (datetime(2028, 3, 10, 23, tzinfo=UTC), 9800, 1)
    assert programme.is_in(club, customer, joined)
    assert not programme.is_in(club, customer, joined - timedelta(seconds=1))
    assert not programme.is_in(club, customer, row.ends_at)
    programme.leave(membership=row)
    programme.leave(membership=row)
    assert not programme.is_in(club, customer, clock.now())
    again = programme.join(programme=club, customer=customer, paid_minor=4900, key="pay-4")
    assert again.pk != row.pk
    assert Membership.objects.filter(left_at=None).count() == 1


def test_who_joins_after_the_term_was_over_begins_a_new_stay() -> None:
    club = programme.create(name="Club", kind="membership", term_months=1)
    customer = CustomerFactory()
    first = programme.join(programme=club, customer=customer, joined_at=SPRING)
    second = programme.join(programme=club, customer=customer, joined_at=SPRING + timedelta(days=90))
    first.refresh_from_db()
    assert first.left_at == first.ends_at
    assert second.left_at is None
    with pytest.raises(programme.NotIn, match="is over"):
        programme.renew(membership=first)


def test_too_little_money_a_stopped_programme_and_an_open_one_let_nobody_in() -> None:
    club = programme.create(name="Club", kind="membership", fee_minor=4900)
    customer = CustomerFactory()
    with pytest.raises(InvalidInput, match="costs more"):
        programme.join(programme=club, customer=customer, paid_minor=4899)
    with pytest.raises(InvalidInput, match="future"):
        programme.join(programme=club, customer=customer, paid_minor=4900, joined_at=clock.now() + timedelta(days=1))
    with pytest.raises(Conflict, match="Everybody is in"):
        programme.join(programme=Programme.current(), customer=customer)  # type: ignore[arg-type]
    programme.stop(programme=club)
    with pytest.raises(programme.NotActive):
        programme.join(programme=club, customer=customer, paid_minor=4900)
    assert not Membership.objects.exists()


def test_a_card_has_a_number_that_scanners_accept_and_nobody_else_has() -> None:
    card = programme.create(name="Card", kind="card")
    row = programme.join(programme=card, customer=CustomerFactory())
    assert len(row.number) == 13
    weights = [1, 3] * 6 + [1]
    assert sum(int(digit) * weight for digit, weight in zip(row.number, weights, strict=True)) % 10 == 0
    with pytest.raises(Conflict, match="belongs to somebody else"):
        programme.join(programme=card, customer=CustomerFactory(), number=row.number)
    assert Membership.objects.count() == 1


def test_an_unknown_programme_is_named() -> None:
    assert programme.get("points") == Programme.objects.get()
    with pytest.raises(programme.UnknownProgramme, match="“coffee”"):
        programme.get("coffee")

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction

from customers import facts
from customers.models import CustomerFacts
from lifecycle_crm.lib import clock
from loyalty import audit, ledger, standing
from loyalty.models import Account, Lot, Posting, Programme
from tests.loyalty.factories import SPRING, CustomerFactory, give

pytestmark = pytest.mark.django_db


def shop(size: int) -> list[Account]:
    customers = [CustomerFactory() for _ in range(size)]
    ledger.earn_many(
        [
            ledger.Earning(one.pk, 100, f"k{one.pk}", SPRING, SPRING, clock.now() + timedelta(days=9))
            for one in customers
        ]
    )
    for customer in customers[::2]:
        ledger.redeem(customer=customer, points=30, key=f"r{customer.pk}")
    return list(Account.objects.order_by("pk"))


def test_it_finds_nothing_where_nothing_is_wrong() -> None:
    shop(10)
    assert audit.problems() == []
    assert audit.broken_accounts() == []


def test_it_names_exactly_the_accounts_that_were_tampered_with() -> None:
    """Fault 39: three of three hundred, with a counter entry so that the table's own check is content."""
    accounts = shop(300)
    bad = [accounts[7], accounts[100], accounts[299]]
    for account in bad:
        Account.objects.filter(pk=account.pk).update(balance=account.balance + 1, adjusted=account.adjusted + 1)
    assert [pk for pk, _customer, _what in audit.broken_accounts()] == [account.pk for account in bad]
    said = audit.problems()
    assert [line for line in said if line.startswith("Points account")] == [
        f"Points account {account.pk} of customer #{account.customer_id}: balance does not equal its entries."
        for account in bad
    ]
    assert ledger.freeze(accounts=[pk for pk, _customer, _what in audit.broken_accounts()]) == 3


def test_it_names_a_lot_that_was_tampered_with() -> None:
    accounts = shop(4)
    Lot.objects.filter(account=accounts[2]).update(remaining=69)
    assert audit.broken_accounts() == [(accounts[2].pk, accounts[2].customer_id, "lots")]


def test_it_names_an_entry_whose_postings_do_not_close() -> None:
    accounts = shop(4)
    entry = accounts[1].entries.get()
    Posting.objects.create(entry=entry, account=accounts[1], ledger="expired", points=5)
    said = audit.problems()
    assert f"Points entries whose postings do not sum to zero: #{entry.pk}." in said
    programme = Programme.objects.get()
    assert f"Programme {programme.pk}: 400 points were issued, but 65 gone and 340 outstanding make 405." in said


def test_it_counts_what_it_does_not_name() -> None:
    accounts = shop(audit.NAMED + 2)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE loyalty_account SET balance = balance + 1, adjusted = adjusted + 1")
    said = audit.problems()
    assert len([line for line in said if line.startswith("Points account")]) == audit.NAMED
    assert f"{len(accounts) - audit.NAMED} more points accounts do not equal their entries." in said


def test_standing_hands_spendable_points_down_and_writes_only_what_changed() -> None:
    ada, bo, cy = CustomerFactory(), CustomerFactory(), CustomerFactory()
    give(ada, 70)
    give(bo, 20, effective_at=SPRING, active_at=clock.now() + timedelta(days=1))
    now = clock.now()
    for turn in range(2):
        with transaction.atomic(), facts.batch():
            facts.add_everyone(0, 2**40, as_of=now)
            facts.refresh(as_of=now)
            changed = facts.refresh(as_of=now, is_due=False, also=standing.numbers(now))
        assert changed == (1 if turn == 0 else 0)
    points = dict(CustomerFacts.objects.values_list("customer_id", "points"))
    assert points == {ada.pk: 70, bo.pk: 0, cy.pk: 0}
    assert set(CustomerFacts.objects.values_list("tier", flat=True)) == {""}


def test_standing_hands_nothing_down_without_a_programme() -> None:
    ada = CustomerFactory()
    give(ada, 70)
    Programme.objects.update(is_active=False)
    with transaction.atomic(), facts.batch():
        facts.add_everyone(0, 2**40, as_of=clock.now())
        facts.refresh(as_of=clock.now())
        assert facts.refresh(as_of=clock.now(), is_due=False, also=standing.numbers(clock.now())) == 0

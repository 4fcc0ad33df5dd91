"""A sum that does not equal its entries: found within a night, that account stops, a person lets it go on."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from django.db import connection, transaction

from customers.models import Customer
from lifecycle_crm import night
from lifecycle_crm.lib import clock, health
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from loyalty import audit, ledger, queries
from loyalty.errors import AccountFrozen, StillBroken
from loyalty.ledger import proof
from loyalty.models import Account, Entry, Freeze, Lot, Posting
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, give

pytestmark = pytest.mark.django_db


@pytest.fixture
def people() -> list[Customer]:
    found = [CustomerFactory() for _ in range(5)]
    for n, one in enumerate(found):
        give(one, 100, key=f"g{n}")
        ledger.redeem(customer=one, points=30, key=f"r{n}")
    return found


def held(customer: Customer) -> Account:
    return Account.objects.get(customer=customer)


def tamper(customer: Customer) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE loyalty_account SET balance = balance + 1, adjusted = adjusted + 1 WHERE customer_id = %s",
            [customer.pk],
        )


def test_the_proof_freezes_exactly_the_tampered_accounts_and_mends_nothing(people: list[Customer]) -> None:
    """Fault 39."""
    assert ledger.prove() == 0
    tamper(people[1])
    tamper(people[3])
    assert (ledger.prove(), ledger.prove()) == (2, 0)
    assert list(Freeze.objects.order_by("account").values_list("account__customer", "what")) == [
        (people[1].pk, "balance"),
        (people[3].pk, "balance"),
    ]
    assert held(people[1]).balance == 71
    for n, one in enumerate(people):
        if n in (1, 3):
            with pytest.raises(AccountFrozen):
                ledger.redeem(customer=one, points=1, key=f"x{n}")
        else:
            ledger.redeem(customer=one, points=1, key=f"x{n}")


def test_a_broken_account_stays_frozen_until_it_is_rebuilt_from_its_entries(people: list[Customer]) -> None:
    ola = UserFactory()
    tamper(people[1])
    Lot.objects.filter(customer=people[1]).update(remaining=71)
    ledger.prove()
    with pytest.raises(StillBroken):
        ledger.unfreeze(account=held(people[1]), actor=ola, reason="Looks fine")
    assert (held(people[1]).frozen_at is None, held(people[1]).balance) == (False, 71)
    row = ledger.unfreeze(account=held(people[1]), actor=ola, reason="A script had changed it", is_rebuilt=True)
    assert (row.ended_by, row.reason, row.what) == (ola, "A script had changed it", "balance")
    assert (held(people[1]).balance, held(people[1]).adjusted, held(people[1]).frozen_at) == (70, 0, None)
    assert audit.problems() == []
    ledger.redeem(customer=people[1], points=70, key="all")


def test_letting_go_needs_a_reason_and_a_frozen_account(people: list[Customer]) -> None:
    with pytest.raises(Conflict):
        ledger.unfreeze(account=held(people[0]), actor=None, reason="Why not")
    ledger.freeze(accounts=[held(people[0]).pk])
    with pytest.raises(InvalidInput):
        ledger.unfreeze(account=held(people[0]), actor=None, reason=" ")
    assert held(people[0]).frozen_at is not None


def test_the_proof_of_one_account_says_what_the_proof_of_all_says(people: list[Customer]) -> None:
    ledger.authorise(customer=people[2], points=20, key="h")
    tamper(people[1])
    Lot.objects.filter(customer=people[4]).update(remaining=69)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE loyalty_hold SET points = 19")
    wrong = ledger.broken_accounts()
    assert [what for _account, _customer, what in wrong] == ["balance", "holds", "lots"]
    for one in Account.objects.order_by("pk"):
        assert ledger.broken_accounts([one.pk]) == [row for row in wrong if row[0] == one.pk]


def test_a_night_freezes_and_health_says_so(people: list[Customer]) -> None:
    tamper(people[1])
    done = night.run(clock.last_complete_day(), is_quiet=True)
    assert (done.state, done.counts["frozen"]) == ("done", 1)
    assert [one.account.customer for one in queries.frozen()] == [people[1]]
    told = health.report()["queues"]["points_frozen"]
    assert told["ok"] is False
    ledger.unfreeze(account=held(people[1]), actor=None, reason="Mended", is_rebuilt=True)
    assert health.report()["queues"]["points_frozen"]["ok"] is True


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE loyalty_entry SET points = -29 WHERE id = %s", "say other points than their postings: #"),
        ("UPDATE loyalty_posting SET points = points + 1 WHERE entry_id = %s AND points > 0", "do not sum to zero: #"),
        ("DELETE FROM loyalty_posting WHERE entry_id = %s", "without postings: #"),
        ("UPDATE loyalty_lotspend SET points = 29 WHERE entry_id = %s", "lots does not equal its entries"),
        ("DELETE FROM loyalty_lotspend WHERE entry_id = %s", "lots does not equal its entries"),
    ],
)
def test_who_gets_past_the_trigger_is_found_by_verify(people: list[Customer], statement: str, said: str) -> None:
    """An owner of the database can drop a trigger. The sums still tell."""
    entry = Entry.objects.get(customer=people[2], kind="spend")
    table = statement.split()[1] if statement.startswith("UPDATE") else statement.split()[2]
    with connection.cursor() as cursor:
        for verb in ("update", "delete"):
            where = f" ON {table}" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER {table}_no_{verb}{where}")
        cursor.execute(statement, [entry.pk])
        assert cursor.rowcount >= 1
    told = audit.problems()
    assert any(said in line for line in told), told
    assert not [line for line in told for one in people if one != people[2] and f"customer #{one.pk}:" in line]


# --- What a night reads -----------------------------------------------------------------------------------------------


def nights(count: int, first: date = date(2026, 3, 1)) -> list[int]:
    """How many accounts each of so many nights froze."""
    return [ledger.prove(day=first + timedelta(days=n)) for n in range(count)]


def bend(customer: Customer) -> None:
    """Change the history of an account that says what it said before: only its entries can tell."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM loyalty_lot WHERE customer_id = %s", [customer.pk])
        lot = cursor.fetchone()[0]
        cursor.execute("UPDATE loyalty_lot SET amount = amount + 5 WHERE id = %s", [lot])


def test_what_an_account_says_is_compared_every_night(people: list[Customer]) -> None:
    assert nights(1) == [0]
    assert proof.due() == [held(people[0]).pk]  # one in twenty-eight of five, rounded up
    give(people[3], 10, key="new")
    tamper(people[4])
    assert proof.due() == [held(people[n]).pk for n in (0, 3, 4)]
    assert ledger.prove(day=date(2026, 3, 2)) == 1
    assert held(people[4]).frozen_at is not None


def test_a_bent_history_is_found_within_four_weeks_and_by_verify_at_once() -> None:
    everybody = [CustomerFactory() for _ in range(2 * proof.NIGHTS)]
    for n, one in enumerate(everybody):
        give(one, 100, key=f"g{n}")
    assert nights(1) == [0]
    for one in everybody:
        bend(one)
    assert len(ledger.broken_accounts()) == len(everybody)
    found = nights(proof.NIGHTS, date(2026, 3, 2))
    assert found == [2] * proof.NIGHTS
    assert Account.objects.filter(frozen_at=None).count() == 0


def test_an_entry_that_an_account_does_not_know_is_found_the_next_night(people: list[Customer]) -> None:
    nights(1)
    for n in (3, 4):
        account = held(people[n])
        entry = Entry.objects.create(
            programme_id=account.programme_id, account=account, customer=people[n], key=f"odd{n}", kind="earn", points=5,
            effective_at=clock.now(),
        )  # fmt: skip
        Posting.objects.bulk_create(
            [
                Posting(entry=entry, account=account, ledger=name, points=points)
                for name, points in (("available", 5), ("issued", -5))
            ]
        )
    assert nights(1, date(2026, 3, 2)) == [2]


def test_the_proof_of_a_part_finds_what_the_proof_of_all_finds(people: list[Customer]) -> None:
    tamper(people[0])
    bend(people[1])
    Account.objects.filter(customer=people[2]).update(held=5, adjusted=5)
    wrong = ledger.broken_accounts()
    ids = [held(one).pk for one in people]
    with transaction.atomic():
        assert proof.prove_part(ids, day=date(2026, 3, 1)) == wrong
    assert [what for _pk, _customer, what in wrong] == ["balance", "lots", "held"]

from __future__ import annotations

import threading
import unicodedata
from datetime import timedelta

import pytest
from django.db import connection

from customers import ingest
from customers.ingest import CustomerIn, Status
from customers.models import Consent, Customer, DirtyCustomer, ExternalId
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from tests.customers.factories import LONG_AGO, CustomerFactory, ExternalIdFactory

pytestmark = pytest.mark.django_db


def statuses(results: list[ingest.Result]) -> list[str]:
    return [str(result.status) for result in results]


def test_it_makes_a_customer_and_says_so() -> None:
    [result] = ingest.save_customers(
        [
            CustomerIn(
                external_id="C-1",
                email=" Ada@Example.ORG ",
                name="Ada Åberg",
                phone="0046 70-123 45 67",
                language="sv-SE",
                country="se",
                tags=["vip"],
                known_since=LONG_AGO,
            )
        ],
        source="shop",
    )
    customer = Customer.objects.get()
    assert (result.status, result.ref, result.id) == (Status.CREATED, "C-1", customer.pk)
    assert (customer.email, customer.email_key) == ("Ada@Example.ORG", "ada@example.org")
    assert (customer.given_name, customer.phone, customer.language, customer.country) == (
        "Ada",
        "+46701234567",
        "sv",
        "SE",
    )
    assert customer.search_text == "ada aberg ada@example.org +46701234567"
    assert list(ExternalId.objects.values_list("source", "value", "customer")) == [("shop", "C-1", customer.pk)]
    [dirty] = DirtyCustomer.objects.all()
    assert (dirty.customer_id, dirty.occurred_at, dirty.is_history) == (customer.pk, LONG_AGO, True)


def test_it_updates_only_what_is_sent_and_only_when_it_differs() -> None:
    customer = CustomerFactory(
        name="Ada Berg", email="ada@example.org", city="Umeå", attributes={"shoe": 38, "hat": 54}
    )
    first = ingest.save_customers(
        [CustomerIn(email="ADA@example.org", city="Luleå", attributes={"hat": None, "glove": 7})], source="shop"
    )
    again = ingest.save_customers([CustomerIn(email="ada@example.org", city="Luleå")], source="shop")
    customer.refresh_from_db()
    assert (statuses(first), statuses(again)) == (["updated"], ["updated"])  # the spelling of the address changed back
    assert ingest.save_customers([CustomerIn(email="ada@example.org")], source="shop")[0].status == Status.DUPLICATE
    assert (customer.name, customer.city, customer.attributes) == ("Ada Berg", "Luleå", {"shoe": 38, "glove": 7})
    assert "lulea" in customer.search_text


def test_it_lets_a_first_name_follow_the_name() -> None:
    ingest.save_customers([CustomerIn(external_id="1", name="Ada Berg")], source="shop")
    ingest.save_customers([CustomerIn(external_id="1", name="Eva Berg")], source="shop")
    assert Customer.objects.get().given_name == "Eva"
    ingest.save_customers([CustomerIn(external_id="1", given_name="Evita")], source="shop")
    ingest.save_customers([CustomerIn(external_id="1", name="Eva Strand")], source="shop")
    assert Customer.objects.get().given_name == "Evita"


def test_it_lets_the_external_id_decide_over_the_address() -> None:
    one = ExternalIdFactory(value="C-1").customer
    other = CustomerFactory(email="other@example.org")
    [result] = ingest.save_customers([CustomerIn(external_id="C-1", email="new@example.org")], source="shop")
    assert (result.status, result.id) == (Status.UPDATED, one.pk)
    [taken] = ingest.save_customers(
        [CustomerIn(external_id="C-1", email="Other@example.org", city="Brno")], source="shop"
    )
    assert (taken.status, taken.code) == (Status.ERROR, "email_taken")
    one.refresh_from_db()
    other.refresh_from_db()
    assert (one.email, one.city, other.email) == ("new@example.org", "", "other@example.org")


def test_it_gives_a_known_address_its_external_id() -> None:
    customer = CustomerFactory(email="ada@example.org")
    [result] = ingest.save_customers([CustomerIn(external_id="C-9", email="ada@example.org")], source="shop")
    assert (result.status, result.id) == (Status.UPDATED, customer.pk)
    assert ExternalId.objects.get().customer_id == customer.pk


def test_it_takes_one_person_once_however_they_are_spelled() -> None:
    spellings = [
        "Kim@Blåbär.example",
        "  kim@blåbär.EXAMPLE",
        unicodedata.normalize("NFD", "kim@blåbär.example"),
        "KIM@BLÅBÄR.EXAMPLE\t",
    ]
    results = ingest.save_customers([CustomerIn(email=one) for one in spellings * 5], source="shop")
    refused = [result for result in results if result.status == Status.ERROR]
    assert Customer.objects.count() == 1, [result.message for result in refused]
    assert not refused
    assert len({result.id for result in results}) == 1


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (CustomerIn(name="Nobody"), "missing_identity"),
        (CustomerIn(email="not an address"), "invalid_email"),
        (CustomerIn(external_id="1", phone="070-123"), "invalid_phone"),
        (CustomerIn(external_id="1", country="Sweden"), "invalid_country"),
        (CustomerIn(external_id="1", time_zone="Mars/Base"), "invalid_time_zone"),
        (CustomerIn(external_id="1", language="svenska!"), "invalid_language"),
        (CustomerIn(external_id="1", kind="robot"), "invalid_kind"),
        (CustomerIn(external_id="1", name="x" * 201), "too_long"),
        (CustomerIn(external_id="1", name="a\x00b"), "invalid_text"),
        (CustomerIn(external_id="1", name="a\ud800b"), "invalid_text"),
        (CustomerIn(external_id="1", attributes={"n": float("nan")}), "invalid_json"),
        (CustomerIn(external_id="1", attributes={"n": "\x00"}), "invalid_json"),
        (CustomerIn(external_id="1", acquisition_cost_minor=-1), "negative_amount"),
        (CustomerIn(external_id="1", known_since=clock.now() + timedelta(hours=1)), "future_date"),
        (CustomerIn(customer_id=10**30, name="x"), "unknown_customer"),
    ],
)
def test_it_refuses_a_bad_row_with_one_sentence_and_keeps_the_good_ones(row: CustomerIn, code: str) -> None:
    results = ingest.save_customers(
        [CustomerIn(external_id="good"), row, CustomerIn(external_id="fine")], source="shop"
    )
    assert statuses(results) == ["created", "error", "created"]
    assert results[1].code == code
    assert results[1].message.endswith(".")
    assert results[1].index == 1
    assert Customer.objects.count() == 2
    assert DirtyCustomer.objects.count() == 2


def test_it_raises_for_a_single_bad_customer_and_writes_nothing() -> None:
    with pytest.raises(InvalidInput) as refusal:
        ingest.save_customer(CustomerIn(email="nope"), source="shop")
    assert refusal.value.code == "invalid_email"
    assert not Customer.objects.exists()


def test_it_records_consent_when_it_differs_from_the_one_in_force() -> None:
    row = CustomerIn(external_id="C-1", may_email=True, consent_wording="w-3", consent_at=LONG_AGO)
    ingest.save_customers([row, row], source="shop")
    ingest.save_customers([row], source="shop")
    consent = Consent.objects.get()
    assert (consent.purpose, consent.channel, consent.is_granted) == ("marketing", "email", True)
    assert (consent.wording, consent.source, consent.occurred_at) == ("w-3", "shop", LONG_AGO)
    ingest.save_customers([CustomerIn(external_id="C-1", may_email=False)], source="shop")
    assert list(Consent.objects.order_by("id").values_list("is_granted", flat=True)) == [True, False]


def test_it_writes_a_thousand_customers_in_a_few_statements(django_assert_max_num_queries) -> None:  # type: ignore[no-untyped-def]
    rows = [CustomerIn(external_id=f"C-{n}", email=f"c{n}@example.org", name="Kim Lind") for n in range(1000)]
    with django_assert_max_num_queries(60):
        results = ingest.save_customers(rows, source="shop")
    assert set(statuses(results)) == {"created"}
    with django_assert_max_num_queries(60):
        results = ingest.save_customers(
            [CustomerIn(external_id=row.external_id, city="Oslo") for row in rows], source="shop"
        )
    assert set(statuses(results)) == {"updated"}
    assert Customer.objects.filter(city="Oslo", name="Kim Lind").count() == 1000


@pytest.mark.django_db(transaction=True)
def test_it_makes_each_person_once_when_several_send_overlapping_batches() -> None:
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def send(offset: int) -> None:
        try:
            start.wait()
            for step in range(3):
                numbers = range(offset * 20 + step, offset * 20 + step + 120)
                rows = [CustomerIn(external_id=f"C-{n}", email=f"c{n}@example.org") for n in numbers]
                rows.reverse()
                results = ingest.save_customers(rows, source="shop")
                assert not [result for result in results if result.status == Status.ERROR]
        except BaseException as problem:
            errors.append(problem)
        finally:
            connection.close()

    threads = [threading.Thread(target=send, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Customer.objects.count() == ExternalId.objects.count() == 60 + 122

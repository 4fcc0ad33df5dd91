from __future__ import annotations

import pytest

from customers import identity
from lifecycle_crm.lib.errors import InvalidInput
from tests.customers.factories import CustomerFactory, ExternalIdFactory


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("+46 70-123 45 67", "+46701234567"),
        ("0048 (22) 123.45.67", "+48221234567"),
        ("+420 601 123 456", "+420601123456"),
    ],
)
def test_it_writes_phone_numbers_one_way(typed: str, number: str) -> None:
    assert identity.phone(typed) == number


@pytest.mark.parametrize("typed", ["070-123 45 67", "+0701234567", "+46", "call me", "+4670123456789012"])
def test_it_asks_for_the_country_of_a_number(typed: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        identity.phone(typed)
    assert refusal.value.code == "invalid_phone"


@pytest.mark.parametrize(("typed", "code"), [("sv-SE", "sv"), ("no", "nb"), ("nn_NO", "nb"), ("EN", "en")])
def test_it_writes_languages_one_way(typed: str, code: str) -> None:
    assert identity.language(typed) == code


@pytest.mark.django_db
def test_it_finds_by_id_then_external_id_then_address() -> None:
    one = ExternalIdFactory(source="shop", value="C-1", customer__email="one@example.org").customer
    two = CustomerFactory(email="two@example.org")
    book = identity.look_up(
        source="shop",
        ids=[two.pk, -1, 10**40],
        external_ids=["C-1", "C-404"],
        emails=["TWO@example.org", "ONE@example.org"],
    )

    def found(**names: object) -> int | None:
        known = book.find(**names)  # type: ignore[arg-type]
        return known.id if known else None

    assert found(customer_id=two.pk, external_id="C-1") == two.pk
    assert found(external_id="C-1", email="two@example.org") == one.pk
    assert found(external_id="C-404", email=" Two@Example.org") == two.pk
    assert found(customer_id=10**40, email="two@example.org") is None
    assert found(external_id="C-404") is None
    assert identity.look_up(source="till", ids=[], external_ids=["C-1"], emails=[]).find(external_id="C-1") is None

from __future__ import annotations

from typing import Any

import pytest

from customers import finding
from customers.filters import CustomerFilter
from customers.models import Customer
from tests.customers.factories import CustomerFactory

pytestmark = pytest.mark.django_db


def test_it_finds_a_person_by_number_address_or_name() -> None:
    asa = CustomerFactory(name="Åsa Öberg", email="Asa@example.org")
    for text in (f"#{asa.pk}", str(asa.pk), "asa@EXAMPLE.org", "oberg asa"):
        assert finding.person(text) == asa
    for text in ("", "#999999999", "nobody at all"):
        assert finding.person(text) is None


def test_it_knows_what_is_not_a_number_of_a_customer() -> None:
    for text in ("", "#", "-1", "1.5", "²", "٣", "9" * 19, "#9 9"):
        assert finding.number(text) is None
    assert finding.number(" #0812 ") == 812


def test_it_means_exactly_one_by_a_number_or_an_address_and_nobody_by_a_name() -> None:
    asa = CustomerFactory(name="Åsa Öberg", email="Asa@example.org")
    assert [finding.addressed(text) for text in (f"#{asa.pk}", "asa@example.ORG ")] == [asa, asa]
    assert [finding.numbered(text) for text in (f"#{asa.pk}", "asa@example.org", "Åsa", "")] == [asa, None, None, None]
    assert [finding.addressed(text) for text in ("", "Åsa", "#999999999", "0")] == [None] * 4


def test_it_offers_a_few_of_the_newest_whose_name_has_the_words() -> None:
    known = [CustomerFactory(name=f"Åsa Öberg {n}", email=f"asa{n}@example.org") for n in range(4)]
    assert finding.several("oberg ASA", most=3) == known[:0:-1]
    assert finding.several(f"#{known[1].pk}", most=3) == finding.several("ASA1@example.org", most=3) == [known[1]]
    for text in ("", "  ", "#999999999", "nobody@example.org", "nobody"):
        assert finding.several(text, most=3) == []


def test_it_searches_the_list_by_a_number_or_by_words() -> None:
    seven, other = CustomerFactory(name="Ada"), CustomerFactory(name="Bo")
    other.name = f"Bo {seven.pk}"
    other.save()

    def found(text: str) -> set[Customer]:
        return set(CustomerFilter({"q": text}, Customer.objects.all()).qs)

    assert found(f"#{seven.pk}") == {seven}
    assert found(str(seven.pk)) >= {seven, other}
    assert found("bo") == {other}
    assert found("ada bo") == set()


def test_it_finds_many_people_with_a_question_per_kind(django_assert_num_queries: Any) -> None:
    known = [CustomerFactory(name=f"Person {n}", email=f"p{n}@example.org") for n in range(6)]
    asked = {f"#{known[0].pk}": known[0], str(known[1].pk): known[1], "#999999999": None, "": None}
    asked |= {one.email: one for one in known[2:]}
    with django_assert_num_queries(2):
        assert finding.people(asked) == asked
    with django_assert_num_queries(4):
        assert finding.people([*asked, "nobody@example.org", "person 3"]) == {
            **asked, "nobody@example.org": None, "person 3": known[3],
        }  # fmt: skip

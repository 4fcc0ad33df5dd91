"""Row numbers as they are typed."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from lifecycle_crm.lib.numbers import row_number
from tests.factories import UserFactory


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12), ("0", 0), ("007", 7), ("9" * 18, 10**18 - 1), ("9" * 19, None), ("", None), (None, None), ("-1", None),
        ("1.5", None), (" 1", None), ("²", None), ("１２", None), ("٣", None), ("1e3", None),
    ],
)  # fmt: skip
def test_it_reads_plain_digits_that_fit(text: str | None, number: int | None) -> None:
    assert row_number(text) == number


@pytest.mark.django_db
@pytest.mark.parametrize("typed", ["²", "9" * 40, "x"])
def test_an_address_with_no_number_in_its_place_is_no_error_of_ours(client: Client, typed: str) -> None:
    client.force_login(UserFactory(role="owner"))
    for name, parameter in (
        ("campaigns:outbox", "before"), ("campaigns:outbox", "customer"), ("feedback:overview", "link"),
        ("feedback:responses", "score"),
    ):  # fmt: skip
        assert client.get(reverse(name), {parameter: typed}).status_code == 200

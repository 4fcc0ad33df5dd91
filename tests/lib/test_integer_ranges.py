"""A number that is too large is refused alike on both databases, before either sees it."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from customers.models import CustomerFacts


@pytest.mark.parametrize(("name", "largest"), [("nps_score", 32_767), ("orders", 2_147_483_647), ("points", 2**63 - 1)])
def test_it_takes_what_fits_on_postgresql_and_no_more(name: str, largest: int) -> None:
    field = CustomerFacts._meta.get_field(name)
    field.run_validators(largest)
    with pytest.raises(ValidationError, match=f"less than or equal to {largest}"):
        field.run_validators(largest + 1)

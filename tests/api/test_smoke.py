"""Whatever the document allows, and whatever it does not, the API answers without a server error."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error

from lifecycle_crm.accounts.models import ApiKey
from tests.customers.factories import CustomerFactory, OrderFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def document(transactional_db: None) -> Any:
    # The application itself, not a server: more than fifty requests per operation are many connections.
    return schemathesis.openapi.from_wsgi("/api/schema/?format=json", WSGIHandler())


@pytest.fixture
def key() -> str:
    """A key that may do everything, in a shop where the lowest ids exist."""
    for _n in range(2):
        OrderFactory(customer=CustomerFactory())
    return ApiKey.issue(name="smoke", scopes=["*"])[1]


schema = schemathesis.pytest.from_fixture("document")


@schema.parametrize()
@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_it_never_fails_on_our_side(case: Any, key: str) -> None:
    case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, checks=[not_a_server_error])

"""Whatever the document allows, and whatever it does not, the API answers without a server error."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
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


def is_ours(found: Any) -> bool:
    """Half of the operations are tried to their limits on SQLite, the other half on PostgreSQL; what is right, on both."""
    return bool(zlib.crc32(found.operation.label.encode()) % 2) is (connection.vendor == "postgresql")


how: dict[str, Any] = {
    "max_examples": 2,
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@schema.include(is_ours).parametrize()
@settings(**how, phases=[Phase.explicit, Phase.generate])
def test_it_never_fails_on_our_side(case: Any, key: str) -> None:
    ask(case, key)


@schema.exclude(is_ours).parametrize()
@settings(**how, phases=[Phase.generate])
def test_it_never_fails_on_what_the_document_allows(case: Any, key: str) -> None:
    ask(case, key)


def ask(case: Any, key: str) -> None:
    case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, checks=[not_a_server_error])

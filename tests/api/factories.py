from __future__ import annotations

from rest_framework.test import APIClient

from lifecycle_crm.accounts.models import ApiKey


def caller(*scopes: str) -> APIClient:
    """A client that sends a key with these scopes."""
    _key, secret = ApiKey.issue(name="test", scopes=list(scopes))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client

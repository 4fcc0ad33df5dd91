from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def marketer(client: Any) -> Any:
    """A browser in which a marketer, ``.user``, is signed in."""
    from tests.factories import UserFactory

    client.user = UserFactory(role="marketer", name="Maja")
    client.force_login(client.user)
    return client


@pytest.fixture
def text(db: None) -> str:
    """The key of a text with words."""
    from tests.campaigns.factories import VariantFactory

    key: str = VariantFactory().template.key
    return key

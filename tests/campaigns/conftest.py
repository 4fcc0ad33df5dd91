from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import time_machine
from django.core.cache import cache


@pytest.fixture
def noon() -> Iterator[time_machine.Traveller]:
    """The clock stands at noon, until the test moves it; nobody has used up their pace yet."""
    from tests.campaigns.factories import NOON  # models cannot be imported while pytest collects its fixtures

    cache.clear()
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


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

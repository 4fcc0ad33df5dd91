from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.campaigns.receiver import Receiver


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


@pytest.fixture
def receiver(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A system of our own network that webhooks may tell, here and in processes beside the test."""
    server = Receiver()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    settings.WEBHOOK_INTERNAL_HOSTS = frozenset({server.host})
    monkeypatch.setenv("WEBHOOK_INTERNAL_HOSTS", server.host)
    yield server
    server.shutdown()
    server.server_close()

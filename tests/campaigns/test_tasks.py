"""A real worker hears the bell and sends."""

from __future__ import annotations

import pytest

from campaigns import outbox
from campaigns.models import Message
from tests.campaigns.factories import CampaignFactory, people, planned
from tests.fixtures import wait_until


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_it_sends_when_the_bell_rings(worker, smtp):
    worker(EMAIL_URL=smtp.url)
    run = planned(people(5), CampaignFactory(quiet_from=0, quiet_until=0))
    wait_until(lambda: Message.objects.filter(run=run, state="sent").count() == 5, seconds=30)
    assert len(smtp.messages) == 5
    assert outbox.send_due() == {}

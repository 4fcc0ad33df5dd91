"""A sender of webhooks killed while another system listens: nothing is lost, and what is told twice has one number."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest

from campaigns import audit, hooks
from campaigns.journeys import engine, entering
from campaigns.models import WebhookDelivery
from lifecycle_crm.lib import clock
from tests.campaigns.factories import happens, live_journey, person
from tests.campaigns.receiver import Ear, Receiver
from tests.fixtures import kill, wait_until

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

SIZE = 6


def test_what_a_killed_sender_had_told_is_told_again_with_the_same_number(
    beside: Callable[[str, str], subprocess.Popen], receiver: Receiver
) -> None:
    target = hooks.create(name="Warehouse", url=receiver.url)
    live_journey([{"id": "s1", "do": "webhook", "target": target.key}])
    entering.for_events([happens(person()).pk for _n in range(SIZE)])
    engine.advance_due()
    go_on = threading.Event()

    def slow_after_two(ear: Ear) -> None:
        if len(receiver.heard) > 2:
            go_on.wait(60)
        ear.send_response(200)
        ear.end_headers()

    receiver.answer = slow_after_two
    victim = beside("tests.campaigns.journey_process", "hooks")
    wait_until(lambda: len(receiver.heard) == 3, seconds=60)
    kill(victim)
    states = Counter(WebhookDelivery.objects.values_list("state", flat=True))
    assert states == {"delivered": 2, "sending": SIZE - 2}, "The kill found nobody at work, so this proves nothing."
    go_on.set()
    # Its time is over.
    WebhookDelivery.objects.filter(state="sending").update(due_at=clock.whole_now() - timedelta(seconds=1))
    assert hooks.send_due() == {"delivered": SIZE - 2}
    told = Counter(headers["X-Lifecycle-Delivery"] for headers, _body in receiver.heard)
    assert sorted(told.values()) == [1] * (SIZE - 1) + [2]
    assert set(told) == {str(one.number) for one in WebhookDelivery.objects.all()}
    assert audit.problems() == []

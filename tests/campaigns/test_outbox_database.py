"""The database goes away while a run goes out: what it forgot is told again or in doubt, and what had not left goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError

from campaigns import audit, claims, outbox
from campaigns.models import Message, Sender
from lifecycle_crm.lib import batches, clock
from tests.campaigns.factories import NOON, CampaignFactory, people, planned
from tests.campaigns.test_outbox import states

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


def test_it_doubts_what_a_sender_had_claimed_when_its_witness_is_gone(noon):
    """A crash of the database may have forgotten which of these were on their way; it forgot the witness with them."""
    run = planned(people(3))
    assert len(claims.claim_due(limit=2, owner="sender")) == 2
    Sender.objects.all().delete()
    noon.move_to(NOON + timedelta(minutes=6))
    assert outbox.send_due() == {"in_doubt": 2, "sent": 1}
    assert states(run) == {"in_doubt": 2, "sent": 1}
    assert audit.problems() == []


def test_it_doubts_them_too_when_the_machine_started_anew(noon, monkeypatch):
    run = planned(people(2))
    claims.claim_due(limit=1, owner="sender")
    monkeypatch.setattr(claims, "this_boot", lambda: "another boot")
    noon.move_to(NOON + timedelta(minutes=6))
    assert outbox.send_due() == {"in_doubt": 1, "sent": 1}
    assert states(run) == {"in_doubt": 1, "sent": 1}


@pytest.mark.django_db(transaction=True)
def test_it_tells_a_database_that_forgot_what_the_server_took(smtp, monkeypatch):
    run = planned(people(6), CampaignFactory(quiet_from=0, quiet_until=0))
    together, calls = batches.together, [0]

    def breaks(*work):
        calls[0] += 1
        if calls[0] == 4:
            # The last marks did not reach the disk: all that is left is the claim.
            Message.objects.filter(run=run, state__in=("sending", "sent")).update(
                state="claimed", sent_at=None, lease_until=clock.now() + timedelta(minutes=5)
            )
            raise OperationalError("server closed the connection unexpectedly")
        return together(*work)

    monkeypatch.setattr(batches, "together", breaks)
    with pytest.raises(OperationalError):
        outbox.send_due()
    assert states(run) == {"sent": 3, "queued": 3}
    assert outbox.send_due() == {"sent": 3}
    arrived = Counter(recipient for one in smtp.messages for recipient in one.recipients)
    assert len(arrived) == 6
    assert set(arrived.values()) == {1}
    assert audit.problems() == []


def away(times: int, does: Callable[..., Any]) -> Callable[..., Any]:
    """A database that is not there for the first so many questions."""
    left = [times]

    def asked(*args: Any, **how: Any) -> Any:
        if left[0] > 0:
            left[0] -= 1
            raise OperationalError("server closed the connection unexpectedly")
        return does(*args, **how)

    return asked


@pytest.mark.django_db(transaction=True)
def test_it_gives_back_what_it_had_not_begun_once_the_database_is_there_again(smtp, monkeypatch):
    """Else they would be in doubt: a database that was killed knows no senders."""
    run = planned(people(5), CampaignFactory(quiet_from=0, quiet_until=0))
    with monkeypatch.context() as broken:
        broken.setattr(outbox, "_keep", away(1, outbox._keep))
        broken.setattr(claims, "release", away(2, claims.release))
        with pytest.raises(OperationalError):
            outbox.send_due()
    assert states(run) == {"queued": 5}
    assert outbox.send_due() == {"sent": 5}


@pytest.mark.django_db(transaction=True)
def test_it_gives_nothing_back_while_nobody_knows_what_has_left(smtp, monkeypatch):
    """The server took two; their marks are forgotten, and the database does not come back in time to be told."""
    run = planned(people(5), CampaignFactory(quiet_from=0, quiet_until=0))
    together = batches.together

    def breaks(*work: Any) -> int:
        if len(smtp.messages) == 2:
            Message.objects.filter(run=run).exclude(state="claimed").update(state="claimed", sent_at=None)
            raise OperationalError("server closed the connection unexpectedly")
        return together(*work)

    with monkeypatch.context() as broken:
        broken.setattr(batches, "together", breaks)
        broken.setattr(claims, "BACK_SECONDS", 0.1)
        with pytest.raises(claims.NotWritten):
            outbox.send_due()
    assert states(run) == {"claimed": 5}
    assert outbox.send_due() == {}
    assert len(smtp.messages) == 2

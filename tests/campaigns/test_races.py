"""Several senders at once, and two campaigns that want the same person in the same second."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from django.db import connection

from campaigns import audit, claims, gate, outbox, runs
from campaigns.channels import email
from campaigns.models import Message, Slot
from lifecycle_crm.lib import clock
from tests.campaigns.factories import CampaignFactory, people, planned

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(work, n: int) -> list:
    barrier, answers, problems = threading.Barrier(n), [], []

    def one() -> None:
        try:
            barrier.wait()
            answers.append(work())
        except Exception as problem:
            problems.append(problem)
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    return answers


def test_it_gives_each_message_to_one_of_eight_senders():
    run = planned(people(400), CampaignFactory(quiet_from=0, quiet_until=0))
    owners = iter(range(8))
    lock = threading.Lock()

    def claim() -> list[int]:
        with lock:
            owner = f"sender-{next(owners)}"
        mine: list[int] = []
        while ids := claims.claim_due(limit=7, owner=owner):
            assert len(ids) <= 7
            mine += ids
        return mine

    claimed = [pk for mine in at_once(claim, 8) for pk in mine]
    assert len(claimed) == len(set(claimed)) == 400
    assert set(Message.objects.filter(run=run).values_list("state", flat=True)) == {"claimed"}
    assert set(Message.objects.filter(run=run).values_list("attempt", flat=True)) == {1}


def test_it_sends_one_and_caps_one_when_two_campaigns_want_the_same_people(smtp):
    everybody = people(60)
    for n in (1, 2):
        planned(everybody, CampaignFactory(quiet_from=0, quiet_until=0, cap_per_day=1), key=f"test:{n}")
    at_once(lambda: outbox.send_due(limit=60), 2)
    while outbox.send_due():
        continue
    arrived = Counter(recipient for one in smtp.messages for recipient in one.recipients)
    assert set(arrived.values()) == {1}
    assert len(arrived) == 60
    states = Counter(Message.objects.values_list("state", "reason"))
    assert states == {("sent", ""): 60, ("skipped", "capped"): 60}
    assert Slot.objects.count() == 60
    assert audit.problems() == []


def test_it_takes_one_place_of_a_day_however_many_ask_for_it():
    """The write decides, not the verdict: all of these had a verdict that said yes."""
    [customer] = people(1)
    for n in range(6):
        planned(
            [customer], CampaignFactory(quiet_from=0, quiet_until=0, cap_per_day=2, cap_per_week=2), key=f"test:{n}"
        )
    now = clock.now()
    works = []
    for n in range(6):
        [pk] = claims.claim_due(limit=1, owner=f"sender-{n}")
        [work] = outbox.load([pk], f"sender-{n}", now)
        work.verdict = gate.verdict(work.candidate, work.policy, now)
        assert work.verdict.outcome == gate.SEND
        works.append((work, f"sender-{n}"))
    todo = iter(works)
    lock = threading.Lock()

    def begin() -> str | None:
        with lock:
            work, owner = next(todo)
        if not claims.take_slots([work], now):
            return claims.look_again(work, owner)
        return claims.begin(work, owner, "smtp", email.message_id(work.pk))

    answers = at_once(begin, 6)
    assert 1 <= answers.count(None) <= 2
    assert Slot.objects.count() == answers.count(None)
    assert Message.objects.filter(state="sending").count() == answers.count(None)


def test_it_stops_within_one_message_when_a_run_is_cancelled_in_the_middle(smtp):
    run = planned(people(80), CampaignFactory(quiet_from=0, quiet_until=0))

    def cancel(_received: object) -> None:
        if len(smtp.messages) == 19:
            runs.cancel(run=run)
            connection.close()

    smtp.on_data = cancel
    outbox.send_due()
    assert len(smtp.messages) == 20
    states = Counter(Message.objects.filter(run=run).values_list("state", flat=True))
    assert states == {"sent": 20, "cancelled": 60}
    assert outbox.send_due() == {}
    assert audit.problems() == []


def test_it_goes_on_exactly_where_a_pause_stopped_it(smtp):
    run = planned(people(60), CampaignFactory(quiet_from=0, quiet_until=0))

    def pause(_received: object) -> None:
        if len(smtp.messages) in (9, 29):
            runs.pause(run=run)
            connection.close()

    smtp.on_data = pause
    for sent in (10, 30, 60):
        outbox.send_due()
        assert len(smtp.messages) == sent
        run.refresh_from_db()
        if run.state == "paused":
            runs.resume(run=run)
    arrived = Counter(recipient for one in smtp.messages for recipient in one.recipients)
    assert set(arrived.values()) == {1}
    assert len(arrived) == 60
    assert run.state == "finished"

"""Speed limits, the circuit breaker, and the stop of everything."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest
import time_machine
from django.urls import reverse

from campaigns import audience, audit, breaker, deliveries, limits, outbox, runs
from campaigns.errors import NotNow
from campaigns.models import Campaign, DeliveryEvent, Hold, Message, Run, SendingRules, Slot, Throttle
from lifecycle_crm.lib import clock
from tests.campaigns.factories import NOON, CampaignFactory, people, person, planned
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def noon():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def states(run: Run) -> dict[str, int]:
    return dict(Counter(Message.objects.filter(run=run).values_list("state", flat=True)))


# --- Speed --------------------------------------------------------------------------------------------------------------


def test_it_keeps_one_provider_to_its_speed_and_lets_the_others_pass(smtp, noon):
    Throttle.objects.create(name="Slow", domains=["slow.example"], per_minute=10)
    slow = [person(email=f"s{n}@slow.example") for n in range(35)]
    fast = [person(email=f"f{n}@fast.example") for n in range(40)]
    run = planned([*slow, *fast], CampaignFactory(quiet_from=0, quiet_until=0))
    assert outbox.send_due() == {"sent": 50, "held": 25}
    minutes = [sum(one.recipients[0].endswith("slow.example") for one in smtp.messages)]
    assert minutes == [10]
    waiting = Message.objects.filter(run=run, state="queued")
    assert set(waiting.values_list("reason", flat=True)) == {"throttled"}
    assert len(set(waiting.values_list("due_at", flat=True))) == 25
    assert Slot.objects.count() == 50
    per_minute: Counter[datetime] = Counter()
    for tick in range(1, 40):
        now = NOON + timedelta(seconds=10 * tick)
        noon.move_to(now)
        per_minute[now.replace(second=0)] += outbox.send_due().get("sent", 0)
    assert max(per_minute.values()) <= 10
    assert states(run) == {"sent": 75}
    assert len({one.recipients[0] for one in smtp.messages}) == 75
    assert audit.problems() == []


def test_it_gives_a_place_back_while_a_message_waits_for_its_turn(smtp):
    Throttle.objects.create(name="Slow", domains=["*"], per_minute=1)
    planned([person(), person()], CampaignFactory(quiet_from=0, quiet_until=0))
    assert outbox.send_due() == {"sent": 1, "held": 1}
    assert Slot.objects.count() == 1


def test_it_shares_one_count_between_senders(smtp):
    throttle = Throttle.objects.create(name="Slow", domains=["slow.example"], per_minute=10)
    now = clock.now()
    first = limits.take(throttle=throttle, booked=[], fresh=list(range(6)), now=now)
    second = limits.take(throttle=throttle, booked=[], fresh=list(range(6, 12)), now=now)
    third = limits.take(throttle=throttle, booked=[], fresh=[12], now=now)
    assert first == {}
    assert second == {10: NOON + timedelta(seconds=60), 11: NOON + timedelta(seconds=66)}
    assert third == {12: NOON + timedelta(seconds=72)}


def test_it_asks_anew_for_a_turn_after_a_pause(smtp, noon):
    Throttle.objects.create(name="Slow", domains=["*"], per_minute=5)
    run = planned(people(20), CampaignFactory(quiet_from=0, quiet_until=0))
    assert outbox.send_due() == {"sent": 5, "held": 15}
    runs.pause(run=run)
    noon.move_to(NOON + timedelta(hours=1))
    runs.resume(run=run)
    assert outbox.send_due() == {"sent": 5, "held": 10}
    for tick in range(1, 25):
        noon.move_to(NOON + timedelta(hours=1, seconds=10 * tick))
        outbox.send_due()
    assert states(run) == {"sent": 20}


# --- The circuit breaker ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "hours", "sends", "notices", "expected"),
    [
        ("complaint", 1, 199, 100, ""), ("complaint", 1, 200, 4, ""), ("complaint", 1, 1100, 5, ""),
        ("complaint", 1, 1000, 5, "warn"), ("complaint", 1, 1000, 9, "warn"), ("complaint", 1, 1000, 10, "stop"),
        ("complaint", 1, 200, 5, "stop"),
        ("complaint", 24, 999, 100, ""), ("complaint", 24, 1000, 9, ""), ("complaint", 24, 7000, 10, ""),
        ("complaint", 24, 5000, 14, "warn"), ("complaint", 24, 5000, 15, "stop"),
        ("hard_bounce", 1, 199, 199, ""), ("hard_bounce", 1, 200, 19, ""), ("hard_bounce", 1, 500, 24, ""),
        ("hard_bounce", 1, 500, 25, "warn"), ("hard_bounce", 1, 500, 49, "warn"), ("hard_bounce", 1, 500, 50, "stop"),
        ("hard_bounce", 24, 999, 500, ""), ("hard_bounce", 24, 1000, 49, ""), ("hard_bounce", 24, 2000, 49, ""),
        ("hard_bounce", 24, 2000, 50, "warn"), ("hard_bounce", 24, 2000, 99, "warn"), ("hard_bounce", 24, 2000, 100, "stop"),
    ],
)  # fmt: skip
def test_it_keeps_the_published_limits(kind, hours, sends, notices, expected):
    [limit] = [one for one in breaker.LIMITS if (one.kind, one.hours) == (kind, hours)]
    assert breaker.judge(limit, sends, notices) == expected


def sent(run: Run, at: datetime) -> list[Message]:
    Message.objects.filter(run=run).update(state="sent", sent_at=at, reason="")
    return list(Message.objects.filter(run=run).order_by("pk"))


def complain(messages: list[Message]) -> None:
    for one in messages:
        deliveries.record(message=one, kind="complaint", occurred_at=clock.now(), source="test", source_id=f"c{one.pk}")


def test_it_stops_a_campaign_that_draws_complaints_and_goes_on_when_a_person_says_so(client, noon):
    campaign = CampaignFactory(quiet_from=0, quiet_until=0)
    messages = sent(planned(people(220), campaign), NOON)
    noon.move_to(NOON + timedelta(minutes=10))
    complain(messages[:4])
    campaign.refresh_from_db()
    assert (campaign.state, campaign.alarm) == ("active", {})
    complain(messages[4:5])
    campaign.refresh_from_db()
    assert campaign.state == "paused"
    assert (campaign.alarm["level"], campaign.alarm["seen"], campaign.alarm["of"]) == ("stop", 5, 220)
    planned([person()], campaign, key="test:2")
    assert outbox.send_due() == {}

    client.force_login(UserFactory(role="marketer"))
    page = client.get(reverse("campaigns:detail", args=[campaign.pk])).content.decode()
    assert "This campaign stopped itself" in page
    assert "Within 1 hour, 5 of 220 messages were marked as spam" in page
    client.post(reverse("campaigns:switch", args=[campaign.pk, "resume"]))
    campaign.refresh_from_db()
    assert (campaign.state, campaign.alarm, campaign.fresh_from) == ("active", {}, NOON + timedelta(minutes=10))
    # The count starts anew: the five of before do not stop it again.
    assert outbox.send_due() == {"sent": 1}
    campaign.refresh_from_db()
    assert campaign.state == "active"


def test_it_warns_before_it_stops(noon):
    campaign = CampaignFactory()
    messages = sent(planned(people(600), campaign), NOON)
    complain(messages[:5])
    campaign.refresh_from_db()
    assert (campaign.state, campaign.alarm["level"]) == ("active", "warn")


def test_it_counts_a_mailbox_that_the_server_refused_as_a_bounce(smtp):
    customer = person()
    smtp.on_recipient = "550 5.1.1 No such user"
    planned([customer])
    outbox.send_due()
    event = DeliveryEvent.objects.get()
    assert (event.kind, event.source, event.diagnostic) == ("hard_bounce", "smtp", "550 5.1.1 No such user")


# --- The stop of everything ---------------------------------------------------------------------------------------------


def test_it_sends_nothing_after_a_restore_until_a_person_says_go_on(client, smtp):
    run = planned(people(4), CampaignFactory(quiet_from=0, quiet_until=0))
    first = limits.hold(reason="A backup was restored.")
    assert limits.hold(reason="Again.") == first
    assert outbox.send_due() == {}
    assert states(run) == {"queued": 4}
    client.force_login(UserFactory(role="viewer"))
    assert client.post(reverse("campaigns:lift")).status_code == 403
    for name in ("list", "outbox"):
        assert "A backup was restored." in client.get(reverse(f"campaigns:{name}")).content.decode()
    user = UserFactory(role="marketer")
    client.force_login(user)
    assert client.post(reverse("campaigns:lift")).status_code == 302
    assert Hold.objects.get().lifted_by == user
    assert client.post(reverse("campaigns:lift")).status_code == 409
    assert outbox.send_due() == {"sent": 4}


# --- A second person ----------------------------------------------------------------------------------------------------


def test_it_asks_a_second_person_above_a_size():
    SendingRules.objects.create(approve_above=3)
    author, other = UserFactory(role="marketer"), UserFactory(role="marketer")
    people(3)
    small = CampaignFactory(state="draft", created_by=author, quiet_from=0, quiet_until=0)
    assert audience.send(campaign=small).state == "sending"
    people(1)
    large = CampaignFactory(state="draft", created_by=author, quiet_from=0, quiet_until=0)
    run = audience.send(campaign=large)
    assert (run.state, run.guard) == ("needs_confirmation", {"people": 4, "limit": 3})
    assert outbox.send_due() == {"sent": 3}
    with pytest.raises(NotNow):
        runs.confirm(run=run, user=author)
    assert states(run) == {"queued": 4}
    runs.confirm(run=run, user=other)
    run.refresh_from_db()
    assert (run.state, run.confirmed_by) == ("sending", other)
    assert Campaign.objects.get(pk=large.pk).state == "active"


def test_it_says_how_many_are_out_when_a_run_is_paused_or_cancelled(client, smtp):
    run = planned(people(5), CampaignFactory(quiet_from=0, quiet_until=0))
    assert outbox.send_due(limit=2) == {"sent": 2}
    client.force_login(UserFactory(role="marketer"))
    answer = client.post(reverse("campaigns:run-act", args=[run.pk, "pause"]), follow=True)
    assert "2 messages are out already." in answer.content.decode()
    answer = client.post(reverse("campaigns:run-act", args=[run.pk, "cancel"]), follow=True)
    assert "3 messages were called off. 2 messages are out already." in answer.content.decode()

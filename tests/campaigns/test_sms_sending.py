"""SMS through the one outbox, over a provider that behaves and that does not."""

from __future__ import annotations

import json
import logging
from datetime import timedelta

import pytest

from campaigns import audit, carriers, outbox, runs
from campaigns.models import Message, Outage, Slot, Suppression
from campaigns.pace import Pace
from lifecycle_crm.lib import clock
from tests import servers
from tests.campaigns.factories import CampaignFactory, agree, people, planned, reachable, sms_campaign
from tests.sms_provider import PASSWORD, REFUSALS

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_pace(monkeypatch):
    for one in carriers.CARRIERS:
        monkeypatch.setattr(one, "pace", Pace())


def states(run):
    rows = Message.objects.filter(run=run).values_list("state", "reason").order_by("pk")
    return sorted((state, reason) for state, reason in rows)


@pytest.mark.parametrize("kind", ["46elks", "twilio"])
def test_it_sends_one_sms_each_over_one_connection(texts, settings, kind):
    texts.kind = kind
    settings.SMS = texts.options
    settings.SITE_URL = "https://crm.shop.example"
    run = planned(reachable(3), sms_campaign("Hi {{ customer.given_name }}: https://shop.example/sale."))
    assert outbox.send_due() == {"sent": 3}
    assert texts.connections == 1
    assert sorted(one.to for one in texts.messages) == ["+46700000000", "+46700000001", "+46700000002"]
    first = Message.objects.filter(run=run).order_by("pk").first()
    said = next(one for one in texts.messages if one.to == first.address)
    assert said.sender == "Shop"
    hello, link, stop = said.text.split("https://")
    assert hello == f"Hi {first.customer.given_name}: "
    assert link.startswith(f"crm.shop.example/p/s/{first.pk:x}-")
    assert link.endswith(".\nStop: ")
    assert stop.startswith(f"crm.shop.example/p/s/{first.pk:x}-0-")
    assert said.report.startswith(f"https://crm.shop.example/p/sms/{first.pk:x}~")
    assert (first.state, first.transport, first.parts, first.channel) == ("sent", "sms", 1, "sms")
    assert first.error == ("s1" if kind == "46elks" else "SM1")
    assert first.rendering.text.startswith(f"{hello}https://shop.example/sale.\nStop: ")
    assert (first.rendering.subject, first.rendering.html, first.rendering.links) == ("", "", 1)
    assert audit.problems() == []


def test_it_leaves_mail_to_itself_when_the_provider_is_away_and_the_reverse(texts, smtp, settings, noon):
    both = reachable(2)
    for one in both:
        agree(one)
    settings.SMS = {**texts.options, "port": servers.free_port()}
    by_sms = planned(both, sms_campaign(cap_per_day=2), key="test:1")
    by_mail = planned(both, CampaignFactory(cap_per_day=2, quiet_from=0, quiet_until=0), key="test:2")
    assert outbox.send_due() == {"sent": 2, "postponed": 2}
    assert states(by_mail) == [("sent", "")] * 2
    assert states(by_sms) == [("queued", "")] * 2
    assert len(smtp.messages) == 2
    assert Outage.objects.get().channel == "sms"
    # The reverse, a minute later.
    settings.SMS = texts.options
    settings.EMAIL = {**smtp.options, "port": servers.free_port()}
    noon.shift(timedelta(minutes=1))
    again = planned(both, CampaignFactory(cap_per_day=3, quiet_from=0, quiet_until=0), key="test:3")
    assert outbox.send_due() == {"sent": 2, "postponed": 2}
    assert states(by_sms) == [("sent", "")] * 2
    assert states(again) == [("queued", "")] * 2
    assert Outage.objects.get().channel == "email"


def test_it_counts_mail_and_sms_as_one_budget(texts, smtp, noon):
    [customer] = reachable(1)
    agree(customer)
    planned([customer], sms_campaign(), key="test:1")
    mail = planned([customer], CampaignFactory(quiet_from=0, quiet_until=0), key="test:2")
    outbox.send_due()
    assert len(texts.messages) == 1
    assert states(mail) == [("skipped", "capped")]
    assert Slot.objects.count() == 1


@pytest.mark.parametrize("where", ["request", "answer"])
def test_it_never_sends_again_what_was_asked_for_and_not_answered(texts, noon, where):
    """Whether the provider took it nobody knows; it looks the same from here."""
    texts.cut, texts.cut_times = where, 1
    run = planned(reachable(2), sms_campaign())
    assert outbox.send_due() == {"in_doubt": 1, "sent": 1}
    assert states(run) == [("in_doubt", "no_answer"), ("sent", "")]
    noon.shift(timedelta(days=2))
    assert outbox.send_due() == {}
    assert texts.requests == 2


def test_it_puts_in_doubt_what_an_answer_does_not_decide_and_does_not_burn_the_others(texts, noon):
    texts.on_message = 500
    run = planned(reachable(6), sms_campaign())
    assert outbox.send_due() == {"in_doubt": 3, "postponed": 3}
    assert texts.requests == 3
    assert "3 messages in a row" in Outage.objects.get().said
    texts.on_message = None
    noon.shift(timedelta(minutes=16))
    assert outbox.send_due() == {"sent": 3}
    assert not Outage.objects.exists()
    assert [state for state, _reason in states(run)].count("in_doubt") == 3


def test_it_follows_nothing(texts):
    texts.on_message = (302, "", {"Location": f"http://127.0.0.1:{texts.port}/elsewhere"})
    run = planned(reachable(1), sms_campaign())
    outbox.send_due()
    assert states(run) == [("in_doubt", "no_answer")]
    assert texts.requests == 1


@pytest.mark.parametrize("kind", ["46elks", "twilio"])
def test_it_stops_a_number_that_gets_no_sms_for_every_later_run(texts, settings, kind):
    texts.kind = kind
    settings.SMS = texts.options
    customers = reachable(2)
    texts.on_message = lambda asked: REFUSALS[kind]["bad number"] if asked.to.endswith("0") else None
    run = planned(customers, sms_campaign(cap_per_day=5))
    outbox.send_due()
    assert states(run) == [("failed", "refused"), ("sent", "")]
    failed = Message.objects.get(run=run, state="failed")
    assert failed.error.startswith("400 ")
    assert "nvalid" in failed.error
    stop = Suppression.objects.get()
    assert (stop.channel, stop.address_key, stop.reason) == ("sms", failed.address, "bounced")
    again = planned(customers, sms_campaign(cap_per_day=5), key="test:2")
    assert states(again) == [("queued", ""), ("skipped", "bounced")]


def test_it_does_not_blame_the_number_for_a_text_that_is_refused(texts):
    texts.on_message = (400, "Message is missing", {})
    run = planned(reachable(1), sms_campaign())
    outbox.send_due()
    assert states(run) == [("failed", "refused")]
    assert Message.objects.get().error == "400 Message is missing"
    assert not Suppression.objects.exists()


@pytest.mark.parametrize("kind", ["46elks", "twilio"])
@pytest.mark.parametrize("trouble", ["no money", "wrong password"])
def test_it_burns_nobody_when_the_account_may_not_send(texts, settings, noon, caplog, kind, trouble):
    texts.kind = kind
    settings.SMS = texts.options
    if trouble == "no money":
        texts.on_message = REFUSALS[kind]["no money"]
    else:
        settings.SMS = {**texts.options, "password": "another-secret"}
    run = planned(reachable(4), sms_campaign())
    with caplog.at_level(logging.INFO):
        assert outbox.send_due() == {"postponed": 3}
    assert texts.requests == 1
    assert states(run) == [("queued", "")] * 3 + [("retry", "later")]
    assert set(Message.objects.values_list("tries", flat=True)) == {0}
    assert Slot.objects.count() == 0
    assert Outage.objects.get().said.startswith("The provider lets us send nothing: 40")
    for secret in (PASSWORD, "another-secret"):
        assert secret not in caplog.text + Outage.objects.get().said
    texts.on_message, settings.SMS = None, texts.options
    noon.shift(timedelta(minutes=2))
    assert outbox.send_due() == {"sent": 4}
    assert not Outage.objects.exists()


def test_it_rests_for_as_long_as_the_provider_asks(texts, noon):
    texts.on_message = (429, "Too many requests", {"Retry-After": "120"})
    run = planned(reachable(3), sms_campaign())
    assert outbox.send_due() == {"retry": 1, "postponed": 2}
    assert texts.requests == 1
    assert set(Message.objects.filter(run=run).values_list("due_at", "tries")) == {
        (clock.now() + timedelta(seconds=120), 0)
    }
    noon.shift(timedelta(seconds=119))
    assert outbox.send_due() == {}


def test_it_waits_for_a_provider_that_is_slow(texts):
    texts.slow = 0.2
    run = planned(reachable(2), sms_campaign())
    assert outbox.send_due() == {"sent": 2}
    assert states(run) == [("sent", "")] * 2


def test_it_sends_nothing_and_says_why_without_a_provider(settings, noon):
    settings.SMS = {"kind": ""}
    run = planned(reachable(1), sms_campaign())
    outbox.send_due()
    assert states(run) == [("queued", "")]
    assert Outage.objects.get().said == "No SMS provider is set up. Set SMS_URL."
    runs.cancel(run=run)
    outbox.send_due()
    assert not Outage.objects.exists()


def test_it_opens_a_connection_that_fell_asleep_anew(texts):
    session = carriers.CARRIERS[0].open_session()
    texts.on_message = (200, json.dumps({"id": "s"}), {"Connection": "close"})
    for _ in range(2):
        session.address("Shop", "+46700000000")
        assert session.deliver({"to": "+46700000000", "from": "Shop", "message": "Hi"}) == "s"
    session.close()
    assert texts.connections == 2


def test_it_asks_once_more_in_the_very_write_that_lets_a_message_leave(texts, monkeypatch):
    """Somebody answers STOP between the verdict and the write."""
    run = planned(reachable(1), sms_campaign())
    [message] = Message.objects.filter(run=run)
    address = carriers.sms.SmsSession.address

    def stops(session, sender, to):
        Suppression.add(channel="sms", address_key=to, reason="unsubscribed")
        address(session, sender, to)

    monkeypatch.setattr(carriers.sms.SmsSession, "address", stops)
    assert outbox.send_due() == {"skipped": 1}
    message.refresh_from_db()
    assert (message.state, message.reason) == ("skipped", "unsubscribed")
    assert texts.requests == 0


def test_a_stop_by_mail_stops_no_sms(texts):
    [customer] = reachable(1)
    Suppression.add(channel="email", address_key=customer.email_key, reason="unsubscribed")
    planned([customer], sms_campaign())
    assert outbox.send_due() == {"sent": 1}


def test_it_counts_the_parts_that_are_paid(texts):
    run = planned(reachable(2), sms_campaign("x" * 200))
    planned(people(1), CampaignFactory(quiet_from=0, quiet_until=0), key="mail")
    outbox.send_due()
    assert set(Message.objects.filter(run=run).values_list("parts", flat=True)) == {2}
    assert set(Message.objects.exclude(run=run).values_list("parts", flat=True)) == {0}

"""What comes back after an SMS: who presses its links, who answers STOP, and what the provider says became of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse

from campaigns import links, outbox, replies, tracking
from campaigns.models import DeliveryEvent, Message, Reply, Suppression, Visit
from customers.models import Consent
from lifecycle_crm.lib import clock, smsurl
from tests.campaigns.factories import agree, person, planned, reachable, sms_campaign

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]
SECRET = "a-secret-of-twenty-letters"
KINDS = ("46elks", "twilio")
FIREFOX = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "accept-language": "sv",
}


@pytest.fixture
def shop(settings, texts):
    """A shop that writes from a number, and hears answers."""
    settings.SITE_URL = "https://crm.shop.example"
    settings.SMS_WEBHOOK_SECRET = SECRET
    texts_of = {**texts.options, "sender": "+46701112233"}
    settings.SMS = texts_of
    return texts


def answers(client, text, phone="+46700000000", number="in1", kind="46elks", secret=SECRET, **more):
    body = {"id": number, "from": phone, "message": text, "direction": "incoming"}
    if kind == "twilio":
        body = {"MessageSid": number, "From": phone, "Body": text}
    return client.post(reverse("campaigns:sms-reply", args=[secret]), {**body, **more})


# --- Short links ----------------------------------------------------------------------------------------------------------


def sent(text="Look: https://shop.example/sale"):
    run = planned(reachable(1), sms_campaign(text))
    outbox.send_due()
    return Message.objects.get(run=run)


def test_a_short_link_leads_on_and_is_counted_as_a_person_when_it_is_one(texts, client, noon):
    message = sent()
    [one] = texts.messages
    short, out = (piece for piece in one.text.split() if piece.startswith("http"))
    assert len(short) < len("http://127.0.0.1:8000") + 30
    noon.shift(timedelta(minutes=5))
    home = "http://127.0.0.1:8000"
    found = client.get(short.removeprefix(home), headers=FIREFOX)
    assert found.status_code == 302
    assert found["Location"].startswith("https://shop.example/sale?utm_source=test-shop&utm_medium=sms&utm_campaign=")
    noon.shift(timedelta(minutes=30))
    tracking.judge()
    assert list(Visit.objects.values_list("message", "kind", "link__url")) == [(message.pk, "human", found["Location"])]
    # The way out shows its button first, and the button stops SMS alone.
    agree(message.customer)
    page = client.get(out.removeprefix("http://127.0.0.1:8000"), follow=True)
    assert page.status_code == 200
    assert not Suppression.objects.exists()
    client.post(page.redirect_chain[-1][0])
    stop = Suppression.objects.get()
    assert (stop.channel, stop.address_key, stop.reason) == ("sms", message.address, "unsubscribed")
    said = Consent.objects.order_by("-pk").first()
    assert (said.channel, said.is_granted, said.source) == ("sms", False, "unsubscribe")
    assert Visit.objects.count() == 1


def test_a_short_link_that_we_did_not_write_leads_nowhere(texts, client):
    message = sent()
    known = links.short_url(message_id=message.pk, link_id=0).rpartition("/")[2]
    for token in (
        f"{known}x",
        known[:-1],
        known.replace("-0-", "-1-"),
        "nonsense",
        "--",
        "a-b-c",
        links.short_example()[-25:],
    ):
        assert client.get(reverse("campaigns:short", args=[token.replace("/", "") or "x"])).status_code == 404
    assert links.unsign_short(known) == (message.pk, 0)


# --- STOP -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ("STOP", True), ("stopp", True), ("Stopp!", True), (" Avsluta ", True), ("SLUTA tack", True), ("Stans", True),
        ("Slutt", True), ("Avanmäl", True), ("Rezygnuję", True), ("odhlásit", True), ("Zrušit prosím", True),
        ("KONIEC", True), ("unsubscribe me please", True), ("\nStop.", True), ("s t o p", False), ("", False), ("👍", False),
        ("Thanks", False), ("Please do not stop", False), ("Stop by the shop at five today?", False),
        ("Nonstop", False), ("12", False),
    ],
)  # fmt: skip
def test_it_knows_a_stop_when_it_reads_one(text, stops):
    assert replies.says_stop(text) is stops


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_takes_the_consent_back_once_however_often_it_is_told(shop, settings, client, kind):
    settings.SMS = {**settings.SMS, "kind": kind}
    shop.kind = kind
    [customer] = reachable(1)
    agree(customer)
    agree(customer, purpose="survey", channel="sms")
    for _ in range(3):
        answer = answers(client, "Stopp", phone=customer.phone, kind=kind)
        assert (answer.status_code, answer.content) == (204, b"")
    reply = Reply.objects.get()
    assert (reply.source, reply.source_id, reply.phone, reply.text, reply.is_stop) == (
        kind, "in1", customer.phone, "Stopp", True
    )  # fmt: skip
    stop = Suppression.objects.get()
    assert (stop.channel, stop.address_key, stop.reason, stop.diagnostic) == (
        "sms", customer.phone, "unsubscribed", "reply: Stopp"
    )  # fmt: skip
    said = Consent.objects.filter(customer=customer, is_granted=False).order_by("purpose")
    assert [(one.purpose, one.channel, one.source) for one in said] == [
        ("marketing", "sms", "sms_reply"), ("survey", "sms", "sms_reply")
    ]  # fmt: skip
    run = planned([customer], sms_campaign())
    assert list(Message.objects.filter(run=run).values_list("state", "reason")) == [("skipped", "unsubscribed")]


def test_a_stop_reaches_a_message_that_waits_and_everybody_with_the_number(shop, client):
    two = [person(agrees=None, phone="+46700000000") for _ in range(2)]
    for one in two:
        agree(one, channel="sms")
    run = planned(two, sms_campaign())
    assert answers(client, "STOP").status_code == 204
    assert outbox.send_due() == {"skipped": 2}
    assert shop.requests == 0
    assert set(Message.objects.filter(run=run).values_list("reason", flat=True)) == {"unsubscribed"}
    assert Consent.objects.filter(is_granted=False).count() == 2


def test_who_agrees_again_after_a_stop_is_written_to_and_can_stop_us_again(shop, client, noon):
    [customer] = reachable(1)
    answers(client, "STOP", phone=customer.phone)
    noon.shift(timedelta(hours=1))
    agree(customer, channel="sms", at=clock.now())
    noon.shift(timedelta(hours=1))
    planned([customer], sms_campaign(), key="a")
    assert outbox.send_due() == {"sent": 1}
    noon.shift(timedelta(days=1))
    answers(client, "STOP", phone=customer.phone, number="in2")
    planned([customer], sms_campaign(), key="b")
    assert outbox.send_due() == {}
    assert Suppression.objects.get().created_at == clock.now()
    assert Consent.objects.filter(customer=customer, channel="sms").count() == 4


def test_what_is_no_stop_is_kept_and_changes_nothing(shop, client):
    [customer] = reachable(1)
    assert answers(client, "Thank you!", phone=customer.phone).status_code == 204
    assert not Reply.objects.get().is_stop
    assert not Suppression.objects.exists()
    assert Consent.objects.count() == 1


def test_it_hears_a_number_of_nobody_and_takes_the_providers_word(shop, settings, client):
    settings.SMS = {**settings.SMS, "kind": "twilio"}
    assert answers(client, "stoppen bitte", phone="+4915100000000", kind="twilio", OptOutType="STOP").status_code == 204
    assert Suppression.objects.get().address_key == "+4915100000000"


def test_nobody_without_the_secret_stops_our_customers(shop, settings, client):
    [customer] = reachable(1)
    assert answers(client, "STOP", secret="another-secret-of-letters").status_code == 404
    for body in (
        {},
        {"id": "1"},
        {"id": "1", "from": "Shop"},
        {"id": "1", "from": "+" + "1" * 40},
        {"from": customer.phone},
    ):
        assert client.post(reverse("campaigns:sms-reply", args=[SECRET]), body).status_code == 400
    assert client.get(reverse("campaigns:sms-reply", args=[SECRET])).status_code == 405
    settings.SMS_WEBHOOK_SECRET = ""
    assert answers(client, "STOP").status_code == 404
    settings.SMS_WEBHOOK_SECRET, settings.SMS = SECRET, {"kind": ""}
    assert answers(client, "STOP").status_code == 404
    assert not Reply.objects.exists()
    assert not Suppression.objects.exists()


# --- Reports --------------------------------------------------------------------------------------------------------------


def report(client, message, status, kind="46elks", **more):
    address = links.report_url(message_id=message.pk).removeprefix("https://crm.shop.example")
    return client.post(address, {"status" if kind == "46elks" else "MessageStatus": status, **more})


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_counts_once_however_often_it_is_told(shop, settings, client, kind):
    shop.kind = kind
    settings.SMS = {**settings.SMS, "kind": kind}
    message = sent("Hi")
    assert shop.messages[0].report == links.report_url(message_id=message.pk)
    assert shop.messages[0].text == "Hi\nStop? Reply STOP"
    for _ in range(2):
        assert report(client, message, "delivered", kind).status_code == 204
    assert report(client, message, "sent", kind).status_code == 204
    [event] = DeliveryEvent.objects.all()
    assert (event.message_id, event.kind, event.source) == (message.pk, "delivered", kind)


def test_a_report_ends_a_doubt_and_a_failure_stops_only_a_number_that_is_gone(shop, settings, client):
    settings.SMS = {**settings.SMS, "kind": "twilio"}
    shop.kind, shop.cut = "twilio", "answer"
    message = sent("Hi")
    assert message.state == "in_doubt"
    report(client, message, "undelivered", "twilio", ErrorCode="30003")
    message.refresh_from_db()
    assert (message.state, message.reason) == ("sent", "")
    assert not Suppression.objects.exists()
    report(client, message, "failed", "twilio", ErrorCode="30005")
    assert Suppression.objects.get().reason == "bounced"
    assert sorted(DeliveryEvent.objects.values_list("kind", "diagnostic")) == [
        ("hard_bounce", "failed 30005"), ("soft_bounce", "undelivered 30003")
    ]  # fmt: skip


def test_a_report_that_nobody_signed_changes_nothing(shop, client):
    message = sent("Hi")
    address = links.report_url(message_id=message.pk).removeprefix("https://crm.shop.example")
    for token in (f"{message.pk:x}~AAAA", "nonsense", f"{message.pk + 1:x}~{address.rpartition('~')[2].rstrip('/')}"):
        assert client.post(reverse("campaigns:sms-report", args=[token]), {"status": "failed"}).status_code == 404
    assert client.post(address, {}).status_code == 400
    assert not DeliveryEvent.objects.exists()


# --- Settings -------------------------------------------------------------------------------------------------------------


def test_it_reads_an_address_of_a_provider():
    read = smsurl.read("46elks://user:p%3Aw%2Fd@api.46elks.com?from=Shop")
    assert read == {
        "kind": "46elks", "host": "api.46elks.com", "port": 443, "tls": True, "user": "user", "password": "p:w/d",
        "sender": "Shop",
    }  # fmt: skip
    assert smsurl.read("twilio://AC1:token@?from=+46701234567")["sender"] == "+46701234567"
    assert smsurl.read("twilio://AC1:token@?from=%2B46701234567")["host"] == "api.twilio.com"
    assert smsurl.read("") == {"kind": ""}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("pigeon://user:hidden@coop?from=Shop", "names no provider we know"),
        ("46elks://user@api.46elks.com?from=Shop", "names no user and password"),
        ("46elks://:hidden@api.46elks.com?from=Shop", "names no user and password"),
        ("46elks://user:hidden@api.46elks.com", "does not say from whom"),
        ("46elks://user:hidden@api.46elks.com?from=TwelveLetter", "a name of at most 11 letters"),
        ("46elks://user:hidden@api.46elks.com?from=My%20Shop", "a name of at most 11 letters"),
        ("46elks://user:hidden@api.46elks.com?from=B%C3%A5t", "a name of at most 11 letters"),
        ("46elks://user:hidden@api.46elks.com?from=12345", "a name of at most 11 letters"),
        ("46elks://user:hidden@api.46elks.com?from=Shop&tls=0", "would send the password unencrypted"),
        ("46elks://user:hidden@api.46elks.com:x?from=Shop", "is no address"),
    ],
)
def test_half_an_address_gets_one_sentence_without_its_password(url, said):
    with pytest.raises(smsurl.ImproperlyConfigured) as refused:
        smsurl.read(url)
    assert said in str(refused.value)
    assert "hidden" not in str(refused.value)
    with pytest.raises(smsurl.ImproperlyConfigured, match="20 to 100 letters"):
        smsurl.secret("short")

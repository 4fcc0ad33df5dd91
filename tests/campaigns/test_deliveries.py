"""What comes back: bounces and complaints, by webhook and by mail."""

from __future__ import annotations

import base64
import json
import mailbox
from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from django.core.management import CommandError, call_command

from campaigns import audit, deliveries, dsn, outbox
from campaigns.models import DeliveryEvent, Message, Suppression
from customers import consent
from tests.campaigns.factories import NOON, CampaignFactory, people, person, planned

pytestmark = pytest.mark.django_db

SECRET = "shop:long-password"
HEADERS = {"HTTP_AUTHORIZATION": f"Basic {base64.b64encode(SECRET.encode()).decode()}"}


@pytest.fixture(autouse=True)
def noon(settings):
    settings.ANYMAIL = {"WEBHOOK_SECRET": SECRET}
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def sent_message(**fields) -> Message:
    run = planned([person(**fields)], CampaignFactory(quiet_from=0, quiet_until=0))
    outbox.send_due()
    return Message.objects.select_related("customer").get(run=run)


def postmark(client, body: dict, **headers):
    return client.post(
        "/p/webhooks/postmark/", json.dumps(body), content_type="application/json", **{**HEADERS, **headers}
    )


def bounce(message: Message, **more) -> dict:
    return {
        "RecordType": "Bounce", "Type": "HardBounce", "ID": 4323372036854775807, "MessageID": message.message_id,
        "Email": message.address, "BouncedAt": "2026-11-20T10:59:00Z", "Description": "The server was unable to deliver",
        "Details": "550 5.1.1 No such user", **more,
    }  # fmt: skip


def test_it_stops_an_address_that_a_provider_reports_dead(client):
    message = sent_message()
    assert postmark(client, bounce(message)).status_code == 200
    event = DeliveryEvent.objects.get()
    assert (event.message_id, event.kind, event.source) == (message.pk, "hard_bounce", "postmark")
    assert event.occurred_at == NOON - timedelta(minutes=1)
    assert Suppression.objects.get().reason == "bounced"
    assert Message.objects.get(run=planned([message.customer], key="again")).reason == "bounced"


def test_it_counts_a_notice_once_however_often_it_is_told(client):
    message = sent_message()
    for _ in range(3):
        assert postmark(client, bounce(message)).status_code == 200
    assert DeliveryEvent.objects.count() == 1


def test_it_takes_a_complaint_for_a_no(client):
    message = sent_message()
    postmark(client, bounce(message, RecordType="SpamComplaint", Type="SpamComplaint"))
    assert DeliveryEvent.objects.get().kind == "complaint"
    assert Suppression.objects.get().reason == "complained"
    said = consent.current([message.customer_id], purpose="marketing", channel="email")[message.customer_id]
    assert (said.is_granted, said.source) == (False, "complaint")


def test_it_does_not_bury_a_full_mailbox(client):
    message = sent_message()
    postmark(client, bounce(message, Type="SoftBounce"))
    assert DeliveryEvent.objects.get().kind == "soft_bounce"
    assert Suppression.objects.count() == 0


def test_it_knows_a_message_by_its_address_when_the_provider_names_it_otherwise(client):
    message = sent_message()
    postmark(client, bounce(message, MessageID="883953f4-6105-42a2-a16a-77a8eac79483"))
    assert DeliveryEvent.objects.get().message == message


def test_it_resolves_a_doubt_when_the_message_turns_up(client):
    messages = []
    for one in people(10):
        run = planned([one], CampaignFactory(quiet_from=0, quiet_until=0))
        outbox.send_due()
        messages.append(Message.objects.get(run=run))
    Message.objects.update(state="in_doubt", reason="no_answer", sent_at=None)
    for message in messages:
        body = {
            "RecordType": "Delivery", "MessageID": message.message_id, "Recipient": message.address,
            "DeliveredAt": "2026-11-20T10:58:00Z",
        }  # fmt: skip
        assert postmark(client, body).status_code == 200
    assert set(Message.objects.values_list("state", "reason")) == {("sent", "")}
    assert audit.problems() == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"HTTP_AUTHORIZATION": ""}, 401),
        ({"HTTP_AUTHORIZATION": "Basic c2hvcDp3cm9uZw=="}, 401),
        ({"HTTP_AUTHORIZATION": "Bearer x"}, 401),
    ],
)
def test_it_believes_nobody_without_the_secret(client, headers, status):
    message = sent_message()
    assert postmark(client, bounce(message), **headers).status_code == status
    assert DeliveryEvent.objects.count() == 0
    assert Suppression.objects.count() == 0


def test_it_has_no_such_address_without_a_secret_or_for_a_stranger(client, settings):
    message = sent_message()
    assert client.post("/p/webhooks/nobody/", "{}", content_type="application/json", **HEADERS).status_code == 404
    assert client.post("/p/webhooks/mailgun/", "{}", content_type="application/json", **HEADERS).status_code == 404
    settings.ANYMAIL = {"WEBHOOK_SECRET": ""}
    assert postmark(client, bounce(message)).status_code == 404
    assert DeliveryEvent.objects.count() == 0


@pytest.mark.parametrize("body", ["", "{", "[]", '"x"', "null", "\x00"])
def test_it_says_that_it_cannot_read_nonsense(client, body):
    answer = client.post("/p/webhooks/postmark/", body, content_type="application/json", **HEADERS)
    assert answer.status_code == 400
    assert DeliveryEvent.objects.count() == 0


def test_it_reads_a_list_of_sendgrid(client):
    one, two = sent_message(), sent_message()
    body = [
        {"event": "bounce", "type": "bounce", "email": one.address, "timestamp": 1795258740, "smtp-id": one.message_id,
         "sg_event_id": "a", "reason": "550 5.1.1 unknown"},
        {"event": "delivered", "email": two.address, "timestamp": 1795258740, "smtp-id": two.message_id,
         "sg_event_id": "b", "response": "250 OK"},
        {"event": "group_resubscribe", "email": two.address, "timestamp": 1795258740, "sg_event_id": "c"},
    ]  # fmt: skip
    answer = client.post("/p/webhooks/sendgrid/", json.dumps(body), content_type="application/json", **HEADERS)
    assert answer.status_code == 200
    assert dict(DeliveryEvent.objects.values_list("message_id", "kind")) == {one.pk: "hard_bounce", two.pk: "delivered"}


# --- By mail ------------------------------------------------------------------------------------------------------------


def report(
    message_id: str, *, action: str = "failed", status: str = "5.1.1", said: str = "550 5.1.1 No such user"
) -> bytes:
    return f"""From: MAILER-DAEMON@mx.example
To: hello@shop.example
Date: Fri, 20 Nov 2026 11:00:00 +0100
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="B"

--B
Content-Type: text/plain

I am sorry to have to inform you.

--B
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example
Arrival-Date: Fri, 20 Nov 2026 10:59:00 +0100

Final-Recipient: rfc822; anna@example.com
Action: {action}
Status: {status}
Diagnostic-Code: smtp; {said}

--B
Content-Type: message/rfc822

From: Test shop <hello@shop.example>
Message-ID: {message_id}
Subject: Hello

Text
--B--
""".encode()


def complaint(message_id: str, kind: str = "abuse") -> bytes:
    return f"""From: fbl@mx.example
Date: Fri, 20 Nov 2026 11:00:00 +0100
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="B"

--B
Content-Type: text/plain

A complaint.

--B
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: SomeGenerator/1.0
Version: 1

--B
Content-Type: text/rfc822-headers

From: Test shop <hello@shop.example>
Message-ID: {message_id}
Subject: Hello

--B--
""".encode()


@pytest.mark.parametrize(
    ("action", "status", "kind", "is_stopped"),
    [
        ("failed", "5.1.1", "hard_bounce", True),
        ("failed", "5.0.0", "hard_bounce", True),
        ("failed", "5.2.2", "soft_bounce", False),
        ("failed", "5.7.1", "soft_bounce", False),
        ("delayed", "4.4.7", "soft_bounce", False),
        ("delivered", "2.0.0", "delivered", False),
    ],
)
def test_it_reads_a_delivery_report(action, status, kind, is_stopped):
    message = sent_message()
    assert dsn.take_in([report(message.message_id, action=action, status=status)]) == {kind: 1}
    event = DeliveryEvent.objects.get()
    assert (event.message, event.kind, event.diagnostic) == (message, kind, "smtp; 550 5.1.1 No such user")
    assert Suppression.objects.exists() is is_stopped


def test_it_reads_a_complaint():
    message = sent_message()
    assert dsn.take_in([complaint(message.message_id), complaint(message.message_id, "not-spam")]) == {
        "complaint": 1, "other": 1,
    }  # fmt: skip
    assert Suppression.objects.get().reason == "complained"


def test_it_believes_no_report_that_guesses():
    message = sent_message()
    guessed = [
        f"<message-{message.pk}@shop.example>",
        f"<message-{message.pk}-000000000000@shop.example>",
        "<x@y>",
        "<>",
    ]
    assert dsn.take_in([report(one) for one in guessed]) == {"unknown": 3, "other": 1}
    plain = b"From: a@example.com\nSubject: Re: Hello\n\nThank you.\n"
    assert dsn.take_in([plain, b"", b"\xff\xfe", report("")]) == {"other": 4}
    assert DeliveryEvent.objects.count() == 0
    assert deliveries.find(message.message_id.strip("<>")) == message


def test_it_reads_a_mailbox_and_the_same_mailbox_again(tmp_path):
    one, two = sent_message(), sent_message()
    box = mailbox.Maildir(tmp_path / "box")
    for raw in (report(one.message_id), complaint(two.message_id), b"Subject: hi\n\nhi\n"):
        box.add(raw)
    said = StringIO()
    call_command("bounces", str(tmp_path / "box"), stdout=said)
    call_command("bounces", str(tmp_path / "box"), stdout=said)
    assert said.getvalue() == "Bounces: complaint 1, hard_bounce 1, other 1.\nBounces: again 2, other 1.\n"
    single = tmp_path / "one.eml"
    single.write_bytes(report(two.message_id))
    call_command("bounces", str(single), stdout=said)
    assert DeliveryEvent.objects.count() == 3
    with pytest.raises(CommandError, match="does not exist"):
        call_command("bounces", str(tmp_path / "nowhere"))

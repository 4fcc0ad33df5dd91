"""One row per recipient, sent once, accounted for at every moment."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timedelta

import pytest
from django.db import connection

from campaigns import audit, claims, outbox, planning, runs
from campaigns.channels import email
from campaigns.errors import NotNow
from campaigns.models import Message, Run, Slot, Suppression
from customers import consent
from lifecycle_crm.lib import clock
from tests.campaigns.factories import NOON, CampaignFactory, VariantFactory, agree, people, person, planned

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


def states(run: Run) -> dict[str, int]:
    return dict(Counter(Message.objects.filter(run=run).values_list("state", flat=True)))


def test_it_freezes_an_audience_into_one_row_each_with_a_reason_for_who_cannot_be_written_to():
    fine = person()
    nobody = person(email="")
    silent = person(agrees=None)
    refused = person(agrees=False)
    bounced = person()
    Suppression.add(channel="email", address_key=bounced.email_key, reason="bounced")
    run = planned([fine, nobody, silent, refused, bounced])

    assert run.audience == 5
    assert run.state == "sending"
    assert dict(Message.objects.filter(run=run).values_list("customer_id", "state")) == {
        fine.pk: "queued", nobody.pk: "skipped", silent.pk: "skipped", refused.pk: "skipped", bounced.pk: "skipped",
    }  # fmt: skip
    assert dict(Message.objects.filter(run=run).values_list("customer_id", "reason")) == {
        fine.pk: "", nobody.pk: "no_address", silent.pk: "no_consent", refused.pk: "no_consent", bounced.pk: "bounced",
    }  # fmt: skip
    cited = Message.objects.get(run=run, customer=fine).consent
    assert cited is not None
    assert cited.is_granted


def test_it_plans_the_same_key_again_without_a_second_row():
    campaign = CampaignFactory()
    first, second = person(), person()
    planned([first], campaign)
    run = planned([first, second], campaign)
    assert run.audience == 2
    assert Message.objects.count() == 2
    assert audit.problems() == []


def test_it_holds_out_the_same_share_and_the_same_people_every_time():
    campaign = CampaignFactory(holdout_percent=10)
    everybody = people(1000)
    run = planned(everybody, campaign)
    out = set(Message.objects.filter(run=run, state="held_out").values_list("customer_id", flat=True))
    assert out == {one.pk for one in everybody if planning.holdout_bucket(campaign, one.pk) < 1000}
    assert 60 < len(out) < 140
    again = planned(everybody, campaign, key="test:2")
    assert set(Message.objects.filter(run=again, state="held_out").values_list("customer_id", flat=True)) == out


def test_it_draws_another_holdout_for_another_campaign():
    one, two = CampaignFactory(), CampaignFactory()
    both = sum(
        planning.holdout_bucket(one, pk) < 1000 and planning.holdout_bucket(two, pk) < 1000 for pk in range(1, 20_001)
    )
    assert 140 < both < 260  # one in a hundred, as for draws that know nothing of each other


def test_it_sends_over_smtp_with_the_headers_a_mailbox_provider_asks_for(smtp):
    customer = person(name="Åsa Öberg", given_name="Åsa")
    run = planned([customer])
    assert outbox.send_due() == {"sent": 1}

    message = Message.objects.get(run=run)
    assert (message.state, message.reason, message.transport, message.sent_at) == ("sent", "", "smtp", NOON)
    assert message.address == customer.email
    assert message.verdict["consent"] == message.consent_id
    [received] = smtp.messages
    mail = received.message
    assert received.recipients == [customer.email]
    assert mail["Subject"] == "Hello Åsa"
    assert mail["To"] == f"Åsa Öberg <{customer.email}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail["List-Unsubscribe"].startswith("<http://127.0.0.1:8000/p/u/")
    assert mail["Message-ID"] == message.message_id == email.message_id(message.pk)
    assert mail["Message-ID"].startswith(f"<message-{message.pk}-")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "marketing.shop.example" in mail["List-Id"]
    assert mail["Feedback-ID"].startswith(f"{run.pk}:marketing:")
    text = mail.get_body(("plain",)).get_content()
    page = mail.get_body(("html",)).get_content()
    assert "You have 0 points." in text
    assert "Unsubscribe: http://127.0.0.1:8000/p/u/" in text
    assert '<html lang="en">' in page
    # But for the picture that tells openings, it is what we kept.
    assert re.sub(r"<img [^>]*>", "", page).splitlines() == message.rendering.html.splitlines()
    run.refresh_from_db()
    assert run.state == "finished"
    assert audit.problems() == []


def test_it_keeps_messages_here_when_no_mail_server_is_named():
    run = planned([person()])
    assert outbox.send_due() == {"sent": 1}
    assert Message.objects.get(run=run).transport == "local"
    assert "points" in Message.objects.get(run=run).rendering.text


def test_it_tries_again_when_the_connection_breaks_before_the_message_is_complete(smtp, noon):
    smtp.on_recipient = "421 4.3.2 Closing"
    run = planned([person()])
    assert outbox.send_due() == {"retry": 1}
    message = Message.objects.get(run=run)
    assert (message.state, message.reason, message.tries) == ("retry", "later", 1)
    assert message.due_at == NOON + timedelta(minutes=1)
    assert Slot.objects.count() == 0
    smtp.on_recipient = None
    assert outbox.send_due() == {}
    noon.move_to(NOON + timedelta(minutes=1))
    assert outbox.send_due() == {"sent": 1}
    assert len(smtp.messages) == 1


def test_it_puts_in_doubt_what_was_handed_over_without_an_answer_and_never_sends_it_again(smtp, noon):
    smtp.drop, smtp.drop_times = "after_dot", 1
    first, second = person(), person()
    run = planned([first, second])
    assert outbox.send_due() == {"in_doubt": 1, "sent": 1}
    assert len(smtp.messages) == 2
    doubtful = Message.objects.get(run=run, state="in_doubt")
    assert doubtful.reason == "no_answer"
    run.refresh_from_db()
    assert run.state == "finished"
    noon.move_to(NOON + timedelta(days=2))
    assert outbox.send_due() == {}
    assert len(smtp.messages) == 2


def test_it_backs_off_from_a_server_that_asks_for_later_and_then_delivers(smtp, noon):
    smtp.on_recipient = "451 4.3.2 Please come back later"
    run = planned([person()])
    at = NOON
    for minutes in (1, 5, 15, 60):
        assert outbox.send_due() == {"retry": 1}
        at += timedelta(minutes=minutes)
        assert Message.objects.get(run=run).due_at == at
        noon.move_to(at)
    smtp.on_recipient = None
    assert outbox.send_due() == {"sent": 1}
    assert len(smtp.messages) == 1


def test_it_gives_up_after_the_last_try_and_says_so(smtp, noon):
    smtp.on_recipient = "451 4.3.0 Later"
    campaign = CampaignFactory(quiet_from=0, quiet_until=0)
    run = planned([person()], campaign)
    for _ in range(6):
        noon.move_to(clock.now() + timedelta(minutes=240))
        outbox.send_due()
    message = Message.objects.get(run=run)
    assert (message.state, message.reason, message.tries) == ("failed", "gave_up", 5)
    assert "451 4.3.0 Later" in message.error


def test_it_stops_an_address_that_does_not_exist_for_every_later_run(smtp):
    customer = person()
    smtp.on_recipient = "550 5.1.1 No such user"
    run = planned([customer])
    assert outbox.send_due() == {"failed": 1}
    message = Message.objects.get(run=run)
    assert (message.state, message.reason, message.error) == ("failed", "refused", "550 5.1.1 No such user")
    stop = Suppression.objects.get()
    assert (stop.address_key, stop.reason, stop.diagnostic) == (customer.email_key, "bounced", "550 5.1.1 No such user")
    assert states(planned([customer], key="test:2")) == {"skipped": 1}


def test_it_does_not_blame_the_address_for_a_message_refused_as_spam(smtp):
    smtp.on_data = "554 5.7.1 Looks like spam"
    run = planned([person()])
    assert outbox.send_due() == {"failed": 1}
    assert Message.objects.get(run=run).reason == "refused"
    assert Suppression.objects.count() == 0


def test_it_loses_nothing_when_the_mail_server_is_away(settings, noon):
    settings.EMAIL = {
        "kind": "smtp",
        "host": "127.0.0.1",
        "port": 1,
        "user": "",
        "password": "",
        "ssl": False,
        "tls": False,
    }
    run = planned(people(3))
    assert outbox.send_due() == {"postponed": 3}
    assert states(run) == {"queued": 3}
    settings.EMAIL = {"kind": "local"}
    assert outbox.send_due() == {}
    noon.move_to(NOON + timedelta(minutes=1))
    assert outbox.send_due() == {"sent": 3}


def test_it_fails_one_broken_message_and_sends_the_others():
    template = VariantFactory(blocks=[{"type": "text", "text": "{{ 10 | divided_by: customer.orders }}"}]).template
    fine = person(facts={"orders": 2})
    broken = person(facts={"orders": 0})
    run = planned([fine, broken], CampaignFactory(template=template))
    assert outbox.send_due() == {"failed": 1, "sent": 1}
    message = Message.objects.get(run=run, customer=broken)
    assert (message.state, message.reason) == ("failed", "render")
    assert "divi" in message.error


def test_it_does_not_send_to_who_unsubscribed_while_queued(smtp):
    stays, leaves = person(), person()
    run = planned([stays, leaves])
    consent.record(customer=leaves, purpose="marketing", channel="email", is_granted=False, source="test")
    assert outbox.send_due() == {"sent": 1, "skipped": 1}
    assert Message.objects.get(run=run, customer=leaves).reason == "no_consent"
    assert [one.recipients for one in smtp.messages] == [[stays.email]]


@pytest.mark.django_db(transaction=True)
def test_it_asks_once_more_in_the_very_write_that_lets_a_message_leave(smtp):
    """The statement arrives after the gate's verdict, while the envelope is being opened."""
    customer = person()
    run = planned([customer])

    def leave(_address: str) -> None:
        consent.record(customer=customer, purpose="marketing", channel="email", is_granted=False, source="test")
        connection.close()

    smtp.on_recipient = leave
    assert outbox.send_due() == {"skipped": 1}
    assert Message.objects.get(run=run).reason == "no_consent"
    assert smtp.messages == []
    assert Slot.objects.count() == 0


def test_it_holds_a_message_through_the_night_and_sends_it_in_the_morning(noon):
    noon.move_to(datetime.fromisoformat("2026-11-20T22:30:00+01:00"))
    run = planned([person()])
    assert outbox.send_due() == {"held": 1}
    message = Message.objects.get(run=run)
    assert (message.state, message.reason) == ("queued", "quiet_hours")
    assert message.due_at == datetime.fromisoformat("2026-11-21T08:00:00+01:00")
    noon.move_to(message.due_at)
    assert outbox.send_due() == {"sent": 1}
    assert Message.objects.get(run=run).reason == ""


def test_it_pauses_resumes_and_cancels_without_losing_anybody():
    run = planned(people(5))
    runs.pause(run=run)
    assert outbox.send_due() == {}
    runs.resume(run=run)
    assert outbox.send_due(limit=2) == {"sent": 2}
    assert runs.cancel(run=run) == 3
    assert states(run) == {"sent": 2, "cancelled": 3}
    assert outbox.send_due() == {}
    with pytest.raises(NotNow):
        runs.resume(run=run)
    assert states(run) == {"sent": 2, "cancelled": 3}
    assert audit.problems() == []


def test_it_gives_back_what_a_dead_sender_claimed_and_doubts_what_was_on_its_way(noon):
    run = planned(people(3))
    ids = claims.claim_due(limit=2, owner="dead")
    assert len(ids) == 2
    Message.objects.filter(pk=ids[0]).update(state="sending")
    noon.move_to(NOON + timedelta(minutes=6))
    assert outbox.send_due() == {"in_doubt": 1, "requeued": 1, "sent": 2}
    assert states(run) == {"in_doubt": 1, "sent": 2}
    assert Message.objects.get(pk=ids[0]).reason == "sender_died"


def test_it_fences_a_zombie_out(noon):
    run = planned([person()])
    [pk] = claims.claim_due(limit=1, owner="zombie")
    [work] = outbox.load([pk], "zombie", clock.now())
    noon.move_to(NOON + timedelta(minutes=6))
    claims.sweep()
    assert claims.claim_due(limit=1, owner="other") == [pk]
    assert claims.settle(work, "zombie", "sent") == "lost"
    assert states(run) == {"claimed": 1}


def test_it_keeps_the_text_a_run_was_planned_with():
    template = VariantFactory(subject="Version one").template
    campaign = CampaignFactory(template=template)
    run = planned([person()], campaign)
    VariantFactory(template=template, version=2, subject="Version two")
    outbox.send_due()
    assert Message.objects.get(run=run).rendering.subject == "Version one"
    again = planned([person()], campaign, key="test:2")
    outbox.send_due()
    assert Message.objects.get(run=again).rendering.subject == "Version two"


def test_it_writes_in_their_language_and_falls_back_to_the_shops():
    template = VariantFactory(subject="Hello").template
    VariantFactory(template=template, language="cs", subject="Dobrý den")
    czech, polish = person(language="cs"), person(language="pl")
    run = planned([czech, polish], CampaignFactory(template=template))
    outbox.send_due()
    subjects = dict(Message.objects.filter(run=run).values_list("customer_id", "rendering__subject"))
    assert subjects == {czech.pk: "Dobrý den", polish.pk: "Hello"}


def test_it_caps_by_the_day_where_they_live_and_by_seven_days(noon):
    customer = person()
    campaign = CampaignFactory(cap_per_day=1, cap_per_week=2)
    for day, expected in ((0, "sent"), (0, "skipped"), (1, "sent"), (2, "skipped"), (8, "sent")):
        noon.move_to(NOON + timedelta(days=day))
        run = planned([customer], campaign, key=f"test:{day}:{expected}")
        outbox.send_due()
        message = Message.objects.get(run=run)
        assert (day, message.state, message.reason) == (day, expected, "capped" if expected == "skipped" else "")


def test_it_strips_line_breaks_that_would_add_a_header(smtp):
    template = VariantFactory(subject="Hi {{ customer.name }}\r\nBcc: x@example.com").template
    customer = person(name="Bob\r\nBcc: y@example.com", city="X\r\nBcc: z@example.com")
    planned([customer], CampaignFactory(template=template, name="News\r\nBcc: w@example.com"))
    assert outbox.send_due() == {"sent": 1}
    [received] = smtp.messages
    assert received.recipients == [customer.email]
    assert received.message.get_all("Bcc") is None
    assert received.message["Subject"] == "Hi Bob Bcc: y@example.com Bcc: x@example.com"


def test_it_plans_and_loads_with_a_fixed_number_of_queries(django_assert_max_num_queries):
    campaign = CampaignFactory()
    few, many = people(3), people(60)
    with django_assert_max_num_queries(12):
        planned(few, campaign)
    with django_assert_max_num_queries(12):
        planned(many, campaign, key="test:2")
    ids = claims.claim_due(limit=100, owner="me")
    with django_assert_max_num_queries(10):
        assert len(outbox.load(ids, "me", clock.now())) == 63


def test_it_finds_what_an_audit_should_find():
    run = planned([person()])
    outbox.send_due()
    assert audit.problems() == []
    Run.objects.filter(pk=run.pk).update(audience=2)
    message = Message.objects.get(run=run)
    Message.objects.filter(pk=message.pk).update(consent=agree(message.customer, is_granted=False))
    assert audit.problems() == [
        f"Run {run.pk}: its audience is 2, but it has 1 messages. Every recipient must have exactly one row.",
        f"Message {message.pk} was sent without a consent that was granted and in force.",
    ]


def test_it_waits_when_the_shops_own_address_cannot_be_written(settings, smtp, caplog):
    settings.EMAIL_FROM = "Shop <nonsense>"
    run = planned(people(2))
    assert outbox.send_due() == {"postponed": 2}
    assert states(run) == {"queued": 2}
    assert "EMAIL_FROM" in caplog.text
    assert smtp.messages == []


def test_it_gives_single_messages_their_own_values():
    template = VariantFactory(blocks=[{"type": "text", "text": "Your code is {{ code }}."}]).template
    one, two = person(), person()
    run = planned(
        [one, two], CampaignFactory(template=template), contexts={one.pk: {"code": "A1"}, two.pk: {"code": "B2"}}
    )
    outbox.send_due()
    texts = dict(Message.objects.filter(run=run).values_list("customer_id", "rendering__text"))
    assert "Your code is A1." in texts[one.pk]
    assert "Your code is B2." in texts[two.pk]


def test_it_slows_down_for_a_server_that_takes_twenty_and_then_asks_for_later(smtp, noon):
    """Nobody is dropped and nothing is called finished while somebody waits."""
    taken = [0]

    def limited(_address):
        taken[0] += 1
        return None if taken[0] <= 20 else "451 4.3.2 Please come back later"

    smtp.on_recipient = limited
    run = planned(people(100), CampaignFactory(quiet_from=0, quiet_until=0))
    for minute in range(40):
        taken[0] = 0
        noon.move_to(NOON + timedelta(minutes=minute))
        counts = outbox.send_due()
        assert counts.get("sent", 0) <= 20
        run.refresh_from_db()
        assert (run.state == "finished") == (states(run) == {"sent": 100})
        if run.state == "finished":
            break
    assert states(run) == {"sent": 100}
    assert len({one.recipients[0] for one in smtp.messages}) == len(smtp.messages) == 100

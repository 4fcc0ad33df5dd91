"""Sign-up forms: nobody is a customer before they said yes from their mailbox, and then once."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from campaigns import gate, limits, texts
from campaigns.models import SignUp, SignUpForm, Suppression, Template
from campaigns.signups import asking, editing, mailing, reading
from customers.models import Consent, Customer, Event
from lifecycle_crm import tasks
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Conflict, Gone, InvalidInput
from tests.campaigns.factories import CampaignFactory
from tests.loyalty.factories import CustomerFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


@pytest.fixture
def form() -> SignUpForm:
    return editing.create(name="News", tag="news", asks_name=True)


def token(row: SignUp) -> str:
    return asking.confirm_url(row).rstrip("/").rpartition("/")[2]


def ask(form: SignUpForm, email: str = "eva@shop.example", **more: Any) -> SignUp:
    return asking.ask(form=form, email=email, **{"language": "sv", "ip": "192.0.2.7", **more})


def nothing_moved() -> bool:
    return not (Customer.objects.exists() or Consent.objects.exists() or Event.objects.exists())


# --- Asking -----------------------------------------------------------------------------------------------------------


def test_asking_makes_no_customer_and_mails_the_link_in_their_language(form, smtp):
    row = ask(form, "Eva@Shop.example", given_name="Eva")
    assert (row.state, row.email_key, row.source) == ("waiting", "eva@shop.example", "page")
    assert mailing.send_due() == {"asked": 1}
    [received] = smtp.messages
    message = received.message
    text = message.get_body(("plain",)).get_content()
    assert (received.recipients, message["Subject"]) == (
        ["Eva@Shop.example"],
        "Är det din adress? Ett tryck, så är du med",
    )
    assert asking.confirm_url(row) in text
    assert "Eva@Shop.example" in text
    assert message["List-Unsubscribe"] is None
    row.refresh_from_db()
    assert (row.state, row.transport, row.asked_at is not None, row.owner) == ("asked", "smtp", True, "")
    assert mailing.send_due() == {}
    assert nothing_moved()


def test_the_words_of_the_mail_are_made_once_and_are_the_shops_from_then_on(form, smtp):
    ask(form)
    mailing.send_due()
    template = Template.objects.get(key="sign-up-confirm")
    assert set(template.variants.values_list("language", flat=True)) == {"en", "sv", "nb", "pl", "cs"}
    assert mailing.template() == template
    assert template.purpose == "service"


def test_the_same_address_is_one_row_and_another_mail_only_after_a_while(form, smtp, noon):
    row = ask(form)
    assert ask(form, "EVA@shop.example").pk == row.pk
    mailing.send_due()
    ask(form)
    assert mailing.send_due() == {}
    for minutes in (11, 11, 11):
        noon.shift(timedelta(minutes=minutes))
        ask(form, language="pl")
        mailing.send_due()
    # The first, and two more: a form is no way to flood a mailbox.
    assert len(smtp.messages) == 3
    row.refresh_from_db()
    assert (row.mails, row.language) == (3, "pl")
    noon.shift(timedelta(days=1))
    ask(form)
    mailing.send_due()
    assert len(smtp.messages) == 4
    assert SignUp.objects.count() == 1


@pytest.mark.parametrize(
    "address", ["", "eva", "eva@", "a b@shop.example", "eva@shop.example\r\nBcc: x@y.example", "é@shop.example"]
)
def test_it_takes_no_address_that_is_none(form, address):
    with pytest.raises(InvalidInput):
        ask(form, address)
    assert not SignUp.objects.exists()


def test_an_archived_form_takes_nobody_and_who_was_asked_can_still_confirm(form):
    row = ask(form)
    editing.archive(form=form)
    with pytest.raises(Gone):
        ask(form, "olle@shop.example")
    asking.confirm(token=token(row))
    assert Customer.objects.get().email == "eva@shop.example"
    editing.bring_back(form=form)
    assert ask(form, "olle@shop.example").state == "waiting"


# --- The mail ---------------------------------------------------------------------------------------------------------


def test_who_complained_or_cannot_receive_is_not_written_to_and_who_unsubscribed_may_ask_again(form, smtp):
    for name, reason in (("a", "complained"), ("b", "bounced"), ("c", "manual"), ("d", "unsubscribed")):
        Suppression.objects.create(address_key=f"{name}@shop.example", reason=reason)
        ask(form, f"{name}@shop.example")
    assert mailing.send_due() == {"stopped": 3, "asked": 1}
    assert [one.recipients for one in smtp.messages] == [["d@shop.example"]]


def test_nothing_leaves_while_all_sending_is_stopped(form, smtp):
    ask(form)
    limits.hold(reason="A backup was restored.")
    assert mailing.send_due() == {}
    limits.lift()
    assert mailing.send_due() == {"asked": 1}


def test_it_tries_again_later_and_gives_up_after_the_last_try(form, smtp, noon):
    row = ask(form)
    smtp.on_recipient = "451 4.3.0 Try later"
    for minutes in (0, 1, 5, 15, 60):
        noon.shift(timedelta(minutes=minutes))
        mailing.send_due()
    row.refresh_from_db()
    assert (row.state, row.tries, row.error) == ("failed", 4, "451 4.3.0 Try later")
    smtp.on_recipient = None
    noon.shift(timedelta(minutes=11))
    ask(form)
    assert mailing.send_due() == {"asked": 1}


def test_a_refusal_for_good_is_shown_and_not_tried_again(form, smtp):
    smtp.on_recipient = "550 5.1.1 No such user"
    row = ask(form)
    assert mailing.send_due() == {"failed": 1}
    row.refresh_from_db()
    assert (row.state, row.error) == ("failed", "550 5.1.1 No such user")


def test_a_server_that_is_away_costs_nobody_a_try(form, smtp, noon):
    row = ask(form)
    smtp.drop = "connect"
    assert mailing.send_due() == {"postponed": 1}
    row.refresh_from_db()
    assert (row.state, row.tries) == ("waiting", 0)
    smtp.drop = ""
    noon.shift(timedelta(minutes=1))
    assert mailing.send_due() == {"asked": 1}


def test_what_was_handed_over_without_an_answer_is_in_doubt_and_the_link_works_all_the_same(form, smtp):
    row = ask(form)
    smtp.drop, smtp.drop_times = "after_dot", 1
    assert mailing.send_due() == {"in_doubt": 1}
    assert mailing.send_due() == {}
    assert len(smtp.messages) == 1
    assert asking.confirm(token=token(row)).state == "confirmed"


def test_what_a_dead_worker_left_on_its_way_is_in_doubt_and_pressing_again_mails_again(form, smtp, noon):
    row = ask(form)
    assert mailing._claim(row.pk, "dead") is not None
    assert mailing._claim(row.pk, "other") is None
    assert mailing.send_due() == {}
    noon.shift(timedelta(minutes=11))
    assert mailing.send_due() == {"in_doubt": 1}
    ask(form)
    assert mailing.send_due() == {"asked": 1}
    assert len(smtp.messages) == 1


def test_a_mail_whose_button_was_taken_out_is_not_sent_and_says_so(form, smtp):
    texts.write(template=mailing.template(), language="sv", subject="Hej", blocks=[{"type": "text", "text": "Hej."}])
    row = ask(form)
    assert mailing.send_due() == {"failed": 1}
    row.refresh_from_db()
    assert row.error.startswith("The mail has no link to confirm with.")
    assert smtp.messages == []


# --- Confirming -------------------------------------------------------------------------------------------------------


def test_a_yes_makes_a_customer_with_a_consent_that_says_to_what(form):
    row = ask(form, given_name="Eva")
    asking.confirm(token=token(row), ip="192.0.2.9")
    customer = Customer.objects.get()
    assert (customer.email, customer.given_name, customer.language, customer.tags) == (
        "eva@shop.example", "Eva", "sv", ["news"],
    )  # fmt: skip
    assert (customer.acquisition_source, customer.acquisition_campaign) == ("sign-up", "news")
    said = Consent.objects.get()
    assert (said.purpose, said.channel, said.is_granted, said.source, said.ip, said.language) == (
        "marketing", "email", True, "sign-up", "192.0.2.9", "sv",
    )  # fmt: skip
    row.refresh_from_db()
    assert (row.state, row.customer, row.confirmed_ip) == ("confirmed", customer, "192.0.2.9")
    assert said.wording == row.wording == asking.wording(form, row.consent_text)
    event = Event.objects.get()
    assert (event.name, event.customer, event.properties) == ("signed_up", customer, {"form": "news"})


def test_however_often_it_is_pressed_there_is_one_of_each(form):
    row = ask(form)
    for _n in range(3):
        asking.confirm(token=token(row))
    assert (Customer.objects.count(), Consent.objects.count(), Event.objects.count()) == (1, 1, 1)


def test_a_customer_we_know_keeps_what_we_know_and_agrees(form):
    known = CustomerFactory(email="eva@shop.example", name="Eva Example", given_name="Eva", language="pl", tags=["vip"])
    asking.confirm(token=token(ask(form, given_name="Somebody")))
    known.refresh_from_db()
    assert (known.name, known.given_name, known.language, known.tags) == ("Eva Example", "Eva", "pl", ["vip", "news"])
    assert Consent.objects.get().customer == known


def test_who_had_unsubscribed_may_be_written_to_again_after_their_yes(form):
    known = CustomerFactory(email="eva@shop.example")
    campaign = CampaignFactory()
    Suppression.objects.create(
        address_key="eva@shop.example", reason="unsubscribed", created_at=clock.now() - timedelta(1)
    )
    assert gate.answers(known.pk, campaign, clock.now())[0].reason == "unsubscribed"
    asking.confirm(token=token(ask(form)))
    assert gate.answers(known.pk, campaign, clock.now())[0].outcome == gate.SEND


def test_who_signs_up_once_more_after_their_yes_is_asked_anew(form, noon):
    asking.confirm(token=token(first := ask(form)))
    again = ask(form)
    assert (again.pk != first.pk, again.state) == (True, "waiting")


def test_a_link_is_refused_that_we_did_not_write_or_that_is_a_week_old(form, noon):
    row = ask(form)
    mailing.send_due()
    good = token(row)
    for bad in ("", "x", good[:-1], "zz" + good, good.replace("~", "-"), f"{row.pk:x}~AAAA"):
        with pytest.raises(Gone):
            asking.confirm(token=bad)
    noon.shift(timedelta(days=7, minutes=1))
    with pytest.raises(Gone, match="valid for a week"):
        asking.confirm(token=good)
    assert nothing_moved()


def test_addresses_that_nobody_confirmed_are_deleted_after_a_month_and_their_links_say_so(form, noon):
    kept, gone = ask(form, "olle@shop.example"), ask(form)
    asking.confirm(token=token(kept))
    noon.shift(timedelta(days=29))
    tasks.tidy()
    assert SignUp.objects.count() == 2
    noon.shift(timedelta(days=2))
    tasks.tidy()
    assert list(SignUp.objects.values_list("email", flat=True)) == ["olle@shop.example"]
    with pytest.raises(Gone):
        asking.find(token(gone))


def test_the_database_knows_no_confirmed_one_without_a_customer_and_no_open_one_twice(form):
    row = ask(form)
    for values in ({"state": "confirmed"}, {"confirmed_at": clock.now()}):
        with pytest.raises(IntegrityError), transaction.atomic():
            SignUp.objects.filter(pk=row.pk).update(**values)
    with pytest.raises(IntegrityError), transaction.atomic():
        SignUp.objects.create(form=form, email="EVA@shop.example", language="sv", consent_text="x", wording="x")


# --- The form ---------------------------------------------------------------------------------------------------------


def test_a_new_form_speaks_every_language(form):
    assert set(form.words) == {"en", "sv", "nb", "pl", "cs"}
    titles = {said["title"] for said in form.words.values()}
    assert len(titles) == 5
    assert all(said["consent"] and said["thanks"] and said["text"] for said in form.words.values())


def test_who_signed_up_keeps_the_words_they_read(form):
    row = ask(form)
    editing.write(
        form=form, language="sv", words={"title": "Nytt", "text": "Text", "consent": "Ja, gärna.", "thanks": "Tack!"}
    )
    form.refresh_from_db()
    later = ask(form, "olle@shop.example")
    row.refresh_from_db()
    assert (later.consent_text, row.consent_text != later.consent_text) == ("Ja, gärna.", True)
    assert row.wording != later.wording
    assert re.fullmatch(r"news:[0-9a-f]{8}", later.wording)


@pytest.mark.parametrize(
    "values, code",
    [({"name": " "}, "name"), ({"name": "x" * 121}, "name"), ({"name": "A", "key": "Not A Key"}, "key"),
     ({"name": "A", "tag": "x" * 101}, "tag")],
)  # fmt: skip
def test_it_refuses_a_form_in_one_sentence(values, code):
    with pytest.raises(InvalidInput):
        editing.create(**values)
    assert not SignUpForm.objects.exists()


def test_it_refuses_a_key_that_is_taken_and_words_that_are_missing(form):
    with pytest.raises(Conflict):
        editing.create(name="Other", key="news")
    assert editing.create(name="News").key == "news-2"
    with pytest.raises(InvalidInput) as refusal:
        editing.write(form=form, language="sv", words={"title": "T", "text": " ", "consent": "c", "thanks": "t"})
    assert refusal.value.extra["field"] == "text"
    with pytest.raises(InvalidInput):
        editing.write(form=form, language="xx", words={})


def test_it_counts_who_asked_lately_and_who_confirmed_ever(form, noon):
    asking.confirm(token=token(ask(form, "early@shop.example")))
    noon.shift(timedelta(days=29))
    asking.confirm(token=token(ask(form)))
    ask(form, "olle@shop.example")
    assert reading.counts([form.pk]) == {form.pk: reading.Counts(asked=2, confirmed=1, ever=2)}

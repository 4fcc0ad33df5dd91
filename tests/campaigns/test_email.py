"""One message over a real SMTP conversation, phase by phase."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from campaigns.channels import email

AT = datetime(2026, 11, 20, 11, 0, tzinfo=UTC)


def built(**changes) -> bytes:
    values = {
        "to": "anna@example.com",
        "to_name": "Anna",
        "subject": "Hello",
        "html": "<p>Hello</p>",
        "text": "Hello",
        "message_id": "<message-1@shop.example>",
        "date": AT,
        "headers": {},
        **changes,
    }
    return email.build(**values)


def session_to(smtp) -> email.SmtpSession:
    return email.SmtpSession(
        {"host": smtp.host, "port": smtp.port, "user": "", "password": "", "ssl": False, "tls": False}
    )


def test_it_delivers_many_messages_over_one_connection(smtp):
    session = session_to(smtp)
    before = smtp.connections  # the server tries itself once
    for n in range(5):
        session.address("shop@shop.example", f"p{n}@example.com")
        session.deliver(built())
    session.close()
    assert smtp.connections == before + 1
    assert [one.recipients for one in smtp.messages] == [[f"p{n}@example.com"] for n in range(5)]


def test_it_says_dropped_while_the_message_was_not_complete(smtp):
    smtp.drop = "before_dot"
    session = session_to(smtp)
    session.address("shop@shop.example", "a@example.com")
    with pytest.raises(email.Dropped):
        # Larger than what the machine would buffer, so that the break is seen inside the message.
        session.deliver(built(text="x" * 70 + "\n" * 2 + ("y" * 70 + "\n") * 300_000))
    assert smtp.messages == []


def test_it_says_in_doubt_when_the_answer_to_the_dot_never_came(smtp):
    smtp.drop = "after_dot"
    session = session_to(smtp)
    session.address("shop@shop.example", "a@example.com")
    with pytest.raises(email.InDoubt):
        session.deliver(built())
    assert len(smtp.messages) == 1


def test_it_opens_a_new_connection_after_a_break(smtp):
    smtp.drop, smtp.drop_times = "after_dot", 1
    before = smtp.connections
    session = session_to(smtp)
    session.address("shop@shop.example", "a@example.com")
    with pytest.raises(email.InDoubt):
        session.deliver(built())
    session.address("shop@shop.example", "b@example.com")
    session.deliver(built())
    assert smtp.connections == before + 2
    assert len(smtp.to("b@example.com")) == 1


def test_it_takes_a_refused_sender_for_our_own_trouble(smtp):
    smtp.on_mail = "550 5.7.1 Not your domain"
    with pytest.raises(email.Unreachable):
        session_to(smtp).address("shop@shop.example", "a@example.com")


@pytest.mark.parametrize(
    ("answer", "is_permanent", "is_hard"),
    [
        ("450 4.2.1 Busy", False, False),
        ("550 5.1.1 No such user", True, True),
        ("550 No such user", True, True),
        ("552 5.2.2 Mailbox full", True, False),
        ("550 5.7.1 Blocked", True, False),
    ],
)
def test_it_tells_a_dead_mailbox_from_other_refusals(smtp, answer, is_permanent, is_hard):
    smtp.on_recipient = answer
    with pytest.raises(email.Refused) as refusal:
        session_to(smtp).address("shop@shop.example", "a@example.com")
    assert (refusal.value.is_permanent, refusal.value.is_hard) == (is_permanent, is_hard)


def test_it_delivers_text_byte_for_byte(smtp):
    text = "Żółć åäö 🎉\n.\n..two dots\n" + "long " * 400 + "\nlast"
    html = "<p>\n.start</p>" + "x" * 3000
    session = session_to(smtp)
    session.address("shop@shop.example", "a@example.com")
    session.deliver(built(text=text, html=html, subject="Żółć 🎉 " + "ord " * 29 + "end"))
    [received] = smtp.messages
    mail = received.message
    assert mail.get_body(("plain",)).get_content().replace("\r\n", "\n").rstrip("\n") == text
    assert mail.get_body(("html",)).get_content().replace("\r\n", "\n").rstrip("\n") == html
    assert mail["Subject"] == "Żółć 🎉 " + "ord " * 29 + "end"
    assert max(len(line) for line in received.raw.split(b"\r\n")) <= 998
    assert all(byte < 128 for byte in received.raw)


@pytest.mark.parametrize("field", ["to", "to_name", "subject", "message_id"])
@pytest.mark.parametrize("bad", ["a\r\nBcc: x@example.com", "a\nBcc: x@example.com", "a\rBcc: x@example.com", "a\0b"])
def test_it_refuses_a_header_with_a_line_break(field, bad):
    with pytest.raises(email.BadAddress):
        built(**{field: bad})


BAD_ADDRESSES = [
    "", "a", "a@", "@b", "a b@c.se", "a@b\r\nRCPT TO:<x@y.se>", "<a@b.se>", "a@b@c", "ł@example.com",
    "a@" + "x" * 70 + ".se",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_ADDRESSES)
def test_it_puts_no_broken_address_on_an_envelope(bad):
    with pytest.raises(email.BadAddress):
        email.envelope_address(bad)


def test_it_writes_a_domain_with_letters_beyond_ascii_as_smtp_wants_it():
    assert email.envelope_address("anna@räksmörgås.se") == "anna@xn--rksmrgs-5wao1o.se"

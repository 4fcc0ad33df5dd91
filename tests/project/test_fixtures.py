"""The servers the other tests rely on do what they say."""

from __future__ import annotations

import smtplib
import socket
from typing import Any

import pytest

from tests.fixtures import MailServer
from tests.network import NetworkClosed, is_loopback

BODY = "From: a@shop.example\r\nTo: b@shop.example\r\nSubject: Hi\r\n\r\nHello\r\n"


def send(smtp: MailServer, to: str = "b@shop.example") -> None:
    with smtplib.SMTP(smtp.host, smtp.port, timeout=5) as client:
        client.sendmail("a@shop.example", [to], BODY)


def test_the_mail_server_keeps_what_it_accepted(smtp: MailServer) -> None:
    send(smtp)
    assert [one.message["Subject"] for one in smtp.to("b@shop.example")] == ["Hi"]


def test_the_mail_server_refuses_when_told(smtp: MailServer) -> None:
    smtp.on_recipient = lambda address: "550 5.1.1 Nobody here" if address.startswith("nobody") else None
    smtp.on_data = "451 4.3.0 Try later"
    with pytest.raises(smtplib.SMTPRecipientsRefused, match="Nobody here"):
        send(smtp, "nobody@shop.example")
    with pytest.raises(smtplib.SMTPDataError, match="Try later"):
        send(smtp)
    assert smtp.messages == []


@pytest.mark.parametrize("where, kept", [("connect", 0), ("before_dot", 0), ("after_dot", 1)])
def test_the_mail_server_hangs_up_when_told(smtp: MailServer, where: str, kept: int) -> None:
    smtp.drop, smtp.drop_times = where, 1
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        send(smtp)
    assert len(smtp.messages) == kept
    send(smtp)
    assert len(smtp.messages) == kept + 1


def test_the_network_ends_at_this_machine() -> None:
    with socket.socket() as outside, pytest.raises(NetworkClosed, match=r"192\.0\.2\.1"):
        outside.connect(("192.0.2.1", 80))
    assert is_loopback("::1")
    assert not is_loopback("shop.example")


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_the_browser_sees_the_live_server_and_nothing_else(chromium: Any, problems: list[str]) -> None:
    response = chromium.goto("/admin/login/")
    assert response.status < 500
    with pytest.raises(Exception, match="ERR_BLOCKED_BY_CLIENT"):
        chromium.goto("http://192.0.2.1/")
    assert any("192.0.2.1" in problem for problem in problems)
    problems.clear()

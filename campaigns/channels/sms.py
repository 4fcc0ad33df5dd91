"""One SMS over a provider's HTTP interface, with the moment it leaves in our hands.

The phases are those of e-mail (``campaigns/channels/email.py``), and for the same reason: "no connection", "not all of the
request was handed over" and "no answer to a whole request" look alike in most libraries and decide between trying again and
leaving alone. So the request is made on a connection of our own (``http.client``: one connection, kept open; certificates
checked; nothing is followed):

* ``address`` opens the connection. Nothing has left; whatever fails here says nothing about the message.
* ``deliver`` hands the request over and reads the answer. A provider can make nothing of half a form, so a failure before
  its last byte is ``Dropped``. With all of it handed over and no answer that decides, ``InDoubt``: never sent again by us.

What the answers mean is the provider's to say: a row in ``PROVIDERS`` for each.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import select
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings

from campaigns.channels.answers import BadAddress, Dropped, InDoubt, Refused, Unreachable
from lifecycle_crm.lib import clock

__all__ = ["BadAddress", "Dropped", "InDoubt", "Refused", "Unreachable"]

TIMEOUT = 30.0
"""Seconds for a connection and for each step of an answer."""
LONGEST_ANSWER = 65_536
_E164 = re.compile(r"\+[1-9]\d{6,14}")


@dataclass(frozen=True)
class Provider:
    """How one provider is spoken to. ``form``: the fields of (sender, recipient, text, address for the delivery report).
    ``identity``: where its answer has its number of the message. ``said``: (code, sentence) of an answer that is no success.
    ``hard``: what it says, in code or words, when this number gets no SMS, now or ever."""

    name: str
    path: Callable[[Mapping[str, Any]], str]
    form: Callable[[str, str, str, str], dict[str, str]]
    identity: str
    said: Callable[[str], tuple[str, str]]
    hard: re.Pattern[str]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def _plain(body: str) -> tuple[str, str]:
    return "", _one_line(body)


def _json(body: str) -> tuple[str, str]:
    try:
        told = json.loads(body)
    except ValueError:
        return _plain(body)
    return (
        (str(told.get("code", "")), _one_line(str(told.get("message", "")))) if isinstance(told, dict) else _plain(body)
    )


PROVIDERS = {
    one.name: one
    for one in (
        # https://46elks.com/docs/send-sms: a form, the answer is JSON with an id; a refusal is a sentence in plain text.
        Provider(
            "46elks",
            lambda options: "/a1/sms",
            lambda sender, to, text, report: {
                "from": sender, "to": to, "message": text, **({"whendelivered": report} if report else {}),
            },
            "id",
            _plain,
            re.compile(r"invalid\W+(to|destination)\b|invalid (phone )?number|not a valid (phone|mobile)", re.IGNORECASE),
        ),
        # https://www.twilio.com/docs/messaging/api/message-resource, errors at https://www.twilio.com/docs/api/errors:
        # 21211 no valid number, 21214 cannot be reached, 21610 they stopped us, 21614 no mobile number, 21635 a landline.
        Provider(
            "twilio",
            lambda options: f"/2010-04-01/Accounts/{quote(options['user'], safe='')}/Messages.json",
            lambda sender, to, text, report: {
                "From": sender, "To": to, "Body": text, **({"StatusCallback": report} if report else {}),
            },
            "sid",
            _json,
            re.compile(r"\b(21211|21214|21610|21614|21635)\b"),
        ),
    )
}  # fmt: skip


# --- What is set up ---------------------------------------------------------------------------------------------------


def is_set_up() -> bool:
    """Whether a provider is named."""
    return bool(settings.SMS["kind"])


def sender() -> str:
    """The number or name we write from; "" without a provider."""
    return str(settings.SMS.get("sender", ""))


def takes_replies() -> bool:
    """Whether somebody can answer STOP and we hear it: we write from a number, and the provider can tell us."""
    return sender().startswith("+") and bool(settings.SMS_WEBHOOK_SECRET)


def phone(number: str) -> str:
    """The number as a provider takes it. Raises ``BadAddress``."""
    if not _E164.fullmatch(number):
        raise BadAddress(f"{number[:40]!r} is not an international phone number.")
    return number


# --- The conversation ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


class SmsSession:
    """A connection to the provider, kept from message to message."""

    transport = "sms"

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.provider = PROVIDERS[options["kind"]]
        self.connection: http.client.HTTPConnection | None = None
        secret = f"{options['user']}:{options['password']}".encode()
        self._headers = {
            "Authorization": f"Basic {base64.b64encode(secret).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            "User-Agent": "lifecycle-crm",
        }

    def _is_alive(self) -> bool:
        """Whether the provider still listens: it has said nothing unasked and has not hung up."""
        sock = self.connection.sock if self.connection is not None else None
        return sock is not None and not select.select([sock], [], [], 0)[0]

    def address(self, sender: str, recipient: str) -> None:
        """See that there is a connection; one that fell asleep is opened anew. Raises ``Unreachable``."""
        if self._is_alive():
            return
        self.close()
        host, port = self.options["host"], self.options["port"]
        made: http.client.HTTPConnection
        if self.options["tls"]:
            made = http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=_trust())
        else:
            made = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        # Once it is closed, it stays closed: a request never opens another connection by itself.
        made.auto_open = 0
        try:
            made.connect()
        except (OSError, http.client.HTTPException) as problem:
            made.close()
            raise Unreachable(f"{host}:{port}: {_one_line(str(problem))}") from problem
        self.connection = made

    def deliver(self, body: Mapping[str, str], following: object = None) -> str:
        """Hand the form over and wait for the answer: the provider's number of the message, and what it said."""
        connection = self.connection
        if connection is None or connection.sock is None:
            raise Dropped("The connection is gone.")
        data = urlencode(body).encode()
        try:
            connection.request("POST", self.provider.path(self.options), body=data, headers=self._headers)
        except (OSError, http.client.HTTPException) as problem:
            self.close()
            raise Dropped(_one_line(str(problem))) from problem
        try:
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as problem:
            self.close()
            raise InDoubt(f"No answer: {_one_line(str(problem))}") from problem
        try:
            text = answer.read(LONGEST_ANSWER).decode("utf-8", "replace")
            if not answer.isclosed():
                self.close()
        except (OSError, http.client.HTTPException):
            # The status decides; without the rest only the provider's number is missing.
            self.close()
            text = ""
        return self._judge(answer.status, text, answer.headers.get("Retry-After", ""))

    def _judge(self, status: int, text: str, rest: str) -> str:
        code, sentence = self.provider.said(text)
        saying = f"{code} {sentence}".strip() or "no reason given"
        if 200 <= status < 300:
            return _identity(text, self.provider.identity)
        # Twilio's codes from 21000 on are about one message, whatever the status.
        if status in (401, 402, 403) and not code.startswith("21"):
            raise Unreachable(f"The provider lets us send nothing: {status} {saying}")
        if status == 429:
            refusal = Refused(status, saying, is_permanent=False, is_too_fast=True)
            refusal.wait = _rest(rest)
            raise refusal
        if 400 <= status < 500:
            refusal = Refused(status, saying, is_permanent=True)
            refusal.is_hard = bool(self.provider.hard.search(saying))
            raise refusal
        # 5xx: neither provider says that it means "not accepted". A 3xx is not followed: who answers so is not the provider
        # we know, and nobody says what became of the message.
        raise InDoubt(f"{status} {saying}")

    def forget(self) -> None:
        """Nothing has been said yet, so there is nothing to take back."""

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()


def _identity(text: str, name: str) -> str:
    try:
        told = json.loads(text)
    except ValueError:
        return ""
    return str(told.get(name, ""))[:100] if isinstance(told, dict) else ""


def _rest(said: str) -> float | None:
    """Seconds of ``Retry-After``, which is a number or a date; ``None`` when it says neither."""
    if said.strip().isdigit():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - clock.now()).total_seconds())
    except (TypeError, ValueError):
        return None


def open_session() -> SmsSession:
    """As ``SMS_URL`` says. Raises ``Unreachable`` when it says nothing."""
    if not is_set_up():
        raise Unreachable("No SMS provider is set up. Set SMS_URL.")
    return SmsSession(settings.SMS)


def form(*, to: str, text: str, report: str = "") -> dict[str, str]:
    """One message as the provider takes it. ``report``: where it tells what became of it."""
    return PROVIDERS[settings.SMS["kind"]].form(sender(), to, text, report)


def message_id(pk: int) -> str:
    """What we call a message; the provider's own number of it is in its answer."""
    return f"sms-{pk}"

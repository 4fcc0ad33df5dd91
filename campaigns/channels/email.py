"""One message over SMTP, with the moment it leaves in our hands.

``smtplib`` raises the same error for "the connection broke before the message was complete" and "it broke after". The
difference decides between trying again and leaving alone, so the phases are spoken here one by one:

* ``address`` opens the envelope (MAIL, RCPT). Nothing has left; whatever fails here may be tried again.
* ``deliver`` sends the body and the final dot. A failure before the dot is ``Dropped``: try again. With the dot sent
  and no answer, both sides may hold the message (RFC 1047): ``InDoubt``, never sent again by us.

A session keeps its connection from message to message.
"""

from __future__ import annotations

import binascii
import contextlib
import re
import select
import smtplib
import socket
from collections.abc import Mapping
from datetime import datetime
from email.header import Header
from email.utils import format_datetime, formataddr, parseaddr
from functools import lru_cache
from typing import Any

from django.conf import settings

TIMEOUT = 30
"""Seconds for a connection and each answer."""
ANSWER_TIMEOUT = 120
"""Seconds for the answer to the final dot: many servers scan the message before they give it."""


class Unreachable(Exception):
    """No conversation at all: host, password or sender address. It says nothing about the message."""


class Dropped(Exception):
    """The connection ended before the message was complete. It was not accepted."""


class InDoubt(Exception):
    """The message was complete and the answer never came. It may have been accepted."""


class Refused(Exception):
    """The server said no. ``is_permanent`` for 5xx; ``is_hard`` when the mailbox itself is the reason."""

    def __init__(self, code: int, text: str, *, at_recipient: bool) -> None:
        super().__init__(f"{code} {text}")
        self.code, self.text = code, text
        self.is_permanent = code >= 500
        enhanced = re.match(r"5\.(\d+)\.(\d+)", text)
        if enhanced:
            self.is_hard = self.is_permanent and enhanced.group(1) == "1"
        else:
            self.is_hard = at_recipient and code in (550, 551, 553)


class BadAddress(ValueError):
    """The address cannot stand on an envelope."""


_ADDRESS = re.compile(r"[^@\s<>,;:\"\x00-\x20\x7f]+@[^@\s<>,;:\"\x00-\x20\x7f]+")


def envelope_address(address: str) -> str:
    """The address as SMTP takes it, its domain in ASCII. Raises ``BadAddress``."""
    if not _ADDRESS.fullmatch(address):
        raise BadAddress(f"{address[:60]!r} is not an address.")
    local, _at, domain = address.rpartition("@")
    try:
        local.encode("ascii")
        domain = domain.encode("idna").decode("ascii")
    except UnicodeError as problem:
        raise BadAddress(f"{address[:60]!r} cannot be written in ASCII.") from problem
    return f"{local}@{domain}"


def _decoded(text: bytes | str) -> str:
    raw = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return " ".join(raw.split())[:400]


class LocalSession:
    """Keeps messages here: they are in the outbox, and nothing leaves the machine."""

    transport = "local"

    def address(self, sender: str, recipient: str) -> None:
        pass

    def deliver(self, body: bytes) -> str:
        return ""

    def forget(self) -> None:
        pass

    def close(self) -> None:
        pass


class SmtpSession:
    transport = "smtp"

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.connection: smtplib.SMTP | None = None

    def _open(self) -> smtplib.SMTP:
        if self.connection is not None:
            return self.connection
        options = self.options
        connect = smtplib.SMTP_SSL if options["ssl"] else smtplib.SMTP
        try:
            connection = connect(options["host"], options["port"], timeout=TIMEOUT)
            connection.ehlo_or_helo_if_needed()
            if options["tls"] and not options["ssl"]:
                connection.starttls()
                connection.ehlo()
            if options["user"]:
                connection.login(options["user"], options["password"])
            if connection.sock is not None:
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, smtplib.SMTPException) as problem:
            raise Unreachable(f"{options['host']}:{options['port']}: {_decoded(str(problem))}") from problem
        self.connection = connection
        return connection

    def _is_alive(self, connection: smtplib.SMTP) -> bool:
        """Whether the server still listens: it has said nothing unasked and has not hung up."""
        if connection.sock is None:
            return False
        return not select.select([connection.sock], [], [], 0)[0]

    def address(self, sender: str, recipient: str) -> None:
        """Open the envelope. A connection that fell asleep since the last message is opened anew, once."""
        if self.connection is not None and not self._is_alive(self.connection):
            self.close()
        connection = self._open()
        try:
            commands = [f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"]
            if connection.has_extn("pipelining"):
                connection.send("\r\n".join(commands) + "\r\n")
                answers = [connection.getreply(), connection.getreply()]
            else:
                answers = []
                for command in commands:
                    answers.append(connection.docmd(command))
                    if answers[-1][0] >= 400:
                        break
        except (OSError, smtplib.SMTPException) as problem:
            self.close()
            raise Dropped(_decoded(str(problem))) from problem
        for (code, text), at_recipient in zip(answers, (False, True), strict=False):
            if code < 400 and code != -1:
                continue
            self.forget()
            if code == 421 or code == -1:
                self.close()
                raise Dropped(f"{code} {_decoded(text)}")
            if code >= 500 and not at_recipient:
                raise Unreachable(f"The server does not accept the sender {sender}: {code} {_decoded(text)}")
            raise Refused(code, _decoded(text), at_recipient=at_recipient)

    def deliver(self, body: bytes) -> str:
        """Send the body (CRLF lines, dots doubled, no final dot) and wait for the answer. Returns what was said."""
        connection = self.connection
        if connection is None or connection.sock is None:
            raise Dropped("The connection is gone.")
        try:
            code, text = connection.docmd("DATA")
            if code == 354:
                connection.sock.sendall(body)
                if not self._is_alive(connection):
                    raise smtplib.SMTPServerDisconnected("Connection closed inside the message")
        except (OSError, smtplib.SMTPException) as problem:
            self.close()
            raise Dropped(_decoded(str(problem))) from problem
        if code == 354:
            try:
                connection.sock.settimeout(ANSWER_TIMEOUT)
                connection.sock.sendall(b".\r\n")
                code, text = connection.getreply()
                connection.sock.settimeout(TIMEOUT)
            except (OSError, smtplib.SMTPException) as problem:
                self.close()
                raise InDoubt(_decoded(str(problem))) from problem
            if code == -1:
                self.close()
                raise InDoubt("No answer to the message.")
        if code == 421:
            self.close()
            raise Dropped(f"{code} {_decoded(text)}")
        if code >= 400:
            self.forget()
            raise Refused(code, _decoded(text), at_recipient=False)
        return _decoded(text)

    def forget(self) -> None:
        """Leave an opened envelope."""
        if self.connection is None:
            return
        try:
            self.connection.rset()
        except (OSError, smtplib.SMTPException):
            self.close()

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is None:
            return
        with contextlib.suppress(OSError, smtplib.SMTPException):
            connection.sock.settimeout(2) if connection.sock else None
            connection.quit()
        connection.close()


Session = LocalSession | SmtpSession


def open_session() -> Session:
    """As ``EMAIL_URL`` says: kept here, or over SMTP."""
    return LocalSession() if settings.EMAIL["kind"] == "local" else SmtpSession(settings.EMAIL)


# --- The bytes --------------------------------------------------------------------------------------------------------

_DOT = re.compile(rb"(?m)^\.")
_BROKEN = re.compile(r"\r\n(?![ \t])|\r(?!\n)|(?<!\r)\n|\0")
"""A line break that is not the fold of a long header."""


@lru_cache(maxsize=8)
def _parsed(value: str) -> tuple[str, str, str]:
    """``EMAIL_FROM`` as (header, address, host). Raises ``Unreachable``: no message could leave with it."""
    name, address = parseaddr(value)
    try:
        address = envelope_address(address)
    except BadAddress as problem:
        raise Unreachable(f"EMAIL_FROM={value!r} cannot be written from: {problem}") from problem
    return formataddr((name, address)), address, address.rpartition("@")[2]


def sender() -> str:
    """The address we write from."""
    return _parsed(settings.EMAIL_FROM)[1]


def host() -> str:
    """The domain we write from."""
    return _parsed(settings.EMAIL_FROM)[2]


def message_id(pk: int) -> str:
    """The Message-ID of a message: the same however often it is built, so that a provider can tell a repeat."""
    return f"<message-{pk}@{host()}>"


def _header(text: str) -> str:
    """A header value; anything beyond ASCII is encoded and long ones are folded. Line breaks are refused before."""
    if len(text) <= 66 and text.isascii():
        return text
    return Header(text, "utf-8", maxlinelen=70).encode(linesep="\r\n")


def _quoted(text: str) -> bytes:
    raw = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8")
    return binascii.b2a_qp(raw, istext=True).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def build(
    *,
    to: str,
    to_name: str,
    subject: str,
    html: str,
    text: str,
    message_id: str,
    date: datetime,
    headers: Mapping[str, str],
) -> bytes:
    """The message as it goes on the wire, without the final dot. ``BadAddress`` when a header value holds a line break."""
    boundary = f"=_{message_id.strip('<>').partition('@')[0]}"
    lines = {
        "From": _parsed(settings.EMAIL_FROM)[0],
        "To": formataddr((to_name, to)) if to_name else to,
        "Subject": _header(subject),
        "Date": format_datetime(date),
        "Message-ID": message_id,
        **headers,
        "MIME-Version": "1.0",
        "Content-Type": f'multipart/alternative; boundary="{boundary}"',
    }
    for key, value in lines.items():
        if _BROKEN.search(value):
            raise BadAddress(f"The header {key} holds a line break.")
    head = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
    part = (
        f"--{boundary}\r\nContent-Type: text/%s; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    )
    body = b"".join(
        (
            head.encode("ascii"),
            b"\r\n",
            (part % "plain").encode(),
            _quoted(text),
            b"\r\n",
            (part % "html").encode(),
            _quoted(html),
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )
    return _DOT.sub(b"..", body)

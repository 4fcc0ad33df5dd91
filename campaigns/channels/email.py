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
import hmac
import re
import select
import smtplib
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.header import Header
from email.utils import format_datetime, formataddr, parseaddr
from functools import lru_cache
from typing import Any, NoReturn

from django.conf import settings

from campaigns.channels import answers
from campaigns.channels.answers import BadAddress as BadAddress
from campaigns.channels.answers import InDoubt as InDoubt
from campaigns.channels.answers import Unreachable as Unreachable

TIMEOUT = 30
"""Seconds for a connection and each answer."""
ANSWER_TIMEOUT = 120
"""Seconds for the answer to the final dot: many servers scan the message before they give it."""


_TOO_FAST = re.compile(
    r"throttl|too (many|much|fast)|rate.?limit|\brate\b.{0,30}exceeded|exceeded.{0,40}\b(rate|connections)\b|4\.7\.28\b",
    re.IGNORECASE,
)
"""How providers say it: none of it is about one mailbox, as "quota exceeded" is."""


class Dropped(answers.Dropped):
    """The connection ended before the message was complete. It was not accepted."""

    @property
    def is_too_fast(self) -> bool:
        return bool(_TOO_FAST.search(str(self)))


class Refused(answers.Refused):
    """The server said no. Permanent for 5xx."""

    def __init__(self, code: int, text: str, *, at_recipient: bool) -> None:
        is_too_fast = code < 500 and bool(_TOO_FAST.search(text))
        super().__init__(code, text, is_permanent=code >= 500, is_too_fast=is_too_fast)
        enhanced = re.match(r"5\.(\d+)\.(\d+)", text)
        if enhanced:
            self.is_hard = self.is_permanent and enhanced.group(1) == "1"
        else:
            self.is_hard = at_recipient and code in (550, 551, 553)


_ADDRESS = re.compile(r"[^@\s<>,;:\"\x00-\x20\x7f]+@[^@\s<>,;:\"\x00-\x20\x7f]+")


def envelope_address(address: str) -> str:
    """The address as SMTP takes it, its domain in ASCII. Raises ``BadAddress``."""
    if not _ADDRESS.fullmatch(address):
        raise BadAddress(f"{address[:60]!r} is not an address.")
    local, _at, domain = address.rpartition("@")
    try:
        local.encode("ascii")
        domain = _in_ascii(domain)
    except UnicodeError as problem:
        raise BadAddress(f"{address[:60]!r} cannot be written in ASCII.") from problem
    return f"{local}@{domain}"


@lru_cache(maxsize=4096)
def _in_ascii(domain: str) -> str:
    return domain.encode("idna").decode("ascii")


def _decoded(text: bytes | str) -> str:
    raw = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return " ".join(raw.split())[:400]


def _envelope(sender: str, recipient: str) -> str:
    return f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n"


class LocalSession:
    """Keeps messages here: they are in the outbox, and nothing leaves the machine."""

    transport = "local"

    def address(self, sender: str, recipient: str) -> None:
        pass

    def deliver(self, body: bytes, following: tuple[str, str] | None = None) -> str:
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
        self.pipelines = False
        self.goes_on = False
        """The server waits for the body."""
        self.ahead: tuple[str, str] | None = None
        """The envelope that was sent along with the message before and has not been answered yet."""

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
        self.pipelines = connection.has_extn("pipelining")
        self.goes_on, self.ahead = False, None
        return connection

    def _is_alive(self, connection: smtplib.SMTP) -> bool:
        """Whether the server still listens: it has said nothing unasked and has not hung up."""
        if connection.sock is None:
            return False
        return not select.select([connection.sock], [], [], 0)[0]

    def address(self, sender: str, recipient: str) -> None:
        """Open the envelope. A connection that fell asleep since the last message is opened anew, once.

        Where the server takes commands in a row (RFC 2920), the question whether it would take the message now goes along
        with the addresses, and all of it already went along with the message before, if ``deliver`` was told.
        """
        ahead, self.ahead = self.ahead, None
        try:
            if ahead is not None and self.connection is not None:
                connection = self.connection
                answers = [connection.getreply(), connection.getreply(), connection.getreply()]
                if ahead != (sender, recipient):
                    self.goes_on = answers[2][0] == 354
                    self.forget()
                    ahead = None
            if ahead is None:
                if self.connection is not None and not self._is_alive(self.connection):
                    self.close()
                connection = self._open()
                if self.pipelines:
                    connection.send(_envelope(sender, recipient))
                    answers = [connection.getreply(), connection.getreply(), connection.getreply()]
                else:
                    answers = []
                    for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"):
                        answers.append(connection.docmd(command))
                        if answers[-1][0] >= 400:
                            break
        except (OSError, smtplib.SMTPException) as problem:
            self.close()
            raise Dropped(_decoded(str(problem))) from problem
        self.goes_on = len(answers) == 3 and answers[2][0] == 354
        for number, (code, text) in enumerate(answers):
            if code < 400 and code != -1:
                continue
            self.forget()
            if code == 421 or code == -1:
                self.close()
                raise Dropped(f"{code} {_decoded(text)}")
            if code >= 500 and number == 0:
                raise Unreachable(f"The server does not accept the sender {sender}: {code} {_decoded(text)}")
            raise Refused(code, _decoded(text), at_recipient=number == 1)

    def deliver(self, body: bytes, following: tuple[str, str] | None = None) -> str:
        """Send the body (CRLF lines, none beginning with a dot, no final dot) and wait for the answer: what was said.

        ``following`` is whom the next message is from and to, if that is known: its envelope then goes along, so that a
        message costs one wait for the server instead of two.
        """
        connection = self.connection
        if connection is None or connection.sock is None:
            raise Dropped("The connection is gone.")
        if not self.goes_on:
            try:
                code, text = connection.docmd("DATA")
            except (OSError, smtplib.SMTPException) as problem:
                self.close()
                raise Dropped(_decoded(str(problem))) from problem
            if code != 354:
                self._refused(code, text)
        self.goes_on = True
        self.ahead = following if self.pipelines else None
        data = memoryview(body + b".\r\n" + (_envelope(*self.ahead).encode() if self.ahead else b""))
        left = 0
        try:
            while left < len(data):
                left += connection.sock.send(data[left:])
            self.goes_on = False
            connection.sock.settimeout(ANSWER_TIMEOUT)
            code, text = connection.getreply()
            connection.sock.settimeout(TIMEOUT)
        except (OSError, smtplib.SMTPException) as problem:
            self.close()
            # The dot ends the message: if it never left this machine, nobody has the message.
            raise (Dropped if left < len(body) + 3 else InDoubt)(_decoded(str(problem))) from problem
        if code == -1:
            self.close()
            raise InDoubt("No answer to the message.")
        if code >= 400:
            self._refused(code, text)
        return _decoded(text)

    def _refused(self, code: int, text: bytes) -> NoReturn:
        if code in (421, -1):
            self.close()
            raise Dropped(f"{code} {_decoded(text)}")
        if self.ahead is None:
            self.forget()
        raise Refused(code, _decoded(text), at_recipient=False)

    def forget(self) -> None:
        """Leave an opened envelope."""
        if self.connection is None:
            return
        if self.goes_on or self.ahead is not None:
            # Inside a message there is no way back but to hang up before its end.
            self.close()
            return
        try:
            self.connection.rset()
        except (OSError, smtplib.SMTPException):
            self.close()

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is None:
            return
        if self.goes_on or self.ahead is not None:
            # A farewell would be taken for the message's text.
            self.goes_on, self.ahead = False, None
            connection.close()
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
    """The Message-ID of a message: the same however often it is built, so that a provider can tell a repeat; part of it
    cannot be guessed, so that only who has the message can send a notice about it."""
    proof = hmac.digest(settings.SECRET_KEY.encode(), f"message-id:{pk}".encode(), "sha256").hex()[:12]
    return f"<message-{pk}-{proof}@{host()}>"


def _header(text: str) -> str:
    """A header value; anything beyond ASCII is encoded and long ones are folded. Line breaks are refused before."""
    if len(text) <= 66 and text.isascii():
        return text
    return Header(text, "utf-8", maxlinelen=70).encode(linesep="\r\n")


_LEADING_DOT = re.compile(rb"(?m)^\.")
_SOFT = b"=\r\n"
_SAFE = re.compile(r"[!-\-/-<>-~][ -<>-~]*[!-<>-~]")


def quoted(text: str) -> bytes:
    """Quoted-printable with CRLF lines of at most 76 characters, none of which begins with a dot: it may stand on the wire
    as it is, and after a soft break anything may follow."""
    if len(text) <= 75 and _SAFE.fullmatch(text):
        return text.encode()
    raw = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8")
    made = _LEADING_DOT.sub(b"=2E", binascii.b2a_qp(raw, istext=True).replace(b"\r\n", b"\n"))
    lines = made.split(b"\n")
    # The dots made their lines longer, and the last one needs room for the soft break that may follow it.
    return b"\r\n".join(line if len(line) <= 75 else _broken(line) for line in lines)


def _broken(line: bytes) -> bytes:
    if len(line) == 76 and line.endswith(b"="):
        return line
    cut = 70
    while b"=" in line[cut - 2 : cut]:
        cut -= 1
    rest = line[cut:]
    return line[:cut] + _SOFT + (b"=2E" + rest[1:] if rest.startswith(b".") else rest)


def joined(pieces: Sequence[bytes]) -> bytes:
    """Encoded pieces as one body."""
    return _SOFT.join(piece for piece in pieces if piece)


@lru_cache(maxsize=8)
def _dated(second: datetime) -> str:
    return format_datetime(second)


_PLAIN_NAME = re.compile(r"[A-Za-z0-9 ]+")


def _to(name: str, address: str) -> str:
    if not name:
        return address
    return f"{name} <{address}>" if _PLAIN_NAME.fullmatch(name) else formataddr((name, address))


BOUNDARY = "=_part"
"""Never inside a part: in quoted-printable an equals sign is followed by two digits or the end of the line."""
_HEAD_PLAIN, _HEAD_HTML = (
    f"--{BOUNDARY}\r\nContent-Type: text/{kind}; charset=utf-8\r\n"
    "Content-Transfer-Encoding: quoted-printable\r\n\r\n".encode()
    for kind in ("plain", "html")
)


def build(
    *,
    to: str,
    to_name: str,
    subject: str,
    html: str | bytes,
    text: str | bytes,
    message_id: str,
    date: datetime,
    headers: Mapping[str, str],
) -> bytes:
    """The message as it goes on the wire, without the final dot. Bytes are taken as ``quoted`` made them.

    ``BadAddress`` when a header value holds a line break.
    """
    lines = {
        "From": _parsed(settings.EMAIL_FROM)[0],
        "To": _to(to_name, to),
        "Subject": _header(subject),
        "Date": _dated(date.replace(microsecond=0)),
        "Message-ID": message_id,
        **headers,
        "MIME-Version": "1.0",
        "Content-Type": f'multipart/alternative; boundary="{BOUNDARY}"',
    }
    head = "".join([f"{key}: {value}\r\n" for key, value in lines.items()])
    breaks = head.count("\r\n")
    folds = head.count("\r\n ") + head.count("\r\n\t")
    if breaks - folds != len(lines) or not (breaks == head.count("\n") == head.count("\r")) or "\0" in head:
        bad = next((key for key, value in lines.items() if _BROKEN.search(value)), "To")
        raise BadAddress(f"The header {bad} holds a line break.")
    return b"".join(
        (
            head.encode("ascii"),
            b"\r\n",
            _HEAD_PLAIN,
            text if isinstance(text, bytes) else quoted(text),
            b"\r\n",
            _HEAD_HTML,
            html if isinstance(html, bytes) else quoted(html),
            f"\r\n--{BOUNDARY}--\r\n".encode(),
        )
    )

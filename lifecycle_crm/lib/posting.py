"""One POST to another machine: to the address that was resolved and to no other, within bounds of time and size.

The standard library's client on a connection of ours: no proxy, no cookie, no redirect is followed, the certificate is
verified for the name, and a clock beside it cuts the line, so that who drips a byte at a time cannot hold us.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

from lifecycle_crm.lib.outward import NoAnswer, Place

SECONDS = 10.0
LONGEST_ANSWER = 2048
"""So many bytes of an answer are read; the rest is left on the line."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    text: str


def post(place: Place, *, body: bytes, headers: Mapping[str, str], seconds: float = SECONDS) -> Answer:
    """What the machine answered. Raises ``NoAnswer`` when it did not, or not in time."""
    lines: list[socket.socket] = []
    is_over = threading.Event()
    clock = threading.Timer(seconds, _cut, (lines, is_over))
    clock.daemon = True
    clock.start()
    try:
        lines.append(_connected(place, seconds, lines))
        client = HTTPConnection(place.name, place.port)
        client.sock = lines[-1]
        client.request("POST", place.path, body, {**headers, "Host": place.host, "Connection": "close"})
        answer = client.getresponse()
        if is_over.is_set():  # a line that was cut ends as one does that says no more
            raise NoAnswer("too slow")
        said = b""
        with suppress(OSError, HTTPException):
            said = answer.read(LONGEST_ANSWER)
        return Answer(answer.status, said.decode("utf-8", "replace"))
    except (OSError, ValueError, HTTPException) as problem:
        raise NoAnswer(f"{type(problem).__name__}: {problem}") from problem
    finally:
        clock.cancel()
        for line in lines:
            line.close()


def _connected(place: Place, seconds: float, lines: list[socket.socket]) -> socket.socket:
    family, kind, protocol, _canonical, where = place.found
    plain = socket.socket(family, kind, protocol)
    lines.append(plain)
    plain.settimeout(seconds)
    plain.connect(where)
    if place.scheme == "http":
        return plain
    line = ssl.create_default_context().wrap_socket(plain, server_hostname=place.name, do_handshake_on_connect=False)
    lines.append(line)
    line.do_handshake()
    return line


def _cut(lines: list[socket.socket], is_over: threading.Event) -> None:
    is_over.set()
    for line in list(lines):
        with suppress(OSError):
            # Not the method of a TLS line, which would forget that it is one while somebody reads from it.
            socket.socket.shutdown(line, socket.SHUT_RDWR)

"""Asking another machine whether it is there, on behalf of somebody who must not learn anything of our network by it.

The name is resolved here, every address it has must be public, and the connection goes to that address and no other: a name
that answers differently a second time gains nothing. Nothing is followed, one line is read, and the time is bounded.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

PORTS = {"http": 80, "https": 443}
LONGEST_LINE = 1024
SECONDS = 5.0
"""For all addresses together: they are asked side by side."""

Allowed = Callable[[str, int], bool]


class NoAnswer(Exception):
    """Nobody is there, or nobody that we may ask."""


class NotPublic(NoAnswer):
    """Somebody may be there, but it is a machine that we may not ask."""


def is_public(address: str, port: int) -> bool:
    """Whether an address is one that the whole internet can ask, on a port of the web."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    # An IPv4 address in another coat: mapped, 6to4, Teredo, NAT64.
    if isinstance(ip, ipaddress.IPv6Address) and (
        ip.ipv4_mapped or ip.sixtofour or ip.teredo or ip in ipaddress.ip_network("64:ff9b::/32")
    ):
        return False
    return ip.is_global and not ip.is_multicast and port in PORTS.values()


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address leads: the machine it was resolved to, once, and what is asked of it. ``name`` has no last dot."""

    scheme: str
    name: str
    port: int
    path: str
    found: tuple[Any, ...]
    """What ``socket.getaddrinfo`` said of the first address."""

    @property
    def host(self) -> str:
        """For the ``Host`` header."""
        shown = f"[{self.name}]" if ":" in self.name else self.name
        return shown if self.port == PORTS[self.scheme] else f"{shown}:{self.port}"


def parts_of(url: str) -> tuple[str, str, int, str]:
    """Scheme, name as machines write it, port and path of an address. Raises ``NoAnswer`` for what is none of the web's."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
        name = host.rstrip(".").encode("idna").decode("ascii")
    except (ValueError, UnicodeError) as problem:
        raise NoAnswer("no address") from problem
    if parts.scheme not in PORTS or not name or parts.username is not None or not re.fullmatch(r"[\w.:-]+", name):
        raise NoAnswer("no address")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (
        f"?{quote(parts.query, safe='/%:@!$&()*+,;=~-._?')}" if parts.query else ""
    )
    return parts.scheme, name, port, path


def place_of(url: str, *, allowed: Allowed = is_public) -> Place:
    """Where an address leads, resolved now. Raises ``NoAnswer`` when one of its machines may not be asked."""
    scheme, name, port, path = parts_of(url)
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as problem:
        raise NoAnswer(str(problem)) from problem
    if not found or not all(allowed(str(one[4][0]), port) for one in found):
        raise NotPublic("not public")
    return Place(scheme, name, port, path, found[0])


def status_of(url: str, *, until: float, allowed: Allowed = is_public) -> int:
    """The status that an address answers with. ``until`` is a moment of ``time.monotonic``. Raises ``NoAnswer``."""
    place = place_of(url, allowed=allowed)
    try:
        status = _asked("HEAD", place, until)
        # Some servers know no HEAD, or say that there is nothing.
        return status if status < 400 else _asked("GET", place, until)
    except (OSError, ValueError) as problem:
        raise NoAnswer(str(problem)) from problem


def _asked(method: str, place: Place, until: float) -> int:
    family, kind, protocol, _canonical, where = place.found
    with socket.socket(family, kind, protocol) as plain:
        plain.settimeout(max(0.05, until - time.monotonic()))
        plain.connect(where)
        line = plain
        if place.scheme == "https":
            line = ssl.create_default_context().wrap_socket(plain, server_hostname=place.name)
        with line:
            line.sendall(
                f"{method} {place.path} HTTP/1.1\r\nHost: {place.host}\r\nUser-Agent: lifecycle-crm link check\r\nAccept: */*\r\n"
                "Connection: close\r\n\r\n".encode("ascii")
            )
            said = b""
            while b"\n" not in said and len(said) < LONGEST_LINE:
                line.settimeout(max(0.05, until - time.monotonic()))
                if time.monotonic() > until or not (piece := line.recv(LONGEST_LINE - len(said))):
                    break
                said += piece
    answer = re.match(rb"HTTP/1\.[01] (\d{3})\b", said)
    if answer is None:
        raise NoAnswer("no HTTP")
    return int(answer[1])


def statuses(urls: Iterable[str], *, seconds: float = SECONDS, allowed: Allowed = is_public) -> dict[str, int]:
    """Status per address, 0 where nobody answered in time or nobody may be asked."""
    until = time.monotonic() + seconds
    answers: dict[str, int] = dict.fromkeys(urls, 0)

    def ask(url: str) -> None:
        try:
            answers[url] = status_of(url, until=until, allowed=allowed)
        except NoAnswer:
            answers[url] = 0

    # Looking a name up cannot be stopped, only left behind.
    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in list(answers)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(max(0.0, until + 0.2 - time.monotonic()))
    return dict(answers)

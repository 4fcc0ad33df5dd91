"""A stand-in for SMS providers: a real HTTP server on loopback that speaks as 46elks and as Twilio do, and misbehaves on
demand."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import pytest

USER, PASSWORD = "u-account", "correct:horse/battery"
Answer = tuple[int, str, dict[str, str]]


@dataclass
class Texted:
    """One SMS as it was asked for."""

    to: str
    sender: str
    text: str
    report: str


@dataclass
class Provider:
    """Everything it accepted is in ``messages``. ``on_message`` answers instead of accepting: a status, or (status, body,
    headers), or a function of the ``Texted`` that returns one of these or ``None`` for "accept". ``cut``: "request" hangs up
    once the request is there (nothing is accepted), "answer" accepts and hangs up without an answer; ``cut_times`` limits
    it. ``slow`` seconds pass before every answer."""

    kind: str = "46elks"
    host: str = "127.0.0.1"
    port: int = 0
    messages: list[Texted] = field(default_factory=list)
    on_message: Any = None
    cut: str = ""
    cut_times: int = 1_000_000
    slow: float = 0.0
    requests: int = 0
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def options(self) -> dict[str, Any]:
        """What ``settings.SMS`` says to send here."""
        return {
            "kind": self.kind, "host": self.host, "port": self.port, "tls": False, "user": USER, "password": PASSWORD,
            "sender": "Shop",
        }  # fmt: skip

    def cuts(self, where: str) -> bool:
        with self.lock:
            if self.cut != where or self.cut_times < 1:
                return False
            self.cut_times -= 1
            return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: Provider

    def setup(self) -> None:
        with self.provider.lock:
            self.provider.connections += 1
        super().setup()

    def log_message(self, *_args: Any) -> None:
        """Nothing is printed."""

    def _answer(self, status: int, body: str, headers: dict[str, str]) -> None:
        data = body.encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def do_POST(self) -> None:
        provider = self.provider
        form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode(), keep_blank_values=True))
        with provider.lock:
            provider.requests += 1
        is_elks = provider.kind == "46elks"
        path = "/a1/sms" if is_elks else f"/2010-04-01/Accounts/{USER}/Messages.json"
        names = ("to", "from", "message", "whendelivered") if is_elks else ("To", "From", "Body", "StatusCallback")
        asked = Texted(*(form.get(name, "") for name in names))
        secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if provider.cuts("request"):
            self._hang_up()
            return
        if self.path != path:
            self._answer(404, "No such thing", {})
            return
        if self.headers.get("Authorization") != f"Basic {secret}":
            body = "API access requires Basic HTTP authentication"
            self._answer(401, body if is_elks else json.dumps({"code": 20003, "message": "Authenticate"}), {})
            return
        told = provider.on_message(asked) if callable(provider.on_message) else provider.on_message
        time.sleep(provider.slow)
        if told is not None:
            status, body, headers = told if isinstance(told, tuple) else (told, "", {})
            self._answer(status, body, headers)
            return
        with provider.lock:
            provider.messages.append(asked)
            number = len(provider.messages)
        if provider.cuts("answer"):
            self._hang_up()
            return
        if is_elks:
            self._answer(200, json.dumps({"id": f"s{number}", "status": "created", "to": asked.to, "parts": 1}), {})
        else:
            self._answer(201, json.dumps({"sid": f"SM{number}", "status": "queued", "num_segments": "1"}), {})


REFUSALS: dict[str, dict[str, Answer]] = {
    "46elks": {
        "bad number": (400, "Invalid to number", {}),
        "no money": (403, "Not enough credits", {}),
    },
    "twilio": {
        "bad number": (400, json.dumps({"code": 21211, "message": "Invalid 'To' Phone Number", "status": 400}), {}),
        "no money": (403, json.dumps({"code": 20005, "message": "Account not active", "status": 403}), {}),
    },
}
"""How each says it."""


@pytest.fixture
def texts(settings: Any) -> Iterator[Provider]:
    """A provider; the settings of the test point to it, and ``texts.messages`` is what it accepted."""
    provider = Provider()
    handler: Callable[..., Any] = type("Handler", (_Handler,), {"provider": provider})
    server = ThreadingHTTPServer((provider.host, 0), handler)
    server.daemon_threads = True
    provider.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    settings.SMS = provider.options
    yield provider
    server.shutdown()
    server.server_close()

"""Asking others on behalf of somebody we do not trust: against a real server of this machine, which only tests may ask."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lifecycle_crm.lib import outward


class Site(BaseHTTPRequestHandler):
    asked: list[str]

    def _answer(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        status = {"/gone": 404, "/broken": 500, "/moved": 302, "/get-only": 200 if self.command == "GET" else 405}
        self.send_response(status.get(self.path.partition("?")[0], 200))
        self.send_header("Location", "/gone")
        self.end_headers()

    do_GET = do_HEAD = _answer

    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    Site.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def anybody(_address: str, _port: int) -> bool:
    return True


def test_it_says_what_an_address_answers(site: str) -> None:
    paths = ("/", "/gone", "/broken", "/moved", "/get-only", "/a?b=1&c=å")
    answers = outward.statuses([f"{site}{path}" for path in paths], allowed=anybody)
    assert list(answers.values()) == [200, 404, 500, 302, 200, 200]
    assert "GET /get-only" in Site.asked
    assert "HEAD /a?b=1&c=%C3%A5" in Site.asked


def test_it_asks_nobody_on_this_machine(site: str) -> None:
    port = site.rpartition(":")[2]
    names = ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0")
    answers = outward.statuses([f"http://{name}:{port}/" for name in names])
    assert set(answers.values()) == {0}
    assert Site.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1",
        "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:1::", "not an address", "",
    ],
)  # fmt: skip
def test_it_knows_what_is_not_public(address: str) -> None:
    assert not outward.is_public(address, 443)


def test_it_knows_what_is_public() -> None:
    assert outward.is_public("93.184.216.34", 443)
    assert outward.is_public("2606:2800:220:1:248:1893:25c8:1946", 80)
    assert not outward.is_public("93.184.216.34", 22)
    assert not outward.is_public("93.184.216.34", 6379)


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "ftp://127.0.0.1/", "file:///etc/passwd", "http://", "http://[", "http://127.0.0.1:x/", "http://a b/",
        "http://user:word@127.0.0.1/", "http://a\r\nX: y/", "http://" + "a" * 300 + ".example/", "gopher://127.0.0.1/",
    ],
)  # fmt: skip
def test_it_takes_no_address_that_is_none(url: str) -> None:
    with pytest.raises(outward.NoAnswer):
        outward.status_of(url, until=time.monotonic() + 1, allowed=anybody)


def test_it_writes_no_header_of_somebody_else(site: str) -> None:
    outward.statuses([f"{site}/x\r\nX-Evil: 1", f"{site}/y?z=1\nX: 2"], allowed=anybody)
    assert all("\n" not in one for one in Site.asked)
    assert len(Site.asked) == 2


def test_it_waits_no_longer_than_it_says() -> None:
    """One who takes the connection and says nothing, one who says a letter now and then, and one that is not there."""
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as silent,
        closing(socket.create_server(("127.0.0.1", 0))) as slow,
    ):
        stop = threading.Event()

        def drip() -> None:
            talking, _where = slow.accept()
            with talking:
                while not stop.wait(0.05):
                    try:
                        talking.sendall(b"H")
                    except OSError:
                        return

        threading.Thread(target=drip, daemon=True).start()
        start = time.monotonic()
        urls = [f"http://127.0.0.1:{one.getsockname()[1]}/" for one in (silent, slow)]
        answers = outward.statuses([*urls, "http://127.0.0.1:1/"], seconds=0.6, allowed=anybody)
        took = time.monotonic() - start
        stop.set()
    assert set(answers.values()) == {0}
    assert took < 3

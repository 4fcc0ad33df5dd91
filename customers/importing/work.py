"""A worker takes a run and works through it batch by batch: what a batch writes, its refusals, the counts and the line to go
on from are one transaction, so a killed import resumes without a double."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from customers import ingest
from customers.importing import lines as source
from customers.importing.cells import Columns, Line
from customers.importing.runs import TASK
from customers.ingest import Status
from customers.models import ImportRow, ImportRun
from lifecycle_crm.lib import batches, bell, clock, leases
from lifecycle_crm.lib.errors import Conflict, DomainError, InvalidInput

LEASE_SECONDS = 120
DRY_RUN_LEASE_SECONDS = 1800
"""A dry run is one transaction, so it cannot renew its lease on the way."""
DRY_RUN_REFUSALS = 10_000
"""So many refused lines of a dry run are kept; all are counted."""
_COUNTS = ("rows", "created", "updated", "unchanged", "refused", "customers_created")
_FIELD_NAMES = {"source_id": "order_id", "external_id": "customer_id"}


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
    for lines, next_line in source.Reader(row).batches(row.next_line):
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
    with batches.rehearsal():
        for lines, _next_line in source.Reader(row).batches(0):
            took = _take(row, lines)
            refusals += took.refusals[: DRY_RUN_REFUSALS - len(refusals)]
            _show(row, took.added_to(row), progress)
    with transaction.atomic():
        counts = {name: getattr(row, name) for name in _COUNTS}
        if ImportRun.objects.filter(pk=row.pk, lease_owner=owner).update(**counts) != 1:
            raise LeaseLost(_("Another worker has taken this import over."))
        ImportRow.objects.bulk_create(refusals, batch_size=source.BATCH)
        _finish(row, owner, ImportRun.State.DONE)


def _show(row: ImportRun, after: dict[str, int], progress: Callable[[ImportRun], None] | None) -> None:
    for name, value in after.items():
        setattr(row, name, value)
    if progress is not None:
        progress(row)


# --- One batch --------------------------------------------------------------------------------------------------------


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


def _take(row: ImportRun, lines: list[Line]) -> _Took:
    """Bring a batch in. The caller holds the transaction."""
    columns = Columns(row)
    took = _Took(rows=len(lines))

    def refuse(line: Line, name: str, reason: str) -> None:
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
    good: list[tuple[Line, Any]] = []
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

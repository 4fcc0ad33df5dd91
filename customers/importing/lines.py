"""The lines of a run's file as a stream of batches, each order with a number."""

from __future__ import annotations

import csv
import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from customers.importing.cells import Columns, Line
from customers.models import ImportRun
from lifecycle_crm.lib.errors import InvalidInput

BATCH = 2000


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


class Reader:
    """The lines of a run's file as a stream.

    An order without a number of its own gets one from what it is: customer, date, and a running number among the orders
    of that customer at that date. The same file again gives the same numbers.
    """

    def __init__(self, row: ImportRun) -> None:
        self.columns = Columns(row)
        self.path = Path(settings.VAR_DIR) / row.path
        self.is_numbering = row.kind == ImportRun.Kind.ORDERS
        self.numbers = _Numbers()

    def batches(self, next_line: int) -> Iterator[tuple[list[Line], int]]:
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
            lines: list[Line] = []
            try:
                next(reader, None)
                begins = reader.line_num + 1
                for cells in reader:
                    line, begins = Line(begins, cells), reader.line_num + 1
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

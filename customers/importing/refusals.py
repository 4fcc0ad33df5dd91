"""The refused lines as a file to mend and bring in again."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from django.utils.translation import gettext as _

from customers.importing.cells import guarded
from customers.importing.lines import BATCH
from customers.models import ImportRun


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

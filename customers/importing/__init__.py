"""Files come in: a CSV of customers or orders, read as a stream, batch by batch, and picked up where it stopped.

A file is copied under ``VAR_DIR/imports`` and becomes an ``ImportRun``. ``run`` claims it by a lease and works through it
in batches of 2,000 lines: what a batch writes, its refusals, the counts and the line to go on from are one transaction,
so a killed import resumes without a double. A dry run does all of it and rolls it back, so its numbers are those of the
real run; what stays is the run itself with its refused lines.
"""

from customers.importing.cells import guarded, unguarded
from customers.importing.fields import FIELDS, guess
from customers.importing.files import Preview, inspect
from customers.importing.refusals import refused_lines
from customers.importing.runs import WAITS_FOR_COLUMNS, again, choose, due, preview, receive, start
from customers.importing.work import run

__all__ = [
    "FIELDS",
    "WAITS_FOR_COLUMNS",
    "Preview",
    "again",
    "choose",
    "due",
    "guarded",
    "guess",
    "inspect",
    "preview",
    "receive",
    "refused_lines",
    "run",
    "start",
    "unguarded",
]

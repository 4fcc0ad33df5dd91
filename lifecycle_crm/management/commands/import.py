"""``manage.py import {customers,orders} FILE``: the import the page uses, run here and now."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from customers import importing
from customers.models import ImportRun
from lifecycle_crm.lib.errors import DomainError


class Command(BaseCommand):
    help = "Bring in a CSV file of customers or orders; good lines are kept, refused ones are listed with their reason."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("kind", choices=ImportRun.Kind.values)
        parser.add_argument("file", type=Path)
        parser.add_argument("--dry-run", action="store_true", help="Say what would happen and change nothing.")
        parser.add_argument(
            "--map",
            action="append",
            default=[],
            metavar="COLUMN=FIELD",
            help="Read a column as a field; COLUMN= leaves it out. Columns not named here are guessed. "
            + " ".join(f"{kind}: {', '.join(names)}." for kind, names in importing.FIELDS.items()),
        )
        parser.add_argument("--create-customers", action="store_true", help="Make the customers only the orders know.")
        parser.add_argument("--source", default="csv", help="The system the ids come from (default: csv).")
        parser.add_argument("--currency", default="", help=f"Where no column says (default: {settings.SHOP_CURRENCY}).")
        parser.add_argument(
            "--date-format", default="", help="Such as %%d.%%m.%%Y; default: 2026-03-31, with or without time."
        )
        parser.add_argument(
            "--encoding", default="", help="Such as cp1250; default: UTF-8, or what the file's mark says."
        )
        parser.add_argument("--delimiter", default="", help="Default: whichever of , ; TAB | fits.")
        parser.add_argument(
            "--refused", type=Path, help="Where to write the refused lines (default: beside the copy in VAR_DIR)."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        began = time.monotonic()
        try:
            row = self._start(options)
            done = importing.run(row.pk, progress=self._progress if options["verbosity"] > 1 else None)
        except DomainError as problem:
            raise CommandError(problem.message) from None
        if done is None:
            raise CommandError(f"Import {row.pk} was taken by another worker. Look at its page for the result.")
        self._report(done, time.monotonic() - began, options["refused"])
        if done.state == ImportRun.State.FAILED:
            raise CommandError(done.error)

    def _start(self, options: dict[str, Any]) -> ImportRun:
        file: Path = options["file"]
        if not file.is_file():
            raise CommandError(f"There is no file {file}. Give the path of a CSV file.")
        chosen = {}
        for pair in options["map"]:
            column, equals, field = pair.partition("=")
            if not equals:
                raise CommandError(f"--map {pair!r} is not COLUMN=FIELD.")
            chosen[column.strip()] = field.strip()
        delimiter = options["delimiter"].replace("\\t", "\t")
        preview = importing.inspect(file, options["kind"], encoding=options["encoding"], delimiter=delimiter)
        guessed = {c: f for c, f in preview.mapping.items() if c not in chosen and f not in chosen.values()}
        return importing.start(
            kind=options["kind"],
            file=file,
            mapping=guessed | chosen,
            options={
                "encoding": options["encoding"],
                "delimiter": delimiter,
                "date_format": options["date_format"],
                "currency": options["currency"],
                "create_customers": options["create_customers"],
            },
            is_dry_run=options["dry_run"],
            source=options["source"],
            is_waiting=False,
        )

    def _progress(self, row: ImportRun) -> None:
        self.stdout.write(f"  {row.rows:,} lines …")

    def _report(self, row: ImportRun, seconds: float, target: Path | None) -> None:
        read_as = ", ".join(f"{column} → {field}" for column, field in row.mapping.items())
        title = "Dry run, nothing was written" if row.is_dry_run else "Import"
        self.stdout.write(f"{title}: {row.file_name} ({read_as})")
        for label, count in (
            ("rows", row.rows),
            ("new", row.created),
            ("updated", row.updated),
            ("already there", row.unchanged),
            ("refused", row.refused),
            ("customers made", row.customers_created),
        ):
            self.stdout.write(f"  {label:<15}{count:>10,}")
        self.stdout.write(f"  {'seconds':<15}{seconds:>10.1f}")
        self.stdout.write(f"  {'rows per second':<15}{row.rows / max(seconds, 0.001):>10,.0f}")
        if not row.refused:
            return
        for refusal in row.refusals.order_by("line")[:5]:
            self.stdout.write(f"  line {refusal.line}: {refusal.reason}")
        target = target or Path(settings.VAR_DIR) / "imports" / f"refused-{row.pk}.csv"
        with target.open("w", encoding="utf-8", newline="") as stream:
            stream.writelines(importing.refused_lines(row))
        self.stdout.write(f"  all refused lines with their reasons: {target}")

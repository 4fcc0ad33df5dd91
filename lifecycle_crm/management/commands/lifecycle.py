from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from lifecycle_crm import lifecycle_code
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError
from lifecycle_crm.lifecycle_code import Document


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no date. Write it as 2026-11-20.") from None


class Command(BaseCommand):
    help = (
        "Stages, rules, segments, programmes and journeys as one YAML file: export, diff, import, test. "
        "A file named - is the terminal."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="{export,diff,import,test}")
        export = actions.add_parser("export", help="write the shop's lifecycle into a file")
        export.add_argument("--version-number", type=int, dest="version_number", help="of the rules; default: in force")
        diff = actions.add_parser("diff", help="what an import would change; exit 1 when something would")
        load = actions.add_parser("import", help="make drafts of rules and journeys, and write the rest")
        load.add_argument("--dry-run", action="store_true", help="tell what would happen, and write nothing")
        load.add_argument("--publish", action="store_true", help="put the rules in force at once, quietly")
        load.add_argument("--confirm", default="", help="with --publish above the brake: how many customers would move")
        test = actions.add_parser("test", help="ask the rules about the examples in the file; exit 1 when one is wrong")
        test.add_argument("--as-of", type=_day, help="default: the last complete day")
        for one in (export, diff, load, test):
            one.add_argument("file", metavar="FILE")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except DomainError as problem:
            raise CommandError(problem.message) from problem
        except OSError as problem:
            raise CommandError(f"{options['file']}: {problem.strerror}. Check the path.") from problem

    def _read(self, options: dict[str, Any]) -> Document:
        if options["file"] == "-":
            return lifecycle_code.read(sys.stdin, "standard input")
        with Path(options["file"]).open(encoding="utf-8") as stream:
            return lifecycle_code.read(stream, options["file"])

    def _export(self, options: dict[str, Any]) -> None:
        text = lifecycle_code.export(options["version_number"])
        if options["file"] == "-":
            self.stdout.write(text, ending="")
        else:
            Path(options["file"]).write_text(text, encoding="utf-8")

    def _diff(self, options: dict[str, Any]) -> None:
        if text := lifecycle_code.diff(self._read(options)):
            self.stdout.write(text, ending="")
            sys.exit(1)

    def _import(self, options: dict[str, Any]) -> None:
        found = lifecycle_code.load(
            document=self._read(options),
            dry_run=options["dry_run"],
            publish=options["publish"],
            confirm=options["confirm"],
        )
        for line in found.told:
            self.stdout.write(f"Would be: {line}" if options["dry_run"] else line)

    def _test(self, options: dict[str, Any]) -> None:
        results = lifecycle_code.examine(self._read(options), options["as_of"] or clock.last_complete_day())
        for result in results:
            if result.is_right:
                self.stdout.write(f"ok     {result.name}: {result.decided}")
            else:
                self.stdout.write(
                    f"WRONG  {result.name} (line {result.line}): expected {result.expected}, decided {result.decided}"
                )
        right, all_of_them = lifecycle_code.counted(results)
        self.stdout.write(f"{right} of {all_of_them} examples are right.")
        if right < all_of_them:
            sys.exit(1)

from __future__ import annotations

import time
from argparse import ArgumentParser
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from lifecycle_crm import night
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError


class Command(BaseCommand):
    help = "Run nights in order, as of their dates, quietly: stages move and points are earned, nobody is written to."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", dest="first", type=date.fromisoformat, required=True)
        parser.add_argument("--to", dest="last", type=date.fromisoformat, help="default: the last complete day")

    def handle(self, *args: Any, **options: Any) -> None:
        began = time.monotonic()
        last = options["last"] or clock.last_complete_day()
        try:
            count = night.replay(options["first"], last, progress=lambda line: self.stdout.write(f"  {line}"))
        except DomainError as problem:
            raise CommandError(problem.message) from problem
        self.stdout.write(f"Replayed {count} nights in {time.monotonic() - began:.1f} s.")

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from lifecycle_crm import verify


class Command(BaseCommand):
    help = "Check every invariant: exit 1 and a list when one breaks."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--quiet", action="store_true", help="print only what is wrong")

    def handle(self, *args: Any, **options: Any) -> None:
        wrong = 0
        for name, found in verify.problems():
            if not found and not options["quiet"]:
                self.stdout.write(f"ok      {name}")
            for line in found:
                wrong += 1
                self.stdout.write(f"BROKEN  {name}: {line}")
        if wrong:
            raise CommandError(f"{wrong} broken promises. The lines above say where.")

from __future__ import annotations

import subprocess
import sys
import time
from argparse import ArgumentParser
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from lifecycle_crm import night, undo
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError
from stages.models import Night

MOST_SHOWN = 50


class Command(BaseCommand):
    help = "Run one night: facts, points, stages, win-back and rollups of one business date."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--date", type=date.fromisoformat, help="business date; default: the last complete day")
        parser.add_argument("--full", action="store_true", help="look at everybody, not only at who changed or is due")
        parser.add_argument("--dry-run", action="store_true", help="print who would move, write nothing")
        parser.add_argument("--workers", type=int, default=1, help="processes that share the night")
        parser.add_argument("--undo", action="store_true", help="take back the moves of a night of the last 24 hours")
        parser.add_argument("--join", action="store_true", help="help with a night that is running")

    def handle(self, *args: Any, **options: Any) -> None:
        day: date = options["date"] or clock.last_complete_day()
        try:
            if options["undo"]:
                self.undo(day)
                return
            if options["dry_run"]:
                self.preview(day, options["full"])
                return
            if options["join"]:
                running = Night.objects.filter(business_date=day, state=Night.State.RUNNING).first()
                if running:
                    night.work(running)
                return
            self.run(day, options["full"], options["workers"])
        except DomainError as problem:
            raise CommandError(problem.message) from problem

    def run(self, day: date, is_full: bool, workers: int) -> None:
        began = time.monotonic()
        already = Night.objects.filter(business_date=day, state=Night.State.DONE).exists()
        night.start(day, is_full=is_full)
        helpers = [
            subprocess.Popen([sys.executable, sys.argv[0], "night", "--date", day.isoformat(), "--join"])
            for _ in range(0 if already else workers - 1)
        ]
        done = night.run(day, is_full=is_full, progress=lambda step: self.stdout.write(f"  {step}"))
        for helper in helpers:
            helper.wait()
        if already:
            self.stdout.write(f"Night of {day} was already run: {self.sums(done.counts)}. Nothing to do.")
            return
        seconds = time.monotonic() - began
        self.stdout.write(f"Night of {day}: {self.sums(done.counts)} in {seconds:.1f} s.")
        if done.state != Night.State.DONE:
            raise CommandError(f"The night stopped: {done.error}")

    def undo(self, day: date) -> None:
        found = undo.undo(day=day, actor=None)
        self.stdout.write(f"Night of {day} undone: {self.sums(found.undo)}.")
        for campaign, count in sorted(undo.gone_out(found).items()):
            self.stdout.write(f"  cannot be called back: {count} messages of {campaign}")

    def preview(self, day: date, is_full: bool) -> None:
        found = night.preview(day, is_full=is_full)
        self.stdout.write(f"Night of {day} would give: {self.sums(found.counts)}.")
        for (source, target), count in sorted(found.flows.items()):
            self.stdout.write(f"  {source or 'new'} → {target}: {count}")
        for pk, name, source, target, rule in found.moves[:MOST_SHOWN]:
            self.stdout.write(f"    #{pk} {name}: {source or 'new'} → {target} by {rule}")
        if len(found.moves) > MOST_SHOWN:
            self.stdout.write(f"    … and {len(found.moves) - MOST_SHOWN} more")
        self.stdout.write("Nothing was written.")

    @staticmethod
    def sums(counts: dict[str, int]) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sorted(counts.items())) or "nothing"

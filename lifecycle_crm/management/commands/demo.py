"""``manage.py demo``: the sample shop at any size, with its history of nights."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from customers.models import Customer
from lifecycle_crm import night
from lifecycle_crm.demo import club, shop
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError
from lifecycle_crm.lib.models import Note
from stages.models import Night


class Command(BaseCommand):
    help = "Load the sample shop (real purchases, invented names) into an empty database and replay its nights."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--customers", type=int, help="Resample the real histories to so many people.")
        parser.add_argument("--seed", type=int, default=shop.SEED, help=f"Same seed, same shop (default: {shop.SEED}).")
        parser.add_argument("--no-nights", action="store_true", help="Load only; replay the nights later.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            note = self._load(options["customers"], options["seed"])
            if note and not note["nights"] and not options["no_nights"]:
                self._replay(note)
        except DomainError as problem:
            raise CommandError(problem.message) from None

    def _say(self, text: str, began: float) -> None:
        self.stdout.write(f"  {text} ({time.monotonic() - began:.1f} s)")
        self.stdout.flush()

    def _load(self, customers: int | None, seed: int) -> dict[str, Any] | None:
        began = time.monotonic()
        if path := shop.make_owner():
            self._say(f"owner is there; sign-in in {path}", began)
        if Customer.objects.exists():
            known = Note.objects.filter(name=shop.NOTE).first()
            what = "the sample shop is there" if known else "there are customers already, so no sample shop is loaded"
            self.stdout.write(f"  {what}")
            return known.value if known else None
        began = time.monotonic()
        note = shop.build(customers=customers, seed=seed, progress=lambda text: self._say(text, began))
        self._say(
            f"{note['customers']:,} people ({note['buyers']:,} with real purchases) and {note['orders']:,} orders from "
            f"{note['from']} to {note['to']} are loaded",
            began,
        )
        return note

    def _replay(self, note: dict[str, Any]) -> None:
        began = time.monotonic()
        first, last = date.fromisoformat(note["from"]), date.fromisoformat(note["to"])
        count = redeemed = 0
        for start, end in _months(first, last):
            count += night.replay(start, end, progress=lambda text: self._say(f"nights replayed up to {text}", began))
            if not Night.objects.filter(business_date__gt=end).exists():
                # On the morning after; after the last night now, so that the shop has something to hand out today.
                at = clock.day_end(end) + timedelta(hours=10) if end < last else None
                redeemed += club.redeem_some(seed=note["seed"], day=end, at=at)
        Note.objects.filter(name=shop.NOTE).update(value={**note, "nights": True})
        self._say(f"{count} nights are replayed, with {redeemed} invented redemptions between them", began)


def _months(first: date, last: date) -> Iterator[tuple[date, date]]:
    """The dates in parts that end with the first of a month."""
    start = first
    while start <= last:
        of_next = (start.replace(day=1) + timedelta(days=32)).replace(day=1)
        end = min(start if start.day == 1 else of_next, last)
        yield start, end
        start = end + timedelta(days=1)

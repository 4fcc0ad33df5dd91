"""The real purchases, and what they bought: moved in time, cut into lines of an invented catalogue."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

SAMPLE = Path(__file__).parent / "data" / "cdnow_sample_transactions.csv"

HOURS = tuple(range(7, 23))
_HOUR_SHARES = (2, 3, 5, 6, 6, 7, 6, 5, 5, 6, 7, 8, 10, 12, 9, 5)

CATALOGUE: dict[str, tuple[str, ...]] = {
    "rock": ("Concrete Garden", "Loud Weather", "Second Gear", "Rust and Honey", "Northbound", "Half Past Thunder"),
    "classical": ("String Quartets, Vol. 2", "Winter Cantatas", "Piano Pieces for Evening", "Overtures", "Cello Alone"),
    "jazz": ("Blue Stairwell", "Late Tram", "Four in a Kitchen", "Smoke over Water Street", "Standards, Slowly"),
    "pop": ("Paper Boats", "Telephone Summer", "Bright Side Street", "Sugar Season", "Dance Like Rain", "Radio Kite"),
    "soundtrack": ("The Lighthouse Keeper", "A Train to Elsewhere", "Night Ferry", "The Long Orchard"),
    "folk": ("Songs from the Valley", "Three Fiddles", "Harvest and Hearth", "The Miller's Road"),
}


@dataclass(frozen=True, slots=True)
class Purchase:
    day: date
    items: int
    cents: int


@dataclass(frozen=True, slots=True)
class History:
    """All purchases of one real person, in order; ``number`` is theirs in the full data set."""

    number: str
    purchases: tuple[Purchase, ...]


@dataclass(frozen=True, slots=True)
class Line:
    sku: str
    title: str
    quantity: int
    unit_minor: int


def read(path: Path = SAMPLE) -> list[History]:
    """The histories of the sample in the order of the file."""
    people: dict[str, list[Purchase]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            cents = int(Decimal(row["value"]).scaleb(2))
            people.setdefault(row["master_id"], []).append(
                Purchase(date.fromisoformat(row["date"]), int(row["cds"]), cents)
            )
    return [
        History(number, tuple(sorted(bought, key=lambda one: one.day))) for number, bought in sorted(people.items())
    ]


def products() -> list[tuple[str, str, str]]:
    """``(SKU, title, category)`` of the invented catalogue."""
    return [
        (f"{category[:4].upper()}-{place:02d}", title, category)
        for category, titles in CATALOGUE.items()
        for place, title in enumerate(titles, start=1)
    ]


_SHELVES: dict[str, list[tuple[str, str]]] = {}
for _sku, _title, _category in products():
    _SHELVES.setdefault(_category, []).append((_sku, _title))
_CATEGORIES = list(_SHELVES)
_CATEGORY_SHARES = (30, 12, 14, 26, 8, 10)


def taste(rng: Random) -> str:
    """The category somebody mostly buys from."""
    return rng.choices(_CATEGORIES, _CATEGORY_SHARES)[0]


def lines(purchase: Purchase, favourite: str, rng: Random) -> list[Line]:
    """Lines whose quantities add up to the CDs bought and whose prices add up to the dollars paid, to the cent."""
    count = min(purchase.items, rng.choice((1, 2, 3, 4)))
    left, cents = purchase.items, purchase.cents
    unit = cents // purchase.items
    made: list[Line] = []
    taken: set[str] = set()
    for place in range(count):
        category = favourite if rng.random() < 0.7 else rng.choice(_CATEGORIES)
        shelf = [one for one in _SHELVES[category] if one[0] not in taken] or _SHELVES[category]
        sku, title = rng.choice(shelf)
        taken.add(sku)
        if place < count - 1:
            quantity = rng.randint(1, left - (count - 1 - place))
            price = int(unit * rng.uniform(0.85, 1.1))
            price = min(price, cents // quantity)
            made.append(Line(sku, title, quantity, price))
            left -= quantity
            cents -= quantity * price
            continue
        price, rest = divmod(cents, left)
        if rest == 0:
            made.append(Line(sku, title, left, price))
        else:
            # The odd cents go to one copy, as a line of its own.
            if left > 1:
                made.append(Line(sku, title, left - 1, price))
            made.append(Line(sku, title, 1, price + rest))
    return made


def moment(day: date, zone: ZoneInfo, rng: Random) -> datetime:
    """A plausible time of that day in the shop's zone, as UTC."""
    hour = rng.choices(HOURS, _HOUR_SHARES)[0]
    local = datetime.combine(day, time(hour, rng.randrange(60), rng.randrange(60)), tzinfo=zone)
    return local.astimezone(UTC)


def moved(history: History, days: int) -> list[Purchase]:
    return [Purchase(one.day + timedelta(days=days), one.items, one.cents) for one in history.purchases]

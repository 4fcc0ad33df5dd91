"""Build the sample shop: set-based, in one transaction, the same rows for the same seed and day."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Min

from campaigns.signups import editing
from customers import facts
from customers.ingest.items import insert
from customers.models import Consent, Customer, CustomerFacts, Event, ExternalId, Order, OrderLine, Product
from feedback import surveys
from lifecycle_crm.accounts.models import User
from lifecycle_crm.demo import club, histories, people, programmes, words
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.models import Note
from lifecycle_crm.lib.moments import parameter
from stages import presets

SEED = 1998
NOTE = "sample_shop"
TEXT = "sample shop: real purchases from 1997–98, moved to end today; invented names"
"""What every page says of it (translated where it is shown)."""

REAL, INVENTED = "cdnow", "invented"
CURRENCY = "USD"
LEADS = 0.15
"""Share of the people who never bought."""
BATCH = 2000

Progress = Callable[[str], None]


@dataclass(slots=True)
class Person:
    """One customer to be, with all that is theirs."""

    customer: Customer
    number: str
    orders: list[tuple[str, datetime, histories.Purchase, list[histories.Line]]] = field(default_factory=list)
    events: list[tuple[str, datetime, dict[str, Any]]] = field(default_factory=list)
    consents: list[tuple[bool, datetime]] = field(default_factory=list)
    answer: tuple[int, str, datetime] | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The time the shop has been open for."""

    first: date
    last: date
    moved_days: int
    opens: datetime
    ends: datetime

    @classmethod
    def of(cls, base: list[histories.History]) -> Window:
        days = [one.day for history in base for one in history.purchases]
        last = clock.last_complete_day()
        moved = (last - max(days)).days
        first = min(days) + timedelta(days=moved)
        return cls(first, last, moved, clock.day_start(first), clock.day_end(last))


def build(*, customers: int | None = None, seed: int = SEED, progress: Progress | None = None) -> dict[str, Any]:
    """Load the shop; the value of its note. ``customers`` resamples the real histories to that many people.

    Raises ``InvalidInput`` where the shop counts in another currency or already has customers.
    """
    if settings.SHOP_CURRENCY != CURRENCY:
        raise InvalidInput(
            f"The sample shop was paid in {CURRENCY}, but SHOP_CURRENCY is {settings.SHOP_CURRENCY}. Unset it, or bring in "
            "your own orders with manage.py import."
        )
    if customers is not None and customers < 1:
        raise InvalidInput("A shop needs at least one customer. Use --customers 1 or more.")
    if Customer.objects.exists():
        raise InvalidInput("There are customers already. The sample shop is only for an empty database.")
    base = histories.read()
    window = Window.of(base)
    total = customers if customers is not None else math.ceil(len(base) / (1 - LEADS))
    buyers = len(base) if customers is None else max(1, round(customers * (1 - LEADS)))
    orders = 0
    with transaction.atomic():
        survey = surveys.install()
        Product.objects.bulk_create(
            [Product(sku=sku, name=title, category=category) for sku, title, category in histories.products()]
        )
        shelf = dict(Product.objects.values_list("sku", "id"))
        done = 0
        for some in batches.of(_people(base, window, buyers, total, is_real=customers is None, seed=seed), BATCH):
            orders += _store(some, shelf)
            surveys.record_many(survey=survey, source=INVENTED, answers=_answers(some))
            done += len(some)
            if progress and done % (10 * BATCH) == 0:
                progress(f"{done:,} of {total:,} people")
        club.install()
        club.bring_friends(seed=seed)
        programmes.install(seed=seed, opens=window.opens, ends=window.ends)
        editing.create(name="Newsletter", tag="newsletter", asks_name=True)
        note = {
            "customers": total,
            "buyers": buyers,
            "orders": orders,
            "from": window.first.isoformat(),
            "to": window.last.isoformat(),
            "moved_days": window.moved_days,
            "seed": seed,
            "text": TEXT,
            "nights": False,
        }
        Note.objects.update_or_create(name=NOTE, defaults={"value": note})
        set_rules(window.ends)
    return note


def set_rules(as_of: datetime) -> None:
    """Publish the default rules with the rhythm of the whole history, then forget the facts it was read from."""
    ends = Customer.objects.aggregate(low=Min("pk"), high=Max("pk"))
    with facts.batch():
        facts.add_everyone(ends["low"], ends["high"] + 1, as_of=as_of)
        facts.refresh(as_of=as_of)
    presets.install()
    CustomerFacts.objects.all().delete()


# --- Who ----------------------------------------------------------------------------------------------------------------


def _people(
    base: list[histories.History], window: Window, buyers: int, total: int, *, is_real: bool, seed: int
) -> Iterator[Person]:
    """Everybody, one at a time. Each has a random stream of their own, so they do not depend on who came before."""
    now = clock.now()
    zone = clock.zone()
    for index in range(total):
        rng = Random(seed * 1_000_003 + index)
        customer = people.invent(index + 1, rng, window.last)
        customer.loaded_at = now
        if index < buyers:
            history = base[index] if is_real else rng.choice(base)
            back = 0 if is_real else rng.randrange(7)
            number = history.number if is_real else f"{history.number}-{index + 1}"
            person = _buyer(customer, number, histories.moved(history, window.moved_days - back), window, zone, rng)
        else:
            person = _lead(customer, f"lead-{index + 1}", window, rng)
        person.events = sorted(
            (one for one in person.events if window.opens <= one[1] < window.ends), key=lambda e: e[1]
        )
        _ask_consent(person, window, rng)
        yield person


def _buyer(
    customer: Customer, number: str, purchases: list[histories.Purchase], window: Window, zone: Any, rng: Random
) -> Person:
    person = Person(customer, number)
    favourite = histories.taste(rng)
    moments = sorted(histories.moment(one.day, zone, rng) for one in purchases)
    for place, (purchase, at) in enumerate(zip(purchases, moments, strict=True), start=1):
        person.orders.append((f"{number}-{place}", at, purchase, histories.lines(purchase, favourite, rng)))
        if rng.random() < 0.35:
            person.events.append(("visit", at - timedelta(minutes=rng.randint(3, 2000)), {"page": favourite}))
        if rng.random() < 0.12:
            person.events.append(("cart", at - timedelta(minutes=rng.randint(2, 90)), {"items": purchase.items}))
    first, last = moments[0], moments[-1]
    if rng.random() < 0.5:
        person.events.append(("sign_up", first - timedelta(minutes=rng.randint(1, 30)), {}))
    if rng.random() < 0.18:
        for _visit in range(rng.randint(1, 3)):
            person.events.append(("visit", last + timedelta(minutes=rng.randint(3_000, 300_000)), {"page": favourite}))
    if len(moments) > 1 and rng.random() < (0.10 if len(moments) < 4 else 0.28):
        at = rng.choice(moments[1:]) + timedelta(minutes=rng.randint(9_000, 40_000))
        person.events.append(("review", at, {"stars": rng.choice((4, 5, 5)), "category": favourite}))
    if len(moments) > 1 and rng.random() < (0.05 if len(moments) < 4 else 0.18):
        at = rng.choice(moments[1:]) + timedelta(minutes=rng.randint(3_000, 60_000))
        person.events.append(("referral", at, {"friends": rng.choice((1, 1, 2))}))
    if rng.random() < 0.12:
        at = rng.choice(moments) + timedelta(minutes=rng.randint(4_000, 30_000))
        if at < window.ends:
            points = words.score(len(moments), rng)
            said = words.comment(customer.language, points, rng) if rng.random() < 0.65 else ""
            person.answer = (points, said, at)
    early = [at for _name, at, _properties in person.events if window.opens <= at < first]
    customer.known_since = min([first, *early])
    return person


def _lead(customer: Customer, number: str, window: Window, rng: Random) -> Person:
    person = Person(customer, number)
    span = int((window.ends - window.opens).total_seconds()) - 3600
    at = window.opens + timedelta(seconds=rng.randrange(span))
    customer.known_since = at
    if rng.random() < 0.3:
        return person  # We know the address and nothing else.
    person.events.append(("sign_up", at, {}))
    for _visit in range(rng.randint(0, 4)):
        person.events.append(("visit", at + timedelta(minutes=rng.randint(5, 90_000)), {"page": histories.taste(rng)}))
    if rng.random() < 0.3:
        person.events.append(("cart", at + timedelta(minutes=rng.randint(8, 20_000)), {"items": rng.randint(1, 3)}))
    return person


def _ask_consent(person: Person, window: Window, rng: Random) -> None:
    chance = rng.random()
    at = person.customer.known_since + timedelta(seconds=rng.randint(20, 300))
    if at >= window.ends or chance >= 0.78:
        return
    person.consents.append((chance < 0.70, at))
    later = at + timedelta(minutes=rng.randint(20_000, 600_000))
    if chance < 0.05 and later < window.ends:
        person.consents.append((False, later))


# --- Writing --------------------------------------------------------------------------------------------------------------

_ORDER = (
    "customer_id", "source", "source_id", "placed_at", "status", "currency", "amount_minor", "refunded_minor", "rate",
    "base_minor", "items", "is_counted", "is_history", "received_at",
)  # fmt: skip
_LINE = ("order_id", "product_id", "title", "quantity", "unit_minor", "discount_minor")
_EVENT = ("customer_id", "name", "occurred_at", "received_at", "source", "source_id", "properties", "is_history")


def _store(some: list[Person], shelf: dict[str, int]) -> int:
    """Write a batch of people with all that is theirs; how many orders."""
    Customer.objects.bulk_create([person.customer for person in some])
    ExternalId.objects.bulk_create(
        [
            ExternalId(customer=person.customer, source=REAL if person.orders else INVENTED, value=person.number)
            for person in some
        ]
    )
    received = parameter(some[0].customer.loaded_at)
    orders = [(person, *order) for person in some for order in person.orders]
    insert(
        Order._meta.db_table,
        _ORDER,
        (
            (
                person.customer.pk, REAL, number, parameter(at), Order.Status.PLACED.value, CURRENCY, purchase.cents, 0,
                "1", purchase.cents, purchase.items, True, True, received,
            )
            for person, number, at, purchase, _lines in orders
        ),
    )  # fmt: skip
    ids: dict[str, int] = {}
    for numbers in batches.of((order[1] for order in orders), BATCH):
        ids.update(Order.objects.filter(source=REAL, source_id__in=numbers).values_list("source_id", "id"))
    insert(
        OrderLine._meta.db_table,
        _LINE,
        (
            (ids[number], shelf[line.sku], line.title, line.quantity, line.unit_minor, 0)
            for _person, number, _at, _purchase, lines in orders
            for line in lines
        ),
    )
    insert(
        Event._meta.db_table,
        _EVENT,
        (
            (
                person.customer.pk, name, parameter(at), received, INVENTED, f"{person.number}-{place}",
                json.dumps(properties), True,
            )
            for person in some
            for place, (name, at, properties) in enumerate(person.events, start=1)
        ),
    )  # fmt: skip
    Consent.objects.bulk_create(
        [
            Consent(
                customer=person.customer,
                purpose=Consent.Purpose.MARKETING,
                channel=Consent.Channel.EMAIL,
                is_granted=is_granted,
                wording="sample-1",
                source=INVENTED,
                language=person.customer.language,
                occurred_at=at,
                recorded_at=person.customer.loaded_at,
            )
            for person in some
            for is_granted, at in person.consents
        ]
    )
    facts.mark_each(
        (person.customer.pk, at, True)
        for person in some
        for at in sorted(
            {
                person.customer.known_since,
                *(order[1] for order in person.orders),
                *(event[1] for event in person.events),
                *(consent[1] for consent in person.consents),
            }
        )
    )
    return len(orders)


def _answers(some: list[Person]) -> Iterator[surveys.Given]:
    for person in some:
        if person.answer is not None:
            points, said, at = person.answer
            yield surveys.Given(
                customer=person.customer,
                score=points,
                answered_at=at,
                source_id=f"{person.number}-nps",
                comment=said,
                language=person.customer.language,
                is_history=True,
            )


# --- Who signs in -------------------------------------------------------------------------------------------------------------


def make_owner() -> Path | None:
    """The first user of an empty installation; where the sign-in was written, ``None`` if somebody can sign in already."""
    if User.objects.exists():
        return None
    address, password = "demo@shop.example", secrets.token_urlsafe(12)
    path = Path(settings.VAR_DIR) / "sign-in.txt"
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(f"{address}\n{password}\n", encoding="utf-8")
    User.objects.create_superuser(address, password, name="Demo Owner")
    return path


def seconds_since(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"

"""Every invariant the product promises, checked against the rows. An empty list means all of them hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from django.db import transaction

from campaigns import audit as campaigns_audit
from customers import facts
from customers.models import Customer, DirtyCustomer
from feedback import audit as feedback_audit
from lifecycle_crm import reactions
from lifecycle_crm.dashboard import rollups
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.models import SetAside
from loyalty import audit as loyalty_audit
from loyalty import catalogue as loyalty_catalogue
from loyalty import pictures as loyalty_pictures
from loyalty import tiers
from stages.models import Chunk, Night

NAMED = 10
"""How many offenders a line names before it only counts."""


class _Undo(Exception):
    pass


def facts_equal_a_rebuild() -> Iterator[str]:
    """Recompute everybody's facts inside a transaction that is rolled back; rows that would be written are wrong.

    Customers with dirty rows are behind by design until they are settled, so they are not judged.
    """
    now = clock.whole_now()
    without = Customer.objects.filter(facts=None, known_since__lt=now)
    wrong = list(without.values_list("pk", flat=True))
    for low, high in batches.id_ranges(Customer, 50_000):
        try:
            with transaction.atomic(), facts.batch():
                facts.add_everyone(low, high, as_of=now)
                reactions.hand_down(as_of=now)
                wrong += facts.unwritten()
                raise _Undo
        except _Undo:
            pass
    behind = set(DirtyCustomer.objects.values_list("customer_id", flat=True))
    yield from _named("facts differ from a rebuild", [pk for pk in wrong if pk not in behind])


def stage_history_is_continuous() -> Iterator[str]:
    """Each move starts where the one before it ended, and the facts stand where the last one ended."""
    breaks = batches.rows(
        """
        SELECT customer_id FROM (
            SELECT customer_id, from_stage,
                   lag(to_stage, 1, '') OVER (PARTITION BY customer_id ORDER BY id) AS stood
            FROM stages_stagetransition
        ) t WHERE from_stage <> stood ORDER BY customer_id
        """
    )
    yield from _named("stage history has a gap", [pk for (pk,) in breaks])
    strays = batches.rows(
        """
        SELECT f.customer_id FROM customers_customerfacts f
        LEFT JOIN (
            SELECT customer_id, to_stage, row_number() OVER (PARTITION BY customer_id ORDER BY id DESC) AS place
            FROM stages_stagetransition
        ) t ON t.customer_id = f.customer_id AND t.place = 1
        WHERE f.stage <> coalesce(t.to_stage, '') ORDER BY f.customer_id
        """
    )
    yield from _named("stage differs from the last move", [pk for (pk,) in strays])
    silent = batches.rows(
        "SELECT customer_id FROM stages_stagetransition "
        "WHERE kind = 'rule' AND (rule = '' OR CAST(evidence AS text) IN ('{}', 'null', '')) ORDER BY customer_id"
    )
    yield from _named("a move by rule without evidence", [pk for (pk,) in silent])


def nights_are_whole() -> Iterator[str]:
    """A finished night has no unfinished part, and nothing was set aside for good without being named."""
    for day in Night.objects.filter(state=Night.State.DONE, chunks__state__in=["waiting", "running"]).values_list(
        "business_date", flat=True
    ):
        yield f"Night of {day} is called done but has unfinished parts."
    for chunk in Chunk.objects.filter(state=Chunk.State.FAILED).select_related("night")[:NAMED]:
        whom = f"customers {chunk.low}–{chunk.high - 1}"
        yield f"Night of {chunk.night.business_date}: {chunk.step} set aside {whom}: {chunk.error}"
    for row in SetAside.objects.filter(attempts__gte=reactions.TRIES)[:NAMED]:
        yield f"{row}: {row.error}"


def _named(what: str, customers: list[int]) -> Iterator[str]:
    if customers:
        names = ", ".join(f"#{pk}" for pk in sorted(set(customers))[:NAMED])
        more = len(set(customers)) - NAMED
        yield f"{what}: customers {names}" + (f" and {more} more" if more > 0 else "")


CHECKS: list[tuple[str, Callable[[], Iterator[str] | list[str]]]] = [
    ("facts equal a rebuild", facts_equal_a_rebuild),
    ("stage history is continuous", stage_history_is_continuous),
    ("nights are whole", nights_are_whole),
    ("points balance to the last one", loyalty_audit.problems),
    ("tiers equal their last change", tiers.problems),
    ("rewards, vouchers and referrals equal their points", loyalty_catalogue.problems),
    ("pictures of rewards are what was stored", loyalty_pictures.problems),
    ("answers, scores and cases agree", feedback_audit.problems),
    ("every recipient is accounted for", campaigns_audit.problems),
    ("rollups equal their rows", rollups.problems),
]


def problems() -> Iterator[tuple[str, list[str]]]:
    """Each check by name with what it found."""
    for name, check in CHECKS:
        yield name, list(check())

"""Everything a night writes, as values that two runs can be compared by: no row numbers of ours, no clock of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import models, transaction

from campaigns.models import Message, Run
from customers.models import (
    CustomerFacts,
    DirtyCustomer,
    RfmChange,
    RfmCuts,
    RfmDay,
    Segment,
    SegmentChange,
    SegmentDay,
    SegmentStanding,
)
from lifecycle_crm.dashboard.models import FlowDay, LateDay, ReportDay, RetentionDay, StageDay, TradeDay
from lifecycle_crm.lib.models import SetAside
from loyalty.models import Account, Entry, Lot, LotSpend, Posting
from stages.models import Night, StageTransition

TABLES: dict[str, tuple[type[models.Model], str]] = {
    "facts": (
        CustomerFacts,
        "customer__email_key orders first_order_at last_order_at spend_minor gap_seconds engaged_at may_email recency "
        "frequency monetary points tier nps_score answered_at open_cases clicked_at stage stage_since next_review_at is_quiet",
    ),
    "moves": (
        StageTransition,
        "customer__email_key id night__business_date from_stage to_stage kind occurred_at business_date "
        "rule_set__version rule evidence reason is_quiet",
    ),
    "accounts": (Account, "customer__email_key balance pending debt earned adjusted spent expired reversed frozen_at"),
    "entries": (Entry, "customer__email_key kind points effective_at explanation"),
    "postings": (Posting, "account__customer__email_key entry__kind entry__effective_at ledger points"),
    "lots": (Lot, "customer__email_key amount remaining active_at expires_at activated_at"),
    "spends": (LotSpend, "lot__customer__email_key entry__kind entry__effective_at lot__active_at points"),
    "segments": (Segment, "key version members is_exact"),
    "membership": (SegmentStanding, "segment__key customer__email_key"),
    "segment changes": (SegmentChange, "segment__key customer__email_key kind business_date"),
    "segment days": (SegmentDay, "segment__key business_date version members entered left is_first"),
    "rfm cuts": (RfmCuts, "computed_on recency_days frequency monetary_minor buyers"),
    "rfm days": (RfmDay, "business_date group customers revenue_minor"),
    "rfm changes": (RfmChange, "customer__email_key id from_group to_group business_date"),
    "stage days": (StageDay, "business_date stage customers entered left"),
    "flow days": (FlowDay, "business_date from_stage to_stage moves"),
    "trade days": (
        TradeDay,
        "business_date orders revenue_minor buyers first_buyers first_revenue_minor regular_revenue_minor returned",
    ),
    "retention days": (RetentionDay, "business_date days buyers_before came_back lost"),
    "report days": (
        ReportDay,
        "business_date points_outstanding points_liability_minor points_expiring members treated treated_back held_out "
        "held_out_back",
    ),
    "late days": (LateDay, "business_date"),
    "runs": (Run, "campaign__name key state as_of audience variants guard"),
    "messages": (Message, "run__key customer__email_key channel state reason address language tries"),
    "nights": (Night, "business_date as_of state error"),
    "set aside": (SetAside, "kind attempts"),
}
"""Name → model and columns. An ``id`` stands for the place among the rows of the same customer."""

Picture = dict[str, list[tuple[Any, ...]]]


@contextmanager
def nothing_stays() -> Iterator[None]:
    """What happens inside is rolled back: the next run starts from the same tables."""

    class Back(Exception):
        pass

    try:
        with transaction.atomic():
            yield
            raise Back
    except Back:
        pass


def take(*without: str) -> Picture:
    """Every table but ``without``, each in an order that depends on values alone."""
    return {name: _rows(*table) for name, table in TABLES.items() if name not in without} | _dirty()


def _rows(model: type[models.Model], columns: str) -> list[tuple[Any, ...]]:
    names = columns.split()
    rows = [tuple(row) for row in model._default_manager.order_by("pk").values_list(*names)]
    if "id" in names:
        # The order of a customer's moves is part of what happened to them; the numbers are not.
        place, owner = names.index("id"), names.index("customer__email_key")
        seen: dict[Any, int] = {}
        for i, row in enumerate(rows):
            seen[row[owner]] = seen.get(row[owner], 0) + 1
            rows[i] = (*row[:place], seen[row[owner]], *row[place + 1 :])
    return sorted(rows, key=repr)


def _dirty() -> Picture:
    """Who waits for a refresh. How many marks say so does not matter: one is as good as five."""
    waiting = DirtyCustomer.objects.values_list("customer_id", flat=True).distinct()
    emails = dict(CustomerFacts.objects.values_list("pk", "customer__email_key"))
    return {"waiting": sorted((emails.get(pk, pk),) for pk in waiting)}


def differences(one: Picture, other: Picture) -> list[str]:
    """What is in one and not in the other, for people: table, sign, row."""
    found: list[str] = []
    for name in one.keys() | other.keys():
        left, right = list(one.get(name, [])), list(other.get(name, []))
        for row in left:
            if row in right:
                right.remove(row)
            else:
                found.append(f"{name}: - {row}")
        found += [f"{name}: + {row}" for row in right]
    return sorted(found)

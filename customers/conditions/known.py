"""What the answers need to know about a few customers, from their rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from customers.conditions.sql import happenings
from customers.conditions.tree import Compare, Condition, Listed, Since, Tagged, Times, Trait
from customers.vocabulary import FACTS, FIELDS, Kind
from lifecycle_crm.lib import batches
from lifecycle_crm.lib.moments import epoch, parameter


def snapshots(customers: Sequence[int], conditions: Iterable[Condition], as_of: datetime) -> dict[int, dict[str, Any]]:
    """What ``holds`` and ``next_flip`` need to know about these customers, from their facts and, for ``Times``, their rows."""
    atoms = {atom for condition in conditions for atom in condition.atoms()}
    names = sorted({a.fact for a in atoms if isinstance(a, Compare | Since)} | {"gap_seconds"})
    ids = ", ".join(str(int(pk)) for pk in customers) or "NULL"
    known: dict[int, dict[str, Any]] = {}
    for pk, *values in batches.rows(
        f"SELECT customer_id, {', '.join(names)} FROM customers_customerfacts WHERE customer_id IN ({ids})"
    ):
        flags = {n: bool(v) for n, v in zip(names, values, strict=True) if n in FACTS and FACTS[n].kind is Kind.FLAG}
        known[pk] = dict(zip(names, values, strict=True)) | flags
    for atom in sorted((a for a in atoms if isinstance(a, Times)), key=lambda a: a.key):
        table, params = happenings(atom, as_of)
        found: dict[int, list[int]] = {pk: [] for pk in known}
        for pk, moment in batches.rows(
            f"SELECT h.customer_id, {epoch('h.moment')} FROM ({table}) h "
            f"WHERE h.customer_id IN ({ids}) AND h.moment < %s ORDER BY 2 DESC",
            [*params, parameter(as_of)],
        ):
            if pk in found:
                found[pk].append(moment)
        for pk, moments in found.items():
            known[pk][atom.key] = moments
    if any(isinstance(a, Trait | Tagged) for a in atoms):
        tags = [a for a in atoms if isinstance(a, Tagged)]
        for pk, carried, *texts in batches.rows(
            f"SELECT id, tags, {', '.join(FIELDS)} FROM customers_customer WHERE id IN ({ids})"
        ):
            if pk in known:
                has = json.loads(carried) if isinstance(carried, str) else carried
                known[pk] |= dict(zip(FIELDS, texts, strict=True)) | {a.key: a.tag in has for a in tags}
    for listed in [a for a in atoms if isinstance(a, Listed)]:
        on_it = batches.rows(
            f"SELECT customer_id FROM customers_segmentmember WHERE segment_id = %s AND customer_id IN ({ids})",
            [listed.segment],
        )
        for pk in known.keys() & {pk for (pk,) in on_it}:
            known[pk][listed.key] = True
    return known

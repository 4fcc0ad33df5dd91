"""Tags of many customers at once: what a journey, or whoever works on a list of people, puts on them or takes off."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import connection, transaction
from django.utils.translation import gettext as _

from customers import facts
from lifecycle_crm.lib import batches
from lifecycle_crm.lib.errors import InvalidInput

LONGEST = 100


def check(tag: str) -> str:
    """The tag as it is stored. Raises ``InvalidInput`` for an empty one or one of more than 100 letters."""
    tag = " ".join(tag.split())
    if not tag or len(tag) > LONGEST or not tag.isprintable():
        raise InvalidInput(_("A tag has 1 to 100 letters."), code="invalid_tag")
    return tag


def put(*, customers: Sequence[int], tag: str, at: datetime) -> int:
    """Give these customers (ids) a tag; how many did not have it. ``at``: since when."""
    return _change(customers, check(tag), at, add=True)


def take_off(*, customers: Sequence[int], tag: str, at: datetime) -> int:
    """Take a tag from these customers; how many had it."""
    return _change(customers, check(tag), at, add=False)


def _change(customers: Sequence[int], tag: str, at: datetime, *, add: bool) -> int:
    ids = ", ".join(str(int(pk)) for pk in customers)
    if not ids:
        return 0
    if connection.vendor == "postgresql":
        has = "tags @> jsonb_build_array(%s::text)"
        new = "tags || jsonb_build_array(%s::text)" if add else "tags - %s::text"
    else:
        has = "EXISTS (SELECT 1 FROM json_each(customers_customer.tags) WHERE json_each.value = %s)"
        new = (
            "json_insert(tags, '$[#]', %s)"
            if add
            else "(SELECT json_group_array(json_each.value) FROM json_each(customers_customer.tags) WHERE json_each.value <> %s)"
        )
    with transaction.atomic():
        changed = [
            pk
            for (pk,) in batches.rows(
                f"UPDATE customers_customer SET tags = {new} WHERE id IN ({ids}) AND {'NOT' if add else ''} {has} RETURNING id",
                [tag, tag],
            )
        ]
        facts.mark(changed, occurred_at=at)
    return len(changed)

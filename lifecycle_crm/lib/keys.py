"""Keys that people and programs know a row by: made from its name where nobody chose one."""

from __future__ import annotations

from itertools import chain, count
from typing import Any

from django.db.models import QuerySet
from django.utils.text import slugify


def free(rows: QuerySet[Any], name: str, otherwise: str) -> str:
    """A key that none of ``rows`` has: the name in small letters, digits and hyphens (``otherwise`` when nothing of it is
    left), with a number when it is taken."""
    base = slugify(name)[:50] or otherwise
    taken = set(rows.filter(key__startswith=base).values_list("key", flat=True))
    return next(key for key in chain([base], (f"{base}-{n}" for n in count(2))) if key not in taken)

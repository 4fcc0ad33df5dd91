"""Who uses a segment: shown beside it, and asked before it is put away.

An app above says in ``AppConfig.ready`` what of its own names segments, as many as there are::

    usage.register(queries.segments_in_use)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from customers.conditions import named_segments
from customers.models import Segment


@dataclass(frozen=True)
class Use:
    """``kind`` says what it is ("Campaign"), ``name`` which one, ``url`` where a person takes the segment out."""

    kind: Any
    name: str
    url: str


Finder = Callable[[], Iterable[tuple[str, Use]]]
"""Every ``(key of a segment, what names it)`` of one app."""

_finders: list[Finder] = []


def register(finder: Finder) -> None:
    if finder not in _finders:
        _finders.append(finder)


def by_segment() -> dict[str, list[Use]]:
    """All that is in use, by key."""
    found: dict[str, list[Use]] = defaultdict(list)
    for finder in _finders:
        for key, use in finder():
            found[key].append(use)
    return dict(found)


def of(key: str) -> list[Use]:
    """What names this segment itself."""
    return by_segment().get(key, [])


def in_segments() -> Iterator[tuple[str, Use]]:
    """Segments inside other segments."""
    for key, name, tree in Segment.objects.filter(archived_at=None, kind=Segment.Kind.LIVE).values_list(
        "key", "name", "condition"
    ):
        for inner in sorted(named_segments(tree)):
            yield inner, Use(_("Segment"), name, reverse("customers:segment", args=[key]))

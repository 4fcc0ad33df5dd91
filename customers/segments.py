"""Segments: groups of people by a condition or by a list, who is in them, and who was on any past date.

A live segment is its condition: it is asked when somebody looks, so page, list and API cannot disagree. Who entered and
left it, night by night, is ``customers.membership``'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.text import slugify
from django.utils.translation import gettext as _

from customers import conditions, counting, finding, sentences, usage
from customers.conditions import Condition, Found, Listed, Resolver
from customers.models import (
    Customer,
    Segment,
    SegmentMember,
    SegmentVersion,
)
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, clock, keys
from lifecycle_crm.lib.errors import Conflict, InvalidInput, NotFound
from lifecycle_crm.lib.moments import parameter, seconds

EVERYBODY: dict[str, Any] = {"all": []}
MOST_LINES = 500
NAMED = 5
"""Uses that a refusal names; it counts the others."""
"""So many people are named at once; by number one may add more."""


class UnknownSegment(NotFound):
    code = "unknown_segment"


def get(key: str) -> Segment:
    """The segment of this key. Raises ``UnknownSegment``."""
    segment = Segment.objects.select_related("owner").filter(key=key).first()
    if segment is None:
        raise UnknownSegment(_("There is no segment “%(key)s”. Choose one of the list of segments.") % {"key": key})
    return segment


# --- From a tree to a condition -----------------------------------------------------------------------------------------


def resolver(*, before: datetime | None = None) -> Resolver:
    """Finds the segments a tree names: as they are now, or as they were in force before a moment. One read."""
    known: dict[str, Found] | None = None

    def resolve(key: str) -> Found | None:
        nonlocal known
        if known is None:
            known = _as_of(before) if before else _as_they_are()
        return known.get(key)

    return resolve


def _found(name: str, kind: str, pk: int, tree: Any) -> Found:
    return Found(name, tree, pk if kind == Segment.Kind.STATIC else None)


def _as_they_are() -> dict[str, Found]:
    rows = Segment.objects.filter(archived_at=None).values_list("key", "name", "kind", "pk", "condition")
    return {key: _found(name, kind, pk, tree) for key, name, kind, pk, tree in rows}


def _as_of(moment: datetime) -> dict[str, Found]:
    rows = (
        SegmentVersion.objects.filter(created_at__lt=moment)
        .order_by("segment_id", "number")
        .values_list("segment__key", "segment__name", "segment__kind", "segment_id", "condition")
    )
    return {key: _found(name, kind, pk, tree) for key, name, kind, pk, tree in rows}


def condition_of(segment: Segment, resolve: Resolver | None = None) -> Condition:
    """Who is in it, as a condition. Raises ``BadCondition`` when a segment inside it was made unusable."""
    if segment.is_static:
        return Listed(segment.pk)
    return conditions.parse(segment.condition, segment.name, resolve=resolve or resolver(), inside=(segment.key,))


def read(tree: Any, *, inside: str = "", where: str = "condition") -> Condition:
    """A tree of segments' language as a condition; ``inside`` is the key of the segment that is being edited."""
    return conditions.parse(tree, where, resolve=resolver(), inside=(inside,) if inside else ())


# --- Verbs ----------------------------------------------------------------------------------------------------------------


def create(
    *,
    name: str,
    key: str = "",
    kind: str = Segment.Kind.LIVE,
    condition: Any = None,
    note: str = "",
    actor: User | None = None,
) -> Segment:
    """A new segment; a static one starts with an empty list. Raises ``BadCondition`` and ``InvalidInput``."""
    name = _name(name)
    if kind not in Segment.Kind.values:
        raise InvalidInput(_("Unknown kind %(kind)r. Use live or static.") % {"kind": kind})
    tree = EVERYBODY if kind == Segment.Kind.STATIC else condition
    key = _key(key, name)
    if kind == Segment.Kind.LIVE:
        read(tree, inside=key)
    try:
        with transaction.atomic():
            segment = Segment.objects.create(
                key=key, name=name, kind=kind, condition=tree, note=note.strip()[:500], owner=actor
            )
            SegmentVersion.objects.create(segment=segment, number=1, condition=tree, created_by=actor)
    except IntegrityError:
        raise Conflict(_("There is a segment with the key “%(key)s”. Choose another.") % {"key": key}) from None
    return recount(segment)


def edit(
    *,
    segment: Segment,
    name: str | None = None,
    condition: Any = None,
    note: str | None = None,
    version: int | None = None,
    actor: User | None = None,
) -> Segment:
    """Change a segment. ``None`` leaves a value as it is; a new condition is a new version.

    ``version`` is the one the editor looked at: if somebody saved another meanwhile, nothing is written. Segments that
    use this one are read again with the new condition, so that none of them breaks.
    """
    changes: dict[str, Any] = {}
    if name is not None:
        changes["name"] = _name(name)
    if note is not None:
        changes["note"] = note.strip()[:500]
    is_new = condition is not None and condition != segment.condition
    if is_new:
        if segment.is_static:
            raise InvalidInput(_("A static list has no condition. Add and remove people instead."))
        _check_with(segment, condition)
        changes |= {"condition": condition, "version": segment.version + 1}
    seen = segment.version if version is None else version
    with transaction.atomic():
        if changes and not Segment.objects.filter(pk=segment.pk, version=seen).update(**changes):
            raise Conflict(_("Somebody else saved this segment meanwhile. Open it again, then make your change."))
        if is_new:
            SegmentVersion.objects.create(
                segment=segment, number=segment.version + 1, condition=condition, created_by=actor
            )
    segment.refresh_from_db()
    return recount(segment) if is_new else segment


def archive(*, segment: Segment) -> Segment:
    """Take a segment out of use; its history stays. Refused while something names it: rules, campaigns, other segments."""
    if uses := usage.of(segment.key):
        names = ", ".join(f"“{use.name}”" for use in uses[:NAMED])
        names += f" (+{len(uses) - NAMED})" if len(uses) > NAMED else ""
        raise Conflict(
            _("“%(name)s” is used in %(where)s. Take it out there first.") % {"name": segment.name, "where": names},
            code="in_use",
            used_in=[{"kind": str(use.kind), "name": use.name, "url": use.url} for use in uses],
        )
    Segment.objects.filter(pk=segment.pk, archived_at=None).update(archived_at=clock.now())
    segment.refresh_from_db()
    return segment


def restore(*, segment: Segment) -> Segment:
    """Take an archived segment back into use, if what it names is still there."""
    condition_of(segment)
    Segment.objects.filter(pk=segment.pk).update(archived_at=None)
    segment.refresh_from_db()
    return segment


def duplicate(*, segment: Segment, name: str = "", actor: User | None = None) -> Segment:
    """The same condition, or the same list, under another name."""
    with transaction.atomic():
        copy = create(
            name=name or _("%(name)s, copy") % {"name": segment.name[:100]},
            kind=segment.kind,
            condition=segment.condition,
            note=segment.note,
            actor=actor,
        )
        if segment.is_static:
            batches.execute(
                "INSERT INTO customers_segmentmember (segment_id, customer_id, added_at, added_by_id) "
                "SELECT %s, customer_id, %s, %s FROM customers_segmentmember WHERE segment_id = %s",
                [copy.pk, parameter(clock.now()), actor.pk if actor else None, segment.pk],
            )
    return recount(copy)


def add_members(*, segment: Segment, customers: Iterable[int], actor: User | None = None) -> int:
    """Put customers on a static list; how many were not on it. Raises ``InvalidInput`` for numbers nobody has."""
    wanted = _ids_for(segment, customers)
    with transaction.atomic():
        on_it = set(
            SegmentMember.objects.filter(segment=segment, customer_id__in=wanted).values_list("customer_id", flat=True)
        )
        new = [pk for pk in wanted if pk not in on_it]
        SegmentMember.objects.bulk_create(
            [SegmentMember(segment=segment, customer_id=pk, added_by=actor) for pk in new],
            batch_size=2000,
            ignore_conflicts=True,
        )
    recount(segment)
    return len(new)


def add_people(*, segment: Segment, texts: Iterable[str], actor: User | None = None) -> int:
    """``add_members`` for people as somebody writes them: numbers, addresses or names. All or nobody."""
    lines = [line for text in texts if (line := text.strip())]
    if len(lines) > MOST_LINES:
        raise InvalidInput(
            _("Nobody was added: these are %(n)s lines, and at most %(most)s fit at once. Add them in parts.")
            % {"n": len(lines), "most": MOST_LINES}
        )
    found = finding.people(lines)
    if unknown := [line for line, person in found.items() if person is None]:
        raise InvalidInput(_("Nobody was added: there is no “%(who)s”. Correct the line.") % {"who": unknown[0][:80]})
    return add_members(segment=segment, customers=[person.pk for person in found.values() if person], actor=actor)


def remove_members(*, segment: Segment, customers: Iterable[int]) -> int:
    """Take customers off a static list; how many were on it."""
    wanted = _ids_for(segment, customers)
    gone, _each = SegmentMember.objects.filter(segment=segment, customer_id__in=wanted).delete()
    recount(segment)
    return gone


def _ids_for(segment: Segment, customers: Iterable[int]) -> list[int]:
    if not segment.is_static:
        raise InvalidInput(
            _("“%(name)s” is live: its condition decides who is in it. Make a static list to choose people by hand.")
            % {"name": segment.name}
        )
    wanted = list(dict.fromkeys(customers))
    if len(wanted) > 10_000:
        raise InvalidInput(_("At most 10,000 people at once. Send them in parts."))
    known = set(Customer.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    if unknown := [pk for pk in wanted if pk not in known]:
        raise InvalidInput(
            _("There is no customer #%(pk)s. Nobody was added or removed.") % {"pk": unknown[0]},
            code="unknown_customer",
        )
    return wanted


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not name:
        raise InvalidInput(_("A segment needs a name."), field="name")
    if len(name) > 120:
        raise InvalidInput(_("The name has more than 120 letters. Shorten it."), field="name")
    return name


def _key(key: str, name: str) -> str:
    """The key that was asked for, or a free one made from the name."""
    if key:
        if slugify(key) != key or len(key) > 60:
            raise InvalidInput(
                _("The key %(key)r is not usable. Use small letters, digits, - and _, at most 60.") % {"key": key},
                field="key",
            )
        return key
    free = keys.free(Segment.objects.all(), name, "segment")
    return keys.free(Segment.objects.all(), f"{free}-1", "segment") if free in RESERVED else free


RESERVED = frozenset({"new", "panel", "count"})
"""Words of addresses that no segment may have as its key."""


def _check_with(segment: Segment, tree: Any) -> None:
    """Read the tree, and every segment that contains this one, as if the tree were saved."""
    now = _as_they_are() | {segment.key: Found(segment.name, tree)}
    conditions.parse(tree, resolve=now.get, inside=(segment.key,))
    for other in Segment.objects.filter(archived_at=None, kind=Segment.Kind.LIVE).exclude(pk=segment.pk):
        if conditions.named_segments(other.condition):
            conditions.parse(other.condition, other.name, resolve=now.get, inside=(other.key,))


# --- Who is in ------------------------------------------------------------------------------------------------------------


def matching(condition: Condition, as_of: datetime | None = None) -> tuple[str, list[Any]]:
    """A SELECT of the ids of everybody it is true of, with its parameters."""
    sql, params = conditions.to_sql(condition, as_of or clock.whole_now())
    return f"SELECT f.customer_id FROM customers_customerfacts f WHERE {sql}", params


def sample(
    condition: Condition, *, after: int = 0, size: int = 10, limit: float = counting.EXACT_SECONDS
) -> list[Customer]:
    """Some who are in, by id after ``after``, with their facts; nobody when finding them takes too long."""
    sql, params = matching(condition)
    try:
        with counting.within(limit):
            ids = [
                pk
                for (pk,) in batches.rows(
                    f"{sql} AND f.customer_id > %s ORDER BY f.customer_id LIMIT {int(size)}", [*params, after]
                )
            ]
    except counting.TooLong:
        return []
    return list(Customer.objects.select_related("facts").filter(pk__in=ids).order_by("pk"))


@dataclass(frozen=True)
class Verdict:
    """Whether a person is in, and what decided it: the rows that hold, or those that stand against it."""

    customer: Customer
    is_in: bool
    because: str


def explain(condition: Condition, customer: Customer, *, as_of: datetime | None = None) -> Verdict:
    """Is this person in, and why, or why not?"""
    moment = as_of or clock.whole_now()
    known = conditions.snapshots([customer.pk], [condition], moment).get(customer.pk)
    if known is None:
        return Verdict(customer, False, _("their facts are not counted yet; wait a few seconds"))
    is_in = conditions.holds(condition, known, seconds(moment))
    return Verdict(customer, is_in, sentences.because(condition, known, seconds(moment)))


def recount(segment: Segment) -> Segment:
    """Write down how many are in it now, for lists of segments."""
    count = counting.measure(condition_of(segment)).count
    segment.members, segment.is_exact, segment.counted_at = count.value, count.is_exact, clock.now()
    segment.save(update_fields=["members", "is_exact", "counted_at"])
    return segment


def listed(segment: Segment) -> QuerySet[SegmentMember]:
    """The people on a static list, newest first."""
    return SegmentMember.objects.filter(segment=segment).select_related("customer", "customer__facts").order_by("-pk")

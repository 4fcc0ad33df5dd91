"""Who entered and left each segment, night by night, and who was in it on a past date.

A segment whose condition, with everything it names, is the one the last night asked is *steady*: only customers whose facts
moved, or for whom time alone may change an answer, are asked again, because a night reviews exactly these. A segment that
is new or was changed, and a static list, is compared as a whole once.

How a night goes::

    watch = membership.watch(business_date=…, as_of=…, previous=…)   # the same for all chunks of the night
    membership.note(watch)                                           # in each batch, after its stages
    membership.close(watch)                                          # once, after all batches
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Max, Min

from customers import conditions, facts, segments
from customers.conditions import BadCondition, Condition, Listed
from customers.models import Segment, SegmentChange, SegmentDay, SegmentVersion
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter

logger = logging.getLogger(__name__)

MOVES = "segment_moves"
"""Temporary table ``(segment_id, customer_id, kind)`` of who enters and leaves."""
TALLY = "segment_tally"
"""Temporary table of who is in the segment at hand."""

ENTERED, LEFT = SegmentChange.Kind.ENTERED.value, SegmentChange.Kind.LEFT.value


@dataclass(frozen=True)
class Watched:
    """A segment in the form in force at the moment of a night."""

    pk: int
    version: int
    condition: Condition
    digest: str
    is_steady: bool


@dataclass(frozen=True)
class Watch:
    business_date: date
    as_of: datetime
    previous: date | None
    segments: tuple[Watched, ...]

    @property
    def steady(self) -> tuple[Watched, ...]:
        return tuple(one for one in self.segments if one.is_steady)

    def conditions(self) -> tuple[Condition, ...]:
        """What decides when time alone may change a membership."""
        return tuple(one.condition for one in self.segments)


def watch(*, business_date: date, as_of: datetime, previous: date | None) -> Watch:
    """The segments to be asked for a date. ``previous`` is the date of the night before this one, if there was one.

    A segment that was recorded for a later date is left alone: history is not rewritten. One that cannot be read is left
    out, with a line in the log.
    """
    resolve = segments.resolver(before=as_of)
    numbers = dict(
        SegmentVersion.objects.filter(created_at__lt=as_of, segment__archived_at=None)
        .values_list("segment_id")
        .annotate(number=Max("number"))
    )
    later = set(SegmentDay.objects.filter(business_date__gt=business_date).values_list("segment_id", flat=True))
    told = (
        dict(SegmentDay.objects.filter(business_date=previous).values_list("segment_id", "digest")) if previous else {}
    )
    found: list[Watched] = []
    for segment in Segment.objects.filter(pk__in=numbers.keys() - later).order_by("pk"):
        tree = resolve(segment.key)
        if tree is None:
            continue
        try:
            condition = (
                Listed(segment.pk)
                if segment.is_static
                else conditions.parse(tree.tree, segment.name, resolve=resolve, inside=(segment.key,))
            )
        except BadCondition as problem:
            logger.warning("Segment %s is not counted for %s: %s", segment.key, business_date, problem)
            continue
        digest = hashlib.sha256(repr(condition).encode()).hexdigest()
        is_steady = not _names_a_list(condition) and told.get(segment.pk) == digest
        found.append(Watched(segment.pk, numbers[segment.pk], condition, digest, is_steady))
    return Watch(business_date, as_of, previous, tuple(found))


def _names_a_list(condition: Condition) -> bool:
    """A static list changes when somebody edits it, which no customer's facts tell."""
    return any(isinstance(atom, Listed) for atom in condition.atoms())


def note(watch: Watch) -> Counter[str]:
    """Write who of the batch entered or left the steady segments; how many. Inside ``facts.batch()``."""
    if not watch.steady:
        return Counter()
    _begin()
    for one in watch.steady:
        sql, params = conditions.to_sql(one.condition, watch.as_of)
        batches.execute(
            f"""
            INSERT INTO {MOVES} (segment_id, customer_id, kind)
            SELECT {one.pk}, x.customer_id, CASE WHEN x.is_in THEN '{ENTERED}' ELSE '{LEFT}' END
            FROM (
                SELECT f.customer_id, {sql} AS is_in
                FROM {facts.AT_HAND} f
            ) x
            LEFT JOIN customers_segmentstanding s ON s.segment_id = {one.pk} AND s.customer_id = x.customer_id
            WHERE x.is_in <> (s.id IS NOT NULL)
            """,
            params,
        )
    return _write(watch)


def close(watch: Watch) -> Counter[str]:
    """Compare what is not steady as a whole, and write how many are in each segment on this date; how many moved."""
    told: Counter[str] = Counter()
    with transaction.atomic():
        sizes = {one.pk: _compare(one, watch, told) for one in watch.segments if not one.is_steady}
        flips = [one.condition for one in watch.segments if not one.is_steady]
        if flips:
            _review_in_time(flips, watch.as_of)
        _write_days(watch, sizes)
    return told


def record(*, business_date: date, as_of: datetime) -> Counter[str]:
    """All of it for a date on its own: everybody is compared with everything. Again for the same date finds nothing."""
    return close(watch(business_date=business_date, as_of=as_of, previous=None))


# --- The pieces ---------------------------------------------------------------------------------------------------------


def _begin() -> None:
    batches.scratch(
        MOVES,
        "segment_id bigint NOT NULL, customer_id bigint NOT NULL, kind varchar(7) NOT NULL, "
        "PRIMARY KEY (segment_id, customer_id)",
    )


def _compare(one: Watched, watch: Watch, told: Counter[str]) -> int:
    """Everybody against one segment; how many are in it."""
    _begin()
    batches.scratch(TALLY, "customer_id bigint PRIMARY KEY")
    sql, params = segments.matching(one.condition, watch.as_of)
    known = "f.customer_id IN (SELECT id FROM customers_customer WHERE known_since < %s)"
    members = batches.execute(f"INSERT INTO {TALLY} (customer_id) {sql} AND {known}", [*params, parameter(watch.as_of)])
    standing = f"SELECT customer_id FROM customers_segmentstanding WHERE segment_id = {one.pk}"
    if connection.vendor == "postgresql":
        # The planner's idea of a table that grew in this transaction is of the empty one: it would compare row by row.
        batches.execute(f"ANALYZE {TALLY}")
    tally = f"SELECT customer_id FROM {TALLY}"
    for kind, here, there in ((ENTERED, tally, standing), (LEFT, standing, tally)):
        batches.execute(
            f"INSERT INTO {MOVES} (segment_id, customer_id, kind) "
            f"SELECT {one.pk}, customer_id, '{kind}' FROM ({here} EXCEPT {there}) AS changed"
        )
    told.update(_write(watch))
    return members


def _write(watch: Watch) -> Counter[str]:
    """Changes and standings from the moves."""
    counts: Counter[str] = Counter(
        {f"segments_{kind}": n for kind, n in batches.rows(f"SELECT kind, count(*) FROM {MOVES} GROUP BY kind")}
    )
    if not counts:
        return counts
    batches.execute(
        "INSERT INTO customers_segmentchange (segment_id, customer_id, kind, business_date, recorded_at) "
        f"SELECT segment_id, customer_id, kind, %s, %s FROM {MOVES} ORDER BY segment_id, customer_id",
        [connection.ops.adapt_datefield_value(watch.business_date), parameter(clock.now())],
    )
    batches.execute(
        "INSERT INTO customers_segmentstanding (segment_id, customer_id) "
        f"SELECT segment_id, customer_id FROM {MOVES} WHERE kind = '{ENTERED}'"
    )
    batches.execute(
        f"DELETE FROM customers_segmentstanding WHERE EXISTS (SELECT 1 FROM {MOVES} m WHERE m.kind = '{LEFT}' "
        "AND m.segment_id = customers_segmentstanding.segment_id "
        "AND m.customer_id = customers_segmentstanding.customer_id)"
        if connection.vendor != "postgresql"
        else f"DELETE FROM customers_segmentstanding s USING {MOVES} m WHERE m.kind = '{LEFT}' "
        "AND m.segment_id = s.segment_id AND m.customer_id = s.customer_id"
    )
    return counts


def _review_in_time(changed: list[Condition], as_of: datetime) -> None:
    """Everybody is reviewed when time alone may change their answer to a condition that the reviews did not know."""
    flips, params = conditions.flip_sql(changed, as_of)
    if not flips:
        return
    flip = conditions.smallest(flips)
    batches.execute(
        f"""
        UPDATE customers_customerfacts SET next_review_at = n.flip
        FROM (SELECT f.customer_id, {flip} AS flip FROM customers_customerfacts f) AS n
        WHERE customers_customerfacts.customer_id = n.customer_id AND n.flip < {conditions.FOREVER}
          AND (customers_customerfacts.next_review_at IS NULL OR customers_customerfacts.next_review_at > n.flip)
        """,
        params,
    )


def _write_days(watch: Watch, sizes: dict[int, int]) -> None:
    """One row per segment. A steady one has as many as the night before and who came, less who went."""
    day = watch.business_date
    moves: dict[int, Counter[str]] = {one.pk: Counter() for one in watch.segments}
    for pk, kind, n in (
        SegmentChange.objects.filter(segment__in=list(moves), business_date=day)
        .order_by()
        .values_list("segment_id", "kind")
        .annotate(n=Count("pk"))
    ):
        moves[pk][kind] = n
    earlier = SegmentDay.objects.filter(segment__in=list(moves), business_date__lt=day).order_by()
    last = earlier.filter(business_date=watch.previous) if watch.previous else earlier.none()
    before = dict(last.values_list("segment_id", "members"))
    versions = set(earlier.values_list("segment_id", "version").distinct())
    current = dict(Segment.objects.filter(pk__in=list(moves)).values_list("pk", "version"))
    for one in watch.segments:
        entered, left = moves[one.pk][ENTERED], moves[one.pk][LEFT]
        members = sizes[one.pk] if one.pk in sizes else before[one.pk] + entered - left
        SegmentDay.objects.update_or_create(
            segment_id=one.pk,
            business_date=day,
            defaults={
                "version": one.version,
                "members": members,
                "entered": entered,
                "left": left,
                "is_first": (one.pk, one.version) not in versions,
                "digest": one.digest,
            },
        )
        # A late night asked the condition of its day; the list of segments shows the one in force.
        if one.version == current[one.pk]:
            Segment.objects.filter(pk=one.pk).update(members=members, is_exact=True, counted_at=clock.now())


# --- Past dates ---------------------------------------------------------------------------------------------------------


def members_on(segment: Segment, day: date) -> tuple[str, list[Any]]:
    """A SELECT of the ids of who was in it at the end of a recorded date, with its parameters."""
    return (
        "SELECT customer_id FROM customers_segmentchange WHERE segment_id = %s AND business_date <= %s "
        "GROUP BY customer_id HAVING sum(CASE kind WHEN 'entered' THEN 1 ELSE -1 END) > 0",
        [segment.pk, day],
    )


def recorded_from(segment: Segment) -> date | None:
    """The first date whose membership is known."""
    return SegmentDay.objects.filter(segment=segment).aggregate(first=Min("business_date"))["first"]


def days_of(segment: Segment, *, last: int = 30) -> list[SegmentDay]:
    """The newest recorded days, newest first."""
    return list(SegmentDay.objects.filter(segment=segment).order_by("-business_date")[:last])

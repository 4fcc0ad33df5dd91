"""Points for a set of people: a segment, a tier or a list. Asked once, given by the worker batch by batch, undone as a whole.

Who is in the set is written down when it is asked for, one row each; the rows that wait are the queue (docs/adr/0019).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from customers import segments
from customers.models import Segment
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, bell, clock, leases
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import parameter
from loyalty import goodwill, ledger
from loyalty.errors import AboveRole, GrantChanged, KeyReused, NobodyToGive, NoProgramme, NotReversible
from loyalty.models import Approval, Entry, Grant, GrantPerson, Programme, Tier

logger = logging.getLogger(__name__)

BATCH = 1000
MOST_LISTED = 10_000
MOST_TOTAL = ledger.MOST_POINTS * 1000
LEASE_SECONDS = 120
TASK = "loyalty.tasks.give_to_many"

State, Person = Grant.State, GrantPerson.State


@dataclass(frozen=True)
class Whom:
    """A set of people: what it was called, and a SELECT of their ids."""

    kind: str
    key: str
    name: str
    select: str
    params: Sequence[Any] = field(default_factory=tuple)


@dataclass(frozen=True)
class Preview:
    """What it would come to. ``left_out``: how many get nothing, by ``GrantPerson.Why``."""

    programme: Programme
    points: int
    people: int
    left_out: dict[str, int]
    needs_second: bool

    @property
    def total(self) -> int:
        return self.points * self.people

    @property
    def worth_minor(self) -> int:
        """In minor units of the shop's currency."""
        return self.total * self.programme.value_minor_per_100 // 100


# --- Who ----------------------------------------------------------------------------------------------------------------


def of_segment(segment: Segment) -> Whom:
    """Everybody who is in a segment now. Raises ``InvalidInput`` for one that is archived."""
    if segment.archived_at is not None:
        raise InvalidInput(_("This segment is archived. Choose another one."), code="archived_segment")
    select, params = segments.matching(segments.condition_of(segment))
    return Whom(Grant.Whom.SEGMENT.value, segment.key, segment.name, select, params)


def of_tier(tier: Tier) -> Whom:
    """Everybody who stands in a tier now."""
    select = "SELECT customer_id FROM loyalty_tierstanding WHERE programme_id = %s AND tier = %s"
    return Whom(Grant.Whom.TIER.value, tier.key, tier.name, select, (tier.programme_id, tier.key))


def of_list(customers: Iterable[int]) -> Whom:
    """Some customers, by id."""
    ids = sorted({int(pk) for pk in customers})
    if not 0 < len(ids) <= MOST_LISTED:
        raise InvalidInput(
            _("Name 1 to %(most)s people at once; for more make a segment.") % {"most": MOST_LISTED},
            code="invalid_selection",
        )
    select = f"SELECT id FROM customers_customer WHERE id IN ({', '.join(map(str, ids))})"
    return Whom(Grant.Whom.LIST.value, "", "", select)


def _why_not(programme: Programme, customer: str) -> tuple[str, list[Any]]:
    """SQL: why the customer of this column gets nothing, one of ``GrantPerson.Why``; '' where they do."""
    account = f"a.programme_id = {int(programme.pk)} AND a.customer_id = {customer}"
    why = GrantPerson.Why
    cases = [
        f"WHEN EXISTS (SELECT 1 FROM loyalty_account a JOIN loyalty_merge m ON m.from_account_id = a.id "
        f"AND m.undone_at IS NULL WHERE {account}) THEN '{why.MERGED}'",
        f"WHEN EXISTS (SELECT 1 FROM loyalty_account a WHERE {account} AND a.frozen_at IS NOT NULL) THEN '{why.FROZEN}'",
    ]
    params: list[Any] = []
    if programme.joining == Programme.Joining.ASKED:
        cases.append(
            f"WHEN NOT EXISTS (SELECT 1 FROM loyalty_membership b WHERE b.programme_id = {int(programme.pk)} "
            f"AND b.customer_id = {customer} AND b.left_at IS NULL AND (b.ends_at IS NULL OR b.ends_at > %s)) "
            f"THEN '{why.STRANGER}'"
        )
        params.append(parameter(clock.now()))
    return f"CASE {' '.join(cases)} ELSE '' END", params


def _found(programme: Programme, whom: Whom) -> tuple[str, list[Any]]:
    """A SELECT of ``customer_id, why`` of everybody in the set."""
    why, params = _why_not(programme, "c.id")
    return f"SELECT c.id AS customer_id, {why} AS why FROM customers_customer c WHERE c.id IN ({whom.select})", [
        *params,
        *whom.params,
    ]


# --- Asking -------------------------------------------------------------------------------------------------------------


def preview(*, whom: Whom, points: int, actor: User | None, programme: Programme | None = None) -> Preview:
    """How many would get points, what it comes to, and whether somebody else has to agree. Nothing is written."""
    of = _programme(programme)
    _points(points)
    select, params = _found(of, whom)
    counted = dict(batches.rows(f"SELECT why, count(*) FROM ({select}) x GROUP BY why", params))
    people = int(counted.pop("", 0))
    return Preview(of, points, people, counted, _needs_second(of, points * people, actor))


def ask(
    *,
    whom: Whom,
    points: int,
    key: str,
    actor: User | None,
    reason: str,
    at_most: int | None = None,
    source_type: str = "",
    source_id: str = "",
    programme: Programme | None = None,
) -> Grant:
    """Give ``points`` to each of a set of people: at once as work for the worker, or, where the total is above the
    programme's limit, as a request for a second person (``grant.approval``). The set is fixed here.

    ``at_most`` is the total that whoever asks has agreed to: where more people came into the set since, ``GrantChanged`` is
    raised. The same request again returns what it made (``replayed``); its key with another one raises ``KeyReused``;
    a set in which nobody can get points raises ``NobodyToGive``.
    """
    of = _programme(programme)
    _points(points)
    text, key = ledger.checked_reason(reason, required=True), ledger.checked_key(key)
    if actor is not None and not actor.may_steer():
        raise AboveRole(_("Your role may not give points to many at once. Ask an owner, an admin or a marketer."))

    def before() -> Grant | None:
        found = Grant.objects.filter(programme=of, key=key).first()
        if found is None:
            return None
        asked = (points, text, whom.kind, whom.key)
        if (found.points, found.reason, found.whom, found.whom_key) != asked or not _is_of(found, whom):
            raise KeyReused(_("This key was used for another request. Send a new key for a new request."), key=key)
        found.replayed = True
        return found

    try:
        with transaction.atomic():
            if found := before():
                return found
            return _write(of, whom, points, key, actor, text, at_most, source_type, source_id)
    except IntegrityError:
        if found := before():
            return found
        raise


def _is_of(grant: Grant, whom: Whom) -> bool:
    """Whether a list names the people of this set. A segment and a tier are named by their keys: who was in them is fixed."""
    if whom.kind != Grant.Whom.LIST:
        return True
    named = {pk for (pk,) in batches.rows(whom.select, whom.params)}
    return named == set(grant.persons.values_list("customer_id", flat=True))


def _write(
    of: Programme,
    whom: Whom,
    points: int,
    key: str,
    actor: User | None,
    reason: str,
    at_most: int | None,
    source_type: str,
    source_id: str,
) -> Grant:
    select, params = _found(of, whom)
    # Read once: who comes into the set while we count is not in it.
    batches.scratch("grant_people", "customer_id bigint PRIMARY KEY, why text NOT NULL")
    batches.execute(f"INSERT INTO grant_people (customer_id, why) {select}", params)
    [(people,)] = batches.rows("SELECT count(*) FROM grant_people WHERE why = ''")
    total = points * people
    if not people:
        raise NobodyToGive(_("Nobody in this set can get points. Choose another one."))
    if total > MOST_TOTAL:
        raise InvalidInput(
            _("That comes to %(total)s points; at most %(most)s can be given at once.")
            % {"total": total, "most": MOST_TOTAL},
            code="invalid_points",
        )
    if at_most is not None and total > at_most:
        raise GrantChanged(
            _("By now it comes to %(total)s points, more than the %(agreed)s you agreed to. Look at it again.")
            % {"total": total, "agreed": at_most},
            total=total,
        )
    needs_second = _needs_second(of, total, actor)
    made = Grant.objects.create(
        programme=of, key=key, points=points, reason=reason, whom=whom.kind, whom_key=whom.key, whom_name=whom.name,
        people=people, requested_by=actor, source_type=source_type, source_id=source_id,
        state=State.WAITING if needs_second else State.GIVING,
    )  # fmt: skip
    batches.execute(
        "INSERT INTO loyalty_grantperson (grant_id, customer_id, state, why) SELECT %s, customer_id, "
        f"CASE WHEN why = '' THEN '{Person.WAITING}' ELSE '{Person.LEFT_OUT}' END, why FROM grant_people "
        "ORDER BY customer_id",
        [made.pk],
    )
    if needs_second:
        Approval.objects.create(
            programme=of, grant=made, key=f"set:{key}", points=total, reason=reason, requested_by=actor,
            source_type=source_type, source_id=source_id,
        )  # fmt: skip
    else:
        bell.ring(TASK)
    return made


def settle_approval(*, grant: Grant, is_yes: bool) -> None:
    """What a second person's answer does to the set: it is given from now on, or never. Inside their transaction."""
    waits = Grant.objects.filter(pk=grant.pk, state=State.WAITING)
    if is_yes:
        waits.update(state=State.GIVING)
        bell.ring(TASK)
    else:
        waits.update(state=State.REFUSED, finished_at=clock.now())


def undo(*, grant: Grant, key: str, actor: User | None, reason: str) -> Grant:
    """Take back what everybody in a set was given, as work for the worker: from the points themselves, then from others they
    have, and what they spent becomes a debt. Raises ``NotReversible`` unless it is given to the last person."""
    text, key = ledger.checked_reason(reason, required=True), ledger.checked_key(key)
    given = Grant.objects.filter(pk=grant.pk, state=State.DONE)
    with transaction.atomic():
        is_ours = given.update(
            state=State.TAKING, undo_key=key, undo_reason=text, undone_by=actor, undone_at=clock.now(), finished_at=None
        )
        grant.refresh_from_db()
        if is_ours:
            bell.ring(TASK)
            return grant
    if grant.undo_key == key:
        if grant.undo_reason != text:
            raise KeyReused(_("This key was used for another request. Send a new key for a new request."), key=key)
        grant.replayed = True
        return grant
    if grant.undone_at is not None:
        raise NotReversible(_("These points were taken back already."))
    raise NotReversible(_("These points are not given yet. Wait until everybody has them."))


# --- Doing --------------------------------------------------------------------------------------------------------------


def work(*, seconds: float = 60) -> Counter[str]:
    """Give and take back what is due, batch by batch, for so many seconds; how many people of each kind.

    A batch is one transaction: whoever dies in it has done nothing of it, and the next worker goes on there.
    """
    done: Counter[str] = Counter()
    ends = time.monotonic() + seconds
    for pk in list(Grant.objects.filter(state__in=Grant.OPEN).order_by("pk").values_list("pk", flat=True)):
        with leases.only_one(f"points-grant:{pk}", LEASE_SECONDS) as owner:
            if owner is None:
                continue
            try:
                while (count := work_batch(pk)) and time.monotonic() < ends:
                    done["people"] += count
                    leases.take(f"points-grant:{pk}", owner, LEASE_SECONDS)
                done["people"] += count
            except Exception:
                # The others go on; this one is tried again by the next ring.
                logger.exception("Points for many #%s stopped", pk)
                done["stopped"] += 1
    return done


def work_batch(pk: int) -> int:
    """Serve the next ``BATCH`` people of a set; how many, 0 when it is finished."""
    with transaction.atomic():
        grant = Grant.objects.select_related("programme", "requested_by").get(pk=pk)
        if grant.state not in Grant.OPEN:
            return 0
        takes = grant.state == State.TAKING
        queue = GrantPerson.objects.filter(grant=grant, state=Person.GIVEN if takes else Person.WAITING)
        ids = list(queue.order_by("customer_id").values_list("customer_id", flat=True)[:BATCH])
        if not ids:
            Grant.objects.filter(pk=pk, state=grant.state).update(
                state=State.TAKEN if takes else State.DONE, finished_at=clock.now()
            )
            return 0
        (_take_back if takes else _give)(grant, ids[0], ids[-1])
        return len(ids)


def entry_key(grant: int, customer: int) -> str:
    """The ledger's key of what one person of a set was given."""
    return f"set:{grant}:{customer}"


def _give(grant: Grant, low: int, high: int) -> None:
    of = grant.programme
    mine = f"p.grant_id = {int(grant.pk)} AND p.customer_id >= {int(low)} AND p.customer_id <= {int(high)}"
    waiting = f"{mine} AND p.state = '{Person.WAITING}'"
    ledger.hold_for(of, f"SELECT p.customer_id FROM loyalty_grantperson p WHERE {waiting}")
    # Under the lock: who is frozen, merged or gone by now, and who was served by another worker while we waited.
    why, params = _why_not(of, "p.customer_id")
    batches.execute(
        f"UPDATE loyalty_grantperson SET state = '{Person.LEFT_OUT}', why = w.why FROM "
        f"(SELECT p.id, {why} AS why FROM loyalty_grantperson p WHERE {waiting}) w "
        "WHERE loyalty_grantperson.id = w.id AND w.why <> ''",
        params,
    )
    approval = Approval.objects.filter(grant=grant).first()
    told: dict[str, int | None] = {"grant": grant.pk}
    if approval is not None:
        told |= {"asked_by": approval.requested_by_id, "approved_by": approval.decided_by_id}
    ledger.give_selected(
        of,
        f"SELECT 'set:{int(grant.pk)}:' || p.customer_id AS key, p.customer_id FROM loyalty_grantperson p WHERE {waiting} "
        f"AND NOT EXISTS (SELECT 1 FROM loyalty_entry e WHERE e.programme_id = {int(of.pk)} "
        f"AND e.key = 'set:{int(grant.pk)}:' || p.customer_id)",
        points=grant.points,
        moment=clock.now(),
        actor_id=grant.requested_by_id,
        reason=grant.reason,
        explanation=told,
        source_type="grant",
        source_id=str(grant.pk),
    )
    GrantPerson.objects.filter(
        grant=grant, customer_id__gte=low, customer_id__lte=high, state=Person.WAITING
    ).update(state=Person.GIVEN)  # fmt: skip


def _take_back(grant: Grant, low: int, high: int) -> None:
    queue = GrantPerson.objects.filter(grant=grant, customer_id__gte=low, customer_id__lte=high, state=Person.GIVEN)
    keys = [entry_key(grant.pk, pk) for pk in queue.values_list("customer_id", flat=True)]
    given = {
        one.pk: one
        for part in batches.of(keys, 500)
        for one in Entry.objects.filter(programme=grant.programme, key__in=part).only(
            "pk", "key", "customer_id", "points"
        )
    }
    now = clock.now()
    ledger.reverse_many(
        [
            ledger.TakeBack(
                entry_id=one.pk, up_to=one.points, key=f"{one.key}:undo", effective_at=now, reason=grant.undo_reason,
                source_type="grant", source_id=str(grant.pk), actor_id=grant.undone_by_id,
            )
            for one in given.values()
        ]
    )  # fmt: skip
    taken = {
        key.removesuffix(":undo")
        for part in batches.of([f"{one.key}:undo" for one in given.values()], 500)
        for key in Entry.objects.filter(programme=grant.programme, key__in=part).values_list("key", flat=True)
    }
    whose = [one.customer_id for one in given.values() if one.key in taken]
    for part in batches.of(whose, 500):
        queue.filter(customer_id__in=part).update(state=Person.TAKEN)
    queue.update(state=Person.KEPT)


# --- Reading ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """How many people stand where, and why those left out got nothing; ``taken_points`` with what became a debt."""

    waiting: int
    given: int
    taken: int
    kept: int
    left_out: dict[str, int]
    taken_points: int

    @property
    def got(self) -> int:
        """Who has been given the points, whether they still have them or not."""
        return self.given + self.taken + self.kept


def progress(grant: Grant) -> Progress:
    """How far a set is."""
    counts: Counter[str] = Counter()
    left_out: dict[str, int] = {}
    for state, why, n in batches.rows(
        "SELECT state, why, count(*) FROM loyalty_grantperson WHERE grant_id = %s GROUP BY state, why", [grant.pk]
    ):
        counts[state] += n
        if state == Person.LEFT_OUT:
            left_out[why] = n
    points = 0
    if counts[Person.TAKEN]:
        # Both halves of a debt say whose gift they take back, which finds them by an index.
        [(points,)] = batches.rows(
            "SELECT coalesce(-sum(t.points), 0) FROM loyalty_grantperson p JOIN loyalty_entry e ON e.programme_id = %s "
            "AND e.key = 'set:' || p.grant_id || ':' || p.customer_id JOIN loyalty_entry t ON t.takes_back_id = e.id "
            f"WHERE p.grant_id = %s AND p.state = '{Person.TAKEN}'",
            [grant.programme_id, grant.pk],
        )
    return Progress(
        counts[Person.WAITING], counts[Person.GIVEN], counts[Person.TAKEN], counts[Person.KEPT], left_out, int(points)
    )


def _needs_second(programme: Programme, total: int, actor: User | None) -> bool:
    """The limit is for the total. Who gives from a budget cannot go around it with a set."""
    return ledger.needs_approval(programme, total) or (actor is not None and goodwill.has_allowance(actor))


def _programme(programme: Programme | None) -> Programme:
    found = programme or Programme.current()
    if found is None:
        raise NoProgramme(_("No points programme is active. Switch one on under Admin, Programmes."))
    if found.kind != Programme.Kind.POINTS:
        raise NoProgramme(_("This programme has no points. Choose a points programme."))
    return found


def _points(points: int) -> None:
    if isinstance(points, bool) or not isinstance(points, int) or not 0 < points <= ledger.MOST_POINTS:
        raise InvalidInput(
            _("The number of points must be between 1 and %(most)s.") % {"most": ledger.MOST_POINTS},
            code="invalid_points",
        )

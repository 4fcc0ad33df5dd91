"""Who enters, once per cause: set-based inserts that the database's unique keys keep true.

A cause is a row (a move, an order, an event, an answer, a change of a segment or tier), and its id is the key. It is told
in the transaction that reacts to it, so there is no position in a log that could miss a row that commits late; being
told twice changes nothing. What is history or quiet, from before the journey was live, or older than 48 hours, lets
nobody in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, F

from campaigns import gate, planning
from campaigns.journeys import plans
from campaigns.journeys.plans import InForce
from campaigns.models import Journey, JourneyRun
from customers.facts import bool_literal
from customers.models import Customer, Segment
from customers.queries import celebrates
from lifecycle_crm.lib import batches, bell, clock
from lifecycle_crm.lib.moments import DAY, from_seconds, parameter, placeholder, seconds

GUARD_FLOOR = 50
GUARD_SHARE_PERCENT = 20
"""A night that would let in more than this share of all customers is not let in: the journey stops and asks."""

HOLDOUT = "journey-holdout:"
CART = "cart"
"""Name of the event by which a shop says that somebody has put something into a cart, or changed what is in it; an index of
the events knows it too."""


@dataclass(frozen=True)
class Causes:
    """SELECT of ``customer_id, cause, moment`` (text and a ``DateTimeField``), with its parameters."""

    sql: str
    params: tuple[Any, ...]


def holdout(journey: Journey, customer_id: int) -> bool:
    """Whether this person gets nothing of this journey; the SQL of ``enter`` says the same."""
    return planning.bucket(f"{HOLDOUT}{journey.pk}", customer_id) < journey.holdout_percent * 100


# --- The causes ---------------------------------------------------------------------------------------------------------


_EVENT = "SELECT e.customer_id, 'event:' || CAST(e.id AS text) AS cause, e.occurred_at AS moment FROM customers_event e"


def _ids(ids: Sequence[int]) -> str:
    return ", ".join(str(int(pk)) for pk in ids) or "NULL"


def _marks(count: int) -> str:
    return ", ".join(["%s"] * count)


def for_orders(ids: Sequence[int]) -> int:
    """Orders that were just placed let people in; how many. ``first_order``: nobody has an earlier counted order."""

    def of(one: InForce) -> Causes | None:
        if one.plan.trigger.on not in ("order", "first_order"):
            return None
        yes, no = bool_literal(True), bool_literal(False)
        first = (
            f" AND NOT EXISTS (SELECT 1 FROM customers_order b WHERE b.customer_id = o.customer_id AND b.is_counted = {yes} "
            "AND (b.placed_at < o.placed_at OR (b.placed_at = o.placed_at AND b.id < o.id)))"
        )
        return Causes(
            "SELECT o.customer_id, 'order:' || CAST(o.id AS text) AS cause, o.placed_at AS moment FROM customers_order o "
            f"WHERE o.id IN ({_ids(ids)}) AND o.is_history = {no} AND o.is_counted = {yes}"
            f"{first if one.plan.trigger.on == 'first_order' else ''}",
            (),
        )

    return _let_in(of)


def for_events(ids: Sequence[int]) -> int:
    """Events of the name that a journey begins with. A delay lets nobody in whose parcel came meanwhile."""

    def of(one: InForce) -> Causes | None:
        on = one.plan.trigger.on
        if on not in ("event", "delivery_delayed"):
            return None
        happened = f"{_EVENT} WHERE e.id IN ({_ids(ids)}) AND e.name = %s AND e.is_history = {bool_literal(False)}"
        if on == "event":
            return Causes(happened, (one.plan.trigger.subject,))
        came = (
            " AND NOT EXISTS (SELECT 1 FROM customers_event d WHERE d.customer_id = e.customer_id AND d.name = %s "
            "AND d.occurred_at >= e.occurred_at)"
        )
        return Causes(happened + came, (gate.DELAYED, gate.DELIVERED))

    return _let_in(of)


def for_carts() -> int:
    """Carts that somebody left behind: so many hours without an order or another change of the cart; how many let in.

    Time makes these, not news, so they are looked for. A cart is found for two days after it was filled, however often one
    looks; its event is the key, so it lets in once.
    """
    now = clock.whole_now()

    def of(one: InForce) -> Causes | None:
        trigger = one.plan.trigger
        if trigger.on != "cart_abandoned":
            return None
        return Causes(
            f"{_EVENT} WHERE e.name = '{CART}' AND e.occurred_at >= %s AND e.occurred_at <= %s "
            f"AND e.is_history = {bool_literal(False)} "
            "AND NOT EXISTS (SELECT 1 FROM customers_event l WHERE l.customer_id = e.customer_id AND l.name = e.name "
            "AND (l.occurred_at > e.occurred_at OR (l.occurred_at = e.occurred_at AND l.id > e.id))) "
            "AND NOT EXISTS (SELECT 1 FROM customers_order o WHERE o.customer_id = e.customer_id "
            "AND o.placed_at >= e.occurred_at)",
            (parameter(now - gate.STALE_AFTER), parameter(now - timedelta(hours=int(trigger.subject)))),
        )

    return _let_in(of)


def for_answers(ids: Sequence[int]) -> int:
    """Answers to surveys, at their first score within the trigger's bounds."""

    def of(one: InForce) -> Causes | None:
        trigger = one.plan.trigger
        if trigger.on != "answer":
            return None
        low = 0 if trigger.score_at_least is None else trigger.score_at_least
        high = 10 if trigger.score_at_most is None else trigger.score_at_most
        return Causes(
            "SELECT a.customer_id, 'answer:' || CAST(a.id AS text) AS cause, a.answered_at AS moment "
            f"FROM feedback_response a WHERE a.id IN ({_ids(ids)}) AND a.score >= %s AND a.score <= %s "
            f"AND a.is_history = {bool_literal(False)}",
            (low, high),
        )

    return _let_in(of)


def for_tiers(ids: Sequence[int]) -> int:
    """Tiers that were reached; who falls reaches none."""

    def of(one: InForce) -> Causes | None:
        if one.plan.trigger.on != "tier":
            return None
        return Causes(
            "SELECT c.customer_id, 'tier:' || CAST(c.id AS text) AS cause, c.effective_at AS moment "
            f"FROM loyalty_tierchange c WHERE c.id IN ({_ids(ids)}) AND c.kind = 'up' AND c.to_tier = %s "
            f"AND c.is_history = {bool_literal(False)}",
            (one.plan.trigger.subject,),
        )

    return _let_in(of)


def _moves(one: InForce, where: str, params: Sequence[Any]) -> Causes | None:
    trigger = one.plan.trigger
    if trigger.on not in ("stage_entered", "stage_left"):
        return None
    column = "t.to_stage" if trigger.on == "stage_entered" else "t.from_stage"
    return Causes(
        "SELECT t.customer_id, 'move:' || CAST(t.id AS text) AS cause, t.occurred_at AS moment "
        f"FROM stages_stagetransition t WHERE {where} AND {column} = %s AND t.kind <> 'undo' "
        f"AND t.is_quiet = {bool_literal(False)} "
        "AND NOT EXISTS (SELECT 1 FROM stages_stagetransition u WHERE u.undoes_id = t.id)",
        (*params, trigger.subject),
    )


def for_moves(where: str, params: Sequence[Any] = ()) -> int:
    """Moves between stages; ``where`` is a condition of ours over ``stages_stagetransition t``."""
    return _let_in(lambda one: _moves(one, where, params))


def _of_night(one: InForce, night_id: int, business_date: date, low: int, high: int) -> list[Causes]:
    """What a night decided, and moves by hand of the days before that nobody told us of."""
    trigger = one.plan.trigger
    within = "customer_id >= %s AND {0}.customer_id < %s"
    day = connection.ops.adapt_datefield_value(business_date)
    if trigger.on.startswith("stage"):
        of_night = _moves(one, f"t.night_id = %s AND t.{within.format('t')}", [night_id, low, high])
        by_hand = _moves(
            one,
            f"t.night_id IS NULL AND t.kind = 'person' AND t.business_date >= %s AND t.{within.format('t')}",
            [connection.ops.adapt_datefield_value(date.fromordinal(business_date.toordinal() - 1)), low, high],
        )
        return [found for found in (of_night, by_hand) if found]
    if trigger.on.startswith("segment"):
        pk = Segment.objects.filter(key=trigger.subject).values_list("pk", flat=True).first()
        # Who is in at the first count of a version did not enter that day.
        return [
            Causes(
                "SELECT s.customer_id, 'segment:' || CAST(s.id AS text) AS cause, s.recorded_at AS moment "
                f"FROM customers_segmentchange s WHERE s.segment_id = %s AND s.business_date = %s AND s.kind = %s "
                f"AND s.{within.format('s')} AND NOT EXISTS (SELECT 1 FROM customers_segmentday d WHERE "
                f"d.segment_id = s.segment_id AND d.business_date = s.business_date AND d.is_first = {bool_literal(True)})",
                (pk, day, "entered" if trigger.on == "segment_entered" else "left", low, high),
            )
        ]
    if trigger.on == "birthday":
        # The night is over when the morning after its date begins; the birthday is so many days from there.
        birthday = date.fromordinal(business_date.toordinal() + 1 + int(trigger.subject))
        return [
            Causes(
                f"SELECT c.id AS customer_id, %s AS cause, {placeholder()} AS moment FROM customers_customer c "
                f"WHERE c.birth_date IS NOT NULL AND ({celebrates(birthday, 'c.birth_date')}) AND c.id >= %s AND c.id < %s",
                (f"birthday:{birthday}", parameter(clock.now()), low, high),
            )
        ]
    if trigger.on == "points_expiring":
        # As the night sees them: points that end on the date so many days from now.
        first = clock.day_end(date.fromordinal(business_date.toordinal() + int(trigger.subject)))
        last = clock.day_end(date.fromordinal(business_date.toordinal() + int(trigger.subject) + 1))
        return [
            Causes(
                f"SELECT l.customer_id, %s AS cause, {placeholder()} AS moment FROM loyalty_lot l "
                f"WHERE l.remaining > 0 AND l.expires_at > %s AND l.expires_at <= %s AND l.{within.format('l')} "
                "GROUP BY l.customer_id",
                (
                    f"points:{clock.business_date(last)}", parameter(clock.now()), parameter(first), parameter(last),
                    low, high,
                ),
            )
        ]  # fmt: skip
    return []


def for_night(*, night_id: int, business_date: date, as_of: datetime, low: int, high: int) -> Counter[str]:
    """What a night found lets people with ids in ``[low, high)`` in. Safe to repeat; counts ``entered`` and ``stale``.

    A night that would let in more than a fifth of all customers lets in nobody: the journey stops and asks a person.
    """
    told: Counter[str] = Counter()
    for one in plans.live():
        if not (causes := _of_night(one, night_id, business_date, 0, 2**62)):
            continue
        whole = sum(batches.rows(f"SELECT count(*) FROM ({c.sql}) x", c.params)[0][0] for c in causes)
        if clock.now() - as_of <= gate.STALE_AFTER and (everybody := outnumbered(whole)):
            plans.stop(one.journey, people=whole, customers=everybody)
            told["journeys_stopped"] += 1
            continue
        for part in _of_night(one, night_id, business_date, low, high):
            if clock.now() - as_of > gate.STALE_AFTER:
                told["journeys_stale"] += _drop(one, part)
            else:
                told["journeys_entered"] += _enter(one, part, night=business_date)
    return +told


def outnumbered(people: int) -> int:
    """How many customers there are when so many are too many to let in at once; else 0."""
    if people <= GUARD_FLOOR:
        return 0
    everybody = Customer.objects.count()
    return everybody if people * 100 > everybody * GUARD_SHARE_PERCENT else 0


def rehearse(one: InForce, select: str, params: Sequence[Any]) -> Counter[str]:
    """Who of a SELECT of ``customer_id`` would be let in now: ``running`` and ``held_out``. The rest were inside before.

    They are let in for real, in a transaction that is rolled back.
    """
    cause = f"SELECT r.customer_id, 'what-if' AS cause, {placeholder()} AS moment FROM ({select}) r"
    with batches.rehearsal():
        _enter(one, Causes(cause, (parameter(clock.now()), *params)))
        rows = JourneyRun.objects.filter(journey=one.journey, key="what-if").order_by()
        return Counter(dict(rows.values_list("state").annotate(n=Count("pk"))))


# --- Letting in ---------------------------------------------------------------------------------------------------------


def _let_in(of: Any) -> int:
    entered = 0
    for one in plans.live():
        causes = of(one)
        if causes is not None:
            entered += _enter(one, causes)
    if entered:
        bell.ring("campaigns.tasks.advance_journeys")
    return entered


def _drop(one: InForce, causes: Causes) -> int:
    [(count,)] = batches.rows(f"SELECT count(*) FROM ({causes.sql}) x", causes.params)
    if count:
        Journey.objects.filter(pk=one.journey.pk).update(stale=F("stale") + count)
    return int(count)


def _enter(one: InForce, causes: Causes, *, night: date | None = None) -> int:
    """Insert who may enter; how many, with those held out."""
    journey = one.journey
    assert journey.live_since is not None
    now = seconds(clock.whole_now())
    horizon = from_seconds(now) - gate.STALE_AFTER
    if stale := int(
        batches.rows(
            f"SELECT count(*) FROM ({causes.sql}) x WHERE x.moment >= %s AND x.moment < %s",
            [*causes.params, parameter(journey.live_since), parameter(horizon)],
        )[0][0]
    ):
        Journey.objects.filter(pk=journey.pk).update(stale=F("stale") + stale)
    # "One run per key": orders are told apart, everything else lets a person in once at a time.
    is_single = one.plan.trigger.on != "order"
    mine = "n.journey_id = %s AND n.customer_id = x.customer_id"
    counted = "n.reason <> 'undone'"
    rules = {
        Journey.Again.NEVER: (f"AND NOT EXISTS (SELECT 1 FROM campaigns_journeyrun n WHERE {mine} AND {counted})", 1),
        Journey.Again.AFTER: (
            f"AND NOT EXISTS (SELECT 1 FROM campaigns_journeyrun n WHERE {mine} AND {counted} "
            f"AND n.entered_at > {now - journey.again_days * DAY})",
            1,
        ),
        Journey.Again.ALWAYS: ("", 0),
    }
    rule, uses = rules[Journey.Again(journey.again)]
    one_each = is_single or journey.again != Journey.Again.ALWAYS
    share = journey.holdout_percent * 100
    out = f"y.bucket < {share}"
    return batches.execute(
        f"""
        INSERT INTO campaigns_journeyrun (journey_id, version_id, customer_id, key, number, is_single, state, reason, step,
            since, due_at, listens, entered_at, ended_at, goal_at, night, tries, error)
        SELECT {journey.pk}, {one.version_id}, y.customer_id, y.cause, y.before + y.place, {bool_literal(is_single)},
            CASE WHEN {out} THEN 'held_out' ELSE 'running' END, '', '', NULL, CASE WHEN {out} THEN NULL ELSE {now} END,
            {bool_literal(False)}, {now}, NULL, NULL, {_date()}, 0, ''
        FROM (
            SELECT x.customer_id, x.cause, {planning.bucket_sql(f"{HOLDOUT}{journey.pk}", "x.customer_id")} AS bucket,
                   row_number() OVER (PARTITION BY x.customer_id ORDER BY x.moment, x.cause) AS place,
                   coalesce((SELECT max(n.number) FROM campaigns_journeyrun n WHERE {mine}), 0) AS before
            FROM ({causes.sql}) x
            WHERE x.moment >= %s AND x.moment >= %s
              AND NOT EXISTS (SELECT 1 FROM campaigns_journeyrun n WHERE {mine} AND n.key = x.cause) {rule}
        ) y
        WHERE {"y.place = 1" if one_each else "true"}
        ORDER BY y.customer_id, y.place
        ON CONFLICT DO NOTHING
        """,
        [
            None if night is None else connection.ops.adapt_datefield_value(night),
            journey.pk,
            *causes.params,
            parameter(journey.live_since),
            parameter(horizon),
            journey.pk,
            *[journey.pk] * uses,
        ],
    )


def _date() -> str:
    return "%s::date" if connection.vendor == "postgresql" else "%s"

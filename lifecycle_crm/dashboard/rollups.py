"""The last step of a night: what home shows of a date, from moves and orders, as of the end of that date.

``roll`` reads the date's own rows by index and yesterday's rollup, never all customers, so 18 months of nights cost what
their moves and orders cost. Rolling a date again writes the same rows. Dates that no night rolled are filled in.

An order, refund or cancellation that belongs to a rolled date names it through ``mark_late``; the next roll counts those
dates again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, timedelta

from django.db import connection, transaction
from django.db.models import Count, F, Max, Min, QuerySet, Sum

from campaigns import reactivation
from campaigns.models import Campaign
from customers.models import DirtyCustomer, Order
from lifecycle_crm.dashboard import cohort_rollups, flow_rollups, period_rollups
from lifecycle_crm.dashboard.models import FlowDay, LateDay, ReportDay, StageDay, TradeDay
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter
from loyalty import queries as loyalty_queries
from stages import flows
from stages.durations import TIMED
from stages.models import StageKey, StageTransition

RETURN_DAYS = 90
"""A first buyer who buys again on one of so many next dates came back."""
REGULAR_ORDERS, REGULAR_DAYS = 3, 365


def roll(business_date: date) -> None:
    """Write the rollups of ``business_date``, of dates before it that no night rolled, and of late ones."""
    with transaction.atomic():
        moved = _unrolled(StageDay, business_date, _first_move())
        is_current = flow_rollups.is_current()
        if not is_current and (last := _last(StageDay)):
            moved = list(clock.days(min(moved[0], _first_move() or moved[0]), max(moved[-1], last)))
        _roll_stages(moved)
        flow_rollups.roll(moved)
        late = set(LateDay.objects.values_list("business_date", flat=True))
        days = set(_unrolled(TradeDay, business_date, _first_order()))
        newest = max(days | {_last(TradeDay) or business_date})
        # The first buyers of 90 dates ago have had their time: their row gets its last number.
        ripe = {day - timedelta(days=RETURN_DAYS) for day in days}
        ripe &= set(TradeDay.objects.filter(business_date__in=ripe).values_list("business_date", flat=True))
        due = days | ripe | {day for day in late if day <= newest}
        _roll_trade(sorted(due), newest)
        first = min(moved[0], _first_order() or moved[0])
        cohort_rollups.roll({*moved, *due} if is_current else set(clock.days(first, newest)))
        flow_rollups.roll_arrivals(due & late)
        LateDay.objects.filter(business_date__in=due & late).delete()
        flow_rollups.sign()
        if business_date >= clock.last_complete_day():
            period_rollups.roll(business_date, {*moved, *due} - {business_date})
            flow_rollups.prepare(business_date)
            row = count_report(business_date)
            values = {f.attname: getattr(row, f.attname) for f in ReportDay._meta.concrete_fields if not f.primary_key}
            ReportDay.objects.update_or_create(business_date=business_date, defaults=values)


def _last(model: type[StageDay | TradeDay]) -> date | None:
    return model._default_manager.aggregate(last=Max("business_date"))["last"]


def _first_move() -> date | None:
    return StageTransition.objects.aggregate(first=Min("business_date"))["first"]


def _first_order() -> date | None:
    first = Order.objects.filter(is_counted=True).aggregate(first=Min("placed_at"))["first"]
    return clock.business_date(first) if first else None


def _unrolled(model: type[StageDay | TradeDay], day: date, first_fact: date | None) -> list[date]:
    """``day`` and the dates that lie between it and what is rolled already, so that rolled dates have no gaps."""
    bounds = model._default_manager.aggregate(first=Min("business_date"), last=Max("business_date"))
    if bounds["last"] is None:
        return list(clock.days(min(day, first_fact or day), day))
    if day > bounds["last"]:
        return list(clock.days(bounds["last"] + timedelta(days=1), day))
    if day < bounds["first"]:
        return list(clock.days(day, bounds["first"] - timedelta(days=1)))
    return [day]


# --- Stages -----------------------------------------------------------------------------------------------------------


def _roll_stages(days: Sequence[date]) -> None:
    first, last = days[0], days[-1]
    moves = defaultdict(Counter, flows.moves_by_day(first, last))
    before = dict(Counter(_standing(first)))
    known = {
        (row.business_date, row.stage): row
        for row in StageDay.objects.filter(business_date__range=(first, last)).iterator(chunk_size=2000)
    }
    stage_days, flow_days, shift = [], [], dict.fromkeys(StageKey.values, 0)
    for day in days:
        for stage in StageKey.values:
            entered = sum(n for (_source, target), n in moves[day].items() if target == stage)
            left = sum(n for (source, _target), n in moves[day].items() if source == stage)
            before[stage] = before.get(stage, 0) + entered - left
            stage_days.append(
                StageDay(business_date=day, stage=stage, customers=before[stage], entered=entered, left=left)
            )
            if day == last and (old := known.get((day, stage))) is not None:
                shift[stage] = before[stage] - old.customers
        flow_days += [
            FlowDay(business_date=day, from_stage=source, to_stage=target, moves=n)
            for (source, target), n in sorted(moves[day].items())
        ]
    StageDay.objects.bulk_create(
        stage_days,
        update_conflicts=True,
        unique_fields=["business_date", "stage"],
        update_fields=["customers", "entered", "left"],
        batch_size=500,
    )
    # A move that came to an old date late moves every later standing with it.
    for stage, delta in shift.items():
        if delta:
            StageDay.objects.filter(business_date__gt=last, stage=stage).update(customers=F("customers") + delta)
    wanted = {(row.business_date, row.from_stage, row.to_stage) for row in flow_days}
    gone = [
        row.pk
        for row in FlowDay.objects.filter(business_date__range=(first, last)).iterator(chunk_size=2000)
        if (row.business_date, row.from_stage, row.to_stage) not in wanted
    ]
    if gone:
        FlowDay.objects.filter(pk__in=gone).delete()
    FlowDay.objects.bulk_create(
        flow_days,
        update_conflicts=True,
        unique_fields=["business_date", "from_stage", "to_stage"],
        update_fields=["moves"],
        batch_size=500,
    )


def _standing(day: date) -> dict[str, int]:
    """Customers per stage before ``day``: from the rollup of an earlier date, else counted from the moves."""
    latest = StageDay.objects.filter(business_date__lt=day).aggregate(last=Max("business_date"))["last"]
    if latest is not None:
        return dict(StageDay.objects.filter(business_date=latest).values_list("stage", "customers"))
    return standing_from_moves(day - timedelta(days=1))


def standing_from_moves(day: date) -> dict[str, int]:
    """Customers per stage at the end of ``day``, counted from every move up to then."""
    counts: Counter[str] = Counter(dict.fromkeys(StageKey.values, 0))
    grouped = (
        StageTransition.objects.filter(business_date__lte=day)
        .order_by()
        .values_list("from_stage", "to_stage")
        .annotate(moves=Count("pk"))
    )
    for source, target, moves in grouped:
        counts[target] += moves
        if source:
            counts[source] -= moves
    return dict(counts)


# --- Orders -----------------------------------------------------------------------------------------------------------


def _roll_trade(days: Sequence[date], newest: date) -> None:
    """A statement per date: with both ends of the day in sight, the planner reads that day's orders by index."""
    for day in days:
        _roll_trade_of(day, is_ripe=day + timedelta(days=RETURN_DAYS) <= newest)


def _roll_trade_of(day: date, *, is_ripe: bool) -> None:
    counted = "is_counted" if connection.vendor == "postgresql" else "is_counted = 1"
    start, finish = parameter(clock.day_start(day)), parameter(clock.day_end(day))
    year_start = parameter(clock.day_start(day - timedelta(days=REGULAR_DAYS - 1)))
    return_end = parameter(clock.day_end(day + timedelta(days=RETURN_DAYS)))
    names = ("orders", "revenue_minor", "buyers", "first_buyers", "first_revenue_minor", "regular_revenue_minor")
    orders_of = f"FROM customers_order e WHERE e.{counted} AND e.customer_id ="
    returned, returned_params = "NULL", []
    if is_ripe:
        came_back = f"EXISTS (SELECT 1 {orders_of} bought.customer_id AND e.placed_at >= %s AND e.placed_at < %s)"
        returned = f"count(DISTINCT CASE WHEN is_first = 1 AND {came_back} THEN customer_id END)"
        returned_params = [finish, return_end]
    batches.execute(
        f"""
        INSERT INTO dashboard_tradeday (business_date, {", ".join(names)}, returned)
        SELECT %s, count(*), coalesce(sum(revenue), 0), count(DISTINCT customer_id),
               count(DISTINCT CASE WHEN is_first = 1 THEN customer_id END),
               coalesce(sum(CASE WHEN is_first = 1 THEN revenue ELSE 0 END), 0),
               coalesce(sum(CASE WHEN in_year >= {REGULAR_ORDERS} THEN revenue ELSE 0 END), 0),
               {returned}
        FROM (
            SELECT o.customer_id, o.base_minor AS revenue,
                   CASE WHEN EXISTS (SELECT 1 {orders_of} o.customer_id AND e.placed_at < %s)
                        THEN 0 ELSE 1 END AS is_first,
                   (SELECT count(*) {orders_of} o.customer_id AND e.placed_at >= %s AND e.placed_at < %s) AS in_year
            FROM customers_order o
            WHERE o.{counted} AND o.placed_at >= %s AND o.placed_at < %s
        ) AS bought
        WHERE true
        ON CONFLICT (business_date) DO UPDATE SET
            {", ".join(f"{name} = excluded.{name}" for name in (*names, "returned"))}
        """,
        [
            connection.ops.adapt_datefield_value(day),
            *returned_params,
            start,
            year_start,
            finish,
            start,
            finish,
        ],
    )


def count_report(business_date: date) -> ReportDay:
    """Points and win-back as they stand now, not stored."""
    points = loyalty_queries.overview(as_of=clock.day_end(business_date))
    effect: Counter[str] = Counter()
    for campaign in Campaign.objects.filter(kind=Campaign.Kind.REACTIVATION):
        effect.update(reactivation.effect(campaign))
    return ReportDay(
        business_date=business_date,
        points_outstanding=points.outstanding,
        points_liability_minor=points.liability_minor,
        points_expiring=points.expiring_soon,
        members=points.members,
        treated=effect["treated"],
        treated_back=effect["treated_back"],
        held_out=effect["held_out"],
        held_out_back=effect["held_out_back"],
    )


# --- Late news --------------------------------------------------------------------------------------------------------


def mark_late(*, customers: Collection[int], earliest: datetime) -> int:
    """Orders of these customers changed from ``earliest`` on; how many rolled dates will be counted again.

    Call it in the transaction of a reaction to orders and refunds. It costs one query when nothing of it lies in a
    rolled date, which is what happens all day.
    """
    last = _last(TradeDay)
    if last is None or clock.business_date(earliest) > last:
        return 0
    # A first order that turns up changes who else was a first buyer, who is a regular, and who came back: all of them
    # lie on dates on which these customers ordered.
    since = clock.day_start(clock.business_date(earliest) - timedelta(days=RETURN_DAYS))
    days: set[date] = {clock.business_date(earliest)}
    for some in batches.of(sorted(customers), 900):
        moments = Order.objects.filter(customer_id__in=some, placed_at__gte=since).values_list("placed_at", flat=True)
        days |= {clock.business_date(moment) for moment in moments.iterator(chunk_size=5000)}
        # How long they took from the first order to a stage is told on the dates on which they came there, and a cohort
        # on those on which they went dormant.
        arrivals = StageTransition.objects.filter(customer_id__in=some, to_stage__in=TIMED).order_by()
        days |= set(arrivals.values_list("business_date", flat=True))
    return _add_late(day for day in days if day <= last)


def late_orders(order_ids: Sequence[int]) -> int:
    """``mark_late`` for these orders: what follows an order, in the shape of a reaction."""
    return _mark_late_of(Order.objects.filter(pk__in=order_ids))


def late_refunds(refund_ids: Sequence[int]) -> int:
    """``mark_late`` for the orders that these refunds give back."""
    return _mark_late_of(Order.objects.filter(refunds__in=refund_ids))


def _mark_late_of(orders: QuerySet[Order]) -> int:
    last = _last(TradeDay)
    if last is None:
        return 0
    rows = list(orders.filter(placed_at__lt=clock.day_end(last)).values_list("customer_id", "placed_at"))
    if not rows:
        return 0
    return mark_late(customers={pk for pk, _at in rows}, earliest=min(at for _pk, at in rows))


def _add_late(days: Iterable[date]) -> int:
    rows = [LateDay(business_date=day) for day in sorted(days)]
    LateDay.objects.bulk_create(rows, ignore_conflicts=True, batch_size=500)
    return len(rows)


# --- Proof ------------------------------------------------------------------------------------------------------------


def problems() -> list[str]:
    """Every way in which the rollups disagree with moves and orders, one sentence each. Reads all of both."""
    return [*_stage_problems(), *_trade_problems()]


def _stage_problems() -> list[str]:
    found: list[str] = []
    last = _last(StageDay)
    if last is None:
        return found
    first = StageDay.objects.aggregate(first=Min("business_date"))["first"]
    by_day = flows.moves_by_day(first, last)
    moves = {(day, *move): n for day, counted in by_day.items() for move, n in counted.items()}
    rolled = {
        (row.business_date, row.from_stage, row.to_stage): row.moves
        for row in FlowDay.objects.filter(business_date__range=(first, last)).iterator(chunk_size=5000)
    }
    found += [
        f"Rollup of {day}: {rolled.get((day, source, target), 0)} moves {source or 'new'} → {target}, "
        f"but the history has {moves.get((day, source, target), 0)}."
        for day, source, target in sorted(moves.keys() | rolled.keys())
        if moves.get((day, source, target), 0) != rolled.get((day, source, target), 0)
    ]
    rows = {(row.business_date, row.stage): row.customers for row in StageDay.objects.iterator(chunk_size=5000)}
    standing = Counter(standing_from_moves(first - timedelta(days=1)))  # an undone first placement goes to no stage
    for day in clock.days(first, last):
        for (source, target), n in by_day.get(day, Counter()).items():
            standing[target] += n
            if source:
                standing[source] -= n
        for stage in StageKey.values:
            rolled_up = rows.get((day, stage))
            if rolled_up is None:
                found.append(f"Rollup of {day}: the stage {stage} is missing. Run the night of that date again.")
            elif rolled_up != standing[stage]:
                found.append(
                    f"Rollup of {day}: {rolled_up} customers in {stage}, but the moves up to then make "
                    f"{standing[stage]}."
                )
    settled = not (LateDay.objects.exists() or DirtyCustomer.objects.exists())
    return [
        *found,
        *flow_rollups.problems(first, last, orders_are_settled=settled),
        *(cohort_rollups.problems(first, last) if settled else []),
    ]


def _trade_problems() -> list[str]:
    bounds = TradeDay.objects.aggregate(
        first=Min("business_date"), last=Max("business_date"), orders=Sum("orders"), revenue=Sum("revenue_minor")
    )
    if bounds["last"] is None or LateDay.objects.exists():
        return []
    actual = Order.objects.filter(
        is_counted=True,
        placed_at__gte=clock.day_start(bounds["first"]),
        placed_at__lt=clock.day_end(bounds["last"]),
    ).aggregate(orders=Count("pk"), revenue=Sum("base_minor"))
    if (bounds["orders"], bounds["revenue"]) == (actual["orders"], actual["revenue"] or 0):
        return []
    return [
        f"Rollups from {bounds['first']} to {bounds['last']} hold {bounds['orders']} orders worth {bounds['revenue']}, "
        f"but there are {actual['orders']} worth {actual['revenue'] or 0} (minor units)."
    ]

"""What earns points: orders, events, answers, birthdays, stages, by the rules of each programme. Refunds take back.

Everything is told in batches, in any order and as often as anybody likes: a cause earns once per programme under its own
key, and a refund takes back up to where all refunds of its order together lead. ``tally`` works out what causes are worth,
``ledger`` writes it; both are one set of SQL statements for a batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Prefetch

from customers.facts import bool_literal
from customers.models import Refund
from customers.queries import celebrates
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import epoch, parameter
from loyalty import causes, ledger, tally
from loyalty.models import EarningRule, Entry, Ladder, Programme

BATCH = 2000
Kind = EarningRule.Kind


# --- Orders, events, and the rest -------------------------------------------------------------------------------------


def award_for_orders(order_ids: Sequence[int]) -> int:
    """Earn points for these orders in each active points programme, as of the moments they were placed.

    Counted orders with an amount earn once each; the points wait as long as the programme says. A refund that was told
    before its order, and found nothing to take back, is taken back in the same transaction; one that is still to be told
    comes by itself, as of its own date. Returns how many earnings were new; without an active programme none is.
    """
    earned = 0
    for part in batches.of(order_ids, BATCH):
        with transaction.atomic():
            earned += _award(partial(_orders, part))
            told = Refund.objects.filter(order__in=part, reacted_at__isnull=False)
            reverse_for_refunds(list(told.values_list("pk", flat=True)))
    return earned


def award_for_events(event_ids: Sequence[int]) -> int:
    """Earn points for these events, by the rules about their names and properties; how many earnings were new."""
    earned = 0
    for part in batches.of(event_ids, BATCH):
        earned += _award(partial(_events, part))
    return earned


def event_names() -> list[str]:
    """The names of events that any rule of an active programme is about."""
    rules = EarningRule.objects.filter(programme__in=Programme.earning())
    kinds = (Kind.EVENT, Kind.MULTIPLIER, Kind.REFERRAL, Kind.REVIEW)
    return sorted({name for one in rules.filter(kind__in=kinds) if (name := tally.event_name(one))})


def award_for(told: Sequence[causes.Cause]) -> int:
    """Earn points for causes of another floor, such as an answered survey: the roof says who, when and under which key."""
    return sum(_award(partial(_others, part)) for part in batches.of(told, BATCH))


def award_for_stages(where: str, params: Sequence[Any] = ()) -> int:
    """Earn points for moves into stages: ``where`` is a condition of ours over ``stages_stagetransition t``.

    The first look, which puts loaded customers somewhere, and moves that were taken back earn nothing.
    """
    wanted = sorted(
        {one.subject for one in EarningRule.objects.filter(programme__in=Programme.earning(), kind=Kind.STAGE)}
    )
    if not wanted:
        return 0
    found = batches.rows(
        "SELECT t.id, t.customer_id, t.to_stage, t.occurred_at FROM stages_stagetransition t "
        f"WHERE {where} AND t.to_stage IN ({', '.join(['%s'] * len(wanted))}) AND t.from_stage <> '' AND t.kind <> 'undo' "
        f"AND t.is_quiet = {bool_literal(False)} "
        "AND NOT EXISTS (SELECT 1 FROM stages_stagetransition u WHERE u.undoes_id = t.id) ORDER BY t.id",
        [*params, *wanted],
    )
    return award_for(
        [
            causes.Cause(f"stage:{pk}", "stage", customer, _aware(at), stage, "stage", pk)
            for pk, customer, stage, at in found
        ]
    )


def award_for_birthdays(day: date, *, low: int, high: int) -> int:
    """Earn points for who has a birthday on this date, among customers with ids in ``[low, high)``; how many.

    Only who was known by then.
    """
    if not EarningRule.objects.filter(programme__in=Programme.earning(), kind=Kind.BIRTHDAY).exists():
        return 0
    start = clock.day_start(day)
    found = batches.rows(
        f"SELECT id FROM customers_customer WHERE id >= %s AND id < %s AND birth_date IS NOT NULL AND ({celebrates(day)}) "
        "AND known_since < %s ORDER BY id",
        [low, high, parameter(clock.day_end(day))],
    )
    return award_for(
        [causes.Cause(f"birthday:{pk}:{day.year}", "birthday", pk, start, source_type="birthday") for (pk,) in found]
    )


def _orders(ids: list[int], rules: list[EarningRule]) -> int:
    return causes.add_orders(ids)


def _events(ids: list[int], rules: list[EarningRule]) -> int:
    return causes.add_events(ids, filter(None, map(tally.event_name, rules)))


def _others(told: list[causes.Cause], rules: list[EarningRule]) -> int:
    return causes.add(told)


def _aware(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(f"{value}+00:00")


def _award(add: Callable[[list[EarningRule]], int]) -> int:
    """Work out what the causes that ``add`` stages are worth in each programme, and credit it; how many were new.

    Asked are all versions of the rules, since a cause of last month goes by the rules of last month.
    """
    every = Prefetch("rules", EarningRule.objects.order_by("position", "pk"))
    found = [(programme, list(programme.rules.all())) for programme in Programme.earning().prefetch_related(every)]
    everything = [rule for _programme, rules in found for rule in rules]
    if not everything:
        return 0
    earned = 0
    with transaction.atomic():
        tally.begin()
        if not add(everything):
            return 0
        for programme, rules in found:
            if tally.count(programme, rules):
                earned += _credit(programme, rules)
    return earned


def _credit(programme: Programme, rules: list[EarningRule]) -> int:
    together: Any = None
    # A merge may end while we wait for the locks: then they are of one person with more accounts than we asked for.
    while (found := tally.gather(programme, rules)) != together:
        ledger.hold_for(programme, tally.TOGETHER)
        together = found
    # What is known is looked for under the lock, so that nobody can write it between the look and our entry.
    batches.execute(
        f"DELETE FROM {tally.LINES} WHERE EXISTS (SELECT 1 FROM loyalty_entry e WHERE e.programme_id = %s "
        f"AND e.key = {tally.LINES}.cause)",
        [programme.pk],
    )
    tally.limit(programme, rules)
    causes.set_ends(programme)
    select, params = tally.totals(settings.SHOP_CURRENCY)
    wait = int(programme.pending_days)
    active = (
        f"c.at + interval '{wait} days'"
        if connection.vendor == "postgresql"
        else f"date(c.at, '+{wait} days') || substr(c.at, 11)"
    )
    number = "CAST(c.source_id AS text)"
    earned = ledger.earn_selected(
        programme,
        f"SELECT t.cause AS key, c.customer_id, CASE WHEN t.points > {ledger.MOST_POINTS} THEN {ledger.MOST_POINTS} "
        f"ELSE t.points END AS points, c.at AS effective_at, {active} AS active_at, d.expires_at, t.explanation, "
        f"c.source_type, coalesce({number}, '') AS source_id "
        f"FROM ({select}) t JOIN {causes.CAUSES} c ON c.cause = t.cause JOIN {causes.DAYS} d ON d.day = c.day",
        params,
    )
    tally.remember(programme, rules)
    if earned:
        mark_for_tiers(programme.pk, f"SELECT customer_id, at FROM {tally.LINES}")
    return earned


def mark_for_tiers(programme: int, select: str, params: Sequence[Any] = ()) -> None:
    """Where points decide tiers, whoever earned or lost some is looked at again, whether they can spend them yet or not.

    ``select`` yields ``customer_id, at``.
    """
    if not Ladder.objects.filter(programme_id=programme, measure=Ladder.Measure.POINTS).exists():
        return
    batches.execute(
        f"""
        INSERT INTO customers_dirtycustomer (customer_id, occurred_at, is_history)
        SELECT w.customer_id, {epoch("w.at")}, w.at < c.loaded_at
        FROM (SELECT customer_id, max(at) AS at FROM ({select}) s GROUP BY customer_id) w
        JOIN customers_customer c ON c.id = w.customer_id
        """,
        params,
    )


# --- Refunds ----------------------------------------------------------------------------------------------------------


def reverse_for_refunds(refund_ids: Sequence[int]) -> int:
    """Take back what the orders of these refunds gave, in proportion to the money returned; how many movements.

    ``floor(earned x refunded so far / order total)`` less what was taken back so far, so that any number of parts comes to
    exactly the whole; a cancellation takes back all that is left. It reverses the recorded entry, whatever the rules say
    today. A refund whose order has earned nothing (yet) changes nothing; the order's own award looks for it.
    """
    moved = 0
    for part in batches.of(refund_ids, BATCH):
        wanted = set(part)
        orders = {
            order for ids in batches.of(part, 500) for order in Refund.objects.filter(pk__in=ids).values_list(
                "order_id", flat=True
            )
        }  # fmt: skip
        with transaction.atomic():
            for programme in _programmes():
                rows: list[ledger.TakeBack] = []
                for ids in batches.of(sorted(orders), 500):
                    rows += _take_backs(programme, ids, wanted)
                if taken := ledger.reverse_many(rows):
                    moved += taken
                    _mark_returns(programme, part)
    return moved


def _mark_returns(programme: int, refunds: Sequence[int]) -> None:
    ids = ", ".join(str(int(pk)) for pk in refunds)
    mark_for_tiers(
        programme,
        "SELECT o.customer_id, r.occurred_at AS at FROM customers_refund r JOIN customers_order o ON o.id = r.order_id "
        f"WHERE r.id IN ({ids})",
    )


def _take_backs(programme: int, orders: Sequence[int], wanted: set[int]) -> list[ledger.TakeBack]:
    keys = [f"order:{pk}" for pk in orders]
    earned = {
        int(entry.source_id): entry
        for entry in Entry.objects.filter(programme=programme, key__in=keys, kind=Entry.Kind.EARN).only(
            "pk", "points", "source_id"
        )
    }
    refunds: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    found = (
        Refund.objects.filter(order__in=list(earned))
        .order_by("occurred_at", "pk")
        .values(
            "pk", "order_id", "occurred_at", "amount_minor", "is_cancellation", "reacted_at",
            "order__amount_minor", "order__currency",
        )
    )  # fmt: skip
    for one in found:
        refunds[one["order_id"]].append(one)
    told = _told(programme, [one["pk"] for one in found])
    rows: list[ledger.TakeBack] = []
    for order, all_of_it in refunds.items():
        entry = earned[order]
        last = max((n for n, one in enumerate(all_of_it) if one["pk"] in wanted), default=-1)
        # Money returned so far: what was told before, in whatever order, and what happened before the batch's last one.
        before = [
            one
            for n, one in enumerate(all_of_it)
            if one["pk"] not in wanted and (n < last or one["reacted_at"] is not None or one["pk"] in told)
        ]
        back = sum(one["amount_minor"] for one in before)
        is_cancelled = any(one["is_cancellation"] for one in before)
        for refund in all_of_it:
            if refund["pk"] not in wanted:
                continue
            back += refund["amount_minor"]
            is_cancelled = is_cancelled or refund["is_cancellation"]
            total = refund["order__amount_minor"]
            whole = is_cancelled or total == 0 or back >= total
            rows.append(
                ledger.TakeBack(
                    entry_id=entry.pk,
                    up_to=entry.points if whole else entry.points * back // total,
                    key=f"refund:{refund['pk']}",
                    effective_at=refund["occurred_at"],
                    explanation={
                        "rule": "cancelled" if is_cancelled else "refunded",
                        "earned": entry.points,
                        "refunded_minor": min(back, total),
                        "total_minor": total,
                        "currency": refund["order__currency"],
                    },
                    source_type="refund",
                    source_id=str(refund["pk"]),
                )
            )
    return rows


def _programmes() -> list[int]:
    """All of them: a key is looked up within its programme, and an order may have earned in one that ended."""
    return list(Programme.objects.values_list("pk", flat=True))


def _told(programme: int, refunds: Sequence[int]) -> set[int]:
    """Those of these refunds that have taken points back already in a programme."""
    return {
        int(pk) for ids in batches.of(refunds, 500) for pk in Entry.objects.filter(
            programme=programme, key__in=[f"refund:{pk}" for pk in ids]
        ).values_list("source_id", flat=True)
    }  # fmt: skip

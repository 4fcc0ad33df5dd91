"""Faults 21, 44, 49, and writers in flight: late nights decide for their own dates, and write to nobody about old news."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

import pytest
import time_machine
from django.db import connection, transaction

from campaigns import outbox, reactivation
from campaigns.models import Message, Run
from customers import facts, givebacks, ingest
from customers.models import Customer, CustomerFacts, Order
from lifecycle_crm import night
from lifecycle_crm.lib import batches, clock
from stages.models import Night, StageTransition
from tests.chaos import pictures, plan, town

FIRST = date(2026, 3, 2)
"""The clock goes forward four weeks later, in the middle of what follows."""

MORNING = timedelta(hours=3)


def told_on(told: list[tuple[str, Any]], day: date) -> list[tuple[str, Any]]:
    return [one for one in told if clock.business_date(_moment(*one)) == day]


def _moment(kind: str, what: Any) -> datetime:
    match kind:
        case "orders":
            return what.placed_at
        case "events":
            return what.occurred_at
    return next(each for each in what if isinstance(each, datetime))


# --- An outage --------------------------------------------------------------------------------------------------------


@dataclass
class Weeks:
    picture: pictures.Picture
    messages: Counter[str]
    stale: int
    nights: list[Night]


def live_through(*, people: int, days: int, away: range, of: str, wrong_as_of: bool = False) -> Weeks:
    """``days`` days of a shop whose nights and workers are down on the days ``away``, while the API takes what comes."""
    with pictures.nothing_stays():
        town.furnish(since=clock.day_start(FIRST))
        town.settle_in(people, since=clock.day_start(FIRST))
        told = town.busy(people, first=FIRST, last=FIRST + timedelta(days=days - 1), dice=plan.dice(of))
        caught_up: list[Night] = []
        for number, day in enumerate(clock.days(FIRST, FIRST + timedelta(days=days - 1))):
            with time_machine.travel(clock.day_end(day) - timedelta(seconds=1), tick=False):
                town.hear(told_on(told, day))
            if number in away:
                continue
            if number % 7 == 0:
                town.as_autovacuum_would()
            with time_machine.travel(clock.day_end(day) + MORNING, tick=False):
                if wrong_as_of and number - 1 in away:
                    for missed in night.pending():
                        with time_machine.travel(clock.day_end(missed) + MORNING, tick=False):
                            late = night.start(missed)
                        Night.objects.filter(pk=late.pk).update(as_of=clock.day_end(day))
                        night.run(missed)
                assert (
                    night.pending() == list(clock.days(day - timedelta(days=_missed(number, away)), day)) or wrong_as_of
                )
                if number == 0:
                    night.run(day)
                else:
                    found = night.tick(seconds=600)
                    caught_up += found if len(found) > 1 else []
        weeks = Weeks(
            picture=pictures.take(
                "messages", "runs", "journeys", "journey entries", "report days", "retention days", "flow periods"
            ),
            messages=Counter(Message.objects.values_list("run__key", flat=True)),
            stale=sum(n.counts.get("stale", 0) for n in Night.objects.all()),
            nights=caught_up,
        )
        assert {n.state for n in Night.objects.all()} == {"done"}
        return weeks
    raise AssertionError


def _missed(number: int, away: range) -> int:
    count = 0
    while number - 1 - count in away:
        count += 1
    return count


SHOP = {"people": 150 if plan.IS_LONG else 40, "days": 20, "of": "outage"}
AWAY = range(14, 17)


@cache
def at_work_all_the_time() -> Weeks:
    return live_through(away=range(0), **SHOP)


@pytest.mark.django_db
def test_three_days_away_end_like_three_days_at_work_and_old_news_is_dropped_and_counted(
    tell: Callable[..., None],
) -> None:
    """44 and 21: three missed nights are caught up oldest first, each as of its own date; stale triggers are dropped."""
    at_work = at_work_all_the_time()
    away = live_through(away=AWAY, **SHOP)
    missed = [FIRST + timedelta(days=n) for n in range(AWAY.start, AWAY.stop + 1)]
    assert [n.business_date for n in away.nights] == missed
    assert [n.as_of for n in away.nights] == [clock.day_end(day) for day in missed]
    assert pictures.differences(at_work.picture, away.picture) == []
    # At 03:00 on the fourth day, two of the four nights are more than 48 hours old: their people are not written to.
    old, fresh = [f"night:{day}" for day in missed[:2]], [f"night:{day}" for day in missed[2:]]
    dropped = sum(at_work.messages[key] for key in old)
    tell(stale=away.stale, messages_at_work=at_work.messages.total(), messages_away=away.messages.total())
    assert dropped > 0, "Nobody went dormant on the days that became too old: this run proves nothing."
    assert (at_work.stale, away.stale) == (0, dropped)
    assert [away.messages[key] for key in old] == [0, 0]
    assert away.messages == at_work.messages - Counter({key: at_work.messages[key] for key in old})
    assert sum(away.messages[key] for key in fresh) > 0


@pytest.mark.django_db
def test_its_unsafe_twin_that_decides_for_the_moment_it_runs_rewrites_the_days_it_missed(
    tell: Callable[..., None],
) -> None:
    """44, twin: every missed night decides as of the catch-up."""
    at_work = at_work_all_the_time()
    away = live_through(away=AWAY, wrong_as_of=True, **SHOP)
    found = pictures.differences(at_work.picture, away.picture)
    tell(rows_that_differ=len(found))
    assert [row for row in found if row.startswith("moves: ")] != []


@pytest.mark.django_db
def test_its_unsafe_twin_that_sees_orders_as_they_are_now_takes_back_too_early(
    monkeypatch: pytest.MonkeyPatch, tell: Callable[..., None]
) -> None:
    """44, twin: a missed night sees what was given back and cancelled after its date."""
    at_work = at_work_all_the_time()
    then = givebacks.orders

    monkeypatch.setattr(givebacks, "orders", lambda *asked, **among: _as_now(then, *asked, **among))
    found = pictures.differences(at_work.picture, live_through(away=AWAY, **SHOP).picture)
    tell(rows_that_differ=len(found))
    assert [row for row in found if row.startswith(("moves: ", "rfm days: "))] != []


def _as_now(then: Callable[..., Any], *asked: Any, **among: Any) -> tuple[str, list[Any]]:
    sql, params = then(*asked, **among)
    return sql.partition(" UNION ALL ")[0], params[:1]


# --- The audience guard -----------------------------------------------------------------------------------------------

QUIET_RULES = [rule for rule in town.RULES if rule["key"] in ("started", "known")]
QUIET_RULES.insert(
    0,
    {"key": "goes_quiet", "to": "dormant", "when": {"fact": "last_order_at", "op": "days_since_gte", "value": 15}},
)


def _a_silent_shop(people: int) -> date:
    """Everybody bought on the first day and nobody since; placed that night. The night on which all go quiet."""
    since = clock.day_start(FIRST)
    town.furnish(since=since, tree=QUIET_RULES)
    town.settle_in(people, since=since)
    with time_machine.travel(clock.day_end(FIRST), tick=False):
        for who in range(people):
            ingest.record_order(town.order(f"O-{who}", who, since + timedelta(hours=9), 900), source="shop")
    with time_machine.travel(clock.day_end(FIRST) + MORNING, tick=False):
        night.run(FIRST)
    return FIRST + timedelta(days=15)


@pytest.mark.django_db
def test_a_night_that_would_write_to_everybody_stops_and_asks(tell: Callable[..., None]) -> None:
    """21: the audience guard."""
    people = 80
    day = _a_silent_shop(people)
    with time_machine.travel(clock.day_end(day) + MORNING, tick=False):
        done = night.run(day)
        assert done.counts["moved"] == people
        assert (done.counts["entered"], done.counts["waiting"]) == (people, people)
        run = Run.objects.get()
        assert (run.state, run.guard) == (Run.State.NEEDS_CONFIRMATION, {"people": people, "customers": people})
        assert reactivation.runs_waiting() == [run]
    with time_machine.travel(clock.day_end(day) + timedelta(hours=12), tick=False):
        sent = outbox.send_due()
    tell(stopped=people, sent=sum(sent.values()))
    assert sent == {}
    assert Message.objects.filter(state="sent").count() == 0


@pytest.mark.django_db
def test_its_unsafe_twin_without_the_guard_writes_to_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """21, twin: the guard never asks."""
    monkeypatch.setattr(reactivation, "GUARD_FLOOR", 10**9)
    day = _a_silent_shop(80)
    with time_machine.travel(clock.day_end(day) + MORNING, tick=False):
        night.run(day)
    with time_machine.travel(clock.day_end(day) + timedelta(hours=12), tick=False):
        outbox.send_due(seconds=60)
        assert Message.objects.filter(state="sent").count() > 50


@pytest.mark.django_db
def test_a_clock_that_jumps_a_year_ahead_writes_to_nobody(tell: Callable[..., None]) -> None:
    """21: all go quiet in nights that are long over by the wrong clock; each is dropped as stale, and counted."""
    people = 60
    _a_silent_shop(people)
    jump = 400 if plan.IS_LONG else 20
    with time_machine.travel(clock.day_end(FIRST) + timedelta(days=jump, hours=3), tick=False):
        while night.pending():
            town.as_autovacuum_would()
            night.tick(seconds=5)
        assert Night.objects.filter(state="done", business_date__gt=FIRST).count() == jump
        assert outbox.send_due() == {}
    stale = sum(n.counts.get("stale", 0) for n in Night.objects.all())
    tell(nights=jump, stale=stale, messages=Message.objects.count())
    assert (stale, Message.objects.count()) == (people, 0)


# --- Late orders ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_order_that_arrives_a_day_late_is_put_right_by_the_next_night_and_asks_nobody_back() -> None:
    """49: yesterday's order comes today; a correction is a new move, and who only seemed quiet gets no message."""
    day = _a_silent_shop(30)
    late = range(20)
    with time_machine.travel(clock.day_end(day) + MORNING, tick=False):
        night.run(day)
        assert CustomerFacts.objects.filter(stage="dormant").count() == 30
        at = clock.day_end(day) - timedelta(hours=5)
        for who in late:
            ingest.record_order(town.order(f"L-{who}", who, at, 700), source="shop")
    with time_machine.travel(clock.day_end(day) + timedelta(hours=5), tick=False):
        from lifecycle_crm import reactions

        reactions.run()
        assert CustomerFacts.objects.filter(stage="nurture").count() == 20
    with time_machine.travel(clock.day_end(day) + timedelta(hours=12), tick=False):
        outbox.send_due(seconds=60)
        written_to = set(Message.objects.filter(state="sent").values_list("customer__email_key", flat=True))
        assert written_to <= {town.email(who) for who in range(20, 30)}
        assert len(written_to) > 0
    moves = StageTransition.objects.filter(customer__email_key=town.email(0)).order_by("id")
    assert [(m.from_stage, m.to_stage) for m in moves] == [
        ("", "nurture"), ("nurture", "dormant"), ("dormant", "nurture")
    ]  # fmt: skip


# --- Writers in flight ------------------------------------------------------------------------------------------------


@dataclass
class Writer:
    """A transaction of another connection that has written an order and its mark, and commits when it is told to."""

    may_commit: threading.Event
    has_written: threading.Event
    thread: threading.Thread

    def commit(self) -> None:
        self.may_commit.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture
def writer() -> Iterator[Callable[[datetime], Writer]]:
    """``writer(at)``: customer 0 orders at that moment, in a transaction that stays open."""
    open_ones: list[Writer] = []

    def begin(at: datetime) -> Writer:
        may_commit, has_written = threading.Event(), threading.Event()

        def write() -> None:
            try:
                with transaction.atomic():
                    ingest.record_order(town.order("in-flight", 0, at, 4200), source="shop")
                    has_written.set()
                    may_commit.wait(600)
            finally:
                connection.close()

        one = Writer(may_commit, has_written, threading.Thread(target=write))
        one.thread.start()
        assert has_written.wait(30)
        open_ones.append(one)
        return one

    yield begin
    for one in open_ones:
        one.commit()


def _in_flight_shop() -> date:
    last = clock.last_complete_day()
    since = clock.day_start(last - timedelta(days=3))
    # Points that count towards a tier mark their customer once more: the loss of the first mark would not show.
    town.furnish(since=since, has_tiers=False)
    town.settle_in(5, since=since)
    night.run(last - timedelta(days=2))
    return last - timedelta(days=1)


def _seen() -> tuple[int, int]:
    row = CustomerFacts.objects.get(customer__email_key=town.email(0))
    return row.orders, row.spend_minor


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_an_order_committed_after_the_night_has_read_is_seen_by_the_next(
    writer: Callable[[datetime], Writer],
) -> None:
    """In flight: a transaction open across the night. Its mark is seen by the next night, whatever its time and number."""
    day = _in_flight_shop()
    open_one = writer(clock.day_end(day) - timedelta(hours=2))
    # A later row, committed before: a mark of how far somebody read would now stand beyond the open one.
    ingest.record_order(town.order("after", 1, clock.day_end(day) - timedelta(hours=1), 100, "jazz"), source="shop")
    assert night.run(day).state == "done"
    assert _seen() == (0, 0)
    open_one.commit()
    assert night.run(day + timedelta(days=1)).counts["refreshed"] == 1
    assert _seen() == (1, 4200)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_its_unsafe_twin_that_reads_and_then_deletes_loses_the_order_in_between(
    writer: Callable[[datetime], Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In flight, twin: marks are read in one statement and deleted in the next."""
    day = _in_flight_shop()
    open_one = writer(clock.day_end(day) - timedelta(hours=2))
    plain = facts._take

    def careless(where: str, params: list[Any], as_of: datetime) -> int:
        known = "customer_id IN (SELECT id FROM customers_customer) GROUP BY customer_id"
        where, params = f"{where} AND occurred_at < %s", [*params, int(as_of.timestamp())]
        count = batches.execute(
            f"INSERT INTO {facts.PICKED} SELECT customer_id, true, bool_or(is_history) FROM customers_dirtycustomer "
            f"WHERE {where} AND {known}",
            params,
        )
        open_one.commit()
        batches.execute(f"DELETE FROM customers_dirtycustomer WHERE {where}", params)
        facts._copy(count, is_dirty=True)
        return count

    monkeypatch.setattr(facts, "_take", careless)
    night.run(day)
    monkeypatch.setattr(facts, "_take", plain)
    night.run(day + timedelta(days=1))
    assert Order.objects.filter(source_id="in-flight").exists()
    assert _seen() == (0, 0)


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_a_night_waits_for_the_writer_who_is_writing(writer: Callable[[datetime], Writer]) -> None:
    """In flight: SQLite has one writer; the night waits its turn and then sees what was written."""
    day = _in_flight_shop()
    open_one = writer(clock.day_end(day) - timedelta(hours=2))
    threading.Timer(0.5, open_one.may_commit.set).start()
    assert night.run(day).state == "done"
    assert _seen() == (1, 4200)
    assert Customer.objects.count() == 5

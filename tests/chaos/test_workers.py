"""Faults 43, 47, 48, 50 and 51: several beats and workers at once, also behind a connection pooler; a customer who ends
every process; a part that is too large for the memory there is; a worker that slept too long."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import psycopg2
import pytest
import time_machine
from django.db.models import Sum

from customers import facts
from customers.models import Customer, CustomerFacts, DirtyCustomer
from lifecycle_crm import night, reactions
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.models import SetAside
from stages.models import Chunk, Night, RuleSet, StageTransition
from tests import servers
from tests.chaos import pictures, plan, town
from tests.chaos.actors import Stage
from tests.fixtures import database_url, wait_until

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

PEOPLE, WIDTH = (300 if plan.IS_LONG else 60), 8


def a_shop(of: str, *, days: int = 30) -> date:
    """People and what they did up to yesterday; nothing was decided yet. The last complete day."""
    last = clock.last_complete_day()
    first = last - timedelta(days=days)
    town.furnish(since=clock.day_start(first))
    town.settle_in(PEOPLE, since=clock.day_start(first))
    town.hear(town.busy(PEOPLE, first=first, last=last, dice=plan.dice(of)))
    return last


def workers_of(day: date) -> Counter[str]:
    """Finished parts by process."""
    owners = Chunk.objects.filter(night__business_date=day, state="done").values_list("owner", flat=True)
    return Counter(owner.split(":")[1] for owner in owners)


# --- Several at once --------------------------------------------------------------------------------------------------


def three_at_once(stage: Stage, tell: Callable[..., None]) -> None:
    """Three beats that run what is due: one night per date, each part worked once."""
    last = a_shop("beats")
    first = last - timedelta(days=min(plan.rounds(3), 25) + 1)
    night.run(first)
    due = night.pending()  # not yesterday's, when this runs between midnight and the hour of nights
    assert due[0] == first + timedelta(days=1)
    beats = [stage.start("tick", width=WIDTH, nap=0.01) for _ in range(3)]
    assert [stage.wait(pid) for pid in beats] == [0, 0, 0], stage.said.read_text()[-3000:]
    nights = Night.objects.filter(business_date__gt=first).order_by("business_date")
    assert [n.business_date for n in nights] == due
    assert [n.as_of for n in nights] == [clock.day_end(n.business_date) for n in nights]
    assert {n.state for n in nights} == {"done"}
    parts = Chunk.objects.filter(night__in=nights)
    assert parts.exclude(state="done").count() == 0
    # Claimed once each: nobody did again what another had done or was doing.
    assert parts.aggregate(n=Sum("attempts"))["n"] == parts.count()
    shares = sum((workers_of(n.business_date) for n in nights), Counter[str]())
    tell(nights=len(nights), parts=parts.count(), shares=sorted(shares.values()))
    assert len(shares) >= 2, "One process did it all: this run proves nothing."
    again = StageTransition.objects.filter(night__in=nights).values_list("customer", "night")
    assert len(set(again)) == len(again)


def test_three_beats_and_three_workers_make_one_night_of_each_date(stage: Stage, tell: Callable[..., None]) -> None:
    """43: several beats and workers at once; one night per date, each part worked once."""
    three_at_once(stage, tell)


def test_three_who_press_run_now_in_a_new_shop_share_one_night_and_one_set_of_rules(stage: Stage) -> None:
    """43: the very first night is started three times at once, when there are no rules yet."""
    last = clock.last_complete_day()
    town.settle_in(PEOPLE, since=clock.day_start(last))
    three = [stage.start("night", day=last.isoformat(), width=WIDTH) for _ in range(3)]
    assert [stage.wait(pid) for pid in three] == [0, 0, 0], stage.said.read_text()[-3000:]
    assert Night.objects.get().state == "done"
    assert RuleSet.objects.get().state == "published"
    assert Chunk.objects.exclude(state="done").count() == 0
    assert StageTransition.objects.count() == PEOPLE


@pytest.mark.postgresql
@pytest.mark.pooler
def test_behind_a_pooler_by_transaction_they_still_make_one_night_of_each_date(
    pooled_stage: Stage, tell: Callable[..., None]
) -> None:
    """51: the same behind PgBouncer, pool_mode=transaction: a lease is a row, so it does not matter whose connection it was."""
    three_at_once(pooled_stage, tell)


@pytest.mark.postgresql
@pytest.mark.pooler
def test_its_unsafe_twin_that_locks_by_session_has_two_holders_behind_a_pooler(tell: Callable[..., None]) -> None:
    """51, twin: an advisory lock belongs to a connection, and the pooler lends the same one to both."""
    pooler = servers.pgbouncer(database_url(), connections=1)
    holders = 0
    try:
        for _n in range(3):
            one = psycopg2.connect(pooler.url)
            one.autocommit = True
            with one.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_lock(51)")
                holders += cursor.fetchone()[0]
            # Not closed: each believes that it holds the lock alone.
    finally:
        pooler.stop()
    tell(holders_at_once=holders)
    assert holders == 3


def test_its_unsafe_twin_that_claims_without_asking_works_parts_twice(stage: Stage, tell: Callable[..., None]) -> None:
    """43, twin: a part is taken without looking whether somebody has it."""
    last = a_shop("beats")
    night.start(last)
    three = [stage.start("night", day=last.isoformat(), width=WIDTH, unsafe="no_claim", nap=0.02) for _ in range(3)]
    for pid in three:
        stage.wait(pid)
    parts = Chunk.objects.filter(night__business_date=last)
    twice = (parts.aggregate(n=Sum("attempts"))["n"] or 0) - parts.count()
    tell(worked_again=twice)
    assert twice > 0


# --- Poison -----------------------------------------------------------------------------------------------------------


def test_a_customer_who_ends_every_process_is_set_aside_after_three_tries_and_named(
    stage: Stage, tell: Callable[..., None]
) -> None:
    """47: a poison customer that kills its worker; the others get their night."""
    last = a_shop("poison")
    ids = list(Customer.objects.order_by("pk").values_list("pk", flat=True))
    poison = ids[plan.dice("poison").randrange(len(ids))]
    deaths = 0
    while (ended := stage.wait(stage.start("night", day=last.isoformat(), width=WIDTH, poison=poison))) != 0:
        assert ended == 9
        deaths += 1
        assert deaths <= 30, "The night must get on."
    done = Night.objects.get(business_date=last)
    tell(deaths=deaths, done=StageTransition.objects.count())
    assert (done.state, done.counts["set_aside"]) == ("done", 1)
    failed = Chunk.objects.get(night=done, state="failed")
    assert (failed.step, failed.low, failed.high) == ("facts", poison, poison + 1)
    assert str(poison) in done.error
    # Three tries of eight, of four, of two, of one.
    assert deaths == 12
    assert set(CustomerFacts.objects.exclude(stage="").values_list("pk", flat=True)) == set(ids) - {poison}


def test_its_unsafe_twin_that_counts_no_tries_never_gets_past_the_poison(
    stage: Stage, tell: Callable[..., None]
) -> None:
    """47, twin: tries are not counted."""
    last = a_shop("poison")
    poison = Customer.objects.order_by("pk")[3].pk
    deaths = sum(
        stage.wait(stage.start("night", day=last.isoformat(), width=WIDTH, poison=poison, tries=10**6)) == 9
        for _ in range(15)
    )
    tell(deaths=deaths)
    assert deaths == 15
    assert Night.objects.get(business_date=last).state == "running"


def test_what_goes_wrong_with_everybody_stops_the_night_soon_and_a_later_beat_finishes_it(
    monkeypatch: pytest.MonkeyPatch, tell: Callable[..., None]
) -> None:
    """47 and 85: no poison but a fault of the machine; nobody is tried to death, and the night heals itself."""
    last = a_shop("fault")
    with pictures.nothing_stays():
        assert night.run(last).state == "done"
        alone = pictures.take("nights")
    monkeypatch.setattr(night, "MOST_SET_ASIDE", 5)
    tries = 0

    def full_disk(**_order: object) -> None:
        nonlocal tries
        tries += 1
        raise OSError("No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(reactions, "hand_down", full_disk)
        stopped = night.run(last)
    tell(tries=tries)
    assert stopped.state == "failed"
    assert "No space left on device" in stopped.error
    assert tries < 200  # of three for each of 60 customers and for every range that holds them
    with time_machine.travel(stopped.finished_at + timedelta(minutes=14), tick=False):
        assert night.pending() == []
        assert night.tick() == []
    with time_machine.travel(stopped.finished_at + timedelta(minutes=16), tick=False):
        assert night.pending()[0] == last
        assert night.run(last).state == "done"
    assert pictures.differences(alone, pictures.take("nights")) == []


def test_a_customer_who_cannot_be_placed_at_once_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """47: poison in what happens at once: named after three tries, left to the night, and tried again the next day."""
    last = a_shop("at once")
    night.run(last)
    people = list(Customer.objects.order_by("pk"))
    poison = people[5]
    inner = reactions.hand_down

    def trips(**order: object) -> None:
        inner(**order)
        if (poison.pk,) in batches.rows(f"SELECT customer_id FROM {facts.PICKED}"):
            raise ValueError("cannot be read")

    monkeypatch.setattr(reactions, "hand_down", trips)
    facts.mark([one.pk for one in people], occurred_at=clock.now() - timedelta(seconds=2))
    reactions.run()
    assert set(DirtyCustomer.objects.values_list("customer_id", flat=True)) == {poison.pk}
    named = SetAside.objects.get()
    assert (named.kind, named.object_id, named.attempts) == ("customers.customer", poison.pk, 3)
    assert named.error == "ValueError: cannot be read"
    assert reactions.run() == {}
    monkeypatch.setattr(reactions, "hand_down", inner)
    assert reactions.run() == {}
    with time_machine.travel(clock.now() + timedelta(days=1, seconds=5), tick=False):
        assert reactions.run() == {"customers": 1}
    assert SetAside.objects.count() == DirtyCustomer.objects.count() == 0


# --- Memory -----------------------------------------------------------------------------------------------------------

MEGABYTE = 2**20
EATS, LIMIT = 4 * MEGABYTE, 72 * MEGABYTE
"""What a worker needs for each customer of a part, and what it may have: enough for sixteen of them."""


@pytest.fixture
def cgroup(tmp_path: Path) -> Iterator[str]:
    """A folder of the kernel's with this limit, "" where we may not make one. Then the process ends itself in time."""
    memory = Path("/sys/fs/cgroup/memory")
    ours = memory / f"crm-{tmp_path.name}-{os.getpid()}"
    try:
        ours.mkdir()
        (ours / "memory.limit_in_bytes").write_text(str(LIMIT))
    except OSError:
        if ours.is_dir():
            ours.rmdir()
        yield ""
        return
    yield str(ours)
    ours.rmdir()


def test_a_part_that_does_not_fit_into_memory_is_tried_again_smaller(
    stage: Stage, cgroup: str, monkeypatch: pytest.MonkeyPatch, tell: Callable[..., None]
) -> None:
    """48: the kernel kills the worker that needs too much; its part is halved until it fits, and nobody is left out."""
    last = a_shop("memory")
    monkeypatch.setattr(night, "WIDTH", 50)
    with pictures.nothing_stays():
        assert night.run(last).state == "done"
        alone = pictures.take("nights")
    order = {"day": last.isoformat(), "width": 50, "eats": EATS, "limit": LIMIT, "cgroup": cgroup}
    deaths = 0
    while (ended := stage.wait(stage.start("night", **order))) != 0:
        assert ended == -signal.SIGKILL, stage.said.read_text()[-3000:]
        deaths += 1
        assert deaths <= 100, "The night must get on."
    parts = Chunk.objects.filter(night__business_date=last, step="facts")
    most = max(Customer.objects.filter(pk__gte=part.low, pk__lt=part.high).count() for part in parts)
    by = "the kernel (a cgroup)" if cgroup else "itself"
    tell(deaths=deaths, killed_by=by, most_people_in_a_part=most, parts=parts.count())
    done = Night.objects.get(business_date=last)
    assert (done.state, done.counts["set_aside"], done.error) == ("done", 0, "")
    # Three tries of fifty, of twenty-five, and then twelve or thirteen fit.
    assert deaths >= 6
    assert most <= 16
    assert pictures.differences(alone, pictures.take("nights")) == []


def test_its_unsafe_twin_that_tries_the_same_part_again_never_gets_through(
    stage: Stage, cgroup: str, tell: Callable[..., None]
) -> None:
    """48, twin: a part stays as large as it is, however often it has killed its worker."""
    last = a_shop("memory")
    order = {"day": last.isoformat(), "width": 50, "eats": EATS, "limit": LIMIT, "cgroup": cgroup, "tries": 10**6}
    deaths = sum(stage.wait(stage.start("night", **order)) == -signal.SIGKILL for _ in range(9))
    tell(deaths=deaths)
    assert deaths == 9
    assert Night.objects.get(business_date=last).state == "running"
    assert not Chunk.objects.filter(night__business_date=last, step="facts", state="done").exists()


def test_a_worker_has_as_much_memory_after_its_last_part_as_after_its_first(
    stage: Stage, tmp_path: Path, tell: Callable[..., None]
) -> None:
    """48: memory stays flat over the parts of full nights."""
    last = a_shop("flat")
    notes = tmp_path / "memory"
    order = {"day": last.isoformat(), "is_full": True, "width": WIDTH, "notes": str(notes)}
    assert stage.wait(stage.start("night", **order)) == 0
    told = [line.split() for line in notes.read_text().splitlines()]
    sizes = [int(size) for step, size in told if step in ("facts", "stages")]
    tell(parts=len(sizes), at_first_mb=sizes[0] // MEGABYTE, at_most_mb=max(sizes) // MEGABYTE)
    assert len(sizes) > 12
    assert max(sizes) < 1.1 * sizes[0]


# --- The zombie -------------------------------------------------------------------------------------------------------


def sleep_through(stage: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch, **order: object) -> list[str]:
    """A worker is stopped with a part in hand; its lease runs out, another finishes the night and the next one; it wakes.

    What differs afterwards from what was there when it woke.
    """
    last = a_shop("zombie")
    day = last - timedelta(days=1)
    mark, go = folder / "mark", folder / "go"
    zombie = stage.start(
        "night",
        day=day.isoformat(),
        is_full=True,
        width=1000,
        lease=1,
        hold="facts",
        mark=str(mark),
        go=str(go),
        **order,
    )
    wait_until(mark.exists, seconds=60)
    os.kill(zombie, signal.SIGSTOP)
    held = Chunk.objects.get(night__business_date=day, step="facts")
    assert (held.state, f":{zombie}:" in held.owner) == ("running", True)
    wait_until(lambda: held.lease_until < clock.now() - timedelta(seconds=1), seconds=30)
    monkeypatch.setattr(night, "WIDTH", 1000)
    for each in (day, last):
        assert night.run(each).state == "done"
    before = pictures.take()
    go.write_text("")
    os.kill(zombie, signal.SIGCONT)
    time.sleep(0.2)
    assert stage.wait(zombie) == 0, stage.said.read_text()[-3000:]
    return pictures.differences(before, pictures.take())


def test_a_worker_that_slept_past_its_lease_writes_nothing_when_it_wakes(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50: the holder of a lease is stopped, its part taken over, two nights finished; then it goes on."""
    assert sleep_through(stage, tmp_path, monkeypatch) == []


def test_its_unsafe_twin_without_the_fence_writes_old_facts_over_new_ones(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Callable[..., None]
) -> None:
    """50, twin: what a worker did counts, whoever has the part by now."""
    found = sleep_through(stage, tmp_path, monkeypatch, unsafe="no_fence")
    tell(rows_that_differ=len(found))
    assert [row for row in found if row.startswith("facts: ")] != []

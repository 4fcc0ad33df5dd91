"""Faults 42 and 52: a night whose processes are killed in the middle of their work ends like one that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest
from django.db import connection

from campaigns.models import Message
from lifecycle_crm import night
from lifecycle_crm.lib import clock
from stages.models import Chunk, Night, StageTransition
from tests.chaos import pictures, plan, town
from tests.chaos.actors import Stage

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

PEOPLE, WIDTH = (400 if plan.IS_LONG else 90), 12
QUICK = {"width": WIDTH, "tries": 10**6}
"""With so many tries a part is never halved: what is compared is the same cut of the work."""


def a_shop_with_news(of: str) -> date:
    """A shop that was placed eight days ago, with the news of a week waiting for one night; its date."""
    last = clock.last_complete_day()
    first = last - timedelta(days=45)
    town.furnish(since=clock.day_start(first))
    town.settle_in(PEOPLE, since=clock.day_start(first))
    told = town.busy(PEOPLE, first=first, last=last, dice=plan.dice(of))
    town.hear(told)
    done = night.run(last - timedelta(days=7))
    assert done.counts["moved"] == PEOPLE
    return last


@dataclass
class Undisturbed:
    picture: pictures.Picture
    statements: int
    chunks: int


def undisturbed(day: date, monkeypatch: pytest.MonkeyPatch) -> Undisturbed:
    """The same night by itself, looked at and rolled back: what the disturbed one has to come to."""
    monkeypatch.setattr(night, "WIDTH", WIDTH)
    seen: list[Undisturbed] = []
    count = 0

    def counting(execute: Callable, *statement: object) -> object:
        nonlocal count
        count += 1
        return execute(*statement)

    with pictures.nothing_stays():
        with connection.execute_wrapper(counting):
            done = night.run(day)
        assert done.state == "done", done.error
        assert Message.objects.count() > 3, "The night must have something to lose."
        seen.append(Undisturbed(pictures.take(), count, Chunk.objects.filter(night=done).count()))
    assert Night.objects.filter(business_date=day).count() == 0
    return seen[0]


@dataclass
class Kills:
    """What was hit: the step of the part each killed process had in hand, or "between" when it had finished some."""

    effective: int = 0
    in_hand: Counter[str] = field(default_factory=Counter)

    def count(self, pid: int) -> None:
        mine = Chunk.objects.filter(owner__contains=f":{pid}:")
        holding = mine.filter(state="running").values_list("step", flat=True).first()
        if holding or mine.exists():
            self.effective += 1
            self.in_hand[holding or "between"] += 1


def run_killed(stage: Stage, day: date, *, kills: int, statements: int, dice: random.Random, **order: object) -> Kills:
    """Workers that die before a statement that the dice chose, one after another, until so many have; the last one lives."""
    found, left = Kills(), statements
    for _ in range(20 * kills):
        if found.effective >= kills:
            break
        # Spread over the night, and never so late that too little of it is left for the kills to come. What a killed
        # worker had in hand is done again, so there is always more left than this says.
        at = dice.randrange(8, max(20, 2 * left // (kills - found.effective + 1)))
        left = max(left - at, 0)
        pid = stage.start("night", day=day.isoformat(), die_at=at, **order)
        ended = stage.wait(pid)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL, stage.said.read_text()[-3000:]
        found.count(pid)
    assert stage.wait(stage.start("night", day=day.isoformat(), **order)) == 0, stage.said.read_text()[-3000:]
    return found


def test_a_night_killed_again_and_again_ends_in_the_tables_of_one_that_was_left_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tell: Callable[..., None]
) -> None:
    """42: killed and resumed equals undisturbed."""
    day = a_shop_with_news("kills")
    alone = undisturbed(day, monkeypatch)
    wanted = plan.rounds(5)
    kills = run_killed(stage, day, kills=wanted, statements=alone.statements, dice=plan.dice("killed at"), **QUICK)
    tell(kills=kills.effective, hit=dict(sorted(kills.in_hand.items())), chunks=alone.chunks)
    assert kills.effective >= min(wanted, 20), f"Only {kills.effective} kills hit work: this run proves nothing."
    assert Night.objects.get(business_date=day).state == "done"
    assert pictures.differences(alone.picture, pictures.take()) == []
    by_customer = Counter(StageTransition.objects.filter(night__business_date=day).values_list("customer", flat=True))
    assert max(by_customer.values()) == 1


def test_two_workers_that_are_killed_from_outside_leave_the_same_tables(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tell: Callable[..., None]
) -> None:
    """42: two workers at once, one killed at any moment, its part taken over by the other."""
    day = a_shop_with_news("pairs")
    alone = undisturbed(day, monkeypatch)
    dice, kills, wanted = plan.dice("which of two"), Kills(), plan.rounds(2)
    order = {"day": day.isoformat(), "nap": 0.03, **QUICK}
    pair = [stage.start("night", **order), stage.start("night", **order)]
    while kills.effective < wanted and not Night.objects.filter(business_date=day, state="done").exists():
        victim = pair.pop(dice.randrange(2))
        seen = Chunk.objects.filter(owner__contains=f":{victim}:").count()
        until = time.monotonic() + 20
        while time.monotonic() < until and stage.status(victim) is None:
            if Chunk.objects.filter(owner__contains=f":{victim}:").count() > seen + dice.randrange(1, 3):
                break
        if stage.status(victim) is None:
            os.kill(victim, signal.SIGKILL)
            stage.wait(victim)
            if Night.objects.filter(business_date=day, state="running").exists():
                kills.count(victim)
        pair.append(stage.start("night", **order))
    assert [stage.wait(pid) for pid in pair] == [0, 0], stage.said.read_text()[-3000:]
    tell(kills=kills.effective, hit=dict(sorted(kills.in_hand.items())))
    assert kills.effective >= min(wanted, 20), f"Only {kills.effective} kills hit work: this run proves nothing."
    assert pictures.differences(alone.picture, pictures.take()) == []


def test_its_unsafe_twin_that_calls_a_part_done_before_it_is_worked_loses_customers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tell: Callable[..., None]
) -> None:
    """42, twin: done is written before the work, in a transaction of its own."""
    day = a_shop_with_news("kills")
    alone = undisturbed(day, monkeypatch)
    kills = run_killed(
        stage, day, kills=plan.rounds(5), statements=alone.statements, dice=plan.dice("killed at"),
        unsafe="done_before_work", **QUICK,
    )  # fmt: skip
    lost = pictures.differences(alone.picture, pictures.take())
    tell(kills=kills.effective, rows_that_differ=len(lost))
    assert kills.effective >= 1
    assert lost != []

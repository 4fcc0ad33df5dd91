"""A draft replayed over past nights beside the rules in force: who would have stood where, who moved, who flapped, who bought.

The work of a worker: customers are taken part by part, each part through all nights in one transaction that is rolled back
(``stages.replay``), and what it gave is added to the row. A worker that dies loses the part at hand; another one goes on with
it. Above ``WHOLE`` customers a sample is replayed, and what is told of it carries its interval.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import ceil, floor, sqrt
from typing import Any

from django.db import transaction
from django.db.models import Count, F, Max
from django.utils.translation import gettext as _

from customers.models import Customer
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, clock, leases
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from lifecycle_crm.lib.intervals import Z, wilson
from stages import queries, replay
from stages import rules as rulebook
from stages.models import Backtest, RuleSet, StageKey
from stages.replay import FLAP_DAYS, NAMED, HandDown, Pair, Part, Side

logger = logging.getLogger(__name__)

WHOLE = 100_000
"""Up to so many customers are replayed one and all; of a larger base a sample of ``SAMPLE``."""
SAMPLE = 50_000
PART, FIRST_PART, PART_SECONDS = 5_000, 500, 30
"""A part takes at most so many customers, the first one few; and about so many seconds."""
MONTHS = (3, 6, 12, 24)
REVENUE_DAYS = {3: 30, 6: 60, 12: 90, 24: 90}
"""How many days after a move are counted as revenue after it, by the months of the replay."""
ENOUGH = 30
"""Moves below which a mean or a median says too little to be told."""
LEASE_SECONDS = 600
TRIES = 3
_SPREAD, _RANGE = 2_654_435_761, 2**32
"""Knuth's multiplicative hash: takes a share of ids that follow each other, evenly, and always the same ones."""


def request(*, rule_set: RuleSet, months: int, actor: User | None) -> Backtest:
    """Ask for a replay over the last ``months``; a worker makes it. One at a time per version."""
    if months not in MONTHS:
        raise InvalidInput(f"A replay covers {', '.join(map(str, MONTHS))} months; {months} is none of them.")
    against = queries.published()
    if against is None:
        raise Conflict(_("There are no rules in force to compare with. Install the default rules first."))
    rulebook.parse(rule_set.rules)
    with transaction.atomic():
        open_one = Backtest.objects.filter(
            rule_set=rule_set, state__in=[Backtest.State.WAITING, Backtest.State.RUNNING]
        ).first()
        if open_one is not None:
            raise Conflict(_("A replay of this version is under way. Wait for it, or stop it."))
        last = clock.last_complete_day()
        return Backtest.objects.create(
            rule_set=rule_set,
            rules=rule_set.rules,
            against=against,
            months=months,
            last_day=last,
            nights=len(replay.nights(last, months)),
            created_by=actor,
        )


def stop(*, test: Backtest, actor: User | None) -> Backtest:
    """End a replay before its time; the part at hand is thrown away when it is through."""
    taken = Backtest.objects.filter(pk=test.pk, state__in=[Backtest.State.WAITING, Backtest.State.RUNNING]).update(
        state=Backtest.State.FAILED,
        error=(_("%(person)s stopped it.") % {"person": actor} if actor else _("Somebody stopped it."))[:500],
        finished_at=clock.now(),
        result={},
    )
    if not taken:
        raise Conflict(_("This replay is over already."))
    test.refresh_from_db()
    return test


# --- The work ---------------------------------------------------------------------------------------------------------


def work(*, hand_down: HandDown, happened: Sequence[str], seconds: float = 240) -> list[Backtest]:
    """Do what waits for about so long; which replays were worked on. What is left waits for the next call."""
    deadline = time.monotonic() + seconds
    worked: list[Backtest] = []
    while (left := deadline - time.monotonic()) > 0:
        found = work_due(hand_down=hand_down, happened=happened, seconds=left)
        if found is None:
            break
        worked.append(found)
    return worked


def work_due(*, hand_down: HandDown, happened: Sequence[str], seconds: float | None = None) -> Backtest | None:
    """Take the replay that waits longest, or one whose worker is gone, and go on with it; ``None`` when none waits.

    It is finished, or waits again when the time is up: what its parts gave is kept. ``hand_down`` and ``happened`` are those
    of ``replay.run``.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    now = clock.now()
    found = next((one for one in _open() if _is_free(one)), None)
    if found is None:
        return None
    owner = leases.new_owner()
    unchanged = Backtest.objects.filter(pk=found.pk, state=found.state, owner=found.owner, attempts=found.attempts)
    if found.attempts >= TRIES:
        unchanged.update(
            state=Backtest.State.FAILED, error=_("It was begun three times and never went on."), finished_at=now
        )
        return None
    taken = unchanged.update(
        state=Backtest.State.RUNNING,
        owner=owner,
        lease_until=now + timedelta(seconds=LEASE_SECONDS),
        attempts=F("attempts") + 1,
    )
    if not taken:
        return None
    found.refresh_from_db()
    try:
        _work(found, owner, hand_down, happened, deadline)
    except Exception as problem:
        logger.exception("Replay %s failed", found.pk)
        Backtest.objects.filter(pk=found.pk, owner=owner, state=Backtest.State.RUNNING).update(
            state=Backtest.State.FAILED, error=f"{type(problem).__name__}: {problem}"[:500], finished_at=clock.now()
        )
    found.refresh_from_db()
    return found


def _open() -> Iterable[Backtest]:
    return Backtest.objects.filter(state__in=[Backtest.State.WAITING, Backtest.State.RUNNING]).order_by("id")


def _is_free(test: Backtest) -> bool:
    if test.state == Backtest.State.WAITING or test.lease_until is None:
        return True
    return test.lease_until < clock.now() or leases.is_gone(test.owner)


def _work(test: Backtest, owner: str, hand_down: HandDown, happened: Sequence[str], deadline: float | None) -> None:
    mine = Backtest.objects.filter(pk=test.pk, owner=owner, state=Backtest.State.RUNNING)
    so_far = test.result or _plan()
    days = replay.nights(test.last_day, test.months)
    counted = frozenset(i for i, day in enumerate(days) if i == len(days) - 1 or (day + timedelta(days=1)).day == 1)
    before = so_far["customers"]
    while ids := _next_ids(so_far):
        began = time.monotonic()
        if deadline is not None and began > deadline and so_far["customers"] > before:
            mine.update(state=Backtest.State.WAITING, owner="", lease_until=None, attempts=0)
            return
        old = Side("old", rulebook.parse(test.against.rules))
        new = Side("new", rulebook.parse(test.rules))
        part = replay.run(
            ids=ids, days=days, old=old, new=new, hand_down=hand_down, happened=happened, counted=counted,
            revenue_days=REVENUE_DAYS[test.months],
        )  # fmt: skip
        _add(so_far, part, old, new)
        so_far["after"] = ids[-1]
        so_far["seconds"] += time.monotonic() - began
        # Only while the replay is still ours: not stopped, and no other worker took it for dead.
        if not mine.update(
            result=so_far,
            customers=so_far["customers"],
            base_customers=so_far["base"],
            done=len(days) * so_far["customers"] // max(1, so_far["planned"]),
            nights=len(days),
            lease_until=clock.now() + timedelta(seconds=LEASE_SECONDS),
            attempts=1,
        ):
            return
    mine.update(
        state=Backtest.State.DONE,
        done=len(days),
        nights=len(days),
        customers=so_far["customers"],
        base_customers=so_far["base"],
        finished_at=clock.now(),
        result=_result(so_far, days, REVENUE_DAYS[test.months]),
    )


def _plan() -> dict[str, Any]:
    """An empty sum, with the customers it will be taken of: everybody there is now, or a share of them spread evenly."""
    base = Customer.objects.aggregate(n=Count("pk"), top=Max("pk"))
    share = 1.0 if base["n"] <= WHOLE else SAMPLE / base["n"]
    planned = base["n"] if share == 1 else SAMPLE
    return {
        "after": 0, "top": base["top"] or 0, "base": base["n"], "share": share, "planned": planned, "seconds": 0.0,
        "customers": 0, "differ": 0, "flapped": [], "examples": [], "old": _nothing(), "new": _nothing(),
    }  # fmt: skip


def _nothing() -> dict[str, Any]:
    return {"counts": {}, "first": 0, "moves": {}, "flaps": 0, "flapped": 0, "revenue": {}}


def _next_ids(so_far: Mapping[str, Any]) -> list[int]:
    """The next part of the customers, in the order of their ids."""
    where, share = "", so_far["share"]
    if share < 1:
        where = f"AND (id * {_SPREAD}) %% {_RANGE} < {int(share * _RANGE)}"
    rows = batches.rows(
        f"SELECT id FROM customers_customer WHERE id > %s AND id <= %s {where} ORDER BY id LIMIT {_width(so_far)}",
        [so_far["after"], so_far["top"]],
    )
    return [pk for (pk,) in rows]


def _width(so_far: Mapping[str, Any]) -> int:
    """How many customers the next part takes: what this machine did in half a minute so far, few at first."""
    if not so_far["customers"]:
        return min(FIRST_PART, PART)
    return max(1, min(PART, int(PART_SECONDS * so_far["customers"] / max(so_far["seconds"], 0.001))))


# --- Sums of parts ----------------------------------------------------------------------------------------------------


def _pair(pair: Pair) -> str:
    return f"{pair[0]}>{pair[1]}"


def _add(so_far: dict[str, Any], part: Part, old: Side, new: Side) -> None:
    """Add a part to the sum, which is kept as JSON between the parts."""
    so_far["customers"] += part.customers
    so_far["differ"] += part.differ
    so_far["flapped"] = [*so_far["flapped"], *part.flapped][:NAMED]
    so_far["examples"] = sorted([*so_far["examples"], *part.examples], key=lambda one: (-one["spend"], one["customer"]))
    so_far["examples"] = so_far["examples"][:NAMED]
    for side in (old, new):
        into = so_far[side.name]
        into["first"] += side.first
        into["flaps"] += side.flaps
        into["flapped"] += side.flapped
        for night, stood in side.counts.items():
            _plus(into["counts"], str(night), stood)
        for (night, pair), count in side.moves.items():
            _plus(into["moves"], str(night), {_pair(pair): count})
        for pair, bought in side.revenue.items():
            _plus(into["revenue"], _pair(pair), {str(amount): times for amount, times in bought.items()})


def _plus(into: dict[str, dict[str, int]], key: str, counts: Mapping[str, int]) -> None:
    here = into.setdefault(key, {})
    for name, count in counts.items():
        here[name] = here.get(name, 0) + count


def _result(so_far: Mapping[str, Any], days: Sequence[date], revenue_days: int) -> dict[str, Any]:
    months: list[dict[str, Any]] = []
    counted = sorted({int(night) for which in ("old", "new") for night in so_far[which]["counts"]})
    for number, night in enumerate(counted):
        row: dict[str, Any] = {"day": days[night].isoformat()}
        since = counted[number - 1] + 1 if number else 0
        for which in ("old", "new"):
            stood = so_far[which]["counts"].get(str(night), {})
            row[which] = {key: stood.get(key, 0) for key in StageKey.values}
            row[f"{which}_moves"] = _moves(so_far[which]["moves"], range(since, night + 1))
        months.append(row)
    return {
        "months": months,
        **{f"{which}_moves": _moves(so_far[which]["moves"], range(len(days))) for which in ("old", "new")},
        **{
            f"{which}_{name}": so_far[which][name] for which in ("old", "new") for name in ("first", "flaps", "flapped")
        },
        "flapped": so_far["flapped"],
        "differ": so_far["differ"],
        "examples": so_far["examples"],
        "revenue_days": revenue_days,
        **{f"{which}_revenue": _revenue(so_far[which]["revenue"]) for which in ("old", "new")},
        "seconds": round(so_far["seconds"], 1),
    }


def _moves(by_night: Mapping[str, Mapping[str, int]], nights: range) -> list[list[Any]]:
    found: Counter[str] = Counter()
    for night, moves in by_night.items():
        if int(night) in nights:
            found.update(moves)
    return [[*pair.split(">"), n] for pair, n in sorted(found.items())]


def _revenue(by_pair: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Per pair the mean and the median of what was bought after its moves, both with a 95 % interval, in minor units."""
    found = []
    for pair, amounts in sorted(by_pair.items()):
        source, target = pair.split(">")
        told = after_moves({int(amount): times for amount, times in amounts.items()})
        found.append({"source": source, "target": target, **told.__dict__})
    return found


@dataclass(frozen=True)
class After:
    """What was bought after ``n`` moves, in minor units, each with the ends of its 95 % interval; empty below ``ENOUGH``."""

    n: int
    mean: float | None = None
    mean_low: float | None = None
    mean_high: float | None = None
    median: int | None = None
    median_low: int | None = None
    median_high: int | None = None


def after_moves(amounts: Mapping[int, int]) -> After:
    """Mean (normal interval) and median (interval by ranks) of amounts, given as how often each was seen."""
    n = sum(amounts.values())
    if n < ENOUGH:
        return After(n)
    mean = sum(amount * times for amount, times in amounts.items()) / n
    margin = Z * sqrt(sum(times * (amount - mean) ** 2 for amount, times in amounts.items()) / (n - 1) / n)
    reach = Z * sqrt(n) / 2
    low, high = floor(n / 2 - reach), ceil(n / 2 + reach)
    return After(
        n,
        mean,
        mean - margin,
        mean + margin,
        _ranked(amounts, (n - 1) // 2),
        _ranked(amounts, max(0, low - 1)),
        _ranked(amounts, min(n - 1, high)),
    )


def _ranked(amounts: Mapping[int, int], rank: int) -> int:
    """The amount at this place (from 0) when all are put in order."""
    passed = 0
    for amount in sorted(amounts):
        passed += amounts[amount]
        if passed > rank:
            return amount
    raise IndexError(rank)


def of_base(part: int, test: Backtest) -> tuple[int, int, int]:
    """How many of all customers a number of replayed ones stands for, and the ends of its 95 % interval (Wilson)."""
    n, base = test.customers, test.base_customers
    if n >= base or n == 0:
        return part, part, part
    low, high = wilson(part, n)
    return round(part / n * base), floor(low * base), ceil(high * base)


__all__ = ["FLAP_DAYS", "MONTHS", "After", "after_moves", "of_base", "request", "stop", "work", "work_due"]

"""A draft replayed over past nights beside the rules in force: who would have stood where, who moved, who flapped.

For each night the facts of a sample of customers are made anew as of that night inside a transaction that is rolled back,
by the statements the night itself uses; then both rule sets decide in Python, each going on from where it had left the
customer the night before. Nothing of it stays but the row of the replay. Pins are not known of the past and left out.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils.translation import gettext as _

from customers import conditions, facts
from customers.conditions import Snapshot
from customers.models import Customer, RfmCuts
from customers.vocabulary import FACTS, Kind
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, clock, leases
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from lifecycle_crm.lib.moments import seconds
from stages import queries
from stages import rules as rulebook
from stages.models import Backtest, RuleSet, StageKey
from stages.rules import Rules

logger = logging.getLogger(__name__)

SAMPLE = 400
"""Customers replayed, spread evenly over the ids; a smaller base is replayed whole."""
FLAP_DAYS = 14
MONTHS = (3, 6, 12, 24)
LEASE_SECONDS = 120
TRIES = 3
NAMED = 20
"""How many customers who flapped the result names."""
_SAVE_EVERY = 7

HandDown = Callable[..., Any]
"""Brings the facts of the batch at hand up to ``as_of``; the roof hands it in, because higher floors have numbers too."""


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
            raise Conflict(_("A replay of this version is under way. Wait for it."))
        last = clock.last_complete_day()
        return Backtest.objects.create(
            rule_set=rule_set,
            rules=rule_set.rules,
            against=against,
            months=months,
            last_day=last,
            nights=len(list(clock.days(_months_before(last, months), last))),
            created_by=actor,
        )


def _months_before(day: date, months: int) -> date:
    index = day.year * 12 + day.month - 1 - months
    return min(date(index // 12, index % 12 + 1, 1) + timedelta(days=day.day - 1), day)


def work_due(*, hand_down: HandDown) -> Backtest | None:
    """Take the replay that waits longest and finish it; ``None`` when none waits."""
    now = clock.now()
    free = Q(state=Backtest.State.WAITING) | Q(state=Backtest.State.RUNNING, lease_until__lt=now)
    found = Backtest.objects.filter(free).order_by("id").first()
    if found is None:
        return None
    owner = leases.new_owner()
    if found.attempts >= TRIES:
        Backtest.objects.filter(free, pk=found.pk).update(
            state=Backtest.State.FAILED, error=_("It was begun three times and never ended."), finished_at=now
        )
        return None
    taken = Backtest.objects.filter(free, pk=found.pk, attempts=found.attempts).update(
        state=Backtest.State.RUNNING,
        owner=owner,
        lease_until=now + timedelta(seconds=LEASE_SECONDS),
        attempts=F("attempts") + 1,
        done=0,
    )
    if not taken:
        return None
    found.refresh_from_db()
    try:
        _work(found, owner, hand_down)
    except Exception as problem:
        logger.exception("Replay %s failed", found.pk)
        Backtest.objects.filter(pk=found.pk, owner=owner).update(
            state=Backtest.State.FAILED, error=f"{type(problem).__name__}: {problem}"[:500], finished_at=clock.now()
        )
    found.refresh_from_db()
    return found


@dataclass
class _Run:
    """Where one rule set has everybody, and what it did so far."""

    rules: Rules
    stands: dict[int, tuple[str, int]] = field(default_factory=dict)
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    flaps: int = 0
    flapped: dict[int, None] = field(default_factory=dict)
    came_from: dict[int, tuple[str, date]] = field(default_factory=dict)

    def night(self, snapshots: dict[int, Snapshot], day: date, now: int) -> None:
        for pk, snapshot in snapshots.items():
            stage, since = self.stands.get(pk, ("", 0))
            at = {**snapshot, "stage": stage, "stage_since": since if stage else None}
            to = rulebook.decide(self.rules, at, now).to
            if to == stage:
                continue
            if stage:
                self.moves[stage, to] += 1
                back = self.came_from.get(pk)
                if back is not None and back[0] == to and (day - back[1]).days <= FLAP_DAYS:
                    self.flaps += 1
                    self.flapped[pk] = None
                self.came_from[pk] = (stage, day)
            self.stands[pk] = (to, now)

    def counts(self) -> dict[str, int]:
        found = Counter(stage for stage, _since in self.stands.values())
        return {key: found[key] for key in StageKey.values}


def _work(test: Backtest, owner: str, hand_down: HandDown) -> None:
    old, new = _Run(rulebook.parse(test.against.rules)), _Run(rulebook.parse(test.rules))
    ids, base = _sample()
    days = list(clock.days(_months_before(test.last_day, test.months), test.last_day))
    wanted = [*old.rules.conditions(), *new.rules.conditions()]
    mine = Backtest.objects.filter(pk=test.pk, owner=owner, state=Backtest.State.RUNNING)
    months: list[dict[str, Any]] = []
    for number, day in enumerate(days, start=1):
        as_of = clock.day_end(day)
        snapshots = _as_of(ids, wanted, as_of, hand_down)
        for run in (old, new):
            run.night(snapshots, day, seconds(as_of))
        if day == test.last_day or (day + timedelta(days=1)).month != day.month:
            months.append({"day": day.isoformat(), "old": old.counts(), "new": new.counts()})
        if number % _SAVE_EVERY == 0:
            until = clock.now() + timedelta(seconds=LEASE_SECONDS)
            if not mine.update(done=number, lease_until=until, nights=len(days)):
                return  # somebody else has it: we were away longer than the lease
    mine.update(
        state=Backtest.State.DONE,
        done=len(days),
        nights=len(days),
        customers=len(ids),
        base_customers=base,
        finished_at=clock.now(),
        result={
            "months": months,
            "old_moves": _listed(old.moves),
            "new_moves": _listed(new.moves),
            "old_flaps": old.flaps,
            "new_flaps": new.flaps,
            "old_flapped": len(old.flapped),
            "new_flapped": len(new.flapped),
            "flapped": list(new.flapped)[:NAMED],
            "differ": sum(old.stands[pk][0] != stage for pk, (stage, _since) in new.stands.items()),
        },
    )


def _listed(moves: Counter[tuple[str, str]]) -> list[list[Any]]:
    return [[source, target, n] for (source, target), n in sorted(moves.items())]


def _sample() -> tuple[list[int], int]:
    """Customers spread evenly over the ids, and how many there are in all."""
    ids = list(Customer.objects.order_by("pk").values_list("pk", flat=True))
    if len(ids) <= SAMPLE:
        return ids, len(ids)
    return [ids[i * len(ids) // SAMPLE] for i in range(SAMPLE)], len(ids)


class _Undo(Exception):
    pass


def _as_of(
    ids: Sequence[int], wanted: list[conditions.Condition], as_of: datetime, hand_down: HandDown
) -> dict[int, Snapshot]:
    """The facts of these customers as that night knew them; of those who were known by then."""
    found: dict[int, Snapshot] = {}
    try:
        with transaction.atomic(), facts.batch():
            known = list(_pick(ids, as_of))
            hand_down(as_of=as_of)
            facts.score(as_of=as_of)
            found = dict(conditions.snapshots(known, wanted, as_of))
            raise _Undo
    except _Undo:
        pass
    has_scores = RfmCuts.objects.filter(computed_on__lte=clock.business_date(as_of)).exists()
    now = seconds(as_of)
    return {pk: _without_the_future(snapshot, now, has_scores) for pk, snapshot in found.items()}


def _pick(ids: Sequence[int], as_of: datetime) -> Iterator[int]:
    """Put them into the batch of ``facts``."""
    no = facts.bool_literal(False)
    for part in batches.of(ids, 500):
        listed = ", ".join(str(int(pk)) for pk in part)
        known = list(Customer.objects.filter(pk__in=part, known_since__lt=as_of).values_list("pk", flat=True))
        if known:
            listed = ", ".join(str(int(pk)) for pk in known)
            batches.execute(
                f"INSERT INTO {facts.PICKED} SELECT id, {no}, {no} FROM customers_customer WHERE id IN ({listed})"
            )
        yield from known


_SCORES = ("recency", "frequency", "monetary")


def _without_the_future(snapshot: Snapshot, now: int, has_scores: bool) -> Snapshot:
    """Numbers nobody kept the past of must not know what came later: a later moment is not set, nor is a later score."""
    clean: dict[str, Any] = {}
    for name, value in snapshot.items():
        is_later = name in FACTS and FACTS[name].kind is Kind.MOMENT and value is not None and value >= now
        clean[name] = None if is_later or (name in _SCORES and not has_scores) else value
    return clean

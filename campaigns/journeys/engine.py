"""Moving who is due, a batch at a time: look, decide, write, all in one transaction.

Nothing of it leaves the database: a message is a row of the outbox, points are entries with a key. So a process that dies
in a batch leaves what it found, and there is no lease to run out. On PostgreSQL the rows are locked and other workers
take the next ones; SQLite has one writer at a time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db import connection, transaction

from campaigns import gate, hooks, letters, planning, stafftasks
from campaigns.journeys import plans
from campaigns.journeys.deciding import Move, Outcome, Passed, Position, advance, task_key
from campaigns.journeys.plans import InForce
from campaigns.journeys.tree import Message, Task, TaskDone, Webhook
from campaigns.models import Campaign, Journey, JourneyRun, StaffTask, Template
from customers import conditions, tagging
from customers.models import Customer
from lifecycle_crm.lib import batches, bell, clock
from lifecycle_crm.lib.models import SetAside
from lifecycle_crm.lib.moments import from_seconds, seconds
from loyalty import ledger, vouchers
from loyalty.models import Programme, VoucherSeries

logger = logging.getLogger(__name__)

BATCH = 500
TRIES = 3
TRY_AGAIN = 3600
NEWS_FIRST = 10
"""Whose facts are behind is looked at again after so many seconds: a step is decided on what is known, not on what was."""

State, Reason = JourneyRun.State, JourneyRun.Reason


@dataclass(slots=True)
class Traveller:
    """A due row with what a decision needs to know of the person."""

    run: int
    customer: int
    number: int
    step: str
    since: int | None
    due: int
    has_goal: bool
    zone: str


def advance_due(*, limit: int = 20_000, seconds: float = 25) -> Counter[str]:
    """Move who is due, at most so many people or for about so many seconds; how many came to which state.

    Any number of these may run at once.
    """
    told: Counter[str] = Counter()
    deadline = time.monotonic() + seconds
    waiting = list(plans.live())
    taken = 0
    while waiting and taken < limit and time.monotonic() < deadline:
        for one in list(waiting):
            found = _batch(one, min(BATCH, limit - taken), told)
            taken += found
            if not found:
                waiting.remove(one)
            if taken >= limit or time.monotonic() > deadline:
                break
    if told["messages"]:
        bell.ring("campaigns.tasks.send_due")
    if told["webhooks"]:
        bell.ring("campaigns.tasks.post_webhooks")
    return +told


def _batch(one: InForce, size: int, told: Counter[str]) -> int:
    now = clock.whole_now()
    ids: list[int] = []
    try:
        with transaction.atomic():
            found = _take(one.journey, size, now)
            ids = [who.run for who in found]
            counts = _move(one, found, now)
    except Exception:
        if not ids:
            raise
        logger.exception("Journey %s: a batch could not be moved", one.journey.key)
        counts = Counter()
        for pk in ids:
            counts += _alone(one, pk)
    told += counts
    return len(ids)


def _alone(one: InForce, pk: int) -> Counter[str]:
    """One of a batch that failed: the others go on, and who cannot is set aside after three tries."""
    now = clock.whole_now()
    row = JourneyRun.objects.get(pk=pk)
    try:
        with transaction.atomic():
            return _move(one, _take(one.journey, 1, now, pk), now)
    except Exception as poison:
        tries = row.tries + 1
        values: dict[str, Any] = {
            "tries": tries,
            "error": f"{type(poison).__name__}: {poison}"[:300],
            "due_at": from_seconds(seconds(now) + TRY_AGAIN * tries),
        }
        if tries >= TRIES:
            values |= {"state": State.FAILED, "reason": Reason.STUCK, "due_at": None, "ended_at": now}
        # As it was read: another worker, for whom it worked, may have moved them meanwhile.
        unmoved = JourneyRun.objects.filter(
            pk=pk, state=State.RUNNING, step=row.step, tries=row.tries, due_at=row.due_at
        )
        return Counter(failed=unmoved.update(**values))


def _take(journey: Journey, size: int, now: datetime, pk: int | None = None) -> list[Traveller]:
    """The due ones, locked until we commit."""
    lock = "FOR UPDATE OF r SKIP LOCKED" if connection.vendor == "postgresql" else ""
    due, params = ("r.due_at <= %s", [seconds(now)]) if pk is None else ("r.id = %s", [pk])
    rows = batches.rows(
        f"""
        SELECT r.id, r.customer_id, r.number, r.step, r.since, r.due_at, r.goal_at, c.time_zone
        FROM campaigns_journeyrun r JOIN customers_customer c ON c.id = r.customer_id
        WHERE r.journey_id = {journey.pk} AND r.state = 'running' AND {due}
        ORDER BY r.due_at, r.id LIMIT {int(size)} {lock}
        """,
        params,
    )
    return [
        Traveller(run, customer, number, step, since, due, goal_at is not None, zone)
        for run, customer, number, step, since, due, goal_at, zone in rows
    ]


def _move(one: InForce, found: list[Traveller], now: datetime) -> Counter[str]:
    told: Counter[str] = Counter()
    if not found:
        return told
    as_of = seconds(now)
    behind = _behind(found, as_of)
    if behind:
        _set_due([who.run for who in behind], as_of + NEWS_FIRST)
        told["behind"] = len(behind)
        late = {who.run for who in behind}
        found = [who for who in found if who.run not in late]
    known = conditions.snapshots([who.customer for who in found], one.asks(), now)
    tasks = stafftasks.states(who.run for who in found) if one.plan.has(TaskDone) else {}
    moves: list[tuple[Traveller, tuple[Passed, ...], Move]] = []
    for who in found:
        before: tuple[Passed, ...] = ()
        at = Position(who.step, who.since)
        if who.step:
            place = one.place_of(who.step)
            if place != who.step:
                before = (Passed(who.step, Outcome.MOVED, {"to": place}),)
                at = Position(place)
        knows = known.get(who.customer, {}) | {task_key(step): state for step, state in tasks.get(who.run, {}).items()}
        moves.append((who, before, _decide(one, who, at, knows, as_of)))
    passed = [(who, step) for who, before, move in moves for step in (*before, *move.passed)]
    passed = _plan_messages(one, passed, now, told)
    passed = _give_points(passed, now, told)
    passed = _give_vouchers(passed, now, told)
    passed = _give_tasks(one, passed, now, told)
    passed = _tell_others(one, passed, now, told)
    _tag(passed, now)
    _write_steps(passed, as_of)
    _write_runs([(who, move) for who, _before, move in moves], as_of)
    told.update(Counter(str(move.state) for _who, _before, move in moves))
    _call_off(one, moves)
    return told


def _decide(one: InForce, who: Traveller, at: Position, known: conditions.Snapshot, as_of: int) -> Move:
    if who.step and not at.step:  # nothing is left of what followed where they stood
        return Move((Passed("", Outcome.LEFT, {"state": str(State.DONE)}),), State.DONE, Position())
    return advance(
        one.plan,
        at,
        known,
        as_of,
        zone=gate.zone_of(who.zone),
        bucket=partial(bucket, one.journey.pk, who.customer),
        exits=one.exits,
        has_goal=who.has_goal,
    )


def bucket(journey: int, customer: int, step: str) -> int:
    """0–9999 for a random split, always the same for this person and step."""
    return planning.bucket(f"journey:{journey}:{step}", customer)


def _behind(found: list[Traveller], as_of: int) -> list[Traveller]:
    """Those to whom something happened that their facts do not know yet. Whose facts cannot be made goes on without."""
    ids = ", ".join(str(who.customer) for who in found)
    dirty = {
        pk
        for (pk,) in batches.rows(
            f"SELECT DISTINCT customer_id FROM customers_dirtycustomer WHERE occurred_at < %s AND customer_id IN ({ids})",
            [as_of],
        )
    }
    if dirty:
        dirty -= set(
            SetAside.objects.filter(kind=Customer._meta.label_lower, object_id__in=dirty).values_list(
                "object_id", flat=True
            )
        )
    return [who for who in found if who.customer in dirty]


def _set_due(runs: Sequence[int], due: int) -> None:
    batches.execute(f"UPDATE campaigns_journeyrun SET due_at = {due} WHERE id IN ({', '.join(map(str, runs))})")


# --- What steps do --------------------------------------------------------------------------------------------------------


def campaign_of(journey: Journey, step: Message) -> Campaign:
    """The campaign through which a message of a journey goes out, made when it is first needed."""
    template = Template.objects.get(key=step.template)
    campaign, _made = Campaign.objects.get_or_create(
        journey=journey,
        step=step.id,
        template=template,
        defaults={
            "name": f"{journey.name}: {template.name}"[:120],
            "kind": Campaign.Kind.JOURNEY,
            "purpose": template.purpose,
            "channel": template.channel,
            "holdout_percent": 0,
            "state": Campaign.State.ACTIVE,
            "created_by": journey.created_by,
        },
    )
    return campaign


Taken = tuple[Traveller, Passed]


def _plan_messages(one: InForce, passed: list[Taken], now: datetime, told: Counter[str]) -> list[Taken]:
    """Rows of the outbox for the messages among the steps, once per step and entry; the steps with what became of them."""
    wanted = [(who, step) for who, step in passed if step.outcome == Outcome.MESSAGE]
    if not wanted:
        return passed
    runs = ", ".join(str(who.run) for who, _step in wanted)
    had = set(
        batches.rows(
            f"SELECT run_id, step FROM campaigns_journeystep WHERE run_id IN ({runs}) AND outcome = 'message'",
        )
    )
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    answer: list[Taken] = []
    for who, step in passed:
        if step.outcome == Outcome.MESSAGE and (who.run, step.step) in had:
            answer.append((who, Passed(step.step, Outcome.REPEATED, step.data)))
            continue
        answer.append((who, step))
        if step.outcome == Outcome.MESSAGE:
            groups[step.step, who.number].append(who.customer)
    for (step_id, number), customers in groups.items():
        letter = one.plan.at[step_id]
        assert isinstance(letter, Message)
        campaign = campaign_of(one.journey, letter)
        planning.plan(campaign=campaign, run_key=run_key(campaign, number), audience=customers, as_of=now)
        told["messages"] += len(customers)
    return answer


def run_key(campaign: Campaign, number: int) -> str:
    """One run for everybody's nth entry and the words of today: who comes after an edit of the text gets the new one."""
    words = json.dumps(letters.texts_of(campaign), sort_keys=True)
    return f"entry:{number}:{hashlib.sha256(words.encode()).hexdigest()[:12]}"


def _give_points(passed: list[Taken], now: datetime, told: Counter[str]) -> list[Taken]:
    """Entries of the ledger, keyed by entry and step, so that they are given once."""
    wanted = [(who, step) for who, step in passed if step.outcome == Outcome.POINTS]
    if not wanted:
        return passed
    programme = Programme.current()
    if programme is None:
        told["no_points"] += len(wanted)
        return [
            (who, Passed(step.step, Outcome.NO_POINTS, step.data) if step.outcome == Outcome.POINTS else step)
            for who, step in passed
        ]
    ledger.earn_many(
        [
            ledger.Earning(
                customer_id=who.customer,
                points=step.data["points"],
                key=_key(who, step),
                effective_at=now,
                active_at=now,
                expires_at=ledger.expiry(now, programme.expiry_months),
                reason=step.data["reason"],
                explanation={"kind": "journey", "run": who.run, "step": step.step},
                source_type="journey",
                source_id=str(who.run),
            )
            for who, step in wanted
        ],
        programme=programme,
    )
    told["points"] += len(wanted)
    return passed


def _give_vouchers(passed: list[Taken], now: datetime, told: Counter[str]) -> list[Taken]:
    """A code each, keyed by entry and step, so that it is given once."""
    wanted: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for who, step in passed:
        if step.outcome == Outcome.VOUCHER:
            wanted[step.data["series"]].append((who.customer, _key(who, step)))
    given: set[str] = set()
    for series in VoucherSeries.objects.filter(pk__in=wanted):
        given |= vouchers.issue_many(series=series, wanted=wanted[series.pk], at=now)
    told["vouchers"] += len(given)
    return [
        (who, Passed(step.step, Outcome.SOLD_OUT, step.data))
        if step.outcome == Outcome.VOUCHER and _key(who, step) not in given
        else (who, step)
        for who, step in passed
    ]


def _key(who: Traveller, step: Passed) -> str:
    return f"journey:{who.run}:{step.step}"


def _give_tasks(one: InForce, passed: list[Taken], now: datetime, told: Counter[str]) -> list[Taken]:
    """A task each for the people of the shop, once per way and step."""
    wanted = []
    for who, step in passed:
        if step.outcome == Outcome.TASK:
            task = one.plan.at[step.step]
            assert isinstance(task, Task)
            of = (task.kind, task.what, task.days, task.role, task.person)
            wanted.append(stafftasks.Wanted(who.run, step.step, who.customer, *of))
    had = stafftasks.ask(wanted, at=now)
    told["tasks"] += len(wanted) - len(had)
    return [
        (who, Passed(step.step, Outcome.TASK_HAD, step.data))
        if step.outcome == Outcome.TASK and (who.run, step.step) in had
        else (who, step)
        for who, step in passed
    ]


def _tell_others(one: InForce, passed: list[Taken], now: datetime, told: Counter[str]) -> list[Taken]:
    """Rows of the queue of webhooks, once per way and step."""
    wanted = []
    for who, step in passed:
        if step.outcome == Outcome.WEBHOOK:
            hook = one.plan.at[step.step]
            assert isinstance(hook, Webhook)
            wanted.append(hooks.Wanted(who.run, step.step, who.customer, hook.target, hook.fields))
    had = hooks.add(wanted, at=now)
    told["webhooks"] += len(wanted) - len(had)
    return [
        (who, Passed(step.step, Outcome.HOOK_HAD, step.data))
        if step.outcome == Outcome.WEBHOOK and (who.run, step.step) in had
        else (who, step)
        for who, step in passed
    ]


def _tag(passed: list[Taken], now: datetime) -> None:
    """What several steps do to one tag of a person in one go comes to what the last of them does."""
    last = {
        (who.customer, step.data["tag"]): step.data["off"] for who, step in passed if step.outcome == Outcome.TAGGED
    }
    groups: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for (customer, tag), is_off in last.items():
        groups[tag, is_off].append(customer)
    for (tag, is_off), customers in groups.items():
        (tagging.take_off if is_off else tagging.put)(customers=customers, tag=tag, at=now)


def _write_steps(passed: list[Taken], as_of: int) -> None:
    cast = "%s::jsonb" if connection.vendor == "postgresql" else "%s"
    for part in batches.of(passed, 1000):
        with connection.cursor() as cursor:
            values = ", ".join([f"(%s, %s, {as_of}, %s, {cast})"] * len(part))
            cursor.execute(
                f"INSERT INTO campaigns_journeystep (run_id, step, at, outcome, data) VALUES {values}",
                [v for who, step in part for v in (who.run, step.step, str(step.outcome), json.dumps(step.data))],
            )


def _write_runs(moves: list[tuple[Traveller, Move]], as_of: int) -> None:
    """All new positions in one statement."""
    if not moves:
        return
    big = "::bigint" if connection.vendor == "postgresql" else ""
    values = ", ".join([f"(%s{big}, %s, %s{big}, %s{big}, %s, %s, %s)"] * len(moves))
    batches.execute(
        f"""
        UPDATE campaigns_journeyrun SET step = v.column2, since = v.column3, due_at = v.column4, state = v.column5,
            listens = (v.column6 = 1), reason = v.column7, tries = 0, error = '',
            ended_at = CASE WHEN v.column5 = 'running' THEN NULL ELSE {as_of} END
        FROM (VALUES {values}) AS v
        WHERE campaigns_journeyrun.id = v.column1 AND campaigns_journeyrun.state = 'running'
        """,
        [
            value
            for who, move in moves
            for value in (
                who.run,
                move.at.step,
                move.at.since,
                move.due,
                str(move.state),
                int(move.listens),
                str(move.reason),
            )
        ],
    )


def _call_off(one: InForce, moves: Sequence[tuple[Traveller, tuple[Passed, ...], Move]]) -> None:
    """Messages that have not left and tasks that nobody did, of those who left the journey early."""
    early = [(who, move) for who, _before, move in moves if _is_early(move)]
    call_off(one.journey, [(who.customer, who.number) for who, _move in early])
    for reason in (StaffTask.Withdrawn.GOAL, StaffTask.Withdrawn.EXIT_RULE):
        runs = [who.run for who, move in early if reason in (move.reason, move.state)]
        if runs:
            stafftasks.withdraw(", ".join(map(str, runs)), [], reason)


def _is_early(move: Move) -> bool:
    """Whether somebody left before the end of their way. A step that ends it is such an end: what it said still holds."""
    return move.state == State.GOAL or move.reason == Reason.EXIT_RULE


def call_off(journey: Journey, ways: Sequence[tuple[int, int]]) -> int:
    """Call off what waits in the outbox for these (customer, number of the entry); how many messages."""
    by_number: dict[int, list[int]] = defaultdict(list)
    for customer, number in ways:
        by_number[number].append(customer)
    count = 0
    for number, customers in by_number.items():
        count += batches.execute(
            f"""
            UPDATE campaigns_message SET state = 'cancelled', reason = 'cancelled'
            WHERE state IN ('queued', 'retry') AND customer_id IN ({", ".join(map(str, customers))})
              AND run_id IN (SELECT r.id FROM campaigns_run r JOIN campaigns_campaign k ON k.id = r.campaign_id
                             WHERE k.journey_id = %s AND r.key LIKE %s)
            """,
            [journey.pk, f"entry:{number}:%"],
        )
    return count


# --- News -----------------------------------------------------------------------------------------------------------------


def wake(customers: Sequence[int]) -> int:
    """Look at once at those of these people whose wait news may end; how many. After their facts are up to date."""
    if not customers:
        return 0
    now = seconds(clock.whole_now())
    woken = batches.execute(
        f"UPDATE campaigns_journeyrun SET due_at = {now} WHERE state = 'running' AND listens AND due_at > {now} "
        f"AND customer_id IN ({', '.join(str(int(pk)) for pk in customers)})"
    )
    if woken:
        bell.ring("campaigns.tasks.advance_journeys")
    return woken

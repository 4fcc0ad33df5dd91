"""The night: one run per business date, made of steps, cut into chunks, resumable at any point.

Every decision is made for the end of that date (``as_of``), never for "now". A chunk is claimed by lease; its effect and its
completion are one transaction; so a killed night goes on where it was, a second run of a finished date finds nothing to do,
and any number of processes may work on one night together.

Points come before facts, because the balance is a fact; scores after facts, because cut points are taken from them.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import IntegrityError, connection, transaction

from campaigns import reactivation
from campaigns.experiments import verdicts
from campaigns.journeys import entering, goals
from customers import facts, membership, rfm
from customers.models import Customer, RfmCuts
from lifecycle_crm import reactions
from lifecycle_crm.dashboard import rollups
from lifecycle_crm.lib import batches, bell, clock, leases
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from loyalty import earning, ledger, tiers
from stages import engine, presets
from stages.models import Chunk, Night, StageTransition

logger = logging.getLogger(__name__)

WIDTH = {"postgresql": 50_000, "sqlite": 10_000}[connection.vendor]
"""Customers per chunk. On an ordinary night a chunk touches one in twenty-five of them, so a narrow one would be mostly
fixed cost; on SQLite it is also how long other writers wait."""
LEASE_SECONDS = 300
TRIES = 3
MOST_SET_ASIDE = 50
"""More than so many customers set aside in one night are no poison: something is wrong with everybody, and it stops."""
TRY_AGAIN = timedelta(minutes=15)
"""A night that stopped is tried again after so long, because a full disk or a lost server may have come back."""

Result = dict[str, int]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """``is_whole``: one chunk for everything. ``commits``: the work commits by itself, batch by batch, and is keyed."""

    name: str
    work: Callable[[Night, int, int], Result]
    is_whole: bool = False
    commits: bool = False


# --- The steps --------------------------------------------------------------------------------------------------------


def _reactions(night: Night, low: int, high: int) -> Result:
    return dict(reactions.drain(as_of=night.as_of))


def _points(night: Night, low: int, high: int) -> Result:
    # The night of a date ends where the next one begins, so the birthdays of that next date are told first thing.
    earning.award_for_birthdays(night.business_date + timedelta(days=1), low=low, high=high)
    return {
        "released": ledger.release_due(as_of=night.as_of, low=low, high=high),
        "activated": ledger.activate_due(as_of=night.as_of, low=low, high=high),
        "expired": ledger.expire_due(as_of=night.as_of, low=low, high=high),
        "followed": ledger.follow_due(as_of=night.as_of, low=low, high=high),
    }


def _proof(night: Night, low: int, high: int) -> Result:
    """Balances against their entries, each within four weeks and at once where anything changed; an account
    that disagrees is frozen, alone."""
    return {"frozen": ledger.prove(day=night.business_date)}


def _tiers(night: Night, low: int, high: int) -> Result:
    """Wake who time alone could move between tiers; they are decided with everybody else's facts."""
    return {"tiers_due": tiers.wake(as_of=night.as_of, low=low, high=high)}


def _facts(night: Night, low: int, high: int) -> Result:
    """Facts of whom something happened to; and their stages at once, unless new cut points must come between."""
    decides = facts.keeps_cuts(night.business_date)
    with facts.batch():
        refreshed = facts.take_dirty(low, high, as_of=night.as_of)
        if night.is_full:
            refreshed += facts.add_everyone(low, high, as_of=night.as_of)
        if refreshed:
            reactions.hand_down(as_of=night.as_of, is_due=not decides)
            facts.mark_later(as_of=night.as_of)
        due = facts.add_due(low, high, as_of=night.as_of) if decides and not night.is_full else 0
        told = _decide(night) if decides and refreshed + due else {}
    _earn(night, low, high, told)
    return {"refreshed": refreshed, **told}


def _scores(night: Night, low: int, high: int) -> Result:
    return {"cuts_renewed": int(facts.renew_cuts(night.business_date) is not None)}


def _stages(night: Night, low: int, high: int) -> Result:
    """Everybody whose stage was not decided with their facts, because new cut points were awaited.

    They change scores, and with them the moment of everybody's next review.
    """
    is_new = RfmCuts.objects.filter(computed_on=night.business_date).exists()
    if not is_new and facts.keeps_cuts(night.business_date):
        return {}
    with facts.batch():
        if is_new or night.is_full:
            count = facts.add_refreshed(low, high, as_of=night.as_of)
        else:
            count = facts.add_due(low, high, as_of=night.as_of)
        told = _decide(night) if count else {}
    _earn(night, low, high, told)
    return told


def _decide(night: Night) -> Result:
    """Scores, stages and segments of everybody in the batch."""
    watch = _watch(night)
    facts.score(as_of=night.as_of)
    outcome = engine.evaluate(
        rule_set=night.rule_set,
        as_of=night.as_of,
        night=night,
        is_quiet=night.is_quiet,
        is_full=True,
        watched=watch.conditions(),
    )
    return {"evaluated": outcome.evaluated, "moved": outcome.moved, **membership.note(watch)}


def _earn(night: Night, low: int, high: int, told: Result) -> None:
    """What a stage earns, once the facts of who entered it are written."""
    if told.get("moved"):
        earning.award_for_stages(
            "t.night_id = %s AND t.customer_id >= %s AND t.customer_id < %s", [night.pk, low, high]
        )


def _watch(night: Night) -> membership.Watch:
    before = Night.objects.filter(business_date__lt=night.business_date).order_by("-business_date").first()
    return membership.watch(
        business_date=night.business_date, as_of=night.as_of, previous=before.business_date if before else None
    )


def _groups(night: Night, low: int, high: int) -> Result:
    """How many are in each segment and RFM group on this date, and who entered and left segments that are new."""
    told = membership.close(_watch(night))
    return {**told, "rfm_changed": rfm.record(business_date=night.business_date, as_of=night.as_of)}


def _winback(night: Night, low: int, high: int) -> Result:
    if night.is_quiet:
        return {}
    return dict(reactivation.plan_night(night_id=night.pk, as_of=night.as_of, low=low, high=high))


def _journeys(night: Night, low: int, high: int) -> Result:
    """Who enters a journey by what this night found, and goals that nobody was told of."""
    told: Result = {"goals": goals.note_range(low, high)}
    if not night.is_quiet:
        told |= entering.for_night(
            night_id=night.pk, business_date=night.business_date, as_of=night.as_of, low=low, high=high
        )
    return {name: n for name, n in told.items() if n}


def _experiments(night: Night, low: int, high: int) -> Result:
    """How every experiment stands, and the verdict where it is due."""
    return verdicts.note_day(business_date=night.business_date, as_of=night.as_of)


def _rollups(night: Night, low: int, high: int) -> Result:
    rollups.roll(night.business_date)
    return {}


STEPS: tuple[Step, ...] = (
    Step("reactions", _reactions, is_whole=True, commits=True),
    Step("points", _points),
    Step("proof", _proof, is_whole=True, commits=True),
    Step("tiers", _tiers),
    Step("facts", _facts),
    Step("scores", _scores, is_whole=True),
    Step("stages", _stages),
    Step("groups", _groups, is_whole=True),
    Step("winback", _winback),
    Step("journeys", _journeys),
    Step("experiments", _experiments, is_whole=True),
    Step("rollups", _rollups, is_whole=True),
)
_BY_NAME = {step.name: step for step in STEPS}


# --- Starting ---------------------------------------------------------------------------------------------------------


def start(day: date, *, is_full: bool = False, is_quiet: bool = False) -> Night:
    """The night of ``day``: a new one with its chunks, or the one that exists. Raises for a day that is not over."""
    if day >= clock.today():
        raise InvalidInput(
            f"{day} is not over yet in {settings.SHOP_TIME_ZONE}. The last complete day is {clock.last_complete_day()}.",
            code="future_night",
        )
    if existing := Night.objects.filter(business_date=day).first():
        return existing
    if later := Night.objects.filter(business_date__gt=day).order_by("-business_date").first():
        raise Conflict(
            f"The night of {later.business_date} has been run, so {day} cannot be decided any more: history is not "
            f"rewritten. Choose a date after {later.business_date}.",
            code="night_passed",
        )
    if open_night := Night.objects.filter(business_date__lt=day).exclude(state=Night.State.DONE).first():
        raise Conflict(
            f"The night of {open_night.business_date} is not finished. Run it first: nights go in order.",
            code="night_unfinished",
        )
    rule_set = presets.install(renew=True)
    try:
        with transaction.atomic():
            night = Night.objects.create(
                business_date=day, as_of=clock.day_end(day), rule_set=rule_set, is_full=is_full, is_quiet=is_quiet
            )
            ranges = batches.id_ranges(Customer, WIDTH)
            Chunk.objects.bulk_create(
                Chunk(night=night, step=step.name, position=position, low=low, high=high)
                for position, step in enumerate(STEPS)
                for low, high in ([(0, 0)] if step.is_whole else ranges)
            )
    except IntegrityError:  # another process started the same date at the same time
        return Night.objects.get(business_date=day)
    return night


# --- Working ----------------------------------------------------------------------------------------------------------


def work(night: Night, *, seconds: float | None = None, progress: Progress | None = None) -> bool:
    """Do chunks of this night until it is finished (true) or the time is up (false)."""
    owner = leases.new_owner()
    deadline = None if seconds is None else time.monotonic() + seconds
    announced = ""
    while deadline is None or time.monotonic() < deadline:
        open_chunks = list(
            night.chunks.exclude(state__in=[Chunk.State.DONE, Chunk.State.FAILED]).order_by("position", "low")[:100]
        )
        if not open_chunks:
            return _finish(night)
        chunk = _claim([c for c in open_chunks if c.position == open_chunks[0].position], owner)
        if chunk is None:
            time.sleep(0.1)  # what is left of this step is in other hands
            continue
        if progress and chunk.step != announced:
            announced = chunk.step
            progress(announced)
        _do(night, chunk, owner)
    return False


def _claim(chunks: list[Chunk], owner: str) -> Chunk | None:
    """The first of these that nobody works on, ours now; ``None`` if all are in other hands."""
    now = clock.now()
    for chunk in chunks:
        held = chunk.state == Chunk.State.RUNNING and chunk.lease_until is not None and chunk.lease_until >= now
        if held and not leases.is_gone(chunk.owner):
            continue
        if chunk.attempts >= TRIES:
            _split_or_give_up(chunk)
            return None
        # The attempt is counted before the work, so a chunk that kills its worker is noticed.
        unchanged = Chunk.objects.filter(pk=chunk.pk, attempts=chunk.attempts, state=chunk.state, owner=chunk.owner)
        chunk.state, chunk.owner, chunk.attempts = Chunk.State.RUNNING, owner, chunk.attempts + 1
        chunk.lease_until = now + timedelta(seconds=LEASE_SECONDS)
        if unchanged.update(
            state=chunk.state, owner=chunk.owner, attempts=chunk.attempts, lease_until=chunk.lease_until
        ):
            return chunk
    return None


class _Fenced(Exception):
    """Our lease ran out and somebody else has the chunk: what we did must not count."""


def _do(night: Night, chunk: Chunk, owner: str) -> None:
    step = _BY_NAME[chunk.step]
    began = time.monotonic()

    def settle(result: Result) -> None:
        mine = Chunk.objects.filter(pk=chunk.pk, owner=owner, state=Chunk.State.RUNNING)
        if not mine.update(state=Chunk.State.DONE, result=result, seconds=time.monotonic() - began, error=""):
            raise _Fenced

    try:
        if step.commits:
            settle(step.work(night, chunk.low, chunk.high))
        else:
            with transaction.atomic():
                settle(step.work(night, chunk.low, chunk.high))
    except _Fenced:
        logger.warning("Night %s: lost the lease of %s", night.business_date, chunk)
    except Exception as problem:
        logger.exception("Night %s: %s failed", night.business_date, chunk)
        Chunk.objects.filter(pk=chunk.pk, owner=owner).update(
            state=Chunk.State.WAITING, error=f"{type(problem).__name__}: {problem}"[:500]
        )


def _split_or_give_up(chunk: Chunk) -> None:
    """After three tries: halve the range to corner what is wrong with it; a single customer is set aside and named."""
    with transaction.atomic():
        width = chunk.high - chunk.low
        mine = Chunk.objects.filter(pk=chunk.pk, attempts=chunk.attempts).exclude(state=Chunk.State.DONE)
        if width <= 1:
            mine.update(state=Chunk.State.FAILED, error=chunk.error or "its process ended without a word, three times")
            mates = Chunk.objects.filter(night_id=chunk.night_id)
            if mates.filter(state=Chunk.State.FAILED).count() > MOST_SET_ASIDE:
                mates.exclude(state=Chunk.State.DONE).update(state=Chunk.State.FAILED)
            return
        middle = chunk.low + width // 2
        if mine.update(high=middle, attempts=0, state=Chunk.State.WAITING, owner=""):
            Chunk.objects.create(
                night_id=chunk.night_id, step=chunk.step, position=chunk.position, low=middle, high=chunk.high
            )


def _finish(night: Night) -> bool:
    counts: Counter[str] = Counter()
    for result in night.chunks.values_list("result", flat=True):
        counts.update(result)
    failed = list(night.chunks.filter(state=Chunk.State.FAILED))
    whole = [c for c in failed if _BY_NAME[c.step].is_whole]
    counts["set_aside"] = len(failed)
    state = Night.State.FAILED if whole or len(failed) > MOST_SET_ASIDE else Night.State.DONE
    error = "; ".join(f"{c.step}{_of(c)}: {c.error}" for c in failed if c.error)[:500]
    Night.objects.filter(pk=night.pk, state=Night.State.RUNNING).update(
        state=state, counts=dict(counts), finished_at=clock.now(), error=error
    )
    night.refresh_from_db()
    bell.ring("campaigns.tasks.send_due")
    return True


def _of(chunk: Chunk) -> str:
    """Whom a part that was given up is about, when it is one customer."""
    return f" of customer #{chunk.low}" if chunk.high == chunk.low + 1 else ""


# --- The doors' verbs -------------------------------------------------------------------------------------------------


def run(
    day: date,
    *,
    is_full: bool = False,
    is_quiet: bool = False,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Night:
    """Run, or go on with, the night of ``day``. A finished night is returned as it is."""
    night = start(day, is_full=is_full, is_quiet=is_quiet)
    if night.state == Night.State.FAILED:
        # Somebody looked into it and runs it again: what was given up gets new tries.
        night.chunks.filter(state=Chunk.State.FAILED).update(state=Chunk.State.WAITING, attempts=0)
        Night.objects.filter(pk=night.pk, state=Night.State.FAILED).update(state=Night.State.RUNNING, error="")
        night.refresh_from_db()
    if night.state == Night.State.RUNNING:
        work(night, seconds=seconds, progress=progress)
        night.refresh_from_db()
    return night


def replay(first: date, last: date, *, progress: Progress | None = None) -> int:
    """Quiet nights from ``first`` to ``last`` in order, as of their dates; how many were run."""
    if first > last:
        raise InvalidInput(f"The replay would begin ({first}) after it ends ({last}).")
    count = 0
    for day in clock.days(first, last):
        night = run(day, is_quiet=True)
        if night.state != Night.State.DONE:
            raise Conflict(f"The night of {day} stopped: {night.error or 'it is not finished'}. The replay ends here.")
        count += 1
        if progress and (day.day == 1 or day == last):
            progress(f"{day}")
    return count


@dataclass(frozen=True)
class Preview:
    """What a night would do: counts, and the moves as ``(customer id, name, from, to, rule)``."""

    counts: dict[str, Any]
    moves: list[tuple[int, str, str, str, str]]
    flows: Counter[tuple[str, str]]


def preview(day: date, *, is_full: bool = False) -> Preview:
    """The night of ``day`` inside a transaction that is rolled back: the same code, and nothing stays."""
    if done := Night.objects.filter(business_date=day, state=Night.State.DONE).first():
        return Preview(done.counts, [], Counter())
    with batches.rehearsal():
        night = run(day, is_full=is_full)
        moves = StageTransition.objects.filter(night=night).select_related("customer").order_by("id")
        return Preview(
            night.counts,
            [(m.customer_id, str(m.customer), m.from_stage, m.to_stage, m.rule) for m in moves],
            Counter((m.from_stage, m.to_stage) for m in moves),
        )


def pending(now: datetime | None = None) -> list[date]:
    """Business dates whose night is due and not finished, oldest first."""
    local = (now or clock.now()).astimezone(ZoneInfo(settings.SHOP_TIME_ZONE))
    last = local.date() - timedelta(days=1 if local.hour >= settings.NIGHT_HOUR else 2)
    stopped = Night.objects.filter(state=Night.State.FAILED)
    if stopped.filter(finished_at__gt=(now or clock.now()) - TRY_AGAIN).exists():
        return []  # nights go in order, and this one waits
    unfinished = list(
        (stopped | Night.objects.filter(state=Night.State.RUNNING))
        .order_by("business_date")
        .values_list("business_date", flat=True)
    )
    newest = Night.objects.order_by("-business_date").values_list("business_date", flat=True).first()
    if newest is None:
        return [last] if Customer.objects.exists() else []
    return unfinished + list(clock.days(newest + timedelta(days=1), last))


def tick(*, seconds: float = 480) -> list[Night]:
    """Run what is due, oldest first, for about so long. What is left is due again at the next tick."""
    deadline = time.monotonic() + seconds
    nights: list[Night] = []
    for day in pending():
        left = deadline - time.monotonic()
        if left <= 0:
            break
        night = run(day, seconds=left)
        nights.append(night)
        if night.state != Night.State.DONE:
            break
    return nights

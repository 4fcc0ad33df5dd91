"""A journey's life: make, edit, publish, pause, resume, end; and what publishing does to people inside.

Nothing that was published is edited. People inside go on by the ids of steps: one that is there still is where they
stand, one that was removed sends them to what followed it. A published change is looked at with everybody it concerns at
once, so the new lengths hold for who waits already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, F
from django.utils.text import slugify
from django.utils.translation import gettext as _

from campaigns import audience, hooks, stafftasks
from campaigns.errors import NotNow
from campaigns.gate import zone_of
from campaigns.journeys import engine, plans, reading, shape
from campaigns.journeys.deciding import end_of_wait
from campaigns.journeys.reading import Problem
from campaigns.journeys.tree import Message, Plan, Task, TaskDone, Until, Wait
from campaigns.models import Campaign, Journey, JourneyRun, JourneyStep, JourneyVersion, StaffTask
from customers.conditions import BadCondition
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, bell, clock, keys
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import seconds

EMPTY: dict[str, Any] = {"trigger": {}, "steps": []}
LOOKED_AT = 5_000
"""So many waiting people are looked at one by one for the preview of a publication."""
State = JourneyRun.State


class Outdated(NotNow):
    """Somebody else saved in between."""

    code = "edited_meanwhile"


def create(*, name: str, key: str = "", tree: Any = None, actor: User | None = None, **settings: Any) -> Journey:
    """A draft. Its tree may be incomplete; publishing is what asks for all of it. Raises ``InvalidInput``, ``BadJourney``."""
    name = _name(name)
    with transaction.atomic():
        journey = Journey.objects.create(
            name=name, key=_key(key, name), draft=shape.checked(tree if tree is not None else EMPTY), created_by=actor
        )
        return set_up(journey=journey, **settings) if settings else journey


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not name or len(name) > 120:
        raise InvalidInput(_("Give the journey a name of at most 120 letters; only your team sees it."), code="no_name")
    return name


def _key(key: str, name: str) -> str:
    if key and (slugify(key) != key or len(key) > 60):
        raise InvalidInput(
            _("The key %(key)r is not usable. Use small letters, digits, - and _, at most 60.") % {"key": key}
        )
    if key and Journey.objects.filter(key=key).exists():
        raise InvalidInput(_("There is a journey with the key “%(key)s” already.") % {"key": key}, code="key_taken")
    return key or keys.free(Journey.objects.all(), name, "journey")


def save(*, journey: Journey, tree: Any, edits: int | None = None) -> Journey:
    """Keep the draft. ``edits`` is the count the editor started from; raises ``Outdated`` when somebody saved since,
    ``BadJourney`` for what is no journey at all; it may be incomplete."""
    draft = shape.checked(tree)
    mine = Journey.objects.filter(pk=journey.pk).exclude(state=Journey.State.ENDED)
    if edits is not None:
        mine = mine.filter(edits=edits)
    if mine.update(draft=draft, edits=F("edits") + 1) != 1:
        raise Outdated(_("Somebody changed this journey in between, or it has ended. Reload the page to see it."))
    journey.refresh_from_db()
    return journey


def set_up(*, journey: Journey, **given: Any) -> Journey:
    """Change name, ``again``, ``again_days``, ``holdout_percent``, ``exits``, ``goal`` or ``goal_days``; at once."""
    known = {"name", "again", "again_days", "holdout_percent", "exits", "goal", "goal_days"}
    if extra := set(given) - known:
        raise InvalidInput(_("A journey does not know %(what)s.") % {"what": ", ".join(sorted(extra))})
    if "name" in given:
        given["name"] = _name(given["name"])
    if "again" in given and given["again"] not in Journey.Again.values:
        raise InvalidInput(_("Choose never, after some days, or every time."), code="bad_again")
    for name, low, high in (("holdout_percent", 0, 90), ("again_days", 1, 3650), ("goal_days", 1, 365)):
        if name in given and not (isinstance(given[name], int) and low <= given[name] <= high):
            raise InvalidInput(
                _("%(name)s is a whole number from %(low)d to %(high)d.") % {"name": name, "low": low, "high": high},
                code=f"bad_{name}",
            )
    shape.storable({name: given[name] for name in ("exits", "goal") if name in given})
    if "exits" in given:
        reading.exits_of(given["exits"])
    if "goal" in given:
        reading.goal_of(given["goal"])
    Journey.objects.filter(pk=journey.pk).update(**given)
    journey.refresh_from_db()
    return journey


# --- What stands against it, and what it would do -------------------------------------------------------------------------


def problems(journey: Journey) -> list[Problem]:
    """What keeps the draft from being published."""
    plan, found = reading.read(journey.draft)
    # A journey in force goes on when somebody leaves the shop: their tasks are for the others. Nobody publishes such a one.
    of_people = {step.id: step.person for step in plan.walk() if isinstance(step, Task) and step.person} if plan else {}
    gone = set(User.objects.filter(pk__in=of_people.values(), is_active=False).values_list("pk", flat=True))
    found += [
        Problem(step, _("The person this task is for does not work here any more. Choose somebody else, or a role."))
        for step, person in of_people.items()
        if person in gone
    ]
    try:
        reading.exits_of(journey.exits)
    except BadCondition as problem:
        found.append(Problem("", problem.message))
    return found


@dataclass(frozen=True, slots=True)
class Effect:
    """What publishing does to those who stand in one step: ``kind`` is ``changed`` or ``removed``.

    ``at_once`` of ``inside`` go on at the next look. ``to`` is the step they go to when theirs is removed, "" for the end.
    ``was`` and ``becomes`` are the step before and after, as trees.
    """

    step: str
    kind: str
    inside: int
    at_once: int
    to: str
    was: Mapping[str, Any]
    becomes: Mapping[str, Any]


def inside_by_step(journey: Journey) -> dict[str, int]:
    """How many stand in each step."""
    rows = JourneyRun.objects.filter(journey=journey, state=State.RUNNING).order_by().values_list("step")
    return dict(rows.annotate(n=Count("pk")))


def effects(journey: Journey) -> list[Effect]:
    """What publishing the draft would do to people inside, per step that is changed or removed. Raises ``BadJourney``."""
    if not journey.version:
        return []
    then = reading.plan_of(journey.draft)
    before = JourneyVersion.objects.get(journey=journey, number=journey.version).tree
    old = {step["id"]: step for step in reading.steps_of(before)}
    new = {step["id"]: step for step in reading.steps_of(journey.draft)}
    now_plan, _problems = reading.read(before)
    found = []
    for step, inside in sorted(inside_by_step(journey).items()):
        was, becomes = old.get(step, {}), new.get(step, {})
        if not step or (step in new and _own(was) == _own(becomes)):
            continue
        if step in new:
            found.append(Effect(step, "changed", inside, _over(journey, then, step), step, was, becomes))
        else:
            to = then.place_of(step, [now_plan] if now_plan else [])
            found.append(Effect(step, "removed", inside, inside, to, was, {}))
    return found


def _own(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step without the steps inside it: those stand in their own places."""
    ways = [
        {name: value for name, value in branch.items() if name != "steps"}
        for branch in step.get("branches", [])
        if isinstance(branch, dict)
    ]
    return {name: value for name, value in step.items() if name not in ("branches", "else")} | {"branches": ways}


def _over(journey: Journey, plan: Plan, step: str) -> int:
    """How many of those who stand in the step have waited long enough for its new length."""
    now = seconds(clock.whole_now())
    found = plan.at[step]
    rows = batches.rows(
        "SELECT r.since, c.time_zone FROM campaigns_journeyrun r JOIN customers_customer c ON c.id = r.customer_id "
        f"WHERE r.journey_id = %s AND r.state = 'running' AND r.step = %s AND r.since IS NOT NULL LIMIT {LOOKED_AT}",
        [journey.pk, step],
    )
    if isinstance(found, Wait):
        return sum(end_of_wait(found, since, zone_of(zone)) <= now for since, zone in rows)
    if isinstance(found, Until | TaskDone):
        return sum(since + found.at_most <= now for since, _zone in rows)
    return len(rows)


# --- Verbs ----------------------------------------------------------------------------------------------------------------


def publish(*, journey: Journey, actor: User | None = None, note: str = "", edits: int | None = None) -> JourneyVersion:
    """Make the draft the version in force, and the journey live if it was a draft. Raises ``BadJourney``, ``Outdated``."""
    with transaction.atomic():
        journey.refresh_from_db()
        if edits is not None and journey.edits != edits:
            raise Outdated(_("Somebody changed this journey in between, or it has ended. Reload the page to see it."))
        if found := problems(journey):
            raise reading.BadJourney(
                found[0].sentence, problems=[[problem.step, problem.sentence] for problem in found]
            )
        number = journey.version + 1
        concerned = [one.step for one in effects(journey)]
        mine = Journey.objects.filter(pk=journey.pk, version=journey.version, edits=journey.edits)
        if mine.exclude(state=Journey.State.ENDED).update(version=number) != 1:
            raise Outdated(_("Somebody changed this journey in between, or it has ended. Reload the page to see it."))
        version = JourneyVersion.objects.create(
            journey=journey, number=number, tree=journey.draft, note=note.strip()[:300], published_by=actor
        )
        Journey.objects.filter(pk=journey.pk, state=Journey.State.DRAFT).update(
            state=Journey.State.LIVE, live_since=clock.now(), guard={}
        )
        # From now on each text of the journey is in use, whether or not somebody has come to its step.
        for step in reading.plan_of(journey.draft).walk():
            if isinstance(step, Message):
                audience.may_leave(engine.campaign_of(journey, step).channel)
        if concerned:
            JourneyRun.objects.filter(journey=journey, state=State.RUNNING, step__in=concerned).update(
                due_at=clock.whole_now()
            )
    journey.refresh_from_db()
    return version


def pause(*, journey: Journey) -> Journey:
    """Nobody enters and nobody goes on; what waits in the outbox stays there."""
    with transaction.atomic():
        if Journey.objects.filter(pk=journey.pk, state=Journey.State.LIVE).update(state=Journey.State.PAUSED) != 1:
            raise NotNow(_("Only a live journey can be paused."))
        journey.campaigns.filter(state=Campaign.State.ACTIVE).update(state=Campaign.State.PAUSED)
    journey.refresh_from_db()
    return journey


def resume(*, journey: Journey) -> Journey:
    """Go on. What would have let people in meanwhile does not: a pause is a person's word. Raises ``BadJourney``."""
    with transaction.atomic():
        plans.in_force(journey)
        if (
            Journey.objects.filter(pk=journey.pk, state=Journey.State.PAUSED).update(
                state=Journey.State.LIVE, live_since=clock.now(), guard={}
            )
            != 1
        ):
            raise NotNow(_("Only a paused journey can be resumed."))
        journey.campaigns.filter(state=Campaign.State.PAUSED, alarm={}).update(state=Campaign.State.ACTIVE)
    journey.refresh_from_db()
    return journey


def end(*, journey: Journey) -> int:
    """For good: nobody enters, who is inside is taken out, what waits in the outbox is called off, and open tasks are
    withdrawn. How many were inside."""
    with transaction.atomic():
        running = Journey.objects.filter(pk=journey.pk).exclude(state=Journey.State.ENDED)
        if running.update(state=Journey.State.ENDED) != 1:
            raise NotNow(_("This journey has ended already."))
        inside = take_out(journey, JourneyRun.objects.filter(journey=journey), JourneyRun.Reason.ENDED)
        # Those of people who are through already, too.
        everybody = "SELECT id FROM campaigns_journeyrun WHERE journey_id = %s"
        stafftasks.withdraw(everybody, [journey.pk], StaffTask.Withdrawn.ENDED)
        hooks.withdraw(everybody, [journey.pk])
        journey.campaigns.update(state=Campaign.State.ENDED)
    journey.refresh_from_db()
    return inside


def move(*, run: JourneyRun, to: str, actor: User | None, why: str) -> JourneyRun:
    """Put one person inside before another step of the version in force, with a reason; they go on from there at once. A
    step that gave them something gives it no second time. What waits in the outbox for them still leaves."""
    why = _reason(why)
    plan = plans.in_force(run.journey).plan
    if to not in plan.at:
        raise InvalidInput(_("Choose the step to which this person moves."), code="no_step")
    now = clock.whole_now()
    with transaction.atomic():
        row = JourneyRun.objects.filter(pk=run.pk, state=State.RUNNING).values_list("step", flat=True).first()
        inside = JourneyRun.objects.filter(pk=run.pk, state=State.RUNNING, step=row)
        if row is None or inside.update(step=to, since=None, due_at=now, listens=False) != 1:
            raise NotNow(_("This person is not inside any more."))
        data = {"to": to, "why": why, "by": actor.pk if actor else None}
        JourneyStep.objects.create(run=run, step=row, at=now, outcome=JourneyStep.Outcome.PLACED, data=data)
    run.refresh_from_db()
    bell.ring("campaigns.tasks.advance_journeys")
    return run


def _reason(why: str) -> str:
    why = " ".join(why.split())
    if not why or len(why) > 200:
        raise InvalidInput(_("Say why, in at most 200 letters."), code="no_reason")
    return why


def remove(*, run: JourneyRun, actor: User | None, why: str) -> JourneyRun:
    """Take one person out, with a reason. What has left cannot be called back."""
    why = _reason(why)
    with transaction.atomic():
        found = JourneyRun.objects.filter(pk=run.pk)
        data = {"why": why, "by": actor.pk if actor else None}
        if take_out(run.journey, found, JourneyRun.Reason.REMOVED, **data) != 1:
            raise NotNow(_("This person is not inside any more."))
    run.refresh_from_db()
    return run


def take_out(journey: Journey, runs: Any, reason: str, **data: Any) -> int:
    """Take those of ``runs`` that are inside out of it, with their messages that have not left and their open tasks; how
    many."""
    count, now = 0, clock.whole_now()
    running = runs.filter(state=State.RUNNING).order_by("pk")
    while part := list(running.values_list("pk", "customer_id", "number", "step")[:1000]):
        gone = JourneyRun.objects.filter(pk__in=[pk for pk, *_rest in part], state=State.RUNNING)
        gone.update(state=State.CANCELLED, reason=reason, due_at=None, listens=False, ended_at=now)
        JourneyStep.objects.bulk_create(
            JourneyStep(
                run_id=pk,
                step=step,
                at=now,
                outcome=JourneyStep.Outcome.LEFT,
                data={"state": str(State.CANCELLED), "reason": str(reason), **data},
            )
            for pk, _customer, _number, step in part
        )
        engine.call_off(journey, [(customer, number) for _pk, customer, number, _step in part])
        runs = ", ".join(str(pk) for pk, *_rest in part)
        stafftasks.withdraw(runs, [], reason)
        hooks.withdraw(runs, [])
        count += len(part)
    return count


def undo_night(*, business_date: date) -> dict[str, int]:
    """Take out whom a night let in and who got nothing yet: ``taken_out``; ``gone_on`` had a message, or a person of the
    shop did a task for them, or another system was told, already."""
    runs = JourneyRun.objects.filter(night=business_date)
    sent = {
        pk
        for (pk,) in batches.rows(
            """
            SELECT r.id FROM campaigns_journeyrun r WHERE r.night = %s AND (EXISTS (
                SELECT 1 FROM campaigns_stafftask t WHERE t.run_id = r.id AND t.state = 'done'
            ) OR EXISTS (
                SELECT 1 FROM campaigns_webhookdelivery d WHERE d.run_id = r.id AND d.state IN ('sending', 'delivered')
            ) OR EXISTS (
                SELECT 1 FROM campaigns_message m JOIN campaigns_run u ON u.id = m.run_id
                JOIN campaigns_campaign k ON k.id = u.campaign_id
                WHERE m.customer_id = r.customer_id AND m.state IN ('sending', 'sent', 'in_doubt')
                  AND k.journey_id = r.journey_id AND u.key LIKE 'entry:' || r.number || ':%%'
            ))
            """,
            [connection.ops.adapt_datefield_value(business_date)],
        )
    }
    taken = 0
    for journey in Journey.objects.filter(pk__in=runs.order_by().values("journey").distinct()):
        mine = runs.filter(journey=journey).exclude(pk__in=sent)
        taken += take_out(journey, mine, JourneyRun.Reason.UNDONE)
        # Who was held out, or through already without a word, was never let in either.
        rest = mine.exclude(state__in=(State.CANCELLED, State.RUNNING))
        for part in batches.of(rest.order_by("pk").values_list("pk", flat=True), 1000):
            runs_through = ", ".join(map(str, part))
            stafftasks.withdraw(runs_through, [], StaffTask.Withdrawn.UNDONE)
            hooks.withdraw(runs_through, [])
        taken += rest.update(state=State.CANCELLED, reason=JourneyRun.Reason.UNDONE, due_at=None)
    return {"taken_out": taken, "gone_on": len(sent)}

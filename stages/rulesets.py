"""Versions of the rules: draft, look at what they would do, publish, go back.

A published version is never edited. Publishing retires the one before it and makes every customer due, quietly: people who
move only because the rules changed start no message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from customers import conditions, facts, membership
from customers.conditions import All
from customers.models import Customer, CustomerFacts
from customers.sentences import because, say
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from lifecycle_crm.lib.models import Note
from lifecycle_crm.lib.moments import DAY, epoch, parameter, seconds
from lifecycle_crm.templatetags.crm import stage_name
from stages import checks, evidence, queries
from stages import rules as rulebook
from stages.models import RuleApproval, RuleSet, StageKey, StageTransition
from stages.queries import NEW, Flows
from stages.rules import Rule, Rules

SAMPLE = 20
BRAKE_SHARE, BRAKE_PEOPLE = 0.05, 1000
"""Above either, publishing needs the number of people typed, or a second person."""


def draft(*, based_on: RuleSet | None, rules: Any, actor: User | None, name: str = "", note: str = "") -> RuleSet:
    """A new version as a draft. ``rules`` is the JSON list; without one, those of ``based_on``.

    Raises ``BadRules`` or ``BadCondition`` with one sentence that says where.
    """
    data = based_on.rules if rules is None and based_on else rules
    parsed = rulebook.parse(data)
    if based_on is None or data != based_on.rules:
        checks.refuse_dead(parsed)
    try:
        with transaction.atomic():
            newest = RuleSet.objects.aggregate(newest=Max("version"))["newest"] or 0
            return RuleSet.objects.create(
                version=newest + 1,
                name=(name.strip() or (based_on.name if based_on else _("Own rules")))[:80],
                rules=data,
                note=note.strip(),
                base=queries.published(),
                created_by=actor,
            )
    except IntegrityError:
        raise Conflict("Somebody made a version at this moment. Try again.") from None


def edit(*, rule_set: RuleSet, rules: Any, name: str, note: str = "") -> RuleSet:
    """Change a draft. Published and retired versions stay as they are. A request to approve it is withdrawn."""
    checks.refuse_dead(rulebook.parse(rules))
    if not name.strip():
        raise InvalidInput("Give the rule set a name.")
    with transaction.atomic():
        changed = RuleSet.objects.filter(pk=rule_set.pk, state=RuleSet.State.DRAFT).update(
            rules=rules, name=name.strip()[:80], note=note.strip()
        )
        if changed != 1:
            raise Conflict(f"Version {rule_set.version} is no draft any more. Make a new draft from it.")
        RuleApproval.objects.filter(rule_set=rule_set, approved_by=None).delete()
    rule_set.refresh_from_db()
    return rule_set


def discard(*, rule_set: RuleSet) -> None:
    """Delete a draft."""
    with transaction.atomic():
        gone, _by_model = RuleSet.objects.filter(pk=rule_set.pk, state=RuleSet.State.DRAFT).delete()
        if not gone:
            raise Conflict(f"Version {rule_set.version} is no draft any more, so it stays.")


# --- Publishing -------------------------------------------------------------------------------------------------------


def overtaken_by(rule_set: RuleSet) -> RuleSet | None:
    """The version that was published since this draft was made; ``None`` while the one it was made from is in force."""
    current = queries.published()
    return current if current is not None and rule_set.base_id is not None and current.pk != rule_set.base_id else None


def rebase(*, rule_set: RuleSet) -> RuleSet:
    """Say that a draft is meant to follow the version now in force, after looking at what that one changed."""
    current = queries.published()
    if RuleSet.objects.filter(pk=rule_set.pk, state=RuleSet.State.DRAFT).update(base=current) != 1:
        raise Conflict(f"Version {rule_set.version} is no draft any more. Make a new draft from it.")
    rule_set.refresh_from_db()
    return rule_set


def needs_brake(then: WhatIf) -> bool:
    """Whether so many would move that the number has to be typed, or a second person has to look."""
    return then.moving > BRAKE_PEOPLE or (then.total > 0 and then.moving > BRAKE_SHARE * then.total)


def publish(*, rule_set: RuleSet, actor: User | None, mode: str = RuleSet.Mode.QUIET) -> RuleSet:
    """Put a draft in force. Doors call ``release`` or ``approve``, which hold the brake.

    ``quiet``: everybody is due for review, and the moves of that review start no message. ``move``: the same, and messages
    may start. ``later``: people stand where they stand until something they do, or time, changes the answer.
    """
    if mode not in RuleSet.Mode.values:
        raise InvalidInput(f"{mode!r} is no way to publish. Use one of: {', '.join(RuleSet.Mode.values)}.")
    if rule_set.state != RuleSet.State.DRAFT:
        raise Conflict(f"Version {rule_set.version} is no draft any more. Look again, then decide.")
    rules = rulebook.parse(rule_set.rules)
    checks.refuse_dead(rules)
    now = clock.whole_now()
    checks.refuse_loops(rules, now)
    if (other := overtaken_by(rule_set)) is not None:
        raise Conflict(
            _(
                "Version %(other)d was published after this draft was made, by %(person)s. Compare the two, then say that "
                "this draft follows it."
            )
            % {"other": other.version, "person": other.published_by or other.created_by or _("somebody")},
            code="overtaken",
        )
    try:
        with transaction.atomic():
            # Only the version this draft was made from; another one makes the constraint refuse ours below.
            in_force = RuleSet.objects.filter(state=RuleSet.State.PUBLISHED)
            if rule_set.base_id is not None:
                in_force = in_force.filter(pk=rule_set.base_id)
            in_force.update(state=RuleSet.State.RETIRED)
            taken = RuleSet.objects.filter(pk=rule_set.pk, state=RuleSet.State.DRAFT).update(
                state=RuleSet.State.PUBLISHED, published_at=clock.now(), published_by=actor, mode=mode
            )
            if taken != 1:
                raise Conflict(f"Version {rule_set.version} is no draft any more. Look again, then decide.")
            if actor is not None:
                RuleSet.objects.filter(pk=rule_set.pk, created_by=None).update(created_by=actor)
            if mode == RuleSet.Mode.LATER:
                _review_later(rules, now)
            elif mode == RuleSet.Mode.MOVE:
                CustomerFacts.objects.update(next_review_at=facts.AT_ONCE)
            else:
                CustomerFacts.objects.update(next_review_at=facts.AT_ONCE, is_quiet=True)
    except IntegrityError:
        raise Conflict("Another version was published at this moment. Look again, then decide.") from None
    rule_set.refresh_from_db()
    return rule_set


def _review_later(rules: Rules, now: datetime) -> None:
    """Nobody is due because of the new rules; who is not due today already is looked at when time first changes an answer:
    of the rules, or of a segment."""
    review, params = rulebook.next_review_sql(rules, facts.cuts(clock.business_date(now)), now)
    watched = membership.watch(business_date=clock.business_date(now), as_of=now, previous=None).conditions()
    flips, flip_params = conditions.flip_sql(watched, now)
    forever = str(conditions.FOREVER)
    own = f"CASE WHEN pin.customer_id IS NOT NULL THEN {epoch('pin.until')} ELSE coalesce({review}, {forever}) END"
    batches.execute(
        f"""
        UPDATE customers_customerfacts SET next_review_at = n.review
        FROM (
            SELECT f.customer_id, nullif({conditions.smallest([own, *flips, forever])}, {forever}) AS review
            FROM customers_customerfacts f
            LEFT JOIN stages_pin pin ON pin.customer_id = f.customer_id AND pin.until > %s
            WHERE f.stage <> '' AND (f.next_review_at IS NULL OR f.next_review_at > %s)
        ) AS n
        WHERE customers_customerfacts.customer_id = n.customer_id
        """,
        [*params, *flip_params, parameter(now), seconds(clock.day_end(clock.business_date(now)))],
    )


def _brake(rule_set: RuleSet) -> WhatIf | None:
    then = what_if(rulebook.parse(rule_set.rules), clock.whole_now(), sample=0)
    return then if needs_brake(then) else None


def release(
    *, rule_set: RuleSet, actor: User | None, mode: str = RuleSet.Mode.QUIET, confirm: str | int = ""
) -> RuleSet:
    """``publish`` with the brake: above it ``confirm`` must be the number of customers who would move."""
    held = _brake(rule_set) if rule_set.state == RuleSet.State.DRAFT and mode != RuleSet.Mode.LATER else None
    if held is not None and str(confirm).strip() != str(held.moving):
        raise Conflict(
            ngettext(
                "%(n)d customer would move. Type that number to publish, or ask a second person.",
                "%(n)d customers would move. Type that number to publish, or ask a second person.",
                held.moving,
            )
            % {"n": held.moving},
            code="brake",
            moving=held.moving,
        )
    return publish(rule_set=rule_set, actor=actor, mode=mode)


def request_approval(*, rule_set: RuleSet, actor: User, mode: str = RuleSet.Mode.QUIET) -> RuleApproval:
    """Ask for a second person. Asking again replaces what was asked before."""
    if mode not in RuleSet.Mode.values:
        raise InvalidInput(f"{mode!r} is no way to publish. Use one of: {', '.join(RuleSet.Mode.values)}.")
    if rule_set.state != RuleSet.State.DRAFT:
        raise Conflict(f"Version {rule_set.version} is no draft any more, so there is nothing to approve.")
    moving = what_if(rulebook.parse(rule_set.rules), clock.whole_now(), sample=0).moving
    asked, _created = RuleApproval.objects.update_or_create(
        rule_set=rule_set,
        defaults={"mode": mode, "moving": moving, "requested_by": actor, "requested_at": clock.now()},
    )
    return asked


def approve(*, rule_set: RuleSet, actor: User) -> RuleSet:
    """The second person publishes what the first one asked for. Refused to the one who asked."""
    asked = RuleApproval.objects.select_related("requested_by").filter(rule_set=rule_set, approved_by=None).first()
    if asked is None:
        raise Conflict(f"Nobody asks for version {rule_set.version} to be approved; an edit withdraws the request.")
    if asked.requested_by_id == actor.pk:
        raise Conflict("You asked for this approval yourself. A second person has to give it.", code="second_person")
    with transaction.atomic():
        mine = RuleApproval.objects.filter(pk=asked.pk, approved_by=None, requested_by=asked.requested_by)
        if mine.update(approved_by=actor, approved_at=clock.now()) != 1:
            raise Conflict("Somebody decided about this request at this moment. Look again.")
        return publish(rule_set=rule_set, actor=asked.requested_by, mode=asked.mode)


def roll_back(*, to: RuleSet, actor: User | None) -> RuleSet:
    """Publish an older version again, as a new version with the same rules; history keeps both."""
    if to.state != RuleSet.State.RETIRED:
        raise Conflict(f"Version {to.version} is not an older version: it is {to.get_state_display().lower()}.")
    with transaction.atomic():
        again = draft(
            based_on=to,
            rules=to.rules,
            actor=actor,
            note=_("Goes back to version %(version)d.") % {"version": to.version},
        )
        return publish(rule_set=again, actor=actor)


# --- What differs -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """One line of what differs between two versions: ``kind`` is added, removed, changed or moved."""

    kind: str
    rule: str
    was: str = ""
    now: str = ""


def sentence(rule: Rule) -> str:
    """A whole rule in words: where to, when, from where and after which stay."""
    parts = [_("everybody else") if rule.when == All(()) else say(rule.when)]
    if rule.sources:
        names = ", ".join(_("new customers") if s == NEW else stage_name(s) for s in rule.sources)
        parts.append(_("only for those in: %(stages)s") % {"stages": names})
    if rule.stay_days:
        parts.append(
            ngettext("after at least %(n)d day there", "after at least %(n)d days there", rule.stay_days)
            % {"n": rule.stay_days}
        )
    return f"{stage_name(rule.to)}: {'; '.join(parts)}"


def differences(old: Rules, new: Rules) -> list[Change]:
    """What differs from ``old`` to ``new``, in the order of ``new``, rules that are gone last."""
    before, after = {rule.key: rule for rule in old}, {rule.key: rule for rule in new}
    kept_old, kept_new = [k for k in before if k in after], [k for k in after if k in before]
    # A rule moved when its place among those both versions know is another one; only the fewest are named.
    steady = _longest_common(kept_old, kept_new)
    found: list[Change] = []
    for key, rule in after.items():
        if key not in before:
            found.append(Change("added", rule.title(), now=sentence(rule)))
            continue
        was, now = sentence(before[key]), sentence(rule)
        if was != now or (before[key] != rule and before[key].name == rule.name):
            found.append(Change("changed", rule.title(), was, now))
        if before[key].name != rule.name:
            found.append(Change("renamed", rule.title(), before[key].title(), rule.title()))
        if key not in steady:
            found.append(
                Change("moved", rule.title(), str(list(before).index(key) + 1), str(list(after).index(key) + 1))
            )
    found += [Change("removed", rule.title(), was=sentence(rule)) for key, rule in before.items() if key not in after]
    return found


def _longest_common(one: list[str], other: list[str]) -> set[str]:
    best: list[list[list[str]]] = [[[] for _o in range(len(other) + 1)] for _i in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            best[i + 1][j + 1] = [*best[i][j], a] if a == b else max(best[i][j + 1], best[i + 1][j], key=len)
    return set(best[-1][-1])


# --- Yearly review ----------------------------------------------------------------------------------------------------

REVIEW_DAYS = 365


@dataclass(frozen=True)
class Review:
    """What changed since rules were published more than a year ago. Shares are of all placed customers, 0 to 1."""

    days: int
    rhythm_then: int | None
    rhythm_now: int
    repeaters: int
    shares_then: dict[str, float]
    shares_now: dict[str, float]


def review_due(rule_set: RuleSet, rhythm: Callable[[], tuple[int, int]]) -> Review | None:
    """The yearly review of the rules in force, ``None`` while they are younger. ``rhythm`` measures it now."""
    if rule_set.published_at is None:
        return None
    days = (clock.now() - rule_set.published_at).days
    if days < REVIEW_DAYS:
        return None
    now, repeaters = rhythm()
    standing = queries.standing()
    return Review(
        days=days,
        rhythm_then=_rhythm_of(rule_set),
        rhythm_now=now,
        repeaters=repeaters,
        shares_then=_shares(queries.standing_on(clock.business_date(rule_set.published_at))),
        shares_now=_shares(standing),
    )


def _rhythm_of(rule_set: RuleSet) -> int | None:
    """The rhythm the default rules noted when they were made (see ``presets.install``)."""
    made = Note.objects.filter(name="default_rules").first()
    return int(made.value["rhythm"]) if made is not None and made.value.get("version") == rule_set.version else None


def _shares(standing: dict[str, int]) -> dict[str, float]:
    placed = sum(standing.get(key, 0) for key in StageKey.values)
    return {key: standing.get(key, 0) / placed if placed else 0.0 for key in StageKey.values}


# --- What it would do -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mover:
    """One customer who would move: the rule and the values that decide then, and why they stand where they stand."""

    customer: Customer
    source: str
    target: str
    rule: str
    because: str
    stands: str = ""


@dataclass(frozen=True)
class WhatIf:
    """What a rule set would do at ``as_of``. ``standing`` holds all customers by ``(stage now, stage then)``, those who
    stay included; ``sample`` the movers who spent most."""

    as_of: datetime
    standing: Flows
    sample: list[Mover]

    @property
    def total(self) -> int:
        return sum(self.standing.values())

    @property
    def moving(self) -> int:
        return sum(count for (source, target), count in self.standing.items() if source != target)

    @property
    def moves(self) -> Flows:
        return {pair: count for pair, count in self.standing.items() if pair[0] != pair[1]}

    def before(self) -> dict[str, int]:
        return {s: sum(n for (source, _t), n in self.standing.items() if source == s) for s in [NEW, *StageKey.values]}

    def after(self) -> dict[str, int]:
        return {s: sum(n for (_s, target), n in self.standing.items() if target == s) for s in [NEW, *StageKey.values]}


def _everybody(rules: Rules, as_of: datetime) -> tuple[str, list[Any]]:
    """A SELECT of ``customer_id, stage, target, rule, spend_minor`` of everybody, as the engine would decide."""
    decided, params = rulebook.decide_sql(rules, as_of)
    now = seconds(as_of)
    target = "CASE d.rule " + " ".join(f"WHEN {i} THEN '{r.to}'" for i, r in enumerate(rules)) + " END"
    stays = [(i, r.stay_days) for i, r in enumerate(rules) if r.stay_days]
    wait = "CASE d.rule " + " ".join(f"WHEN {i} THEN {d * DAY}" for i, d in stays) + " ELSE 0 END" if stays else "0"
    sql = f"""
        SELECT d.customer_id, d.stage, d.rule, d.spend_minor,
               CASE WHEN d.pinned_until IS NOT NULL OR (d.stage <> '' AND d.stage_since + {wait} > {now})
                    THEN d.stage ELSE {target} END AS target
        FROM (
            SELECT f.customer_id, f.stage, f.stage_since, f.spend_minor, pin.until AS pinned_until, {decided} AS rule
            FROM customers_customerfacts f
            LEFT JOIN stages_pin pin ON pin.customer_id = f.customer_id AND pin.until > %s
        ) d
    """
    return sql, [*params, parameter(as_of)]


def moving(rules: Rules, as_of: datetime) -> tuple[str, list[Any]]:
    """A SELECT of ``customer_id, source, target``: who would go from one stage to another. New customers enter quietly, so
    not they."""
    everybody, params = _everybody(rules, as_of)
    select = f"SELECT e.customer_id, e.stage AS source, e.target FROM ({everybody}) e"
    return f"{select} WHERE e.stage <> '' AND e.target <> e.stage", params


def what_if(rules: Rules, as_of: datetime, *, sample: int = SAMPLE) -> WhatIf:
    """Decide for everybody in SQL, as the engine would, and write nothing. Pins and minimum stays hold."""
    everybody, params = _everybody(rules, as_of)
    grouped = batches.rows(
        f"SELECT e.stage, e.target, count(*) FROM ({everybody}) e GROUP BY e.stage, e.target", params
    )
    standing = {(source or NEW, to or NEW): count for source, to, count in grouped}
    if not sample:
        return WhatIf(as_of, standing, [])
    return WhatIf(as_of, standing, movers(rules, as_of, pair=None, limit=sample))


def movers(
    rules: Rules, as_of: datetime, *, pair: tuple[str, str] | None, limit: int = SAMPLE, offset: int = 0
) -> list[Mover]:
    """Who would move, who spent most first; with a ``pair`` only from that stage (``new``: without one) to that one."""
    everybody, params = _everybody(rules, as_of)
    only = ""
    if pair is not None:
        only = "AND e.stage = %s AND e.target = %s"
        params = [*params, "" if pair[0] == NEW else pair[0], pair[1]]
    found = batches.rows(
        f"SELECT e.customer_id, e.stage, e.target, e.rule FROM ({everybody}) e WHERE e.target <> e.stage {only} "
        f"ORDER BY e.spend_minor DESC, e.customer_id LIMIT {int(limit)} OFFSET {int(offset)}",
        params,
    )
    return _movers(rules, found, as_of)


def _movers(rules: Rules, found: list[tuple[Any, ...]], as_of: datetime) -> list[Mover]:
    ids = [pk for pk, *_rest in found]
    customers = Customer.objects.in_bulk(ids)
    snapshots = conditions.snapshots(ids, rules.conditions(), as_of)
    at = seconds(as_of)
    ordered = list(rules)
    last: dict[int, StageTransition] = {}
    for move in StageTransition.objects.filter(customer__in=ids).prefetch_related("rule_set", "user").order_by("id"):
        last[move.customer_id] = move
    movers = []
    for pk, source, target, index in found:
        rule = ordered[index]
        why = _("no other rule applies") if rule.when == All(()) else because(rule.when, snapshots[pk], at)
        stands = evidence.why(last[pk]) if pk in last else ""
        movers.append(Mover(customers[pk], source or NEW, target, rule.title(), why, stands))
    return movers

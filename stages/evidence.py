"""Why a customer stands where they stand, and what would move them next: sentences from stored values, in any language.

A transition keeps the value of every fact its rule set looked at (``StageTransition.evidence``), so its reason is made
when somebody reads it. The outlook asks the rules themselves: ``rules.decide`` at each moment at which time alone could
change the answer, until one does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.utils.translation import gettext as _

from customers.conditions import All, Snapshot, holds
from customers.models import RfmCuts
from customers.sentences import because, say
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.moments import DAY, from_seconds, seconds
from lifecycle_crm.templatetags.crm import day, stage_name
from stages import rules as rulebook
from stages.models import RuleSet, StageTransition
from stages.rules import Decision, Rule, Rules

MAX_FLIPS = 200
"""How many moments of change the outlook looks through. Each atom of a rule set flips at most a few times ahead."""

# --- What happened ----------------------------------------------------------------------------------------------------


def parsed(rule_set: RuleSet) -> Rules:
    """The rules of a rule set, read once per instance: a page that shows fifty moves parses their version once."""
    known: Rules | None = rule_set.__dict__.get("_parsed")
    if known is None:
        known = rulebook.parse(rule_set.rules)
        rule_set.__dict__["_parsed"] = known
    return known


def headline(transition: StageTransition) -> str:
    """What moved, without when and why: "Moved Retain → Dormant"."""
    if transition.kind == StageTransition.Kind.UNDO:
        if not transition.to_stage:
            return _("Undone: no stage again")
        return _("Undone: back to %(to)s") % {"to": stage_name(transition.to_stage)}
    to = stage_name(transition.to_stage)
    if not transition.from_stage:
        return _("Entered %(to)s") % {"to": to}
    return _("Moved %(from)s → %(to)s") % {"from": stage_name(transition.from_stage), "to": to}


def grounds(transition: StageTransition) -> str:
    """The values that decided, each with its limit: "no order for 214 days (limit 180)". By hand: the person's words."""
    if transition.kind == StageTransition.Kind.PERSON:
        return transition.reason
    if transition.kind == StageTransition.Kind.UNDO:
        return _("the night of %(day)s was taken back") % {"day": day(transition.business_date)}
    rule = _rule_of(transition)
    if rule is None:
        return ""
    if rule.when == All(()):
        return _("no other rule applies")
    return because(rule.when, transition.evidence, seconds(transition.occurred_at))


def rule_title(transition: StageTransition) -> str:
    """ "Goes quiet, version 4"; empty for a move by hand."""
    rule_set = transition.rule_set
    if rule_set is None:
        return ""
    rule = _rule_of(transition)
    return _("%(rule)s, version %(version)d") % {
        "rule": rule.title() if rule else transition.rule,
        "version": rule_set.version,
    }


def why(transition: StageTransition) -> str:
    """The grounds and the rule, for a place that says the move itself: "no order for 214 days (limit 180). Rule: …"."""
    values = {"why": grounds(transition), "rule": rule_title(transition), "person": str(transition.user or "")}
    if transition.kind == StageTransition.Kind.PERSON:
        return _("By hand, by %(person)s: %(why)s") % values
    if transition.kind == StageTransition.Kind.UNDO:
        return _capital(values["why"]) + "."
    if not values["why"]:
        return _("Rule: %(rule)s.") % values
    return _("%(why)s. Rule: %(rule)s.") % {**values, "why": _capital(values["why"])}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def reason(transition: StageTransition) -> str:
    """The whole sentence. ``transition.rule_set`` and ``transition.user`` are read: fetch them along.

    "Moved Retain → Dormant on 3 Nov 2026: no order for 214 days (limit 180). Rule: Goes quiet, version 4."
    """
    values = {
        "move": headline(transition),
        "date": day(transition.business_date),
        "why": grounds(transition),
        "rule": rule_title(transition),
        "person": str(transition.user or ""),
    }
    if transition.kind == StageTransition.Kind.PERSON:
        return _("%(move)s on %(date)s by hand, by %(person)s: %(why)s") % values
    if transition.kind == StageTransition.Kind.UNDO:
        return _("%(move)s: %(why)s.") % values
    if not values["why"]:
        return _("%(move)s on %(date)s. Rule: %(rule)s.") % values
    return _("%(move)s on %(date)s: %(why)s. Rule: %(rule)s.") % values


def _rule_of(transition: StageTransition) -> Rule | None:
    return parsed(transition.rule_set).by_key(transition.rule) if transition.rule_set else None


# --- What is to come --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Obstacle:
    """A rule that stands above the one that decides and does not decide itself. ``against`` says why not."""

    rule: Rule
    against: str


@dataclass(frozen=True)
class Flip:
    """The first move that time alone will bring. ``on`` is its business date, decided by that date's night."""

    on: date
    at: datetime
    to: str
    rule: Rule
    because: str


@dataclass(frozen=True)
class Outlook:
    """``decision`` is what the rules say now; ``because`` the values behind it; ``above`` what was asked before.

    ``waits_until`` is set while a minimum stay holds a decided move back. ``flip`` is ``None`` when time alone never
    moves the customer: then only something they do will.
    """

    stage: str
    decision: Decision
    because: str
    above: tuple[Obstacle, ...]
    flip: Flip | None
    waits_until: datetime | None = None
    pinned_until: datetime | None = None


def outlook(
    snapshot: Snapshot,
    rules: Rules,
    as_of: datetime,
    *,
    cuts: RfmCuts | None = None,
    pinned_until: datetime | None = None,
) -> Outlook:
    """What the rules say of this customer at ``as_of`` and when time alone changes it.

    ``snapshot`` as made by ``conditions.snapshots`` with ``stage`` and ``stage_since``. ``cuts`` lets the recency score
    age along with time; without it the score stays. A pin holds every move back until it ends.
    """
    now = seconds(as_of)
    aged = _aged(snapshot, cuts, now)
    decision = rulebook.decide(rules, aged, now)
    stage = str(snapshot.get("stage") or "")
    waits_until = None
    if decision.waits:
        waits_until = from_seconds(int(snapshot["stage_since"]) + decision.rule.stay_days * DAY)
    return Outlook(
        stage=stage,
        decision=decision,
        because=_grounds(decision.rule, aged, now),
        above=tuple(_obstacles(rules, decision.rule, aged, stage, now)),
        flip=_flip(snapshot, rules, cuts, now, stage, pinned_until),
        waits_until=waits_until,
        pinned_until=pinned_until,
    )


def _grounds(rule: Rule, snapshot: Snapshot, at: int) -> str:
    return _("no other rule applies") if rule.when == All(()) else because(rule.when, snapshot, at)


def _obstacles(rules: Rules, decides: Rule, snapshot: Snapshot, stage: str, now: int) -> Iterable[Obstacle]:
    for rule in rules:
        if rule is decides:
            return
        if not rule.may_apply(stage):
            names = ", ".join(_("new customers") if s == rulebook.NEW else stage_name(s) for s in rule.sources or ())
            yield Obstacle(rule, _("asked only of those in: %(stages)s") % {"stages": names})
        elif not holds(rule.when, snapshot, now):
            yield Obstacle(rule, because(rule.when, snapshot, now) or say(rule.when))


def _flip(
    snapshot: Snapshot, rules: Rules, cuts: RfmCuts | None, now: int, stage: str, pinned_until: datetime | None
) -> Flip | None:
    """Step from one possible change to the next and ask the rules at the night that follows it."""
    at: int | None = max(now, seconds(pinned_until)) if pinned_until else now
    for _step in range(MAX_FLIPS):
        if at is None:
            return None
        night = seconds(clock.day_end(_night_of(at)))
        aged = _aged(snapshot, cuts, night)
        decision = rulebook.decide(rules, aged, night)
        if decision.to != stage:
            return Flip(
                on=_night_of(at),
                at=from_seconds(night),
                to=decision.to,
                rule=decision.rule,
                because=_grounds(decision.rule, aged, night),
            )
        ahead = [rulebook.next_review(rules, snapshot, night), _recency_falls(snapshot, rules, cuts, night)]
        at = min((moment for moment in ahead if moment is not None), default=None)
    return None


def _night_of(at: int) -> date:
    """The business date whose night is the first to see what holds from ``at`` on: nights decide at midnight."""
    return clock.business_date(from_seconds(at) - timedelta(seconds=1))


def _aged(snapshot: Snapshot, cuts: RfmCuts | None, at: int) -> Snapshot:
    """The snapshot with the recency score it will have at that second (see ``customers.facts.score``)."""
    last = snapshot.get("last_order_at")
    if cuts is None or last is None or "recency" not in snapshot:
        return snapshot
    falls = sum(at >= last + (days + 1) * DAY for days in cuts.recency_days)
    return {**snapshot, "recency": 5 - falls}


def _recency_falls(snapshot: Snapshot, rules: Rules, cuts: RfmCuts | None, at: int) -> int | None:
    last = snapshot.get("last_order_at")
    if cuts is None or last is None or "recency" not in rules.fact_names():
        return None
    return min((m for days in cuts.recency_days if (m := last + (days + 1) * DAY) > at), default=None)

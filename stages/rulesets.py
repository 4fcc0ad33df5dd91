"""Versions of the rules: draft, look at what they would do, publish, go back.

A published version is never edited. Publishing retires the one before it and makes every customer due, quietly: people who
move only because the rules changed start no message.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from customers import conditions
from customers.conditions import All
from customers.models import Customer, CustomerFacts
from customers.sentences import because
from lifecycle_crm.accounts.models import Role, User
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from lifecycle_crm.lib.moments import DAY, parameter, seconds
from stages import rules as rulebook
from stages.models import RuleSet, StageKey
from stages.queries import NEW, Flows
from stages.rules import Rules

SAMPLE = 20

_MAY_PUBLISH = {Role.OWNER, Role.ADMIN, Role.MARKETER}


def may_publish(user: Any) -> bool:
    """Whether this person may change rules and run nights."""
    return bool(getattr(user, "is_superuser", False) or getattr(user, "role", "") in _MAY_PUBLISH)


def draft(*, based_on: RuleSet | None, rules: Any, actor: User | None, name: str = "", note: str = "") -> RuleSet:
    """A new version as a draft. ``rules`` is the JSON list; without one, those of ``based_on``.

    Raises ``BadRules`` or ``BadCondition`` with one sentence that says where.
    """
    data = based_on.rules if rules is None and based_on else rules
    rulebook.parse(data)
    try:
        with transaction.atomic():
            newest = RuleSet.objects.aggregate(newest=Max("version"))["newest"] or 0
            return RuleSet.objects.create(
                version=newest + 1,
                name=(name.strip() or (based_on.name if based_on else _("Own rules")))[:80],
                rules=data,
                note=note.strip(),
                created_by=actor,
            )
    except IntegrityError:
        raise Conflict("Somebody made a version at this moment. Try again.") from None


def edit(*, rule_set: RuleSet, rules: Any, name: str, note: str = "") -> RuleSet:
    """Change a draft. Published and retired versions stay as they are."""
    rulebook.parse(rules)
    if not name.strip():
        raise InvalidInput("Give the rule set a name.")
    changed = RuleSet.objects.filter(pk=rule_set.pk, state=RuleSet.State.DRAFT).update(
        rules=rules, name=name.strip()[:80], note=note.strip()
    )
    if changed != 1:
        raise Conflict(f"Version {rule_set.version} is no draft any more. Make a new draft from it.")
    rule_set.refresh_from_db()
    return rule_set


def discard(*, rule_set: RuleSet) -> None:
    """Delete a draft."""
    gone, _by_model = RuleSet.objects.filter(pk=rule_set.pk, state=RuleSet.State.DRAFT).delete()
    if not gone:
        raise Conflict(f"Version {rule_set.version} is no draft any more, so it stays.")


def publish(*, rule_set: RuleSet, actor: User | None) -> RuleSet:
    """Put a draft in force. Everybody is due for review, and the moves of that review are quiet."""
    rulebook.parse(rule_set.rules)
    try:
        with transaction.atomic():
            RuleSet.objects.filter(state=RuleSet.State.PUBLISHED).update(state=RuleSet.State.RETIRED)
            taken = RuleSet.objects.filter(pk=rule_set.pk, state=RuleSet.State.DRAFT).update(
                state=RuleSet.State.PUBLISHED, published_at=clock.now()
            )
            if taken != 1:
                raise Conflict(f"Version {rule_set.version} is no draft any more. Look again, then decide.")
            if actor is not None:
                RuleSet.objects.filter(pk=rule_set.pk, created_by=None).update(created_by=actor)
            CustomerFacts.objects.update(next_review_at=clock.whole_now(), is_quiet=True)
    except IntegrityError:
        raise Conflict("Another version was published at this moment. Look again, then decide.") from None
    rule_set.refresh_from_db()
    return rule_set


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


# --- What it would do -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mover:
    """One customer who would move, with the rule and the values that decide."""

    customer: Customer
    source: str
    target: str
    rule: str
    because: str


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


def what_if(rules: Rules, as_of: datetime, *, sample: int = SAMPLE) -> WhatIf:
    """Decide for everybody in SQL, as the engine would, and write nothing. Pins and minimum stays hold."""
    decided, params = rulebook.decide_sql(rules, as_of)
    now = seconds(as_of)
    target = "CASE d.rule " + " ".join(f"WHEN {i} THEN '{r.to}'" for i, r in enumerate(rules)) + " END"
    stays = [(i, r.stay_days) for i, r in enumerate(rules) if r.stay_days]
    wait = "CASE d.rule " + " ".join(f"WHEN {i} THEN {d * DAY}" for i, d in stays) + " ELSE 0 END" if stays else "0"
    everybody = f"""
        SELECT d.customer_id, d.stage, d.rule, d.spend_minor,
               CASE WHEN d.pinned_until IS NOT NULL OR (d.stage <> '' AND d.stage_since + {wait} > {now})
                    THEN d.stage ELSE {target} END AS target
        FROM (
            SELECT f.customer_id, f.stage, f.stage_since, f.spend_minor, pin.until AS pinned_until, {decided} AS rule
            FROM customers_customerfacts f
            LEFT JOIN stages_pin pin ON pin.customer_id = f.customer_id AND pin.until > %s
        ) d
    """
    params = [*params, parameter(as_of)]
    grouped = batches.rows(
        f"SELECT e.stage, e.target, count(*) FROM ({everybody}) e GROUP BY e.stage, e.target", params
    )
    standing = {(source or NEW, to or NEW): count for source, to, count in grouped}
    found = batches.rows(
        f"SELECT e.customer_id, e.stage, e.target, e.rule FROM ({everybody}) e WHERE e.target <> e.stage "
        f"ORDER BY e.spend_minor DESC, e.customer_id LIMIT {int(sample)}",
        params,
    )
    return WhatIf(as_of, standing, _movers(rules, found, as_of))


def _movers(rules: Rules, found: list[tuple[Any, ...]], as_of: datetime) -> list[Mover]:
    ids = [pk for pk, *_rest in found]
    customers = Customer.objects.in_bulk(ids)
    snapshots = conditions.snapshots(ids, rules.conditions(), as_of)
    at = seconds(as_of)
    ordered = list(rules)
    movers = []
    for pk, source, target, index in found:
        rule = ordered[index]
        why = _("no other rule applies") if rule.when == All(()) else because(rule.when, snapshots[pk], at)
        movers.append(Mover(customers[pk], source or NEW, target, rule.title(), why))
    return movers

"""Decide, for the batch of ``customers.facts``, where each customer stands, and write the moves with their evidence.

Set-based: one statement finds who moves, one writes the moves, one hands stage and next review down to the facts. The pure
twin of what these statements say is ``rules.decide`` and ``rules.next_review``; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from customers import conditions, facts
from customers.conditions import Condition
from customers.models import Customer, CustomerFacts
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from lifecycle_crm.lib.moments import DAY, epoch, parameter, seconds
from stages import rules as rulebook
from stages.models import Night, Pin, RuleSet, StageKey, StageTransition
from stages.rules import Rules

MOVES = "stage_moves"
_NOT_PINNED = "NOT EXISTS (SELECT 1 FROM stages_pin pin WHERE pin.customer_id = f.customer_id AND pin.until > %s)"


@dataclass(frozen=True)
class Outcome:
    evaluated: int
    moved: int


def evaluate(
    *,
    rule_set: RuleSet,
    as_of: datetime,
    night: Night | None = None,
    is_quiet: bool = False,
    is_full: bool = False,
    watched: Iterable[Condition] = (),
    look_again_at: datetime | None = None,
) -> Outcome:
    """Evaluate the due customers of the batch (all of it when ``is_full``) at ``as_of``, a whole second.

    Inside ``facts.batch()``. They are due again when time alone may change the stage, or one of the ``watched`` conditions,
    and at ``look_again_at`` at the latest.

    A customer whose last move is later than ``as_of`` is left alone: history is not rewritten. Pinned customers wait
    until their pin ends. Who moved is looked at again by the next night, because rules may depend on the stage.
    """
    rules = rulebook.parse(rule_set.rules)
    cuts = facts.cuts(clock.business_date(as_of))
    now = seconds(as_of)
    moment = parameter(as_of)
    batches.scratch(
        MOVES,
        "customer_id bigint PRIMARY KEY, from_stage varchar(12) NOT NULL, rule integer NOT NULL, is_quiet boolean NOT NULL",
    )

    # Never who was decided later than ``as_of``: history is not rewritten.
    due = f"(f.stage_since IS NULL OR f.stage_since <= {now})" + ("" if is_full else f" AND f.next_review_at <= {now}")
    decided, params = rulebook.decide_sql(rules, as_of)
    target = "CASE d.rule " + " ".join(f"WHEN {i} THEN '{r.to}'" for i, r in enumerate(rules)) + " END"
    stays = [(i, r.stay_days) for i, r in enumerate(rules) if r.stay_days]
    wait = "CASE d.rule " + " ".join(f"WHEN {i} THEN {d * DAY}" for i, d in stays) + " ELSE 0 END" if stays else "0"
    quiet = facts.bool_literal(True) if is_quiet else f"(d.stage = '' OR d.is_quiet = {facts.bool_literal(True)})"
    moved = batches.execute(
        f"""
        INSERT INTO {MOVES} (customer_id, from_stage, rule, is_quiet)
        SELECT d.customer_id, d.stage, d.rule, {quiet}
        FROM (
            SELECT f.customer_id, f.stage, f.stage_since, f.is_quiet, {decided} AS rule
            FROM {facts.AT_HAND} f
            WHERE {due} AND {_NOT_PINNED}
        ) d
        WHERE {target} <> d.stage AND (d.stage = '' OR d.stage_since + {wait} <= {now})
        """,
        [*params, moment],
    )
    if moved:
        if connection.vendor == "postgresql":
            batches.execute(f"ANALYZE {MOVES}")
        _write_moves(rules, rule_set, as_of, night)
    review, review_params = rulebook.next_review_sql(rules, cuts, as_of)
    # Scores fall and memberships change for the pinned as for everybody; only their stage waits.
    flips, flip_params = conditions.flip_sql(watched, as_of)
    forever = str(conditions.FOREVER)
    if cuts is not None:
        flips.append(f"coalesce({facts.next_recency_change(cuts, as_of)}, {forever})")
    if look_again_at is not None:
        flips.append(str(seconds(look_again_at)))
    other = conditions.smallest([*flips, forever])
    own = f"CASE WHEN pin.customer_id IS NOT NULL THEN {epoch('pin.until')} ELSE coalesce(v.review, {forever}) END"
    again = f"nullif({conditions.smallest([own, 'v.other'])}, {forever})"
    # A customer who moved is due again one second later, which is the next night: the new stage may decide differently.
    [(evaluated,)] = batches.rows(f"SELECT count(*) FROM {facts.AT_HAND} f WHERE {due}")
    # A row that did not change is not written: on a full run that is nearly all of them.
    differs = facts.differs(f"{facts.AT_HAND}.next_review_at", "n.review")
    batches.execute(
        f"""
        UPDATE {facts.AT_HAND} SET next_review_at = n.review, is_quiet = {facts.bool_literal(False)}
        FROM (
            SELECT v.customer_id,
                   CASE WHEN m.customer_id IS NOT NULL THEN {now + 1} ELSE {again} END AS review
            FROM (
                SELECT f.customer_id, {review} AS review, {other} AS other
                FROM {facts.AT_HAND} f
                WHERE {due}
            ) v
            LEFT JOIN {MOVES} m ON m.customer_id = v.customer_id
            LEFT JOIN stages_pin pin ON pin.customer_id = v.customer_id AND pin.until > %s
        ) AS n
        WHERE {facts.AT_HAND}.customer_id = n.customer_id
          AND ({differs} OR {facts.AT_HAND}.is_quiet = {facts.bool_literal(True)})
        """,
        [*review_params, *flip_params, moment],
    )
    return Outcome(evaluated, moved)


def _write_moves(rules: Rules, rule_set: RuleSet, as_of: datetime, night: Night | None) -> None:
    """A transition per move, with the value of every fact the rule set looks at, and the stage into the facts."""
    pairs = [f"'{name}', {_json_value(name)}" for name in rules.fact_names()]
    params: list[Any] = []
    for atom in rules.counts():
        sql, inner = conditions.count_sql(atom, as_of)
        pairs.append(f"%s, {sql}")
        params += [atom.key, *inner]
    build = "jsonb_build_object" if connection.vendor == "postgresql" else "json_object"
    whens = list(enumerate(rules))
    to = "CASE m.rule " + " ".join(f"WHEN {i} THEN '{r.to}'" for i, r in whens) + " END"
    key = "CASE m.rule " + " ".join(f"WHEN {i} THEN '{r.key}'" for i, r in whens) + " END"
    batches.execute(
        f"""
        INSERT INTO stages_stagetransition
            (customer_id, from_stage, to_stage, kind, occurred_at, business_date, rule_set_id, rule, evidence, night_id,
             user_id, reason, is_quiet, recorded_at)
        SELECT m.customer_id, m.from_stage, {to}, 'rule', %s, %s, %s, {key}, {build}({", ".join(pairs)}), %s,
               NULL, '', m.is_quiet, %s
        FROM {MOVES} m JOIN {facts.AT_HAND} f ON f.customer_id = m.customer_id
        ORDER BY m.customer_id
        """,
        [
            parameter(as_of),
            night.business_date if night else clock.business_date(as_of),
            rule_set.pk,
            *params,
            night.pk if night else None,
            parameter(clock.now()),
        ],
    )
    batches.execute(
        f"UPDATE {facts.AT_HAND} SET stage = {to}, stage_since = {seconds(as_of)} "
        f"FROM {MOVES} m WHERE {facts.AT_HAND}.customer_id = m.customer_id"
    )


def _json_value(name: str) -> str:
    """A fact as a JSON value; SQLite keeps booleans as 0 and 1, so they are named apart."""
    if connection.vendor != "postgresql" and name == "may_email":
        return "json(CASE WHEN f.may_email THEN 'true' ELSE 'false' END)"
    return f"f.{name}"


# --- By hand ----------------------------------------------------------------------------------------------------------


def move_by_hand(
    *, customer: Customer, to: str, reason: str, actor: User, pin_until: datetime | None = None
) -> StageTransition:
    """A person moves a customer, and may hold them there until a moment. The engine respects the pin."""
    if to not in StageKey.values:
        raise InvalidInput(f"{to!r} is no stage. Use one of: {', '.join(StageKey.values)}.")
    if not reason.strip():
        raise InvalidInput("Say why you move this customer; the reason stays in their history.")
    now = clock.whole_now()
    if pin_until is not None and pin_until <= now:
        raise InvalidInput("The pin ends in the past. Choose a later date, or leave it empty.")
    with transaction.atomic():
        row = CustomerFacts.objects.filter(pk=customer.pk).first()
        if row is None:
            raise Conflict("This customer has no stage yet. Wait for the next refresh, a few seconds.")
        if row.stage == to and pin_until is None:
            raise Conflict("The customer already stands in this stage.")
        if row.stage != to:
            # Compare and set: if somebody moved them meanwhile, say so instead of moving them twice.
            if (
                CustomerFacts.objects.filter(pk=customer.pk, stage=row.stage).update(
                    stage=to, stage_since=now, next_review_at=now, is_quiet=False
                )
                != 1
            ):
                raise Conflict("Somebody moved this customer just now. Look again, then decide.")
            transition = StageTransition.objects.create(
                customer=customer,
                from_stage=row.stage,
                to_stage=to,
                kind=StageTransition.Kind.PERSON,
                occurred_at=now,
                business_date=clock.business_date(now),
                user=actor,
                reason=reason.strip()[:300],
                evidence={},
            )
        else:
            transition = StageTransition.objects.filter(customer=customer).latest("id")
        if pin_until is not None:
            Pin.objects.update_or_create(
                customer=customer,
                defaults={"stage": to, "until": pin_until, "reason": reason.strip()[:300], "user": actor},
            )
            # At the next night, which finds the pin and says when to look again.
            CustomerFacts.objects.filter(pk=customer.pk).update(next_review_at=now)
    return transition


def unpin(*, customer_id: int) -> None:
    """End a pin before its time; the next night decides about the customer again."""
    with transaction.atomic():
        gone, _by_model = Pin.objects.filter(pk=customer_id).delete()
        if not gone:
            raise Conflict("This customer is not pinned any more.")
        CustomerFacts.objects.filter(pk=customer_id).update(next_review_at=clock.whole_now())

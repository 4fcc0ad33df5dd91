"""What if: last year's orders and events told again under draft rules and tiers, beside those of today.

Nothing is written but working tables of a transaction that is given up. Both sides go the same way: what each cause would
have given, by month; which tier each member would hold at the end; what would still be open of it, by the share of
points that are redeemed in this shop; and what that is worth. Large shops are asked by a sample of customers, which the
answer says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Sum

from customers.facts import bool_literal
from customers.models import Customer
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter
from loyalty import causes, presets, rules, sentences, tally, tiers
from loyalty.models import Account, EarningRule, Ladder, Programme, Tier

MOST_CUSTOMERS = 20_000
"""More are asked by a sample of so many."""
DAYS = 365
WORTH = "whatif_worth"


@dataclass(frozen=True)
class Draft:
    """A programme as it could be: rules, tiers as steps, and how they are decided, none of it stored; ``None``: as today."""

    rules: Sequence[EarningRule] | None = None
    steps: Sequence[tiers.Step] | None = None
    ladder: Ladder | None = None
    value_minor_per_100: int | None = None


@dataclass(frozen=True)
class Side:
    """One side of the comparison, already scaled up where a sample was asked.

    ``points`` were given in the period, less what refunds take back; ``earners`` got at least one. ``liability_minor`` is
    what all of them would be worth, ``cost_minor`` what is redeemed of them by the measured share. ``per_tier`` counts
    members by the tier's name, with "" for none, in the order of the ladder.
    """

    points: int
    earners: int
    liability_minor: int
    cost_minor: int
    per_tier: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """``up`` and ``down``: members who would hold a higher or a lower tier by the draft than by today's rules."""

    programme: Programme
    since: datetime
    until: datetime
    today: Side
    draft: Side
    up: int
    down: int
    fallen: Sequence[int]
    asked: int
    everybody: int
    redeemed_share: float

    @property
    def is_sample(self) -> bool:
        return self.asked < self.everybody


def ask(*, programme: Programme, draft: Draft, until: datetime | None = None, days: int = DAYS) -> Answer:
    """Replay the last ``days`` under today's rules and under the draft. Raises ``BadRule`` and ``BadTiers`` for a draft
    that makes no sense. ``fallen`` are ids of some who would be downgraded, at most 20."""
    end = until or clock.now()
    start = end - timedelta(days=days)
    for rule in draft.rules or ():
        rules.check(rule)
    today = [since_ever(one) for one in rules.in_force(programme, end)]
    changed = [since_ever(one) for one in draft.rules] if draft.rules is not None else today
    share = redeemed_share(programme)
    with batches.rehearsal():
        asked, everybody = _pick()
        ladder = Ladder.objects.filter(programme=programme).first()
        steps = [tiers.Step(one.name, one.threshold, (), one.key) for one in programme.tiers.order_by("threshold")]
        drafted = steps if draft.steps is None else sorted(draft.steps, key=lambda one: one.threshold)
        sides = []
        other = draft.ladder or ladder
        ranks = []
        for name, some, how, ways, value in (
            ("today", today, ladder, steps, programme.value_minor_per_100),
            ("draft", changed, other, drafted, draft.value_minor_per_100 or programme.value_minor_per_100),
        ):
            _replay(name, programme, some, start, end)
            ranks.append(_rank(how, name, ways, start, end))
            sides.append(_side(name, ranks[-1], ways, value, share, everybody / max(asked, 1)))
        up, down, fallen = _moves(ranks, everybody / max(asked, 1))
        return Answer(programme, start, end, sides[0], sides[1], up, down, fallen, asked, everybody, share)


@dataclass(frozen=True)
class Preview:
    """A preset before it is installed: its rules, terms and tiers in words, its rewards with their prices, and what the last
    year would have been under it, if everybody had been in it and by the share that is redeemed in the main programme."""

    rules: Sequence[str]
    terms: Sequence[str]
    tiers: Sequence[tuple[str, Sequence[str]]]
    rewards: Sequence[tuple[str, int]]
    answer: Answer


def of_preset(preset: presets.Preset, *, until: datetime | None = None) -> Preview:
    """What a preset says and what it would have cost. It is installed for that in a transaction that is given up. Raises
    ``Conflict`` for one that is installed."""
    main = Programme.current()
    with batches.rehearsal():
        made = presets.install(preset=preset, since_ever=True)
        terms = sentences.programme(made)
        made.joining = Programme.Joining.EVERYBODY  # Only here, in memory: nobody could have joined yet.
        answer = ask(programme=made, draft=Draft(), until=until)
        share = redeemed_share(main) if main else 1.0
        draft = answer.draft
        cost = round(draft.points * share) * made.value_minor_per_100 // 100
        names = tiers.names(made)
        return Preview(
            rules=[sentences.rule(one, names) for one in rules.in_force(made)],
            terms=terms,
            tiers=[(one.name, one.promised) for one in made.tiers.order_by("threshold")],
            rewards=list(made.rewards.order_by("points", "pk").values_list("name", "points")),
            answer=replace(answer, draft=replace(draft, cost_minor=cost), redeemed_share=share),
        )


def redeemed_share(programme: Programme) -> float:
    """Of the points whose fate is known (redeemed or expired), the share that was redeemed; all of them before any was."""
    sums = Account.objects.filter(programme=programme).aggregate(
        spent=Sum("spent", default=0), expired=Sum("expired", default=0)
    )
    known = sums["spent"] + sums["expired"]
    return float(sums["spent"] / known) if known else 1.0


def since_ever(rule: EarningRule) -> EarningRule:
    """The rule as if it had held the whole year, so that two sides differ by what they say, not by when they began."""
    copy = EarningRule(**{name: getattr(rule, name) for name in rules.FIELDS})
    copy.kind, copy.key, copy.programme = rule.kind, rule.key or "draft", rule.programme
    copy.starts_at = copy.ends_at = None
    return copy


def _pick() -> tuple[int, int]:
    everybody = Customer.objects.count()
    batches.scratch("whatif_people", "customer_id bigint PRIMARY KEY")
    step = max(1, -(-everybody // MOST_CUSTOMERS))
    asked = batches.execute(
        "INSERT INTO whatif_people (customer_id) SELECT id FROM customers_customer WHERE id %% %s = 0", [step]
    )
    batches.scratch(
        WORTH,
        "side text NOT NULL, cause text NOT NULL, customer_id bigint NOT NULL, points bigint NOT NULL, "
        f"at {'timestamptz' if connection.vendor == 'postgresql' else 'text'} NOT NULL, PRIMARY KEY (side, cause)",
    )
    batches.analyze("whatif_people")
    return asked, everybody


def _replay(side: str, programme: Programme, some: Sequence[EarningRule], start: datetime, end: datetime) -> None:
    """What every order and event of the period would have given, net of refunds, in ``WORTH``."""
    bounds = [parameter(start), parameter(end)]
    mine = "customer_id IN (SELECT customer_id FROM whatif_people)"
    tally.begin()
    causes.add_orders_where(f"o.{mine} AND o.placed_at >= %s AND o.placed_at < %s", bounds)
    names = sorted({name for rule in some if (name := tally.event_name(rule))})
    if names:
        marks = ", ".join(["%s"] * len(names))
        found = batches.rows(
            f"SELECT id FROM customers_event WHERE {mine} AND occurred_at >= %s AND occurred_at < %s AND name IN ({marks})",
            [*bounds, *names],
        )
        causes.add_events([pk for (pk,) in found], names)
    if not tally.count(programme, some):
        return
    tally.limit(programme, some, with_past=False)
    batches.execute(
        f"""
        INSERT INTO {WORTH} (side, cause, customer_id, points, at)
        SELECT %s, l.cause, max(l.customer_id), CAST(sum(l.points) AS bigint), max(l.at) FROM {tally.LINES} l GROUP BY l.cause
        """,
        [side],
    )
    # A refund takes back in proportion, by any rules.
    batches.execute(
        f"""
        UPDATE {WORTH} SET points = {WORTH}.points - {WORTH}.points * o.refunded_minor / o.amount_minor
        FROM customers_order o
        WHERE {WORTH}.side = %s AND o.refunded_minor > 0 AND o.amount_minor > 0 AND {WORTH}.cause = 'order:' || o.id
          AND o.placed_at >= %s AND o.placed_at < %s
        """,
        [side, *bounds],
    )
    batches.analyze(WORTH)


def _side(
    name: str, ranks: Mapping[int, int], steps: Sequence[tiers.Step], value: int, share: float, scale: float
) -> Side:
    [(points, earners)] = batches.rows(
        f"SELECT coalesce(sum(points), 0), count(DISTINCT customer_id) FROM {WORTH} WHERE side = %s AND points > 0",
        [name],
    )
    points = round(int(points) * scale)
    per_tier = {
        step.name: round(sum(1 for rank in ranks.values() if rank == place) * scale)
        for place, step in enumerate(steps, 1)
    }
    return Side(
        points=points,
        earners=round(earners * scale),
        liability_minor=points * value // 100,
        cost_minor=round(points * share) * value // 100,
        per_tier=per_tier,
    )


def _rank(
    ladder: Ladder | None, side: str, steps: Sequence[tiers.Step], start: datetime, end: datetime
) -> dict[int, int]:
    """The place on the ladder each customer would have at the end, by what counts in the ladder's window."""
    if ladder is None or not steps:
        return {}
    since = max(filter(None, (start, tiers.window_start(ladder, end))))
    if ladder.measure == Ladder.Measure.POINTS:
        amount, rows, params = "points", f"{WORTH} w WHERE w.side = %s AND w.at >= %s", [side, parameter(since)]
    else:
        counted = f"w.is_counted = {bool_literal(True)}"
        amount = "base_minor" if ladder.measure == Ladder.Measure.SPEND else "1"
        rows = (
            f"customers_order w WHERE w.customer_id IN (SELECT customer_id FROM whatif_people) AND {counted} "
            "AND w.placed_at >= %s AND w.placed_at < %s"
        )
        params = [parameter(since), parameter(end)]
    whens = [Tier(key=f"s{place}", threshold=step.threshold) for place, step in enumerate(steps, 1)]
    found = batches.rows(
        f"SELECT customer_id, {tiers.reached('total', whens)} FROM ("
        f"SELECT w.customer_id, CAST(sum({amount}) AS bigint) AS total FROM {rows} GROUP BY w.customer_id) t",
        params,
    )
    return {customer: rank for customer, rank in found if rank}


def _moves(ranks: Sequence[dict[int, int]], scale: float) -> tuple[int, int, list[int]]:
    today, draft = ranks
    up = sum(1 for pk, rank in draft.items() if rank > today.get(pk, 0))
    fallen = [pk for pk, rank in today.items() if draft.get(pk, 0) < rank]
    return round(up * scale), round(len(fallen) * scale), sorted(fallen)[:20]


def rules_with(programme: Programme, changed: EarningRule) -> list[EarningRule]:
    """Today's rules with one of them replaced (by its key), or added."""
    same: list[Any] = [one for one in rules.in_force(programme) if one.key != changed.key]
    return [*same, changed]

"""A small shop whose rules look at everything a rule can look at, with limits short enough to pass in a few nights."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from typing import Any

import time_machine
from django.db import connection

from campaigns.journeys import publishing
from customers import consent, ingest, segments
from customers.ingest import CustomerIn, EventIn, LineIn, OrderIn
from customers.models import Customer, Order
from feedback import surveys
from feedback.models import Survey
from lifecycle_crm.lib import clock
from loyalty import tiers
from loyalty.models import Programme
from stages.models import RuleSet

QUIET = {"gaps": 1.5, "at_least": 6, "at_most": 15}
RULES: list[dict[str, Any]] = [
    {
        "key": "complains",
        "to": "nurture",
        "from": ["retain", "advocate"],
        "when": {"fact": "open_cases", "op": "gte", "value": 1},
    },
    {
        "key": "goes_quiet",
        "to": "dormant",
        "stay_days": 2,
        "when": {
            "all": [
                {"fact": "last_order_at", "op": "days_since_gte", "value": QUIET},
                {"not": {"fact": "engaged_at", "op": "days_since_lt", "value": 4}},
                {"not": {"fact": "answered_at", "op": "days_since_lt", "value": 3}},
            ]
        },
    },
    {
        "key": "fades",
        "to": "dormant",
        "when": {
            "all": [
                {"fact": "orders", "op": "eq", "value": 0},
                {"fact": "engaged_at", "op": "days_since_gte", "value": 7},
            ]
        },
    },
    {
        "key": "speaks",
        "to": "advocate",
        "when": {
            "any": [
                {"fact": "nps_score", "op": "gte", "value": 9},
                {"did": "review", "op": "gte", "times": 2, "days": 6},
                {
                    "all": [
                        {"bought": {"category": "jazz"}, "op": "gte", "times": 2, "days": 9},
                        {"fact": "may_email", "op": "eq", "value": True},
                    ]
                },
            ]
        },
    },
    {
        "key": "still_speaks",
        "to": "advocate",
        "from": ["advocate"],
        "when": {"fact": "stage_since", "op": "days_since_lt", "value": 5},
    },
    {
        "key": "warm",
        "to": "retain",
        "when": {
            "any": [
                {"fact": "orders", "op": "gte", "value": 2},
                {"fact": "points", "op": "gte", "value": 60},
                {"fact": "recency", "op": "gte", "value": 5},
            ]
        },
    },
    {"key": "started", "to": "nurture", "when": {"fact": "orders", "op": "gte", "value": 1}},
    {
        "key": "browses",
        "to": "acquire",
        "when": {"did": "visit", "op": "gte", "times": 3, "days": 5},
    },
    {"key": "known", "to": "reach", "when": {"all": []}},
]

TIERS = [tiers.Step("Silver", 25), tiers.Step("Gold", 90)]
"""In points of the last month, with two days of grace."""

SEGMENTS: dict[str, Any] = {
    "busy": {"did": "visit", "op": "gte", "times": 2, "days": 3},
    "fresh": {"fact": "recency", "op": "gte", "value": 4},
    "rich": {
        "all": [
            {"fact": "spend_minor", "op": "gte", "value": 5000},
            {"any": [{"fact": "country", "op": "eq", "value": "SE"}, {"tag": "vip"}]},
        ]
    },
    "awake": {"all": [{"not": {"fact": "stage", "op": "eq", "value": "dormant"}}, {"not": {"segment": "rich"}}]},
}


JOURNEYS: dict[str, Any] = {
    "Went quiet": {"on": "stage_entered", "stage": "dormant"},
    "Got busy": {"on": "segment_entered", "segment": "busy"},
}


def rules(tree: list[dict[str, Any]] = RULES) -> RuleSet:
    """This rule set, published."""
    RuleSet.objects.filter(state="published").update(state="retired")
    return RuleSet.objects.create(version=70, name="Rules of the town", state="published", rules=tree)


def furnish(*, since: datetime, tree: list[dict[str, Any]] = RULES, has_tiers: bool = True) -> None:
    """Rules, tiers, segments and journeys, made before the first night, so that every night knows them. Win-back is
    installed and active."""
    with time_machine.travel(since, tick=False):
        rules(tree)
        programme = Programme.current()
        assert programme is not None
        if has_tiers:
            tiers.set_ladder(programme=programme, steps=TIERS, window="rolling", window_months=1, grace_days=2)
        for key, condition in SEGMENTS.items():
            segments.create(name=key, key=key, condition=condition)
        segments.create(name="listed", key="listed", kind="static")
        for name, trigger in JOURNEYS.items():
            steps = [{"id": "rest", "do": "wait", "days": 2}]
            publishing.publish(journey=publishing.create(name=name, tree={"trigger": trigger, "steps": steps}))


def as_autovacuum_would() -> None:
    """All nights are one open transaction here, of which autovacuum sees nothing: the planner would go by what other
    tests left behind, and take minutes for what takes seconds."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def email(number: int) -> str:
    return f"c{number}@town.example"


def settle_in(count: int, *, since: datetime) -> list[Customer]:
    """So many customers, known and loaded since that moment; most agree to offers, one in three lives in Sweden."""
    with time_machine.travel(since, tick=False):
        ingest.save_customers(
            [
                CustomerIn(
                    external_id=f"C-{n}",
                    email=email(n),
                    name=f"Customer {n}",
                    country="SE" if n % 3 == 0 else "PL",
                    tags=["vip"] if n % 7 == 0 else [],
                    may_email=n % 5 != 0,
                )
                for n in range(count)
            ],
            source="shop",
        )
    return list(Customer.objects.filter(email_key__in=[email(n) for n in range(count)]).order_by("pk"))


def order(number: str, who: int, at: datetime, cents: int, category: str = "rock") -> OrderIn:
    return OrderIn(
        source_id=number,
        external_id=f"C-{who}",
        placed_at=at,
        amount_minor=cents,
        currency="USD",
        lines=[LineIn(title=category.title(), unit_minor=cents, sku=f"sku-{category}", category=category)],
    )


def event(number: str, who: int, name: str, at: datetime) -> EventIn:
    return EventIn(name=name, occurred_at=at, source_id=number, external_id=f"C-{who}")


def busy(count: int, *, first: date, last: date, dice: random.Random) -> list[tuple[str, Any]]:
    """What so many customers do from ``first`` to ``last``: ``("orders", OrderIn)`` and so on, by the time it happened."""
    start, span = clock.day_start(first), int((clock.day_end(last) - clock.day_start(first)).total_seconds())

    def moment() -> datetime:
        return start + timedelta(seconds=dice.randrange(span))

    told: list[tuple[datetime, str, Any]] = []
    for who in range(count):
        for n in range(dice.choice([0, 1, 1, 2, 3, 5])):
            at, kind = moment(), dice.choice(["rock", "jazz"])
            told.append((at, "orders", order(f"O-{who}-{n}", who, at, dice.randrange(300, 9000), kind)))
            if dice.random() < 0.2:
                back = at + timedelta(seconds=dice.randrange(1, 5 * 86_400))
                if back < clock.day_end(last):
                    told.append(
                        (back, "refunds", (f"R-{who}-{n}", f"O-{who}-{n}", dice.choice([100, 250, None]), back))
                    )
        for n in range(dice.choice([0, 0, 2, 4, 9])):
            at = moment()
            told.append((at, "events", event(f"E-{who}-{n}", who, dice.choice(["visit", "visit", "review"]), at)))
        if dice.random() < 0.3:
            at = moment()
            told.append((at, "consents", (who, dice.random() < 0.5, at)))
        if dice.random() < 0.3:
            at = moment()
            told.append((at, "answers", (f"A-{who}", who, dice.randrange(11), at)))
    return [(kind, what) for _at, kind, what in sorted(told, key=lambda one: (one[0], one[1], repr(one[2])))]


def hear(told: list[tuple[str, Any]]) -> None:
    """Say all of it to the shop, in this order, through the verbs behind the API."""
    run: list[Any] = []
    kind = ""
    for each, what in [*told, ("", None)]:
        if each != kind or len(run) >= 500:
            _hear(kind, run)
            run = []
        kind = each
        run.append(what)


def _hear(kind: str, run: list[Any]) -> None:
    match kind:
        case "orders":
            for result in ingest.record_orders(run, source="shop"):
                assert result.id, result
        case "events":
            for result in ingest.record_events(run, source="shop"):
                assert result.id, result
        case "refunds":
            for number, of, cents, at in run:
                # Known again by its number; None cancels the order.
                ingest.refund(
                    order=Order.objects.get(source="shop", source_id=of),
                    amount_minor=cents,
                    source="shop",
                    source_id=number,
                    occurred_at=at,
                    is_cancellation=cents is None,
                )
        case "consents":
            for who, is_granted, at in run:
                customer = Customer.objects.get(email_key=email(who))
                consent.record(
                    customer=customer, purpose="marketing", channel="email", is_granted=is_granted, source="shop",
                    occurred_at=at,
                )  # fmt: skip
        case "answers":
            survey = Survey.objects.filter(kind="nps").order_by("pk").first()
            assert survey is not None
            for number, who, score, at in run:
                customer = Customer.objects.get(email_key=email(who))
                surveys.record(
                    customer=customer, survey=survey, score=score, answered_at=at, source="elsewhere", source_id=number
                )

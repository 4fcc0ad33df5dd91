from __future__ import annotations

from datetime import date, datetime, time
from itertools import count

from customers.models import Customer, CustomerFacts, Order
from lifecycle_crm.lib import clock
from stages import presets
from stages.models import RuleSet, StageTransition

_numbers = count(1)


def noon(day: date) -> datetime:
    return datetime.combine(day, time(12), tzinfo=clock.zone())


def person(stage: str = "", spend_minor: int = 0) -> Customer:
    customer = Customer.objects.create(name=f"Person {next(_numbers)}")
    CustomerFacts.objects.create(
        customer=customer, stage=stage, spend_minor=spend_minor, stage_since=clock.now() if stage else None
    )
    return customer


def order(customer: Customer, day: date, minor: int = 1000, **fields: object) -> Order:
    return Order.objects.create(
        customer=customer,
        source="test",
        source_id=str(next(_numbers)),
        placed_at=noon(day),
        currency="USD",
        amount_minor=minor,
        base_minor=minor,
        **fields,
    )


def rules() -> RuleSet:
    return RuleSet.objects.filter(version=1).first() or RuleSet.objects.create(
        version=1, name="Rules", state="published", rules=presets.default_rules(60)
    )


def move(customer: Customer, source: str, target: str, day: date, **fields: object) -> StageTransition:
    CustomerFacts.objects.filter(customer=customer).update(stage=target, stage_since=noon(day))
    values = {
        "customer": customer,
        "from_stage": source,
        "to_stage": target,
        "kind": "rule",
        "occurred_at": clock.day_end(day),
        "business_date": day,
        "rule_set": rules(),
        "rule": "is_known",
        "evidence": {"orders": 0},
    }
    return StageTransition.objects.create(**values | fields)

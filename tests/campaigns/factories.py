"""The smallest rows this app's tests need, and a few whole situations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import factory

from campaigns import planning
from campaigns.journeys import publishing
from campaigns.models import Campaign, Journey, JourneyStep, Run, Template, TemplateVariant
from customers.models import Consent, Customer, CustomerFacts, Event, Order
from lifecycle_crm.lib import clock
from stages.models import Night, RuleSet, StageTransition

NOON = datetime(2026, 11, 20, 11, 0, tzinfo=UTC)
"""Noon in the shop's zone, far from everybody's quiet hours between Lisbon and Helsinki."""


class CustomerFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Customer

    name = factory.Sequence(lambda n: f"Anna{n} Berg")
    given_name = factory.Sequence(lambda n: f"Anna{n}")
    email = factory.Sequence(lambda n: f"anna{n}@example.com")
    language = "en"
    time_zone = "Europe/Stockholm"
    known_since = datetime(2025, 1, 1, tzinfo=UTC)
    loaded_at = datetime(2025, 1, 1, tzinfo=UTC)


class TemplateFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Template

    key = factory.Sequence(lambda n: f"template-{n}")
    name = factory.Sequence(lambda n: f"Template {n}")


class VariantFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = TemplateVariant

    template = factory.SubFactory(TemplateFactory)
    language = "en"
    subject = "Hello {{ customer.given_name | default: 'friend' }}"
    blocks = factory.LazyFunction(lambda: [{"type": "text", "text": "You have {{ points }} points."}])


class CampaignFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Campaign

    name = factory.Sequence(lambda n: f"Campaign {n}")
    template = factory.LazyFunction(lambda: VariantFactory().template)
    holdout_percent = 0
    state = "active"
    audience = factory.LazyFunction(lambda: {"fact": "stage", "op": "in", "value": ["retain"]})


def sms_campaign(text: str = "Hi {{ customer.given_name | default: 'friend' }}", **fields: Any) -> Campaign:
    """A campaign over SMS, for any hour of the day."""
    template = TemplateFactory(channel="sms", purpose=fields.get("purpose", "marketing"))
    VariantFactory(template=template, subject="", blocks=[{"type": "text", "text": text}])
    made: Campaign = CampaignFactory(
        **{"template": template, "channel": "sms", "quiet_from": 0, "quiet_until": 0, **fields}
    )
    return made


def reachable(n: int, **same: Any) -> list[Customer]:
    """Many customers with a phone number who agreed to offers by SMS."""
    made = CustomerFactory.build_batch(n, **same)
    for number, one in enumerate(made):
        one.phone = f"+4670{number:07d}"
        one.prepare()
    made = Customer.objects.bulk_create(made)
    CustomerFacts.objects.bulk_create([CustomerFacts(customer=one, stage="retain") for one in made])
    at = datetime(2025, 6, 1, tzinfo=UTC)
    Consent.objects.bulk_create(
        [
            Consent(customer=one, purpose="marketing", channel="sms", is_granted=True, source="test", occurred_at=at)
            for one in made
        ]
    )
    return made


def person(
    *, stage: str = "retain", agrees: bool | None = True, facts: dict[str, Any] | None = None, **fields: Any
) -> Customer:
    """A customer with facts and, unless ``agrees`` is None, a statement about offers by e-mail."""
    customer = CustomerFactory(**fields)
    CustomerFacts.objects.create(customer=customer, stage=stage, **(facts or {}))
    if agrees is not None:
        agree(customer, is_granted=agrees)
    return customer


def agree(
    customer: Customer,
    *,
    is_granted: bool = True,
    at: datetime | None = None,
    purpose: str = "marketing",
    channel: str = "email",
) -> Consent:
    return Consent.objects.create(
        customer=customer,
        purpose=purpose,
        channel=channel,
        is_granted=is_granted,
        source="test",
        occurred_at=at or datetime(2025, 6, 1, tzinfo=UTC),
    )


def people(n: int, **same: Any) -> list[Customer]:
    """Many customers who agreed, in few statements."""
    made = CustomerFactory.build_batch(n, **same)
    for one in made:
        one.prepare()
    made = Customer.objects.bulk_create(made)
    CustomerFacts.objects.bulk_create([CustomerFacts(customer=one, stage="retain") for one in made])
    at = datetime(2025, 6, 1, tzinfo=UTC)
    Consent.objects.bulk_create(
        [
            Consent(customer=one, purpose="marketing", channel="email", is_granted=True, source="test", occurred_at=at)
            for one in made
        ]
    )
    return made


def planned(customers: list[Customer], campaign: Campaign | None = None, key: str = "test:1", **more: Any) -> Run:
    return planning.plan(
        campaign=campaign or CampaignFactory(),
        run_key=key,
        audience=[one.pk for one in customers],
        as_of=clock.now(),
        **more,
    )


def night(as_of: datetime, *, days_before: int = 1) -> Night:
    rules, _made = RuleSet.objects.get_or_create(
        version=901, defaults={"name": "Test rules", "rules": [], "state": "retired"}
    )
    return Night.objects.create(
        business_date=(as_of - timedelta(days=days_before)).date(), as_of=as_of, rule_set=rules, state="done"
    )


def went_dormant(customer: Customer, night: Night, *, is_quiet: bool = False) -> StageTransition:
    CustomerFacts.objects.filter(pk=customer.pk).update(stage="dormant")
    return StageTransition.objects.create(
        customer=customer,
        from_stage="retain",
        to_stage="dormant",
        occurred_at=night.as_of,
        business_date=night.business_date,
        rule_set=night.rule_set,
        night=night,
        is_quiet=is_quiet,
    )


# --- Journeys -------------------------------------------------------------------------------------------------------------


def live_journey(steps: list[dict[str, Any]], trigger: dict[str, Any] | None = None, **settings: Any) -> Journey:
    """A published journey without a holdout, live since a day; without a trigger it begins with the event "signup"."""
    tree = {"trigger": trigger or {"on": "event", "event": "signup"}, "steps": steps}
    made = publishing.create(name="Welcome", tree=tree, **{"holdout_percent": 0, **settings})
    publishing.publish(journey=made)
    Journey.objects.filter(pk=made.pk).update(live_since=clock.now() - timedelta(days=1))
    made.refresh_from_db()
    return made


def happens(customer: Customer, name: str = "signup", at: datetime | None = None, **more: Any) -> Event:
    """An event of a minute ago, not yet reacted to."""
    return Event.objects.create(
        customer=customer, name=name, occurred_at=at or clock.now() - timedelta(minutes=1), source="test",
        source_id=str(Event.objects.count()), **more,
    )  # fmt: skip


def buys(customer: Customer, at: datetime | None = None, minor: int = 1000, **more: Any) -> Order:
    """An order that the customer's facts know already."""
    at = at or clock.now()
    order = Order.objects.create(
        customer=customer, source="test", source_id=str(Order.objects.count()), placed_at=at, currency="USD",
        amount_minor=minor, base_minor=minor, **more,
    )  # fmt: skip
    CustomerFacts.objects.filter(pk=customer.pk).update(last_order_at=at, orders=1)
    return order


def trail(customer: Customer) -> list[str]:
    """What happened to somebody in their journeys, in order: ``step:outcome``."""
    rows = JourneyStep.objects.filter(run__customer=customer).order_by("id")
    return [f"{row.step}:{row.outcome}" for row in rows]

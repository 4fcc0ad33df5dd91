"""Experiments for tests: a win-back whose text is compared with another, and what people did with their messages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from campaigns.experiments import asking, life, verdicts
from campaigns.experiments.asking import Wanted
from campaigns.models import Campaign, Experiment, Link, Message, Template, Visit
from customers.models import Order
from tests.campaigns.factories import NOON, CampaignFactory, VariantFactory

DAY = timedelta(days=1)


def text(**fields: Any) -> Template:
    made: Template = VariantFactory(**fields).template
    return made


def asked(campaign: Campaign | None = None, **more: Any) -> Experiment:
    """A draft that compares the text of a win-back with another, from 30 % to 60 %: 42 people per version."""
    other = more.pop("other", None) or text()
    values: dict[str, Any] = {
        "campaign": campaign or CampaignFactory(kind="reactivation"), "name": "Subject", "stated_percent": 30.0,
        "lift_percent": 100, "window_days": 7, "versions": [Wanted(50), Wanted(50, other)],
    }  # fmt: skip
    return asking.create(**{**values, **more})


def started(campaign: Campaign | None = None, **more: Any) -> Experiment:
    return life.start(experiment=asked(campaign, **more))


def of_version(experiment: Experiment, label: str) -> list[Message]:
    return list(Message.objects.filter(version__experiment=experiment, version__label=label).order_by("customer_id"))


def press(messages: list[Message], after: timedelta = DAY, kind: str = "human") -> None:
    link, _made = Link.objects.get_or_create(campaign=messages[0].run.campaign, digest="x", url="https://example.com")
    Visit.objects.bulk_create(
        Visit(message=one, link=link, occurred_at=one.created_at + after, kind=kind, method="GET") for one in messages
    )


def buy(messages: list[Message], minor: int = 1_000, after: timedelta = DAY) -> None:
    start = Order.objects.count()
    Order.objects.bulk_create(
        Order(
            customer_id=one.customer_id, source="test", source_id=str(start + n), placed_at=one.created_at + after,
            currency="USD", amount_minor=minor, base_minor=minor,
        )
        for n, one in enumerate(messages)
    )  # fmt: skip


def note(days: int) -> dict[str, int]:
    """What the night does that ends so many days after noon."""
    at = NOON + days * DAY
    return verdicts.note_day(business_date=at.date(), as_of=at)

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import factory

from customers.models import Customer
from feedback import surveys
from feedback.models import Invitation, Survey

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class CustomerFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Customer

    name = factory.Sequence(lambda n: f"Customer {n}")
    email = factory.Sequence(lambda n: f"customer{n}@shop.example")
    language = "en"
    known_since = LONG_AGO
    loaded_at = LONG_AGO


def nps() -> Survey:
    """The survey of every shop; a test that empties the database finds it again."""
    return surveys.install()


def invite(customer: Customer | None = None, key: str = "order:1", **fields: Any) -> Invitation:
    return surveys.invite(customer=customer or CustomerFactory(**fields), survey=nps(), key=key)


class SurveyFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Survey

    key = factory.Sequence(lambda n: f"survey-{n}")
    name = factory.Sequence(lambda n: f"Survey {n}")
    kind = "csat"
    state = "active"
    texts = {"en": {"question": "How satisfied are you?"}}

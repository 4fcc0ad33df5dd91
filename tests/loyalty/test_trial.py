"""A rule is tried with the code that earns, and nothing stays."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.test import Client
from django.urls import reverse

from customers.models import OrderLine, Product
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib.errors import NotFound
from loyalty import earning, presets, rules, statements, trial
from loyalty.models import EarningRule, Entry, Programme
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, OrderFactory
from tests.loyalty.test_api import post
from tests.loyalty.test_pages import text

pytestmark = pytest.mark.django_db


@pytest.fixture
def points() -> Programme:
    return Programme.objects.get()


def rows() -> dict[str, int]:
    names = ("customers", "loyalty")
    return {
        model.__name__: model._default_manager.count()
        for name in names
        for model in apps.get_app_config(name).get_models()
    }


def double(programme: Programme) -> EarningRule:
    return rules.create(programme=programme, kind="multiplier", name="Double days", percent=200, starts_at=None)


def test_an_order_is_tried_as_it_earns_and_nothing_is_written(points: Programme) -> None:
    rule, order = double(points), OrderFactory(amount_minor=4995)
    before = rows()
    tried = trial.ask(programme=points, rule=rule, order=order)
    assert rows() == before
    earning.award_for_orders([order.pk])
    entry = Entry.objects.get(kind="earn")
    assert tried == trial.Outcome(entry.points, statements.explain(entry))
    assert (tried.points, tried.because.startswith("2 × 49 points: Double days.")) == (98, True)
    assert trial.ask(programme=points, rule=rule, order=order) == tried  # It earned already, and can be tried still.


def test_a_limit_counts_what_the_customer_had_and_not_this_order_twice(points: Programme) -> None:
    rule = rules.create(
        programme=points, kind="order", name="Visit", points=10, limit_times=1, limit_per="day", starts_at=None
    )
    first = OrderFactory()
    second = OrderFactory(customer=first.customer)
    earning.award_for_orders([first.pk])
    plain = 49
    assert trial.ask(programme=points, rule=rule, order=first).points == plain + 10
    assert trial.ask(programme=points, rule=rule, order=second).points == plain


@pytest.mark.parametrize(
    "kind, values, told, expected",
    [
        ("amount", {"points": 3, "per": 100}, {"amount_minor": 1000}, 30),
        ("order", {"points": 5}, {"amount_minor": 100}, 6),
        ("first_order", {"points": 50}, {"amount_minor": 100}, 51),
        ("product", {"points": 7, "subject": "MUG"}, {"amount_minor": 1000}, 17),
        ("category", {"points": 2, "per": 100, "subject": "Cups"}, {"amount_minor": 1000}, 30),
        ("event", {"points": 1, "subject": "flight", "property": "km"}, {"value": 812}, 812),
        ("review", {"points": 20}, {}, 20),
        ("referral", {"points": 20}, {}, 20),
        ("survey", {"points": 15}, {}, 15),
        ("birthday", {"points": 25}, {}, 25),
        ("stage", {"points": 40, "subject": "advocate"}, {}, 40),
        ("multiplier", {"percent": 300}, {"amount_minor": 1000}, 30),
    ],
)
def test_every_kind_can_be_tried_by_somebody_new(
    points: Programme, kind: str, values: dict[str, Any], told: dict[str, Any], expected: int
) -> None:
    Product.objects.create(sku="MUG", name="Mug", category="Cups")
    draft = rules.drafted(points, kind, {"name": "Try me", **values})
    before = rows()
    if kind == "amount":
        EarningRule.objects.filter(programme=points).update(is_current=False)
        before = rows()
    outcome = trial.ask(programme=points, rule=draft, **told)
    assert outcome.points == expected
    assert outcome.because
    assert rows() == before


def test_a_programme_that_one_joins_is_tried_by_a_member() -> None:
    of = presets.install(preset=presets.get("airline"))
    rule = rules.in_force(of).get(key="distance")
    assert trial.ask(programme=of, rule=rule, value=1200).points == 1200 + 250
    assert trial.ask(programme=of, rule=rule, value=1200, customer=CustomerFactory()) == trial.Outcome(0, "")


def test_a_product_nobody_sold_yet_and_an_unknown_order_are_said(points: Programme) -> None:
    with pytest.raises(NotFound):
        trial.ask(programme=points, rule=rules.drafted(points, "product", {"name": "x", "points": 1, "subject": "MUG"}))
    with pytest.raises(NotFound):
        trial.find_order("no-such")
    order = OrderFactory(source_id="A-812")
    assert trial.find_order(" A-812 ") == trial.find_order(f"#{order.pk}") == order


def test_the_page_tries_the_rule_as_it_stands_in_the_form(points: Programme, client: Client) -> None:
    client.force_login(UserFactory(role=Role.MARKETER))
    product = Product.objects.create(sku="MUG", name="Mug", category="Cups")
    order = OrderFactory(source_id="A-812", amount_minor=2000)
    OrderLine.objects.create(order=order, product=product, title="Mug", quantity=2, unit_minor=1000)
    page = reverse("loyalty:rule-new", args=[points.key, "product"])
    form = {"name": "Mugs", "points": "5", "subject": "MUG", "limit_per": "", "try": "1"}
    before = rows()
    seen = client.post(page, {**form, "try-order": "A-812"})
    assert (seen.status_code, "That would give 30 points." in text(seen)) == (200, True)
    assert "2 × 5 points: Mugs." in text(seen)
    refused = client.post(page, {**form, "try-order": "A-813"})
    assert (refused.status_code, "There is no order with this number." in text(refused)) == (422, True)
    unknown = client.post(page, {**form, "try-customer": "nobody@x.example"})
    assert (unknown.status_code, "No customer has this address or number." in text(unknown)) == (422, True)
    assert rows() == before


def test_the_api_tries_by_the_same_code(points: Programme) -> None:
    _key, secret = ApiKey.issue(name="Till", scopes=["programmes:write"])
    rule, who = double(points), CustomerFactory()
    before = rows()
    body = {"rule": rule.pk, "customer": who.pk, "amount_minor": 4995}
    made = post(secret, f"programmes/{points.key}/try/", body)
    wanted = trial.ask(programme=points, rule=rule, customer=who, amount_minor=4995)
    assert (made.status_code, made.json()) == (200, {"points": wanted.points, "because": wanted.because})
    draft = {"kind": "order", "values": {"name": "Visit", "points": 7}, "amount_minor": 1000}
    assert post(secret, f"programmes/{points.key}/try/", draft).json()["points"] == 34
    assert post(secret, f"programmes/{points.key}/try/", {**body, "order": "none"}).status_code == 404
    bad = {"kind": "order", "values": {"name": "Visit", "points": -1}}
    assert post(secret, f"programmes/{points.key}/try/", bad).status_code in (400, 422)
    assert rows() == before

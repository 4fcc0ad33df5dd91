"""Rules for orders of some channels only: what they give, what they say, whether they meet, and what makes no sense."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib import clock
from loyalty import audit, earning, rules, sentences, trial, whatif
from loyalty.models import EarningRule, Programme
from tests.factories import UserFactory
from tests.loyalty.factories import OrderFactory
from tests.loyalty.test_api import post
from tests.loyalty.test_pages import text
from tests.loyalty.test_rules import given_points, rule

pytestmark = pytest.mark.django_db


@pytest.fixture
def points() -> Programme:
    EarningRule.objects.all().delete()
    return Programme.objects.get()


def award(*sources: str) -> list[int]:
    made = [OrderFactory(source=one) for one in sources]
    earning.award_for_orders([one.pk for one in made])
    return given_points()


def test_only_orders_of_its_channels_earn(points: Programme) -> None:
    rule(points, "order", "Till points", points=5, channels=["till", "web"])
    assert award("till", "app", "web", "Till") == [5, 5]
    assert audit.problems() == []


def test_a_multiplier_of_a_channel_leaves_the_other_orders_as_they_are(points: Programme) -> None:
    rule(points, "order", points=5)
    rule(points, "multiplier", "Double in the app", percent=200, channels=["app"])
    assert sorted(award("till", "app")) == [5, 10]


def test_it_says_so_in_plain_words(points: Programme) -> None:
    made = rule(points, "order", points=5, channels=["till", "web"])
    assert sentences.rule(made) == "5 points for each order, for orders from till and web."


def test_rules_of_different_channels_do_not_meet(points: Programme) -> None:
    till = rule(points, "order", "Till", points=5, channels=["till"])
    web = rule(points, "order", "Web", points=5, channels=["web"])
    assert rules.overlapping(till) == []
    both = rule(points, "order", "Both", points=5, channels=["web", "till"])
    every = rule(points, "order", "Every", points=5)
    assert {one.key for one in rules.overlapping(web)} == {both.key, every.key}


def test_the_trial_and_the_what_if_ask_for_the_channel(points: Programme) -> None:
    made = rule(points, "order", points=5, channels=["till"])
    order = OrderFactory(source="web", placed_at=clock.now())
    assert trial.ask(programme=points, rule=made, order=order).points == 0
    assert trial.ask(programme=points, rule=made, amount_minor=1000).points == 5
    draft = rules.drafted(points, "order", {"name": "Web", "points": 7, "channels": ["web"]})
    seen = whatif.ask(programme=points, draft=whatif.Draft(rules=[draft]), until=clock.now())
    assert (seen.today.points, seen.draft.points) == (0, 7)


@pytest.mark.parametrize(
    "kind, values, field",
    [
        ("birthday", {"points": 5, "channels": ["web"]}, "channels"),
        ("event", {"points": 5, "subject": "flight", "channels": ["web"]}, "channels"),
        ("multiplier", {"percent": 200, "subject": "flight", "channels": ["web"]}, "channels"),
        ("order", {"points": 5, "channels": "web"}, "channels"),
        ("order", {"points": 5, "channels": [""]}, "channels"),
        ("order", {"points": 5, "channels": [7]}, "channels"),
        ("order", {"points": 5, "channels": ["x" * 41]}, "channels"),
        ("order", {"points": 5, "channels": [f"c{n}" for n in range(21)]}, "channels"),
    ],
)
def test_a_channel_that_makes_no_sense_is_refused(
    points: Programme, kind: str, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(rules.BadRule) as refused:
        rule(points, kind, **values)
    assert refused.value.extra["field"] == field
    assert EarningRule.objects.count() == 0


def test_the_form_offers_where_orders_have_come_from(points: Programme, client: Client) -> None:
    OrderFactory(source="till")
    OrderFactory(source="web")
    client.force_login(UserFactory(role=Role.OWNER))
    new = reverse("loyalty:rule-new", args=[points.key, "order"])
    page = client.get(new).content.decode()
    assert 'name="channels" value="till"' in page
    data = {"name": "Till", "points": 5, "channels": ["till"], "dates": "", "limit_per": "", "save": "1"}
    assert client.post(new, data).status_code == 302
    made = EarningRule.objects.get()
    assert made.channels == ["till"]
    assert "for orders from till" in text(client.get(reverse("loyalty:programme", args=[points.key])))
    shown = client.get(reverse("loyalty:rule", args=[made.pk])).content.decode()
    boxes = re.findall(r'<input type="checkbox" name="channels" value="(\w+)"([^>]*)>', shown)
    assert {value: "checked" in more for value, more in boxes} == {"till": True, "web": False}
    assert 'name="channels"' not in client.get(reverse("loyalty:rule-new", args=[points.key, "event"])).content.decode()


def test_the_same_over_rest(points: Programme) -> None:
    _key, secret = ApiKey.issue(name="shop", scopes=["programmes:read", "programmes:write"])
    body = {"programme": points.key, "kind": "order", "name": "Till", "points": 5, "channels": ["till"]}
    made = post(secret, "earning-rules/", body)
    assert (made.status_code, made.json()["channels"]) == (201, ["till"])
    assert post(secret, "earning-rules/", {**body, "kind": "birthday"}).status_code == 422
    assert EarningRule.objects.count() == 1

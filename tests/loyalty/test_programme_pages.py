from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from lifecycle_crm.accounts.models import Role
from lifecycle_crm.lib import clock
from loyalty import presets, rules, tiers
from loyalty import programme as programmes
from loyalty.models import EarningRule, Ladder, Programme, Tier, TierStanding
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, OrderFactory, give

pytestmark = pytest.mark.django_db


@pytest.fixture
def ola(client: Client) -> Client:
    client.force_login(UserFactory(role=Role.MARKETER))
    return client


@pytest.fixture
def points() -> Programme:
    return Programme.objects.get()


def text(page: Any) -> str:
    return " ".join(page.content.decode().split())


def url(name: str, *args: Any) -> str:
    return reverse(f"loyalty:{name}", args=args)


AMOUNT = {"name": "Points on orders", "points": "2", "per_money": "10", "limit_per": "", "subject": ""}


def test_a_preset_is_installed_by_one_click(ola: Client) -> None:
    page = text(ola.get(url("programmes")))
    assert all(str(preset.about) in page for preset in presets.PRESETS)
    answer = ola.post(url("preset-install", "airline"), follow=True)
    page = text(answer)
    assert answer.status_code == 200
    for words in (
        "“Frequent flyer” is installed", "1 point for each “km” of an event “flight”.", "Platinum", "Lounge at every airport",
        "Tiers count points earned in the calendar year.", "Who has too little keeps the tier for 365 days more.",
        "Upgrade to the next class", "It is free to join.",
    ):  # fmt: skip
        assert words in page
    assert "A point for each kilometre of a flight" in text(ola.get(url("programmes")))
    again = ola.post(
        url("preset-install", "airline"), headers={"referer": f"http://testserver{url('programmes')}"}, follow=True
    )
    assert "is installed already" in text(again)
    assert Programme.objects.count() == 2


def test_programmes_stand_side_by_side_with_what_is_owed_in_each(ola: Client, points: Programme) -> None:
    other = programmes.create(name="Miles", key="miles")
    tiers.set_ladder(programme=points, steps=[tiers.Step("Gold", 100, key="gold"), tiers.Step("Ruby", 900, key="ruby")])
    ada, bo = CustomerFactory(), CustomerFactory()
    give(ada, 1200)
    give(bo, 30, programme=other, active_at=clock.now() + timedelta(days=3))
    TierStanding.objects.create(programme=points, customer=ada, tier="ruby", since=clock.now())
    page = " ".join(re.sub(r"<[^>]*>", " ", text(ola.get(url("programmes")))).split())
    assert "Points Points main programme 1 1,200 1 Gold 0 , Ruby 1 Active" in page
    assert "Miles Points 1 30 0 – Active" in page


def test_a_rule_is_said_in_words_before_it_is_added(ola: Client, points: Programme) -> None:
    address = url("rule-new", "points", "amount")
    assert ola.get(address).status_code == 200
    preview = ola.post(address, {**AMOUNT, "weekdays": ["6", "7"], "preview": "1"})
    assert "2 points for each US$10.00 of an order, on Saturday and Sunday." in text(preview)
    assert EarningRule.objects.count() == 1
    done = ola.post(address, {**AMOUNT, "weekdays": ["6", "7"]}, follow=True)
    assert "The rule holds: 2 points for each US$10.00 of an order, on Saturday and Sunday." in text(done)
    made = EarningRule.objects.latest("id")
    assert (made.points, made.per, made.weekdays, made.created_by is not None) == (2, 1000, "67", True)
    twice = "Some people get points for the same by “{}”, too: both are given."
    for page in (preview, done):
        assert twice.format(points.rules.order_by("pk")[0].name) in text(page)
    assert twice.format(made.name) in text(done)


@pytest.mark.parametrize("kind", EarningRule.Kind.values)
def test_every_kind_of_rule_has_its_form(ola: Client, kind: str) -> None:
    assert ola.get(url("rule-new", "points", kind)).status_code == 200
    assert ola.post(url("rule-new", "points", kind), {}).status_code == 422
    assert EarningRule.objects.count() == 1


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("amount", {**AMOUNT, "points": "-1"}, "greater than or equal to 1"),
        ("amount", {**AMOUNT, "per_money": "-5"}, "“For each” must be"),
        ("amount", {**AMOUNT, "per_money": "0.001"}, "more decimals"),
        ("order", {"name": "x", "points": "1", "dates": "tomorrow"}, "is no date"),
        ("order", {"name": "x", "points": "1", "limit_points": "5"}, "in which time the limit counts"),
        ("order", {"name": "x", "points": "1", "starts_on": "2026-05-02", "ends_on": "2026-05-01"}, "end before it begins"),
        ("multiplier", {"name": "x", "percent": "100"}, "greater than or equal to 101"),
        ("event", {"name": "x", "points": "1"}, "required"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said_at_the_form_and_nothing_is_saved(
    ola: Client, kind: str, fields: dict[str, str], words: str
) -> None:
    answer = ola.post(url("rule-new", "points", kind), fields)
    assert answer.status_code == 422
    assert words in text(answer)
    assert EarningRule.objects.count() == 1


def test_a_change_is_a_new_version_and_a_stop_ends_it(ola: Client, points: Programme) -> None:
    rule = rules.in_force(points).get()
    page = text(ola.get(url("rule", rule.pk)))
    assert 'value="1.00"' in page
    ola.post(url("rule", rule.pk), {**AMOUNT, "points": "3", "per_money": "1"})
    now = rules.in_force(points).get()
    assert (now.version, now.points, now.per) == (2, 3, 100)
    stale = ola.post(url("rule", rule.pk), {**AMOUNT, "points": "5", "per_money": "1"})
    assert (stale.status_code, "Somebody changed or stopped this rule" in text(stale)) == (409, True)
    ola.post(url("rule-stop", now.pk))
    assert not rules.in_force(points).exists()
    assert "Rules of the past" in text(ola.get(url("programme", "points")))


def test_what_if_stands_beside_today_and_changes_nothing(ola: Client, points: Programme) -> None:
    from datetime import timedelta

    from lifecycle_crm.lib import clock

    OrderFactory(amount_minor=10_000, placed_at=clock.now() - timedelta(days=5))
    rule = rules.in_force(points).get()
    answer = ola.post(url("rule", rule.pk), {**AMOUNT, "points": "3", "per_money": "1", "ask": "1"})
    page = text(answer)
    assert answer.status_code == 200
    assert '<td class="num">100</td><td class="num">300</td>' in page
    assert EarningRule.objects.count() == 1


LADDER = {"measure": "points", "window": "rolling", "window_months": "12", "grace_days": "30", "step_down": "balance"}


def test_tiers_are_asked_about_then_saved_and_keep_their_keys(ola: Client, points: Programme) -> None:
    address = url("tiers", "points")
    given = {**LADDER, "name_0": "Silver", "threshold_0": "100", "benefits_0": "Free delivery\nA gift", "name_1": "Gold",
             "threshold_1": "500"}  # fmt: skip
    asked = ola.post(address, {**given, "ask": "1"})
    assert (asked.status_code, Tier.objects.count(), Ladder.objects.count()) == (200, 0, 0)
    assert "Members in Gold" in text(asked)
    assert "The tiers are saved" in text(ola.post(address, given, follow=True))
    page = text(ola.get(address))
    assert 'value="silver"' in page
    ola.post(address, {**given, "key_0": "silver", "name_0": "Steel", "key_1": "gold"})
    assert list(Tier.objects.values_list("key", "name", "threshold")) == [
        ("silver", "Steel", 100),
        ("gold", "Gold", 500),
    ]
    assert Tier.objects.get(key="silver").benefits == ["Free delivery", "A gift"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name_0": "A", "threshold_0": "5", "name_1": "B", "threshold_1": "5"}, "so they overlap"),
        ({"name_0": "A", "threshold_0": "-5"}, "above 0"),
        ({"name_0": "A", "threshold_0": "1.5"}, "Write a whole number"),
        ({"name_0": "A"}, "needs a name and where it begins"),
        ({"threshold_0": "5"}, "needs a name and where it begins"),
    ],
)
def test_tiers_that_overlap_or_lack_something_are_refused(
    ola: Client, points: Programme, fields: dict[str, str], words: str
) -> None:
    tiers.set_ladder(programme=points, steps=[tiers.Step("Silver", 100)])
    answer = ola.post(url("tiers", "points"), {**LADDER, **fields})
    assert answer.status_code == 422
    assert words in text(answer)
    assert list(Tier.objects.values_list("key", flat=True)) == ["silver"]


def test_money_is_typed_in_whole_units_for_tiers_by_spend(ola: Client, points: Programme) -> None:
    ola.post(url("tiers", "points"), {**LADDER, "measure": "spend", "name_0": "Gold", "threshold_0": "99.50"})
    assert Tier.objects.get().threshold == 9950
    assert 'value="99.50"' in text(ola.get(url("tiers", "points")))


def test_a_programme_of_ones_own_is_made_changed_and_stopped(ola: Client) -> None:
    given = {"name": "Stamps", "kind": "membership", "joining": "everybody", "fee": "49", "term_months": "12",
             "pending_days": "0", "value": "1", "position": "300"}  # fmt: skip
    page = text(ola.post(url("programme-new"), given, follow=True))
    assert "“Stamps” is saved." in page
    assert "It costs US$49.00 for 12 months." in page
    ola.post(url("programme-edit", "stamps"), {"name": "Stamp club", "fee": "", "term_months": "", "position": "300"})
    made = Programme.objects.get(key="stamps")
    assert (made.name, made.fee_minor, made.term_months, made.joining) == ("Stamp club", 0, None, "asked")
    assert "is stopped" in text(ola.post(url("programme-switch", "stamps"), follow=True))
    assert "goes on" in text(ola.post(url("programme-switch", "stamps"), follow=True))
    refused = ola.post(url("programme-new"), {**given, "name": "Open", "kind": "points", "fee": "5"})
    assert (refused.status_code, Programme.objects.count()) == (422, 2)


def test_a_viewer_reads_and_changes_nothing(client: Client, points: Programme) -> None:
    client.force_login(UserFactory(role=Role.VIEWER))
    assert client.get(url("programmes")).status_code == 200
    page = text(client.get(url("programme", "points")))
    assert "What gives points" in page
    assert "Add a rule" not in page
    rule = rules.in_force(points).get()
    for method, address in (
        ("get", url("rule", rule.pk)), ("post", url("rule-stop", rule.pk)), ("post", url("preset-install", "card")),
        ("get", url("tiers", "points")), ("get", url("programme-new")), ("post", url("programme-switch", "points")),
    ):  # fmt: skip
        assert getattr(client, method)(address).status_code == 403
    assert rules.in_force(points).get() == rule
    assert Programme.objects.count() == 1


def test_what_does_not_exist_is_a_kind_404(ola: Client) -> None:
    for address in (url("programme", "nobody"), url("rule-new", "points", "stars"), url("rule", 999_999)):
        assert ola.get(address).status_code == 404


def test_the_page_of_a_programme_costs_the_same_at_any_size(
    ola: Client, points: Programme, django_assert_max_num_queries: Any
) -> None:
    for n in range(12):
        rules.create(programme=points, kind="order", name=f"Rule {n}", points=n + 1)
        CustomerFactory()
    with django_assert_max_num_queries(22):
        assert ola.get(url("programme", "points")).status_code == 200

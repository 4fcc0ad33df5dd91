from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.apps import apps
from django.test import Client
from django.urls import reverse
from django.utils import translation

from customers.models import CustomerFacts, Event
from lifecycle_crm import night, reactions
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Conflict
from loyalty import audit, presets, programme, rewards, rules, sentences, statements, tiers, wallet, whatif
from loyalty.models import EarningRule, Entry, Membership, Programme, Reward, Tier, TierStanding
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, OrderFactory
from tests.loyalty.test_api import get
from tests.loyalty.test_pages import text

pytestmark = pytest.mark.django_db

LAST_WEEK = clock.now() - timedelta(days=7)
A_TUESDAY = LAST_WEEK - timedelta(days=(clock.business_date(LAST_WEEK).isoweekday() - 2) % 7)


def test_all_four_stand_side_by_side_with_the_programme_that_was_there() -> None:
    for preset in presets.PRESETS:
        assert not preset.is_installed
        presets.install(preset=preset)
        assert preset.is_installed
    assert list(Programme.objects.values_list("key", "kind")) == [
        ("points", "points"), ("coffee", "points"), ("airline", "points"), ("plus", "membership"), ("card", "card"),
    ]  # fmt: skip
    assert Programme.current() == Programme.objects.get(key="points")
    for one in EarningRule.objects.all():
        assert sentences.rule(one).endswith(".")
    assert Reward.objects.count() == 7


@pytest.mark.parametrize("preset", presets.PRESETS, ids=lambda one: one.key)
def test_a_preset_is_installed_once(preset: presets.Preset) -> None:
    presets.install(preset=preset)
    before = [model.objects.count() for model in (Programme, EarningRule, Tier, Reward)]
    with pytest.raises(Conflict, match="is installed already"):
        presets.install(preset=preset)
    assert [model.objects.count() for model in (Programme, EarningRule, Tier, Reward)] == before


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(presets.UnknownPreset, match="Use one of: coffee, airline, plus, card"):
        presets.get("hotel")


def test_a_coffee_chain_gives_points_with_a_purchase_and_double_on_mondays() -> None:
    coffee = presets.install(preset=presets.get("coffee"), since_ever=True)
    customer = CustomerFactory()
    programme.join(programme=coffee, customer=customer, joined_at=datetime(2026, 3, 1, tzinfo=UTC))
    monday = OrderFactory(customer=customer, amount_minor=1250, placed_at=datetime(2026, 3, 9, 12, tzinfo=UTC))
    again = OrderFactory(customer=customer, amount_minor=800, placed_at=datetime(2026, 3, 9, 15, tzinfo=UTC))
    reactions.drain(as_of=clock.whole_now())
    first, second = (Entry.objects.get(programme=coffee, source_id=str(one.pk)) for one in (monday, again))
    # 24 for 12 whole units, 5 for coming by once a day and 50 as a welcome, all of it twice.
    assert (first.points, second.points) == (158, 32)
    assert statements.explain(first).startswith("2 × 79 points: double points on Mondays. ")
    drink = Reward.objects.get(name="A free drink")
    before = Entry.objects.filter(programme=coffee, kind="spend").count()
    rewards.redeem(reward=drink, customer=customer, key="cup", effective_at=datetime(2026, 3, 12, tzinfo=UTC))
    assert Entry.objects.filter(programme=coffee, kind="spend").count() == before + 1
    assert audit.problems() == []


def test_an_airline_gives_a_point_for_each_kilometre_and_more_to_who_flies_much() -> None:
    airline = presets.install(preset=presets.get("airline"), since_ever=True)
    customer = CustomerFactory()
    last = clock.last_complete_day()
    programme.join(programme=airline, customer=customer, joined_at=clock.day_start(last - timedelta(days=30)))

    def fly(km: int, days_ago: int) -> Event:
        return Event.objects.create(
            customer=customer, name="flight", source="t", source_id=f"{km}-{days_ago}", properties={"km": km},
            occurred_at=clock.day_start(last - timedelta(days=days_ago)) + timedelta(hours=8),
        )  # fmt: skip

    long, short = fly(9_750, 3), fly(500, 1)
    for ago in (3, 2, 1, 0):
        night.run(last - timedelta(days=ago))
    earned = {one.source_id: one.points for one in Entry.objects.filter(programme=airline, kind="earn")}
    # The first flight reaches Silver that night, so the second earns a quarter more: (500 + 250) × 1.25.
    assert earned == {str(long.pk): 10_000, str(short.pk): 937}
    standing = TierStanding.objects.get(programme=airline)
    assert standing.tier == "silver"
    assert CustomerFacts.objects.get(pk=customer.pk).tier == "silver"
    there = tiers.progress(customer, airline, as_of=clock.day_end(last))
    assert there is not None
    assert (there.counted, there.missing) == (10_937, 14_063)


def test_a_membership_costs_its_fee_and_a_card_nothing() -> None:
    plus = presets.install(preset=presets.get("plus"))
    card = presets.install(preset=presets.get("card"))
    assert (plus.fee_minor, plus.term_months, card.fee_minor) == (4900, 12, 0)
    customer = CustomerFactory()
    programme.join(programme=plus, customer=customer, paid_minor=4900)
    programme.join(programme=card, customer=customer)
    assert Membership.objects.count() == 2
    assert sentences.programme(plus) == ["It costs US$49.00 for 12 months."]
    assert not rules.in_force(plus).exists()


@pytest.mark.parametrize("installed_in", ["en", "sv"])
def test_what_a_preset_brought_is_said_in_the_language_of_the_reader(installed_in: str) -> None:
    with translation.override(installed_in):
        made = presets.install(preset=presets.get("airline"))
    rewards.create(programme=made, name="Own reward", kind="product", points=5)
    ada = CustomerFactory()
    programme.join(programme=made, customer=ada)
    stored = list(made.rewards.values_list("name", flat=True))
    public, own = reverse("loyalty:programme-public", args=["airline"]), wallet.path(wallet.card(ada))
    for language, words in {
        "en": ("Frequent flyer", "Kilometres flown: 1 point for each km.", "Lounge at every airport", "One bag more"),
        "sv": ("Flygprogrammet", "Flugna kilometer: 1 poäng per km.", "Lounge på varje flygplats", "En väska till"),
        "nb": ("1 poeng per km.", "250 poeng hver gang."),
        "pl": ("Program lotniczy", "Przelecane kilometry: 1 punkt za", "Jedna sztuka bagażu więcej"),
        "cs": ("1 bod za každou jednotku km.", "250 bodů pokaždé."),
    }.items():
        for address in (public, own):
            page = Client().get(address, {"lang": language, "programme": "airline"}).content.decode()
            for word in (*words, "Own reward"):
                assert word in page, word
            assert language == "en" or "Kilometres flown" not in page
    assert list(made.rewards.values_list("name", flat=True)) == stored


def test_a_preset_says_what_last_year_would_have_been_and_nothing_is_made() -> None:
    """Two customers bought in the last year: 2 points for each dollar and 5 per order, 50 for a first order."""
    for amount in (10_000, 20_000):
        OrderFactory(amount_minor=amount, placed_at=A_TUESDAY)
    before = {model.__name__: model._default_manager.count() for model in apps.get_app_config("loyalty").get_models()}
    found = whatif.of_preset(presets.get("coffee"))
    year = found.answer.draft
    assert (year.points, year.earners) == (2 * 300 + 2 * (5 + 50), 2)
    assert year.liability_minor == year.points * 2
    assert any("2 points for each US$1.00" in one for one in found.rules)
    assert "It is free to join." in found.terms
    assert [name for name, _benefits in found.tiers] == ["Green", "Gold"]
    assert found.rewards[0][1] <= found.rewards[-1][1]
    card = whatif.of_preset(presets.get("card"))
    assert (list(card.rules), card.answer.draft.points) == ([], 0)
    assert before == {
        model.__name__: model._default_manager.count() for model in apps.get_app_config("loyalty").get_models()
    }


def test_both_doors_show_a_preset_until_it_is_installed() -> None:
    staff, viewer = Client(), Client()
    staff.force_login(UserFactory(role=Role.MARKETER))
    viewer.force_login(UserFactory(role=Role.VIEWER))
    page = reverse("loyalty:preset", args=["airline"])
    shown = text(staff.get(page))
    assert "What it would have been last year" in shown
    assert "1 point for each “km” of an event “flight”" in shown
    assert page in staff.get(reverse("loyalty:programmes")).content.decode()
    assert viewer.get(page).status_code == 403
    assert staff.get(reverse("loyalty:preset", args=["no-such"])).status_code == 404
    secret = ApiKey.issue(name="Till", scopes=["programmes:read"])[1]
    told = get(secret, "programmes/presets/airline/").json()
    assert (told["answer"]["draft"]["points"], len(told["rules"])) == (0, 5)
    assert get(secret, "programmes/presets/no-such/").json()["code"] == "unknown_preset"
    assert Programme.objects.count() == 1
    presets.install(preset=presets.get("airline"))
    assert staff.get(page).headers["Location"] == reverse("loyalty:programme", args=["airline"])
    assert get(secret, "programmes/presets/airline/").json()["code"] == "preset_installed"

"""What works for whom: who is counted where, what is compared with what, and what is too little to say anything."""

from __future__ import annotations

import random
import re
from datetime import date, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from campaigns import whom
from campaigns.models import Campaign, Message, Run
from campaigns.whom import ALL, Counts
from customers.models import Customer, Order
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib.intervals import newcombe
from stages.models import RuleSet, StageTransition
from tests.campaigns.factories import NOON, CampaignFactory, CustomerFactory
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

THEN = NOON - timedelta(days=20)


@pytest.fixture(autouse=True)
def today() -> Any:
    cache.clear()
    with time_machine.travel(NOON, tick=False):
        yield
    cache.clear()


def crowd(number: int, **same: Any) -> list[Customer]:
    made = CustomerFactory.build_batch(number, **same)
    for one in made:
        one.prepare()
    return Customer.objects.bulk_create(made)


def wrote(campaign: Campaign, people: list[Customer], *, out: int = 0, at: datetime = THEN, **more: Any) -> Run:
    """Planned for all of them, of whom the first ``out`` were held out."""
    run = Run.objects.create(
        campaign=campaign, key=f"r{Run.objects.count()}", as_of=at, state="finished", created_at=at
    )
    Message.objects.bulk_create(
        Message(
            run=run, customer=one, channel="email", due_at=at, created_at=at,
            **({"state": "held_out", "reason": "holdout"} if n < out else {"state": "sent", "sent_at": at, **more}),
        )
        for n, one in enumerate(people)
    )  # fmt: skip
    return run


def bought(people: list[Customer], at: datetime = THEN + timedelta(days=1), **more: Any) -> None:
    known = Order.objects.count()
    Order.objects.bulk_create(
        Order(
            customer=one, source="shop", source_id=str(known + n), placed_at=at, currency="USD", amount_minor=1000,
            base_minor=1000, **more,
        )
        for n, one in enumerate(people)
    )  # fmt: skip


def moved(people: list[Customer], stage: str, at: datetime) -> None:
    rules, _made = RuleSet.objects.get_or_create(
        version=901, defaults={"name": "Test rules", "rules": [], "state": "retired"}
    )
    StageTransition.objects.bulk_create(
        StageTransition(
            customer=one, from_stage="", to_stage=stage, occurred_at=at, business_date=at.date(), rule_set=rules
        )
        for one in people
    )


def cell(age: str = ALL, stage: str = ALL, days: int = 90) -> whom.Cell:
    return whom.table(days=days).cells["email", age, stage]


def counts(age: str = ALL, stage: str = ALL) -> tuple[int, int, int, int]:
    found = cell(age, stage)
    return found.people, found.sent, found.ordered, found.held_out


# --- Who is counted where ---------------------------------------------------------------------------------------------


def test_everybody_is_in_one_place_and_in_the_sums() -> None:
    young = crowd(3, birth_date=date(2001, 11, 21))
    just = crowd(2, birth_date=date(2001, 11, 20))
    nobody_knows = crowd(4)
    everybody = young + just + nobody_knows
    moved(everybody, "nurture", THEN - timedelta(days=9))
    moved(just, "retain", THEN - timedelta(days=1))
    moved(young, "dormant", THEN + timedelta(days=1))  # Too late: the message was planned before.
    wrote(CampaignFactory(), everybody)
    bought(just)
    assert counts("-24", "nurture") == (3, 3, 0, 0)
    assert counts("25-34", "retain") == (2, 2, 2, 0)
    assert counts("unknown", "nurture") == (4, 4, 0, 0)
    assert counts(ALL, "nurture") == (7, 7, 0, 0)
    assert counts() == (9, 9, 2, 0)
    assert {(age, stage) for _channel, age, stage in whom.table(days=90).cells} == {
        ("-24", "nurture"), ("-24", ALL), ("25-34", "retain"), ("25-34", ALL), ("unknown", "nurture"), ("unknown", ALL),
        (ALL, "nurture"), (ALL, "retain"), (ALL, ALL),
    }  # fmt: skip


@pytest.mark.parametrize(
    "born, age",
    [
        ("2010-01-01", "-24"),
        ("1991-11-21", "25-34"),
        ("1991-11-20", "35-44"),
        ("1961-11-21", "55-64"),
        ("1920-01-01", "65-"),
    ],
)
def test_an_age_begins_on_the_birthday(born: str, age: str) -> None:
    wrote(CampaignFactory(), crowd(1, birth_date=date.fromisoformat(born)))
    assert counts(age, "unknown") == (1, 1, 0, 0)


def test_a_person_counts_once_for_each_campaign_from_the_first_message() -> None:
    one, other = CampaignFactory(), CampaignFactory()
    [ada] = crowd(1)
    wrote(one, [ada], out=1)
    wrote(one, [ada], at=THEN + timedelta(days=3))
    wrote(other, [ada])
    bought([ada])
    assert counts() == (1, 1, 1, 1)


def test_only_orders_of_the_days_of_credit_count() -> None:
    people = crowd(6)
    wrote(CampaignFactory(credit_days=7), people)
    bought(people[:1], THEN - timedelta(seconds=1))
    bought(people[1:2], THEN)
    bought(people[2:3], THEN + timedelta(days=7, seconds=-1))
    bought(people[3:4], THEN + timedelta(days=7))
    bought(people[4:5], is_counted=False)
    bought(people[1:2], THEN + timedelta(days=2))
    assert counts() == (6, 6, 2, 0)


def test_those_no_message_could_reach_and_runs_called_off_do_not_count() -> None:
    campaign = CampaignFactory()
    people = crowd(5)
    wrote(campaign, people[:1], state="skipped", reason="no_consent", sent_at=None)
    wrote(campaign, people[1:2], state="skipped", reason="capped", sent_at=None)
    wrote(campaign, people[2:3], state="failed", reason="refused", sent_at=None)
    Run.objects.filter(pk=wrote(campaign, people[3:4]).pk).update(state="cancelled")
    wrote(CampaignFactory(purpose="service"), people[4:])
    assert counts() == (2, 0, 0, 0)


def test_only_the_period_and_only_those_whose_days_are_over() -> None:
    people = crowd(3)
    wrote(CampaignFactory(credit_days=7), people[:1], at=NOON - timedelta(days=7))
    wrote(CampaignFactory(credit_days=7), people[1:2], at=NOON - timedelta(days=7, seconds=-1))
    wrote(CampaignFactory(credit_days=7), people[2:], at=NOON - timedelta(days=100))
    assert cell(days=90).people == 1
    assert cell(days=180).people == 2
    assert whom.table(days=90, as_of=NOON - timedelta(days=3)).cells == {}


# --- What is compared -------------------------------------------------------------------------------------------------


def test_below_a_hundred_people_it_says_nothing() -> None:
    people = crowd(199)
    wrote(CampaignFactory(), people, out=100)
    assert (cell().people, cell().share, cell().gap) == (99, None, None)
    wrote(CampaignFactory(), people[:1])
    assert (cell().people, cell().share, cell().gap) == (100, 0.0, None)  # The other campaign holds nobody out.


def test_one_campaign_is_compared_by_newcombe() -> None:
    people = crowd(300)
    wrote(CampaignFactory(), people, out=100)
    bought(people[:5] + people[100:140])
    found = cell()
    assert (found.people, found.ordered, found.held_out, found.share) == (200, 40, 100, 0.2)
    assert found.gap == pytest.approx(0.15)
    assert (found.low, found.high) == pytest.approx(newcombe(40, 200, 5, 100))
    assert found.is_clear


def test_campaigns_that_hold_out_different_shares_of_different_people_are_compared_each_within_itself() -> None:
    """Neither did anything. Taken together, those written to would look twice as good as those held out."""
    loyal, cold = Counts(900, 900, 450, 100, 50), Counts(100, 100, 5, 900, 45)
    gap, low, high = whom.difference([loyal, cold])
    assert gap == pytest.approx(0)
    assert low < 0 < high
    both = loyal + cold
    assert both.ordered / both.people > 4 * both.held_out_ordered / both.held_out


def test_its_interval_holds_its_word() -> None:
    chance = random.Random(20261122)

    def draw(people: int, share: float) -> int:
        return sum(chance.random() < share for _ in range(people))

    inside = 0
    for _ in range(400):
        each = [
            Counts(n, n, draw(n, base + 0.03), out, draw(out, base))
            for n, out, base in ((400, 60, 0.03), (150, 150, 0.2))
        ]
        _gap, low, high = whom.difference(each)
        inside += low <= 0.03 <= high
    assert inside >= 372


# --- The doors --------------------------------------------------------------------------------------------------------


def text(page: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.content.decode()).split())


def test_the_page_says_it_with_the_count_the_definition_and_the_date() -> None:
    ola = Client()
    ola.force_login(UserFactory(role=Role.VIEWER))
    empty = text(ola.get(reverse("campaigns:whom") + "?days=365"))
    assert "Nothing to say yet" in empty
    people = crowd(300, birth_date=date(1990, 1, 1))
    moved(people, "retain", THEN - timedelta(days=1))
    wrote(CampaignFactory(), people, out=100)
    bought(people[:5] + people[100:140])
    few = crowd(1)
    wrote(CampaignFactory(), few)
    page = text(ola.get(reverse("campaigns:whom") + "?days=90"))
    assert "35 to 44 20.0% n 200, 200 sent" in page
    assert "100 held out +15.0 of 100 (+7.1 to +21.7)" in page
    assert "Age not known Not enough data yet n 1, 1 sent – Not enough data yet n 1, 1 sent" in page
    assert "from 22 Aug 2026 to 20 Nov 2026" in page
    assert "one looks clear by chance alone" in page
    assert ola.get(reverse("campaigns:whom") + "?days=1;").status_code == 200


def test_it_is_counted_anew_after_ten_minutes_and_without_a_cache(settings: Any) -> None:
    wrote(CampaignFactory(), crowd(1))
    first = whom.recent(days=90)
    wrote(CampaignFactory(), crowd(1))
    assert whom.recent(days=90) == first
    cache.clear()
    assert whom.recent(days=90).cells["email", ALL, ALL].people == 2
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    }
    assert whom.recent(days=90).cells["email", ALL, ALL].people == 2


def test_the_api_says_the_same(django_assert_max_num_queries: Any) -> None:
    people = crowd(300, birth_date=date(1990, 1, 1))
    wrote(CampaignFactory(), people, out=100)
    bought(people[:5] + people[100:140])
    key = {"headers": {"Authorization": f"Bearer {ApiKey.issue(name='Report', scopes=['campaigns:read'])[1]}"}}
    with django_assert_max_num_queries(6):
        told = Client().get("/api/v1/effectiveness/?days=180", **key).json()
    assert (told["since"], told["until"]) == ("2026-05-24", "2026-11-20")
    assert [(one["age"], one["stage"], one["people"]) for one in told["cells"]] == [
        ("35-44", "all", 200), ("35-44", "unknown", 200), ("all", "all", 200), ("all", "unknown", 200),
    ]  # fmt: skip
    assert told["cells"][0]["gap"] == pytest.approx(0.15)
    assert told["cells"][0]["is_clear"] is True
    assert Client().get("/api/v1/effectiveness/?days=17", **key).status_code == 400
    assert Client().get("/api/v1/effectiveness/").status_code == 401

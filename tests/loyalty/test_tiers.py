from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.utils import DatabaseError
from django.test import Client
from django.urls import reverse

from customers import facts
from customers.models import Customer, CustomerFacts, DirtyCustomer
from lifecycle_crm import night, reactions
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib import clock
from loyalty import earning, programme, rules, sentences, tiers
from loyalty.models import Ladder, Programme, Tier, TierChange, TierStanding
from tests.factories import UserFactory
from tests.loyalty.factories import SPRING, CustomerFactory, OrderFactory, RefundFactory, give

pytestmark = pytest.mark.django_db

STEPS = [tiers.Step("Silver", 100, ("Free delivery",)), tiers.Step("Gold", 500), tiers.Step("Black", 1000)]


@pytest.fixture
def points() -> Programme:
    return Programme.objects.get()


def look(customers: list[Customer] | Customer, at: datetime, *, is_history: bool = False) -> None:
    """As a settle or a night does: what happened before ``at`` is seen, and the numbers go down into the facts."""
    some = customers if isinstance(customers, list) else [customers]
    facts.mark([one.pk for one in some], occurred_at=at - timedelta(seconds=2), is_history=is_history)
    with transaction.atomic(), facts.batch():
        facts.take_dirty_of([one.pk for one in some], as_of=at)
        reactions.hand_down(as_of=at)


def holds(customer: Customer) -> str:
    return CustomerFacts.objects.get(pk=customer.pk).tier


def changes(customer: Customer) -> list[tuple[str, str, str]]:
    rows = TierChange.objects.filter(customer=customer).order_by("id")
    return list(rows.values_list("kind", "from_tier", "to_tier"))


def test_a_tier_is_reached_at_once_with_points_earned_and_handed_down(points: Programme) -> None:
    tiers.set_ladder(programme=points, steps=STEPS)
    customer = CustomerFactory()
    give(customer, 99, effective_at=SPRING)
    look(customer, SPRING + timedelta(days=1))
    assert (holds(customer), changes(customer)) == ("", [])
    give(customer, 1, effective_at=SPRING + timedelta(days=2))
    look(customer, SPRING + timedelta(days=3))
    assert holds(customer) == "silver"
    change = TierChange.objects.get()
    assert (change.kind, change.counted, change.effective_at) == ("up", 100, SPRING + timedelta(days=3))
    give(customer, 900, effective_at=SPRING + timedelta(days=4))
    look(customer, SPRING + timedelta(days=5))
    look(customer, SPRING + timedelta(days=5))
    assert holds(customer) == "black"
    assert changes(customer) == [("up", "", "silver"), ("up", "silver", "black")]
    assert tiers.problems() == []


@pytest.mark.parametrize(("measure", "expected"), [("spend", "gold"), ("orders", "silver")])
def test_money_and_orders_can_count_instead(points: Programme, measure: str, expected: str) -> None:
    steps = [tiers.Step("Silver", 2), tiers.Step("Gold", 7000)]
    tiers.set_ladder(programme=points, steps=steps, measure=measure)
    customer = CustomerFactory()
    for amount in (4000, 3000):
        OrderFactory(customer=customer, amount_minor=amount)
    OrderFactory(customer=customer, amount_minor=9000, is_counted=False)
    OrderFactory(customer=customer, amount_minor=9000, placed_at=SPRING - timedelta(days=366))
    look(customer, SPRING + timedelta(days=1))
    assert holds(customer) == expected


def test_what_leaves_a_rolling_window_is_found_by_the_night_and_grace_comes_first(points: Programme) -> None:
    tiers.set_ladder(programme=points, steps=STEPS, grace_days=30)
    customer = CustomerFactory()
    start = clock.day_end(clock.last_complete_day()) - timedelta(days=400)
    give(customer, 500, effective_at=start + timedelta(hours=6))
    look(customer, start + timedelta(hours=7))
    assert holds(customer) == "gold"
    standing = TierStanding.objects.get()
    assert standing.check_at is not None
    assert 0 <= (standing.check_at - (start + timedelta(hours=6, days=365))).total_seconds() <= 1
    DirtyCustomer.objects.all().delete()
    assert tiers.wake(as_of=start + timedelta(days=365), low=0, high=2**40) == 0
    assert tiers.wake(as_of=start + timedelta(days=366), low=0, high=2**40) == 1
    look(customer, start + timedelta(days=366))
    standing.refresh_from_db()
    assert (holds(customer), standing.grace_until) == ("gold", start + timedelta(days=396))
    assert standing.check_at == standing.grace_until
    look(customer, start + timedelta(days=395))
    assert holds(customer) == "gold"
    assert tiers.wake(as_of=start + timedelta(days=396), low=0, high=2**40) == 1
    look(customer, start + timedelta(days=396))
    assert (holds(customer), changes(customer)) == ("", [("up", "", "gold"), ("down", "gold", "")])
    standing.refresh_from_db()
    assert (standing.grace_until, standing.check_at) == (None, None)


def test_grace_is_forgotten_by_who_earns_enough_again(points: Programme) -> None:
    tiers.set_ladder(programme=points, steps=STEPS, grace_days=30)
    customer = CustomerFactory()
    give(customer, 100, effective_at=SPRING - timedelta(days=380))
    look(customer, SPRING - timedelta(days=379))
    look(customer, SPRING)
    assert TierStanding.objects.get().grace_until is not None
    give(customer, 100, effective_at=SPRING)
    look(customer, SPRING + timedelta(days=1))
    assert TierStanding.objects.get().grace_until is None
    look(customer, SPRING + timedelta(days=60))
    assert (holds(customer), changes(customer)) == ("silver", [("up", "", "silver")])


def test_one_step_at_a_time_or_to_what_is_still_reached(points: Programme) -> None:
    found = {}
    for way in ("one", "balance"):
        of = programme.create(name=f"By {way}", position=1 if way == "one" else 2)
        tiers.set_ladder(programme=of, steps=STEPS, grace_days=30, step_down=way)
        customer = CustomerFactory()
        give(customer, 1000, effective_at=SPRING - timedelta(days=400), programme=of)
        seen = []
        for day in (-399, -20, 5, 20, 36, 70, 110):
            look(customer, SPRING + timedelta(days=day))
            standing = TierStanding.objects.get(programme=of, customer=customer)
            seen.append(standing.tier)
        found[way] = seen
    assert found == {
        "one": ["black", "black", "black", "gold", "gold", "silver", ""],
        "balance": ["black", "black", "black", "", "", "", ""],
    }


def test_a_calendar_year_begins_anew_and_grace_carries_the_tier_through_the_next(points: Programme) -> None:
    tiers.set_ladder(programme=points, steps=STEPS, window="calendar", grace_days=365)
    customer = CustomerFactory()
    give(customer, 500, effective_at=datetime(2024, 11, 1, tzinfo=UTC))
    look(customer, datetime(2024, 11, 2, tzinfo=UTC))
    new_year = datetime(2024, 12, 31, 23, tzinfo=UTC)  # midnight in Stockholm
    standing = TierStanding.objects.get()
    assert (standing.tier, standing.check_at) == ("gold", new_year + timedelta(seconds=1))
    give(customer, 100, effective_at=datetime(2025, 2, 1, tzinfo=UTC))
    look(customer, datetime(2025, 2, 2, tzinfo=UTC))
    standing.refresh_from_db()
    assert (standing.tier, standing.grace_until) == ("gold", datetime(2026, 2, 2, tzinfo=UTC))
    look(customer, datetime(2025, 12, 1, tzinfo=UTC))
    assert holds(customer) == "gold"
    look(customer, datetime(2026, 2, 2, tzinfo=UTC))
    # In 2026 nothing was earned yet, so silver of 2025 is no longer reached either.
    assert holds(customer) == ""


def test_since_the_beginning_nothing_is_lost_by_time(points: Programme) -> None:
    tiers.set_ladder(programme=points, steps=STEPS, window="lifetime")
    customer = CustomerFactory()
    give(customer, 100, effective_at=SPRING - timedelta(days=3000))
    look(customer, SPRING)
    assert holds(customer) == "silver"
    assert TierStanding.objects.get().check_at is None


def test_a_refund_lowers_the_year_its_order_counted_in(points: Programme) -> None:
    tiers.set_ladder(programme=points, steps=STEPS)
    order = OrderFactory(amount_minor=50_000)
    earning.award_for_orders([order.pk])
    look(order.customer, SPRING + timedelta(days=1))
    assert holds(order.customer) == "gold"
    DirtyCustomer.objects.all().delete()
    refund = RefundFactory(order=order, amount_minor=30_000)
    earning.reverse_for_refunds([refund.pk])
    assert DirtyCustomer.objects.filter(customer_id=order.customer_id).exists()
    look(order.customer, SPRING + timedelta(days=3))
    assert changes(order.customer) == [("up", "", "gold"), ("down", "gold", "silver")]
    assert TierChange.objects.latest("id").counted == 200


def test_a_night_that_runs_late_does_not_take_back_what_was_reached_since(points: Programme) -> None:
    tiers.set_ladder(programme=points, steps=STEPS)
    customer = CustomerFactory()
    give(customer, 100, effective_at=SPRING)
    look(customer, SPRING + timedelta(hours=2))
    look(customer, SPRING - timedelta(hours=12))
    assert (holds(customer), len(changes(customer))) == ("silver", 1)


def test_history_is_marked_so_that_nothing_follows_from_it(points: Programme) -> None:
    tiers.set_ladder(programme=points, steps=STEPS)
    old, new = CustomerFactory(), CustomerFactory()
    for one in (old, new):
        give(one, 100, effective_at=SPRING)
    look(old, SPRING + timedelta(days=1), is_history=True)
    look(new, SPRING + timedelta(days=1))
    assert dict(TierChange.objects.values_list("customer_id", "is_history")) == {old.pk: True, new.pk: False}


def test_only_members_have_a_tier_and_leaving_ends_it_without_grace(points: Programme) -> None:
    club = programme.create(name="Club", kind="membership", term_months=1, position=1)
    tiers.set_ladder(programme=club, steps=[tiers.Step("Regular", 2)], measure="orders", grace_days=90)
    inside, outside = CustomerFactory(), CustomerFactory()
    for one in (inside, outside):
        for _n in range(2):
            OrderFactory(customer=one)
    joined = programme.join(programme=club, customer=inside, joined_at=SPRING)
    look([inside, outside], SPRING + timedelta(days=1))
    assert (holds(inside), holds(outside)) == ("regular", "")
    DirtyCustomer.objects.all().delete()
    assert joined.ends_at is not None
    assert tiers.wake(as_of=joined.ends_at, low=0, high=2**40) == 1
    look(inside, joined.ends_at)
    assert (holds(inside), changes(inside)[-1]) == ("", ("down", "regular", ""))
    assert tiers.progress(outside, club) is None


def test_the_facts_carry_the_tier_of_the_first_programme_that_has_tiers(points: Programme) -> None:
    miles = programme.create(name="Miles", position=200)
    tiers.set_ladder(programme=miles, steps=[tiers.Step("Flyer", 10)])
    customer = CustomerFactory()
    give(customer, 100, effective_at=SPRING)
    give(customer, 10, key="m", effective_at=SPRING, programme=miles)
    look(customer, SPRING + timedelta(days=1))
    assert holds(customer) == "flyer"
    tiers.set_ladder(programme=points, steps=STEPS)
    look(customer, SPRING + timedelta(days=2))
    assert holds(customer) == "silver"
    assert TierStanding.objects.filter(customer=customer).count() == 2


def test_how_far_to_the_next(points: Programme) -> None:
    tiers.set_ladder(programme=points, steps=STEPS, window="calendar")
    customer = CustomerFactory()
    assert tiers.progress(customer, programme.create(name="Card", kind="card")) is None
    now = datetime(2026, 6, 1, tzinfo=UTC)
    give(customer, 120, effective_at=datetime(2026, 5, 1, tzinfo=UTC))
    look(customer, now)
    found = tiers.progress(customer, points, as_of=now)
    assert found is not None
    assert found.tier is not None
    assert found.following is not None
    assert (found.tier.name, found.following.name, found.counted, found.missing) == ("Silver", "Gold", 120, 380)
    assert found.share == 0.24
    assert found.renews_at == datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert found.tier.benefits == ["Free delivery"]
    give(customer, 5000, key="more", effective_at=datetime(2026, 5, 2, tzinfo=UTC))
    look(customer, now + timedelta(days=1))
    top = tiers.progress(customer, points, as_of=now + timedelta(days=1))
    assert top is not None
    assert (top.following, top.missing, top.share) == (None, 0, 1.0)
    assert tiers.members_per_tier(points) == {"black": 1}


def test_new_steps_let_everybody_be_looked_at_again_and_keep_who_has_a_tier(points: Programme) -> None:
    tiers.set_ladder(programme=points, steps=STEPS)
    customer = CustomerFactory()
    give(customer, 100, effective_at=SPRING)
    look(customer, SPRING + timedelta(days=1))
    DirtyCustomer.objects.all().delete()
    tiers.set_ladder(programme=points, steps=[tiers.Step("Silver", 50), tiers.Step("Gold", 90)])
    assert list(DirtyCustomer.objects.values_list("customer_id", flat=True)) == [customer.pk]
    look(customer, SPRING + timedelta(days=2))
    assert changes(customer) == [("up", "", "silver"), ("up", "silver", "gold")]
    tiers.set_ladder(programme=points, steps=[tiers.Step("Silver", 50)])
    look(customer, SPRING + timedelta(days=3))
    assert changes(customer)[-1][1:] == ("gold", "silver")
    tiers.set_ladder(programme=points, steps=[])
    look(customer, SPRING + timedelta(days=4))
    assert (holds(customer), tiers.main()) == ("", None)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": [tiers.Step("A", 100), tiers.Step("B", 100)]}, "A and B begin at the same number"),
        ({"steps": [tiers.Step("A", 100), tiers.Step("a", 200)]}, "Two tiers are called"),
        ({"steps": [tiers.Step("A", 0)]}, "must begin at a whole number above 0"),
        ({"steps": [tiers.Step("A", -5)]}, "must begin at a whole number above 0"),
        ({"steps": [tiers.Step("", 5)]}, "needs a name"),
        ({"steps": [tiers.Step("A", 5, ("x" * 201,))]}, "benefits of 200 characters"),
        ({"steps": [tiers.Step(f"T{n}", n) for n in range(1, 14)]}, "at most 12 tiers"),
        ({"steps": STEPS, "measure": "smiles"}, "“smiles” is unknown"),
        ({"steps": STEPS, "window": "week"}, "“week” is unknown"),
        ({"steps": STEPS, "window_months": 0}, "Months must be"),
        ({"steps": STEPS, "grace_days": -1}, "Days of grace must be"),
        ({"steps": STEPS, "step_down": "one"}, "needs days of grace"),
    ],
)
def test_tiers_that_make_no_sense_are_refused_and_nothing_is_saved(
    points: Programme, values: dict[str, Any], sentence: str
) -> None:
    tiers.set_ladder(programme=points, steps=STEPS[:1])
    DirtyCustomer.objects.all().delete()
    with pytest.raises(tiers.BadTiers, match=sentence):
        tiers.set_ladder(programme=points, **values)
    assert list(Tier.objects.values_list("key", "threshold")) == [("silver", 100)]
    assert Ladder.objects.get().grace_days == 0
    assert not DirtyCustomer.objects.exists()


def test_a_card_cannot_count_points_and_a_tier_that_a_rule_needs_stays(points: Programme) -> None:
    with pytest.raises(tiers.BadTiers, match="Card has no points"):
        tiers.set_ladder(programme=programme.create(name="Card", kind="card"), steps=STEPS)
    tiers.set_ladder(programme=points, steps=STEPS)
    rules.create(programme=points, kind="order", name="gold extra", points=1, tiers=["gold"])
    with pytest.raises(tiers.BadTiers, match="“gold extra” is for the tier “gold”"):
        tiers.set_ladder(programme=points, steps=STEPS[:1])
    assert Tier.objects.count() == 3


def test_a_change_of_tier_is_never_rewritten(points: Programme) -> None:
    row = TierChange.objects.create(
        programme=points, customer=CustomerFactory(), kind="up", to_tier="gold", counted=1, effective_at=SPRING
    )
    TierChange.objects.filter(pk=row.pk).update(reacted_at=SPRING)
    for wrong in ({"to_tier": "black"}, {"counted": 9}):
        with pytest.raises((IntegrityError, DatabaseError)), transaction.atomic():
            TierChange.objects.filter(pk=row.pk).update(**wrong)
    with pytest.raises((IntegrityError, DatabaseError)), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM loyalty_tierchange")
    assert TierChange.objects.get().to_tier == "gold"


def test_nights_decide_tiers_and_a_replay_of_them_changes_nothing(points: Programme) -> None:
    tiers.set_ladder(programme=points, steps=[tiers.Step("Silver", 60), tiers.Step("Gold", 200)], window_months=1)
    last = clock.last_complete_day()
    dice, people = random.Random(4), [CustomerFactory() for _n in range(12)]
    for n, one in enumerate(people):
        for _m in range(n):
            placed = clock.day_start(last - timedelta(days=dice.randint(0, 58))) + timedelta(hours=9)
            order = OrderFactory(customer=one, amount_minor=dice.randint(1000, 9000), placed_at=placed)
            facts.mark([one.pk], occurred_at=placed)
            assert order.pk
    for ago in range(60, -1, -1):
        night.run(last - timedelta(days=ago), is_quiet=True)
    found = dict(CustomerFacts.objects.values_list("customer_id", "tier"))
    as_of = clock.day_end(last)
    for one in people:
        there = tiers.progress(one, points, as_of=as_of)
        assert there is not None
        reached = [step.key for step in points.tiers.order_by("threshold") if there.counted >= step.threshold]
        assert found.get(one.pk, "") == (reached[-1] if reached else "")
    assert TierChange.objects.filter(kind="down").exists()
    assert tiers.problems() == []
    before = list(TierChange.objects.order_by("id").values_list("id", flat=True))
    look(people, as_of)
    assert list(TierChange.objects.order_by("id").values_list("id", flat=True)) == before


def test_tiers_of_many_cost_the_same_number_of_queries_as_of_one(
    points: Programme, django_assert_max_num_queries: Any
) -> None:
    tiers.set_ladder(programme=points, steps=STEPS)
    people = [CustomerFactory() for _n in range(60)]
    for n, one in enumerate(people):
        give(one, 80 + n, key=f"g{n}", effective_at=SPRING)
    with django_assert_max_num_queries(60):
        look(people, SPRING + timedelta(days=1))
    assert TierChange.objects.count() == 40


# --- By the calendar, to the second, and what a tier gives -------------------------------------------------------------


def the_night_of(day: date, *customers: Customer) -> list[str]:
    """Wake and decide as the night does; which tiers they hold then."""
    as_of = clock.day_end(day)
    DirtyCustomer.objects.all().delete()
    tiers.wake(as_of=as_of, low=0, high=2**62)
    with transaction.atomic(), facts.batch():
        facts.take_dirty(0, 2**62, as_of=as_of)
        reactions.hand_down(as_of=as_of)
    return [holds(one) for one in customers]


def test_a_calendar_ladder_with_grace_steps_down_on_the_day_it_says(points: Programme) -> None:
    """Gold of 2024 keeps gold through 2025, silver through 2026, and nothing after, one year of grace at a time."""
    tiers.set_ladder(programme=points, steps=STEPS, window="calendar", grace_days=365, step_down="one")
    ada = CustomerFactory()
    give(ada, 500, effective_at=datetime(2024, 12, 31, 22, 59, 59, tzinfo=UTC))  # a second before midnight in Stockholm
    look(ada, datetime(2024, 12, 31, 23, tzinfo=UTC))
    seen = {
        day: (*the_night_of(day, ada), TierStanding.objects.get().grace_until)
        for day in (
            date(2024, 12, 31), date(2025, 1, 1), date(2025, 12, 31), date(2026, 1, 1), date(2026, 12, 31),
            date(2027, 1, 1), date(2027, 1, 2),
        )
    }  # fmt: skip
    first, second = datetime(2026, 1, 1, 23, tzinfo=UTC), datetime(2027, 1, 1, 23, tzinfo=UTC)
    assert seen == {
        date(2024, 12, 31): ("gold", None),
        date(2025, 1, 1): ("gold", first),
        date(2025, 12, 31): ("gold", first),
        date(2026, 1, 1): ("silver", second),
        date(2026, 12, 31): ("silver", second),
        date(2027, 1, 1): ("", None),
        date(2027, 1, 2): ("", None),
    }
    moments = TierChange.objects.order_by("pk").values_list("kind", "from_tier", "to_tier", "effective_at")
    assert list(moments) == [
        ("up", "", "gold", datetime(2024, 12, 31, 23, tzinfo=UTC)),
        ("down", "gold", "silver", first),
        ("down", "silver", "", second),
    ]


def test_what_a_tier_gives_is_seen_by_staff_and_by_other_systems(points: Programme, client: Client) -> None:
    steps = [tiers.Step("Silver", 100), tiers.Step("Gold", 500, ["A gift in May"], "gold", ["delivery", "priority"])]
    tiers.set_ladder(programme=points, steps=steps)
    rules.create(programme=points, kind="multiplier", name="double for Gold", percent=200, tiers=["gold"])
    ada = CustomerFactory(name="Ada Example")
    give(ada, 600, effective_at=SPRING)
    look(ada, clock.now())
    [found] = tiers.given(ada)
    assert (found.tier.key, found.perks, [one.name for one in found.more]) == (
        "gold", ["delivery", "priority"], ["double for Gold"],
    )  # fmt: skip
    client.force_login(UserFactory(role=Role.SUPPORT))
    pages = [reverse("loyalty:account", args=[ada.pk]), reverse("dashboard:customer", args=[ada.pk])]
    for page in pages:
        shown = " ".join(client.get(page).content.decode().split())
        for words in ("Gold", "Free delivery", "Priority service", "A gift in May"):
            assert words in shown, (page, words)
    assert sentences.rule(found.more[0]) in " ".join(client.get(pages[0]).content.decode().split())
    _key, secret = ApiKey.issue(name="Till", scopes=["wallets:read", "programmes:read"])
    headers = {"Authorization": f"Bearer {secret}"}
    told = client.get(f"/api/v1/wallets/{ada.pk}/", headers=headers).json()
    assert (told["tier"], told["perks"]) == ("gold", ["delivery", "priority"])
    ladder = client.get(f"/api/v1/programmes/{points.key}/", headers=headers).json()
    assert [one["perks"] for one in ladder["tiers"]] == [[], ["delivery", "priority"]]


def test_a_perk_nobody_knows_is_refused_and_nothing_is_saved(points: Programme) -> None:
    with pytest.raises(tiers.BadTiers):
        tiers.set_ladder(programme=points, steps=[tiers.Step("Silver", 100, (), "", ["unicorn"])])
    assert not points.tiers.exists()

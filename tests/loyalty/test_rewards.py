from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from customers.models import Customer
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError, InvalidInput
from loyalty import audit, catalogue, codes, rewards, statements
from loyalty import programme as programmes
from loyalty.errors import (
    InsufficientPoints,
    KeyReused,
    LimitReached,
    PriceChanged,
    RewardNotAvailable,
    SoldOut,
    WrongState,
)
from loyalty.models import (
    Account,
    Entry,
    Lot,
    Programme,
    Redemption,
    RedemptionStep,
    Reward,
    RewardUse,
    Tier,
    TierStanding,
)
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_api import post

pytestmark = pytest.mark.django_db


def mug(**more: Any) -> Reward:
    given = {"name": "Mug", "kind": "product", "points": 300, "stock": 5, **more}
    programme = given.pop("programme", None) or Programme.current()
    return rewards.create(programme=programme, **given)


@pytest.fixture
def ada() -> Customer:
    customer = CustomerFactory(name="Ada Example")
    give(customer, 1000)
    return customer


def nothing_moved(customer: Customer, reward: Reward, points: int = 1000, stock: int | None = 5) -> None:
    assert Account.objects.get(customer=customer).balance == points
    assert Reward.objects.get(pk=reward.pk).stock == stock
    assert not Redemption.objects.exists()
    assert not RewardUse.objects.filter(count__gt=0).exists()
    assert not Entry.objects.filter(kind="spend").exists()


# --- Redeeming --------------------------------------------------------------------------------------------------------


def test_it_redeems_a_reward(ada: Customer) -> None:
    ola = UserFactory()
    reward = mug()
    done = rewards.redeem(reward=reward, customer=ada, key="a", actor=ola)
    assert (done.state, done.points, done.actor, done.replayed) == ("ordered", 300, ola, False)
    assert done.entry is not None
    assert (done.entry.points, done.entry.kind, done.entry.reason) == (-300, "spend", "Mug")
    assert statements.explain(done.entry) == "Mug"
    assert set(done.code) <= set(codes.ALPHABET)
    assert len(done.code) == 8
    assert Account.objects.get(customer=ada).balance == 700
    assert Reward.objects.get().stock == 4
    assert RewardUse.objects.get().count == 1
    assert [(one.state, one.actor) for one in done.steps.all()] == [("ordered", ola)]
    assert audit.problems() == []


def test_the_same_request_again_is_the_same_redemption(ada: Customer) -> None:
    reward = mug()
    first = rewards.redeem(reward=reward, customer=ada, key="a", points=300)
    again = rewards.redeem(reward=reward, customer=ada, key="a", points=300)
    assert (again.pk, again.replayed) == (first.pk, True)
    assert Account.objects.get(customer=ada).balance == 700
    assert Reward.objects.get().stock == 4


def test_its_key_with_another_request_is_refused(ada: Customer) -> None:
    reward, other = mug(), mug(name="Cap")
    rewards.redeem(reward=reward, customer=ada, key="a")
    with pytest.raises(KeyReused):
        rewards.redeem(reward=other, customer=ada, key="a")
    with pytest.raises(KeyReused):
        rewards.redeem(reward=reward, customer=CustomerFactory(), key="a")
    with pytest.raises(KeyReused):
        rewards.redeem(reward=reward, customer=ada, key="a", points=200)
    assert Redemption.objects.count() == 1


@pytest.mark.parametrize(
    "more, error, words",
    [
        ({"stock": 0}, SoldOut, "“Mug” is sold out."),
        ({"points": 1001}, InsufficientPoints, "There are 1000 points to spend, 1001 were asked for."),
        ({"is_active": False}, RewardNotAvailable, "“Mug” is not offered any more."),
        ({"starts_on": 1}, RewardNotAvailable, "“Mug” can be redeemed from"),
        ({"ends_on": -1}, RewardNotAvailable, "“Mug” could be redeemed until"),
        ({"only_tiers": True, "prices": {"gold": 200}}, RewardNotAvailable, "“Mug” is for Gold."),
    ],
)
def test_it_says_why_not_and_moves_nothing(ada: Customer, more: dict[str, Any], error: type, words: str) -> None:
    more = {
        name: clock.today() + timedelta(days=value) if name in ("starts_on", "ends_on") else value
        for name, value in more.items()
    }
    reward = mug(**more)
    Tier.objects.create(programme=reward.programme, key="gold", name="Gold", threshold=100)
    with pytest.raises(error, match=words):
        rewards.redeem(reward=reward, customer=ada, key="a")
    nothing_moved(ada, reward, stock=more.get("stock", 5))


def test_both_days_of_its_validity_count(ada: Customer) -> None:
    reward = mug(starts_on=clock.today(), ends_on=clock.today())
    assert rewards.redeem(reward=reward, customer=ada, key="a").state == "ordered"


def test_a_customer_gets_no_more_than_the_limit_and_a_cancelled_one_does_not_count(ada: Customer) -> None:
    reward = mug(points=10, per_customer=2)
    first = rewards.redeem(reward=reward, customer=ada, key="a")
    rewards.redeem(reward=reward, customer=ada, key="b")
    with pytest.raises(LimitReached, match="2 times by each customer"):
        rewards.redeem(reward=reward, customer=ada, key="c")
    assert Account.objects.get(customer=ada).balance == 980
    rewards.cancel(redemption=first, actor=None, reason="Changed my mind")
    assert rewards.redeem(reward=reward, customer=ada, key="c").state == "ordered"
    assert RewardUse.objects.get().count == 2
    bo = CustomerFactory()
    give(bo, 10, "bo")
    assert rewards.redeem(reward=reward, customer=bo, key="d").state == "ordered"


def test_the_price_is_that_of_the_tier(ada: Customer) -> None:
    reward = mug(prices={"gold": 200, "platinum": 0})
    facts = TierStanding.objects.create(
        customer=ada, programme=reward.programme, tier="gold", since=clock.now(), counted=1
    )
    assert rewards.redeem(reward=reward, customer=ada, key="a").points == 200
    facts.tier = "platinum"
    facts.save()
    free = rewards.redeem(reward=reward, customer=ada, key="b")
    assert (free.points, free.entry, free.tier) == (0, None, "platinum")
    assert rewards.redeem(reward=reward, customer=ada, key="b").replayed
    assert Account.objects.get(customer=ada).balance == 800
    assert Reward.objects.get().stock == 3
    rewards.cancel(redemption=free, actor=None, reason="Not needed")
    assert Reward.objects.get().stock == 4


def test_a_price_that_changed_since_they_looked_is_not_taken(ada: Customer) -> None:
    reward = mug()
    rewards.change(reward=reward, points=400)
    with pytest.raises(PriceChanged, match="costs 400 points now"):
        rewards.redeem(reward=reward, customer=ada, key="a", points=300)
    nothing_moved(ada, reward)


def test_a_reward_of_a_club_is_for_its_members(ada: Customer) -> None:
    club = programmes.create(name="Club", kind="membership")
    reward = mug(programme=club, kind="perk", perk="delivery", points=0, stock=None)
    with pytest.raises(RewardNotAvailable, match="for members of Club"):
        rewards.redeem(reward=reward, customer=ada, key="a")
    nothing_moved(ada, reward, stock=None)
    programmes.join(programme=club, customer=ada)
    assert rewards.redeem(reward=reward, customer=ada, key="a").points == 0


@pytest.mark.parametrize("kind, state", [("product", "ordered"), ("discount", "handed_out"), ("perk", "ordered")])
def test_a_code_is_given_at_once_and_a_thing_is_ordered(ada: Customer, kind: str, state: str) -> None:
    reward = mug(kind=kind, perk="priority" if kind == "perk" else "")
    assert rewards.redeem(reward=reward, customer=ada, key="a").state == state


# --- On its way -------------------------------------------------------------------------------------------------------


def test_it_goes_from_ordered_to_prepared_to_handed_out(ada: Customer) -> None:
    ola = UserFactory()
    done = rewards.redeem(reward=mug(), customer=ada, key="a")
    assert rewards.prepare(redemption=done, actor=ola).state == "prepared"
    with pytest.raises(WrongState, match="is prepared already"):
        rewards.prepare(redemption=done, actor=ola)
    assert rewards.hand_out(redemption=done, actor=ola).state == "handed_out"
    for verb, more in ((rewards.hand_out, {}), (rewards.prepare, {}), (rewards.cancel, {"reason": "x"})):
        with pytest.raises(WrongState, match="is handed out already"):
            verb(redemption=done, actor=ola, **more)
    assert [one.state for one in done.steps.order_by("pk")] == ["ordered", "prepared", "handed_out"]
    assert Account.objects.get(customer=ada).balance == 700


def test_a_cancelled_one_goes_back_to_the_lots_it_came_from() -> None:
    bo = CustomerFactory()
    soon, later = (clock.day_end(clock.today() + timedelta(days=days)) for days in (5, 50))
    give(bo, 100, "soon", expires_at=soon)
    give(bo, 100, "later", expires_at=later)
    reward = mug(points=150)
    done = rewards.redeem(reward=reward, customer=bo, key="a")
    assert list(Lot.objects.order_by("expires_at").values_list("remaining", flat=True)) == [0, 50]
    rewards.cancel(redemption=done, actor=None, reason="Sold out in the shop")
    assert list(Lot.objects.order_by("expires_at").values_list("remaining", flat=True)) == [100, 100]
    assert (done.state, Reward.objects.get().stock, Account.objects.get().balance) == ("cancelled", 5, 200)
    with pytest.raises(WrongState, match="is cancelled already"):
        rewards.cancel(redemption=done, actor=None, reason="Again")
    assert (Reward.objects.get().stock, Account.objects.get().balance) == (5, 200)
    assert audit.problems() == []


@pytest.mark.parametrize("reason", ["", "  ", "x" * 301])
def test_cancelling_needs_a_reason(ada: Customer, reason: str) -> None:
    done = rewards.redeem(reward=mug(), customer=ada, key="a")
    with pytest.raises(InvalidInput):
        rewards.cancel(redemption=done, actor=None, reason=reason)
    assert Redemption.objects.get().state == "ordered"
    assert Account.objects.get().balance == 700


def test_steps_are_written_once_and_never_changed(ada: Customer) -> None:
    rewards.redeem(reward=mug(), customer=ada, key="a")
    with pytest.raises(IntegrityError), transaction.atomic():
        RedemptionStep.objects.update(reason="other")
    with pytest.raises(IntegrityError), transaction.atomic():
        RedemptionStep.objects.all().delete()


# --- The catalogue ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"name": " "},
        {"points": -1},
        {"points": 10**10},
        {"stock": -1},
        {"per_customer": 0},
        {"kind": "perk"},
        {"starts_on": clock.today(), "ends_on": clock.today() - timedelta(days=1)},
        {"prices": {"Gold": -1}},
    ],
)
def test_it_refuses_a_reward_that_makes_no_sense(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        mug(**fields)
    assert not Reward.objects.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"stock": -1},
        {"per_customer": 0},
        {"perk": "delivery"},
        {"starts_on": clock.today(), "ends_on": clock.today() - timedelta(days=1)},
    ],
)
def test_the_table_itself_refuses_it_too(wrong: dict[str, Any]) -> None:
    reward = mug()
    with pytest.raises(IntegrityError), transaction.atomic():
        Reward.objects.filter(pk=reward.pk).update(**wrong)


def test_a_new_stock_does_not_give_back_what_was_redeemed_meanwhile(ada: Customer) -> None:
    reward = mug()
    rewards.redeem(reward=reward, customer=ada, key="a")
    with pytest.raises(WrongState, match="4 are left now"):
        rewards.change(reward=reward, stock=10, stock_seen=5, name="Big mug")
    assert (Reward.objects.get().stock, Reward.objects.get().name) == (4, "Mug")
    rewards.change(reward=reward, stock=10, stock_seen=4)
    assert Reward.objects.get().stock == 10
    rewards.change(reward=reward, name="Big mug")
    assert (Reward.objects.get().stock, Reward.objects.get().name) == (10, "Big mug")


def test_a_change_leaves_the_stock_alone(ada: Customer) -> None:
    reward = mug()
    stale = Reward.objects.get()
    rewards.redeem(reward=reward, customer=ada, key="a")
    rewards.change(reward=stale, description="Blue")
    assert Reward.objects.get().stock == 4


def test_offers_say_what_each_costs_and_why_not(ada: Customer) -> None:
    programme = Programme.current()
    assert programme is not None
    cheap, dear = mug(name="Pen", points=10), mug(name="Bike", points=5000)
    mug(name="Sold", points=20, stock=0)
    mug(name="Club only", points=30, only_tiers=True)
    mug(name="Past", ends_on=clock.today() - timedelta(days=1))
    mug(name="Off", is_active=False)
    found = rewards.offers(customer=ada, programme=programme, spendable=1000)
    assert [(one.reward.name, one.points, one.lacks, one.may_redeem) for one in found] == [
        ("Pen", 10, 0, True),
        ("Sold", 20, 0, False),
        ("Bike", 5000, 4000, False),
        ("Club only", None, 0, False),
    ]
    assert [one.refusal for one in found][1] == "“Sold” is sold out."
    assert {cheap.pk, dear.pk} <= {one.reward.pk for one in found}


def test_what_offers_say_is_what_redeeming_does(ada: Customer) -> None:
    programme = Programme.current()
    assert programme is not None
    for n in range(4):
        mug(name=f"R{n}", points=[0, 999, 1000, 1001][n], stock=[1, None, 0, 3][n])
    for n, offer in enumerate(rewards.offers(customer=ada, programme=programme, spendable=1000)):
        try:
            with transaction.atomic():
                rewards.redeem(reward=offer.reward, customer=ada, key=f"k{n}", points=offer.points)
                happened = True
                raise_again = InvalidInput("undo")
                raise raise_again
        except DomainError as problem:
            happened = problem.code == "invalid"
        assert happened is offer.may_redeem, offer


def test_sums_count_what_was_not_cancelled(ada: Customer) -> None:
    reward = mug(points=100, cost_minor=450)
    first = rewards.redeem(reward=reward, customer=ada, key="a")
    rewards.redeem(reward=reward, customer=ada, key="b")
    rewards.cancel(redemption=first, actor=None, reason="x")
    sums = catalogue.sums()
    assert (sums.count, sums.points, sums.cost_minor, sums.waiting) == (1, 100, 450, 1)
    assert [(one.name, one.redeemed) for one in catalogue.listed()] == [("Mug", 1)]  # type: ignore[attr-defined]
    programme = Programme.objects.get()
    assert [(one.reward, one.name, one.count, one.points) for one in catalogue.most_used(programme)] == [
        (reward.pk, "Mug", 1, 100)
    ]
    assert catalogue.most_used(programme, as_of=clock.now() + timedelta(days=91)) == []


# --- The proof --------------------------------------------------------------------------------------------------------


def test_points_of_a_reward_do_not_come_back_without_it(ada: Customer) -> None:
    done = rewards.redeem(reward=mug(), customer=ada, key="a")
    assert done.entry is not None
    ola = Client()
    ola.force_login(UserFactory(role=Role.SUPPORT))
    page = ola.post(
        reverse("loyalty:points-undo", args=[ada.pk, done.entry.pk]), {"key": "k" * 20, "reason": "Give it back"}
    )
    assert (page.status_code, "Cancel the redemption instead" in page.content.decode()) == (409, True)
    secret = ApiKey.issue(name="Till", scopes=["points:write"])[1]
    answer = post(secret, f"points/{done.entry.pk}/undo/", {}, "u")
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")
    assert Account.objects.get(customer=ada).balance == 700
    assert reverse("loyalty:points-undo", args=[ada.pk, done.entry.pk]) not in (
        ola.get(reverse("loyalty:account", args=[ada.pk])).content.decode()
    )


def test_the_proof_names_what_does_not_add_up(ada: Customer) -> None:
    reward = mug()
    done = rewards.redeem(reward=reward, customer=ada, key="a")
    other = rewards.redeem(reward=reward, customer=ada, key="b")
    rewards.cancel(redemption=other, actor=None, reason="x")
    assert catalogue.problems() == []
    Redemption.objects.filter(pk=done.pk).update(points=1)
    Redemption.objects.filter(pk=other.pk).update(state="ordered")
    assert catalogue.problems() == [
        f"Redemptions that were paid with another number of points: #{done.pk}.",
        f"Redemptions whose points were given back without being cancelled, or the reverse: #{other.pk}.",
        f"Rewards whose count per customer is not that of their redemptions: #{reward.pk}.",
    ]

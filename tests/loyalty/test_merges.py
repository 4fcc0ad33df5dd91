"""Two customers who are one person: what they have besides points goes along, and comes back when it is undone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from customers import facts
from customers.models import Customer
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib import clock
from loyalty import audit, catalogue, earning, ledger, referrals, rewards, rules, tiers, vouchers, wallet
from loyalty import programme as programmes
from loyalty.models import (
    Account,
    EarningRule,
    Entry,
    HouseholdMember,
    Membership,
    Merge,
    MergedThing,
    Programme,
    Redemption,
    Referral,
    RewardUse,
    RuleUse,
    TierStanding,
    Voucher,
)
from tests.factories import UserFactory
from tests.loyalty.factories import SPRING, CustomerFactory, OrderFactory, give
from tests.loyalty.test_api import post

pytestmark = pytest.mark.django_db

HAVE = ("points", "product", "code", "loose", "club", "brought", "was_brought", "family", "debt", "hold")


def proved() -> None:
    assert audit.problems() == []
    assert catalogue.problems() == []


def equip(customer: Customer, friend: Customer, have: set[str], name: str) -> None:
    """Give a customer some of what one can have."""
    main = Programme.current()
    assert main is not None
    if have & {"points", "product", "code", "hold"}:
        give(customer, 500, key=f"{name}:give")
    if "product" in have:
        reward = rewards.create(programme=main, name=f"Mug {name}", kind="product", points=100, stock=5, per_customer=2)
        rewards.redeem(reward=reward, customer=customer, key=f"{name}:1")
        gone = rewards.redeem(reward=reward, customer=customer, key=f"{name}:2")
        rewards.cancel(redemption=gone, actor=None, reason="Too many")
    if have & {"code", "loose"}:
        series = vouchers.create(name=f"Off {name}", worth="percent", percent=10)
        if "loose" in have:
            vouchers.issue(series=series, customer=customer, key=f"{name}:loose")
        if "code" in have:
            reward = rewards.create(programme=main, name=f"Off {name}", kind="voucher", points=50, series=series)
            rewards.redeem(reward=reward, customer=customer, key=f"{name}:code")
    if "club" in have:
        club = Programme.objects.filter(key="club").first() or programmes.create(name="Club", kind="card", key="club")
        programmes.join(programme=club, customer=customer)
    if "brought" in have:
        Referral.objects.create(programme=main, advocate=customer, email="f@x.example", email_key=f"{name}@x.example")
    if "was_brought" in have:
        Referral.objects.create(
            programme=main, advocate=friend, friend=customer, email="g@x.example", email_key=f"{name}@y.example"
        )
    if "family" in have:
        ledger.found_household(name=name, customers=[customer, CustomerFactory()], actor=None)
    if "debt" in have:
        one = give(customer, 40, key=f"{name}:lent")
        ledger.redeem(customer=customer, points=Account.objects.get(customer=customer).balance, key=f"{name}:spent")
        ledger.reverse(entry=one, points=40, key=f"{name}:back", actor=None, reason="Returned")
    elif "hold" in have:
        ledger.authorise(customer=customer, points=7, key=f"{name}:hold")


def everything() -> dict[str, Any]:
    """Whose everything is, and how much in all."""
    return {
        "sums": {
            one.customer_id: (one.balance, one.pending, one.held, one.debt)
            for one in Account.objects.all()
            if (one.balance, one.pending, one.held, one.debt) != (0, 0, 0, 0)
        },
        "redemptions": dict(Redemption.objects.values_list("pk", "customer")),
        "uses": {(r, c): n for r, c, n in RewardUse.objects.values_list("reward", "customer", "count") if n},
        "vouchers": dict(Voucher.objects.values_list("pk", "customer")),
        "memberships": dict(Membership.objects.values_list("pk", "customer")),
        "advocates": dict(Referral.objects.values_list("pk", "advocate")),
        "friends": dict(Referral.objects.values_list("pk", "friend")),
        "households": dict(HouseholdMember.objects.filter(left_at=None).values_list("pk", "customer")),
    }


def worth(of: dict[str, Any]) -> int:
    return sum(balance + pending + held - debt for balance, pending, held, debt in of["sums"].values())


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.sampled_from(HAVE)), st.sets(st.sampled_from(HAVE)), st.booleans())
def test_a_merge_moves_everything_and_undoing_it_restores_it(
    first: set[str], second: set[str], is_friend: bool
) -> None:
    """Fault 41."""
    with transaction.atomic():
        ada, bo, cy = CustomerFactory(), CustomerFactory(), CustomerFactory()
        equip(ada, bo if is_friend else cy, first, "ada")
        equip(bo, cy, second, "bo")
        before = everything()
        made = ledger.merge(customer=ada, into=bo, key="m")
        assert bool(made) == bool(first)
        after = everything()
        assert worth(after) == worth(before)
        for name in ("redemptions", "vouchers", "advocates"):
            assert ada.pk not in after[name].values(), name
            assert after[name].keys() == before[name].keys()
        assert ada.pk not in after["households"].values()
        assert sum(after["uses"].values()) == sum(before["uses"].values())
        assert list(after["memberships"].values()).count(bo.pk) >= int(bool({"club"} & (first | second)))
        proved()
        for one in made:
            ledger.unmerge(merge=one)
        again = everything()
        assert {**again, "sums": None} == {**before, "sums": None}
        assert again["sums"] == before["sums"]
        proved()
        transaction.set_rollback(True)


def test_what_changed_hands_meanwhile_stays_where_it_went() -> None:
    ada, bo, cy = CustomerFactory(), CustomerFactory(), CustomerFactory()
    equip(ada, cy, {"product"}, "ada")
    [first] = ledger.merge(customer=ada, into=bo, key="m1")
    [second] = ledger.merge(customer=bo, into=cy, key="m2")
    kept = Redemption.objects.get(key="ada:1")
    assert kept.customer_id == cy.pk
    ledger.unmerge(merge=first)
    kept.refresh_from_db()
    assert kept.customer_id == cy.pk  # They are with Cy, whose merge stands.
    ledger.unmerge(merge=second)
    kept.refresh_from_db()
    assert kept.customer_id == bo.pk


def test_a_limit_per_customer_counts_what_the_other_had() -> None:
    ada, bo = CustomerFactory(), CustomerFactory()
    main = Programme.current()
    assert main is not None
    reward = rewards.create(programme=main, name="Mug", kind="product", points=0, per_customer=1)
    rewards.redeem(reward=reward, customer=ada, key="a")
    [made] = ledger.merge(customer=ada, into=bo, key="m")
    with pytest.raises(rewards.LimitReached):
        rewards.redeem(reward=reward, customer=bo, key="b")
    ledger.unmerge(merge=made)
    rewards.redeem(reward=reward, customer=bo, key="b")
    proved()


@pytest.fixture
def visits() -> Programme:
    """Ten points an order, at most twelve a day, and fifty for the first order ever."""
    main = Programme.objects.get()
    EarningRule.objects.filter(programme=main).delete()
    told = {"programme": main, "starts_at": None}
    rules.create(kind="order", name="For coming by", points=10, limit_points=12, limit_per="day", **told)
    rules.create(kind="first_order", name="Welcome", points=50, **told)
    return main


def bought(*customers: Customer, day: int = 0) -> list[int]:
    """An order of each on this day, told one after the other; what they earned."""
    got = []
    for customer in customers:
        order = OrderFactory(customer=customer, placed_at=SPRING + timedelta(days=day))
        earning.award_for_orders([order.pk])
        got.append(
            sum(
                Entry.objects.filter(source_id=str(order.pk), source_type="order", kind="earn").values_list(
                    "points", flat=True
                )
            )
        )
    return got


def test_a_limit_of_a_rule_is_one_for_a_merged_person_until_it_is_undone(visits: Programme) -> None:
    ada, bo, cy, other = CustomerFactory(), CustomerFactory(), CustomerFactory(), CustomerFactory()
    assert bought(ada, bo, other) == [60, 60, 60]
    [first] = ledger.merge(customer=ada, into=bo, key="m1")
    [second] = ledger.merge(customer=bo, into=cy, key="m2")
    # The first order of Cy is not the first of this person, and 20 of the 12 points a day are used up.
    assert bought(ada, bo, cy, other) == [0, 0, 0, 2]
    assert bought(cy, ada, bo, other, day=1) == [10, 2, 0, 10]
    ledger.unmerge(merge=second)
    assert bought(cy, day=1) == [2]
    assert bought(bo, ada, day=2) == [10, 2]
    ledger.unmerge(merge=first)
    assert bought(bo, ada, day=2) == [2, 10]
    assert set(RuleUse.objects.values_list("customer", flat=True)) == {ada.pk, bo.pk, cy.pk, other.pk}
    proved()


def test_a_batch_of_orders_of_a_merged_person_has_one_limit(visits: Programme) -> None:
    ada, bo = CustomerFactory(), CustomerFactory()
    bought(ada, bo)
    ledger.merge(customer=ada, into=bo, key="m")
    rows = [
        OrderFactory(customer=one, placed_at=SPRING + timedelta(days=3, hours=n))
        for n, one in enumerate((ada, bo, ada))
    ]
    earning.award_for_orders([row.pk for row in rows])
    got = [Entry.objects.filter(key=f"order:{row.pk}").values_list("points", flat=True).first() for row in rows]
    assert got == [10, 2, None]


def test_a_birthday_of_a_merged_person_is_one_a_year() -> None:
    main = Programme.objects.get()
    rules.create(programme=main, kind="birthday", name="Happy birthday", points=75, starts_at=None)
    ada, bo = (CustomerFactory(birth_date=SPRING.date()) for _one in range(2))
    give(ada, 1)
    ledger.merge(customer=ada, into=bo, key="m")
    assert earning.award_for_birthdays(SPRING.date(), low=min(ada.pk, bo.pk), high=max(ada.pk, bo.pk) + 1) == 1
    assert earning.award_for_birthdays(SPRING.date(), low=min(ada.pk, bo.pk), high=max(ada.pk, bo.pk) + 1) == 0


@example([("buy", 0, 0), ("merge", 0, 2), ("buy", 2, 0), ("undo", 0, 0), ("buy", 2, 0)])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("buy"), st.integers(0, 2), st.integers(0, 1)),
            st.tuples(st.just("merge"), st.integers(0, 2), st.integers(0, 2)),
            st.tuples(st.just("undo"), st.integers(0, 5), st.just(0)),
        ),
        max_size=14,
    )
)
def test_limits_follow_who_is_one_person_through_any_merges(
    visits: Programme, moves: list[tuple[str, int, int]]
) -> None:
    """Against a model of three people: whom one is with, and what each used up."""
    with transaction.atomic():
        people = [CustomerFactory() for _one in range(3)]
        into: dict[int, int] = {}
        used: list[tuple[int, int, int]] = []
        ordered: set[int] = set()
        made: list[tuple[Merge, int]] = []

        def now(n: int) -> int:
            return now(into[n]) if n in into else n

        for n, one in enumerate(people):
            give(one, 1, key=f"open:{n}")
        for what, first, second in moves:
            if what == "buy":
                mine = {n for n in range(3) if now(n) == now(first)}
                left = max(0, 12 - sum(points for n, day, points in used if n in mine and day == second))
                welcome = 0 if mine & ordered else 50  # Who ordered while they were one has had a first order, too.
                assert bought(people[first], day=second) == [min(10, left) + welcome]
                used.append((first, second, min(10, left)))
                ordered.add(first)
            elif what == "merge" and first != second and first not in into and now(second) != first:
                [merge] = ledger.merge(customer=people[first], into=people[second], key=f"m{len(made)}")
                into[first] = second
                made.append((merge, first))
            elif what == "undo" and first < len(made) and Merge.objects.filter(pk=made[first][0].pk, undone_at=None):
                ledger.unmerge(merge=made[first][0])
                del into[made[first][1]]
        proved()
        transaction.set_rollback(True)


def test_card_links_and_codes_of_both_lead_to_one_wallet(client: Client) -> None:
    ada, bo = CustomerFactory(name="Ada Example"), CustomerFactory(name="Bo Example")
    give(ada, 120)
    main = Programme.current()
    assert main is not None
    referrals.set_offer(programme=main, advocate_points=10, friend_points=10)
    old, code = wallet.path(wallet.card(ada)), referrals.code(ada)
    [made] = ledger.merge(customer=ada, into=bo, key="m")
    assert wallet.find(wallet.token(wallet.card(ada))).customer == bo
    assert "120" in client.get(old).content.decode()
    assert referrals.claim(code=code.code, email="new@x.example").advocate == bo
    wallet.renew_links(customer=bo)
    assert client.get(old).status_code == 410  # One press makes the links of both dead.
    ledger.unmerge(merge=made)
    assert wallet.find(wallet.token(wallet.card(ada))).customer == ada


def test_a_tier_counts_what_both_earned_for_as_long_as_the_merge_stands() -> None:
    main = Programme.current()
    assert main is not None
    tiers.set_ladder(programme=main, steps=[tiers.Step("Silver", 100), tiers.Step("Gold", 250)])
    ada, bo, cy = CustomerFactory(), CustomerFactory(), CustomerFactory()
    for n, one in enumerate((ada, bo, cy)):
        give(one, 100, key=f"t{n}")
    look(ada, bo, cy)
    assert [stand(one) for one in (ada, bo, cy)] == ["silver"] * 3
    [first] = ledger.merge(customer=ada, into=bo, key="m1")
    [second] = ledger.merge(customer=bo, into=cy, key="m2")
    look(ada, bo, cy)
    assert [stand(one) for one in (ada, bo, cy)] == ["", "", "gold"]
    progress = tiers.progress(cy, main)
    assert progress is not None
    assert progress.counted == 300
    ledger.unmerge(merge=second)
    ledger.unmerge(merge=first)
    look(ada, bo, cy)
    assert [stand(one) for one in (ada, bo, cy)] == ["silver"] * 3


def look(*customers: Customer) -> None:
    with transaction.atomic(), facts.batch():
        facts.take_dirty_of([one.pk for one in customers], as_of=clock.now() + timedelta(seconds=2))
        tiers.evaluate(as_of=clock.now())


def stand(customer: Customer) -> str:
    return TierStanding.objects.filter(customer=customer).values_list("tier", flat=True).first() or ""


def test_a_second_household_is_left_and_entered_again() -> None:
    ada, bo = CustomerFactory(), CustomerFactory()
    equip(ada, bo, {"family"}, "ada")
    equip(bo, ada, {"family"}, "bo")
    [made] = ledger.merge(customer=ada, into=bo, key="m")
    assert list(HouseholdMember.objects.filter(customer=ada, left_at=None)) == []
    assert list(made.things.values_list("kind", flat=True)) == [MergedThing.Kind.LEFT]
    ledger.unmerge(merge=made)
    assert HouseholdMember.objects.get(customer=ada).left_at is None


def test_who_has_nothing_is_not_merged() -> None:
    assert ledger.merge(customer=CustomerFactory(), into=CustomerFactory(), key="m") == []
    assert not Merge.objects.exists()


def test_both_doors_move_the_belongings(client: Client) -> None:
    ada, bo = CustomerFactory(), CustomerFactory(email="bo@shop.example")
    equip(ada, bo, {"loose"}, "ada")
    client.force_login(UserFactory(role=Role.OWNER))
    told = {"merge-key": str(uuid4()), "merge-customer": "bo@shop.example", "merge-reason": "Same person"}
    assert client.post(reverse("loyalty:points-merge", args=[ada.pk]), told).status_code == 302
    assert Voucher.objects.get().customer == bo
    _key, secret = ApiKey.issue(name="Till", scopes=["points:write"])
    assert post(secret, f"merges/{Merge.objects.get().pk}/undo/", {}).status_code == 200
    assert Voucher.objects.get().customer == ada
    again = post(secret, "merges/", {"customer": ada.pk, "into": bo.pk, "reason": "Same"}, "by-till")
    assert (again.status_code, Voucher.objects.get().customer) == (201, bo)

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone, translation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from customers import segments
from customers.models import Customer, DirtyCustomer, Event, Order, OrderLine, Product, SegmentChange
from feedback import surveys
from feedback.models import Response
from lifecycle_crm import night, reactions
from lifecycle_crm.lib import clock
from loyalty import audit, earning, programme, rules, sentences, statements, tiers
from loyalty.models import Account, EarningRule, Entry, Programme, RuleUse, TierChange
from tests.loyalty.factories import SPRING, CustomerFactory, OrderFactory, RefundFactory

pytestmark = pytest.mark.django_db

SUNDAY = datetime(2026, 3, 15, 12, tzinfo=UTC)


@pytest.fixture
def points() -> Programme:
    return Programme.objects.get()


def only(points: Programme) -> None:
    """Without the rule that was there from the beginning."""
    EarningRule.objects.filter(programme=points).delete()


def rule(of: Programme, kind: str, name: str = "A rule", **values: Any) -> EarningRule:
    values.setdefault("starts_at", None)
    return rules.create(programme=of, kind=kind, name=name, **values)


def event(customer: Customer, name: str = "flight", at: datetime = SPRING, **properties: Any) -> Event:
    number = Event.objects.count()
    return Event.objects.create(
        customer=customer, name=name, occurred_at=at, source="t", source_id=f"e{number}", properties=properties
    )


def given_points(**where: Any) -> list[int]:
    return list(
        Entry.objects.filter(kind="earn", **where).order_by("effective_at", "id").values_list("points", flat=True)
    )


# --- What gives points --------------------------------------------------------------------------------------------------


def test_double_points_on_sundays_are_said_as_they_were_computed(points: Programme) -> None:
    rule(points, "multiplier", "double points on Sundays", percent=200, weekdays="7")
    sunday, monday = OrderFactory(placed_at=SUNDAY), OrderFactory(placed_at=SUNDAY + timedelta(days=1))
    earning.award_for_orders([sunday.pk, monday.pk])
    assert given_points() == [98, 49]
    assert statements.explain(Entry.objects.get(source_id=str(sunday.pk), kind="earn")) == (
        "2 × 49 points: double points on Sundays. 49 points: 1 point for each US$1.00 of US$49.95."
    )
    assert audit.problems() == []


def test_a_weekday_is_that_of_the_shop_not_of_greenwich(points: Programme) -> None:
    rule(points, "multiplier", "double", percent=200, weekdays="7")
    # Stockholm is an hour ahead: Saturday 23:30 in Greenwich is Sunday there, and Sunday 23:30 is Monday.
    first = OrderFactory(placed_at=datetime(2026, 3, 14, 23, 30, tzinfo=UTC))
    last = OrderFactory(placed_at=datetime(2026, 3, 15, 23, 30, tzinfo=UTC))
    earning.award_for_orders([last.pk, first.pk])
    assert given_points() == [98, 49]


@pytest.mark.parametrize(
    ("dates", "expected"), [(["2026-03-10"], 98), (["03-10"], 98), (["2025-03-10"], 49), (["03-11"], 49)]
)
def test_double_points_on_a_date_of_one_year_or_of_every_year(
    points: Programme, dates: list[str], expected: int
) -> None:
    rule(points, "multiplier", "double", percent=200, dates=dates)
    earning.award_for_orders([OrderFactory().pk])
    assert given_points() == [expected]


def test_of_two_multipliers_the_larger_one_counts_and_they_do_not_multiply_each_other(points: Programme) -> None:
    rule(points, "multiplier", "half again", percent=150)
    rule(points, "multiplier", "threefold", percent=300)
    earning.award_for_orders([OrderFactory().pk])
    assert given_points() == [147]
    rule(points, "order", "for coming", points=10)
    earning.award_for_orders([OrderFactory().pk])
    assert given_points() == [147, 177]


def test_an_order_a_product_a_category_and_the_first_order_each_add_a_line(points: Programme) -> None:
    beans = Product.objects.create(sku="BEAN-1", name="Beans", category="coffee")
    mug = Product.objects.create(sku="MUG-1", name="Mug", category="things")
    rule(points, "order", "for each order", points=5)
    rule(points, "product", "beans", points=7, subject="BEAN-1")
    rule(points, "category", "things", points=2, per=500, subject="things")
    rule(points, "first_order", "welcome", points=100)
    customer = CustomerFactory()
    first, second = (
        OrderFactory(customer=customer, amount_minor=4000, placed_at=SPRING + timedelta(days=n)) for n in range(2)
    )
    for order in (first, second):
        OrderLine.objects.create(order=order, product=beans, title="Beans", quantity=3, unit_minor=600)
        OrderLine.objects.create(order=order, product=mug, title="Mug", quantity=2, unit_minor=1200, discount_minor=200)
    earning.award_for_orders([second.pk, first.pk])
    # 40 for the amount, 5 for the order, 3 × 7 for beans, 2 for each whole 5.00 of 22.00, and once 100.
    assert given_points() == [40 + 5 + 21 + 8 + 100, 40 + 5 + 21 + 8]
    told = Entry.objects.get(source_id=str(first.pk)).explanation["lines"]
    assert [(one["kind"], one["of"], one["points"]) for one in told] == [
        ("amount", 4000, 40), ("order", 1, 5), ("product", 3, 21), ("category", 2200, 8), ("first_order", 1, 100),
    ]  # fmt: skip
    assert sum(one["points"] for one in told) == 174


def test_lines_of_an_order_in_another_currency_count_at_the_rate_of_the_order(points: Programme) -> None:
    only(points)
    tea = Product.objects.create(sku="TEA", name="Tea", category="tea")
    rule(points, "category", "tea", points=1, per=100, subject="tea")
    order = OrderFactory(currency="JPY", amount_minor=10_000, rate=Decimal("0.0067"), base_minor=6700)
    OrderLine.objects.create(order=order, product=tea, title="Tea", quantity=1, unit_minor=5_000)
    earning.award_for_orders([order.pk])
    assert given_points() == [33]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1204, 1204), (1204.9, 1204), ("1204", 1204), ("1204.9", 1204), (0, None), (-5, None), ("far", None), (None, None),
     (True, None), ({"a": 1}, None), (10**12, None), ("1.2.3", None), ("", None), ("-7", None)],
)  # fmt: skip
def test_a_point_for_each_kilometre_flown(points: Programme, value: Any, expected: int | None) -> None:
    rule(points, "event", "Miles", points=1, subject="flight", property="km")
    flown = event(CustomerFactory(), km=value)
    other = event(flown.customer, name="visit", km=500)
    earning.award_for_events([flown.pk, other.pk])
    assert given_points() == ([expected] if expected else [])


def test_an_event_can_count_in_steps_and_without_a_number(points: Programme) -> None:
    rule(points, "event", "per ten", points=3, per=10, subject="flight", property="km")
    rule(points, "event", "per flight", points=100, subject="flight")
    rule(points, "multiplier", "double miles", percent=200, subject="flight", weekdays="7")
    customer = CustomerFactory()
    rows = [event(customer, km=129), event(customer, at=SUNDAY, km=129)]
    earning.award_for_events([row.pk for row in rows])
    assert given_points() == [136, 272]
    assert earning.award_for_events([row.pk for row in rows]) == 0


def test_a_property_with_a_strange_name_is_only_a_name(points: Programme) -> None:
    rule(points, "event", "odd", points=1, subject="flight", property='km"; DROP %s')
    row = event(CustomerFactory(), **{'km"; DROP %s': 12})
    earning.award_for_events([row.pk])
    assert given_points() == [12]


def test_a_survey_a_review_a_referral_and_a_stage_earn_once(points: Programme) -> None:
    rule(points, "survey", "thanks for answering", points=20)
    rule(points, "review", "a review", points=30)
    rule(points, "referral", "a friend", points=200)
    customer = CustomerFactory()
    surveys.install()
    surveys.record(
        customer=customer, survey=surveys.get("nps"), score=9, answered_at=SPRING, source="t", source_id="1",
        comment="", is_history=False,
    )  # fmt: skip
    event(customer, name="review"), event(customer, name="referral"), event(customer, name="visit")
    for _again in range(2):
        reactions.drain(as_of=clock.whole_now())
        Response.objects.update(reacted_at=None)
        Event.objects.update(reacted_at=None)
    assert sorted(given_points()) == [20, 30, 200]
    assert set(Entry.objects.values_list("source_type", flat=True)) == {"response", "event"}


def test_events_that_nothing_follows_from_are_not_drained(points: Programme) -> None:
    customer = CustomerFactory()
    event(customer, name="visit")
    assert reactions.drain(as_of=clock.whole_now())["event"] == 0
    rule(points, "review", "a review", points=30)
    event(customer, name="review")
    assert reactions.drain(as_of=clock.whole_now())["event"] == 1
    assert list(Event.objects.filter(reacted_at=None).values_list("name", flat=True)) == ["visit"]


def test_a_birthday_earns_once_a_year_on_the_day_in_the_shop(points: Programme) -> None:
    rule(points, "birthday", "happy birthday", points=50)
    born = CustomerFactory(birth_date=date(1990, 3, 11))
    leap = CustomerFactory(birth_date=date(1992, 2, 29))
    CustomerFactory(birth_date=None)
    for day in (date(2026, 3, 11), date(2026, 3, 11), date(2026, 2, 28), date(2024, 2, 28), date(2027, 3, 11)):
        if day.year < 2026:
            Customer.objects.update(known_since=datetime(2020, 1, 1, tzinfo=UTC))
        earning.award_for_birthdays(day, low=0, high=2**40)
    assert list(Entry.objects.order_by("effective_at").values_list("customer_id", "key")) == [
        (leap.pk, f"birthday:{leap.pk}:2026"), (born.pk, f"birthday:{born.pk}:2026"),
        (born.pk, f"birthday:{born.pk}:2027"),
    ]  # fmt: skip


def test_the_night_tells_birthdays_of_the_day_that_begins(points: Programme) -> None:
    today = clock.today()
    rule(points, "birthday", "happy birthday", points=50)
    born = CustomerFactory(birth_date=today.replace(year=1980) if (today.month, today.day) != (2, 29) else today)
    night.run(clock.last_complete_day())
    assert Entry.objects.get().customer == born
    assert Entry.objects.get().effective_at == clock.day_start(today)


# --- For whom, as of the moment of the cause ------------------------------------------------------------------------------


def test_a_rule_for_a_tier_asks_which_tier_was_held_at_that_moment(points: Programme) -> None:
    tiers.set_ladder(programme=points, steps=[tiers.Step("Gold", 100)])
    rule(points, "multiplier", "double for Gold", percent=200, tiers=["gold"])
    customer = CustomerFactory()
    TierChange.objects.create(
        programme=points, customer=customer, kind="up", to_tier="gold", counted=100, effective_at=SPRING
    )
    TierChange.objects.create(
        programme=points, customer=customer, kind="down", from_tier="gold", counted=0,
        effective_at=SPRING + timedelta(days=2),
    )  # fmt: skip
    orders = [OrderFactory(customer=customer, placed_at=SPRING + timedelta(days=n)) for n in (-1, 1, 3)]
    earning.award_for_orders([order.pk for order in orders])
    assert given_points() == [49, 98, 49]


def test_a_rule_for_a_segment_asks_who_was_in_it_the_night_before(points: Programme) -> None:
    group = segments.create(name="Friends", kind="static")
    rule(points, "order", "friends", points=11, segment=group)
    inside, outside = CustomerFactory(), CustomerFactory()
    for day, kind in ((9, "entered"), (12, "left")):
        SegmentChange.objects.create(segment=group, customer=inside, kind=kind, business_date=date(2026, 3, day))
    orders = [
        OrderFactory(customer=who, placed_at=SPRING + timedelta(days=n))
        for who in (inside, outside)
        for n in (-1, 0, 3)
    ]
    earning.award_for_orders([order.pk for order in orders])
    assert given_points(customer=inside) == [49, 60, 49]
    assert given_points(customer=outside) == [49, 49, 49]


def test_an_order_earns_by_the_version_that_held_when_it_was_placed(points: Programme) -> None:
    old = rules.in_force(points).get()
    new = rules.edit(rule=old, points=3)
    old.refresh_from_db()
    assert (old.is_current, old.ends_at, new.version, new.key, new.starts_at) == (
        False,
        new.starts_at,
        2,
        "orders",
        old.ends_at,
    )
    before, after = OrderFactory(placed_at=SPRING), OrderFactory(placed_at=clock.now())
    earning.award_for_orders([before.pk, after.pk])
    assert given_points() == [49, 147]


def test_a_stopped_rule_earns_nothing_more(points: Programme) -> None:
    rules.stop(rule=rules.in_force(points).get())
    before, after = OrderFactory(placed_at=SPRING), OrderFactory(placed_at=clock.now())
    earning.award_for_orders([before.pk, after.pk])
    assert given_points() == [49]
    assert not rules.in_force(points).exists()


def test_a_new_rule_does_not_reach_back_unless_it_is_told_to(points: Programme) -> None:
    only(points)
    rules.create(programme=points, kind="order", name="new", points=5)
    earning.award_for_orders([OrderFactory(placed_at=SPRING).pk])
    assert given_points() == []


def test_only_members_earn_in_a_programme_that_one_joins() -> None:
    club = programme.create(name="Club points", joining="asked", term_months=1)
    rule(club, "order", "club", points=9)
    customer = CustomerFactory()
    programme.join(programme=club, customer=customer, joined_at=SPRING)
    orders = [OrderFactory(customer=customer, placed_at=SPRING + timedelta(days=n)) for n in (-1, 1, 40)]
    earning.award_for_orders([order.pk for order in orders])
    assert given_points(programme=club) == [9]


# --- Limits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per", "expected"), [("day", [10, 2, 10, 10]), ("week", [10, 2, 0, 10]), ("month", [10, 2, 0, 0])]
)
def test_a_limit_of_points_counts_within_its_period(points: Programme, per: str, expected: list[int]) -> None:
    only(points)
    rule(points, "order", "for coming", points=10, limit_points=12, limit_per=per)
    customer = CustomerFactory()
    hours = (0, 1, 24, 24 * 7)
    rows = [OrderFactory(customer=customer, placed_at=SPRING + timedelta(hours=n)) for n in hours]
    other = OrderFactory()
    earning.award_for_orders([rows[0].pk, rows[1].pk])
    earning.award_for_orders([*[row.pk for row in rows], other.pk])
    got = {int(one.source_id): one.points for one in Entry.objects.filter(kind="earn")}
    assert [got.get(row.pk, 0) for row in rows] == expected
    assert got[other.pk] == 10
    assert sum(RuleUse.objects.filter(customer=customer).values_list("points", flat=True)) == sum(expected)
    assert "(the limit is reached)" in statements.explain(Entry.objects.get(source_id=str(rows[1].pk)))


def test_a_limit_of_times_and_of_a_multiplier(points: Programme) -> None:
    rule(points, "multiplier", "double twice", percent=200, limit_times=2, limit_per="ever")
    customer = CustomerFactory()
    rows = [OrderFactory(customer=customer, placed_at=SPRING + timedelta(days=n)) for n in range(4)]
    earning.award_for_orders([row.pk for row in rows])
    assert given_points() == [98, 98, 49, 49]
    capped = rules.edit(
        rule=EarningRule.objects.get(kind="multiplier"), limit_times=None, limit_points=120, limit_per="ever"
    )
    assert capped.version == 2
    late = OrderFactory(customer=customer, placed_at=clock.now())
    earning.award_for_orders([late.pk])
    assert given_points(source_id=str(late.pk)) == [49 + 22]
    assert "22 points more: double twice (the limit is reached)." in statements.explain(
        Entry.objects.get(source_id=str(late.pk))
    )


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    amounts=st.lists(st.integers(min_value=1, max_value=20_000), min_size=1, max_size=12),
    cuts=st.lists(st.integers(min_value=1, max_value=5), min_size=12, max_size=12),
    most=st.integers(min_value=1, max_value=300),
    percent=st.integers(min_value=101, max_value=400),
)
def test_any_batches_earn_what_a_plain_loop_says(amounts: list[int], cuts: list[int], most: int, percent: int) -> None:
    """Limits and multipliers against the loop everybody would write, whatever the batches are."""
    of = programme.create(name="Loop", pending_days=0)
    rule(of, "amount", "amount", points=2, per=50, limit_points=most, limit_per="week")
    rule(of, "order", "order", points=3)
    rule(of, "multiplier", "more", percent=percent, weekdays="67")
    customer = CustomerFactory()
    rows = [
        OrderFactory(customer=customer, amount_minor=amount, placed_at=SPRING + timedelta(days=n))
        for n, amount in enumerate(amounts)
    ]
    left, used, expected = list(rows), dict[tuple[int, int], int](), []
    for row in rows:
        day = clock.business_date(row.placed_at)
        week = day.isocalendar()[:2]
        given = min(row.amount_minor // 50 * 2, most - used.get(week, 0))
        used[week] = used.get(week, 0) + given
        base = given + 3
        expected.append(base + (base * (percent - 100) // 100 if day.isoweekday() >= 6 else 0))
    for size in cuts:
        earning.award_for_orders([row.pk for row in left[:size]])
        left = left[size:]
    earning.award_for_orders([row.pk for row in left])
    assert given_points(programme=of, customer=customer) == expected
    account = Account.objects.get(programme=of, customer=customer)
    assert (account.balance, account.pending) == (sum(expected), 0)


def test_a_refund_takes_back_the_multiplied_points_in_proportion(points: Programme) -> None:
    rule(points, "multiplier", "double", percent=200)
    order = OrderFactory(amount_minor=5000)
    earning.award_for_orders([order.pk])
    back = RefundFactory(order=order, amount_minor=2500)
    earning.reverse_for_refunds([back.pk])
    assert Account.objects.get().pending == 50


def test_who_earned_points_that_count_for_tiers_is_looked_at_again(points: Programme) -> None:
    order = OrderFactory()
    earning.award_for_orders([order.pk])
    assert not DirtyCustomer.objects.exists()
    tiers.set_ladder(programme=points, steps=[tiers.Step("Gold", 100)])
    DirtyCustomer.objects.all().delete()
    second = OrderFactory(customer=order.customer)
    earning.award_for_orders([second.pk])
    assert list(DirtyCustomer.objects.values_list("customer_id", flat=True)) == [order.customer_id]


# --- What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"kind": "amount", "points": -1, "per": 100}, "Points must be a whole number"),
        ({"kind": "amount", "points": 0, "per": 100}, "Points must be a whole number"),
        ({"kind": "amount", "points": True, "per": 100}, "Points must be a whole number"),
        ({"kind": "amount", "points": 1}, "for which amount"),
        ({"kind": "amount", "points": 1, "per": 0}, "“For each” must be"),
        ({"kind": "amount", "points": 1, "per": -100}, "“For each” must be"),
        ({"kind": "order", "points": 1, "per": 100}, "belongs to amounts"),
        ({"kind": "order", "points": 1, "subject": "X"}, "about all of them"),
        ({"kind": "order", "points": 1, "property": "km"}, "Only an event"),
        ({"kind": "multiplier", "percent": 100}, "A multiplier gives more"),
        ({"kind": "multiplier", "percent": -200}, "A multiplier gives more"),
        ({"kind": "product", "points": 1}, "Say what it is about"),
        ({"kind": "event", "points": 1}, "Say what it is about"),
        ({"kind": "event", "points": 1, "subject": "flight", "per": 10}, "belongs to amounts"),
        ({"kind": "stage", "points": 1, "subject": "asleep"}, "is no stage"),
        ({"kind": "stars", "points": 1}, "Unknown kind"),
        ({"kind": "order", "points": 1, "weekdays": "8"}, "Weekdays are digits"),
        ({"kind": "order", "points": 1, "dates": ["tomorrow"]}, "is no date"),
        ({"kind": "order", "points": 1, "dates": ["02-30"]}, "is no date"),
        ({"kind": "order", "points": 1, "weekdays": "1", "dates": ["12-24"]}, "not both"),
        ({"kind": "order", "points": 1, "starts_at": SUNDAY, "ends_at": SPRING}, "end before it begins"),
        ({"kind": "order", "points": 1, "tiers": ["gold"]}, "has no tier “gold”"),
        ({"kind": "order", "points": 1, "stages": ["asleep"]}, "has no stage “asleep”"),
        ({"kind": "order", "points": 1, "segment": "nobody"}, "There is no segment"),
        ({"kind": "order", "points": 1, "limit_points": 5}, "in which time"),
        ({"kind": "order", "points": 1, "limit_per": "day"}, "the most points or the most times"),
        ({"kind": "order", "points": 1, "limit_per": "hour", "limit_times": 1}, "A limit is per"),
        ({"kind": "order", "points": 1, "limit_per": "day", "limit_times": 0}, "The most times must be"),
        ({"kind": "first_order", "points": 1, "limit_per": "day", "limit_times": 1}, "one first order"),
        ({"kind": "order", "points": 1, "name": " "}, "needs a name"),
        ({"kind": "order", "points": 1, "colour": "red"}, "has no field “colour”"),
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused_in_one_sentence(
    points: Programme, fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(rules.BadRule, match=sentence):
        rules.create(programme=points, **{"name": "A rule", **fields})
    assert EarningRule.objects.count() == 1


def test_a_rule_needs_a_programme_with_points() -> None:
    card = programme.create(name="Card", kind="card")
    with pytest.raises(rules.BadRule, match="Card has no points"):
        rules.create(programme=card, kind="order", name="A rule", points=1)


def test_a_rule_that_somebody_replaced_meanwhile_is_not_changed(points: Programme) -> None:
    seen = rules.in_force(points).get()
    rules.edit(rule=rules.get(seen.pk), points=2)
    with pytest.raises(rules.RuleChanged):
        rules.edit(rule=seen, points=5)
    with pytest.raises(rules.RuleChanged):
        rules.stop(rule=rules.get(seen.pk))
    assert [one.points for one in EarningRule.objects.order_by("version")] == [1, 2]


def test_an_edit_that_changes_nothing_makes_no_version(points: Programme) -> None:
    seen = rules.in_force(points).get()
    assert rules.edit(rule=seen, points=1) == seen
    assert EarningRule.objects.count() == 1


# --- In words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"kind": "amount", "points": 2, "per": 1000}, "2 points for each US$10.00 of an order."),
        ({"kind": "order", "points": 1, "weekdays": "67"}, "1 point for each order, on Saturday and Sunday."),
        ({"kind": "product", "points": 5, "subject": "BEAN-1"}, "5 points for each piece of the product BEAN-1."),
        ({"kind": "category", "points": 5, "per": 100, "subject": "tea"}, "5 points for each US$1.00 spent on “tea”."),
        ({"kind": "event", "points": 1, "subject": "flight", "property": "km"}, "1 point for each “km” of an event “flight”."),
        ({"kind": "multiplier", "percent": 150, "stages": ["retain"]}, "1.5 times the points of orders, for the stage Retain."),
        (
            {"kind": "review", "points": 30, "limit_times": 2, "limit_per": "month"},
            "30 points for each review, at most 2 times a month.",
        ),
        ({"kind": "stage", "points": 10, "subject": "advocate"}, "10 points for entering the stage Advocate."),
    ],
)  # fmt: skip
def test_a_rule_is_said_in_plain_words(points: Programme, fields: dict[str, Any], sentence: str) -> None:
    with translation.override("en"):
        assert sentences.rule(rule(points, **fields)) == sentence


def test_history_earns_quietly_as_of_its_dates(points: Programme) -> None:
    rule(points, "first_order", "welcome", points=100)
    old = OrderFactory(placed_at=SPRING - timedelta(days=700), is_history=True)
    reactions.drain(as_of=clock.whole_now())
    entry = Entry.objects.get()
    assert (entry.points, entry.effective_at) == (149, old.placed_at)
    assert Order.objects.get().reacted_at is not None
    assert timezone.is_aware(entry.lot.expires_at)


# --- Two that pay for the same ----------------------------------------------------------------------------------------

"""The rules a shop starts with follow its own rhythm, as soon as that can be known."""

from __future__ import annotations

from datetime import timedelta

import pytest

from customers.models import Customer, CustomerFacts, Order
from lifecycle_crm.lib import clock
from stages import presets, rules
from stages.models import RuleSet

pytestmark = pytest.mark.django_db


def buyers(count: int, gap_days: int) -> None:
    now = clock.now()
    people = Customer.objects.bulk_create(Customer(name=f"C{n}") for n in range(count))
    Order.objects.bulk_create(
        Order(
            customer=person, source="t", source_id=f"{person.pk}-{n}", placed_at=now - timedelta(days=n * gap_days + 1),
            currency="USD", amount_minor=1, base_minor=1,
        )
        for person in people
        for n in range(3)
    )  # fmt: skip


def limits(rule_set: RuleSet) -> tuple[int, int]:
    rule = rules.parse(rule_set.rules).by_key("goes_quiet")
    assert rule is not None
    days = next(iter(rule.when.atoms())).days  # type: ignore[attr-defined]
    return days.at_least, days.at_most


@pytest.mark.parametrize(("rhythm", "expected"), [(5, (45, 75)), (30, (45, 90)), (77, (116, 231)), (300, (365, 365))])
def test_it_derives_limits_from_the_rhythm_within_sane_bounds(rhythm: int, expected: tuple[int, int]) -> None:
    data = presets.default_rules(rhythm)
    rules.parse(data)
    quiet = data[0]["when"]["all"][0]["value"]
    assert (quiet["at_least"], quiet["at_most"]) == expected


def test_it_takes_the_median_gap_of_the_shop() -> None:
    buyers(31, 40)
    assert presets.rhythm_days() == (40, 31)
    assert limits(presets.install()) == (60, 120)


def test_it_renews_untouched_default_rules_once_the_rhythm_is_known_and_quietly() -> None:
    buyers(5, 10)
    first = presets.install()
    assert (first.version, limits(first)) == (1, (90, 180))
    assert presets.install(renew=True) == first
    person = Customer.objects.first()
    CustomerFacts.objects.create(customer=person, is_quiet=False, stage="reach", stage_since=clock.now())
    buyers(30, 10)
    assert presets.install() == first
    second = presets.install(renew=True)
    assert (second.version, second.state, limits(second)) == (2, "published", (45, 75))
    first.refresh_from_db()
    assert first.state == "retired"
    row = CustomerFacts.objects.get()
    assert row.is_quiet
    assert row.next_review_at is not None
    assert presets.install(renew=True) == second


def test_it_leaves_rules_alone_that_somebody_published() -> None:
    first = presets.install()
    RuleSet.objects.filter(pk=first.pk).update(state="retired")
    own = RuleSet.objects.create(version=2, name="Own", state="published", rules=first.rules)
    buyers(31, 10)
    assert presets.install(renew=True) == own

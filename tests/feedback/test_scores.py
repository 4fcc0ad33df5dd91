"""NPS as arithmetic, and the numbers that go down into the facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from customers import facts
from customers.models import Customer, CustomerFacts
from feedback import audit, cases, surveys
from feedback.models import Answer, Case, Response
from feedback.scores import ENOUGH, nps, numbers
from lifecycle_crm.lib import clock
from tests.feedback.factories import CustomerFactory, SurveyFactory, invite
from tests.feedback.factories import nps as nps_survey


def split(promoters: int, passives: int, detractors: int) -> dict[int, int]:
    return {10: promoters, 7: passives, 3: detractors}


@pytest.mark.parametrize(
    ("n", "margin"),
    [(50, 20.8), (318, 8.3), (1000, 4.7)],
)
def test_it_gives_the_published_margins_for_58_26_16_per_cent(n: int, margin: float) -> None:
    counts = {score: n * share for score, share in ((9, 0.58), (8, 0.26), (2, 0.16))}
    found = nps(counts)  # type: ignore[arg-type]

    assert found.value == pytest.approx(42)
    assert found.margin == pytest.approx(margin, abs=0.05)


@pytest.mark.parametrize(
    ("counts", "value", "groups"),
    [
        (split(1, 0, 0), 100, (1, 0, 0)),
        (split(0, 1, 0), 0, (0, 1, 0)),
        (split(0, 0, 1), -100, (0, 0, 1)),
        (split(5, 3, 2), 30, (5, 3, 2)),
        (split(2, 3, 5), -30, (2, 3, 5)),
        ({0: 1, 6: 1, 7: 1, 8: 1, 9: 1, 10: 1}, 0, (2, 2, 2)),
        (dict.fromkeys(range(11), 0) | {9: 2, 6: 1}, 100 / 3, (2, 0, 1)),
    ],
)
def test_it_subtracts_detractors_from_promoters(
    counts: dict[int, int], value: float, groups: tuple[int, int, int]
) -> None:
    found = nps(counts)

    assert found.value == pytest.approx(value)
    assert (found.promoters, found.passives, found.detractors) == groups
    assert found.n == sum(groups)


def test_it_says_nothing_without_answers() -> None:
    found = nps({})

    assert (found.n, found.value, found.margin, found.low, found.high) == (0, None, None, None, None)
    assert found.is_enough is False
    assert found.promoter_share == 0.0


def test_it_needs_fifty_answers_but_computes_before() -> None:
    assert ENOUGH == 50
    assert nps(split(49, 0, 0)).is_enough is False
    assert nps(split(49, 0, 0)).value == 100
    assert nps(split(50, 0, 0)).is_enough is True


def test_it_claims_no_certainty_when_everybody_agrees() -> None:
    found = nps(split(60, 0, 0))

    assert found.value == 100
    assert found.margin is not None
    assert 2 < found.margin < 6
    assert found.high == 100
    assert found.low == pytest.approx(100 - found.margin)


@pytest.mark.parametrize("counts", [{11: 1}, {-1: 1}, {5: -1}])
def test_it_refuses_scores_that_are_none(counts: dict[int, int]) -> None:
    with pytest.raises(ValueError, match="Not on the scale"):
        nps(counts)


# --- Facts ------------------------------------------------------------------------------------------------------------


def hand_down_for(*people: Customer, as_of: datetime) -> int:
    facts.mark([one.pk for one in people], occurred_at=as_of - timedelta(days=3650))
    with transaction.atomic(), facts.batch():
        facts.take_dirty_of([one.pk for one in people], as_of=as_of)
        facts.refresh(as_of=as_of)
        return facts.refresh(as_of=as_of, is_due=False, also=numbers(as_of))


def handed_down(customer: Customer) -> tuple[int | None, datetime | None, int]:
    row = CustomerFacts.objects.get(pk=customer.pk)
    return row.nps_score, row.answered_at, row.open_cases


DAY_1 = datetime(2025, 3, 1, 12, tzinfo=UTC)
DAY_2 = datetime(2025, 3, 2, 12, 30, 59, tzinfo=UTC)


def answered(customer: Customer, score: int, at: datetime, source_id: str) -> Response:
    return surveys.record(
        customer=customer, survey=nps_survey(), score=score, answered_at=at, source="test", source_id=source_id
    )


@pytest.mark.django_db
def test_it_hands_down_the_last_answer_before_the_moment_of_decision() -> None:
    anna, bo = CustomerFactory(), CustomerFactory()
    answered(anna, 10, DAY_2, "2")
    answered(anna, 4, DAY_1, "1")

    hand_down_for(anna, bo, as_of=DAY_1)
    assert handed_down(anna) == (None, None, 0)

    hand_down_for(anna, bo, as_of=DAY_1 + timedelta(seconds=1))
    assert handed_down(anna) == (4, DAY_1, 0)
    assert handed_down(bo) == (None, None, 0)

    assert hand_down_for(anna, bo, as_of=DAY_2 + timedelta(days=1)) == 1
    assert handed_down(anna) == (10, DAY_2, 0)

    assert hand_down_for(anna, bo, as_of=DAY_2 + timedelta(days=2)) == 0
    assert audit.problems() == []


@pytest.mark.django_db
def test_it_hands_down_only_recommendation_scores() -> None:
    anna = CustomerFactory()
    surveys.record(
        customer=anna, survey=SurveyFactory(kind="csat"), score=5, answered_at=DAY_1, source="test", source_id="1"
    )

    hand_down_for(anna, as_of=DAY_2)

    assert handed_down(anna) == (None, None, 0)
    assert audit.problems() == []


@pytest.mark.django_db
def test_it_lets_no_later_change_reach_a_past_night(monkeypatch: pytest.MonkeyPatch) -> None:
    link = invite()
    first = surveys.answer(invitation=link, score=3).answered_at
    later = first + timedelta(days=2)
    monkeypatch.setattr(clock, "now", lambda: later)
    surveys.answer(invitation=link, score=9)
    assert Response.objects.get().score == 9

    hand_down_for(link.customer, as_of=later - timedelta(days=1))
    assert handed_down(link.customer) == (3, first.replace(microsecond=0), 0)

    hand_down_for(link.customer, as_of=later + timedelta(seconds=2))
    assert handed_down(link.customer) == (9, later.replace(microsecond=0), 0)


@pytest.mark.django_db
def test_it_counts_the_cases_that_were_open_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    link = invite()
    start = clock.now()
    response = surveys.answer(invitation=link, score=2)
    cases.open_for_responses([response.pk])
    closed_at = start + timedelta(days=1)
    monkeypatch.setattr(clock, "now", lambda: closed_at)
    cases.close(case=Case.objects.get(), outcome="solved")

    for as_of, count in (
        (start - timedelta(seconds=1), 0),
        (start + timedelta(hours=1), 1),
        (closed_at, 1),
        (closed_at + timedelta(seconds=1), 0),
    ):
        hand_down_for(link.customer, as_of=as_of)
        assert handed_down(link.customer)[2] == count

    assert audit.problems() == []


@pytest.mark.django_db
def test_it_finds_facts_that_are_not_the_last_answer() -> None:
    anna = CustomerFactory()
    answered(anna, 10, DAY_1, "1")
    hand_down_for(anna, as_of=DAY_2)
    assert audit.problems() == []

    CustomerFacts.objects.filter(pk=anna.pk).update(nps_score=2)
    assert audit.problems() == [
        f"The facts of customer #{anna.pk} differ from their last score, its moment or their open cases."
    ]

    facts.mark([anna.pk], occurred_at=DAY_2)
    assert audit.problems() == []


@pytest.mark.django_db
def test_it_keeps_every_answer() -> None:
    link = invite()
    surveys.answer(invitation=link, score=3, comment="Slow")
    surveys.answer(invitation=link, score=8, comment="Faster")

    assert list(Answer.objects.order_by("number").values_list("number", "score", "comment")) == [
        (1, 3, "Slow"),
        (2, 8, "Faster"),
    ]

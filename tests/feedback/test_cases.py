"""A low score waits for somebody, until somebody closes it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from customers.models import DirtyCustomer
from feedback import audit, cases, queries, surveys
from feedback.errors import AlreadyRecorded, CaseMoved
from feedback.models import Answer, Case, CaseNote, Response
from feedback.surveys import Given
from lifecycle_crm.accounts.models import Role, User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput, NotFound
from tests.factories import PASSWORD, UserFactory
from tests.feedback.factories import CustomerFactory, SurveyFactory, invite, nps


@pytest.fixture
def case(db: None) -> Case:
    return opened(4)


def opened(score: int, comment: str = "") -> Case:
    response = surveys.answer(invitation=invite(), score=score, comment=comment)
    cases.open_for_responses([response.pk])
    return Case.objects.get(response=response)


@pytest.fixture
def support() -> User:
    return UserFactory(role=Role.SUPPORT, name="Ola")


def signed_in(user: User) -> Client:
    client = Client()
    assert client.login(email=user.email, password=PASSWORD)
    return client


# --- Opening ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("score", range(11))
def test_it_opens_a_case_for_a_detractor_only(score: int) -> None:
    response = surveys.answer(invitation=invite(), score=score)

    assert cases.open_for_responses([response.pk]) == (1 if score <= 6 else 0)
    assert cases.open_for_responses([response.pk]) == 0

    assert Case.objects.count() == (1 if score <= 6 else 0)
    for case in Case.objects.all():
        assert (case.state, case.kind, case.customer_id) == ("open", "detractor", response.customer_id)
        assert case.due_at == response.answered_at + timedelta(hours=48)


@pytest.mark.django_db
def test_it_opens_no_case_for_history_or_for_another_kind_of_survey() -> None:
    customer = CustomerFactory(loaded_at=clock.now())
    past = clock.now() - timedelta(days=400)
    old = surveys.record(customer=customer, survey=nps(), score=1, answered_at=past, source="old", source_id="1")
    other = surveys.record(
        customer=CustomerFactory(), survey=SurveyFactory(), score=1, answered_at=past, source="old", source_id="2"
    )

    assert old.is_history is True
    assert other.is_history is False
    assert cases.open_for_responses([old.pk, other.pk]) == 0
    assert Case.objects.count() == 0
    Response.objects.update(reacted_at=clock.now())
    assert audit.problems() == []


@pytest.mark.django_db
def test_it_keeps_the_case_when_the_answer_becomes_good() -> None:
    link = invite()
    response = surveys.answer(invitation=link, score=2)
    cases.open_for_responses([response.pk])
    surveys.answer(invitation=link, score=9)

    assert cases.open_for_responses([response.pk]) == 0
    assert Case.objects.get().state == "open"
    assert Response.objects.get().score == 9


@pytest.mark.django_db
def test_it_opens_a_case_when_a_good_answer_becomes_bad() -> None:
    link = invite()
    response = surveys.answer(invitation=link, score=9)
    assert cases.open_for_responses([response.pk]) == 0
    surveys.answer(invitation=link, score=2)

    assert cases.open_for_responses([response.pk]) == 1


@pytest.mark.django_db
def test_it_opens_a_closed_case_again_when_the_customer_is_unhappy_again() -> None:
    link = invite()
    response = surveys.answer(invitation=link, score=2)
    cases.open_for_responses([response.pk])
    cases.close(case=Case.objects.get(), outcome="solved")
    assert cases.open_for_responses([response.pk]) == 0

    response = surveys.answer(invitation=link, score=1, comment="Still broken")

    assert cases.open_for_responses([response.pk]) == 1
    assert cases.open_for_responses([response.pk]) == 0
    case = Case.objects.get()
    assert (case.state, case.outcome, case.closed_at) == ("open", "", None)
    assert case.due_at == response.answered_at + timedelta(hours=48)
    assert list(case.notes.order_by("id").values_list("state", flat=True)) == ["open", "closed", "open"]
    assert audit.problems() == []


@pytest.mark.django_db
def test_it_opens_many_in_few_statements(django_assert_max_num_queries: object) -> None:
    survey = nps()
    past = clock.now() - timedelta(hours=1)
    surveys.record_many(
        survey=survey,
        source="shop",
        answers=[Given(CustomerFactory(), n % 11, past, str(n)) for n in range(220)],
    )
    ids = list(Response.objects.values_list("pk", flat=True))

    with django_assert_max_num_queries(12):  # type: ignore[operator]
        assert cases.open_for_responses(ids) == 140

    assert Case.objects.count() == 140
    assert audit.problems() == []


@pytest.mark.django_db
def test_it_opens_a_complaint_without_a_survey(support: User) -> None:
    customer = CustomerFactory()

    case = cases.complain(customer=customer, text="Called: wrong size, twice.", actor=support)

    assert (case.kind, case.state, case.response) == ("complaint", "open", None)
    assert case.due_at == case.created_at + timedelta(hours=24)
    assert case.notes.get().text == "Called: wrong size, twice."
    assert audit.problems() == []
    assert signed_in(support).get(reverse("feedback:case", args=[case.pk])).status_code == 200
    with pytest.raises(InvalidInput):
        cases.complain(customer=customer, text=" ")


# --- Moving -----------------------------------------------------------------------------------------------------------


def test_it_answers_assigns_notes_and_closes(case: Case, support: User) -> None:
    DirtyCustomer.objects.all().delete()
    cases.assign(case=case, assignee=support, actor=support)
    cases.note(case=case, text="Order 812 was late.", actor=support)
    cases.answer(case=case, text="Sorry, a new one is on its way.", actor=support)
    cases.answer(case=case, text="It has arrived, I hope?", actor=support)
    cases.close(case=case, outcome="solved", text="She is happy.", actor=support)

    case.refresh_from_db()
    assert (case.state, case.outcome, case.assignee) == ("closed", "solved", support)
    assert case.answered_at is not None
    assert case.closed_at is not None
    assert list(case.notes.order_by("id").values_list("state", "outcome", "text", "author")) == [
        ("open", "", "", None),
        ("", "", "", support.pk),
        ("", "", "Order 812 was late.", support.pk),
        ("answered", "", "Sorry, a new one is on its way.", support.pk),
        ("", "", "It has arrived, I hope?", support.pk),
        ("closed", "solved", "She is happy.", support.pk),
    ]
    assert DirtyCustomer.objects.filter(customer_id=case.customer_id).count() == 2
    assert audit.problems() == []


def test_it_moves_a_closed_case_no_further(case: Case, support: User) -> None:
    cases.close(case=case, outcome="nothing", actor=support)
    before = Case.objects.values().get(), CaseNote.objects.count()

    for move in (
        lambda: cases.answer(case=case, text="Hello"),
        lambda: cases.close(case=case, outcome="solved"),
        lambda: cases.assign(case=case, assignee=support),
    ):
        with pytest.raises(CaseMoved, match="This case is closed"):
            move()

    assert (Case.objects.values().get(), CaseNote.objects.count()) == before
    cases.note(case=case, text="She wrote again.")
    assert CaseNote.objects.count() == before[1] + 1


def test_it_refuses_what_says_nothing(case: Case) -> None:
    before = Case.objects.values().get(), CaseNote.objects.count()
    gone = UserFactory(is_active=False, name="Gone")

    for refused in (
        lambda: cases.answer(case=case, text="  "),
        lambda: cases.note(case=case, text=""),
        lambda: cases.note(case=case, text="x" * 10_001),
        lambda: cases.close(case=case, outcome="happy"),
        lambda: cases.assign(case=case, assignee=gone),
    ):
        with pytest.raises(InvalidInput):
            refused()

    assert (Case.objects.values().get(), CaseNote.objects.count()) == before


def test_it_holds_its_promises_in_the_database(case: Case) -> None:
    response = case.response
    assert response is not None
    for broken in (
        lambda: Response.objects.filter(pk=response.pk).update(score=11),
        lambda: Response.objects.filter(pk=response.pk).update(kind="csat", score=0),
        lambda: Case.objects.filter(pk=case.pk).update(state="closed"),
        lambda: Case.objects.filter(pk=case.pk).update(outcome="solved"),
        lambda: Case.objects.create(kind="detractor", customer=case.customer, due_at=case.due_at),
        lambda: Case.objects.create(kind="detractor", response=response, customer=case.customer, due_at=case.due_at),
        lambda: Answer.objects.update(score=9),
        lambda: Answer.objects.all().delete(),
        lambda: CaseNote.objects.update(state="closed"),
        lambda: CaseNote.objects.all().delete(),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            broken()

    assert audit.problems() == []


def test_it_can_forget_words_but_not_scores(case: Case) -> None:
    with transaction.atomic():
        Answer.objects.update(comment="", ip=None)
        CaseNote.objects.update(text="")
        Response.objects.update(comment="")

    assert audit.problems() == []


@pytest.mark.django_db
def test_it_lists_what_is_broken() -> None:
    response = surveys.answer(invitation=invite(), score=2)
    Response.objects.update(reacted_at=clock.now())
    assert audit.problems() == [f"Response #{response.pk} is a low score that was worked through and has no case."]

    cases.open_for_responses([response.pk])
    case = Case.objects.get()
    Case.objects.update(state="answered")
    assert audit.problems() == [f"Case #{case.pk} is not in the state of its last move."]

    Case.objects.update(state="open")
    Response.objects.update(score=3)
    assert audit.problems() == [f"Response #{response.pk} is not what its last answer says."]


# --- Answers from elsewhere -------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_it_records_an_answer_from_elsewhere_once() -> None:
    customer, survey = CustomerFactory(language="sv"), nps()
    moment = clock.now() - timedelta(days=3)
    values = {"customer": customer, "survey": survey, "answered_at": moment, "source": "shop", "source_id": "77"}

    first = surveys.record(score=9, comment="Bra", **values)
    again = surveys.record(score=9, comment="Bra", **values)

    assert first == again
    assert (first.score, first.language, first.is_history, first.answered_at) == (9, "sv", False, moment)
    assert (Response.objects.count(), Answer.objects.count(), DirtyCustomer.objects.count()) == (1, 1, 1)
    with pytest.raises(AlreadyRecorded, match="already sent another answer with the id 77"):
        surveys.record(score=2, **values)
    assert Response.objects.get().score == 9


@pytest.mark.django_db
def test_it_refuses_bad_answers_from_elsewhere_and_writes_none_of_them() -> None:
    customer, survey, past = CustomerFactory(), nps(), clock.now() - timedelta(days=1)
    good = Given(customer, 9, past, "1")

    for bad, words in (
        (Given(customer, 11, past, "2"), "Choose a score from 0 to 10."),
        (Given(customer, -1, past, "2"), "Choose a score from 0 to 10."),
        (Given(customer, 9, clock.now() + timedelta(minutes=1), "2"), "in the future"),
        (Given(customer, 9, past, ""), "needs its id"),
        (Given(customer, 9, past, "2", comment="x" * 4001), "too long"),
    ):
        with pytest.raises(InvalidInput, match=words):
            surveys.record_many(survey=survey, source="shop", answers=[good, bad])
    for source in ("", "link", "x" * 41):
        with pytest.raises(InvalidInput, match="needs a source"):
            surveys.record_many(survey=survey, source=source, answers=[good])
    with pytest.raises(NotFound, match="There is no survey “x”"):
        surveys.get("x")

    assert (Response.objects.count(), Answer.objects.count(), DirtyCustomer.objects.count()) == (0, 0, 0)


# --- Pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_it_shows_the_score_only_with_enough_answers(admin_client: Client) -> None:
    survey, past = nps(), clock.now() - timedelta(days=5)
    give = [Given(CustomerFactory(), 9 if n < 29 else 8 if n < 42 else 3, past, str(n)) for n in range(49)]
    surveys.record_many(survey=survey, source="shop", answers=give)

    thin = admin_client.get(reverse("feedback:overview")).content.decode()
    assert "Not enough data yet (49 of 50)" in thin

    surveys.record_many(survey=survey, source="shop", answers=[Given(CustomerFactory(), 3, past, "49")])
    found = queries.overview()
    assert (found.nps.n, found.nps.promoters, found.nps.passives, found.nps.detractors) == (50, 29, 13, 8)
    assert found.nps.value == 42
    assert found.nps.margin == pytest.approx(20.8, abs=0.05)
    body = admin_client.get(reverse("feedback:overview")).content.decode()
    assert "+42" in body
    assert "+21 to +63 · 50 customers" in body
    assert "58% promoters (9–10), 26% passives (7–8), 16% detractors (0–6)." in body


@pytest.mark.django_db
def test_it_counts_each_customer_by_their_last_answer_of_the_period() -> None:
    survey, now, anna = nps(), clock.now(), CustomerFactory()

    def give(days: int, score: int, number: str) -> None:
        surveys.record(
            customer=anna,
            survey=survey,
            score=score,
            answered_at=now - timedelta(days=days),
            source="s",
            source_id=number,
        )

    give(10, 9, "3")
    give(20, 2, "2")
    give(100, 5, "1")

    found = queries.overview(as_of=now)
    assert found.counts == {**dict.fromkeys(range(11), 0), 9: 1}
    assert (found.before.n, found.before.detractors) == (1, 1)
    assert found.change is None
    earlier = queries.overview(as_of=now - timedelta(days=15))
    assert {score: n for score, n in earlier.counts.items() if n} == {2: 1}


@pytest.mark.django_db
def test_it_counts_the_response_rate_of_links() -> None:
    links_made = [invite() for _ in range(4)]
    surveys.answer(invitation=links_made[0], score=9)

    rate = queries.overview(as_of=clock.now() + timedelta(seconds=1)).rate

    assert (rate.invited, rate.answered, rate.share) == (4, 1, 0.25)


def test_it_shows_who_waits_longest_first(case: Case, admin_client: Client) -> None:
    late = opened(0, "Never came")
    Case.objects.filter(pk=late.pk).update(due_at=clock.now() - timedelta(hours=1))
    done = opened(1)
    cases.answer(case=done, text="Sorry")
    Case.objects.filter(pk=done.pk).update(due_at=clock.now() - timedelta(days=9))
    closed = opened(2)
    cases.close(case=closed, outcome="solved")

    assert list(queries.inbox()) == [late, case, done]
    found = queries.overview().cases
    assert (found.waiting, found.open, found.answered, found.late) == (3, 2, 1, 1)
    body = admin_client.get(reverse("feedback:overview")).content.decode()
    assert body.index("Never came") < body.index(reverse("feedback:case", args=[case.pk]))
    only_late = admin_client.get(reverse("feedback:overview"), {"view": "late"})
    assert [one.pk for one in only_late.context["inbox"]] == [late.pk]


@pytest.mark.django_db
def test_it_pages_the_inbox(admin_client: Client) -> None:
    past = clock.now() - timedelta(hours=1)
    surveys.record_many(
        survey=nps(), source="shop", answers=[Given(CustomerFactory(), 1, past, str(n)) for n in range(30)]
    )
    cases.open_for_responses(Response.objects.values_list("pk", flat=True))

    first = admin_client.get(reverse("feedback:overview"))
    assert len(first.context["inbox"]) == 25
    assert "?page=2" in first.content.decode()
    rest = admin_client.get(
        reverse("feedback:overview"), {"page": 2}, headers={"HX-Request": "true", "HX-Target": "tbody#inbox-rows"}
    ).content.decode()
    assert rest.count("<tr>") == 5
    assert "<html" not in rest
    answers = admin_client.get(reverse("feedback:responses"), {"group": "detractor", "page": 2})
    assert len(answers.context["page"]) == 5
    assert admin_client.get(reverse("feedback:responses"), {"score": "2"}).context["page"].paginator.count == 0


@pytest.mark.django_db
def test_it_makes_a_link_for_a_customer_once_a_day(support: User) -> None:
    client, anna = signed_in(support), CustomerFactory(email="Anna@shop.example")
    nps()

    for who in ("anna@SHOP.example", f"#{anna.pk}", str(anna.pk)):
        made = client.post(reverse("feedback:link-create"), {"customer": who, "survey": nps().pk}, follow=True)
        assert made.status_code == 200
        assert "/p/s/" in made.content.decode()
    assert anna.survey_invitations.count() == 1
    assert anna.survey_invitations.get().invited_by == support

    for nobody in ("nobody@shop.example", "999999", "", "9" * 30):
        refused = client.post(reverse("feedback:link-create"), {"customer": nobody, "survey": nps().pk})
        assert refused.status_code == 422
    assert anna.survey_invitations.count() == 1


def test_it_works_a_case_through_its_page(case: Case, support: User) -> None:
    client = signed_in(support)
    page = reverse("feedback:case", args=[case.pk])
    assert client.get(page).status_code == 200

    for name, data in (
        ("assign", {"assign-assignee": support.pk}),
        ("note", {"note-text": "Look at order 812."}),
        ("answer", {"answer-text": "Sorry!"}),
        ("close", {"close-outcome": "offered", "close-text": "Half price."}),
    ):
        assert client.post(reverse(f"feedback:case-{name}", args=[case.pk]), data).status_code == 302

    case.refresh_from_db()
    assert (case.state, case.outcome, case.assignee) == ("closed", "offered", support)
    body = client.get(page).content.decode()
    for words in ("Look at order 812.", "Sorry!", "Half price.", "Made an offer", "Assigned to Ola"):
        assert words in body
    refused = client.post(reverse("feedback:case-close", args=[case.pk]), {"close-outcome": "solved"})
    assert refused.status_code == 409
    assert client.post(reverse("feedback:case-note", args=[case.pk]), {"note-text": ""}).status_code == 422
    assert client.get(reverse("feedback:case", args=[case.pk + 999])).status_code == 404
    assert client.get(reverse("feedback:case", args=[10**30])).status_code == 404
    assert client.get(reverse("feedback:responses"), {"score": "9" * 30}).status_code == 200
    case.refresh_from_db()
    assert case.outcome == "offered"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ANALYST])
def test_it_shows_readers_everything_and_lets_them_change_nothing(case: Case, role: str) -> None:
    client = signed_in(UserFactory(role=role))

    assert client.get(reverse("feedback:overview")).status_code == 200
    assert "Needs" not in client.get(reverse("feedback:case", args=[case.pk])).content.decode()
    for name, data in (
        ("assign", {"assign-assignee": ""}),
        ("note", {"note-text": "x"}),
        ("answer", {"answer-text": "x"}),
        ("close", {"close-outcome": "solved"}),
    ):
        assert client.post(reverse(f"feedback:case-{name}", args=[case.pk]), data).status_code == 403
    assert client.post(reverse("feedback:link-create"), {"customer": case.customer_id}).status_code == 403
    assert CaseNote.objects.count() == 1


def test_it_shows_strangers_nothing(case: Case) -> None:
    for name, args in (("overview", []), ("responses", []), ("case", [case.pk])):
        answer = Client().get(reverse(f"feedback:{name}", args=args))
        assert answer.status_code == 302
        assert answer["Location"].startswith("/sign-in/")


def test_it_reads_all_of_one_customer(case: Case) -> None:
    found = queries.for_customer(case.customer_id)

    assert (len(found.responses), found.cases, found.open_cases, found.invitations) == (1, [case], [case], [])
    waiting = invite()
    assert queries.for_customer(waiting.customer_id).invitations == [waiting]


@pytest.mark.django_db
@pytest.mark.parametrize("model", ["survey", "invitation", "response", "answer", "case", "casenote"])
def test_it_shows_every_table_in_the_admin(case: Case, admin_client: Client, model: str) -> None:
    address = reverse(f"admin:feedback_{model}_changelist")

    assert admin_client.get(address).status_code == 200
    assert admin_client.get(address, {"q": "customer"}).status_code == 200
    row = Case._meta.apps.get_model("feedback", model).objects.first()
    page = admin_client.get(reverse(f"admin:feedback_{model}_change", args=[row.pk]))
    assert page.status_code == 200
    assert getattr(row, "nonce", "no nonce") not in page.content.decode()

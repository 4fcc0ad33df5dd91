"""The page a customer answers on: links, languages, changes, machines and attacks."""

from __future__ import annotations

import re
import secrets
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from customers.models import DirtyCustomer
from feedback import links, surveys
from feedback.errors import LinkGone, SurveyNotOpen
from feedback.models import Answer, Invitation, Response, Survey
from lifecycle_crm.lib import clock
from tests.feedback.factories import CustomerFactory, invite, nps

GONE = "This link is no longer valid. Ask for a new one."


@pytest.fixture
def visitor() -> Client:
    """A customer's browser: no cookies, and CSRF checks as in production."""
    return Client(enforce_csrf_checks=True)


def chosen(body: str) -> list[str]:
    """The scores that are marked on a page."""
    radios = re.finditer(r'<input type="radio"[^>]*value="(\d+)"[^>]*>', body)
    return [tag.group(1) for tag in radios if " checked" in tag.group(0)]


@pytest.mark.django_db
def test_it_takes_an_answer_and_thanks(visitor: Client) -> None:
    link = invite()
    path = links.survey_path(link)

    asked = visitor.get(path)
    assert asked.status_code == 200
    assert "How likely are you to recommend Test shop to a friend or colleague?" in asked.content.decode()
    assert asked["X-Robots-Tag"] == "noindex, nofollow"
    assert "no-store" in asked["Cache-Control"]
    assert chosen(asked.content.decode()) == []

    sent = visitor.post(path, {"score": "4", "comment": "Late twice."})
    assert (sent.status_code, sent["Location"]) == (302, f"{path}?lang=en")

    thanks = visitor.get(sent["Location"]).content.decode()
    assert "Thank you for your answer" in thanks
    assert "Late twice." in thanks
    assert "within two days" in thanks
    response = Response.objects.get()
    assert (response.score, response.comment, response.language) == (4, "Late twice.", "en")
    assert (response.customer_id, response.survey_id, response.source) == (link.customer_id, link.survey_id, "link")
    assert (response.is_history, response.reacted_at, response.answer_count) == (False, None, 1)
    assert Answer.objects.get().ip == "127.0.0.1"
    assert list(DirtyCustomer.objects.values_list("customer_id", "is_history")) == [(link.customer_id, False)]


@pytest.mark.django_db
def test_it_needs_no_sign_in_and_no_cookie(visitor: Client) -> None:
    path = links.survey_path(invite())

    assert visitor.get(path).cookies == {}
    assert visitor.post(path, {"score": "9"}).cookies == {}
    assert Response.objects.get().score == 9


@pytest.mark.django_db
@pytest.mark.parametrize("score", ["9", "0"])
def test_it_only_preselects_the_score_of_a_link(visitor: Client, score: str) -> None:
    body = visitor.get(links.survey_path(invite()), {"score": score}).content.decode()

    assert chosen(body) == [score]
    assert Response.objects.count() == 0


@pytest.mark.django_db
def test_it_ignores_a_preselected_score_off_the_scale(visitor: Client) -> None:
    for score in ("11", "-1", "x", "", "²", '"><script>'):
        body = visitor.get(links.survey_path(invite()), {"score": score}).content.decode()
        assert chosen(body) == []
        assert "<script>" not in body


@pytest.mark.django_db
def test_it_answers_expired_forged_and_closed_links_alike(visitor: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    link = invite()
    good = links.token(link)
    other_half = links.token(invite(key="order:2"))[22:]
    forged = [
        "x",
        "a" * 44,
        good[:-1],
        good + "A",
        good[:22] + other_half,
        good.swapcase(),
        secrets.token_urlsafe(33),
        "é" * 44,
    ]
    bodies = set()
    for token in forged:
        for answer in (
            visitor.get(reverse("feedback:survey", args=[token])),
            visitor.post(reverse("feedback:survey", args=[token]), {"score": "9"}),
        ):
            assert answer.status_code == 410
            assert GONE in answer.content.decode()
            bodies.add(answer.content)

    Survey.objects.update(state="closed")
    bodies.add(visitor.post(links.survey_path(link), {"score": "9"}).content)
    Survey.objects.update(state="active")
    monkeypatch.setattr(clock, "now", lambda: link.expires_at)
    for answer in (visitor.get(links.survey_path(link)), visitor.post(links.survey_path(link), {"score": "9"})):
        assert answer.status_code == 410
        bodies.add(answer.content)

    assert len(bodies) == 1
    assert Response.objects.count() == 0


@pytest.mark.django_db
def test_it_asks_the_database_nothing_about_a_guess() -> None:
    invite()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        for _ in range(2000):
            with pytest.raises(LinkGone):
                links.find(secrets.token_urlsafe(33))

    assert len(queries) == 0


@pytest.mark.django_db
def test_it_opens_links_made_under_the_key_before(settings: Any) -> None:
    link = invite()
    token = links.token(link)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another-key-" + "y" * 40, [settings.SECRET_KEY]

    assert links.find(token) == link

    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(LinkGone):
        links.find(token)


@pytest.mark.django_db
def test_it_lets_an_answer_be_changed_while_the_link_is_open(visitor: Client) -> None:
    link = invite()
    path = links.survey_path(link)
    visitor.post(path, {"score": "3", "comment": "Slow"})
    Response.objects.update(reacted_at=clock.now())

    form = visitor.get(f"{path}?change").content.decode()
    assert chosen(form) == ["3"]
    assert "Slow" in form
    assert chosen(visitor.get(f"{path}?score=10").content.decode()) == ["10"]

    visitor.post(path, {"score": "9", "comment": "All is well"})

    response = Response.objects.get()
    assert (response.score, response.comment, response.answer_count) == (9, "All is well", 2)
    assert response.first_answered_at < response.answered_at
    assert response.reacted_at is None
    assert list(Answer.objects.order_by("id").values_list("number", "score")) == [(1, 3), (2, 9)]


@pytest.mark.django_db
def test_it_changes_nothing_when_the_same_answer_comes_again(visitor: Client) -> None:
    path = links.survey_path(invite())
    visitor.post(path, {"score": "3", "comment": "Slow"})
    before = Response.objects.values().get()

    for _ in range(5):
        assert visitor.post(path, {"score": "3", "comment": " Slow\r\n"}).status_code == 302

    assert Response.objects.values().get() == before
    assert Answer.objects.count() == 1
    assert DirtyCustomer.objects.count() == 1


@pytest.mark.django_db
def test_it_stops_a_machine_that_keeps_changing(visitor: Client) -> None:
    path = links.survey_path(invite())
    answers = [visitor.post(path, {"score": str(n % 11), "comment": str(n)}).status_code for n in range(60)]

    assert answers == [302] * surveys.MAX_ANSWERS + [429] * (60 - surveys.MAX_ANSWERS)
    assert Response.objects.count() == 1
    assert Answer.objects.count() == surveys.MAX_ANSWERS
    assert Response.objects.get().comment == str(surveys.MAX_ANSWERS - 1)


@pytest.mark.django_db
@pytest.mark.parametrize("score", ["", "11", "-1", "nine", "9.5", "²"])
def test_it_asks_again_for_a_score_off_the_scale(visitor: Client, score: str) -> None:
    path = links.survey_path(invite())

    again = visitor.post(path, {"score": score, "comment": "My words"})

    assert again.status_code == 422
    body = again.content.decode()
    assert "Choose a score from 0 to 10." in body
    assert "My words" in body
    assert Response.objects.count() == 0


@pytest.mark.django_db
def test_it_refuses_a_comment_that_is_too_long(visitor: Client) -> None:
    path = links.survey_path(invite())

    assert visitor.post(path, {"score": "9", "comment": "x" * 4001}).status_code == 422
    assert Response.objects.count() == 0
    assert visitor.post(path, {"score": "9", "comment": "x" * 4000}).status_code == 302


@pytest.mark.django_db
def test_it_stores_what_no_database_could() -> None:
    response = surveys.answer(invitation=invite(), score=9, comment="a\x00b 🙂 \u202e")

    response.refresh_from_db()
    assert response.comment == "ab 🙂 \u202e"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("language", "question", "thanks"),
    [
        ("sv", "Hur troligt är det att du skulle rekommendera Test shop", "Tack för ditt svar"),
        ("nb", "Hvor sannsynlig er det at du vil anbefale Test shop", "Takk for svaret ditt"),
        ("no-NO", "Hvor sannsynlig er det at du vil anbefale Test shop", "Takk for svaret ditt"),
        ("pl", "Na ile prawdopodobne jest, że polecisz Test shop", "Dziękujemy za odpowiedź"),
        ("cs", "Jak pravděpodobné je, že byste Test shop doporučili", "Děkujeme za odpověď"),
        ("en-GB", "How likely are you to recommend Test shop", "Thank you for your answer"),
        ("de", "How likely are you to recommend Test shop", "Thank you for your answer"),
        ("", "How likely are you to recommend Test shop", "Thank you for your answer"),
    ],
)
def test_it_speaks_the_language_of_the_customer(visitor: Client, language: str, question: str, thanks: str) -> None:
    link = invite(language=language[:5])
    path = links.survey_path(link)

    asked = visitor.get(path, headers={"Accept-Language": "pl"})
    body = asked.content.decode()
    assert question in body
    assert f'<html lang="{link.language}"' in body
    assert asked["Content-Language"] == link.language

    visitor.post(path, {"score": "9", "lang": link.language})
    assert thanks in visitor.get(path).content.decode()
    assert Response.objects.get().language == link.language


@pytest.mark.django_db
def test_it_can_be_read_and_answered_in_another_language(visitor: Client) -> None:
    path = links.survey_path(invite(language="sv"))

    body = visitor.get(path, {"lang": "cs"}).content.decode()
    assert "Jak pravděpodobné" in body
    assert 'name="lang" value="cs"' in body
    assert "Hur troligt" in visitor.get(path, {"lang": "xx"}).content.decode()

    sent = visitor.post(path, {"score": "9", "lang": "cs"})
    assert sent["Location"] == f"{path}?lang=cs"
    assert Response.objects.get().language == "cs"


def test_it_falls_back_to_a_language_that_has_the_text(settings: Any) -> None:
    survey = Survey(kind="nps", texts={"pl": {"question": "Po polsku"}, "en": {"question": "In English"}})

    assert survey.text("question", "cs") == "In English"
    settings.LANGUAGE_CODE = "pl"
    assert survey.text("question", "cs") == "Po polsku"
    assert survey.text("thanks", "cs") == ""
    assert Survey(kind="nps", texts={"xx": {"question": "Only"}}).text("question", "cs") == "Only"


PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</textarea><script>alert(1)</script>",
    "'-alert(1)-'",
    "{{ 7|add:7 }}{% debug %}",
    "<svg/onload=alert(1)>",
    "javascript:alert(1)",
]


@pytest.mark.django_db
@pytest.mark.parametrize("payload", PAYLOADS)
def test_it_shows_hostile_words_as_words(visitor: Client, admin_client: Client, payload: str) -> None:
    from feedback import cases

    customer = CustomerFactory(name=payload[:100])
    link = invite(customer)
    path = links.survey_path(link)
    visitor.post(path, {"score": "2", "comment": payload})
    cases.open_for_responses([Response.objects.get().pk])
    case = Response.objects.get().case
    cases.answer(case=case, text=payload)

    for client, address in (
        (visitor, path),
        (visitor, f"{path}?change"),
        (admin_client, reverse("feedback:overview")),
        (admin_client, reverse("feedback:responses")),
        (admin_client, reverse("feedback:case", args=[case.pk])),
    ):
        body = client.get(address).content.decode()
        assert "<script>alert" not in body
        assert "<img src=x" not in body
        assert "<svg/onload" not in body
        assert "{{" not in payload or "{{ 7|add:7 }}" in body
        assert 'href="javascript:' not in body


# --- Inviting ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_it_invites_once_per_occasion() -> None:
    customer = CustomerFactory()
    first = invite(customer, key="order:1")

    assert invite(customer, key="order:1") == first
    assert invite(customer, key="order:2") != first
    assert invite(key="order:1") != first
    assert Invitation.objects.count() == 3
    assert first.expires_at - first.created_at == timedelta(days=30)
    assert links.survey_url(first) == f"http://127.0.0.1:8000/p/s/{links.token(first)}/"
    assert len(first.nonce) == 22


@pytest.mark.django_db
def test_it_invites_nobody_to_a_survey_that_is_not_active() -> None:
    survey = nps()
    Survey.objects.update(state="draft")
    survey.refresh_from_db()

    with pytest.raises(SurveyNotOpen, match="is not active"):
        surveys.invite(customer=CustomerFactory(), survey=survey, key="order:1")

    assert Invitation.objects.count() == 0


@pytest.mark.django_db
def test_it_installs_the_first_survey_in_five_languages() -> None:
    survey = Survey.objects.get(key="nps")

    assert (survey.kind, survey.state, survey.scale) == ("nps", "active", (0, 10))
    assert set(survey.texts) == {"en", "sv", "nb", "pl", "cs"}
    assert all(set(texts) == {"question", "low", "high", "comment", "thanks"} for texts in survey.texts.values())


@pytest.mark.django_db
def test_it_has_no_migration_missing() -> None:
    call_command("makemigrations", "feedback", "--check", "--dry-run", verbosity=0)

"""Sign-up forms through both doors: the stranger's two pages, the team's pages, and the API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from campaigns.models import SignUp, SignUpForm
from campaigns.signups import asking, editing, mailing
from customers.models import Consent, Customer
from lifecycle_crm.accounts.models import ApiKey
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


@pytest.fixture
def form() -> SignUpForm:
    return editing.create(name="News", tag="news")


def address(form: SignUpForm) -> str:
    return reverse("campaigns:sign-up", args=[form.key])


def link(row: SignUp) -> str:
    return asking.confirm_url(row).partition("8000")[2]


def said(page: Any) -> str:
    text: str = page.content.decode()
    return text


# --- The stranger -----------------------------------------------------------------------------------------------------


def test_a_stranger_signs_up_in_their_language_without_a_cookie(form):
    strict = Client(enforce_csrf_checks=True)
    page = strict.get(address(form) + "?lang=en")
    assert (page.status_code, page["Content-Language"], page["X-Robots-Tag"]) == (200, "en", "noindex, nofollow")
    assert "News from Test shop" in said(page)
    assert "with one press in every mail" in said(page)
    assert not page.cookies
    sent = strict.post(
        address(form), {"email": "eva@shop.example", "lang": "sv"}, HTTP_ORIGIN="https://elsewhere.example"
    )
    assert (sent.status_code, sent["Content-Language"]) == (200, "sv")
    assert "eva@shop.example" in said(sent)
    assert not sent.cookies
    row = SignUp.objects.get()
    assert (row.language, row.ip, row.source) == ("sv", "127.0.0.1", "page")


def test_the_answer_does_not_tell_whether_we_knew_the_address(form):
    first = said(Client().post(address(form), {"email": "eva@shop.example"}))
    asking.confirm(token=link(SignUp.objects.get()).rstrip("/").rpartition("/")[2])
    assert said(Client().post(address(form), {"email": "eva@shop.example"})) == first


def test_a_robot_that_fills_in_everything_is_thanked_and_forgotten(form):
    page = Client().post(address(form), {"email": "eva@shop.example", "website": "https://spam.example"})
    assert (page.status_code, SignUp.objects.count()) == (200, 0)


@pytest.mark.parametrize("email", ["", "eva", "eva@shop.example\r\nBcc: x@shop.example", "x" * 250 + "@shop.example"])
def test_what_is_no_address_gets_a_sentence_and_stays_typed(form, email):
    page = Client().post(address(form), {"email": email, "lang": "pl"})
    assert (page.status_code, SignUp.objects.count()) == (422, 0)
    assert 'role="alert"' in said(page)


def test_a_form_that_is_not_there_or_has_ended_is_gone(form):
    assert Client().get("/p/join/nothing/").status_code == 410
    editing.archive(form=form)
    assert Client().get(address(form)).status_code == 410
    assert Client().post(address(form), {"email": "eva@shop.example"}).status_code == 410


def test_one_computer_signs_up_so_many_a_minute_and_no_more(form):
    codes = [Client().post(address(form), {"email": f"p{n}@shop.example"}).status_code for n in range(21)]
    assert (codes[:20], codes[20], SignUp.objects.count()) == ([200] * 20, 429, 20)


def test_a_scanner_that_presses_the_link_confirms_nothing_and_the_button_does(form):
    Client().post(address(form), {"email": "eva@shop.example"})
    row = SignUp.objects.get()
    for method in ("get", "head"):
        assert getattr(Client(), method)(link(row)).status_code == 200
    assert not Customer.objects.exists()
    assert "Yes, sign me up" in said(Client().get(link(row) + "?lang=en"))
    for _n in range(2):
        done = Client(enforce_csrf_checks=True).post(link(row), {"lang": "en"})
        assert (done.status_code, "You are in" in said(done)) == (200, True)
    assert (Customer.objects.count(), Consent.objects.count()) == (1, 1)
    assert Client().post("/p/join/yes/1~forged/").status_code == 410


# --- The team ---------------------------------------------------------------------------------------------------------


def test_a_marketer_makes_a_form_writes_its_words_and_sees_who_signed_up(marketer):
    made = marketer.post(reverse("campaigns:sign-up-new"), {"name": "Spring", "tag": "spring", "asks_name": "on"})
    form = SignUpForm.objects.get()
    assert (made.url, form.created_by, form.asks_name) == (
        reverse("campaigns:sign-up-form", args=["spring"]),
        marketer.user,
        True,
    )
    words = reverse("campaigns:sign-up-words", args=["spring", "sv"])
    marketer.post(words, {"title": "Vår", "text": "Nytt i vår.", "consent": "Ja.", "thanks": "Tack!"})
    assert "Nytt i vår." in said(Client().get("/p/join/spring/?lang=sv"))
    refused = marketer.post(words, {"title": "", "text": "Nytt", "consent": "Ja.", "thanks": "Tack!"})
    assert refused.status_code == 422
    asking.ask(form=form, email="eva@shop.example", language="sv", given_name="Eva")
    page = said(marketer.get(made.url))
    assert "http://127.0.0.1:8000/p/join/spring/" in page
    assert "eva@shop.example" in page
    assert "1 person asked in the last 28 days, 0 of them confirmed." in page
    assert "eva@shop.example" not in said(marketer.get(made.url + "?state=confirmed"))
    marketer.post(reverse("campaigns:sign-up-settings", args=["spring"]), {"name": "Autumn", "tag": ""})
    form.refresh_from_db()
    assert (form.name, form.tag, form.asks_name, form.key) == ("Autumn", "", False, "spring")
    marketer.post(reverse("campaigns:sign-up-act", args=["spring", "archive"]))
    assert "Autumn" not in said(marketer.get(reverse("campaigns:sign-ups")))
    assert "Autumn" in said(marketer.get(reverse("campaigns:sign-ups") + "?archived=1"))
    marketer.post(reverse("campaigns:sign-up-act", args=["spring", "open"]))
    assert "Autumn" in said(marketer.get(reverse("campaigns:sign-ups")))


def test_where_mail_stays_here_the_team_can_open_the_page_with_the_button(form, marketer):
    row = asking.ask(form=form, email="eva@shop.example", language="en")
    assert mailing.send_due() == {"asked": 1}
    assert asking.confirm_url(row) in said(marketer.get(reverse("campaigns:sign-up-form", args=["news"])))


def test_with_a_mail_server_only_the_mailbox_has_the_link(form, marketer, smtp):
    row = asking.ask(form=form, email="eva@shop.example", language="en")
    mailing.send_due()
    assert asking.confirm_url(row) not in said(marketer.get(reverse("campaigns:sign-up-form", args=["news"])))


def test_who_may_not_steer_changes_nothing_and_who_may_not_see_contacts_sees_none(form, client):
    asking.ask(form=form, email="eva@shop.example", language="en")
    client.force_login(UserFactory(role="viewer"))
    page = said(client.get(reverse("campaigns:sign-up-form", args=["news"])))
    assert "eva@shop.example" not in page
    assert "Archive</button>" not in page
    for name, arguments in (
        ("sign-up-new", []), ("sign-up-settings", ["news"]), ("sign-up-words", ["news", "sv"]),
        ("sign-up-act", ["news", "archive"]),
    ):  # fmt: skip
        assert client.post(reverse(f"campaigns:{name}", args=arguments), {"name": "x"}).status_code == 403
    assert client.get("/api/v1/sign-ups/").json()["results"][0]["email"] == ""
    form.refresh_from_db()
    assert (form.name, form.archived_at) == ("News", None)


def test_the_list_costs_the_same_for_many(form, marketer, django_assert_max_num_queries):
    for n in range(8):
        asking.ask(form=editing.create(name=f"Form {n}"), email="eva@shop.example", language="en")
    with django_assert_max_num_queries(9):
        marketer.get(reverse("campaigns:sign-ups"))


# --- The API ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def api(client: Any) -> Any:
    secret = ApiKey.issue(name="shop", scopes=["signups:read", "signups:write"])[1]

    def call(method: str, path: str, body: Any = None) -> Any:
        return client.generic(
            method, f"/api/v1/{path}", json.dumps(body) if body is not None else "", content_type="application/json",
            headers={"Authorization": f"Bearer {secret}"},
        )  # fmt: skip

    return call


def test_a_shop_signs_people_up_from_its_own_pages(form, api):
    body = {"form": "news", "email": "eva@shop.example", "language": "cs", "ip": "2001:db8::1"}
    made = api("POST", "sign-ups/", body)
    assert (made.status_code, made.json()["state"], made.json()["customer"]) == (202, "waiting", None)
    assert api("POST", "sign-ups/", body).json()["id"] == made.json()["id"]
    row = SignUp.objects.get()
    assert (row.source, row.ip, row.language) == ("api", "2001:db8::1", "cs")
    assert not Customer.objects.exists()
    asking.confirm(token=link(row).rstrip("/").rpartition("/")[2])
    [found] = api("GET", "sign-ups/?form=news&state=confirmed").json()["results"]
    assert (found["customer"], found["email"]) == (Customer.objects.get().pk, "eva@shop.example")


@pytest.mark.parametrize(
    "body, code",
    [({"form": "nothing", "email": "a@b.example"}, 400), ({"form": "news", "email": "eva"}, 422),
     ({"form": "news"}, 400), ({"form": "news", "email": "a@b.example", "language": "xx"}, 400)],
)  # fmt: skip
def test_the_api_refuses_with_a_problem_and_writes_nothing(form, api, body, code):
    answer = api("POST", "sign-ups/", body)
    assert (answer.status_code, answer["Content-Type"]) == (code, "application/problem+json")
    assert not SignUp.objects.exists()


def test_forms_are_made_and_changed_over_the_api(api):
    made = api("POST", "sign-up-forms/", {"name": "Spring", "tag": "spring"})
    assert (made.status_code, made.json()["address"]) == (201, "http://127.0.0.1:8000/p/join/spring/")
    assert set(made.json()["words"]) == {"en", "sv", "nb", "pl", "cs"}
    assert api("PATCH", "sign-up-forms/spring/", {"asks_name": True}).json()["tag"] == "spring"
    words = {"language": "pl", "title": "Wiosna", "text": "Nowe.", "consent": "Tak.", "thanks": "Dzięki!"}
    assert api("POST", "sign-up-forms/spring/words/", words).json()["words"]["pl"]["title"] == "Wiosna"
    assert api("POST", "sign-up-forms/spring/archive/").json()["archived_at"]
    assert api("POST", "sign-ups/", {"form": "spring", "email": "a@b.example"}).status_code == 410
    assert api("POST", "sign-up-forms/spring/bring-back/").json()["archived_at"] is None
    assert api("POST", "sign-up-forms/", {"name": "Other", "key": "spring"}).status_code == 409

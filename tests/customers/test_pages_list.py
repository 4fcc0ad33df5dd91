"""The list of customers: what it finds, in which order, how many, and who may see what."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from customers import queries
from customers.models import Customer, CustomerFacts
from lifecycle_crm.lib import clock
from tests.customers.factories import CustomerFactory
from tests.dashboard.factories import move
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


def person(name: str = "Åsa Öberg", *, facts: dict[str, Any] | None = None, **fields: Any) -> Customer:
    customer = CustomerFactory(name=name, **fields)
    if facts is not None:
        CustomerFacts.objects.create(customer=customer, **facts)
    return customer


@pytest.fixture
def owner(client: Client) -> Client:
    client.force_login(UserFactory(role="owner"))
    return client


def names(client: Client, query: str = "") -> list[str]:
    return [one.name for one in client.get(f"/customers/{query}").context["customers"]]


# --- Finding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["malmo", "Malmö", "LODZ oberg", "öberg", "asa@example.org", "4670"])
def test_it_finds_by_any_words_without_accents(owner: Client, words: str) -> None:
    person("Åsa Öberg", email="asa@example.org", phone="+46701234567", city="Malmö Łódź")
    person("Kim Lind", email="kim@example.org", city="Oslo")
    assert names(owner, f"?q={words.replace('+', '%2B')}") == ["Åsa Öberg"]


def test_it_finds_by_the_customers_number(owner: Client) -> None:
    found = person("Åsa Öberg")
    person("Kim Lind")
    assert names(owner, f"?q=%23{found.pk}") == ["Åsa Öberg"]


@pytest.mark.parametrize("words", ["100%", "a_b", "\\", "' OR 1=1 --", "#99999999999999999999", "%00"])
def test_it_takes_any_words_as_they_are(owner: Client, words: str) -> None:
    person("Åsa Öberg")
    response = owner.get("/customers/", {"q": words})
    assert response.status_code in (200, 400)
    assert list(response.context["customers"]) == []


@pytest.mark.parametrize(
    "query, found",
    [
        ("?stage=dormant", ["Dormant"]),
        ("?stage=dormant&stage=retain", ["Retain", "Dormant"]),
        ("?stage=new", ["Unplaced"]),
        ("?country=SE", ["Retain"]),
        ("?language=pl", ["Dormant"]),
        ("?consent=yes", ["Retain"]),
        ("?consent=no", ["Dormant", "Unplaced"]),
        ("?tag=vip", ["Retain"]),
        ("?tag=vi", []),
        ("?last_min=100", ["Dormant"]),
        ("?last_max=100", ["Retain"]),
        ("?orders_min=2&orders_max=5", ["Retain"]),
        ("?orders_max=1", ["Dormant"]),
        ("?spend_min=99.99", ["Retain"]),
        ("?spend_max=99.99", ["Dormant"]),
        ("?points_min=10", ["Retain"]),
        ("?nps=promoter", ["Retain"]),
        ("?nps=detractor", ["Dormant"]),
        ("?nps=none", ["Unplaced"]),
        ("?r_min=3", ["Retain"]),
        ("?r_max=2&m_min=1", ["Dormant"]),
    ],
)
def test_it_filters(owner: Client, query: str, found: list[str]) -> None:
    now = clock.now()
    person(
        "Retain",
        country="SE",
        tags=["vip", "press"],
        facts={
            "stage": "retain", "orders": 3, "spend_minor": 10_000, "last_order_at": now - timedelta(days=10),
            "may_email": True, "points": 10, "nps_score": 9, "recency": 5, "frequency": 4, "monetary": 3,
        },
    )  # fmt: skip
    person(
        "Dormant",
        country="PL",
        language="pl",
        facts={
            "stage": "dormant", "orders": 1, "spend_minor": 500, "last_order_at": now - timedelta(days=200),
            "nps_score": 6, "recency": 1, "frequency": 1, "monetary": 1,
        },
    )  # fmt: skip
    person("Unplaced")
    assert names(owner, query) == found


def test_one_move_must_match_all_of_the_move_filters(owner: Client) -> None:
    today = clock.today()
    both = person("Both", facts={})
    move(both, "nurture", "retain", today - timedelta(days=40))
    move(both, "retain", "dormant", today - timedelta(days=3))
    fresh = person("Fresh", facts={})
    move(fresh, "", "reach", today - timedelta(days=3))

    assert names(owner, "?moved_from=retain&moved_to=dormant&moved_days=7") == ["Both"]
    assert names(owner, "?moved_from=nurture&moved_days=7") == []
    assert names(owner, "?moved_from=new") == ["Fresh"]
    day = today - timedelta(days=40)
    assert names(owner, f"?moved_since={day}&moved_until={day}") == ["Both"]


def test_a_value_that_cannot_be_read_is_said_at_its_field_and_shows_nobody(owner: Client) -> None:
    person()
    response = owner.get("/customers/?orders_min=many&stage=retired")
    assert response.status_code == 400
    assert set(response.context["form"].errors) == {"orders_min", "stage"}
    assert list(response.context["customers"]) == []


# --- Order and pages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sort", [f"{sign}{key}" for key in queries.SORTS for sign in ("", "-")])
def test_every_order_shows_everybody_once_with_the_unknown_last(sort: str) -> None:
    now = clock.now()
    for n in range(25):
        moment = now - timedelta(days=n // 3)
        person(
            f"Name {n % 4}",
            facts={
                "orders": n % 3, "spend_minor": n % 5, "points": n % 2,
                "last_order_at": moment if n % 4 else None, "stage_since": moment if n % 5 else None,
            },
        )  # fmt: skip
    for _n in range(4):
        person("Name 9")

    shown: list[Customer] = []
    cursor = ""
    for _page in range(12):
        part = queries.slice_of(queries.people(), sort=sort, cursor=cursor, size=3)
        shown += part.rows
        cursor = part.next
        if not cursor:
            break
    assert not cursor
    assert sorted(one.pk for one in shown) == sorted(Customer.objects.values_list("pk", flat=True))
    by, is_down = queries.read_sort(sort)
    values = [queries._value(one, by) for one in shown]
    known = [value for value in values if value is not None]
    assert values[len(known) :] == [None] * (len(values) - len(known))
    assert known == sorted(known, reverse=is_down)


def test_more_rows_come_as_a_fragment_with_the_next_link(owner: Client) -> None:
    for n in range(queries.PAGE_SIZE + 2):
        person(f"Name {n:03}", facts={})
    first = owner.get("/customers/?sort=name")
    assert len(first.context["customers"]) == queries.PAGE_SIZE
    more = owner.get(
        f"/customers/{first.context['next_url']}",
        headers={"HX-Request": "true", "HX-Target": "tbody#customer-rows"},
    )
    text = more.content.decode()
    assert re.findall(r"Name \d+", text) == ["Name 050", "Name 051"]
    assert text.lstrip().startswith("<tr")
    assert "<html" not in text
    assert "52 of 52 shown" in text
    assert "Load 50 more" not in text


def test_a_page_that_we_did_not_make_is_refused_in_one_sentence(owner: Client) -> None:
    person()
    response = owner.get("/customers/?page=bm9uc2Vuc2U")
    assert response.status_code == 422
    assert "This address names no page of the list." in response.content.decode()


def test_it_asks_the_same_few_questions_at_any_size(owner: Client) -> None:
    def asked(query: str = "") -> int:
        with CaptureQueriesContext(
            connection,
        ) as context:
            assert owner.get(f"/customers/{query}").status_code == 200
        return len(context)

    person("First", facts={"orders": 1})
    few = asked()
    for n in range(60):
        person(f"Name {n}", tags=["vip"], facts={"orders": n, "stage": "retain"} if n % 2 else None)
    assert asked() <= 8
    assert asked() - few <= 1  # the customers without a last order are a statement of their own
    assert asked("?q=name&stage=retain&tag=vip&sort=-orders&moved_to=retain") <= 8


def test_it_counts_exactly_up_to_a_limit_and_says_more_above(owner: Client) -> None:
    for n in range(4):
        person(f"Name {n}")
    assert queries.count(Customer.objects.all(), limit=4) == queries.Count(4, is_exact=True)
    assert queries.count(Customer.objects.all(), limit=3) == queries.Count(3, is_exact=False)


# --- What the page says -----------------------------------------------------------------------------------------------


def test_its_title_says_what_and_how_many(owner: Client) -> None:
    for n in range(3):
        person(f"Name {n}", country="SE", facts={"stage": "dormant"})
    person("Other", country="NO", facts={"stage": "dormant"})
    page = owner.get("/customers/?stage=dormant&country=SE").content.decode()
    assert "<title>Customers · Dormant, Sweden · 3 · Test shop</title>" in page


def test_each_chip_removes_its_own_filter(owner: Client) -> None:
    person("Name", country="SE", facts={"stage": "dormant"})
    chips = owner.get("/customers/?stage=dormant&country=SE&sort=name").context["chips"]
    assert [(chip["label"], chip["value"], chip["remove_url"]) for chip in chips] == [
        ("Stage", "Dormant", "/customers/?country=SE&sort=name"),
        ("Country", "Sweden", "/customers/?stage=dormant&sort=name"),
    ]


def test_empty_fields_leave_the_address(owner: Client) -> None:
    person(country="SE")
    response = owner.get("/customers/?q=&country=SE&orders_min=&tag=+")
    assert response.status_code == 302
    assert response["Location"] == "/customers/?country=SE"


def test_nobody_yet_and_nobody_matching_are_different_words(owner: Client) -> None:
    assert "No customers yet" in owner.get("/customers/").content.decode()
    person()
    page = owner.get("/customers/?q=nobody").content.decode()
    assert "Nothing matches these filters" in page
    assert "No customers yet" not in page


def test_it_says_how_it_is_sorted(owner: Client) -> None:
    person()
    page = owner.get("/customers/?sort=-spend").content.decode()
    assert page.count('aria-sort="descending"') == 1
    assert page.count('aria-sort="none"') == len(queries.SORTS) - 1


# --- Who may see what -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["analyst", "viewer"])
def test_names_and_addresses_are_hidden_from_roles_that_may_not_see_them(client: Client, role: str) -> None:
    client.force_login(UserFactory(role=role))
    person("Åsa Öberg", email="asa@example.org", phone="+46701234567", city="Malmö")
    page = client.get("/customers/").content.decode()
    export = b"".join(client.get("/customers/export.csv")).decode()
    for secret in ("Öberg", "asa@example.org", "46701234567"):
        assert secret not in page
        assert secret not in export
    assert "Å… Ö…" in page


def test_the_export_has_the_filtered_list_in_its_order_and_runs_no_formula(owner: Client) -> None:
    person('=HYPERLINK("http://x")', email="a@example.org", facts={"orders": 2, "spend_minor": 1250, "stage": "retain"})
    person("-2+3", email="b@example.org", city="@SUM(1)", facts={"orders": 5, "spend_minor": 99, "stage": "retain"})
    person("Other", facts={"orders": 9, "stage": "dormant"})
    response = owner.get("/customers/export.csv?stage=retain&sort=-orders")
    rows = list(csv.DictReader(io.StringIO(b"".join(response).decode("utf-8-sig"))))
    assert [(row["name"], row["city"], row["orders"], row["spend"], row["currency"]) for row in rows] == [
        ("'-2+3", "'@SUM(1)", "5", "0.99", "USD"),
        ('\'=HYPERLINK("http://x")', "", "2", "12.50", "USD"),
    ]
    assert response["Content-Disposition"].startswith('attachment; filename="customers-')


def test_it_asks_for_a_sign_in(client: Client) -> None:
    response = client.get("/customers/")
    assert response.status_code == 302
    assert response["Location"] == "/sign-in/?next=%2Fcustomers%2F"


@pytest.mark.postgresql
def test_a_word_in_a_name_is_found_by_an_index_where_postgresql_has_trigrams() -> None:
    asked = Customer.objects.filter(search_text__contains="berg").values("pk")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")
        has_trigrams = bool(cursor.fetchone()[0])
        cursor.execute("SET LOCAL enable_seqscan = off")
        sql, params = asked.query.sql_with_params()
        cursor.execute(f"EXPLAIN {sql}", params)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert ("customers_customer_search" in plan) is has_trigrams

"""Bringing in a file by page: looked at first, columns chosen, tried dry, run for real."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from customers import forms, importing
from customers.models import Customer, ImportRun, Order
from lifecycle_crm.lib import health
from lifecycle_crm.lib.errors import Conflict
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

PEOPLE = "Kundnr;Namn;E-post;Land\r\nC-1;Åsa Öberg;asa@example.org;SE\r\nC-2;Kim;not-an-address;SE\r\n"
ORDERS = "who,when,paid\r\nC-1,2026-03-01,12.50\r\nC-9,2026-03-02,20.00\r\n"


@pytest.fixture(autouse=True)
def var_dir(settings: Any, tmp_path: Path) -> None:
    settings.VAR_DIR = tmp_path


@pytest.fixture
def owner(client: Client) -> Client:
    client.force_login(UserFactory(role="owner"))
    return client


def upload(client: Client, text: str | bytes, name: str = "people.csv", **fields: str) -> Any:
    content = text.encode() if isinstance(text, str) else text
    file = SimpleUploadedFile(name, content, "text/csv")
    return client.post("/imports/new/", {"kind": "customers", "source": "shop", "file": file, **fields})


def received(client: Client, text: str, **fields: str) -> ImportRun:
    response = upload(client, text, **fields)
    assert response.status_code == 302, response.content.decode()
    return ImportRun.objects.latest("id")


def kept_files() -> list[str]:
    folder = Path(settings.VAR_DIR) / "imports"
    return os.listdir(folder) if folder.is_dir() else []


def test_a_file_is_looked_at_before_anything_is_written(owner: Client) -> None:
    run = received(owner, PEOPLE)
    page = owner.get(f"/imports/{run.pk}/").content.decode()
    for seen in ("Kundnr", "Åsa Öberg", "not-an-address"):
        assert seen in page
    chosen = re.findall(r'<option value="(\w+)" selected', page)
    assert chosen == ["customer_id", "name", "email", "country"]
    assert run.state == "uploaded"
    assert Customer.objects.count() == 0
    assert importing.due() == []


def test_a_dry_run_says_what_would_happen_and_the_run_does_it(owner: Client) -> None:
    run = received(owner, PEOPLE)
    columns = {"column_0": "customer_id", "column_1": "name", "column_2": "email", "column_3": "country"}
    assert owner.post(f"/imports/{run.pk}/", {**columns, "currency": "USD", "act": "dry"}).status_code == 302
    assert importing.due() == [run.pk]
    importing.run(run.pk)

    page = owner.get(f"/imports/{run.pk}/").content.decode()
    assert "1 customer would be new." in page
    assert "not-an-address" in page
    assert "Import 2 rows" in page
    assert Customer.objects.count() == 0

    owner.post(f"/imports/{run.pk}/run/")
    again = ImportRun.objects.latest("id")
    assert (again.is_dry_run, again.state) == (False, "queued")
    importing.run(again.pk)
    assert list(Customer.objects.values_list("name", "email", "country")) == [("Åsa Öberg", "asa@example.org", "SE")]
    assert "1 customer is new." in owner.get(f"/imports/{again.pk}/").content.decode()

    refused = b"".join(owner.get(f"/imports/{again.pk}/refused.csv")).decode("utf-8-sig")
    assert refused.splitlines()[0].startswith("Kundnr;Namn;E-post;Land;")
    assert refused.splitlines()[1].startswith("C-2;Kim;not-an-address;SE;")


def test_headings_nobody_can_guess_are_chosen_by_a_person(owner: Client) -> None:
    run = received(owner, ORDERS, kind="orders")
    assert run.mapping == {}
    response = owner.post(
        f"/imports/{run.pk}/",
        {
            "column_0": "customer_id", "column_1": "placed_at", "column_2": "amount", "currency": "SEK",
            "create_customers": "on", "act": "run",
        },
    )  # fmt: skip
    assert response.status_code == 302
    run.refresh_from_db()
    assert run.mapping == {"who": "customer_id", "when": "placed_at", "paid": "amount"}
    assert run.options["currency"] == "SEK"
    assert run.options["create_customers"] is True


@pytest.mark.parametrize(
    "body, sentence",
    [
        ({"column_0": "", "column_2": ""}, "No column is read as"),
        ({"column_0": "email", "column_2": "email"}, "Two columns are read as email."),
        ({"column_0": "customer_id", "currency": "XXQ"}, "Unknown currency"),
        ({"column_0": "customer_id", "date_format": "dd.mm"}, "is not a date format"),
        ({"column_0": "everything"}, "Select a valid choice."),
    ],
)
def test_columns_that_cannot_be_are_told_and_nothing_starts(owner: Client, body: dict[str, str], sentence: str) -> None:
    run = received(owner, PEOPLE)
    response = owner.post(f"/imports/{run.pk}/", {"act": "dry", **body})
    assert response.status_code == 400
    assert sentence in response.content.decode()
    run.refresh_from_db()
    assert run.state == "uploaded"
    assert importing.due() == []


@pytest.mark.parametrize(
    "content, name, sentence",
    [
        (b"", "people.csv", "The submitted file is empty."),
        (b"PK\x03\x04rest", "people.csv", "This is an Excel or zip file, not CSV."),
        (b"name,email\nA,a@example.org\n", "people.xlsx", "people.xlsx is not a CSV file."),
        (b"\x00\x01\x02\x03", "people.csv", "The file is not text."),
        ("namn,e-post\nÅsa,a@example.org\n".encode("cp1252"), "people.csv", "is not UTF-8"),
        (b"\n\n\n", "people.csv", "The file has no header line."),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_and_not_kept(
    owner: Client, content: bytes, name: str, sentence: str
) -> None:
    response = upload(owner, content, name)
    assert response.status_code == 400
    assert sentence in response.content.decode()
    assert ImportRun.objects.count() == 0
    assert kept_files() == []


def test_letters_of_an_old_windows_file_are_read_when_it_is_said(owner: Client) -> None:
    response = upload(owner, "namn,e-post\nŁucja,a@example.org\n".encode("cp1250"), encoding="cp1250")
    assert response.status_code == 302
    run = ImportRun.objects.get()
    assert "Łucja" in owner.get(f"/imports/{run.pk}/").content.decode()


def test_a_file_larger_than_the_limit_is_refused(owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "BIGGEST_UPLOAD", 10)
    response = upload(owner, PEOPLE)
    assert response.status_code == 400
    assert "The file is larger than 50 MB." in response.content.decode()
    assert kept_files() == []


def test_a_run_is_started_once(owner: Client) -> None:
    run = received(owner, PEOPLE)
    body = {"column_0": "customer_id", "act": "dry"}
    stale = ImportRun.objects.get(pk=run.pk)
    assert owner.post(f"/imports/{run.pk}/", body).status_code == 302
    with pytest.raises(Conflict):
        importing.choose(run=stale, mapping={"Kundnr": "customer_id"})
    assert ImportRun.objects.count() == 1


def test_without_a_worker_it_says_so_with_the_fix(owner: Client) -> None:
    run = received(owner, PEOPLE)
    owner.post(f"/imports/{run.pk}/", {"column_0": "customer_id", "act": "dry"})
    page = owner.get(f"/imports/{run.pk}/").content.decode()
    assert "No background worker is running" in page
    assert "celery -A lifecycle_crm worker" in page
    assert 'hx-trigger="load delay:1s"' in page

    health.beat()
    assert "No background worker is running" not in owner.get(f"/imports/{run.pk}/").content.decode()


def test_the_progress_asks_again_until_it_is_done_and_then_reloads(owner: Client) -> None:
    run = received(owner, PEOPLE)
    owner.post(f"/imports/{run.pk}/", {"column_0": "customer_id", "act": "dry"})
    headers = {"HX-Request": "true", "HX-Target": "section#import-progress"}
    part = owner.get(f"/imports/{run.pk}/", headers=headers)
    assert part.content.decode().lstrip().startswith("<section")
    importing.run(run.pk)
    done = owner.get(f"/imports/{run.pk}/", headers=headers)
    assert (done.status_code, done["HX-Refresh"]) == (204, "true")


def test_a_list_of_imports_asks_the_same_few_questions(owner: Client, django_assert_max_num_queries: Any) -> None:
    for _n in range(60):
        ImportRun.objects.create(kind="customers", file_name="a.csv", path="imports/a.csv", created_by=UserFactory())
    with django_assert_max_num_queries(5):
        page = owner.get("/imports/").content.decode()
    assert page.count("a.csv") == 50


@pytest.mark.parametrize("role", ["analyst", "viewer"])
def test_who_may_not_change_customers_may_not_bring_in_files(client: Client, role: str) -> None:
    client.force_login(UserFactory(role=role))
    assert client.get("/imports/new/").status_code == 403
    assert upload(client, PEOPLE).status_code == 403
    assert ImportRun.objects.count() == 0
    run = ImportRun.objects.create(kind="customers", file_name="a.csv", path="imports/a.csv", state="done")
    assert client.get(f"/imports/{run.pk}/").status_code == 200
    assert client.post(f"/imports/{run.pk}/run/").status_code == 403
    assert client.get(f"/imports/{run.pk}/refused.csv").status_code == 403
    assert Order.objects.count() == 0

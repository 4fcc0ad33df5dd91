from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customers import importing
from customers.importing import lines, work
from customers.models import Consent, Customer, DirtyCustomer, ImportRow, ImportRun, Order
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from tests.customers.factories import CustomerFactory, ExternalIdFactory
from tests.fixtures import ROOT, wait_until

pytestmark = pytest.mark.django_db

COUNTS = ("rows", "created", "updated", "unchanged", "refused", "customers_created")


@pytest.fixture(autouse=True)
def var(settings: Any, tmp_path: Path) -> Path:
    settings.VAR_DIR = tmp_path / "var"
    return settings.VAR_DIR


def file(tmp_path: Path, content: str | bytes, name: str = "file.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def bring_in(path: Path, kind: str = "orders", **values: Any) -> ImportRun:
    row = importing.start(kind=kind, file=path, is_waiting=False, **values)
    done = importing.run(row.pk)
    assert done is not None
    done.refresh_from_db()
    return done


def counts(row: ImportRun) -> tuple[int, ...]:
    return tuple(getattr(row, name) for name in COUNTS)


ORDERS = """customer_id,date,cds,value
00001,1997-01-01,1,11.77
00002,1997-01-12,1,12.0
00002,1997-01-12,5,77.0
00003,1997-01-02,2,20.76
00003,1997-03-30,2,20.76
"""
MAKE = {"create_customers": True}


# --- What a file is -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "encoding", "delimiter", "columns", "first"),
    [
        (b"\xef\xbb\xbfemail,name\na@b.se,\xc3\x85sa\n", "utf-8-sig", ",", ["email", "name"], ["a@b.se", "Åsa"]),
        ("email;name\na@b.se;Åsa, Umeå\n".encode(), "utf-8-sig", ";", ["email", "name"], ["a@b.se", "Åsa, Umeå"]),
        (b"email\tname\na@b.se\tKim\n", "utf-8-sig", "\t", ["email", "name"], ["a@b.se", "Kim"]),
        (b"email|name|city\na@b.se|Kim|Oslo\n", "utf-8-sig", "|", ["email", "name", "city"], ["a@b.se", "Kim", "Oslo"]),
        ("email,name\na@b.se,Żółć\n".encode("utf-16"), "utf-16", ",", ["email", "name"], ["a@b.se", "Żółć"]),
        (
            b'email;tags\na@b.se;["a","b"]\nc@d.se;["c","d","e"]\n',
            "utf-8-sig",
            ";",
            ["email", "tags"],
            ["a@b.se", '["a","b"]'],
        ),
        (b'email,name\na@b.se,"two\nlines"\n', "utf-8-sig", ",", ["email", "name"], ["a@b.se", "two\nlines"]),
    ],
)
def test_it_finds_encoding_and_delimiter(
    tmp_path: Path, content: bytes, encoding: str, delimiter: str, columns: list[str], first: list[str]
) -> None:
    preview = importing.inspect(file(tmp_path, content), "customers")
    assert (preview.encoding, preview.delimiter, preview.columns) == (encoding, delimiter, columns)
    assert preview.rows[0] == first


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        ("email,name\na@b.pl,x\nc@d.pl,Żółć\n".encode("cp1250"), "unreadable_encoding", "cp1250: c@d.pl,Żółć"),
        ("email,name\na@b.se,Åsa\n".encode("latin-1"), "unreadable_encoding", "Line 2 is not UTF-8"),
        (b"", "empty_file", "empty"),
        (b"\n\n", "no_header", "header"),
        (b"PK\x03\x04 an xlsx", "not_csv", "CSV UTF-8"),
    ],
)
def test_it_refuses_what_it_cannot_read_and_keeps_nothing(
    tmp_path: Path, var: Path, content: bytes, code: str, says: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        importing.start(kind="customers", file=file(tmp_path, content))
    assert refusal.value.code == code
    assert says in refusal.value.message
    assert list((var / "imports").iterdir()) == []
    assert not ImportRun.objects.exists()


def test_it_reads_the_encoding_that_was_chosen(tmp_path: Path) -> None:
    path = file(tmp_path, "email;jméno\nc@d.pl;Żółć\n".encode("cp1250"))
    bring_in(path, "customers", options={"encoding": "cp1250"})
    assert Customer.objects.get().name == "Żółć"


@pytest.mark.parametrize(
    ("header", "kind", "fields"),
    [
        ("customer_id,date,cds,value", "orders", "customer_id placed_at items amount"),
        ("Kundnr,Orderdatum,Belopp,Antal", "orders", "customer_id placed_at amount items"),
        ("Kundenummer,Dato,Beløp,E-post", "orders", "customer_id placed_at amount email"),
        ("Nr klienta,Data zamówienia,Kwota,Ilość", "orders", "customer_id placed_at amount items"),
        ("Číslo zákazníka,Datum,Částka,Měna", "orders", "customer_id placed_at amount currency"),
        ("E-postadress,Namn,Språk,Ort", "customers", "email name language city"),
        ("Jméno,E-mail,Země,Datum narození", "customers", "name email country birth_date"),
    ],
)
def test_it_guesses_columns_in_five_languages(header: str, kind: str, fields: str) -> None:
    columns = header.split(",")
    assert importing.guess(kind, columns) == dict(zip(columns, fields.split(), strict=True))


@pytest.mark.parametrize(
    ("mapping", "code"),
    [
        ({"nope": "email"}, "unknown_column"),
        ({"customer_id": "shoe_size"}, "unknown_field"),
        ({"customer_id": "customer_id", "date": "placed_at", "cds": "amount", "value": "amount"}, "field_mapped_twice"),
        ({"customer_id": "customer_id", "date": "placed_at"}, "missing_field"),
        ({"date": "placed_at", "value": "amount"}, "missing_field"),
    ],
)
def test_it_refuses_a_mapping_that_cannot_work(tmp_path: Path, mapping: dict[str, str], code: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        importing.start(kind="orders", file=file(tmp_path, ORDERS), mapping=mapping)
    assert refusal.value.code == code
    assert not ImportRun.objects.exists()


# --- Orders ---------------------------------------------------------------------------------------------------------------


def test_it_brings_in_orders_with_the_customers_they_name(tmp_path: Path) -> None:
    done = bring_in(file(tmp_path, ORDERS), options=MAKE, source="cdnow")
    assert (done.state, counts(done)) == ("done", (5, 5, 0, 0, 0, 3))
    assert sorted(Order.objects.values_list("source", "source_id", "amount_minor", "items", "is_history")) == [
        ("cdnow", "00001:1997-01-01:1", 1177, 1, True),
        ("cdnow", "00002:1997-01-12:1", 1200, 1, True),
        ("cdnow", "00002:1997-01-12:2", 7700, 5, True),
        ("cdnow", "00003:1997-01-02:1", 2076, 2, True),
        ("cdnow", "00003:1997-03-30:1", 2076, 2, True),
    ]
    first = Customer.objects.get(external_ids__value="00003")
    assert first.known_since == clock.day_start(datetime(1997, 1, 2).date())
    assert clock.business_date(Order.objects.get(source_id="00003:1997-03-30:1").placed_at).isoformat() == "1997-03-30"
    assert set(DirtyCustomer.objects.values_list("is_history", flat=True)) == {True}


def test_it_creates_nothing_from_the_same_file_again(tmp_path: Path) -> None:
    bring_in(file(tmp_path, ORDERS), options=MAKE)
    DirtyCustomer.objects.all().delete()
    again = bring_in(file(tmp_path, ORDERS, "copy.csv"), options=MAKE)
    assert counts(again) == (5, 0, 0, 5, 0, 0)
    assert (Order.objects.count(), Customer.objects.count(), DirtyCustomer.objects.count()) == (5, 3, 0)


BAD_ORDERS = """customer_id;date;value;currency
C-1;2025-03-01;10.00;USD
C-404;2025-03-01;10.00;USD
C-1;2025-03-02;-4.00;USD
C-1;2999-01-01;10.00;USD
C-1;2025-03-03;10.00;XYZ
C-1;last week;10.00;USD
C-1;2025-03-03;ten;USD
C-1;2025-03-04;10.00

C-1;2025-03-05;1 234,50;usd
"""


def test_it_refuses_bad_lines_with_line_column_and_reason_and_keeps_the_good_ones(tmp_path: Path) -> None:
    ExternalIdFactory(source="csv", value="C-1")
    done = bring_in(file(tmp_path, BAD_ORDERS))
    assert counts(done) == (9, 2, 0, 0, 7, 0)
    assert sorted(Order.objects.values_list("amount_minor", flat=True)) == [1000, 123_450]
    refusals = list(ImportRow.objects.values_list("line", "column", "reason"))
    assert [(line, column) for line, column, _reason in refusals] == [
        (3, ""), (4, "value"), (5, "date"), (6, ""), (7, "date"), (8, "value"), (9, ""),
    ]  # fmt: skip
    said = {line: reason for line, _column, reason in refusals}
    assert "'C-404' of csv" in said[3]
    assert "negative" in said[4]
    assert "future" in said[5]
    assert "'XYZ'" in said[6]
    assert "'last week'" in said[7]
    assert "'ten'" in said[8]
    assert said[9] == "The line has 3 cells, the header 4."


def test_it_hands_the_refused_lines_back_in_the_same_shape(tmp_path: Path) -> None:
    done = bring_in(file(tmp_path, BAD_ORDERS))
    text = "".join(importing.refused_lines(done))
    lines = list(csv.reader(io.StringIO(text.removeprefix("\ufeff")), delimiter=";"))
    assert text.startswith("\ufeff")
    assert lines[0] == ["customer_id", "date", "value", "currency", "order_id", "refused because"]
    assert len(lines) == 10
    assert lines[3][:5] == ["C-1", "2025-03-02", "'-4.00", "USD", "C-1:2025-03-02:1"]
    # Mended and brought in again, the line is the purchase it was.
    ExternalIdFactory(source="csv", value="C-1")
    lines[3][2] = "4.00"
    out = io.StringIO()
    csv.writer(out, delimiter=";").writerows([lines[0], lines[3]])
    assert counts(bring_in(file(tmp_path, out.getvalue()))) == (1, 1, 0, 0, 0, 0)
    assert counts(bring_in(file(tmp_path, BAD_ORDERS.replace("-4.00", "4.00")))) == (9, 2, 0, 1, 6, 0)


def test_it_reads_dates_as_they_were_said_to_be_written(tmp_path: Path) -> None:
    ExternalIdFactory(source="csv", value="C-1")
    content = "customer_id,date,amount\nC-1,31.03.2025,1.00\nC-1,2025-03-31,1.00\n"
    done = bring_in(file(tmp_path, content), options={"date_format": "%d.%m.%Y"})
    assert counts(done) == (2, 1, 0, 0, 1, 0)
    assert Order.objects.get().placed_at == datetime(2025, 3, 30, 22, 0, tzinfo=UTC)


def test_it_calls_only_what_was_before_loading_history(tmp_path: Path) -> None:
    ExternalIdFactory(source="csv", value="C-1", customer__loaded_at=clock.now() - timedelta(days=5))
    soon, then = (clock.now() - timedelta(days=n) for n in (1, 9))
    content = f"customer_id,date,amount\nC-1,{soon.isoformat()},1.00\nC-1,{then.isoformat()},1.00\n"
    bring_in(file(tmp_path, content))
    assert list(Order.objects.order_by("placed_at").values_list("is_history", flat=True)) == [True, False]


# --- Customers ------------------------------------------------------------------------------------------------------------

CUSTOMERS = """Kundnr;E-post;Namn;Telefon;Språk;Ort;Samtycke;Skostorlek;Taggar
1;ada@example.org;Ada Åberg;+46 70 123 45 67;sv;Umeå;ja;38;vip, lp
2;bo@example.org;Bo Öhman;;sv;Luleå;nej;;
3;;Cia Ek;;;;;40;
;not an address;Dan Fors;;;;;;
5;eva@example.org;Eva Holm;;;;kanske;;
"""
MAPPING = {
    "Kundnr": "customer_id", "E-post": "email", "Namn": "name", "Telefon": "phone", "Språk": "language", "Ort": "city",
    "Samtycke": "may_email", "Skostorlek": "attribute:shoe", "Taggar": "tags",
}  # fmt: skip


def test_it_brings_in_customers_quietly(tmp_path: Path) -> None:
    done = bring_in(file(tmp_path, CUSTOMERS), "customers", mapping=MAPPING, source="shop")
    assert counts(done) == (5, 3, 0, 0, 2, 3)
    ada = Customer.objects.get(email_key="ada@example.org")
    assert (ada.phone, ada.attributes, ada.tags, ada.city) == ("+46701234567", {"shoe": "38"}, ["vip", "lp"], "Umeå")
    assert dict(Consent.objects.values_list("customer__name", "is_granted")) == {"Ada Åberg": True, "Bo Öhman": False}
    assert list(ImportRow.objects.values_list("line", "column")) == [(5, "E-post"), (6, "Samtycke")]
    assert DirtyCustomer.objects.filter(is_history=True).count() == 3
    again = bring_in(file(tmp_path, CUSTOMERS), "customers", mapping=MAPPING, source="shop")
    assert counts(again) == (5, 0, 0, 3, 2, 0)
    mended = bring_in(file(tmp_path, CUSTOMERS.replace("Luleå", "Piteå")), "customers", mapping=MAPPING, source="shop")
    assert counts(mended) == (5, 0, 1, 2, 2, 0)


# --- Dry run, resuming, leases ------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BATCH", 7)


def many(people: int = 40) -> str:
    """Orders that need every answer there is: new, double, unknown, refused, a customer met again in a later batch."""
    lines = ["customer_id,date,amount"]
    for n in range(people):
        lines += [f"P-{n % 13},2025-01-{1 + n % 28:02d},{n}.50", f"P-{n % 13},2025-01-{1 + n % 28:02d},{n}.50"]
        if n % 5 == 0:
            lines.append(f"P-{n},2025-02-01,-1.00")
    return "\n".join(lines) + "\n"


@pytest.mark.usefixtures("small")
@pytest.mark.django_db(transaction=True)
def test_it_counts_in_a_dry_run_what_the_run_then_does_and_writes_nothing_else(tmp_path: Path) -> None:
    CustomerFactory()
    for kind, content in (("orders", many()), ("customers", CUSTOMERS)):
        mapping = MAPPING if kind == "customers" else None
        path = file(tmp_path, content)
        before = (
            Customer.objects.count(),
            Order.objects.count(),
            DirtyCustomer.objects.count(),
            Consent.objects.count(),
        )
        dry = bring_in(path, kind, mapping=mapping, options=MAKE, is_dry_run=True)
        after = (
            Customer.objects.count(),
            Order.objects.count(),
            DirtyCustomer.objects.count(),
            Consent.objects.count(),
        )
        assert (dry.state, after) == ("done", before)
        real_row = importing.again(run=dry, is_waiting=False)
        real = importing.run(real_row.pk)
        assert real is not None
        assert counts(real) == counts(dry)
        assert list(dry.refusals.values_list("line", "reason")) == list(real.refusals.values_list("line", "reason"))


class Killed(BaseException):
    """As abrupt as a signal: nothing of ours catches it."""


@pytest.mark.usefixtures("small")
@pytest.mark.django_db(transaction=True)
def test_it_goes_on_where_it_was_killed_with_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bring_in(file(tmp_path, many()), options=MAKE, source="whole")
    row = importing.start(kind="orders", file=file(tmp_path, many()), options=MAKE, source="killed", is_waiting=False)
    take, kills, calls = work._take, [2, 3, 3, 5, 9], [0]

    def dies(run: ImportRun, lines: Any) -> Any:
        took = take(run, lines)
        calls[0] += 1
        if kills and calls[0] == kills[0]:
            kills.pop(0)
            calls[0] = 0
            raise Killed  # after its rows were written, before they were committed
        return took

    monkeypatch.setattr(work, "_take", dies)
    died = 0
    while ImportRun.objects.get(pk=row.pk).state != "done":
        try:
            importing.run(row.pk)
        except Killed:
            died += 1
            assert importing.run(row.pk) is None  # its lease still runs
            assert importing.due() == []
            ImportRun.objects.filter(pk=row.pk).update(lease_until=clock.now() - timedelta(seconds=1))
            assert importing.due() == [row.pk]
    row.refresh_from_db()
    assert died >= 2
    assert counts(row) == counts(whole)

    def orders(source: str) -> list[tuple[Any, ...]]:
        return sorted(Order.objects.filter(source=source).values_list("source_id", "amount_minor", "placed_at"))

    assert orders("killed") == orders("whole")


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_it_survives_processes_that_are_killed_at_work(
    tmp_path: Path, settings: Any, environment: Callable[..., dict[str, str]]
) -> None:
    settings.VAR_DIR = tmp_path
    lines = ["customer_id,date,amount"]
    lines += [f"P-{n % 700},2025-{1 + n % 12:02d}-{1 + n % 27:02d},{n % 90}.25" for n in range(6000)]
    row = importing.start(kind="orders", file=file(tmp_path, "\n".join(lines)), options=MAKE, is_waiting=False)
    work = (
        "import django, sys; django.setup()\n"
        "from customers import importing; from customers.importing import lines; lines.BATCH = 150\n"
        "importing.run(int(sys.argv[1]))"
    )
    hits = 0
    while hits < 4 and ImportRun.objects.get(pk=row.pk).state != "done":
        before = ImportRun.objects.get(pk=row.pk).rows
        process = subprocess.Popen([sys.executable, "-c", work, str(row.pk)], cwd=ROOT, env=environment())
        wait_until(lambda: ImportRun.objects.get(pk=row.pk).rows > before + 150 * hits, seconds=120)  # noqa: B023
        process.kill()
        process.wait()
        # Only a kill that hit a worker at work counts.
        now = ImportRun.objects.get(pk=row.pk)
        hits += now.state == "running" and before < now.rows < 6000
        assert Order.objects.count() == now.rows == now.created
        ImportRun.objects.filter(pk=row.pk).update(lease_until=clock.now() - timedelta(seconds=1))
    assert hits >= 2
    importing.run(row.pk)
    row.refresh_from_db()
    assert (row.state, counts(row)) == ("done", (6000, 6000, 0, 0, 0, 700))
    assert (Order.objects.count(), Customer.objects.count()) == (6000, 700)


@pytest.mark.usefixtures("small")
@pytest.mark.django_db(transaction=True)
def test_it_writes_nothing_once_another_worker_has_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = importing.start(kind="orders", file=file(tmp_path, many()), options=MAKE, is_waiting=False)
    take = work._take

    def is_overtaken(run: ImportRun, lines: Any) -> Any:
        took = take(run, lines)
        ImportRun.objects.filter(pk=run.pk).update(lease_owner="somebody else")
        return took

    monkeypatch.setattr(work, "_take", is_overtaken)
    assert importing.run(row.pk) is None
    assert not Order.objects.exists()
    assert not Customer.objects.exists()


@pytest.mark.usefixtures("small")
@pytest.mark.django_db(transaction=True)
def test_it_goes_back_to_the_queue_when_its_time_is_up(tmp_path: Path) -> None:
    row = importing.start(kind="orders", file=file(tmp_path, many()), options=MAKE)
    rounds = 0
    while importing.due():
        importing.run(importing.due()[0], seconds=0)
        rounds += 1
    row.refresh_from_db()
    assert (row.state, row.rows, row.rows // 7 <= rounds) == ("done", 88, True)
    assert importing.run(row.pk) is None


def test_it_ends_as_failed_where_the_file_breaks_and_says_where(tmp_path: Path) -> None:
    good = [f"P-{n},1997-01-01,1,{n}.00\n" for n in range(70)]
    content = "customer_id,date,cds,value\n" + "".join(good) + 'P-0,1997-01-01,1,"' + "x" * 140_000
    done = bring_in(file(tmp_path, content), options=MAKE)
    assert done.state == "failed"
    assert "Line 72 is not CSV" in done.error
    assert done.created == Order.objects.count() == 70


def test_it_says_so_when_the_copy_is_gone(tmp_path: Path, var: Path) -> None:
    row = importing.start(kind="orders", file=file(tmp_path, ORDERS), is_waiting=False)
    (var / row.path).unlink()
    done = importing.run(row.pk)
    assert done is not None
    assert (done.state, "Bring the file in again" in done.error) == ("failed", True)


def test_it_takes_an_upload_as_it_takes_a_path(tmp_path: Path) -> None:
    row = importing.start(kind="orders", file=io.BytesIO(ORDERS.encode()), file_name="shop.csv", options=MAKE)
    importing.run(row.pk)
    row.refresh_from_db()
    assert (row.file_name, row.created) == ("shop.csv", 5)


# --- Cells --------------------------------------------------------------------------------------------------------------------


@given(st.text(alphabet=st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("=+-@\t\r\x00'"))))
def test_it_guards_cells_so_that_no_spreadsheet_runs_them_and_undoes_it_exactly(cell: str) -> None:
    guarded = importing.guarded(cell)
    assert importing.unguarded(guarded) == cell
    assert guarded[:1] not in ("=", "+", "-", "@", "\t", "\r", "\x00")

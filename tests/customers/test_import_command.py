from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from customers.models import Customer, ImportRun, Order

pytestmark = pytest.mark.django_db

ORDERS = "who,day,paid\nC-1,2025-03-01,10.00\nC-1,2025-03-01,10.00\nC-2,2025-03-02,-1.00\n"
MAP = ("--map", "who=customer_id", "--map", "day=placed_at", "--map", "paid=amount", "--create-customers")


@pytest.fixture
def path(settings: Any, tmp_path: Path) -> Path:
    settings.VAR_DIR = tmp_path / "var"
    path = tmp_path / "orders.csv"
    path.write_text(ORDERS, encoding="utf-8")
    return path


def said(*arguments: Any) -> str:
    out = io.StringIO()
    call_command("import", *map(str, arguments), stdout=out)
    return out.getvalue()


def test_it_reports_rows_customers_refusals_and_seconds(path: Path, tmp_path: Path) -> None:
    text = said("orders", path, *MAP, "--refused", tmp_path / "refused.csv")
    lines = {line[:17].strip(): line[17:].strip() for line in text.splitlines()}
    assert lines["rows"] == "3"
    assert lines["new"] == "2"
    assert lines["refused"] == "1"
    assert lines["customers made"] == "1"
    assert float(lines["seconds"]) >= 0
    assert "rows per second" in lines
    assert "line 4: amount -100 is negative" in text
    refused = (tmp_path / "refused.csv").read_text(encoding="utf-8-sig").splitlines()
    assert refused[0] == "who,day,paid,order_id,refused because"
    assert refused[1].startswith("C-2,2025-03-02,'-1.00,C-2:2025-03-02:1,")
    assert set(Order.objects.values_list("source_id", flat=True)) == {"C-1:2025-03-01:1", "C-1:2025-03-01:2"}


def test_it_writes_nothing_in_a_dry_run(path: Path) -> None:
    text = said("orders", path, *MAP, "--dry-run")
    assert "Dry run, nothing was written" in text
    assert not Order.objects.exists()
    assert not Customer.objects.exists()
    assert ImportRun.objects.get().created == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("orders", "nowhere.csv"), "There is no file nowhere.csv"),
        (("orders", "{path}", "--map", "who"), "is not COLUMN=FIELD"),
        (("orders", "{path}"), "No column is read as customer_id or email"),
        (("orders", "{path}", *MAP, "--currency", "XYZ"), "Unknown currency 'XYZ'"),
        (("orders", "{path}", *MAP, "--date-format", "DD.MM"), "is not a date format"),
        (("orders", "{path}", *MAP, "--encoding", "klingon"), "Unknown encoding 'klingon'"),
        (("orders", "{path}", *MAP, "--delimiter", "ab"), "must be one character"),
    ],
)
def test_it_refuses_with_one_sentence_and_keeps_nothing(path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(CommandError) as refusal:
        said(*(argument.format(path=path) for argument in arguments))
    assert sentence in str(refusal.value)
    assert not ImportRun.objects.exists()
    assert not Order.objects.exists()

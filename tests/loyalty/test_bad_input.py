"""What makes no sense is refused with a sentence on the page and a problem document over REST, and nothing is written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from customers.models import Customer
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib import clock
from loyalty import codes, earning, ledger, vouchers, wallet
from loyalty.models import Voucher
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, OrderFactory, give
from tests.loyalty.test_api import post
from tests.loyalty.test_pages import text

pytestmark = pytest.mark.django_db

SCOPES = ["points:write", "programmes:write", "vouchers:write", "orders:write", "rewards:write"]


@pytest.fixture
def secret() -> str:
    return ApiKey.issue(name="Till", scopes=SCOPES)[1]


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(UserFactory(role=Role.OWNER))
    return client


@pytest.fixture
def ada() -> Customer:
    customer = CustomerFactory(name="Ada Example")
    give(customer, 100)
    return customer


def rows() -> dict[str, Any]:
    """Every row of loyalty, as far as it counts and adds up."""
    found: dict[str, Any] = {
        model.__name__: model._default_manager.count() for model in apps.get_app_config("loyalty").get_models()
    }
    found["states"] = sorted(Voucher.objects.values_list("code", "state"))
    return found


def refused(page: Any, words: str, statuses: tuple[int, ...] = (400, 409, 410, 422)) -> None:
    assert page.status_code in statuses, page.content
    assert words in text(page)


def problem(answer: Any, code: str) -> None:
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.json()["code"], bool(answer.json()["title"])) == (code, True)
    assert answer.status_code in (400, 409, 410, 422)


def test_spending_more_than_the_balance(staff: Client, secret: str, ada: Customer) -> None:
    before = rows()
    page = reverse("loyalty:points-redeem", args=[ada.pk])
    refused(
        staff.post(page, {"redeem-key": "k" * 20, "redeem-points": "101"}), "There are 100 points to spend, 101 were"
    )
    problem(post(secret, "points/redeem/", {"customer": ada.pk, "points": 101}, "a"), "insufficient_points")
    assert rows() == before


def test_a_second_refund_of_the_same_money(secret: str) -> None:
    order = OrderFactory(amount_minor=5000)
    earning.award_for_orders([order.pk])
    first = post(secret, f"orders/{order.pk}/refund/", {"amount_minor": 3000, "source": "shop", "source_id": "r1"})
    assert first.status_code in (200, 201), first.content
    before = rows()
    again = post(secret, f"orders/{order.pk}/refund/", {"amount_minor": 3000, "source": "shop", "source_id": "r1"})
    assert again.status_code == 200
    problem(
        post(secret, f"orders/{order.pk}/refund/", {"amount_minor": 2001, "source": "shop", "source_id": "r2"}),
        "refund_too_large",
    )
    assert rows() == before


def test_points_taken_back_or_given_back_twice(staff: Client, secret: str, ada: Customer) -> None:
    spent = ledger.redeem(customer=ada, points=30, key="s")
    ledger.cancel_redemption(entry=spent, key="c", actor=None, reason="Sold out")
    before = rows()
    page = reverse("loyalty:points-undo", args=[ada.pk, spent.pk])
    assert staff.post(page, {"key": "z" * 20, "reason": "Again"}).status_code == 409
    problem(post(secret, f"points/{spent.pk}/undo/", {"reason": "Again"}, "b"), "not_reversible")
    assert rows() == before


def test_a_rule_with_a_negative_rate(staff: Client, secret: str) -> None:
    before = rows()
    page = reverse("loyalty:rule-new", args=["points", "amount"])
    form = {"name": "Less", "points": "-2", "per_money": "10", "limit_per": ""}
    refused(staff.post(page, form), "greater than or equal to 1")
    refused(staff.post(page, {**form, "points": "2", "per_money": "-10"}), "must be")
    body = {"programme": "points", "name": "Less", "kind": "amount", "per": 1000}
    for points in (-2, 0):
        answer = post(secret, "earning-rules/", {**body, "points": points}, f"r{points}")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.status_code in (400, 422)
    problem(post(secret, "earning-rules/", {**body, "points": 1, "per": -1000}, "r"), "bad_rule")
    assert rows() == before


def test_tiers_that_overlap(staff: Client, secret: str) -> None:
    before = rows()
    form = {"measure": "points", "window": "rolling", "window_months": "12", "grace_days": "0", "step_down": "balance"}
    form |= {"name_0": "Silver", "threshold_0": "100", "name_1": "Gold", "threshold_1": "100"}
    refused(staff.post(reverse("loyalty:tiers", args=["points"]), form), "begin at the same number, so they overlap")
    body = {"tiers": [{"name": "Silver", "threshold": 100}, {"name": "Gold", "threshold": 100}]}
    problem(post(secret, "programmes/points/tiers/", body, "t"), "bad_tiers")
    assert rows() == before


def test_a_used_an_expired_and_an_unknown_voucher(staff: Client, secret: str) -> None:
    ada = CustomerFactory()
    series = vouchers.create(name="Ten", worth="percent", percent=10, valid_days=1)
    fresh, used = (vouchers.issue(series=series, customer=ada, key=key) for key in ("a", "b"))
    old = vouchers.issue(series=series, customer=ada, key="c", effective_at=clock.now() - timedelta(days=9))
    page = reverse("loyalty:voucher-use")
    found = staff.get(reverse("loyalty:vouchers"), {"code": used.code})
    assert "Use it up" in text(found)
    told = {"key": "u" * 20, "code": used.code, "reference": "812"}
    for _ in range(2):
        assert f"{codes.shown(used.code)} is used: " in text(staff.post(page, told, follow=True))
    used.refresh_from_db()
    assert (used.state, used.reference) == ("used", "812")
    before = rows()
    for code, words, name in (
        (used.code, "was used on", "voucher_used"),
        (old.code, "could be used until", "voucher_expired"),
        ("NOSUCHCODE", "no voucher with this code", "unknown_voucher"),
    ):
        shown = text(staff.post(page, {"key": uuid4().hex, "code": code}, follow=True))
        assert words in shown
        answer = post(secret, "vouchers/use/", {"code": code}, uuid4().hex)
        assert answer.json()["code"] == name
        assert answer.status_code in (404, 409)
    refused(staff.post(page, {"key": "short", "code": fresh.code}), "press the button on this page")
    assert rows() == before
    viewer = Client()
    viewer.force_login(UserFactory(role=Role.VIEWER))
    assert viewer.post(page, {"key": uuid4().hex, "code": fresh.code}).status_code == 403
    assert rows() == before


def test_an_upload_with_duplicate_codes(staff: Client, secret: str) -> None:
    series = vouchers.create(name="Partner", worth="percent", percent=10, is_endless=False)
    vouchers.add(series=series, given=["KNOWN-1"])
    before = rows()
    page = reverse("loyalty:voucher-upload", args=[series.pk])
    for content, words in ((b"AAAA\nBBBB\nAAAA\n", "twice in the file: AAAA."), (b"CCCC\nknown1\n", "KNOWN1")):
        refused(staff.post(page, {"upload-file": SimpleUploadedFile("c.csv", content)}), words)
    for given in (["AAAA", "BBBB", "aaaa"], ["CCCC", "KNOWN1"]):
        problem(post(secret, f"voucher-series/{series.pk}/codes/", {"codes": given}), "duplicate_codes")
    assert rows() == before


def test_a_forged_wallet_link(ada: Customer) -> None:
    good, before = wallet.token(wallet.card(ada)), rows()
    for token in (good[:-1] + ("A" if good[-1] != "A" else "B"), good.replace("-1~", "-2~"), "1-1~x~forged"):
        for name, extra in (("wallet", []), ("wallet-redeem", [1])):
            refused(
                Client().get(reverse(f"loyalty:{name}", args=[token, *extra])), "This link to your points has ended."
            )
        assert Client().post(reverse("loyalty:wallet-redeem", args=[token, 1]), {}).status_code == 410
    assert rows() == before


def test_the_same_key_with_another_body(staff: Client, secret: str, ada: Customer) -> None:
    page = reverse("loyalty:points-redeem", args=[ada.pk])
    form = {"redeem-key": "k" * 20, "redeem-points": "10"}
    assert staff.post(page, form).status_code == 302
    assert post(secret, "points/redeem/", {"customer": ada.pk, "points": 10}, "same").status_code == 201
    before = rows()
    refused(staff.post(page, {**form, "redeem-points": "11"}), "This key was used for")
    problem(post(secret, "points/redeem/", {"customer": ada.pk, "points": 11}, "same"), "key_reused")
    assert rows()["Entry"] == before["Entry"]
    assert rows() == before

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from customers.models import Customer
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.models import IdempotencyRecord
from loyalty import codes, rewards, vouchers
from loyalty.errors import DuplicateCodes, KeyReused, SoldOut, UnknownVoucher, VoucherNotUsable
from loyalty.models import Account, Programme, Redemption, Voucher, VoucherSeries
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_api import get, post
from tests.loyalty.test_pages import key_of, text
from tests.loyalty.test_races import at_once
from tests.loyalty.test_rewards_pages import signed_in

pytestmark = pytest.mark.django_db


def ten(**more: Any) -> VoucherSeries:
    return vouchers.create(**{"name": "Ten off", "worth": "percent", "percent": 10, **more})


# --- Codes ------------------------------------------------------------------------------------------------------------


def test_codes_have_no_letter_that_looks_like_another_and_are_never_the_same() -> None:
    made = {codes.new() for _ in range(5000)}
    assert len(made) == 5000
    assert set("".join(made)) == set(codes.ALPHABET)
    assert not set("0O1ILU") & set(codes.ALPHABET)


@pytest.mark.parametrize("typed", ["ab3d-9xyz-h2k4", " AB3D 9XYZ H2K4 ", "ab3d9xyz\u2013h2k4\n", "AB3D9XYZH2K4\x00"])
def test_a_code_is_found_however_it_is_typed(typed: str) -> None:
    Voucher.objects.create(series=ten(), code="AB3D9XYZH2K4")
    assert vouchers.find(typed).code == "AB3D9XYZH2K4"
    assert codes.shown("AB3D9XYZH2K4") == "AB3D-9XYZ-H2K4"


def test_it_generates_as_many_as_asked() -> None:
    series = ten(is_endless=False)
    assert vouchers.generate(series=series, count=1200) == 1200
    assert Voucher.objects.filter(series=series, state="free").count() == 1200
    for count in (0, -1, vouchers.MOST_CODES + 1):
        with pytest.raises(InvalidInput):
            vouchers.generate(series=series, count=count)


@pytest.mark.parametrize(
    "text",
    [
        "SPRING-0001\nSPRING-0002\n",
        "\ufeffcode\r\nspring0001\r\nspring0002\r\n\r\n",
        "n,code\n1,SPRING0001\n2,SPRING0002",
    ],
)
def test_it_takes_codes_of_a_file(text: str) -> None:
    assert vouchers.upload(series=ten(is_endless=False), text=text) == 2
    assert list(Voucher.objects.order_by("code").values_list("code", flat=True)) == ["SPRING0001", "SPRING0002"]


def test_a_code_twice_in_the_file_is_named_and_nothing_is_stored() -> None:
    with pytest.raises(DuplicateCodes, match=r"2 codes are twice in the file: AAAA, BBBB\. Nothing was stored\."):
        vouchers.upload(series=ten(is_endless=False), text="AAAA\nBBBB\nCCCC\naaaa\nB-BBB\n")
    assert not Voucher.objects.exists()


def test_a_code_that_is_known_is_named_and_nothing_is_stored() -> None:
    one, two = ten(is_endless=False), ten(is_endless=False)
    vouchers.upload(series=one, text="AAAA\n")
    with pytest.raises(DuplicateCodes, match=r"1 code is here already: AAAA\. Nothing was stored\."):
        vouchers.upload(series=two, text="CCCC\nAAAA\n")
    assert Voucher.objects.count() == 1


@pytest.mark.parametrize("text", ["", "code\n", "\n\n", "abc\n", "x" * 65, "code,n\n,1\n"])
def test_it_refuses_a_file_without_good_codes(text: str) -> None:
    with pytest.raises(InvalidInput):
        vouchers.upload(series=ten(is_endless=False), text=text)
    assert not Voucher.objects.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": " "},
        {"percent": 0},
        {"percent": 101},
        {"percent": None},
        {"worth": "amount"},
        {"worth": "amount", "amount_minor": 0},
        {"worth": "other"},
        {"worth": "gold"},
        {"valid_days": 0},
    ],
)
def test_it_refuses_vouchers_that_are_worth_nothing(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        ten(**wrong)
    assert not VoucherSeries.objects.exists()


def test_the_table_refuses_a_second_use_and_a_code_of_nobody() -> None:
    one = vouchers.issue(series=ten(), customer=CustomerFactory(), key="a")
    for wrong in ({"customer": None}, {"used_at": clock.now()}, {"state": "used"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Voucher.objects.filter(pk=one.pk).update(**wrong)


# --- Issued and used --------------------------------------------------------------------------------------------------


def test_it_is_issued_once_per_key() -> None:
    ada, series = CustomerFactory(), ten(valid_days=30)
    first = vouchers.issue(series=series, customer=ada, key="a")
    again = vouchers.issue(series=series, customer=ada, key="a")
    assert (first.state, first.customer, again.pk, again.replayed) == ("issued", ada, first.pk, True)
    assert first.expires_at == clock.day_end(clock.today() + timedelta(days=30))
    with pytest.raises(KeyReused):
        vouchers.issue(series=series, customer=CustomerFactory(), key="a")
    assert Voucher.objects.count() == 1


def test_a_stock_gives_each_code_once_and_says_when_it_is_empty() -> None:
    series = ten(is_endless=False)
    vouchers.upload(series=series, text="AAAA\nBBBB\n")
    people = [CustomerFactory() for _ in range(3)]
    given = {vouchers.issue(series=series, customer=one, key=f"k{n}").code for n, one in enumerate(people[:2])}
    assert given == {"AAAA", "BBBB"}
    with pytest.raises(SoldOut, match="No code of “Ten off” is left"):
        vouchers.issue(series=series, customer=people[2], key="k2")
    assert Voucher.objects.filter(state="issued").count() == 2


def test_it_is_used_once() -> None:
    one = vouchers.issue(series=ten(), customer=CustomerFactory(), key="a")
    used = vouchers.use(code=codes.shown(one.code), key="till-1", reference="order 812")
    assert (used.state, used.reference) == ("used", "order 812")
    assert vouchers.use(code=one.code, key="till-1", reference="order 812").replayed
    with pytest.raises(VoucherNotUsable, match="was used on") as refused:
        vouchers.use(code=one.code, key="till-2", reference="order 813")
    assert refused.value.code == "voucher_used"
    with pytest.raises(KeyReused):
        vouchers.use(code=one.code, key="till-1", reference="order 900")
    one.refresh_from_db()
    assert (one.reference, one.use_key) == ("order 812", "till-1")


def test_an_expired_a_free_and_a_void_one_cannot_be_used() -> None:
    series = ten(valid_days=1, is_endless=False)
    vouchers.upload(series=series, text="AAAA\nBBBB\n")
    late = vouchers.issue(
        series=series, customer=CustomerFactory(), key="a", effective_at=clock.now() - timedelta(days=5)
    )
    gone = vouchers.void(voucher=vouchers.issue(series=ten(), customer=CustomerFactory(), key="b"))
    free = Voucher.objects.get(state="free")
    for one, code, words in (
        (late, "voucher_expired", "could be used until"),
        (gone, "voucher_void", "was taken back"),
        (free, "voucher_not_issued", "was not given to anybody"),
    ):
        with pytest.raises(VoucherNotUsable, match=words) as refused:
            vouchers.use(code=one.code, key=f"till-{code}")
        assert refused.value.code == code
    assert late.status() == "expired"
    assert not Voucher.objects.filter(state="used").exists()
    with pytest.raises(UnknownVoucher):
        vouchers.use(code="NOSUCHCODE", key="t")


def test_its_last_day_counts_to_the_end() -> None:
    one = vouchers.issue(series=ten(valid_days=3), customer=CustomerFactory(), key="a")
    assert one.expires_at is not None
    assert vouchers.refusal(one, one.expires_at - timedelta(seconds=1)) is None
    assert vouchers.refusal(one, one.expires_at) is not None


@pytest.mark.django_db(transaction=True)
def test_twenty_tills_at_once_use_it_once() -> None:
    """Fault 40."""
    one = vouchers.issue(series=ten(), customer=CustomerFactory(), key="a")
    assert at_once(20, lambda n: vouchers.use(code=one.code, key=f"t{n}")) == {"done": 1, "voucher_used": 19}


@pytest.mark.django_db(transaction=True)
def test_without_the_condition_in_the_write_the_same_voucher_is_used_twenty_times() -> None:
    """The twin of fault 40: look first, write afterwards. If this passed, the race above proves nothing."""
    one = vouchers.issue(series=ten(), customer=CustomerFactory(), key="a")
    everybody_looked = threading.Barrier(20)

    def use(n: int) -> None:
        found = Voucher.objects.get(code=one.code)
        assert found.state == "issued"
        everybody_looked.wait(30)
        Voucher.objects.filter(pk=found.pk).update(state="used", used_at=clock.now(), reference=f"t{n}")

    assert at_once(20, use) == {"done": 20}


@pytest.mark.django_db(transaction=True)
def test_twenty_customers_at_once_on_seven_codes_get_seven_different_ones() -> None:
    series = ten(is_endless=False)
    vouchers.generate(series=series, count=7)
    people = [CustomerFactory() for _ in range(20)]
    ends = at_once(20, lambda n: vouchers.issue(series=series, customer=people[n], key=f"k{n}"))
    assert ends == {"done": 7, "sold_out": 13}
    assert Voucher.objects.values("customer").distinct().count() == Voucher.objects.count() == 7


# --- As a reward ------------------------------------------------------------------------------------------------------


def reward(series: VoucherSeries) -> Any:
    programme = Programme.current()
    assert programme is not None
    return rewards.create(programme=programme, name="Ten off", kind="discount", points=100, series=series)


def test_a_redeemed_discount_gives_a_code_and_cancelling_takes_it_back() -> None:
    ada = CustomerFactory()
    give(ada, 100)
    done = rewards.redeem(reward=reward(ten()), customer=ada, key="a")
    voucher = Voucher.objects.get()
    assert (done.state, voucher.customer, voucher.redemption, voucher.state) == ("handed_out", ada, done, "issued")
    rewards.cancel(redemption=done, actor=None, reason="Changed my mind")
    voucher.refresh_from_db()
    assert (voucher.state, Account.objects.get().balance) == ("void", 100)


def test_a_used_code_is_not_given_back() -> None:
    ada = CustomerFactory()
    give(ada, 100)
    done = rewards.redeem(reward=reward(ten()), customer=ada, key="a")
    vouchers.use(code=Voucher.objects.get().code, key="t")
    with pytest.raises(VoucherNotUsable, match="was used on"):
        rewards.cancel(redemption=done, actor=None, reason="x")
    done.refresh_from_db()
    assert (done.state, Account.objects.get().balance) == ("handed_out", 0)


def test_the_catalogue_says_how_many_codes_are_left_and_what_a_reward_costs(client: Client) -> None:
    series = ten(is_endless=False)
    vouchers.generate(series=series, count=3)
    vouchers.issue(series=series, customer=CustomerFactory(), key="a")
    rewards.change(reward=reward(series), cost_minor=1250)
    rewards.create(programme=Programme.objects.get(), name="Endless", kind="discount", points=5, series=ten(name="E"))
    client.force_login(UserFactory(role=Role.MARKETER))
    shown = text(client.get(reverse("loyalty:rewards")))
    assert "2 codes left" in shown
    assert shown.count("codes left") == 1, "codes that are made as needed have no stock"
    assert "costs us US$12.50" in shown


def test_a_reward_without_a_code_left_moves_nothing() -> None:
    ada = CustomerFactory()
    give(ada, 100)
    with pytest.raises(SoldOut):
        rewards.redeem(reward=reward(ten(is_endless=False)), customer=ada, key="a")
    assert Account.objects.get().balance == 100
    assert not Redemption.objects.exists()


# --- API --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def secret() -> str:
    return ApiKey.issue(name="Till", scopes=["vouchers:write"])[1]


def test_a_till_checks_and_uses_a_voucher(secret: str) -> None:
    ada = CustomerFactory()
    series = post(
        secret, "voucher-series/", {"name": "Five", "worth": "amount", "amount_minor": 500, "valid_days": 10}, "s"
    ).json()
    given = post(secret, f"voucher-series/{series['id']}/issue/", {"customer": ada.pk}, "i")
    assert given.status_code == 201
    code = given.json()["code"]
    assert post(secret, f"voucher-series/{series['id']}/issue/", {"customer": ada.pk}, "i").json() == given.json()
    seen = post(secret, "vouchers/check/", {"code": codes.shown(code).lower()}).json()
    assert (seen["status"], seen["is_usable"], seen["refusal"], seen["amount_minor"]) == ("issued", True, "", 500)
    used = post(secret, "vouchers/use/", {"code": code, "reference": "812"}, "u")
    assert (used.status_code, used.json()["status"]) == (201, "used")
    IdempotencyRecord.objects.all().delete()
    again = post(secret, "vouchers/use/", {"code": code, "reference": "812"}, "u")
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
    late = post(secret, "vouchers/use/", {"code": code}, "v")
    assert (late.status_code, late.json()["code"]) == (409, "voucher_used")
    seen = post(secret, "vouchers/check/", {"code": code}).json()
    assert (seen["status"], seen["is_usable"]) == ("used", False)
    assert "was used on" in seen["refusal"]
    assert post(secret, "vouchers/check/", {"code": "NOSUCH"}).json()["code"] == "unknown_voucher"
    assert post(secret, "vouchers/use/", {"code": code}).json()["code"] == "idempotency_key_required"
    assert [one["code"] for one in get(secret, f"vouchers/?customer={ada.pk}").json()["results"]] == [code]


def test_codes_come_in_over_the_api_all_or_nothing(secret: str) -> None:
    series = ten(is_endless=False)
    path = f"voucher-series/{series.pk}/codes/"
    assert post(secret, path, {"codes": ["AAAA", "BBBB"]}).json() == {"added": 2}
    assert post(secret, path, {"count": 5}).json() == {"added": 5}
    twice = post(secret, path, {"codes": ["CCCC", "AAAA"]})
    assert (twice.status_code, twice.json()["code"]) == (422, "duplicate_codes")
    assert twice.json()["details"] == {"codes": ["AAAA"], "count": 1}
    for body in ({}, {"count": 0}, {"codes": ["x"]}, {"codes": []}, {"codes": ["DDDD"], "count": 1}, {"codes": "DDDD"}):
        assert post(secret, path, body).status_code in (400, 422), body
    assert Voucher.objects.count() == 7


# --- Pages ------------------------------------------------------------------------------------------------------------


def test_pages_make_upload_issue_and_check() -> None:
    ola = signed_in()
    assert "No vouchers yet" in text(ola.get(reverse("loyalty:vouchers")))
    made = ola.post(
        reverse("loyalty:voucher-new"), {"name": "Partner", "worth": "amount", "amount": "12.50", "valid_days": "30"}
    )
    series = VoucherSeries.objects.get()
    address = reverse("loyalty:voucher-series", args=[series.pk])
    assert (made.headers["Location"], series.amount_minor, series.is_endless) == (address, 1250, False)
    page = ola.post(
        reverse("loyalty:voucher-upload", args=[series.pk]),
        {"upload-file": SimpleUploadedFile("codes.csv", b"AAAA\nBBBB\nAAAA\n")},
    )
    assert page.status_code == 422
    assert "1 code is twice in the file: AAAA. Nothing was stored." in text(page)
    assert not Voucher.objects.exists()
    for content in (b"\xff\xfe\x00", b"A\x00AAA\n"):
        page = ola.post(
            reverse("loyalty:voucher-upload", args=[series.pk]), {"upload-file": SimpleUploadedFile("c.csv", content)}
        )
        assert page.status_code == 422
    done = ola.post(
        reverse("loyalty:voucher-upload", args=[series.pk]),
        {"upload-file": SimpleUploadedFile("c.csv", b"AAAA\nBBBB\n")},
    )
    assert done.headers["Location"] == address
    assert ola.post(reverse("loyalty:voucher-generate", args=[series.pk]), {"generate-count": "3"}).status_code == 302
    assert Voucher.objects.count() == 5
    ada = CustomerFactory(name="Ada Example")
    form = {"issue-key": key_of(ola.get(address), "issue-key"), "issue-customer": ada.email}
    for _ in range(2):
        assert ola.post(reverse("loyalty:voucher-issue", args=[series.pk]), form).status_code == 302
    given = Voucher.objects.get(state="issued")
    assert "Ada Example" in text(ola.get(address))
    assert "It can be used." in text(ola.get(reverse("loyalty:vouchers"), {"code": codes.shown(given.code)}))
    assert "no voucher with this code" in text(ola.get(reverse("loyalty:vouchers"), {"code": "ZZZZ\x00"}))


def test_those_who_only_look_make_no_vouchers() -> None:
    series = ten(is_endless=False)
    viewer, support = signed_in(Role.VIEWER), signed_in(Role.SUPPORT)
    for name in ("voucher-upload", "voucher-generate"):
        assert support.post(reverse(f"loyalty:{name}", args=[series.pk]), {"generate-count": 1}).status_code == 403
    assert support.get(reverse("loyalty:voucher-new")).status_code == 403
    assert viewer.post(reverse("loyalty:voucher-issue", args=[series.pk]), {}).status_code == 403
    assert viewer.get(reverse("loyalty:voucher-series", args=[series.pk])).status_code == 200
    assert Client().get(reverse("loyalty:vouchers")).status_code == 302
    assert not Voucher.objects.exists()


def test_vouchers_of_a_customer_are_theirs(django_assert_num_queries: Any) -> None:
    ada: Customer = CustomerFactory()
    for n in range(3):
        vouchers.issue(series=ten(), customer=ada, key=f"k{n}")
    vouchers.issue(series=ten(), customer=CustomerFactory(), key="other")
    with django_assert_num_queries(1):
        assert len(vouchers.of_customer(ada)) == 3

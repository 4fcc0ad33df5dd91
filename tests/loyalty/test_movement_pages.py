"""Approvals, budgets, frozen accounts, gifts, households and merges through both doors: pages and REST."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from customers.models import Customer
from lifecycle_crm.accounts.models import ApiKey, Role, User
from lifecycle_crm.lib import clock
from loyalty import audit, goodwill, ledger, queries, tiers
from loyalty.models import (
    Account,
    Allowance,
    Approval,
    Entry,
    Freeze,
    Hold,
    HouseholdMember,
    Limits,
    Merge,
    Programme,
    Transfer,
)
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_freezing import tamper

pytestmark = pytest.mark.django_db


def sign_in(role: str) -> tuple[Client, User]:
    user = UserFactory(role=role)
    client = Client()
    client.force_login(user)
    return client, user


@pytest.fixture
def ada() -> Customer:
    Limits.objects.create(programme=Programme.current(), approve_above=100)
    customer = CustomerFactory(name="Ada Example", email="ada@shop.example")
    give(customer, 80, key="start")
    return customer


@pytest.fixture
def bo() -> Customer:
    return CustomerFactory(name="Bo Example", email="bo@shop.example")


def key_of(page: Any, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', page.content.decode())
    assert found is not None
    return found[1]


def text(page: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.content.decode()).split())


def balance(customer: Customer) -> int:
    return Account.objects.get(customer=customer).balance


def adjust(client: Client, customer: Customer, points: int, reason: str = "Sorry") -> Any:
    page = client.get(reverse("loyalty:account", args=[customer.pk]))
    told = {"adjust-key": key_of(page, "adjust-key"), "adjust-points": points, "adjust-reason": reason}
    return client.post(reverse("loyalty:points-adjust", args=[customer.pk]), told, follow=True)


# --- Four eyes --------------------------------------------------------------------------------------------------------


def test_a_gift_above_the_limit_waits_and_another_person_approves_it(ada: Customer) -> None:
    (marketer, mia), (owner, olof) = sign_in(Role.MARKETER), sign_in(Role.OWNER)
    assert "need a second person" in text(adjust(marketer, ada, 500))
    asked = Approval.objects.get()
    assert (asked.requested_by, asked.points, balance(ada)) == (mia, 500, 80)
    seen = text(marketer.get(reverse("loyalty:approvals")))
    assert "Ada Example" in seen
    assert "who did not ask" in seen
    assert "Refuse" not in seen
    decide = reverse("loyalty:approval-decide", args=[asked.pk])
    assert marketer.post(decide, {"answer": "yes"}).status_code == 403
    assert "Approved: 500 points moved." in text(owner.post(decide, {"answer": "yes"}, follow=True))
    assert balance(ada) == 580
    assert "decided this already" in text(owner.post(decide, {"answer": "no"}, follow=True))
    assert "Approved" in text(owner.get(reverse("loyalty:approvals"), {"shows": "decided"}))
    assert Entry.objects.get(kind="adjust").explanation == {"asked_by": mia.pk, "approved_by": olof.pk}


@pytest.mark.parametrize("points", [501, -501])
def test_support_stops_at_its_limit_at_every_door(ada: Customer, points: int) -> None:
    Limits.objects.update(approve_above=10_000)
    give(ada, 1000, key="more")
    support, _sam = sign_in(Role.SUPPORT)
    refused = "Your role may give or take up to 500 points at once."

    def by_api(points: int) -> Any:
        told = {"customer": ada.pk, "points": points, "reason": "Sorry"}
        headers = {"Idempotency-Key": f"k{points}"}
        return support.post("/api/v1/points/adjust/", told, content_type="application/json", headers=headers)

    def on_their_page(points: int) -> Any:
        told = {"points": points, "reason": "Sorry", "key": f"k{points}"}
        return support.post(reverse("dashboard:customer-points-give", args=[ada.pk]), told, follow=True)

    answer = by_api(points)
    assert (answer.status_code, answer.json()["code"], answer.json()["title"]) == (403, "above_role", refused)
    page = adjust(support, ada, points)
    assert page.status_code == 403
    assert refused in text(page)
    assert refused in text(on_their_page(points))
    assert (balance(ada), Entry.objects.filter(kind="adjust").count(), Approval.objects.count()) == (1080, 0, 0)

    allowed = 500 if points > 0 else -500
    assert by_api(allowed).status_code == 201
    assert adjust(support, ada, -allowed).status_code == 200
    on_their_page(allowed)
    assert (balance(ada), Entry.objects.filter(kind="adjust").count()) == (1080 + allowed, 3)


def test_an_owner_does_not_approve_what_they_asked_themselves(ada: Customer) -> None:
    owner, _user = sign_in(Role.OWNER)
    adjust(owner, ada, 500)
    decide = reverse("loyalty:approval-decide", args=[Approval.objects.get().pk])
    assert "Somebody else has to decide" in text(owner.post(decide, {"answer": "yes"}, follow=True))
    assert balance(ada) == 80


def test_the_customer_s_own_page_asks_for_a_second_person_too(ada: Customer) -> None:
    marketer, _user = sign_in(Role.MARKETER)
    told = {"points": 500, "reason": "Sorry", "key": "abc"}
    marketer.post(reverse("dashboard:customer-points-give", args=[ada.pk]), told)
    assert (Approval.objects.get().points, balance(ada)) == (500, 80)


# --- Goodwill ---------------------------------------------------------------------------------------------------------


def test_support_gives_from_a_budget_that_an_owner_sets_and_it_stops_them(ada: Customer) -> None:
    (owner, _olof), (support, sam) = sign_in(Role.OWNER), sign_in(Role.SUPPORT)
    page = reverse("loyalty:goodwill")
    assert support.post(page, {"whose": "role:support", "points": 9}).status_code == 403
    assert owner.post(page, {"whose": "role:support", "points": 50}).status_code == 302
    assert owner.post(page, {"whose": "role:king", "points": 50}).status_code == 422
    assert (Allowance.objects.get().role, Allowance.objects.get().points) == ("support", 50)
    assert "You have 50 of 50 points left this month." in text(support.get(page))
    assert "30 points given." in text(adjust(support, ada, 30))
    assert "20 points left this month, 21 were asked for" in text(adjust(support, ada, 21))
    assert (balance(ada), goodwill.budget(sam).used) == (110, 30)
    assert "Your goodwill budget has 20 of 50 points left" in text(
        support.get(reverse("loyalty:account", args=[ada.pk]))
    )
    assert "20 points taken." in text(adjust(support, ada, -20)), "taking is not giving"


# --- Frozen -----------------------------------------------------------------------------------------------------------


def test_a_frozen_account_is_opened_again_by_a_person_with_a_reason(ada: Customer, bo: Customer) -> None:
    (owner, olof), (support, _sam) = sign_in(Role.OWNER), sign_in(Role.SUPPORT)
    assert "No account is frozen" in text(owner.get(reverse("loyalty:frozen")))
    tamper(ada)
    ledger.prove()
    page = reverse("loyalty:unfreeze", args=[Freeze.objects.get().pk])
    assert "Ada Example" in text(owner.get(reverse("loyalty:frozen")))
    assert support.get(page).status_code == 403
    assert "balance" in text(owner.get(page))
    refused = owner.post(page, {"reason": "Fine"})
    assert (refused.status_code, "still disagrees" in text(refused)) == (409, True)
    assert owner.post(page, {"is_rebuilt": "on"}).status_code == 422
    assert owner.post(page, {"reason": "A script", "is_rebuilt": "on"}).status_code == 302
    row = Freeze.objects.get()
    assert (row.ended_by, row.reason, balance(ada)) == (olof, "A script", 80)
    assert owner.get(page).status_code == 404


# --- Gifts, households, merges, holds ---------------------------------------------------------------------------------


def moving(customer: Customer) -> str:
    return reverse("loyalty:points-move", args=[customer.pk])


def test_points_are_given_on(ada: Customer, bo: Customer) -> None:
    support, sam = sign_in(Role.SUPPORT)
    key = key_of(support.get(moving(ada)), "transfer-key")
    told = {"transfer-key": key, "transfer-customer": "bo@shop.example", "transfer-points": 30}
    send = reverse("loyalty:points-transfer", args=[ada.pk])
    for _turn in range(2):  # a second press of the button
        assert "30 points given on." in text(support.post(send, told, follow=True))
    assert (balance(ada), balance(bo), Transfer.objects.get().actor) == (50, 30, sam)
    refused = support.post(send, {**told, "transfer-key": "x" * 20, "transfer-points": 51})
    assert (refused.status_code, "There are 50 points to spend" in text(refused)) == (409, True)
    assert support.post(send, {**told, "transfer-customer": "nobody"}).status_code == 422
    assert sign_in(Role.VIEWER)[0].post(send, told).status_code == 403
    assert (balance(ada), balance(bo)) == (50, 30)
    assert f"To customer #{bo.pk}." in text(support.get(reverse("loyalty:account", args=[ada.pk])))


def test_a_household_is_started_joined_and_left(ada: Customer, bo: Customer) -> None:
    support, _sam = sign_in(Role.SUPPORT)
    join = reverse("loyalty:household-join", args=[ada.pk])
    assert support.post(join, {"household-customer": "bo@shop.example"}).status_code == 422
    told = {"household-name": "Elm Street 4", "household-customer": "bo@shop.example"}
    assert support.post(join, told).status_code == 302
    assert "Household Elm Street 4" in text(support.get(moving(bo)))
    cy = CustomerFactory(email="cy@shop.example")
    assert support.post(join, {"household-customer": "cy@shop.example"}).status_code == 302
    refused = support.post(join, {"household-customer": "cy@shop.example"})
    assert (refused.status_code, "in a household already" in text(refused)) == (409, True)
    assert support.post(reverse("loyalty:household-leave", args=[cy.pk])).status_code == 302
    assert HouseholdMember.objects.filter(left_at=None).count() == 2
    assert "is in no household" in text(support.post(reverse("loyalty:household-leave", args=[cy.pk]), follow=True))


def test_two_customers_are_merged_and_taken_apart(ada: Customer, bo: Customer) -> None:
    (owner, olof), (support, _sam) = sign_in(Role.OWNER), sign_in(Role.SUPPORT)
    send = reverse("loyalty:points-merge", args=[ada.pk])
    told = {"merge-key": key_of(owner.get(moving(ada)), "merge-key"), "merge-customer": "bo@shop.example"}
    assert support.post(send, told).status_code == 403
    assert owner.post(send, told).status_code == 422, "without a reason"
    assert owner.post(send, {**told, "merge-reason": "Same person"}).status_code == 302
    assert (balance(ada), balance(bo), Merge.objects.get().actor) == (0, 80, olof)
    assert "Bo Example" in text(owner.get(moving(ada)))
    undo = reverse("loyalty:points-unmerge", args=[ada.pk, Merge.objects.get().pk])
    assert support.post(undo).status_code == 403
    assert "The merge is undone." in text(owner.post(undo, follow=True))
    assert "undone already" in text(owner.post(undo, follow=True))
    assert (balance(ada), balance(bo)) == (80, 0)
    assert audit.problems() == []


def test_a_hold_is_seen_and_freed(ada: Customer) -> None:
    support, _sam = sign_in(Role.SUPPORT)
    hold = ledger.authorise(customer=ada, points=30, key="cart", reason="Cart 812")
    assert "Cart 812" in text(support.get(moving(ada)))
    assert "Held 30" in text(support.get(reverse("loyalty:account", args=[ada.pk])))
    free = reverse("loyalty:hold-void", args=[ada.pk, hold.pk])
    assert "30 points are free again." in text(support.post(free, follow=True))
    assert balance(ada) == 80
    assert support.post(reverse("loyalty:hold-void", args=[ada.pk, 10**18 * 9])).status_code == 404


def test_what_is_owed_is_told_as_of_a_date_with_a_table_for_the_accountant(ada: Customer) -> None:
    viewer, _user = sign_in(Role.MARKETER)
    page = reverse("loyalty:liability")
    today = {"as_of": clock.today().isoformat()}
    seen = text(viewer.get(page, today))
    assert "80 points of 1 customer" in seen
    assert "US$0.80" in seen
    assert "Not enough data" in seen
    early = text(viewer.get(page, {"as_of": "2020-01-01"}))
    assert "0 points of 0 customers" in early
    for wrong in ("yesterday", "1999-01-01", (clock.today() + timedelta(days=2)).isoformat()):
        assert viewer.get(page, {"as_of": wrong}).status_code == 422
    assert viewer.get(page, {"programme": "99"}).status_code == 404
    sheet = viewer.get(reverse("loyalty:liability-csv", args=["calendar"]), today)
    assert sheet.content.decode().split("\r\n") == ["last_day_in,points,worth,customers", ",80,0.80,1", ""]
    assert viewer.get(reverse("loyalty:liability-csv", args=["months"]), today).content.decode().count("\r\n") == 14
    assert viewer.get(reverse("loyalty:liability-csv", args=["other"])).status_code == 404
    assert "By tier" not in seen
    tiers.set_ladder(programme=Programme.objects.get(), steps=[tiers.Step("Silver", 100)])
    assert "By tier" in text(viewer.get(page, today))
    sheet = viewer.get(reverse("loyalty:liability-csv", args=["tiers"]), today)
    assert sheet.content.decode().split("\r\n")[1:] == ["silver,Silver,0,0.00,0", ",,80,0.80,1", ""]
    assumed = text(viewer.get(page, {**today, "redeemed": "75"}))
    assert "US$0.60 if 75% of the points are redeemed, as assumed" in assumed
    for wrong in ("101", "-1", "x"):
        assert viewer.get(page, {**today, "redeemed": wrong}).status_code == 422
    whose = viewer.get(reverse("loyalty:liability-people", args=["never"]), today)
    assert "Ada Example" in text(whose)
    assert viewer.get(reverse("loyalty:liability-people", args=["soon"])).status_code == 404


# --- REST -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def secret() -> str:
    return ApiKey.issue(name="Till", scopes=["points:write"])[1]


def post(secret: str, path: str, body: dict[str, Any], key: str = "") -> Any:
    headers = {"Authorization": f"Bearer {secret}", **({"Idempotency-Key": key} if key else {})}
    return Client().post(f"/api/v1/{path}", body, content_type="application/json", headers=headers)


def get(secret: str, path: str) -> Any:
    return Client().get(f"/api/v1/{path}", headers={"Authorization": f"Bearer {secret}"})


def test_rest_holds_posts_and_voids(secret: str, ada: Customer) -> None:
    body = {"customer": ada.pk, "points": 30, "reason": "Cart"}
    assert post(secret, "holds/", body).json()["code"] == "idempotency_key_required"
    made = post(secret, "holds/", body, "a")
    assert (made.status_code, made.json()["state"]) == (201, "open")
    assert post(secret, "holds/", body, "a").json()["id"] == made.json()["id"]
    assert post(secret, "holds/", {**body, "points": 31}, "a").status_code == 422
    assert post(secret, "holds/", {**body, "points": 51}, "b").json()["code"] == "insufficient_points"
    pk = made.json()["id"]
    done = post(secret, f"holds/{pk}/post/", {"points": 20}).json()
    assert (done["state"], balance(ada), Account.objects.get().spent) == ("posted", 60, 20)
    refused = post(secret, f"holds/{pk}/void/", {})
    assert (refused.status_code, refused.json()["code"]) == (409, "hold_resolved")
    other = post(secret, "holds/", body, "c").json()["id"]
    assert post(secret, f"holds/{other}/void/", {}).json()["state"] == "voided"
    assert [one["state"] for one in get(secret, f"holds/?customer={ada.pk}").json()["results"]] == ["voided", "posted"]
    assert Hold.objects.filter(state="open").count() == 0


def test_rest_transfers_merges_and_households(secret: str, ada: Customer, bo: Customer) -> None:
    made = post(secret, "transfers/", {"customer": ada.pk, "to": bo.pk, "points": 30}, "t")
    assert (made.status_code, made.json()["to"], balance(bo)) == (201, bo.pk, 30)
    assert post(secret, "transfers/", {"customer": ada.pk, "to": ada.pk, "points": 1}, "u").status_code == 422
    assert post(secret, "transfers/", {"customer": ada.pk, "to": 10**9, "points": 1}, "v").status_code == 404
    home = post(secret, "households/", {"name": "Elm", "customers": [ada.pk, bo.pk]}).json()
    assert (home["members"], home["pooled"]) == ([ada.pk, bo.pk], 80)
    cy = CustomerFactory()
    assert post(secret, f"households/{home['id']}/join/", {"customer": cy.pk}).json()["members"][-1] == cy.pk
    assert post(secret, f"households/{home['id']}/leave/", {"customer": cy.pk}).json()["members"] == [ada.pk, bo.pk]
    merged = post(secret, "merges/", {"customer": ada.pk, "into": bo.pk, "reason": "Same"}, "m")
    assert (merged.status_code, merged.json()[0]["points"], balance(bo)) == (201, 50, 80)
    again = post(secret, "merges/", {"customer": ada.pk, "into": bo.pk, "reason": "Same"}, "m2")
    assert (again.status_code, again.json()["code"]) == (409, "already_merged")
    undone = post(secret, f"merges/{merged.json()[0]['id']}/undo/", {})
    assert (undone.status_code, balance(ada), balance(bo)) == (200, 50, 30)


def test_rest_asks_a_second_person_above_the_limit_and_a_key_cannot_be_one(secret: str, ada: Customer) -> None:
    body = {"customer": ada.pk, "points": 101, "reason": "Lost parcel"}
    asked = post(secret, "points/adjust/", body, "a")
    assert (asked.status_code, asked.json()["state"], balance(ada)) == (202, "waiting", 80)
    path = f"approvals/{asked.json()['id']}/approve/"
    assert post(secret, path, {}).status_code == 403
    owner, _user = sign_in(Role.OWNER)
    done = owner.post(f"/api/v1/{path}", {"note": "Seen"}, content_type="application/json")
    assert (done.status_code, done.json()["state"], balance(ada)) == (200, "approved", 181)
    assert owner.get("/api/v1/goodwill/").json()["points"] == 0


def test_rest_opens_a_frozen_account(secret: str, ada: Customer) -> None:
    tamper(ada)
    ledger.prove()
    [row] = get(secret, "frozen/").json()["results"]
    assert (row["customer"], row["what"]) == (ada.pk, "balance")
    assert post(secret, f"frozen/{row['id']}/unfreeze/", {"reason": "x"}).json()["code"] == "still_broken"
    assert post(secret, f"frozen/{row['id']}/unfreeze/", {"reason": "x", "is_rebuilt": True}).status_code == 204
    assert queries.frozen().count() == 0


def test_rest_tells_the_liability_of_a_date(secret: str, ada: Customer) -> None:
    told = get(secret, f"liability/?as_of={clock.today()}").json()
    assert (told["points"], told["liability_minor"], told["holders"]) == (80, 80, 1)
    assert (told["breakage"]["points"], told["effect"]["difference_minor"]) == (None, None)
    assert told["calendar"] == [{"first": None, "points": 80, "people": 1, "worth_minor": 80}]
    assert len(told["months"]) == 13
    assert told["tiers"] == []
    assert get(secret, "liability/?as_of=soon").status_code == 422
    assert get(secret, "liability/?programme=77").status_code == 404

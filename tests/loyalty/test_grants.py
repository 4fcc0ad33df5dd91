"""Points for a set of people: the preview, the second person, the worker's batches, what is left out, and the way back."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.test import Client
from django.urls import reverse

from customers import facts, segments
from customers.models import Customer
from lifecycle_crm.accounts.models import ApiKey, Role, User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import approvals, audit, goodwill, grants, ledger
from loyalty.errors import AboveRole, AlreadyDecided, FourEyes, GrantChanged, KeyReused, NobodyToGive, NotReversible
from loyalty.models import Account, Approval, Entry, Grant, GrantPerson, Limits, Programme, Tier, TierStanding
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_api import get, post
from tests.loyalty.test_pages import text

pytestmark = pytest.mark.django_db

REASON = "The shop was closed"


@pytest.fixture
def crowd() -> list[Customer]:
    return [CustomerFactory() for _ in range(5)]


@pytest.fixture
def mia() -> User:
    return UserFactory(role=Role.MARKETER)


@pytest.fixture
def boss() -> User:
    return UserFactory(role=Role.OWNER)


@pytest.fixture
def staff(mia: User) -> Client:
    client = Client()
    client.force_login(mia)
    return client


def everybody(people: list[Customer]) -> grants.Whom:
    return grants.of_list(one.pk for one in people)


def ask(people: list[Customer], **more: Any) -> Grant:
    asked: dict[str, Any] = {
        "whom": more.get("whom") or everybody(people),
        "points": 100,
        "key": "k",
        "actor": None,
        "reason": REASON,
    }
    return grants.ask(**{**asked, **more})


def given(people: list[Customer], **more: Any) -> Grant:
    made = ask(people, **more)
    grants.work()
    made.refresh_from_db()
    return made


def balances(people: list[Customer]) -> list[int]:
    found = dict(Account.objects.values_list("customer_id", "balance"))
    return [found.get(one.pk, 0) for one in people]


def test_everybody_of_a_list_gets_them_once_in_batches(
    crowd: list[Customer], mia: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants, "BATCH", 2)
    made = ask(crowd, actor=mia)
    assert (made.state, made.people, made.total, made.worth_minor) == ("giving", 5, 500, 500)
    assert balances(crowd) == [0] * 5, "the worker gives them"
    assert grants.work_batch(made.pk) == 2
    assert sorted(balances(crowd)) == [0, 0, 0, 100, 100]
    assert grants.work() == {"people": 3}
    made.refresh_from_db()
    assert (made.state, balances(crowd), grants.work()) == ("done", [100] * 5, {})
    row = Entry.objects.get(customer=crowd[0])
    assert (row.kind, row.points, row.reason, row.actor, row.source_type, row.source_id) == (
        "adjust", 100, REASON, mia, "grant", str(made.pk)
    )  # fmt: skip
    assert row.lot.expires_at == ledger.expiry(row.effective_at, made.programme.expiry_months)
    told = grants.progress(made)
    assert (told.got, told.waiting, told.left_out) == (5, 0, {})
    assert audit.problems() == []


def test_a_batch_costs_the_same_however_many_are_in_it(
    crowd: list[Customer], django_assert_max_num_queries: Any
) -> None:
    made = ask(crowd)
    with django_assert_max_num_queries(45):
        grants.work_batch(made.pk)
    assert balances(crowd) == [100] * 5


def test_the_same_request_again_is_the_same_set(crowd: list[Customer]) -> None:
    made = ask(crowd)
    again = ask(crowd)
    assert (again.pk, again.replayed, Grant.objects.count(), GrantPerson.objects.count()) == (made.pk, True, 1, 5)
    for other in ({"points": 101}, {"reason": "Another"}):
        with pytest.raises(KeyReused):
            ask(crowd, **other)
    for others in (crowd[:4], [*crowd, CustomerFactory()]):
        with pytest.raises(KeyReused):
            ask(others)
    assert (Grant.objects.count(), GrantPerson.objects.count(), Entry.objects.count()) == (1, 5, 0)


def test_who_is_in_it_is_fixed_when_it_is_asked_for(crowd: list[Customer]) -> None:
    club = segments.create(name="Club", kind="static")
    segments.add_members(segment=club, customers=[one.pk for one in crowd[:2]])
    facts.refresh_now([one.pk for one in crowd])
    made = ask([], whom=grants.of_segment(club))
    assert (made.whom, made.whom_key, made.whom_name, made.people) == ("segment", club.key, "Club", 2)
    segments.add_members(segment=club, customers=[crowd[2].pk])
    segments.remove_members(segment=club, customers=[crowd[0].pk])
    grants.work()
    assert balances(crowd) == [100, 100, 0, 0, 0]
    for change in ({"points": 500}, {"people": 3}):
        with pytest.raises(DatabaseError), transaction.atomic():
            Grant.objects.filter(pk=made.pk).update(**change)
    with pytest.raises(DatabaseError), transaction.atomic():
        GrantPerson.objects.filter(grant=made).delete()


def test_a_tier_and_a_live_segment(crowd: list[Customer]) -> None:
    programme = Programme.current()
    gold = Tier.objects.create(programme=programme, key="gold", name="Gold", threshold=10)
    TierStanding.objects.create(programme=programme, customer=crowd[3], tier="gold", since=clock.now())
    made = given([], whom=grants.of_tier(gold))
    assert (made.people, made.whom_name, balances(crowd)) == (1, "Gold", [0, 0, 0, 100, 0])
    nobody = segments.create(name="Nobody", condition={"fact": "orders", "op": "gte", "value": 99})
    with pytest.raises(NobodyToGive):
        ask([], whom=grants.of_segment(nobody), key="n")
    segments.archive(segment=nobody)
    with pytest.raises(InvalidInput, match="archived"):
        grants.of_segment(nobody)


def test_it_leaves_out_who_can_get_nothing_and_says_why(crowd: list[Customer], boss: User) -> None:
    a, b, c, d, e = crowd
    for one in (a, b, c):
        give(one, 1)
    ledger.merge(customer=a, into=b, key="m", actor=boss, reason="One person")
    ledger.freeze(accounts=[Account.objects.get(customer=c).pk])
    found = grants.preview(whom=everybody(crowd), points=10, actor=None)
    assert (found.people, found.left_out, found.total, found.worth_minor) == (3, {"merged": 1, "frozen": 1}, 30, 30)
    made = ask(crowd, points=10)
    # Meanwhile one more is frozen: they are left out by the worker.
    give(d, 1)
    ledger.freeze(accounts=[Account.objects.get(customer=d).pk])
    grants.work()
    told = grants.progress(made)
    assert (told.got, told.left_out) == (2, {"merged": 1, "frozen": 2})
    assert balances([b, c, d, e]) == [12, 1, 1, 10]
    Programme.objects.update(joining="asked")
    found = grants.preview(whom=everybody([e]), points=10, actor=None)
    assert (found.people, found.left_out) == (0, {"stranger": 1})


def test_above_the_limit_the_total_waits_for_one_other_person(crowd: list[Customer], mia: User, boss: User) -> None:
    Limits.objects.create(programme=Programme.current(), approve_above=499)
    assert grants.preview(whom=everybody(crowd), points=100, actor=mia).needs_second
    assert not grants.preview(whom=everybody(crowd[:4]), points=100, actor=mia).needs_second
    made = given(crowd, actor=mia)
    asked = Approval.objects.get()
    assert (made.state, asked.grant, asked.customer, asked.points) == ("waiting", made, None, 500)
    assert Entry.objects.count() == 0
    with pytest.raises(FourEyes):
        approvals.approve(approval=asked, actor=mia)
    done = approvals.approve(approval=asked, actor=boss, note="Agreed")
    with pytest.raises(AlreadyDecided):
        approvals.refuse(approval=asked, actor=boss)
    grants.work()
    assert (done.state, done.entry, balances(crowd)) == ("approved", None, [100] * 5)
    assert Entry.objects.first().explanation == {"grant": made.pk, "asked_by": mia.pk, "approved_by": boss.pk}
    other = ask(crowd, actor=mia, key="k2")
    approvals.refuse(approval=Approval.objects.get(grant=other), actor=boss)
    other.refresh_from_db()
    assert (other.state, grants.work(), balances(crowd)) == ("refused", {}, [100] * 5)


def test_a_set_is_no_way_around_a_budget(crowd: list[Customer], mia: User) -> None:
    goodwill.allow(user=mia, points=50)
    assert ask(crowd[:1], actor=mia).state == "waiting"


def test_it_refuses_what_was_not_agreed_to(crowd: list[Customer], mia: User) -> None:
    support = UserFactory(role=Role.SUPPORT)
    for refused, more in (
        (GrantChanged, {"at_most": 499}),
        (AboveRole, {"actor": support}),
        (InvalidInput, {"points": 0}),
        (InvalidInput, {"points": -5}),
        (InvalidInput, {"points": ledger.MOST_POINTS + 1}),
        (InvalidInput, {"reason": " "}),
        (InvalidInput, {"key": ""}),
    ):
        with pytest.raises(refused):
            ask(crowd, **more)
    with pytest.raises(InvalidInput):
        grants.of_list([])
    assert (Grant.objects.count(), GrantPerson.objects.count()) == (0, 0)


def test_a_whole_set_is_taken_back(crowd: list[Customer], mia: User) -> None:
    made = ask(crowd)
    with pytest.raises(NotReversible, match="not given yet"):
        grants.undo(grant=made, key="u", actor=mia, reason="Wrong segment")
    grants.work()
    a, b = crowd[0], crowd[1]
    ledger.redeem(customer=a, points=70, key="spent")
    ledger.reverse(entry=Entry.objects.get(customer=b), key="by-hand")
    back = grants.undo(grant=made, key="u", actor=mia, reason="Wrong segment")
    assert (back.state, back.undone_by) == ("taking", mia)
    assert grants.undo(grant=made, key="u", actor=mia, reason="Wrong segment").replayed
    grants.work()
    made.refresh_from_db()
    told = grants.progress(made)
    assert (made.state, told.taken, told.kept, told.got, told.taken_points) == ("taken", 4, 1, 5, 400)
    assert balances(crowd) == [0] * 5
    assert Account.objects.get(customer=a).debt == 70
    with pytest.raises(NotReversible, match="already"):
        grants.undo(grant=made, key="u2", actor=mia, reason="Wrong segment")
    assert audit.problems() == []


def test_verify_names_a_set_whose_list_and_entries_disagree(crowd: list[Customer]) -> None:
    made = given(crowd)
    GrantPerson.objects.filter(grant=made, customer=crowd[0]).update(state="waiting")
    assert audit.problems() == [
        f"Points for many #{made.pk}: of 1 people its list and their entries disagree."
    ]  # fmt: skip
    Grant.objects.filter(pk=made.pk).update(state="giving", finished_at=None)
    grants.work()
    assert (balances(crowd), audit.problems()) == ([100] * 5, []), "and nobody gets them twice"


# --- Doors --------------------------------------------------------------------------------------------------------------


def form_of(client: Client, people: list[Customer]) -> dict[str, Any]:
    html = client.get(reverse("loyalty:grant-new")).content.decode()
    key = re.search(r'name="key" value="([^"]+)"', html)
    assert key
    return {
        "programme": Programme.current().pk, "whom": "list", "people": "\n".join(f"#{one.pk}" for one in people),
        "points": 100, "reason": REASON, "key": key.group(1),
    }  # fmt: skip


def test_the_pages_show_what_it_comes_to_and_give_only_that(crowd: list[Customer], staff: Client) -> None:
    data = form_of(staff, crowd)
    url = reverse("loyalty:grant-new")
    seen = staff.post(url, data)
    assert seen.status_code == 200
    html = text(seen)
    assert "Give them to 5 people" in html
    assert "$5.00" in html
    assert Grant.objects.count() == 0
    token = re.search(r'name="seen" value="([^"]+)"', seen.content.decode())
    assert token
    # Other points than were looked at are shown first.
    again = staff.post(url, {**data, "points": 200, "seen": token.group(1), "give": "1"})
    assert (again.status_code, Grant.objects.count()) == (200, 0)
    assert "has changed since you looked" in text(again)
    done = staff.post(url, {**data, "seen": token.group(1), "give": "1"})
    made = Grant.objects.get()
    assert done.status_code == 302
    assert done.url == reverse("loyalty:grant", args=[made.pk])
    assert staff.post(url, {**data, "seen": token.group(1), "give": "1"}).url == done.url
    grants.work()
    html = text(staff.get(done.url))
    assert "Take back from everybody" in html
    assert "Given to" in html
    assert "The shop was closed" in text(staff.get(reverse("loyalty:grants")))
    undo = reverse("loyalty:grant-undo", args=[made.pk])
    assert "Everybody loses" in text(staff.get(undo))
    assert staff.post(undo, {"key": "k" * 20, "reason": "Wrong people"}).status_code == 302
    grants.work()
    assert balances(crowd) == [0] * 5
    assert "Wrong people" in text(staff.get(done.url))


def test_the_page_refuses_people_nobody_knows(crowd: list[Customer], staff: Client) -> None:
    for people, sentence in (("#999999", "There is no “#999999”"), ("", "Name at least one person")):
        refused = staff.post(reverse("loyalty:grant-new"), {**form_of(staff, crowd), "people": people})
        assert (refused.status_code, sentence in text(refused)) == (422, True)
    support = Client()
    support.force_login(UserFactory(role=Role.SUPPORT))
    assert support.post(reverse("loyalty:grant-new"), form_of(staff, crowd)).status_code == 403
    assert Grant.objects.count() == 0


def test_the_approvals_page_decides_a_set(crowd: list[Customer], mia: User, boss: User) -> None:
    Limits.objects.create(programme=Programme.current(), approve_above=10)
    made = ask(crowd, actor=mia)
    client = Client()
    client.force_login(boss)
    answer = client.get(reverse("loyalty:approvals"))
    assert "5 people" in text(answer)
    assert reverse("loyalty:grant", args=[made.pk]) in answer.content.decode()
    client.post(reverse("loyalty:approval-decide", args=[made.approval.pk]), {"answer": "yes"})
    made.refresh_from_db()
    assert made.state == "giving"
    html = text(client.get(reverse("loyalty:approvals") + "?shows=decided"))
    assert "500 points are being given" in html


def test_it_does_the_same_over_rest(crowd: list[Customer]) -> None:
    _key, secret = ApiKey.issue(name="till", scopes=["points:read", "points:write"])
    body: dict[str, Any] = {"points": 100, "customers": [one.pk for one in crowd], "reason": REASON}
    asked = {name: body[name] for name in ("points", "customers")}
    seen = post(secret, "grants/preview/", asked)
    assert seen.json() == {"people": 5, "left_out": {}, "total": 500, "worth_minor": 500, "needs_second": False}
    made = post(secret, "grants/", {**body, "at_most": 500}, key="one")
    assert (made.status_code, made.json()["state"], made.json()["total"]) == (201, "giving", 500)
    again = post(secret, "grants/", {**body, "at_most": 500}, key="one")
    assert (again.json()["id"], again["Idempotency-Replayed"]) == (made.json()["id"], "true")
    assert post(secret, "grants/", {**body, "points": 7}, key="one").status_code == 422
    for more, status in (
        ({"at_most": 1}, 409), ({"customers": []}, 400), ({"segment": "x"}, 422), ({"customers": [10**12]}, 404),
        ({"points": 0}, 400),
    ):  # fmt: skip
        assert post(secret, "grants/", {**body, **more}, key=f"bad{status}{more}").status_code == status
    assert Grant.objects.count() == 1
    grants.work()
    url = f"grants/{made.json()['id']}/"
    assert get(secret, url).json()["progress"]["given"] == 5
    assert len(get(secret, f"{url}people/").json()["results"]) == 5
    assert post(secret, f"{url}undo/", {"reason": "Wrong"}, key="undo").status_code == 202
    assert post(secret, f"{url}undo/", {"reason": "Wrong"}, key="undo")["Idempotency-Replayed"] == "true"
    grants.work()
    assert get(secret, url).json()["state"] == "taken"
    assert balances(crowd) == [0] * 5

"""Sign-offs: the figures of a date stay as they were signed, a new note replaces the old with a reason, and drift is said."""

from __future__ import annotations

import csv
import io
from datetime import date, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from lifecycle_crm.accounts.models import ApiKey, Role, User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import signoffs
from loyalty.errors import AboveRole, KeyReused, SignedAlready
from loyalty.models import Programme, SignOff
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_api import get, post
from tests.loyalty.test_pages import text

pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> User:
    give(CustomerFactory(), 250, effective_at=clock.now() - timedelta(days=5))
    return UserFactory(role=Role.OWNER)


def yesterday() -> date:
    return clock.last_complete_day()


def sign(actor: User, **more: Any) -> SignOff:
    asked: dict[str, Any] = {"programme": Programme.current(), "day": yesterday(), "note": "Agrees", "key": "k"}
    return signoffs.sign(**{**asked, "actor": actor, **more})


def test_the_figures_stay_as_they_were(boss: User) -> None:
    made = sign(boss, redeemed_percent=80)
    assert (made.points, made.available, made.liability_minor, made.expected_minor) == (250, 250, 250, 200)
    assert (made.currency, made.value_minor_per_100, made.signed_by) == ("USD", 100, boss)
    assert not signoffs.drift(made).is_any
    give(CustomerFactory(), 30, effective_at=clock.now() - timedelta(days=3))
    made.refresh_from_db()
    assert (made.points, signoffs.drift(made)) == (250, signoffs.Drift(30, 30))
    Programme.objects.update(value_minor_per_100=200)
    made = SignOff.objects.select_related("programme").get()
    assert (made.liability_minor, signoffs.drift(made)) == (250, signoffs.Drift(30, 310))
    for change in ({"note": "Other"}, {"available": 1}, {"liability_minor": 0}):
        with pytest.raises(DatabaseError), transaction.atomic():
            SignOff.objects.update(**change)
    with pytest.raises(DatabaseError), transaction.atomic():
        SignOff.objects.all().delete()


def test_a_date_has_one_note_unless_another_replaces_it(boss: User) -> None:
    made = sign(boss)
    assert sign(boss).replayed
    for other in ({"note": "Another"}, {"redeemed_percent": 55}):
        with pytest.raises(KeyReused):
            sign(boss, **other)
    with pytest.raises(SignedAlready, match=f"#{made.pk}"):
        sign(boss, key="k2")
    again = sign(boss, key="k2", reason="A late import")
    assert sign(boss, key="k2", reason="A late import").replayed
    with pytest.raises(KeyReused):
        sign(boss, key="k2", reason="Another")
    assert (again.replaces, again.reason, signoffs.current(again.programme, yesterday())) == (
        made,
        "A late import",
        again,
    )
    third = sign(boss, key="k3", reason="Once more")
    assert third.replaces == again
    other = sign(boss, key="k4", day=yesterday() - timedelta(days=1))
    assert other.replaces is None
    # The table itself refuses a second first note and a second replacement.
    values = {**SignOff.objects.filter(pk=made.pk).values().get(), "id": None, "key": "raw"}
    for more in ({}, {"replaces_id": made.pk, "reason": "x"}, {"replaces_id": third.pk, "reason": ""}):
        with pytest.raises(IntegrityError), transaction.atomic():
            SignOff.objects.create(**{**values, **more})
    assert SignOff.objects.count() == 4


def test_it_refuses_what_cannot_be_signed(boss: User) -> None:
    for refused, more in (
        (InvalidInput, {"note": " "}),
        (InvalidInput, {"day": clock.today()}),
        (InvalidInput, {"day": date(1999, 1, 1)}),
        (InvalidInput, {"redeemed_percent": 101}),
        (InvalidInput, {"key": ""}),
    ):
        with pytest.raises(refused):
            sign(boss, **more)
    with pytest.raises(AboveRole):
        sign(UserFactory(role=Role.MARKETER))
    assert SignOff.objects.count() == 0


def test_it_is_signed_on_a_page_and_said_beside_the_figures(boss: User, client: Client) -> None:
    client.force_login(boss)
    owed = f"{reverse('loyalty:liability')}?as_of={yesterday()}"
    assert "Nobody has signed the figures of this date." in text(client.get(owed))
    new = f"{reverse('loyalty:sign-off-new')}?as_of={yesterday()}"
    assert "250" in text(client.get(new))
    data = {"key": "k" * 20, "note": "Agrees with account 2420", "redeemed_percent": 90}
    assert client.post(new, {**data, "note": ""}).status_code == 422
    assert client.post(new, data).status_code == 302
    assert "Agrees with account 2420" in text(client.get(owed))
    assert client.post(new, {**data, "key": "m" * 20}).status_code == 422
    give(CustomerFactory(), 30, effective_at=clock.now() - timedelta(days=3))
    assert "the figures of this date differ: +30 points" in text(client.get(owed))
    assert client.post(new, {**data, "key": "m" * 20, "reason": "A late import"}).status_code == 302
    listed = text(client.get(reverse("loyalty:sign-offs")))
    first, second = SignOff.objects.order_by("pk")
    assert f"replaced by #{second.pk}" in listed
    assert f"Replaces #{first.pk}: A late import" in listed
    rows = list(
        csv.DictReader(io.StringIO(client.get(reverse("loyalty:liability-csv", args=["sign-offs"])).content.decode()))
    )
    assert [(row["number"], row["points"], row["worth"], row["replaced_by"]) for row in rows] == [
        (str(second.pk), "280", "2.80", ""), (str(first.pk), "250", "2.50", str(second.pk)),
    ]  # fmt: skip


def test_the_months_say_the_number_of_their_note(boss: User, client: Client) -> None:
    client.force_login(boss)
    last = clock.month(clock.today()) - timedelta(days=1)
    made = sign(boss, day=last)
    table = client.get(reverse("loyalty:liability-csv", args=["months"])).content.decode()
    rows = {row["month"]: row["sign_off"] for row in csv.DictReader(io.StringIO(table))}
    assert rows[f"{last:%Y-%m}"] == str(made.pk)
    assert set(rows.values()) == {"", str(made.pk)}


def test_only_a_person_who_governs_signs(boss: User, client: Client) -> None:
    client.force_login(UserFactory(role=Role.MARKETER))
    assert client.get(reverse("loyalty:sign-off-new")).status_code == 403
    _key, secret = ApiKey.issue(name="books", scopes=["points:read", "points:write"])
    assert post(secret, "sign-offs/", {"day": str(yesterday()), "note": "Agrees"}, key="a").status_code == 403
    assert SignOff.objects.count() == 0
    made = sign(boss)
    [row] = get(secret, f"sign-offs/?day={yesterday()}").json()["results"]
    assert (row["id"], row["points"], row["replaced_by"]) == (made.pk, 250, None)
    give(CustomerFactory(), 30, effective_at=clock.now() - timedelta(days=3))
    assert get(secret, f"sign-offs/{made.pk}/").json()["drift"] == {"points": 30, "minor": 30}


def test_a_person_signs_over_rest(boss: User, client: Client) -> None:
    client.force_login(boss)

    def ask(key: str, **more: Any) -> Any:
        body = {"day": str(yesterday()), "note": "Agrees", **more}
        return client.post(
            "/api/v1/sign-offs/", body, content_type="application/json", headers={"Idempotency-Key": key}
        )  # fmt: skip

    made = ask("a")
    assert (made.status_code, made.json()["liability_minor"]) == (201, 250)
    assert ask("a")["Idempotency-Replayed"] == "true"
    assert ask("b").status_code == 409
    assert ask("c", reason="A late import").json()["replaces"] == made.json()["id"]
    assert ask("d", day=str(clock.today()), reason="x").status_code == 422
    assert SignOff.objects.count() == 2

"""Joining, renewing and leaving at the counter, through the same verbs as REST."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from customers.models import Customer
from lifecycle_crm.accounts.models import Role
from loyalty import presets
from loyalty.models import Membership, Programme
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory
from tests.loyalty.test_movement_pages import key_of
from tests.loyalty.test_pages import text

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> Customer:
    return CustomerFactory(name="Ada Example")


@pytest.fixture
def support(client: Client) -> Client:
    client.force_login(UserFactory(role=Role.SUPPORT))
    return client


@pytest.fixture
def plus() -> Programme:
    return presets.install(preset=presets.get("plus"))


def page(customer: Customer) -> str:
    return reverse("loyalty:memberships", args=[customer.pk])


def send(client: Client, customer: Customer, **told: Any) -> Any:
    return client.post(page(customer), {"key": key_of(client.get(page(customer)), "key"), **told})


def test_a_fee_is_paid_in_full_once_however_often_the_button_is_pressed(
    support: Client, ada: Customer, plus: Programme
) -> None:
    refused = send(support, ada, programme="plus", paid="48.99")
    assert (refused.status_code, "costs more than was paid" in text(refused)) == (422, True)
    assert not Membership.objects.exists()
    told = {"key": key_of(support.get(page(ada)), "key"), "programme": "plus", "paid": "49"}
    assert [support.post(page(ada), told).status_code for _ in range(3)] == [302] * 3
    stay = Membership.objects.get()
    assert (stay.customer, stay.programme, stay.paid_minor) == (ada, plus, 4900)
    again = send(support, ada, programme="plus", paid="49")
    assert (again.status_code, "Renew instead." in text(again)) == (409, True)


def test_a_stay_is_renewed_for_the_fee_and_ended(support: Client, ada: Customer, plus: Programme) -> None:
    send(support, ada, programme="plus", paid="49")
    stay = Membership.objects.get()
    shown = support.get(page(ada))
    assert "Renew for US$49.00" in text(shown)
    told = {"key": "a" * 20, "paid_minor": "4900"}
    renew = reverse("loyalty:membership-renew", args=[ada.pk, stay.pk])
    assert [support.post(renew, told).status_code for _ in range(2)] == [302, 302]
    stay.refresh_from_db()
    assert (stay.renewals, stay.paid_minor) == (1, 9800)
    assert "costs more than was paid" in text(support.post(renew, {"key": "b" * 20, "paid_minor": "1"}, follow=True))
    leave = reverse("loyalty:membership-leave", args=[ada.pk, stay.pk])
    assert "They have left Plus membership." in text(support.post(leave, follow=True))
    stay.refresh_from_db()
    assert (stay.renewals, stay.left_at is not None) == (1, True)
    other = reverse("loyalty:membership-leave", args=[CustomerFactory().pk, stay.pk])
    assert support.post(other).status_code == 404


def test_who_may_only_look_lets_nobody_in(client: Client, ada: Customer, plus: Programme) -> None:
    client.force_login(UserFactory(role=Role.VIEWER))
    assert client.get(page(ada)).status_code == 403
    assert client.post(page(ada), {"key": "c" * 20, "programme": "plus", "paid": "49"}).status_code == 403
    assert not Membership.objects.exists()

"""Who asks: the person or key behind a request, whom it is about, and the key under which it happens once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from customers.models import Customer
from lifecycle_crm.accounts.callers import may, need, only
from lifecycle_crm.accounts.callers import person as person  # Here too: the doors ask it with the rest.
from lifecycle_crm.accounts.models import ApiKey, User
from lifecycle_crm.lib.errors import InvalidInput, NotFound
from lifecycle_crm.lib.numbers import row_number
from loyalty.models import Programme

KEY_MAX = 150
"""A longer Idempotency-Key is kept as its SHA-256, so that the ledger's key has room for whose it is."""

IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    required=True,
    description="Names the request: sent again, it answers with the same movement and `Idempotency-Replayed: true`.",
)


# --- Pages ------------------------------------------------------------------------------------------------------------


def may_act(request: HttpRequest) -> bool:
    """Whether they may move points and hand out rewards."""
    return may(request, User.may_serve)


def may_set_up(request: HttpRequest | Request) -> bool:
    """Whether they may change what the shop offers."""
    return may(request, User.may_steer)


for_those_who_act = only(User.may_serve)
for_those_who_set_up = only(User.may_steer)


def customer(pk: int) -> Customer:
    """The customer of a page's address. Raises ``NotFound``."""
    found = Customer.objects.filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise NotFound(_("There is no such customer. Choose one from the list of customers."))
    return found


def programme(request: HttpRequest) -> Programme | None:
    """The programme of ``?programme=`` (its id); without it the main one, if there is one. Raises ``NotFound``."""
    wanted = request.GET.get("programme", "")
    if not wanted:
        return Programme.current()
    number = row_number(wanted)
    found = Programme.objects.filter(pk=number).first() if number else None
    if found is None:
        raise NotFound(_("There is no such programme. Choose one from the list."))
    return found


def a_programme(request: HttpRequest) -> Programme:
    """The same for a page that says nothing without one."""
    found = programme(request)
    if found is None:
        raise NotFound(_("There is no such programme. Choose one from the list."))
    return found


# --- REST -------------------------------------------------------------------------------------------------------------


def check_may_set_up(request: Request) -> None:
    """A key's scope was checked already; a person needs the role that the pages ask for."""
    need(request, User.may_steer)


def key(request: Request) -> str:
    """The ledger's key for this request. It carries whose it is, so that two senders cannot meet in one key."""
    given = request.headers.get("Idempotency-Key", "").strip()
    if not given:
        raise InvalidInput(
            "Send an Idempotency-Key header, a new one for each movement of points, such as a UUID.",
            code="idempotency_key_required",
            status=400,
        )
    if len(given) > KEY_MAX:
        given = hashlib.sha256(given.encode()).hexdigest()
    owner = f"key{request.auth.pk}" if isinstance(request.auth, ApiKey) else f"user{request.user.pk}"
    return f"api:{owner}:{given}"


def source(request: Request) -> dict[str, Any]:
    """Where a movement came from, as the ledger keeps it."""
    if isinstance(request.auth, ApiKey):
        return {"source_type": "api_key", "source_id": request.auth.prefix}
    return {"source_type": "api"}


def known_customers(pks: Iterable[int]) -> list[Customer]:
    """The customers a body names, each once. Raises ``NotFound``."""
    wanted = dict.fromkeys(pks)
    found = Customer.objects.in_bulk(wanted)
    if missing := wanted.keys() - found.keys():
        raise NotFound(f"There is no customer with the id {min(missing)}.", code="unknown_customer")
    return [found[pk] for pk in wanted]


def known_customer(pk: int) -> Customer:
    """The customer a body names. Raises ``NotFound``."""
    found = Customer.objects.filter(pk=pk).first()
    if found is None:
        raise NotFound("There is no customer with this id.", code="unknown_customer")
    return found

"""Who asks: the person or key behind a request, whom it is about, and the key under which it happens once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from customers.models import Customer
from lifecycle_crm.accounts.models import ApiKey, Role, User
from lifecycle_crm.lib.errors import InvalidInput, NotFound

KEY_MAX = 150
"""A longer Idempotency-Key is kept as its SHA-256, so that the ledger's key has room for whose it is."""

IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    required=True,
    description="Names the request: sent again, it answers with the same movement and `Idempotency-Replayed: true`.",
)

_MAY_ACT = {Role.OWNER, Role.ADMIN, Role.MARKETER, Role.SUPPORT}
_MAY_SET_UP = {Role.OWNER, Role.ADMIN, Role.MARKETER}


# --- Pages ------------------------------------------------------------------------------------------------------------


def person(request: HttpRequest | Request) -> User | None:
    """Who is signed in; ``None`` for a key and for a customer."""
    return request.user if isinstance(request.user, User) else None


def may_act(request: HttpRequest) -> bool:
    """Whether they may move points and hand out rewards."""
    user = request.user
    return bool(getattr(user, "is_superuser", False) or getattr(user, "role", "") in _MAY_ACT)


def may_set_up(request: HttpRequest | Request) -> bool:
    """Whether they may change what the shop offers."""
    user = request.user
    return bool(getattr(user, "is_superuser", False) or getattr(user, "role", "") in _MAY_SET_UP)


def _only(may: Callable[[HttpRequest], bool]) -> Callable[..., Callable[..., HttpResponse]]:
    def wrap(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not may(request):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return checked

    return wrap


for_those_who_act = _only(may_act)
for_those_who_set_up = _only(may_set_up)


def customer(pk: int) -> Customer:
    """The customer of a page's address. Raises ``NotFound``."""
    found = Customer.objects.filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise NotFound(_("There is no such customer. Choose one from the list of customers."))
    return found


# --- REST -------------------------------------------------------------------------------------------------------------


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


def known_customer(pk: int) -> Customer:
    """The customer a body names. Raises ``NotFound``."""
    found = Customer.objects.filter(pk=pk).first()
    if found is None:
        raise NotFound("There is no customer with this id.", code="unknown_customer")
    return found

"""Who asks, at either door, and whether they may. What a role may do is said by ``User``."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request

from lifecycle_crm.accounts.models import ApiKey, User

Power = Callable[[User], bool]
"""One of the questions of ``User``, such as ``User.may_steer``."""


def person(request: HttpRequest | Request) -> User | None:
    """Who is signed in; ``None`` for a key and for a customer."""
    return request.user if isinstance(request.user, User) else None


def signed_in(request: HttpRequest | Request) -> User:
    """Who is signed in, for what only a person can do; raises ``PermissionDenied`` for a key and for a customer."""
    if (user := person(request)) is None:
        raise PermissionDenied
    return user


def may(request: HttpRequest | Request, power: Power) -> bool:
    """Whether the role of who is signed in allows it; ``False`` for a key, which has none."""
    user = person(request)
    return user is not None and power(user)


def sees_contacts(request: HttpRequest | Request) -> bool:
    """Whether the answer may say who a customer is. A key that may read customers may read all of them."""
    user = person(request)
    return user.sees_contacts() if user is not None else _is_key(request)


def need(request: HttpRequest | Request, power: Power) -> User | None:
    """Raise ``PermissionDenied`` for whom the role does not allow it, and for nobody. A key has no role: its scope was
    asked at the door, and ``None`` stands for it."""
    user = person(request)
    if (user is None and not _is_key(request)) or (user is not None and not power(user)):
        raise PermissionDenied
    return user


def only(power: Power) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
    """A page, or a button of one, for whom the role allows it."""

    def wrap(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            need(request, power)
            return view(request, *args, **kwargs)

        return checked

    return wrap


def _is_key(request: HttpRequest | Request) -> bool:
    return isinstance(getattr(request, "auth", None), ApiKey)

"""Every page asks for a sign-in unless its view says it is public: the safe default is the short one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, resolve_url

View = TypeVar("View", bound=Callable[..., Any])

OPEN_PREFIXES = ("/static/", "/health/", "/metrics", "/api/", "/v1/", "/p/", "/admin/", "/i18n/")
"""Doors that check for themselves: the API by key or session, public pages by signed token, the admin by staff."""


def public(view: View) -> View:
    """Mark a view that anyone may open."""
    view.is_public = True  # type: ignore[attr-defined]
    return view


class SignInRequired:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        if request.path.startswith(OPEN_PREFIXES) or getattr(view, "is_public", False) or request.user.is_authenticated:
            return None
        target = f"{resolve_url(settings.LOGIN_URL)}?{urlencode({'next': request.get_full_path()})}"
        if getattr(request, "htmx", None):
            return HttpResponse(status=401, headers={"HX-Redirect": target})
        return redirect(target)

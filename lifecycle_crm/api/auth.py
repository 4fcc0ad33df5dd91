"""Who may call the API: a key with scopes, or somebody signed in to the dashboard."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from lifecycle_crm.accounts.callers import person
from lifecycle_crm.accounts.models import ApiKey
from lifecycle_crm.lib import clock


class ApiKeyAuthentication(BaseAuthentication):
    """``Authorization: Bearer lc_…``. The secret is compared by its SHA-256; an unknown one says nothing more."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        words = get_authorization_header(request).split()
        if not words or words[0].lower() != b"bearer":
            return None
        if len(words) != 2:
            raise AuthenticationFailed("Send the key as: Authorization: Bearer lc_….")
        key = ApiKey.find(words[1].decode("latin-1"))
        if key is None:
            raise AuthenticationFailed("This key is unknown, revoked or expired.")
        now = clock.now()
        if key.last_used_at is None or (now - key.last_used_at).total_seconds() > 60:
            ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
        return AnonymousUser(), key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class PageSessionAuthentication(SessionAuthentication):
    """The dashboard's own session, with CSRF, so that the documentation page can be tried out."""


class HasScope(BasePermission):
    """A key needs ``<noun>:read`` or ``<noun>:write`` of the view's ``scope``; a person needs a role that may."""

    message = "This key has no scope for that."

    def has_permission(self, request: Request, view: Any) -> bool:
        is_read = request.method in SAFE_METHODS
        if isinstance(request.auth, ApiKey):
            noun = getattr(view, "scope", "")
            return bool(noun) and request.auth.allows(f"{noun}:{'read' if is_read else 'write'}")
        user = person(request)
        return user is not None and (is_read or user.may_serve())


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "lifecycle_crm.api.auth.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "lc_…"}


class PageSessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "lifecycle_crm.api.auth.PageSessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}

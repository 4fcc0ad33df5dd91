"""The REST door: problem details (RFC 9457), and what every list of rows says of itself."""

from __future__ import annotations

from typing import Any

import django_filters
from django.core.exceptions import PermissionDenied
from django.db import DataError
from django.http import Http404
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from lifecycle_crm.lib.errors import DomainError

CONTENT_TYPE = "application/problem+json"
BIGGEST_ID = 2**63 - 1
"""No row has a larger id, and no column holds one."""


def _answer(code: str, title: str, http_status: int, headers: dict[str, str] | None = None, **extra: Any) -> Response:
    body = {"type": f"urn:lifecycle-crm:problem:{code}", "title": title, "status": http_status, "code": code, **extra}
    return Response(body, status=http_status, headers=headers, content_type=CONTENT_TYPE)


def problem(exc: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: every refusal is ``application/problem+json`` with a stable ``code``."""
    set_rollback()
    if isinstance(exc, DomainError):
        return _answer(exc.code, exc.message, exc.status, **({"details": exc.extra} if exc.extra else {}))
    if isinstance(exc, OverflowError | DataError):
        # A number or text of a filter that no column can hold; SQLite says so in one way, PostgreSQL in the other.
        return _answer("invalid", "A value is larger than can be stored.", status.HTTP_400_BAD_REQUEST)
    if isinstance(exc, Http404):
        return _answer("not_found", "There is nothing at this address.", status.HTTP_404_NOT_FOUND)
    if isinstance(exc, PermissionDenied):
        return _answer("forbidden", "You may not do this.", status.HTTP_403_FORBIDDEN)
    if isinstance(exc, exceptions.ValidationError):
        return _answer("invalid", "Some fields need attention.", exc.status_code, errors=exc.detail)
    if isinstance(exc, exceptions.APIException):
        headers = {}
        if getattr(exc, "auth_header", None):
            headers["WWW-Authenticate"] = exc.auth_header
        if getattr(exc, "wait", None):
            headers["Retry-After"] = str(int(exc.wait) + 1)
        code = exc.get_codes()
        return _answer(code if isinstance(code, str) else "invalid", str(exc.detail), exc.status_code, headers)
    return None


def described(many: str, one: str = "", *, tag: str) -> Any:
    """Says in the documentation what the list of a view set holds, and what one of it is."""
    words = {"list": extend_schema(summary=many, tags=[tag])}
    return extend_schema_view(**words, **({"retrieve": extend_schema(summary=one, tags=[tag])} if one else {}))


class OfCustomer(django_filters.FilterSet):
    """Rows of one customer."""

    customer = django_filters.NumberFilter(min_value=1, max_value=BIGGEST_ID, label="Id of the customer.")

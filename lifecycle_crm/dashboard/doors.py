"""Small answers at fixed addresses, and what a visitor sees when something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_GET

from lifecycle_crm.accounts.callers import need
from lifecycle_crm.accounts.middleware import public
from lifecycle_crm.accounts.models import User

View = Callable[[HttpRequest], HttpResponse]


def admins_only(view: View) -> View:
    """For owners and admins, and for everybody while the shop is being built (``DEBUG``)."""

    @wraps(view)
    def checked(request: HttpRequest) -> HttpResponse:
        if not settings.DEBUG:
            need(request, User.may_govern)
        return view(request)

    return checked


@public
@require_GET
@cache_control(max_age=86400, public=True)
def robots(request: HttpRequest) -> HttpResponse:
    """Nothing here is for search engines."""
    return HttpResponse("User-agent: *\nDisallow: /\n", content_type="text/plain")


@public
@require_GET
@cache_control(max_age=86400, public=True)
def favicon(request: HttpRequest) -> HttpResponse:
    """For browsers that ask without reading the page."""
    return redirect(static("crm/favicon.svg"), permanent=False)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "400.html", status=400)


def forbidden(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form without its token: most often a page that was open for too long."""
    return render(request, "403.html", status=403)

"""The HTML door: small helpers of every page, and the one place where a refusal becomes a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme

from lifecycle_crm.lib.errors import DomainError, Gone, NotFound, TooMany


def page(request: HttpRequest, template: str, context: dict[str, Any] | None = None, status: int = 200) -> HttpResponse:
    """Render the page, or only the fragment that htmx asks for (``HX-Target`` names a partial of the template)."""
    htmx = getattr(request, "htmx", None)
    # htmx 4 sends the tag and the id of the target ("tbody#rows"); a target without an id names no partial.
    target = request.headers.get("HX-Target", "").partition("#")[2] if htmx else ""
    partial = request.headers.get("X-Partial", "")
    name = f"{template}#{partial or target}" if htmx and (partial or target) else template
    return render(request, name, context or {}, status=status)


def choices(
    request: HttpRequest, name: str, labels: Mapping[str, Any], active: str, *, without: str = ""
) -> list[dict[str, Any]]:
    """The options of ``components/chip_choice.html``: this page's address with another value of ``name``, and ``without`` the
    place in a list that was another one."""
    options = []
    for key, label in labels.items():
        query = request.GET.copy()
        query.pop(without, None)
        query[name] = key
        options.append({"label": label, "url": f"?{query.urlencode()}", "active": key == active})
    return options


def back(request: HttpRequest, fallback: str, *args: Any) -> HttpResponse:
    """To the page the form says it came from (same site only), else to ``fallback``."""
    target = request.POST.get("next") or request.GET.get("next") or ""
    if target and url_has_allowed_host_and_scheme(target, {request.get_host()}, request.is_secure()):
        return redirect(target)
    return redirect(fallback, *args)


class DomainErrorMiddleware:
    """A ``DomainError`` that a view did not handle: a kind sentence on the page the person came from, or an error page."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, problem: Exception) -> HttpResponse | None:
        if not isinstance(problem, DomainError):
            return None
        if isinstance(problem, Gone):
            return render(request, "410.html", {"message": problem.message}, status=410)
        if isinstance(problem, NotFound):
            return render(request, "404.html", {"message": problem.message}, status=404)
        if isinstance(problem, TooMany):
            page = render(request, "429.html", {"message": problem.message}, status=problem.status)
            page["Retry-After"] = str(problem.RETRY_AFTER)
            return page
        referer = request.headers.get("Referer", "")
        if request.method == "POST" and url_has_allowed_host_and_scheme(
            referer, {request.get_host()}, request.is_secure()
        ):
            messages.error(request, problem.message)
            return redirect(referer)
        return render(request, "400.html", {"message": problem.message}, status=problem.status)

"""What customers press: the way out of a message, its links and its picture. No sign-in, no cookie, and a GET changes
nothing that a person decides, because mail scanners press everything."""

from __future__ import annotations

import base64

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import translation
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from campaigns import links, tracking
from campaigns.models import Link, Message
from lifecycle_crm.accounts.middleware import public

_DOT = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


@public
@csrf_exempt  # The signed token in the address is the proof; a mail program brings no cookie.
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """GET shows one button and changes nothing, because mail scanners press every link. POST is the button, and what a
    mail program sends by itself (RFC 8058): no cookie, no sign-in, and the same answer however often."""
    way = links.find(token)
    if request.method == "POST":
        links.unsubscribe(token=token, ip=request.META.get("REMOTE_ADDR") or None)
    with translation.override(way.customer.speaks()):
        has_left = request.method == "POST" or links.has_left(way)
        response = render(request, "campaigns/unsubscribe.html", {"way": way, "has_left": has_left})
    response["Cache-Control"] = "no-store"
    response["X-Robots-Tag"] = "noindex, nofollow"
    return response


@public
@require_safe
def click(request: HttpRequest, token: str) -> HttpResponse:
    """Write down the visit and lead on to the stored address. A token that we did not write leads nowhere."""
    message, link = tracking.find(token)
    if link is None:
        return HttpResponse(status=404)
    _visited(request, message, link)
    return _fresh(HttpResponseRedirect(link.url))


@public
@require_safe
def short(request: HttpRequest, token: str) -> HttpResponse:
    """A link of an SMS: a visit that is written down, or the page with the button that stops us."""
    message, link = tracking.find_short(token)
    if link is None:
        way_out = links.unsubscribe_url(
            customer_id=message.customer_id, message_id=message.pk, purpose=message.run.campaign.purpose
        )
        return _fresh(HttpResponseRedirect(way_out)) if way_out else HttpResponse(status=404)
    _visited(request, message, link)
    return _fresh(HttpResponseRedirect(link.url))


@public
@require_safe
def opened(request: HttpRequest, token: str) -> HttpResponse:
    """A picture of one transparent dot."""
    message, _link = tracking.find(token)
    _visited(request, message, None)
    return _fresh(HttpResponse(_DOT, content_type="image/gif"))


def _visited(request: HttpRequest, message: Message, link: Link | None) -> None:
    tracking.visited(
        message=message,
        link=link,
        method=request.method or "",
        headers=request.headers,
        ip=request.META.get("REMOTE_ADDR"),
    )


def _fresh(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    response["X-Robots-Tag"] = "noindex, nofollow"
    response["Referrer-Policy"] = "no-referrer"
    return response

"""A message as a document of its own, for a frame on our pages: it can look at nothing and do nothing."""

from __future__ import annotations

from csp.constants import NONE, SELF
from csp.decorators import csp
from django.http import HttpRequest, HttpResponse
from django.views.decorators.clickjacking import xframe_options_sameorigin

from campaigns import layout


def framed(request: HttpRequest, html: str) -> HttpResponse:
    """The message as a document without scripts, forms or an origin of its own. Of the network it may ask for the pictures
    its author put there, and for nothing that tells us of a reader."""
    response = HttpResponse(html)
    policy = csp(
        {
            "default-src": [NONE],
            "img-src": ["data:", *layout.image_sources(html)],
            "style-src": layout.style_sources(html),
            "form-action": [NONE],
            "base-uri": [NONE],
            "frame-ancestors": [SELF],
            "sandbox": [""],
        }
    )
    xframe_options_sameorigin(policy(lambda _request: response))(request)
    return response

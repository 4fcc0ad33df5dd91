"""What e-mail providers tell us: their webhooks, read by django-anymail, one verb for all of them.

The address is ``/p/webhooks/<provider>/`` and asks for the user and password of ``MAIL_WEBHOOK_SECRET``, so that nobody
else can bounce our customers. Without that secret there is no such address.
"""

from __future__ import annotations

import hashlib
import importlib
import warnings
from datetime import datetime
from typing import Any

from anymail.exceptions import AnymailInsecureWebhookWarning, AnymailWebhookValidationFailure
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from campaigns import deliveries
from campaigns.channels.email import Refused
from campaigns.models import DeliveryEvent
from lifecycle_crm.accounts.middleware import public
from lifecycle_crm.lib import clock

PROVIDERS = {
    "brevo": "brevo.BrevoTrackingWebhookView",
    "mailersend": "mailersend.MailerSendTrackingWebhookView",
    "mailgun": "mailgun.MailgunTrackingWebhookView",
    "mailjet": "mailjet.MailjetTrackingWebhookView",
    "mailtrap": "mailtrap.MailtrapTrackingWebhookView",
    "postmark": "postmark.PostmarkTrackingWebhookView",
    "sendgrid": "sendgrid.SendGridTrackingWebhookView",
    "sparkpost": "sparkpost.SparkPostTrackingWebhookView",
}
Kind = DeliveryEvent.Kind
_KINDS = {
    "delivered": Kind.DELIVERED,
    # Who opened or clicked has got it.
    "opened": Kind.DELIVERED,
    "clicked": Kind.DELIVERED,
    "complained": Kind.COMPLAINT,
    "unsubscribed": Kind.UNSUBSCRIBED,
    "deferred": Kind.SOFT_BOUNCE,
}
_HARD = {"bounced", "invalid"}


def _reader(provider: str) -> Any:
    module, _dot, name = PROVIDERS[provider].rpartition(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnymailInsecureWebhookWarning)
        return getattr(importlib.import_module(f"anymail.webhooks.{module}"), name)()


@public
@csrf_exempt  # A provider brings no cookie; its password is the proof.
@require_http_methods(["POST", "HEAD"])
def receive(request: HttpRequest, provider: str) -> HttpResponse:
    """200 once everything in the call is written down, 401 without the secret, 400 for what cannot be read."""
    if provider not in PROVIDERS or not settings.ANYMAIL.get("WEBHOOK_SECRET"):
        raise Http404
    try:
        reader = _reader(provider)
    except ImproperlyConfigured:  # it wants a signing key that is not set
        raise Http404 from None
    if request.method == "HEAD":
        return HttpResponse()
    try:
        reader.run_validators(request)
    except AnymailWebhookValidationFailure:
        return HttpResponse(status=401)
    try:
        told = reader.parse_events(request)
    except (ValueError, KeyError, TypeError, AttributeError):
        return HttpResponse("This cannot be read.", status=400, content_type="text/plain")
    for event in told:
        _record(event, provider)
    return HttpResponse()


def _record(event: Any, provider: str) -> None:
    kind = _kind(event)
    if kind is None:
        return
    message = deliveries.find(event.message_id or "") or deliveries.newest_to(event.recipient or "")
    if message is None:
        return
    at: datetime = event.timestamp or clock.now()
    told = (
        f"{event.event_type}:{event.event_id or ''}:{event.message_id or ''}:{event.recipient or ''}:{event.timestamp}"
    )
    deliveries.record(
        message=message,
        kind=kind,
        occurred_at=at,
        source=provider,
        source_id=hashlib.sha256(told.encode()).hexdigest(),
        diagnostic=event.mta_response or event.description or "",
    )


def _kind(event: Any) -> str | None:
    if event.event_type in ("bounced", "rejected"):
        named = {event.esp_event.get(name) for name in ("Type", "type")} if isinstance(event.esp_event, dict) else set()
        if named & {"SoftBounce", "blocked"}:
            return Kind.SOFT_BOUNCE
        if event.reject_reason is None:  # then the mail server's answer is all there is
            code, _space, text = (event.mta_response or "").partition(" ")
            is_hard = code.isdigit() and Refused(int(code), text, at_recipient=True).is_hard
        else:
            is_hard = event.reject_reason in _HARD
        return Kind.HARD_BOUNCE if is_hard else Kind.SOFT_BOUNCE
    return _KINDS.get(event.event_type)

"""What an SMS provider tells us: what people answer, and what became of a message.

Answers come to ``/p/webhooks/sms/<SMS_WEBHOOK_SECRET>/``, which the shop gives its provider; without the secret there is no
such address. Reports come to an address that each message brings along, with a signature in it. Neither is answered with a
word: a provider would send it to the customer.
"""

from __future__ import annotations

import hmac

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from campaigns import deliveries, links, replies
from campaigns.models import DeliveryEvent, Message
from lifecycle_crm.accounts.middleware import public
from lifecycle_crm.lib import clock

Kind = DeliveryEvent.Kind
_FIELDS = {"46elks": ("id", "from", "message"), "twilio": ("MessageSid", "From", "Body")}
_STATUS = {"46elks": "status", "twilio": "MessageStatus"}
_GONE = {"30005", "30006", "21610"}
"""Twilio's codes for a number that does not exist, is a landline, or has stopped us."""


def _done() -> HttpResponse:
    return HttpResponse(status=204)


def _unreadable() -> HttpResponse:
    return HttpResponse("This cannot be read.", status=400, content_type="text/plain")


@public
@csrf_exempt  # A provider brings no cookie; the secret in the address is the proof.
@require_POST
def replied(request: HttpRequest, secret: str) -> HttpResponse:
    """204 once the answer is written down, however often it is told."""
    kind, known = settings.SMS["kind"], settings.SMS_WEBHOOK_SECRET
    if not kind or not known or not hmac.compare_digest(secret.encode(), known.encode()):
        raise Http404
    number, phone, text = (request.POST.get(name, "").replace("\0", "") for name in _FIELDS[kind])
    if not number or not phone.startswith("+") or len(phone) > 20:
        return _unreadable()
    told = True if request.POST.get("OptOutType") == "STOP" else None
    replies.record(source=kind, source_id=number, phone=phone, text=text, is_stop=told)
    return _done()


@public
@csrf_exempt  # The signature in the address is the proof.
@require_POST
def reported(request: HttpRequest, token: str) -> HttpResponse:
    """204 once the report is written down. What is only on its way is no news."""
    kind, pk = settings.SMS["kind"], links.unsign_report(token)
    message = Message.objects.select_related("run__campaign", "customer").filter(pk=pk).first() if pk else None
    if not kind or message is None:
        raise Http404
    status = request.POST.get(_STATUS[kind], "")
    code = request.POST.get("ErrorCode", "").replace("\0", "")[:20]
    if not status:
        return _unreadable()
    failed = Kind.HARD_BOUNCE if code in _GONE else Kind.SOFT_BOUNCE
    what = {"delivered": Kind.DELIVERED, "failed": failed, "undelivered": failed}.get(status)
    if what is not None:
        deliveries.record(
            message=message,
            kind=what,
            occurred_at=clock.now(),
            source=kind,
            source_id=f"report:{message.pk}:{status}",
            diagnostic=f"{status} {code}".strip(),
        )
    return _done()

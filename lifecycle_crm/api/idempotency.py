"""``Idempotency-Key`` on every POST of the API: the effect happens once, and a repeated request gets the first answer.

The answer is stored in the transaction of the effect, so both exist or neither does. The same key with the same request
is answered from the store, with ``Idempotency-Replayed: true``; with another request it is refused (422); while the first
is still running, a second one is told to wait (409 with ``Retry-After``). A refusal is not stored: mend the request and
send it again under the same key. Keys belong to the API key or person that sent them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import transaction
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from lifecycle_crm.accounts.models import ApiKey
from lifecycle_crm.lib import leases
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.models import IdempotencyRecord, Lease

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
LONGEST = 255
LEASE_SECONDS = 60
"""A request that runs longer may be repeated; the unique key of the record then lets only one of them commit."""


class InProgress(APIException):
    """The first request with this key has not been answered yet."""

    status_code = 409
    default_code = "in_progress"
    default_detail = f"A request with this {HEADER} is still running. Repeat it in a moment."
    wait = 0.5


class Idempotent:
    """Mixin for API views. Reads the key once the caller is known, before the body is looked at."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        key = request.headers.get(HEADER)
        if request.method != "POST" or key is None:
            return
        key = key.strip()
        if not key or len(key) > LONGEST or not key.isprintable():
            raise InvalidInput(f"{HEADER} must be 1 to {LONGEST} printable characters, such as a UUID.", code="bad_key")
        handler = getattr(self, "post", None)
        if handler is None:
            return
        # The view instance serves this one request, so its handler can be replaced.
        self.post = lambda request, *a, **k: once(request, key, lambda: handler(request, *a, **k))


def owner_of(request: Request) -> str:
    return f"key:{request.auth.pk}" if isinstance(request.auth, ApiKey) else f"user:{request.user.pk}"


def fingerprint(request: Request) -> str:
    """SHA-256 of method, address and body."""
    parts = (str(request.method), request.get_full_path())
    return hashlib.sha256("\n".join(parts).encode() + b"\n" + request._request.body).hexdigest()


def once(request: Request, key: str, handle: Callable[[], Response]) -> Response:
    """The stored answer of this key, or that of ``handle``, stored along with its effect."""
    owner, print_ = owner_of(request), fingerprint(request)
    if stored := _stored(owner, key, print_):
        return stored
    name = f"once:{hashlib.sha256(f'{owner} {key}'.encode()).hexdigest()[:40]}"
    worker = leases.new_owner()
    if leases.take_new(name, worker, LEASE_SECONDS) is None:
        if stored := _stored(owner, key, print_):
            return stored
        raise InProgress
    try:
        # It may have ended between the first look and the lease.
        if stored := _stored(owner, key, print_):
            return stored
        with transaction.atomic():
            response = handle()
            if response.status_code < 400:
                IdempotencyRecord.objects.create(
                    owner=owner, key=key, fingerprint=print_, status=response.status_code, body=_plain(response.data)
                )
        return response
    finally:
        Lease.objects.filter(name=name, owner=worker).delete()


def _stored(owner: str, key: str, print_: str) -> Response | None:
    record = IdempotencyRecord.objects.filter(owner=owner, key=key).first()
    if record is None:
        return None
    if record.fingerprint != print_:
        raise InvalidInput(
            f"This {HEADER} was used for another request. Use a new key for a new request.", code="key_reused"
        )
    return Response(record.body, status=record.status, headers={REPLAYED: "true"})


def _plain(data: Any) -> Any:
    """What the caller got, as JSON values."""
    return json.loads(JSONRenderer().render(data)) if data is not None else None


def forget(*, before: datetime) -> int:
    """Delete answers stored before a moment; how many. Their keys may then be used again."""
    count, _by_model = IdempotencyRecord.objects.filter(created_at__lt=before).delete()
    return count

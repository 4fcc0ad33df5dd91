"""Reading ``SMS_URL``: whose account sends text messages, and as whom. One sentence for whatever is missing."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

HOSTS = {"46elks": "api.46elks.com", "twilio": "api.twilio.com"}
_EXAMPLE = "46elks://user:password@api.46elks.com?from=Shop or twilio://SID:token@api.twilio.com?from=+46701234567"
_NUMBER = re.compile(r"\+[1-9]\d{6,14}")
_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9]{1,11}")
_OURSELVES = ("localhost", "127.0.0.1", "::1")


def _wrong(sentence: str) -> ImproperlyConfigured:
    # The address holds a password, so it is never part of the sentence.
    return ImproperlyConfigured(f"SMS_URL {sentence} Write it as {_EXAMPLE}.")


def read(url: str) -> dict[str, Any]:
    """``kind`` ("" sends no SMS, else a key of ``HOSTS``), ``host``, ``port``, ``tls``, ``user``, ``password``, ``sender``.
    Raises ``ImproperlyConfigured`` for half an address."""
    if not url:
        return {"kind": ""}
    kind, _sep, rest = url.partition("://")
    if kind not in HOSTS:
        raise _wrong(f"names no provider we know; we know {' and '.join(HOSTS)}.")
    try:
        parts = urlsplit(f"//{rest}")
        port = parts.port
    except ValueError:
        raise _wrong("is no address.") from None
    if not parts.username or not parts.password:
        raise _wrong("names no user and password.")
    # By hand: a plus is a plus here, as it begins a phone number.
    options = {name: unquote(value) for name, _sep, value in (one.partition("=") for one in parts.query.split("&"))}
    sender = options.get("from", "")
    if not sender:
        raise _wrong("does not say from whom: add ?from= and a phone number or a name.")
    if not _NUMBER.fullmatch(sender) and not _NAME.fullmatch(sender):
        raise _wrong(
            "has a sender that telephones do not show: from= is a phone number such as +46701234567, or a name of at most "
            "11 letters (A to Z) and digits, with at least one letter."
        )
    host, tls = parts.hostname or HOSTS[kind], options.get("tls", "1") != "0"
    if not tls and host not in _OURSELVES:
        raise _wrong("would send the password unencrypted: leave out tls=0.")
    return {
        "kind": kind,
        "host": host,
        "port": port or (443 if tls else 80),
        "tls": tls,
        "user": unquote(parts.username),
        "password": unquote(parts.password),
        "sender": sender,
    }


def secret(text: str) -> str:
    """``SMS_WEBHOOK_SECRET``, which stands in an address. Raises ``ImproperlyConfigured`` for one that does not."""
    if text and not re.fullmatch(r"[A-Za-z0-9_-]{20,100}", text):
        raise ImproperlyConfigured(
            "SMS_WEBHOOK_SECRET does not fit into an address or is easy to guess. Use 20 to 100 letters and digits."
        )
    return text

"""Reading the bounce mailbox: delivery reports (RFC 3464) and complaints (RFC 5965) that came by mail.

A report is believed only if it names the Message-ID of a message of ours, part of which cannot be guessed.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from email.utils import parsedate_to_datetime
from typing import Any

from campaigns import deliveries
from campaigns.models import DeliveryEvent
from lifecycle_crm.lib import clock

Kind = DeliveryEvent.Kind
_ID = re.compile(rb"^message-id:\s*(<[^<>\s]+>)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Report:
    """What one mail of the mailbox says about one message."""

    message_id: str
    kind: str
    diagnostic: str
    at: datetime | None


def read(raw: bytes) -> Report | None:
    """The report in a mail; ``None`` for any other mail, such as an answer or an absence note."""
    mail = message_from_bytes(raw, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    if mail.get_content_type() != "multipart/report":
        return None
    status: Message | None = None
    original = b""
    for part in mail.walk():
        kind = part.get_content_type()
        if kind in ("message/delivery-status", "message/feedback-report"):
            status = part
        elif kind in ("message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers"):
            original = part.as_bytes().partition(b"\n\n")[2] or part.as_bytes()
    found = _ID.search(original)
    if status is None or found is None:
        return None
    message_id = found.group(1).decode("ascii", "replace")
    if status.get_content_type() == "message/feedback-report":
        fields = _fields(status)
        is_complaint = fields.get("feedback-type", "").lower() in ("abuse", "fraud", "virus")
        return (
            Report(message_id, Kind.COMPLAINT, fields.get("feedback-type", ""), _date(mail)) if is_complaint else None
        )
    fields = _fields(status)
    kind_of = _kind(fields.get("action", "").lower(), fields.get("status", ""))
    text = fields.get("diagnostic-code", "") or fields.get("status", "")
    return Report(message_id, kind_of, " ".join(text.split())[:500], _date(mail)) if kind_of else None


def _fields(part: Message) -> dict[str, str]:
    """The fields of a report, of all its recipients together; a later one does not replace an earlier one."""
    answer: dict[str, str] = {}
    payload: Any = part.get_payload()
    blocks = payload if isinstance(payload, list) else [message_from_bytes(str(payload).encode())]
    for block in blocks:
        lines = block.items() or message_from_bytes(str(block.get_payload()).encode()).items()
        for name, value in lines:
            answer.setdefault(name.lower(), str(value))
    return answer


def _kind(action: str, status: str) -> str:
    status = status.strip().split(" ")[0]
    if action == "failed":
        # 5.1.x says that the mailbox itself is the reason; a full one (5.2.2) or a blocked message is not dead.
        return Kind.HARD_BOUNCE if status.startswith("5.1.") or status == "5.0.0" else Kind.SOFT_BOUNCE
    if action == "delayed":
        return Kind.SOFT_BOUNCE
    return Kind.DELIVERED if action in ("delivered", "relayed", "expanded") else ""


def _date(mail: EmailMessage) -> datetime | None:
    try:
        at = parsedate_to_datetime(str(mail["Date"]))
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def take_in(mails: Iterable[bytes]) -> dict[str, int]:
    """Write down what these mails report. Counts per kind; ``other``: no report, ``unknown``: not about one of ours,
    ``again``: told before."""
    counts: Counter[str] = Counter()
    for raw in mails:
        report = read(raw)
        if report is None:
            counts["other"] += 1
            continue
        message = deliveries.find(report.message_id)
        if message is None:
            counts["unknown"] += 1
            continue
        is_new = deliveries.record(
            message=message,
            kind=report.kind,
            occurred_at=report.at or clock.now(),
            source="dsn",
            source_id=hashlib.sha256(raw).hexdigest(),
            diagnostic=report.diagnostic,
        )
        counts[report.kind if is_new else "again"] += 1
    return dict(counts)

"""What the outbox has to know of a channel: how a conversation is opened, and what a message is when it goes into one.

The outbox itself is the same for all. Each channel has a pace of its own, and what stops one stops no other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from campaigns import letters, links, parts, rendering, texting
from campaigns.channels import email, sms
from campaigns.claims import Work
from campaigns.errors import BrokenTemplate
from campaigns.models import Channel
from campaigns.pace import Pace
from lifecycle_crm.lib import clock


class Session(Protocol):
    """A conversation with a server. ``address`` says for whom the next message is, ``deliver`` hands it over and returns
    what was said; both raise what ``channels.answers`` names."""

    transport: str

    def address(self, sender: str, recipient: str) -> None: ...

    def deliver(self, body: Any, following: Any = None) -> str: ...

    def forget(self) -> None: ...

    def close(self) -> None: ...


class Carrier(Protocol):
    """One channel. ``address`` and ``way_out`` are those of one message; ``body`` is what its session delivers."""

    channel: str
    pace: Pace

    def open_session(self) -> Session: ...

    def sender(self) -> str: ...

    def address(self, work: Work) -> str: ...

    def way_out(self, work: Work) -> str: ...

    def body(self, work: Work, made: Any) -> Any: ...

    def identity(self, pk: int) -> str: ...


def fill(carrier: Carrier, work: Work) -> Any:
    """Address and text of one message. Raises ``BrokenTemplate`` or ``BadAddress``."""
    work.to = carrier.address(work)
    if work.prepared is None:
        raise BrokenTemplate("The template has no text.")
    work.way_out = carrier.way_out(work)
    return work.prepared.fill({**work.values, **work.context, "unsubscribe_url": work.way_out})


def _led(work: Work, tracked: Callable[[int], str]) -> Callable[[str], str]:
    def link(url: str) -> str:
        pk = work.links.get(url)
        return url if pk is None else tracked(pk)

    return link


class Mail:
    channel = Channel.EMAIL.value

    def __init__(self) -> None:
        self.pace = Pace()

    def open_session(self) -> Session:
        return email.open_session()

    def sender(self) -> str:
        return email.sender()

    def address(self, work: Work) -> str:
        return email.envelope_address(work.candidate.address)

    def way_out(self, work: Work) -> str:
        return links.unsubscribe_url(
            customer_id=work.candidate.customer_id, message_id=work.pk, purpose=work.policy.purpose
        )

    def identity(self, pk: int) -> str:
        return email.message_id(pk)

    def body(self, work: Work, made: Any) -> bytes:
        headers = {
            "Feedback-ID": f"{work.run_id}:{work.policy.purpose}:{email.host()}",
            "Auto-Submitted": "auto-generated",
        }
        picture = ""
        if work.way_out:
            headers |= {
                "List-Id": work.list_id,
                "List-Unsubscribe": f"<{work.way_out}>",
                "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            }
            picture = f'<img src="{links.open_url(message_id=work.pk)}" width="1" height="1" alt="">'
        text, page = made.wire(_led(work, lambda pk: links.click_url(message_id=work.pk, link_id=pk)), picture)
        return email.build(
            to=work.to,
            to_name=rendering.one_line(str(work.values.get("customer", {}).get("name", "")))[:60],
            subject=made.subject,
            html=page,
            text=text,
            message_id=email.message_id(work.pk),
            date=clock.now(),
            headers=headers,
        )


class Texts:
    channel = Channel.SMS.value

    def __init__(self) -> None:
        self.pace = Pace()

    def open_session(self) -> Session:
        return sms.open_session()

    def sender(self) -> str:
        return sms.sender()

    def address(self, work: Work) -> str:
        return sms.phone(work.candidate.address)

    def way_out(self, work: Work) -> str:
        return links.short_url(message_id=work.pk, link_id=0) if letters.has_way_out(work.policy.purpose) else ""

    def identity(self, pk: int) -> str:
        return sms.message_id(pk)

    def body(self, work: Work, made: Any) -> dict[str, str]:
        text = made.text(_led(work, lambda pk: links.short_url(message_id=work.pk, link_id=pk)))
        measured = parts.measure(text)
        texting.too_long(measured)
        work.parts = measured.parts
        return sms.form(to=work.to, text=text, report=links.report_url(message_id=work.pk))


CARRIERS: tuple[Carrier, ...] = (Texts(), Mail())
"""What is sent over first is small: nobody sends a million SMS."""

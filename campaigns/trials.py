"""Sending a text to oneself as one customer would get it: the same renderer, the same channel, and counted nowhere.

No campaign, run or message knows of it. Its links lead straight to where they lead, nothing in it tells of being opened, and
its way out leads nowhere: whoever tries a text must not unsubscribe the customer. What is left is a row that says who sent
whose view where.
"""

from __future__ import annotations

import secrets

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from campaigns import audience, letters, limits
from campaigns.channels import answers, email, sms
from campaigns.errors import NotNow
from campaigns.models import Channel, Template, TemplateVariant, TrialMessage
from campaigns.rendering import Made, one_line
from customers import identity
from customers.models import Customer
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock, pace
from lifecycle_crm.lib.errors import DomainError, InvalidInput

A_MINUTE = 5
"""Tests of one person."""


class NotSent(DomainError):
    """The server did not take it."""

    code = "not_sent"
    status = 502


def of(template: Template) -> QuerySet[TrialMessage]:
    """The tests of a template, newest first."""
    return TrialMessage.objects.filter(template=template).select_related("customer", "sent_by").order_by("-pk")


def send(*, variant: TemplateVariant, customer: Customer, user: User, phone: str = "") -> TrialMessage:
    """Send a text, stored or not, as ``customer`` would get it now, to the address of ``user``, or an SMS to ``phone``; the
    row about it.

    Raises ``BrokenTemplate``; ``NotNow`` while all sending is stopped or no provider is set up; ``InvalidInput`` for a number
    that is none; ``TooMany``; ``NotSent`` when the server refuses.
    """
    if limits.standing():
        raise NotNow(_("All sending is stopped, tests too. Look at the campaigns page."))
    is_sms = variant.template.channel == Channel.SMS
    if is_sms:
        audience.may_leave(Channel.SMS)
        phone = identity.phone(phone)
    pace.take("template-test", user.pk, most=A_MINUTE)
    made = letters.shown(variant=variant, customer=customer)
    try:
        to = sms.phone(phone) if is_sms else email.envelope_address(user.email)
    except answers.BadAddress:
        raise InvalidInput(_("Your own address cannot be written on an envelope. Change it first.")) from None
    row = TrialMessage.objects.create(
        template=variant.template, language=variant.language, version=variant.version if variant.pk else 0,
        customer=customer, sent_to=to if is_sms else user.email, sent_by=user,
    )  # fmt: skip
    problem, answer = "", ""
    try:
        answer = _texted(row, to, made) if is_sms else _mailed(row, to, made, user)
    except (answers.Unreachable, answers.Dropped, answers.InDoubt, answers.Refused, answers.BadAddress) as refusal:
        problem = one_line(str(refusal))[:500]
    row.state = TrialMessage.State.FAILED if problem else TrialMessage.State.SENT
    row.error = problem or one_line(answer)[:500]
    row.save(update_fields=["state", "error", "transport"])
    if problem:
        raise NotSent(_("The test did not leave: %(problem)s") % {"problem": problem[:300]})
    return row


def _texted(row: TrialMessage, to: str, made: Made) -> str:
    session = sms.open_session()
    try:
        row.transport = session.transport
        session.address(sms.sender(), to)
        return session.deliver(sms.form(to=to, text=made.text))
    finally:
        session.close()


def _mailed(row: TrialMessage, to: str, made: Made, user: User) -> str:
    session = email.open_session()
    try:
        body = email.build(
            to=to,
            to_name=one_line(user.name)[:60],
            subject=_("[TEST] %(subject)s") % {"subject": made.subject},
            html=made.html,
            text=made.text,
            message_id=f"<test-{row.pk}-{secrets.token_hex(6)}@{email.host()}>",
            date=clock.now(),
            headers={"Auto-Submitted": "auto-generated"},
        )
        row.transport = session.transport
        session.address(email.sender(), to)
        return session.deliver(body)
    finally:
        session.close()

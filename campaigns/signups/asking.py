"""What a stranger does: asks for our news, and confirms from their own mailbox.

Asking makes no customer and no consent, because anybody can type anybody's address. The button behind the link in the mail
makes both, once.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.db.models import F
from django.urls import reverse
from django.utils.translation import gettext as _

from campaigns.channels import email as mail
from campaigns.models import Purpose, SignUp, SignUpForm
from customers import consent, identity, tagging
from customers.ingest.events import EventIn, record_event
from customers.ingest.people import CustomerIn, save_customer
from customers.models import Consent, Customer, email_key
from lifecycle_crm.lib import bell, clock
from lifecycle_crm.lib.errors import Gone, InvalidInput

EVENT = "signed_up"
"""The event of a confirmed sign-up, which a journey can begin with; its property ``form`` is the key."""
SOURCE = "sign-up"
VALID = timedelta(days=7)
"""How long a link in a mail can be pressed."""
KEPT = timedelta(days=30)
"""How long an address is kept that nobody confirmed."""
APART = timedelta(minutes=10)
MOST_MAILS = 3
"""Mails to one unconfirmed address a day, at least ``APART``: a form must not be a way to flood somebody's mailbox."""

_ring = "campaigns.tasks.mail_sign_ups"
_signer = signing.Signer(salt="campaigns.sign-up", sep="~")


def words(form: SignUpForm, language: str) -> dict[str, str]:
    """What the form says in this language, else in the shop's, else in the first it knows."""
    for code in (language, settings.LANGUAGE_CODE, *form.words):
        if code in form.words:
            return dict(form.words[code])
    return {}


def wording(form: SignUpForm, text: str) -> str:
    """The name of a wording: the form, and what tells this text from any other."""
    return f"{form.key[:30]}:{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def ask(
    *,
    form: SignUpForm,
    email: str,
    language: str,
    given_name: str = "",
    source: str = SignUp.Source.PAGE,
    ip: str | None = None,
) -> SignUp:
    """Write down who asked; a worker mails them the link. The same address again is the same row, and another mail only
    after a while. Nothing tells the caller whether we know the address.

    Raises ``InvalidInput`` for what is no address, ``Gone`` for an archived form.
    """
    if form.archived_at is not None:
        raise Gone(_("This sign-up has ended. Have a look at the shop all the same."))
    address = identity.email(email)
    try:
        mail.envelope_address(address)
    except mail.BadAddress:
        raise InvalidInput(
            _("%(value)s cannot be written on an envelope. Use another address.") % {"value": repr(address)},
            code="invalid_email", field="email",
        ) from None  # fmt: skip
    code = language if language in dict(settings.LANGUAGES) else settings.LANGUAGE_CODE
    agreed = words(form, code)["consent"]
    values: dict[str, Any] = {
        "given_name": identity.text(given_name, "given_name", 100) if form.asks_name else "",
        "language": code, "consent_text": agreed, "wording": wording(form, agreed), "source": source, "ip": ip,
    }  # fmt: skip
    now = clock.now()
    open_ones = SignUp.objects.exclude(state=SignUp.State.CONFIRMED)
    with transaction.atomic():
        bell.ring(_ring)
        row, is_new = open_ones.get_or_create(
            form=form,
            email_key=email_key(address),
            defaults={"email": address, "created_at": now, "due_at": now, **values},
        )
        return row if is_new else _again(row, values, now)


def _again(row: SignUp, values: dict[str, Any], now: datetime) -> SignUp:
    """They pressed once more: another mail, unless one is waiting, or has just left, or enough have."""
    last = row.asked_at or row.created_at
    is_enough = now - last < APART or (row.mails >= MOST_MAILS and now - last < timedelta(days=1))
    if row.state in (SignUp.State.WAITING, SignUp.State.SENDING) or is_enough:
        return row
    SignUp.objects.filter(pk=row.pk, state=row.state).update(
        state=SignUp.State.WAITING, mails=F("mails") + 1, tries=0, due_at=now, error="", **values
    )
    row.refresh_from_db()
    return row


# --- The link ---------------------------------------------------------------------------------------------------------


def confirm_url(row: SignUp) -> str:
    """Where the button is. It works for ``VALID`` after the mail left."""
    return settings.SITE_URL + reverse("campaigns:sign-up-confirm", args=[_signer.sign(f"{row.pk:x}")])


def find(token: str) -> SignUp:
    """The sign-up a link names. Raises ``Gone`` for one that we did not write, that is too old, or was never pressed."""
    try:
        row = SignUp.objects.select_related("form").filter(pk=int(_signer.unsign(token), 16)).first()
    except (signing.BadSignature, ValueError, OverflowError):
        row = None
    if row is None:
        raise Gone(_("This link is no longer valid. Sign up once more, and use the link in the new mail."))
    is_late = clock.now() - (row.asked_at or row.created_at) > VALID
    if is_late and row.state != SignUp.State.CONFIRMED:
        raise Gone(_("This link was valid for a week. Sign up once more, and use the link in the new mail."))
    return row


def confirm(*, token: str, ip: str | None = None) -> SignUp:
    """They said yes from their mailbox: a customer, a consent that says to which words, a tag and an event.

    However often and however many at once: one of each. Raises ``Gone`` as ``find`` does.
    """
    found = find(token)
    with transaction.atomic():
        row = SignUp.objects.select_for_update(of=("self",)).select_related("form").get(pk=found.pk)
        if row.state == SignUp.State.CONFIRMED:
            return row
        now = clock.now()
        customer = _customer(row)
        SignUp.objects.filter(pk=row.pk).exclude(state=SignUp.State.CONFIRMED).update(
            state=SignUp.State.CONFIRMED,
            confirmed_at=now,
            confirmed_ip=ip,
            customer=customer,
            owner="",
            lease_until=None,
        )
        consent.record(
            customer=customer, purpose=Purpose.MARKETING, channel=Consent.Channel.EMAIL, is_granted=True, source=SOURCE,
            wording=row.wording, ip=ip, language=row.language, occurred_at=now,
        )  # fmt: skip
        if row.form.tag:
            tagging.put(customers=[customer.pk], tag=row.form.tag, at=now)
        record_event(
            EventIn(EVENT, now, f"{row.pk}", customer_id=customer.pk, properties={"form": row.form.key}), source=SOURCE
        )
        row.refresh_from_db()
    return row


def _customer(row: SignUp) -> Customer:
    """The customer of this address, made if there is none. What we know of one already stays as it is."""
    known = Customer.objects.filter(email_key=row.email_key).first()
    if known is not None:
        if row.given_name and not known.name and not known.given_name:
            return save_customer(CustomerIn(customer_id=known.pk, given_name=row.given_name), source=SOURCE)
        return known
    return save_customer(
        CustomerIn(
            email=row.email, given_name=row.given_name, language=row.language, acquisition_source=SOURCE,
            acquisition_campaign=row.form.key,
        ),
        source=SOURCE,
    )  # fmt: skip

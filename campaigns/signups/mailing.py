"""The mail with the link. A row says whose turn it is; a link is mailed once for each press, or nobody knows.

Claim (on the disk) → build → envelope → body, outside any transaction → what became of it. A worker that dies in between
leaves one mail in doubt: it is not sent again by us, and whoever waits for it presses once more.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections import Counter
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import translation
from django.utils.translation import gettext as _

from campaigns import letters, limits, texts
from campaigns.channels import email
from campaigns.errors import BrokenTemplate
from campaigns.models import Channel, Purpose, SignUp, Suppression, Template, TemplateVariant
from campaigns.rendering import Made, clean, one_line
from campaigns.signups.asking import KEPT, confirm_url, words
from lifecycle_crm.lib import batches, clock, leases
from lifecycle_crm.lib.errors import Conflict
from lifecycle_crm.lib.moments import parameter

logger = logging.getLogger(__name__)

TEMPLATE = "sign-up-confirm"
LEASE = timedelta(minutes=10)
"""Longer than the slowest answer of a mail server: who is over it is dead."""
BACK_OFF_MINUTES = (1, 5, 15, 60)

State = SignUp.State


def send_due(*, limit: int = 200, seconds: float = 50, owner: str | None = None) -> dict[str, int]:
    """Mail the link to those who wait for it; how many ended in which state. Any number may do so at once."""
    counts: Counter[str] = Counter()
    if lost := _sweep():
        counts[State.IN_DOUBT] += lost
    waiting = SignUp.objects.filter(state=State.WAITING, due_at__lte=clock.now()).order_by("due_at", "id")
    ids = [] if limits.standing() else list(waiting.values_list("pk", flat=True)[:limit])
    if not ids:
        return dict(counts)
    owner = owner or leases.new_owner()
    end = time.monotonic() + seconds
    session = email.open_session()
    try:
        for pk in ids:
            if time.monotonic() > end:
                break
            if (row := _claim(pk, owner)) is not None:
                counts[_send(row, session)] += 1
    except email.Unreachable as problem:
        mine = SignUp.objects.filter(owner=owner, state=State.SENDING)
        counts["postponed"] += mine.update(
            state=State.WAITING, owner="", lease_until=None, due_at=clock.now() + timedelta(minutes=1)
        )
        logger.error("Mail cannot be sent, sign-ups wait for their link: %s", problem)
    finally:
        session.close()
    return {str(name): n for name, n in counts.items()}


def forget_unconfirmed() -> int:
    """Delete the addresses that nobody confirmed within a month."""
    gone, _rows = SignUp.objects.filter(
        ~Q(state__in=(State.CONFIRMED, State.SENDING)), created_at__lt=clock.now() - KEPT
    ).delete()
    return gone


def template() -> Template:
    """The words of the mail, in all our languages; from then on the shop's, under Templates."""
    found = Template.objects.filter(key=TEMPLATE).first()
    if found is not None:
        return found
    try:
        with transaction.atomic():
            made = texts.create(name=str(_("Confirm the sign-up")), purpose=Purpose.SERVICE, key=TEMPLATE)
            for code, _name in settings.LANGUAGES:
                with translation.override(code):
                    subject, blocks = _words()
                texts.write(template=made, language=code, subject=subject, blocks=blocks)
            return made
    except (Conflict, IntegrityError):
        return Template.objects.get(key=TEMPLATE)


def shown(row: SignUp) -> Made:
    """The mail as this address gets it. Raises ``BrokenTemplate``."""
    chosen = letters.variant_for(letters.newest_of(template()), row.language)
    if chosen is None:
        raise BrokenTemplate("The template has no text yet.")
    variant = TemplateVariant.objects.select_related("template").get(pk=chosen)
    known = letters.general(letters.the_shop(), row.language)
    known["customer"] |= {"given_name": clean(row.given_name), "email": clean(row.email)}
    about = {"title": clean(words(row.form, row.language)["title"]), "confirm_url": confirm_url(row)}
    made = letters.prepared(variant).make({**known, "sign_up": about})
    if about["confirm_url"] not in made.text:
        raise BrokenTemplate(_("The mail has no link to confirm with. Put {{ sign_up.confirm_url }} into its button."))
    return made


def _words() -> tuple[str, list[dict[str, Any]]]:
    """Subject and blocks in the active language."""
    return str(_("Is this your address? One press, and you are in")), [
        {"type": "heading", "text": "{{ sign_up.title }}"},
        {"type": "text", "text": _("Somebody typed {{ customer.email }} on our page. If it was you, say yes here:")},
        {"type": "button", "text": _("Yes, sign me up"), "url": "{{ sign_up.confirm_url }}"},
        {"type": "text", "text": _("The button works for a week. If it was not you, you need not do anything: "
                                   "without your yes nothing is sent, and the address is deleted after a month.")},
    ]  # fmt: skip


# --- One mail ---------------------------------------------------------------------------------------------------------


def _sweep() -> int:
    """What a dead worker left on its way is in doubt."""
    late = SignUp.objects.filter(state=State.SENDING, lease_until__lt=clock.now())
    return late.update(state=State.IN_DOUBT, lease_until=None)


def _claim(pk: int, owner: str) -> SignUp | None:
    now = clock.now()
    taken = batches.durably(
        "UPDATE campaigns_signup SET state = 'sending', owner = %s, lease_until = %s, attempt = attempt + 1 "
        "WHERE id = %s AND state = 'waiting' AND due_at <= %s RETURNING id",
        [owner, parameter(now + LEASE), pk, parameter(now)],
    )
    return SignUp.objects.select_related("form").get(pk=pk) if taken else None


def _send(row: SignUp, session: email.Session) -> str:
    if reason := _stopped(row):
        return _settle(row, State.STOPPED, error=reason)
    try:
        made = shown(row)
        to = email.envelope_address(row.email)
        proof = hmac.digest(settings.SECRET_KEY.encode(), f"sign-up:{row.pk}".encode(), "sha256").hex()[:12]
        body = email.build(
            to=to, to_name=one_line(row.given_name)[:60], subject=made.subject, html=made.html, text=made.text,
            message_id=f"<sign-up-{row.pk}-{row.attempt}-{proof}@{email.host()}>", date=clock.now(),
            headers={"Auto-Submitted": "auto-generated"},
        )  # fmt: skip
    except (BrokenTemplate, email.BadAddress) as problem:
        return _settle(row, State.FAILED, error=str(problem))
    try:
        session.address(email.sender(), to)
        answer = session.deliver(body)
    except email.InDoubt as problem:
        return _settle(row, State.IN_DOUBT, error=str(problem))
    except email.Dropped as problem:
        return _later(row, str(problem))
    except email.Refused as problem:
        return _settle(row, State.FAILED, error=str(problem)) if problem.is_permanent else _later(row, str(problem))
    return _settle(row, State.ASKED, error=answer, asked_at=clock.now(), transport=session.transport)


def _stopped(row: SignUp) -> str:
    """Why this address is not written to; who unsubscribed may ask again."""
    stops = Suppression.objects.filter(channel=Channel.EMAIL, address_key=row.email_key)
    found = stops.exclude(reason=Suppression.Reason.UNSUBSCRIBED).order_by("reason").first()
    return str(found.get_reason_display()) if found is not None else ""


def _later(row: SignUp, error: str) -> str:
    if row.tries >= len(BACK_OFF_MINUTES):
        return _settle(row, State.FAILED, error=error)
    wait = timedelta(minutes=BACK_OFF_MINUTES[row.tries])
    return _settle(row, State.WAITING, error=error, tries=row.tries + 1, due_at=clock.now() + wait)


def _settle(row: SignUp, state: str, *, error: str = "", **values: Any) -> str:
    """Write how it ended, if the row is still ours: somebody may have confirmed with an older link meanwhile."""
    still = SignUp.objects.filter(
        pk=row.pk, owner=row.owner, attempt=row.attempt, state__in=(State.SENDING, State.IN_DOUBT)
    )
    values |= {"state": state, "error": one_line(error)[:500], "owner": "", "lease_until": None}
    return state if still.update(**values) else "lost"

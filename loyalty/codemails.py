"""The code of a redemption by e-mail: asked for by the customer, told to the roof as a fact, which writes the message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import Count
from django.utils import translation
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from lifecycle_crm.lib import bell
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import codes, queries, vouchers
from loyalty.errors import CannotMail, KeyReused
from loyalty.models import CodeMail, Redemption
from loyalty.models.codemail import MOST_MAILS

_REACT = "lifecycle_crm.tasks.react"


def times(redemptions: Iterable[Redemption]) -> dict[int, int]:
    """How often the code of each was mailed, by its id."""
    ids = [one.pk for one in redemptions]
    rows = CodeMail.objects.filter(redemption__in=ids).order_by().values_list("redemption").annotate(n=Count("pk"))
    return dict(rows)


def refusal(redemption: Redemption, mailed: int) -> str:
    """Why the code cannot be mailed, as a sentence; empty where it can. ``mailed``: how often it was already."""
    if not redemption.customer.email:
        return _("We have no e-mail address for you. Show the code from here.")
    voucher = getattr(redemption, "voucher", None)
    if redemption.state == Redemption.State.CANCELLED or (voucher is not None and vouchers.refusal(voucher)):
        return _("This code cannot be used any more.")
    if mailed >= MOST_MAILS:
        return _("We have mailed this code several times already. Look into your spam, or show it from here.")
    return ""


def ask(*, redemption: Redemption, key: str) -> CodeMail:
    """Mail the code to the address on file, once for a key and a few times in all. Raises ``CannotMail`` with the reason.

    The same press again returns what it made (``replayed``).
    """
    if not 0 < len(key) <= 240:
        raise InvalidInput(_("Press the button on this page to get the code."), code="invalid_key")

    def before() -> CodeMail | None:
        found = CodeMail.objects.filter(key=key).first()
        if found is not None:
            if found.redemption_id != redemption.pk:
                raise KeyReused(_("This key was used for another request. Send a new key for a new request."), key=key)
            found.replayed = True
        return found

    if found := before():
        return found
    mailed = times([redemption]).get(redemption.pk, 0)
    if why := refusal(redemption, mailed):
        raise CannotMail(why)
    try:
        with transaction.atomic():
            made = CodeMail.objects.create(
                redemption=redemption,
                customer=redemption.customer,
                key=key,
                number=mailed + 1,
            )
            bell.ring(_REACT)
            return made
    except IntegrityError:
        if found := before():
            return found
        raise CannotMail(_("This code is being mailed just now. Wait a minute, then look into your mail.")) from None


@dataclass(frozen=True)
class Told:
    """What a message says: the reward, the code as it is read out, and its last day in the customer's language."""

    mail: int
    customer: int
    reward: str
    code: str
    last_day: str


def told(ids: Sequence[int]) -> list[Told]:
    """What to write of these; a code that cannot be used any more is left out."""
    rows = CodeMail.objects.filter(pk__in=ids).select_related(
        "customer", "redemption__reward", "redemption__customer", "redemption__voucher"
    )
    found: list[Told] = []
    for one in rows.order_by("pk"):
        redemption = one.redemption
        voucher = getattr(redemption, "voucher", None)
        if redemption.state == Redemption.State.CANCELLED or (voucher is not None and vouchers.refusal(voucher)):
            continue
        with translation.override(one.customer.speaks()):
            ends = queries.last_day(voucher.expires_at) if voucher is not None and voucher.expires_at else None
            found.append(
                Told(
                    mail=one.pk,
                    customer=one.customer_id,
                    reward=redemption.reward.name,
                    code=codes.shown(voucher.code if voucher is not None else redemption.code),
                    last_day=date_format(ends) if ends else "",
                )
            )
    return found

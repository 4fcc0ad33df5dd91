"""Points by hand, and who may move how many: support up to a limit, everybody above the programme's limit with a second
person's yes. What waits for it is an adjustment of one customer or points for a set (``grants``)."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from customers.models import Customer
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.templatetags.crm import num
from loyalty import goodwill, grants, ledger
from loyalty.errors import AboveRole, AlreadyDecided, FourEyes, KeyReused, NoProgramme
from loyalty.models import Approval, Entry, Programme

SUPPORT_POINTS = 500
"""The most that somebody who serves customers, and steers nothing, may give or take at once."""


def adjust(
    *,
    customer: Customer,
    points: int,
    key: str,
    actor: User | None,
    reason: str,
    source_type: str = "",
    source_id: str = "",
    programme: Programme | None = None,
) -> Entry | Approval:
    """Give or take points by hand: at once up to the programme's limit, above it as a request for a second person.

    What somebody with a goodwill allowance gives comes out of their budget of the month and stops at it, unless it needs
    a second person anyway.

    The same request again returns what it made (``replayed``): the request, or once it is approved still the request, with
    its entry. Its key with another request raises ``KeyReused``; more than ``SUPPORT_POINTS`` by who may not steer raises
    ``AboveRole``.
    """
    if actor is not None and abs(points) > SUPPORT_POINTS and not actor.may_steer():
        limit = ngettext("%(n)s point", "%(n)s points", SUPPORT_POINTS) % {"n": num(SUPPORT_POINTS)}
        raise AboveRole(_("Your role may give or take up to %(limit)s at once.") % {"limit": limit})
    of = programme or Programme.current()
    if of is None:
        raise NoProgramme(_("No points programme is active. Switch one on under Admin, Programmes."))
    asked = Approval.objects.filter(programme=of, key=key).first()
    is_small = not ledger.needs_approval(of, points)
    if asked is None and is_small and points > 0 and actor is not None and goodwill.has_allowance(actor):
        return goodwill.give(customer=customer, points=points, key=key, actor=actor, reason=reason, programme=of)
    if asked is None and (is_small or Entry.objects.filter(programme=of, key=key).exists()):
        return ledger.adjust(
            customer=customer, points=points, key=key, actor=actor, reason=reason, source_type=source_type,
            source_id=source_id, programme=of,
        )  # fmt: skip
    text = reason.strip()
    if not text:
        raise InvalidInput(_("Say why: the reason stays in the customer's history."), code="reason_required")
    if len(text) > 300:
        raise InvalidInput(_("The reason is longer than 300 characters."), code="invalid_reason")
    if asked is None:
        if abs(points) > ledger.MOST_POINTS:
            raise InvalidInput(
                _("The number of points must be between 1 and %(most)s.") % {"most": ledger.MOST_POINTS},
                code="invalid_points",
            )
        try:
            with transaction.atomic():
                return Approval.objects.create(
                    programme=of, customer=customer, key=key, points=points, reason=text, requested_by=actor,
                    source_type=source_type, source_id=source_id,
                )  # fmt: skip
        except IntegrityError:
            asked = Approval.objects.get(programme=of, key=key)
    if (asked.customer_id, asked.points, asked.reason) != (customer.pk, points, text):
        raise KeyReused(
            _("This key was used for another movement of points. Send a new key for a new request."), key=key
        )
    asked.replayed = True
    return asked


def approve(*, approval: Approval, actor: User, note: str = "") -> Approval:
    """Say yes: the points move, in the same transaction; those of a set are given by the worker from then on.

    Raises ``FourEyes`` for who asked, ``AlreadyDecided`` for the second who decides, and what the ledger refuses, such as
    too few points; then it goes on waiting.
    """
    with transaction.atomic():
        decided = _decide(approval, Approval.State.APPROVED, actor, note)
        if decided.grant is not None:
            grants.settle_approval(grant=decided.grant, is_yes=True)
            return decided
        assert decided.customer is not None  # the table says so
        entry = ledger.adjust(
            customer=decided.customer,
            points=decided.points,
            key=decided.key,
            actor=decided.requested_by,
            reason=decided.reason,
            source_type=decided.source_type or "approval",
            source_id=decided.source_id or str(decided.pk),
            programme=decided.programme,
            approval=decided,
        )
        Approval.objects.filter(pk=decided.pk).update(entry=entry)
    decided.refresh_from_db()
    return decided


def refuse(*, approval: Approval, actor: User, note: str = "") -> Approval:
    """Say no: nothing moves. Who asked may take the request back this way too, by another's hand only."""
    with transaction.atomic():
        decided = _decide(approval, Approval.State.REFUSED, actor, note)
        if decided.grant is not None:
            grants.settle_approval(grant=decided.grant, is_yes=False)
        return decided


def may_decide(user: object) -> bool:
    """Whether this person's role may say yes or no to what others asked."""
    return isinstance(user, User) and user.may_govern()


def _decide(approval: Approval, state: Approval.State, actor: User, note: str) -> Approval:
    if not may_decide(actor):
        raise FourEyes(_("Only an owner or an admin can decide this."))
    if approval.requested_by_id == actor.pk:
        raise FourEyes(_("You asked for this yourself. Somebody else has to decide."))
    if len(note.strip()) > 300:
        raise InvalidInput(_("The note is longer than 300 characters."), code="invalid_note")
    mine = Approval.objects.filter(pk=approval.pk, state=Approval.State.WAITING)
    if mine.update(state=state, decided_by=actor, decided_at=clock.now(), note=note.strip()) != 1:
        raise AlreadyDecided(_("Somebody decided this already."))
    return Approval.objects.select_related("customer", "grant", "programme", "requested_by").get(pk=approval.pk)

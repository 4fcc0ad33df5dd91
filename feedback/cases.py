"""Somebody is unhappy: open a case, answer it, close it. Each move is one conditional update and one note."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import DateTimeField, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from customers import facts
from customers.models import Customer
from feedback.errors import CaseMoved
from feedback.models import Case, CaseNote, Response
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import InvalidInput

DUE_HOURS: dict[str, int] = {Case.Kind.DETRACTOR: 48, Case.Kind.COMPLAINT: 24}
"""How soon somebody should answer."""

TEXT_MAX = 10_000

WAITING = (Case.State.OPEN, Case.State.ANSWERED)


def open_for_responses(response_ids: Collection[int]) -> int:
    """Open a case for each of these responses that is a low NPS score and has none yet; how many were opened.

    A response from before its customer was loaded opens none. A case that was closed before its customer gave another
    low score is opened again. Running it twice does nothing more.
    """
    opened = 0
    for ids in batches.of(sorted(set(response_ids)), 1000):
        with transaction.atomic():
            # All of them are held until we commit, so that no answer becomes a low one behind our back.
            held = Response.objects.select_related("case").select_for_update(of=("self",)).order_by("pk")
            low = [one for one in held.filter(pk__in=ids) if one.mood == "detractor" and not one.is_history]
            fresh = []
            for response in low:
                if not hasattr(response, "case"):
                    fresh.append(response)
                elif response.case.closed_at and response.case.closed_at < response.answered_at:
                    opened += _reopen(response.case, response.answered_at)
            opened += _open(fresh)
    return opened


def _open(responses: list[Response]) -> int:
    """A case is open since its customer answered, however late somebody looks: a night that is caught up sees it in time."""
    Case.objects.bulk_create(
        [
            Case(
                response=response,
                customer_id=response.customer_id,
                kind=Case.Kind.DETRACTOR,
                created_at=response.answered_at,
                due_at=_due(Case.Kind.DETRACTOR, response.answered_at),
            )
            for response in responses
        ],
        ignore_conflicts=True,
    )
    # Another worker may have opened some of them first; those have their note already.
    mine = list(Case.objects.filter(response__in=responses, notes=None).order_by("pk"))
    CaseNote.objects.bulk_create(
        [
            CaseNote(case=case, customer_id=case.customer_id, state=Case.State.OPEN, created_at=case.created_at)
            for case in mine
        ]
    )
    facts.mark_each((case.customer_id, case.created_at, False) for case in mine)
    return len(mine)


def _reopen(case: Case, answered_at: datetime) -> int:
    moved = Case.objects.filter(pk=case.pk, state=Case.State.CLOSED, closed_at=case.closed_at).update(
        state=Case.State.OPEN, outcome="", closed_at=None, due_at=_due(case.kind, answered_at)
    )
    if moved == 1:
        _write(case, at=answered_at, state=Case.State.OPEN)
    return moved


def _due(kind: str, since: datetime) -> datetime:
    return since + timedelta(hours=DUE_HOURS[kind])


def complain(*, customer: Customer, text: str, actor: User | None = None) -> Case:
    """Open a case for what a customer said outside a survey: by phone, in the shop, in a letter."""
    words = _text(text, _("Write what the customer complained about."))
    with transaction.atomic():
        now = clock.now()
        case = Case.objects.create(
            customer=customer, kind=Case.Kind.COMPLAINT, created_at=now, due_at=_due(Case.Kind.COMPLAINT, now)
        )
        _write(case, at=now, state=Case.State.OPEN, text=words, author=actor)
    return case


def answer(*, case: Case, text: str, actor: User | None = None) -> CaseNote:
    """Write what we answered the customer. The first answer moves the case on; later ones are added to it.

    Raises ``CaseMoved`` for a closed case, ``InvalidInput`` without a text.
    """
    words = _text(text, _("Write what you answered the customer."))
    with transaction.atomic():
        now = clock.now()
        moved = Case.objects.filter(pk=case.pk, state=Case.State.OPEN).update(
            state=Case.State.ANSWERED, answered_at=Coalesce("answered_at", Value(now, output_field=DateTimeField()))
        )
        if moved == 1:
            row = _write(case, at=now, state=Case.State.ANSWERED, text=words, author=actor)
        else:
            _hold(case)
            row = _write(case, text=words, author=actor)
    case.refresh_from_db()
    return row


def close(*, case: Case, outcome: str, text: str = "", actor: User | None = None) -> CaseNote:
    """Close the case with what came of it. Raises ``CaseMoved`` when it is closed already."""
    if outcome not in Case.Outcome.values:
        raise InvalidInput(
            _("Unknown outcome “%(outcome)s”. Use one of: %(known)s.")
            % {"outcome": outcome, "known": ", ".join(Case.Outcome.values)},
            code="unknown_outcome",
        )
    words = _text(text)
    with transaction.atomic():
        now = clock.now()
        moved = Case.objects.filter(pk=case.pk, state__in=WAITING).update(
            state=Case.State.CLOSED, outcome=outcome, closed_at=now
        )
        if moved != 1:
            raise _closed()
        row = _write(case, at=now, state=Case.State.CLOSED, outcome=outcome, text=words, author=actor)
    case.refresh_from_db()
    return row


def assign(*, case: Case, assignee: User | None, actor: User | None = None) -> CaseNote:
    """Give the case to somebody, or with ``None`` back to everybody. Raises ``CaseMoved`` for a closed case."""
    if assignee is not None and not assignee.is_active:
        raise InvalidInput(
            _("%(name)s no longer works here. Choose somebody else.") % {"name": assignee}, code="inactive_user"
        )
    with transaction.atomic():
        if Case.objects.filter(pk=case.pk, state__in=WAITING).update(assignee=assignee) != 1:
            raise _closed()
        row = _write(case, assignee=assignee, author=actor)
    case.refresh_from_db()
    return row


def note(*, case: Case, text: str, actor: User | None = None) -> CaseNote:
    """Write something for ourselves; a closed case takes notes too."""
    return _write(case, text=_text(text, _("Write the note first.")), author=actor)


def _hold(case: Case) -> None:
    """Refuse unless the case still waits, and keep it so until we commit."""
    if Case.objects.filter(pk=case.pk, state=Case.State.ANSWERED).update(state=Case.State.ANSWERED) != 1:
        raise _closed()


def _closed() -> CaseMoved:
    return CaseMoved(_("This case is closed. Write a note, or wait until the customer answers again."))


def _text(text: str, missing: str = "") -> str:
    words = text.replace("\x00", "").strip()
    if missing and not words:
        raise InvalidInput(missing, code="missing_text")
    if len(words) > TEXT_MAX:
        raise InvalidInput(
            _("The text is too long. Shorten it to %(count)d characters.") % {"count": TEXT_MAX}, code="text_too_long"
        )
    return words


def _write(case: Case, *, at: datetime | None = None, **values: Any) -> CaseNote:
    """Add the row of the history. A move is written while its transaction holds the case, so ids follow the moves."""
    moment = at or clock.now()
    row = CaseNote.objects.create(case=case, customer_id=case.customer_id, created_at=moment, **values)
    if row.state:
        facts.mark([case.customer_id], occurred_at=moment)
    return row

"""Take a night back: within a day, one click, nothing rewritten.

Every move of the night that still stands is answered by a move back (kind ``undo``), messages the night planned and nobody
got yet are called off, and what cannot be taken back is counted and named. The night itself stays done, so its date is not
decided again; the next night decides by the rules in force then.
"""

from __future__ import annotations

from datetime import date, timedelta

from django.db import transaction
from django.db.models import Count
from django.utils.translation import gettext as _

from campaigns import reactivation
from campaigns.journeys import publishing as journeys
from campaigns.models import Message
from customers import facts
from lifecycle_crm.accounts.models import User
from lifecycle_crm.dashboard import rollups
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import Conflict, NotFound
from lifecycle_crm.lib.moments import epoch, parameter
from stages.models import Night, StageTransition

HOURS = 24

_GONE_OUT = (Message.State.SENDING, Message.State.SENT, Message.State.IN_DOUBT)


def refusal(night: Night) -> str:
    """Why this night cannot be undone now, in one sentence; empty when it can."""
    named = {"day": night.business_date}
    if night.undone_at is not None:
        return _("The night of %(day)s is undone already.") % named
    if night.state != Night.State.DONE or night.finished_at is None:
        return _("The night of %(day)s is not finished. Let it finish, then undo it.") % named
    if clock.now() - night.finished_at > timedelta(hours=HOURS):
        return _(
            "The night of %(day)s ended more than %(n)d hours ago. Change the rules instead; the next night moves people."
        ) % {**named, "n": HOURS}
    later = Night.objects.filter(business_date__gt=night.business_date).order_by("business_date").first()
    if later is not None:
        return _("The night of %(later)s was decided after it. Only the last night can be undone.") % {
            "later": later.business_date
        }
    return ""


def undo(*, day: date, actor: User | None) -> Night:
    """Undo the night of ``day``; its ``undo`` then counts ``restored``, ``moved_since``, ``cancelled`` and ``gone_out``.

    ``moved_since`` are customers who were moved again after the night: they stay where they are. Raises ``NotFound`` and
    ``Conflict`` with the reason.
    """
    night = Night.objects.filter(business_date=day).first()
    if night is None:
        raise NotFound(_("No night was run for %(day)s.") % {"day": day})
    if reason := refusal(night):
        raise Conflict(reason, code="cannot_undo")
    with transaction.atomic():
        now = clock.now()
        mine = Night.objects.filter(pk=night.pk, state=Night.State.DONE, undone_at=None)
        if mine.update(undone_at=now, undone_by=actor) != 1:
            raise Conflict(_("Somebody undid this night at this moment."), code="cannot_undo")
        moved = StageTransition.objects.filter(night=night).count()
        restored = _move_back(night, actor)
        cancelled = reactivation.cancel_night(business_date=day.isoformat())
        left = journeys.undo_night(business_date=day)
        done = {
            "restored": restored,
            "moved_since": moved - restored,
            "cancelled": cancelled,
            "gone_out": sum(gone_out(night).values()),
        } | {f"journeys_{name}": n for name, n in left.items() if n}
        Night.objects.filter(pk=night.pk).update(undo=done)
        if restored:
            rollups.roll(day)
    night.refresh_from_db()
    return night


def gone_out(night: Night) -> dict[str, int]:
    """Messages of this night that left and cannot be called back, by campaign."""
    found = (
        Message.objects.filter(run__key=f"night:{night.business_date.isoformat()}", state__in=_GONE_OUT)
        .order_by()
        .values_list("run__campaign__name")
        .annotate(messages=Count("pk"))
    )
    return dict(found)


def _move_back(night: Night, actor: User | None) -> int:
    """A move back for each move of the night that is still its customer's last, and the facts as they stood before it.

    Where they stood since is when the last move that still counts was decided: neither an undone one nor an undoing one.
    A quiet move stays quiet when it is decided again, so undoing a quiet night writes to nobody.
    """
    last = (
        "NOT EXISTS (SELECT 1 FROM stages_stagetransition later "
        "WHERE later.customer_id = t.customer_id AND later.id > t.id)"
    )
    # The facts first: afterwards the move of the night is no longer the last one.
    restored = batches.execute(
        f"""
        UPDATE customers_customerfacts SET stage = b.from_stage, stage_since = b.since, is_quiet = b.is_quiet
        FROM (
            SELECT t.customer_id, t.from_stage, t.is_quiet,
                   CASE WHEN t.from_stage = '' THEN NULL ELSE (
                       SELECT {epoch("e.occurred_at")} FROM stages_stagetransition e
                       WHERE e.customer_id = t.customer_id AND e.id < t.id AND e.kind <> 'undo'
                             AND NOT EXISTS (SELECT 1 FROM stages_stagetransition u WHERE u.undoes_id = e.id)
                       ORDER BY e.id DESC LIMIT 1
                   ) END AS since
            FROM stages_stagetransition t WHERE t.night_id = %s AND {last}
        ) AS b
        WHERE customers_customerfacts.customer_id = b.customer_id
        """,
        [night.pk],
    )
    written = batches.execute(
        f"""
        INSERT INTO stages_stagetransition
            (customer_id, from_stage, to_stage, kind, occurred_at, business_date, rule_set_id, rule, evidence, night_id,
             user_id, reason, undoes_id, is_quiet, recorded_at)
        SELECT t.customer_id, t.to_stage, t.from_stage, 'undo', %s, t.business_date, t.rule_set_id, t.rule, t.evidence,
               NULL, %s, '', t.id, {facts.bool_literal(True)}, %s
        FROM stages_stagetransition t WHERE t.night_id = %s AND {last} ORDER BY t.customer_id
        """,
        [parameter(clock.now()), actor.pk if actor else None, parameter(clock.now()), night.pk],
    )
    if written != restored:  # facts without a row cannot be; a customer erased meanwhile can
        raise Conflict(_("Customers changed while the night was undone. Try again."), code="cannot_undo")
    return restored

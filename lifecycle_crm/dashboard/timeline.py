"""The time line of one customer over all apps: what they did, where they moved, what they earned, said and were sent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Case as DbCase
from django.db.models import F, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from campaigns.models import JourneyRun, Message, StaffTask
from customers.timeline import SOURCES as FROM_CUSTOMERS
from customers.timeline import Item, Source
from feedback.models import Answer, Case, CaseNote
from lifecycle_crm.templatetags.crm import signed
from loyalty import statements
from loyalty.models import Entry, Programme
from stages import evidence
from stages.models import StageTransition


def moves_of(customer_id: int) -> QuerySet[StageTransition]:
    """Moves with what their reason reads. Prefetched, so that the moves of one version share its parsed rules."""
    return StageTransition.objects.filter(customer_id=customer_id).prefetch_related("rule_set", "user")


def _move(row: StageTransition) -> Item:
    # A night decides at the midnight that ends its date: shown as the end of that day, not the start of the next.
    return Item(
        row.occurred_at - timedelta(seconds=1),
        "stage",
        row.pk,
        evidence.headline(row),
        reason=evidence.why(row),
        stage=row.to_stage,
        ordered_at=row.occurred_at,
    )


def _points(row: Any) -> Item:
    title = f"{row.get_kind_display()} {signed(row.points)}"
    return Item(
        row.effective_at,
        "points",
        row.pk,
        _("Points: %(what)s") % {"what": title},
        row.other_programme,
        reason=statements.explain(row),
        icon="gift",
    )


def _entries(customer_id: int) -> QuerySet[Any]:
    """With the name of the programme, where it is not the main one."""
    main = Programme.earning().values("pk")[:1]
    name = DbCase(When(programme=Subquery(main), then=Value("")), default=F("programme__name"))
    return Entry.objects.filter(customer_id=customer_id).annotate(other_programme=name)


def _answer(row: Answer) -> Item:
    values = {"kind": row.get_kind_display(), "score": row.score}
    title = _("Answered %(kind)s: %(score)d") if row.number == 1 else _("Changed the answer to %(kind)s: %(score)d")
    return Item(row.answered_at, "answer", row.pk, title % values, row.comment, icon="feedback")


def _case(row: CaseNote) -> Item:
    titles: dict[str, str] = {
        Case.State.OPEN: _("Case opened: %(kind)s"),
        Case.State.ANSWERED: _("Case answered: %(kind)s"),
        Case.State.CLOSED: _("Case closed: %(kind)s"),
    }
    title = titles.get(row.state, _("Note on the case: %(kind)s")) % {"kind": row.case.get_kind_display()}
    reason = row.get_outcome_display() if row.outcome else ""
    return Item(
        row.created_at,
        "case",
        row.pk,
        title,
        _("by %(person)s") % {"person": row.author} if row.author else "",
        reason=str(reason),
        body=row.text,
        icon="note",
        url=reverse("feedback:case", args=[row.case_id]),
    )


def message_words(row: Message) -> str:
    """What became of a message: "Sent", "Not sent: has not agreed to this"."""
    state = row.get_state_display()
    if row.state == Message.State.SENT:
        return str(state)
    if row.state in (Message.State.SKIPPED, Message.State.HELD_OUT, Message.State.CANCELLED):
        return _("Not sent: %(why)s") % {"why": row.get_reason_display() or state}
    return f"{state}: {row.get_reason_display()}" if row.reason else str(state)


def _message(row: Any) -> Item:
    return Item(
        row.moment,
        "message",
        row.pk,
        _("Message “%(campaign)s”") % {"campaign": row.run.campaign.name},
        "" if row.reason else message_words(row),
        reason=message_words(row) if row.reason else "",
        icon="mail",
        url=reverse("campaigns:message", args=[row.pk]),
    )


def _messages(customer_id: int) -> QuerySet[Any]:
    moment = Coalesce("sent_at", "created_at")
    return Message.objects.filter(customer_id=customer_id).annotate(moment=moment).select_related("run__campaign")


def _journey(row: JourneyRun) -> Item:
    held_out = row.state == JourneyRun.State.HELD_OUT
    title = _("Held out of the journey “%(journey)s”") if held_out else _("Entered the journey “%(journey)s”")
    became = "" if held_out or row.state == JourneyRun.State.RUNNING else str(row.get_state_display())
    return Item(
        row.entered_at,
        "journey",
        row.pk,
        title % {"journey": row.journey},
        "" if row.reason else became,
        reason=f"{became}: {row.get_reason_display()}" if row.reason else "",
        icon="sort",
        url=reverse("campaigns:journey-way", args=[row.journey_id, row.pk]),
    )


def _task(row: StaffTask) -> Item:
    return Item(
        row.created_at,
        "task",
        row.pk,
        _("Task for the team: %(what)s") % {"what": row.what},
        f"{row.get_kind_display()} · {row.get_state_display()}",
        reason=str(row.get_withdrawn_display()) if row.withdrawn else "",
        icon="check",
        url=reverse("campaigns:task", args=[row.pk]),
    )


SOURCES: tuple[Source, ...] = (
    Source("stage", gettext_lazy("Stages"), "occurred_at", moves_of, _move),
    *FROM_CUSTOMERS,
    Source("points", gettext_lazy("Points"), "effective_at", _entries, _points),
    Source("answer", gettext_lazy("Answers"), "answered_at", lambda pk: Answer.objects.filter(customer_id=pk), _answer),
    Source(
        "case",
        gettext_lazy("Cases"),
        "created_at",
        lambda pk: CaseNote.objects.filter(customer_id=pk).select_related("case", "author"),
        _case,
    ),
    Source("message", gettext_lazy("Messages"), "moment", _messages, _message),
    # Kept in whole seconds, so it comes after all that happened within the second.
    Source(
        "journey",
        gettext_lazy("Journeys"),
        "entered_at",
        lambda pk: JourneyRun.objects.filter(customer_id=pk).select_related("journey"),
        _journey,
    ),
    Source("task", gettext_lazy("Tasks"), "created_at", lambda pk: StaffTask.objects.filter(customer_id=pk), _task),
)
"""In the order in which things of the same instant are shown, the latest consequence first."""

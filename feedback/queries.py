"""What the pages and the API show of feedback."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import hypot

from django.db.models import Case as When
from django.db.models import Count, Q, QuerySet, Value
from django.db.models import When as If

from feedback.models import (
    DETRACTOR_MAX,
    PROMOTER_MIN,
    SCALES,
    Answer,
    Case,
    CaseNote,
    Invitation,
    Kind,
    Response,
    Survey,
)
from feedback.scores import Nps, nps
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter

PERIOD_DAYS = 90


@dataclass(frozen=True)
class Rate:
    """How many of the links made in a period were answered. ``share`` is ``None`` when none was made."""

    invited: int
    answered: int

    @property
    def share(self) -> float | None:
        return self.answered / self.invited if self.invited else None


@dataclass(frozen=True)
class CaseCounts:
    """Cases that are not closed; ``late`` are those nobody answered in time."""

    waiting: int
    open: int
    answered: int
    late: int


@dataclass(frozen=True)
class Overview:
    """How the shop is spoken of in the ``PERIOD_DAYS`` before ``as_of``, and who waits for us now."""

    as_of: datetime
    days: int
    nps: Nps
    before: Nps
    """The same number of days before those."""
    counts: dict[int, int]
    """Customers per score 0–10, by the last answer of each."""
    rate: Rate
    cases: CaseCounts
    latest: list[Response]

    @property
    def change(self) -> float | None:
        """Points against the period before; ``None`` unless both have answers enough."""
        if not (self.nps.is_enough and self.before.is_enough):
            return None
        return (self.nps.value or 0.0) - (self.before.value or 0.0)

    @property
    def is_clear(self) -> bool:
        """Is the change larger than chance explains (95 %, the two periods taken as independent samples)?"""
        if self.change is None or self.nps.margin is None or self.before.margin is None:
            return False
        return abs(self.change) > hypot(self.nps.margin, self.before.margin)


def overview(*, as_of: datetime | None = None, latest_count: int = 10) -> Overview:
    """Everything the feedback page and the card on home say."""
    end = as_of or clock.now()
    middle = end - timedelta(days=PERIOD_DAYS)
    counts = last_scores(middle, end)
    return Overview(
        as_of=end,
        days=PERIOD_DAYS,
        nps=nps(counts),
        before=nps(last_scores(middle - timedelta(days=PERIOD_DAYS), middle)),
        counts=counts,
        rate=response_rate(middle, end),
        cases=case_counts(end),
        latest=list(latest()[:latest_count]),
    )


def last_scores(start: datetime, end: datetime) -> dict[int, int]:
    """How many customers gave each NPS score, by the last answer of each in ``[start, end)``; every score is a key."""
    low, high = SCALES[Kind.NPS]
    found = batches.rows(
        """
        SELECT score, count(*)
        FROM (
            SELECT score, row_number() OVER (PARTITION BY customer_id ORDER BY answered_at DESC, id DESC) AS place
            FROM feedback_answer
            WHERE kind = 'nps' AND answered_at >= %s AND answered_at < %s
        ) answers
        WHERE place = 1
        GROUP BY score
        """,
        [parameter(start), parameter(end)],
    )
    return {**dict.fromkeys(range(low, high + 1), 0), **dict(found)}


def response_rate(start: datetime, end: datetime) -> Rate:
    """Of the links made in ``[start, end)``, how many were answered by ``end``."""
    invited = Invitation.objects.filter(created_at__gte=start, created_at__lt=end)
    found = invited.aggregate(invited=Count("pk"), answered=Count("pk", filter=Q(response__first_answered_at__lt=end)))
    return Rate(invited=found["invited"], answered=found["answered"])


def case_counts(at: datetime) -> CaseCounts:
    found = waiting().aggregate(
        waiting=Count("pk"),
        open=Count("pk", filter=Q(state=Case.State.OPEN)),
        late=Count("pk", filter=Q(state=Case.State.OPEN, due_at__lt=at)),
    )
    return CaseCounts(found["waiting"], found["open"], found["waiting"] - found["open"], found["late"])


def waiting() -> QuerySet[Case]:
    """Cases that are not closed."""
    return Case.objects.filter(state__in=[Case.State.OPEN, Case.State.ANSWERED])


def inbox() -> QuerySet[Case]:
    """Who waits for us: cases nobody answered first, by due time, then those that are answered but not closed."""
    answered_last = When(If(state=Case.State.OPEN, then=Value(0)), default=Value(1))
    return (
        waiting()
        .select_related("customer", "customer__facts", "response", "assignee")
        .order_by(answered_last, "due_at", "id")
    )


def latest() -> QuerySet[Response]:
    """Responses, the last given first."""
    return Response.objects.select_related("customer", "survey", "case").order_by("-answered_at", "-id")


def case(pk: int) -> Case | None:
    return (
        Case.objects.select_related("customer", "customer__facts", "response__survey", "assignee").filter(pk=pk).first()
    )


def notes(of: Case) -> QuerySet[CaseNote]:
    """What was done about a case, the last first."""
    return of.notes.select_related("author", "assignee").order_by("-id")


def answers(of: Response) -> QuerySet[Answer]:
    """Everything a response ever said, the last first."""
    return of.answers.order_by("-number")


def last_closed() -> Case | None:
    return Case.objects.filter(state=Case.State.CLOSED).order_by("-closed_at").first()


def active_surveys() -> QuerySet[Survey]:
    return Survey.objects.filter(state=Survey.State.ACTIVE)


@dataclass(frozen=True)
class CustomerFeedback:
    """What one customer told us, the last first, and what is still between us."""

    responses: list[Response]
    cases: list[Case]
    invitations: list[Invitation]

    @property
    def open_cases(self) -> list[Case]:
        return [case for case in self.cases if not case.is_closed]


def for_customer(customer_id: int, *, limit: int = 50) -> CustomerFeedback:
    """Responses, cases, and links that can still be answered, of one customer; at most ``limit`` of each."""
    now = clock.now()
    return CustomerFeedback(
        responses=list(latest().filter(customer_id=customer_id)[:limit]),
        cases=list(
            Case.objects.filter(customer_id=customer_id)
            .select_related("response", "assignee")
            .order_by("-created_at", "-id")[:limit]
        ),
        invitations=list(
            Invitation.objects.filter(
                customer_id=customer_id, response=None, expires_at__gt=now, survey__state=Survey.State.ACTIVE
            )
            .select_related("survey")
            .order_by("-created_at")[:limit]
        ),
    )


def responses(*, group: str = "", score: int | None = None) -> QuerySet[Response]:
    """``latest`` narrowed to a group (``promoter``, ``passive``, ``detractor``, ``comment``) or to one NPS score."""
    found = latest()
    if score is not None:
        return found.filter(kind=Kind.NPS, score=score)
    if group == "comment":
        return found.exclude(comment="")
    bounds = {"promoter": (PROMOTER_MIN, 10), "passive": (DETRACTOR_MAX + 1, PROMOTER_MIN - 1)}
    bounds["detractor"] = (0, DETRACTOR_MAX)
    if group in bounds:
        low, high = bounds[group]
        return found.filter(kind=Kind.NPS, score__gte=low, score__lte=high)
    return found

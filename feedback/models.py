"""What customers tell us: what was asked, what was answered, and what we did about it.

Two tables only grow: ``Answer`` (everything that was ever said) and ``CaseNote`` (everything that was ever done about
it). ``Response`` and ``Case`` are the present view over them, so a night or a replay for a past date reads the rows of
that date and no later edit reaches it.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from functools import reduce
from operator import or_
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from customers.models import Customer
from lifecycle_crm.lib import clock


class Kind(models.TextChoices):
    NPS = "nps", _("Recommendation (NPS)")
    CSAT = "csat", _("Satisfaction (CSAT)")
    CES = "ces", _("Effort (CES)")


SCALES: dict[str, tuple[int, int]] = {Kind.NPS: (0, 10), Kind.CSAT: (1, 5), Kind.CES: (1, 7)}
"""Lowest and highest score of each kind."""

DETRACTOR_MAX = 6
PROMOTER_MIN = 9


def _within_scale() -> Q:
    """The CHECK that a score lies on the scale of its kind."""
    return reduce(or_, (Q(kind=kind, score__gte=low, score__lte=high) for kind, (low, high) in SCALES.items()))


class Survey(models.Model):
    """A question we ask. Its kind fixes the scale and never changes; its words exist per language."""

    class State(models.TextChoices):
        DRAFT = "draft", _("Draft")
        ACTIVE = "active", _("Active")
        CLOSED = "closed", _("Closed")

    key = models.SlugField(_("key"), max_length=40, unique=True, help_text=_("Its name for imports and the API."))
    kind = models.CharField(_("kind"), max_length=4, choices=Kind.choices)
    name = models.CharField(_("name"), max_length=80)
    texts = models.JSONField(
        _("texts"),
        default=dict,
        help_text=_(
            'Per language: question, low, high, comment, thanks. Such as {"en": {"question": "…"}}. '
            "{shop} stands for the shop's name."
        ),
    )
    valid_days = models.PositiveSmallIntegerField(
        _("valid for days"), default=30, help_text=_("How long a link can be answered and the answer changed.")
    )
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.DRAFT)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("survey")
        verbose_name_plural = _("surveys")
        ordering: ClassVar = ["name", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="feedback_survey_known_kind"),
            models.CheckConstraint(
                condition=Q(valid_days__gte=1, valid_days__lte=365), name="feedback_survey_valid_for_a_while"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def scale(self) -> tuple[int, int]:
        """Lowest and highest score."""
        return SCALES[self.kind]

    @property
    def lowest(self) -> int:
        return self.scale[0]

    @property
    def highest(self) -> int:
        return self.scale[1]

    def text(self, part: str, language: str | None = None) -> str:
        """One of the survey's texts in a language, else in the shop's, else in English, else in any that has it."""
        wanted = [language or get_language() or "", settings.LANGUAGE_CODE, "en", *self.texts]
        for code in wanted:
            if text := self.texts.get(code, {}).get(part):
                return text.replace("{shop}", settings.SHOP_NAME)
        return ""

    @property
    def question(self) -> str:
        """The question in the active language."""
        return self.text("question")


def new_nonce() -> str:
    """128 random bits."""
    return secrets.token_urlsafe(16)


class Invitation(models.Model):
    """One customer asked once about one occasion. Its link is the nonce with our signature (``feedback.links``), so a
    copy of this table alone opens no link."""

    survey = models.ForeignKey(Survey, on_delete=models.PROTECT, related_name="invitations")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="survey_invitations")
    key = models.CharField(
        _("occasion"), max_length=120, help_text=_("The same customer is asked once per survey and occasion.")
    )
    reason = models.CharField(_("reason"), max_length=120, blank=True)
    nonce = models.CharField(max_length=22, unique=True, default=new_nonce, editable=False)
    language = models.CharField(_("language"), max_length=5)
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(_("made"), default=clock.now)
    expires_at = models.DateTimeField(_("valid until"))
    opened_at = models.DateTimeField(
        _("first opened"), null=True, blank=True, help_text=_("By a person or by a machine that checks links.")
    )

    class Meta:
        verbose_name = _("survey link")
        verbose_name_plural = _("survey links")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["customer", "survey", "key"], name="feedback_invitation_once_per_occasion"),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="feedback_invitation_expires_later"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["created_at"], name="feedback_invitation_made")]

    def __str__(self) -> str:
        return f"{self.survey_id}/{self.customer_id}: {self.key}"

    def is_open(self, at: datetime) -> bool:
        """Can it be answered, and the answer changed, at that moment?"""
        return at < self.expires_at


class Response(models.Model):
    """What a customer answers now: the last of its ``answers``. One per invitation, or per id at an outside source."""

    invitation = models.OneToOneField(
        Invitation, null=True, blank=True, on_delete=models.PROTECT, related_name="response"
    )
    source = models.CharField(_("source"), max_length=40, help_text=_("link, or the name of the system it came from."))
    source_id = models.CharField(_("id at the source"), max_length=120)
    survey = models.ForeignKey(Survey, on_delete=models.PROTECT, related_name="responses")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="responses")
    kind = models.CharField(_("kind"), max_length=4, choices=Kind.choices, editable=False)
    score = models.PositiveSmallIntegerField(_("score"))
    comment = models.TextField(_("comment"), blank=True)
    language = models.CharField(_("language"), max_length=5, blank=True)
    first_answered_at = models.DateTimeField(_("first answered"))
    answered_at = models.DateTimeField(_("answered"))
    answer_count = models.PositiveSmallIntegerField(_("times answered"), default=1)
    is_history = models.BooleanField(default=False, help_text=_("Given before the customer was loaded."))
    recorded_at = models.DateTimeField(default=clock.now, editable=False)
    reacted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("response")
        verbose_name_plural = _("responses")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source", "source_id"], name="feedback_response_once_per_source"),
            models.CheckConstraint(condition=_within_scale(), name="feedback_response_score_on_scale"),
            models.CheckConstraint(condition=Q(answer_count__gte=1), name="feedback_response_has_an_answer"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["customer", "answered_at"], name="feedback_response_customer"),
            models.Index(fields=["answered_at"], name="feedback_response_latest"),
            models.Index(fields=["id"], condition=Q(reacted_at=None), name="feedback_response_to_react"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.score}"

    @property
    def highest(self) -> int:
        return SCALES[self.kind][1]

    @property
    def mood(self) -> str:
        """``promoter``, ``passive`` or ``detractor`` for NPS; "" for other kinds."""
        if self.kind != Kind.NPS:
            return ""
        return "promoter" if self.score >= PROMOTER_MIN else "detractor" if self.score <= DETRACTOR_MAX else "passive"


class Answer(models.Model):
    """One thing a customer said, at its moment. Append-only; changing an answer adds a row with the next number.

    Comment and address may be blanked, and only that, when a customer asks to be forgotten: the score stays, so that
    no past figure moves.
    """

    response = models.ForeignKey(Response, on_delete=models.PROTECT, related_name="answers")
    number = models.PositiveSmallIntegerField(_("number"))
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(_("kind"), max_length=4, choices=Kind.choices)
    score = models.PositiveSmallIntegerField(_("score"))
    comment = models.TextField(_("comment"), blank=True)
    language = models.CharField(_("language"), max_length=5, blank=True)
    ip = models.GenericIPAddressField(null=True, blank=True)
    answered_at = models.DateTimeField(_("answered"))

    class Meta:
        verbose_name = _("answer")
        verbose_name_plural = _("answers")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["response", "number"], name="feedback_answer_numbered"),
            models.CheckConstraint(condition=_within_scale(), name="feedback_answer_score_on_scale"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["customer", "kind", "answered_at"], name="feedback_answer_facts"),
            models.Index(fields=["kind", "answered_at"], name="feedback_answer_period"),
        ]

    def __str__(self) -> str:
        return f"#{self.response_id}.{self.number}: {self.score}"


class Case(models.Model):
    """Somebody is unhappy and waits for us. Every move of its state is also a note (``feedback.cases``)."""

    class Kind(models.TextChoices):
        DETRACTOR = "detractor", _("Low score")
        COMPLAINT = "complaint", _("Complaint")

    class State(models.TextChoices):
        OPEN = "open", _("Open")
        ANSWERED = "answered", _("Answered")
        CLOSED = "closed", _("Closed")

    class Outcome(models.TextChoices):
        SOLVED = "solved", _("Solved")
        OFFERED = "offered", _("Made an offer")
        NOTHING = "nothing", _("Nothing to do")
        UNREACHED = "unreached", _("Could not reach the customer")

    response = models.OneToOneField(Response, null=True, blank=True, on_delete=models.PROTECT, related_name="case")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="cases")
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.OPEN)
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="cases",
        verbose_name=_("assigned to"),
    )
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome.choices, blank=True)
    created_at = models.DateTimeField(_("opened"), default=clock.now)
    due_at = models.DateTimeField(_("due"))
    answered_at = models.DateTimeField(_("first answered"), null=True, blank=True)
    closed_at = models.DateTimeField(_("closed"), null=True, blank=True)

    class Meta:
        verbose_name = _("case")
        verbose_name_plural = _("cases")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(kind="complaint") | Q(response__isnull=False), name="feedback_case_of_a_response"
            ),
            models.CheckConstraint(
                condition=(Q(state="closed", closed_at__isnull=False) & ~Q(outcome=""))
                | (Q(state__in=["open", "answered"], closed_at=None, outcome="")),
                name="feedback_case_closed_with_outcome",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["due_at", "id"], condition=Q(state__in=["open", "answered"]), name="feedback_case_inbox"
            ),
            models.Index(fields=["customer", "created_at"], name="feedback_case_customer"),
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.get_kind_display()}"

    @property
    def is_closed(self) -> bool:
        return self.state == self.State.CLOSED

    @property
    def is_late(self) -> bool:
        """Nobody answered in time."""
        return self.state == self.State.OPEN and self.due_at < clock.now()


class CaseNote(models.Model):
    """Something that was done or written about a case. Append-only; with ``state`` it is the move into that state.

    The text may be blanked, and only that, when a customer asks to be forgotten.
    """

    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="notes")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(_("moved to"), max_length=8, choices=Case.State.choices, blank=True)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Case.Outcome.choices, blank=True)
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        verbose_name=_("assigned to"),
    )
    text = models.TextField(_("text"), blank=True)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        verbose_name=_("author"),
    )
    created_at = models.DateTimeField(_("written"), default=clock.now)

    class Meta:
        verbose_name = _("case note")
        verbose_name_plural = _("case notes")
        indexes: ClassVar = [
            models.Index(fields=["customer", "created_at"], condition=~Q(state=""), name="feedback_casenote_moves"),
        ]

    def __str__(self) -> str:
        return f"#{self.case_id}: {self.state or self.text[:40]}"

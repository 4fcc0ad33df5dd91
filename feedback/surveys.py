"""Ask, and take the answer. Only a POST of a person decides; a GET of a link changes no answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from customers import facts
from customers.models import Customer
from feedback import links
from feedback.errors import AlreadyRecorded, LinkGone, SurveyNotOpen, TooManyChanges
from feedback.models import Answer, Invitation, Response, Survey
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, bell, clock
from lifecycle_crm.lib.errors import InvalidInput, NotFound

LINK = "link"
"""The source of answers that came through our own links."""

COMMENT_MAX = 4000
MAX_ANSWERS = 20
"""How often one link may be answered: more than anybody changes their mind, fewer than a machine tries."""

_REACT = "lifecycle_crm.tasks.react"

NPS: dict[str, Any] = {
    "key": "nps",
    "kind": "nps",
    "name": "NPS",
    "valid_days": 30,
    "state": "active",
    "texts": {
        "en": {
            "question": "How likely are you to recommend {shop} to a friend or colleague?",
            "low": "Not at all likely",
            "high": "Very likely",
            "comment": "What is the main reason for your score?",
            "thanks": "Thank you for your answer",
        },
        "sv": {
            "question": "Hur troligt är det att du skulle rekommendera {shop} till en vän eller kollega?",
            "low": "Inte alls troligt",
            "high": "Mycket troligt",
            "comment": "Vad är den främsta anledningen till ditt betyg?",
            "thanks": "Tack för ditt svar",
        },
        "nb": {
            "question": "Hvor sannsynlig er det at du vil anbefale {shop} til en venn eller kollega?",
            "low": "Ikke sannsynlig i det hele tatt",
            "high": "Svært sannsynlig",
            "comment": "Hva er hovedgrunnen til at du svarte som du gjorde?",
            "thanks": "Takk for svaret ditt",
        },
        "pl": {
            "question": "Na ile prawdopodobne jest, że polecisz {shop} znajomym lub współpracownikom?",
            "low": "Mało prawdopodobne",
            "high": "Bardzo prawdopodobne",
            "comment": "Jaki jest główny powód tej oceny?",
            "thanks": "Dziękujemy za odpowiedź",
        },
        "cs": {
            "question": "Jak pravděpodobné je, že byste {shop} doporučili příteli nebo kolegovi?",
            "low": "Velmi nepravděpodobné",
            "high": "Velmi pravděpodobné",
            "comment": "Jaký je hlavní důvod vašeho hodnocení?",
            "thanks": "Děkujeme za odpověď",
        },
    },
}
"""The survey every shop starts with."""


def install() -> Survey:
    """The NPS survey; made if this shop has none, never changed if it has."""
    survey, _made = Survey.objects.get_or_create(
        key=NPS["key"], defaults={name: value for name, value in NPS.items() if name != "key"}
    )
    return survey


def get(key: str) -> Survey:
    """The survey with this key. Raises ``NotFound``."""
    survey = Survey.objects.filter(key=key).first()
    if survey is None:
        known = ", ".join(Survey.objects.order_by("key").values_list("key", flat=True))
        raise NotFound(
            _("There is no survey “%(key)s”. Use one of: %(known)s.") % {"key": key, "known": known or "–"},
            code="unknown_survey",
        )
    return survey


# --- Ask --------------------------------------------------------------------------------------------------------------


def invite(*, customer: Customer, survey: Survey, key: str, reason: str = "", actor: User | None = None) -> Invitation:
    """Make the customer's link for one occasion; asking again for the same occasion returns the same link.

    ``key`` names the occasion (``order:812``, ``2026-Q4``). Raises ``SurveyNotOpen`` unless the survey is active.
    """
    if not key or len(key) > 120:
        raise InvalidInput(_("An occasion needs a key of 1 to 120 characters, such as order:812."), code="invalid_key")
    if survey.state != Survey.State.ACTIVE:
        raise SurveyNotOpen(
            _("The survey “%(name)s” is not active, so it invites nobody. Activate it first.") % {"name": survey.name}
        )
    now = clock.now()
    invitation, _made = Invitation.objects.get_or_create(
        customer=customer,
        survey=survey,
        key=key,
        defaults={
            "reason": reason[:120],
            "language": language_for(customer.speaks()),
            "invited_by": actor,
            "created_at": now,
            "expires_at": now + timedelta(days=survey.valid_days),
        },
    )
    return invitation


def language_for(code: str) -> str:
    """The language we speak that fits a code, else the shop's: ``"sv-SE"`` → ``"sv"``, ``"no"`` → ``"nb"``."""
    short = code.lower().replace("_", "-").split("-")[0]
    short = {"no": "nb", "nn": "nb"}.get(short, short)
    return short if short in dict(settings.LANGUAGES) else settings.LANGUAGE_CODE


def open_link(token: str) -> Invitation:
    """The invitation of a link that can still be answered. Raises ``LinkGone`` for any other, always the same."""
    invitation = links.find(token)
    if not invitation.is_open(clock.now()) or invitation.survey.state != Survey.State.ACTIVE:
        raise LinkGone
    return invitation


def mark_opened(invitation: Invitation) -> None:
    """Remember when the page was first shown. That is no answer, and a mail scanner does it too."""
    if invitation.opened_at is None:
        Invitation.objects.filter(pk=invitation.pk, opened_at=None).update(opened_at=clock.now())


# --- Take the answer --------------------------------------------------------------------------------------------------


def answer(
    *,
    score: int,
    token: str = "",
    invitation: Invitation | None = None,
    comment: str = "",
    language: str = "",
    ip: str | None = None,
) -> Response:
    """Take, or change, the one answer of a link. Name the link by its ``token`` or its ``invitation``.

    The same answer again changes nothing. Raises ``LinkGone`` when the link is forged, expired or closed,
    ``InvalidInput`` for a score off the scale, ``TooManyChanges`` after ``MAX_ANSWERS`` different answers.
    """
    if invitation is not None:
        token = links.token(invitation)
    link = open_link(token)
    survey = link.survey
    words = _comment(comment)
    _check_score(survey, score)
    said = {"score": score, "comment": words, "language": language_for(language or link.language)}
    with transaction.atomic():
        now = clock.now()
        response, is_new = Response.objects.get_or_create(
            invitation=link,
            defaults={
                **said,
                "source": LINK,
                "source_id": str(link.pk),
                "survey": survey,
                "customer": link.customer,
                "kind": survey.kind,
                "first_answered_at": now,
                "answered_at": now,
            },
        )
        if not is_new and not _change(response, said):
            return response
        Answer.objects.create(
            response=response,
            number=response.answer_count,
            customer_id=response.customer_id,
            kind=response.kind,
            ip=ip,
            answered_at=response.answered_at,
            **said,
        )
        facts.mark([response.customer_id], occurred_at=response.answered_at)
        bell.ring(_REACT)
    return response


def _change(response: Response, said: dict[str, Any]) -> bool:
    """Make ``said`` the present answer; False if it is already. The update holds the row, so numbers follow order."""
    mine = Response.objects.filter(pk=response.pk)
    if mine.filter(score=said["score"], comment=said["comment"]).exists():
        return False
    moved = mine.filter(answer_count__lt=MAX_ANSWERS).update(
        **said, answer_count=F("answer_count") + 1, reacted_at=None
    )
    if moved != 1:
        raise TooManyChanges(_("This answer was changed too often. It stays as it is."))
    before = mine.values_list("answered_at", flat=True).get()
    mine.update(answered_at=max(before, clock.now()))
    response.refresh_from_db()
    return True


# --- Bring in answers from elsewhere ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """An answer that was given elsewhere. ``source_id`` is its id there; ``is_history`` None means: before the customer
    was loaded."""

    customer: Customer
    score: int
    answered_at: datetime
    source_id: str
    comment: str = ""
    language: str = ""
    is_history: bool | None = None


def record(
    *,
    customer: Customer,
    survey: Survey,
    score: int,
    answered_at: datetime,
    source: str,
    source_id: str,
    comment: str = "",
    language: str = "",
    is_history: bool | None = None,
) -> Response:
    """Write an answer that was given elsewhere, once per ``(source, source_id)``; the same again returns the first.

    Raises ``InvalidInput`` for a score off the scale or a future date, ``AlreadyRecorded`` when the id carries another
    customer, survey or score.
    """
    given = Given(customer, score, answered_at, source_id, comment, language, is_history)
    record_many(survey=survey, source=source, answers=[given])
    response = Response.objects.select_related("survey", "customer").get(source=source, source_id=source_id)
    if (response.customer_id, response.survey_id, response.score) != (customer.pk, survey.pk, score):
        raise AlreadyRecorded(
            _("%(source)s already sent another answer with the id %(id)s. Give each answer its own id.")
            % {"source": source, "id": source_id}
        )
    return response


def record_many(*, survey: Survey, source: str, answers: Iterable[Given]) -> int:
    """``record`` for many answers of one survey and source, set-based; how many were new.

    One bad answer raises ``InvalidInput`` before anything of its thousand is written.
    """
    if not source or source == LINK or len(source) > 40:
        raise InvalidInput(
            _("An answer from elsewhere needs a source of 1 to 40 characters that is not “link”."),
            code="invalid_source",
        )
    new = 0
    for batch in batches.of(answers, 1000):
        with transaction.atomic():
            new += _record(survey, source, batch)
            bell.ring(_REACT)
    return new


def _record(survey: Survey, source: str, batch: list[Given]) -> int:
    now = clock.now()
    rows: dict[str, Response] = {}
    for given in batch:
        _check_score(survey, given.score)
        if given.answered_at > now:
            raise InvalidInput(
                _("An answer cannot be given in the future. Check the time and its zone."), code="future_date"
            )
        if not given.source_id or len(given.source_id) > 120:
            raise InvalidInput(
                _("An answer from elsewhere needs its id there, of 1 to 120 characters."), code="invalid_source_id"
            )
        old = given.answered_at < given.customer.loaded_at if given.is_history is None else given.is_history
        rows.setdefault(
            given.source_id,
            Response(
                source=source,
                source_id=given.source_id,
                survey=survey,
                customer=given.customer,
                kind=survey.kind,
                score=given.score,
                comment=_comment(given.comment),
                language=language_for(given.language or given.customer.speaks()),
                first_answered_at=given.answered_at,
                answered_at=given.answered_at,
                is_history=old,
            ),
        )
    Response.objects.bulk_create([rows[key] for key in sorted(rows)], ignore_conflicts=True)
    # What was there before has its answer already.
    mine = list(Response.objects.filter(source=source, source_id__in=list(rows), answers=None).order_by("pk"))
    Answer.objects.bulk_create(
        [
            Answer(
                response=response,
                number=1,
                customer_id=response.customer_id,
                kind=response.kind,
                score=response.score,
                comment=response.comment,
                language=response.language,
                answered_at=response.answered_at,
            )
            for response in mine
        ]
    )
    facts.mark_each((response.customer_id, response.answered_at, response.is_history) for response in mine)
    return len(mine)


# --- Checks -----------------------------------------------------------------------------------------------------------


def _check_score(survey: Survey, score: int) -> None:
    low, high = survey.scale
    if isinstance(score, bool) or not isinstance(score, int) or not low <= score <= high:
        raise InvalidInput(
            _("Choose a score from %(low)d to %(high)d.") % {"low": low, "high": high}, code="score_off_scale"
        )


def _comment(text: str) -> str:
    words = text.replace("\x00", "").replace("\r\n", "\n").strip()
    if len(words) > COMMENT_MAX:
        raise InvalidInput(
            _("The comment is too long. Shorten it to %(count)d characters.") % {"count": COMMENT_MAX},
            code="comment_too_long",
        )
    return words

"""What feedback refuses."""

from __future__ import annotations

from django.utils.translation import gettext as _

from lifecycle_crm.lib.errors import Conflict, DomainError, Gone


class LinkGone(Gone):
    """Expired, forged, closed or never made: one sentence for all of them, so that nothing can be guessed."""

    def __init__(self) -> None:
        super().__init__(_("This link is no longer valid. Ask for a new one."))


class TooManyChanges(DomainError):
    """An answer was changed more often than a person would."""

    code = "too_many_changes"
    status = 429


class SurveyNotOpen(Conflict):
    code = "survey_not_open"


class CaseMoved(Conflict):
    """Somebody else moved the case first, or it is in a state that does not allow this."""

    code = "case_moved"


class AlreadyRecorded(Conflict):
    """The id at the source already carries another answer."""

    code = "already_recorded"

"""One family of refusals. Verbs raise them, doors translate them once (``lib.http`` for pages, ``lib.api`` for REST)."""

from __future__ import annotations

from typing import Any


class DomainError(Exception):
    """A refusal a person can act on: one sentence that says what, where and how to fix.

    ``code`` is stable and machine-readable; ``status`` is the HTTP status both doors answer with; ``extra`` are the
    values the sentence was made from.
    """

    code = "refused"
    status = 409

    def __init__(self, message: str, *, code: str | None = None, status: int | None = None, **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.status = status or self.status
        self.extra = extra

    def __str__(self) -> str:
        return self.message


class InvalidInput(DomainError):
    """The request cannot be understood or breaks a rule of the field it names."""

    code = "invalid"
    status = 422


class NotFound(DomainError):
    code = "not_found"
    status = 404


class Gone(DomainError):
    """A link that once worked or was never ours. Both get the same answer, so that nothing can be guessed."""

    code = "gone"
    status = 410


class Conflict(DomainError):
    code = "conflict"
    status = 409


class TooMany(DomainError):
    """More often than a person would. After ``RETRY_AFTER`` seconds it is allowed again."""

    code = "too_many"
    status = 429
    RETRY_AFTER = 60

"""The address of a survey, and back: 128 random bits and a signature of 128 bits over them.

A guessed or changed address fails at the signature, before any query; a stolen copy of the table lacks the key that
signs. The key is ``SECRET_KEY``; links made under one of ``SECRET_KEY_FALLBACKS`` still open.
"""

from __future__ import annotations

import base64

from django.conf import settings
from django.urls import reverse
from django.utils.crypto import constant_time_compare, salted_hmac

from feedback.errors import LinkGone
from feedback.models import Invitation

_SALT = "feedback.links"
_NONCE_LENGTH = 22


def _signature(nonce: str, secret: str | bytes) -> str:
    digest = salted_hmac(_SALT, nonce, secret=secret, algorithm="sha256").digest()[:16]
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def token(invitation: Invitation) -> str:
    """The last part of the address: 44 characters of ``A-Z a-z 0-9 - _``."""
    return invitation.nonce + _signature(invitation.nonce, settings.SECRET_KEY)


def survey_path(invitation: Invitation) -> str:
    return reverse("feedback:survey", args=[token(invitation)])


def survey_url(invitation: Invitation) -> str:
    """The full public address at which the customer answers."""
    return settings.SITE_URL + survey_path(invitation)


def find(token: str) -> Invitation:
    """The invitation a token belongs to, open or not. Raises ``LinkGone`` for one that we did not make."""
    nonce, signature = token[:_NONCE_LENGTH], token[_NONCE_LENGTH:]
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    if not any(constant_time_compare(signature, _signature(nonce, secret)) for secret in secrets):
        raise LinkGone
    invitation = Invitation.objects.select_related("survey", "customer").filter(nonce=nonce).first()
    if invitation is None:
        raise LinkGone
    return invitation

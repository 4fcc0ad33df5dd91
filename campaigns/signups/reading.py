"""What the pages and the API show of sign-up forms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Count, Q, QuerySet

from campaigns.models import SignUp, SignUpForm
from lifecycle_crm.lib import clock

DAYS = 28
"""What is counted: unconfirmed ones are deleted after a month, so a share over a longer time would flatter."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Addresses that asked for it in the last ``DAYS``, those of them that confirmed, and all that ever did."""

    asked: int = 0
    confirmed: int = 0
    ever: int = 0


def forms(*, archived: bool = False) -> QuerySet[SignUpForm]:
    return (
        SignUpForm.objects.filter(archived_at__isnull=not archived).select_related("created_by").order_by("name", "pk")
    )


def counts(ids: Iterable[int]) -> dict[int, Counts]:
    """By form id; a form nobody used is not in the answer."""
    lately, done = Q(created_at__gte=clock.now() - timedelta(days=DAYS)), Q(state=SignUp.State.CONFIRMED)
    rows = (
        SignUp.objects.filter(form__in=list(ids)).order_by().values_list("form")
        .annotate(asked=Count("pk", filter=lately), confirmed=Count("pk", filter=lately & done), ever=Count("pk", filter=done))
    )  # fmt: skip
    return {pk: Counts(asked, confirmed, ever) for pk, asked, confirmed, ever in rows}


def sign_ups(form: SignUpForm | None = None, *, state: str = "") -> QuerySet[SignUp]:
    """The newest first; of one form and one state, or of all."""
    found = SignUp.objects.select_related("form", "customer").order_by("-pk")
    if form is not None:
        found = found.filter(form=form)
    return found.filter(state=state) if state in SignUp.State.values else found
